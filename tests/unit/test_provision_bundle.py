"""A pin is looked up once, however many hosts ask at the same time."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fleetflash.build.source import Sources
from fleetflash.provision import bundle


def test_git_is_asked_once_when_many_hosts_ask_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    together = threading.Barrier(8)

    def resolve(self: Sources, repository: str, ref: str) -> str:
        asked.append(ref)
        time.sleep(0.05)  # as long as git takes: the others come meanwhile
        return f"{repository} {ref}"

    def ask(_: int) -> object:
        together.wait()
        return bundle.resolve(tmp_path, "https://example.org/klipper", "v1")

    monkeypatch.setattr(Sources, "resolve", resolve)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {"https://example.org/klipper v1"}
    assert asked == ["v1"]
