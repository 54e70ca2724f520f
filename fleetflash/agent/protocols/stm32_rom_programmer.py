"""STM32 through its factory bootloader on a UART: BOOT0 and reset by DTR and RTS, or by a person."""

from typing import Optional

from fleetflash.agent.port import Port
from fleetflash.agent.protocols import entry as ways
from fleetflash.agent.protocols import stm32_rom
from fleetflash.agent.protocols.errors import ProtectedError, ProtocolError, RefusedError, VerifyError
from fleetflash.agent.protocols.flash_content import difference, filled, trimmed
from fleetflash.agent.protocols.programmer import Ask, Capabilities, Found, Pace, Progress, Reopen, Target
from fleetflash.agent.protocols.stm32_chips import DEVICES, Device
from fleetflash.agent.protocols.wirings import reset_sequence
from fleetflash.agent.schema import Entry


class Stm32RomProgrammer:
    """One board whose application begins where ``target`` says: at the start of the flash, or behind a bootloader."""

    DEFAULT_GESTURE = "hold BOOT0 (or set its jumper), tap RESET, then let go of BOOT0"

    capabilities = Capabilities(
        read_back=True,
        entries=("lines", "button"),
        wired=True,
        uid_when_protected=False,
        pace=Pace(
            baudrate=stm32_rom.BAUDRATE, bits=11, chunk=stm32_rom.CHUNK, overhead=12, trips=3, busy=0.015, fixed=1.5
        ),
    )

    def __init__(self, port: Port, target: Target, reopen: Reopen):
        self.port = port
        self.target = target
        self.rom = stm32_rom.Stm32Rom(port)
        self.wiring = target.wiring
        self.bootloader: Optional[stm32_rom.Bootloader] = None
        self.found: Optional[Found] = None

    def enter(self, entry: Entry, ask: Ask) -> None:
        self.wiring = entry.wiring
        if not self._is_in_bootloader():
            self.wiring = ways.enter(self.port, entry, ask, self._answers, self.DEFAULT_GESTURE, "STM32 bootloader")

    def probe(self) -> Found:
        """Say what is there. ``chip_id`` is AN2606's product id, e.g. ``0410``.

        ``uid`` is empty where the bootloader does not read that address, as on some families, or is not allowed to.
        """
        if self.found is None:
            product_id = self._bootloader().product_id
            protected = self.rom.is_protected(self.target.base)
            device = DEVICES.get(product_id)
            uid = b"" if protected or device is None else self._register(device.family.uid, 12)
            self.found = Found(chip_id=f"{product_id:04x}", uid=uid.hex(), protected=protected)
        return self.found

    def unprotect(self, entry: Entry, ask: Ask) -> None:
        self.rom.readout_unprotect()
        self.bootloader = self.found = None
        # The chip has reset itself; with BOOT0 let go of it starts its application, which is erased.
        self.enter(entry, ask)

    def read(self, progress: Progress) -> bytes:
        self._check_protection("read memory")
        # What write never erases needs no way back.
        size = min(self.target.size, self._device().writable - self.target.offset)
        flash_kib = int.from_bytes(self._register(self._device().family.flash_size, 2), "little")
        if flash_kib:
            size = min(size, flash_kib * 1024 - self.target.offset)
        return trimmed(self._read(size, progress), stm32_rom.CHUNK)

    def write(self, image: bytes, progress: Progress) -> None:
        self._check_protection("write memory")
        device, offset = self._device(), self.target.offset
        data = filled(image, stm32_rom.ALIGNMENT)
        if not device.is_boundary(offset) or offset + len(data) > device.writable:
            raise RefusedError(
                f"{self.port.name}: {len(data)} bytes from {self.target.start:#010x} on can't be erased alone in the "
                f"{device.writable // 1024} KiB whose sectors are known of chip {self.probe().chip_id}; nothing was "
                "erased. Correct flash_offset, or give a smaller image"
            )
        extended = stm32_rom.EXTENDED_ERASE in self._bootloader().commands
        self.rom.erase(device.sectors_of(offset, offset + len(data)), extended, device.sector_seconds)
        for start in range(0, len(data), stm32_rom.CHUNK):
            chunk = data[start : start + stm32_rom.CHUNK]
            self.rom.write(self.target.start + start, chunk)
            progress(start + len(chunk), len(data))

    def verify(self, image: bytes, progress: Progress) -> None:
        expected = filled(image, stm32_rom.ALIGNMENT)
        at = difference(self._read(len(expected), progress), expected)
        if at is not None:
            raise VerifyError(
                f"{self.port.name}: verify at {self.target.start + at:#010x}: the flash differs from the image"
            )

    def reset(self) -> None:
        if self.wiring:
            self.port.play(reset_sequence(self.wiring))
        else:
            # Whatever lies at the start of the flash starts, as after a reset.
            self.rom.go(self.target.base)
        self._forget()

    def leave(self) -> None:
        # Lines that have led in lead out, whether or not the bootloader still answers.
        if self.wiring or self._is_in_bootloader():
            self.reset()
        else:
            self._forget()

    def _forget(self) -> None:
        self.bootloader = self.found = None
        self.port.set_parity("N")

    def _is_in_bootloader(self) -> bool:
        self.port.set_baudrate(stm32_rom.BAUDRATE)
        self.port.set_parity(stm32_rom.PARITY)
        return self._answers(tries=1)

    def _answers(self, tries: int) -> bool:
        for _ in range(tries):
            try:
                self.rom.synchronize()
                self.bootloader = self.rom.get()
                return True
            except ProtocolError:
                continue
        return False

    def _bootloader(self) -> stm32_rom.Bootloader:
        if self.bootloader is None:
            self.bootloader = self.rom.get()
        return self.bootloader

    def _device(self) -> Device:
        product_id = self._bootloader().product_id
        if product_id not in DEVICES:
            raise RefusedError(
                f"{self.port.name}: STM32 product id {product_id:04x} is not known, so neither is how its flash is "
                "divided; nothing was erased"
            )
        return DEVICES[product_id]

    def _check_protection(self, what: str) -> None:
        if self.probe().protected:
            raise ProtectedError(
                f"{self.port.name}: {what}: the chip is read-protected; lifting that erases it, so it is done only "
                "when the inventory says so: set unprotect = True for this board"
            )

    def _register(self, address: int, size: int) -> bytes:
        """Return what is at an address that not every bootloader reads; nothing where it doesn't."""
        try:
            return self.rom.read(address, size)
        except RefusedError:
            return b""

    def _read(self, size: int, progress: Progress) -> bytes:
        data = bytearray()
        while len(data) < size:
            chunk = min(stm32_rom.CHUNK, size - len(data))
            data += self.rom.read(self.target.start + len(data), chunk)
            progress(len(data), size)
        return bytes(data)
