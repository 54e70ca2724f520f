"""What a user writes down about a Klipper host itself: its packages, its user, and what Klipper runs from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fleetflash.secret import PASSWORD_IN_URL

#: What Klipper needs on Debian 12: git for its source and version, a compiler for its helper, and virtualenvs.
PACKAGES = ("git", "gcc", "libc6-dev", "python3-venv", "sudo")

_SERVICE = re.compile(r"klipper(?:-([A-Za-z0-9]+))?\.service")


class HostStateError(Exception):
    """The data of a host can't be. One line that names the field."""


class Environment(BaseModel):
    """A virtualenv: a file of hashed ``requirements``, and the directory on the controller with their ``wheels``.

    Without ``wheels`` the host's pip asks its own index.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    requirements: str = Field(min_length=1)
    wheels: str = ""


class Installation(Environment):
    """Where a host's Klipper comes from, and who runs it.

    ``ref``: a commit or a tag. ``fetch``: ``push`` sends it from the controller's mirror over the SSH connection,
    ``host`` has the host ask the repository itself. ``home``: the user's home directory, ``/home/<user>`` by default.
    ``moonraker``: its virtualenv, which has Moonraker as a package; ``None`` leaves Moonraker alone. ``sudoers``:
    whether the login gets the rule that flashing needs.
    """

    user: str = Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")
    home: str = Field(default="", pattern=r"^(/[A-Za-z0-9._-]+)*$")
    groups: tuple[str, ...] = ("dialout", "tty")
    packages: tuple[str, ...] = PACKAGES
    repository: str = "https://github.com/Klipper3d/klipper.git"
    ref: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/+-]*$")
    fetch: Literal["push", "host"] = "push"
    moonraker: Environment | None = None
    sudoers: bool = True

    @model_validator(mode="before")
    @classmethod
    def _lists(cls, data: dict[str, Any]) -> dict[str, Any]:
        lists = {key: tuple(data[key]) for key in ("groups", "packages") if isinstance(data.get(key), list)}
        return {**data, **lists}

    @model_validator(mode="after")
    def _usual_home(self) -> "Installation":
        if not self.home:
            object.__setattr__(self, "home", "/root" if self.user == "root" else f"/home/{self.user}")
        return self

    @field_validator("repository")
    @classmethod
    def _no_password(cls, repository: str) -> str:
        if PASSWORD_IN_URL.search(repository):
            raise ValueError("the URL has a password in it; leave it to git's credential helper or an SSH key")
        return repository

    @field_validator("packages")
    @classmethod
    def _package_names(cls, packages: tuple[str, ...]) -> tuple[str, ...]:
        for package in packages:
            if not re.fullmatch(r"[a-z0-9][a-z0-9+.:-]+", package):
                raise ValueError(f"{package!r} is no name of a Debian package")
        return packages


@dataclass(frozen=True)
class Instance:
    """One Klipper of a host, laid out as KIAUH does it.

    ``service``: ``klipper.service``, or ``klipper-1.service`` for one of several. ``data``: its ``~/printer_data``, or
    ``~/printer_1_data``.
    """

    service: str
    moonraker_service: str
    number: str
    data: str

    @property
    def moonraker_port(self) -> int:
        """Moonraker's own port, and those after it for klipper-1, klipper-2, …"""
        return 7125 + int(self.number) if self.number.isdecimal() else 7125

    @property
    def config(self) -> str:
        return f"{self.data}/config"

    @property
    def socket(self) -> str:
        return f"{self.data}/comms/klippy.sock"


def read_installation(data: Mapping[str, Any]) -> Installation | None:
    """Return what ``klipper`` in a host's data says, ``None`` when nothing does; raises ``HostStateError``."""
    described = data.get("klipper")
    if described is None:
        return None
    if not isinstance(described, Mapping):
        raise HostStateError(f"klipper: expected a dictionary, found {described!r:.80}; see docs/site.md")
    try:
        login = data.get("ssh_user")
        # Whom SSH's own configuration chooses is not known here, and Klipper has no need to be root.
        usual = {"user": login} if login and login != "root" else {}
        return Installation(**{**usual, **described})
    except (ValidationError, TypeError) as error:
        raise HostStateError(f"klipper.{_first_problem(error)}; see docs/site.md") from None


def read_flash_tools(data: Mapping[str, Any]) -> Environment | None:
    """Return what ``flash_tools`` in a host's data says, ``None`` when nothing does; raises ``HostStateError``."""
    described = data.get("flash_tools")
    if described is None:
        return None
    if not isinstance(described, Mapping):
        raise HostStateError(f"flash_tools: expected a dictionary, found {described!r:.80}; see docs/site.md")
    try:
        return Environment(**described)
    except (ValidationError, TypeError) as error:
        raise HostStateError(f"flash_tools.{_first_problem(error)}; see docs/site.md") from None


def read_instance(data: Mapping[str, Any], installation: Installation) -> Instance:
    """Return the Klipper that this entry of the inventory is about; raises ``HostStateError``."""
    service = str(data.get("klipper_service") or "")
    found = _SERVICE.fullmatch(service)
    if not found:
        raise HostStateError(
            f"klipper_service: expected klipper.service or e.g. klipper-1.service, found {service!r}; see docs/site.md"
        )
    suffix = f"-{found[1]}" if found[1] else ""
    number = found[1] or ""
    folder = f"{installation.home}/printer_{number}_data" if number else f"{installation.home}/printer_data"
    instance = Instance(service, f"moonraker{suffix}.service", number, folder)
    socket = str(data.get("klippy_socket") or "")
    if socket not in ((instance.socket, "") if not number else (instance.socket,)):
        raise HostStateError(f"klippy_socket: {service} will have {instance.socket}, found {socket!r}; write that")
    return instance


def permission(data: Mapping[str, Any], key: str) -> bool:
    """Return a yes or no of a host's data, false by default; ``--data key=true`` arrives as text."""
    value = data.get(key, False)
    if isinstance(value, str) and value.lower() in ("true", "yes", "false", "no"):
        return value.lower() in ("true", "yes")
    if not isinstance(value, bool):
        raise HostStateError(f"{key}: expected true or false, found {value!r}")
    return value


def _first_problem(error: ValidationError | TypeError) -> str:
    if isinstance(error, TypeError):
        return str(error)
    problem = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{where} is no field of it"
    found = PASSWORD_IN_URL.sub("://[redacted]@", repr(problem["input"]))
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}, found {found:.80}"
