"""Locks that hold between threads, processes and greenlets, and go with whoever held them."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fleetflash.build.lock import held, held_if_free

GREENLETS = """
from gevent import monkey
monkey.patch_all()
import gevent, sys
from pathlib import Path
from fleetflash.build.lock import held

inside = most = 0

def work():
    global inside, most
    with held(Path(sys.argv[1])):
        inside += 1
        most = max(most, inside)
        gevent.sleep(0.05)
        inside -= 1

jobs = [gevent.spawn(work) for _ in range(4)]
print(len(gevent.joinall(jobs, timeout=30)), most)
"""


def test_greenlets_of_one_thread_wait_for_each_other(tmp_path: Path) -> None:
    """A lock that blocked the thread would never be let go by the greenlet that holds it."""
    command = [sys.executable, "-c", GREENLETS, str(tmp_path / "lock")]
    assert subprocess.run(command, capture_output=True, text=True, timeout=60).stdout == "4 1\n"


def test_one_holds_it_and_the_others_are_told_that_they_wait(tmp_path: Path) -> None:
    lock, told, entered = tmp_path / "lock", threading.Event(), threading.Event()

    def wait() -> None:
        with held(lock, waiting=told.set):
            entered.set()

    thread = threading.Thread(target=wait)
    with held(lock):
        thread.start()
        assert told.wait(10) and not entered.is_set()
    thread.join(10)
    assert entered.is_set()


def test_sharers_hold_it_together_and_keep_others_out(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with held(lock, shared=True), held(lock, shared=True), held_if_free(lock) as free:
        assert not free
    with held_if_free(lock) as free:
        assert free


def test_lock_goes_with_the_process_that_held_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    script = "import sys, time\nfrom pathlib import Path\nfrom fleetflash.build.lock import held\n"
    script += "with held(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    holder = subprocess.Popen([sys.executable, "-c", script, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    with held_if_free(lock) as free:
        assert not free
    holder.kill()
    holder.wait()
    holder.stdout.close()
    with held_if_free(lock) as free:
        assert free


def test_lock_is_let_go_when_its_holder_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="x"), held(tmp_path / "lock"):
        raise ValueError("x")
    with held_if_free(tmp_path / "lock") as free:
        assert free
