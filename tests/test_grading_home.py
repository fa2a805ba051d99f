"""`grade.py --check`: the grader's checks on one's own folder, without confinement and on any system."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import handin_table
import numpy as np
import pytest
from grading_networks import MODULE_LIST

from grading import home, starter
from grading.checks import Context
from grading.files import local_imports
from grading.inputs import PUBLIC, Inputs
from grading.questions import QUESTIONS
from tests.grading_help import MLP, MODULES, ROOT, grade, needs_confinement, reduced, submission

pytestmark = [pytest.mark.grading, pytest.mark.timeout(900)]
WITHOUT_BATCH = MODULES.replace("np.maximum(x, 1e-300) / len(x)\n", "np.maximum(x, 1e-300)\n")
NOT_ON_WINDOWS = """
import os
import sys

HIDDEN = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty", "syslog"}

class Hide:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide)
for name in HIDDEN:
    sys.modules.pop(name, None)
for name in ("fork", "forkpty", "getuid", "geteuid", "getgid", "setsid", "killpg", "memfd_create", "pidfd_open",
             "sched_getaffinity", "pread", "chown"):
    if hasattr(os, name):
        delattr(os, name)
"""


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, str(ROOT / "grade.py"), *arguments], cwd=folder, capture_output=True,
                          encoding="utf-8", env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment}, check=False)


def verdicts(output: str) -> dict[str, str]:
    """{title: its mark and what is said below it}."""
    found: dict[str, str] = {}
    title = ""
    for line in output.splitlines():
        if line[:2] == "  " and line[2:3] in "✓◐✗•":
            title = line[4:]
            found[title] = line[2]
        elif line.startswith("      "):
            found[title] += " " + line.strip()
    return found


def test_right_code_passes_in_seconds(tmp_path):
    started = time.monotonic()
    done = run(submission(tmp_path / "doe"), "--check", "1.2")
    assert done.returncode == 0, done.stdout + done.stderr
    found = verdicts(done.stdout)
    assert set(found.values()) == {"✓"} and len(found) == 3 + len(QUESTIONS["1.2"].own_checks) - 2
    assert [title.partition(":")[0] for title in found][:3] == ["ladder"] * 3
    assert "--check train_mlp_numpy.py" in done.stdout and "everything that was checked is right" in done.stdout
    assert time.monotonic() - started < 60
    assert sorted(path.name for path in (tmp_path / "doe").iterdir()) == ["mlp_numpy.py", "modules.py"]


def test_a_fault_is_said_with_expected_and_received(tmp_path):
    folder = submission(tmp_path / "doe", modules=WITHOUT_BATCH)
    done = run(tmp_path, "doe", "--check", "1.2")
    assert done.returncode == 1 and "Traceback" not in done.stdout + done.stderr
    wrong = {title: text for title, text in verdicts(done.stdout).items() if text != "✓"}
    assert wrong.keys() == {"CrossEntropyModule: gradient", "ladder: gradients agree with central differences"}
    assert wrong["CrossEntropyModule: gradient"].startswith("✗ The division by the batch size is missing. ")
    numbers = re.search(r"expected (\S+), received (\S+)$", wrong["CrossEntropyModule: gradient"])
    assert float(numbers[2]) == pytest.approx(len(Inputs().modules["p"]) * float(numbers[1]), rel=1e-4)
    assert folder.exists()


@needs_confinement
def test_the_sentences_are_the_graders(tmp_path):
    faults = {"batch": MODULES.replace("return dout @ self.params['weight']", "return dout @ self.params['weight'] / 2"),
              "state": MODULES.replace("    def forward(self, x):\n        self.x = x\n        return np.where",
                                       "    def forward(self, x):\n        ELUModule.x = x\n        return np.where"),
              "blank": "import numpy as np\nclass LinearModule:\n    def __init__(self, *_):\n"
                       "        raise NotImplementedError\n"}
    folders = [submission(tmp_path / name, modules=text) for name, text in faults.items()]
    (tmp_path / "grades").mkdir()
    (tmp_path / "grades/seed").write_text(PUBLIC)  # for the same numbers
    records = grade(folders, reduced(["1.2"], scripts=False), tmp_path / "grades")
    for folder in folders:
        found = verdicts(run(folder, "--check", "1.2").stdout)
        graded = {check["title"]: check for check in records[folder.name]["questions"]["1.2"]["checks"]}
        for title, check in graded.items():
            if check["fraction"] >= 1 and not check["points"]:
                assert title not in found  # a remark is there where it found something
                continue
            mark = ("✓" if check["fraction"] >= 1 else "•" if not check["points"] else
                    "◐" if check["fraction"] > 0 else "✗")
            said = " ".join(text for text in (check["diagnosis"], check["numbers"]) if text and mark != "✓")
            assert found[title] == f"{mark} {said}".strip(), title
        assert any(mark != "✓" for mark in found.values())


@pytest.mark.parametrize("place", ["beside the code", "named", "at home"])
def test_damaged_settings_of_matplotlib_stop_no_check(tmp_path, monkeypatch, place):
    folder = submission(tmp_path / "doe")
    settings = {"beside the code": folder, "named": tmp_path, "at home": tmp_path / "home/.config/matplotlib"}[place] / "matplotlibrc"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_bytes(b"\xff\xfe\0")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    if place == "named":
        monkeypatch.setenv("MATPLOTLIBRC", str(settings))
    done = run(folder, "--check", "1.2")
    assert done.returncode == 0 and "grade.py" not in done.stderr, done.stderr


def test_what_hangs_crashes_or_ends_is_told_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(home, "PROBE_SECONDS", 1.5)
    head, elu = "class ELUModule:\n    def forward(self, x):\n", "class SoftMaxModule:\n    def forward(self, x):\n"
    linear = "    def forward(self, x):\n        self.x = x\n        return x @"
    assert MODULES.count(head) == MODULES.count(elu) == MODULES.count(linear) == 1
    text = (MODULES.replace(head, head + "        import ctypes; ctypes.string_at(0)\n")
            .replace(elu, elu + "        while True: pass\n")
            .replace(linear, linear.replace("return", "import os; os._exit(0)\n        return")))
    meanwhile, run_all = {}, home.HomeWorker.run

    def watched(worker, probes):
        for name, reply in run_all(worker, probes):
            yield name, reply
            meanwhile[name] = capsys.readouterr().out

    monkeypatch.setattr(home.HomeWorker, "run", watched)
    assert home.check(submission(tmp_path / "doe", modules=text), ["1.2"]) == 1
    found = verdicts(capsys.readouterr().out)
    told = meanwhile.pop("softmax")
    assert told == "  softmax ran longer than 2 s, perhaps in an endless loop; the rest has 5 s for each probe\n"
    assert "".join(meanwhile.values()).count("\n") == 1  # the question's title
    assert found["LinearModule: forward"] == "✗ The code ended its process in the middle of the check."
    assert "SIGSEGV" in found["ELUModule: forward"] or os.name == "nt"
    assert "longer than" in found["SoftMaxModule: forward"]
    assert found["LinearModule: initial weight and bias"] == found["CrossEntropyModule: gradient"] == "✓"


def test_a_missing_transpose_is_told_in_plain_words(tmp_path, capsys):
    right = "x @ self.params['weight'].T +"
    assert home.check(submission(tmp_path / "doe", modules=MODULES.replace(right, right.replace(".T", ""))), ["1.2"]) == 1
    out = capsys.readouterr().out
    assert re.fullmatch(r"✗ It raises ValueError: the factors of a matrix product do not fit: sizes \d+ and \d+ should be "
                        r"equal; perhaps a transpose is missing, or one too many \(modules\.py, line 11\)\.",
                        verdicts(out)["LinearModule: forward"]) and "gufunc" not in out, out


def test_a_crash_is_told_whole_once(tmp_path, capsys):
    """Of a forward that crashes with each network: the sizes differ, the line does not."""
    right, network = "out = self.layers(x)", handin_table.source("alder", "mlp_pytorch.py")
    assert network.count(right) == 1
    folder = submission(tmp_path / "doe", mlp_pytorch=network.replace(right, "out = self.layers(x.T)"))
    assert home.check(folder, ["2.1"]) == 1
    found = verdicts(capsys.readouterr().out)
    whole = [title for title, text in found.items() if re.search(r"RuntimeError: .* \(mlp_pytorch\.py, line \d+\)\.$", text)]
    assert whole == ["MLP without a hidden layer"] and len(found) == 8
    assert {text for title, text in found.items() if title not in whole} == {f"✗ The same error as in '{whole[0]}'."}
    assert [line for line in home.sentences(folder, "2.1", ("mlp_layers", "mlp_values")) if "The same" in line] == [
        "    The same error as in 'Linear layers for 1 and 3 hidden layers'."]


def test_a_probe_finds_nothing_of_the_one_before(tmp_path, capsys):
    """Modules are imported again for each probe, from the folder that is checked."""
    once = MODULES + "\nCALLS = []\nforward = LinearModule.forward\ndef once(self, x):\n    CALLS.append(1)\n" \
                     "    assert len(CALLS) < 600\n    return forward(self, x)\nLinearModule.forward = once\n"
    assert home.check(submission(tmp_path / "doe", modules=once), ["1.2"]) == 0, capsys.readouterr().out


def test_wrong_input_is_one_line(tmp_path):
    folder = submission(tmp_path / "doe")
    (tmp_path / "empty").mkdir()
    for where, arguments, message in ((folder, ["--check", "5"], "'5' is none of the code questions 1.2, 2.1"),
                                      (folder, ["--check", "1.1a"], "1.1a is a written question, graded from the report"),
                                      (folder, ["--check", "1.2,Q1.1a"], "Q1.1a is a written question, graded from"),
                                      (tmp_path, ["--check", "1.2", "empty"], "give the folder before --check"),
                                      (folder, ["--check", "1.2", "--jobs", "1"], "--jobs does not belong to --check"),
                                      (folder, ["--only", "1.2", "--check"], "--only does not belong to --check"),
                                      (folder, ["--check", "--merge"], "--merge does not belong to --check"),
                                      (folder, ["a", "b", "--check"], "--check takes one folder"),
                                      (tmp_path, ["empty", "--check"], "has none of convnet_pytorch.py"),
                                      (tmp_path, ["nowhere", "--check"], "nowhere is not a folder")):
        done = run(where, *arguments)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert not done.stdout


@pytest.mark.skipif(os.name == "nt", reason="pipes of a POSIX shell")
@pytest.mark.parametrize("where", ["| true", ">/dev/full", ">&- 2>&-"])
def test_lost_output_changes_no_exit_status(where, tmp_path):
    """Of this package's command and of the handout's."""
    starter.write_starter(tmp_path / "handout", ROOT)
    right = submission(tmp_path / "doe")
    for command, folder, status in ((ROOT / "grade.py", right, 0), (tmp_path / "handout" / "grade.py", tmp_path / "handout", 1)):
        done = subprocess.run(["bash", "-c", f"{sys.executable} {command} --check 1.2 {where}; exit ${{PIPESTATUS[0]}}"], cwd=folder,
                              capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (status, "")


def test_names(tmp_path):
    assert home.chosen([]) == home.chosen([","]) == (list(QUESTIONS), list(home.SCRIPTS))
    assert home.chosen(["3", "1.2"]) == (["1.2", "3.1", "3.2b", "3.2c"], [])
    assert home.chosen(["q3_2b", "./train_mlp_numpy.py"]) == (["3.2b"], ["train_mlp_numpy.py"])
    assert home.chosen(["1.2,2.1"]) == home.chosen(["Q1.2, ", "2.1"]) == (["1.2", "2.1"], [])
    assert home.chosen(["4A,train_mlp_numpy"]) == (["4a"], ["train_mlp_numpy.py"])


def test_ascii_where_the_terminal_knows_no_more(tmp_path):
    done = run(submission(tmp_path / "doe", modules=WITHOUT_BATCH), "--check", "1.2", PYTHONIOENCODING="ascii")
    assert done.returncode == 1, done.stderr
    assert "  ok   LinearModule: forward\n" in done.stdout and "  FAIL CrossEntropyModule: gradient\n" in done.stdout
    assert done.stdout.isascii() and "+-1000" in done.stdout


def test_it_runs_without_what_windows_lacks(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(NOT_ON_WINDOWS)
    hidden = {"PYTHONPATH": str(tmp_path)}
    shown = subprocess.run([sys.executable, "-c", "import resource"], env={**os.environ, **hidden}, capture_output=True)
    assert shown.returncode == 1
    folder = submission(tmp_path / "doe")
    shutil.copy(ROOT / "custom_layernorm.py", folder)
    done = run(folder, "--check", "1.2", "3.2c", **hidden)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_torch_is_needed_for_numpy(tmp_path):
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util, sys\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'torch' else find(name, *rest)\n"
        "sys.modules['torch'] = None\n")
    folder = submission(tmp_path / "doe", mlp_pytorch="import torch\n")
    assert run(folder, "--check", "1.2", PYTHONPATH=str(tmp_path)).returncode == 0
    done = run(folder, "--check", "2.1", PYTHONPATH=str(tmp_path))
    assert "not checked: it needs torch, which is not installed here: pip install torch" in done.stdout
    assert done.returncode == 1


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_it_and_leaves_nothing(tmp_path):
    folder = submission(tmp_path / "doe", modules="import pathlib, time\npathlib.Path(" + repr(str(tmp_path / "here"))
                        + ").touch()\ntime.sleep(60)\n")
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen([sys.executable, str(ROOT / "grade.py"), "--check", "1.2"], cwd=folder,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                               env={**os.environ, "TMPDIR": str(tmp_path / "tmp")})
    give_up = time.monotonic() + 60
    while not (tmp_path / "here").exists() and time.monotonic() < give_up:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in out + err
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_the_copy_leaves_out_what_is_no_code(tmp_path):
    folder = submission(tmp_path / "doe")
    for name, content in {"cifar10/cifar-10-batches-py/data_batch_1": "x", "my/env2/pyvenv.cfg": "x", "my/env2/a.py": "x",
                          ".git/config": "x", "helpers/layers.py": "x", "big.npz": "x" * (2**20 + 1)}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    copy = home.copied(folder, tmp_path / "copy")
    files = sorted(path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file())
    given = local_imports(ROOT, ["cifar10_utils.py"])  # which the course hands out
    assert files == sorted(["helpers/layers.py", "mlp_numpy.py", "modules.py", *given])


def test_a_network_that_starts_or_learns_badly(tmp_path, capsys):
    large = MODULES.replace("normal(0, 0.0001,", "normal(0, 0.01,")
    summed = MODULES.replace("np.maximum(x, 1e-300))).sum() / len(x)", "np.maximum(x, 1e-300))).sum()")
    silent = MODULES.replace("return self.y\n", "self.y\n")
    still = MLP.replace("    def backward(self, dout):\n", "    def backward(self, dout):\n        dout = 0 * dout\n")
    for name, change, title, text in (
            ("large", {"modules": large}, "ladder: the initial loss is ln 10 (2.303)", "check the standard deviation"),
            ("summed", {"modules": summed}, "ladder: the initial loss is ln 10 (2.303)", "summed over the batch"),
            ("silent", {"modules": silent}, "ladder: gradients agree with central differences",
             "SoftMaxModule.forward returns None: the return is missing."),
            ("lost", {"modules": MODULES.replace("return np.where", "np.where")},
             "ladder: the initial loss is ln 10 (2.303)", "ELUModule.forward returns None: the return is missing."),
            ("still", {"mlp_numpy": still}, "ladder: 50 images are learned to 100 %", "images are right after 200")):
        assert change not in ({"modules": MODULES}, {"mlp_numpy": MLP})
        assert home.check(submission(tmp_path / name, **change), ["1.2"]) == 1
        found = verdicts(capsys.readouterr().out)
        assert found[title].startswith("✗") and text in found[title], found[title]


def test_of_a_wrong_loss_the_ladder_does_not_blame_the_gradients(tmp_path, capsys):
    loss = "return -(y * np.log(np.maximum(x, 1e-300))).sum() / len(x)"
    for name, wrong in (("summed", loss.replace(" / len(x)", "")), ("sign", loss.replace("-(", "(")),
                        ("swapped", "return -(x * np.log(y)).sum() / len(x)")):
        assert home.check(submission(tmp_path / name, modules=MODULES.replace(loss, wrong)), ["1.2"]) == 1
        out = capsys.readouterr().out
        assert verdicts(out)["ladder: the initial loss is ln 10 (2.303)"].startswith("✗")
        assert ("  – ladder: gradients agree with central differences\n      Not judged: the loss comes first, which is "
                "wrong above.\n  ✓ ladder: 50") in out, out


def test_what_cannot_be_judged_names_what_comes_first(tmp_path, capsys):
    one_more = MODULE_LIST.replace("nn.Linear(sizes[-1], n_classes)",
                                   "nn.Sequential(nn.Linear(sizes[-1], sizes[-1]), nn.Linear(sizes[-1], n_classes))")
    folder = submission(tmp_path / "doe", mlp_pytorch=one_more)
    assert home.check(folder, ["2.1"]) == 1
    found = verdicts(capsys.readouterr().out)
    assert found["Shape of the output"] == "✗ Not judged before 'MLP without a hidden layer' is right.", found
    assert "wrong linear layers" in found["MLP without a hidden layer"]


@pytest.mark.slow
def test_an_mlp_whose_script_applies_softmax_is_right_at_home_too(tmp_path, capsys):
    for file in handin_table.RIGHT["rowan"]:
        (tmp_path / file).write_text(handin_table.source("rowan", file))
    assert home.check(tmp_path, ["1.2"]) == 0, capsys.readouterr().out


def test_the_reference_passes_whole(tmp_path):
    folder = tmp_path / "reference"
    folder.mkdir()
    for path in ROOT.glob("*.py"):
        shutil.copy(path, folder)
    for name in ("training", "imagefiles", "networks"):
        shutil.copytree(ROOT / name, folder / name)
    done = run(folder, "--check")
    assert done.returncode == 0, done.stdout + done.stderr
    for number in QUESTIONS:
        assert f"\n{number} " in "\n" + done.stdout
    assert all(f" {script}\n" in done.stdout for script in home.SCRIPTS)
    assert not (folder / "results").exists()


def test_json_of_a_job_holds_no_object():
    """Options of every probe survive the way to the worker."""
    context = Context({}, np.zeros(0), np.zeros(0), False, inputs=Inputs())
    for question in QUESTIONS.values():
        for probe in question.probes(context).values():
            json.dumps(dict(probe.options))
