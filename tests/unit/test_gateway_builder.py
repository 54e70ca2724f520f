"""A gateway's firmware is built once, from a clean source with a checked configuration, and no secret gets out of it.

``tests/idf_sdk`` stands in for ESP-IDF.
"""

import hashlib
import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fleetflash.build.errors import (
    CompileError,
    ConfigurationError,
    HostTestError,
    OutputError,
    SourceError,
)
from fleetflash.build.idf.builder import Outcome
from fleetflash.cli import main
from fleetflash.firmware.errors import SymbolsMissingError
from fleetflash.lab.esp_format import AppDescription, read_image
from fleetflash.lab.esp_image import app_lines
from tests.command_lines import command_lines
from tests.gateway_project import GatewayProject

CANARY = 'c4nary7 "wifi\\pass'
KEY = "-----BEGIN PRIVATE KEY-----\nc4nary7KEYLINE1\nc4nary7KEYLINE2\n-----END PRIVATE KEY-----\n"


def secret_fields(directory: Path) -> dict[str, Any]:
    """A gateway with a secret of each kind of source; the command's own arguments hold none."""
    for name, content in (("mqtt", "c4nary7-mqtt-password"), ("ota.pem", KEY), ("ap", "c4nary7-ap-password")):
        (directory / name).write_text(content)
        (directory / name).chmod(0o600)
    return {
        "settings": {
            "can": {"tx_gpio": 17, "rx_gpio": 16},
            "station": {"ssid": "plant", "password": {"env": "GATEWAY_WIFI"}},
            "access_point": {"password": {"command": ["cat", str(directory / "ap")]}},
            "mqtt": {"password": {"file": str(directory / "mqtt")}},
            "kconfig": {"TINYBMS_MQTT": True},
        },
        "site": "lyon",
        "site_settings": {"access_point": {"channel": 6}},
        "secret_files": {"main/ota.pem": {"file": str(directory / "ota.pem")}},
        "tests": {},
    }


class Built:
    """The one build that many tests look at, with all that was said and seen while it was made."""

    def __init__(self, project: GatewayProject) -> None:
        self.project = project
        self.fields = secret_fields(project.directory)
        self.source = project.source
        # The compiler tells the password, and somebody has committed a configuration of then.
        self.source.replace("main/app_main.c", "#if", "#pragma message(CONFIG_TINYBMS_WIFI_STA_PASSWORD)\n#if")
        (self.source.path / "sdkconfig").write_text(
            'CONFIG_TINYBMS_CAN_VICTRON_TX_GPIO=5\nCONFIG_TINYBMS_WIFI_STA_PASSWORD="c4nary7-of-then"\n'
        )
        self.commit = self.source.commit("v1.1.0")
        with command_lines(b"idf.py", b"kconfgen") as self.seen:
            self.outcome: Outcome = project.builder.ensure(self.gateway())
        self.told = list(project.told)

    def gateway(self, **changed: Any) -> Any:
        return self.project.gateway(**{**self.fields, "ref": "v1.1.0", **changed})

    @property
    def directory(self) -> Path:
        return self.project.builder.builds.path(self.outcome.build.id)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GATEWAY_WIFI", CANARY)
        yield Built(GatewayProject(tmp_path_factory.mktemp("project")))


def test_a_build_becomes_an_artifact_with_what_is_known_of_it(built: Built) -> None:
    artifact = built.outcome.artifact
    assert (artifact.name, artifact.version, artifact.chip) == ("tinybms-gateway", "v1.1.0", "esp32")
    assert {file.name: file.offset for file in artifact.files} == {
        "bootloader.bin": 0x1000,
        "partition-table.bin": 0x8000,
        "ota_data_initial.bin": 0xD000,
        "tinybms-web-gateway.bin": 0x10000,
        "storage.bin": 0x210000,
    }
    facts = artifact.build
    assert (facts["commit"], facts["toolchain"]) == (built.commit, "ESP-IDF v5.3.1")
    assert (facts["target"], facts["site"], facts["build"]) == ("esp32", "lyon", built.outcome.build.id)
    assert facts["app_bytes"] == artifact.file("tinybms-web-gateway.bin").size and facts["app_room"] == 0x100000
    assert artifact.esp is not None and artifact.esp.idf_version == "v5.3.1"
    assert built.project.builder.store.verify() == []


def test_all_that_a_release_needs_is_kept(built: Built) -> None:
    kept = {path.name for path in built.directory.iterdir()}
    described = {"build.json", "build.log", "size.txt", "flasher_args.json", "app.elf", "app.map"}
    described |= {"sdkconfig", "sdkconfig.defaults.fleetflash", "sdkconfig.defaults.lyon", "sdkconfig.former"}
    flashed = {file.name for file in built.outcome.artifact.files}
    assert kept == flashed | described | {"test-pgn_conversion-test.log"}
    assert "Total image size: " in (built.directory / "size.txt").read_text()
    size = built.outcome.artifact.file("tinybms-web-gateway.bin").size
    assert f"lyon: the application takes {size} of 1048576 bytes (9%) of its partition" in built.told
    assert "1 Tests 0 Failures" in (built.directory / "test-pgn_conversion-test.log").read_text()
    configuration = (built.directory / "sdkconfig").read_text()
    assert "CONFIG_TINYBMS_CAN_VICTRON_TX_GPIO=17\n" in configuration
    assert "CONFIG_TINYBMS_WIFI_AP_CHANNEL=6\n" in configuration


def test_panics_find_their_elf_file_by_what_they_say_of_it(built: Built) -> None:
    artifact = built.outcome.artifact
    assert artifact.esp is not None
    symbols = built.project.builder.symbols.find(artifact.esp.elf_sha256[:9])
    assert hashlib.sha256(symbols.elf.read_bytes()).hexdigest() == artifact.esp.elf_sha256
    assert ".flash.text" in symbols.map.read_text()
    for wrong in ("0123456789", "abc"):
        with pytest.raises(SymbolsMissingError):
            built.project.builder.symbols.find(wrong)


def test_a_stale_sdkconfig_does_not_win_and_is_told_and_kept(built: Built) -> None:
    told = "lyon: the source's sdkconfig would have overridden CONFIG_TINYBMS_CAN_VICTRON_TX_GPIO: 17 → 5"
    assert [line.startswith(told) for line in built.told].count(True) == 1
    former = (built.directory / "sdkconfig.former").read_text()
    assert "CONFIG_TINYBMS_CAN_VICTRON_TX_GPIO=5" in former
    # The version is that of a clean source: nothing in it was touched.
    assert built.outcome.artifact.version == "v1.1.0"


def test_secrets_are_in_the_image_and_nowhere_else(built: Built) -> None:
    images = {"tinybms-web-gateway.bin", "app.elf"}
    canary = b"c4nary7"
    places = [built.project.directory / name for name in ("cache", "cache-store")]
    found = {
        path.name for place in places for path in place.rglob("*") if path.is_file() and canary in path.read_bytes()
    }
    assert found == images
    assert canary in (built.directory / "tinybms-web-gateway.bin").read_bytes()


def test_secrets_are_in_no_arguments_no_reports_and_no_facts(built: Built) -> None:
    assert any(b"kconfgen" in line for line in built.seen) and any(b"idf.py" in line for line in built.seen)
    assert any(b"IDF_TARGET=esp32" in line for line in built.seen)
    assert [line for line in built.seen if b"c4nary7" in line] == []
    said = [*built.told, repr(built.outcome), repr(built.gateway()), built.outcome.artifact.model_dump_json()]
    said += [repr(built.project.builder.prospect(built.gateway()))]
    assert "c4nary7" not in " ".join(said)
    assert "<secret TINYBMS_WIFI_STA_PASSWORD>" in (built.directory / "build.log").read_text()


def test_builds_and_symbols_are_their_owners_alone(built: Built) -> None:
    for directory in (built.project.builder.builds.directory, built.project.builder.symbols.directory):
        assert directory.stat().st_mode & 0o777 == 0o700
    assert (built.project.directory / "cache/secrets.key").stat().st_mode & 0o777 == 0o600


def test_nothing_of_a_build_is_left_in_its_workspace(built: Built) -> None:
    assert [path.name for path in (built.project.directory / "cache/work").iterdir()] == [".lock"]


def test_second_run_builds_nothing_and_asks_esp_idf_nothing(built: Built) -> None:
    before = len(built.project.told)
    again = built.project.builder.ensure(built.gateway())
    assert (again.built, again.artifact, again.build) == (False, built.outcome.artifact, built.outcome.build)
    assert again.changes == () and built.project.told[before:] == []
    prospect = built.project.builder.prospect(built.gateway())
    assert prospect.is_built and prospect.is_registered


def test_a_lost_artifact_comes_back_without_a_compiler(built: Built, tmp_path: Path) -> None:
    builder = built.project.new_builder("cache")
    builder.store = type(builder.store)(tmp_path / "store")
    outcome = builder.ensure(built.gateway())
    assert not outcome.built and builder.store.get(outcome.artifact.id).files == built.outcome.artifact.files


def test_whatever_decides_the_output_makes_another_key(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    def key(**changed: Any) -> str:
        return built.project.builder.prospect(built.gateway(**changed)).prepared.key.id

    extra = built.project.directory / "port/files/main/extra.c"
    extra.parent.mkdir(parents=True)
    extra.write_text("int extra;\n")
    keys = [
        built.outcome.build.id,
        key(ref="v1.0.0"),
        key(overlay="port"),
        key(target="esp32s3"),
        key(site_settings={"access_point": {"channel": 7}}),
        key(tests=None),
    ]
    monkeypatch.setenv("GATEWAY_WIFI", "another c4nary7")
    keys.append(key())
    (built.project.directory / "ota.pem").write_text(KEY.replace("1", "3"))
    keys.append(key())
    (built.project.directory / "ota.pem").write_text(KEY)
    assert len(set(keys)) == len(keys)
    monkeypatch.setenv("GATEWAY_WIFI", CANARY)
    assert key() == built.outcome.build.id
    # What is not of the configuration does not: the same lines from another place in the data.
    assert key(site="paris") == built.outcome.build.id


def test_keys_tell_nothing_of_the_secrets_to_who_guesses_them(built: Built) -> None:
    key = built.outcome.build.key
    other = built.project.new_builder("elsewhere")
    there = other.prospect(built.gateway()).prepared.key
    # Another cache has another random key: the same guess does not give the same hash.
    assert there.configuration == key.configuration and there.secrets != key.secrets and len(key.secrets) == 64


def test_artifacts_go_where_esptool_takes_them(built: Built) -> None:
    import esptool

    path = built.directory / "tinybms-web-gateway.bin"
    image = esptool.bin_image.LoadFirmwareImage("esp32", str(path))
    assert image.checksum == image.calculate_checksum() and image.stored_digest == image.calc_digest


def test_the_simulated_gateway_runs_what_was_built(built: Built) -> None:
    files = {file.offset: built.directory / file.name for file in built.outcome.artifact.files}
    application = read_image(files[0x10000].read_bytes(), 0x10000)
    printed = [f"{milliseconds} {text}" for milliseconds, text in app_lines(application)]
    assert printed == (built.source.path / "main/boot.txt").read_text().splitlines()
    description = AppDescription.of(application)
    assert description is not None and (description.version, description.project) == ("v1.1.0", "tinybms-web-gateway")
    assert read_image(files[0x1000].read_bytes(), 0x1000).chip_id == application.chip_id == 0


@pytest.fixture
def project(tmp_path: Path) -> GatewayProject:
    return GatewayProject(tmp_path)


def registered(project: GatewayProject) -> int:
    return len(project.builder.store.find())


def test_a_failing_host_test_is_a_gate_and_its_reports_are_kept(project: GatewayProject) -> None:
    project.source.replace("test/pgn_conversion/test.c", "/ 10", "/ 11")
    commit = project.source.commit()
    with pytest.raises(
        HostTestError, match=r"host tests: idf\.py test failed: error: failed suites: pgn_conversion"
    ) as e:
        project.builder.ensure(project.gateway(ref=commit, tests={}))
    reports = list((project.directory / "cache/logs").glob("lyon-*-tests/*"))
    assert ["test_state_of_charge:FAIL" in path.read_text() for path in reports] == [True]
    assert str(reports[0].parent) in str(e.value) and registered(project) == 0
    # Whoever does not gate gets a build of its own.
    assert project.builder.ensure(project.gateway(ref=commit)).built


def test_a_gate_without_a_report_is_none(project: GatewayProject) -> None:
    with pytest.raises(HostTestError, match=r"true passed without a build/\*/test\.log; correct reports"):
        project.builder.ensure(project.gateway(tests={"command": ["true"]}))
    assert registered(project) == 0


def test_a_compile_error_is_told_in_one_line(project: GatewayProject) -> None:
    project.source.replace("main/app_main.c", "void app_main(void)\n{", "void app_main(void)\n{ nonsense();")
    commit = project.source.commit()
    with pytest.raises(CompileError, match=r"^gateway type lyon: idf\.py build failed: .*nonsense.*; all of it: ") as e:
        project.builder.ensure(project.gateway(ref=commit))
    assert "\n" not in str(e.value) and registered(project) == 0


def test_a_compiler_that_tells_the_secret_in_its_error_is_not_repeated(
    project: GatewayProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_WIFI", CANARY)
    project.source.replace("main/app_main.c", "#if", "_Static_assert(0, CONFIG_TINYBMS_WIFI_STA_PASSWORD);\n#if")
    settings = {"station": {"password": {"env": "GATEWAY_WIFI"}}}
    with pytest.raises(CompileError, match=r"static assertion failed: .<secret TINYBMS_WIFI_STA_PASSWORD>.") as error:
        project.builder.ensure(project.gateway(ref=project.source.commit(), settings=settings))
    [log] = (project.directory / "cache/logs").glob("lyon-*.log")
    assert "static assertion failed" in log.read_text()
    assert "c4nary7" not in str(error.value) + log.read_text()


def test_a_source_that_is_no_project_is_told(project: GatewayProject) -> None:
    with pytest.raises(SourceError, match=r"has no CMakeLists\.txt in 'main/x'; correct project"):
        project.builder.prospect(project.gateway(project="main/x"))


def test_a_secret_that_can_not_be_had_is_told_before_anything_is_fetched(project: GatewayProject) -> None:
    settings = {"station": {"password": {"env": "NOT_SET_ANYWHERE"}}}
    with pytest.raises(ConfigurationError, match="secret TINYBMS_WIFI_STA_PASSWORD: environment variable NOT_SET_ANYW"):
        project.builder.prospect(project.gateway(settings=settings))
    assert project.told == []


def test_a_secret_file_never_replaces_one_of_the_source(project: GatewayProject) -> None:
    key = project.directory / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    with pytest.raises(ConfigurationError, match=r"secret file web/index\.html: the source has a file there"):
        project.builder.prospect(project.gateway(secret_files={"web/index.html": {"file": str(key)}}))


def test_a_secret_file_is_there_for_the_build_and_its_owner_alone(project: GatewayProject) -> None:
    key = project.directory / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    change_build(project, "    print(oct((project.path / 'main/keys/ota.pem').stat().st_mode))")
    outcome = project.builder.ensure(project.gateway(secret_files={"main/keys/ota.pem": {"file": str(key)}}))
    log = project.builder.builds.path(outcome.build.id) / "build.log"
    assert "0o100600\n" in log.read_text() and outcome.artifact.version == "v1.0.0"


def test_two_builders_at_once_build_once(project: GatewayProject) -> None:
    builders = [project.new_builder("cache") for _ in range(2)]
    gateway = project.gateway()
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda builder: builder.ensure(gateway), builders))
    assert sorted(outcome.built for outcome in outcomes) == [False, True]
    assert outcomes[0].artifact.id == outcomes[1].artifact.id and registered(project) == 1


def test_versions_that_can_not_be_relied_on_are_refused(project: GatewayProject) -> None:
    (project.source.path / "version.txt").write_text("v9.9.9-dirty\n")
    with pytest.raises(OutputError, match=r"the application says version 'v9\.9\.9-dirty'"):
        project.builder.ensure(project.gateway(ref=project.source.commit()))
    images = project.sdk.path / "tools/images.py"
    images.write_text(images.read_text().replace("project.name, idf_version)", "project.name, 'v5.0')"))
    with pytest.raises(OutputError, match=r"was built with ESP-IDF 'v5\.0', expected 'v5\.3\.1'"):
        project.builder.ensure(project.gateway())


def change_build(project: GatewayProject, script: str) -> None:
    """Let ESP-IDF's build end with lines of Python; ``output`` is the build directory, ``project`` the project."""
    images = project.sdk.path / "tools/images.py"
    images.write_text(images.read_text() + f"\n_build = build\n\ndef build(project):\n    _build(project)\n{script}\n")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("    (project.output / (project.name + '.elf')).write_bytes(b'other')", "the application names ELF file"),
        ("    (project.output / (project.name + '.map')).unlink()", r"tinybms-web-gateway\.map: No such file.* panics"),
        ("    (project.output / 'flasher_args.json').unlink()", r"flasher_args\.json: No such file"),
        ("    (project.output / 'project_description.json').write_text('{}')", "does not tell app_elf and target"),
        ("    project.sdkconfig.write_text('CONFIG_X=y')", "the configuration came out differently the second time"),
    ],
)
def test_what_a_build_leaves_must_belong_together(project: GatewayProject, script: str, reason: str) -> None:
    change_build(project, script)
    with pytest.raises((OutputError, ConfigurationError), match=reason):
        project.builder.ensure(project.gateway())
    assert registered(project) == 0


def test_a_submodule_is_checked_out(project: GatewayProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.file.allow")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "always")
    library = project.directory / "library"
    library.mkdir()
    environment = {**os.environ, **{f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER")
                                    for what in ("NAME", "EMAIL")}}  # fmt: skip
    (library / "library.h").write_text("#define LIBRARY 1\n")
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "Library"]):
        subprocess.run(["git", "-C", str(library), *command], check=True, env=environment)
    project.source.git("submodule", "--quiet", "add", str(library), "main/library")
    project.source.replace(
        "main/app_main.c", '#include "sdkconfig.h"', '#include "sdkconfig.h"\n#include "library/library.h"'
    )
    commit = project.source.commit()
    assert project.builder.ensure(project.gateway(ref=commit)).built


def test_the_command_line_builds_and_shows(
    project: GatewayProject, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.directory)
    types = project.directory / "types.py"
    settings = {"can": {"tx_gpio": 17}}
    types.write_text(f"esp_idf = {{'5.3': {project.sdk.data!r}}}\n"
                     f"gateway_types = {{'lyon': {project.fields(settings=settings)!r}}}\n")  # fmt: skip

    def run(*arguments: str) -> tuple[int, str, str]:
        options = [
            "--types",
            str(types),
            "--store",
            str(project.directory / "s"),
            "--cache",
            str(project.directory / "c"),
        ]
        code = main(["build", *options, *arguments])
        out = capfd.readouterr()
        return code, out.out, out.err

    code, out, err = run("--plan")
    assert (code, err.count("\n")) == (0, 2), err
    assert "lyon" in out and "to build" in out
    code, out, _ = run("lyon")
    assert code == 0 and "v1.0.0" in out and out.rstrip().endswith("built")
    code, out, _ = run()
    assert code == 0 and out.rstrip().endswith("there")
    types.write_text(types.read_text().replace("'tx_gpio': 17", "'tx_gpio': 19"))
    code, out, err = run("--plan")
    assert code == 0 and "CONFIG_TINYBMS_CAN_VICTRON_TX_GPIO: 17 → 19" in err
    types.write_text(types.read_text().replace("'tx_gpio': 19", "'tx_gpio': 47"))
    code, out, err = run("--plan")
    assert code == 1 and "CONFIG_TINYBMS_CAN_VICTRON_TX_GPIO: asked for 47, became 7" in err
