"""Packs the grader for upload to Gradescope: run_autograder and setup.sh at the top, the grader beside them."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from grading.files import local_imports, write
from grading.submission import DATA_UTILITIES, PACKAGE, REFERENCE

SCRIPTS = ("run_autograder", "setup.sh")


def write_autograder(path: Path, rules: Path) -> int:
    """Write the ZIP, with the rubric `rules`; returns the number of files in it."""
    files = {name: PACKAGE / "gradescope" / name for name in SCRIPTS}
    files |= {name: REFERENCE / name for name in ("grade.py", "requirements.txt",
                                                  *local_imports(REFERENCE, [DATA_UTILITIES]))}
    files |= {str(source.relative_to(REFERENCE)): source for source in sorted(PACKAGE.rglob("*"))
              if source.is_file() and "__pycache__" not in source.parts and source.parent.name != "gradescope"}
    files["grading/rubric.toml"] = rules
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in files.items():
            member = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            member.external_attr = (0o755 if name in SCRIPTS else 0o644) << 16
            archive.writestr(member, source.read_bytes(), zipfile.ZIP_DEFLATED)
    write(path, out.getvalue())
    return len(files)
