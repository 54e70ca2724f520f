"""The boards' event loop: a port may go while it has something to read, as when a USB board resets at that moment."""

import os
import select
from collections.abc import Iterator

import pytest

from fleetflash.lab.boards.loop import Loop


@pytest.fixture
def ready() -> Iterator[int]:
    """A descriptor with something to read."""
    theirs, ours = os.pipe()
    os.write(ours, b"x")
    yield theirs
    os.close(theirs)
    os.close(ours)


def test_a_timer_that_is_due_by_the_end_of_the_wait_may_take_a_ready_descriptor(
    ready: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = Loop()
    heard: list[str] = []
    wait = select.select

    def unplug(_due: float) -> None:
        loop.remove_reader(ready)
        loop.stop()

    def wait_and_be_late(*arguments: object) -> object:
        found = wait(*arguments)  # type: ignore[call-overload]
        loop.at(0.0, unplug)
        return found

    monkeypatch.setattr(select, "select", wait_and_be_late)
    loop.add_reader(ready, lambda: heard.append("unplugged"))
    loop.run()
    assert heard == []


def test_a_reader_may_take_another_one_that_is_ready(ready: int) -> None:
    loop = Loop()
    other = os.dup(ready)
    heard: list[str] = []

    def unplug() -> None:
        heard.append("first")
        loop.remove_reader(other)
        loop.stop()

    loop.add_reader(ready, unplug)
    loop.add_reader(other, lambda: heard.append("unplugged"))
    loop.run()
    assert heard == ["first"]
    os.close(other)
