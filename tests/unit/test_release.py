"""A release is kept with all that it is made of and what proves it; what was not seen to work is none."""

import dataclasses
import hashlib
import json
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent.acceptance.monitor_log import MonitorLog
from fleetflash.boards import Board, read_host
from fleetflash.cli import main
from fleetflash.functional.can_capture import Capture
from fleetflash.release.archive import Releases
from fleetflash.release.changelog import draft
from fleetflash.release.making import Candidate, Sources, make_release
from fleetflash.release.release import Release, ReleaseError
from fleetflash.report import monitor_logs
from fleetflash.verification.check import Check, Result
from tests.gateway_project import GatewayProject
from tests.unit.boot_logs import CONTRACT, PANIC, WITH_CARD

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
PASSWORD = "c4nary7-wifi-password"
GOOD = [Check("desk", "gw", "http api", "200", "200", Result.OK), Check("desk", "-", "rebuild", "", "", Result.SKIPPED)]


def boot_log(*lines: str, version: str = "v1.0.0") -> bytes:
    log = MonitorLog("gw")
    for number, line in enumerate(each.replace("v1.2.3", version) for each in lines):
        log.hear(number / 10, f"{line}\r\n".encode())
    return log.content(9.0)


@dataclasses.dataclass
class Desk:
    """A gateway whose firmware was built here, and flashed with a boot that was accepted."""

    directory: Path
    project: GatewayProject
    candidate: Candidate
    sources: Sources

    def make(self, candidate: Candidate | None = None, now: datetime = NOW, site: str = "") -> Release:
        return make_release(candidate or self.candidate, self.sources, "me@here", site, now)

    def but(self, **fields: Any) -> Candidate:
        return dataclasses.replace(self.candidate, **fields)


def board(**fields: Any) -> Board:
    described = {"port": "/dev/x", "chip": "esp32", "programmer": "esptool", "firmware": "tinybms-gateway", **fields}
    (found,) = read_host("desk", {"klipper_service": None, "boards": {"gw": described}}).boards
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> GatewayProject:
    directory = tmp_path_factory.mktemp("project")
    project = GatewayProject(directory)
    (directory / "wifi").write_text(PASSWORD)
    (directory / "wifi").chmod(0o600)
    station = {"ssid": "plant", "password": {"file": str(directory / "wifi")}}
    project.builder.ensure(project.gateway(settings={"station": station}, site="lyon"))
    return project


@pytest.fixture
def desk(tmp_path: Path, built: GatewayProject, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setenv(monitor_logs.ENVIRONMENT, str(tmp_path / "logs"))
    store, cache = built.builder.store, built.builder.cache
    (artifact,) = store.find()
    logs = {"monitor-gw-1.log": boot_log(*WITH_CARD, *PANIC), "monitor-gw-2.log": boot_log(*WITH_CARD)}
    monitor_logs.keep("desk", "20260101T000000-aaaaaa", {"monitor-gw-1.log": b"of an older flash\n"})
    monitor_logs.keep("desk", "20260102T000000-bbbbbb", logs)
    monitor_logs.keep("desk", "20260103T000000-cccccc", {"monitor-other-1.log": b"of another board\n"})
    capture = Capture("can0", [b"(1.0) can0 351#00"])
    gateway = board(contract=str(CONTRACT), equipment={"sd": "yes"}, firmware_version="v1.0.0")
    sources = Sources(store, cache, Releases(tmp_path / "releases"))
    return Desk(tmp_path, built, Candidate("desk", gateway, artifact, GOOD, capture), sources)


def test_a_release_says_what_was_put_where_by_whom_and_what_proves_it(desk: Desk) -> None:
    release, artifact = desk.make(), desk.candidate.artifact
    assert release.id == "20260102T030405Z-desk-gw-v1.0.0"
    assert (release.site, release.operator, release.host, release.board) == ("lyon", "me@here", "desk", "gw")
    assert (release.artifact, release.image_sha256) == (artifact.id, artifact.image_sha256)
    assert release.commit == artifact.build["commit"] and len(release.commit) == 40
    assert release.configuration == artifact.build["configuration"] and artifact.esp is not None
    assert release.idf_version == artifact.esp.idf_version != ""
    assert [(looked.name, looked.result) for looked in release.checks] == [("http api", "ok"), ("rebuild", "skipped")]
    assert [(boot.log, boot.accepted) for boot in release.boots] == [
        ("monitor-gw-1.log", False),
        ("monitor-gw-2.log", True),
    ]
    assert desk.sources.releases.get("gw") == desk.sources.releases.get(release.id) == release


def test_everything_it_is_made_of_lies_beside_it(desk: Desk) -> None:
    release = desk.make()
    there = set(release.files)
    images = {f"artifact/{file.name}" for file in desk.candidate.artifact.files}
    assert there >= {*images, "artifact/artifact.json", "build/sdkconfig", "build/app.elf", "build/size.txt"}
    assert there >= {"boot/monitor-gw-1.log", "boot/monitor-gw-2.log", f"boot/{CONTRACT.name}", "captures/can.log"}
    directory = desk.sources.releases.path(release)
    assert (directory / "captures/can.log").read_bytes() == b"(1.0) can0 351#00\n"
    assert b"older" not in (directory / "boot/monitor-gw-1.log").read_bytes()
    assert "CONFIG_IDF_TARGET" in (directory / "build/sdkconfig").read_text()


def test_secrets_are_only_where_the_firmware_needs_them_and_nobody_else_reads_them(desk: Desk) -> None:
    directory = desk.sources.releases.path(desk.make())
    holding = {str(path.relative_to(directory)) for path in directory.rglob("*")
               if path.is_file() and PASSWORD.encode() in path.read_bytes()}  # fmt: skip
    images = {f"artifact/{file.name}" for file in desk.candidate.artifact.files}
    assert holding <= {*images, "build/app.elf"} and holding & images
    assert {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in [directory, *directory.rglob("*")]} == {0}


def test_sha256sum_confirms_the_files_without_fleetflash(desk: Desk) -> None:
    release = desk.make()
    directory = desk.sources.releases.path(release)
    said = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=directory, capture_output=True, text=True, check=True)
    assert said.stdout.count(": OK") == len(release.files)


@pytest.mark.parametrize("result", [Result.DRIFT, Result.FAILED])
def test_what_is_not_as_declared_is_no_release(desk: Desk, result: Result) -> None:
    wrong = [*GOOD, Check("desk", "gw", "http web", "200", "500", result, "answered with status 500")]
    with pytest.raises(ReleaseError, match=r"^desk/gw: http web: answered with status 500; 'fleetflash verify'"):
        desk.make(desk.but(checks=wrong))
    assert desk.sources.releases.releases() == []


def test_a_boot_that_was_rejected_at_its_last_attempt_is_no_release(desk: Desk) -> None:
    monitor_logs.keep("desk", "20260104T000000-dddddd", {"monitor-gw-1.log": boot_log(*WITH_CARD, *PANIC)})
    with pytest.raises(ReleaseError, match=r"desk/gw: monitor-gw-1\.log is rejected: 'panics'"):
        desk.make()


def test_a_boot_of_another_version_proves_nothing(desk: Desk) -> None:
    monitor_logs.keep("desk", "20260104T000000-dddddd", {"monitor-gw-1.log": boot_log(*WITH_CARD, version="v0.9.0")})
    with pytest.raises(ReleaseError, match=r"is of version v0\.9\.0, expected v1\.0\.0; flash it"):
        desk.make()


def test_the_boots_of_an_update_that_was_taken_back_do_not_count(desk: Desk) -> None:
    update, back = boot_log(*WITH_CARD, *PANIC, version="v2.0.0"), boot_log(*WITH_CARD)
    logs = {"monitor-gw-1.log": update, "monitor-gw-2.log": back}
    monitor_logs.keep("desk", "20260104T000000-dddddd", logs)
    assert [(boot.log, boot.accepted) for boot in desk.make().boots] == [("monitor-gw-2.log", True)]


def test_a_contract_without_any_boot_log_is_no_release(desk: Desk) -> None:
    with pytest.raises(ReleaseError, match="no boot log here"):
        desk.make(desk.but(host="shelf"))


def test_a_site_is_named_when_the_firmware_was_built_for_none(desk: Desk) -> None:
    build = {key: value for key, value in desk.candidate.artifact.build.items() if key != "site"}
    nowhere = desk.but(artifact=desk.candidate.artifact.model_copy(update={"build": build}))
    with pytest.raises(ReleaseError, match="name it with --site"):
        desk.make(nowhere)
    assert desk.make(nowhere, site="brest").site == "brest"


def test_firmware_that_was_registered_from_files_has_no_build_and_says_so(desk: Desk) -> None:
    artifact = desk.candidate.artifact.model_copy(update={"build": {}})
    release = desk.make(desk.but(artifact=artifact), site="brest")
    assert release.commit == "" and not [name for name in release.files if name.startswith("build/")]


def test_a_build_that_is_gone_is_an_error(desk: Desk) -> None:
    elsewhere = dataclasses.replace(desk.sources, cache=desk.directory)
    with pytest.raises(ReleaseError, match=r"its build [0-9a-f]{12} is not in"):
        make_release(desk.candidate, elsewhere, "me", "", NOW)


def test_a_release_is_never_changed(desk: Desk) -> None:
    desk.make()
    with pytest.raises(ReleaseError, match="is there already; a release is never changed"):
        desk.make()
    desk.make(now=NOW + timedelta(seconds=1))
    with pytest.raises(ReleaseError, match="2 releases begin with 20260102"):
        desk.sources.releases.get("20260102")
    assert desk.sources.releases.get("desk/gw").at == NOW + timedelta(seconds=1)


def test_a_file_that_changed_is_found_and_such_a_release_is_not_copied(desk: Desk, tmp_path: Path) -> None:
    releases, release = desk.sources.releases, desk.make()
    copied = releases.export(release, tmp_path / "share")
    assert Releases(tmp_path / "share").problems(release) == [] and copied.name == release.id
    with pytest.raises(ReleaseError, match="is there already"):
        releases.export(release, tmp_path / "share")
    directory = releases.path(release)
    (directory / "build/sdkconfig").write_bytes(b"")
    (directory / "captures/can.log").unlink()
    (directory / "build/more").touch()
    empty = hashlib.sha256(b"").hexdigest()[:12]
    assert releases.problems(release) == [
        "build/more: was added",
        f"build/sdkconfig: sha256 {empty}, expected {release.files['build/sdkconfig'][:12]}",
        "captures/can.log: No such file or directory",
    ]
    with pytest.raises(ReleaseError, match="damaged, and not copied"):
        releases.export(release, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_record_that_is_damaged_is_named(desk: Desk) -> None:
    release = desk.make()
    (desk.sources.releases.path(release) / "release.json").write_text('{"schema_version": 1}')
    with pytest.raises(ReleaseError, match=r"release\.json: id: Field required"):
        desk.sources.releases.get(release.id)


def test_a_changelog_is_drafted_newest_version_first_and_by_site(desk: Desk) -> None:
    first = desk.make()
    other = first.model_copy(update={"board": "gw-2", "site": "brest", "boots": first.boots[1:]})
    new = first.model_copy(
        update={"version": "v1.1.0", "artifact": "ab" * 32, "at": NOW + timedelta(days=30), "boots": ()}
    )
    assert draft([first, new, other]) == (
        "## tinybms-gateway v1.1.0 (2026-02-01)\n\n- (what changes for those who use it)\n"
        f"- esp32, commit {first.commit[:12]}, ESP-IDF {first.idf_version}, artifact sha256:abababababab\n"
        "- lyon: desk/gw; 2 checks, boot not judged, by me@here\n\n"
        "## tinybms-gateway v1.0.0 (2026-01-02)\n\n- (what changes for those who use it)\n"
        f"- esp32, commit {first.commit[:12]}, ESP-IDF {first.idf_version}, artifact sha256:{first.artifact[:12]}\n"
        "- brest: desk/gw-2; 2 checks, boot accepted, by me@here\n"
        "- lyon: desk/gw; 2 checks, boot accepted (1 on a retry), by me@here\n"
    )


def test_the_command_line_shows_verifies_and_exports(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    release = desk.make()
    where = ["--releases", str(desk.sources.releases.directory)]
    assert main(["release", "list", *where]) == 0
    assert "lyon  desk/gw  v1.0.0" in capsys.readouterr().out
    assert main(["release", "show", "gw", *where]) == 0
    shown = capsys.readouterr().out
    assert release.commit in shown and "boot monitor-gw-1.log  rejected by io-expander-sd.yaml: 'panics'" in shown
    assert main(["release", "show", "gw", "--json", *where]) == 0
    assert json.loads(capsys.readouterr().out)["artifact"] == release.artifact
    assert main(["release", "changelog", *where]) == 0
    assert capsys.readouterr().out.startswith("## tinybms-gateway v1.0.0")
    assert main(["release", "export", "gw", str(desk.directory / "share"), *where]) == 0
    assert capsys.readouterr().out.strip() == str(desk.directory / "share" / release.id)
    assert main(["release", "verify", "gw", *where]) == 0
    (desk.sources.releases.path(release) / "build/sdkconfig").unlink()
    assert main(["release", "verify", "gw", *where]) == 1
    assert main(["release", "show", "nothing", *where]) == 2
    assert "no release 'nothing'" in capsys.readouterr().err
