"""Builders of desired and observed state for tests of the plan: a healthy printer, to be changed field by field."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from fleetflash.agent.acceptance.contract import Contract
from fleetflash.agent.schema import (
    BoardFacts,
    Firmware,
    Hold,
    Image,
    LedgerEntry,
    Past,
    PortFacts,
    ServiceFacts,
    Snapshot,
)
from fleetflash.boards import Board, KlipperHost
from fleetflash.firmware.artifact import Artifact, make_artifact
from fleetflash.firmware.errors import ArtifactMissingError
from fleetflash.firmware.partition import Partition
from fleetflash.firmware.versions import check_pin
from fleetflash.plan import Catalogue, HostPlan, Identity, plan_host
from fleetflash.plan.erasure import NOTHING, Erasure
from fleetflash.plan.rollback import Rollback, aimed

CHIP = "ch32v203c8t6"
CONSTANTS: dict[str, int | str] = {"MCU": "ch32v203c8", "CLOCK_FREQ": 144000000}
KLIPPY_PID = 100


def artifact(
    version: str, *, labels: Sequence[str] = (), name: str = "klipper", klipper: bool = True, **constants: Any
) -> Artifact:
    digest = f"{sum(map(ord, version + name + repr(constants))):064x}"
    facts = {
        "version": version,
        "build_versions": "gcc",
        "mcu": "ch32v203c8",
        "constants": {**CONSTANTS, **constants},
        "dictionary_sha256": digest,
    }
    return make_artifact(
        kind="klipper" if klipper else "raw",
        name=name,
        version=version,
        chip=CHIP,
        files=({"name": "image.bin", "offset": 0, "size": 30720, "sha256": digest},),
        klipper=facts if klipper else None,
        labels=tuple(labels),
        created=datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC),
    )


def gateway_artifact(version: str, *labels: str) -> Artifact:
    """A layout of two parts for an ESP32."""
    digest = f"{sum(map(ord, version)):064x}"
    return make_artifact(
        kind="esp",
        name="gateway",
        version=version,
        chip="esp32",
        files=tuple(
            {"name": f"{offset:x}.bin", "offset": offset, "size": 0x5000, "sha256": digest}
            for offset in (0x1000, 0x10000)
        ),
        esp={"version": version, "elf_sha256": digest, "packed_sha256": digest[::-1], "flash_bytes": 4 << 20},
        labels=labels,
        created=datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC),
    )


OLD, NEW = artifact("v1", labels=("factory",)), artifact("v2")


def firmware(version: str = "v1", **constants: Any) -> Firmware:
    return Firmware("klippy", version, "gcc", {**CONSTANTS, **constants})


def ledger(of: Artifact, uid: str = "") -> LedgerEntry:
    return LedgerEntry(of.id, of.files[0].sha256, of.version, "t0", CHIP, uid)


def board(name: str = "bmcu", **fields: Any) -> Board:
    described = {"chip": CHIP, "port": f"/dev/serial/by-path/{name}", "firmware": "klipper", "firmware_version": "v2"}
    return Board(**{"name": name, **described, **fields})


def past(of: Artifact, on_disk: bool = False, **image: Any) -> Past:
    """What a board ran, as its host's lineage tells it."""
    described = Image(of.id, of.image_sha256, of.size, of.version, "gcc", {"MCU": "ch32v203c8"})
    return Past(dataclasses.replace(described, **image), "t0", on_disk=on_disk)


def hold(of: Artifact, target: str = "pin") -> Hold:
    return Hold(of.image_sha256, of.version, target, "t0", "you@there", 1.0)


def facts(name: str = "bmcu", device: str = "/dev/ttyUSB0", **fields: Any) -> BoardFacts:
    return dataclasses.replace(BoardFacts(name, device, [device], firmware()), **fields)


def service(**fields: Any) -> ServiceFacts:
    healthy = ServiceFacts("klipper.service", "active", KLIPPY_PID, "pi", "/run/klippy.sock", "ready", "standby")
    return dataclasses.replace(healthy, **fields)


def snapshot(*boards: BoardFacts, **fields: Any) -> Snapshot:
    seen = boards or (facts(),)
    ports = [PortFacts(b.device, [], [f"/dev/serial/by-path/{b.name}"]) for b in seen if b.device]
    healthy = Snapshot("h", "3.11", "", "", 10**10, service(), ports, {b.name: b for b in seen})
    return dataclasses.replace(healthy, **fields)


def plan(
    observed: Snapshot | None = None,
    *boards: Board,
    artifacts: Sequence[Artifact] = (OLD, NEW),
    esptool: str = "",
    rollback: Rollback | None = None,
    lifts: bool = True,
    contracts: Mapping[str, Contract | str] | None = None,
    partitions: Sequence[Partition] = (),
    erasure: Erasure = NOTHING,
    **host: Any,
) -> HostPlan:
    """Plan a host; by default one healthy board that runs v1 and shall run v2.

    ``esptool``: why the controller has none. ``rollback``, ``lifts``, ``erasure``: as for ``plan_host``.
    ``partitions``: of every image.
    """

    def resolve(name: str, version: object, chip: str) -> Artifact:
        pin = check_pin(version)
        for found in artifacts:
            if (found.name, found.version, found.chip) == (name, pin, chip):
                return found
        raise ArtifactMissingError(f"no artifact {name} {pin} for {chip}")

    desired = KlipperHost("printer", boards or (board(),), **host)
    if rollback is not None:
        desired = aimed(desired, rollback)
    catalogue = Catalogue(artifacts, resolve, contracts or {}, lambda artifact: partitions)
    identity = Identity("t1", "me@here", esptool)
    seen = observed or snapshot()
    return plan_host(desired, seen, catalogue, identity, rollback=rollback, lifts=lifts, erasure=erasure)
