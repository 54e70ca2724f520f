"""Hashed requirements: what they pin is what is sent, and what they leave open is refused."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from fleetflash.cli import main
from fleetflash.provision import requirements
from fleetflash.provision.errors import RequirementsError


def wheel(directory: Path, name: str) -> str:
    directory.mkdir(exist_ok=True)
    (directory / name).write_bytes(name.encode())
    return hashlib.sha256(name.encode()).hexdigest()


def listed(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text(text)
    return path


def test_exactly_the_pinned_wheels_are_packed(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    arm, amd = wheel(wheels, "a_b-1-cp311-arm.whl"), wheel(wheels, "a_b-1-cp311-amd.whl")
    wheel(wheels, "a_b-2-py3.whl")
    path = listed(tmp_path, f"# why\na-b==1 \\\n    --hash=sha256:{arm} \\\n    --hash=sha256:{amd}  # both\n\n")
    text = requirements.read(path)
    assert text == f"a-b==1 --hash=sha256:{arm} --hash=sha256:{amd}\n"
    with tarfile.open(fileobj=io.BytesIO(requirements.pack(text, path, wheels))) as archive:
        assert archive.getnames() == ["a_b-1-cp311-arm.whl", "a_b-1-cp311-amd.whl"]


@pytest.mark.parametrize(
    "line",
    ["a==1", f"a>=1 --hash=sha256:{'0' * 64}", "-r other.txt", "a @ https://x/a.whl", f"a==1.* --hash=sha256:{0}"],
)
def test_what_is_not_pinned_by_hash_is_refused_with_the_line(tmp_path: Path, line: str) -> None:
    with pytest.raises(RequirementsError, match="expected name==version --hash=sha256"):
        requirements.read(listed(tmp_path, f"{line}\n"))


def test_missing_files_are_named_with_what_gets_them(tmp_path: Path) -> None:
    with pytest.raises(RequirementsError, match="name a file of hashed requirements"):
        requirements.read(tmp_path / "none.txt")
    path = listed(tmp_path, f"a==1 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(RequirementsError, match="no such directory"):
        requirements.pack(requirements.read(path), path, tmp_path / "none")
    (tmp_path / "wheels").mkdir()
    with pytest.raises(RequirementsError, match="has no wheel of a==1 with a hash of"):
        requirements.pack(requirements.read(path), path, tmp_path / "wheels")


def test_the_command_pins_a_directory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheels = tmp_path / "wheels"
    digest = wheel(wheels, "Some_Thing-1.2-py3-none-any.whl")
    assert main(["wheels", str(wheels)]) == 0
    printed = capsys.readouterr().out
    assert printed == f"some-thing==1.2 --hash=sha256:{digest}\n"
    assert requirements.read(listed(tmp_path, printed)) == printed
    (tmp_path / "empty").mkdir()
    assert main(["wheels", str(tmp_path / "empty")]) == 1
    assert "has no wheels" in capsys.readouterr().err
