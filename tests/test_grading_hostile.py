"""Hostile submissions gain nothing, stop nobody else's grading, and leave nothing behind.

They run confined, and every one aims at things these tests have laid out for it: a folder, a process, a server. None
names a path, a process or a host that is not the tests' own, so that one that got away would harm nothing else.
"""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from grading_help import MODULES, failures, grade, needs_confinement, reduced, submission
from test_grading_layernorm import LAYER_NORM

from grading.replies import Limits, Probe, Reply
from grading.sandbox import Sandbox
from grading.submission import found_while_running
from grading.worker.watch import FRAMEWORK, LOADED, SPAWNED

pytestmark = [pytest.mark.grading, pytest.mark.timeout(1800), needs_confinement]

SECRET = "the hidden labels are 3 1 4 1 5"
LIMITS = {"seconds": 8, "probe_seconds": 3, "memory_mb": 400, "disk_mb": 64, "file_mb": 32, "processes": 24}
IMPORTS = "import os, sys, time, signal, socket, json, shutil, subprocess\n"
HOSTILE = {
    "exits": "os._exit(0)",
    "raises_system_exit": "raise SystemExit(0)",
    "prints_fake_results": "print(json.dumps({'score': 15, 'tests': []}), flush=True); "
                           "open('results.json', 'w').write('{\"score\": 15}'); os._exit(0)",
    "patches_numpy": "import numpy as np\nnp.allclose = np.array_equal = np.isclose = lambda *a, **k: True\n"
                     "np.abs = lambda x: 0 * np.asarray(x)\nnp.savez = lambda *a, **k: None",
    "starts_processes": "for i in range(100):\n    try: subprocess.Popen(['sleep', MARK])\n    except OSError: pass\n"
                        "time.sleep(60)",
    "sleeps": "time.sleep(60)",
    "spins": "end = time.time() + 60\nwhile time.time() < end: pass",
    "ignores_signals": "for s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
                       "end = time.time() + 60\nwhile time.time() < end: pass",
    "fills_the_disk": "for n in range(30):\n    with open(f'junk{n}', 'wb') as f: f.write(bytes(10**7))",
    "fills_the_memory": "x = [bytearray(10**8) for _ in range(15)]",
    "fills_the_output": "for _ in range(300): print('x' * 10**6)",
    "kills_a_process": "try: os.kill(VICTIM, 9)\nexcept OSError: pass",
    "signals_its_keeper": "if b'/grader/grading/worker/serve.py' in open('/proc/1/cmdline', 'rb').read():\n"
                          "    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGSTOP, signal.SIGXCPU, signal.SIGKILL):\n"
                          "        os.kill(1, s)",
    "deletes": "shutil.rmtree(FOLDER, ignore_errors=True)",
    "writes": "open(os.path.join(FOLDER, 'keep.txt'), 'a').write('spoilt')",
    "reads_the_labels": "raise RuntimeError(open(os.path.join(FOLDER, 'keep.txt')).read())",
    "dials_out": "socket.create_connection(('127.0.0.1', PORT), 2).send(b'hello')",
    "daemon": "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.execvp('sleep', ['sleep', MARK])\n"
              "    os._exit(0)\nos._exit(0)",
    "writes_to_every_file_descriptor": "for fd in range(3, 256):\n    try: os.ftruncate(fd, 0); os.write(fd, b'\\0' * 100)\n"
                                       "    except OSError: pass",
    "fakes_the_reply": "for fd in range(3, 256):\n    try: os.write(fd, json.dumps({'error': None, 'notes': {'refused': []}}"
                       ").encode())\n    except OSError: pass\nos._exit(0)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "recurses": "def f(): return f()\nsys.setrecursionlimit(10**9); f()",
    "huge_answer": "import numpy as np\nclass LinearModule:\n    def __init__(self, m, n):\n        self.params = {'weight': "
                   "np.zeros((n, m)), 'bias': np.zeros(n)}\n    def forward(self, x): return np.zeros(10**9, np.int8)",
    "object_answer": "import numpy as np\nclass X:\n    def __reduce__(self): return open, (FOLDER + '/pickled', 'w')\n"
                     "class LinearModule:\n    def __init__(self, m, n):\n        self.params = {'weight': "
                     "np.zeros((n, m)), 'bias': np.zeros(n)}\n    def forward(self, x): return np.array([X()], object)",
}
NOTHING = ("exits", "sleeps", "spins", "starts_processes", "fills_the_memory", "prints_fake_results", "fakes_the_reply",
           "crashes", "reads_the_labels", "writes", "dials_out")  # these never get as far as a class


class Bait:
    """A folder with a file that anybody may write, a process, and a server."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        (folder / "keep.txt").write_text(SECRET)
        folder.chmod(0o777)
        (folder / "keep.txt").chmod(0o666)
        self.victim = subprocess.Popen(["sleep", "600"])
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(0.01)
        self.mark = f"{3600 + os.getpid() / 10**7:.7f}"  # a length of sleep that no other process has

    def aimed(self, code: str) -> str:
        values = {"FOLDER": repr(str(self.folder)), "VICTIM": str(self.victim.pid), "MARK": repr(self.mark),
                  "PORT": str(self.server.getsockname()[1])}
        return IMPORTS + re.sub(r"\b(FOLDER|VICTIM|MARK|PORT)\b", lambda m: values[m[0]], code) + "\n"

    def untouched(self) -> None:
        assert [path.name for path in self.folder.iterdir()] == ["keep.txt"]
        assert (self.folder / "keep.txt").read_text() == SECRET
        assert self.victim.poll() is None
        with pytest.raises(TimeoutError):
            self.server.accept()
        found = [path for path in Path("/proc").glob("[0-9]*/cmdline") if self.mark in read(path)]
        assert not found

    def close(self) -> None:
        self.victim.kill()
        self.victim.wait()
        self.server.close()


def read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:
        return ""


@pytest.fixture(scope="module")
def bait(tmp_path_factory):
    """Laid where any user may go, so that file permissions alone would not protect it."""
    folder = tmp_path_factory.mktemp("bait")
    parents = {parent: parent.stat().st_mode for parent in (folder, folder.parent, folder.parent.parent)}
    for parent, mode in parents.items():  # pytest's own three
        parent.chmod(mode | 0o011)
    bait = Bait(folder / "folder")
    yield bait
    bait.close()
    for parent, mode in parents.items():
        parent.chmod(mode)


@pytest.fixture(scope="module")
def graded(tmp_path_factory, bait):
    """A class of two honest and all hostile submissions."""
    folder = tmp_path_factory.mktemp("class")
    paths = [submission(folder / "honest"), submission(folder / "zz_honest_too")]
    for name, code in HOSTILE.items():
        tail = "" if name.endswith("answer") else MODULES.replace("x @ self", "2 * x @ self")
        paths.append(submission(folder / name, modules=bait.aimed(code) + tail))
    rules = reduced(["1.2"], scripts=False, **LIMITS)
    return grade(paths, rules, folder / "grades"), rules


@pytest.mark.slow
def test_the_rest_of_the_class_is_graded(graded):
    records, _ = graded
    assert set(records) == {"honest", "zz_honest_too", *HOSTILE}
    assert not failures(records["honest"]) + failures(records["zz_honest_too"])


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_submission_gains_nothing(graded, name):
    """Those that stop or break get nothing; those that continue get what their (wrong) code is worth, and no more."""
    records, rules = graded
    checks = {check["id"]: check for check in records[name]["questions"]["1.2"]["checks"]}
    assert len(checks) == len(rules.code[0].checks)
    assert checks["linear_forward"]["score"] == 0, checks["linear_forward"]
    assert all(check["diagnosis"] for check in checks.values() if check["score"] < check["points"])
    assert SECRET not in str(records[name])
    if name in NOTHING:
        assert not any(check["score"] for check in checks.values())


@pytest.mark.slow
def test_nothing_was_touched_and_nothing_is_left(graded, bait):
    bait.untouched()


# ---------------------------------------------------------------- one probe at a time


def one_probe(tmp_path: Path, code: str, **limits: float):
    folder = submission(tmp_path / f"code{len(list(tmp_path.iterdir()))}", modules=code)
    (tmp_path / "work").mkdir(exist_ok=True)
    with Sandbox(tmp_path / "work") as sandbox:
        bounds = Limits(**{"seconds": 20, "probe_seconds": 10, "processes": 24} | limits)
        probe = Probe("linear_init", options={"in": 3, "out": 2})
        return sandbox.run(folder, {"first": probe, "second": probe}, bounds, {}, torch=False)


LOOKS = """
import os
found = []
for parent, folders, names in os.walk('/'):
    folders[:] = [n for n in folders if os.path.join(parent, n) not in ('/usr', '/proc') and n != 'site-packages']
    found += [n for n in names if n in ('oracle.py', 'rubric.toml', 'checks_3.py', 'custom_layernorm.py', 'keep.txt')]
for path in ('/proc/1/root', '/proc/1/fd', '/proc/1/environ', '/proc/1/mem'):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1)
        found.append(path)
    except OSError:
        pass
others = [p for p in os.listdir('/proc') if p.isdigit()]
links = [line.split(':')[0].strip() for line in open('/proc/net/dev').readlines()[2:]]
raise RuntimeError(f'found {found[:3]}, {len(others)} processes, user {os.getuid()}, links {links}, {sorted(os.environ)}')
"""


def test_a_submission_sees_neither_files_nor_processes_nor_network(tmp_path):
    text = one_probe(tmp_path, LOOKS)["first"].error
    assert "found []" in text and ", 2 processes" in text and "links ['lo']" in text, text
    assert "user 0," not in text and "PYTHONPATH" not in text


def test_each_probe_starts_afresh_and_leaves_nothing(tmp_path, bait):
    code = bait.aimed("""
if os.fork() == 0:
    os.setsid()
    os.execvp('sleep', ['sleep', MARK])
if os.path.exists('../../seen'):
    raise RuntimeError('a file of an earlier probe')
if len([p for p in os.listdir('/proc') if p.isdigit()]) > 3:
    raise RuntimeError('a process of an earlier probe')
open('../../seen', 'w').write('x')
""") + MODULES
    assert [reply.error for reply in one_probe(tmp_path, code).values()] == [None, None]
    bait.untouched()


@pytest.mark.parametrize(("code", "ending"), [
    ("time.sleep(60)", "ran longer"), ("end = time.time() + 60\nwhile time.time() < end: pass", "stopped"),
    ("x = [bytearray(10**8) for _ in range(15)]", "memory|MemoryError"),
    ("[subprocess.Popen([sys.executable, '-c', 'x = bytearray(10**8); import time; time.sleep(9)']) for _ in range(9)]; "
     "time.sleep(9)", "memory"),
    ("import mmap; x = mmap.mmap(-1, 8 * 10**8)\nfor i in range(0, 8 * 10**8, 4096): x[i] = 1\ntime.sleep(9)", "memory|Memory"),
    ("import mmap; x = mmap.mmap(-1, 8 * 10**8)", "Cannot allocate memory"),  # before any of it is used
    ("fds = [os.memfd_create('x') for _ in range(60)]\nfor fd in fds: os.write(fd, bytes(10**7))\ntime.sleep(9)", "memory|not permitted"),
    ("open('x', 'wb').write(bytes(5 * 10**7))", "large|space"),
    ("[open(f'x{i}', 'wb').write(bytes(10**7)) for i in range(9)]", "space"),
    ("[subprocess.Popen(['sleep', '9']) for i in range(40)]", "Blocking|Resource|unavailable"),
    ("while True: os.fork()", "Blocking|Resource|unavailable|memory"),
])
def test_limits_hold(tmp_path, code, ending):
    reply = one_probe(tmp_path, IMPORTS + code, probe_seconds=4, seconds=6, memory_mb=500, file_mb=16, disk_mb=64)["first"]
    assert re.search(ending, reply.error), reply.error


def test_a_question_s_time(tmp_path):
    replies = one_probe(tmp_path, "import time; time.sleep(60)", probe_seconds=2, seconds=2)
    assert "ran longer than" in replies["first"].error
    assert "used up the question's time" in replies["second"].error


def test_a_question_has_time_of_its_own_where_one_worker_does_several(tmp_path):
    (tmp_path / "work").mkdir()
    folder = submission(tmp_path / "slow", modules="import time; time.sleep(60)")
    probes = {f"{question} {i}": Probe("linear_init", options={"in": 3, "out": 2}, question=question)
              for question in "ab" for i in range(2)}
    with Sandbox(tmp_path / "work") as sandbox:
        replies = sandbox.run(folder, probes, Limits(seconds=1, probe_seconds=1), {}, torch=False)
    assert ["ran longer" in replies[name].error for name in probes] == [True, False, True, False]


def test_library_names_in_a_submission_are_not_imported(tmp_path):
    evil = "raise SystemExit('not the library')\n"
    names = ("numpy", "torch", "json", "random", "sitecustomize", "usercustomize", "conftest", "matplotlib", "pickle",
             "grading", "student", "serve", "confinement", "tabnanny")  # the last, nobody has imported before
    folder = submission(tmp_path / "shadows", **dict.fromkeys(names, evil), modules=f"import tabnanny\n{MODULES}")
    rules = reduced(["1.2"], scripts=False)
    record = grade([folder], rules, tmp_path / "grades")["shadows"]
    assert not failures(record)
    assert any("files named like libraries" in flag and "torch" in flag for flag in record["flags"])


def test_an_interrupted_grader_leaves_no_worker(tmp_path, bait):
    """SIGKILL, which a process cannot handle."""
    folder = submission(tmp_path / "slow", modules=bait.aimed("subprocess.Popen(['sleep', MARK])\ntime.sleep(60)"))
    grade_py = Path(__file__).parent.parent / "grade.py"
    with subprocess.Popen([sys.executable, grade_py, folder, "--out", tmp_path / "out"], stderr=subprocess.DEVNULL,
                          env={**os.environ, "TMPDIR": str(tmp_path)}) as process:
        give_up = time.time() + 60
        while not (seen := any(bait.mark in read(p) for p in Path("/proc").glob("[0-9]*/cmdline"))):
            assert time.time() < give_up
            time.sleep(0.1)
        process.kill()
    assert seen
    time.sleep(1)
    bait.untouched()


FORGED = "{'error': None, 'notes': {'forged': 1}}"
WAYS_OUT = {  # every one writes a whole reply where it finds a place for it, and leaves the check
    "by name": ("import sys, os, json\nf = sys._getframe()\nWALK\nos._exit(0)", "sys._getframe"),
    "by a computed name": ("import sys, os, json\nf = getattr(sys, '_get' + 'frame')()\nWALK\ngetattr(os, '_ex' + 'it')(0)",
                           "sys._getframe"),
    "inspect": ("import inspect, os, json\nf = inspect.currentframe()\nWALK\nos._exit(0)", "sys._getframe"),
    "a traceback": ("import os, json\ntry: 1 / 0\nexcept Exception as e: f = e.__traceback__.tb_frame\nWALK\nos._exit(0)",
                    "tb_frame"),
    "the frames of a traceback": ("import inspect, os, json\ntry: 1 / 0\nexcept Exception: f = inspect.trace()[0].frame\n"
                                  "WALK\nos._exit(0)", "tb_frame"),
    "by logging": ("import logging, os, json\nf = logging.currentframe()\nWALK\nos._exit(0)", "sys._getframe"),
    "a generator": ("import os, json\ng = (WALKED(g.gi_frame) for _ in 'a')\ndef WALKED(f):\n    WALK\n    os._exit(0)\nnext(g)",
                    "gi_frame"),
    "every descriptor, then a signal": ("import os, json\nfor fd in range(3, 256):\n    try: os.write(fd, json.dumps(FORGED)"
                                        ".encode())\n    except OSError: pass\nos.kill(os.getpid(), 9)", "os.kill"),
    "text made to code": ("import os, json\nexec('import sys\\nf = sys._getframe()')\nWALK\nos._exit(0)", "sys._getframe"),
    "a collector": ("import os, gc, json\nfor f in gc.get_objects():\n    if type(f).__name__ == 'Task': f.notes['forged'] = 1\n"
                    "os._exit(0)", "gc.get_objects"),
}


@pytest.mark.parametrize("name", WAYS_OUT)
def test_a_reply_written_past_the_worker_is_not_believed_and_is_seen(tmp_path, name):
    code, seen = WAYS_OUT[name]
    walk = ("while f:\n    if 'npz' in f.f_locals: os.write(f.f_locals['reply'], json.dumps(FORGED).encode())\n"
            "    f = f.f_back")
    indent = "    " if "    WALK" in code else ""
    reply = one_probe(tmp_path, code.replace("WALK\n", walk.replace("\n", f"\n{indent}") + "\n").replace(
        "FORGED", FORGED))["first"]
    assert "forged" not in reply.notes and "in the middle of the check" in reply.error, reply
    assert seen in reply.seen


def test_what_honest_code_does_is_not_seen(tmp_path):
    """Libraries look at frames and start processes for their own ends."""
    code = MODULES + """
import collections, dataclasses, inspect, logging, traceback, warnings, matplotlib.pyplot, tqdm
collections.namedtuple('A', 'b')
dataclasses.make_dataclass('B', ['c'])
logging.warning('text')
warnings.warn('text')
try:
    1 / 0
except ZeroDivisionError:
    traceback.print_exc(), traceback.format_exc()
inspect.signature(LinearModule), inspect.getsource(np.mean)
for _ in tqdm.tqdm(range(3)): pass
matplotlib.pyplot.plot([1, 2])
matplotlib.pyplot.savefig('a.png')
"""
    replies = one_probe(tmp_path, code)
    assert [(reply.error, reply.seen) for reply in replies.values()] == [(None, ())] * 2


REPLACED = {  # what a reply is made and written by
    "json": "import json\nreal = json.dumps\njson.dumps = lambda *a, **k: real(*a, **k)",
    "savez": "real = np.savez\nnp.savez = lambda *a, **k: real(*a, **k)",
    "the zip": "import zipfile\nreal = zipfile.ZipFile.open\nzipfile.ZipFile.open = lambda *a, **k: real(*a, **k)",
    "a task": "import sys\nTask = sys.modules['grading.worker.student'].Task\nTask.note = lambda self, name, value: None",
    "another name": "import sys\nsys.modules['grading.worker.student'].describe = lambda error: None",
    "other code": "import sys\nsys.modules['grading.worker.packages'].restore_2020.__code__ = (lambda: None).__code__",
    "an inherited one": "import sys\nsys.modules['grading.worker.student'].Task.__repr__ = lambda self: ''",
}


@pytest.mark.parametrize("name", REPLACED)
def test_what_the_checks_report_by_is_seen_to_be_replaced(tmp_path, name):
    replies = one_probe(tmp_path, f"{MODULES}\n{REPLACED[name]}\n")
    assert all("grading.altered" in reply.seen for reply in replies.values())
    assert found_while_running("1.2", replies) == ["1.2 replaces functions that the checks record or report by"]


LOADER = """
from torch.utils.data import DataLoader, TensorDataset
loader = DataLoader(TensorDataset(torch.arange(8.0)), batch_size=2, num_workers=2)
if sorted(float(x) for [batch] in loader for x in batch) != [*range(8)]: raise RuntimeError('not the images')
"""
STARTED = {  # {name: (code, what is seen)}
    "workers of a loader": (LOADER, {LOADED}),
    "a pool": ("import multiprocessing\nmultiprocessing.get_context('fork').Pool(1).apply(abs, (3,))\n", {"os.fork"}),
    "a process that is ended": ("import multiprocessing, time\np = multiprocessing.get_context('fork').Process(target=time.sleep, "
                                "args=(99,))\np.start()\np.terminate()\np.join()\n", {"os.fork"}),
    "a program": ("import multiprocessing\nmultiprocessing.get_context('spawn').Process(target=abs, args=(3,)).start()\n", {SPAWNED}),
    "a server": ("import multiprocessing\nmultiprocessing.get_context('forkserver').Process(target=abs, args=(3,)).start()\n", {SPAWNED}),
    "a lock": ("import multiprocessing\nmultiprocessing.get_context('spawn').RLock()\n", set()),
}


@pytest.mark.parametrize("name", STARTED)
def test_processes_are_seen_and_those_of_a_loader_are_known(tmp_path, name):
    code, seen = STARTED[name]
    folder = submission(tmp_path / "code", custom_layernorm=f"{LAYER_NORM}\n{code}")
    (tmp_path / "work").mkdir()
    with Sandbox(tmp_path / "work") as sandbox:
        probe = Probe("norm_parameters", options={"class": "CustomLayerNormAutograd", "n_neurons": 3})
        reply = sandbox.run(folder, {"first": probe}, Limits(seconds=60, probe_seconds=60), {}, torch=True)["first"]
    assert reply.error is None and set(reply.seen) == seen


def test_a_loader_s_processes_are_odd_where_there_is_nothing_to_load():
    replies = {"one": Reply(seen=(LOADED,))}
    assert found_while_running("2.1", replies) == []
    assert found_while_running("3.1", replies) == [f"3.1 does what no answer needs: {LOADED}"]


LIBRARY = """
import os, sys
from grading.worker import watch
space = {"sys": sys}
exec(compile("look = lambda: sys._getframe() and 1", "/opt/library.py", "exec"), space)
reader, pipe = os.pipe()
watch.watch("/scratch", pipe)
exec("look()\\nif GIVEN: sys._getframe()", space | {"GIVEN": len(sys.argv) > 1})
os.close(pipe)
print(os.read(reader, 1000))
"""


@pytest.mark.parametrize("given, told", [([], "b''"), (["frame"], r"b'\nsys._getframe\n'")])
def test_a_lambda_of_a_library_looks_for_its_own_ends(given, told):
    done = subprocess.run([sys.executable, "-c", LIBRARY, *given], cwd=Path(__file__).parent.parent,
                          capture_output=True, text=True, check=False)
    assert done.stdout.strip() == told, done.stderr


WAYS_IN = {  # to the framework that a question for NumPy does not ask for
    "plainly": "import torch\n",
    "with the grader's hook taken out": "sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != 'Finder']\n"
                                        "import torch\n",
    "by its loader": "import importlib.machinery as m\ntorch = m.PathFinder.find_spec('torch').loader.load_module()\n",
    "from its file": "import importlib.util as u, site\nspec = u.spec_from_file_location('torch', "
                     "site.getsitepackages()[0] + '/torch/__init__.py')\nsys.modules['torch'] = torch = "
                     "u.module_from_spec(spec)\nspec.loader.exec_module(torch)\ntorch = sys.modules['torch']\n",
}


@pytest.mark.parametrize("name", WAYS_IN)
def test_no_way_leads_to_a_framework_where_numpy_is_asked_for(tmp_path, name):
    pytest.importorskip("torch")
    code = IMPORTS + WAYS_IN[name] + "raise RuntimeError(torch.zeros(3).sum())\n"
    reply = one_probe(tmp_path, code)["first"]
    assert "torch.zeros is used, but this question asks for NumPy alone" in reply.error, reply
    assert reply.seen == (FRAMEWORK,)


def test_a_way_without_the_framework_is_taken_where_there_is_one(tmp_path):
    code = "try:\n    import torch\n    torch.zeros(3)\nexcept ImportError:\n    torch = None\n" + MODULES
    assert [(reply.error, reply.seen) for reply in one_probe(tmp_path, code).values()] == [(None, ())] * 2
