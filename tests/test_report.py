"""The report is made from the kept results alone, and what is handed in is whole, small and up to date."""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import zipfile

import pytest
import torch
import torch.nn.functional as F
from script_runs import interrupt_while_writing

import make_submission
from convnet_pytorch import ConvNet
from make_submission import Refused, file_name, pack
from report import build_report
from report.experiments import EXPERIMENTS, runs
from tests.test_english import found

typst = pytest.importorskip("typst")
PdfReader = pytest.importorskip("pypdf").PdfReader
ROOT = make_submission.ROOT
SOURCES = {path.name: path.read_text() for path in sorted((ROOT / "report").glob("*.typ"))}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A copy of what a submission is packed from, its report typeset."""
    root = tmp_path_factory.mktemp("copy")
    for name in ("report", "recipes", "tests", "training", "imagefiles", "networks"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("*.pt", "*.npz", "__pycache__"))
    for path in [*ROOT.glob("*.py"), *ROOT.glob("requirements*.txt"), ROOT / "Makefile", ROOT / "pyproject.toml"]:
        shutil.copy(path, root)
    for name in ("docs", "cluster"):
        shutil.copytree(ROOT / name, root / name)
    try:
        build_report.build(root / "report", root / "report" / "report.pdf")
    except build_report.Missing as error:
        pytest.skip(f"not all experiments have been run: {error}")
    return root


@pytest.fixture
def copy(built, tmp_path):
    return shutil.copytree(built, tmp_path / "copy")


def test_the_pdf_is_there_and_the_kept_one_is_its_like(built):
    assert (built / "report/report.pdf").read_bytes().startswith(b"%PDF")
    assert (ROOT / "report/report.sha256").read_text().strip() == build_report.digest(ROOT / "report"), "make report"


@pytest.mark.parametrize(("experiment", "run", "name"), [
    ("norms", "layer-8-seed43", "summary.json"), ("mlp-numpy", "defaults-seed44", "metrics.csv"),
    ("transfer", "fine-tuned-seed42", "summary.json"), ("convnet", "defaults-seed42", "predictions.json"),
    ("mlp-numpy", "defaults-seed42", "weights.png"), ("mlp-evolved", "1-dropout-seed42", "predictions.json")])
def test_a_missing_result_fails_the_build_and_is_named(copy, experiment, run, name):
    (copy / "report/results" / experiment / run / name).unlink()
    with pytest.raises(build_report.Missing) as caught:
        build_report.build(copy / "report", copy / "out.pdf")
    assert experiment in str(caught.value) and name in str(caught.value)
    assert "python -m report.inspect_runs" in str(caught.value) or "python -m report.experiments" in str(caught.value)
    assert not (copy / "out.pdf").exists()


def test_a_number_of_the_text_follows_its_result(copy):
    before = (copy / "report/report.pdf").read_bytes()
    path = copy / "report/results/convnet/defaults-seed42/summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "test_accuracy": 0.1234}))
    build_report.build(copy / "report", copy / "out.pdf")
    assert (copy / "out.pdf").read_bytes() != before


def text_of(pdf) -> str:
    return " ".join("\n".join(page.extract_text() for page in PdfReader(pdf).pages).split())


def test_author_and_date_stand_under_the_title(copy):
    build_report.build(copy / "report", copy / "out.pdf", author="Jane Doe", date="2026-12-01")
    assert "Jane Doe · 2026-12-01 Abstract." in text_of(copy / "out.pdf")
    assert PdfReader(copy / "out.pdf").metadata.author == "Jane Doe"


def test_every_figure_of_one_seed_is_marked(built):
    """Accuracies of runs that have no others of their kind, wherever the text gives them."""
    text = text_of(built / "report/report.pdf")
    for name in EXPERIMENTS:
        for variant, _, folder in runs(name):
            if len(variant.seeds) == 1:
                values = [value for key, value in RESULTS.summary(name, folder.name).items() if "accuracy" in key]
                for found in (f"{value:.4f}" for value in values if name != "activations"):
                    after = [text[match.end():match.end() + 2].strip() for match in re.finditer(found, text)]
                    assert all(mark.startswith("†") for mark in after), (name, variant.name, found)
                    if found == f"{values[0]:.4f}":
                        assert after, (name, variant.name, found)  # the report gives it
                        assert all(mark.startswith("†‡") for mark in after) == variant.chosen_on_test, (name, found)


def test_the_commits_of_all_kept_runs_are_named(built):
    text = text_of(built / "report/report.pdf")
    commits = {json.loads((folder / "config.json").read_text())["git_commit"] for name in EXPERIMENTS
               for *_, folder in runs(name)}
    assert commits and all(commit[:12] in text for commit in commits)
    assert ("changed files" in text) == any(commit.endswith("-dirty") for commit in commits)


def test_figures_stand_after_the_heading_that_they_belong_to(built):
    text = text_of(built / "report/report.pdf")
    headings = ["Question 1.2: NumPy MLP The", "Question 2.1: PyTorch MLP The", "The NumPy and the PyTorch MLP with", "The best model The",
                "The best MLP: one seed", "Question 2.2: Tanh against ELU With", "ELU against Tanh, test", "Question 4 a: ConvNet A",
                "The ConvNet with the assignment", "As many images, better used The", "The ConvNet on as many images, better",
                "Question 4 b: transfer learning Eff", "EfficientNet-Lite0, fine-tuned at", "Errata of the published reports Table",
                "Conclusion Back"]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)


def without_semicolon(text: str) -> list[str]:
    """Typst's expressions in markup, `#name` or `#call(...)`, that a semicolon ends: it is not printed."""
    lost = []
    for hash_sign in re.finditer(r"#(?=[\w(\[{])", text):
        end = hash_sign.end()
        while part := re.compile(r"\.?[A-Za-z][\w-]*|[(\[{]").match(text, end):
            end = part.end() if part[0][-1] not in "([{" else closing(text, end)
        if text[end:end + 1] == ";":
            lost.append(text[hash_sign.start():end + 1])
    return lost


def closing(text: str, start: int) -> int:
    """Where the bracket that opens at `start` is closed; brackets in strings do not count."""
    depth = 0
    for token in re.compile(r'"(?:\\.|[^"\\])*"|[(\[{]|[)\]}]').finditer(text, start):
        depth += (token[0] in "([{") - (token[0] in ")]}")
        if depth == 0:
            return token.end()
    raise ValueError(f"not closed: {text[start:start + 40]}")


def test_no_semicolon_of_the_text_is_lost():
    text = 'a #f("(;")[b (c)]; d #n; #s.map(x => { x }).first(); #let m = 2; (#n); #f(\n"x"); #n, e; #f("; "), #n.'
    assert without_semicolon(text) == ['#f("(;")[b (c)];', "#n;", "#s.map(x => { x }).first();", '#f(\n"x");']
    assert not {name: lost for name, source in SOURCES.items() if (lost := without_semicolon(source))}


@pytest.mark.parametrize("name", SOURCES)
def test_plain_english_across_line_breaks(name):
    assert not found(" ".join(SOURCES[name].split()))


def test_marks_are_explained_where_they_are_first_used(built):
    text = text_of(built / "report/report.pdf")
    for mark, meaning in (("†", "one seed"), ("‡", "settings chosen when test accuracies of such runs were known")):
        assert text[text.index(mark):].startswith(f"{mark} ({mark}: {meaning}")


def test_every_picture_of_runs_names_its_seeds():
    text = SOURCES["report.typ"]
    captions = re.findall(r"#figure\((?:image|grid)\(.*?caption: (\[.*?\])\) <", text, re.DOTALL)
    assert len(captions) == len(re.findall(r"#figure\((?:image|grid)\(", text)) > 10
    assert not [caption for caption in captions if not re.search(r"#of-seeds\(|#default-runs|repeats", caption)]


def test_headers_of_tables_begin_alike():
    headers = [header for text in SOURCES.values() for header in re.findall(r" \[\*([^*]+)\*\]", text)]
    assert len(headers) > 20 and not [header for header in headers if header[0].isupper()]


# ---------------------------------------------------------------- what the text says in words


RESULTS = build_report.Results(ROOT / "report/results")


def means(experiment: str, key: str, at: str, **where: str) -> dict[int, float]:
    """{row[at]: mean of row[key]} of these rows of all runs of an experiment."""
    found: dict[int, list[float]] = {}
    for folder in (RESULTS.folder / experiment).glob("*-seed*"):
        for row in RESULTS.rows(experiment, folder.name):
            if where.items() <= row.items():
                found.setdefault(int(row[at]), []).append(float(row[key]))
    return {step: statistics.mean(values) for step, values in found.items()}


def test_relu_is_after_two_epochs_where_sigmoid_is_after_ten():
    relu, sigmoid = (means("activations", "accuracy", "epoch", split="validation", activation=name)
                     for name in ("relu", "sigmoid"))
    assert relu[2] == pytest.approx(sigmoid[10], abs=5e-4) and max(sigmoid) == 10
    assert max(sigmoid.values()) == sigmoid[10]


def test_both_losses_of_the_numpy_mlp_still_fall_and_part_from_step_700_on():
    train, test = (means("mlp-numpy", "loss", "step", split=name) for name in ("train", "test"))
    for losses in (train, test):
        assert min(losses, key=losses.__getitem__) == max(losses) == 1400
    assert all(test[step] - train[step] < 0.01 for step in range(100, 701, 100))
    assert all(test[step] - train[step] > 0.01 for step in range(800, 1401, 100))
    assert test[1400] - train[1400] > 0.05


def held_out() -> dict[str, list[float]]:
    """The accuracies behind each row of the table of modifications, in its order."""
    return {variant.name: [RESULTS.summary("mlp-modifications", f"{variant.name}-seed{seed}")["validation_accuracy"]
                           for seed in variant.seeds] for variant in EXPERIMENTS["mlp-modifications"].variants}


def test_what_the_conclusion_says_brings_most_does():
    names, reached = list(held_out()), [statistics.mean(values) for values in held_out().values()]
    brought = {name: after - before for name, before, after in zip(names[1:], reached, reached[1:], strict=False)}
    assert set(sorted(brought, key=brought.__getitem__)[-4:]) == {"scaled-pixels", "adamw", "one-cycle", "flip"}
    numpy, pytorch = (RESULTS.accuracies(name, "defaults") for name in ("mlp-numpy", "mlp-pytorch"))
    assert abs(statistics.mean(numpy) - statistics.mean(pytorch)) < min(map(statistics.stdev, (numpy, pytorch)))


def test_which_modifications_cost_accuracy_and_which_change_it_by_less_than_the_spread(built):
    rows = held_out()
    change = {name: (statistics.mean(after) - statistics.mean(before)) / max(map(statistics.stdev, (before, after)))
              for (name, after), before in zip(list(rows.items())[1:], rows.values(), strict=False)}
    assert {name for name in change if change[name] < -1} == {"muon", "gelu", "mixup", "without-muon"}
    assert {name for name in change if abs(change[name]) < 1} == {"layernorm", "label-smoothing", "weight-averaging"}
    assert ("GELU and mixup cost accuracy, too. LayerNorm, label smoothing and the moving average change it by less than "
            "the larger standard deviation of the two rows.") in text_of(built / "report/report.pdf")


def flags(experiment: str, run: str) -> dict:
    return json.loads(RESULTS.path(experiment, run, "config.json").read_text())["flags"]


def test_abstract_and_conclusion_say_what_the_best_mlp_is(built):
    best, default = flags("best-mlp", "augmented-seed42"), flags("mlp-pytorch", "defaults-seed42")
    assert best["optimizer"] == "muon" and best["blocks"] and best["activation"] == "gelu" and best["label_smoothing"]
    assert best["flip"] == "on" and best["shift"] and best["mixup"] and not best["ema_decay"]
    for epochs in (flags("mlp-modifications", "plain-seed42")["epochs"], default["max_steps"] * default["batch_size"] / 50000):
        assert best["epochs"] > 10 * epochs
    text = text_of(built / "report/report.pdf")
    for start, end in (("Abstract.", "question network"), ("Conclusion Back", "How the numbers were made The")):
        part = re.sub(r"(?<=[a-z])[-\u2010\u00ad] (?=[a-z])", "", text[text.index(start):text.rindex(end)])
        assert not [word for word in ("residual", "Muon", "data augmentation", "many more epochs") if word not in part], start


def test_table_2_says_that_two_of_its_rows_have_the_same_settings(built):
    alike = [flags(*run) for run in (("mlp-pytorch", "defaults-seed42"), ("tanh-elu", "elu-seed42"))]
    assert len({json.dumps({**one, "output_dir": ""}, sort_keys=True) for one in alike}) == 1
    assert "The third row has the settings of the first" in text_of(built / "report/report.pdf")


def test_table_1_says_which_parameters_it_counts(built):
    probe, tuned = (RESULTS.summary("transfer", f"{name}-seed42")["parameters"] for name in ("linear-probe", "fine-tuned"))
    assert probe == 1280 * 10 + 10 < tuned and flags("transfer", "fine-tuned-seed42")["unfreeze_from"]
    assert ("Parameters: of the head alone for the linear probe, else of the whole network, including frozen ones."
            in text_of(built / "report/report.pdf"))


def test_differences_from_source_b_are_of_the_same_network(built):
    text = text_of(built / "report/report.pdf")
    table = text[text.index("changed channels hidden"):text.index("Table 5:")]
    shown = {title: " ".join(re.findall(rf"{title} \d[^±]*± [\d.]+ ([+−][\d.]+)", table))
             for title in (variant.title for variant in EXPERIMENTS["study-cnn"].variants)}
    assert {title for title, difference in shown.items() if not difference} == {"our best", "dropout of 0.2"}


def test_what_source_b_found_holds(built):
    mean = {variant.name: statistics.mean(RESULTS.accuracies("study-cnn", variant.name))
            for variant in EXPERIMENTS["study-cnn"].variants}
    spread = statistics.stdev(RESULTS.accuracies("study-cnn", "baseline"))
    assert mean["lr-0.005"] < mean["baseline"] - 0.1
    assert mean["batch-32"] < mean["baseline"] - spread
    assert abs(mean["tanh"] - mean["baseline"]) < spread and mean["sigmoid"] < mean["baseline"] - spread
    assert "Tanh brings nothing, and sigmoid costs accuracy;" in text_of(built / "report/report.pdf")
    assert max(mean.keys() - {"best"}, key=mean.__getitem__) == "channels-20-25"


def test_the_convnets_first_kernels_are_almost_those_it_began_with():
    """Each kernel of weights.png, a tile of 3x3 squares of 8 pixels, points where one of the initial ones does."""
    torch.manual_seed(42)
    initial = next(m for m in ConvNet(3, 10).modules() if isinstance(m, torch.nn.Conv2d)).weight.detach().flatten(1)
    picture = torch.from_numpy(RESULTS.picture("convnet", "weights.png")[..., :3].copy())
    shown = torch.stack([picture[top + 4:top + 24:8, left + 4:left + 24:8].permute(2, 0, 1).flatten() - 0.5
                         for top in range(0, 99, 25) for left in range(0, 249, 25)])
    cosines = F.normalize(shown) @ F.normalize(initial).T
    assert cosines.shape == (40, 64)
    assert cosines.amax(1).min() > 0.98 and len(set(cosines.argmax(1).tolist())) == 40


# ---------------------------------------------------------------- what is handed in


def test_what_is_packed(copy, tmp_path):
    path = pack("van der Berg", tmp_path / "out", copy)
    assert path.name == "van_der_Berg_assignment1.zip"
    with zipfile.ZipFile(path) as archive:
        names = {name.removeprefix("van_der_Berg_assignment1/") for name in archive.namelist()}
    assert {"modules.py", "train_convnet_pytorch.py", "report.pdf", "tests/test_modules.py", "requirements.txt"} <= names
    assert not [name for name in names if name.endswith((".pt", ".npz", ".json", ".csv", ".pyc")) or "data" in name.split("/")]
    assert path.stat().st_size < 5 * 2**20


def test_the_tests_that_are_packed_need_nothing_else(copy, tmp_path):
    with zipfile.ZipFile(pack("Doe", tmp_path, copy)) as archive:
        archive.extractall(tmp_path)
    unpacked = subprocess.run([sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"],
                              cwd=tmp_path / "Doe_assignment1", capture_output=True, text=True, check=False)
    assert unpacked.returncode == 0, unpacked.stdout
    read = (tmp_path / "Doe_assignment1" / "tests").glob("*.py")
    assert not [path.name for path in read if re.search(r'README|"report"|report/', path.read_text())]


def test_what_the_packed_readme_and_makefile_name_is_packed(copy, tmp_path):
    with zipfile.ZipFile(pack("Doe", tmp_path, copy)) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "Doe_assignment1"
    text = (folder / "README.md").read_text()
    named = re.findall(r"(?:python|sbatch) (\S+\.\w+)", text) + re.findall(r"`((?:\w+/)+|(?:\w+/)*\w+\.(?:py|txt))`", text)
    assert len(named) > 10 and not [name for name in named if not (folder / name).exists()]
    assert {"train", "test", "lint"} <= set(re.findall(r"`make (\w+)", text))
    asked = subprocess.run(["make", "--dry-run", "train", "test", "lint"], cwd=folder, capture_output=True, text=True, check=True)
    [types] = re.findall(r"-m mypy \*\.py (.*)", asked.stdout)
    scripts = re.findall(r"python (\w+\.py)", asked.stdout)
    assert scripts and not [name for name in [*types.split(), *scripts] if not (folder / name).exists()]


def test_a_stale_or_missing_report_is_refused(copy, tmp_path):
    with open(copy / "report/report.typ", "a") as file:
        file.write("\nOne more line.\n")
    with pytest.raises(Refused, match="older than its text"):
        pack("Doe", tmp_path, copy)
    (copy / "report/report.pdf").unlink()
    with pytest.raises(Refused, match="is missing; make report"):
        pack("Doe", tmp_path, copy)
    assert not list(tmp_path.glob("*.zip"))


@pytest.mark.parametrize("name", ["", " ", "../Doe", "Doe/x", "Doe.zip", "D0e", "-", "a\nb;"])
def test_odd_names_are_refused(name):
    with pytest.raises(Refused, match="--name"):
        file_name(name)


def test_names_of_people():
    assert [file_name(name) for name in ("Doe", "O'Neill", "Müller-Lüdenscheidt")] == [
        "Doe_assignment1.zip", "O'Neill_assignment1.zip", "Müller-Lüdenscheidt_assignment1.zip"]


def test_command_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(make_submission, "files", lambda root: {"modules.py": ROOT / "modules.py"})
    assert make_submission.main(["--name", "Doe", "--out", str(tmp_path)]) == 0
    assert "Doe_assignment1/modules.py" in capsys.readouterr().out
    assert make_submission.main(["--name", "4"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
@pytest.mark.parametrize(("written", "named"), [("report/figures/mlp-defaults.svg", "report/figures"),
                                                ("report/figures/kept.json", "report/figures"), (".my.pdf.part", "my.pdf")])
def test_a_full_disk_is_one_line(copy, written, named, monkeypatch, capsys):
    (copy / written).unlink(missing_ok=True)
    (copy / written).symlink_to("/dev/full")
    monkeypatch.setattr(build_report, "REPORT", copy / "report")
    assert build_report.main(["--out", str(copy / "my.pdf")]) == 1
    assert capsys.readouterr().err == f"build_report.py: cannot write or read {copy / named}: No space left on device\n"


def test_ctrl_c_is_one_line_and_leaves_what_was_there(copy, tmp_path):
    interrupt_while_writing(tmp_path / "Doe_assignment1.zip", "make_submission.py", "--name", "Doe", "--out", tmp_path, cwd=copy)
    interrupt_while_writing(tmp_path / "report.pdf", "-m", "report.build_report", "--out", tmp_path / "report.pdf", cwd=copy)


def test_the_same_figures_whatever_matplotlib_is_set_to(tmp_path):
    """As a notebook sets MPLBACKEND for what it starts, as nobody should, and as a matplotlibrc may ask for LaTeX."""
    (tmp_path / "rc").write_text("text.usetex: True\nfont.size: 30\n")
    code = ("import sys; from pathlib import Path; from report import build_report as b; "
            "b.draw(b.Results(b.REPORT / 'results'), Path(sys.argv[1]))")
    for name, settings in (("plain", {}), ("odd", {"MPLBACKEND": "module://no_such_package.backend_inline",
                                                   "MATPLOTLIBRC": str(tmp_path / "rc")}),
                           ("none", {"MPLBACKEND": "nonsense"})):
        subprocess.run([sys.executable, "-c", code, str(tmp_path / name)], cwd=build_report.REPORT.parent, check=True,
                       env={**os.environ, **settings})
    drawn = sorted(path.name for path in (tmp_path / "plain").iterdir())
    assert len(drawn) > 10
    for name in drawn:
        plain, *others = (re.sub(r"<dc:date>.*?</dc:date>", "", (tmp_path / folder / name).read_text())
                          for folder in ("plain", "odd", "none"))
        assert [plain, plain] == others, name


def test_the_commands_of_the_report_start_whatever_backend_is_named():
    for command in ("report.build_report", "report.inspect_runs"):
        started = subprocess.run([sys.executable, "-m", command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False,
                                 env={**os.environ, "MPLBACKEND": "nonsense"})
        assert started.returncode == 0, started.stderr


@pytest.mark.parametrize("name", ["build_report", "experiments", "inspect_runs"])
def test_a_command_started_as_a_file_says_how_to_start_it(name):
    done = subprocess.run([sys.executable, f"{name}.py"], cwd=ROOT / "report", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"start it from the folder above: python -m report.{name}\n"
