"""Details: each of these tests notices a small change of the code that no other does.

``tools/mutate.py`` makes such changes.
"""

import copy

import numpy as np
import pytest

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim
from tinygrad_bn.batchnorm import RunningStatistics
from tinygrad_bn.clock import Clock


def leaf(values, **options):
    return Tensor(values, requires_grad=True, **options)


# --- The tape and the backward pass ---------------------------------------------------


@pytest.mark.parametrize("timestamp", [10, 11])
def test_the_clock_passes_by_a_timestamp_and_never_goes_back(timestamp):
    clock = Clock()
    clock.pass_by(timestamp)
    assert clock.tick() == timestamp + 1
    clock.pass_by(5)
    assert clock.tick() > timestamp + 1


def test_a_copied_output_stays_read_only():
    y = tg.exp(leaf([0.0]))
    for duplicate in copy.copy(y), copy.deepcopy(y):
        assert not duplicate.data.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            duplicate.data[0] = 5
    x = copy.deepcopy(leaf([1.0]))
    x.data[0] = 5  # A leaf's array can be written to.
    assert x.item() == 5


@pytest.mark.parametrize(("y", "wrt"), [(3.0, leaf([1.0])), (leaf([1.0]) * 2, None)])
def test_grad_demands_a_tensor_and_something_to_differentiate_by(y, wrt):
    with pytest.raises(TypeError, match="y must be a tensor and wrt one or several"):
        tg.grad(y, wrt)


def sum_of(*inputs):
    return sum(inputs)


@pytest.mark.parametrize("returned", [1, 3])
def test_a_fused_backward_must_return_one_gradient_per_input(returned):
    add = tg.Fused(
        "add", lambda a, b: (a + b, None), lambda g, *_: [g] * returned, sum_of
    )
    y = add(leaf([1.0]), leaf([2.0]))
    with pytest.raises(ValueError, match=f"for 2 inputs it returned {returned}"):
        y.backward()


def test_the_documentation_of_an_operation_is_its_own_or_that_of_its_class():
    assert tg.exp.__doc__ == "``e^x``, elementwise."
    assert tg.Primitive("p", np.exp).__doc__ == tg.Primitive.__doc__


def test_a_fused_operation_may_have_many_inputs():
    # Python has a single object for each number up to 256, and `is` compares objects.
    add = tg.Fused(
        "add",
        lambda *inputs: (sum(inputs), None),
        lambda g, saved, needs, *inputs: [g] * len(inputs),
        sum_of,
    )
    inputs = [leaf([1.0]) for _ in range(300)]
    add(*inputs).backward()
    assert all(x.grad.tolist() == [1] for x in inputs)


# --- Operations -----------------------------------------------------------------------


def test_the_maximum_over_one_axis_leaves_another_long_one_alone():
    values = np.random.default_rng(0).standard_normal((300, 2))
    x = leaf(values)
    y = x.max(axis=1)
    np.testing.assert_array_equal(y.data, values.max(axis=1))
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, values == values.max(1, keepdims=True))


def test_a_power_of_zero_to_the_zero_has_finite_derivatives_of_second_order():
    x, n = leaf(0.0), leaf(0.0)
    (slope,) = tg.grad(x**n, [x], create_graph=True)
    assert slope.item() == 0
    assert tg.grad(slope, n).item() == 1


@pytest.mark.parametrize("axis", [None, 0])
def test_the_mean_of_nothing_is_not_a_number(axis):
    y = Tensor(np.zeros((0, 2))).mean(axis)
    assert np.isnan(y.data).all()
    assert y.shape == np.zeros((0, 2)).sum(axis).shape


def test_relu_of_booleans_counts():
    y = tg.relu(Tensor([True, False]))
    assert (y.dtype, y.data.tolist()) == (np.dtype(int), [1, 0])
    assert tg.relu(np.array([True])).dtype == int


# --- Batch normalization --------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((5,), (0,)),
        ((4, 3), (0,)),
        ((4, 3), (1,)),
        ((4, 3), (0, 1)),
        ((3, 4, 2), (0, 2)),
    ],
)
def test_the_fused_operation_agrees_with_its_definition_for_any_axes(shape, axes):
    rng = np.random.default_rng(0)
    channels = tuple(n for i, n in enumerate(shape) if i not in axes)
    values = rng.standard_normal(shape), rng.standard_normal((2, *channels))
    g = rng.standard_normal(shape)
    found = []
    for function in tg.batch_norm, tg.fused_batch_norm:
        x, gamma, beta = leaf(values[0]), leaf(values[1][0]), leaf(values[1][1])
        y = function(x, gamma, beta, axes=axes)
        y.backward(g)
        assert y.shape == shape
        found.append([y.data, x.grad, gamma.grad, beta.grad])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("function", [tg.batch_norm, tg.fused_batch_norm])
@pytest.mark.parametrize("eps", [np.inf, np.nan, -1e-5])
def test_eps_must_be_finite_and_not_negative(function, eps):
    with pytest.raises(ValueError, match="eps must be finite and at least 0"):
        function(np.ones((4, 2)), eps=eps)


@pytest.mark.parametrize("function", [tg.batch_norm, tg.fused_batch_norm])
@pytest.mark.parametrize("given", ["mean", "var"])
def test_given_statistics_are_not_those_of_a_batch(function, given):
    running = RunningStatistics(2, dtype=float)
    x = np.random.default_rng(0).standard_normal((4, 2)) + 3
    function(x, running=running, **{given: np.full(2, 0.5)})
    assert running.mean.tolist() == [0, 0]
    assert running.var.tolist() == [1, 1]
    assert running.updates == 0


@pytest.mark.parametrize("function", [tg.batch_norm, tg.fused_batch_norm])
def test_a_batch_of_half_precision_is_counted_in_the_running_statistics(function):
    running = RunningStatistics(1, momentum=0.5)
    function(Tensor(np.float16([[1], [3]])), running=running)
    assert running.mean.tolist() == [1]  # half of 0 + 2
    assert running.var.tolist() == [1.5]  # half of 1 + 2, the unbiased variance
    assert running.updates == 1


# --- Optimizers and state -------------------------------------------------------------


def test_a_gradient_of_another_shape_is_refused_before_a_step_could_use_it():
    p = leaf(np.zeros((2, 3)), name="p")
    for wrong in np.ones(3), np.ones(()), np.ones((3, 2)):
        with pytest.raises(ValueError, match=r"'p'\(2, 3\) received one of"):
            p.grad = wrong
    assert p.grad is None


@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda p: optim.SGD(p, 0.1, 0.9), "velocity"), (optim.Adam, "sum_gg")],
)
def test_the_state_of_an_optimizer_must_have_the_right_shapes(make, name):
    optimizer = make([leaf([1.0, 2.0])])
    before = optimizer.state_dict()
    for wrong in np.ones(1), np.ones(3), np.ones(()):
        with pytest.raises(ValueError, match="Nothing was loaded"):
            optimizer.load_state_dict(before | {name: wrong, "lr": 5.0})
    np.testing.assert_equal(optimizer.state_dict(), before)


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones((3, 2)),
        np.ones(3),
        np.ones((2, 3), np.float32),
        np.ma.masked_array(np.ones((2, 3)), mask=np.eye(2, 3)),
        [*np.ma.masked_array(np.ones((2, 3)), mask=np.eye(2, 3))],
    ],
)
def test_the_state_of_a_module_must_have_the_right_shapes_and_dtypes(wrong):
    module = nn.Linear(2, 3, dtype=float)
    before = module.state_dict()
    expected = r"weight: expected (\(2, 3\) float64|an array without a mask)"
    with pytest.raises(ValueError, match=expected):
        module.load_state_dict(before | {"weight": wrong, "bias": np.ones(3)})
    np.testing.assert_equal(module.state_dict(), before)


@pytest.mark.parametrize("momentum", [-0.5, 1.5, np.nan])
def test_momentum_outside_0_to_1_is_refused(momentum):
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\]"):
        optim.SGD([leaf([1.0])], 0.1, momentum)
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        RunningStatistics(2, momentum)


@pytest.mark.parametrize("beta", [-0.5, 1.0, np.nan])
@pytest.mark.parametrize("i", [0, 1])
def test_betas_outside_0_to_1_are_refused(beta, i):
    betas = [0.5, 0.5]
    betas[i] = beta
    with pytest.raises(ValueError, match=r"betas must be two numbers in \[0, 1\)"):
        optim.Adam([leaf([1.0])], betas=betas)
    optim.Adam([leaf([1.0])], betas=(0, 0))


# --- Routes ---------------------------------------------------------------------------


def test_only_a_route_that_is_zero_is_said_to_be_so_because_its_rows_sum_to_zero():
    b = leaf(np.zeros(2), name="b")
    c = np.array([[1.0, 2.0], [-1.0, -2.0]])
    nothing = tg.explain(((np.ones((2, 2)) + b) * c).sum(), b)
    assert "because its rows sum to 0" in str(nothing)
    something = tg.explain(((np.ones((2, 2)) + b) * c).sum() + b.sum(), b)
    assert "because its rows sum to 0" not in str(something)
    assert [route.gradient.tolist() for route in something] == [[1, 1]]
