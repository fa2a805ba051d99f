"""Recipes: files of flags, under those of the command line, and what is wrong with one in one line."""

import importlib
import json

import pytest
from script_runs import QUICK, SCRIPTS, run

from training import recipes as recipe_files
from training.flags import UserError
from training.recipes import recipes
from training.script import parse_flags


@pytest.mark.parametrize("name", recipes())
def test_each_recipe_is_of_a_script_and_its_flags_are_right(name):
    recipe = recipes()[name]
    config = parse_flags(importlib.import_module(recipe["script"]).Config, "", ["--recipe", name])
    for flag in recipe["flags"]:
        assert getattr(config, flag) is not None
    assert recipe["about"]


def test_help_lists_the_recipes_of_the_script(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_files, "RECIPES", tmp_path)
    (tmp_path / "one.toml").write_text('script = "train_mlp_pytorch"\n[flags]\n')
    (tmp_path / "two.toml").write_text('script = "train_convnet_pytorch"\n[flags]\n')
    with pytest.raises(SystemExit):
        run("train_mlp_pytorch", "--help")
    said = capsys.readouterr().out
    assert "one of one" in " ".join(said.split()) and "two" not in said.split("--recipe", 2)[-1].split("--")[0]
    with pytest.raises(SystemExit):
        run("train_mlp_numpy", "--help")  # it has none
    assert "or .json file" in (said := " ".join(capsys.readouterr().out.split())) and "one of" not in said


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_the_command_line_stands_above_the_recipe(suffix, standin, tmp_path):
    path = tmp_path / f"mine{suffix}"
    path.write_text('script = "train_mlp_pytorch"\n[flags]\ndropout = 0.25\nactivation = "tanh"\n' if suffix == ".toml" else
                    json.dumps({"script": "train_mlp_pytorch", "flags": {"dropout": 0.25, "activation": "tanh"}}))
    assert run("train_mlp_pytorch", "--recipe", path, *QUICK, "--activation", "relu", "--data_dir", standin,
               "--output_dir", tmp_path / "run") == 0
    used = json.loads((tmp_path / "run/config.json").read_text())["flags"]
    assert (used["dropout"], used["activation"]) == (0.25, "relu")
    assert run("train_mlp_pytorch", "--resume", tmp_path / "run", "--max_steps", 6) == 0


@pytest.mark.parametrize(("content", "message"), [
    (None, "there is no"), ("script = ", "is not TOML"), ("x = 1", "it is not a recipe"),
    ('script = "train_mlp_numpy"\n[flags]\n', "is for train_mlp_numpy"),
    ('script = "train_mlp_pytorch"\n[flags]\nwidth = 3\n', "a flag 'width'"),
    ('script = "train_mlp_pytorch"\n[flags]\ndropout = 3\n', "--dropout")])
def test_wrong_recipes_are_one_line(content, message, tmp_path, capsys):
    path = tmp_path / "mine.toml"
    if content is not None:
        path.write_text(content)
    assert run("train_mlp_pytorch", "--recipe", path) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_no_recipe_on_resume(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"script": "train_mlp_pytorch", "flags": {}}))
    with pytest.raises(UserError, match="brings its own flags"):
        (tmp_path / "config.json").write_text(json.dumps({"flags": {}}))
        parse_flags(SCRIPTS["train_mlp_pytorch"].Config, "", ["--recipe", str(path), "--resume", str(tmp_path)])
