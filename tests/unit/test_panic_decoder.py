"""Addresses of a panic become functions: by the tool of the toolchain, or by the ELF's own symbols."""

from pathlib import Path

import pytest

from fleetflash.acceptance import panic_decoder
from fleetflash.acceptance.errors import PanicError
from fleetflash.acceptance.panic_decoder import Symbols, addresses
from fleetflash.agent.acceptance.panic import Panic
from fleetflash.cli import main
from tests.unit.boot_logs import CONTRACT, PANIC, WITH_CARD, build_elf, text

RISCV = (
    "Guru Meditation Error: Core  0 panic'ed (Load access fault). Exception was unhandled.",
    "Core  0 register dump:",
    "MEPC    : 0x42007a52  RA      : 0x42007a50  SP      : 0x3fc91f20  GP      : 0x3fc8a400",
)


@pytest.fixture(scope="module")
def elf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_elf(tmp_path_factory.mktemp("elf"))


def test_addresses_of_a_backtrace_come_in_order_and_once() -> None:
    backtrace = "Backtrace:0x400d0001:0x3ffb5f10 0x800d0021:0x1fffffff"
    lines = [PANIC[0], "abort() was called at PC 0x400d5a33 on core 0", backtrace]
    assert addresses(Panic(1, lines)) == [0x400D5A33, 0x400D0001, 0x400D0021]
    assert addresses(Panic(1, list(RISCV))) == [0x42007A52, 0x42007A50]


def test_addresses_become_functions_and_lines(elf: Path) -> None:
    decoded = Symbols(elf).decode(Panic(1, list(PANIC)))
    assert decoded[0].startswith("0x400d0004: mount_card at ") and decoded[0].endswith("main.c:2")
    assert len(decoded) == 3


def test_without_a_toolchain_the_symbols_tell_the_function(elf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(panic_decoder.shutil, "which", lambda name: None)
    decoded = Symbols(elf).decode(Panic(1, [PANIC[0], "Backtrace: 0x400d0001:0x3ffb5f10 0x400c0021:0x3ffb5f30"]))
    assert decoded == ["0x400d0001: mount_card+0x1", "0x400c0021: not in this ELF file"]


def test_the_verdict_shows_the_decoded_panic(elf: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "boot.log"
    log.write_bytes(text((*WITH_CARD, *PANIC)))
    assert main(["accept", str(CONTRACT), str(log), "--elf", str(elf)]) == 1
    out = capsys.readouterr().out
    assert "panic in line 13: Guru Meditation Error" in out
    assert "0x400d0001: mount_card" in out


def test_a_file_that_is_no_elf_file_is_refused(tmp_path: Path) -> None:
    for name, data in (("empty", b""), ("text", b"no ELF"), ("torn", b"\x7fELF\x01\x01\x01" + b"\0" * 9)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(PanicError, match="this is no ELF file"):
            Symbols(tmp_path / name)
    with pytest.raises(PanicError, match="No such file"):
        Symbols(tmp_path / "none")
