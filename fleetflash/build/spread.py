"""Which builder builds what."""

from collections.abc import Iterable, Sequence


def share(names: Sequence[str], builders: Iterable[str], builder: str) -> list[str]:
    """Return those of ``names`` that fall to one of the builders: every name falls to exactly one, as evenly as can be.

    It depends on nothing but the names, so that the next run asks the same builder.
    """
    order = sorted(builders)
    return list(names[order.index(builder) :: len(order)])
