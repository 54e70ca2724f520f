"""Every board type falls to one builder of the run: one that answered, takes part and has the compiler."""

from types import SimpleNamespace
from typing import Any

import pytest

from fleetflash.build.errors import BuildHostError, ToolchainError
from fleetflash.facts import build_hosts

TYPE = {"chip": "atmega328p", "firmware": "f", "repository": "r", "ref": "v1", "kconfig": {}}
DATA = {
    "toolchains": {name: {"version": "1", "debian": {f"gcc-{name}": "*"}} for name in ("avr", "arm")},
    "board_types": {
        "nano": {**TYPE, "toolchain": "avr"},
        "toolhead": {**TYPE, "toolchain": "arm"},
        "mainboard": {**TYPE, "toolchain": "arm"},
    },
}


class Run:
    """A pyinfra run with hosts that have some compilers, or that can't be asked (``None``)."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **has: set[str] | None) -> None:
        self.hosts = [SimpleNamespace(name=name, data=dict(DATA), state=self) for name in has]
        self.has, self.looks = has, 0
        self.active_hosts, self.limit = list(self.hosts), list(has)
        self.inventory = SimpleNamespace(get_group=lambda name: self.hosts)
        monkeypatch.setattr(build_hosts, "compiler", self.compiler)
        # They are kept by the address of their run, which another test's run may have had.
        monkeypatch.setattr(build_hosts, "_assignments", {})

    def is_host_in_limit(self, host: Any) -> bool:
        return host.name in self.limit

    def compiler(self, host: Any, toolchains: object, cache: object) -> Any:
        self.looks += 1
        return SimpleNamespace(identify=lambda toolchain: self.identify(host.name, toolchain.name))

    def identify(self, host: str, toolchain: str) -> None:
        has = self.has[host]
        if has is None:
            raise BuildHostError(f"{host}: the SSH connection was lost")
        if toolchain not in has:
            raise ToolchainError(f"{host}: toolchain {toolchain}: not installed")


def test_types_fall_to_those_that_have_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, one={"avr", "arm"}, two={"arm"}, three={"avr"}, lost=None)
    assert build_hosts.assignment(run) == {"nano": "one", "toolhead": "two", "mainboard": "one"}


def test_compiler_that_nobody_has_is_asked_for_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that somebody says what is missing, and where."""
    run = Run(monkeypatch, one={"avr"}, two={"avr"})
    assert set(build_hosts.assignment(run)) == {"nano", "toolhead", "mainboard"}


def test_hosts_that_do_not_take_part_get_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, one={"avr", "arm"}, two={"avr", "arm"}, three={"avr", "arm"})
    run.active_hosts, run.limit = run.hosts[1:], ["one", "two"]
    assert set(build_hosts.assignment(run).values()) == {"two"}


def test_all_hosts_of_a_run_hear_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a type would be built twice, or by nobody, when a host goes away between two answers."""
    run = Run(monkeypatch, one={"avr", "arm"}, two={"avr", "arm"})
    first = build_hosts.assignment(run)
    run.active_hosts = run.hosts[:1]
    assert build_hosts.assignment(run) == first and run.looks == 2


def test_mistake_in_the_data_is_left_to_the_operation(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, one={"avr"})
    run.hosts[0].data["toolchains"] = {}
    assert build_hosts.assignment(run) == {"nano": "one", "toolhead": "one", "mainboard": "one"}
    run = Run(monkeypatch, one={"avr"})
    run.hosts[0].data["board_types"] = ["nano"]
    assert build_hosts.assignment(run) == {}
