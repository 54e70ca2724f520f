"""The project's own tests, which run on the builder: nothing is registered that has not passed them."""

from pathlib import Path

from fleetflash.build.errors import CompileError, HostTestError
from fleetflash.build.idf.gateway_build import TEST_REPORT
from fleetflash.build.idf.gateway_type import HostTests
from fleetflash.build.idf.idf_py import IdfPy
from fleetflash.secret import redact


def run_host_tests(tests: HostTests, idf_py: IdfPy, failed: Path) -> dict[str, bytes]:
    """Run the tests and return name → report, without secrets; a gate without any report is none.

    + failed: a directory for the reports of tests that failed

    Source: the gateway operations guide, chapter 4.1. Raises ``HostTestError`` that says where the reports are.
    """
    problem = None
    try:
        idf_py.run(*tests.command)
    except CompileError as error:
        problem = error
    reports = _reports(tests, idf_py)
    if problem is not None:
        failed.mkdir(parents=True, exist_ok=True)
        for name, content in reports.items():
            (failed / name).write_bytes(content)
        where = (
            f"; reports: {', '.join(sorted(reports))} in {failed}" if reports else f"; no {tests.reports} was written"
        )
        raise HostTestError(f"host tests: {problem}{where}")
    if not reports:
        raise HostTestError(f"host tests: {' '.join(tests.command)} passed without a {tests.reports}; correct reports")
    return reports


def _reports(tests: HostTests, idf_py: IdfPy) -> dict[str, bytes]:
    found = {}
    for path in sorted(idf_py.project.glob(tests.reports)):
        if path.is_file():
            name = TEST_REPORT.format(
                path.relative_to(idf_py.project).as_posix().removeprefix("build/").replace("/", "-")
            )
            found[name] = redact(path.read_text(errors="replace"), idf_py.secrets).encode()
    return found
