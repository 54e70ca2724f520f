"""Changing things inside a running host from outside: mounting, linking, removing, in its mount namespace.

Run as ``python -m fleetflash.lab.namespace PID ACTIONS``, a process of its own, because a thread cannot enter
another mount namespace. ``ACTIONS`` is a JSON list of lists:

    ["mount", source, target, "ro"|"rw"]  put a file or directory of the machine at a place in the host
    ["own", path, uid, gid, mode]         change owner and mode
    ["link", target, path]                make or replace a symbolic link
    ["remove", path]                      remove a link, or a mounted file with its mount
"""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

from fleetflash.lab import process
from fleetflash.lab.errors import LabError

Action = list[str | int]

# System calls that libc has no name for; the numbers are the same on every architecture.
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_AT_FDCWD = -100
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_EMPTY_PATH = 0x1000
_MOUNT_ATTR_RDONLY = 1
_MNT_DETACH = 2
_CLONE_NEWNS = 0x00020000

_libc = ctypes.CDLL(None, use_errno=True)


def change(leader: int, actions: list[Action]) -> None:
    """Do the actions in the host whose first process is ``leader``. Raises LabError with the first failure."""
    command = process.python("-m", "fleetflash.lab.namespace", str(leader), json.dumps(actions))
    result = subprocess.run(command, env=process.python_env(), capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode:
        raise LabError(f"in the host's namespace: {(result.stderr.strip().splitlines() or ['failed'])[-1]}")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


class _MountAttributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user_namespace")]


def _pick_up(source: str, mode: str) -> int:
    """A detached copy of the mount at ``source``, as a file descriptor."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _checked(_libc.syscall(_OPEN_TREE, _AT_FDCWD, source.encode(), flags), f"open_tree {source}")
    if mode == "ro":
        attributes = _MountAttributes(set=_MOUNT_ATTR_RDONLY)
        size = ctypes.c_size_t(ctypes.sizeof(attributes))
        result = _libc.syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), size)
        _checked(result, f"mount_setattr {source}")
    return tree


def _put_down(tree: int, target: str) -> None:
    path = Path(target)
    if not path.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    result = _libc.syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, target.encode(), _MOVE_MOUNT_F_EMPTY_PATH)
    _checked(result, f"move_mount {target}")


def _link(to: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(to)


def _remove(path: Path) -> None:
    if not path.is_symlink():
        _libc.umount2(str(path).encode(), _MNT_DETACH)  # it may be plain by now
    path.unlink(missing_ok=True)
    # udev, too, removes the directories of links when the last link goes.
    for directory in path.parents:
        if directory == Path("/dev") or not directory.is_dir() or any(directory.iterdir()):
            break
        directory.rmdir()


def _enter_and_do(leader: int, actions: list[Action]) -> None:
    trees = [_pick_up(str(action[1]), str(action[3])) if action[0] == "mount" else -1 for action in actions]
    namespace = os.open(f"/proc/{leader}/ns/mnt", os.O_RDONLY)
    _checked(_libc.setns(namespace, _CLONE_NEWNS), "setns")
    for tree, (verb, *arguments) in zip(trees, actions, strict=True):
        if verb == "mount":
            _put_down(tree, str(arguments[1]))
        elif verb == "own":
            path, uid, gid, mode = arguments
            os.chown(str(path), int(uid), int(gid))
            Path(str(path)).chmod(int(mode))
        elif verb == "link":
            _link(str(arguments[0]), Path(str(arguments[1])))
        elif verb == "remove":
            _remove(Path(str(arguments[0])))
        else:
            raise ValueError(f"unknown action {verb}")


if __name__ == "__main__":
    try:
        _enter_and_do(int(sys.argv[1]), json.loads(sys.argv[2]))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
