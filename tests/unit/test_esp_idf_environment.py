"""ESP-IDF is checked as the operations guide does it; whatever is missing is named, with what to do."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleetflash.build.errors import ToolchainError
from fleetflash.build.idf.environment import Idf, check
from fleetflash.build.idf.esp_idf import read_esp_idf
from fleetflash.build.idf.installation import place
from fleetflash.build.toolchain_cache import ToolchainCache
from tests.idf import Sdk


@pytest.fixture
def sdk(tmp_path: Path) -> Sdk:
    return Sdk(tmp_path)


def found(sdk: Sdk, target: str = "esp32", node: bool = False, **changed: Any) -> Idf:
    pinned = read_esp_idf({"5.3": sdk.data | changed})["5.3"]
    with place(pinned, target, ToolchainCache(sdk.path.parent / "toolchains")) as there:
        return check(pinned, there, target, node=node)


def refusal(sdk: Sdk, **arguments: Any) -> str:
    with pytest.raises(ToolchainError) as error:
        found(sdk, **arguments)
    assert "\n" not in str(error.value) and str(error.value).startswith("ESP-IDF v")
    return str(error.value)


def test_an_esp_idf_that_is_there_has_its_environment_and_nothing_of_the_users(
    sdk: Sdk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_WIFI", "c4nary-of-the-user")
    idf = found(sdk)
    assert (idf.version, idf.path) == ("v5.3.1", sdk.path)
    assert idf.variables["IDF_TOOLS_PATH"] == str(sdk.tools)
    assert idf.variables["PATH"].startswith(f"{sdk.tools}/python_env/bin:")
    assert "c4nary" not in str(idf.variables)


def test_what_decides_the_output_decides_the_identity(sdk: Sdk) -> None:
    first = found(sdk).id
    assert found(sdk, target="esp32s3").id == first
    (sdk.tools / "tools/xtensa-esp-elf/esp-13.2.0/bin").mkdir(parents=True)
    script = sdk.path / "export.sh"
    script.write_text(script.read_text() + 'PATH="$IDF_TOOLS_PATH/tools/xtensa-esp-elf/esp-13.2.0/bin:$PATH"\n')
    other_tools = found(sdk).id
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "ESP-IDF"]):
        identity = ["-c", "user.name=Tester", "-c", "user.email=tester@example.org"]
        subprocess.run(["git", "-C", str(sdk.path), *identity, *command], check=True)
    assert len({first, other_tools, found(sdk).id}) == 3


def test_what_is_missing_is_named_with_what_to_do(sdk: Sdk, tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    said = refusal(sdk, path=nowhere)
    assert f"no export.sh in {nowhere}: git clone --branch v5.3.1 --recursive " in said
    assert said.endswith(f"IDF_TOOLS_PATH={sdk.tools} {nowhere}/install.sh esp32")
    assert f"its tools are not in {nowhere}: IDF_TOOLS_PATH=" in refusal(sdk, tools_path=nowhere)
    assert "idf.py --version says 'v5.3.1'" in refusal(sdk, version="v5.4")
    assert "target esp32c6 is not in --list-targets (esp32, esp32s3, esp32c3)" in refusal(sdk, target="esp32c6")


def test_a_python_environment_that_is_gone_or_too_old_is_named(sdk: Sdk) -> None:
    python = sdk.tools / "python_env/bin/python"
    working = python.read_text()
    sdk.program(python, f'[ "$*" != --version ] || exec echo "Python 3.9.2"\n{working}')
    assert "its Python is 'Python 3.9.2', expected at least 3.10; install that" in refusal(sdk)
    python.unlink()
    assert "export.sh failed (ERROR: ESP-IDF Python virtual environment not found)" in refusal(sdk)


def test_an_idf_py_that_is_gone_or_broken_is_named(sdk: Sdk) -> None:
    idf_py = sdk.path / "tools/idf.py"
    sdk.program(idf_py, "echo 'No module named click' >&2; exit 1")
    assert "idf.py --version failed (No module named click)" in refusal(sdk)
    idf_py.unlink()
    assert "idf.py is not there: IDF_TOOLS_PATH=" in refusal(sdk)


def test_node_is_asked_for_only_when_the_web_interface_needs_it(sdk: Sdk) -> None:
    node = sdk.tools / "python_env/bin/node"
    sdk.program(node, "echo v16.20.2")
    assert found(sdk).version == "v5.3.1"
    assert "node is 'v16.20.2', expected at least 18, for web/" in refusal(sdk, node=True)
    sdk.program(node, "echo v20.11.0")
    assert found(sdk, node=True).id != found(sdk).id
