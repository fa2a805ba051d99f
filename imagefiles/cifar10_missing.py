"""What to do where a folder does not hold CIFAR-10: fetch it, or say what the folder holds and what to do."""

from __future__ import annotations

import itertools
from pathlib import Path

from imagefiles import cifar10_download
from imagefiles.cifar10_files import BATCH_FILES, FOLDER_NAME
from imagefiles.dataset import DataError, quoted
from imagefiles.filling import held_by, is_filled

KNOWN = {  # names of files -> what a folder that has them holds
    "data_batch_1.bin": "the binary edition of CIFAR-10; this program reads the Python edition",
    "data_batch_1.mat": "the Matlab edition of CIFAR-10; this program reads the Python edition",
    "data_batch_1.txt": "batch files with .txt appended to their names; remove it from them",
    "cifar-10-batches-bin": "the binary edition of CIFAR-10; this program reads the Python edition",
    "cifar-10-batches-mat": "the Matlab edition of CIFAR-10; this program reads the Python edition",
    "cifar-100-python": "CIFAR-100, which is another data set",
    "fine_label_names.txt": "CIFAR-100, which is another data set",
    "train test meta": "CIFAR-100, which is another data set",
    cifar10_download.ARCHIVE_NAME: f"{cifar10_download.ARCHIVE_NAME}, not unpacked",
}


def obtain(folder: Path, download: bool, progress: bool | None) -> Path:
    """Fetches CIFAR-10 into `folder`. Raises DataError of three lines where that may not or cannot be done."""
    found = found_in(folder)
    why = f"no CIFAR-10 in {folder}{f', which {found}' if found else ''}"
    if download:
        try:
            cifar10_download.fetch(folder, progress=progress)
            return folder
        except cifar10_download.DownloadError as error:
            why = f"{why}, and it could not be fetched ({error})"
    target = folder
    if is_filled(folder):  # its own files stay, and CIFAR-10 is found in a folder of its own inside
        target = folder / FOLDER_NAME if folder.is_dir() else folder.parent / FOLDER_NAME
    raise DataError(
        f"{why}\n"
        f"to fetch it: python cifar10_utils.py fetch {quoted(target)}  "
        f"(or put {cifar10_download.ARCHIVE_NAME} into {quoted(target.parent)})\n"
        f"to go without: python cifar10_utils.py standin {quoted(target)}  "
        "(synthetic pictures; or name another --data_dir)"
    )


def found_in(folder: Path) -> str:
    """What the folder holds instead, such as 'holds CIFAR-100'; '' where it is empty or missing."""
    found = held_by(folder, KNOWN)
    for above in itertools.islice(folder.parents, 2 if found else 0):  # as when data_dir names one batch too deep
        if all((above / name).exists() for name in BATCH_FILES):
            return f"lies in {quoted(above)}, where CIFAR-10 is"
    return found
