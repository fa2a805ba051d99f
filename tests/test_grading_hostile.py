"""Hostile submissions gain nothing, stop nobody else's grading, and leave nothing behind."""

import os
import stat
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from grading_help import MODULES, failures, grade, reduced, submission

from grading import archive
from grading.archive import Unreadable
from grading.sandbox import Limits, Probe, Sandbox, read_arrays

pytestmark = [pytest.mark.grading]

MARK = "left behind by a hostile submission"

IMPORTS = "import os, sys, time, signal, socket, glob, json\n"
HOSTILE = {
    "exits": "os._exit(0)",
    "raises_system_exit": "raise SystemExit(0)",
    "prints_fake_results": "print(json.dumps({'score': 15, 'tests': []}), flush=True); "
                           "open('results.json', 'w').write('{\"score\": 15}'); os._exit(0)",
    "patches_numpy": "import numpy as np\nnp.allclose = np.array_equal = np.isclose = lambda *a, **k: True\n"
                     "np.abs = lambda x: 0 * np.asarray(x)\nnp.savez = lambda *a, **k: None",
    "forks": "while True:\n    try: os.fork()\n    except OSError: time.sleep(0.01)",
    "sleeps": "time.sleep(10_000)",
    "spins": "while True: pass",
    "ignores_signals": "for s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\n"
                       "while True: pass",
    "fills_the_disk": "n = 0\nwhile True:\n    with open(f'junk{n}', 'wb') as f: f.write(bytes(10**7))\n    n += 1",
    "fills_the_memory": "x = []\nwhile True: x.append(bytearray(10**8))",
    "fills_the_output": "while True: print('x' * 10**6)",
    "kills_everyone": "for p in [os.getppid(), 1, -1]:\n    try: os.kill(p, 9)\n    except OSError: pass",
    "daemon": "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.execv(sys.executable, "
              f"[sys.executable, '-c', 'import time; time.sleep(300)', {MARK!r}])\n    os._exit(0)\nos._exit(0)",
    "writes_to_every_file_descriptor": "for fd in range(3, 256):\n    try: os.ftruncate(fd, 0); os.write(fd, b'\\0' * 100)\n"
                                       "    except OSError: pass",
    "fakes_the_reply": "for fd in range(3, 256):\n    try: os.write(fd, json.dumps({'error': None, 'notes': {'refused': []}}"
                       ").encode())\n    except OSError: pass\nos._exit(0)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "recurses": "def f(): return f()\nsys.setrecursionlimit(10**9); f()",
    "deletes": "import shutil; shutil.rmtree('/', ignore_errors=True)",
    "huge_answer": "import numpy as np\nclass LinearModule:\n    def __init__(self, m, n):\n        self.params = {'weight': "
                   "np.zeros((n, m)), 'bias': np.zeros(n)}\n    def forward(self, x): return np.zeros(10**9, np.int8)",
    "object_answer": "import numpy as np\nclass X:\n    def __reduce__(self): return os.system, ('touch /tmp/pickled',)\n"
                     "class LinearModule:\n    def __init__(self, m, n):\n        self.params = {'weight': "
                     "np.zeros((n, m)), 'bias': np.zeros(n)}\n    def forward(self, x): return np.array([X()], object)",
}
LIMITS = {"seconds": 8, "probe_seconds": 3, "memory_mb": 400, "disk_mb": 64, "file_mb": 32, "processes": 24}


def running(mark: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if mark in text:
            found.append(text)
    return found


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """A class of one honest and all hostile submissions."""
    folder = tmp_path_factory.mktemp("class")
    paths = [submission(folder / "honest"), submission(folder / "honest_too")]
    for name, code in HOSTILE.items():
        tail = "" if name.endswith("answer") else MODULES.replace("x @ self", "2 * x @ self")
        paths.append(submission(folder / name, modules=IMPORTS + code + "\n" + tail))
    rules = reduced(["1.2"], scripts=False, **LIMITS)
    return grade(paths, rules, folder / "grades"), rules


@pytest.mark.slow
def test_the_rest_of_the_class_is_graded(graded):
    records, _ = graded
    assert set(records) == {"honest", "honest_too", *HOSTILE}
    assert not failures(records["honest"]) + failures(records["honest_too"])


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_submission_gains_nothing(graded, name):
    """Those that stop or break get nothing; those that go on get what their (wrong) code is worth, and no more."""
    records, rules = graded
    checks = {check["id"]: check for check in records[name]["questions"]["1.2"]["checks"]}
    assert len(checks) == len(rules.code[0].checks)
    assert checks["linear_forward"]["score"] == 0, checks["linear_forward"]
    assert checks["mlp_3"]["score"] < checks["mlp_3"]["points"]
    assert all(check["diagnosis"] for check in checks.values() if check["score"] < check["points"])
    if name in ("exits", "sleeps", "spins", "forks", "fills_the_memory", "prints_fake_results", "fakes_the_reply", "crashes"):
        assert not any(check["score"] for check in checks.values())


@pytest.mark.slow
def test_nothing_is_left_behind(graded):
    time.sleep(0.2)
    assert not running(MARK)
    assert not Path("/tmp/pickled").exists()


def one_probe(tmp_path: Path, code: str, features: dict | None = None, **limits: float):
    folder = submission(tmp_path / f"code{len(list(tmp_path.iterdir()))}", modules=code)
    with Sandbox(tmp_path / "work", features) as sandbox:
        limits = Limits(**{"seconds": 20, "probe_seconds": 10, "processes": 24} | limits)
        probe = Probe("linear_init", options={"in": 3, "out": 2})
        return sandbox.run(folder, {"first": probe, "second": probe}, limits, {}, torch=False), dict(sandbox.features)


LOOKS = """
import os, socket
found = []
for parent, folders, names in os.walk('/'):
    folders[:] = [n for n in folders if os.path.join(parent, n) not in ('/usr', '/proc', '/sys') and n != 'site-packages']
    found += [n for n in names if n in ('oracle.py', 'rubric.toml', 'checks_3.py', 'custom_layernorm.py', 'other.txt')]
for path in ('/proc/1/root', '/proc/1/fd', '/proc/1/environ', '/proc/1/mem'):
    try:
        os.listdir(path) if os.path.isdir(path) else open(path, 'rb').read(1)
        found.append(path)
    except OSError:
        pass
others = [p for p in os.listdir('/proc') if p.isdigit()]
try:
    socket.create_connection(('127.0.0.1', PORT), 2)
    network = 'open'
except OSError as error:
    network = 'closed'
raise RuntimeError(f'found {found[:3]}, {len(others)} processes, network {network}, {sorted(os.environ)}')
"""


def test_worker_sees_neither_files_nor_processes_nor_network(tmp_path):
    import socket

    (tmp_path / "other.txt").write_text("secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        replies, features = one_probe(tmp_path, LOOKS.replace("PORT", str(server.getsockname()[1])))
    if not features["namespaces"]:
        pytest.skip("no namespaces on this machine")
    text = replies["first"].error
    assert "found []" in text and "2 processes" in text, text
    assert "network closed" in text or not features["network"], text
    assert "PYTHONPATH" not in text


@pytest.mark.parametrize("features", [None, {"namespaces": False, "network": False, "uid": False}], ids=["full", "bare"])
def test_each_probe_starts_afresh_and_leaves_nothing(tmp_path, features):
    code = IMPORTS + f"""
if os.fork() == 0:
    os.setsid()
    os.execv('/bin/sh', ['/bin/sh', '-c', 'sleep 300; : {MARK} {tmp_path.name}'])
if os.path.exists('seen'):
    raise RuntimeError('a file of an earlier probe')
open('seen', 'w').write('x')
""" + MODULES
    replies, _ = one_probe(tmp_path, code, features)
    assert [reply.error for reply in replies.values()] == [None, None]
    time.sleep(0.1)
    assert not running(f"{MARK} {tmp_path.name}")


@pytest.mark.parametrize("code, ending", [("time.sleep(60)", "ran longer"), ("while True: pass", "stopped"),
                                          ("x = [bytearray(10**8) for _ in range(100)]", "memory|MemoryError"),
                                          ("open('x', 'wb').write(bytes(5 * 10**7))", "large|space")])
def test_limits_hold_without_namespaces_too(tmp_path, code, ending):
    import re

    bare = {"namespaces": False, "network": False, "uid": False}
    replies, _ = one_probe(tmp_path, IMPORTS + code, bare, probe_seconds=2, seconds=3, memory_mb=500, file_mb=16)
    assert re.search(ending, replies["first"].error), replies["first"].error


def test_a_busy_clock_and_a_question_s_time(tmp_path):
    replies, _ = one_probe(tmp_path, "import time; time.sleep(60)", probe_seconds=2, seconds=2)
    assert "ran longer than" in replies["first"].error
    assert "used up the question's time" in replies["second"].error


def test_library_names_in_a_submission_are_not_imported(tmp_path):
    evil = "open('/tmp/imported_instead', 'w'); raise SystemExit('not the library')\n"
    names = ("numpy", "torch", "json", "random", "sitecustomize", "usercustomize", "conftest", "matplotlib", "pickle",
             "grading", "student", "serve", "confine")
    folder = submission(tmp_path / "shadows", **dict.fromkeys(names, evil))
    rules = reduced(["1.2"], scripts=False)
    record = grade([folder], rules, tmp_path / "grades")["shadows"]
    assert not failures(record)
    assert any("files named like libraries" in flag and "torch" in flag for flag in record["flags"])


# ---------------------------------------------------------------- replies


def npz(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize("content", [
    b"", b"no zip", npz({"a.npy": b"junk"}),
    npz({"a.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}")}),
    npz({"a.npy": npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}")}),
    npz({"a.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", b"cos\nsystem\n(S'true'\ntR.")}),
    npz({"a.npy": npy("{'descr': '<U9', 'fortran_order': False, 'shape': (1,)}", bytes(36))}),
    npz({"a.npy": bytes(10**6)}, zipfile.ZIP_DEFLATED), npz({"../a.txt": b"x"}),
    npz({f"{i}.npy": b"" for i in range(1001)})])
def test_no_odd_reply_is_taken(content):
    with pytest.raises((ValueError, zipfile.BadZipFile, EOFError, SyntaxError, OSError)):
        read_arrays(content)


def test_a_plain_reply_is_taken():
    import io

    out, array = io.BytesIO(), np.arange(6.0).reshape(2, 3)
    np.savez(out, a=array, b=np.float32(2))
    found = read_arrays(out.getvalue())
    assert (found["a"] == array).all() and found["b"] == 2


# ---------------------------------------------------------------- archives


def zipped(path: Path, members: dict[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def symlink(name: str, target: str) -> tuple[zipfile.ZipInfo, str]:
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member, target


def test_nested_folder_is_found(tmp_path):
    path = zipped(tmp_path / "doe_assignment1.zip", {
        "doe/__MACOSX/modules.py": "", "doe/old/modules.py": "", "doe/final/code/modules.py": "x",
        "doe/final/code/mlp_numpy.py": "", "doe/report.pdf": "", "doe/final/code/.git/config": ""})
    taken = archive.take_in(path, tmp_path / "in")
    assert taken.code == tmp_path / "in" / "doe" / "final" / "code"
    assert taken.report
    assert sorted(os.listdir(taken.code)) == ["mlp_numpy.py", "modules.py"]


def test_no_path_leaves_the_folder(tmp_path):
    path = tmp_path / "evil.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("../out.py", "a/../../out.py", "/out.py", "..\\out.py", "C:\\out.py", "\\\\host\\out.py"):
            file.writestr(name, "escaped")
        file.writestr(*symlink("link.py", "/etc/passwd"))
        file.writestr(*symlink("folder", "/etc"))
        file.writestr("modules.py", "")
    taken = archive.take_in(path, tmp_path / "deep" / "in")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["deep", "evil.zip", "in", "modules.py"]
    assert taken.notes == ["2 links left out", "6 paths outside its folder left out"]


def test_links_in_a_folder_are_left_out(tmp_path):
    folder = submission(tmp_path / "sub")
    (folder / "secret.py").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("/")
    os.mkfifo(folder / "pipe.py")
    taken = archive.take_in(folder, tmp_path / "in")
    assert sorted(os.listdir(taken.code)) == ["mlp_numpy.py", "modules.py"]
    assert taken.notes == ["2 links left out"]


@pytest.mark.parametrize("members, reason", [
    ({"modules.py": bytes(50 * 2**20)}, "unpacks to more than 200 times"),
    ({f"{i}.py": "" for i in range(5001)}, "more than 5000 files"),
    ({"readme.txt": "hello"}, "holds no modules.py"), ({}, "holds no modules.py"),
    ({"modules.py": "", "modules.py/x.py": ""}, "as file and folder")])
def test_caps(tmp_path, members, reason):
    with pytest.raises(Unreadable, match=reason):
        archive.take_in(zipped(tmp_path / "a.zip", members), tmp_path / "in")
    assert sum(p.stat().st_size for p in tmp_path.rglob("*") if p.is_file()) < 40 * 2**20


def test_sizes_are_counted_not_believed(tmp_path):
    path = zipped(tmp_path / "a.zip", {"modules.py": os.urandom(31 * 2**20)}, zipfile.ZIP_STORED)
    with pytest.raises(Unreadable, match="more than 30 MB"):
        archive.take_in(path, tmp_path / "in")
    lying = zipped(tmp_path / "b.zip", {"modules.py": bytes(40 * 2**20)}).read_bytes()
    small = struct.pack("<I", 100)
    for place in (lying.index(b"PK\x03\x04") + 22, lying.index(b"PK\x01\x02") + 24):
        lying = lying[:place] + small + lying[place + 4:]
    (tmp_path / "b.zip").write_bytes(lying)
    with pytest.raises(Unreadable):
        archive.take_in(tmp_path / "b.zip", tmp_path / "in2")


def damaged(kind: str) -> bytes:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("modules.py", MODULES)
    good = out.getvalue()
    start = good.index(b"PK\x03\x04") + 30 + len("modules.py")
    return {"text": b"this is not a ZIP file", "empty": b"", "cut": good[:len(good) // 2],
            "flipped": good[:start] + bytes(20) + good[start + 20:],
            "locked": good.replace(b"PK\x03\x04\x14\x00\x00\x00", b"PK\x03\x04\x14\x00\x01\x00").replace(
                b"PK\x01\x02\x14\x03\x14\x00\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01\x00"),
            "method": good.replace(b"\x08\x00", b"\x63\x00")}[kind]


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "flipped", "locked", "method"])
def test_damaged_archives(tmp_path, kind):
    (tmp_path / "a.zip").write_bytes(damaged(kind))
    with pytest.raises(Unreadable) as caught:
        archive.take_in(tmp_path / "a.zip", tmp_path / "in")
    assert "\n" not in str(caught.value)
