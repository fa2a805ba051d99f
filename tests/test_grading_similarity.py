"""Similar submissions: copies in disguise are found, independent ones are not, and hostile text costs seconds."""

import ast
import itertools
import json
import random
import time
from pathlib import Path

import pytest
from grading_help import MLP, MODULES, ROOT, grade, needs_confinement, reduced, submission

from grading import classroom, rubric, similarity
from grading.cli import main
from grading.files import write_json
from grading.similarity import CODE, PAGE, THRESHOLD, compare, handed_out, sources, tokens, winnowed, write_page

HANDINS = ROOT / "tests" / "handins"
FILES = ("modules", "mlp_numpy", "train_mlp_numpy", "mlp_pytorch", "train_mlp_pytorch", "custom_layernorm",
         "convnet_pytorch", "train_convnet_pytorch")
pytestmark = [pytest.mark.grading]


def variants(folder: str) -> dict[str, str]:
    """{name: text} of a file as several people wrote it, each without a look at the others'."""
    return {path.stem: path.read_text() for path in sorted((HANDINS / folder).glob("*.py"))}


class Disguise(ast.NodeTransformer):
    """Renames all that a file names, drops docstrings and comments, turns the order of functions round."""

    def __init__(self, tree: ast.Module):
        self.names: dict[str, str] = {}
        self.bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        self.bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}

    def new(self, name: str) -> str:
        return name if name.startswith("__") or name in ("self", "ctx", "cls") else self.names.setdefault(
            name, f"renamed_{len(self.names)}")

    def visit_Name(self, node: ast.Name) -> ast.Name:
        node.id = self.new(node.id) if node.id in self.bound else node.id
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self.new(node.arg)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.Attribute:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            node.attr = self.new(node.attr)
        return node

    def visit_body(self, node):
        self.generic_visit(node)
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        places = [i for i, inner in enumerate(node.body) if isinstance(inner, ast.FunctionDef)]
        turned = [node.body[i] for i in reversed(places)]
        for i, inner in zip(places, turned, strict=True):
            node.body[i] = inner
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_body


def disguised(text: str) -> str:
    tree = ast.parse(text)
    return ast.unparse(Disguise(tree).visit(tree))


@pytest.fixture(scope="module")
def handout() -> dict[str, str]:
    return handed_out([])


def rates(handout) -> tuple[list[str], list[str], int, int]:
    """(pairs shown though independent, disguised copies missed, pairs in all, copies in all), file by file."""
    wrong, missed, pairs, copies = [], [], 0, 0
    for folder in FILES:
        texts = variants(folder)
        honest = compare({name: {f"{folder}.py": text} for name, text in texts.items()}, handout, {})
        wrong += [f"{folder}: {pair.one}, {pair.other} {pair.share:.2f}" for pair in honest.pairs]
        pairs += len(texts) * (len(texts) - 1) // 2
        for name, text in texts.items():
            found = compare({name: {f"{folder}.py": text}, "copy": {f"{folder}.py": disguised(text)}}, handout, {})
            missed += [] if found.pairs else [f"{folder}: {name}"]
            copies += 1
    return wrong, missed, pairs, copies


def test_rates_on_files_that_were_written_independently(handout):
    wrong, missed, pairs, copies = rates(handout)
    told = " ".join((ROOT / "docs/grading.md").read_text(encoding="utf-8").split())
    assert f"Of the {pairs} pairs of files in tests/handins, written independently, {len(wrong)} are shown" in told
    assert f"of {copies} copies with other names, comments and order, {len(missed)} are missed" in told
    assert pairs >= 100 and copies >= 40
    assert not wrong, wrong
    assert not missed, missed


def test_rates_on_whole_submissions(handout):
    """Hand-ins of different people in every file, and for each one that was copied whole."""
    columns = [[*variants(folder).values()] for folder in FILES]
    number = min(map(len, columns))
    assert number >= 5
    honest = {f"student {i}": {f"{folder}.py": column[i] for folder, column in zip(FILES, columns, strict=True)}
              for i in range(number)}
    assert not compare(honest, handout, {}).pairs
    copies = {f"copy {i}": {f"{i}{file}": disguised(text) for file, text in honest[f"student {i}"].items()}
              for i in range(number)}
    found = compare({**honest, **copies}, handout, {})
    assert {frozenset((pair.one, pair.other)) for pair in found.pairs} == {
        frozenset((f"student {i}", f"copy {i}")) for i in range(number)}
    one = dict(honest["student 0"]) | {"modules.py": disguised(honest["student 1"]["modules.py"])}
    found = compare({"thief": one, "student 1": honest["student 1"]}, handout, {})  # one file of eight
    assert [pair.file for pair in found.pairs] == ["modules.py"]


def test_disguise_is_one():
    text, other = MODULES, disguised(MODULES)
    assert "dout" not in other and "keepdims" in other and other.index("backward") < text.index("forward")
    assert "LinearModule" in other and "#" not in disguised("x = 1  # why")
    assert compare({"a": {"a.py": text}, "b": {"b.py": other}}, {}, {}).pairs[0].share > THRESHOLD


def test_passages_stand_side_by_side():
    found = compare({"a": {"x/modules.py": MODULES}, "b": {"b.py": "\n\n\n" + MODULES}}, {}, {})
    pair, = found.pairs
    assert pair.share == 1
    (one, other), *_ = pair.passages
    assert one.file == "x/modules.py" and other.file == "b.py" and other.first == one.first + 3
    assert [*one.lines] == [*other.lines] == MODULES.split("\n")[one.first - 1:one.last][:similarity.MOST_LINES]


def test_what_the_handout_has_is_no_likeness():
    same = {"modules.py": MODULES, "mlp_numpy.py": MLP}
    found = compare({"a": same, "b": same}, {"given.py": MODULES}, {})
    assert [pair.file for pair in found.pairs] == ["mlp_numpy.py"] and 0.5 < found.handout["a"] < 1
    assert not compare({"a": same, "b": same}, {"given.py": MODULES, "also.py": MLP}, {}).pairs
    assert compare({"a": same}, {}, {"the reference": same}).pairs[0].share == 1
    assert not compare({"a": {"a.py": "x = 1"}}, {}, {"2023/x": same, "2024/x": same}).pairs  # years among themselves


def test_what_a_quarter_of_the_class_has_is_how_it_is_written():
    """Beside code of one's own; tests of whole copies are below."""
    own = [text for folder in ("train_mlp_numpy", "convnet_pytorch", "mlp_pytorch") for text in variants(folder).values()]
    class_ = {f"s{i}": {"modules.py": f"{text}\n{MODULES[:900]}"} for i, text in enumerate(own[:9])}
    assert not compare(class_, {}, {}).pairs
    class_ |= {f"t{i}": {"modules.py": f"x{i} = {i}"} for i in range(31)}
    assert len(compare(class_, {}, {}).pairs) > 9  # nine of forty: fewer than a quarter


def test_tokens_are_what_renaming_leaves():
    assert tokens("import numpy as np  # x\ndef f(a, b):\n    '''doc'''\n    return np.dot((a), b.T) * 1e-5")[0] == tokens(
        "import numpy as n\n\n\ndef g(x, y): return n.dot(x, y.T) * 0.00001")[0]
    assert tokens("np.dot(a, b)")[0] != tokens("np.sum(a, b)")[0]
    assert tokens("x = 1\ny = '''\n\n'''\nz = 2")[1] == [1, 1, 1, 2, 2, 5, 5, 5]
    assert tokens("def (: x")[0] == ["def", ":", similarity.OTHER]  # not Python: every name may be another


@pytest.mark.parametrize("seed", range(20))
def test_winnowing_keeps_its_promise(seed):
    """Two texts with RUN + WINDOW - 1 tokens in a row in common share a fingerprint."""
    rng = random.Random(seed)
    words = [f"name{i}.attribute{i} + {i}" for i in range(200)]
    common = rng.sample([f"+{i}" for i in range(1000, 9000)], similarity.RUN + similarity.WINDOW - 1)
    one, other = ({"a.py": "\n".join([*rng.sample(words, 90), *common, *rng.sample(words, 90)])} for _ in range(2))
    values = [{value for places in similarity.fingerprints(text).values() for value in places} for text in (one, other)]
    assert values[0] & values[1]
    assert len(winnowed(similarity.hashes(tokens(one["a.py"])[0]))) < len(tokens(one["a.py"])[0]) / 2


HOSTILE = {"one line": "x=" + "1+" * 10**6, "no end": '"""' + "\\\"\"\"" * 10**6, "deep": "(" * 10**6, "quotes": "'" * 10**6,
           "not text": random.Random(1).randbytes(10**6).decode("latin-1"), "names": "a " * 10**6, "blank": " " * 10**6,
           "dots": "." * 10**6, "backslashes": "\\\n" * 10**6, "numbers": "1e+" * 10**6, "long name": "a" * 10**6}


def test_hostile_text_costs_seconds(tmp_path):
    class_ = {}
    for name, text in HOSTILE.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "modules.py").write_text(text, encoding="utf-8")
        class_[name] = sources(tmp_path / name)
        assert sum(map(len, class_[name].values())) <= similarity.MOST_BYTES
    started = time.process_time()
    compare(class_, {}, {})
    assert time.process_time() - started < 4 * len(HOSTILE)


def test_many_files_of_one_student_cost_the_class_no_time(tmp_path):
    """They are compared in part, and what hides behind them is compared first; a line says so."""
    text = " ".join(random.Random(1).choices(["if", "for", "in", "is", "or", "as", "and"], k=70))
    (tmp_path / "many").mkdir()
    for i in range(1500):
        (tmp_path / "many" / f"a{i}.py").write_text(text)
    (tmp_path / "many" / "modules.py").write_text(MODULES)
    many = sources(tmp_path / "many")
    assert sum(map(bool, many.values())) == similarity.MOST_FILES and many["modules.py"] == MODULES
    class_ = {"many": many, "doe": {"modules.py": MODULES}, **{f"student {i}": {"a.py": text} for i in range(100)}}
    started = time.process_time()
    assert any({"many", "doe"} == {pair.one, pair.other} for pair in compare(class_, {}, {}).pairs)
    assert not compare({"all": {f"a{i}.py": text for i in range(1500)}}, {}, {}).pairs
    assert time.process_time() - started < 3


def test_200_submissions_take_less_than_a_minute(handout):
    columns = [[*variants(folder).values()] for folder in FILES]
    rng = random.Random(0)
    class_ = {f"student {i}": {f"{folder}.py": rng.choice(column).replace("0.5", str(i))  # as alike as a class can be
                               for folder, column in zip(FILES, columns, strict=True)} for i in range(200)}
    started = time.process_time()
    found = compare(class_, handout, {})
    assert time.process_time() - started < 60
    assert len(found.handout) == 200


def test_page_shows_pairs_escaped_and_loads_nothing(tmp_path):
    students = {}
    evil = "x = '<script>alert(1)</script>'\n" + MODULES
    for name, text in (("doe", evil), ("<b>roe", evil), ("zed", "y = 2"), ("large", "#" * similarity.MOST_BYTES)):
        students[name] = tmp_path / f"{len(students)}"
        write_json(students[name] / CODE, {"modules.py": text})
    students["late"] = tmp_path / "nothing"
    year = tmp_path / "2023"
    submission(year / "old", modules=MODULES)
    (year / "damaged.zip").write_text("no ZIP")
    found = write_page(tmp_path, students, {"doe": "Doe, J."}, [], [year])
    page = (tmp_path / similarity.PAGE).read_text()
    assert {frozenset((pair.one, pair.other)) for pair in found.pairs} == {
        frozenset(pair) for pair in itertools.combinations(("doe", "<b>roe", "2023/old"), 2)}
    assert "<td>Doe, J. (doe)</td>" in page and "&lt;b&gt;roe" in page and "2023/old" in page and "Without code to compare: late" in page
    assert "with the reference and with the submissions of other years, without" in page
    assert "Compared in part, since they hold more than 100 files or 512 KB of Python: large." in page
    write_page(tmp_path, students, {}, [], [])
    assert "with each other and with the reference, without" in (tmp_path / similarity.PAGE).read_text()
    assert "<script" not in page and "<b>roe" not in page and "100 %" in page
    assert "    def forward(self, x):\n" in page and "src=" not in page


def test_data_utilities_and_links_are_not_compared(tmp_path):
    folder = submission(tmp_path / "a", cifar10_utils=MLP)
    (folder / "link.py").symlink_to("/etc/passwd")
    (folder / "inner").mkdir()
    Path(folder / "inner" / "b.py").write_bytes(b"x = 1\r\n\xff")
    assert sources(folder) == {"mlp_numpy.py": MLP, "modules.py": MODULES, "inner/b.py": "x = 1\n\ufffd"}


@pytest.mark.parametrize("end", ["\\", "\\\n", "'", ""])
def test_a_text_of_endings_that_end_nothing_takes_no_time(end):
    """897 bytes of ZIP: each \\""\" was looked for to the end of the file."""
    for quote in ('"', "'"):
        started = time.process_time()
        tokens(f"\\{3 * quote}\n" * 20_000 + end)
        assert time.process_time() - started < 2


@needs_confinement
def test_a_run_writes_the_page_and_keeps_the_code(tmp_path, capsys, monkeypatch):
    rules = reduced(["3.2c"])
    monkeypatch.setattr(rubric, "load", lambda path=None: rules)
    paths = [submission(tmp_path / "doe"), submission(tmp_path / "roe", modules=disguised(MODULES), mlp_numpy=MLP[:200])]
    submission(tmp_path / "course" / "given")
    submission(tmp_path / "2023" / "old")
    command = [*map(str, paths), "--out", str(tmp_path / "out")]
    assert main("", command) == 0
    assert "1 pair of submissions is similar" in capsys.readouterr().err
    assert "modules.py" in (page := (tmp_path / "out" / PAGE).read_text()) and "2023" not in page
    assert main("", [command[1], *command[2:], "--compare-with", str(tmp_path / "2023")]) == 0  # one of the class again
    assert "3 pairs" in capsys.readouterr().err and "2023/old" in (tmp_path / "out" / PAGE).read_text()
    assert main("", [*command, "--handout", str(tmp_path / "course")]) == 0
    assert "similar" not in capsys.readouterr().err
    assert main("", [*command, "--handout", str(tmp_path / "nowhere")]) == 2
    assert "is not a folder" in capsys.readouterr().err


@needs_confinement
@pytest.mark.parametrize("given", [True, False])
def test_what_the_course_hands_out_is_not_flagged(tmp_path, monkeypatch, given):
    """Checks of an earlier edition, say, unchanged but for their line ends."""
    rules = reduced(["3.2c"])
    monkeypatch.setattr(rubric, "load", lambda path=None: rules)
    folder = submission(tmp_path / "doe")
    for parent, content in ((folder, b"exec('1')\r\n"), (tmp_path / "course", b"exec('1')\n")):
        (parent / "checks").mkdir(parents=True)
        (parent / "checks" / "old.py").write_bytes(content)
    handout = ["--handout", str(tmp_path / "course")] if given else []
    assert main("", [str(folder), "--out", str(tmp_path / "out"), *handout]) == 0
    [record] = classroom.records(tmp_path / "out", rules)
    assert ("checks/old.py uses exec" in record["flags"]) == (not given)


@pytest.mark.parametrize("copies, class_size", [(9, 32), (12, 36), (12, 12)])
def test_what_many_have_copied_is_not_taken_for_how_it_is_written(copies, class_size, handout):
    texts = variants("modules")
    class_ = {f"own {i}": {"modules.py": text} for i, text in zip(range(class_size - copies), itertools.cycle(texts.values()))}
    copied, more = next(iter(variants("convnet_pytorch").values())), [f"z = {'[' * n}z + 1{']' * n}" for n in range(1, 13)]
    class_ |= {f"copy {i}": {"modules.py": "\n".join([copied, *more[:i]])} for i in range(copies)}
    found = {frozenset((pair.one, pair.other)) for pair in compare(class_, handout, {}).pairs}
    assert len([pair for pair in found if all(name.startswith("copy") for name in pair)]) == copies * (copies - 1) // 2


@needs_confinement
def test_what_the_grader_adds_is_not_the_students_code(tmp_path):
    folder = submission(tmp_path / "doe")
    grade([folder], reduced(["1.2"], scripts=False), tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "students" / "doe" / CODE).read_text())
    assert set(kept) == {"modules.py", "mlp_numpy.py"}
