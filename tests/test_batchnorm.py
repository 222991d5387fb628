"""Batch norm: both definitions, what they do to gradients, running statistics."""

import numpy as np
import pytest
from conftest import leaf, nodes_behind, randn

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, ops
from tinygrad_bn.running import RunningStatistics

BOTH = [tg.batch_norm, tg.fused_batch_norm]


def with_constant_channel(x):
    x[:, 1] = 2.0
    return x


# x, axes, gamma
CASES = {
    "N, C": (randn(16, 3), (0,), randn(3, seed=1)),
    "N, C, H, W": (randn(4, 3, 5, 2), (0, 2, 3), randn(3, seed=1)),
    "channels last": (randn(4, 5, 3), (0, 1), randn(3, seed=1)),
    "two axes of channels": (randn(8, 2, 3), (0,), randn(2, 3, seed=1)),
    "axes from the end": (randn(4, 3, 6), (-1, 0), randn(3, seed=1)),
    "gamma with zeros": (randn(16, 3), (0,), np.array([0.0, 1.5, 0.0])),
    "gamma all zero": (randn(16, 3), (0,), np.zeros(3)),
    "m = 2": (randn(2, 3), (0,), randn(3, seed=1)),
    "a constant channel": (
        with_constant_channel(randn(16, 3)),
        (0,),
        randn(3, seed=1),
    ),
}


def to_second_order(bn, x, axes, gamma):
    """The values, the gradients, and the gradients of a random sum of those."""
    leaves = [leaf(x), leaf(gamma), leaf(randn(*gamma.shape, seed=2))]
    g, weights = randn(*x.shape, seed=3), [randn(*t.shape, seed=4) for t in leaves]
    y = bn(*leaves, axes=axes)
    first = tg.grad(y, leaves, gradient=g)
    recorded = tg.grad(y, leaves, gradient=g, create_graph=True)
    total = sum((d * w).sum() for d, w in zip(recorded, weights))
    return [t.data for t in (y, *first, *tg.grad(total, leaves))]


# --- The two definitions --------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_graph_and_fused_agree_in_value_and_in_first_and_second_order(case):
    graph, fused = (to_second_order(bn, *CASES[case]) for bn in BOTH)
    for a, b in zip(graph, fused):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


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


def test_graph_and_fused_agree_in_float64_within_the_rounding_of_a_mean_of_10_000():
    """There the mean is rounded to 2e-12, which only the fused operation corrects."""
    case = 1e4 + randn(256, 3), (0,), randn(3, seed=1)
    graph, fused = (to_second_order(bn, *case) for bn in BOTH)
    for a, b in zip(graph, fused):
        np.testing.assert_allclose(a, b, rtol=0, atol=2e-10)


@pytest.mark.parametrize("bn", BOTH)
@pytest.mark.parametrize("case", CASES)
def test_gradients_are_right_to_second_order(bn, case):
    x, axes, gamma = CASES[case]
    tg.check_gradients(
        lambda x, gamma, beta: bn(x, gamma, beta, axes=axes, eps=0.1),
        *(x, gamma, randn(*gamma.shape, seed=2)),
    )


@pytest.mark.parametrize("bn", BOTH)
def test_gradients_are_right_to_third_order(bn):
    tg.check_gradients(bn, randn(8, 2), randn(2, seed=1), randn(2, seed=2), order=3)


@pytest.mark.parametrize("bn", BOTH)
def test_the_value_is_the_textbook_formula(bn):
    x, gamma, beta = randn(16, 3), randn(3, seed=1), randn(3, seed=2)
    expected = gamma * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5) + beta
    y = bn(x, gamma, beta)
    assert isinstance(y, Tensor)
    np.testing.assert_allclose(y.data, expected, rtol=0, atol=1e-14)
    images = randn(4, 3, 5, 2)
    means = images.mean((0, 2, 3), keepdims=True)
    expected = (images - means) / np.sqrt(images.var((0, 2, 3), keepdims=True) + 0.5)
    y = bn(images, axes=(0, 2, 3), eps=0.5)
    np.testing.assert_allclose(y.data, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("bn", BOTH)
def test_the_gradients_are_those_derived_by_hand(bn):
    x, gamma, beta, g = (
        leaf(randn(16, 3)),
        leaf(randn(3, seed=1)),
        leaf(randn(3, seed=2)),
        randn(16, 3, seed=3),
    )
    d_x, d_gamma, d_beta = tg.grad(bn(x, gamma, beta), [x, gamma, beta], gradient=g)
    inv_std = 1 / np.sqrt(x.data.var(0) + 1e-5)
    x_hat = (x.data - x.data.mean(0)) * inv_std
    expected = gamma.data * inv_std * (g - g.mean(0) - x_hat * (g * x_hat).mean(0))
    np.testing.assert_allclose(d_x.data, expected, rtol=0, atol=1e-13)
    np.testing.assert_allclose(d_gamma.data, (g * x_hat).sum(0), rtol=0, atol=1e-13)
    np.testing.assert_allclose(d_beta.data, g.sum(0), rtol=0, atol=1e-13)


@pytest.mark.parametrize("bn", BOTH)
@pytest.mark.parametrize("given", [(), ("gamma",), ("beta",)])
def test_gamma_and_beta_may_be_left_out(bn, given):
    values = {name: randn(3, seed=1) for name in given}
    x = leaf(randn(16, 3))
    y = bn(x, **{name: leaf(v) for name, v in values.items()})
    x_hat = bn(x.data).data
    expected = x_hat * values.get("gamma", 1) + values.get("beta", 0)
    np.testing.assert_allclose(y.data, expected, rtol=0, atol=1e-14)
    tg.check_gradients(
        lambda x, *rest: bn(x, **dict(zip(values, rest))), x, *values.values()
    )


@pytest.mark.parametrize(
    "bn, tolerance", [(tg.batch_norm, 8e-3), (tg.fused_batch_norm, 1e-5)]
)
def test_float32_data_with_a_large_mean_are_normalized_accurately(bn, tolerance):
    x = (1e4 + randn(256, 64)).astype(np.float32)
    exact = tg.batch_norm(x.astype(np.float64)).data
    x_hat = bn(Tensor(x)).data
    assert x_hat.dtype == np.float32
    assert np.abs(x_hat - exact).max() < tolerance


@pytest.mark.parametrize("bn", BOTH)
def test_float32_stays_float32_to_second_order(bn):
    x, gamma, beta = (
        leaf(v.astype(np.float32)) for v in (randn(8, 3), randn(3), randn(3))
    )
    y = bn(x, gamma, beta)
    d_x = tg.grad((y * y).sum(), x, create_graph=True)
    second = tg.grad((d_x * d_x).sum(), [x, gamma, beta])
    assert {t.dtype for t in (y, d_x, *second)} == {np.dtype(np.float32)}


def test_the_statistics_are_named_tensors_on_the_tape_of_the_definition():
    x = leaf(randn(4, 3, 2), name="x")
    named = {t.name: t for t in tg.tape(tg.batch_norm(x, axes=(0, 2))) if t.name}
    assert {"E[x]", "Var[x]"} <= named.keys()
    mean, var = x.data.mean((0, 2), keepdims=True), x.data.var((0, 2), keepdims=True)
    np.testing.assert_allclose(named["E[x]"].data, mean, rtol=1e-14)
    np.testing.assert_allclose(named["Var[x]"].data, var, rtol=1e-14)


def test_fused_batch_norm_is_one_operation_that_refers_to_its_definition():
    x = leaf(randn(4, 3))
    y = tg.fused_batch_norm(x)
    assert isinstance(y.op, tg.Fused) and tg.tape(y) == [y]
    assert y.op.definition is tg.batch_norm
    again = y.op.unfold(y)
    np.testing.assert_allclose(again.data, y.data, rtol=0, atol=1e-14)
    assert "E[x]" in {t.name for t in tg.tape(again)}


def test_the_fused_operation_computes_only_the_gradients_that_are_needed():
    x, gamma = randn(8, 3), leaf(randn(3))
    y = tg.fused_batch_norm(x, gamma, randn(3))
    assert y.requires_grad
    needs = [False, True, False]
    arrays = [t.data for t in y.inputs]
    g = randn(8, 3, seed=1)
    d_x, d_gamma, d_beta = y.op.backward(g, y.saved, needs, *arrays, **y.params)
    assert d_x is None and d_beta is None and d_gamma.shape == (3,)


# --- Closed under differentiation -----------------------------------------------------


def operations_behind(*tensors):
    return {node.op for node in nodes_behind(*tensors)}


def test_derivatives_of_every_order_use_only_the_primitives_of_batch_norm():
    leaves = [leaf(randn(8, 3)), leaf(randn(3, seed=1)), leaf(randn(3, seed=2))]
    outputs = [tg.batch_norm(*leaves)]
    of_batch_norm = operations_behind(*outputs)
    assert of_batch_norm == {
        *(ops.add, ops.sub, ops.mul, ops.power, ops.sum_to, ops.broadcast_to)
    }
    for order in (1, 2, 3):
        cotangents = [randn(*y.shape, seed=order) for y in outputs]
        gradients = [
            tg.grad(y, leaves, gradient=g, create_graph=True)
            for y, g in zip(outputs, cotangents)
        ]
        outputs = [sum(parts) for parts in zip(*gradients)]
        assert operations_behind(*outputs) <= of_batch_norm


# --- What it does to gradients --------------------------------------------------------


@pytest.mark.parametrize("bn", BOTH)
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_of_x_is_not_zero_but_sums_to_zero_over_the_batch(bn, case):
    x, axes, gamma = CASES[case]
    gamma = np.where(gamma == 0, 1.0, gamma)
    x = leaf(x)
    d_x = tg.grad(bn(x, gamma, axes=axes), x, gradient=randn(*x.shape, seed=1)).data
    sizes = np.abs(d_x).sum(tuple(axes))
    if case != "m = 2":
        assert (sizes > 0.1).all()
    assert (np.abs(d_x.sum(tuple(axes))) < 1e-14 * np.maximum(sizes, 1)).all()


@pytest.mark.parametrize("bn", BOTH)
def test_the_gradient_of_x_is_orthogonal_to_x_hat_as_eps_goes_to_zero(bn):
    """Of the component along x_hat, the share eps / (var + eps) remains."""
    x, gamma, g = leaf(randn(16, 3)), randn(3, seed=1), randn(16, 3, seed=2)
    var = x.data.var(0)
    for eps in (0.0, 1e-5, 0.1, 10.0):
        d_x = tg.grad(bn(x, gamma, eps=eps), x, gradient=g).data
        x_hat = bn(x.data, eps=eps).data
        came = gamma / np.sqrt(var + eps) * (g * x_hat).sum(0)
        left = came * eps / (var + eps)
        np.testing.assert_allclose((d_x * x_hat).sum(0), left, rtol=0, atol=1e-13)


@pytest.mark.parametrize("bn", BOTH)
def test_without_eps_the_backward_pass_is_a_projection_and_a_scale(bn):
    x, g = leaf(randn(16, 1)), randn(16, 1, seed=2)
    d_x = tg.grad(bn(x, eps=0.0), x, gradient=g).data
    removed, _ = np.linalg.qr(np.hstack([np.ones((16, 1)), x.data]))
    expected = (g - removed @ (removed.T @ g)) / x.data.std()
    np.testing.assert_allclose(d_x, expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("bn", BOTH)
def test_neither_shifting_nor_stretching_x_changes_the_output(bn):
    x = randn(16, 3)
    y = bn(x, eps=0.0).data
    np.testing.assert_allclose(bn(x + [1.0, -2.0, 3.0], eps=0.0).data, y, atol=1e-13)
    np.testing.assert_allclose(bn(x * [2.0, 0.5, 9.0], eps=0.0).data, y, atol=1e-13)


@pytest.mark.parametrize("bn", BOTH)
def test_a_batch_of_two_becomes_its_signs_as_eps_goes_to_zero(bn):
    x = randn(2, 5)
    y = bn(x, eps=1e-14).data
    np.testing.assert_allclose(y, np.sign(x - x.mean(0)), rtol=0, atol=1e-10)


# --- A bias in front of batch norm ----------------------------------------------------

U, GAMMA, G = randn(32, 3), randn(3, seed=1), randn(32, 3, seed=2)
B = 0.3 * randn(3, seed=3)
INV_STD = 1 / np.sqrt((U + B).var(0) + 1e-5)
DIRECT = np.abs(GAMMA * INV_STD * G).sum(0)


def bias_gradient(bn, **settings):
    b = leaf(B)
    return tg.grad(bn(U + b, GAMMA, **settings), b, gradient=G).data


@pytest.mark.parametrize("bn", BOTH)
def test_a_bias_in_front_of_batch_norm_gets_no_gradient(bn):
    assert (np.abs(bias_gradient(bn)) < 1e-15 * DIRECT).all()


@pytest.mark.parametrize("bn", BOTH)
def test_a_bias_gets_no_gradient_of_second_order_either(bn):
    b, w = leaf(B), leaf(np.ones(3))
    y = bn((U + b) * w, GAMMA)
    d_w = tg.grad((y * G).sum(), w, create_graph=True)
    assert (np.abs(d_w.data) > 1e-6 * DIRECT).any()
    assert (np.abs(tg.grad(d_w.sum(), b).data) < 1e-13 * DIRECT).all()


@pytest.mark.parametrize("bn", BOTH)
def test_a_bias_in_evaluation_mode_gets_its_direct_gradient(bn):
    mean, var = randn(3, seed=4), np.array([0.5, 1.0, 2.0])
    d_b = bias_gradient(bn, mean=mean, var=var)
    expected = (GAMMA / np.sqrt(var + 1e-5) * G).sum(0)
    np.testing.assert_allclose(d_b, expected, rtol=1e-13)
    assert (np.abs(d_b) > 0.01 * DIRECT).all()


@pytest.mark.parametrize("bn", BOTH)
def test_a_bias_separated_from_batch_norm_by_relu_gets_the_gradient_of_the_active_rows(
    bn,
):
    b, x = leaf(B), leaf(np.maximum(U + B, 0))
    d_b = tg.grad(bn(tg.relu(U + b), GAMMA), b, gradient=G).data
    d_x = tg.grad(bn(x, GAMMA), x, gradient=G).data
    np.testing.assert_allclose(d_b, (d_x * (U + B > 0)).sum(0), rtol=1e-12)
    assert (np.abs(d_b) > 1e-3 * DIRECT).all()


def test_a_bias_gets_its_direct_gradient_if_the_mean_is_treated_as_a_constant():
    expected = (GAMMA * INV_STD * G).sum(0)
    for constants in (("mean",), ("mean", "var")):
        d_b = bias_gradient(tg.batch_norm, constants=constants)
        np.testing.assert_allclose(d_b, expected, rtol=1e-12)
    assert (np.abs(expected) > 0.01 * DIRECT).all()


def test_a_bias_gets_no_gradient_if_only_the_variance_is_treated_as_a_constant():
    d_b = bias_gradient(tg.batch_norm, constants=("var",))
    assert (np.abs(d_b) < 1e-15 * DIRECT).all()


# --- Statistics treated as constants: the mistake on purpose --------------------------


@pytest.mark.parametrize("constants", [("mean",), ("var",), ("mean", "var"), ()])
def test_constants_change_gradients_but_not_values(constants):
    x = leaf(randn(16, 3))
    y = tg.batch_norm(x, constants=constants)
    np.testing.assert_array_equal(y.data, tg.batch_norm(x).data)
    g = randn(16, 3, seed=1)
    inv_std = 1 / np.sqrt(x.data.var(0) + 1e-5)
    expected = g * inv_std
    if "mean" not in constants:
        expected = expected - expected.mean(0)
    if "var" not in constants:
        expected = expected - inv_std * y.data * (g * y.data).mean(0)
    np.testing.assert_allclose(
        tg.grad(y, x, gradient=g).data, expected, rtol=0, atol=1e-13
    )


@pytest.mark.parametrize("eps", [1, np.int64(1), np.float32(1), np.float64(1)])
def test_eps_may_be_any_real_number_and_does_not_change_the_dtype(eps):
    x = randn(8, 3).astype(np.float32)
    y = tg.batch_norm(x, eps=eps)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y.data, tg.batch_norm(x, eps=1.0).data)


@pytest.mark.parametrize("constants", ["mean", ["mean"], iter(["mean"])])
def test_constants_may_be_a_single_name_or_any_iterable(constants):
    y = tg.batch_norm(leaf(randn(8, 3)), constants=constants)
    assert tg.stop_gradient in operations_behind(y)


@pytest.mark.parametrize("constants", [("mean",), ("var",), ("mean", "var")])
def test_treating_statistics_as_constants_gives_wrong_gradients(constants):
    with pytest.raises(AssertionError, match="order 1, input 0 'x'"):
        tg.check_gradients(lambda x: tg.batch_norm(x, constants=constants), randn(8, 3))


def test_a_constant_statistic_is_a_visible_cut():
    x = leaf(randn(8, 3))
    assert tg.stop_gradient in operations_behind(tg.batch_norm(x, constants=("mean",)))


def test_a_module_with_constants_runs_the_definition():
    module = nn.BatchNorm(3, constants=("mean",), dtype=np.float64)
    x = leaf(randn(8, 3))
    y = module(x)
    assert tg.stop_gradient in operations_behind(y)
    expected = tg.batch_norm(x, constants=("mean",))
    np.testing.assert_array_equal(y.data, expected.data)


# --- Evaluation mode ------------------------------------------------------------------


@pytest.mark.parametrize("bn", BOTH)
def test_given_statistics_replace_those_of_the_batch(bn):
    x, mean, var = randn(16, 3), randn(3, seed=1), np.array([0.5, 1.0, 2.0])
    y = bn(x, GAMMA, B, mean=mean, var=var, eps=0.1).data
    expected = GAMMA * (x - mean) / np.sqrt(var + 0.1) + B
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-14)
    images = randn(2, 3, 4, 5)
    y = bn(images, mean=mean, var=var, axes=(0, 2, 3)).data
    mean, var = mean[:, None, None], var[:, None, None]
    np.testing.assert_allclose(y, (images - mean) / np.sqrt(var + 1e-5), atol=1e-13)


@pytest.mark.parametrize("bn", BOTH)
def test_one_given_statistic_leaves_the_other_to_the_batch(bn):
    x, mean, var = randn(16, 3), randn(3, seed=1), np.array([0.5, 1.0, 2.0])
    y = bn(x, mean=mean, eps=0.0).data
    expected = (x - mean) / np.sqrt(((x - mean) ** 2).mean(0))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)
    y = bn(x, var=var, eps=0.0).data
    expected = (x - x.mean(0)) / np.sqrt(var)
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("bn", BOTH)
def test_evaluation_mode_has_gradients_and_accepts_single_rows(bn):
    statistics = {"mean": randn(3, seed=1), "var": np.array([0.5, 1.0, 2.0])}
    for n in (1, 5):
        tg.check_gradients(
            lambda x, gamma, beta: bn(x, gamma, beta, **statistics),
            *(randn(n, 3), GAMMA, B),
        )


def test_evaluation_mode_is_affine_in_x():
    module = nn.BatchNorm(3, dtype=np.float64)
    module(randn(16, 3, seed=5) * 2 + 1)
    module.eval()
    a, b = randn(4, 3, seed=1), randn(4, 3, seed=2)
    between = module(Tensor(0.3 * a + 0.7 * b)).data
    expected = 0.3 * module(Tensor(a)).data + 0.7 * module(Tensor(b)).data
    np.testing.assert_allclose(between, expected, rtol=0, atol=1e-14)


# --- Running statistics ---------------------------------------------------------------


def modules(**settings):
    return [nn.BatchNorm(3, fused=f, dtype=float, **settings) for f in (True, False)]


def test_running_statistics_start_at_mean_zero_and_variance_one():
    module = nn.BatchNorm(3)
    np.testing.assert_array_equal(module.running_mean, [0, 0, 0])
    np.testing.assert_array_equal(module.running_var, [1, 1, 1])
    assert module.running_mean.dtype == module.running_var.dtype == np.float32


@pytest.mark.parametrize("momentum", [0.1, 0.75, 0, 1])
def test_momentum_is_the_weight_of_the_new_batch(momentum):
    first, second = randn(8, 3) + 2, randn(6, 3, seed=1) * 3
    for module in modules(momentum=momentum):
        module(Tensor(first))
        module(Tensor(second))
        mean, var = np.zeros(3), np.ones(3)
        for batch in (first, second):
            mean = (1 - momentum) * mean + momentum * batch.mean(0)
            var = (1 - momentum) * var + momentum * batch.var(0, ddof=1)
        np.testing.assert_allclose(module.running_mean, mean, rtol=0, atol=1e-14)
        np.testing.assert_allclose(module.running_var, var, rtol=0, atol=1e-14)


def test_the_running_variance_is_unbiased_and_the_normalization_is_not():
    x = randn(4, 3)
    for module in modules(momentum=1, eps=0.0):
        y = module(Tensor(x)).data
        np.testing.assert_allclose(y.var(0), np.ones(3), rtol=1e-13)
        np.testing.assert_allclose(module.running_var, x.var(0) * 4 / 3, rtol=1e-13)


def test_without_momentum_the_average_is_cumulative():
    batches = [randn(8, 3, seed=i) + i for i in range(4)]
    for module in modules(momentum=None):
        for batch in batches:
            module(Tensor(batch))
        mean = np.mean([b.mean(0) for b in batches], axis=0)
        var = np.mean([b.var(0, ddof=1) for b in batches], axis=0)
        np.testing.assert_allclose(module.running_mean, mean, rtol=0, atol=1e-14)
        np.testing.assert_allclose(module.running_var, var, rtol=1e-14)
        assert module.running.updates == 4


def test_running_statistics_use_all_axes_that_are_averaged_over():
    x = randn(2, 3, 4, 5)
    for module in modules(momentum=1, axes=(0, 2, 3)):
        module(Tensor(x))
        unbiased = x.var((0, 2, 3)) * 40 / 39
        np.testing.assert_allclose(module.running_mean, x.mean((0, 2, 3)), atol=1e-14)
        np.testing.assert_allclose(module.running_var, unbiased, rtol=1e-13)


def test_running_statistics_approach_those_of_a_constant_batch_geometrically():
    x = randn(8, 3) + 5
    for module in modules(momentum=0.2):
        for _ in range(10):
            module(Tensor(x))
        weight = 1 - 0.8**10
        mean, var = weight * x.mean(0), 1 - weight + weight * x.var(0, ddof=1)
        np.testing.assert_allclose(module.running_mean, mean, rtol=1e-13)
        np.testing.assert_allclose(module.running_var, var, rtol=1e-13)


def test_evaluation_mode_uses_the_running_statistics_and_leaves_them_alone():
    for module in modules():
        module(randn(8, 3) + 1)
        mean, var = module.running_mean.copy(), module.running_var.copy()
        x = randn(4, 3, seed=1)
        y = module.eval()(Tensor(x)).data
        np.testing.assert_allclose(y, (x - mean) / np.sqrt(var + 1e-5), atol=1e-14)
        np.testing.assert_array_equal(module.running_mean, mean)
        np.testing.assert_array_equal(module.running_var, var)
        assert module.running.updates == 1


def test_differentiating_twice_does_not_update_the_running_statistics_again():
    x = leaf(randn(8, 3))
    for module in modules():
        y = module(x)
        mean = module.running_mean.copy()
        d_x = tg.grad((y**3).sum(), x, create_graph=True)
        tg.grad((d_x**2).sum(), x)
        np.testing.assert_array_equal(module.running_mean, mean)
        assert module.running.updates == 1


@pytest.mark.parametrize("bn", BOTH)
@pytest.mark.parametrize("given", ["mean", "var"])
def test_given_statistics_do_not_update_the_running_statistics(bn, given):
    running = RunningStatistics(2, dtype=float)
    x = np.random.default_rng(0).standard_normal((4, 2)) + 3
    bn(x, running=running, **{given: np.full(2, 0.5)})
    assert running.mean.tolist() == [0, 0]
    assert running.var.tolist() == [1, 1]
    assert running.updates == 0


@pytest.mark.parametrize("bn", BOTH)
def test_a_float16_batch_updates_the_running_statistics(bn):
    running = RunningStatistics(1, momentum=0.5)
    bn(Tensor(np.float16([[1], [3]])), running=running)
    assert running.mean.tolist() == [1]  # half of 0 + 2
    assert running.var.tolist() == [1.5]  # half of 1 + 2, the unbiased variance
    assert running.updates == 1


# --- Errors ---------------------------------------------------------------------------

X = Tensor(randn(4, 3), name="x")


ONE_VALUE = (
    "batch_norm: at least two values per channel must be averaged. A single value is "
    "its own mean, so x_hat would be 0 whatever x is. Received 'x'(1, 3) with "
    "axes=(0,). Use a larger batch, or evaluation mode with running statistics."
)
NO_SUCH_AXIS = (
    "axis must name existing axes, each once, but (2,) was received for 'x'(4, 3)."
)
EPS = "batch_norm: eps must be a finite number of at least 0, but {} was received."
ONE_PER_CHANNEL = (
    "batch_norm: {} must have one value per channel, (3,), for 'x'(4, 3) with "
    "axes=(0,), but (4,) was received. Check the axes."
)


@pytest.mark.parametrize("bn", BOTH)
@pytest.mark.parametrize(
    "settings, message",
    [
        ({"eps": -1.0}, EPS.format("-1.0")),
        ({"eps": float("nan")}, EPS.format("nan")),
        ({"eps": 1j}, EPS.format("1j")),
        ({"eps": None}, EPS.format("None")),
        ({"eps": float("inf")}, EPS.format("inf")),
        ({"gamma": np.ones(4)}, ONE_PER_CHANNEL.format("gamma")),
        ({"beta": np.ones(4)}, ONE_PER_CHANNEL.format("beta")),
        ({"mean": np.ones(4), "var": np.ones(3)}, ONE_PER_CHANNEL.format("mean")),
        ({"mean": np.ones(3), "var": np.ones(4)}, ONE_PER_CHANNEL.format("var")),
        ({"axes": (2,)}, NO_SUCH_AXIS),
    ],
)
def test_a_setting_out_of_range_is_an_error(bn, settings, message):
    with pytest.raises(ValueError) as error:
        bn(X, **settings)
    assert str(error.value) == message


@pytest.mark.parametrize("bn", BOTH)
@pytest.mark.parametrize("given", [{}, {"mean": np.ones(3)}, {"var": np.ones(3)}])
def test_one_value_per_channel_is_an_error_that_says_why(bn, given):
    x = Tensor(np.ones((1, 3)), name="x")
    with pytest.raises(ValueError) as error:
        bn(x, **given)
    assert str(error.value) == ONE_VALUE


def test_an_unknown_constant_is_an_error():
    with pytest.raises(ValueError) as error:
        tg.batch_norm(X, constants=("std",))
    assert str(error.value) == (
        "batch_norm: constants may contain 'mean' and 'var', but ['std'] was received."
    )


@pytest.mark.parametrize("momentum", [-0.1, 1.5, float("nan"), "a"])
def test_a_momentum_out_of_range_is_an_error(momentum):
    for make in (nn.BatchNorm, RunningStatistics):
        with pytest.raises(ValueError) as error:
            make(3, momentum=momentum)
        assert str(error.value) == (
            "momentum, the weight of the new batch, must be in [0, 1], or None for the "
            f"average over all batches, but {momentum!r} was received."
        )


@pytest.mark.parametrize("bn", BOTH)
@pytest.mark.parametrize("features", [1, 3])
def test_running_statistics_of_other_channels_are_refused_and_unchanged(bn, features):
    running = RunningStatistics(5)
    with pytest.raises(ValueError) as error:
        bn(Tensor(np.ones((4, features)), name="x"), running=running)
    assert str(error.value) == (
        f"batch_norm: running must have one value per channel, ({features},), for "
        f"'x'(4, {features}) with axes=(0,), but (5,) was received. Check the axes."
    )
    assert (running.updates, *running.mean, *running.var) == (0, *[0] * 5, *[1] * 5)


# --- Inputs of both definitions -------------------------------------------------------


@pytest.mark.parametrize("definition", [tg.batch_norm, tg.fused_batch_norm])
def test_batch_norm_takes_one_gamma_per_channel_in_both_definitions(definition):
    x = Tensor([1.0, 2.0, 4.0])
    np.testing.assert_allclose(
        definition(x, 2.0, 1.0), 2 * definition(x).data + 1, rtol=1e-12
    )
    grid = Tensor(np.arange(24.0).reshape(4, 3, 2) ** 2)
    np.testing.assert_allclose(
        definition(grid, np.ones((3, 2)), np.zeros((1, 3, 2))), definition(grid)
    )
    for gamma in (2.0, np.arange(6.0), np.ones((3, 1))):
        with pytest.raises(ValueError, match=r"gamma must have one value per channel"):
            definition(grid, gamma)


def test_fused_batch_norm_saves_arrays_only_if_backward_can_run():
    x = leaf([[1.0], [2.0]])
    assert tg.fused_batch_norm(x).saved is not None
    with tg.no_grad():
        assert tg.fused_batch_norm(x).saved is None


def test_both_definitions_normalize_integers_in_the_same_way():
    x = Tensor([[1, 2], [3, 5], [4, 4]])
    ours = tg.fused_batch_norm(x).data, tg.batch_norm(x).data
    np.testing.assert_allclose(*ours, atol=1e-14)
