"""docs/quickstart.ipynb, run cell by cell as a notebook server does, inside its repository and beside none."""

import json
import re
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

pytestmark = pytest.mark.training
ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "docs/quickstart.ipynb"


def executed(folder: Path, notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    return NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()


def said(notebook: nbformat.NotebookNode, source: str) -> str:
    """What the cell with `source` in it shows, as text."""
    [cell] = [cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source]
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in cell.outputs)


def test_it_is_kept_without_outputs():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    assert json.loads(NOTEBOOK.read_text())["metadata"]["kernelspec"]["name"] == "python3"  # which Colab has


def test_it_runs_from_top_to_bottom():
    done = executed(NOTEBOOK.parent, nbformat.read(NOTEBOOK, as_version=4))
    checks = re.findall(r"^(\w+) +largest difference \S+ +(\w+)$", said(done, "def check("), re.M)
    assert checks == [("x", "agrees"), ("weight", "agrees"), ("bias", "WRONG")]
    fixed = re.findall(r"^(\w+) +largest difference \S+ +(\w+)$", said(done, "class FixedLinear"), re.M)
    assert fixed == [("x", "agrees"), ("weight", "agrees"), ("bias", "agrees")]
    assert float(re.search(r"'test_accuracy': ([\d.]+)", said(done, "summary = train("))[1]) > 0.3
    [picture] = [output for cell in done.cells for output in cell.get("outputs", []) if "image/png" in output.get("data", {})]
    assert len(picture.data["image/png"]) > 20_000
    assert said(done, "import predict").count(" is taken for ") == 5


def test_it_needs_nothing_that_colab_lacks():
    """Packages beside the project's own: those of the standard library, and what Colab comes with."""
    code = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code")
    imported = {name.split(".")[0] for name in re.findall(r"^(?:import|from) (\S+)", code, re.M)}
    ours = {path.stem for path in ROOT.glob("*.py")}
    assert imported - ours == {"os", "shutil", "subprocess", "pathlib", "numpy", "contextlib", "io", "tempfile", "IPython"}
    assert "pip install" not in code


def test_beside_no_repository_it_asks_for_the_address(tmp_path):
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells = notebook.cells[:3]
    with pytest.raises(CellExecutionError, match="write its address above"):
        executed(tmp_path, notebook)


@pytest.mark.parametrize("chosen, says", [(["practical-1-main/modules.py", "practical-1-main/tests/a/modules.py"], None),
                                          (["other/notes.txt"], "not in what you chose"), ([], "not in what you chose")])
def test_on_colab_it_asks_for_the_zip_file(tmp_path, chosen, says):
    """Colab's upload puts the files that are chosen into the working folder, and returns {name: content}."""
    (tmp_path / "google").mkdir()
    (tmp_path / "google/colab.py").write_text(
        "class files:\n"
        "    def upload():\n"
        "        import zipfile\n"
        f"        for name in {chosen}:\n"
        "            zipfile.ZipFile('my copy.zip', 'a').writestr(name, '')\n"
        f"        return {{'my copy.zip': b''}} if {chosen} else {{}}\n")
    for _ in range(2):  # the second time in a kernel that was restarted: nothing is chosen again
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        notebook.cells = [*notebook.cells[:3], nbformat.v4.new_code_cell("import os; print(os.getcwd())")]
        if says:
            with pytest.raises(CellExecutionError, match=says):
                executed(tmp_path, notebook)
            assert not (tmp_path / "practical-1").exists()
        else:
            assert said(executed(tmp_path, notebook), "getcwd").strip() == str(tmp_path / "practical-1/practical-1-main")
            (tmp_path / "google/colab.py").unlink(missing_ok=True)


def test_beside_no_repository_it_clones_the_one_it_is_given(tmp_path):
    """As on Colab, but from a repository on this disk."""
    there = tmp_path / "there"
    there.mkdir()
    (there / "modules.py").write_text("")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", *command], cwd=there, check=True)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells = notebook.cells[:3]
    notebook.cells[2].source = notebook.cells[2].source.replace('REPOSITORY = ""', f'REPOSITORY = "file://{there}"')
    (tmp_path / "here").mkdir()
    for _ in range(2):  # and again, in a kernel that was restarted
        executed(tmp_path / "here", notebook)
    assert (tmp_path / "here/practical-1/modules.py").exists()
