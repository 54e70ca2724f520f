"""What runs in download mode: the loader in ROM, and from some point on the one that it has loaded."""

from fleetflash.lab.boards.esp.circuit import EspCircuit
from fleetflash.lab.boards.esp.core import Core
from fleetflash.lab.boards.esp.loader import Loader
from fleetflash.lab.boards.esp.rom_loader import RomLoader
from fleetflash.lab.boards.esp.stub_loader import StubLoader
from fleetflash.lab.boards.framing import Parity


class DownloadMode:
    """One run of download mode, from reset to reset."""

    parity = Parity.NONE

    def __init__(self, circuit: EspCircuit, core: Core) -> None:
        self._loader: Loader = RomLoader(circuit, core, self._hand_over)

    @property
    def loader(self) -> str:
        """``rom`` or ``stub``."""
        return "stub" if isinstance(self._loader, StubLoader) else "rom"

    def receive(self, data: bytes, baud: int, at: float) -> None:
        self._loader.receive(data, baud, at)

    def stop(self) -> None:
        self._loader.stop()

    def _hand_over(self, stub: StubLoader) -> None:
        self._loader.stop()
        self._loader = stub
