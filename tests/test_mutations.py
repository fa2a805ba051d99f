"""Proof that the gradient tests can fail: each backward formula broken in turn, each time red (mutations.py)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=ENVIRONMENT, text=True, capture_output=True,
                          timeout=580, check=False)


@pytest.mark.slow
def test_every_mutant_is_caught():
    """And the same tests pass, in the same harness, when nothing is broken."""
    done = run("-m", "tests.mutations")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("caught") == len(MUTATIONS)


def test_every_formula_has_a_mutant():
    names = " ".join(m.name for m in MUTATIONS)
    for part in ("linear dW", "linear db", "linear dX", "elu", "relu", "tanh", "sigmoid", "softmax", "cross-entropy",
                 "conv dK", "conv db", "conv dX", "mlp", "layer norm dbeta", "layer norm dgamma", "layer norm dX",
                 "layer norm: unbiased variance", "batch norm dbeta", "batch norm dgamma", "batch norm dX"):
        assert part in names
    assert len({m.name for m in MUTATIONS}) == len(MUTATIONS)
    for mutation in MUTATIONS:
        compile(mutation.source(), mutation.file, "exec")


def test_a_mutation_must_find_its_text():
    with pytest.raises(ValueError, match=r"stands 0 times in modules\.py"):
        Mutation("gone", "modules.py", "no such text", "", ()).source()


def test_the_harness_reports_survivors():
    """Neither a harmless change nor one that merely crashes counts as caught."""
    done = run("-c", "import sys; from tests import mutations as m\n"
               "old, of = 'np.matmul(dout.T, self.x,', 'np.matmul({}, self.{},'\n"
               "m.MUTATIONS[:] = [m.Mutation('harmless', 'modules.py', old, of.format('1 * dout.T', 'x'), m.LINEAR),\n"
               "                  m.Mutation('crash', 'modules.py', old, of.format('dout.T', 'nothing'), m.LINEAR),\n"
               "                  m.Mutation('real', 'modules.py', old, of.format('2 * dout.T', 'x'), m.LINEAR)]\n"
               "sys.exit(m.main([]))")
    assert done.returncode == 1, done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[:3]] == [
        ["SURVIVED", "harmless"], ["SURVIVED", "crash"], ["caught", "real"]]
    assert "3 mutants, 2 survived; without a mutation 0 of 1 tests fail" in done.stdout
