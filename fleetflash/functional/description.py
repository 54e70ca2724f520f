"""What the inventory says about a gateway's checks: ``checks`` of a board."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fleetflash.boards import Board
from fleetflash.functional.errors import CheckDataError
from fleetflash.functional.expectation import Expected, Number
from fleetflash.incident.secrets import NAMED
from fleetflash.secret_source import SecretSource

#: The messages of a BMS, and what belongs to their signals, in Victron's protocol; see ``victron.dbc``.
VICTRON = Path(__file__).with_name("victron.dbc")
VICTRON_MESSAGES = ("0x351", "0x355", "0x356")
#: What many BMSs leave out, with the bytes that would hold it.
VICTRON_OPTIONAL = ("DischargeVoltageLimit", "StateOfChargeHighResolution")

Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,40}$")]
#: What text of the checks may hold, in braces; ``version`` is the pin, and the others are the board's.
PLACEHOLDERS = ("address", "board", "host", "version")
_BRACES = re.compile(r"\{([a-z_]+)\}")
_STRICT = ConfigDict(strict=True, frozen=True, extra="forbid")


class HttpCheck(BaseModel):
    """A page that must be there. ``contains``: text in it. ``fields``: of the JSON that it is.

    It is asked for until it is as expected, for ``within`` seconds: a gateway that has just started joins its network
    first. ``auth``: where the password of ``user`` comes from (Basic, RFC 7617), or without a user a token (Bearer, RFC
    6750). ``ca``: a PEM file with the certificates that sign an ``https`` gateway's.
    """

    model_config = _STRICT

    url: Annotated[str, Field(pattern=r"^https?://[^\s@/]+(/[^\s]*)?$")]
    status: Annotated[int, Field(ge=100, le=599)] = 200
    contains: str = ""
    fields: dict[str, Expected] = {}
    within: Seconds = 15.0
    user: str = ""
    auth: SecretSource | None = None
    ca: str = ""

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if self.user and self.auth is None:
            raise ValueError("user without auth, the source of the password")
        return self


class TopicCheck(BaseModel):
    """A message that must come within so many seconds. ``topic``: may hold MQTT's ``+`` and ``#``.

    ``retained``: whether it is what the broker keeps (a status), or must be said while we listen (telemetry), since
    what the broker keeps tells nothing of now. ``payload``: of the whole text; ``fields``: of the JSON that it is.
    """

    model_config = _STRICT

    topic: Annotated[str, Field(min_length=1)]
    retained: bool = False
    within: Seconds = 30.0
    payload: Expected | None = None
    fields: dict[str, Expected] = {}


class MqttCheck(BaseModel):
    """A broker, and what the gateway must say there.

    ``auth``: where the password of ``user`` comes from. ``ca``: a PEM file; with it, TLS is spoken. ``port``: by
    default 1883, or 8883 with TLS.
    """

    model_config = _STRICT

    broker: Annotated[str, Field(pattern=r"^[^\s/@]+$")]
    port: Annotated[int, Field(gt=0, lt=65536)] | None = None
    user: str = ""
    auth: SecretSource | None = None
    ca: str = ""
    topics: Annotated[dict[Name, TopicCheck], Field(min_length=1)]

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        if self.auth is not None and not self.user:
            raise ValueError("auth without user; MQTT 3.1.1 knows no such login (section 3.1.2.9)")
        return self


class CanMessage(BaseModel):
    """``period``: seconds; without, the DBC's GenMsgCycleTime, or none. ``signals``: narrower ranges than the DBC's."""

    model_config = _STRICT

    period: Seconds | None = None
    signals: dict[str, tuple[Number, Number]] = {}

    @field_validator("signals", mode="before")
    @classmethod
    def _as_tuples(cls, signals: Any) -> Any:
        if not isinstance(signals, Mapping):
            return signals
        return {name: tuple(pair) if isinstance(pair, list) else pair for name, pair in signals.items()}

    @field_validator("signals")
    @classmethod
    def _in_order(cls, signals: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for name, (low, high) in signals.items():
            if low > high:
                raise ValueError(f"{name}: {low:g} is above {high:g}")
        return signals


class CanCheck(BaseModel):
    """Frames that must be on the bus, in a candump log or in a capture that is taken now.

    ``log``: a file here. ``interface``: of ``host``, an SSH name, by default the gateway's own host, listened to for
    ``seconds``. In a log, ``interface`` says which of several is meant. ``messages``: by name in the DBC, or by
    identifier, such as ``0x351``. ``tolerance``: of the mean period, as a part of it; ``longest``: how many periods a
    message may be absent.
    """

    model_config = _STRICT

    log: str = ""
    interface: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,14})?$")] = ""
    host: Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$")] = ""
    seconds: Seconds = 12.0
    dbc: str = ""
    messages: dict[str, CanMessage] = {name: CanMessage() for name in VICTRON_MESSAGES}
    optional: tuple[str, ...] = VICTRON_OPTIONAL
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.2
    longest: Annotated[float, Field(gt=1, le=100)] = 2.5

    @field_validator("optional", mode="before")
    @classmethod
    def _as_tuple(cls, names: Any) -> Any:
        return tuple(names) if isinstance(names, list) else names

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if not self.log and not self.interface:
            raise ValueError("expected log, or interface for a capture")
        if self.log and self.host:
            raise ValueError("log is a file here; leave host out, or log")
        if not self.messages:
            raise ValueError("messages is empty; leave it out for Victron's, or name some")
        return self


class Checks(BaseModel):
    """All checks of a gateway, each optional; name → check for those of which there may be several."""

    model_config = _STRICT

    http: dict[Name, HttpCheck] = {}
    mqtt: MqttCheck | None = None
    can: CanCheck | None = None


def read_checks(host: str, board: Board) -> Checks:
    """Return a board's checks with its own values for ``{address}`` and so on; raises ``CheckDataError``."""
    values = {"address": board.address, "board": board.name, "host": host}
    if isinstance(board.firmware_version, str) and not board.firmware_version.startswith("sha256:"):
        values["version"] = board.firmware_version
    try:
        return Checks.model_validate(_filled(board.checks, values))
    except ValidationError as error:
        raise CheckDataError(f"{_first_problem(error)}; see docs/gateway-checks.md") from None


def _filled(data: Any, values: Mapping[str, str]) -> Any:
    if isinstance(data, Mapping):
        return {key: _filled(item, values) for key, item in data.items()}
    if isinstance(data, list | tuple):
        return [_filled(item, values) for item in data]
    if not isinstance(data, str):
        return data

    def value(found: re.Match[str]) -> str:
        name = found[1]
        if name not in PLACEHOLDERS:
            return found[0]
        if not values.get(name):
            missing = "firmware_version, as text that is no hash" if name == "version" else name
            raise CheckDataError(f"checks: {data[:60]!r} needs the board's {missing}; see docs/gateway-checks.md")
        return values[name]

    return _BRACES.sub(value, data)


def _first_problem(error: ValidationError) -> str:
    """Return what is wrong with one field, in one line; text is never shown, since it may be a password."""
    problem = error.errors(include_url=False)[0]
    where = ".".join(("checks", *(str(part) for part in problem["loc"])))
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        hint = "; a secret's source is auth" if NAMED.search(where) else ""
        return f"{where} is no field of a check{hint}"
    found = problem["input"]
    shown = f"{found!r:.80}" if isinstance(found, int | float) else type(found).__name__
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}, found {shown}"
