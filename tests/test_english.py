"""Plain English: phrases that readers stumbled over stand in no file of the project."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INSTEAD = {  # phrase: what an engineer writes
    r"anew": "again",
    r"by chance": "randomly",
    r"shall": "must",
    r"put right|mends?|mended": "fix",
    r"stands? above": "overrides",
    r"goes on": "continues, resumes",
    r"learn\w* by heart": "overfit",
    r"(?<!there )(is|are) no (?!longer|more|doubt|need|reason|\w+er\b)[a-z]+": "is not a",
}
FOLDERS = ("training", "imagefiles", "networks", "grading", "report", "benchmarks", "docs", "recipes", "cluster", "tests")
KINDS = {".py", ".md", ".ipynb", ".toml", ".typ", ".sbatch", ".html", ".txt", ".yml", ""}
LEFT_OUT = {"handins", "results", "__pycache__", "LICENSE", "test_english.py"}  # by students, commands and lawyers; this list
FILES = sorted(path for path in [*ROOT.glob("*"), *ROOT.glob(".github/**/*"), *(path for folder in FOLDERS
                                                                          for path in ROOT.glob(f"{folder}/**/*"))]
               if path.is_file() and path.suffix in KINDS and not path.name.startswith(".")
               and not LEFT_OUT & set(path.relative_to(ROOT).parts))


def found(text: str) -> list[str]:
    return [f"line {text[:match.start()].count(chr(10)) + 1}: {match[0]!r}; rather {better!r}"
            for phrase, better in INSTEAD.items() for match in re.finditer(rf"\b(?:{phrase})\b", text, re.IGNORECASE)]


def test_the_patterns_find_what_they_are_for():
    odd = "drawn anew by chance; it shall be mended; a flag stands above; it goes on; 50 images learned by heart; is no file"
    assert len(found(odd)) == len(INSTEAD)
    assert not found("there is no network; it is no longer slow, is no faster and there are no layers")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_plain_english(path):
    assert not found(path.read_text(encoding="utf-8"))
