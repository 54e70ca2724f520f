"""Klipper's own code moves together with the boards, and goes back with them: real git, a checkout like Klipper's."""

import dataclasses
import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from klipper_checkout import USER, V1, V2, Repository, make_checkout
from transaction_host import NEW, OLD, Death, FakeHost, make_host

from fleetflash.agent import disk, host_code
from fleetflash.agent.account import Account
from fleetflash.agent.checkout import Checkout
from fleetflash.agent.protocols.errors import VerifyError
from fleetflash.agent.schema import HOST_CODE, Bundle, Transaction

#: Programs that change something: the agent may die before each, and after it.
CHANGES = ("checkout", "read-tree", "symbolic-ref", "update-ref", "fetch", "mv", "cp", "rm", "touch")


@dataclasses.dataclass
class Printer:
    """A host with two boards, and its Klipper's checkout."""

    host: FakeHost
    code: Repository
    whole: Transaction

    def state(self) -> str:
        """``old``, ``new`` or a description of what is neither."""
        versions, at = set(self.host.versions().values()), self.code.version()
        if (versions, at.split("-")[0]) in (({OLD}, V1), ({NEW}, V2)) and not at.endswith("-dirty"):
            return "old" if versions == {OLD} else "new"
        return f"boards {self.host.versions()}, code {at}"


def make_printer(directory: Path, monkeypatch: pytest.MonkeyPatch, *, helper_changes: bool = False) -> Printer:
    host = make_host(directory, monkeypatch, "a", "b")
    code = make_checkout(directory / "klipper", helper_changes=helper_changes)
    host.code = code.version
    host.code_version = code.version()
    run = Account.run

    def run_and_live(account: Account, command: list[str], where: str, **environment: str) -> str:
        if command[0] == "sync":
            return ""  # it would only cost time here
        name = next((word for word in CHANGES if word in command), "")
        if name:
            host.tick("before", name)
        said = run(account, command, where, **environment)
        if name:
            host.tick("after", name)
        return said

    monkeypatch.setattr(Account, "run", run_and_live)
    return Printer(host, code, dataclasses.replace(host.transaction(), host_code=code.move()))


@pytest.fixture
def printer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Printer:
    return make_printer(tmp_path, monkeypatch)


def test_code_and_boards_move_in_one_stop(printer: Printer) -> None:
    assert printer.host.run(printer.whole) == "committed"
    assert printer.state() == "new"
    assert printer.host.results() == {HOST_CODE: "flashed", "a": "flashed", "b": "flashed"}
    assert printer.host.steps.count(("stop", "")) == 1
    steps = printer.host.journal("prepared", "stopping", "checkout", "writing", "committed")
    assert steps == ["prepared host code", "stopping", "checkout host code", "writing a", "writing b", "committed"]
    assert printer.code.git("for-each-ref", "--format=%(objectname)", "refs/fleetflash/former") == printer.code.v1
    assert not (printer.code.path / ".git/fleetflash").exists()


def test_what_git_does_not_track_stays(printer: Printer) -> None:
    printer.host.run(printer.whole)
    assert (printer.code.path / "klippy/extras/mine.py").read_text() == "the user's own\n"
    assert printer.code.helper.read_text() == "built from v1"


def test_code_goes_back_to_branch_and_content_when_a_board_fails(printer: Printer) -> None:
    before = printer.code.content()
    printer.host.faults["verify", "b"] = [VerifyError("differs")]
    assert printer.host.run(printer.whole) == "restored"
    assert printer.state() == "old"
    assert printer.code.content() == before
    assert printer.host.results() == {HOST_CODE: "restored", "a": "restored", "b": "restored"}
    assert printer.host.active and printer.host.left_behind() == []


def test_boards_are_not_touched_when_the_code_does_not_move(printer: Printer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Checkout, commit: str) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Checkout, "move", fail)
    assert printer.host.run(printer.whole) == "restored"
    assert printer.state() == "old" and printer.host.journal("writing") == []
    assert "no space left" in printer.host.outcome()["detail"]


def test_all_goes_back_when_klippy_reports_another_version(printer: Printer) -> None:
    printer.host.code = lambda: "v9-0-g0000000"
    assert printer.host.run(printer.whole) == "restored"
    assert printer.state() == "old"
    assert "klippy reports version v9-0-g0000000, expected v2-0-g" in printer.host.outcome()["detail"]


def test_all_goes_back_when_klippy_does_not_get_ready(printer: Printer) -> None:
    printer.host.code = lambda: setattr(printer.host, "ready", V1 in printer.code.version()) or ""
    assert printer.host.run(printer.whole) == "restored"
    assert printer.state() == "old" and printer.host.ready


def test_code_alone_moves_when_the_boards_are_current(printer: Printer) -> None:
    alone = dataclasses.replace(printer.whole, boards=[])
    assert printer.host.run(alone) == "committed"
    assert printer.code.version().startswith(V2) and printer.host.results() == {HOST_CODE: "flashed"}


def refused(printer: Printer, **changes: Any) -> str:
    """Run a transaction that must be refused before anything stops; return why it was."""
    before = printer.code.content()
    whole = dataclasses.replace(printer.whole, host_code=dataclasses.replace(printer.whole.host_code, **changes))
    assert printer.host.run(whole) == "refused"
    assert ("stop", "") not in printer.host.steps and printer.code.content() == before
    return str(printer.host.outcome()["detail"])


def test_uncommitted_changes_are_refused_before_anything_stops(printer: Printer) -> None:
    printer.code.write("klippy/klippy.py", "print('mine')\n")
    assert "has uncommitted changes by now (klippy/klippy.py)" in refused(printer)


def test_untracked_file_that_would_be_overwritten_is_refused_before_anything_stops(printer: Printer) -> None:
    printer.code.write("klippy/extras/only_v2.py", "the user's\n")
    assert "klippy/extras/only_v2.py" in refused(printer)


def test_ignored_file_that_would_be_overwritten_is_refused_before_anything_stops(printer: Printer) -> None:
    printer.code.write(".git/info/exclude", "only_v2.py\n")
    printer.code.write("klippy/extras/only_v2.py", "the user's\n")
    assert "only_v2.py is not tracked by git and would be overwritten" in refused(printer)


def test_checkout_that_moved_since_the_plan_is_refused(printer: Printer) -> None:
    assert "the plan saw" in refused(printer, former=printer.code.v2)


def test_commit_that_is_not_there_is_refused(printer: Printer) -> None:
    assert "commit 111111111111 is not here completely" in refused(printer, wanted="1" * 40)


def test_helper_without_a_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printer = make_printer(tmp_path, monkeypatch, helper_changes=True)
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    assert "apt-get install gcc" in refused(printer)


def test_helper_that_does_not_build_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printer = make_printer(tmp_path, monkeypatch, helper_changes=True)
    assert "does not build" in refused(printer, python="/bin/false")


def test_helper_is_built_before_the_stop_and_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printer = make_printer(tmp_path, monkeypatch, helper_changes=True)
    assert printer.host.run(printer.whole) == "committed"
    assert printer.code.helper.read_bytes()[:4] == b"\x7fELF"
    newest = max(path.stat().st_mtime for path in printer.code.helper.parent.glob("*.[ch]"))
    assert printer.code.helper.stat().st_mtime > newest  # klippy takes it as it is


def test_former_helper_is_back_and_newer_than_its_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printer = make_printer(tmp_path, monkeypatch, helper_changes=True)
    printer.host.faults["verify", "b"] = [VerifyError("differs")]
    assert printer.host.run(printer.whole) == "restored"
    assert printer.code.helper.read_text() == "built from v1"
    newest = max(path.stat().st_mtime for path in printer.code.helper.parent.glob("*.[ch]"))
    assert printer.code.helper.stat().st_mtime > newest


def test_commits_come_in_a_bundle_and_their_tag_with_them(printer: Printer, tmp_path: Path) -> None:
    whole = subprocess.run(
        ["git", "-C", printer.code.path, "bundle", "create", "-", "refs/tags/v2", f"^{printer.code.v1}"],
        check=True,
        capture_output=True,
    ).stdout
    printer.code.git("tag", "-d", "v2")
    printer.code.git("reflog", "expire", "--expire=now", "--all")
    printer.code.git("gc", "--quiet", "--prune=now")
    digest = hashlib.sha256(whole).hexdigest()
    disk.write_file(printer.host.store.image(digest), whole)
    code = printer.code.move(bundle=Bundle(digest, len(whole), "v2"))
    assert printer.host.run(dataclasses.replace(printer.whole, host_code=code)) == "committed"
    assert printer.state() == "new"
    assert not printer.host.store.image(digest).exists()


def test_damaged_bundle_is_refused(printer: Printer) -> None:
    digest = hashlib.sha256(b"").hexdigest()
    disk.write_file(printer.host.store.image(digest), b"damaged")
    assert f"expected sha256 {digest}" in refused(printer, bundle=Bundle(digest, 7))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can take on another user")
def test_nothing_of_the_checkout_becomes_roots(printer: Printer) -> None:
    subprocess.run(["chmod", "a+rx", *map(str, printer.code.path.parents[:-2])], check=True)
    subprocess.run(["chown", "-R", "nobody:", printer.code.path], check=True)
    code = printer.code.move(user="nobody")
    printer.host.code = lambda: "v2-0-g" + printer.code.v2[:7]
    assert printer.host.run(dataclasses.replace(printer.whole, host_code=code)) == "committed"
    found = subprocess.run(
        ["find", printer.code.path, "!", "-user", "nobody"], check=True, capture_output=True, text=True
    )
    assert found.stdout == ""


def test_checkout_that_another_klipper_runs_from_is_refused(printer: Printer) -> None:
    program = printer.code.path / "klippy/klippy.py"
    printer.code.write("klippy/klippy.py", "print(1)\n")
    other = subprocess.Popen(["tail", "-f", str(program)], stdout=subprocess.DEVNULL)
    try:
        assert f"process {other.pid}, another Klipper, runs from it" in refused(printer)
    finally:
        other.kill()
        other.wait()


def test_full_disk_is_refused_before_anything_stops(printer: Printer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_code, "SPARE_BYTES", 1 << 60)
    assert "MiB needed; make room" in refused(printer)


def test_version_of_a_klippy_that_was_in_error_is_checked_all_the_same(printer: Printer) -> None:
    """Boards of one version under a klippy of another: that is what exact is there to repair."""
    printer.host.ready, printer.host.code = False, lambda: "v9-0-g0000000"
    assert printer.host.run(dataclasses.replace(printer.whole, was_ready=False)) == "restored"
    assert "klippy reports version v9-0-g0000000" in printer.host.outcome()["detail"]
    assert printer.state() == "old"


def test_way_back_that_fails_calls_for_a_person_and_starts_klipper(
    printer: Printer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Checkout, *arguments: object) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(Checkout, "move_back", fail)
    printer.host.faults["verify", "b"] = [VerifyError("differs")]
    assert printer.host.run(printer.whole) == "needs-attention"
    assert "input/output error" in printer.host.store.attention()[HOST_CODE]
    assert printer.host.results()["b"] == "restored" and printer.host.active


def test_files_of_somebody_else_are_refused(printer: Printer) -> None:
    if USER != "root":
        pytest.skip("only root can give files away")
    os.chown(printer.code.path / "klippy/klippy.py", 65534, 65534)
    assert "klippy/klippy.py is not root's; sudo chown -R root:" in refused(printer)


def test_checkout_that_a_power_cut_tore_is_settled(printer: Printer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the files written, one of them empty, no HEAD, no index, and git's locks left."""
    before = printer.code.content()

    def tear(self: Checkout, commit: str) -> None:
        directory = printer.code.path / ".git"
        printer.code.write("klippy/klippy.py", "")
        printer.code.write("klippy/extras/only_v2.py", "2")
        (printer.code.path / "klippy/extras/only_v1.py").unlink()
        for name in ("index.lock", "HEAD.lock", "HEAD", "index"):
            (directory / name).write_bytes(b"")
        raise Death

    monkeypatch.setattr(Checkout, "move", tear)
    with pytest.raises(Death):
        printer.host.run(printer.whole)
    printer.host.after_death(printer.whole)
    after = printer.code.content()
    assert after.pop("HEAD").strip() in (printer.code.v1, "ref: refs/heads/main")
    before.pop("HEAD")
    assert after == before and printer.state() == "old"
    assert printer.host.results()[HOST_CODE] == "restored"


def all_well(printer: Printer) -> None:
    """Nothing fails but the agent."""


def second_board_fails(printer: Printer) -> None:
    printer.host.faults["verify", "b"] = [VerifyError("differs")]


@pytest.mark.parametrize("play", [all_well, second_board_fails], ids=lambda play: play.__name__)
def test_death_at_any_step_leaves_everything_old_or_everything_new(
    play: Callable[[Printer], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems, tick, alive = [], 0, True
    while alive:
        printer = make_printer(tmp_path / str(tick), monkeypatch, helper_changes=False)
        play(printer)
        printer.host.kill_at = tick
        try:
            printer.host.run(printer.whole)
            alive = False
        except Death:
            printer.host.after_death(printer.whole)
        died_at = f"tick {tick}, after {printer.host.steps[-3:]}"
        results = set(printer.host.results().values())
        if printer.state() != ("new" if results == {"flashed"} else "old"):
            problems.append(f"{died_at}: {printer.state()} with {printer.host.results()}")
        if printer.host.left_behind() or not printer.host.active:
            problems.append(f"{died_at}: left {printer.host.left_behind()}, Klipper {printer.host.active}")
        tick += 4
        monkeypatch.undo()
    assert problems == []
    assert tick > 80
