"""The esptool programmer on simulated ESP boards, which are put into their ROM loader as by hand."""

from collections.abc import Iterator

import pytest

from fleetflash.agent.ports import SerialPort
from fleetflash.agent.protocols.errors import NoAnswerError, ProtectedError, ProtocolError, VerifyError
from fleetflash.agent.protocols.esptool_programmer import EsptoolProgrammer
from fleetflash.agent.protocols.flash_parts import Part, PartsError, pack, unpack, with_erased
from fleetflash.agent.protocols.programmer import Target
from fleetflash.agent.schema import Entry
from fleetflash.agent.tools import environment
from fleetflash.lab.esp_image import build_app, build_layout
from tests.protocols.esp_board import MAC, EspDevice, wait_for

KINDS = ("esp32", "esp32s3", "esp32c3")
BUTTON = Entry("button", deadline=20.0)


@pytest.fixture(autouse=True)
def unheld(monkeypatch: pytest.MonkeyPatch) -> None:
    """The board itself holds its end of the pseudo-terminal."""
    monkeypatch.setattr("fleetflash.agent.ports.holders", lambda path: [])


class Bench:
    """One board with its programmer."""

    def __init__(self, board: EspDevice) -> None:
        self.board = board
        self.seen: list[tuple[int, int]] = []
        self.programmer = EsptoolProgrammer(self.open(), Target(), self.open)

    def open(self) -> SerialPort:
        return SerialPort.open(str(self.board.tty), 115200)

    def enter(self) -> EsptoolProgrammer:
        self.programmer.enter(BUTTON, lambda gesture, seconds: self.board.do("press") and None)
        return self.programmer

    def progress(self, done: int, total: int) -> None:
        self.seen.append((done, total))

    def close(self) -> None:
        self.programmer.port.close()
        self.board.close()


def gateway(kind: str, *options: str) -> Bench:
    """A board of 1 MiB, which is read in a quarter of the time, with firmware on it."""
    content = build_layout(kind, {"factory": build_app(kind, "v1.0.0", size=0x14000)}).merge()
    return Bench(EspDevice(kind, "--flash-size", "1", *options, image=content))


def layout(kind: str, version: str) -> bytes:
    """What a build of a gateway writes, packed."""
    parts = build_layout(kind, {"factory": build_app(kind, version, size=0x14000)}).parts
    return pack(Part(offset, data) for offset, data in parts.items())


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    found = gateway(request.param)
    yield found
    found.close()


@pytest.fixture
def esp32() -> Iterator[Bench]:
    found = gateway("esp32")
    yield found
    found.close()


def test_a_whole_layout_is_written_verified_and_booted(bench: Bench) -> None:
    image = layout(bench.board.kind, "v2.0.0")
    programmer = bench.enter()
    found = programmer.probe()
    assert (found.chip_id, found.uid) == (bench.board.kind, MAC.replace(":", ""))
    programmer.write(image, bench.progress)
    total = sum(len(part.data) for part in unpack(image))
    assert bench.seen[-1] == (total, total)
    programmer.verify(image, bench.progress)
    programmer.reset()
    wait_for(lambda: bench.board.status("mode") == "application")
    assert bench.board.status("version") == "v2.0.0"
    for part in unpack(image):
        assert bench.board.flash.read_bytes()[part.offset : part.end] == part.data


def test_what_the_flash_holds_is_not_written_again(bench: Bench) -> None:
    programmer = bench.enter()
    programmer.write(layout(bench.board.kind, "v1.0.0"), bench.progress)
    assert (bench.board.status("sectors_erased"), bench.board.status("bytes_written")) == (0, 0)
    # Another version of the application leaves everything before it alone.
    before = bench.board.flash.read_bytes()[:0x10000]
    programmer.write(layout(bench.board.kind, "v2.0.0"), bench.progress)
    assert bench.board.status("bytes_written") <= 0x14000
    assert bench.board.flash.read_bytes()[:0x10000] == before


def test_what_lies_between_the_parts_stays(esp32: Bench) -> None:
    content = bytearray(esp32.board.flash.read_bytes())
    content[0x9000:0x9400] = b"wifi" * 0x100
    esp32.board.do("power", on=False)
    esp32.board.unplug()
    esp32.board.flash.write_bytes(content)
    esp32.board.plug()
    esp32.programmer = EsptoolProgrammer(esp32.open(), Target(), esp32.open)
    esp32.enter().write(layout("esp32", "v2.0.0"), esp32.progress)
    assert esp32.board.flash.read_bytes()[0x9000:0x9400] == b"wifi" * 0x100


def test_a_read_back_brings_the_whole_flash_back(esp32: Bench) -> None:
    programmer = esp32.enter()
    before = programmer.read(esp32.progress)
    (part,) = unpack(before)
    assert (part.offset, len(part.data)) == (0, 1 << 20)
    assert esp32.board.flash.read_bytes() == part.data[: esp32.board.flash.stat().st_size]
    programmer.write(layout(esp32.board.kind, "v2.0.0"), esp32.progress)
    with pytest.raises(VerifyError, match="does not hold what was written, from 0x"):
        programmer.verify(before, esp32.progress)
    written = esp32.board.status("bytes_written")
    programmer.write(before, esp32.progress)
    programmer.verify(before, esp32.progress)
    assert esp32.board.status("bytes_written") - written < 0x40000, "all of it was written to bring back a little"
    programmer.reset()
    wait_for(lambda: esp32.board.status("mode") == "application")
    assert esp32.board.status("version") == "v1.0.0"


def test_a_board_that_nobody_brings_into_its_loader_is_told_and_its_port_comes_back(esp32: Bench) -> None:
    asked = []
    with pytest.raises(NoAnswerError, match="nobody brought the board into its ROM loader within 1 s"):
        esp32.programmer.enter(Entry("button", deadline=1.0), lambda gesture, seconds: asked.append(gesture))
    assert asked == ["hold BOOT, tap EN (or RESET), let go of BOOT"]
    esp32.programmer.leave()
    esp32.programmer.port.discard_input()


def test_a_part_that_does_not_fit_is_refused_before_anything_is_erased(esp32: Bench) -> None:
    programmer = esp32.enter()
    with pytest.raises(ProtocolError, match="ends at 0x101000, but the flash has 0x100000 bytes"):
        programmer.write(pack([Part(0x1000, b"a"), Part(0xFF000, bytes(0x2000))]), esp32.progress)
    with pytest.raises(ProtocolError, match="no archive of flash pieces"):
        programmer.write(b"no archive", esp32.progress)
    assert esp32.board.status("sectors_erased") == 0


def test_a_flipped_bit_is_noticed(esp32: Bench) -> None:
    esp32.board.do("fault", kind="corrupt", command="program", byte=0x10800)
    programmer = esp32.enter()
    with pytest.raises(ProtocolError, match="MD5 of file does not match"):
        programmer.write(layout("esp32", "v2.0.0"), esp32.progress)


def test_a_chip_that_dies_in_the_middle_is_told_and_written_again(esp32: Bench) -> None:
    esp32.board.do("fault", kind="power_cut", command="program", byte=0x12000)
    programmer = esp32.enter()
    with pytest.raises(ProtocolError):
        programmer.write(layout("esp32", "v2.0.0"), esp32.progress)
    programmer.port.close()
    esp32.board.do("power", on=True)
    esp32.programmer = EsptoolProgrammer(esp32.open(), Target(), esp32.open)
    programmer = esp32.enter()
    programmer.write(layout("esp32", "v2.0.0"), esp32.progress)
    programmer.verify(layout("esp32", "v2.0.0"), esp32.progress)


def test_what_is_erased_reads_as_erased_and_all_else_is_as_before(bench: Bench) -> None:
    programmer, flash = bench.enter(), bench.board.flash
    image = layout(bench.board.kind, "v1.0.0")
    settings = bytes(range(256)) * 0x40
    programmer.write(pack([Part(0x9000, settings)]), bench.progress)
    before = flash.read_bytes()
    erased = with_erased(image, [(0x9000, len(settings))])
    with pytest.raises(VerifyError, match="from 0x9000 on"):
        programmer.verify(erased, bench.progress)
    programmer.write(erased, bench.progress)
    programmer.verify(erased, bench.progress)
    assert flash.read_bytes() == before.replace(settings, b"\xff" * len(settings))
    with pytest.raises(PartsError, match="overlaps"):
        programmer.write(with_erased(image, [(0x10000, 0x1000)]), bench.progress)


@pytest.mark.parametrize(
    ("option", "reason"),
    [("--flash-encryption", "flash encryption is burnt"), ("--secure-download", "secure download mode is burnt")],
)
def test_what_is_burnt_into_a_chip_is_respected(option: str, reason: str) -> None:
    bench = gateway("esp32s3", option)
    try:
        programmer = bench.enter()
        with pytest.raises(ProtectedError, match=reason):
            programmer.probe()
        with pytest.raises(ProtectedError):
            programmer.write(layout("esp32s3", "v2.0.0"), bench.progress)
        assert bench.board.status("sectors_erased") == 0
    finally:
        bench.close()


def test_a_chip_without_download_mode_is_told_of_and_started_again() -> None:
    bench = gateway("esp32s3", "--download-disabled")
    try:
        with pytest.raises(NoAnswerError, match="download mode was disabled for ever never answers"):
            bench.programmer.enter(
                Entry("button", deadline=1.0), lambda gesture, seconds: bench.board.do("press") and None
            )
        assert (bench.board.status("sectors_erased"), bench.board.status("mode")) == (0, "dead")
        bench.programmer.leave()
        bench.board.do("tap")
        wait_for(lambda: bench.board.status("mode") == "application")
    finally:
        bench.close()


@pytest.mark.parametrize("kind", ["esp32", "esp32s3"])
def test_a_chip_with_secure_boot_gets_nothing_that_it_would_not_start(kind: str) -> None:
    bench = gateway(kind, "--secure-boot")
    try:
        programmer = bench.enter()
        before = programmer.read(bench.progress)
        programmer.write(layout(kind, "v1.0.0"), bench.progress)  # it holds all of that
        parts = unpack(layout(kind, "v2.0.0"))
        with pytest.raises(ProtectedError, match="the application at 0x10000 has no signature"):
            programmer.write(pack(parts), bench.progress)
        other = [Part(part.offset, part.data[:-1] + b"?") if part.offset < 0x8000 else part for part in parts]
        with pytest.raises(ProtectedError, match=f"the part at {other[0].offset:#x} differs there"):
            programmer.write(pack(other[:1]), bench.progress)
        assert bench.board.status("sectors_erased") == 0
        signature = b"\xe7\x02".ljust(4096, b"\xff")
        signed = [Part(part.offset, part.data + signature) if part.offset == 0x10000 else part for part in parts]
        programmer.write(pack(signed), bench.progress)
        assert bench.board.flash.read_bytes()[0x10000 + 0x14000 :][:2] == b"\xe7\x02"
        # The way back is one part that has the first stages, too: as they are.
        programmer.write(before, bench.progress)
        assert bench.board.flash.read_bytes() == unpack(before)[0].data
    finally:
        bench.close()


def test_a_virtualenv_without_esptool_says_how_to_get_it(esp32: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "_own", lambda: None)
    with pytest.raises(ProtocolError, match="no esptool in /var/lib/fleetflash/tools; install it as root"):
        esp32.enter()
    monkeypatch.setattr(environment, "_own", lambda: environment.Environment("/usr/bin/python3", "4.7.0"))
    with pytest.raises(ProtocolError, match=r"esptool 4\.7\.0, needed is esptool>=5\.6,<6"):
        esp32.enter()


def test_the_loader_is_left_for_the_application(esp32: Bench) -> None:
    esp32.enter().reset()
    wait_for(lambda: esp32.board.status("mode") == "application")
    with pytest.raises(ProtocolError, match="not in its ROM loader"):
        esp32.programmer.verify(layout("esp32", "v1.0.0"), esp32.progress)


def test_a_person_is_asked_before_the_port_is_lent(esp32: Bench) -> None:
    """While the follower of a transaction carries a lent port's frames, it passes no event on."""
    order: list[str] = []

    def lend(port: object) -> None:
        order.append("lent")
        raise ProtocolError("nobody took it")

    esp32.programmer.start_tool = lend  # type: ignore[assignment,method-assign]
    with pytest.raises(ProtocolError, match="nobody took it"):
        esp32.programmer.enter(BUTTON, lambda gesture, seconds: order.append("asked"))
    assert order == ["asked", "lent"]
