"""The command line of `cifar10_utils.py`: fetch, verify and standin."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from imagefiles.checksums import md5_of
from imagefiles.cifar10_files import (
    BATCH_FILES,
    FOLDER_NAME,
    META_FILE,
    PUBLISHED_MD5,
    SYNTHETIC,
    again,
    find_folder,
    load_folder,
    read_batch,
    read_bytes,
    read_class_names,
    state_of,
)
from imagefiles.cifar10_missing import found_in, obtain
from imagefiles.cifar10_standin import CHECKSUM_FILE, make_standin
from imagefiles.dataset import DataError, data_folder, expanded, quoted
from imagefiles.filling import is_filled
from imagefiles.output import Parser, ended_as_by_ctrl_c, lossy_output

NOTICE = """\
+----------------------------------------------------------------------+
|  THIS IS NOT CIFAR-10 but the SYNTHETIC STAND-IN: drawn shapes.      |
|  What is measured on it says nothing about CIFAR-10.                 |
+----------------------------------------------------------------------+
For the published files: {again}"""


@lossy_output()
@ended_as_by_ctrl_c()
def run(description: str | None, default: str, arguments: Sequence[str] | None = None) -> int:
    """Does what the command line says; `default` is the folder where it names none. Returns the exit status."""
    parser = Parser(
        prog="cifar10_utils.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="fetch|verify|standin")
    fetch = commands.add_parser("fetch", help="fetch the published files where the folder has none")
    fetch.add_argument("--or-standin", "--or_standin", action="store_true", help="draw the stand-in if that fails")
    standin = commands.add_parser("standin", help="draw synthetic pictures in the same format")
    standin.add_argument("--train_size", type=int, default=50_000, help="training images (default 50000)")
    standin.add_argument("--test_size", type=int, default=10_000, help="test images (default 10000)")
    standin.add_argument("--seed", type=int, default=0, help="the same seed draws the same pictures (default 0)")
    check = commands.add_parser("verify", help="check every file")
    for command in (fetch, check, standin):
        command.add_argument("folder", nargs="?", type=expanded, default=expanded(default), metavar="DIR",
                             help=f"default {default}")  # fmt: skip
    flags = parser.parse_args(arguments)
    try:
        data_folder(flags.folder)
        return {"fetch": _fetch, "verify": _verify, "standin": _standin}[flags.command](flags)
    except DataError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: interrupted; run it again to continue", file=sys.stderr)
        return 130


def _fetch(flags: argparse.Namespace) -> int:
    try:
        folder = find_folder(flags.folder) or obtain(flags.folder, download=True, progress=None)
    except DataError as error:
        if not flags.or_standin or is_filled(flags.folder):
            raise
        print(f"{flags.folder} gets the stand-in: {error.args[0].splitlines()[0]}", file=sys.stderr)
        folder = _draw(flags.folder)
    state = load_folder(folder).state
    print(f"{folder}: {state}")
    if state == SYNTHETIC:
        print(NOTICE.format(again=again(folder)), file=sys.stderr)
        return 0 if flags.or_standin else 2
    return 0


def _verify(flags: argparse.Namespace) -> int:
    inner = flags.folder / FOLDER_NAME  # as in find_folder: only where the folder itself has none of the files
    own = any((flags.folder / name).exists() for name in BATCH_FILES)
    folder = inner if inner.is_dir() and not own else flags.folder
    verdicts, whole, sound = verify_folder(folder)
    for name, verdict in verdicts:
        print(f"{name:13} {verdict}")
    print(f"{folder}: {whole}")
    return 0 if sound else 2


def _standin(flags: argparse.Namespace) -> int:
    print(f"{_draw(flags.folder, flags.train_size, flags.test_size, flags.seed)}: {SYNTHETIC}")
    return 0


def _draw(folder: Path, *arguments: int) -> Path:
    try:
        make_standin(folder, *arguments)
    except ValueError as error:
        raise DataError(str(error)) from None
    except OSError as error:
        raise DataError(f"cannot write {folder}: {error.strerror or error}; choose another folder") from None
    return folder


def verify_folder(folder: Path) -> tuple[list[tuple[str, str]], str, bool]:
    """Checks every file by itself, then all of them together.

    Returns:
        For each file its name and 'ok', 'unpublished' (sound, but not what was published), 'missing', or what is
        wrong; a line about the folder: its state, or what is wrong; whether every file is sound.
    """
    verdicts, batches = [], []
    own_checksums = _own_checksums(folder)
    for name in (*BATCH_FILES, META_FILE):
        path = folder / name
        try:
            if not path.exists():
                verdicts.append((name, "missing"))
                continue
            if name == META_FILE:
                read_class_names(folder)
                md5 = md5_of(read_bytes(path)[0])
            else:
                batch = read_batch(path)
                md5 = batch.md5
                batches.append((batch.md5, batch.title))
        except DataError as error:
            verdicts.append((name, str(error)))
            continue
        if md5 in (PUBLISHED_MD5[name], own_checksums.get(name)):
            verdicts.append((name, "ok"))
        else:
            verdicts.append((name, "changed since it was drawn" if name in own_checksums else "unpublished"))
    if all(verdict == "missing" for _, verdict in verdicts):
        target = folder / FOLDER_NAME if is_filled(folder) else folder
        found = found_in(folder)
        whole = f"it {found}" if found else "nothing there"
        return verdicts, f"{whole}; to fetch it: python cifar10_utils.py fetch {quoted(target)}", False
    if any(verdict not in ("ok", "unpublished") for _, verdict in verdicts):
        return verdicts, f"not as it should be; {again(folder)}", False
    try:
        return verdicts, state_of(folder, [md5 for md5, _ in batches], [title for _, title in batches]), True
    except DataError as error:
        return verdicts, str(error), False


def _own_checksums(folder: Path) -> dict[str, str]:
    """The stand-in's own checksum file, in md5sum's format; empty where there is none."""
    try:
        lines = (folder / CHECKSUM_FILE).read_text("ascii").splitlines()
    except (OSError, ValueError):
        return {}
    return {name: md5 for md5, _, name in (line.partition("  ") for line in lines)}
