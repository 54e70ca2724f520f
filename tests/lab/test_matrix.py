"""The fault matrix on real hosts. Thinned by default; all of it with FLEETFLASH_MATRIX=full (make test-full)."""

import os
import re
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.lab import matrix
from tests.lab.cells import BENCHES, run_cell
from tests.lab.fleet import Fleet
from tests.lab.matrix import Cell

pytestmark = pytest.mark.lab


PATIENT = ("link-stalled", "klipper-does-not-start", "hang")


def test_matrix_has_enough_cells_and_no_cell_twice() -> None:
    cells = matrix.full()
    assert len(cells) >= 300 and len(set(cells)) == len(cells)
    thinned = matrix.thinned()
    assert len(set(thinned)) == len(thinned) and set(thinned) <= set(cells)
    assert {(cell.fault, cell.placement) for cell in thinned} == {(cell.fault, cell.placement) for cell in cells}
    assert {cell.bench for cell in thinned} == {cell.bench for cell in cells}


def test_no_cell_needs_attention_unless_the_inventory_accepts_that_there_is_no_way_back() -> None:
    assert {cell.bench for cell in matrix.full() if matrix.ATTENTION in cell.expected} == {matrix.LOST}


def test_every_cell_comes_out_as_it_was_written_down(fleet: Fleet) -> None:
    cells = matrix.full() if os.environ.get("FLEETFLASH_MATRIX") == "full" else matrix.thinned()
    only = os.environ.get("FLEETFLASH_CELL", "")
    cells = [cell for cell in cells if re.search(only, cell.name)]
    # The ones that wait for klippy's or the link's patience begin first.
    waiting = sorted(cells, key=lambda cell: not (cell.count > 1000 or cell.fault in PATIENT))
    lock = threading.Lock()
    wrong: list[str] = []
    counted: Counter[str] = Counter()

    def take(benches: tuple[str, ...]) -> Cell | None:
        with lock:
            cell = next((cell for bench in benches for cell in waiting if cell.bench == bench), None)
            if cell is not None:
                waiting.remove(cell)
            return cell

    def work(name: str) -> None:
        while (cell := take(BENCHES[name])) is not None:
            started = time.monotonic()
            try:
                problem = run_cell(fleet, fleet.lab.host(name), cell)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            counted.update(["wrong"] if problem else cell.expected)
            seconds = time.monotonic() - started
            came = problem or " + ".join(cell.expected)
            print(f"{name} {seconds:5.1f} s  {cell.name}: {came}", file=sys.stderr, flush=True)
            if problem:
                wrong.append(f"{cell.name}: {problem}")

    with ThreadPoolExecutor(len(BENCHES)) as pool:
        list(pool.map(work, BENCHES))
    print(f"\nmatrix: {len(cells)} cells, {len(wrong)} wrong; boards: {dict(counted)}", file=sys.stderr)
    assert wrong == [] and waiting == []
