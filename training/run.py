"""The training loop around a script's steps: evaluations, rows, checkpoints, and a stop that loses nothing.

A training script is three things: a dataclass of flags, a function `train(config)`, and one call:

    @dataclass
    class Config(TrainingFlags):
        max_steps: int = flag(1400, "training steps", type=positive_int)

    def train(config):
        ...
        with start_run(config, "train_something", data) as run:
            run.restore(load_state_dict)
            for step in run.steps(state_dict, evaluate):
                ...forward, backward, update...
                run.record(loss, accuracy(predictions, targets), len(targets))
        return run.summary

    if __name__ == "__main__":
        sys.exit(run_script(Config, train, __doc__))
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imagefiles.dataset import DataSet, quoted
from training.checkpoints import NPZ, CheckpointError, CheckpointFormat, number
from training.console import ShownSplit, StepBar, notice_once
from training.flags import TrainingFlags, UserError
from training.folder import Folder, open_folder
from training.machine import peak_memory_mb
from training.metrics import read_metrics
from training.resume import check_same_flags, saved_summary
from training.stop import Interrupted, StopRequest

AUTOSAVE_SECONDS = 300  # a checkpoint between two evaluations, if they are further apart than this
UNREAD = 500  # steps whose losses may wait on a GPU until they are read
Evaluate = Callable[[DataSet], tuple[float, float]]  # mean loss and accuracy, every sample once
Watch = Callable[[int, float], None]  # step, validation accuracy


class Diverged(Exception):
    """A loss is no longer a finite number. Exit status 3."""

    status = 3


def accuracy(predictions: Any, targets: Any) -> float:
    """Fraction of rows whose largest entry is the target.

    predictions: scores, logits or probabilities of shape (B, C), a NumPy array or a torch tensor.
    targets: one-hot of shape (B, C), or class indices of shape (B,).
    """
    if targets.ndim == 2:
        targets = targets.argmax(1)
    return float((predictions.argmax(1) == targets).sum()) / len(targets)


class BatchTooLarge(UserError):
    """A batch is larger than the training split."""


class Plan:
    """How many steps a run takes, and after which of them it evaluates what.

    Raises:
        UserError: a batch is larger than the training split, or --eval_images than a split that is evaluated.
    """

    def __init__(self, config: TrainingFlags, data: Any):
        train_size = data.train.num_examples
        if config.batch_size > train_size:
            raise BatchTooLarge(f"--batch_size: {config.batch_size} is more than the training split's {train_size} "
                                "images; choose a smaller one")
        self.split = "validation" if config.validation_size else "test"
        for split in {self.split, "test"} if config.eval_images else ():
            if config.eval_images >= (size := data[split].num_examples):
                raise UserError(f"--eval_images: {config.eval_images} is not less than the {split} split's {size} "
                                "images; leave the flag out to evaluate all of them")
        self.config, self.data, self.train_size = config, data, train_size
        self.last_step = self._end_of(config.epochs) if config.epochs else config.max_steps

    def _end_of(self, epoch: int) -> int:
        """The step that completes this epoch, whole numbers all the way: ceil(epoch N / B)."""
        return -(-epoch * self.train_size // self.config.batch_size)

    def evaluates(self, step: int) -> bool:
        """Whether to evaluate after this step."""
        return step == self.last_step or self.evaluates_anyway(step)

    def evaluates_anyway(self, step: int) -> bool:
        """Whether a longer run evaluates after it, too: each --eval_freq-th, or with --epochs each epoch's last."""
        if self.config.epochs:
            return step == self._end_of(step * self.config.batch_size // self.train_size)
        return step % self.config.eval_freq == 0

    def images_after(self, step: int) -> int:
        """How many images are still to be evaluated when `step` steps are done."""
        config = self.config
        if config.epochs:
            evaluations = config.epochs - step * config.batch_size // self.train_size
        else:
            evaluations = -(-self.last_step // config.eval_freq) - step // config.eval_freq
        sizes = {split: config.eval_images or self.data[split].num_examples for split in ("validation", "test")}
        return evaluations * sizes[self.split] + bool(config.validation_size) * sizes["test"]


@dataclass
class Totals:
    """Sums over the training batches since the last evaluation that `Plan.evaluates_anyway`."""

    loss: float = 0.0
    accuracy: float = 0.0
    seconds: float = 0.0
    images: int = 0

    def add(self, loss: float, accuracy: float, images: int) -> None:
        self.loss += loss * images
        self.accuracy += accuracy * images
        self.images += images


@dataclass
class Progress:
    """How far a run is, as a checkpoint keeps it.

    seconds: wall time of its earlier pieces. best: highest validation accuracy, -1 before the first.
    train_images, train_seconds: of all training batches before those in `totals`. learning_rate: of the last step.
    """

    step: int = 0
    best: float = -1.0
    seconds: float = 0.0
    totals: Totals = dataclasses.field(default_factory=Totals)
    train_images: int = 0
    train_seconds: float = 0.0
    learning_rate: float = 0.0


def read_checkpoint(folder: Folder, path: Path, config: TrainingFlags, script: str) -> tuple[Progress, dict[str, Any]]:
    """How far the run at the checkpoint `path` is, and its state; `folder.rows` become the rows up to there.

    Raises:
        UserError: damaged, of another script, or made with flags that may not change.
    """
    try:
        saved = folder.format.load(path)
        if saved["script"] != script:
            raise UserError(f"--resume: {quoted(path)} is a checkpoint of {saved['script']}, not of {script}")
        check_same_flags(config, type(config)(**{**saved["flags"], "resume": str(path)}), path)
        step, train_images = (number(saved[key], int) for key in ("step", "train_images"))
        best, seconds, train_seconds, rate, *totals = map(number, (
            saved["best"], saved["seconds"], saved["train_seconds"],
            saved.get("learning_rate", config.learning_rate),  # checkpoints of version 2.0 hold none
            *(saved["totals"][i] for i in range(4))))
        progress = Progress(step, best, seconds, Totals(*totals), train_images, train_seconds, rate)
        state = dict(saved["state"])
        kept = step - bool(progress.totals.images)  # with images in the totals, this step's evaluation is done again
        folder.rows = [row for row in read_metrics(folder.path / "metrics.csv") if row["step"] <= kept]
        return progress, state
    except CheckpointError as error:
        raise UserError(f"--resume: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError):
        raise UserError(f"--resume: {quoted(path)}, or the metrics.csv beside it, is not of this script") from None


def start_run(config: TrainingFlags, script: str, data: Any, checkpoint: CheckpointFormat = NPZ,
              watch: Watch | None = None, agree: Callable[[int], int] | None = None, silent: bool = False) -> Run:
    """A run of this process, new or resumed, with its folder.

    config: the script's flags. script: its name. data: splits as `get_cifar10` returns them.
    checkpoint: how `last.*` and `best.*` are written; the NumPy scripts use .npz. watch: see `Run`.
    agree, silent: for several processes; see `StopRequest` and `open_folder`.

    Raises:
        UserError: flags, folder or checkpoint that do not fit.
    """
    plan = Plan(config, data)
    folder = open_folder(config, script, data, checkpoint, silent)
    progress, state = Progress(learning_rate=config.learning_rate), None
    try:
        if config.resume:
            path = Path(config.resume)
            path = path if path.is_file() else path / f"last{checkpoint.suffix}"
            progress, state = read_checkpoint(folder, path, config, script)
            if progress.step > plan.last_step:
                raise UserError(f"--max_steps: {quoted(path)} is already at step {progress.step}, past "
                                f"{plan.last_step}")
    except BaseException:
        folder.close()
        raise
    return Run(config, script, data, plan, folder, StopRequest(agree), progress, state, watch)


class Run:
    """One training run, between its first step and its summary. Use as a context manager; `start_run` makes one.

    plan, folder, stop, progress: see their classes. state: what `restore` gives back, None for a new run.
    watch: called with the step and the validation accuracy after each evaluation; what it raises ends the run. With it
    the test split is never read: it is for searches.
    parameters, summary: the script sets the first; the second is there at the end, and the script may add to it.
    """

    def __init__(self, config: TrainingFlags, script: str, data: Any, plan: Plan, folder: Folder, stop: StopRequest,
                 progress: Progress, state: dict[str, Any] | None = None, watch: Watch | None = None):
        self.config, self.script, self.data, self.plan = config, script, data, plan
        self.folder, self.stop, self.progress, self.state, self.watch = folder, stop, progress, state, watch
        self.parameters = 0
        self.summary: dict[str, Any] = {}
        self._finished = saved_summary(folder.path) if state is not None and progress.step == plan.last_step else {}
        self._seconds_before, self._first_step = progress.seconds, progress.step
        self._step_seconds = self._image_seconds = 0.0  # of all steps here; of an image in the last evaluation
        self._unread: list[tuple[int, Any, Any, int]] = []

    @property
    def last_step(self) -> int:
        return self.plan.last_step

    @property
    def step(self) -> int:
        return self.progress.step

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, earlier pieces of a resumed run included."""
        return self._seconds_before + time.perf_counter() - self._started

    def __enter__(self) -> Run:
        if self.data.state == "synthetic":
            self.folder.say("NOTICE: this trains on the synthetic stand-in, NOT on CIFAR-10; its figures mean nothing "
                            "else.")
        elif self.data.state == "unpublished" and not self.folder.silent:
            notice_once(f"these files are {self.data.name}'s, but not byte for byte the published ones; config.json "
                        "calls such data unpublished.")
        self.stop.__enter__()
        self._bar = StepBar(self.step, self.last_step, self.folder.silent)
        self._started = time.perf_counter()
        return self

    def __exit__(self, kind: Any, error: Any, *_: Any) -> None:
        self._bar.close()
        if isinstance(error, OSError | KeyboardInterrupt | RuntimeError):
            error.add_note(self.folder.way_on())
        self.stop.__exit__()
        try:
            if kind is None:
                self._finish()
                if signum := self.stop.came_after_all:  # after the last step: nothing is lost, but the caller stops
                    raise Interrupted(signum, f"stopped; the run in {quoted(self.folder.path)} is finished")
                self.stop.restore()
            elif isinstance(error, Diverged | Interrupted):
                self.folder.end_early(f"{type(error).__name__.lower()} after step {self.step}")
        finally:
            self.folder.close()

    def restore(self, load: Callable[[dict[str, Any], int], None]) -> None:
        """Give a resumed run's state and step to `load`. Raises UserError where the state is of another shape."""
        if self.state is None:
            return
        try:
            load(self.state, self.step)
        except UserError:
            raise
        except Exception as error:  # the state is a file's: anything may stand there
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"--resume: {self.config.resume} does not fit this model: {reason}") from None
        if self._finished:
            longer = "--epochs" if self.config.epochs else "--max_steps"
            self.folder.say(f"{quoted(self.folder.path)} is finished; to train it for longer, resume it with a "
                            f"larger {longer}")
            return
        self.folder.resume(self.config)
        self.folder.say(f"resuming {quoted(self.folder.path)} from step {self.step} of {self.last_step}")

    def warm_up(self, work: Callable[[], None]) -> None:
        """Do what comes before the first step and changes nothing that is saved; a signal ends it at once."""
        with contextlib.suppress(KeyboardInterrupt), self.stop.at_once():
            work()
            return
        signum = self.stop.came_after_all or signal.SIGINT
        raise Interrupted(signum, f"stopped before the first step; {self.folder.way_on()}")

    def steps(self, state_dict: Callable[[], dict[str, Any]], evaluate: Evaluate) -> Iterator[int]:
        """Yield each training step's number; between them evaluate, write metrics and save.

        state_dict() returns everything that training changes (weights, optimizer, batch order, random states).
        evaluate(split) returns (mean loss, accuracy) over a DataSet, every sample of its `batches` once.
        """
        if self._finished:
            return
        self._state_dict, self._evaluate = state_dict, evaluate
        saved_at = time.perf_counter()
        if self.step and self.plan.evaluates(self.step) and not any(r["step"] == self.step for r in self.folder.rows):
            self._evaluation()  # the interrupt came during this evaluation
        if not self.step and self.config.eval_at_start == "on" and not self.folder.rows:
            self._evaluation()
        while self.step < self.last_step:
            self._leave_if_asked()
            start = time.perf_counter()
            yield self.step + 1
            if len(self._unread) >= UNREAD or self.plan.evaluates(self.step + 1):
                self._read()
            seconds = time.perf_counter() - start
            self._step_seconds += seconds
            self.progress.totals.seconds += seconds
            self.progress.step += 1
            self._bar.step(self._seconds_left())
            if self.plan.evaluates(self.step):
                self._evaluation()
            elif time.perf_counter() - saved_at < AUTOSAVE_SECONDS:
                continue
            else:
                self._save("last")
            saved_at = time.perf_counter()
        self._leave_if_asked()

    def record(self, loss: Any, accuracy: Any, images: int, later: bool = False,
               learning_rate: float | None = None) -> None:
        """Add one training batch: its mean loss, its accuracy, its size. Raises Diverged on a non-finite loss.

        later: both are still being computed, on a GPU. They are read when the run is evaluated or saved, but at the
        latest after 500 steps; only then is a loss that is not finite noticed, before anything is saved.
        learning_rate: of this step, where a schedule changes it.
        """
        self.progress.learning_rate = self.config.learning_rate if learning_rate is None else learning_rate
        self._unread.append((self.step + 1, loss, accuracy, images))
        if not later:
            self._read()

    def _read(self) -> None:
        """Add up what was recorded, in its order."""
        for step, loss, accuracy, images in self._unread:
            self._check_finite("training", loss := float(loss), step)
            self.progress.totals.add(loss, float(accuracy), images)
            self._bar.show(loss, self.progress.learning_rate)
        self._unread.clear()

    def _seconds_left(self) -> float:
        """Of the steps and the evaluations to come, that after this step included, as long as those so far.

        Before the first evaluation, an image is taken to need a third of its time in training.
        """
        step = self._step_seconds / (self.step - self._first_step)
        image = self._image_seconds or step / (3 * self.config.batch_size)
        return step * (self.last_step - self.step) + image * self.plan.images_after(self.step - 1)

    def part(self, split: str) -> ShownSplit:
        """What is evaluated of the split of this name, the first --eval_images or all; a bar shows how far it is."""
        return ShownSplit(self.data[split], self.config.eval_images, split, self.folder.silent)

    def _check_finite(self, split: str, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            raise Diverged(f"the {split} loss became {loss} at step {step}; use a smaller --learning_rate than "
                           f"{self.config.learning_rate:g}. What was written before is in "
                           f"{quoted(self.folder.path)}")

    def _evaluation(self) -> None:
        """One row for the training batches since the last evaluation, one for the split evaluated. Save, then print."""
        progress, totals = self.progress, self.progress.totals
        row = self._evaluated(self.plan.split)
        rows = [row] if not totals.images else [self._row(
            "train", totals.loss / totals.images, totals.accuracy / totals.images,
            totals.images / max(totals.seconds, 1e-9)), row]
        self.folder.append(rows)
        if self.plan.evaluates_anyway(self.step):  # else the last row is this run's alone: a longer one adds on
            progress.train_images += totals.images
            progress.train_seconds += totals.seconds
            progress.totals = Totals()
        if self.config.validation_size and row["accuracy"] > progress.best:
            progress.best = row["accuracy"]
            self._save("best")
        self._save("last")
        self.folder.say("   ".join([f"step {self.step:>5}", *(
            f"{row['split']} loss {row['loss']:.4f} accuracy {row['accuracy']:.4f}" for row in rows)]))
        if self.watch:
            self.watch(self.step, row["accuracy"])

    def _evaluated(self, split: str) -> dict[str, Any]:
        """The row of an evaluation. It changes no state: a signal may cut it short, and the resumed run repeats it.

        With several processes, a signal waits: the others are at it, too.
        """
        self._leave_if_asked()
        part = self.part(split)
        start = time.perf_counter()
        with contextlib.suppress(KeyboardInterrupt), (
                self.stop.at_once() if self.stop.agree is None else contextlib.nullcontext()):
            loss, correct = self._evaluate(part)
            self._check_finite(split, loss, self.step)
            seconds = time.perf_counter() - start
            self._image_seconds = seconds / part.num_examples
            return self._row(part.name, loss, correct, part.num_examples / seconds)
        self._leave_if_asked()
        raise KeyboardInterrupt

    def _row(self, split: str, loss: float, accuracy: float, images_per_second: float) -> dict[str, Any]:
        return dict(step=self.step, split=split, loss=loss, accuracy=accuracy,
                    learning_rate=self.progress.learning_rate, seconds=round(self.seconds, 3),
                    images_per_second=round(images_per_second, 1))

    def _save(self, name: str) -> None:
        self._read()
        progress = dataclasses.asdict(self.progress) | {
            "seconds": self.seconds, "totals": list(dataclasses.astuple(self.progress.totals))}
        data = dict(mean_image=self.data.mean_image, pixel_scale=self.data.test.scale,
                    class_names=list(self.data.class_names))  # what predict.py needs of them
        self.folder.save(name, dict(script=self.script, flags=dataclasses.asdict(self.config), **progress, **data,
                                    state=self._state_dict()))

    def _leave_if_asked(self) -> None:
        if signum := self.stop.taken():
            self._save("last")
            raise Interrupted(signum, f"stopped after step {self.step}; {self.folder.way_on()}")

    def _finish(self) -> None:
        """Read the test split once where there is validation data; write the summary and the curves.

        A run that was finished before keeps what it has.
        """
        if self._finished:
            self.summary = {} if self.folder.silent else self._finished
            return
        if self.config.validation_size and not self.watch:
            row = self._evaluated("test")
            self.folder.add_last(row)
        rows, progress = self.folder.rows, self.progress
        test = [row for row in rows if row["split"] == self.part("test").name][-1:]
        validation = [row["accuracy"] for row in rows if row["split"].startswith("validation")]
        seconds = progress.train_seconds + progress.totals.seconds
        self.summary = {
            **{f"test_{key}": row[key] for row in test for key in ("accuracy", "loss")},
            **({"validation_accuracy": validation[-1], "best_validation_accuracy": max(validation)}
               if validation else {}),
            **({"eval_images": self.config.eval_images} if self.config.eval_images else {}),
            "steps": self.step, "parameters": self.parameters, "wall_seconds": round(self.seconds, 2),
            "images_per_second": round((progress.train_images + progress.totals.images) / max(seconds, 1e-9), 1),
            "peak_memory_mb": round(peak_memory_mb()), "data": self.data.state, "seed": self.config.seed,
            "folder": str(self.folder.path), **self.summary,  # and what the script has put there
        }
        self.folder.finish(self.summary)
        if self.folder.silent:
            self.summary = {}
