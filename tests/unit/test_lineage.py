"""What a board ran: a flash puts its image in front, a rollback takes away what it has left."""

import json
from pathlib import Path

import pytest

from fleetflash.agent.lineage import KEPT_STEPS, Lineages, advanced
from fleetflash.agent.schema import Image, Past
from fleetflash.agent.store import Store


def image(version: str) -> Image:
    return Image("", f"{version:0>64}", 1, version)


def pasts(*versions: str) -> list[Past]:
    return [Past(image(version), f"t-{version}") for version in versions]


def ran(lineage: list[Past]) -> str:
    return " ".join(past.image.version for past in lineage)


@pytest.mark.parametrize(
    ("before", "former", "wanted", "back", "after"),
    [
        ("", None, "1", False, "1"),
        ("", "1", "2", False, "2 1"),
        ("2 1", "2", "3", False, "3 2 1"),
        # Somebody else has flashed it meanwhile.
        ("2 1", "9", "3", False, "3 9 2 1"),
        # An image is in it once: the last time that it ran counts.
        ("3 2 1", "3", "1", False, "1 3 2"),
        ("2 1", "2", "2", False, "2 1"),
        # Back: nothing leads forward again.
        ("3 2 1", "3", "2", True, "2 1"),
        ("3 2 1", "3", "1", True, "1"),
        ("3 2 1", "3", "0", True, "0 2 1"),
        ("3 2 1", "9", "3", True, "3 2 1"),
        ("3 2 1", None, "3", True, "3 2 1"),
        ("", "1", "0", True, "0"),
    ],
)
def test_lineage_once_an_image_was_committed(
    before: str, former: str | None, wanted: str, back: bool, after: str
) -> None:
    found = advanced(pasts(*before.split()), image(former) if former else None, Past(image(wanted), "t"), back)
    assert ran(found) == after and found[0].transaction == "t"


@pytest.mark.parametrize("back", [True, False])
def test_the_same_commit_entered_twice_changes_nothing_more(back: bool) -> None:
    once = advanced(pasts("3", "2", "1"), image("3"), Past(image("2"), "t"), back)
    assert advanced(once, image("3"), Past(image("2"), "t", 99.0), back) == once


def test_only_so_many_steps_back_are_kept() -> None:
    lineage: list[Past] = []
    for number in range(20):
        lineage = advanced(lineage, None, Past(image(str(number)), f"t-{number}"), False)
    assert ran(lineage) == " ".join(str(number) for number in range(19, 19 - KEPT_STEPS, -1))


def test_lineage_lies_on_the_disk_and_tells_which_images_are_there(tmp_path: Path) -> None:
    store = Store(tmp_path)
    Lineages(store).enter("bmcu", image("1"), image("2"), "t-1", back=False)
    store.image(image("1").sha256).parent.mkdir()
    store.image(image("1").sha256).write_bytes(b"x")
    found = Lineages(store).of("bmcu")
    assert [(past.image.version, past.transaction, past.on_disk) for past in found] == [
        ("2", "t-1", False),
        ("1", "", True),
    ]
    assert [entry["on_disk"] for entry in json.loads((tmp_path / "lineage/bmcu.json").read_text())] == [False, False]


def test_images_of_a_lineage_and_of_holds_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    Lineages(store).enter("bmcu", image("1"), image("2"), "t-1", back=False)
    for version in ("1", "2", "3"):
        store.image(image(version).sha256).parent.mkdir(exist_ok=True)
        store.image(image(version).sha256).write_bytes(b"x")
    store.prune()
    assert {path.stem for path in tmp_path.glob("images/*.bin")} == {image("1").sha256, image("2").sha256}


def test_damaged_lineage_ends_where_it_can_not_be_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    Lineages(store).enter("bmcu", image("1"), image("2"), "t-1", back=False)
    path = tmp_path / "lineage/bmcu.json"
    path.write_text(path.read_text().replace('"sha256"', '"sha"', 1))
    assert ran(Lineages(store).of("bmcu")) == ""
    path.write_text("torn")
    assert Lineages(store).of("bmcu") == []


def test_what_a_newer_agent_has_entered_stays_and_a_damaged_lineage_costs_no_image(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path, before = tmp_path / "lineage/bmcu.json", store.image(image("1").sha256)
    Lineages(store).enter("bmcu", None, image("1"), "t-1", back=False)
    before.parent.mkdir()
    before.write_bytes(b"x")
    (entry,) = json.loads(path.read_text())
    path.write_text(json.dumps([{**entry, "later": 1}]))
    Lineages(store).enter("bmcu", None, image("2"), "t-2", back=False)
    assert json.loads(path.read_text())[1] == {**entry, "later": 1}
    path.write_text("[{")
    Lineages(store).enter("bmcu", None, image("3"), "t-3", back=False)
    store.prune()
    assert before.exists() and ran(Lineages(store).of("bmcu")) == "3"
