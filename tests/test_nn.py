"""Modules, losses, initializations: values, derivatives, names, states and errors."""

import collections
import contextlib
import math
import operator
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
from conftest import random_leaf

import tinygrad_bn as tg
from tinygrad_bn import Tensor, functional, init, nn
from tinygrad_bn.scopes import this_thread


def assert_equal_to_second_order(rng, function, definition, *inputs):
    """Compare values, gradients, recorded gradients, and the gradients of those."""
    g = random_leaf(rng, *function(*inputs).shape)
    directions = [rng.standard_normal(x.shape) for x in inputs]
    outcomes = []
    for f in (function, definition):
        y = f(*inputs)
        first = tg.grad(y, inputs, gradient=g)
        recorded = tg.grad(y, inputs, gradient=g, create_graph=True)
        projection = sum((d_x * v).sum() for d_x, v in zip(recorded, directions))
        second = tg.grad(projection, [*inputs, g])
        assert all(np.any(d.data) for d in (*first, second[0], second[-1]))
        outcomes.append([y, *first, *recorded, *second])
    for ours, theirs in zip(*outcomes, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12)


# --- Linear ---------------------------------------------------------------------------

X_SHAPES = [(7, 4), (1, 4), (4,), (2, 3, 4)]


@pytest.mark.parametrize("shape", X_SHAPES)
def test_linear_is_x_times_weight_plus_bias(rng, shape):
    layer = nn.Linear(4, 5, rng=rng, dtype=float)
    layer.bias.data = rng.standard_normal(5)
    x = rng.standard_normal(shape)
    y = layer(Tensor(x))
    assert y.shape == (*shape[:-1], 5)
    expected = np.einsum("...i,io->...o", x, layer.weight.data) + layer.bias.data
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-14)


def test_linear_accepts_arrays_and_lists_as_data(rng):
    layer, x = nn.Linear(2, 3, rng=rng, dtype=float), [[1.0, 2.0], [3.0, 4.0]]
    for data in (x, np.array(x)):
        y = layer(data)
        np.testing.assert_array_equal(y, layer(Tensor(x)))
        y.sum().backward()
        np.testing.assert_array_equal(layer.weight.grad, [[4.0] * 3, [6.0] * 3])
        layer.zero_grad()


def test_linear_without_bias_is_a_product(rng):
    layer = nn.Linear(4, 5, bias=False, rng=rng, dtype=float)
    x = rng.standard_normal((7, 4))
    assert layer.bias is None
    assert layer.parameters() == [layer.weight]
    np.testing.assert_array_equal(layer(Tensor(x)), x @ layer.weight.data)


@pytest.mark.parametrize("function", [functional.fused_linear, functional.linear])
@pytest.mark.parametrize("shape", X_SHAPES)
def test_the_gradients_of_linear_are_products_with_the_cotangent(rng, function, shape):
    x, weight, bias = (
        random_leaf(rng, *shape),
        random_leaf(rng, 4, 5),
        random_leaf(rng, 5),
    )
    g = rng.standard_normal((*shape[:-1], 5))
    d_x, d_weight, d_bias = tg.grad(function(x, weight, bias), [x, weight, bias], g)
    rows, g_rows = x.data.reshape(-1, 4), g.reshape(-1, 5)
    np.testing.assert_allclose(d_x, (g_rows @ weight.data.T).reshape(shape))
    np.testing.assert_allclose(d_weight, rows.T @ g_rows)
    np.testing.assert_allclose(d_bias, g_rows.sum(0))


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("shape", X_SHAPES)
def test_fused_linear_agrees_with_its_definition(rng, shape, biased):
    inputs = [random_leaf(rng, *shape), random_leaf(rng, 4, 5), random_leaf(rng, 5)][
        : 2 + biased
    ]
    bias = [] if biased else [None]
    assert_equal_to_second_order(
        rng,
        lambda *given: functional.fused_linear(*given, *bias),
        functional.linear,
        *inputs,
    )


def test_linear_computes_no_gradient_of_its_data(rng, monkeypatch):
    asked, backward = [], functional.fused_linear.backward

    def listening(g, saved, needs, *inputs):
        asked.append(needs)
        return backward(g, saved, needs, *inputs)

    monkeypatch.setattr(functional.fused_linear, "backward", listening)
    layer = nn.Linear(4, 5, rng=rng)
    layer(Tensor(rng.standard_normal((7, 4)))).sum().backward()
    assert asked == [[False, True, True]]


# --- Losses ---------------------------------------------------------------------------

LABELS = np.array([2, 0, 1, 2, 2])


def softmax(z):
    p = np.exp(z - z.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def cross_entropy_of_labels(logits):
    return nn.cross_entropy(logits, LABELS)


def definition_for_labels(logits):
    return functional.softmax_cross_entropy(logits, LABELS)


BOTH = pytest.mark.parametrize("loss", [cross_entropy_of_labels, definition_for_labels])


@BOTH
def test_cross_entropy_is_the_mean_of_minus_log_softmax_at_the_labels(rng, loss):
    logits = random_leaf(rng, 5, 3)
    expected = -np.log(softmax(logits.data)[range(5), LABELS]).mean()
    assert loss(logits).shape == ()
    assert loss(logits).item() == pytest.approx(expected, rel=1e-14)


@BOTH
def test_the_gradient_of_cross_entropy_is_softmax_minus_one_hot(rng, loss):
    logits = random_leaf(rng, 5, 3)
    expected = 1.7 * (softmax(logits.data) - np.eye(3)[LABELS]) / 5
    actual = tg.grad(loss(logits), logits, gradient=1.7)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-15)


@BOTH
def test_the_second_derivative_of_cross_entropy_is_that_of_softmax(rng, loss):
    logits, v = random_leaf(rng, 5, 3), rng.standard_normal((5, 3))
    p = softmax(logits.data)
    expected = p * (v - (p * v).sum(axis=1, keepdims=True)) / 5
    first = tg.grad(loss(logits), logits, create_graph=True)
    actual = tg.grad((first * v).sum(), logits)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-15)


def test_fused_cross_entropy_agrees_with_its_definition(rng):
    assert_equal_to_second_order(
        rng, cross_entropy_of_labels, definition_for_labels, random_leaf(rng, 5, 3)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "function", [nn.cross_entropy, functional.softmax_cross_entropy]
)
def test_large_logits_do_not_overflow(function, dtype):
    logits = Tensor([[1e4, 0], [0, -1e4]], requires_grad=True, dtype=dtype)
    loss = function(logits, np.array([0, 1]))
    assert loss.item() == 5000
    assert tg.grad(loss, logits).data.tolist() == [[0, 0], [0.5, -0.5]]


@BOTH
def test_cross_entropy_of_equal_logits_is_log_c(loss):
    assert loss(Tensor(np.full((5, 3), 7.0))).item() == pytest.approx(math.log(3))


@BOTH
def test_cross_entropy_keeps_float32(rng, loss):
    logits = random_leaf(rng, 5, 3, dtype=np.float32)
    first = tg.grad(loss(logits), logits, create_graph=True)
    second = tg.grad((first * first).sum(), logits)
    loss(logits).backward()
    for array in (loss(logits), first, second, logits.grad):
        assert array.dtype == np.float32


@pytest.mark.parametrize("kind", [list, Tensor, np.uint8, np.int32])
def test_labels_may_be_any_integers(rng, kind):
    logits = random_leaf(rng, 5, 3)
    labels = LABELS.astype(kind) if issubclass(kind, np.integer) else kind(LABELS)
    assert float(nn.cross_entropy(logits, labels)) == float(
        cross_entropy_of_labels(logits)
    )


def test_labels_that_change_after_the_forward_pass_change_no_gradient(rng):
    logits, labels = random_leaf(rng, 5, 3), LABELS.copy()
    loss = nn.cross_entropy(logits, labels)
    labels[:] = 0
    expected = (softmax(logits.data) - np.eye(3)[LABELS]) / 5
    np.testing.assert_allclose(tg.grad(loss, logits), expected, rtol=0, atol=1e-15)


def test_zero_grad_of_a_module_clears_frozen_parameters_too():
    layer = nn.Linear(2, 3)
    layer(np.ones((1, 2), np.float32)).sum().backward()
    layer.weight.requires_grad = False
    layer.zero_grad()
    assert layer.weight.grad is None and layer.bias.grad is None


def test_a_bias_that_does_not_fit_is_not_blamed_on_the_input():
    layer = nn.Linear(2, 3)
    layer.bias = Tensor(np.zeros(4, np.float32), requires_grad=True)
    with pytest.raises(ValueError, match=r"linear: .*must fit together"):
        layer(np.zeros((5, 2), np.float32))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int64])
def test_mse_loss_of_integers_does_not_wrap_around(dtype):
    assert nn.mse_loss(np.array([10], dtype), np.array([127], dtype)).item() == 117**2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mse_loss_is_the_mean_of_squared_differences(rng, dtype):
    prediction = random_leaf(rng, 4, 3, dtype=dtype)
    target = rng.standard_normal((4, 3)).astype(dtype)
    loss = nn.mse_loss(prediction, target)
    gradient = tg.grad(loss, prediction)
    difference = prediction.data - target
    np.testing.assert_allclose(loss.data, (difference**2).mean(), rtol=1e-6)
    np.testing.assert_allclose(gradient, difference / 6, rtol=1e-6)
    assert loss.dtype == gradient.dtype == dtype


# --- BatchNorm ------------------------------------------------------------------------

BATCHES = pytest.mark.parametrize(
    ("shape", "axes"),
    [((8, 3), (0,)), ((2, 3), (0,)), ((4, 3, 2, 5), (0, 2, 3)), ((4, 5, 3), (0, 1))],
)
FUSED = pytest.mark.parametrize("fused", [True, False])


def normalized(x, axes, eps=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


def batch_norm_layer(rng, **settings):
    """A layer of three channels whose gamma and beta are random, in float64."""
    layer = nn.BatchNorm(3, dtype=float, **settings)
    layer.gamma.data, layer.beta.data = rng.standard_normal((2, 3))
    return layer


@BATCHES
@FUSED
def test_batch_norm_normalizes_by_the_batch_while_training(rng, shape, axes, fused):
    layer = batch_norm_layer(rng, axes=axes, fused=fused)
    x = rng.standard_normal(shape) * 3 + 2
    gamma, beta = (np.expand_dims(p.data, axes) for p in (layer.gamma, layer.beta))
    expected = gamma * normalized(x, axes) + beta
    np.testing.assert_allclose(layer(Tensor(x)), expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(layer.running_mean, 0.1 * x.mean(axes))
    np.testing.assert_allclose(layer.running_var, 0.9 + 0.1 * x.var(axes, ddof=1))


@BATCHES
@FUSED
def test_batch_norm_normalizes_by_running_statistics_in_evaluation(
    rng, shape, axes, fused
):
    layer = batch_norm_layer(rng, axes=axes, fused=fused)
    layer(Tensor(rng.standard_normal(shape) * 3 + 2))
    mean, var = layer.running_mean.copy(), layer.running_var.copy()
    x = random_leaf(rng, *shape)
    y = layer.eval()(x)

    slope = np.expand_dims(layer.gamma.data / np.sqrt(var + 1e-5), axes)
    shift = np.expand_dims(layer.beta.data, axes)
    expected = slope * (x.data - np.expand_dims(mean, axes)) + shift
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-12)
    g = rng.standard_normal(shape)
    np.testing.assert_allclose(tg.grad(y, x, gradient=g), slope * g)
    np.testing.assert_array_equal(layer.running_mean, mean)
    np.testing.assert_array_equal(layer.running_var, var)


@BATCHES
def test_fused_and_composed_batch_norm_layers_agree(rng, shape, axes):
    fused = batch_norm_layer(rng, axes=axes)
    composed = nn.BatchNorm(3, axes=axes, fused=False, dtype=float)
    composed.gamma, composed.beta = fused.gamma, fused.beta
    inputs = random_leaf(rng, *shape), fused.gamma, fused.beta
    assert_equal_to_second_order(
        rng, lambda x, *_: fused(x), lambda x, *_: composed(x), *inputs
    )
    assert fused(inputs[0]).op.name == "batch_norm"
    assert composed(inputs[0]).op.name == "add"


@FUSED
def test_differentiating_twice_counts_a_batch_once(rng, fused):
    layer = batch_norm_layer(rng, fused=fused, momentum=None)
    x = random_leaf(rng, 6, 3)
    d_x = tg.grad(layer(x), x, rng.standard_normal((6, 3)), create_graph=True)
    tg.grad((d_x * d_x).sum(), x)
    assert layer.state_dict()["updates"] == 1
    np.testing.assert_allclose(layer.running_mean, x.data.mean(0))


@FUSED
@pytest.mark.parametrize(
    ("momentum", "weights"),
    [
        (0.1, [0.09, 0.1]),
        (np.float64(0.25), [0.1875, 0.25]),
        (0, [0, 0]),
        (1, [0, 1]),
        (None, [0.5, 0.5]),
    ],
)
def test_momentum_weighs_the_new_batch(rng, fused, momentum, weights):
    layer = nn.BatchNorm(3, momentum=momentum, fused=fused, dtype=float)
    batches = rng.standard_normal((2, 6, 3)) + 5
    for batch in batches:
        layer(Tensor(batch))
    of_start = 1 - sum(weights)
    mean = weights @ batches.mean(1)
    var = of_start + weights @ batches.var(1, ddof=1)
    np.testing.assert_allclose(layer.running_mean, mean, rtol=1e-13)
    np.testing.assert_allclose(layer.running_var, var, rtol=1e-13)


@pytest.mark.parametrize("constants", [(), ("mean",), ("var",), ("mean", "var")])
def test_constants_cut_their_term_out_of_the_gradient(rng, constants):
    layer = batch_norm_layer(rng, constants=constants)
    x, g = random_leaf(rng, 6, 3), rng.standard_normal((6, 3))
    x_hat = normalized(x.data, 0)
    inv_std = 1 / np.sqrt(x.data.var(0) + 1e-5)
    y = layer(x)
    np.testing.assert_allclose(y, layer.gamma.data * x_hat + layer.beta.data)

    through_mean = 0 if "mean" in constants else g.mean(0)
    through_var = 0 if "var" in constants else x_hat * (g * x_hat).mean(0)
    expected = layer.gamma.data * inv_std * (g - through_mean - through_var)
    actual = tg.grad(y, x, gradient=g)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


@FUSED
def test_batch_norm_without_affine_has_no_parameters(rng, fused):
    layer = nn.BatchNorm(3, affine=False, fused=fused, dtype=float)
    x = rng.standard_normal((6, 3))
    assert layer.gamma is layer.beta is None
    assert layer.parameters() == []
    assert list(layer.state_dict()) == ["running_mean", "running_var", "updates"]
    np.testing.assert_allclose(layer(Tensor(x)), normalized(x, 0), rtol=0, atol=1e-12)


@FUSED
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_keeps_float32(rng, fused, training):
    layer = nn.BatchNorm(3, fused=fused).train(training)
    x = random_leaf(rng, 6, 3, dtype=np.float32)
    y = layer(x)
    gradients = tg.grad(y, [x, layer.gamma, layer.beta], gradient=np.ones((6, 3)))
    for array in (y, *gradients, layer.running_mean, layer.running_var):
        assert array.dtype == np.float32


@FUSED
def test_a_refused_batch_does_not_change_the_running_statistics(rng, fused):
    layer = nn.BatchNorm(3, fused=fused, momentum=None)
    before = layer.state_dict()
    with pytest.raises(ValueError, match="at least two values per channel"):
        layer(random_leaf(rng, 1, 3))
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_a_single_row_is_accepted_in_evaluation(rng):
    x = rng.standard_normal((1, 3))
    y = nn.BatchNorm(3, dtype=float).eval()(Tensor(x))
    np.testing.assert_allclose(y, x / np.sqrt(1 + 1e-5))


# --- Modules --------------------------------------------------------------------------


class Branches(nn.Module):
    """A module with parameters of its own, a list, a tuple and a module inside."""

    def __init__(self, rng):
        self.scale = random_leaf(rng, 3)
        self.paths = [nn.Linear(3, 2, rng=rng), nn.Linear(3, 2, bias=False, rng=rng)]
        self.offsets = (random_leaf(rng, 2), random_leaf(rng, 2))
        self.last = nn.Sequential(nn.ReLU(), nn.BatchNorm(2))
        self.width = 3

    def forward(self, x):
        first, second = (path(x * self.scale) for path in self.paths)
        return self.last(first + self.offsets[0]) * (second + self.offsets[1])


def test_parameters_come_in_order_of_assignment_under_qualified_names(rng):
    model = Branches(rng)
    named = dict(model.named_parameters())
    assert list(named) == [
        "scale",
        "paths.0.weight",
        "paths.0.bias",
        "paths.1.weight",
        "offsets.0",
        "offsets.1",
        "last.1.gamma",
        "last.1.beta",
    ]
    assert model.parameters() == list(named.values())
    assert named["paths.1.weight"] is model.paths[1].weight
    assert list(dict(model.last.named_parameters())) == ["1.gamma", "1.beta"]


def test_parameters_are_named_by_their_path_from_the_module_that_is_asked(rng):
    layer = nn.Linear(3, 2, rng=rng)
    inner = nn.Sequential(nn.ReLU(), layer)
    outer = nn.Sequential(inner)
    for module, place in [(layer, ""), (inner, "1."), (outer, "0.1.")]:
        names = [name for name, _ in module.named_parameters()]
        assert names == [f"{place}weight", f"{place}bias"]
    layer.weight = random_leaf(rng, 3, 2)
    assert dict(outer.named_parameters())["0.1.weight"] is layer.weight


def test_a_layer_shared_by_two_containers_is_named_correctly_from_each(rng):
    layer = nn.Linear(2, 2, rng=rng)
    first, second = nn.Sequential(layer), nn.Sequential(nn.ReLU(), layer)
    for model, name in [(first, "0"), (second, "1"), (first, "0")]:
        assert list(dict(model.named_parameters())) == [
            f"{name}.weight",
            f"{name}.bias",
        ]
        y = model(random_leaf(rng, 5, 2))
        assert y.scope.name == name
        assert layer.weight.qualified_name(y.scope) == f"{name}.weight"


def test_a_name_that_the_user_gave_to_a_parameter_survives(rng):
    layer = nn.Linear(2, 3, rng=rng)
    layer.weight = random_leaf(rng, 2, 3).named("my weight")
    y = nn.Sequential(layer)(random_leaf(rng, 5, 2))
    assert layer.weight.name == "my weight"
    assert layer.weight.qualified_name(y.scope) == "my weight"


class Nested(nn.Module):
    def __init__(self, rng):
        def linear():
            return nn.Linear(2, 2, bias=False, rng=rng)

        self.heads = {"left": linear(), "right": [linear(), (linear(),)]}
        self.blocks = []
        self.blocks.append(linear())


def test_modules_in_dictionaries_and_nested_lists_are_members(rng):
    model = Nested(rng)
    model.blocks.append(nn.Linear(2, 2, bias=False, rng=rng))
    names = [name for name, _ in model.named_parameters()]
    assert names == [
        "heads.left.weight",
        "heads.right.0.weight",
        "heads.right.1.0.weight",
        "blocks.0.weight",
        "blocks.1.weight",
    ]
    assert list(model.state_dict()) == names
    model.eval()
    assert not any(module.training for module in model.modules())


def test_a_module_that_contains_itself_is_walked_once(rng):
    model = nn.Sequential(nn.Linear(2, 2, rng=rng))
    model.itself = model
    model[0].parent = model
    model[0].scale = Tensor([1.0], requires_grad=True)
    assert len(model.parameters()) == 3
    assert list(model.state_dict()) == ["0.weight", "0.bias", "0.scale"]
    assert list(model.modules()) == [model, model[0]]
    assert "Linear(2" in repr(model)


def test_users_may_have_an_attribute_called_path(rng):
    layer = nn.Linear(2, 2, rng=rng)
    layer.path = "somewhere"
    model = nn.Sequential(layer)
    assert model(random_leaf(rng, 3, 2)).scope.name == "0" and layer.path == "somewhere"


class Counting(nn.Module):
    def __init__(self):
        self.calls, self.inputs = Tensor(0), Tensor(0)

    def forward(self, x, scale=1):
        self.calls += 1
        self.inputs = self.inputs + len(x)
        return x * scale


def test_a_buffer_that_is_incremented_stays_in_the_state():
    model = Counting()
    model(Tensor([1.0, 2.0]))
    model(Tensor([1.0]))
    state = model.state_dict()
    assert {name: value.tolist() for name, value in state.items()} == {
        "calls": 2, "inputs": 3,
    }  # fmt: skip
    other = Counting()
    other(Tensor([1.0]))
    other.load_state_dict(state)
    assert (other.calls.item(), other.inputs.item()) == (2, 3)


def test_the_momentum_of_batch_norm_can_be_set():
    layer = nn.BatchNorm(1)
    layer.momentum = 0.5
    layer(Tensor(np.float32([[2], [4]])))
    assert layer.momentum == 0.5 and layer.running_mean.tolist() == [1.5]
    with pytest.raises(ValueError, match="momentum, the weight of the new batch"):
        layer.momentum = 2
    layer = nn.BatchNorm(1, track_running_stats=False)
    assert layer.momentum is None
    with pytest.raises(ValueError) as error:
        layer.momentum = 0.5
    assert str(error.value) == (
        "BatchNorm: momentum can be set only if there are running statistics, but "
        "track_running_stats is False."
    )


@pytest.mark.parametrize("layer", [nn.BatchNorm, nn.LayerNorm])
def test_the_type_of_eps_does_not_change_the_dtype(layer):
    x = Tensor(np.arange(6, dtype=np.float32).reshape(3, 2))
    assert layer(2, eps=np.float64(1e-5))(x).dtype == np.float32


def test_the_repr_of_batch_norm_shows_its_settings():
    assert repr(nn.BatchNorm(3)) == "BatchNorm(3, eps=1e-05, momentum=0.1)"
    settings = {"axes": (0, 2), "affine": False, "fused": False, "constants": ("mean",)}
    assert repr(nn.BatchNorm(4, eps=0.1, momentum=None, **settings)) == (
        "BatchNorm(4, eps=0.1, momentum=None, axes=(0, 2), affine=False, fused=False, "
        "constants=('mean',))"
    )
    assert repr(nn.BatchNorm(3, axes=[0, -1], dtype=float)) == (
        "BatchNorm(3, eps=1e-05, momentum=0.1, axes=(0, -1), dtype=float64)"
    )


@pytest.mark.parametrize("dtype", [int, complex])
def test_batch_norm_computes_with_floats_only(dtype):
    with pytest.raises(ValueError) as error:
        nn.BatchNorm(3, affine=False, dtype=dtype)
    assert str(error.value) == (
        f"BatchNorm: dtype must be a float type, but {dtype!r} was received."
    )


def test_keyword_arguments_reach_forward():
    assert Counting()(Tensor([1.0, 2.0]), scale=3).data.tolist() == [3, 6]


def test_a_seed_works_in_place_of_a_generator():
    weights = [nn.Linear(3, 4, rng=rng).weight.data for rng in (0, 0, 1)]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert np.all(weights[0] != weights[2])
    expected = nn.Linear(3, 4, rng=np.random.default_rng(0)).weight.data
    np.testing.assert_array_equal(weights[0], expected)


@pytest.mark.parametrize("record", [contextlib.nullcontext, tg.no_grad])
@pytest.mark.parametrize(
    ("symbol", "change"),
    [
        ("-=", operator.isub), ("+=", operator.iadd), ("*=", operator.imul),
        ("/=", operator.itruediv), ("**=", operator.ipow), ("@=", operator.imatmul),
    ],
)  # fmt: skip
def test_in_place_operators_on_a_parameter_are_errors(record, symbol, change):
    p = Tensor(np.eye(2), requires_grad=True, name="p")
    with record(), pytest.raises(TypeError) as error:
        change(p, np.eye(2))
    assert str(error.value) == (
        f"a leaf that requires a gradient cannot be changed by {symbol}, which would "
        "bind the name of 'p'(2, 2) to a new tensor. To change its values, write "
        f"p.data {symbol} ...; to compute with it, write y = p {symbol[:-1]} ..."
    )


def test_changing_the_data_of_a_parameter_in_place_makes_older_graphs_stale(rng):
    layer = nn.Linear(2, 1, rng=rng)
    y = layer(random_leaf(rng, 3, 2)).sum()
    y.backward()
    before = layer.weight.data.copy()
    layer.weight.data -= 0.1 * layer.weight.grad
    np.testing.assert_array_equal(
        layer.weight.data, before - 0.1 * layer.weight.grad.astype(np.float32)
    )
    assert len(layer.parameters()) == 2
    with pytest.raises(RuntimeError, match=r"'weight'\(2, 1\) was changed after"):
        y.backward()


def test_in_place_operators_on_other_tensors_make_new_tensors():
    x = Tensor([1.0, 2.0], requires_grad=True)
    h = x * 3
    first = h
    h -= 1
    h *= x
    assert first.data.tolist() == [3, 6] and h.data.tolist() == [2, 10]
    np.testing.assert_array_equal(tg.grad(h.sum(), x), 2 * 3 * x.data - 1)


def test_a_shared_parameter_is_listed_once(rng):
    model = nn.Sequential(nn.Linear(3, 3, rng=rng), nn.Linear(3, 3, rng=rng))
    model[1].weight = model[0].weight
    assert model.parameters() == [model[0].weight, model[0].bias, model[1].bias]
    x, g = random_leaf(rng, 5, 3), rng.standard_normal((5, 3))
    model(x).backward(g)
    shared, bias = model[0].weight.data, model[0].bias.data
    hidden = x.data @ shared + bias
    expected = hidden.T @ g + x.data.T @ (g @ shared.T)
    np.testing.assert_allclose(model[0].weight.grad, expected, rtol=1e-5)


def test_a_frozen_parameter_is_state_but_no_parameter(rng):
    layer = nn.Linear(3, 2, rng=rng)
    layer.weight.requires_grad = False
    assert layer.parameters() == [layer.bias]
    assert list(layer.state_dict()) == ["weight", "bias"]
    layer(random_leaf(rng, 5, 3)).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad.tolist() == [5, 5]


class Keeper(nn.Module):
    """A module that stores what it computed in an attribute."""

    def __init__(self, rng):
        self.layer = nn.Linear(3, 2, rng=rng)

    def forward(self, x):
        self.hidden = self.layer(x).named("hidden layer")
        return self.hidden


def test_a_computed_tensor_in_an_attribute_is_neither_parameter_nor_state(rng):
    model = Keeper(rng)
    model(random_leaf(rng, 5, 3))
    assert model.hidden.requires_grad
    assert model.hidden.name == "hidden layer"
    assert model.parameters() == [model.layer.weight, model.layer.bias]
    assert list(model.state_dict()) == ["layer.weight", "layer.bias"]


def test_a_tensor_computed_under_no_grad_and_assigned_to_a_module_is_state(rng):
    model = Keeper(rng)
    with tg.no_grad():
        model(random_leaf(rng, 5, 3))
    state = model.state_dict()
    assert list(state) == ["layer.weight", "layer.bias", "hidden"]
    model.load_state_dict(state)
    np.testing.assert_array_equal(model.hidden.data, state["hidden"])


def test_an_error_names_an_input_by_its_place_in_the_module_that_was_called(rng):
    class Product(nn.Module):
        def __init__(self):
            self.weight = random_leaf(rng, 3, 2)

        def forward(self, x):
            return tg.matmul(x, self.weight)

    with pytest.raises(ValueError, match=r"'1\.weight'\(3, 2\)"):
        nn.Sequential(nn.ReLU(), Product())(np.ones((5, 4)))


def test_train_and_eval_reach_every_module_inside(rng):
    model = Branches(rng)
    inside = [model, *model.paths, model.last, *model.last]
    assert list(model.modules()) == inside
    assert all(module.training for module in inside)
    assert model.eval() is model
    assert not any(module.training for module in inside)
    assert model.train() is model
    assert all(module.training for module in inside)


def test_zero_grad_clears_every_gradient(rng):
    model = Branches(rng)
    model(random_leaf(rng, 5, 3)).backward(rng.standard_normal((5, 2)))
    assert all(p.grad is not None for p in model.parameters())
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_sequential_calls_its_modules_in_turn_and_reads_like_a_list(rng):
    layers = [nn.Linear(3, 4, rng=rng), nn.Tanh(), nn.Linear(4, 2, rng=rng)]
    model, x = nn.Sequential(*layers), random_leaf(rng, 5, 3)
    assert list(model) == layers
    assert len(model) == 3
    assert model[0] is layers[0]
    assert model[-1] is layers[2]
    expected = layers[2](layers[1](layers[0](x)))
    np.testing.assert_array_equal(model(x), expected)


@pytest.mark.parametrize(
    ("module", "function"),
    [
        (nn.ReLU(), lambda x: np.where(x > 0, x, 0)),
        (nn.Sigmoid(), lambda x: 1 / (1 + np.exp(-x))),
        (nn.Tanh(), np.tanh),
    ],
)
def test_activations_are_their_functions(module, function):
    x = np.linspace(-4, 4, 33).reshape(11, 3)
    np.testing.assert_allclose(module(Tensor(x)), function(x), rtol=1e-14)
    assert module.parameters() == []


def test_repr_shows_modules_inside_modules(rng):
    layer = nn.Linear(2, 3, bias=False, rng=rng)
    model = nn.Sequential(layer, nn.Sequential(nn.BatchNorm(3), nn.ReLU()))
    assert repr(model) == (
        "Sequential(\n"
        "  0: Linear(2 → 3, bias=False)\n"
        "  1: Sequential(\n"
        "    0: BatchNorm(3, eps=1e-05, momentum=0.1)\n"
        "    1: ReLU()\n"
        "  )\n"
        ")"
    )


@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda weight: np.zeros((2, 3)), "array(2, 3)"),
        (lambda weight: 0.0, "0.0"),
        (lambda weight: [[1.0, 2.0, 3.0]], "[[1.0, 2.0, 3.0]]"),
        (lambda weight: weight - 0.1, "tensor(2, 3)"),
        (lambda weight: [weight * 2], "list was received"),
    ],
)
def test_a_parameter_is_not_replaced_by_what_would_not_be_trained(make, received):
    layer = nn.Linear(2, 3)
    weight, values = layer.weight, layer.weight.data.copy()
    with pytest.raises(TypeError) as error:
        layer.weight = make(weight)
    assert str(error.value).startswith(
        "Linear.weight: a parameter must be replaced by a leaf, a module or None, but "
        + received
    )
    assert str(error.value).endswith(
        " was received, which would not be trained. To set its values, write "
        "weight[...] = values; to freeze it, weight.requires_grad = False; to keep "
        "something else under this name, set it to None first."
    )
    assert layer.weight is weight
    np.testing.assert_array_equal(weight, values)
    layer.weight = None
    layer.weight = make(weight)


def test_a_parameter_is_not_replaced_by_an_update_under_no_grad():
    layer = nn.Linear(2, 3)
    with tg.no_grad(), pytest.raises(TypeError, match="would not be trained"):
        layer.weight = layer.weight - 0.1
    assert len(layer.parameters()) == 2


def test_a_parameter_can_be_replaced_by_a_constant():
    layer = nn.Linear(2, 3)
    layer.weight = Tensor(np.ones((2, 3)))
    layer.bias = layer.bias.detach()
    assert layer.parameters() == []
    assert list(layer.state_dict()) == ["weight", "bias"]


def test_a_computed_leaf_that_requires_a_gradient_can_replace_a_parameter():
    layer = nn.Linear(2, 3)
    weight = Tensor(np.ones((2, 3))) * 0.1
    weight.requires_grad = True
    layer.weight = weight
    assert layer.weight is weight and len(layer.parameters()) == 2


class Keeping(nn.Module):
    """Keeps its last input and output, its labels and a number."""

    def __init__(self):
        self.layer = nn.Linear(3, 3)
        self.penalty, self.best = Tensor(0.0), np.array(0.0)

    def forward(self, x, labels):
        self.x, self.y, self.labels = x, self.layer(x), labels
        self.penalty = (self.layer.weight**2).sum()
        self.best = self.best + 1
        return self.y


def test_activations_and_other_values_can_be_kept_in_any_mode():
    model, x = Keeping(), Tensor(np.ones((2, 3), np.float32))
    with tg.no_grad():
        model(x, np.arange(2))
    y = model(nn.Linear(3, 3)(x), [0, 1])
    assert model.y is y and model.penalty.requires_grad
    assert len(model.parameters()) == 2


def test_a_parameter_can_be_shared_replaced_by_a_module_and_left_out():
    layer, other = nn.Linear(2, 3), nn.Linear(2, 3)
    layer.weight = other.weight
    assert layer.weight is other.weight
    other.weight = nn.Linear(3, 3)
    other.bias = None
    names = [name for name, _ in other.named_parameters()]
    assert names == ["weight.weight", "weight.bias"]
    layer.bias = [layer.bias, other.weight.bias]
    assert [name for name, _ in layer.named_parameters()] == [
        "weight", "bias.0", "bias.1",
    ]  # fmt: skip


class Named(nn.Module):
    def __init__(self, members):
        self.members = members


@pytest.mark.parametrize(
    "container",
    [
        lambda layers: collections.deque(layers),
        lambda layers: collections.UserList(layers),
        lambda layers: collections.UserDict({"0": layers[0], "1": layers[1]}),
        lambda layers: types.MappingProxyType({"0": layers[0], "1": layers[1]}),
    ],
)
def test_modules_in_any_sequence_or_mapping_are_members(container):
    model = Named(container([nn.Linear(2, 2, bias=False), nn.ReLU()]))
    assert [name for name, _ in model.named_parameters()] == ["members.0.weight"]


def test_modules_in_a_set_are_an_error_because_a_set_has_no_order():
    model = Named({nn.Linear(2, 2)})
    with pytest.raises(TypeError) as error:
        model.parameters()
    assert str(error.value) == (
        "members: modules and tensors must be in a list or dictionary, but a set was "
        "received, which has no order to name them by."
    )
    assert Named({1, "two"}).parameters() == []


def test_two_members_of_one_name_are_an_error():
    model = Named({1: Tensor([1.0]), "1": Tensor([2.0])})
    with pytest.raises(ValueError) as error:
        model.state_dict()
    assert str(error.value) == (
        "Named: each member must have its own name, but two are called 'members.1'. "
        "Change a key of a dictionary."
    )


# --- State ----------------------------------------------------------------------------


def small_model(seed=0):
    rng = np.random.default_rng(seed)
    return nn.Sequential(nn.Linear(2, 3, rng=rng), nn.BatchNorm(3, momentum=None))


def test_the_state_holds_copies_of_parameters_and_running_statistics(rng):
    model = small_model()
    model(random_leaf(rng, 5, 2))
    before = model.state_dict()
    assert list(before) == [
        "0.weight",
        "0.bias",
        "1.gamma",
        "1.beta",
        "1.running_mean",
        "1.running_var",
        "1.updates",
    ]
    np.testing.assert_array_equal(before["0.weight"], model[0].weight.data)
    np.testing.assert_array_equal(before["1.running_var"], model[1].running_var)
    copies = {name: array.copy() for name, array in before.items()}
    model[0].weight.data = np.zeros((2, 3), np.float32)
    model(random_leaf(rng, 5, 2))
    for name, array in before.items():
        np.testing.assert_array_equal(array, copies[name])


def test_a_loaded_state_is_copied_into_the_arrays_that_are_there(rng):
    source, target = small_model(seed=1), small_model(seed=2)
    batch, next_batch = random_leaf(rng, 5, 2), random_leaf(rng, 5, 2)
    source(batch)
    weight, array = target[0].weight, target[0].weight.data
    saved = source.state_dict()
    target.load_state_dict(saved)
    assert target[0].weight is weight
    assert weight.data is array
    for model in (source, target):
        model(next_batch)
    saved["0.weight"][:] = 0
    assert np.all(weight.data != 0)
    for name, value in source.state_dict().items():
        np.testing.assert_array_equal(value, target.state_dict()[name])


def test_loading_a_state_makes_older_graphs_stale(rng):
    model = small_model()
    loss = model(random_leaf(rng, 5, 2)).sum()
    model.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match=r"'1.gamma'\(3,\) was changed after"):
        loss.backward()


def test_a_wrong_state_is_refused_with_a_list_of_all_that_is_wrong():
    model = small_model()
    before = model.state_dict()
    wrong = model.state_dict()
    wrong["1.gamma"] = np.full(3, 7, np.float32)
    wrong["0.weight"] = np.zeros((3, 2), np.float32)
    wrong["0.bias"] = np.zeros(3)
    wrong["2.weight"] = wrong.pop("1.running_var")
    with pytest.raises(ValueError) as error:
        model.load_state_dict(wrong)
    assert str(error.value) == (
        "load_state_dict: the entries must be those of this Sequential. "
        "Nothing was loaded. 0.bias: expected (3,) float32, received (3,) float64; "
        "0.weight: expected (2, 3) float32, received (3, 2) float32, its transpose; "
        "missing: 1.running_var; unexpected: 2.weight."
    )
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


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


class Two(nn.Module):
    def __init__(self, first, second):
        self.first, self.second = first, second


def test_only_a_transpose_is_called_a_transpose():
    for shape, rest in [((3, 2), ", its transpose."), ((4, 3), ".")]:
        with pytest.raises(ValueError) as error:
            nn.Linear(2, 3, bias=False).load_state_dict(
                {"weight": np.zeros(shape, np.float32)}
            )
        assert str(error.value).endswith(f"received {shape} float32{rest}")


def test_a_state_may_contain_the_arrays_of_the_module_itself():
    model = Two(Tensor([1.0], requires_grad=True), Tensor([2.0], requires_grad=True))
    model.load_state_dict({"first": model.second.data, "second": model.first.data})
    assert (model.first.item(), model.second.item()) == (2, 1)


def test_an_array_that_is_read_only_is_found_before_anything_is_loaded():
    model = Two(Tensor([1.0], requires_grad=True), np.broadcast_to(np.ones(1), 3))
    with pytest.raises(ValueError, match=r"loaded\. second: its array is read-only\."):
        model.load_state_dict({"first": np.zeros(1), "second": np.zeros(3)})
    assert model.first.item() == 1


def test_one_tensor_with_two_names_cannot_be_given_two_values():
    weight = Tensor([1.0, np.nan], requires_grad=True)
    model = Two(weight, weight)
    state = model.state_dict()
    model.load_state_dict(state)
    for other in (np.zeros(2), np.full(2, 9.0)):
        with pytest.raises(ValueError) as error:
            model.load_state_dict(state | {"second": other})
        assert str(error.value) == (
            "load_state_dict: the entries must be those of this Two. Nothing was "
            "loaded. first and second: expected equal values, because it is one array."
        )


@pytest.mark.parametrize("state", [None, "model.npz", [1.0]])
def test_a_state_that_is_no_dictionary_is_an_error(state):
    with pytest.raises(TypeError) as error:
        nn.Linear(2, 2).load_state_dict(state)
    assert str(error.value) == (
        "load_state_dict: the state must be a dictionary, such as module.state_dict() "
        f"or an entry of tg.load(path), but {state!r} was received."
    )


# --- Scopes ---------------------------------------------------------------------------


@FUSED
def test_tensors_remember_the_module_that_made_them(rng, fused):
    norm = nn.BatchNorm(3, fused=fused)
    model = nn.Sequential(nn.Linear(2, 3, rng=rng), nn.Sequential(norm, nn.ReLU()))
    y = model(random_leaf(rng, 5, 2))
    assert y.scope.owner is model[1][1]
    assert y.scope.name == "1.1"
    assert y.scope.parent.owner is model[1]
    assert y.scope.parent.parent.owner is model
    (linear,) = (t for t in tg.tape(y) if t.op.name == "linear")
    assert linear.scope.owner is model[0]
    (of_norm,) = y.inputs
    if fused:
        assert of_norm.scope.owner is norm
        of_norm = of_norm.op.unfold(of_norm)
    names = {t.qualified_name() for t in tg.tape(of_norm)}
    assert {"1.0.E[x]", "1.0.Var[x]"} <= names


def test_a_module_called_alone_adds_nothing_to_names(rng):
    y = nn.BatchNorm(3, fused=False)(random_leaf(rng, 5, 3))
    assert "E[x]" in {t.qualified_name() for t in tg.tape(y)}


def test_an_error_inside_a_module_leaves_its_scope(rng):
    model = nn.Sequential(nn.Linear(2, 3, rng=rng), nn.Linear(4, 1, rng=rng))
    with pytest.raises(ValueError, match=r"Linear '1': the last axis"):
        model(random_leaf(rng, 5, 2))
    assert this_thread.scopes == [None]


# --- Initialization -------------------------------------------------------------------

SHAPE = 300, 200


def test_initial_weights_have_their_variance_and_shape_of_distribution(rng):
    weights = init.kaiming_normal(SHAPE, rng, float)
    assert weights.shape == SHAPE
    assert weights.var() == pytest.approx(2 / 300, rel=0.02)
    assert weights.mean() == pytest.approx(0, abs=0.02 * math.sqrt(2 / 300))
    within = (np.abs(weights) < math.sqrt(2 / 300)).mean()
    assert within == pytest.approx(math.erf(math.sqrt(0.5)), abs=0.01)


def test_initial_weights_depend_on_the_generator_only():
    first, again = (
        init.kaiming_normal(SHAPE, np.random.default_rng(3)) for _ in range(2)
    )
    other = init.kaiming_normal(SHAPE, np.random.default_rng(4))
    assert first.dtype == np.float32
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


@pytest.mark.parametrize(("rng", "error"), [("a", TypeError), (-1, ValueError)])
def test_an_rng_that_is_no_generator_and_no_seed_is_refused(rng, error):
    with pytest.raises(error) as caught:
        nn.Linear(3, 4, rng=rng)
    assert str(caught.value) == (
        "rng must be a NumPy generator of random numbers, a seed (an integer of at "
        f"least 0) or None, but {rng!r} was received."
    )


def test_linear_starts_with_kaiming_normal_weights_and_a_bias_of_zeros():
    rng = np.random.default_rng(3)
    layer, second = nn.Linear(300, 200, rng=rng), nn.Linear(300, 200, rng=rng)
    expected = init.kaiming_normal(SHAPE, np.random.default_rng(3))
    np.testing.assert_array_equal(layer.weight.data, expected)
    assert np.all(layer.weight.data != second.weight.data)
    assert not np.any(layer.bias.data)
    assert {p.dtype.name for p in layer.parameters()} == {"float32"}
    assert nn.Linear(2, 3, rng=rng, dtype=float).bias.dtype == np.float64


def test_layers_without_a_generator_differ():
    assert np.all(nn.Linear(5, 5).weight.data != nn.Linear(5, 5).weight.data)


def test_batch_norm_starts_as_plain_normalization():
    start = nn.BatchNorm(2).state_dict()
    assert {name: array.tolist() for name, array in start.items()} == {
        "gamma": [1, 1],
        "beta": [0, 0],
        "running_mean": [0, 0],
        "running_var": [1, 1],
        "updates": 0,
    }


# --- Errors ---------------------------------------------------------------------------

LOGITS = Tensor(np.zeros((4, 3)), name="logits")
MODEL = nn.Sequential(
    nn.Linear(2, 3, rng=np.random.default_rng(0)), nn.BatchNorm(3), nn.Module()
)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        pytest.param(
            lambda: nn.cross_entropy(LOGITS, [0, 1, 2, 3]),
            ValueError,
            "softmax_cross_entropy: labels must be in [0, 3), one of the columns of "
            "the logits, but they range from 0 to 3. Received: "
            "'logits'(4, 3), tensor(4,).",
            id="a label too large",
        ),
        pytest.param(
            lambda: nn.cross_entropy(LOGITS, [0, 1, 2, -1]),
            ValueError,
            "softmax_cross_entropy: labels must be in [0, 3), one of the columns of "
            "the logits, but they range from -1 to 2. Received: "
            "'logits'(4, 3), tensor(4,).",
            id="a negative label",
        ),
        pytest.param(
            lambda: nn.cross_entropy(LOGITS, [0, 1, 2, 1.0]),
            TypeError,
            "cross_entropy: labels must be integers, the index of the correct class "
            "for each row, but an array of float64 was received. Convert with "
            "labels.astype(int).",
            id="labels of floats",
        ),
        pytest.param(
            lambda: nn.cross_entropy(LOGITS, [True, False, True, True]),
            TypeError,
            "cross_entropy: labels must be integers, the index of the correct class "
            "for each row, but an array of bool was received. Convert with "
            "labels.astype(int).",
            id="labels of booleans",
        ),
        pytest.param(
            lambda: nn.cross_entropy(LOGITS, [0, 1, 2]),
            ValueError,
            "cross_entropy: logits (N, C) need labels (N,) with N > 0, but "
            "'logits'(4, 3) and labels (3,) were received.",
            id="too few labels",
        ),
        pytest.param(
            lambda: nn.cross_entropy(LOGITS, np.eye(4, 3, dtype=int)),
            ValueError,
            "cross_entropy: logits (N, C) need labels (N,) with N > 0, but "
            "'logits'(4, 3) and labels (4, 3) were received. For one-hot labels, pass "
            "labels.argmax(axis=1).",
            id="one-hot labels",
        ),
        pytest.param(
            lambda: nn.cross_entropy([0, 1, 2, 0], LOGITS),
            ValueError,
            "cross_entropy: logits (N, C) need labels (N,) with N > 0, but tensor(4,) "
            "and labels (4, 3) were received. Pass the logits first.",
            id="logits and labels in the wrong order",
        ),
        pytest.param(
            lambda: nn.cross_entropy(Tensor(np.zeros((0, 3))), np.zeros(0, int)),
            ValueError,
            "cross_entropy: logits (N, C) need labels (N,) with N > 0, but "
            "tensor(0, 3) and labels (0,) were received.",
            id="an empty batch",
        ),
        pytest.param(
            lambda: nn.cross_entropy(Tensor(np.zeros(3)), [0, 1, 2]),
            ValueError,
            "cross_entropy: logits (N, C) need labels (N,) with N > 0, but "
            "tensor(3,) and labels (3,) were received.",
            id="logits of one axis",
        ),
        pytest.param(
            lambda: nn.mse_loss(Tensor(np.zeros((4, 1)), name="y"), np.zeros(4)),
            ValueError,
            "mse_loss: prediction and target must have the same shape, but 'y'(4, 1) "
            "and (4,) were received. Reshape one of them.",
            id="a target that would broadcast",
        ),
        pytest.param(
            lambda: nn.Linear(0, 3),
            ValueError,
            "Linear: in_features must be an integer of at least 1, but 0 was received.",
            id="a layer of no features",
        ),
        pytest.param(
            lambda: nn.Linear(3, 2.5),
            ValueError,
            "Linear: out_features must be an integer of at least 1, but 2.5 was "
            "received.",
            id="a layer of two and a half features",
        ),
        pytest.param(
            lambda: MODEL(Tensor(np.zeros((5, 4)), name="x")),
            ValueError,
            "Linear '0': the last axis must have 2 features, but 'x'(5, 4) was "
            "received. Check the layer before it.",
            id="wrong number of features for a linear layer",
        ),
        pytest.param(
            lambda: nn.Linear(2, 3)(Tensor(1.0)),
            ValueError,
            "Linear: the last axis must have 2 features, but tensor (scalar) was "
            "received. Check the layer before it.",
            id="a scalar for a linear layer",
        ),
        pytest.param(
            lambda: functional.fused_linear(
                LOGITS, Tensor(np.zeros((2, 5))), Tensor(np.zeros(5))
            ),
            ValueError,
            "linear: x (..., in_features), weight (in_features, out_features) and bias "
            "(out_features,) must fit together. Received: 'logits'(4, 3), "
            "tensor(2, 5), tensor(5,).",
            id="a weight that does not fit",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm(3))(
                Tensor(np.zeros((5, 4))).named("x")
            ),
            ValueError,
            "BatchNorm '1': 3 features must be left when axes (0,) are averaged over, "
            "but tensor(5, 4) was received, which leaves (4,). Check num_features, "
            "axes and the layer before it.",
            id="wrong number of features for batch norm",
        ),
        pytest.param(
            lambda: nn.BatchNorm(3).eval()(Tensor(np.zeros((5, 3, 2, 2)))),
            ValueError,
            "BatchNorm: 3 features must be left when axes (0,) are averaged over, but "
            "tensor(5, 3, 2, 2) was received, which leaves (3, 2, 2). Check "
            "num_features, axes and the layer before it.",
            id="images for batch norm without axes",
        ),
        pytest.param(
            lambda: nn.BatchNorm(3)(Tensor(np.zeros((1, 3)), name="x")),
            ValueError,
            "batch_norm: at least two values per channel must be averaged. A single "
            "value is its own mean, so x_hat would be 0 whatever x is. Received "
            "'x'(1, 3) with axes=(0,). Use a larger batch, or evaluation mode with "
            "running statistics.",
            id="one value per channel in training",
        ),
        pytest.param(
            lambda: nn.BatchNorm(3, momentum=1.5),
            ValueError,
            "momentum, the weight of the new batch, must be in [0, 1], or None for the "
            "average over all batches, but 1.5 was received.",
            id="momentum outside [0, 1]",
        ),
        pytest.param(
            lambda: nn.BatchNorm(3, eps=-1e-5),
            ValueError,
            "BatchNorm: eps must be a finite number of at least 0, but -1e-05 was "
            "received.",
            id="negative eps",
        ),
        pytest.param(
            lambda: nn.BatchNorm(3, constants=("std",))(LOGITS),
            ValueError,
            "BatchNorm: constants may contain 'mean' and 'var', but ['std'] was "
            "received.",
            id="an unknown constant",
        ),
        pytest.param(
            lambda: MODEL[2](LOGITS),
            NotImplementedError,
            "Module must define forward().",
            id="a module without forward",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.BatchNorm(3), nn.ReLU),
            TypeError,
            "Sequential: every item must be a module, but item 1 is <class "
            "'tinygrad_bn.nn.ReLU'>. Is it a class that was not called, a function, or "
            "a module of PyTorch (which tg.from_torch converts)?",
            id="a class in a sequence of modules",
        ),
    ],
)
def test_errors_say_what_must_hold_and_what_was_received(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


# --- Numbers and processes ------------------------------------------------------------


def test_a_pickled_model_trains_on_in_another_process(tmp_path):
    model = nn.Linear(2, 1, rng=np.random.default_rng(0))
    for _ in range(50):
        model(Tensor(np.ones((3, 2), np.float32))).sum().backward()
    path = tmp_path / "model.pickle"
    path.write_bytes(pickle.dumps(model))
    code = (
        "import pickle, sys, numpy as np, tinygrad_bn as tg\n"
        "model = pickle.load(open(sys.argv[1], 'rb'))\n"
        "model.zero_grad()\n"
        "model(tg.Tensor(np.ones((3, 2), np.float32))).sum().backward()\n"
        "print(model.bias.grad.tolist())\n"
    )
    words = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout == "[3.0]\n"


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, bool])
def test_small_integers_do_not_wrap_around_in_fused_operations(dtype):
    x = np.random.default_rng(0).integers(0, 2, (50, 3)).astype(dtype)
    x = x * 120 if dtype is not bool else x
    expected = tg.batch_norm(x.astype(float)).data
    np.testing.assert_allclose(tg.fused_batch_norm(x).data, expected, atol=1e-12)
    labels = np.arange(50) % 3
    expected = nn.cross_entropy(Tensor(x.astype(float)), labels).item()
    assert nn.cross_entropy(Tensor(x), labels).item() == pytest.approx(expected)


@pytest.mark.parametrize("fused", [True, False])
def test_a_bias_in_float64_makes_the_result_float64_in_both_definitions(fused):
    x = Tensor(np.ones((2, 2), np.float32) * [[1], [2]], dtype=np.float32)
    row = Tensor([1.0, 2.0])
    norm = tg.fused_batch_norm if fused else tg.batch_norm
    assert norm(x, beta=row).dtype == np.float64
    linear = functional.fused_linear if fused else functional.linear
    assert linear(x, Tensor(np.eye(2, dtype=np.float32)), row).dtype == np.float64


def test_a_batch_norm_that_fails_does_not_change_the_running_statistics():
    bn = nn.BatchNorm(3, fused=False)
    bn.gamma = Tensor(np.ones(4, np.float32), requires_grad=True)
    with pytest.raises(ValueError, match="gamma must have one value per channel"):
        bn(Tensor(np.arange(6, dtype=np.float32).reshape(2, 3)))
    assert bn.running_mean.tolist() == [0, 0, 0]
