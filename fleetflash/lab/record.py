"""The lab's own record on disk: what it consists of."""

import json

from fleetflash.lab.errors import LabError
from fleetflash.lab.layout import STATE, Layout
from fleetflash.lab.spec import LabSpec


def write(layout: Layout, spec: LabSpec) -> None:
    draft = layout.record.with_suffix(".new")
    draft.write_text(json.dumps(spec.to_json(), indent=1) + "\n")
    draft.rename(layout.record)


def read(layout: Layout) -> LabSpec:
    try:
        return LabSpec.from_json(json.loads(layout.record.read_text()))
    except FileNotFoundError:
        others = sorted(path.parent.name for path in STATE.glob("*/lab.json"))
        hint = f"; there is: {', '.join(others)}" if others else ": fleetflash lab up"
        raise LabError(f"no lab {layout.name!r} is up{hint}") from None
