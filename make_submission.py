"""Pack what is handed in: the code in its structure and the report, as LASTNAME_assignment1.zip, and nothing else.

    python make_submission.py --name Doe
    python make_submission.py --name "van der Berg" --out handin/

It refuses a report that is missing, or older than its text or the results it reads; `make report` fixes both.
"""

from __future__ import annotations

import argparse
import sys
import zipfile
from fnmatch import fnmatch
from pathlib import Path

from imagefiles.dataset import expanded
from imagefiles.output import Parser, lossy_output
from report.build_report import digest
from training.checkpoints import atomic_write

ROOT = Path(__file__).resolve().parent
PACKED = ("*.py", "requirements*.txt", "Makefile", "pyproject.toml", "recipes/*.toml", "cluster/*.sbatch",
          "training/*.py", "imagefiles/*.py", "networks/*.py", "tests/*.py")
NOT_PACKED = (  # the grader, which is the TA's, and the tests of what stays at home: grader, benchmarks, report, README
    "make_submission.py", "grade.py", "tests/grading_*", "tests/test_grading_*", "tests/test_fuzz.py",
    "tests/test_bench.py",
    "tests/test_report.py", "tests/test_derivations.py", "tests/test_errata.py", "tests/test_experiments.py",
    "tests/test_readme.py", "tests/test_project.py", "tests/test_inspect.py",
    "tests/test_handout.py", "tests/test_markers.py", "tests/handin_table.py", "tests/test_floors.py",
    "tests/test_english.py", "tests/test_quickstart.py")
RENAMED = {"report.pdf": "report/report.pdf", "README.md": "docs/training.md"}  # names in the ZIP, and here
REPORT = RENAMED["report.pdf"]


class Refused(Exception):
    """Something is not ready to be handed in: one line with the way out."""


def file_name(name: str) -> str:
    """'van der Berg' -> 'van_der_Berg_assignment1.zip'. Raises Refused for anything but a last name."""
    words = name.split()
    if not words or not all(word.replace("-", "").replace("'", "").isalpha() for word in words):
        raise Refused(f"--name: {name!r} is not a last name, such as Doe or 'van der Berg'")
    return "_".join(words) + "_assignment1.zip"


def files(root: Path) -> dict[str, Path]:
    """{name in the ZIP: path} of all that is packed. Raises Refused where the report is not ready."""
    report, stamp = root / REPORT, root / "report" / "report.sha256"
    if not report.exists():
        raise Refused(f"{REPORT} is missing; make report")
    if not stamp.exists() or stamp.read_text().strip() != digest(root / "report"):
        raise Refused(f"{REPORT} is older than its text or its results; make report")
    code = [path for pattern in PACKED for path in sorted(root.glob(pattern))]
    found = {path.relative_to(root).as_posix(): path for path in code}
    return {name: path for name, path in found.items()
            if not any(fnmatch(name, pattern) for pattern in NOT_PACKED)} | {
                name: root / path for name, path in RENAMED.items()}


def pack(name: str, out: Path, root: Path = ROOT) -> Path:
    """Write the ZIP into the folder `out`; returns its path. Raises Refused."""
    path = out / file_name(name)
    packed = files(root)
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for inside, outside in packed.items():
            archive.write(outside, f"{path.stem}/{inside}")
    return path


@lossy_output()
def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="your last name")
    parser.add_argument("--out", type=expanded, default=Path(), help="folder of the ZIP (default: this one)")
    arguments = parser.parse_args(argv)
    try:
        path = pack(arguments.name, arguments.out)
    except Refused as error:
        print(f"make_submission.py: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"make_submission.py: cannot write {error.filename}: {error.strerror}", file=sys.stderr)
        return 1
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        print(f"{member.file_size:9d}  {member.filename}")
    print(f"{path}: {len(members)} files, {path.stat().st_size / 2**20:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
