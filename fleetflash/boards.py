"""What a user writes down about boards, and what each programmer can do."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from fleetflash.agent.protocols import programmers
from fleetflash.agent.protocols.port_names import normalised
from fleetflash.agent.protocols.programmer import Capabilities
from fleetflash.agent.schema import ObjectCheck, Power, Retention
from fleetflash.object_checks import CHECKS_SECONDS, read_checks, read_checks_of_host, read_checks_seconds
from fleetflash.pins import named_by
from fleetflash.power import moonraker_port, read_power, usable

#: Stopping Klipper and having it ready again on a Raspberry Pi, in seconds.
KLIPPER_RESTART_SECONDS = 6.0
DEFAULT_PROGRAMMER = "wch_isp"
#: Where Klipper's own code comes from when nobody says so.
KLIPPER_REPOSITORY = "https://github.com/Klipper3d/klipper.git"


#: What each programmer can do; see docs/programmers.md.
PROGRAMMERS: dict[str, Capabilities] = {name: kind.capabilities for name, kind in programmers.PROGRAMMERS.items()}


#: What boards are flashed with that no program can do, and what can be done instead.
REFUSED = {
    "sdcard": (
        "this bootloader only reads a file from a card, and a person has to carry it: copy the image to the card as "
        "firmware.bin (or what the board's maker calls it), put it in and reset the board; or install Katapult once, "
        "then programmer = 'katapult' does it from here"
    ),
}


class BoardDataError(Exception):
    """The inventory says something about a board that can't be. One line that names the field."""


class Board(BaseModel):
    """One board of a Klipper host, as the inventory describes it.

    ``port``: a /dev/serial/by-path (or by-id) name, or what the programmer has instead (``protocols.port_names``).
    ``klippy_mcu``: its section in printer.cfg, ``mcu`` for ``[mcu]``,
    ``toolhead`` for ``[mcu toolhead]``; ``None`` when Klipper doesn't know it. ``firmware`` and ``firmware_version``
    name an artifact. ``flash_offset``: where in the flash the application begins, in bytes, behind a bootloader.
    ``entry``: how the bootloader is entered, by default the programmer's usual way; ``wiring``: e.g.
    ``reset=rts:0,boot=dtr:0`` when DTR and RTS do it and trying all combinations is not wanted. ``uid``: the chip's
    unique id in hexadecimal.
    ``unprotect``: lift a chip's read protection, which erases it, before writing (some flashers leave chips protected).
    ``keep``: data partitions of an ESP chip that no image may overwrite, besides NVS; ``erase``: those that one may,
    NVS included. Neither has anything erased by itself (``plan.erasure`` does).
    ``options``: what the programmer alone knows (``Capabilities.options``). ``backup_command``: a program of the host
    and its arguments, which must succeed within ``backup_seconds`` before the board is written; it is no shell's line.
    ``contract``: the file that says what a gateway's boot log must hold (docs/acceptance.md), judged for its
    ``equipment``, e.g. ``{"sd": "yes"}``. ``power``: how it can be switched off and on (``power.read_power``).
    ``object_checks``: what Klipper's objects must say once it is written (``object_checks.read_checks``).
    ``address``: where a gateway is in the network, a name or an IP address; ``checks``: what it must do there
    (docs/gateway-checks.md).
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    chip: str
    firmware: str
    firmware_version: Any = None
    programmer: str = DEFAULT_PROGRAMMER
    port: str
    flash_offset: int = Field(default=0, ge=0)
    klippy_mcu: str | None = "mcu"
    entry: Literal["lines", "request", "button", "none"]
    wiring: str = Field(default="", pattern=r"^(reset=(dtr:[01],boot=rts|rts:[01],boot=dtr):[01])?$")
    gesture: str = ""
    hands_seconds: float = Field(default=120.0, gt=0)
    placement: Literal["host", "controller"] | None = None
    baud: int = Field(default=250000, gt=0)
    uid: str = Field(default="", pattern=r"^([0-9a-f]{2})*$")
    accept_no_way_back: bool = False
    unprotect: bool = False
    keep: list[str] = Field(default_factory=list)
    erase: list[str] = Field(default_factory=list)
    options: dict[str, str] = Field(default_factory=dict)
    backup_command: str = ""
    backup_seconds: float = Field(default=120.0, gt=0)
    contract: str = ""
    equipment: dict[str, str] = Field(default_factory=dict)
    power: Power | None = None
    object_checks: Sequence[ObjectCheck] = ()
    address: str = Field(default="", pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]*)$")
    checks: dict[str, Any] = Field(default_factory=dict)

    @property
    def backup_words(self) -> list[str]:
        """``backup_command`` as a program and its arguments; empty when there is none."""
        return shlex.split(self.backup_command)

    @model_validator(mode="before")
    @classmethod
    def _usual(cls, data: dict[str, Any]) -> dict[str, Any]:
        capabilities = PROGRAMMERS.get(str(data.get("programmer", DEFAULT_PROGRAMMER)))
        if capabilities is None:
            return {"entry": "lines", **data}
        usual: dict[str, Any] = {"entry": capabilities.entries[0], "baud": capabilities.baudrate}
        if not capabilities.klipper:
            usual["klippy_mcu"] = None
        return {**usual, **data}

    @field_validator("programmer")
    @classmethod
    def _known_programmer(cls, name: str) -> str:
        if name in REFUSED:
            raise ValueError(REFUSED[name])
        if name not in PROGRAMMERS:
            raise ValueError(f"expected {' or '.join(PROGRAMMERS)}")
        return name

    @field_validator("port")
    @classmethod
    def _reached(cls, port: str, info: ValidationInfo) -> str:
        capabilities = PROGRAMMERS.get(info.data.get("programmer", ""))
        return normalised(capabilities.connection, port) if capabilities else port

    @field_validator("placement")
    @classmethod
    def _lendable(cls, placement: str, info: ValidationInfo) -> str:
        capabilities = PROGRAMMERS.get(info.data.get("programmer", ""))
        if placement == "controller" and capabilities and capabilities.connection != "serial":
            raise ValueError(f"{info.data['programmer']} has no serial port to lend; it runs on the host")
        return placement

    @field_validator("erase", mode="before")
    @classmethod
    def _no_order(cls, erase: Any) -> Any:
        if isinstance(erase, str):
            raise ValueError(
                "expected a list of the partitions that an image may overwrite; to have one erased in one run: --data "
                f"erase_now={erase}"
            )
        return erase

    @field_validator("erase")
    @classmethod
    def _kept_or_erased(cls, erase: list[str], info: ValidationInfo) -> list[str]:
        both = sorted(set(erase) & set(info.data.get("keep", ())))
        if both:
            raise ValueError(f"{both[0]} is in keep, too; take it out of one of them")
        return erase

    @field_validator("options")
    @classmethod
    def _known_options(cls, options: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        capabilities = PROGRAMMERS.get(info.data.get("programmer", ""))
        unknown = sorted(set(options) - set(capabilities.options)) if capabilities else []
        if capabilities and unknown:
            known = " and ".join(capabilities.options) or "none"
            raise ValueError(f"{info.data['programmer']} knows no option {unknown[0]!r}; it has {known}")
        return options

    @field_validator("backup_command")
    @classmethod
    def _words(cls, command: str) -> str:
        try:
            shlex.split(command)
        except ValueError as error:
            raise ValueError(f"expected a program and its arguments, quoted as for a shell ({error})") from None
        return command

    @field_validator("contract")
    @classmethod
    def _heard(cls, contract: str, info: ValidationInfo) -> str:
        capabilities = PROGRAMMERS.get(info.data.get("programmer", ""))
        if contract and capabilities and not capabilities.parts:
            raise ValueError(f"a board of {info.data['programmer']} says nothing when it boots; leave it out")
        return contract

    @field_validator("equipment")
    @classmethod
    def _judged(cls, equipment: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        if equipment and not info.data.get("contract"):
            raise ValueError("there is no contract that it could be judged by; leave it out, or set contract")
        return equipment

    @field_validator("power", mode="before")
    @classmethod
    def _switched(cls, power: Any) -> Power | None:
        return read_power(power)

    @field_validator("object_checks", mode="before")
    @classmethod
    def _looked_at(cls, checks: Any) -> tuple[ObjectCheck, ...]:
        return read_checks(checks)

    @field_validator("entry")
    @classmethod
    def _possible_entry(cls, entry: str, info: ValidationInfo) -> str:
        capabilities = PROGRAMMERS.get(info.data.get("programmer", ""))
        if capabilities and entry not in capabilities.entries:
            raise ValueError(f"{info.data['programmer']} is entered by {' or '.join(capabilities.entries)}")
        return entry

    @field_validator("wiring")
    @classmethod
    def _wired(cls, wiring: str, info: ValidationInfo) -> str:
        capabilities = PROGRAMMERS.get(info.data.get("programmer", ""))
        if wiring and capabilities and not capabilities.wired:
            raise ValueError(f"{info.data['programmer']} knows no wiring of BOOT0; leave it out")
        return wiring

    @field_validator("uid", mode="before")
    @classmethod
    def _lower(cls, uid: Any) -> Any:
        return re.sub("[:-]", "", uid).lower() if isinstance(uid, str) else uid

    @field_validator("uid")
    @classmethod
    def _can_be_compared(cls, uid: str, info: ValidationInfo) -> str:
        capabilities = PROGRAMMERS.get(info.data.get("programmer", ""))
        if uid and capabilities and not capabilities.tells_uid:
            raise ValueError(
                f"{info.data['programmer']} learns no unique id that it could be compared with; leave it out"
            )
        return uid


@dataclass(frozen=True)
class KlipperCode:
    """Which code klippy shall be: ``version`` (a tag or commit) of ``repository``, checked out at ``path``.

    ``path``: empty means ``~/klipper`` of the service's user.
    """

    version: str
    repository: str
    path: str = ""


@dataclass(frozen=True)
class KlipperHost:
    """A Klipper host's desired state, or a gateway's, which has no Klipper: an empty ``service``.

    ``errors`` holds boards whose data is malformed: name → what is wrong. ``code``: what moves with the boards, if any.
    ``retention``: of the boards' backups, with the pins of all of them. ``object_checks``: what Klipper's objects must
    say within ``object_checks_seconds`` whenever one of its boards is written, beside those of the boards themselves.
    """

    name: str
    boards: tuple[Board, ...]
    service: str = "klipper.service"
    socket: str = ""
    policy: Literal["exact", "compatible"] = "compatible"
    attended: bool = False
    code: "KlipperCode | None" = None
    errors: tuple[tuple[str, str], ...] = ()
    retention: Retention = Retention()
    object_checks: tuple[ObjectCheck, ...] = ()
    object_checks_seconds: float = CHECKS_SECONDS


#: The groups of an inventory whose hosts have boards.
GROUPS = ("klipper_hosts", "gateways")
#: What group data may set for every board of a host.
INHERITED = (
    *("chip", "firmware", "firmware_version", "programmer", "baud", "hands_seconds", "placement"),
    *("backup_command", "backup_seconds", "contract", "power", "checks", "keep", "erase"),
)


def read_host(name: str, data: Mapping[str, Any]) -> KlipperHost:
    """Build a host's desired state from its pyinfra data.

    A malformed board does not hide its neighbours: it is carried as an error. Raises ``BoardDataError`` only when the
    host's own data is beyond use.
    """
    boards, errors = [], []
    attended, port = _flag("attended", data.get("attended", False)), moonraker_port(data)
    described = data.get("boards")
    if not isinstance(described, Mapping):
        raise BoardDataError(f"boards: expected a dictionary of boards, found {described!r}")
    inherited = {key: data[key] for key in INHERITED if key in data}
    service = data.get("klipper_service", "klipper.service") or ""
    if not service:
        inherited["klippy_mcu"] = None
    for board_name, fields in described.items():
        try:
            board = _read_board(board_name, fields, inherited)
            if board.klippy_mcu is not None and not service:
                raise BoardDataError("klippy_mcu: this host has no Klipper (klipper_service = None); leave it out")
            if board.object_checks and not service:
                raise BoardDataError("object_checks: this host has no Klipper (klipper_service = None); leave them out")
            boards.append(board.model_copy(update={"power": usable(board.power, attended, port)}))
        except (BoardDataError, ValueError) as error:
            errors.append((str(board_name), str(error)))
    boards = _refuse_twins(boards, errors)
    policy = data.get("policy", "compatible")
    if policy not in ("exact", "compatible"):
        raise BoardDataError(f"policy: expected 'exact' or 'compatible', found {policy!r}")
    try:
        checks, checks_seconds = read_checks_of_host(data, bool(service)), read_checks_seconds(data)
    except ValueError as error:
        raise BoardDataError(str(error)) from None
    return KlipperHost(
        name=name,
        boards=tuple(boards),
        service=str(service),
        socket=str(data.get("klippy_socket", "")),
        policy=policy,
        attended=attended,
        code=_read_code(data) if policy == "exact" and service else None,
        errors=tuple(errors),
        retention=_read_retention(data),
        object_checks=checks,
        object_checks_seconds=checks_seconds,
    )


def _read_retention(data: Mapping[str, Any]) -> Retention:
    keep, days = data.get("backup_keep", Retention().keep), data.get("backup_days", Retention().days)
    if not isinstance(keep, int) or isinstance(keep, bool) or keep < 1:
        raise BoardDataError(f"backup_keep: expected a number of backups, 1 at least, found {keep!r}")
    if not isinstance(days, (int, float)) or isinstance(days, bool) or not 0 < days < float("inf"):
        raise BoardDataError(f"backup_days: expected a number of days, more than 0, found {days!r}")
    return Retention(keep, float(days), sorted(named_by(data)))


def _read_code(data: Mapping[str, Any]) -> KlipperCode | None:
    provisioned = data.get("klipper")
    described: Mapping[str, Any] = provisioned if isinstance(provisioned, Mapping) else {}
    version = data.get("klipper_version")
    if version is None or version == "":
        version = described.get("ref")
    if version is None:
        return None
    if described.get("ref", version) != version:
        raise BoardDataError(
            f"klipper_version is {version!r}, but klipper['ref'] is {described['ref']!r}; take one of them away"
        )
    if not isinstance(version, str):
        raise BoardDataError(
            f"klipper_version: expected text, found {version!r:.40}; quote it exactly as it was written: in Python "
            'klipper_version = "v0.12.0", on the command line --data klipper_version=\'"v0.12.0"\''
        )
    if version.startswith("-") or any(character.isspace() for character in version):
        raise BoardDataError(f"klipper_version: expected a tag or a commit, found {version!r}")
    repository = data.get("klipper_repository") or described.get("repository", KLIPPER_REPOSITORY)
    path = data.get("klipper_path", "") or ""
    if not isinstance(repository, str) or not repository:
        raise BoardDataError(f"klipper_repository: expected a URL or a path, found {repository!r}")
    if not isinstance(path, str) or not (path == "" or path.startswith(("/", "~/"))):
        raise BoardDataError(f"klipper_path: expected an absolute path or one below ~/, found {path!r}")
    return KlipperCode(version, repository, path)


def _refuse_twins(boards: list[Board], errors: list[tuple[str, str]]) -> list[Board]:
    """Two boards can't be one MCU of klippy's: the version of one would be taken for the other's."""
    first: dict[str, str] = {}
    kept = []
    for board in boards:
        if board.klippy_mcu is not None and board.klippy_mcu in first:
            other = first[board.klippy_mcu]
            errors.append(
                (board.name, f"klippy_mcu {board.klippy_mcu!r} is already that of {other}; see docs/inventory.md")
            )
            continue
        if board.klippy_mcu is not None:
            first[board.klippy_mcu] = board.name
        kept.append(board)
    return kept


def _read_board(name: object, fields: object, inherited: Mapping[str, Any]) -> Board:
    if not isinstance(fields, Mapping):
        raise BoardDataError(f"expected a dictionary of board data, found {fields!r}; see docs/inventory.md")
    try:
        return Board(**{**inherited, **fields, "name": name})
    except ValidationError as error:
        problems = "; ".join(_problem(dict(problem)) for problem in error.errors(include_url=False)[:3])
        raise BoardDataError(f"{problems}; see docs/inventory.md") from None
    except TypeError as error:
        raise BoardDataError(f"{error}; see docs/inventory.md") from None


def _problem(problem: dict[str, Any]) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{where} is no field of a board"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}, found {problem['input']!r:.80}"


def _flag(key: str, value: object) -> bool:
    """``--data attended=true`` arrives as text."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in ("true", "yes", "false", "no"):
        return value.lower() in ("true", "yes")
    raise BoardDataError(f"{key}: expected true or false, found {value!r}")


def read_duration(value: object) -> float:
    """Return a duration such as ``90``, ``"90s"``, ``"30m"`` or ``"2h"`` in seconds; raises ``BoardDataError``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    if isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", value.strip())):
        return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]
    raise BoardDataError(f"expected a duration such as 90s, 30m or 2h, found {value!r}")
