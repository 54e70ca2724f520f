"""``fleetflash port``: one board of a printer by hand, through its forwarded port."""

from pathlib import Path

import pytest

from fleetflash.lab.host import Host
from tests.lab.fleet import FACTORY, PORT, WANTED, Fleet, Run, flash_holds, mcu_version

pytestmark = pytest.mark.lab

BOARD = ["--programmer", "wch_isp", "--wiring", "reset=rts:0,boot=dtr:0"]
CHIP = [*BOARD, "--chip", "ch32v203c8t6"]


class Bench:
    """A printer whose Klipper was stopped by hand."""

    def __init__(self, fleet: Fleet, host: Host) -> None:
        self.fleet = fleet
        self.host = host
        self.control = host.board("bmcu").control
        device = PORT.format(1)
        self.url = f"fleetflash://pi@{host.name}{device}?ssh_config={fleet.lab.ssh_config}"

    def do(self, job: str, *arguments: object) -> Run:
        return self.fleet.fleetflash("port", job, self.url, *map(str, arguments))

    def image(self, version: str) -> Path:
        return self.fleet.lab.image(version)

    def holds(self, version: str) -> bool:
        return flash_holds(self.host, "bmcu", self.image(version).read_bytes())


@pytest.fixture(scope="module")
def printer(fleet: Fleet) -> Host:
    host = fleet.lab.host("printer-6")
    fleet.reset(host)
    return host


@pytest.fixture
def bench(fleet: Fleet, printer: Host) -> Bench:
    printer.run("sudo systemctl stop klipper", check=True)
    return Bench(fleet, printer)


def test_port_that_klippy_holds_is_refused_by_its_name(fleet: Fleet, printer: Host) -> None:
    printer.run("sudo systemctl start klipper", check=True)
    printer.wait_klippy("ready", 30.0)
    run = Bench(fleet, printer).do("identify")
    assert run.code == 1 and run.line("fleetflash port identify:", "in use by", "klippy", "stop it first")
    assert mcu_version(printer) == FACTORY


def test_firmware_and_chip_say_what_they_are(bench: Bench) -> None:
    assert bench.do("identify").line(FACTORY, "ch32v203")
    assert f'"version": "{FACTORY}"' in bench.do("identify", "--json").output
    info = bench.do("info", *CHIP)
    assert info.code == 0
    assert info.line("chip", "19:31", "ch32v203c8t6") and info.line("unique id", bench.control.status()["uid"])
    assert info.line("backup", "can not be read")
    assert bench.control.status()["mode"] == "application"


def test_flash_is_written_verified_and_asked_and_fits_no_other_image(bench: Bench) -> None:
    flashed = bench.do("flash", bench.image(WANTED), *CHIP, "--way-back", bench.image(FACTORY))
    assert flashed.code == 0 and flashed.line("written and verified", f"runs {WANTED}")
    assert bench.holds(WANTED)
    assert bench.do("verify", bench.image(WANTED), *CHIP).code == 0
    differs = bench.do("verify", bench.image(FACTORY), *CHIP)
    assert differs.code == 1 and differs.line("fleetflash port verify:", "verify")
    assert bench.control.status()["mode"] == "application"


def test_board_that_fails_is_written_back(bench: Bench) -> None:
    before = bench.control.status()["version"]
    other = FACTORY if before == WANTED else WANTED
    bench.control.ask("fault", kind="wrong_status", command="program", byte=15000)
    run = bench.do("flash", bench.image(other), *CHIP, "--way-back", bench.image(before))
    assert run.code == 1 and run.line("program", "status fe", "the former firmware was written back")
    assert bench.holds(before)


def test_what_can_not_be_meant_erases_nothing(bench: Bench, tmp_path: Path) -> None:
    erases = bench.control.status()["erases"]
    wrong = bench.do("flash", bench.image(WANTED), *BOARD, "--chip", "ch32v203c8u6", "--no-way-back")
    assert wrong.code == 1 and wrong.line("found chip 19:31, expected 19:30", "nothing was erased")
    foreign = bench.do("flash", bench.image(WANTED), *BOARD, "--chip", "atmega2560", "--no-way-back")
    assert foreign.code == 2 and foreign.line("atmega2560")
    unread = bench.do("backup", tmp_path / "old.bin", *CHIP)
    assert unread.code == 1 and unread.line("fleetflash port backup:", "read") and not (tmp_path / "old.bin").exists()
    assert bench.fleet.fleetflash("port", "info", "fleetflash:/nowhere", *CHIP).code == 2
    junk = bench.do("info", *CHIP, "--wiring", "junk")
    assert junk.code == 2 and "Traceback" not in junk.output
    host = bench.fleet.fleetflash("port", "info", "fleetflash://a..b/dev/x", *CHIP)
    assert host.code == 2 and host.line("no host name")
    assert bench.control.status()["erases"] == erases and bench.control.status()["mode"] == "application"


def test_reset_starts_the_application_that_monitor_sees(bench: Bench) -> None:
    resets = bench.control.status()["resets"]
    assert bench.do("reset", *CHIP).code == 0
    assert bench.control.status()["resets"] > resets
    # The application reports its load every five seconds.
    seen = bench.do("monitor", "--baud", "250000", "--hex", "--seconds", "6")
    assert seen.code == 0 and seen.line("7e")
