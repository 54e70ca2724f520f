"""The first 256 bytes of an image: what the CPU reads after a reset, per architecture.

Sources: ARMv6-M/ARMv7-M reference manuals, "The vector table" (stack pointer, then handlers with bit 0 set);
AVR data sheets, "Interrupts" (a ``jmp``, opcode 0x940C, per vector); RISC-V, ``jal``.
"""

import struct

LENGTH = 0x100
ENTRY = 0x118  # where the lab's images begin their "code": after this part and their header

# Klipper's names of Cortex-M chips, as they begin: where their RAM ends, where flash begins (data sheets, memory map).
CORTEX_M = {
    "stm32f103": (0x2000_5000, 0x0800_0000),
    "stm32f446": (0x2002_0000, 0x0800_0000),
    "stm32": (0x2000_5000, 0x0800_0000),
    "rp2040": (0x2004_2000, 0x1000_0000),
}
RAM = range(0x2000_0000, 0x2010_0001)
AVR_VECTORS = {"atmega328p": 26, "atmega2560": 57}
_JAL_ENTRY, _RISCV_NOP = 0x1180_006F, 0x0000_0013


def startup(mcu: str, base: int | None = None) -> bytes:
    """256 bytes for an image of this chip (Klipper's ``MCU`` name) at the address ``base``, by default its flash's."""
    for prefix, (stack, flash) in CORTEX_M.items():
        if mcu.startswith(prefix):
            start = flash if base is None else base
            handler = start + ENTRY | 1
            return struct.pack("<64I", stack, *[handler] * 63)
    if mcu in AVR_VECTORS:
        vectors = struct.pack("<HH", 0x940C, ENTRY // 2) * AVR_VECTORS[mcu]
        return vectors.ljust(LENGTH, b"\0")
    return struct.pack("<I", _JAL_ENTRY) + struct.pack("<I", _RISCV_NOP) * (LENGTH // 4 - 1)


def runs_at(image: bytes, base: int) -> bool:
    """Whether a Cortex-M that finds this vector table at the address ``base`` would come to run the image's code."""
    stack, reset = struct.unpack_from("<II", image)
    return stack in RAM and stack % 4 == 0 and reset == base + ENTRY | 1
