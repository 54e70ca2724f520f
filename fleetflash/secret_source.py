"""Where a secret comes from: an environment variable, a file of one's own, or a command such as ``pass``."""

import os
import stat
import subprocess
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from fleetflash.secret import Secret, SecretError

#: After which a command that prints a secret is given up, in seconds: it may ask a person for a passphrase.
TIMEOUT = 120.0


class SecretSource(BaseModel):
    """One of ``env`` (a variable's name), ``file`` (a path, ``~`` is the user's home) and ``command`` (its words).

    It names a secret and holds none, so it may lie in a repository and be shown.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")

    env: Annotated[str, Field(pattern=r"^([A-Za-z_][A-Za-z0-9_]*)?$")] = ""
    file: str = ""
    command: tuple[str, ...] = ()

    @field_validator("command", mode="before")
    @classmethod
    def _as_tuple(cls, command: Any) -> Any:
        return tuple(command) if isinstance(command, list) else command

    @model_validator(mode="after")
    def _one_kind(self) -> "SecretSource":
        if sum(map(bool, (self.env, self.file, self.command))) != 1:
            raise ValueError("expected one of env, file and command")
        return self

    def read(self, name: str) -> Secret:
        """Return the secret, one line of text; raises ``SecretError`` that names ``name`` and the source."""
        text = self._content(name).removesuffix("\n")
        if not text:
            raise SecretError(f"secret {name}: {self} is empty; put the secret there")
        if not text.isprintable():
            raise SecretError(f"secret {name}: {self} holds more than one line of text; give that one line")
        return Secret(name, text)

    def read_text(self, name: str) -> Secret:
        """Return the secret whatever lines it has, such as a key in PEM; raises ``SecretError``."""
        return Secret(name, self._content(name))

    def __str__(self) -> str:
        if self.env:
            return f"environment variable {self.env}"
        # Of a command only the program: its arguments are the user's own business.
        return self.file or f"command {self.command[0]}"

    def _content(self, name: str) -> str:
        try:
            if self.env:
                return self._from_environment()
            return self._from_file() if self.file else self._from_command()
        except SecretError as error:
            raise SecretError(f"secret {name}: {error}") from None
        except UnicodeDecodeError:
            # The error itself holds what could not be decoded.
            raise SecretError(f"secret {name}: {self} holds no UTF-8 text; give text") from None

    def _from_environment(self) -> str:
        if self.env not in os.environ:
            raise SecretError(f"environment variable {self.env} is not set; export it, or name another source")
        return os.environ[self.env]

    def _from_file(self) -> str:
        path = Path(self.file).expanduser()
        try:
            with open(path, "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise SecretError(f"{path} is no regular file; give one with mode 0600")
                if found.st_uid not in (os.geteuid(), 0):
                    raise SecretError(f"{path} belongs to user {found.st_uid}, expected {os.geteuid()}; own it")
                if mode := stat.S_IMODE(found.st_mode) & 0o177:
                    raise SecretError(
                        f"{path} has mode {stat.S_IMODE(found.st_mode):04o}, expected 0600 at most "
                        f"(not {mode:04o}): chmod 600 {path}"
                    )
                content = file.read()
        except OSError as error:
            raise SecretError(f"{path}: {error.strerror or error}; put the secret there, with mode 0600") from None
        if _is_in_repository(path):
            raise SecretError(f"{path} is in a git repository, where it stays for ever; move it and change the secret")
        return content.decode()

    def _from_command(self) -> str:
        program = self.command[0]
        try:
            # Whatever it says beside the secret is not shown either: it may be the secret again.
            answer = subprocess.run(list(self.command), stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT)
        except OSError as error:
            raise SecretError(
                f"command {program}: {error.strerror or error}; install it, or name another source"
            ) from None
        except subprocess.TimeoutExpired:
            raise SecretError(f"command {program} printed nothing in {TIMEOUT:.0f} s; try it by hand") from None
        if answer.returncode:
            raise SecretError(f"command {program} failed with exit code {answer.returncode}; try it by hand")
        return answer.stdout.decode()


def _is_in_repository(path: Path) -> bool:
    """Say whether git tracks a file (git-ls-files(1)); it does not when there is no git."""
    command = ["git", "-C", str(path.absolute().parent), "ls-files", "--error-unmatch", "--", path.name]
    try:
        answer = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    except OSError:
        return False
    return answer.returncode == 0
