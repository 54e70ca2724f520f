"""A virtualenv is what its hashed requirements say, or it is built beside the old one and swapped."""

import hashlib
import subprocess
import zipfile
from pathlib import Path

import pytest

from fleetflash.agent.virtualenv import EnvironmentBuildError, build, flaw

WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def make_wheel(directory: Path, version: str = "1") -> str:
    """Make a wheel of the package ``thing``; return the requirement that pins it."""
    directory.mkdir(exist_ok=True)
    path = directory / f"thing-{version}-py3-none-any.whl"
    info = f"thing-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", WHEEL)
        archive.writestr(f"{info}/RECORD", f"thing.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return f"thing=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def version_in(path: Path) -> str:
    asked = [str(path / "bin/python"), "-c", "import thing; print(thing.VERSION)"]
    return subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()


def test_it_is_built_found_complete_and_rebuilt_when_a_file_is_gone_while_a_failure_leaves_it(tmp_path: Path) -> None:
    path, wheels = tmp_path / "klippy-env", tmp_path / "wheels"
    wanted = make_wheel(wheels)
    assert flaw(path, wanted) == "is not there"
    path.mkdir()
    (path / "pyvenv.cfg").touch()
    assert flaw(path, wanted) == "was not made by fleetflash"
    assert "klippy-env-before-fleetflash-" in build(path, wanted, wheels)
    assert flaw(path, wanted) == "" and version_in(path) == "1"

    good = path.resolve()
    wrong = wanted[:-2] + ("0" if wanted[-2] != "0" else "1") + "\n"
    with pytest.raises(EnvironmentBuildError, match="THESE PACKAGES DO NOT MATCH THE HASHES"):
        build(path, wrong, wheels)
    assert path.resolve() == good and flaw(path, wanted) == ""

    (path / "lib").glob("python3*/site-packages/thing.py").__next__().unlink()
    assert flaw(path, wanted) == "lacks thing.py"
    build(path, wanted, wheels)
    assert flaw(path, wanted) == "" and path.resolve() != good
    # The one in use meanwhile, and no half ones.
    assert sorted((tmp_path / ".klippy-env-versions").iterdir()) == sorted([good, path.resolve()])
    assert flaw(path, make_wheel(wheels, "2")).startswith("has other requirements")


def test_a_python_that_is_gone_is_a_flaw(tmp_path: Path) -> None:
    path, wheels = tmp_path / "env", tmp_path / "wheels"
    wanted = make_wheel(wheels)
    build(path, wanted, wheels)
    for python in (path / "bin").glob("python*"):
        python.unlink()
    assert flaw(path, wanted) == "has no working python"
