"""Every build is made once, from a clean source with a checked configuration, and comes out the same everywhere.

The small firmware tree of ``tests/firmware_tree`` is built with Debian's real compiler.
"""

import hashlib
import io
import platform
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from fleetflash.build.board_type import BoardType, read_board_types
from fleetflash.build.builder import Builder
from fleetflash.build.errors import (
    BoardTypeError,
    BuildError,
    CompileError,
    ConfigurationError,
    OutputError,
    OverlayError,
)
from fleetflash.build.toolchain import read_toolchains
from fleetflash.cli import main
from fleetflash.firmware.errors import ArtifactConflictError
from fleetflash.firmware.store import Store
from tests.firmware_source import FirmwareSource

ROOT = Path(__file__).parents[2]
TOOLCHAINS = {"avr": {"version": "5", "debian": {"gcc-avr": "*", "binutils-avr": "*", "avr-libc": "*"}}}


class Project:
    """A project's folder with the firmware's source, and builders with caches and stores of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source = FirmwareSource(directory / "klipper")
        self.told: list[str] = []
        shutil.copytree(ROOT / "templates", directory / "templates")
        self.builder = self.new_builder("cache")

    def new_builder(self, name: str) -> Builder:
        cache, store = self.directory / name, Store(self.directory / f"{name}-store")
        return Builder(cache, store, self.directory, read_toolchains(TOOLCHAINS), self.told.append)

    def fields(self, **fields: Any) -> dict[str, Any]:
        usual = {
            "chip": "atmega328p",
            "firmware": "klipper-avr",
            "repository": str(self.source.path),
            "ref": "v0.1.0",
            "kconfig": {"MACH_atmega328p": True},
            "toolchain": "avr",
        }
        return usual | fields

    def board_type(self, name: str = "arduino", **fields: Any) -> BoardType:
        return read_board_types({name: self.fields(**fields)}, read_toolchains(TOOLCHAINS))[name]

    def built(self) -> int:
        return sum(" building " in line for line in self.told)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def left_behind(builder: Builder) -> list[str]:
    """Builds and unfinished things in a cache, without locks."""
    found = [*(builder.cache / "builds").glob("*"), *(builder.cache / "work").glob("*")]
    return sorted(path.name for path in found if not path.name.endswith(".lock"))


def test_artifact_carries_what_was_asked_for(project: Project) -> None:
    outcome = project.builder.ensure(
        project.board_type(kconfig={"LOW_LEVEL_OPTIONS": True, "SERIAL_BAUD": 115200, "INITIAL_PINS": "!PB5"})
    )
    artifact = outcome.artifact
    commit = project.source.git("rev-parse", "HEAD").strip()
    assert (artifact.name, artifact.chip, artifact.version) == ("klipper-avr", "atmega328p", f"v0.1.0-0-g{commit[:8]}")
    assert artifact.klipper is not None
    assert artifact.klipper.constants == {
        "MCU": "atmega328p",
        "CLOCK_FREQ": 16000000,
        "SERIAL_BAUD": 115200,
        "INITIAL_PINS": "!PB5",
    }
    assert artifact.build["commit"] == commit and artifact.build["build"] == outcome.key
    assert project.builder.store.verify() == []
    kept = sorted(path.name for path in project.builder.builds.path(outcome.key).iterdir())
    assert kept == ["build.json", "build.log", "config", "klipper.bin", "klipper.dict"]
    assert "Linking out/klipper.elf" in (project.builder.builds.path(outcome.key) / "build.log").read_text()


def test_source_without_tags_is_versioned_by_its_commit(project: Project) -> None:
    project.source.git("tag", "--delete", "v0.1.0")
    commit = project.source.git("rev-parse", "HEAD").strip()
    assert project.builder.ensure(project.board_type(ref=commit)).artifact.version == commit[:8]


def test_second_run_builds_nothing(project: Project) -> None:
    first = project.builder.ensure(project.board_type())
    second = project.builder.ensure(project.board_type())
    assert (first.built, second.built, project.built()) == (True, False, 1)
    assert first.artifact == second.artifact


def test_configurations_that_come_to_the_same_are_one_build(project: Project) -> None:
    first = project.builder.ensure(project.board_type())
    second = project.builder.ensure(project.board_type("nano", kconfig={"MACH_AVR": True, "MACH_atmega2560": False}))
    assert (first.key, project.built()) == (second.key, 1)


def test_whatever_decides_the_output_makes_another_build(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    project.source.replace("src/main.c", "int\nmain", "int main")
    project.source.commit("v0.2.0")
    (project.directory / "port/files").mkdir(parents=True)
    (project.directory / "port/files/src/extra.h").parent.mkdir()
    (project.directory / "port/files/src/extra.h").write_text("extern int extra;\n")
    keys = [
        project.builder.prospect(project.board_type(**fields)).prepared.key.id
        for fields in (
            {},
            {"ref": "v0.2.0"},
            {"kconfig": {"MACH_atmega328p": True, "LOW_LEVEL_OPTIONS": True}},
            {"overlay": "port"},
            {"image": "klipper.elf.hex"},
        )
    ]
    with monkeypatch.context() as patched:
        patched.setattr("fleetflash.build.debian.installed", lambda names: dict.fromkeys(names, ("9.9", "amd64")))
        keys.append(project.builder.prospect(project.board_type()).prepared.key.id)
    assert len(set(keys)) == len(keys)
    assert project.built() == 0


def test_builds_in_different_directories_are_byte_equal(project: Project) -> None:
    """Also with an overlay, whose commit must have neither date nor person of the builder in it."""
    (project.directory / "port/files/src").mkdir(parents=True)
    (project.directory / "port/files/src/extra.h").write_text("extern int extra;\n")
    found = []
    for name in ("one", "a/much/longer/way/two"):
        builder = project.new_builder(name)
        outcome = builder.ensure(project.board_type(overlay="port"))
        directory = builder.builds.path(outcome.key)
        found.append([outcome.artifact.id, *((directory / f).read_bytes() for f in ("klipper.bin", "klipper.dict"))])
    assert found[0] == found[1]
    assert project.built() == 2


def test_nothing_of_the_users_environment_gets_into_a_build(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    (project.directory / "port/files").mkdir(parents=True)
    (project.directory / "port/files/extra.h").write_text("extern int extra;\n")
    board_type = project.board_type(overlay="port")
    expected = project.builder.ensure(board_type).artifact
    settings = project.directory / "gitconfig"
    hooks = project.directory / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "pre-commit", "commit-msg"):
        (hooks / name).write_text("#!/bin/sh\nexit 1\n")
        (hooks / name).chmod(0o755)
    settings.write_text(
        f"[core]\nabbrev = 14\nautocrlf = true\nhooksPath = {hooks}\n"
        "[user]\nname = Somebody\nemail = s@example.org\n[commit]\ngpgsign = true\n"
    )
    for name, value in {
        "GIT_CONFIG_GLOBAL": str(settings),
        "GIT_AUTHOR_DATE": "2001-01-01T00:00:00Z",
        "GIT_DIR": str(project.directory / "nowhere"),
        "MAKEFLAGS": "-n",
        "CFLAGS": "-O0",
        "TZ": "Asia/Tokyo",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": str(project.directory),
    }.items():
        monkeypatch.setenv(name, value)
    assert project.new_builder("other").ensure(board_type).artifact.id == expected.id
    assert project.built() == 2


def test_toolchain_of_the_cache_comes_before_the_systems(project: Project) -> None:
    wrapper = '#!/bin/sh\n[ "$1" = --version ] && echo "avr-gcc (Pinned) 9.9" && exit\nexec /usr/bin/avr-gcc "$@"\n'
    archive = project.directory / "toolchain.tar"
    with tarfile.open(archive, "w") as packed:
        info = tarfile.TarInfo("pinned/bin/avr-gcc")
        info.size, info.mode = len(wrapper), 0o755
        packed.addfile(info, io.BytesIO(wrapper.encode()))
    pinned = {"urls": archive.as_uri(), "sha256": hashlib.sha256(archive.read_bytes()).hexdigest()}
    project.builder.pinned = read_toolchains(
        {
            "avr": {
                "version": "9.9",
                "archives": {platform.machine(): pinned},
                "bin": "pinned/bin",
                "programs": ["avr-gcc"],
            }
        }
    )
    assert not project.builder.prospect(project.board_type()).is_built
    assert project.builder.toolchains.entries() == []
    artifact = project.builder.ensure(project.board_type()).artifact
    assert artifact.klipper is not None and artifact.klipper.build_versions.startswith("gcc: (Pinned) 9.9 binutils: ")
    assert artifact.build["toolchain"] == "avr 9.9"


def test_image_formats_of_a_build_are_the_same_artifact(project: Project) -> None:
    found = [project.builder.ensure(project.board_type(image=f"klipper.{end}")) for end in ("bin", "elf", "elf.hex")]
    assert len({outcome.artifact.id for outcome in found}) == 1


def test_many_threads_at_once_build_once(project: Project) -> None:
    board_type = project.board_type()
    with ThreadPoolExecutor(20) as pool:
        outcomes = list(pool.map(lambda _: project.builder.ensure(board_type), range(20)))
    assert [outcome.built for outcome in outcomes].count(True) == 1 == project.built()
    assert len({outcome.artifact.id for outcome in outcomes}) == 1


def test_many_processes_at_once_build_once(project: Project) -> None:
    """Eight controllers on one cache and store, three board types: three builds."""
    types = {
        name: project.fields(kconfig={"LOW_LEVEL_OPTIONS": True, "SERIAL_BAUD": baud}, firmware=f"klipper-{name}")
        for name, baud in (("slow", 38400), ("usual", 115200), ("fast", 500000))
    }
    described = project.directory / "builders.py"
    described.write_text(f"toolchains = {TOOLCHAINS!r}\nboard_types = {types!r}\n")
    command = [sys.executable, "-m", "fleetflash", "build", "--types", str(described), "--cache", "c", "--store", "s"]
    running = [
        subprocess.Popen(command, cwd=project.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    results = [process.communicate() for process in running]
    assert [process.returncode for process in running] == [0] * 8, results
    assert sum(err.count(": building ") for _, err in results) == 3
    assert sum(out.count("  built") for out, _ in results) == 3
    assert len(Store(project.directory / "s").find()) == 3


def works_below(directory: Path) -> bool:
    """Whether a process has its working directory there."""
    found = []
    for cwd in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):  # gone meanwhile
            found.append(cwd.readlink())
    return any(cwd.is_relative_to(directory) for cwd in found)


def test_builder_that_is_killed_in_the_middle_leaves_nothing_and_the_next_one_builds(project: Project) -> None:
    go = project.directory / "go"
    wait = f"import time\nfrom pathlib import Path\nwhile not Path({str(go)!r}).exists():\n    time.sleep(0.05)\n"
    script = project.source.path / "scripts/dictionary.py"
    script.write_text(script.read_text().replace("import argparse\n", f"import argparse\n{wait}"))
    project.source.commit("v0.2.0")
    described = project.directory / "builders.py"
    described.write_text(f"toolchains = {TOOLCHAINS!r}\nboard_types = {{'nano': {project.fields(ref='v0.2.0')!r}}}\n")
    command = [sys.executable, "-m", "fleetflash", "build", "--types", str(described), "--cache", "cache"]
    builder = subprocess.Popen([*command, "--store", "cache-store"], cwd=project.directory)
    deadline = time.monotonic() + 60
    while not [log for log in project.builder.cache.glob("logs/*.log") if "Compiling" in log.read_text()]:
        assert builder.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    builder.kill()
    builder.wait()
    assert [path.name[:6] for path in project.builder.cache.glob("work/build-*.lock")] == ["build-"]
    go.touch()
    while works_below(project.builder.cache / "work"):  # make outlives its builder for a moment
        time.sleep(0.02)
    assert project.builder.ensure(project.board_type(ref="v0.2.0")).built
    assert list(project.builder.cache.glob("work/build-*")) == []


def test_dropped_symbol_is_named_with_its_menu_and_what_it_needs(project: Project) -> None:
    with pytest.raises(ConfigurationError) as caught:
        project.builder.ensure(project.board_type(kconfig={"SERIAL_BAUD": 115200, "INITIAL_PINS": "PB5"}))
    assert str(caught.value) == (
        "board type arduino: Kconfig does not accept what was asked for: "
        'CONFIG_SERIAL_BAUD: asked for 115200, became 250000 (in "Baud rate for serial port"; '
        "needs LOW_LEVEL_OPTIONS); "
        'CONFIG_INITIAL_PINS: asked for "PB5", became "" (in "Optional features" > '
        '"GPIO pins to set at micro-controller startup"; needs LOW_LEVEL_OPTIONS)'
    )
    assert left_behind(project.builder) == []


@pytest.mark.parametrize(
    ("kconfig", "reason"),
    [
        (
            {"MACH_atmega328": True},
            "asked for y, became nothing (there is no such symbol, but MACH_atmega328p",
        ),
        ({"NO_SUCH": False}, "CONFIG_NO_SUCH: asked for n, became nothing (there is no such symbol)"),
        ({"MCU": "atmega644p"}, 'MCU: asked for "atmega644p", became "atmega328p" (it can\'t be set'),
        ({"MACH_atmega328p": False}, "MACH_atmega328p: asked for n, became y"),
        (
            {"MACH_atmega328p": True, "MACH_atmega2560": True},
            "the choice is MACH_atmega2560)",
        ),
        ({"LOW_LEVEL_OPTIONS": True, "PADDING_BYTES": 99999}, 'fill with nothing of use"; takes int from 0 to 32000)'),
        (
            {"LOW_LEVEL_OPTIONS": True, "SERIAL_BAUD": "fast"},
            'SERIAL_BAUD: asked for "fast", became 250000 (in "Baud rate for serial port"; takes int)',
        ),
    ],
)
def test_symbols_that_do_not_survive_say_why(project: Project, kconfig: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        project.builder.prospect(project.board_type(kconfig=kconfig))
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_firmware_that_leaves_no_room_for_the_bootloader_is_refused(project: Project) -> None:
    """32 KiB less 512 bytes: the linker takes more, the chip does not."""
    with pytest.raises(OutputError, match=r"klipper.bin has 3\d{4} bytes, but atmega328p has room for 32256 from 0x0"):
        project.builder.ensure(project.board_type(kconfig={"LOW_LEVEL_OPTIONS": True, "PADDING_BYTES": 30800}))
    assert left_behind(project.builder) == []
    assert project.builder.store.find() == []
    project.builder.ensure(project.board_type())


def test_firmware_for_another_chip_is_refused(project: Project) -> None:
    with pytest.raises(OutputError, match="built for 'atmega2560', but the chip is atmega328p"):
        project.builder.ensure(project.board_type(kconfig={"MACH_atmega2560": True}))
    assert left_behind(project.builder) == []


def test_a_build_is_checked_against_each_board_type_that_wants_it(project: Project) -> None:
    """The key says nothing of the chip, so a build that is there may be the wrong one."""
    project.builder.ensure(project.board_type(kconfig={"MACH_atmega2560": True}, chip="atmega2560"))
    with pytest.raises(OutputError, match=r"board type arduino: .*built for 'atmega2560'"):
        project.builder.ensure(project.board_type(kconfig={"MACH_atmega2560": True}))


def test_place_in_flash_must_be_the_one_that_was_linked(project: Project) -> None:
    with pytest.raises(OutputError, match=r"linked to 0x0, offset 0x0 in .*atmega328p, expected flash_offset 0x2000"):
        project.builder.ensure(project.board_type(flash_offset=0x2000))


def test_compiler_error_is_told_its_log_kept_and_nothing_published(project: Project) -> None:
    project.source.replace("src/main.c", "uart_init();", "uart_init()")
    project.source.commit("v0.2.0")
    with pytest.raises(CompileError) as caught:
        project.builder.ensure(project.board_type(ref="v0.2.0"))
    text = str(caught.value)
    assert "src/main.c:" in text and "error: expected ';'" in text
    log = Path(text.rpartition("all of it: ")[2])
    assert "Compiling out/main.o" in log.read_text() and "\n" not in text
    assert left_behind(project.builder) == [] and project.builder.store.find() == []
    assert project.builder.ensure(project.board_type()).built


CHANGES: dict[str, tuple[Callable[[FirmwareSource], None], str]] = {
    "no image": (
        lambda source: source.replace("src/avr/Makefile", " $(OUT)klipper.bin\n", "\n"),
        r"make wrote no out/klipper.bin, but klipper.dict, klipper.elf, klipper.elf.hex; correct image",
    ),
    "dirty tree": (
        lambda source: source.replace(
            "Makefile", "clean:", "$(OUT)main.o: touch\ntouch:\n\t@echo >> README.md\n\nclean:"
        ),
        r"klipper.bin says version 'v0.2.0-0-g\w{8}-dirty-20.*', expected 'v0.2.0-0-g\w{8}'; does the build change",
    ),
    "dictionary of another build": (
        lambda source: source.replace(
            "scripts/dictionary.py", "write_text(text)", "write_text(text.replace('v0', 'v1'))"
        ),
        r"out/klipper.dict and the dictionary in klipper.bin differ",
    ),
    "no dictionary": (
        lambda source: source.replace("scripts/dictionary.py", "zlib.compress(text.encode(), 9)", "text.encode()"),
        r"klipper.bin has no Klipper dictionary in it",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_output_that_is_not_what_was_asked_for_is_refused(project: Project, name: str) -> None:
    change, reason = CHANGES[name]
    change(project.source)
    project.source.commit("v0.2.0")
    with pytest.raises(OutputError, match=reason):
        project.builder.ensure(project.board_type(ref="v0.2.0"))
    assert left_behind(project.builder) == [] and project.builder.store.find() == []


def test_damaged_build_is_made_again(project: Project) -> None:
    outcome = project.builder.ensure(project.board_type())
    image = project.builder.builds.path(outcome.key) / "klipper.bin"
    image.chmod(0o644)
    image.write_bytes(b"damaged")
    again = project.builder.ensure(project.board_type())
    assert again.built and again.artifact.id == outcome.artifact.id
    assert left_behind(project.builder) == [outcome.key]


def test_configuration_that_was_damaged_is_worked_out_again(project: Project) -> None:
    outcome = project.builder.ensure(project.board_type())
    (remembered,) = (project.builder.cache / "configurations").glob("*.json")
    remembered.chmod(0o644)
    remembered.write_text('{"version": ')
    assert project.builder.ensure(project.board_type()).key == outcome.key


def test_artifact_that_was_removed_comes_back_without_a_build(project: Project) -> None:
    outcome = project.builder.ensure(project.board_type())
    shutil.rmtree(project.builder.store.path(outcome.artifact))
    again = project.builder.ensure(project.board_type())
    assert again.artifact.id == outcome.artifact.id and not again.built
    assert project.builder.store.verify() == []


def test_image_that_is_registered_under_another_name_is_told(project: Project) -> None:
    project.builder.ensure(project.board_type())
    with pytest.raises(ArtifactConflictError, match=r"registered already as klipper-avr v0.1.0"):
        project.builder.ensure(project.board_type(firmware="other"))


def test_changes_are_those_since_the_last_build(project: Project) -> None:
    assert project.builder.ensure(project.board_type()).changes == ()
    faster = project.board_type(kconfig={"LOW_LEVEL_OPTIONS": True, "SERIAL_BAUD": 500000})
    prospect = project.builder.prospect(faster)
    assert not prospect.is_built
    assert [str(change) for change in prospect.changes] == [
        "CONFIG_LOW_LEVEL_OPTIONS: n → y",
        "CONFIG_SERIAL_BAUD: 250000 → 500000",
    ]
    assert project.builder.ensure(faster).changes == prospect.changes
    assert project.builder.prospect(faster).changes == () and project.builder.prospect(faster).is_built


def test_overlay_is_built_in(project: Project) -> None:
    port = project.directory / "port"
    (port / "patches").mkdir(parents=True)
    project.source.replace("scripts/dictionary.py", '"app": "fleetflash test firmware"', '"app": "port"')
    (port / "patches/app.patch").write_text(project.source.git("diff"))
    project.source.git("checkout", "--quiet", ".")
    artifact = project.builder.ensure(project.board_type(overlay="port")).artifact
    assert artifact.klipper is not None and artifact.klipper.app == "port"
    assert artifact.version.startswith("v0.1.0-1-g")
    with pytest.raises(OverlayError, match=r"board type arduino: overlay .*missing: neither files/ nor patches/"):
        project.builder.ensure(project.board_type(overlay="missing"))


def test_full_disk_is_told_and_the_next_run_is_clean(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("fleetflash.build.builds.write_read_only", full)
        with pytest.raises(
            BuildError, match=r"board type arduino: .*/klipper.bin: No space left on device; free space"
        ):
            project.builder.ensure(project.board_type())
    assert left_behind(project.builder) == []
    assert project.builder.ensure(project.board_type()).built


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ nothing }}", "'nothing' is undefined"),
        ("{% if %}", "line 1: Expected an expression"),
        ("MACH_AVR=y", "line 1 is 'MACH_AVR=y', expected CONFIG_NAME=value"),
        (None, "there is no template"),
    ],
)
def test_template_that_is_wrong_is_named(project: Project, text: str | None, reason: str) -> None:
    if text is not None:
        (project.directory / "templates/mine.j2").write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        project.builder.prospect(project.board_type(template="mine.j2"))
    assert "mine.j2" in str(caught.value) and reason in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"chip": "atmega328"}, "board_types.arduino: chip: unknown chip 'atmega328': did you mean"),
        ({"ref": 1.0}, "ref: Input should be a valid string, found 1.0"),
        ({"branch": "x"}, "branch is no field of a board type"),
        ({"kconfig": {"MACH AVR": True}}, "kconfig: 'MACH AVR' is no name of a symbol"),
        ({"toolchain": "arm"}, "toolchain 'arm' is not described, there is avr"),
        ({"image": "klipper.uf2"}, "image: "),
        ({"template": "../x"}, "template: "),
    ],
)
def test_mistakes_in_a_board_type_name_the_field(project: Project, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(BoardTypeError) as caught:
        project.board_type(**changed)
    assert reason in str(caught.value) and "\n" not in str(caught.value)


def test_command_says_what_would_be_built_and_what_was(
    project: Project, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project.directory)
    described = project.directory / "builders.py"
    described.write_text(f"toolchains = {TOOLCHAINS!r}\nboard_types = {{'arduino': {project.fields()!r}}}\n")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["build", "--types", "builders.py", "--cache", "c", "--store", "s", *arguments])
        return code, *capfd.readouterr()

    code, out, _ = run("--plan")
    assert code == 0 and "to build" in out and not Path("s").exists()
    code, out, told = run("arduino")
    assert code == 0 and out.rstrip().endswith("  built") and "arduino: building v0.1.0-0-g" in told
    assert run("--collect", "1")[1].rstrip().endswith("  there")
    assert run("uno") == (2, "", "fleetflash build: no board or gateway type 'uno', there is arduino\n")
    described.write_text(described.read_text().replace("'MACH_atmega328p'", "'MACH_none'"))
    code, out, told = run()
    assert (code, out) == (1, "") and told.startswith("fleetflash build: board type arduino: Kconfig does not accept")
    described.write_text("board_types = 1\n")
    assert run() == (2, "", "fleetflash build: board_types: expected a dictionary of board types, found 1\n")
    described.unlink()
    assert run()[2] == "fleetflash build: builders.py: No such file or directory; give the file with --types\n"
