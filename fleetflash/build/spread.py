"""Which builder builds what."""

from collections import Counter
from collections.abc import Collection, Mapping


def spread(able: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return name → the builder that it falls to, as evenly as can be.

    + able: name of what is to be built → builders that can do so, at least one

    It depends on nothing else, so that the next run asks the same builder.
    """
    found, load = dict[str, str](), Counter[str]()
    for name in sorted(able, key=lambda name: len(able[name])):
        found[name] = min(able[name], key=lambda builder: (load[builder], builder))
        load[found[name]] += 1
    return found
