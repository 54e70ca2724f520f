"""Which device a port's name means: exactly one, or an honest none or several. The trees are as udev and sysfs make
them for two CH340 adapters, which say the same of themselves."""

from pathlib import Path

import pytest

from fleetflash.agent.devices import (
    candidates,
    list_ports,
    locate,
    native_serial_number,
    native_serial_number_of,
)
from fleetflash.agent.schema import Holder

CH340 = {"idVendor": "1a86", "idProduct": "7523", "product": "USB Serial"}


class Machine:
    """``/dev`` and ``/sys`` of a host."""

    def __init__(self, root: Path) -> None:
        self.dev, self.sys = root / "dev", root / "sys"
        (self.dev / "serial/by-id").mkdir(parents=True)
        (self.dev / "serial/by-path").mkdir()
        (self.sys / "class/tty").mkdir(parents=True)

    def plug(self, name: str, hub_port: str, by_id: str = "", interface: str = "00", **usb: str) -> Path:
        """Add a USB serial adapter; a ``by_id`` name that is taken goes to the newcomer, as udev does."""
        device = self.dev / name
        device.touch()
        usb_device = self.sys / f"devices/usb1/1-{hub_port}"
        tty = usb_device / f"1-{hub_port}:1.0" / name / "tty" / name
        tty.mkdir(parents=True)
        (tty / "device").symlink_to(tty.parents[1])
        for attribute, value in usb.items():
            (usb_device / attribute).write_text(value + "\n")
        (usb_device / f"1-{hub_port}:1.0" / "bInterfaceNumber").write_text(interface + "\n")
        (self.sys / "class/tty" / name).symlink_to(tty)
        (self.dev / f"serial/by-path/usb-0:{hub_port}:1.0-port0").symlink_to(device)
        if by_id:
            link = self.dev / "serial/by-id" / by_id
            link.unlink(missing_ok=True)
            link.symlink_to(device)
        return device

    def path(self, kind: str, name: str) -> str:
        return str(self.dev / "serial" / kind / name)

    def candidates(self, port: str) -> list[str]:
        return [Path(found).name for found in candidates(port, list_ports({}, self.dev, self.sys))]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


BY_ID = "usb-1a86_USB_Serial-if00-port0"


def test_every_port_is_listed_with_its_links_its_usb_identity_and_its_holders(machine: Machine) -> None:
    device = machine.plug("ttyUSB0", "1.2", BY_ID, **CH340)
    (port,) = list_ports({str(device): [Holder(7, "klippy")]}, machine.dev, machine.sys)
    assert port.device == str(device)
    assert port.by_id == [machine.path("by-id", BY_ID)]
    assert port.by_path == [machine.path("by-path", "usb-0:1.2:1.0-port0")]
    assert port.usb == "1a86:7523::USB Serial::00"
    assert port.holders == [Holder(7, "klippy")]


def test_by_path_names_are_never_ambiguous(machine: Machine) -> None:
    machine.plug("ttyUSB0", "1.1", BY_ID, **CH340)
    machine.plug("ttyUSB1", "1.2", BY_ID, **CH340)
    assert machine.candidates(machine.path("by-path", "usb-0:1.1:1.0-port0")) == ["ttyUSB0"]
    assert machine.candidates(machine.path("by-path", "usb-0:1.2:1.0-port0")) == ["ttyUSB1"]


def test_by_id_name_that_two_adapters_answer_to_names_both(machine: Machine) -> None:
    """Only one of them has the link, and which one changes with every boot."""
    machine.plug("ttyUSB0", "1.1", BY_ID, **CH340)
    assert machine.candidates(machine.path("by-id", BY_ID)) == ["ttyUSB0"]
    machine.plug("ttyUSB1", "1.2", BY_ID, **CH340)
    assert machine.candidates(machine.path("by-id", BY_ID)) == ["ttyUSB0", "ttyUSB1"]


def test_by_id_name_with_a_serial_number_is_its_own(machine: Machine) -> None:
    for number, serial in enumerate(("AAA", "BBB")):
        machine.plug(f"ttyUSB{number}", f"1.{number}", f"usb-Klipper_{serial}-if00", **CH340, serial=serial)
    assert machine.candidates(machine.path("by-id", "usb-Klipper_AAA-if00")) == ["ttyUSB0"]


def test_two_interfaces_of_one_device_are_told_apart(machine: Machine) -> None:
    machine.plug("ttyACM0", "1.1", "usb-x-if00", interface="00", **CH340)
    machine.plug("ttyACM1", "1.2", "usb-x-if02", interface="02", **CH340)
    assert machine.candidates(machine.path("by-id", "usb-x-if02")) == ["ttyACM1"]


def test_device_name_itself_is_taken_as_it_is(machine: Machine) -> None:
    machine.plug("ttyUSB0", "1.1", BY_ID, **CH340)
    machine.plug("ttyUSB1", "1.2", BY_ID, **CH340)
    assert machine.candidates(str(machine.dev / "ttyUSB1")) == ["ttyUSB1"]


def test_port_that_is_not_there_has_no_candidates(machine: Machine) -> None:
    machine.plug("ttyUSB0", "1.1", BY_ID, **CH340)
    assert machine.candidates(machine.path("by-path", "usb-0:1.9:1.0-port0")) == []
    assert machine.candidates(str(machine.dev / "ttyUSB9")) == []
    dangling = machine.dev / "serial/by-path/gone"
    dangling.symlink_to(machine.dev / "ttyUSB7")
    assert machine.candidates(str(dangling)) == []


def test_links_may_be_relative_as_udev_makes_them(machine: Machine) -> None:
    machine.plug("ttyUSB0", "1.1", **CH340)
    (machine.dev / "serial/by-path/relative").symlink_to("../../ttyUSB0")
    assert machine.candidates(machine.path("by-path", "relative")) == ["ttyUSB0"]


def test_uart_of_a_raspberry_pi_and_a_pseudo_terminal_can_be_named_though_they_are_not_usb(machine: Machine) -> None:
    for name in ("ttyAMA0", "ttyS0", "pts7"):
        (machine.dev / name).touch()
    (machine.dev / "serial0").symlink_to("ttyS0")
    listed = [Path(port.device).name for port in list_ports({}, machine.dev, machine.sys)]
    assert listed == ["ttyAMA0"]  # a PC has 32 ttyS, whether or not anything is behind them
    assert machine.candidates(str(machine.dev / "ttyAMA0")) == ["ttyAMA0"]
    assert machine.candidates(str(machine.dev / "serial0")) == ["ttyS0"]
    assert machine.candidates(str(machine.dev / "pts7")) == ["pts7"]


def test_legacy_port_with_a_by_path_name_is_listed(machine: Machine) -> None:
    (machine.dev / "ttyS4").touch()
    (machine.dev / "serial/by-path/pci-0000:01:00.0").symlink_to(machine.dev / "ttyS4")
    assert [Path(port.device).name for port in list_ports({}, machine.dev, machine.sys)] == ["ttyS4"]


def test_host_without_any_serial_port_has_an_empty_list(tmp_path: Path) -> None:
    assert list_ports({}, tmp_path, tmp_path) == []


@pytest.mark.parametrize(
    ("vendor", "serial", "expected"),
    [
        ("1d50", "2A0035000851363131363530", "2a0035000851363131363530"),
        ("1d50", "12345", ""),  # Klipper's default where the chip's id isn't asked for
        ("0403", "A50285BI", ""),
        ("0403", "2A003500", ""),  # an adapter's own
    ],
)
def test_serial_number_of_a_board_on_usb_itself_is_its_unique_id(
    machine: Machine, vendor: str, serial: str, expected: str
) -> None:
    described = {
        "idVendor": vendor,
        "idProduct": "614e",
        "manufacturer": "Klipper: x",
        "product": "y",
        "serial": serial,
    }
    machine.plug("ttyACM0", "1.1", **described)
    assert native_serial_number(str(machine.dev / "ttyACM0"), machine.sys) == expected
    assert native_serial_number(str(machine.dev / "ttyACM9"), machine.sys) == ""


OPENMOKO = {"idVendor": "1d50", "idProduct": "6177", "manufacturer": "katapult", "product": "stm32f446xx"}
MINE, OTHER = "2A0035000851363131363530", "390027000F51353432383631"


def located(machine: Machine, port: str, by_path: str = "", moves: bool = True) -> list[str]:
    ports = list_ports({}, machine.dev, machine.sys)
    return [Path(found).name for found in locate(port, ports, moves, by_path)]


def test_board_that_waits_in_its_bootloader_is_found_by_its_serial_number_wherever_it_is(machine: Machine) -> None:
    port = machine.path("by-id", f"usb-Klipper_stm32f446xx_{MINE}-if00")
    place = machine.path("by-path", "usb-0:1.2:1.0-port0")
    machine.plug("ttyACM0", "1.1", f"usb-katapult_stm32f446xx_{MINE}-if00", **OPENMOKO, serial=MINE)
    machine.plug("ttyACM1", "1.2", f"usb-katapult_stm32f446xx_{OTHER}-if00", **OPENMOKO, serial=OTHER)
    assert located(machine, port, place) == ["ttyACM0"]
    assert located(machine, port, place, moves=False) == []
    ports = list_ports({}, machine.dev, machine.sys)
    assert native_serial_number_of(str(machine.dev / "ttyACM1"), ports) == OTHER.lower()


def test_board_that_waits_in_its_bootloader_is_found_by_the_place_it_had_unless_another_is_there(
    machine: Machine,
) -> None:
    port = machine.path("by-id", f"usb-Klipper_stm32f446xx_{MINE}-if00")
    place = machine.path("by-path", "usb-0:1.2:1.0-port0")
    machine.plug("ttyACM1", "1.2", **OPENMOKO, serial=OTHER)
    assert located(machine, port, place) == []
    assert located(machine, machine.path("by-id", "usb-Klipper_stm32f446xx_12345-if00"), place) == ["ttyACM1"]
    assert located(machine, port) == []


def test_board_whose_name_is_there_is_not_looked_for_elsewhere(machine: Machine) -> None:
    by_id = f"usb-Klipper_stm32f446xx_{MINE}-if00"
    machine.plug("ttyACM0", "1.1", by_id, **OPENMOKO, serial=MINE)
    machine.plug("ttyACM1", "1.2", **OPENMOKO, serial=OTHER)
    assert located(machine, machine.path("by-id", by_id), machine.path("by-path", "usb-0:1.2:1.0-port0")) == ["ttyACM0"]
