"""What a resumed run brings: its flags, and which of them may change."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from imagefiles.dataset import quoted
from training.flags import TrainingFlags, UserError, script_of


def saved_flags(resume: Path, config_class: type) -> dict[str, Any]:
    """The flags of the run at `resume` (a run folder or a checkpoint in it), from its config.json. Raises UserError.

    A flag that did not exist when the run was made has its default.
    """
    folder = resume if os.path.isdir(resume) else resume.parent
    if not os.path.exists(resume):
        raise UserError(f"--resume: {quoted(resume)} does not exist; give a run folder such as results/<script>/<time>")
    try:
        config = json.loads((folder / "config.json").read_text())
        flags, fields = dict(config["flags"]), {f.name: f for f in dataclasses.fields(config_class)}
        if not all(isinstance(config[key], str) for key in ("script", "data", "data_name")):  # the figure's title
            raise ValueError("not what a run wrote")
        if set(flags) - set(fields):
            if config["script"] != (script := script_of(config_class)):
                raise UserError(f"--resume: {quoted(folder)} is a run of {config['script']!r}, not of {script!r}")
            raise ValueError("flags of no version of this script")
        saved = {name: flags.get(name, f.default) for name, f in fields.items()} | {"resume": str(resume)}
        if "data_dir" in saved and not os.path.exists(saved["data_dir"]):  # relative to where the run was started
            there = folder / config.get("data_dir_from_here", saved["data_dir"])
            saved["data_dir"] = os.path.normpath(there) if os.path.exists(there) else saved["data_dir"]
        return saved
    except FileNotFoundError:
        raise UserError(f"--resume: {quoted(folder)} holds no config.json, so it is not a run folder") from None
    except (ValueError, KeyError, TypeError, RecursionError, OSError):
        raise UserError(f"--resume: {quoted(folder / 'config.json')} is not of this script, or is damaged") from None


def saved_summary(folder: Path) -> dict[str, Any]:
    """The summary of the run in `folder`; {} where it has none yet, or a damaged one."""
    try:
        summary = json.loads((folder / "summary.json").read_text())
        return summary if isinstance(summary, dict) else {}
    except (ValueError, RecursionError, OSError):
        return {}


def path_from(folder: Path, path: str) -> str:
    """The way from `folder` to `path`, which leads there from any working directory."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:  # another drive of Windows
        return os.path.abspath(path)


def check_same_flags(config: TrainingFlags, saved: TrainingFlags, where: str | Path) -> None:
    """Raises UserError where a flag differs from that of the run `where` and may not."""
    for f in dataclasses.fields(config):
        old, new = getattr(saved, f.name), getattr(config, f.name)
        if old != new and not f.metadata["resumable"]:
            raise UserError(f"--resume: {quoted(where)} was trained with --{f.name} {old}, not {new}; "
                            f"leave the flag out, or start a new run without --resume")


def check_unchanged_flags(config: TrainingFlags, resume: Path) -> None:
    """Raises UserError unless the flags are those of the run at `resume`, but for those that may change."""
    check_same_flags(config, type(config)(**saved_flags(resume, type(config))), resume)


def check_same_run(folder: Path, data: Any) -> None:
    """Raises UserError unless the run in `folder` was trained on these data."""
    was = json.loads((folder / "config.json").read_text())
    if (was["data_name"], was["data"]) != (data.name, data.state):
        raise UserError(f"--data_dir: {quoted(folder)} was trained on {was['data_name']} ({was['data']}), this is "
                        f"{data.name} ({data.state}); name the folder of its data")
    if was.get("data_digest", data.digest) != data.digest:  # of two stand-ins, or two unpublished editions
        raise UserError(f"--data_dir: {quoted(folder)} was trained on other files of {data.name} (their MD5 sums "
                        "differ); name the folder of its data")
