"""`grade.py --check`: the grader's own checks on one's own folder, on any system and without confinement.

The probes and the checks are those of the grader, and so are the sentences. Only the worker differs: a plain process,
on a copy of the folder's files, since the code is one's own.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from grading import datasets, expected, rubric
from grading.checks import Context, Question, Replies, remarks
from grading.compare import Outcome, told_once
from grading.files import local_imports, whereabouts
from grading.inputs import Inputs
from grading.ladder import LADDERS, Found
from grading.questions import QUESTIONS
from grading.replies import Limits, Probe, Reply, one_line, read_reply
from grading.rubric import Rubric
from grading.worker.student import without_places

REFERENCE = Path(__file__).parent.parent
DATA_UTILITIES = "cifar10_utils.py"
WORKER = Path(__file__).parent / "worker" / "at_home.py"
# pytest's mark -> its question, and what the ids of its checks start with
PYTEST_MARKS = {
    "q1_1a": ("1.2", ("linear",)), "q1_1b": ("1.2", ("elu",)), "q1_1c": ("1.2", ("softmax", "loss", "batch_of_one")),
    "q1_2": ("1.2", ("",)), "q2_1": ("2.1", ("",)), "q3_1": ("3.1", ("",)), "q3_2b": ("3.2b", ("",)),
    "q3_2c": ("3.2c", ("",)), "q4a": ("4a", ("",))}
SCRIPTS = {question.script.file: question for question in QUESTIONS.values() if question.script}
PROBE_SECONDS, AFTER_A_HANG = 30.0, 5.0  # a right one takes less than one
START_SECONDS = 120.0  # for the libraries' import, on a slow disk
MOST_FILE_BYTES = 2**20  # larger ones are data or runs, not code
NOT_COPIED = {"__pycache__", "venv", "env", "node_modules", "site-packages"}
ENVIRONMENT = {"MPLBACKEND": "Agg", "MATPLOTLIBRC": os.devnull, "PYTHONDONTWRITEBYTECODE": "1",
               "PYTHONHASHSEED": "0", "PYTHONIOENCODING": "utf-8", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
MARKS = {"right": "✓", "part": "◐", "wrong": "✗", "remark": "•", "unjudged": "–"}
PLAIN_MARKS = {"right": "ok  ", "part": "part", "wrong": "FAIL", "remark": "note", "unjudged": "-   "}


class HomeError(Exception):
    """What was asked for cannot be checked: one line with the way out."""


# ---------------------------------------------------------------- the worker


def copied(folder: Path, target: Path) -> Path:
    """A copy of the code in `folder`: no data sets, environments, hidden folders or large files.

    What the course gives and the folder lacks is added, as the grader does.
    """
    def skipped(where: str, names: list[str]) -> list[str]:
        here = Path(where)
        data = here / "data_batch_1", here / "pyvenv.cfg"
        if here != folder and any(path.exists() for path in data):
            return names
        return [name for name in names if name in NOT_COPIED or name.startswith(".") or (here / name).is_symlink()
                or ((here / name).is_file() and (here / name).stat().st_size > MOST_FILE_BYTES)]

    shutil.copytree(folder, target, ignore=skipped, copy_function=shutil.copyfile)
    for name in local_imports(REFERENCE, [DATA_UTILITIES]):
        if not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REFERENCE / name, target / name)
    return target


class HomeWorker:
    """Runs probes on the code in a folder, in a process that is started again where one hangs or ends.

    work: a folder for its files. data: folders of data sets, by the name that probes know them by.
    """

    def __init__(self, work: Path, code: Path, torch: bool, data: Mapping[str, Path] | None = None):
        self.work, self.code, self.torch, self.data = work, code, torch, data or {}
        self.started = 0
        self.hung = False

    def run(self, probes: Mapping[str, Probe]) -> Iterator[tuple[str, Reply]]:
        """(name, reply) of each probe, as soon as it is there."""
        left = {}
        for name, probe in probes.items():
            if probe.needs and not (self.code / probe.needs).is_file():
                yield name, Reply(error=f"Absent: {whereabouts(probe.needs, self.code, self.code)}")
            else:
                left[name] = probe
        while left:
            for name, reply in self._process(left):
                del left[name]
                yield name, reply

    def _process(self, probes: Mapping[str, Probe]) -> Iterator[tuple[str, Reply]]:
        """Replies of one process, up to the first probe in which it hangs or ends."""
        self.started += 1
        job = self.work / f"job-{self.started}"
        job.mkdir()
        np.savez(job / "inputs.npz", **{f"{name}/{key}": value for name, probe in probes.items()
                                        for key, value in probe.arrays.items()})
        (job / "job.json").write_text(json.dumps({
            "torch": self.torch, "data": {name: str(path) for name, path in self.data.items()},
            "probes": [{"name": name, "function": probe.function, "options": dict(probe.options)}
                       for name, probe in probes.items()]}), encoding="utf-8")
        with open(job / "errors", "wb") as errors:
            process = subprocess.Popen([sys.executable, str(WORKER), str(job), str(self.code)],
                                       cwd=job,  # where matplotlib finds no settings
                                       env={**os.environ, **ENVIRONMENT}, stdin=subprocess.DEVNULL, stdout=errors,
                                       stderr=errors)
        try:
            if wait_for(job / "ready", process, START_SECONDS) != "there":
                last = (job / "errors").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
                raise HomeError(f"the process that runs your code does not start: {''.join(last) or 'no answer'}")
            for number, (name, probe) in enumerate(list(probes.items())):
                seconds = min(probe.seconds or PROBE_SECONDS, AFTER_A_HANG if self.hung else 600)
                started = time.monotonic()
                found = wait_for(job / f"{number}.json", process, seconds)
                self.hung |= found == "wall time"
                yield name, reply_of(job, number, name, found, process.poll() or 0, time.monotonic() - started)
                if found != "there":
                    return
        finally:
            process.kill()
            process.wait()
            shutil.rmtree(job, ignore_errors=True)


def wait_for(path: Path, process: subprocess.Popen, seconds: float) -> str:
    """'there' once the file is, 'ended' where the process is gone before, 'wall time' where it takes too long."""
    end = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None:
            return "there" if path.exists() else "ended"
        if time.monotonic() > end:
            return "wall time"
        time.sleep(0.005)
    return "there"


def reply_of(job: Path, number: int, name: str, found: str, code: int, seconds: float) -> Reply:
    """What a probe left, read as the grader reads its workers."""
    contents = [(job / f"{number}.{ending}").read_bytes() if found == "there" else b"" for ending in ("json", "npz")]
    if code >= 0xC0000000:  # Windows: access violation, stack overflow and the like
        code = -11
    status = {"name": name, "end": "ended" if found == "there" else found, "code": 0 if found == "there" else code,
              "seconds": seconds,
              "sizes": [*map(len, contents), 0]}
    return read_reply(io.BytesIO(json.dumps(status).encode() + b"\n" + b"".join(contents)), name, Limits())


# ---------------------------------------------------------------- what is asked for


def chosen(names: Sequence[str], rules: Rubric | None = None) -> tuple[list[str], list[str]]:
    """(question numbers, scripts' files) that `names` stand for: a number, the start of some, or a script's file.

    One of them may be several, with commas. No name stands for everything that the rubric asks. Raises HomeError.
    """
    rules = rules or rubric.load()
    asked = [row.number for row in rules.code]
    files = [file for file, question in SCRIPTS.items() if question.number in asked]
    names = [name.strip() for name in ",".join(names).split(",") if name.strip()]
    if not names:
        return asked, files
    numbers, scripts = set(), set()
    for name in names:
        number = name.lower().removeprefix("q").replace("_", ".")
        found = {one for one in asked if one.startswith(number)}
        if (script := f"{Path(name).name.removesuffix('.py')}.py") in files:
            scripts.add(script)
        elif found:
            numbers |= found
        elif Path(name).is_dir():
            raise HomeError(f"{name} is a folder, not a question: give the folder before --check, as in "
                            f"`grade.py {name} --check`")
        elif number in [row.number for row in rules.written]:
            raise HomeError(f"{name} is a written question, graded from the report")
        else:
            raise HomeError(f"{name!r} is none of the code questions {', '.join(asked)} of the rubric"
                            + f", and none of the scripts {', '.join(files)}" * bool(files))
    return [n for n in asked if n in numbers], [s for s in files if s in scripts]


def unready(question: Question) -> str:
    """Why a question cannot be checked on this machine, or ''."""
    if question.torch and importlib.util.find_spec("torch") is None:
        return "needs torch, which is not installed here: pip install torch"
    return ""


# ---------------------------------------------------------------- the output


class Printer:
    """Prints outcomes; what the terminal's encoding does not know is written in ASCII."""

    def __init__(self) -> None:
        encoding = getattr(sys.stdout, "encoding", None) or "ascii"
        try:
            "".join(MARKS.values()).encode(encoding)
            self.marks = MARKS
        except (UnicodeEncodeError, LookupError):
            self.marks = PLAIN_MARKS
        with contextlib.suppress(AttributeError, ValueError):  # not every stream can
            sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]

    def line(self, text: str = "") -> None:
        if self.marks is PLAIN_MARKS:
            for sign, plain in (("±", "+-"), ("−", "-"), ("Σ", "sum"), ("ᵀ", "^T"), ("×", "x"), ("≥", ">=")):
                text = text.replace(sign, plain)
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()  # seen at once, also through a pipe

    def outcome(self, title: str, outcome: Outcome, remark: bool = False, told: Collection[str] = ()) -> None:
        """A check's line and, where it fails, what is wrong with it, without what has been `told` above."""
        kind = ("unjudged" if outcome.unjudged else "right" if outcome.passed else "remark" if remark else
                "part" if outcome.fraction > 0 else "wrong")
        self.line(f"  {self.marks[kind]} {title}")
        for text in wrong(outcome):
            if text not in told:
                self.line(f"      {text}")


def wrong(outcome: Outcome) -> list[str]:
    """What is wrong, or why it was not judged, and the numbers behind it, without places in libraries."""
    texts = [outcome.diagnosis, "" if outcome.passed else outcome.numbers]
    return [one_line(without_places(text), 600) for text in texts if text]


def undecided(found: Found) -> bool:
    """Whether a failure may be none once the script is seen: how it makes the network, what its loss takes."""
    return any(word in outcome.diagnosis for _, outcome in found.values() if not outcome.passed
               for word in ("positional argument", "softmax", "Softmax"))


def crashes_once(found: Found) -> Found:
    """`found`, in which a crash is told whole by the first check that it fails, rather than by a rung of the ladder."""
    told: dict[Any, str] = {}
    once = {id: (check, replace(outcome, diagnosis=told_once(told, check.title, outcome.diagnosis)))
            for id, (check, outcome) in sorted(found.items(), key=lambda item: item[0].startswith("ladder"))}
    return {id: once[id] for id in found}


def needed(replies: Replies) -> list[str]:
    """Packages that the code used and that are not installed."""
    return sorted({str(name) for reply in replies.values() for name in reply.notes.get("needs") or []})


# ---------------------------------------------------------------- a question, a script, all of it


class Home:
    """Checks the code in `code`, a copy that the checks may fill. work: a folder for their files."""

    def __init__(self, work: Path, code: Path, rules: Rubric):
        self.work, self.code, self.rules, self.printer = work, code, rules, Printer()
        self.rows = {row.number: row for row in rules.code}
        self.context = Context({}, np.zeros((0, 3072), np.float32), np.zeros(0, int), False, rules.accuracy,
                               expected=expected.values(Inputs()))

    def ask(self, question: Question, probes: Mapping[str, Probe], what: str, alone: bool = False) -> Replies:
        """The replies, with a progress bar; the first hang is said at once. alone: each probe in its own process."""
        replies, hung = Replies(), False
        worker = HomeWorker(self.work, self.code, question.torch, self.context.data)
        groups = [{name: probe} for name, probe in probes.items()] if alone else [probes]
        with tqdm(total=len(probes), desc=what, unit="probe", leave=False, disable=None) as bar:
            for group in groups:
                for name, reply in worker.run(group):
                    replies[name] = reply
                    bar.update()
                    if worker.hung and not hung:
                        hung = True
                        self.printer.line(
                            f"  {name} ran longer than {reply.seconds:.0f} s, perhaps in an endless loop; "
                            f"the rest has {AFTER_A_HANG:.0f} s for each probe")
        if packages := needed(replies):
            self.printer.line(f"  needs {', '.join(packages)}, not installed here: what uses it cannot be right")
        for remark in remarks(replies):
            self.printer.line(f"  {self.printer.marks['remark']} {remark}")
        return replies

    def judged(self, question: Question, ids: Collection[str], replies: Replies) -> Found:
        """The rubric's checks among `ids`, in its order."""
        checks = {check.id: check for check in self.rows[question.number].checks if check.id in ids}
        return {id: (checks[id], outcome)
                for id, outcome in question.judged(checks.values(), replies, self.context).items()}

    def question(self, number: str) -> Found:
        """The rungs of a question's ladder, and the checks of its code, not of its script."""
        question, ladder = QUESTIONS[number], LADDERS.get(number)
        asked = question.asked(question.own_checks, self.context) | (ladder.probes() if ladder else {})
        replies = self.ask(question, asked, number)
        found = self.judged(question, question.own_checks, replies)
        if question.script and (self.code / question.script.file).is_file() and undecided(found):
            self.make_data()
            scripts = question.script.probes(self.context)
            replies = self.ask(question, asked, number)
            replies |= self.ask(question, {"script": scripts["script"]}, question.script.file, alone=True)
            found = self.judged(question, question.own_checks, replies)
        return {**(ladder.rungs(replies) if ladder else {}), **found}

    def make_data(self) -> None:
        """The data sets of the scripts, once."""
        if not self.context.data:
            with tqdm(desc="making 60,000 small images", bar_format="{desc}", leave=False, disable=None):
                self.context = datasets.prepare(self.work / "data", self.rules, None, None)

    def script(self, file: str) -> Found:
        """The checks of a script, which is run as the grader does."""
        question = SCRIPTS[file]
        assert question.script is not None
        self.make_data()
        replies = self.ask(question, question.script.probes(self.context), file, alone=True)
        return self.judged(question, question.script.checks, replies)

    def report(self, found: Found) -> int:
        """Print the rungs of a ladder and the checks; how many fail. A remark is printed where it found something."""
        found = crashes_once(found)
        failed = {id: outcome for id, (check, outcome) in found.items() if check.points and not outcome.passed}
        reasons = [outcome.diagnosis for id, outcome in failed.items() if not id.startswith("ladder")]
        said = reasons[0] if len(reasons) > 1 and len(set(reasons)) == 1 else ""
        if said:
            self.printer.line(f"  {said}")
        told = {said}
        for id, (check, outcome) in found.items():
            if check.points or not outcome.passed or id.startswith("ladder"):
                self.printer.outcome(check.title, outcome, not check.points, told)
            told |= {outcome.numbers} if outcome.numbers.startswith("run as") else set()
        return len(failed)

    def check(self, title: str, number: str, script: str = "") -> int:
        """Check and print a question, or a script of it; how much fails."""
        self.printer.line(title)
        if reason := unready(QUESTIONS[number]):
            self.printer.line(f"  not checked: it {reason}")
            return 1
        return self.report(self.script(script) if script else self.question(number))


@contextlib.contextmanager
def at_home(folder: Path, rules: Rubric | None = None) -> Iterator[Home]:
    """The code in `folder`, ready to be checked. Raises HomeError where there is none."""
    if not folder.is_dir():
        raise HomeError(f"{folder} is not a folder")
    rules = rules or rubric.load()
    files = sorted({QUESTIONS[row.number].file for row in rules.code})
    if not any((folder / file).is_file() for file in files):
        raise HomeError(f"{folder.resolve()} has none of {', '.join(files)}: go to the folder of your code, or name it")
    with tempfile.TemporaryDirectory(prefix="check-", ignore_cleanup_errors=True) as work:
        yield Home(Path(work), copied(folder.resolve(), Path(work, "code")), rules)


def sentences(folder: Path, number: str, starts: tuple[str, ...]) -> list[str]:
    """What is said of the checks of a question that fail and whose ids start with one of `starts`. Raises HomeError."""
    rules = rubric.load()
    if number not in [row.number for row in rules.code]:
        raise HomeError(f"{number} is not asked")
    if reason := unready(QUESTIONS[number]):
        raise HomeError(f"{number} {reason}")
    with at_home(folder, rules) as home:
        found = {id: one for id, one in home.question(number).items() if id.startswith(starts) and one[0].points}
    return [line for check, outcome in crashes_once(found).values() if not outcome.passed
            for line in (f"{check.title}:", *(f"    {said}" for said in wrong(outcome)))]


def check(folder: Path, names: Sequence[str], rules: Rubric | None = None) -> int:
    """Check the code in `folder`, print what was found, and return the exit status. Raises HomeError."""
    rules = rules or rubric.load()
    numbers, scripts = chosen(names, rules)
    failing = 0
    with at_home(folder, rules) as home:
        for number in numbers:
            failing += home.check(f"{number} {home.rows[number].title}", number)
            script = QUESTIONS[number].script
            if script and script.file not in scripts:
                home.printer.line(f"  not run: {script.file}; --check {script.file} runs it, up to a minute")
            home.printer.line()
        for file in scripts:
            failing += home.check(f"{SCRIPTS[file].number} {file}", SCRIPTS[file].number, file)
            home.printer.line()
        home.printer.line("everything that was checked is right" if not failing else f"to fix: {failing}")
    return 1 if failing else 0
