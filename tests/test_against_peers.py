"""The same gradients as PyTorch and JAX, where they are installed."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tinygrad_bn as tg
from tinygrad_bn import Tensor, compositions, nn

pytestmark = pytest.mark.slow  # importing PyTorch and JAX takes seconds


@pytest.fixture(scope="module")
def jax():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax


# --- One vocabulary for three libraries -----------------------------------------------

OURS = SimpleNamespace(
    exp=tg.exp, log=tg.log, sqrt=tg.sqrt, tanh=tg.tanh, sigmoid=tg.sigmoid,
    relu=tg.relu, absolute=tg.absolute, maximum=tg.maximum, where=tg.where,
    sum=compositions.reduce_sum, mean=compositions.mean,
    var=compositions.var, max=compositions.reduce_max,
    concatenate=tg.concatenate, stack=tg.stack,
)  # fmt: skip


def pytorchs(torch):
    return SimpleNamespace(
        exp=torch.exp, log=torch.log, sqrt=torch.sqrt, tanh=torch.tanh,
        sigmoid=torch.sigmoid, relu=torch.relu, absolute=torch.abs,
        maximum=torch.maximum, where=torch.where,
        sum=torch.sum, mean=torch.mean, max=torch.amax,
        var=lambda x, axis, keepdims: torch.var(
            x, axis, correction=0, keepdim=keepdims
        ),
        concatenate=torch.cat, stack=torch.stack,
    )  # fmt: skip


def jaxs(jax):
    np = jax.numpy
    return SimpleNamespace(
        exp=np.exp, log=np.log, sqrt=np.sqrt, tanh=np.tanh, sigmoid=jax.nn.sigmoid,
        relu=jax.nn.relu, absolute=np.abs, maximum=np.maximum, where=np.where,
        sum=np.sum, mean=np.mean, var=np.var, max=np.max,
        concatenate=np.concatenate, stack=np.stack,
    )  # fmt: skip


# Written so that values stay moderate and away from where functions are undefined.
UNARY = {
    "exp": lambda lib, a: lib.exp(-a * a),
    "log": lambda lib, a: lib.log(a * a + 1),
    "sqrt": lambda lib, a: lib.sqrt(a * a + 0.5),
    "power": lambda lib, a: (a * a + 1) ** -0.5,
    "square": lambda lib, a: lib.tanh(a) ** 2,
    "divide": lambda lib, a: 2 / (a * a + 1),
    "tanh": lambda lib, a: lib.tanh(a),
    "sigmoid": lambda lib, a: 1 - lib.sigmoid(a),
    "relu": lambda lib, a: lib.relu(a),
    "absolute": lambda lib, a: lib.absolute(a),
}
SHAPES = {
    "flat": lambda lib, a: a.reshape(-1),
    "column": lambda lib, a: a.reshape(-1, 1),
    "transposed": lambda lib, a: a.T if a.ndim == 2 else a,
    "rows": lambda lib, a: a[np.array([0, -1, 0])] if a.ndim else a,
    "slice": lambda lib, a: a[..., :2] if a.ndim else a,
    "gram": lambda lib, a: lib.tanh(a) @ a.T if a.ndim == 2 else a,
    "joined": lambda lib, a: lib.concatenate([a, a * a]) if a.ndim else a,
    "stacked": lambda lib, a: lib.stack([a, lib.tanh(a), a], -1) if a.ndim < 2 else a,
}
BINARY = {
    "add": lambda lib, a, b: a + b,
    "subtract": lambda lib, a, b: a - b,
    "multiply": lambda lib, a, b: a * lib.sigmoid(b),
    "divide": lambda lib, a, b: a / (b * b + 1),
    "maximum": lambda lib, a, b: lib.maximum(a, b),
    "where": lambda lib, a, b: lib.where(a > 0, a, b),
}


def reduction(name, axes, keepdims):
    return lambda lib, a: getattr(lib, name)(a, axes, keepdims=keepdims)


@st.composite
def programs(draw):
    """Input arrays, and steps ``(function, operands)``, each of which adds a value."""
    sides = st.sampled_from([(), (1,), (3,), (2, 3), (1, 3), (2, 1), (3, 3)])
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    # Multiples of 1/2, so that ties happen and kinks are hit.
    inputs = [rng.integers(-4, 5, draw(sides)) / 2 for _ in range(3)]
    steps, values = [], list(inputs)
    for _ in range(draw(st.integers(2, 6))):
        i, j = (draw(st.integers(0, len(values) - 1)) for _ in range(2))
        kind = draw(st.sampled_from(["unary", "shape", "binary", "product", "reduce"]))
        a, b = values[i], values[j]
        if kind == "unary":
            step = UNARY[draw(st.sampled_from(sorted(UNARY)))], (i,)
        elif kind == "shape":
            step = SHAPES[draw(st.sampled_from(sorted(SHAPES)))], (i,)
        elif kind == "reduce" and a.ndim:
            name = draw(st.sampled_from(["sum", "mean", "var", "max"]))
            axes = draw(st.sampled_from([(0,), (-1,), tuple(range(a.ndim))]))
            step = reduction(name, axes, draw(st.booleans())), (i,)
        elif kind == "product" and fits(np.matmul, a, b):
            step = (lambda lib, a, b: lib.tanh(a) @ b), (i, j)
        else:
            name = draw(st.sampled_from(sorted(BINARY)))
            step = BINARY[name], (i, j) if fits(np.add, a, b) else (i, i)
        steps.append(step)
        values.append(np.asarray(run_step(OURS, step, values)))
    weights = [rng.standard_normal(v.shape) for v in values]
    return inputs, steps, weights


def fits(function, a, b):
    try:
        return function(a, b).size <= 30
    except ValueError:
        return False


def run_step(lib, step, values):
    function, operands = step
    return function(lib, *(values[i] for i in operands))


def run(lib, steps, weights, inputs):
    """A weighted sum of all values, so that gradients meet wherever a value is used."""
    values = list(inputs)
    for step in steps:
        values.append(run_step(lib, step, values))
    return sum((v * w).sum() for v, w in zip(values, weights))


def assert_close(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        b = b.numpy(force=True) if hasattr(b, "numpy") else np.asarray(b)
        assert a.shape == b.shape
        np.testing.assert_allclose(np.asarray(a), b, rtol=1e-9, atol=1e-9)


@settings(derandomize=True, deadline=None, max_examples=300)
@given(program=programs())
def test_random_programs_have_the_gradients_of_pytorch_to_second_order(torch, program):
    inputs, steps, weights = program
    leaves = [Tensor(x, requires_grad=True) for x in inputs]
    loss = run(OURS, steps, weights, leaves)
    first = tg.grad(loss, leaves, create_graph=True)
    second = tg.grad(sum((d * x).sum() for d, x in zip(first, leaves)), leaves)

    theirs = [torch.tensor(x, requires_grad=True) for x in inputs]
    tensors = [torch.tensor(w) for w in weights]
    their_loss = run(pytorchs(torch), steps, tensors, theirs)
    their_first = torch.autograd.grad(their_loss, theirs, create_graph=True)
    total = sum((d * x).sum() for d, x in zip(their_first, theirs))
    their_second = torch.autograd.grad(total, theirs)
    assert_close(
        [loss, *tg.grad(loss, leaves), *first, *second],
        [their_loss, *their_first, *their_first, *their_second],
    )


@settings(derandomize=True, deadline=None, max_examples=25)
@given(program=programs())
def test_random_programs_have_the_gradients_of_jax(jax, program):
    inputs, steps, weights = program
    leaves = [Tensor(x, requires_grad=True) for x in inputs]
    loss = run(OURS, steps, weights, leaves)
    # Compiling a program as a whole takes a sixth of the time of compiling each step.
    theirs = jax.jit(jax.value_and_grad(lambda xs: run(jaxs(jax), steps, weights, xs)))
    their_loss, their_gradients = theirs(inputs)
    assert_close([loss, *tg.grad(loss, leaves)], [their_loss, *their_gradients])


# --- Batch norm -----------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("momentum", [0.1, 0.6, None])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4, 2)])
def test_batch_norm_is_that_of_pytorch_over_several_steps(
    torch, shape, affine, momentum, fused
):
    rng = np.random.default_rng(0)
    axes = (0,) if len(shape) == 2 else (0, 2, 3)
    ours = nn.BatchNorm(
        3, axes, eps=1e-3, momentum=momentum, affine=affine, fused=fused, dtype=float
    )
    kind = torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d
    theirs = kind(3, eps=1e-3, momentum=momentum, affine=affine, dtype=torch.float64)
    if affine:
        ours.gamma.data, ours.beta.data = rng.normal(size=3), rng.normal(size=3)
        with torch.no_grad():
            theirs.weight.copy_(torch.tensor(ours.gamma.data))
            theirs.bias.copy_(torch.tensor(ours.beta.data))
    for training in (True, True, False, True, False):
        ours.train(training)
        theirs.train(training)
        x, g = 2 * rng.normal(size=shape) + 1, rng.normal(size=shape)
        leaf = Tensor(x, requires_grad=True)
        their_leaf = torch.tensor(x, requires_grad=True)
        y, their_y = ours(leaf), theirs(their_leaf)
        d_ours = tg.grad(y, [leaf, *ours.parameters()], gradient=g)
        d_theirs = torch.autograd.grad(
            their_y, [their_leaf, *theirs.parameters()], torch.tensor(g)
        )
        assert_close([y, *d_ours], [their_y, *d_theirs])
        assert_close(
            [ours.running_mean, ours.running_var],
            [theirs.running_mean, theirs.running_var],
        )
    assert ours.running.updates == theirs.num_batches_tracked == 3


@pytest.mark.parametrize("fused", [False, True])
def test_batch_norm_has_the_second_derivatives_of_pytorch(torch, fused):
    rng = np.random.default_rng(0)
    arrays = rng.normal(size=(6, 3)), np.array([1.5, 0.0, -0.5]), rng.normal(size=3)
    g = rng.normal(size=(6, 3))
    leaves = [Tensor(a, requires_grad=True) for a in arrays]
    bn = tg.fused_batch_norm if fused else tg.batch_norm
    first = tg.grad(bn(*leaves), leaves, gradient=g, create_graph=True)
    second = tg.grad(sum((d**3).sum() for d in first), leaves)

    theirs = [torch.tensor(a, requires_grad=True) for a in arrays]
    x, gamma, beta = theirs
    y = torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True)
    their_first = torch.autograd.grad(y, theirs, torch.tensor(g), create_graph=True)
    total = sum((d**3).sum() for d in their_first)
    their_second = torch.autograd.grad(total, theirs, materialize_grads=True)
    assert_close([*first, *second], [*their_first, *their_second])
