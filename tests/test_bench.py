"""The benchmarks: a smoke test of the cheap ones, goals that are missed, interrupted runs, and the README's tables."""

import json

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import rows, tables
from benchmarks.timing import Scaled, by_turns


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Results go to a temporary folder."""
    monkeypatch.setattr(bench, "RESULT", tmp_path / "bench.json")
    return tmp_path


def fake(monkeypatch, **benchmarks):
    """Each benchmark is a function of no arguments that returns rows or raises; returns the names as they run."""
    ran = []

    def module(name):
        name = name.removeprefix("benchmarks.bench_")
        return type("Module", (), {"rows": staticmethod(lambda quick: ran.append(name) or benchmarks[name]())})

    monkeypatch.setattr(bench, "NAMES", list(benchmarks))
    monkeypatch.setattr(bench.importlib, "import_module", module)
    return ran


def one_row(ours=2.0, goal=1.25):
    seconds = {"ours": [ours] * 3, "plain": [4.0] * 3, "limit": [1.0] * 3}
    return [rows.row("A step", "batch 1", seconds, "ours", "plain", "limit", limit_goal=goal, profile=[("mul", 0.75)])]


def test_smoke_of_all_but_the_convnet_evaluation_and_grading(kept, standin, monkeypatch):
    monkeypatch.setenv("CIFAR10_DIR", str(standin))
    names = ["autodiff", "data", "mlp", "norms", "scaling"]
    assert bench.main(["--quick", *names]) == 0
    assert not (kept / "bench.json").exists()  # a smoke test is not a measurement
    results = bench.read(kept / "quick.json")
    assert sorted(results) == names
    text = (kept / "quick.md").read_text()
    assert "smoke test" in text
    for row in tables.rows(results):
        assert row["name"] in tables.notes(), "NOTES.md says where the time of every row goes"
        assert row["name"] in text and row["seconds"]["median"] > 0
        assert not row["sizes"] or len(row["sizes"]) >= 4
        assert 0 < sum(share for _, share in row["profile"]) <= 1 or row["sizes"] or "alone" in row["name"]


@pytest.mark.slow
def test_smoke_of_what_needs_a_gpu(kept, standin, monkeypatch, capsys):
    """Tried on the CPU, with --quick alone; without it, and without a GPU, it is not measured."""
    monkeypatch.setenv("CIFAR10_DIR", str(standin))
    assert bench.main(["--quick", bench.GPU]) == 0
    measured = tables.rows(bench.read(kept / "quick.json"))
    assert {row["name"] for row in measured} <= set(tables.notes())
    recipes = [row["setting"] for row in measured if row["setting"].startswith("convnet-9")]
    assert len(recipes) == 2 and all("flip-averaged 0." in setting for setting in recipes)
    assert any("of the run in two pieces by 0" in row["setting"] for row in measured)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench.main([bench.GPU]) == 0
    assert "Not measured: gpu (this machine has no GPU)." in capsys.readouterr().out


def test_by_turns_counts_each_round_and_scales():
    calls = []
    seconds = by_turns({"a": lambda: calls.append("a"), "b": Scaled(lambda: calls.append("b"), 1e6)}, rounds=2, calls=2)
    assert "".join(calls) == "bbbaaa" + "aaabbb" + "bbbaaa"  # a warm-up, and one call before each two
    assert [len(values) for values in seconds.values()] == [2, 2]
    assert min(seconds["b"]) > max(seconds["a"])


def test_a_missed_goal_shows(kept, monkeypatch):
    fake(monkeypatch, one=lambda: one_row(ours=2.0), two=lambda: one_row(ours=1.2))
    assert bench.main([]) == 0
    lines = [line for line in (kept / "bench.md").read_text().splitlines() if line.startswith("| A step")]
    assert "2 x limit | **missed**: at most 1.25 x limit" in lines[0] and "0.5 x plain" in lines[0]
    assert "1.2 x limit | met: at most 1.25 x limit" in lines[1]
    assert "`mul` 75%" in (kept / "bench.md").read_text()


def test_an_interrupted_run_goes_on_with_what_is_left(kept, monkeypatch, capsys):
    def interrupt():
        raise KeyboardInterrupt

    ran = fake(monkeypatch, one=one_row, two=interrupt)
    with pytest.raises(KeyboardInterrupt):
        bench.main([])
    assert list(bench.read(kept / "bench.json")) == ["one"]
    ran = fake(monkeypatch, one=one_row, two=one_row)
    bench.main([])
    assert ran == ["two"]
    bench.main([])
    assert ran == ["two"] and "nothing left to measure" in capsys.readouterr().out
    bench.main(["one", "--again"])
    assert ran == ["two", "one"]

    results = bench.read(kept / "bench.json")  # what another machine measured is measured again
    results["one"]["machine"]["processor"] = "abacus"
    (kept / "bench.json").write_text(json.dumps(results))
    bench.main([])
    assert ran == ["two", "one", "one"]


def test_a_benchmark_that_is_interrupted_keeps_its_rows_and_is_measured_again(kept, monkeypatch, capsys):
    def interrupted():
        yield from one_row()
        raise KeyboardInterrupt

    fake(monkeypatch, one=interrupted)
    with pytest.raises(KeyboardInterrupt):
        bench.main([])
    assert len(bench.read(kept / "bench.json")["one"]["rows"]) == 1
    assert "Interrupted: one, after 1 rows." in (kept / "bench.md").read_text()
    ran = fake(monkeypatch, one=one_row)
    assert bench.main([]) == 0 and ran == ["one"]
    assert "Interrupted" not in capsys.readouterr().out


def test_what_is_missing_is_said(kept, monkeypatch, capsys):
    def skip():
        raise rows.Skipped("no abacus")

    fake(monkeypatch, one=skip)
    assert bench.main([]) == 0
    assert "Not measured: one (no abacus)." in capsys.readouterr().out


@pytest.mark.parametrize("argv", [["norm"], ["--quick", "--page"]])
def test_wrong_flags_are_one_line(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        bench.main(argv)
    assert stop.value.code == 2 and capsys.readouterr().err.count("\n") == 1


def test_the_page_shows_the_kept_results():
    """Changing a figure in docs/speed.md or in bench.json makes this fail; `python -m benchmarks --page` fixes it."""
    if not (results := bench.read(bench.RESULT)):
        pytest.skip("nothing is measured")
    text = bench.PAGE.read_text()
    assert bench.with_table(text, results) == text
    assert bench.RESULT.with_suffix(".md").read_text() == tables.document(results)
    assert not any(entry["quick"] for entry in results.values())


def test_every_paragraph_belongs_to_a_row():
    results = bench.read(bench.RESULT)
    if set(results) | {bench.GPU} != set(bench.NAMES):
        pytest.skip("not everything is measured")
    measured = {row["name"] for row in tables.rows(results)}
    unmeasured = {"Grading"} if "skipped" in results["grading"] else set()
    if bench.GPU not in results or "unfinished" in results[bench.GPU]:
        unmeasured |= {name for name in tables.notes() if name.endswith("on a GPU")}
    assert set(tables.notes()) - measured <= unmeasured
