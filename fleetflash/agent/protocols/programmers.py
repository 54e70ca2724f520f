"""Every programmer by the name that the inventory and a transaction use for it."""

from typing import Dict, Protocol

from fleetflash.agent.port import Port
from fleetflash.agent.protocols.dfu_util import DfuUtilProgrammer
from fleetflash.agent.protocols.esptool_programmer import EsptoolProgrammer
from fleetflash.agent.protocols.flashtool import FlashtoolProgrammer
from fleetflash.agent.protocols.katapult_can_programmer import KatapultCanProgrammer
from fleetflash.agent.protocols.katapult_programmer import KatapultProgrammer
from fleetflash.agent.protocols.linux_process import LinuxProcessProgrammer
from fleetflash.agent.protocols.make_flash import MakeFlashProgrammer
from fleetflash.agent.protocols.picotool import PicotoolProgrammer
from fleetflash.agent.protocols.programmer import Capabilities, Programmer, Reopen, Target
from fleetflash.agent.protocols.stk500_programmer import Stk500Programmer
from fleetflash.agent.protocols.stm32_rom_programmer import Stm32RomProgrammer
from fleetflash.agent.protocols.wch_isp_programmer import WchIspProgrammer
from fleetflash.agent.protocols.wchisp import WchispProgrammer


class Kind(Protocol):
    """A class of programmers: what it can do, and how one is made for an open port."""

    capabilities: Capabilities

    def __call__(self, port: Port, target: Target, reopen: Reopen) -> Programmer: ...


PROGRAMMERS: Dict[str, Kind] = {
    "wch_isp": WchIspProgrammer,
    "katapult": KatapultProgrammer,
    "katapult_can": KatapultCanProgrammer,
    "stm32_rom": Stm32RomProgrammer,
    "stk500": Stk500Programmer,
    "esptool": EsptoolProgrammer,
    "linux_process": LinuxProcessProgrammer,
    "dfu_util": DfuUtilProgrammer,
    "picotool": PicotoolProgrammer,
    "wchisp": WchispProgrammer,
    "flashtool": FlashtoolProgrammer,
    "make_flash": MakeFlashProgrammer,
}
