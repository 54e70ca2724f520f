"""Makes ``fleetflash://`` known to every pyserial program of a virtualenv: esptool and miniterm never import us.

``fleetflash-pyserial.pth`` has this imported at every start of the interpreter, so it imports nothing itself and
only waits for ``serial`` to be imported.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType

PACKAGE = "fleetflash.link"


class SerialWatcher:
    """A finder that finds nothing itself: it has ``serial`` found by the others and our package added to it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "serial":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    _run_after(spec.loader)
                return spec
        return None


def _run_after(loader: Loader) -> None:
    run = loader.exec_module

    def exec_module(module: ModuleType) -> None:
        run(module)
        register(module)

    loader.exec_module = exec_module  # type: ignore[method-assign]


def register(module: ModuleType) -> None:
    """Add our package to the protocol handlers of the module ``serial``."""
    handlers = getattr(module, "protocol_handler_packages", None)
    if handlers is not None and PACKAGE not in handlers:
        handlers.append(PACKAGE)


def install() -> None:
    if "serial" in sys.modules:
        register(sys.modules["serial"])
    elif not any(isinstance(finder, SerialWatcher) for finder in sys.meta_path):
        sys.meta_path.insert(0, SerialWatcher())


install()
