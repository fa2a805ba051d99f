"""How several processes find each other: the launcher's variables, the store that they share, the network between them.

torchrun, or else the first process, serves a key-value store at MASTER_ADDR:MASTER_PORT. Processes meet there, and
wait for each other there as long as all of them live.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist

from training.console import notice
from training.flags import UserError

PATIENCE = timedelta(seconds=45)  # with a process that does not answer: one that has died ends the run within a minute
START = timedelta(minutes=30)  # for all to load their data and to join
TELL_AFTER = 10  # seconds of waiting for a process that has not come yet
HEARTBEAT = 5  # seconds
LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
ALONE = f"if torchrun did not start this, end it and unset {' '.join(LAUNCHER)}"
OTHER_LAUNCHERS = {"srun": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
                   "mpirun": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), "mpiexec": ("PMI_RANK", "PMI_SIZE")}


def launched() -> tuple[int, int, int]:
    """(rank, number of processes, rank on this machine), as torchrun says in the environment; (0, 1, 0) without it.

    Raises:
        UserError: the launcher's variables are not all there, or do not agree.
    """
    given = {name: os.environ[name] for name in LAUNCHER if os.environ.get(name)}
    if not given.keys() & {"RANK", "WORLD_SIZE", "LOCAL_RANK"}:
        return 0, 1, 0  # an address alone may be there for other reasons
    way_out = f"start with torchrun, or unset {' '.join(given)}"
    if missing := [name for name in LAUNCHER if name not in given]:
        verb = "is" if len(given) == 1 else "are"
        raise UserError(f"{', '.join(given)} of a launcher {verb} set, but not {', '.join(missing)}: {way_out}")
    try:
        rank, size, local, port = (int(given[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"))
    except ValueError:
        rank = size = local = port = -1
    if not (0 <= rank < size and 0 <= local <= rank and 0 < port < 2**16):
        raise UserError(f"{', '.join(f'{name}={value}' for name, value in given.items())} do not agree: {way_out}")
    return rank, size, local


def processes() -> int:
    """How many processes torchrun started; 1 without it."""
    return launched()[1]


def rank() -> int:
    """The number of this process among them, from 0."""
    return launched()[0]


def note_independent_tasks() -> None:
    """srun and mpirun start several processes that do not know of each other: one of them says so."""
    for launcher, (rank_name, size_name) in OTHER_LAUNCHERS.items():
        size = os.environ.get(size_name, "")
        if os.environ.get(rank_name) == "0" and size.isdecimal() and int(size) > 1:
            notice(f"{launcher} started {size} processes, each of which trains by itself. To share one run, start "
                   "torchrun once on each machine, as cluster/train.sbatch does.")
            return


# ---------------------------------------------------------------- errors


def meeting_point() -> str:
    """Where the processes meet, with the names of the variables that say so."""
    return f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']} (MASTER_ADDR, MASTER_PORT)"


@contextlib.contextmanager
def lost_connections(what: str) -> Iterator[None]:
    """Inside, what PyTorch raises for a lost connection becomes a ConnectionError of one line, which `what` describes.

    It keeps what the run said about how to continue.
    """
    try:
        yield
    except Exception as error:
        text = str(error)
        if not isinstance(error, dist.DistError) and "gloo/" not in text:  # Gloo's are plain RuntimeErrors
            raise
        # Without the place in Gloo's source code, and without what Gloo says of every error.
        reason = re.sub(r"\[/\S*\] *", "", text.splitlines()[0]).partition(". This is typically caused by")[0]
        library = "NCCL" if "nccl" in text.lower() else "GLOO"
        found = ConnectionError(f"the other processes, which met at {meeting_point()}, {what}: {reason}; if this "
                                f"repeats, set {library}_SOCKET_IFNAME to the network interface that leads to them")
        for note in getattr(error, "__notes__", []):
            found.add_note(note)
        raise found from None


def answer_of(call: Callable[[], Any]) -> Any:
    """What `call` returns. The store's calls would wait for hours where the link is cut or another program listens.

    Raises:
        ConnectionError: no answer within PATIENCE.
    """
    answer: Future = Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(PATIENCE.total_seconds())
    except TimeoutError:
        raise ConnectionError(f"no answer for {PATIENCE.seconds} s from {meeting_point()}") from None


# ---------------------------------------------------------------- the store that all share


def shared_store() -> dist.Store:
    """The key-value store that all processes share.

    Raises:
        UserError: its port is in use.
        ConnectionError: it cannot be reached, or does not answer.
    """
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    torchrun_serves = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    serves = rank() == 0 and not torchrun_serves
    if not serves:
        reach(host, port, PATIENCE if torchrun_serves else START)
    try:
        store = answer_of(lambda: dist.TCPStore(host, port, None, serves, timeout=PATIENCE, wait_for_workers=False))
    except dist.DistError as error:
        if not serves:
            raise
        reason = str(error).splitlines()[0].rpartition("message: ")[2]
        raise UserError(f"cannot listen at {meeting_point()}: {reason}; choose another port") from None
    return dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)


def reach(host: str, port: int, patience: timedelta) -> None:
    """Wait until something listens at this port; a first process that still loads its data does not."""
    start, told = time.monotonic(), False
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            reason = error.strerror or str(error)
        waited = time.monotonic() - start
        if waited > patience.total_seconds():
            raise ConnectionError(f"the first process cannot be reached at {meeting_point()}: {reason}")
        if waited > TELL_AFTER and not told:
            notice(f"the first process cannot be reached yet at {meeting_point()}: {reason}; {ALONE}")
            told = True
        time.sleep(0.2)


class Meeting:
    """Where processes wait for each other as long as all of them live, which a collective operation does not.

    Each process counts up a heartbeat in the store that all of them share, until it leaves.

    Raises:
        UserError: the launcher's variables of two processes do not fit each other.
    """

    current: Meeting | None = None  # the one that this process has joined

    def __init__(self, store: dist.Store):
        self.store, self.places = store, itertools.count()
        self.rank, self.size = rank(), processes()
        first = answer_of(lambda: store.compare_set("size", "", str(self.size))).decode()
        if first != str(self.size):
            raise UserError(f"WORLD_SIZE is {self.size} here and {first} in another process that meets at "
                            f"{meeting_point()}")
        if answer_of(lambda: store.add(f"process/{self.rank}", 1)) > 1:
            raise UserError(f"RANK is {self.rank} in two processes that meet at {meeting_point()}")
        self._left = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._heart.start()

    def _beat(self) -> None:
        with contextlib.suppress(dist.DistError, RuntimeError):  # the store is gone: so are the others
            for beat in itertools.count():
                self.store.set(f"heartbeat/{self.rank}", str(beat))
                if self._left.wait(HEARTBEAT):
                    return

    def leave(self) -> None:
        """End the heartbeat: a thread that is inside the store when Python exits would abort the process."""
        self._left.set()
        self._heart.join(HEARTBEAT)  # not for ever: the store may not answer any more

    def wait(self) -> None:
        place = f"meeting/{next(self.places)}"
        answer_of(lambda: self.store.set(f"{place}/{self.rank}", "here"))
        for other in range(self.size):
            beat, heard, told = b"", time.monotonic(), False
            while not self._has(f"{place}/{other}"):
                if (now := self.read(f"heartbeat/{other}")) != beat:
                    beat, heard = now, time.monotonic()
                silence = time.monotonic() - heard
                if beat and silence > PATIENCE.total_seconds():
                    raise ConnectionError(f"process {other} has not been heard of for {PATIENCE.seconds} s at "
                                          f"{meeting_point()}")
                if silence > START.total_seconds():
                    raise ConnectionError(f"process {other} has not come to {meeting_point()}")
                if not beat and silence > TELL_AFTER and not told:
                    notice(f"process {other} of {self.size} has not come yet to {meeting_point()}; {ALONE}")
                    told = True
                time.sleep(0.01)

    def _has(self, key: str) -> bool:
        return answer_of(lambda: self.store.check([key]))

    def read(self, key: str) -> bytes:
        """What was stored under this key; b"" where nothing was."""
        return answer_of(lambda: self.store.get(key)) if self._has(key) else b""


def wait_for_all() -> None:
    """Wait until every process is here, however long that takes them, as long as they live."""
    if Meeting.current:
        Meeting.current.wait()


# ---------------------------------------------------------------- the network interface


def address_towards(host: str) -> str:
    """This machine's own address on the way to `host`; nothing is sent."""
    family, _, _, _, there = socket.getaddrinfo(host, 1, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as way:
        way.connect(there)
        return way.getsockname()[0].partition("%")[0]


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback


def interface_with(address: str) -> str:
    """The name of the network interface that has this address; '' where it cannot be told."""
    if not sys.platform.startswith("linux"):
        return ""
    if ":" in address:
        digits = ipaddress.ip_address(address).exploded.replace(":", "")
        lines = (line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines())
        return next((words[-1] for words in lines if words[0] == digits), "")
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # it has no IPv4 address; 0x8915 is SIOCGIFADDR of netdevice(7)
                answer = fcntl.ioctl(any_socket, 0x8915, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return ""


def interface_towards_others(meeting: Meeting) -> str:
    """The network interface that leads to the other processes; '' where it cannot be told. For all to call."""
    try:
        mine = address_towards(os.environ["MASTER_ADDR"])
    except OSError:
        mine = "127.0.0.1"
    answer_of(lambda: meeting.store.set(f"address/{meeting.rank}", mine))
    meeting.wait()
    if is_loopback(mine):  # MASTER_ADDR is this machine, whatever it is to the others
        addresses = (meeting.read(f"address/{other}").decode() for other in range(meeting.size))
        mine = next((address_towards(address) for address in addresses if not is_loopback(address)), mine)
    return interface_with(mine)


@contextlib.contextmanager
def gloo_interface(meeting: Meeting) -> Iterator[None]:
    """Inside, Gloo uses the network interface that leads to the others, unless the user has named one.

    Gloo itself would use that of the machine's own name, to which Debian and Ubuntu give the loopback address.
    """
    found, name = interface_towards_others(meeting), "GLOO_SOCKET_IFNAME"
    if os.environ.get(name) or not found:
        yield
        return
    os.environ[name] = found
    try:
        yield
    finally:
        del os.environ[name]
