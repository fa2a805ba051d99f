"""Search the PyTorch MLP's hyper-parameters: widths, depth, activation, learning rate and more.

    python search_mlp_pytorch.py --trials 30 --output_dir results/search
    python search_mlp_pytorch.py --sampler tpe --trials 50 --epochs 10
    python train_mlp_pytorch.py --recipe results/search/best.json      # what was found, on the test split

The aim is the accuracy on held-out training images; the test split is never read. Hopeless trials end early. The same
command continues a study; started several times at once, on several machines that share the folder, it shares the
trials among them. A trial whose process was killed is run again by the next process that looks for a trial, up to three
times; one that runs out of memory is left out. The output folder gets trials.csv, best.json, history.png,
importance.png, parallel.png, and a run folder for each trial.
"""

from __future__ import annotations

import bisect
import contextlib
import csv
import io
import itertools
import json
import os
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

import train_mlp_pytorch
from imagefiles.dataset import quoted
from mlp_pytorch import ACTIVATIONS
from training.checkpoints import atomic_write, lock, write_json
from training.console import notice_once
from training.datasets import DATASETS
from training.flags import Flags, TrainingFlags, UserError, flag, path, positive_int, seed_int
from training.machine import out_of_memory
from training.rendezvous import processes
from training.run import BatchTooLarge, Diverged
from training.script import run_script
from training.stop import Interrupted

STUDY = "mlp"
BATCH_SIZES = [64, 128, 256, 512, 1024]
NORMALIZATIONS = ["none", "layer", "batch_torch"]
MOST_LAYERS = 4
SPACE: dict[str, BaseDistribution] = {  # every trial draws all of them, which crossing requires
    **{f"width_{i}": IntDistribution(64, 1024, log=True) for i in range(1, MOST_LAYERS + 1)},
    "depth": IntDistribution(1, MOST_LAYERS),
    "activation": CategoricalDistribution(list(ACTIVATIONS)),
    "learning_rate": FloatDistribution(1e-4, 1e-2, log=True),
    "batch_size": CategoricalDistribution(BATCH_SIZES),
    "weight_decay": FloatDistribution(1e-5, 1e-1, log=True),
    "dropout": FloatDistribution(0.0, 0.6),
    "normalization": CategoricalDistribution(NORMALIZATIONS),
}
MOST_ATTEMPTS = 3  # at a trial whose process is killed each time, as the kernel does when memory runs out
RECORD = b'{"op_code":'  # how every line of a study's file begins

SAMPLERS = {
    # evolution: children of the better half of a population, by crossing two parents and mutating some values
    "evolution": lambda seed, population: NSGAIISampler(population_size=population, seed=seed),
    "tpe": lambda seed, population: TPESampler(seed=seed, constant_liar=True),
    "random": lambda seed, population: RandomSampler(seed=seed),
}


@dataclass
class Config(Flags):
    trials: int = flag(30, "trials in the study, all processes and earlier runs together", type=positive_int)
    sampler: str = flag("evolution", "how the next values are chosen", choices=list(SAMPLERS))
    population: int = flag(10, "trials in a generation of the evolution", type=positive_int,
                           needs="--sampler evolution")
    pruning: str = flag("on", "end a trial that is below the median of the others at the same epoch",
                        choices=["on", "off"])
    epochs: int = flag(5, "train each trial this many epochs and evaluate after each", type=positive_int)
    validation_size: int = flag(5000, "training images held out, on which trials are judged", type=positive_int)
    dataset: str = flag("cifar10", "which images", choices=list(DATASETS), group="images")
    data_dir: str = flag(TrainingFlags.data_dir, "folder of its files; as in train_mlp_pytorch.py", type=path)
    seed: int = flag(42, "seed of the sampler (and of each trial's weights and batches)", type=seed_int)
    output_dir: str = flag("results/search_mlp_pytorch", "folder of the study; an existing study is continued",
                           type=path)
    storage: str = flag("", "file of the study, which all its processes write to; '' for study.log in --output_dir",
                        type=path)


# ---------------------------------------------------------------- one trial


def flags_of(drawn: dict[str, Any], config: Config) -> dict[str, Any]:
    """The flags of train_mlp_pytorch.py for what a trial has drawn from SPACE."""
    same = ("activation", "learning_rate", "batch_size", "weight_decay", "dropout", "normalization")
    return {"dnn_hidden_units": [drawn[f"width_{i}"] for i in range(1, drawn["depth"] + 1)],
            **{name: drawn[name] for name in same},
            "optimizer": "adamw", "lr_schedule": "one_cycle", "weight_std": 0.0, "pixel_scale": 1 / 64,
            "epochs": config.epochs, "validation_size": config.validation_size, "seed": config.seed,
            "dataset": config.dataset}


def run_trial(trial: optuna.Trial, config: Config) -> float:
    """Train; the last validation accuracy. Raises optuna.TrialPruned."""
    folder = Path(config.output_dir) / "trials" / str(trial.number)
    shutil.rmtree(folder, ignore_errors=True)
    flags = flags_of(trial.params, config)
    trial.set_user_attr("flags", flags)

    epochs = itertools.count(1)

    def watch(step: int, accuracy: float) -> None:
        trial.report(accuracy, next(epochs))
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            summary = train_mlp_pytorch.train(train_mlp_pytorch.Config(
                **flags, data_dir=config.data_dir, output_dir=str(folder)), watch)
        return summary["validation_accuracy"]
    finally:
        for checkpoint in folder.glob("*.pt"):
            checkpoint.unlink()


# ---------------------------------------------------------------- a study that several processes share


class AppendLock(JournalFileOpenLock):
    """The lock under which a study's file is appended to.

    A process that was killed while it wrote, or that found the disk full, left half a line, and a power cut perhaps
    zeros. These are removed before the next line is written, which would otherwise continue them.
    """

    def __init__(self, path: Path):
        super().__init__(str(path))
        self.path = path

    def acquire(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - os.stat(self._lock_file).st_mtime > 2:  # to append takes milliseconds
                notice_once(f"{quoted(self._lock_file)} seems to be left by a process that was killed: if so, it is "
                            f"removed after {self.grace_period} s.")
        held = super().acquire()
        try:
            with open(self.path, "r+b") as file:
                if half := half_line(file):
                    file.truncate(file.seek(0, os.SEEK_END) - len(half))
        except BaseException:
            self.release()
            raise
        return held


def half_line(file: IO[bytes]) -> bytes:
    """What stands behind the last line's end."""
    size, tail = file.seek(0, os.SEEK_END), b""
    while b"\n" not in tail and len(tail) < size:
        file.seek(-min(2 * len(tail) + 1, size), os.SEEK_END)
        tail = file.read()
    return tail.rpartition(b"\n")[2]


class Records(BaseJournalBackend):
    """The records of a study as Optuna reads them; nothing can be appended."""

    def __init__(self, records: list[Any]):
        self.records = records

    def read_logs(self, log_number_from: int) -> list[Any]:
        return self.records[log_number_from:]

    def append_logs(self, logs: list[Any]) -> None:
        raise NotImplementedError


def reads(records: list[Any]) -> bool:
    """Whether Optuna can read these records. It has many ways to fail at foreign ones."""
    try:
        optuna.storages.JournalStorage(Records(records)).get_all_studies()
    except Exception:
        return False
    return True


def check_storage(path: Path) -> None:
    """Reads a study's file as Optuna will, and the values that this program uses, before anything is appended to it.

    Raises:
        UserError: not a study's file, one with a damaged line, or one of another search space.
    """
    foreign = UserError(f"--storage: {path} is not the file of a study; choose another")

    def damaged(line: int) -> UserError:
        if line == 1:
            return foreign
        return UserError(f"--storage: line {line} of {path} is damaged; to continue from the lines before it: "
                         f"head -n {line - 1} {quoted(path)} > NEW, and --storage NEW")

    records = []
    with open(path, "rb") as file:
        half = half_line(file)
        half = half.rstrip(b"\0")
        if half and not (half.startswith(RECORD) or RECORD.startswith(half)):
            raise foreign
        file.seek(0)
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                try:
                    records.append(json.loads(line))
                except (ValueError, RecursionError):
                    raise damaged(number) from None
    if not reads(records):
        raise damaged(bisect.bisect(range(len(records)), False, key=lambda last: not reads(records[:last + 1])) + 1)
    try:
        storage = optuna.storages.JournalStorage(Records(records))
        if STUDY in (found := {study.study_name: study for study in storage.get_all_studies()}):
            study = optuna.load_study(study_name=STUDY, storage=storage)
            task = study.user_attrs.get("task", {})
            fits = isinstance(task, dict) and found[STUDY].directions == [optuna.study.StudyDirection.MAXIMIZE]
            for trial in study.get_trials():
                values = [*trial.intermediate_values.values(), *(trial.values or [])]
                values.append(trial.user_attrs.get("attempts", 1))
                fits = fits and all(isinstance(value, int | float) for value in values)
                if trial.state == TrialState.COMPLETE:
                    fits = fits and trial.value is not None and isinstance(trial.user_attrs["flags"], dict)
            if not fits:
                raise foreign
            check_space(path, study.get_trials())
    except UserError:
        raise
    except Exception:  # values of another kind than this program writes
        raise foreign from None


def check_space(path: Path, trials: list[FrozenTrial]) -> None:
    """Trials of one study have drawn from the same space. Raises UserError."""
    for trial in trials:
        drawn_from = trial.distributions  # a trial that was killed may have drawn some of its values only
        expected = SPACE if trial.state == TrialState.COMPLETE else {name: SPACE.get(name) for name in drawn_from}
        for name in sorted({*expected, *drawn_from}):
            if (there := drawn_from.get(name)) != (here := expected.get(name)):
                raise UserError(f"--storage: {path} holds a study of another search space: {name} is from {there} "
                                f"there, and from {here} here; choose another --output_dir")


class Shared:
    """A study in a file, and who works on which of its trials.

    A process holds the kernel's lock on a file for each trial it runs. The kernel releases the lock when the process
    ends, however it ends. So a trial that is recorded as running and is not locked has lost its process.
    """

    def __init__(self, config: Config):
        if processes() > 1:
            raise UserError("a search is not started by torchrun: start the same command as often as you like")
        if "://" in config.storage:
            raise UserError(f"--storage: {config.storage} is an address; name a file, which can be in a shared folder")
        self.config = config
        self.storage = Path(config.storage or Path(config.output_dir) / "study.log")
        self.locks = Path(f"{self.storage}.locks")
        try:
            Path(config.output_dir).mkdir(parents=True, exist_ok=True)
            self.locks.mkdir(parents=True, exist_ok=True)
            with self._locked("study", wait=True):
                if self.storage.exists():
                    check_storage(self.storage)
                backend = JournalFileBackend(str(self.storage), lock_obj=AppendLock(self.storage))
                self.study = optuna.create_study(
                    storage=optuna.storages.JournalStorage(backend), study_name=STUDY, direction="maximize",
                    load_if_exists=True, sampler=self._sampler(),
                    pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2) if config.pruning == "on"
                    else optuna.pruners.NopPruner())
                self._same_task()
        except OSError as error:
            flag = "--storage" if config.storage else "--output_dir"
            raise UserError(f"{flag}: cannot write to {error.filename or self.storage}: {error.strerror}; choose "
                            "another") from None

    def _sampler(self) -> BaseSampler:
        # the seed depends on what is there, so that a process that joins later does not draw the same values
        before = self.storage.stat().st_size if self.storage.exists() else 0
        return SAMPLERS[self.config.sampler]((self.config.seed + before) % 2**32, self.config.population)

    def _same_task(self) -> None:
        """Trials of one study must be comparable."""
        task = {name: getattr(self.config, name) for name in ("epochs", "validation_size", "dataset")}
        before = {"dataset": "cifar10", **self.study.user_attrs.get("task", task)}  # studies of version 2.0 name none
        if before != task:
            name = next(key for key in task if before[key] != task[key])
            raise UserError(f"--{name}: {self.storage} holds a study with {name} {before[name]}, not {task[name]}; "
                            "leave the flag out, or choose another --output_dir")
        self.study.set_user_attr("task", task)

    @contextlib.contextmanager
    def _locked(self, name: str, wait: bool) -> Iterator[IO[str] | None]:
        """Hold the lock called `name`; None where another process has it and `wait` is false."""
        try:
            file = lock(self.locks / name, wait)
        except BlockingIOError:
            yield None
            return
        with file:
            yield file

    def _take_back(self) -> None:
        """Trials whose process is gone: run again, with the same values, as a trial of another number."""
        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            with self._locked(str(trial.number), wait=False) as lock:
                if lock is not None:
                    attempts = trial.user_attrs.get("attempts", 1)
                    if attempts < MOST_ATTEMPTS:
                        self.give_back(trial, attempts + 1)
                    else:
                        self.leave_out(trial, f"its process was killed {attempts} times")

    def give_back(self, trial: FrozenTrial | optuna.Trial, attempts: int) -> None:
        """`trial` will not be finished: another one, not yet begun, takes its place."""
        self.study.tell(trial.number, state=TrialState.FAIL)
        self.study.enqueue_trial(trial.params, user_attrs={"again": trial.number, "attempts": attempts})

    def leave_out(self, trial: FrozenTrial | optuna.Trial, reason: str) -> None:
        """`trial` cannot be finished, here or by another process: it keeps its place, as if pruned at once."""
        self.study.tell(trial.number, state=TrialState.PRUNED)
        tqdm.write(f"trial {trial.number} is left out: {reason}", file=sys.stderr)

    @contextlib.contextmanager
    def next_trial(self) -> Iterator[optuna.Trial | None]:
        """The next trial for this process, locked while the context lasts; None when all are taken."""
        with contextlib.ExitStack() as held:
            with self._locked("study", wait=True):
                self._take_back()
                waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
                trial = self.study.ask(SPACE) if waiting or len(self.counted()) < self.config.trials else None
                if trial is not None:
                    held.enter_context(self._locked(str(trial.number), wait=True))
            yield trial

    def write_results(self) -> FrozenTrial | None:
        with self._locked("study", wait=True):
            return write_results(self.study, Path(self.config.output_dir))

    def counted(self) -> list[FrozenTrial]:
        """Trials that count towards --trials: all but those that were given back."""
        return [trial for trial in self.study.get_trials(deepcopy=False) if trial.state != TrialState.FAIL]

    def finished(self) -> list[FrozenTrial]:
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))


# ---------------------------------------------------------------- the results of a study


def is_there(name: str, drawn: Mapping[str, Any]) -> bool:
    """Whether the network has what was drawn under this name: not the width of a layer that it does not have."""
    layer = name.removeprefix("width_")
    return name in drawn and (layer == name or int(layer) <= drawn.get("depth", MOST_LAYERS))


def write_results(study: optuna.Study, folder: Path) -> FrozenTrial | None:
    """trials.csv and best.json of all trials so far; returns the best."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    names = sorted({name for trial in trials for name in trial.params})
    with atomic_write(folder / "trials.csv", "w") as file:
        writer = csv.writer(file)
        writer.writerow(["trial", "state", "validation_accuracy", "epochs", "seconds", *names])
        for trial in trials:
            value = trial.value if trial.value is not None else max(trial.intermediate_values.values(), default="")
            writer.writerow([trial.number, trial.state.name.lower(), value, len(trial.intermediate_values),
                             round(trial.duration.total_seconds(), 1) if trial.duration else "",
                             *(trial.params[name] if is_there(name, trial.params) else "" for name in names)])
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        return None
    best = max(complete, key=lambda trial: trial.value or 0.0)
    write_json(folder / "best.json", {
        "script": "train_mlp_pytorch", "flags": best.user_attrs["flags"],
        "about": f"best of {len(trials)} trials, trial {best.number}: validation accuracy {best.value:.4f}"})
    return best


def plot(study: optuna.Study, folder: Path) -> None:
    """history.png, importance.png and parallel.png, as Optuna draws them.

    With a backend and settings of their own, whatever MPLBACKEND or a matplotlibrc say. A picture that cannot be drawn
    is a notice.
    """
    try:
        import matplotlib.pyplot as plt
        from optuna.importance import PedAnovaImportanceEvaluator
        from optuna.visualization import matplotlib as draw

        pictures = {"history": lambda: draw.plot_optimization_history(study),
                    "importance": lambda: draw.plot_param_importances(study, evaluator=PedAnovaImportanceEvaluator()),
                    "parallel": lambda: draw.plot_parallel_coordinate(study)}
        own_backend = plt.get_backend()
        with warnings.catch_warnings(), plt.rc_context():
            warnings.simplefilter("ignore")
            plt.switch_backend("agg")
            plt.rcdefaults()
            plt.rcParams["figure.figsize"] = (15, 5)
            for name, picture in pictures.items():
                picture()
                plt.savefig(folder / f"{name}.png", dpi=110, bbox_inches="tight")
                plt.close("all")
        with contextlib.suppress(Exception):  # a notebook's, if there is one
            plt.switch_backend(own_backend)
    except Exception as error:
        print(f"no pictures of the study: {' '.join(str(error).split())}", file=sys.stderr)


def search(config: Config) -> dict[str, Any]:
    """Run trials until the study has all of them, and return its summary."""
    try:
        return run_trials(config)
    except OSError as error:
        error.filename = error.filename or config.storage or config.output_dir  # a full disk names none
        raise


def run_trials(config: Config) -> dict[str, Any]:
    """As `search`, but an error of the file system may name no file."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    start = time.perf_counter()
    shared = Shared(config)
    study, folder = shared.study, Path(config.output_dir)
    with tqdm(total=config.trials, unit="trial", disable=None, dynamic_ncols=True) as bar:
        while True:
            bar.n = len(shared.finished())
            bar.refresh()
            with shared.next_trial() as trial:
                if trial is None:
                    break
                try:
                    study.tell(trial, run_trial(trial, config))
                except optuna.TrialPruned:
                    study.tell(trial, state=TrialState.PRUNED)
                except Diverged:
                    study.tell(trial, 0.0)
                except BatchTooLarge as error:  # other trials draw a smaller one
                    shared.leave_out(trial, str(error))
                except UserError as error:  # the same values would fail again
                    study.tell(trial, state=TrialState.FAIL)
                    raise UserError(f"trial {trial.number}: {error}") from None
                except BaseException as error:
                    if out_of_memory(error):  # the same values would again
                        shared.leave_out(trial, "out of memory")
                    else:
                        shared.give_back(trial, trial.user_attrs.get("attempts", 1))
                        if isinstance(error, Interrupted):  # whose own message is about the trial's run
                            raise Interrupted(error.signum, f"stopped during trial {trial.number}; the same command "
                                              f"continues the study in {config.output_dir}") from None
                        raise
            if (best := shared.write_results()) is not None:
                bar.set_postfix(best=f"{best.value:.4f}")
    best = shared.write_results()
    done = shared.finished()
    if len(done) > 1 and best:
        plot(study, folder)
    running = len(shared.counted()) - len(done)
    return {**({"validation_accuracy": best.value, "trial": best.number} if best else {}), "trials": len(done),
            "pruned": sum(trial.state == TrialState.PRUNED for trial in done),
            **({"running_elsewhere": running} if running else {}), "seconds": round(time.perf_counter() - start, 1),
            "process": os.getpid(), "folder": config.output_dir}


if __name__ == "__main__":
    sys.exit(run_script(Config, search, __doc__))
