"""Layers besides Linear and activations: options of batch norm, layer norm, dropout,
and modules that change no values."""

import copy

import numpy as np
import pytest
from conftest import random_leaf

import tinygrad_bn as tg
from tinygrad_bn import Tensor, functional, nn


def assert_agrees_with_pytorch(torch, rng, ours, theirs, x, parameters):
    """Compare outputs, gradients for a random cotangent, and those of second order.

    ``parameters``: pairs of corresponding ones, as (tensor, PyTorch's tensor).
    """
    x, their_x = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, their_y = ours(x), theirs(their_x)
    np.testing.assert_allclose(y.data, their_y.detach().numpy(), rtol=0, atol=1e-12)
    g = rng.standard_normal(y.shape)
    inputs = [x, *(p for p, _ in parameters)]
    their_inputs = [their_x, *(p for _, p in parameters)]
    first = tg.grad(y, inputs, gradient=g, create_graph=True)
    their_first = torch.autograd.grad(
        their_y, their_inputs, torch.tensor(g), create_graph=True
    )
    total = sum((d * d).sum() for d in first)
    their_total = sum((d * d).sum() for d in their_first)
    second = tg.grad(total, inputs)
    their_second = torch.autograd.grad(their_total, their_inputs, allow_unused=True)
    for d, their_d in zip([*first, *second], [*their_first, *their_second]):
        expected = 0 if their_d is None else their_d.detach().numpy()
        np.testing.assert_allclose(d.data, expected, rtol=1e-9, atol=1e-9)


# --- Options of batch norm ------------------------------------------------------------

FUSED = pytest.mark.parametrize("fused", [True, False])


@pytest.mark.slow
@FUSED
@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"affine": False}])
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 2)])
def test_the_options_of_batch_norm_are_those_of_pytorch(
    torch, rng, shape, options, training, tracked, fused
):
    options = options | {"track_running_stats": tracked}
    ours = nn.BatchNorm(3, axes=None, dtype=float, fused=fused, **options)
    kind = torch.nn.BatchNorm2d if len(shape) == 4 else torch.nn.BatchNorm1d
    theirs = kind(3, dtype=torch.float64, **options)
    assert (ours.gamma is None, ours.beta is None) == (
        theirs.weight is None,
        theirs.bias is None,
    )
    batches = rng.standard_normal((2, *shape)) * 3 + 2
    ours(Tensor(batches[0])), theirs(torch.tensor(batches[0]))
    ours.train(training), theirs.train(training)
    pairs = [(ours.gamma, theirs.weight), (ours.beta, theirs.bias)]
    pairs = [pair for pair in pairs if pair[0] is not None]
    assert_agrees_with_pytorch(torch, rng, ours, theirs, batches[1], pairs)
    if tracked:
        np.testing.assert_allclose(ours.running_var, theirs.running_var.numpy())


@FUSED
def test_batch_norm_without_bias_scales_and_does_not_shift(rng, fused):
    layer = nn.BatchNorm(3, bias=False, fused=fused, dtype=float)
    layer.gamma.data = [2.0, 3.0, 4.0]
    x = rng.standard_normal((6, 3))
    assert layer.beta is None
    assert [name for name, _ in layer.named_parameters()] == ["gamma"]
    expected = [2, 3, 4] * (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
    np.testing.assert_allclose(layer(Tensor(x)), expected, rtol=0, atol=1e-12)


@FUSED
def test_batch_norm_without_running_statistics_uses_the_batch_in_evaluation(rng, fused):
    layer = nn.BatchNorm(3, track_running_stats=False, fused=fused)
    assert layer.running_mean is layer.running_var is None
    assert list(layer.state_dict()) == ["gamma", "beta"]
    x = Tensor(rng.standard_normal((6, 3)) + 5)
    in_training = layer(x)
    np.testing.assert_array_equal(layer.eval()(x), in_training)
    assert np.abs(in_training.data.mean(0)).max() < 1e-6
    copy.deepcopy(layer).load_state_dict(layer.state_dict())


@FUSED
def test_evaluation_changes_no_running_statistics(rng, fused):
    layer = nn.BatchNorm(3, fused=fused).eval()
    before = layer.state_dict()
    layer(Tensor(rng.standard_normal((6, 3))))
    for name, array in layer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


@FUSED
@pytest.mark.parametrize("shape", [(6, 3), (4, 3, 5), (4, 3, 2, 2), (2, 3, 2, 2, 2)])
def test_axes_none_means_all_but_axis_1(rng, shape, fused):
    axes = tuple(i for i in range(len(shape)) if i != 1)
    x = Tensor(rng.standard_normal(shape))
    settings = {"fused": fused, "dtype": float}
    expected = nn.BatchNorm(3, axes=axes, **settings)(x)
    np.testing.assert_array_equal(nn.BatchNorm(3, axes=None, **settings)(x), expected)
    for function in (tg.batch_norm, tg.fused_batch_norm):
        np.testing.assert_allclose(function(x, axes=None), expected, atol=1e-14)


@FUSED
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_batch_norm_without_affine_keeps_the_dtype_of_its_input(
    rng, dtype, training, fused
):
    layer = nn.BatchNorm(3, affine=False, fused=fused).train(training)
    x = random_leaf(rng, 6, 3, dtype=dtype)
    y = layer(x)
    assert y.dtype == dtype
    assert tg.grad(y, x, np.ones((6, 3))).dtype == dtype


def test_float16_batch_norm_evaluates_in_float32():
    layer = nn.BatchNorm(1, affine=False).eval()
    layer.running.mean[:], layer.running.var[:] = 1000, 1e6  # beyond float16
    y = layer(Tensor([[2000.0]], dtype=np.float16))
    assert y.item() == 1.0


@FUSED
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_accepts_lists_and_integers_as_data(fused, training):
    data = [[1, 2], [3, 6]]
    layer = nn.BatchNorm(2, fused=fused, dtype=float).train(training)
    expected = layer(Tensor(data, dtype=float))
    for given in (data, np.array(data), Tensor(data)):
        np.testing.assert_array_equal(layer(given), expected)
        if training:  # The running statistics have moved.
            assert layer(given).dtype == float


@FUSED
@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int64])
def test_batch_norm_of_integers_has_one_dtype_in_both_modes(fused, dtype):
    layer = nn.BatchNorm(2, fused=fused)
    x = Tensor(np.array([[1, 0], [0, 1], [1, 1]], dtype))
    assert layer(x).dtype == float
    assert layer.eval()(x).dtype == float


def test_the_repr_of_batch_norm_shows_what_is_left_out():
    assert repr(nn.BatchNorm(3, bias=False, axes=None)) == (
        "BatchNorm(3, eps=1e-05, momentum=0.1, axes=None, bias=False)"
    )
    assert repr(nn.BatchNorm(3, track_running_stats=False)) == (
        "BatchNorm(3, eps=1e-05, track_running_stats=False)"
    )


# --- Layer norm -----------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(4,), (6, 4), (2, 3, 4)])
def test_layer_norm_is_that_of_pytorch(torch, rng, shape, affine, bias):
    ours = nn.LayerNorm(4, affine=affine, bias=bias, dtype=float)
    theirs = torch.nn.LayerNorm(
        4, elementwise_affine=affine, bias=bias, dtype=torch.float64
    )
    pairs = [(ours.gamma, theirs.weight), (ours.beta, theirs.bias)]
    pairs = [pair for pair in pairs if pair[0] is not None]
    for p, their_p in pairs:
        p.data = rng.standard_normal(4)
        their_p.data = torch.tensor(p.data)
    x = rng.standard_normal(shape) * 3 + 2
    assert_agrees_with_pytorch(torch, rng, ours, theirs, x, pairs)


def test_the_gradients_of_layer_norm_are_right_to_second_order(rng):
    inputs = random_leaf(rng, 3, 4), random_leaf(rng, 4), random_leaf(rng, 4)
    tg.check_gradients(functional.layer_norm, *inputs, order=2)


def test_layer_norm_is_batch_norm_of_the_transpose(rng):
    x = Tensor(rng.standard_normal((6, 4)))
    layer = nn.LayerNorm(4, affine=False, dtype=float)
    np.testing.assert_allclose(layer(x), tg.batch_norm(x.T).T, rtol=0, atol=1e-14)


def test_layer_norm_treats_each_example_independently_in_both_modes(rng):
    x = rng.standard_normal((6, 4))
    layer = nn.LayerNorm(4, dtype=float)
    together = layer(Tensor(x)).data
    for i in range(6):
        np.testing.assert_array_equal(
            layer.eval()(Tensor(x[i : i + 1]))[0], together[i]
        )
    assert [name for name, _ in layer.named_parameters()] == ["gamma", "beta"]
    assert list(layer.state_dict()) == ["gamma", "beta"]


def test_a_bias_learns_in_front_of_layer_norm_but_not_of_batch_norm(rng):
    x, g = rng.standard_normal((6, 4)), rng.standard_normal((6, 3))
    for norm, learns in [(nn.LayerNorm(3), True), (nn.BatchNorm(3), False)]:
        model = nn.Sequential(nn.Linear(4, 3, rng=0, dtype=float), norm)
        d_bias = tg.grad(model(x), model[0].bias, gradient=g).data
        assert (np.abs(d_bias) > 0.1).all() == learns
        # What all features have in common is subtracted by layer norm, too.
        if learns:
            assert d_bias.sum() == pytest.approx(0, abs=1e-7)
        redundant = [finding.name for finding in tg.check_redundant(model, x)]
        assert redundant == ([] if learns else ["0.bias"])


# --- Dropout --------------------------------------------------------------------------


def test_dropout_sets_values_to_0_and_scales_the_others(rng):
    x = rng.standard_normal((200, 50)) + 5
    y = nn.Dropout(0.2, rng=0)(Tensor(x)).data
    nonzero = y != 0
    np.testing.assert_allclose(y[nonzero], x[nonzero] / 0.8)
    # 10,000 values: the standard deviation of their share is 0.004.
    assert nonzero.mean() == pytest.approx(0.8, abs=0.012)
    assert y.mean() == pytest.approx(x.mean(), abs=0.1)


def test_the_gradient_of_dropout_is_its_mask():
    x = Tensor(np.full((20, 20), 3.0), requires_grad=True)
    y = nn.Dropout(0.5, rng=0)(x)
    np.testing.assert_array_equal(tg.grad(y.sum(), x), y.data / 3)
    assert set(np.unique(y.data)) == {0.0, 6.0}


def test_dropout_draws_another_mask_at_each_call_and_the_same_from_one_seed():
    x = np.ones((10, 10))
    first, second = nn.Dropout(rng=3), nn.Dropout(rng=3)
    a, b = first(x).data, first(x).data
    assert (a != b).any()
    np.testing.assert_array_equal(second(x), a)
    np.testing.assert_array_equal(second(x), b)
    assert (nn.Dropout()(x).data != nn.Dropout()(x).data).any()


def test_dropout_returns_its_input_in_evaluation_and_for_p_0(rng):
    x = random_leaf(rng, 5, 3)
    assert nn.Dropout(0.5).eval()(x) is x
    assert nn.Dropout(0)(x) is x
    np.testing.assert_array_equal(nn.Dropout(1)(x), np.zeros((5, 3)))
    assert nn.Sequential(nn.Dropout()).eval()[0].training is False


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dropout_keeps_the_dtype(dtype):
    x = Tensor(np.ones((4, 4)), dtype=dtype)
    for p in (0.3, 1):
        assert nn.Dropout(p)(x).dtype == dtype


def test_dropout_has_no_state():
    layer = nn.Dropout(0.25)
    assert layer.state_dict() == {}
    assert repr(layer) == "Dropout(p=0.25)"


# --- Flatten, Identity, ModuleList ----------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("axes", [(), (0,), (1,), (1, 2), (0, -1), (-2, -1), (2, 2)])
def test_flatten_is_that_of_pytorch(torch, rng, axes):
    x = rng.standard_normal((2, 3, 4, 5))
    expected = torch.nn.Flatten(*axes)(torch.tensor(x)).numpy()
    np.testing.assert_array_equal(nn.Flatten(*axes)(Tensor(x)), expected)


def test_flatten_passes_the_gradient_on_and_accepts_an_empty_batch(rng):
    x, g = random_leaf(rng, 2, 3, 4), rng.standard_normal((2, 12))
    d_x = tg.grad(nn.Flatten()(x), x, gradient=g)
    np.testing.assert_array_equal(d_x, g.reshape(2, 3, 4))
    assert nn.Flatten()(np.zeros((0, 3, 4))).shape == (0, 12)


def test_identity_is_its_input(rng):
    x = random_leaf(rng, 5, 3)
    assert nn.Identity()(x) is x
    assert nn.Identity().state_dict() == {}


class Tower(nn.Module):
    def __init__(self, blocks):
        self.blocks = blocks

    def forward(self, x):
        for block in self.blocks:
            x = x + block(x)
        return x


def test_a_module_list_is_a_list_that_is_a_module(rng):
    layers = [nn.Linear(3, 3, rng=rng), nn.Tanh(), nn.Linear(3, 3, rng=rng)]
    blocks = nn.ModuleList(layers[:2])
    blocks.append(layers[2])
    assert list(blocks) == layers
    assert len(blocks) == 3
    assert blocks[-1] is layers[2]
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert [name for name, _ in blocks.named_parameters()] == names
    as_module, as_list = Tower(blocks), Tower(layers)
    assert [*as_module.state_dict()] == [*as_list.state_dict()]
    x = rng.standard_normal((5, 3))
    np.testing.assert_array_equal(as_module(Tensor(x)), as_list(Tensor(x)))
    assert as_module.eval().blocks[1].training is False


def test_a_layer_can_be_added_to_a_sequence_of_modules(rng):
    model = nn.Sequential(nn.Linear(3, 2, rng=rng))
    model.append(nn.ReLU())
    assert (model(rng.standard_normal((50, 3))).data >= 0).all()


# --- Pictures -------------------------------------------------------------------------


def test_a_model_of_the_new_layers_can_be_explained_and_drawn(rng):
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(6, 4, rng=0),
        nn.LayerNorm(4),
        nn.Dropout(0.2, rng=0),
        nn.Identity(),
        nn.BatchNorm(4, bias=False),
    )
    loss = (model(rng.standard_normal((8, 2, 3))) ** 3).sum()
    table = str(tg.explain(loss, model[1].bias))
    assert "via 2.E[x]" in table
    assert "LayerNorm 4" in tg.draw(loss).dot.source


# --- Errors ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        pytest.param(
            lambda: nn.Dropout(1.5),
            ValueError,
            "Dropout: p must be in [0, 1], but 1.5 was received.",
            id="a probability above 1",
        ),
        pytest.param(
            lambda: nn.LayerNorm(1),
            ValueError,
            "LayerNorm: num_features must be an integer of at least 2, but 1 was "
            "received.",
            id="layer norm of one feature",
        ),
        pytest.param(
            lambda: nn.LayerNorm(3, eps=-1),
            ValueError,
            "LayerNorm: eps must be a finite number of at least 0, but -1 was "
            "received.",
            id="a negative eps",
        ),
        pytest.param(
            lambda: nn.Sequential(nn.LayerNorm(3))(Tensor(np.zeros((3, 2)), name="x")),
            ValueError,
            "LayerNorm '0': the last axis must have 3 features, but 'x'(3, 2) was "
            "received. Check the layer before it.",
            id="wrong number of features for layer norm",
        ),
        pytest.param(
            lambda: nn.BatchNorm(0),
            ValueError,
            "BatchNorm: num_features must be an integer of at least 1, but 0 was "
            "received.",
            id="batch norm of no features",
        ),
        pytest.param(
            lambda: nn.BatchNorm(3, axes=None)(Tensor(np.zeros(3), name="x")),
            ValueError,
            "BatchNorm: 3 features must be left when axes (0,) are averaged over, but "
            "'x'(3,) was received, which leaves (). Check num_features, axes and the "
            "layer before it.",
            id="a vector for batch norm over all but axis 1",
        ),
        pytest.param(
            lambda: nn.Flatten()(Tensor(np.zeros(3), name="x")),
            ValueError,
            "axis must name existing axes, each once, but 1 was received for 'x'(3,).",
            id="a vector for Flatten",
        ),
        pytest.param(
            lambda: nn.Flatten(2, 1)(Tensor(np.zeros((2, 3, 4)), name="x")),
            ValueError,
            "flatten: start_axis must not come after end_axis, but 2 and 1 were "
            "received for 'x'(2, 3, 4).",
            id="axes in the wrong order",
        ),
        pytest.param(
            lambda: nn.ModuleList([nn.Identity(), nn.Tanh]),
            TypeError,
            "ModuleList: every item must be a module, but item 1 is <class "
            "'tinygrad_bn.nn.Tanh'>. Is it a class that was not called, a function, or "
            "a module of PyTorch (which tg.from_torch converts)?",
            id="a class in a list of modules",
        ),
    ],
)
def test_errors_say_what_must_hold_and_what_was_received(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


def test_a_network_cannot_become_one_of_pytorch_where_pytorch_is_not_installed(
    monkeypatch,
):
    monkeypatch.setattr("tinygrad_bn.pytorch.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="python -m pip install torch"):
        tg.to_torch(nn.Linear(2, 3))
