"""The checks that layer norm and batch norm share; test_layernorm.py and test_batchnorm.py inherit them.

A subclass sets `function`, `autograd_module`, `manual_module`, `axis` (of the statistics) and `reference`, torch's own.
"""

import copy
import pickle
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor
from torch.autograd.functional import hessian, hvp, jacobian, jvp, vhp
from torch.autograd.profiler import profile
from torch.utils.checkpoint import checkpoint

from tests.strategies import norm_shapes, seeds

# One inherited test runs in several classes.
few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
DTYPES = [torch.float64, torch.float32, torch.bfloat16]
SUBSETS = list(product([True, False], repeat=3))[:-1]  # which of input, gamma, beta want a gradient; at least one


def operators(run: Callable[[], Any]) -> list[str]:
    """Names of the operators that `run` calls, those that they call in turn included."""
    with profile() as profiler:
        run()
    return [event.name.removeprefix("aten::") for event in profiler.function_events if event.name.startswith("aten::")]


def draw(shape: tuple[int, int], dtype: torch.dtype = torch.float64, seed: int = 0, parameter_dtype=None, scale=1.0):
    """Input, gamma, beta, each requiring a gradient, and an upstream gradient."""
    generator = torch.Generator().manual_seed(seed)
    x, dy = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    gamma, beta = (torch.randn(shape[1], generator=generator, dtype=torch.float64) for _ in range(2))
    inputs = [(scale * x + scale).to(dtype), gamma.to(parameter_dtype or dtype), beta.to(parameter_dtype or dtype)]
    return [t.requires_grad_() for t in inputs], dy.to(dtype)


def exact(reference: Callable[..., Tensor], inputs: list[Tensor], dy: Tensor) -> list[Tensor]:
    """Value and three gradients of torch's own normalization of the same numbers, in float64."""
    inputs = [t.detach().double().requires_grad_() for t in inputs]
    y = reference(*inputs)
    return [y.detach(), *torch.autograd.grad(y, inputs, dy.double())]


def assert_all_close(name: str, expected: list[Tensor], received: list[Tensor], tolerance: float | None = None) -> None:
    """Value and gradients within the tolerance; by default that of each dtype, in half precision one rounding."""
    __tracebackhide__ = True
    tolerances = {torch.float64: (1e-10, 1e-10), torch.float32: (1e-4, 1e-4), torch.bfloat16: (2**-7.99, 1e-4),
                  torch.float16: (2**-10.99, 1e-4)}
    for what, e, r in zip(("value", "input gradient", "gamma gradient", "beta gradient"), expected, received, strict=True):
        rtol, atol = (tolerance, tolerance) if tolerance else tolerances[r.dtype]
        torch.testing.assert_close(r.detach().double(), e, rtol=rtol, atol=atol,
                                   msg=lambda text, what=what, e=e, r=r: f"{name}, {what}: {text}\n"
                                                                         f"expected:\n{e}\nreceived:\n{r}")


class Checks:
    function: type[torch.autograd.Function]
    autograd_module: type[torch.nn.Module]
    manual_module: type[torch.nn.Module]
    reference: Callable[..., Tensor]
    axis: int
    eps = 1e-5

    def compute(self, inputs: list[Tensor]) -> Tensor:
        """What is under test, as a function of (input, gamma, beta)."""
        return self.function.apply(*inputs, self.eps)


class ValueChecks(Checks):
    """Value and three gradients, for the function and for the modules alike."""

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("shape", [(2, 2), (40, 30), (200, 100)])
    def test_value_and_gradients_against_torch(self, dtype, shape):
        inputs, dy = draw(shape, dtype)
        y = self.compute(inputs)
        assert y.dtype == dtype and y.shape == shape
        received = [y, *torch.autograd.grad(y, inputs, dy)]
        assert [g.dtype for g in received[1:]] == [t.dtype for t in inputs]
        assert_all_close(type(self).__name__, exact(self.reference, inputs, dy), received)

    @few
    @given(shape=norm_shapes, seed=seeds)
    def test_gradcheck(self, shape, seed):
        inputs, _ = draw(shape, seed=seed)
        assert torch.autograd.gradcheck(lambda *t: self.compute(list(t)), inputs)

    @pytest.mark.parametrize("parameter_dtype", [torch.float32, torch.bfloat16])
    def test_bfloat16_input_with_parameters_of_either_dtype(self, parameter_dtype):
        inputs, dy = draw((40, 30), torch.bfloat16, parameter_dtype=parameter_dtype)
        y = self.compute(inputs)
        received = [y, *torch.autograd.grad(y, inputs, dy)]
        assert [t.dtype for t in received] == [torch.bfloat16, torch.bfloat16, parameter_dtype, parameter_dtype]
        assert_all_close(type(self).__name__, exact(self.reference, inputs, dy), received)

    def test_a_large_mean_costs_no_more_than_its_rounding(self):
        """The variance is that of the centered input: E[x²] - E[x]² would be lost at a mean of 10,000."""
        inputs, dy = draw((16, 32), torch.float32)
        with torch.no_grad():
            inputs[0] += 1e4
        y = self.compute(inputs)
        received = [y, *torch.autograd.grad(y, inputs, dy)]
        assert_all_close(type(self).__name__, exact(self.reference, inputs, dy), received, 5e-3)

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_finite_at_1000_and_without_a_variance(self, dtype):
        inputs, dy = draw((6, 8), dtype, scale=1e3)
        y = self.compute(inputs)
        assert all(t.isfinite().all() for t in (y, *torch.autograd.grad(y, inputs, dy)))
        with torch.no_grad():
            inputs[0].fill_(3)
        y = self.compute(inputs)
        torch.testing.assert_close(y, inputs[2].expand(6, 8))
        assert all(t.isfinite().all() for t in torch.autograd.grad(y, inputs, dy))

    @pytest.mark.parametrize("layout", [
        lambda t: t.t().contiguous().t(), lambda t: t.repeat_interleave(2, 1)[:, ::2], lambda t: t[:1].expand(t.shape),
        lambda t: t[:, :1].expand(t.shape), lambda t: t[0, 0].expand(t.shape)],
        ids=["transposed", "strided", "one row", "one column", "one number"])
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_any_memory_layout(self, layout, dtype):
        """Of the input and of the upstream gradient; y.sum() makes an expanded one."""
        (x, gamma, beta), dy = draw((5, 7), dtype)
        x, dy = layout(x.detach()), layout(dy)
        assert not x.is_contiguous() and not dy.is_contiguous()
        results = []
        for laid_out in (lambda t: t, torch.Tensor.contiguous):
            inputs = [laid_out(x).requires_grad_(), gamma, beta]
            y = self.compute(inputs)
            results.append([y, *torch.autograd.grad(y, inputs, laid_out(dy))])
        torch.testing.assert_close(*results)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int32, torch.int64, torch.bool, torch.complex64])
    def test_a_dtype_that_cannot_hold_the_result_is_refused(self, dtype):
        with pytest.raises(TypeError, match=rf"got {dtype}: cast it first, as in input.float\(\)"):
            self.compute([torch.ones((5, 7), dtype=dtype), torch.ones(7), torch.zeros(7)])

    @pytest.mark.parametrize("wanted", SUBSETS)
    def test_checkpointing(self, wanted):
        """Backward gives the same gradients, bit for bit, when it has to run forward a second time."""
        inputs, dy = draw((12, 9))
        inputs = [t.detach().requires_grad_(want) for t, want in zip(inputs, wanted, strict=True)]
        some = [t for t in inputs if t.requires_grad]
        expected = torch.autograd.grad(self.compute(inputs), some, dy)
        checkpoint(lambda *t: self.compute(list(t)), *inputs, use_reentrant=False).backward(dy)
        assert all(torch.equal(t.grad, g) for t, g in zip(some, expected, strict=True))

    def test_arguments_are_left_alone(self):
        inputs, dy = draw((5, 7))
        copies = [t.detach().clone() for t in (*inputs, dy)]
        self.compute(inputs).backward(dy)
        for t, before in zip((*inputs, dy), copies, strict=True):
            assert torch.equal(t.detach(), before)

    @pytest.mark.parametrize("shape", [(6,), (3, 4), (2, 3, 6), (6, 3)])
    def test_another_shape_names_both(self, shape):
        with pytest.raises(ValueError, match=r"\(batch.*, 6\), got \(" + ", ".join(map(str, shape))):
            self.compute([torch.ones(shape), torch.ones(6), torch.zeros(6)])

    def test_none_of_torchs_own_normalization(self):
        inputs, dy = draw((5, 7))
        names = operators(lambda: self.compute(inputs).backward(dy))
        assert "sum" in names and not [n for n in names if "norm" in n and n != "linalg_vector_norm"]


class FunctionChecks(ValueChecks):
    """What the assignment asks of the autograd Function beyond its values."""

    @pytest.mark.parametrize("dtype", DTYPES)
    @pytest.mark.parametrize("wanted", SUBSETS)
    def test_every_subset_of_inputs(self, wanted, dtype):
        """Wanted gradients are those of the full backward; the others are None; no work is done for them."""
        inputs, dy = draw((12, 9), dtype)
        full = torch.autograd.grad(self.compute(inputs), inputs, dy)
        some = [t.detach().clone().requires_grad_(want) for t, want in zip(inputs, wanted, strict=True)]
        y = self.compute(some)
        assert torch.equal(y, self.compute(inputs))
        y.backward(dy)
        for t, gradient, want in zip(some, full, wanted, strict=True):
            assert (t.grad is not None) == want
            if want:
                torch.testing.assert_close(t.grad, gradient)

    @pytest.mark.parametrize("wanted", SUBSETS)
    def test_backward_returns_none_where_nothing_is_wanted(self, wanted):
        inputs, dy = draw((12, 9))
        y = self.compute([t.detach().requires_grad_(want) for t, want in zip(inputs, wanted, strict=True)])
        with torch.no_grad():  # as autograd calls it
            gradients = y.grad_fn.apply(dy)
        assert [g is not None for g in gradients] == [*wanted, False]

    @pytest.mark.parametrize("wanted", SUBSETS)
    def test_saved_tensors(self, wanted):
        """The input itself, mean, reciprocal standard deviation and gamma: no x-hat, and nothing no gradient needs."""
        inputs, _ = draw((12, 9))
        x, gamma, beta = (t.detach().requires_grad_(want) for t, want in zip(inputs, wanted, strict=True))
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
            self.compute([x, gamma, beta])
        statistics = x.shape[1 - self.axis]
        sizes = [t.numel() for t in saved]
        if wanted[0]:
            assert sorted(sizes) == sorted([x.numel(), statistics, statistics, gamma.numel()])
        elif wanted[1]:
            assert sorted(sizes) == sorted([x.numel(), statistics, statistics])
        else:
            assert not saved
        assert all(t.data_ptr() == x.data_ptr() for t in saved if t.numel() == x.numel())
        normalized = (x - x.mean(self.axis, keepdim=True)) / x.std(self.axis, keepdim=True, correction=0)
        assert not any(t.shape == x.shape and torch.allclose(t, normalized, atol=1e-3) for t in saved)

    def test_nothing_else_stays_with_the_graph(self):
        """Nor is a tensor of the input's size put on the context beside save_for_backward."""
        inputs, _ = draw((12, 9))
        assert not [v for v in vars(self.compute(inputs).grad_fn).values() if isinstance(v, Tensor)]

    def test_work_shrinks_with_what_is_wanted(self):
        work = {}
        for wanted in SUBSETS:
            inputs, dy = draw((12, 9))
            y = self.compute([t.detach().requires_grad_(want) for t, want in zip(inputs, wanted, strict=True)])
            with torch.no_grad():  # as autograd calls it
                names = operators(lambda y=y, dy=dy: y.grad_fn.apply(dy))
            work[wanted] = names
        for wanted, names in work.items():
            if not wanted[0]:
                assert names.count("sum") == wanted[1] + wanted[2]
                assert not {"addcmul", "addcmul_"} & set(names), "dL/dX is computed though it is not wanted"
            if not wanted[0] and not wanted[1]:
                assert not {"sub", "mul", "mul_"} & set(names), "X̂ is computed though it is not wanted"
        assert len(work[True, False, False]) <= len(work[True, True, True])

    def test_a_second_derivative_is_refused(self):
        """The stated limit: an error, not a wrong second derivative, whatever it is taken by."""
        (x, gamma, beta), dy = draw((5, 7))

        def loss(x):
            return (self.compute([x, gamma, beta]) * dy).sum()

        def penalty():
            (dx,) = torch.autograd.grad(loss(x), x, create_graph=True)
            dx.square().sum().backward()

        for take in (penalty, lambda: hessian(loss, x), lambda: hvp(loss, x, x), lambda: vhp(loss, x, x),
                     lambda: jvp(lambda x: self.compute([x, gamma, beta]), x, x)):
            with pytest.raises(RuntimeError, match=r"by hand cannot be differentiated again, .*: use Custom(Layer|Batch)NormAutograd$"):
                take()

    def test_compiled_in_one_graph(self):
        inputs, dy = draw((12, 9))
        expected = [y := self.compute(inputs), *torch.autograd.grad(y, inputs, dy)]
        compiled = torch.compile(lambda *t: self.compute(list(t)), fullgraph=True, backend="aot_eager")
        torch.testing.assert_close([y := compiled(*inputs), *torch.autograd.grad(y, inputs, dy)], expected)

    @pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:FutureWarning")  # in PyTorch's own code
    def test_limits_that_the_docstring_states(self):
        """Each is an error that names what is missing, and no wrong number; the module by autograd has no such limit."""
        (x, gamma, beta), dy = draw((5, 7))

        def norm(x):
            return self.compute([x, gamma, beta])

        for transform in (lambda: torch.func.grad(lambda x: norm(x).sum())(x), lambda: torch.func.jacrev(norm)(x),
                          lambda: torch.vmap(norm)(x.expand(3, 5, 7)), lambda: torch.func.jvp(norm, (x,), (x,))):
            with pytest.raises(RuntimeError, match=r"functorch transforms \(vmap, grad, jvp"):
                transform()
        for batched in (lambda: torch.autograd.grad(norm(x), x, dy.expand(3, 5, 7), is_grads_batched=True),
                        lambda: jacobian(norm, x, vectorize=True)):
            with pytest.raises(RuntimeError, match=r"^vmap: "):
                batched()
        with torch.autograd.forward_ad.dual_level(), pytest.raises(NotImplementedError, match="jvp"):
            norm(torch.autograd.forward_ad.make_dual(x, x))
        torch.testing.assert_close(jacobian(norm, x), jacobian(lambda x: self.reference(x, gamma, beta), x))

    @pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
        not torch.cuda.is_available(), reason="no CUDA device"))])
    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("backward_inside", [True, False])
    def test_autocast(self, backward_inside, dtype, device):
        """Half-precision input, float32 parameters, backward inside or outside of the autocast region."""
        inputs, dy = draw((40, 30), dtype, parameter_dtype=torch.float32)
        inputs, dy = [t.detach().to(device).requires_grad_() for t in inputs], dy.to(device)
        with torch.autocast(device, dtype):
            y = self.compute(inputs)
        with torch.autocast(device, dtype, enabled=backward_inside):
            gradients = torch.autograd.grad(y, inputs, dy)
        assert [t.dtype for t in (y, *gradients)] == [dtype, dtype, torch.float32, torch.float32]
        assert_all_close(type(self).__name__, exact(self.reference, inputs, dy), [y, *gradients])


class ModuleChecks(ValueChecks):
    """What a module adds: parameters, their initial values, state, dtype changes."""

    module: type[torch.nn.Module]

    def compute(self, inputs: list[Tensor]) -> Tensor:
        x, gamma, beta = inputs
        return torch.func.functional_call(self.module(len(gamma), self.eps), {"gamma": gamma, "beta": beta}, (x,))

    def test_parameters(self):
        module = self.module(6)
        assert {k: tuple(p.shape) for k, p in module.named_parameters()} == {"gamma": (6,), "beta": (6,)}
        assert list(module.state_dict()) == ["gamma", "beta"] and module.eps == 1e-5
        assert torch.equal(module.gamma, torch.ones(6)) and torch.equal(module.beta, torch.zeros(6))
        assert all(p.requires_grad and p.dtype == torch.float32 for p in module.parameters())

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_the_output_is_normalized(self, dtype):
        y = self.module(40).to(dtype)(draw((30, 40), dtype, scale=7.0)[0][0]).double()
        tolerance = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 1e-2}[dtype]
        assert y.mean(self.axis).abs().max() < tolerance
        assert (y.var(self.axis, correction=0) - 1).abs().max() < tolerance

    def test_eps_is_added_to_the_variance(self):
        inputs, _ = draw((12, 9))
        y = self.module(9, eps=10.0).double()(inputs[0])
        x = inputs[0]
        variance = x.var(self.axis, correction=0, keepdim=True)
        torch.testing.assert_close(y, (x - x.mean(self.axis, keepdim=True)) / (variance + 10).sqrt())

    def test_a_training_step_lowers_the_loss(self):
        inputs, target = draw((12, 9))
        module = self.module(9).double()
        optimizer = torch.optim.SGD(module.parameters(), 0.1)
        losses = []
        for _ in range(20):
            loss = (module(inputs[0].detach()) - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert all(b < a for a, b in pairwise(losses))

    def test_training_and_evaluation_are_the_same(self):
        inputs, _ = draw((12, 9))
        module = self.module(9).double()
        torch.testing.assert_close(module.train()(inputs[0]), module.eval()(inputs[0]))
        assert not list(module.buffers())


    def test_compiled_in_one_graph(self):
        inputs, dy = draw((12, 9))
        module = self.module(9).double()
        wanted = [inputs[0], *module.parameters()]
        expected = [y := module(inputs[0]), *torch.autograd.grad(y, wanted, dy)]
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close([y := compiled(inputs[0]), *torch.autograd.grad(y, wanted, dy)], expected)

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))],
                             ids=["deepcopy", "pickle"])
    def test_a_copy_is_a_module_of_its_own(self, copied):
        inputs, dy = draw((12, 9))
        module = self.module(9, eps=0.5).double()
        with torch.no_grad():
            module.gamma.copy_(inputs[1])
        module(inputs[0]).backward(dy)
        other = copied(module)
        assert torch.equal(other(inputs[0]), module(inputs[0]))
        other.zero_grad()
        other(inputs[0]).backward(2 * dy)
        torch.testing.assert_close(other.gamma.grad, 2 * module.gamma.grad)
        assert repr(other) == repr(module)


class ManualModuleChecks(ModuleChecks):
    def test_exported_it_runs_forward(self):
        """A limit that the docstring states: what torch.export makes of it has no derivative."""
        inputs, _ = draw((12, 9))
        module = self.module(9).double()
        exported = torch.export.export(module, (inputs[0].detach(),)).module()
        with torch.no_grad():
            torch.testing.assert_close(exported(inputs[0]), module(inputs[0]))
        with pytest.raises(RuntimeError, match="automatic differentiation"):
            exported(inputs[0])

    def test_it_calls_the_function(self):
        inputs, _ = draw((12, 9), torch.float32)
        function = self.module(9)(inputs[0]).grad_fn  # whose name() PyTorch 2.10 refuses
        assert type(function).__name__ == f"{self.function.__name__}Backward"


class AutogradModuleChecks(ModuleChecks):
    @settings(few, max_examples=4)
    @given(shape=norm_shapes, seed=seeds)
    def test_gradgradcheck(self, shape, seed):
        inputs, _ = draw(shape, seed=seed)
        assert torch.autograd.gradgradcheck(lambda *t: self.compute(list(t)), inputs)
