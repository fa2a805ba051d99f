"""What a submission may hold of the machine: every way round the limit of memory is refused, counted or said to be open."""

import contextlib
import os
import re
import resource
import subprocess
import time
import zipfile
from pathlib import Path

import pytest
from grading_help import MODULES, failures, grade, needs_confinement, reduced, submission

from grading import cgroups, intake, syscalls
from grading.confinement import Confined
from grading.replies import EARLY, Limits, Probe
from grading.sandbox import Sandbox, Trouble
from grading.worker import serve

pytestmark = [pytest.mark.grading, needs_confinement]
LIMITS = {"seconds": 30, "probe_seconds": 6, "memory_mb": 400, "disk_mb": 64, "file_mb": 64, "processes": 24}
START = "import ctypes, errno, mmap, os, socket, subprocess, sys, time\nlibc = ctypes.CDLL(None, use_errno=True)\n"
SAY = "\ndef say(name, result):\n    print(name, errno.errorcode.get(ctypes.get_errno(), 0) if result < 0 else 'granted')\n"


@pytest.fixture
def run(tmp_path):
    """Run code in a worker: its first reply. Several pieces: a probe each."""
    (tmp_path / "work").mkdir()
    with Sandbox(tmp_path / "work") as sandbox:
        def one(code: str, probes: int = 1, **limits: float):
            folder = submission(tmp_path / f"code{len(list(tmp_path.iterdir()))}", modules=START + SAY + code)
            asked = {str(i): Probe("linear_init", options={"in": 3, "out": 2}) for i in range(probes)}
            replies = list(sandbox.run(folder, asked, Limits(**LIMITS | limits), {}, torch=False).values())
            return replies[0] if probes == 1 else replies

        yield one


# ---------------------------------------------------------------- system calls

CALLS = """
for name, call in {
    'memfd_create': lambda: libc.memfd_create(b'x', 0),
    'unshare': lambda: libc.unshare(0x10000000 | 0x20000),
    'mount': lambda: libc.mount(b'x', b'/tmp', b'tmpfs', 0, b''),
    'shmget': lambda: libc.shmget(0, 4096, 0o1600),
    'hiding': lambda: libc.prctl(4, ctypes.c_ulong(0), *(ctypes.c_ulong(0),) * 3),
    'prlimit': lambda: libc.prlimit(1, 0, (ctypes.c_long * 2)(0, 0), None),
    'clone': lambda: libc.syscall({'x86_64': 56, 'aarch64': 220}[os.uname().machine], 0x10000000 | 17, 0, 0, 0, 0),
}.items():
    ctypes.set_errno(0)
    result = call()
    if name == 'clone' and result == 0:
        os._exit(0)
    say(name, result)
"""


def test_system_calls_that_get_round_the_limits_are_refused(run):
    said = run(CALLS + MODULES).output.splitlines()
    assert said == [f"{name} EPERM" for name in ("memfd_create", "unshare", "mount", "shmget", "hiding", "prlimit", "clone")]


def test_what_python_needs_is_not_refused(run):
    """Threads, processes, pipes and files in memory: what data loaders use."""
    reply = run("""
import multiprocessing, tempfile, threading
thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()
context = multiprocessing.get_context('fork')
queue = context.Queue()
process = context.Process(target=queue.put, args=(1,)); process.start(); queue.get(); process.join()
subprocess.run(['true'], check=True)
tempfile.TemporaryFile().write(b'x')
from multiprocessing import shared_memory
block = shared_memory.SharedMemory(create=True, size=10**6); block.close(); block.unlink()
""" + MODULES)
    assert reply.error is None and reply.output.strip() == "thread"


def test_without_libseccomp_one_line_says_what_is_open(tmp_path, monkeypatch):
    syscalls.program.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "pyseccomp", None)
    (tmp_path / "work").mkdir()
    with Sandbox(tmp_path / "work") as sandbox:
        found = [line for line in sandbox.warnings() if "system calls are not filtered" in line]
        reply = sandbox.run(submission(tmp_path / "doe"), {"a": Probe("linear_init", options={"in": 3, "out": 2})},
                            Limits(**LIMITS), {}, False)["a"]
    syscalls.program.cache_clear()
    assert len(found) == 1 and "\n" not in found[0] and "libseccomp2" in found[0] and reply.error is None


# ---------------------------------------------------------------- memory

HOLDS = {
    "memory of its own": "x = bytearray(3 * 10**8); y = bytearray(3 * 10**8)",
    "of its children": "for _ in range(6):\n    if os.fork() == 0:\n        x = bytearray(10**8); time.sleep(60)",
    "shared": "x = mmap.mmap(-1, 6 * 10**8)\nfor i in range(0, len(x), 4096): x[i] = 1",
    "unread sockets": """
for _ in range(4):
    if os.fork() == 0:
        pairs = [socket.socketpair() for _ in range(110)]
        for end in sum(pairs, ()):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**20)
            end.setblocking(False)
            try:
                while True: end.send(bytes(10**5))
            except BlockingIOError: pass
        time.sleep(60)
""",
    "empty files": "for i in range(10**6):\n    os.close(os.open(f'/tmp/{i}', os.O_CREAT))",
    "folders": "for i in range(10**6):\n    os.mkdir(f'/dev/shm/{i}')",
    "files without a name": "f = []\nfor i in range(60):\n    f.append(open(f'x{i}', 'wb')); f[-1].write(bytes(10**7)); "
                            "f[-1].flush(); os.unlink(f'x{i}')",
}


def test_memory_of_a_process_whose_name_is_no_text_is_counted(run, monkeypatch):
    monkeypatch.setattr(cgroups, "parent", lambda: Path("/nowhere"))
    name = "open('/proc/self/comm', 'wb').write(b'\\xff\\xfe')\n"
    reply = run(f"{name}x = [bytearray(b'x' * 10**8)]\nfor _ in range(4):\n    if os.fork() == 0:\n        "
                + name.strip() + "\n        x.append(bytearray(b'x' * 2 * 10**8)); time.sleep(60)\ntime.sleep(60)")
    assert "more than 400 MB of memory" in reply.error and reply.seconds < 5


@pytest.mark.parametrize("name", HOLDS)
def test_memory_is_limited_however_it_is_held(run, name, monkeypatch):
    monkeypatch.setattr(cgroups, "parent", lambda: Path("/nowhere"))  # by what the worker counts, alone
    most = 600 if "sockets" in name else 400  # pages that processes share count for each: these would be found by those
    disk = 2048 if "without a name" in name else LIMITS["disk_mb"]  # which would be full first
    reply = run(HOLDS[name] + "\ntime.sleep(60)", memory_mb=most, disk_mb=disk)
    assert re.search("more than [0-9]+ MB of memory|MemoryError|allocate memory|more files than|No space left", reply.error), reply.error
    assert reply.seconds < 5, reply.error


# ---------------------------------------------------------------- control groups


@pytest.fixture
def grouped():
    """Skips where no control group can be made."""
    with Confined(["sleep", "60"], {}, 1) as worker, contextlib.ExitStack() as stack:
        try:
            stack.enter_context(cgroups.group(worker.pid, 1, 1))
        except OSError as error:
            pytest.skip(f"no control groups: {error}")
        worker.kill()


def test_the_kernel_holds_a_worker_to_its_memory(tmp_path, monkeypatch, grouped):
    """With a group so small that it is full before the worker counts: that is the submission's, and all its processes'."""
    made, group = [], cgroups.Group
    monkeypatch.setattr(cgroups, "SLACK_MB", -400)
    monkeypatch.setattr(cgroups, "Group", lambda folder: made.append(folder) or group(folder))
    (tmp_path / "work").mkdir()
    folder = submission(tmp_path / "doe", modules="x = bytearray(3 * 10**8)")
    probe = Probe("linear_init", options={"in": 3, "out": 2})
    with Sandbox(tmp_path / "work") as sandbox:
        replies = sandbox.run(folder, {"a": probe, "b": probe}, Limits(**LIMITS), {}, torch=False)
        assert not any("counted ten times" in line for line in sandbox.warnings())
    assert replies["a"].error == f"stopped: all its processes together used more than {LIMITS['memory_mb']} MB of memory"
    assert replies["b"].error == "not run: the worker ended early"
    assert len(made) == 2 and not any(folder.exists() for folder in made)  # others on this machine have theirs


def test_a_question_that_fills_the_memory_costs_another_nothing(tmp_path, monkeypatch, grouped):
    """They have a worker together; the next worker does what the first one could not."""
    made, group = [], cgroups.Group
    monkeypatch.setattr(cgroups, "SLACK_MB", -400)
    monkeypatch.setattr(cgroups, "Group", lambda folder: made.append(folder) or group(folder))
    (tmp_path / "work").mkdir()
    folder = submission(tmp_path / "doe", modules=f"""{MODULES}

class LinearModule(LinearModule):
    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        self.held = bytearray(3 * 10**8 if inputs == 9 else 9)
""")
    probes = {f"{question} {inputs}": Probe("linear_init", options={"in": inputs, "out": 2}, question=question)
              for question, inputs in (("a", 3), ("b", 9), ("b", 4), ("c", 5), ("c", 9), ("c", 6), ("d", 7))}
    with Sandbox(tmp_path / "work") as sandbox:
        replies = sandbox.run(folder, probes, Limits(**LIMITS), {}, torch=False)
    cut, left = f"stopped: all its processes together used more than {LIMITS['memory_mb']} MB of memory", "not run: the worker ended early"
    assert {name: reply.error for name, reply in replies.items()} == {
        "a 3": None, "b 9": cut, "b 4": left, "c 5": None, "c 9": cut, "c 6": left, "d 7": None}
    assert len(made) == 4 and not any(folder.exists() for folder in made)  # one of its trial, and three workers


def test_a_worker_that_is_full_before_it_runs_anything_is_nobodys_fault(tmp_path, monkeypatch, grouped):
    monkeypatch.setattr(cgroups, "SLACK_MB", 4 - LIMITS["memory_mb"] - LIMITS["disk_mb"])
    (tmp_path / "work").mkdir()
    with Sandbox(tmp_path / "work") as sandbox, pytest.raises(Trouble, match="ended from outside"):
        sandbox.run(submission(tmp_path / "doe"), {"a": Probe("linear_init", options={"in": 3, "out": 2})},
                    Limits(**LIMITS), {}, torch=False)


def test_without_control_groups_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(cgroups, "parent", lambda: tmp_path / "nowhere")
    with Sandbox(tmp_path) as sandbox:
        found = [line for line in sandbox.warnings() if "counted ten times a second" in line]
    assert len(found) == 1 and "No such file or directory" in found[0]


@pytest.mark.parametrize("second", [False, True])
def test_where_groups_are_made(tmp_path, monkeypatch, second):
    """Both versions, as their folders lie in the file system."""
    monkeypatch.setattr(cgroups, "MOUNT", tmp_path)
    own = "0::/user.slice/session.scope\n" if second else "4:memory:/user/1\n0::/\n"
    read = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path: own if str(path) == "/proc/self/cgroup" else read(path))
    for folder, passed_on in (("", "cpu memory"), ("user.slice", "memory pids"), ("user.slice/session.scope", "")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "cgroup.procs").touch()
        (tmp_path / folder / "cgroup.subtree_control").write_text(passed_on)
    (tmp_path / "memory" / "user" / "1").mkdir(parents=True)
    assert cgroups.parent() == tmp_path / ("user.slice" if second else "memory/user/1")


@pytest.mark.parametrize("files, full", [
    ({"memory.events": "low 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0\n"}, True),
    ({"memory.events": "low 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n"}, False),  # the machine's memory ran out
    ({"memory.events": "low 0\nmax 7\noom 0\noom_kill 0\noom_group_kill 0\n"}, False),
    ({"memory.oom_control": "under_oom 0\noom_kill 1\n", "memory.max_usage_in_bytes": "8000000\n",
      "memory.limit_in_bytes": "8004096\n"}, True),
    ({"memory.oom_control": "under_oom 0\noom_kill 1\n", "memory.max_usage_in_bytes": "5000000\n",
      "memory.limit_in_bytes": "8004096\n"}, False),
    ({"memory.oom_control": "under_oom 0\noom_kill 0\n", "memory.max_usage_in_bytes": "8004096\n",
      "memory.limit_in_bytes": "8004096\n"}, False)])
def test_a_group_was_full_where_its_own_limit_was_reached(tmp_path, files, full):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert cgroups.Group(tmp_path).was_full() == full


# ---------------------------------------------------------------- what is left behind

LEAVES = """
places = ('/tmp/left', '/dev/shm/left', '/scratch/left')
seen = [place for place in places if os.path.lexists(place)] + [n for n in os.listdir('/scratch') if n[0] == 'f']
if seen:
    raise RuntimeError(f'left by an earlier probe: {seen}')
for place in places:
    os.makedirs(place + '/locked/inner')
    os.symlink('/usr', place + '/link')
    open(place + '/locked/file', 'w').close()
    os.chmod(place + '/locked', 0)
here = os.getcwd()
os.chdir('/scratch')
for _ in range(1500):  # deeper than Python's own removal can go
    os.mkdir('folder')
    os.chdir('folder')
os.chdir(here)
"""


def test_shared_places_are_emptied_between_probes(run):
    assert [reply.error for reply in run(LEAVES + MODULES, probes=3)] == [None] * 3


# ---------------------------------------------------------------- the clock


class Alone:
    """A place with one child and nobody else."""

    root, shared = "x", ()

    def __init__(self, pid: int):
        self.pid = pid

    def others(self) -> list[int]:
        return [self.pid]


@pytest.mark.parametrize("others, most", [(0.0, 0.0), (1e6, 0.8)])
def test_only_waiting_that_others_cause_is_excused(monkeypatch, others, most):
    """A submission whose own processes keep each other waiting has no more time than any."""
    monkeypatch.setattr(serve, "waiting_seconds", lambda pids: 1e9)  # ready to run all the time, it seems
    monkeypatch.setattr(serve, "busy_seconds", lambda: others * time.monotonic())
    monkeypatch.setattr(serve, "own_seconds", lambda pids: 0.0)
    with subprocess.Popen(["sleep", "60"]) as child:
        worker = serve.Worker({"limits": {"memory_mb": 10**6}}, {}, None, Alone(child.pid))
        started = time.monotonic()
        end, _, waited = worker.wait(child.pid, started, 0.5)
        elapsed = time.monotonic() - started
        child.kill()
    assert end == "wall time" and waited == pytest.approx(most * elapsed, abs=0.3)
    assert elapsed - waited >= 0.5


def test_a_worker_counts_the_time_of_all_that_it_has_started():
    def spin() -> int:
        pid = os.fork()
        if pid == 0:
            Path("/proc/self/comm").write_bytes(b"\xff (1) ")  # not a name in UTF-8
            while time.process_time() < 0.3:
                pass
            time.sleep(60)
            os._exit(0)
        return pid

    before, pids = serve.own_seconds([]), [spin() for _ in range(2)]
    give_up = time.monotonic() + 60
    while serve.own_seconds(pids) - serve.own_seconds([]) < 0.55:  # without what is spent on waiting here
        assert time.monotonic() < give_up
        time.sleep(0.02)
    for pid in pids:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert serve.own_seconds([]) - before >= 0.55  # and of what has ended
    assert serve.busy_seconds() >= 0.55


def test_a_submission_that_is_slow_to_read_costs_the_others_nothing(tmp_path, monkeypatch):
    """16 KB of ZIP, 5 MB of Python: an error of its own, in its own time."""
    monkeypatch.setattr(intake, "SECONDS", 1)
    path, text = tmp_path / "slow.zip", ("x" + ".a" * 1600 + "\n") * 300
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for i in range(11):
            file.writestr(f"f{i}.py" if i else "modules.py", text)
    assert path.stat().st_size < 17_000
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    records = grade([path, submission(tmp_path / "honest")], reduced(["1.2"], scripts=False), tmp_path / "out")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert records["slow"]["error"] == "takes more than 1 s to unpack and scan"
    assert not records["slow"]["questions"]["1.2"].get("ungraded")
    assert not failures(records["honest"])
    assert after.ru_utime - before.ru_utime < 20


def test_a_reply_nested_in_itself_is_a_damaged_one(run):
    """Also of a submission that finds in the frames above it where replies go, and how a probe ends that is whole."""
    forged = """
frame = sys._getframe()
while 'at_end' not in frame.f_locals:
    frame = frame.f_back
child = frame.f_locals
os.pwrite(child['reply'], b'{"error": null, "notes": {"refused": ' + b'[' * 900 + b']' * 900 + b'}}', 0)
os.pwrite(child['arrays'], b'PK\\5\\6' + bytes(18), 0)  # no arrays
os._exit(child['at_end'])
"""
    assert run(forged).error == "the reply of the check is damaged"
    assert run(forged.replace("900", "9")).error is None
    assert run(forged.replace("900", "9").replace("child['at_end']", "0")).error == EARLY


@pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="no memfd_create here")
def test_a_check_s_own_files_count_as_memory():
    """Also those that a submission has filled and closed: the worker itself holds them."""
    with os.fdopen(os.memfd_create("reply"), "wb", buffering=0) as file:
        before = serve.used_memory([], [file])
        file.write(bytes(2**20))
        assert serve.used_memory([], [file]) - before >= 2**20
