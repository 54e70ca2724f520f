"""USB devices in the lab: names as udev makes them, and what a board says of itself."""

from pathlib import Path

import pytest

from fleetflash.lab.sysfs import BRIDGE, CDC_ACM, UsbSerial, by_path
from fleetflash.lab.usb import CH340, Enumerated, UsbDevice, announce, announced, katapult_device, klipper_device


@pytest.mark.parametrize(
    ("device", "driver", "name"),
    [
        (CH340, BRIDGE, "usb-1a86_USB_Serial-if00-port0"),
        (klipper_device("rp2040", "E6605838"), CDC_ACM, "usb-Klipper_rp2040_E6605838-if00"),
        (katapult_device("stm32f446xx", "12AB"), CDC_ACM, "usb-katapult_stm32f446xx_12AB-if00"),
        (UsbDevice("2341", "0042", "Arduino (www.arduino.cc)", "", "7"), CDC_ACM, None),
    ],
)
def test_by_id_names(device: UsbDevice, driver: object, name: str | None) -> None:
    assert isinstance(driver, type(BRIDGE))
    expected = name or "usb-Arduino__www.arduino.cc__0042_7-if00"
    assert UsbSerial("tty", 1, device, driver).by_id == expected


def test_by_path_names_the_socket_and_the_port_of_a_bridge() -> None:
    assert by_path(3) == "platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.3:1.0-port0"
    assert by_path(3, CDC_ACM) == "platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.3:1.0"


@pytest.mark.parametrize(("tty", "driver"), [("ttyUSB2", BRIDGE), ("ttyACM0", CDC_ACM)])
def test_sysfs_leads_from_the_tty_to_the_device_and_goes_without_a_trace(
    tmp_path: Path, tty: str, driver: object
) -> None:
    assert isinstance(driver, type(BRIDGE))
    for part in ("tty", "platform"):
        (tmp_path / part).mkdir()
    usb = UsbSerial(tty, 4, klipper_device("rp2040", "AB"), driver)
    usb.add_to(tmp_path)
    (node,) = tmp_path.glob(f"platform/**/tty/{tty}")
    interface = (node / "device").resolve()
    if driver is BRIDGE:
        interface = interface.parent
    assert interface.name == "1-1.4:1.0"
    assert (interface.parent / "idProduct").read_text() == "614e\n"
    assert (interface.parent / "serial").read_text() == "AB\n"
    assert (tmp_path / "tty" / tty).is_symlink()
    usb.remove_from(tmp_path)
    assert list(tmp_path.glob("tty/*")) == []
    assert list(tmp_path.glob("platform/**/1-1.4")) == []


def test_a_board_without_a_device_has_announced_nothing(tmp_path: Path) -> None:
    place = tmp_path / "pty.usb"
    assert announced(place) is None
    enumerated = Enumerated(klipper_device("rp2040", "AB"), "/dev/pts/7", 12)
    announce(place, enumerated)
    assert announced(place) == enumerated
    announce(place, None)
    assert announced(place) is None
