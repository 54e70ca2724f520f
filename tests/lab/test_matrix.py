"""The fault matrix on real hosts. Thinned by default; all of it with FLEETFLASH_MATRIX=full (make test-full)."""

import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleetflash.agent.protocols.programmers import PROGRAMMERS
from fleetflash.lab.lab import Lab, leftovers
from tests.lab import kind_cells, matrix
from tests.lab.cell import ATTENTION, LOST, SILENCE, Cell
from tests.lab.cells import BENCHES, KIND_BENCHES, run_cell
from tests.lab.conftest import lab_name, require_lab
from tests.lab.fleet import Fleet
from tests.lab.kinds import KINDS, KindFleet, hosts
from tests.lab.strikes import STRIKES

pytestmark = pytest.mark.lab

PATIENT = ("link-stalled", "klipper-does-not-start", "hang")
#: Programmers whose cells are not in ``kind_cells``: the BMCU-C's is in ``matrix``, gateways have tests of their own,
#: and the lab's kernel has neither CAN nor USB, nor do its hosts run the Linux process MCU.
ELSEWHERE = {
    *("wch_isp", "esptool", "katapult_can", "linux_process"),
    *("dfu_util", "picotool", "wchisp", "flashtool", "make_flash"),
}
FULL = os.environ.get("FLEETFLASH_MATRIX") == "full"


def chosen(full: list[Cell], thinned: list[Cell]) -> list[Cell]:
    """The cells to run; FLEETFLASH_CELL is a regular expression for their names."""
    only = os.environ.get("FLEETFLASH_CELL", "")
    return [cell for cell in (full if FULL else thinned) if re.search(only, cell.name)]


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindFleet]:
    require_lab()
    name, subnet = lab_name()
    network, _, number = subnet.rpartition(".")
    with Lab.up(f"{name}-kinds", hosts(), f"{network}.{int(number) + 2}", wait_klippy=90.0) as lab:
        yield KindFleet(lab, tmp_path_factory.mktemp("kinds"))
    assert leftovers(lab.layout) == []


def test_matrix_has_enough_cells_and_no_cell_twice() -> None:
    cells = matrix.full()
    assert len(cells) >= 300 and len(set(cells)) == len(cells)
    thinned = matrix.thinned()
    assert len(set(thinned)) == len(thinned) and set(thinned) <= set(cells)
    struck = [{(cell.fault, cell.placement) for cell in some if cell.fault in STRIKES} for some in (thinned, cells)]
    assert struck[0] == struck[1] and {cell.fault for cell in thinned} == {cell.fault for cell in cells}
    assert {cell.bench for cell in thinned} == {cell.bench for cell in cells}


def test_every_programmer_has_its_cells_and_no_cell_twice() -> None:
    cells = kind_cells.full()
    assert len(cells) >= 300 and len(set(cells)) == len(cells)
    thinned = kind_cells.thinned()
    assert set(thinned) <= set(cells)
    assert {kind.programmer for kind in KINDS.values()} == set(PROGRAMMERS) - ELSEWHERE
    assert {cell.bench for cell in thinned} == set(KINDS) == {cell.bench for cell in cells}
    assert {cell.placement for cell in thinned} == {cell.placement for cell in cells}


def test_no_cell_needs_attention_unless_there_is_no_way_back_or_no_line_to_reset_the_chip() -> None:
    cells = [*matrix.full(), *kind_cells.full()]
    benches = {cell.bench for cell in cells if ATTENTION in cell.expected}
    assert benches == {LOST, "katapult-uart", "katapult-usb"}


def test_every_cell_comes_out_as_it_was_written_down(fleet: Fleet) -> None:
    run_cells(fleet, BENCHES, chosen(matrix.full(), matrix.thinned()))


def test_every_cell_of_other_boards_comes_out_as_it_was_written_down(kinds: KindFleet) -> None:
    run_cells(kinds, KIND_BENCHES, chosen(kind_cells.full(), kind_cells.thinned()))


def _waits(cell: Cell) -> bool:
    return cell.count > 1000 or cell.fault in PATIENT or cell.failure == SILENCE


def run_cells(fleet: Fleet, benches: Mapping[str, tuple[str, ...]], cells: list[Cell]) -> None:
    """Run all cells, each on a printer with its bench; fails with what was wrong."""
    # The ones that wait for klippy's or the link's patience begin first.
    waiting = sorted(cells, key=lambda cell: not _waits(cell))
    lock = threading.Lock()
    wrong: list[str] = []
    counted: Counter[str] = Counter()

    def take(fitting: tuple[str, ...]) -> Cell | None:
        with lock:
            cell = next((cell for bench in fitting for cell in waiting if cell.bench == bench), None)
            if cell is not None:
                waiting.remove(cell)
            return cell

    def work(name: str) -> None:
        while (cell := take(benches[name])) is not None:
            started = time.monotonic()
            try:
                problem = run_cell(fleet, fleet.lab.host(name), cell)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            counted.update([f"{cell.job}: {came}" for came in (["wrong"] if problem else cell.expected)])
            seconds = time.monotonic() - started
            came = problem or " + ".join(cell.expected)
            print(f"{name} {seconds:5.1f} s  {cell.name}: {came}", file=sys.stderr, flush=True)
            if problem:
                wrong.append(f"{cell.name}: {problem}")

    with ThreadPoolExecutor(len(benches)) as pool:
        list(pool.map(work, benches))
    print(f"\nmatrix: {len(cells)} cells, {len(wrong)} wrong; boards: {dict(counted)}", file=sys.stderr)
    assert wrong == [] and waiting == []
