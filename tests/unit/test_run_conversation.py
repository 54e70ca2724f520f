"""The privileged conversation over real pipes: nothing begins before all of it is there; what began needs nobody."""

import dataclasses
import hashlib
import io
import json
import os
import select
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fleetflash.agent import disk, guard, klippy, run, systemd, wire
from fleetflash.agent.backups import Backups, Occasion
from fleetflash.agent.events import EventWriter, path_for
from fleetflash.agent.holds import Holds
from fleetflash.agent.schema import (
    BoardTransaction,
    Bundle,
    Entry,
    Firmware,
    Hold,
    HostCode,
    Image,
    Transaction,
    to_json,
)
from fleetflash.agent.store import Store
from fleetflash.agent.systemd import SystemdError
from fleetflash.link.errors import LinkError
from fleetflash.link.transaction import TransactionClient


def make_archive() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("thing.py", "WORD = 'compiled'\n")
    return packed.getvalue()


#: The agent's own.
ARCHIVE = make_archive()
NEW, OLD = b"new firmware" * 5000, b"old firmware" * 10


def image(data: bytes) -> Image:
    return Image("artifact", hashlib.sha256(data).hexdigest(), len(data), "v")


def transaction(name: str = "t-1", placement: str = "host") -> Transaction:
    board = BoardTransaction(
        *("bmcu", "/dev/p", "/dev/d", "ch32v203c8t6", ["19:31"], 65536, "wch_isp", Entry("lines"), Firmware("klippy")),
        *(image(NEW), image(OLD)),
        placement=placement,
    )
    return Transaction(name, "me@here", [board], "klipper.service", "/s", True, True, "exact", 1.0)


class Host:
    """The agent's side: a real store and real pipes; systemd only remembers. ``play`` is what the unit does."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = Store(root / "state")
        self.running, self.booting = "", False
        self.active, self.print_state = True, "standby"
        self.started: list[tuple[str, str]] = []
        self.refusal: SystemdError | None = None
        self.play: Callable[[Transaction], None] = self.commit
        self.code: int | None = None
        self.units: list[threading.Thread] = []
        monkeypatch.setattr(guard, "RUN", root / "run")
        monkeypatch.setattr(guard, "BUSY", root / "run/busy")
        monkeypatch.setattr(guard, "STOPPED", root / "run/stopped")
        monkeypatch.setattr(guard, "SETTLE_UNIT", root / "settle.service")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(run, "LOOK_INTERVAL", 0.02)
        monkeypatch.setattr(run, "POLL_INTERVAL", 0.005)
        monkeypatch.setattr(run, "OUTCOME_SECONDS", 0.2)
        monkeypatch.setattr(
            systemd, "is_gone", lambda unit: not (self.running if "settle" not in unit else self.booting)
        )
        monkeypatch.setattr(guard, "is_idle", lambda: systemd.is_gone(guard.UNIT) and systemd.is_gone("settle"))
        monkeypatch.setattr(systemd, "is_active", lambda unit: self.active)
        monkeypatch.setattr(systemd, "show", lambda unit, _: {"Description": f"fleetflash transaction {self.running}"})
        monkeypatch.setattr(klippy, "status", lambda path: klippy.Status("ready", print_state=self.print_state))
        monkeypatch.setattr(guard, "start_guarded", self.start_guarded)

    def start_guarded(self, whole: Transaction, agent: Path, outcome: Path, verb: str = "transact") -> None:
        assert agent.read_bytes() == ARCHIVE and outcome == self.store.outcome_path(whole.id)
        assert self.store.read_transaction(whole.id) == whole
        if self.refusal is not None:
            raise self.refusal
        self.started.append((verb, whole.id))
        self.go(whole)

    def go(self, whole: Transaction) -> None:
        """Run the unit: ``play``, in the background."""
        self.running = whole.id
        self.units.append(threading.Thread(target=self._run, args=(whole,)))
        self.units[-1].start()

    def _run(self, whole: Transaction) -> None:
        self.play(whole)
        self.running = ""

    def event(self, whole: Transaction, step: str, **details: Any) -> None:
        EventWriter(path_for(whole.id)).write({"step": step, **details})

    def commit(self, whole: Transaction) -> None:
        self.event(whole, "begin")
        self.event(whole, "committed")
        self.store.write_outcome(whole.id, {"outcome": "committed"})

    def images(self) -> set[str]:
        return {path.stem for path in self.store.root.glob("images/*.bin")}


class Controller:
    """The other end of the pipes."""

    def __init__(self, host: Host) -> None:
        agent_in, self._write = os.pipe()
        self._read, agent_out = os.pipe()
        self.frames = open(self._read, "rb", buffering=0)
        self.host = host
        self._thread = threading.Thread(target=self._run, args=(agent_in, agent_out), daemon=True)
        self._thread.start()

    def _run(self, agent_in: int, agent_out: int) -> None:
        with open(agent_in, "rb", buffering=0) as stdin, open(agent_out, "wb") as stdout:
            try:
                self.host.code = run.main(self.host.store, ARCHIVE, stdin, stdout)
            except SystemExit as end:
                self.host.code = int(str(end.code))

    def send(self, **message: Any) -> None:
        os.write(self._write, wire.encode_json(message))

    def send_data(self, data: bytes) -> None:
        os.write(self._write, wire.encode(wire.DATA, data))

    def propose(self, whole: Transaction) -> None:
        self.send(type="transaction", transaction=to_json(whole))

    def upload(self, data: bytes, claim: bytes | None = None) -> None:
        self.send(type="image", sha256=image(claim or data).sha256, size=len(data))
        for start in range(0, len(data), 32768):
            self.send_data(data[start : start + 32768])

    def receive(self) -> Any:
        assert select.select([self._read], [], [], 10)[0], "the agent says nothing"
        frame = wire.read_frame(self.frames)  # type: ignore[arg-type]
        if frame is None:
            return None
        return frame[1] if frame[0] == wire.DATA else wire.decode_json(frame[1])

    def until(self, kind: str) -> dict[str, Any]:
        while True:
            message = self.receive()
            assert message is not None, f"the agent ended without {kind}"
            if isinstance(message, dict) and message["type"] == kind:
                return message

    def refusal(self) -> str:
        text = str(self.until("refused")["message"])
        self.join()
        assert self.host.code == 1
        return text

    def hang_up(self) -> None:
        os.close(self._write)
        self._write = -1

    def join(self) -> None:
        self._thread.join(5)
        assert not self._thread.is_alive()

    def close(self) -> None:
        if self._write >= 0:
            self.hang_up()
        self.join()
        self.frames.close()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host(tmp_path, monkeypatch)
    yield host
    for unit in host.units:
        unit.join(5)


@pytest.fixture
def call(host: Host) -> Iterator[Callable[[], Controller]]:
    open_ones: list[Controller] = []

    def connect() -> Controller:
        open_ones.append(Controller(host))
        return open_ones[-1]

    yield connect
    for controller in open_ones:
        controller.close()


@pytest.fixture
def controller(call: Callable[[], Controller]) -> Controller:
    return call()


class Received:
    """A session for ``TransactionClient`` that only listens."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def send(self, message: dict[str, Any]) -> None: ...

    def send_data(self, data: bytes) -> None: ...

    def receive(self, timeout: float | None) -> Any:
        return self._controller.receive()


# From the proposal to the outcome


def test_missing_images_are_asked_for_taken_and_the_transaction_followed_to_its_end(
    host: Host, controller: Controller
) -> None:
    controller.propose(transaction())
    assert controller.receive() == {"type": "want", "sha256": sorted([image(NEW).sha256, image(OLD).sha256])}
    assert host.started == []
    controller.upload(OLD)
    controller.upload(NEW)
    assert controller.receive() == {"type": "started", "id": "t-1"}
    assert host.store.read_image(image(NEW).sha256) == NEW and host.store.read_image(image(OLD).sha256) == OLD
    assert controller.receive() == {"type": "event", "event": {"step": "begin"}}
    assert controller.receive() == {"type": "event", "event": {"step": "committed"}}
    assert controller.receive() == {"type": "outcome", "outcome": {"outcome": "committed"}}
    controller.join()
    assert host.code == 0 and host.started == [("transact", "t-1")] and host.store.is_reported("t-1")


def test_transaction_that_only_reads_needs_no_images(host: Host, controller: Controller) -> None:
    controller.propose(dataclasses.replace(transaction(), backup_only=True))
    assert controller.receive() == {"type": "want", "sha256": []}
    assert controller.until("outcome")["outcome"] == {"outcome": "committed"}


@pytest.mark.parametrize("follows", [False, True])
def test_who_asks_for_backups_gets_them_after_the_outcome_and_the_host_waits_for_no_one_else(
    host: Host, call: Callable[[], Controller], follows: bool
) -> None:
    for data in (NEW, OLD):
        disk.write_file(host.store.image(image(data).sha256), data)
    first = call()
    first.send(type="transaction", transaction=to_json(transaction()), backups=not follows)
    first.until("outcome")
    if follows:
        first.join()
    asking = call() if follows else first
    if follows:
        asking.send(type="follow", id="t-1", backups=True)
        asking.until("outcome")
    whole = transaction()
    Backups(host.store).add(whole.boards[0], OLD, Firmware("none"), "2a", Occasion("t-1", "why", 1.0))
    asking.send(type="backups", boards=["bmcu"])
    (record,) = asking.until("backups")["backups"]
    asking.send(type="fetch", sha256=record["image"]["sha256"])
    assert asking.until("image")["size"] == len(OLD) and asking.receive() == OLD
    asking.hang_up()
    asking.join()
    assert host.code == 0


def test_commits_that_the_host_lacks_come_as_images_do(host: Host, controller: Controller) -> None:
    disk.write_file(host.store.image(image(NEW).sha256), NEW)
    disk.write_file(host.store.image(image(OLD).sha256), OLD)
    commits = b"a bundle"
    bundle = Bundle(image(commits).sha256, len(commits), "v2")
    code = HostCode("/home/pi/klipper", "pi", "python3", "1" * 40, "2" * 40, bundle)
    controller.propose(dataclasses.replace(transaction(), host_code=code))
    assert controller.receive()["sha256"] == [bundle.sha256]
    controller.upload(commits)
    assert controller.until("outcome")["outcome"] == {"outcome": "committed"}
    assert host.store.read_image(bundle.sha256) == commits
    assert host.store.read_transaction("t-1").host_code == code


def test_images_that_the_host_has_are_not_sent_again_but_damaged_ones_are(host: Host, controller: Controller) -> None:
    disk.write_file(host.store.image(image(NEW).sha256), NEW)
    disk.write_file(host.store.image(image(OLD).sha256), OLD[:-1])
    controller.propose(transaction())
    assert controller.receive()["sha256"] == [image(OLD).sha256]
    controller.upload(OLD)
    assert controller.until("outcome")["outcome"] == {"outcome": "committed"}


def test_boot_logs_come_before_the_outcome(host: Host, controller: Controller) -> None:
    log = b"# fleetflash monitor.log: gateway\n[    0.000812] \xff\xfe\n" * 1000
    directory = host.store.transaction_directory("t-1")
    disk.write_file(directory / "monitor-gateway-1.log", log)
    controller.propose(transaction())
    controller.receive()
    controller.upload(OLD)
    controller.upload(NEW)
    received = TransactionClient(Received(controller), "host", lambda event: None)
    assert received.follow(None, lambda sha256: b"") == {"outcome": "committed"}
    assert received.monitor_logs == {"monitor-gateway-1.log": log}


def test_a_torn_boot_log_is_an_error_of_the_link(controller: Controller) -> None:
    class Torn(Received):
        def receive(self, timeout: float | None) -> dict[str, Any]:
            return {"type": "monitor", "name": "monitor-gateway-1.log", "data": "bm90IHpsaWI="}

    with pytest.raises(LinkError, match="host: the agent sent a boot log that is torn"):
        TransactionClient(Torn(controller), "host", lambda event: None).follow(None, lambda sha256: b"")


def test_image_of_a_board_that_the_controller_writes_stays_there(controller: Controller) -> None:
    controller.propose(transaction(placement="controller"))
    assert controller.receive()["sha256"] == [image(OLD).sha256]


# Nothing begins


@pytest.mark.parametrize("damage", ["wrong bytes", "cut short", "not an image", "another transaction's message"])
def test_nothing_begins_when_the_upload_is_not_what_was_promised(
    host: Host, controller: Controller, damage: str
) -> None:
    controller.propose(transaction())
    controller.receive()
    if damage == "wrong bytes":
        controller.upload(b"x" + NEW[1:], claim=NEW)
    elif damage == "cut short":
        controller.send(type="image", sha256=image(NEW).sha256, size=len(NEW))
        controller.send_data(NEW[:1000])
        controller.hang_up()
    elif damage == "not an image":
        controller.send_data(NEW[:1000])
    else:
        controller.propose(transaction("t-2"))
    assert controller.refusal()
    assert host.started == [] and host.images() == set()
    assert host.store.newest_transaction() is None


def test_agent_without_root_takes_nothing(host: Host, controller: Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    controller.propose(transaction())
    assert "must run as root" in controller.refusal()
    assert not host.store.root.exists()


def test_transaction_that_makes_no_sense_is_refused_with_the_path_of_the_field(controller: Controller) -> None:
    controller.send(type="transaction", transaction={**to_json(transaction()), "policy": 7})
    assert controller.refusal() == "Transaction.policy: expected str, found 7"


@pytest.mark.parametrize("data", [b"", b"noise that is no frame"])
def test_controller_that_says_nothing_sensible_is_refused(controller: Controller, data: bytes) -> None:
    os.write(controller._write, data)
    controller.hang_up()
    assert controller.refusal()


# One at a time


def test_second_transaction_is_refused_and_told_whose_is_running(host: Host, controller: Controller) -> None:
    host.store.write_transaction(transaction("t-0"))
    host.running = "t-0"
    controller.propose(transaction())
    text = controller.refusal()
    assert "t-0" in text and "me@here" in text and "run again" in text
    assert host.store.newest_transaction() == "t-0"


def test_controller_that_lost_the_race_leaves_no_trace(host: Host, controller: Controller) -> None:
    """Both have uploaded; the unit's name is the lock. Its record must not look like a transaction that died."""
    controller.propose(transaction("t-1"))
    controller.receive()
    host.store.write_transaction(transaction("t-0"))
    host.running, host.refusal = "t-0", SystemdError("systemd-run: Unit fleetflash.service already exists")
    controller.upload(OLD)
    controller.upload(NEW)
    assert "(t-0, started by me@here) is running" in controller.refusal()
    assert host.store.unfinished() == ["t-0"] and not host.store.transaction_directory("t-1").exists()


def test_unit_that_systemd_started_although_it_answered_late_is_followed(host: Host, controller: Controller) -> None:
    controller.propose(transaction("t-1"))
    controller.receive()
    host.running, host.refusal = "t-1", SystemdError("systemd-run: no answer within 30 s")
    controller.upload(OLD)
    controller.upload(NEW)
    assert controller.until("started") == {"type": "started", "id": "t-1"}
    host.commit(transaction("t-1"))
    host.running = ""
    assert controller.until("outcome")["outcome"] == {"outcome": "committed"}


def test_systemd_that_refuses_is_a_refusal_and_the_transaction_is_forgotten(host: Host, controller: Controller) -> None:
    controller.propose(transaction("t-1"))
    controller.receive()
    host.refusal = SystemdError("systemd-run: Failed to connect to bus")
    controller.upload(OLD)
    controller.upload(NEW)
    assert controller.refusal() == "systemd-run: Failed to connect to bus"
    assert host.store.newest_transaction() is None


# Following


def test_transaction_goes_on_without_a_controller_that_hangs_up(host: Host, controller: Controller) -> None:
    over = threading.Event()

    def wait(whole: Transaction) -> None:
        host.event(whole, "begin")
        over.wait(5)
        host.commit(whole)

    host.play = wait
    controller.propose(transaction(placement="controller"))
    controller.receive()
    controller.upload(OLD)
    controller.until("event")
    controller.hang_up()
    controller.join()
    assert host.code == 0 and host.running == "t-1" and not host.store.is_reported("t-1")
    over.set()


def test_later_controller_hears_everything_from_the_first_event_on(host: Host, call: Callable[[], Controller]) -> None:
    host.store.write_transaction(transaction())
    host.commit(transaction())
    late = call()
    late.send(type="follow", id="t-1")
    assert [late.receive()["event"]["step"] for _ in range(2)] == ["begin", "committed"]
    assert late.receive() == {"type": "outcome", "outcome": {"outcome": "committed"}}
    late.join()
    assert host.code == 0 and host.store.is_reported("t-1") and host.started == []


def test_transaction_that_never_began_here_is_told_as_such(host: Host, controller: Controller) -> None:
    controller.send(type="follow", id="t-9")
    assert controller.refusal() == "transaction t-9 never began on this host"
    assert not host.store.transaction_directory("t-9").exists()


def test_end_without_an_outcome_is_unknown_and_stays_unreported(host: Host, controller: Controller) -> None:
    host.play = lambda whole: None
    controller.propose(transaction(placement="controller"))
    controller.receive()
    controller.upload(OLD)
    outcome = controller.until("outcome")["outcome"]
    assert outcome["outcome"] == "unknown" and "t-1 ended without an outcome" in outcome["detail"]
    controller.join()
    assert not host.store.is_reported("t-1")


# What an earlier transaction left


def leave_unfinished(host: Host, *names: str) -> None:
    for name in names:
        host.store.write_transaction(transaction(name))


def test_transactions_that_died_are_settled_first_oldest_first_under_the_guard(
    host: Host, controller: Controller
) -> None:
    leave_unfinished(host, "t-b", "t-a")
    controller.propose(transaction())
    controller.receive()
    assert host.started == [("settle", "t-b"), ("settle", "t-a")]


def test_nothing_begins_while_an_earlier_one_can_not_be_brought_to_rest(host: Host, controller: Controller) -> None:
    """Settled later, it would write its ways back over what the new one has committed."""
    leave_unfinished(host, "t-0")
    host.play = lambda whole: None
    controller.propose(transaction())
    assert "t-0 could not be brought to rest" in controller.refusal()
    assert host.started == [("settle", "t-0")]


def test_settling_that_a_boot_has_begun_is_followed_and_not_begun_a_second_time(
    host: Host, call: Callable[[], Controller]
) -> None:
    """Two of them would fight for the ports, and latch a board that is well."""
    leave_unfinished(host, "t-0")
    host.booting = True
    newcomer, follower = call(), call()
    newcomer.propose(transaction())
    assert "t-0" in newcomer.refusal()
    follower.send(type="follow", id="t-0")
    time.sleep(0.3)
    host.store.write_outcome("t-0", {"outcome": "restored"})
    host.booting = False
    assert follower.until("outcome")["outcome"] == {"outcome": "restored"}
    assert host.started == []


def test_settling_is_waited_for_as_long_as_its_guard_lets_it_run(
    host: Host, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_unfinished(host, "t-0")
    over = threading.Event()
    monkeypatch.setattr(run, "settle_seconds", lambda whole: 0.05)
    host.play = lambda whole: over.wait() and None
    controller.propose(transaction())
    assert "t-0 does not come to rest" in controller.refusal()
    over.set()


@pytest.mark.parametrize("print_state", ["printing", "paused"])
def test_print_that_runs_is_not_stopped_to_settle(host: Host, controller: Controller, print_state: str) -> None:
    leave_unfinished(host, "t-0")
    host.print_state = print_state
    controller.propose(transaction())
    text = controller.refusal()
    assert "t-0 is unfinished" in text and print_state in text and "run again when it is idle" in text
    assert host.started == []


def test_record_that_nobody_can_read_does_not_block_the_host(host: Host, controller: Controller) -> None:
    leave_unfinished(host, "t-0")
    path = host.store.transaction_directory("t-0") / "transaction.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "new field": 1}))
    controller.propose(transaction())
    assert controller.receive()["type"] == "want"
    found = host.store.read_outcome("t-0")
    assert found is not None and "unknown field 'new field'" in found["detail"]


# A port is lent


def lend(host: Host, said: list[bytes]) -> Callable[[Transaction], None]:
    """A transaction that lends a port once, to whoever takes it in time."""

    def play(whole: Transaction) -> None:
        path = guard.RUN / "lent.sock"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)
            listener.settimeout(0.5)
            host.event(whole, "port-offered", board="bmcu", socket=str(path))
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                said.append(b"nobody came")
            else:
                with connection:
                    said.append(connection.recv(100))
                    connection.sendall(wire.encode(wire.DATA, b"from the board"))
        host.store.write_outcome(whole.id, {"outcome": "committed"})

    return play


def test_frames_of_a_lent_port_are_carried_both_ways(host: Host, controller: Controller) -> None:
    said: list[bytes] = []
    host.play = lend(host, said)
    controller.propose(transaction(placement="controller"))
    controller.receive()
    controller.upload(OLD)
    assert controller.until("event")["event"]["step"] == "port-offered"
    controller.send_data(b"to the board")
    assert controller.receive() == b"from the board"
    assert controller.until("outcome")["outcome"] == {"outcome": "committed"}
    assert said == [wire.encode(wire.DATA, b"to the board")]


def test_words_for_an_earlier_port_are_not_carried_to_the_next(host: Host, controller: Controller) -> None:
    said: list[bytes] = []
    lent = lend(host, said)

    def play(whole: Transaction) -> None:
        host.event(whole, "begin")
        time.sleep(0.2)
        lent(whole)

    host.play = play
    controller.propose(transaction(placement="controller"))
    controller.receive()
    controller.upload(OLD)
    controller.until("event")
    controller.send_data(b"late")
    while controller.until("event")["event"]["step"] != "port-offered":
        pass
    controller.send_data(b"to the board")
    controller.until("outcome")
    assert said == [wire.encode(wire.DATA, b"to the board")]


def test_controller_that_only_looks_on_leaves_the_port_to_the_one_that_writes(
    host: Host, call: Callable[[], Controller]
) -> None:
    said: list[bytes] = []
    host.store.write_transaction(transaction())
    host.play = lend(host, said)
    guard.RUN.mkdir()
    host.go(transaction())
    looking = call()
    looking.send(type="follow", id="t-1")
    assert looking.until("outcome")["outcome"] == {"outcome": "committed"}
    assert said == [b"nobody came"]


# The latch


def test_latched_board_is_cleared_and_told_what_was_latched(host: Host, call: Callable[[], Controller]) -> None:
    host.store.write_attention("bmcu", "verify failed")
    for detail in ("verify failed", ""):
        controller = call()
        controller.send(type="clear", board="bmcu")
        assert controller.receive() == {"type": "cleared", "detail": detail}
    assert host.store.attention() == {}


# Holds and recovery


def test_holds_are_put_and_lifted(host: Host, call: Callable[[], Controller]) -> None:
    put, lift = call(), call()
    put.send(type="hold", holds={"bmcu": to_json(Hold("a" * 64, "v1", "previous", "t-0", "me@here"))})
    assert put.receive() == {"type": "held"}
    lift.send(type="lift", boards=["bmcu"])
    assert lift.receive()["holds"]["bmcu"]["version"] == "v1"
    assert Holds(host.store).all() == {}


def test_hold_waits_until_nothing_runs(host: Host, controller: Controller) -> None:
    """What a transaction is about to commit may be another image."""
    host.store.write_transaction(transaction("theirs"))
    host.running = "theirs"
    controller.send(type="hold", holds={"bmcu": to_json(Hold("a" * 64, "v1", "previous", "t-0", "me@here"))})
    assert "theirs" in controller.refusal()
    assert Holds(host.store).all() == {}


def test_recovery_settles_what_died_tells_it_and_starts_nothing(host: Host, controller: Controller) -> None:
    leave_unfinished(host, "t-1", "t-2")
    controller.send(type="recover")
    found = controller.until("recovered")["found"]
    assert host.started == [("settle", "t-1"), ("settle", "t-2")]
    assert [item["found"].split(":")[0] for item in found] == ["transaction t-1", "transaction t-2"]
    assert all(item["done"].startswith("committed") and item["well"] for item in found)
    assert host.store.is_reported("t-2")


def test_recovery_does_not_stop_a_print(host: Host, controller: Controller) -> None:
    leave_unfinished(host, "t-1")
    host.print_state = "printing"
    controller.send(type="recover")
    (item,) = controller.until("recovered")["found"]
    assert "the printer is printing" in item["done"] and not item["well"] and host.started == []


def test_guard_that_was_left_is_lowered_by_a_settling_of_its_own(host: Host, controller: Controller) -> None:
    host.store.write_transaction(transaction())
    host.store.write_outcome("t-1", {"outcome": "committed"})
    guard.hold()
    host.play = lambda whole: guard.release()
    controller.send(type="recover")
    (item,) = controller.until("recovered")["found"]
    assert item["found"].startswith("guard ") and item["done"] == "cleared away" and host.started == [("settle", "t-1")]
