"""The guards that are broken on purpose are where the list of them says, so that code which moves takes them along."""

from tests.mutants import MUTANTS, ROOT, Mutant


def is_lost(mutant: Mutant) -> bool:
    path = ROOT / mutant.file
    return not path.is_file() or path.read_text().count(mutant.text) != 1


def test_every_mutant_finds_its_text_once() -> None:
    assert [f"{mutant.guard}: {mutant.file}" for mutant in MUTANTS if is_lost(mutant)] == []


def test_every_mutant_names_tests_that_are_there() -> None:
    named = {word for mutant in MUTANTS for word in mutant.tests.split() if word.endswith(".py")}
    assert sorted(name for name in named if not (ROOT / name).is_file()) == []
