"""What a benchmark must keep: each bound with the figure that was measured."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Bound:
    name: str
    measured: float
    limit: float
    detail: str = ""

    @property
    def kept(self) -> bool:
        return self.measured <= self.limit

    def __str__(self) -> str:
        detail = f"  ({self.detail})" if self.detail else ""
        return f"{'pass' if self.kept else 'FAIL'}  {self.name}: {self.measured:.3g}, at most {self.limit:g}{detail}"


@dataclass
class Bounds:
    """``str`` is a line each."""

    found: list[Bound] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def at_most(self, name: str, measured: float, limit: float, detail: str = "") -> None:
        self.found.append(Bound(name, measured, limit, detail))

    def note(self, text: str) -> None:
        """Tell a figure that nothing is promised of."""
        self.notes.append(f"note  {text}")

    @property
    def kept(self) -> bool:
        return all(bound.kept for bound in self.found)

    def __str__(self) -> str:
        return "\n".join([*map(str, self.found), *self.notes])
