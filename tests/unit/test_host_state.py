"""What a user writes down about a host is read as it is meant, or refused in one line."""

from pathlib import Path
from typing import Any

import pytest

from fleetflash.boards import read_host
from fleetflash.host_state import HostStateError, permission, read_flash_tools, read_installation, read_instance
from fleetflash.provision import printer_cfg

KLIPPER = {"ref": "v0.12.0", "requirements": "klippy.txt"}
UNIT = {"klipper_service": "klipper.service"}


def installation(**changes: Any) -> Any:
    return read_installation({"ssh_user": "pi", "klipper": {**KLIPPER, **changes}})


def test_nothing_said_is_nothing_done() -> None:
    assert read_installation({"ssh_user": "pi"}) is None
    assert read_flash_tools({}) is None


def test_user_and_home_follow_from_the_login() -> None:
    assert (installation().user, installation().home) == ("pi", "/home/pi")
    assert installation(user="klipper", home="/srv/klipper").home == "/srv/klipper"
    assert installation(packages=["git"]).packages == ("git",)


def test_nobody_becomes_root_by_leaving_something_out() -> None:
    for login in ({}, {"ssh_user": "root"}):
        with pytest.raises(HostStateError, match=r"klipper\.user is missing"):
            read_installation({**login, "klipper": KLIPPER})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ref": "--upload-pack=evil"}, "klipper.ref: "),
        ({"ref": None}, "klipper.ref: "),
        ({"wheel": "x"}, "klipper.wheel is no field of it"),
        ({"fetch": "maybe"}, "klipper.fetch: "),
        ({"packages": ["git; reboot"]}, "is no name of a Debian package"),
        ({"user": "root;"}, "klipper.user: "),
        ({"moonraker": {"wheels": "x"}}, "klipper.moonraker.requirements is missing"),
    ],
)
def test_a_mistake_is_named_with_its_field(changes: "dict[str, Any]", message: str) -> None:
    with pytest.raises(HostStateError, match=message):
        installation(**changes)


def test_one_of_several_printers_has_its_own_unit_folder_and_socket() -> None:
    single = read_instance(UNIT, installation())
    assert (single.data, single.moonraker_service) == ("/home/pi/printer_data", "moonraker.service")
    data = {"klipper_service": "klipper-2.service", "klippy_socket": "/home/pi/printer_2_data/comms/klippy.sock"}
    second = read_instance(data, installation())
    assert (second.data, second.moonraker_port) == ("/home/pi/printer_2_data", 7127)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"klipper_service": None}, "klipper_service: expected klipper.service"),
        ({"klipper_service": "klipper-2.service"}, "will have /home/pi/printer_2_data/comms/klippy.sock"),
        ({**UNIT, "klippy_socket": "/tmp/klippy_uds"}, "will have /home/pi/printer_data/comms/klippy.sock"),
    ],
)
def test_a_printer_that_flashing_would_not_find_is_refused(data: "dict[str, Any]", message: str) -> None:
    with pytest.raises(HostStateError, match=message):
        read_instance(data, installation())


def test_permissions_come_from_files_and_from_the_command_line() -> None:
    assert permission({"klipper_add_include": "true"}, "klipper_add_include")
    assert not permission({}, "klipper_add_include")
    with pytest.raises(HostStateError, match="expected true or false"):
        permission({"klipper_add_include": "perhaps"}, "klipper_add_include")


def test_each_board_that_klipper_knows_gets_its_section(tmp_path: Path) -> None:
    usual = {"chip": "stm32f103xb", "firmware": "klipper", "programmer": "katapult"}
    boards = {
        "main": {**usual, "port": "/dev/serial/by-path/usb-0:1.1-port0"},
        "slow": {**usual, "port": "/dev/serial/by-path/usb-0:1.2-port0", "klippy_mcu": "slow", "baud": 115200},
        "head": {**usual, "programmer": "katapult_can", "port": "can1:0123456789AB", "klippy_mcu": "head"},
        "other": {**usual, "port": "/dev/ttyUSB7", "klippy_mcu": None},
    }
    described = read_host("printer", {"boards": boards})
    assert described.errors == ()
    text = printer_cfg.mcu_sections(described.boards)
    assert "[mcu]\nserial: /dev/serial/by-path/usb-0:1.1-port0\n" in text
    assert "[mcu slow]\nserial: /dev/serial/by-path/usb-0:1.2-port0\nbaud: 115200\n" in text
    assert "[mcu head]\ncanbus_uuid: 0123456789ab\ncanbus_interface: can1\n" in text
    assert "ttyUSB7" not in text


def test_a_password_in_the_repositorys_url_is_refused_and_not_told() -> None:
    with pytest.raises(HostStateError, match=r"klipper\.repository: the URL has a password in it") as caught:
        installation(repository="https://git:c4nary-url@git.example.org/klipper.git", fetch="host")
    assert "c4nary" not in str(caught.value)
