"""The fault matrix on real hosts. Thinned by default; all of it with FLEETFLASH_MATRIX=full (make test-full)."""

import os
import queue
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from fleetflash.lab.host import Host
from tests.lab import matrix
from tests.lab.fleet import Fleet
from tests.lab.matrix import Cell
from tests.lab.strikes import run_cell

pytestmark = pytest.mark.lab

#: Printers with one board whose bootloader is entered by DTR and RTS.
PRINTERS = ["printer-1", "printer-4", "printer-6", "printer-7", "printer-8"]


def test_matrix_has_enough_cells_and_no_cell_twice() -> None:
    cells = matrix.full()
    assert len(cells) >= 300 and len(set(cells)) == len(cells)
    assert {cell.fault for cell in matrix.thinned()} == {cell.fault for cell in cells}


def test_every_cell_comes_out_as_it_was_written_down(fleet: Fleet) -> None:
    cells = matrix.full() if os.environ.get("FLEETFLASH_MATRIX") == "full" else matrix.thinned()
    only = os.environ.get("FLEETFLASH_CELL", "")
    waiting: queue.Queue[Cell] = queue.Queue()
    for cell in cells:
        if only in cell.name:
            waiting.put(cell)
    wrong: list[str] = []
    counted: Counter[str] = Counter()

    def work(host: Host) -> None:
        while True:
            try:
                cell = waiting.get_nowait()
            except queue.Empty:
                return
            started = time.monotonic()
            try:
                problem = run_cell(fleet, host, cell)
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            counted[cell.expected if not problem else "wrong"] += 1
            seconds = time.monotonic() - started
            print(f"{host.name} {seconds:5.1f} s  {cell.name}: {problem or cell.expected}", file=sys.stderr, flush=True)
            if problem:
                wrong.append(f"{cell.name}: {problem}")

    with ThreadPoolExecutor(len(PRINTERS)) as pool:
        list(pool.map(work, [fleet.lab.host(name) for name in PRINTERS]))
    print(f"\nmatrix: {sum(counted.values())} cells: {dict(counted)}", file=sys.stderr)
    assert wrong == []
