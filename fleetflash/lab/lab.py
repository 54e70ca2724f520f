"""A simulated lab: printer hosts that boot, with boards at their USB sockets, on a network of their own."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from fleetflash.lab import access, cgroup, image, mounts, network, personality, record, requirements, rootfs
from fleetflash.lab.bench import MOST_HOSTS, default_hosts
from fleetflash.lab.boards.esp.chips import CHIPS
from fleetflash.lab.boards.kinds import KINDS
from fleetflash.lab.display_application import LINES
from fleetflash.lab.errors import LabError
from fleetflash.lab.esp_image import DEFAULT_LINES, build_app, build_layout, write_build
from fleetflash.lab.host import Host
from fleetflash.lab.layout import PROPAGATE, STATE, Layout, check_board_name, check_host_name, check_subnet
from fleetflash.lab.spec import HostSpec, LabSpec

FACTORY_VERSION = "v0.11.0"
#: The version of the gateways' firmware that is to be flashed.
GATEWAY_VERSION = "v1.0.0"
VERSIONS = (FACTORY_VERSION, "v0.12.0", "v0.13.0")
# systemd in every host watches files under one uid, which has 128 such watches by default.
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_INOTIFY_PER_HOST = 8
_INOTIFY_SPARE = 64


def _silent(_: str) -> None:
    pass


class Lab:
    """A lab that is up. ``Lab.up`` makes one, ``Lab.open`` finds one; as a context manager it goes down at the end.

    Example::

        with Lab.up("try", hosts=default_hosts(1), subnet="10.78.0") as lab:
            print(lab.host("printer-1").run("uptime").stdout)
            lab.host("printer-1").board("bmcu").control.press()
    """

    def __init__(self, layout: Layout, spec: LabSpec) -> None:
        self.layout = layout
        self.spec = spec
        self.name = layout.name

    @classmethod
    def up(
        cls,
        name: str = "lab",
        hosts: Sequence[HostSpec] | None = None,
        subnet: str = "10.77.0",
        *,
        wait_klippy: float = 0.0,
        say: Callable[[str], None] = _silent,
    ) -> "Lab":
        """Boot all hosts; returns when sshd answers on each. A failure leaves nothing behind.

        ``wait_klippy`` seconds are also spent on waiting for klippy to be ready everywhere. Raises LabError.
        """
        layout = Layout(name)
        wanted = tuple(hosts) if hosts is not None else default_hosts(6)
        _check(wanted, subnet)
        requirements.check(delays=any(host.delay_ms for host in wanted))
        spec = LabSpec(wanted, subnet, base=str(rootfs.path())).placed(layout.board)
        _claim(layout)
        try:
            network.check_free(subnet)
            with _lock(layout), _umask(0o022):
                # Recorded before the base is made, so that no other lab removes that base as unused.
                record.write(layout, spec)
                lab = cls(layout, spec)
                rootfs.ensure(say)
                lab._make()
                lab._each(Host.start)
                if wait_klippy:
                    lab.wait_klippy(wait_klippy)
                return lab
        except BaseException:
            _clear(layout)
            raise

    @classmethod
    def open(cls, name: str = "lab") -> "Lab":
        """The lab of this name that is up."""
        layout = Layout(name)
        return cls(layout, record.read(layout))

    def down(self) -> None:
        down(self.name)

    def __enter__(self) -> "Lab":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    @property
    def hosts(self) -> list[Host]:
        return [self.host(spec.name) for spec in self.spec.hosts]

    def host(self, name: str) -> Host:
        return Host(self.layout, self.spec, name)

    @property
    def ssh_config(self) -> Path:
        """For ``ssh -F``: one entry per host."""
        return self.layout.ssh_config

    def image(self, version: str) -> Path:
        """A firmware image that the lab brought, such as ``v0.12.0``."""
        return self.layout.images / f"{version}.bin"

    def gateway_build(self, kind: str, version: str) -> Path:
        """The ``flasher_args.json`` of a gateway's firmware that the lab brought: ``v0.11.0`` or ``v1.0.0``."""
        return self.layout.images / f"{kind}-{version}" / "flasher_args.json"

    def wait_klippy(self, timeout: float) -> None:
        self._each(lambda host: None if host.spec.bare else host.wait_klippy("ready", timeout))

    def _make(self) -> None:
        """Everything that is there before the first boot."""
        _raise_inotify_limit(self.spec)
        network.create_bridge(self.layout, self.spec.subnet)
        self.layout.images.mkdir()
        for version in VERSIONS:
            self.image(version).write_bytes(image.build_image(version))
        for kind in {board.kind for host in self.spec.hosts for board in host.boards if board.kind in CHIPS}:
            for version, lines in ((FACTORY_VERSION, DEFAULT_LINES), (GATEWAY_VERSION, LINES)):
                app = build_app(kind, version, lines=lines)
                write_build(self.gateway_build(kind, version).parent, build_layout(kind, {"factory": app}))
        for host in self.hosts:
            host.directory.mkdir(parents=True)
            for board in host.boards:
                board.make(board.kind.factory(FACTORY_VERSION))
        self._each(lambda host: personality.make_host_key(self.layout, host.name))
        access.write(self.layout, self.spec)

    def _each(self, act: Callable[[Host], None]) -> None:
        """Do something on all hosts at once; the first failure is raised when all have ended."""
        with ThreadPoolExecutor(max_workers=32) as pool:
            try:
                for future in [pool.submit(act, host) for host in self.hosts]:
                    future.result()
            except KeyboardInterrupt:
                # Hosts that are off are not waited for.
                pool.shutdown(wait=False, cancel_futures=True)
                cgroup.kill(self.layout.cgroup())
                raise


def down(name: str) -> bool:
    """Remove the lab of this name and whatever a crash has left of it; False when there was nothing."""
    layout = Layout(name)
    requirements.check_root()
    if not layout.root.exists():
        there = bool(leftovers(layout))
        _clear(layout)
        return there
    with _lock(layout):
        _clear(layout)
    return True


def names() -> list[str]:
    """The labs that are up, also half."""
    return sorted(path.name for path in STATE.iterdir()) if STATE.is_dir() else []


def leftovers(layout: Layout) -> list[str]:
    """What exists of a lab in the kernel and on disk."""
    groups = [str(root / layout.cgroup()) for root in cgroup.roots() if (root / layout.cgroup()).exists()]
    files = [str(layout.root)] if layout.root.exists() else []
    files += map(str, PROPAGATE.glob(layout.machine("*")))
    return [*groups, *network.leftovers(layout), *mounts.below(layout.root), *files]


def _clear(layout: Layout) -> None:
    """Undo everything that carries the lab's name, relying on no record of it."""
    cgroup.kill(layout.cgroup())
    cgroup.remove(layout.cgroup())
    network.remove_all(layout)
    for directory in PROPAGATE.glob(layout.machine("*")):
        directory.rmdir()
    mounts.unmount_below(layout.root)
    if left := mounts.below(layout.root):
        raise LabError(f"cannot unmount {', '.join(left)}")
    if layout.root.exists():
        shutil.rmtree(layout.root)
    try:
        STATE.rmdir()
    except OSError:
        pass  # other labs live there, or there was none


def _claim(layout: Layout) -> None:
    try:
        layout.root.mkdir(parents=True)
    except FileExistsError:
        raise LabError(
            f"lab {layout.name!r} is already up: fleetflash lab down --name {layout.name}, or another --name"
        ) from None


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    """The hosts' users must be able to read what is made for them, whatever the caller's umask is."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def _lock(layout: Layout) -> Iterator[None]:
    """Only one ``up`` or ``down`` of a lab at a time; the kernel drops the lock of a killed one."""
    handle = os.open(layout.root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LabError(f"lab {layout.name!r} is being brought up or down by another command") from None
        yield
    finally:
        os.close(handle)


def _check(hosts: Sequence[HostSpec], subnet: str) -> None:
    check_subnet(subnet)
    if not 1 <= len(hosts) <= MOST_HOSTS:
        raise LabError(f"a lab has 1 to {MOST_HOSTS} hosts, not {len(hosts)}")
    for host in hosts:
        check_host_name(host.name)
        for board in host.boards:
            check_board_name(board.name)
            if board.kind not in KINDS:
                known = ", ".join(KINDS)
                raise LabError(f"{host.name}/{board.name}: there is no kind of board {board.kind!r}; known: {known}")
        _distinct([board.name for board in host.boards], f"boards of {host.name}")
        _distinct([board.mcu for board in host.boards if board.mcu], f"mcu names of {host.name}")
    _distinct([host.name for host in hosts], "hosts")


def _distinct(values: Sequence[str], what: str) -> None:
    if len(set(values)) != len(values):
        raise LabError(f"{what} must differ: {', '.join(values)}")


def _raise_inotify_limit(spec: LabSpec) -> None:
    hosts = sum(len(record.read(Layout(name)).hosts) for name in names() if Layout(name).record.exists())
    needed = _INOTIFY_SPARE + _INOTIFY_PER_HOST * max(hosts, len(spec.hosts))
    if int(_INOTIFY.read_text()) < needed:
        _INOTIFY.write_text(str(needed))


__all__ = ["Lab", "default_hosts", "down", "leftovers", "names"]
