"""How a board is reached: where its port is now, who holds it, and how it is opened.

Beside a serial port, which the caller opens (``OpenPort``), there are boards whose bootloader has none.
"""

from typing import Dict, List, Protocol, Tuple

from fleetflash.agent import can_socket, devices, process_port
from fleetflash.agent.holders import holders
from fleetflash.agent.observed import PortFacts
from fleetflash.agent.port import Port
from fleetflash.agent.ports import SerialPort
from fleetflash.agent.protocols.port_names import can_parts
from fleetflash.agent.usb_socket import UsbSocket, wait_for_tty


class Connection(Protocol):
    """One way to reach boards; see ``port_names`` for the ports that it has."""

    def locate(self, port: str, ports: List[PortFacts], moves: bool, by_path: str) -> List[str]:
        """Return what ``port`` can mean now; nothing when it is absent. Arguments as of ``devices.locate``."""

    def absence(self, port: str) -> str:
        """Say why ``port`` is absent, and what to do."""

    def holders(self, device: str) -> List[Tuple[int, str]]:
        """Return (pid, command) of other processes that keep the board from being used."""

    def open_bootloader(self, port: str, baud: int) -> Port:
        """Open what the programmer speaks through; raises ``PortError``."""

    def open_application(self, port: str, baud: int, seconds: float) -> Port:
        """Open what a running Klipper speaks through; one that starts has ``seconds``. Raises ``PortError``."""


class CanConnection:
    """A node of a CAN bus. Many may use an interface at once, so nobody holds it."""

    def locate(self, port: str, ports: List[PortFacts], moves: bool, by_path: str) -> List[str]:
        return [] if can_socket.interface_problem(can_parts(port)[0]) else [port]

    def absence(self, port: str) -> str:
        return can_socket.interface_problem(can_parts(port)[0])

    def holders(self, device: str) -> List[Tuple[int, str]]:
        return []

    def open_bootloader(self, port: str, baud: int) -> Port:
        return can_socket.open_node(port, baud)

    def open_application(self, port: str, baud: int, seconds: float) -> Port:
        return can_socket.open_node(port, baud)


class ProcessConnection:
    """A process of this host, which has its port only while it runs."""

    def locate(self, port: str, ports: List[PortFacts], moves: bool, by_path: str) -> List[str]:
        return [port]

    def absence(self, port: str) -> str:
        return ""

    def holders(self, device: str) -> List[Tuple[int, str]]:
        return process_port.others(device)

    def open_bootloader(self, port: str, baud: int) -> Port:
        return process_port.NoPort(port)

    def open_application(self, port: str, baud: int, seconds: float) -> Port:
        return process_port.open_offered(port, baud, seconds)


class UsbConnection:
    """A board that is a USB device itself, by its socket; it has a serial port only while its firmware runs."""

    def locate(self, port: str, ports: List[PortFacts], moves: bool, by_path: str) -> List[str]:
        socket = UsbSocket(port)
        return [socket.tty() or port] if socket.ids() else []

    def absence(self, port: str) -> str:
        return f"nothing is plugged into {port}; `ls /sys/bus/usb/devices` shows what is where"

    def holders(self, device: str) -> List[Tuple[int, str]]:
        return holders(device) if device.startswith("/dev/") else []

    def open_bootloader(self, port: str, baud: int) -> Port:
        return UsbSocket(port)

    def open_application(self, port: str, baud: int, seconds: float) -> Port:
        return SerialPort.open(wait_for_tty(UsbSocket(port), seconds), baud)


#: Every connection but ``serial``, by the name that a programmer's capabilities have for it.
CONNECTIONS: Dict[str, Connection] = {"can": CanConnection(), "process": ProcessConnection(), "usb": UsbConnection()}


def locate(connection: str, port: str, ports: List[PortFacts], moves: bool, by_path: str) -> List[str]:
    """Return the devices that a board's port can mean now, whatever the connection."""
    if connection in CONNECTIONS:
        return CONNECTIONS[connection].locate(port, ports, moves, by_path)
    return devices.locate(port, ports, moves, by_path)


def absence(connection: str, port: str) -> str:
    """Say that a board's port is absent, and why where that is known."""
    why = CONNECTIONS[connection].absence(port) if connection in CONNECTIONS else ""
    return why or f"{port} is not there"
