"""A worker: runs the probes of a question or several on one submission, each in a forked child of its own.

`grading.sandbox` starts it inside bubblewrap as `python -I -B serve.py CANARY NETWORK [--torch]`, or, in a container
that allows no namespaces, with `--container ROOT HIDDEN...` at the end. Before all else it looks whether it is confined
and ends if it is not; CANARY is a file outside that it must not be able to see. It is trusted and never imports the
submission; its children do, in a fresh copy of the submission's folder, under limits.

On standard output, a JSON line when it has found itself confined and one when it is ready, then for each probe a JSON
line and the bytes that line announces. On standard input, one JSON line, the job, and the bytes of the inputs (.npz).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import io
import itertools
import json
import math
import os
import random
import resource
import select
import shutil
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HOME, CODE, GRADER = "/scratch", "/submission", "/grader"  # below the place's root
LOG_BYTES = 20_000
REPLY_BYTES = 64 * 2**20
POLL_SECONDS = 0.1
PATIENCE = 5
MOST_FILES = 20_000  # that a probe may make; each takes a kilobyte of the kernel's memory, besides its content
PR_SET_DUMPABLE, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, KEYCTL_JOIN_SESSION_KEYRING = 4, 22, 2, 1


class Namespace:
    """The place that bubblewrap made: its first process is the worker, and all other processes are the worker's.

    To any other process it is an empty place: what it ends and removes would be the machine's.
    """

    root = ""

    def __init__(self) -> None:
        self.ours = os.getpid() == 1
        self.shared = ("/tmp", "/dev/shm") if self.ours else ()  # where a submission may write besides its home

    def unconfined(self, canary: str, network: bool) -> str:
        return unconfined(canary, network)

    def others(self) -> list[int]:
        return [int(folder.name) for folder in Path("/proc").glob("[0-9]*") if folder.name != "1"] if self.ours else []

    def kill_others(self) -> None:
        for pid in self.others():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def leave(self) -> None:
        os._exit(1)  # with this, the first process of the namespace, the kernel ends all others


def place(arguments: list[str]) -> Any:
    """Where this worker is: in a namespace, or, after `--container`, in a folder of a container."""
    if "--container" not in arguments:
        return Namespace()
    root, *hidden = arguments[arguments.index("--container") + 1:]
    sys.path.append(f"{root}{GRADER}")
    from grading.worker.container import Container

    sys.path.pop()
    return Container(root, hidden)


def unconfined(canary: str, network: bool) -> str:
    """Why this process is not confined, seen from inside; '' where it is."""
    fields = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    if os.getpid() != 1:
        return "this is not the first process of a namespace of its own"
    if 0 in (*os.getresuid(), *os.getresgid(), *os.getgroups()):
        return "this runs as root"
    if any(int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")) or fields["NoNewPrivs"] != "1":
        return "this has, or may gain, capabilities"
    if os.path.lexists(canary):
        return "files outside can be seen"
    if any(os.access(path, os.W_OK) for path in ("/", "/usr", CODE, sys.prefix, "/proc/sys/kernel/core_pattern")):
        return "files outside can be written"
    routes = Path("/proc/net/route").read_text().splitlines()[1:]
    addresses = [line.split()[-1] for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    if not network and (routes or set(addresses) - {"lo"}):
        return "the network is open"
    return ""


def own_keyring() -> None:
    """Let go of the keys of the grader's session, which neither namespaces nor another user id take away."""
    number = {"x86_64": 250, "aarch64": 219}.get(os.uname().machine)  # keyctl(2)
    joined = number and ctypes.CDLL(None, use_errno=True).syscall(number, KEYCTL_JOIN_SESSION_KEYRING, None) >= 0
    if not joined and ctypes.get_errno() != errno.ENOSYS:
        sys.exit("not confined, so nothing was run: the keys of the grader's session are open to it")


def prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3):
        raise OSError(ctypes.get_errno(), "prctl")


def preload(with_torch: bool, grader: str = GRADER) -> None:
    """Import what submissions use, from the installed libraries and before any submission's folder is in the path."""
    sys.path.append(grader)
    import matplotlib.pyplot  # noqa: F401
    import numpy  # noqa: F401

    from grading.worker import student

    with contextlib.suppress(ImportError):
        import tqdm  # noqa: F401
    student.load(with_torch)
    sys.path.remove(grader)


class Worker:
    """A job: {'probes': [{'name', 'question', 'function', 'options', 'seconds'}], 'limits', 'data': {key: folder}}."""

    def __init__(self, job: dict[str, Any], inputs: dict[str, Any], out: Any, place: Any):
        self.job, self.inputs, self.out, self.limits, self.place = job, inputs, out, job["limits"], place

    def leave(self, reason: str) -> None:
        """End, with all processes, because of what the submission did."""
        self.out.write(json.dumps({"left": reason}).encode() + b"\n")
        self.out.flush()
        self.place.leave()

    def run(self) -> None:
        left = {probe["question"]: self.limits["seconds"] for probe in self.job["probes"]}
        for number, probe in enumerate(self.job["probes"]):
            status: dict[str, Any] = {"end": "no time left"}
            contents = [b"", b"", b""]
            if (seconds := min(left[probe["question"]], probe["seconds"])) > 0:
                status, *contents = self.one(probe, seconds, f"{self.place.root}{HOME}/{number}")
                left[probe["question"]] -= status["seconds"]
            status |= {"name": probe["name"], "sizes": [len(content) for content in contents]}
            self.out.write(json.dumps(status).encode() + b"\n" + b"".join(contents))
            self.out.flush()

    def one(self, probe: dict[str, Any], seconds: float, home: str) -> tuple[Any, ...]:
        """Run one probe in a child: how it ended, its reply (JSON), its arrays (.npz), the end of its output."""
        from grading.worker import watch

        code = Path(f"{self.place.root}{CODE}")
        self.clear()
        try:
            shutil.copytree(code, f"{home}/code", copy_function=shutil.copyfile)  # not its modes
            os.mkdir(f"{home}/tmp")
        except OSError:
            if sum(path.stat().st_size for path in code.rglob("*")) < self.limits["disk_mb"] * 2**20:
                raise  # the machine's trouble
            return {"end": "no room for the submission's files", "seconds": 0}, b"", b"", b""
        with contextlib.ExitStack() as files:
            reply, arrays, log = (files.enter_context(os.fdopen(os.memfd_create("reply"), "w+b", buffering=0))
                                  for _ in range(3))
            seen, told = (files.enter_context(end) for end in socket.socketpair())  # what is told, `seen` alone reads
            seen.setblocking(False)
            told.setblocking(False)
            at_end = 64 + os.urandom(1)[0] % 128  # the exit code of a child that has come to its end
            begun = os.pipe()
            killed, started = out_of_memory(), time.monotonic()
            pid = os.fork()
            if pid == 0:
                self.child(probe, seconds, home, at_end, told.fileno(), reply.fileno(), arrays.fileno(), log.fileno(),
                           begun[1])
            os.close(begun[1])
            end, code_, waited = self.wait(pid, started, seconds, (reply, arrays, log))
            self.end_all()
            with os.fdopen(begun[0], "rb") as said:
                if not said.read():
                    sys.exit(f"a probe could not be started: {read(log, 200, tail=True).decode(errors='replace')}")
            if end == "ended" and code_ == -signal.SIGKILL and out_of_memory() > killed:
                sys.exit("the memory of this machine ran out")
            self.clear()  # in the submission's own time
            if end == "ended":
                end, code_ = ("ended", 0) if code_ == at_end else ("early" if code_ >= 0 else end, code_)
            status = {"end": end, "code": code_, "seconds": round(time.monotonic() - started - waited, 3),
                      "seen": watch.events(received(seen))}
            return status, read(reply, 2**20), read(arrays, REPLY_BYTES), read(log, LOG_BYTES, tail=True)

    def clear(self) -> None:
        """Remove what a submission has left behind."""
        for folder in (f"{self.place.root}{HOME}", *self.place.shared):
            empty(folder)

    def end_all(self) -> None:
        """End whatever the child has left running, and collect it."""
        give_up = time.monotonic() + 5
        while self.place.others() and time.monotonic() < give_up:
            self.place.kill_others()
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(0.002)
        if self.place.others():
            self.leave("it started processes faster than they can be ended")

    def wait(self, pid: int, started: float, seconds: float, held: Sequence[Any] = ()) -> tuple[str, int, float]:
        """Wait for `pid`, watching the clock, the memory of all processes and the number of files.

        held: files in memory that it can write to, also when it has closed them.

        Time in which it was ready to run and the processor was busy with others, its own processes aside, does not
        count against it, so that a loaded machine costs nobody points; but no more than `PATIENCE` seconds in one.

        Returns:
            How it ended, its exit code, and the seconds that do not count.
        """
        waited = 0.0
        files, others = self.files(), busy_seconds() - own_seconds(self.place.others())
        with contextlib.ExitStack() as stack:
            watch = select.poll()
            fd = os.pidfd_open(pid)
            stack.callback(os.close, fd)
            watch.register(fd, select.POLLIN)
            watch.register(0, 0)  # nothing more comes from the grader, but its end does
            while True:
                if (0, select.POLLHUP) in watch.poll(1000 * POLL_SECONDS):
                    self.place.leave()
                pids = self.place.others()
                by_others = (busy_seconds() - own_seconds(pids) - others) / len(os.sched_getaffinity(0))
                elapsed = time.monotonic() - started
                waited = max(waited, min(waiting_seconds(pids), by_others, elapsed * (1 - 1 / PATIENCE)))
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    code = os.waitstatus_to_exitcode(status)
                    return ("cpu time" if code == -signal.SIGXCPU else "ended"), code, waited
                if elapsed - waited > seconds:
                    return "wall time", 0, waited
                most = self.limits["memory_mb"] * 2**20
                if used_memory(pids, held) > most and used_memory(pids, held, once=True) > most:
                    return "memory", 0, waited
                if self.files() - files > MOST_FILES:
                    return "files", 0, waited

    def files(self) -> int:
        """Files in the memory-backed folders, those without a name among them; 0 where they are not its own."""
        if self.place.root:
            return 0
        status = [os.statvfs(folder) for folder in (HOME, *self.place.shared)]
        return sum(one.f_files - one.f_ffree for one in status)

    def child(self, probe: dict[str, Any], seconds: float, home: str, at_end: int, told: int, reply: int, arrays: int,
              log: int, begun: int) -> None:
        """The forked child, where the submission's code runs. Never returns."""
        try:
            import numpy as np

            from grading.worker import student, watch

            os.setsid()
            os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
            os.dup2(log, 1)
            os.dup2(log, 2)
            for fd in range(3, 256):
                if fd not in (told, reply, arrays, begun):
                    with contextlib.suppress(OSError):
                        os.close(fd)
            prctl(PR_SET_DUMPABLE, 1)
            os.environ.update(HOME=home, TMPDIR=f"{home}/tmp", MPLCONFIGDIR=f"{home}/tmp")
            limit(math.ceil(seconds) + 1, self.limits)
            os.chdir(f"{home}/code")
            sys.path.append(f"{home}/code")  # last: no file of a submission can stand in for a library
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a pool ends its processes with it
            random.seed(0)
            np.random.seed(0)
            inputs = {key.partition("/")[2]: value for key, value in self.inputs.items()
                      if key.partition("/")[0] == probe["name"]}
            watch.watch(home, told)
            if program := self.job.get("filter"):
                refuse(bytes.fromhex(program))
            os.write(begun, b"x")
            os.close(begun)
            altered, before = watch.altered, watch.functions()
            student.answer(probe, inputs, self.job["data"], reply, arrays)
            if names := altered(before):
                print("altered:", *names)
                os.write(told, f"\n{watch.ALTERED}\n".encode())
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(at_end)


def limit(cpu_seconds: int, limits: dict[str, Any]) -> None:
    """Limits of this process and its children; memory on top of what the process maps already."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    memory, file, processes = limits["memory_mb"] * 2**20, limits["file_mb"] * 2**20, limits["processes"]
    for kind, value in ((resource.RLIMIT_CPU, cpu_seconds), (resource.RLIMIT_AS, mapped + memory),
                        (resource.RLIMIT_FSIZE, file), (resource.RLIMIT_NPROC, processes),
                        (resource.RLIMIT_NOFILE, 256), (resource.RLIMIT_CORE, 0)):
        hard = resource.getrlimit(kind)[1]
        value = int(value) if hard == resource.RLIM_INFINITY else min(int(value), hard)
        more = value + (5 if kind == resource.RLIMIT_CPU else 0)  # SIGXCPU, which tells, and only later SIGKILL
        resource.setrlimit(kind, (value, more if hard == resource.RLIM_INFINITY else min(more, hard)))


def refuse(program: bytes) -> None:
    """Have the kernel refuse this process and its children what `program` says (grading/syscalls.py)."""
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    made = Program(len(program) // 8, program)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(made)):
        raise OSError(ctypes.get_errno(), "system calls cannot be filtered")
    with contextlib.suppress(PermissionError):
        os.close(os.memfd_create("tried"))
        raise OSError("system calls are not filtered")


def empty(folder: str) -> None:
    """Remove all that this user has in `folder`. Folders are moved up first, so that no depth is too deep."""
    mark, number = os.urandom(8).hex(), itertools.count()
    left = [entry.path for entry in os.scandir(folder) if entry.stat(follow_symlinks=False).st_uid == os.getuid()]
    while left:
        path = left.pop()
        with contextlib.suppress(OSError):
            if os.path.islink(path) or not os.path.isdir(path):
                os.unlink(path)
                continue
            os.chmod(path, 0o700)
            for inner in list(os.scandir(path)):
                if inner.is_dir(follow_symlinks=False):
                    os.chmod(inner.path, 0o700)
                    os.rename(inner.path, moved := f"{folder}/{mark}-{next(number)}")
                    left.append(moved)
                else:
                    os.unlink(inner.path)
            os.rmdir(path)


def busy_seconds() -> float:
    """Seconds that this process's processors have worked so far, for whomever."""
    ours = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    total = 0
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name in ours:
            total += sum(map(int, [*ticks[:3], *ticks[5:8]]))  # user, nice, system; irq, softirq, steal
    return total / os.sysconf("SC_CLK_TCK")


def own_seconds(pids: list[int]) -> float:
    """Seconds of processor time of this worker and all it has started, those which have ended among them."""
    total = sum(os.times()[:4])
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


def waiting_seconds(pids: list[int]) -> float:
    """Seconds that a thread of these was ready to run but had no processor, the longest; 0 where nobody keeps count."""
    longest = 0
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                longest = max(longest, int(task.read_text().split()[1]))
    return longest / 1e9


def out_of_memory() -> int:
    """How many processes the kernel has ended for lack of memory, on this machine."""
    with contextlib.suppress(OSError, ValueError):
        fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
        return int(fields.get("oom_kill", 0))
    return 0


def socket_bytes() -> int:
    """What an unread socket may hold."""
    with contextlib.suppress(OSError, ValueError):
        return 2 * int(Path("/proc/sys/net/core/wmem_max").read_text())  # as much again is the kernel's own
    return 2 * 212_992


def process_memory(pid: int, once: bool) -> int:
    """Bytes of memory of its own and shared that a process holds. once: as in `used_memory`."""
    if once:
        with contextlib.suppress(OSError, ValueError, IndexError):  # it is gone, or lets nobody look
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text(errors="replace").splitlines()
            parts = [1024 * int(line.split()[1]) for line in lines
                     if line.startswith(("Pss_Anon:", "Pss_Shmem:", "SwapPss:"))]
            if len(parts) == 3:
                return sum(parts)
    with contextlib.suppress(OSError, ValueError, IndexError):
        return sum(1024 * int(line.split()[1])
                   for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines()
                   if line.startswith(("RssAnon:", "RssShmem:", "VmSwap:")))
    return 0


def used_memory(pids: list[int], held: Sequence[Any] = (), once: bool = False) -> int:
    """Bytes that `pids` hold together: memory of their own and shared, files without a name, System V segments.

    held: open files that count as well. once: what a process shares with those that it forked, as a DataLoader's
    workers are, is counted once and not for each of them, which takes longer.
    """
    total, files, unread = 0, {}, socket_bytes()
    for status in (os.fstat(file.fileno()) for file in held):
        files[status.st_dev, status.st_ino] = 512 * status.st_blocks
    for pid in pids:
        total += process_memory(pid, once)
        with contextlib.suppress(OSError):
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with contextlib.suppress(OSError):
                    status = os.stat(entry.path)
                    if stat.S_ISSOCK(status.st_mode):
                        files[status.st_dev, status.st_ino] = unread
                    elif status.st_nlink == 0:
                        files[status.st_dev, status.st_ino] = 512 * status.st_blocks
    with contextlib.suppress(OSError, ValueError, IndexError):
        total += sum(int(line.split()[-2]) for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:])
    return total + sum(files.values())


def received(connection: Any) -> bytes:
    """All that has been sent."""
    parts = []
    with contextlib.suppress(BlockingIOError, ConnectionError):
        while part := connection.recv(2**16):
            parts.append(part)
    return b"".join(parts)


def read(file: Any, most: int, tail: bool = False) -> bytes:
    """Up to `most` bytes of `file`, its first or its last."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), most, max(0, size - most) if tail else 0)


def main() -> None:
    canary, network = sys.argv[1], sys.argv[2] == "open"
    here = place(sys.argv)
    if wrong := here.unconfined(canary, network):
        sys.exit(f"not confined, so nothing was run: {wrong}")
    for name in (signal.SIGINT, signal.SIGTERM):  # what its children send it: SIGKILL they cannot
        signal.signal(name, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    own_keyring()
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nothing that is printed here can look like an answer
    out.write(b'{"confined": true}\n')
    out.flush()
    preload("--torch" in sys.argv, here.root + GRADER)
    out.write(b'{"ready": true}\n')
    out.flush()
    import numpy as np

    job = json.loads(sys.stdin.buffer.readline())
    prctl(PR_SET_DUMPABLE, 0)  # the children may not look into this process
    with np.load(io.BytesIO(sys.stdin.buffer.read(job["inputs"])), allow_pickle=False) as file:
        inputs = {key: file[key] for key in file.files}
    Worker(job, inputs, out, here).run()


if __name__ == "__main__":
    main()
