"""What every training script shares and none of it needs torch: flags, run folder, metrics, checkpoints, curves.

A script is three things: a dataclass of flags, a function `train(config)`, and one call:

    @dataclass
    class Config(TrainingFlags):
        max_steps: int = flag(1400, "training steps", type=positive_int)

    def train(config):
        ...
        with Run(config, "train_something", data) as run:
            for step in run.steps(snapshot, evaluate):
                ...forward, backward, update...
                run.record(loss, accuracy(predictions, targets), len(targets))
        return run.summary

    if __name__ == "__main__":
        sys.exit(run_script(Config, train, __doc__))
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

from checkpoints import NPZ, CheckpointError, CheckpointFormat, lock, number, write_json
from cifar10_utils import DataError
from curves import METRICS, plot_curves, read_metrics, write_metrics
from flags import TrainingFlags, UserError, described_anew, parse_flags, refuse_another_run, refuse_changed_flags
from machine import describe_machine, out_of_memory, peak_memory_mb

AUTOSAVE_SECONDS = 300  # a checkpoint between two evaluations, if they are further apart than this


class Diverged(Exception):
    """A loss is no longer a finite number. Exit status 3."""

    status = 3


class Interrupted(Exception):
    """Ctrl-C or a polite kill; the run is saved. Exit status 128 + signal number."""

    def __init__(self, signum: int, message: str):
        super().__init__(message)
        self.signum, self.status = signum, 128 + signum


def accuracy(predictions: Any, targets: Any) -> float:
    """Fraction of rows whose largest entry is the target.

    predictions: scores, logits or probabilities of shape (B, C), a NumPy array or a torch tensor.
    targets: one-hot of shape (B, C), or class indices of shape (B,).
    """
    if targets.ndim == 2:
        targets = targets.argmax(1)
    return float((predictions.argmax(1) == targets).sum()) / len(targets)


class Run:
    """One training run and the folder it leaves (DESIGN of the folder: README, "What a run leaves").

    config: the script's flags. script: its name. data: splits as `get_cifar10` returns them.
    checkpoint: how `last.*` and `best.*` are written; the NumPy scripts use .npz.
    watch: called with the step and the validation accuracy after each evaluation; what it raises ends the run. With it
    the test split is never read: it is for searches.
    After a resume, `state` holds what `snapshot()` had returned; otherwise it is None."""

    def __init__(self, config: TrainingFlags, script: str, data: Any, checkpoint: CheckpointFormat = NPZ,
                 watch: Callable[[int, float], None] | None = None):
        self.config, self.script, self.data, self.format, self.watch = config, script, data, checkpoint, watch
        if config.batch_size > data.train.num_examples:
            raise UserError(f"--batch_size: {config.batch_size} is more than the training split's "
                            f"{data.train.num_examples} images; choose a smaller one")
        self.last_step = self._end_of(config.epochs) if config.epochs else config.max_steps
        self.state: dict[str, Any] | None = None
        self.step, self.best, self.seconds_before = 0, -1.0, 0.0
        self.train_images, self.train_seconds, self.parameters = 0, 0.0, 0
        self.rows: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self._totals = [0.0, 0.0, 0.0, 0]  # since the last evaluation: loss, accuracy, seconds, images
        self._signal, self._may_raise = 0, False
        self._evaluate: Callable[[str], tuple[float, float]] | None = None

    def _end_of(self, epoch: int) -> int:
        """The step that completes this epoch, whole numbers all the way: ceil(epoch N / B)."""
        return -(-epoch * self.data.train.num_examples // self.config.batch_size)

    def evaluates(self, step: int) -> bool:
        """Whether to evaluate after this step: the last, each --eval_freq-th, or with --epochs each epoch's last."""
        if self.config.epochs:
            return step == self._end_of(step * self.config.batch_size // self.data.train.num_examples)
        return step == self.last_step or step % self.config.eval_freq == 0

    # -- the folder

    def __enter__(self) -> Run:
        if self.data.state == "synthetic":
            self._say("NOTICE: this trains on the synthetic stand-in, NOT on CIFAR-10; its figures mean nothing else.")
        resume = Path(self.config.resume) if self.config.resume else None
        self.folder = self._resumed_folder(resume) if resume else self._new_folder()
        try:
            if resume:
                self._restore(resume if resume.is_file() else resume / f"last{self.format.suffix}")
            else:
                self._write("config.json", self._description())
                self._rewrite_metrics()
        except BaseException:
            self._lock.close()
            raise
        self._handlers = {}
        with contextlib.suppress(ValueError):  # only the main thread may set handlers
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._handlers[signum] = signal.signal(signum, self._on_signal)
        self._bar = tqdm(total=self.last_step, initial=self.step, unit="step", disable=None, dynamic_ncols=True)
        self._started = time.perf_counter()
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._bar.close()
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        try:
            if kind is None:
                self._finish()
                if self._signal:  # it came after the last step: nothing is lost, and the caller shall not go on
                    raise Interrupted(self._signal, f"stopped; the run in {self.folder} is finished")
        finally:
            self._lock.close()

    def _new_folder(self) -> Path:
        if self.config.output_dir:
            folder = Path(self.config.output_dir)
        else:
            stem = Path("results") / self.script / time.strftime("%Y-%m-%d_%H-%M-%S")
            folder = next(path for n in range(10**6)
                          if not (path := stem.with_name(stem.name + (f"_{n}" if n else ""))).exists())
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_folder(folder)
        except OSError as error:
            raise UserError(f"--output_dir: cannot write to {folder}: {error.strerror}; choose another") from None
        if any((folder / name).exists() for name in ("config.json", "metrics.csv", "summary.json")):
            self._lock.close()
            raise UserError(f"--output_dir: {folder} already holds a run, which is never overwritten; "
                            f"choose another folder, or continue that run with --resume {folder}")
        return folder

    def _resumed_folder(self, resume: Path) -> Path:
        folder = resume if resume.is_dir() else resume.parent
        if self.config.output_dir and Path(self.config.output_dir).resolve() != folder.resolve():
            raise UserError("--output_dir: a resumed run stays in its own folder; leave the flag out")
        refuse_another_run(self.config, resume, folder, self.data)
        try:
            self._lock_folder(folder)
        except OSError as error:
            raise UserError(f"--resume: cannot write to {folder}: {error.strerror}") from None
        return folder

    def _lock_folder(self, folder: Path) -> None:
        try:
            self._lock = lock(folder / ".lock")
        except BlockingIOError:
            raise UserError(f"{folder} is in use by another run; wait for it, or choose another folder") from None

    def _description(self) -> dict[str, Any]:
        return {"script": self.script, "flags": dataclasses.asdict(self.config), "data": self.data.state,
                "data_name": self.data.name, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **describe_machine()}

    # -- training

    def steps(self, snapshot: Callable[[], dict[str, Any]],
              evaluate: Callable[[str], tuple[float, float]]) -> Iterator[int]:
        """Yield each training step's number; between them evaluate, write metrics and save.

        snapshot() returns everything that training changes (weights, optimizer, batch order, random states).
        evaluate(split) returns (mean loss, accuracy) over 'validation' or 'test', every sample once.
        """
        self._snapshot, self._evaluate = snapshot, evaluate
        saved_at = time.perf_counter()
        if self.step and self.evaluates(self.step) and not any(r["step"] == self.step for r in self.rows):
            self._evaluation()  # the interrupt came during this evaluation
            self._save("last")
        while self.step < self.last_step:
            self._leave_if_asked()
            start = time.perf_counter()
            yield self.step + 1
            self._totals[2] += time.perf_counter() - start
            self.step += 1
            self._bar.update()
            if self.evaluates(self.step):
                self._evaluation()
            elif time.perf_counter() - saved_at < AUTOSAVE_SECONDS:
                continue
            self._save("last")
            saved_at = time.perf_counter()
        self._leave_if_asked()

    def record(self, loss: Any, accuracy: float, images: int) -> None:
        """Add one training batch: its mean loss, its accuracy, its size. A non-finite loss raises Diverged."""
        self._refuse_divergence("training", loss := float(loss), self.step + 1)
        self._totals[0] += loss * images
        self._totals[1] += accuracy * images
        self._totals[3] += images

    def _refuse_divergence(self, split: str, loss: float, step: int) -> None:
        if not math.isfinite(loss):
            raise Diverged(f"the {split} loss became {loss} at step {step}; use a smaller --learning_rate than "
                           f"{self.config.learning_rate:g}. What was written before is in {self.folder}")

    def _evaluation(self) -> None:
        """One row for the training batches since the last evaluation, one for the split evaluated."""
        split = "validation" if self.config.validation_size else "test"
        start = time.perf_counter()
        loss, correct = self._evaluate_split(split)
        seconds = time.perf_counter() - start
        loss_sum, correct_sum, train_seconds, images = self._totals
        rows = [] if not images else [
            self._row("train", loss_sum / images, correct_sum / images, images / max(train_seconds, 1e-9))]
        rows.append(self._row(split, loss, correct, getattr(self.data, split).num_examples / seconds))
        self._append(rows)
        self.train_images += int(images)
        self.train_seconds += train_seconds
        self._totals = [0.0, 0.0, 0.0, 0]
        self._say("   ".join([f"step {self.step:>5}", *(
            f"{row['split']} loss {row['loss']:.4f} accuracy {row['accuracy']:.4f}" for row in rows)]))
        if split == "validation" and correct > self.best:
            self.best = correct
            self._save("best")
        if self.watch:
            self.watch(self.step, correct)

    def _evaluate_split(self, split: str) -> tuple[float, float]:
        """Evaluation changes no state, so a signal may cut it short; the resumed run does it again."""
        assert self._evaluate is not None
        try:
            self._may_raise = True
            self._leave_if_asked()
            loss, correct = self._evaluate(split)
            self._refuse_divergence(split, loss, self.step)
            return loss, correct
        except KeyboardInterrupt:
            self._leave_if_asked()
            raise
        finally:
            self._may_raise = False

    def _row(self, split: str, loss: float, accuracy: float, images_per_second: float) -> dict[str, Any]:
        return dict(step=self.step, split=split, loss=loss, accuracy=accuracy, seconds=round(self.seconds, 3),
                    images_per_second=round(images_per_second, 1))

    @property
    def seconds(self) -> float:
        """Wall time of the run so far, earlier pieces of a resumed run included."""
        return self.seconds_before + time.perf_counter() - self._started

    # -- what is seen of a run: all that a process which only follows leaves out

    def _say(self, text: str) -> None:
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()

    def _plot(self) -> None:
        plot_curves([self.folder], self.folder / "curves")

    def _write(self, name: str, value: dict[str, Any]) -> None:
        write_json(self.folder / name, value)

    def _append(self, rows: list[dict[str, Any]]) -> None:
        self.rows += rows
        with open(self.folder / "metrics.csv", "a", newline="") as file:
            csv.DictWriter(file, METRICS).writerows(rows)

    def _rewrite_metrics(self) -> None:
        write_metrics(self.folder, self.rows)

    def _save(self, name: str) -> None:
        checkpoint = dict(script=self.script, flags=dataclasses.asdict(self.config), step=self.step, best=self.best,
                          seconds=self.seconds, totals=self._totals, train_images=self.train_images,
                          train_seconds=self.train_seconds, state=self._snapshot())
        self.format.save(self.folder / f"{name}{self.format.suffix}", checkpoint)

    def _restore(self, path: Path) -> None:
        try:
            saved = self.format.load(path)
            if saved["script"] != self.script:
                raise UserError(f"--resume: {path} is a checkpoint of {saved['script']}, not of {self.script}")
            refuse_changed_flags(self.config, type(self.config)(**saved["flags"]), path)
            self.step, self.train_images = (number(saved[k], int) for k in ("step", "train_images"))
            self.best, self.seconds_before, self.train_seconds, *self._totals = map(number, (
                saved["best"], saved["seconds"], saved["train_seconds"], *(saved["totals"][i] for i in range(4))))
            self.state = dict(saved["state"])
            kept = self.step - bool(self._totals[3])  # images not yet in a row: this step's evaluation is still to come
            self.rows = [row for row in read_metrics(self.folder / "metrics.csv") if row["step"] <= kept]
        except CheckpointError as error:
            raise UserError(f"--resume: {error}") from None
        except (ArithmeticError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError):
            raise UserError(f"--resume: {path}, or the metrics.csv beside it, is not of this script") from None
        if self.step > self.last_step:
            raise UserError(f"--max_steps: {path} is already at step {self.step}, past {self.last_step}")

    def restore(self, load: Callable[[dict[str, Any]], None]) -> None:
        """Give a resumed run's state to `load`; one of another shape is the user's error."""
        if self.state is None:
            return
        try:
            load(self.state)
        except UserError:
            raise
        except Exception as error:  # the state is a file's: anything may stand there
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(f"--resume: {self.config.resume} does not fit this model: {reason}") from None
        self._take_up()

    def _take_up(self) -> None:
        """What the folder says of a run that goes on: no row of a step to be taken again, no end, the flags as now."""
        self._rewrite_metrics()
        if self.step < self.last_step:
            (self.folder / "summary.json").unlink(missing_ok=True)
        self._write("config.json", described_anew(self.folder, self.config))

    def _finish(self) -> None:
        if self.config.validation_size and not self.watch:  # chosen on validation data: test is read once, here
            self._append([self._row("test", *self._final_test())])
        test = [row for row in self.rows if row["split"] == "test"][-1:]
        validation = [row["accuracy"] for row in self.rows if row["split"] == "validation"]
        self.summary = {
            **{f"test_{key}": row[key] for row in test for key in ("accuracy", "loss")},
            **({"validation_accuracy": validation[-1], "best_validation_accuracy": max(validation)}
               if validation else {}),
            "steps": self.step, "parameters": self.parameters, "wall_seconds": round(self.seconds, 2),
            "images_per_second": round(self.train_images / max(self.train_seconds, 1e-9), 1),
            "peak_memory_mb": round(peak_memory_mb()), "data": self.data.state, "seed": self.config.seed,
            "folder": str(self.folder), **self.summary,  # and what the script has put there
        }
        self._plot()
        self.summary.update(wall_seconds=round(self.seconds, 2), peak_memory_mb=round(peak_memory_mb()))
        self._write("summary.json", self.summary)

    def _final_test(self) -> tuple[float, float, float]:
        self.rows = [row for row in self.rows if row["split"] != "test"]
        self._rewrite_metrics()
        start = time.perf_counter()
        return *self._evaluate_split("test"), self.data.test.num_examples / (time.perf_counter() - start)

    # -- Ctrl-C and kill

    def _on_signal(self, signum: int, frame: Any) -> None:
        if self._signal or self._may_raise:  # evaluating, or asked twice
            self._signal = signum
            raise KeyboardInterrupt
        self._signal = signum

    def _leave_if_asked(self) -> None:
        if self._signal:
            signum, self._signal = self._signal, 0
            self._may_raise = False
            self._save("last")
            raise Interrupted(signum, f"stopped after step {self.step}; continue with --resume {self.folder}")


def run_script(config_class: type, train: Callable[[Any], dict[str, Any]], description: str,
               argv: list[str] | None = None) -> int:
    """Parse the flags, train, print the summary; every foreseeable failure is one line and an exit status."""
    def fail(message: Any, status: int) -> int:
        if status < 3 or os.environ.get("RANK", "0") == "0":  # of several processes one tells how the run ended
            print(f"{Path(sys.argv[0]).name}: {message}", file=sys.stderr)
        return status

    try:
        if summary := train(parse_flags(config_class, description, argv)):
            print("   ".join(f"{key} {value:.4f}" if isinstance(value, float) else f"{key} {value}"
                             for key, value in summary.items()))
        return 0
    except (UserError, DataError) as error:
        return fail(error, 2)
    except (Diverged, Interrupted) as error:
        return fail(error, error.status)
    except OSError as error:
        return fail(f"cannot write or read {error.filename or 'a file'}: {error.strerror or error}; "
                    "what was written before is whole: put it right and continue with --resume RUN", 1)
    except (Exception, KeyboardInterrupt) as error:  # or what a library that was starting up made of Ctrl-C
        if isinstance(error, KeyboardInterrupt) or isinstance(error.__context__, KeyboardInterrupt):
            return fail("stopped at once; what was saved before is whole", 130)
        if not out_of_memory(error):
            raise
        return fail("out of memory; use a smaller --batch_size or a smaller network", 1)
