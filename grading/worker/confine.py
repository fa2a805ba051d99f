"""Confinement of a worker, in the worker: namespaces, a file system of its own, limits, an unprivileged user.

Standard library only, because it runs before anything else. Three levels, by what the kernel allows:

- namespaces (root, or an unprivileged user namespace): the worker sees a small file system of its own, with the
  interpreter and libraries read-only and a memory-backed scratch folder, no other process and no network;
- root without namespaces (a container): an unprivileged user id of its own;
- neither: resource limits and process groups alone, and the grader warns.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from pathlib import Path

NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET = (
    0x00020000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
RDONLY, NOSUID, NODEV, NOEXEC, REMOUNT, NOATIME, BIND, REC, PRIVATE, RELATIME = (
    0x1, 0x2, 0x4, 0x8, 0x20, 0x400, 0x1000, 0x4000, 0x40000, 0x200000)
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_CAPBSET_DROP, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 24, 36, 38
CAPABILITY_VERSION_3 = 0x20080522

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/localtime")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    """A libc function that returns 0, or OSError."""
    try:
        function = getattr(_libc(), name)
    except AttributeError:
        raise OSError(f"this system has no {name}") from None
    if function(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def prctl(option: int, value: int = 0) -> None:
    """prctl(2); does nothing where there is none."""
    if sys.platform == "linux":
        _call("prctl", option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0))


def die_with_parent() -> None:
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    _call("mount", *(None if text is None else text.encode() for text in (source, target, kind)),
          ctypes.c_ulong(flags), data.encode())


def new_namespaces(network: bool = True) -> None:
    """Mount, process and IPC namespaces, and an empty network; first a user namespace where this is not root."""
    uid, gid = os.getuid(), os.getgid()
    if uid != 0:
        _call("unshare", NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _call("unshare", NEWNS | NEWPID | NEWIPC | NEWUTS | (NEWNET if network else 0))


def _bind(source: str, root: str, target: str | None = None) -> None:
    """Show `source` read-only at the same path (or at `target`) below `root`."""
    place = root + (target or source)
    if os.path.islink(source) and target is None:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.symlink(os.readlink(source), place)
        return
    if os.path.isdir(source):
        os.makedirs(place, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        Path(place).touch()
    mount(source, place, None, BIND | REC)
    if source.startswith("/dev/"):
        return
    kept = 0  # flags of the underlying mount that a user namespace may not take away
    status = os.statvfs(place).f_flag
    for bit, flag in ((os.ST_NOSUID, NOSUID), (os.ST_NODEV, NODEV), (os.ST_NOEXEC, NOEXEC),
                      (os.ST_NOATIME, NOATIME), (os.ST_RELATIME, RELATIME)):
        kept |= flag if status & bit else 0
    mount(None, place, None, BIND | REMOUNT | RDONLY | kept | NOSUID)


def new_root(root: str, disk_mb: int, shown: dict[str, str]) -> None:
    """Make `root` the whole file system: the interpreter, its libraries and `shown` ({path there: path here}).

    Everything else is a memory-backed scratch of at most `disk_mb` megabytes.
    """
    mount(None, "/", None, REC | PRIVATE)
    mount("tmpfs", root, "tmpfs", NOSUID | NODEV, f"size={disk_mb}m,nr_inodes=20000,mode=755")
    prefixes: list[str] = []
    for path in (*SYSTEM, sys.base_prefix, sys.prefix):
        if os.path.lexists(path) and not any(path == p or path.startswith(p + "/") for p in prefixes):
            _bind(path, root)
            prefixes.append(path)
    for device in DEVICES:
        if os.path.exists(device):
            _bind(device, root)
    for target, source in shown.items():
        _bind(source, root, target)
    for folder in ("/tmp", "/dev/shm"):
        os.makedirs(root + folder, exist_ok=True)
        os.chmod(root + folder, 0o1777)
    os.makedirs(root + "/proc", exist_ok=True)
    with contextlib.suppress(OSError):  # a container may forbid it: nothing here needs /proc
        mount("proc", root + "/proc", "proc", NOSUID | NODEV | NOEXEC)
    os.chdir(root)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", MNT_DETACH)
    os.chdir("/")


class _CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def drop_privileges(uid: int | None) -> None:
    """Become `uid` (None: stay), give up every capability, for good."""
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            for capability in range(64):
                _call("prctl", PR_CAPBSET_DROP, ctypes.c_ulong(capability), *(ctypes.c_ulong(0),) * 3)
        header, empty = _CapHeader(CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
        _call("capset", ctypes.byref(header), empty)
        prctl(PR_SET_NO_NEW_PRIVS, 1)


def usable_uid() -> int | None:
    """A user id no other process has, where this process may take one, and that user could read the libraries."""
    if os.getuid() != 0:
        return None
    wanted = 1_000_000_000 + os.getpid()
    with contextlib.suppress(OSError, ValueError):
        ranges = [[int(n) for n in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
        if not any(first <= wanted < first + count for first, _, count in ranges):
            wanted = 60_000 + os.getpid() % 5_000
    return wanted


def limit(cpu_seconds: int, memory_mb: int, file_mb: int, processes: int) -> None:
    """Limits of this process and its children; memory on top of what the process maps already."""
    def set_limit(name: str, value: int) -> None:
        kind = getattr(resource, name, None)
        if kind is None:
            return
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, value))

    mapped = 0
    with contextlib.suppress(OSError):
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    set_limit("RLIMIT_CPU", cpu_seconds)
    set_limit("RLIMIT_AS", mapped + memory_mb * 2**20)
    set_limit("RLIMIT_FSIZE", file_mb * 2**20)
    set_limit("RLIMIT_NPROC", processes)
    set_limit("RLIMIT_NOFILE", 256)
    set_limit("RLIMIT_CORE", 0)


def own_threads(uid: int) -> int:
    """Threads of `uid` that run now: the process limit of a user who has other things to do counts from there."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == uid:
                total += len(os.listdir(folder / "task"))
    return total


def descendants() -> list[int]:
    """Process ids below this one, from /proc (empty where there is none)."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found, queue = [], [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def waiting_seconds(pid: int) -> float:
    """Seconds that the threads of `pid` were ready to run but had no processor; 0 where nobody keeps count."""
    total = 0
    for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            total += int(task.read_text().split()[1])
    return total / 1e9


def used_memory(pids: list[int]) -> int:
    """Bytes of private memory that `pids` hold together."""
    pages = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/statm").read_text().split()
            pages += int(fields[1]) - int(fields[2])
    return pages * resource.getpagesize()


def used_disk(folder: str) -> int:
    """Bytes below `folder`."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total
