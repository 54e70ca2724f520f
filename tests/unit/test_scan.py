"""What a scan prints can be pasted into an inventory, and doubtful ports are pointed out."""

import ast

from fleetflash.agent.schema import Firmware, McuSection, PortFacts, ServiceFacts, Snapshot
from fleetflash.boards import read_host
from fleetflash.cli.scan import stanza

BY_ID = "/dev/serial/by-id/usb-1a86_USB_Serial-if00-port0"
RUNNING = Firmware("klippy", "v0.12.0", "gcc", {"MCU": "ch32v203c8"})


def port(device: str, path: str, by_id: list[str]) -> PortFacts:
    return PortFacts(device, by_id, [f"/dev/serial/by-path/{path}"], "1a86:7523::USB Serial::00")


def snapshot(sections: list[McuSection], ports: list[PortFacts], error: str = "") -> Snapshot:
    service = ServiceFacts("klipper.service", "active", error=error)
    return Snapshot("h", "3.11", "", "", 1, service, ports, {}, sections=sections)


def test_stanza_is_python_that_an_inventory_accepts() -> None:
    ports = [port("/dev/ttyUSB0", "one", []), port("/dev/ttyUSB1", "two", [BY_ID])]
    text = stanza("voron", "pi", snapshot([McuSection("mcu", "/dev/ttyUSB0", 250000, RUNNING)], ports))
    ((name, data),) = ast.literal_eval(f"[{text}\n]")
    assert (name, data["ssh_user"]) == ("voron", "pi")
    data["firmware"], data["firmware_version"], data["chip"] = "klipper", "v1", "ch32v203c8t6"
    desired = read_host(name, data)
    assert desired.errors == ()
    assert desired.boards[0].port == "/dev/serial/by-path/one"
    assert "ch32v203c8 runs v0.12.0" in text
    assert "/dev/serial/by-path/two" in text and "Klipper doesn't use it" in text


def test_shared_by_id_name_is_pointed_out_and_replaced() -> None:
    ports = [port("/dev/ttyUSB0", "one", []), port("/dev/ttyUSB1", "two", [BY_ID])]
    text = stanza("voron", "", snapshot([McuSection("mcu", BY_ID, 250000, RUNNING)], ports))
    assert "AMBIGUOUS: /dev/ttyUSB1 and /dev/ttyUSB0 share the name" in text
    assert "'port': '/dev/serial/by-path/two'" in text


def test_port_that_is_not_there_and_klippy_that_is_silent_are_said() -> None:
    text = stanza("voron", "", snapshot([McuSection("mcu", "/dev/ttyACM0", 250000, RUNNING)], []))
    assert "its port /dev/ttyACM0 is not there" in text
    assert "can't be asked for its boards: refused" in stanza("voron", "", snapshot([], [], "refused"))


def test_board_that_has_no_serial_port_is_said_with_its_programmer() -> None:
    on_a_bus = stanza("voron", "", snapshot([McuSection("mcu", "can0:1234567890ab", 0, RUNNING)], []))
    assert "'port': 'can0:1234567890ab'" in on_a_bus and "katapult_can" in on_a_bus
    process = Firmware("klippy", "v0.12.0", "gcc", {"MCU": "linux"})
    here = stanza("voron", "", snapshot([McuSection("host", "/tmp/klipper_host_mcu", 0, process)], []))
    assert "'port': '/tmp/klipper_host_mcu'" in here and "linux_process" in here
    assert "is not there" not in on_a_bus + here
