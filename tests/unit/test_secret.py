"""Secrets are used and never shown: not by what holds them, not by what reads them, not by errors."""

import json
import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from fleetflash.secret import Secret, SecretError, redact
from fleetflash.secret_source import SecretSource

VALUE = 'c4nary "quoted" \\ wifi'


@pytest.fixture
def secret() -> Secret:
    return Secret("WIFI", VALUE)


def test_whatever_shows_a_secret_shows_its_name(secret: Secret, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("%s %r %s", secret, secret, {"password": secret})
    shown = [
        str(secret),
        repr(secret),
        f"{secret}",
        f"{secret!r:>40}",
        repr([secret]),
        caplog.text,
        str(vars_of(secret)),
    ]
    assert all("c4nary" not in text for text in shown) and str(secret) == "<secret WIFI>"
    with pytest.raises(TypeError, match="<secret WIFI> can't be pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


def vars_of(secret: Secret) -> object:
    return getattr(secret, "__dict__", "")


def test_every_form_of_a_secret_is_taken_out_of_a_text(secret: Secret) -> None:
    forms = [
        VALUE,
        json.dumps(VALUE),
        repr(VALUE),
        '"c4nary \\"quoted\\" \\\\ wifi"',
        "c4nary%20%22quoted%22%20%5C%20wifi",
    ]
    for form in forms:
        clean = redact(f"before {form} after", [secret])
        assert "c4nary" not in clean and clean.startswith("before ") and clean.endswith(" after")
    assert redact("nothing here", [secret]) == "nothing here"
    assert redact(VALUE, []) == VALUE


def test_a_secret_inside_of_another_does_not_leave_a_rest() -> None:
    short, long = Secret("SHORT", "c4nary-one"), Secret("LONG", "c4nary-one-and-two")
    assert redact("x c4nary-one-and-two y c4nary-one z", [short, long]) == "x <secret LONG> y <secret SHORT> z"


def test_each_line_of_a_key_is_taken_out() -> None:
    key = Secret("KEY", "-----BEGIN KEY-----\nc4naryAAAA\nc4naryBBBB\n-----END KEY-----\n")
    assert redact("error: bad line c4naryBBBB", [key]) == "error: bad line <secret KEY>"


def test_a_secret_that_could_not_be_told_from_a_word_is_refused() -> None:
    with pytest.raises(SecretError, match="secret WIFI: 7 characters, expected at least 8") as error:
        Secret("WIFI", "c4nary!")
    assert "c4nary" not in str(error.value)


def private(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


def test_a_secret_is_read_from_each_kind_of_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_WIFI", VALUE)
    monkeypatch.setenv("HOME", str(tmp_path))
    private(tmp_path / "wifi", VALUE + "\n")
    sources = [{"env": "GATEWAY_WIFI"}, {"file": "~/wifi"}, {"command": [sys.executable, "-c", f"print({VALUE!r})"]}]
    for source in sources:
        assert SecretSource.model_validate(source).read("WIFI").reveal() == VALUE
        # The source may be shown, and tells where, but not what.
        assert "c4nary" not in str(SecretSource.model_validate(source))
    private(tmp_path / "key", "-----BEGIN-----\nc4nary\n")
    assert SecretSource(file="~/key").read_text("KEY").reveal() == "-----BEGIN-----\nc4nary\n"


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (VALUE, 0o644, "has mode 0644, expected 0600 at most"),
        (VALUE, 0o660, "has mode 0660"),
        (VALUE, 0o700, "has mode 0700"),
        ("", 0o600, "is empty"),
        ("c4nary-one\nc4nary-two\n", 0o600, "holds more than one line of text"),
        (b"c4nary-\xff\xfe", 0o600, "holds no UTF-8 text"),
        ("c4nary", 0o600, "6 characters, expected at least 8"),
    ],
)
def test_a_file_that_is_no_secret_is_refused(tmp_path: Path, content: str | bytes, mode: int, reason: str) -> None:
    path = private(tmp_path / "wifi", content, mode)
    with pytest.raises(SecretError, match=f"^secret WIFI: .*{reason}") as error:
        SecretSource(file=str(path)).read("WIFI")
    assert "c4nary" not in str(error.value) and "\n" not in str(error.value)


def test_a_file_in_a_repository_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "wifi", VALUE)
    for arguments in (["init", "--quiet"], ["add", "wifi"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    with pytest.raises(SecretError, match="is in a git repository, where it stays for ever"):
        SecretSource(file=str(path)).read("WIFI")
    subprocess.run(["git", "-C", str(tmp_path), "rm", "--quiet", "--cached", "wifi"], check=True)
    assert SecretSource(file=str(path)).read("WIFI").reveal() == VALUE


def test_sources_that_are_not_there_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    cases = [
        (SecretSource(env="NOT_SET"), "environment variable NOT_SET is not set"),
        (SecretSource(file=str(tmp_path / "none")), "none: No such file"),
        (SecretSource(file=str(tmp_path)), "Is a directory"),
        (SecretSource(command=("no-such-pass", "show", "c4nary")), "command no-such-pass: No such file"),
        (
            SecretSource(command=("sh", "-c", "echo c4nary-out; echo c4nary-err >&2; exit 3")),
            "command sh failed with exit code 3",
        ),
    ]
    for source, reason in cases:
        with pytest.raises(SecretError, match=reason) as error:
            source.read("WIFI")
        assert "c4nary" not in str(error.value)
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_somebody_else_is_refused(tmp_path: Path) -> None:
    path = private(tmp_path / "wifi", VALUE)
    os.chown(path, 1234, 1234)
    with pytest.raises(SecretError, match="belongs to user 1234, expected 0"):
        SecretSource(file=str(path)).read("WIFI")


@pytest.mark.parametrize("source", [{}, {"env": "A", "file": "/x"}, {"env": "A B"}, {"value": VALUE}])
def test_a_source_is_one_of_three(source: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        SecretSource.model_validate(source)
