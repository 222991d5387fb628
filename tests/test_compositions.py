"""Functions composed of primitives: PyTorch's values and gradients, limits, dtypes."""

import numpy as np
import pytest
from conftest import leaf, randn

import tinygrad_bn as tg
from tinygrad_bn import Tensor, compositions, nn

# The function for our tensors, the one for PyTorch's, and the shapes of the inputs.
CASES = {
    "softmax": (lambda x: tg.softmax(x), lambda t, x: t.softmax(x, -1), (4, 3)),
    "softmax over 0": (
        lambda x: tg.softmax(x, 0),
        lambda t, x: t.softmax(x, 0),
        (4, 3),
    ),
    "log_softmax": (
        lambda x: tg.log_softmax(x),
        lambda t, x: t.log_softmax(x, -1),
        (4, 3),
    ),
    "log_softmax over 1": (
        lambda x: tg.log_softmax(x, axis=1),
        lambda t, x: t.log_softmax(x, 1),
        (2, 3, 4),
    ),
    "logsumexp": (
        lambda x: tg.logsumexp(x),
        lambda t, x: t.logsumexp(x, (0, 1)),
        (4, 3),
    ),
    "logsumexp over 0, 2, keepdims": (
        lambda x: tg.logsumexp(x, (0, 2), keepdims=True),
        lambda t, x: t.logsumexp(x, (0, 2), keepdim=True),
        (2, 3, 4),
    ),
    "min": (lambda x: x.min(axis=1), lambda t, x: t.amin(x, 1), (4, 3)),
    "minimum": (
        lambda x, y: tg.minimum(x, y),
        lambda t, x, y: t.minimum(x, y),
        (4, 3),
        (3,),
    ),
    "clip": (lambda x: x.clip(-0.5, 0.5), lambda t, x: t.clamp(x, -0.5, 0.5), (4, 3)),
    "clip from above": (
        lambda x: tg.clip(x, high=0.5),
        lambda t, x: t.clamp(x, max=0.5),
        (4, 3),
    ),
    "std": (lambda x: x.std(), lambda t, x: t.std(x, correction=0), (4, 3)),
    "std with ddof": (
        lambda x: x.std(0, ddof=1),
        lambda t, x: t.std(x, 0, correction=1),
        (4, 3),
    ),
    "var with ddof": (
        lambda x: x.var((0, 2), keepdims=True, ddof=1),
        lambda t, x: t.var(x, (0, 2), correction=1, keepdim=True),
        (2, 3, 4),
    ),
    "flatten": (lambda x: x.flatten(1), lambda t, x: t.flatten(x, 1), (2, 3, 4)),
    "squeeze": (lambda x: x.squeeze(1), lambda t, x: t.squeeze(x, 1), (2, 1, 4)),
    "expand_dims": (lambda x: x.expand_dims(1), lambda t, x: x.unsqueeze(1), (2, 3)),
    "broadcast_to": (
        lambda x: tg.broadcast_to(x, (4, 2, 3)),
        lambda t, x: t.broadcast_to(x, (4, 2, 3)),
        (2, 1),
    ),
    "exp, log, sqrt, abs": (
        lambda x: (x * x + 1).abs().log() + (x.exp() + 1).sqrt(),
        lambda t, x: (x * x + 1).abs().log() + (x.exp() + 1).sqrt(),
        (4, 3),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_to_second_order_are_those_of_pytorch(torch, case):
    ours, theirs, *shapes = CASES[case]
    arrays = [randn(*shape, seed=i) for i, shape in enumerate(shapes)]
    xs = [leaf(a) for a in arrays]
    their_xs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, their_y = ours(*xs), theirs(torch, *their_xs)
    g = leaf(randn(*y.shape, seed=7))
    their_g = torch.tensor(g.data, requires_grad=True)

    first = tg.grad(y, xs, gradient=g, create_graph=True)
    their_first = torch.autograd.grad(their_y, their_xs, their_g, create_graph=True)
    total = sum((d * randn(*d.shape, seed=8)).sum() for d in first)
    their_total = sum(
        (d * torch.tensor(randn(*d.shape, seed=8))).sum() for d in their_first
    )
    second = tg.grad(total, [*xs, g])
    their_second = torch.autograd.grad(
        their_total, [*their_xs, their_g], allow_unused=True
    )
    assert y.shape == tuple(their_y.shape)
    outcomes = zip([y, *first, *second], [their_y, *their_first, *their_second])
    for value, expected in outcomes:
        expected = 0 if expected is None else expected.detach().numpy()
        np.testing.assert_allclose(value.data, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_the_gradient_check_confirms_the_gradients(case):
    ours, _, *shapes = CASES[case]
    tg.check_gradients(ours, *(randn(*shape, seed=i) for i, shape in enumerate(shapes)))


# --- Softmax --------------------------------------------------------------------------


def test_softmax_is_a_distribution_and_logsumexp_its_logarithmic_scale():
    x = Tensor(randn(5, 4))
    p = tg.softmax(x, axis=1)
    np.testing.assert_allclose(p.data.sum(axis=1), 1, rtol=1e-15)
    log_scale = tg.logsumexp(x, axis=1, keepdims=True)
    np.testing.assert_allclose(p.data, np.exp(x.data - log_scale.data), rtol=1e-14)
    np.testing.assert_allclose(tg.log_softmax(x, 1).data, np.log(p.data), rtol=1e-14)
    np.testing.assert_allclose(
        log_scale.data[:, 0], np.log(np.exp(x.data).sum(1)), rtol=1e-14
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_softmax_of_large_values_does_not_overflow(dtype):
    largest = float(np.finfo(dtype).max) / 2
    x = leaf([largest, 0.0, -largest], dtype=dtype)
    for function, value, first in [
        (tg.softmax, [1, 0, 0], [0, 0, 0]),
        (tg.logsumexp, largest, [1, 0, 0]),
    ]:
        y = function(x)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y.data, np.array(value, dtype))
        d_x = tg.grad(y[0] if y.ndim else y, x)
        np.testing.assert_array_equal(d_x.data, np.array(first, dtype))


def test_a_probability_of_zero_has_gradient_zero():
    x = leaf([[0.0, -np.inf, 0.0]])
    assert tg.softmax(x).data.tolist() == [[0.5, 0, 0.5]]
    assert tg.logsumexp(x).item() == np.log(2)
    assert tg.grad(tg.logsumexp(x), x).data.tolist() == [[0.5, 0, 0.5]]
    assert tg.grad(tg.softmax(x)[0, 0], x).data.tolist() == [[0.25, 0, -0.25]]


def test_an_infinite_value_is_the_logsumexp():
    assert tg.logsumexp(Tensor([np.inf, 1.0])).item() == np.inf


def test_softmax_takes_integers_lists_and_arrays():
    expected = np.exp([1, 2, 3]) / np.exp([1, 2, 3]).sum()
    for x in ([1, 2, 3], np.array([1, 2, 3]), np.array([1, 2, 3], np.uint8)):
        y = tg.softmax(x)
        assert isinstance(y, np.ndarray)
        np.testing.assert_allclose(y, expected, rtol=1e-15)
        np.testing.assert_allclose(tg.softmax(Tensor(x)).data, expected, rtol=1e-15)


def test_softmax_and_reductions_fold_into_one_box():
    y = tg.softmax(leaf(randn(2, 3)))
    assert {node.scope.name for node in tg.tape(y)} == {"softmax"}


# --- Standard deviation ---------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("value", [0.0, 0.1, 1e8 / 3, -7.3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_standard_deviation_of_equal_values_is_0_with_gradient_0(dtype, value, n):
    x = leaf(np.full(n, value), dtype=dtype)
    assert x.std().item() == 0
    d_x = tg.grad(x.std(), x, create_graph=True)
    np.testing.assert_array_equal(d_x.data, 0)
    np.testing.assert_array_equal(tg.grad(d_x.sum(), x).data, 0)


def test_equal_values_in_one_column_leave_the_others_their_gradient():
    x = leaf([[1.0, 0.1], [3.0, 0.1], [8.0, 0.1]])
    y = x.std(axis=0)
    np.testing.assert_allclose(y.data, [x.data[:, 0].std(), 0], rtol=1e-15)
    d_x = tg.grad(y.sum(), x).data
    np.testing.assert_allclose(d_x[:, 0], (x.data[:, 0] - 4) / (3 * y.data[0]))
    np.testing.assert_array_equal(d_x[:, 1], 0)


def test_the_standard_deviation_is_accurate_far_from_zero():
    x = Tensor(np.array([1.0, 2.0, 4.0]) + 1e7, dtype=np.float32)
    assert x.std().item() == pytest.approx(np.std([1.0, 2.0, 4.0]), rel=1e-6)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_reductions_of_integers_are_those_of_numpy(dtype):
    x = np.array([[1, 0, 1], [0, 0, 1]], dtype)
    for name in ("mean", "var", "std", "min", "max", "sum"):
        for axis in (None, 0, 1):
            y, expected = getattr(Tensor(x), name)(axis), getattr(x, name)(axis)
            np.testing.assert_allclose(y.data, expected, rtol=1e-15)
            assert y.dtype == expected.dtype


@pytest.mark.parametrize("ddof", [1, 0.5, 2])
def test_ddof_is_that_of_numpy(ddof):
    x = randn(5, 3)
    for name in ("var", "std"):
        ours = getattr(Tensor(x), name)(axis=0, ddof=ddof)
        np.testing.assert_allclose(ours.data, getattr(x, name)(axis=0, ddof=ddof))


# --- Half precision -------------------------------------------------------------------


def test_averages_of_float16_do_not_overflow():
    x = leaf(np.full(100_000, 3.0), dtype=np.float16)
    x[::2] = 5.0
    for name, expected in [("mean", 4.0), ("var", 1.0), ("std", 1.0)]:
        y = getattr(x, name)()
        assert (y.item(), y.dtype) == (expected, np.float16)
    d_x = tg.grad(x.mean() * 100, x)
    assert d_x.dtype == np.float16
    np.testing.assert_array_equal(d_x.data, np.float16(1e-3))


def test_softmax_of_many_float16_values_does_not_overflow():
    x = leaf(np.full(100_000, 3.0), dtype=np.float16)
    total = tg.logsumexp(x)
    assert (total.item(), total.dtype) == (np.float16(3 + np.log(100_000)), np.float16)
    for y, expected in [
        (tg.softmax(x), 1e-5),
        (tg.log_softmax(x), -np.log(100_000)),
        (tg.grad(total, x), 1e-5),
    ]:
        assert y.dtype == np.float16
        np.testing.assert_array_equal(y.data, np.float16(expected))


def test_losses_of_many_float16_values_are_accurate():
    logits = Tensor(np.zeros((100_000, 3)), dtype=np.float16)
    loss = nn.cross_entropy(logits, np.zeros(100_000, int))
    assert (loss.item(), loss.dtype) == (np.float16(np.log(3)), np.float16)
    loss = nn.mse_loss(logits, logits.data + np.float16(2))
    assert (loss.item(), loss.dtype) == (4.0, np.float16)


@pytest.mark.parametrize("function", [tg.batch_norm, tg.fused_batch_norm])
def test_batch_norm_of_many_float16_values_is_that_of_float64(function):
    x = (randn(100_000, 2) * 3 + 100).astype(np.float16)
    g = randn(100_000, 2, seed=1) + 1
    half, double = leaf(x), leaf(x, dtype=np.float64)
    y, expected = function(half), function(double)
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.data, expected.data, rtol=0, atol=3e-3)
    d_x, d_expected = tg.grad(y, half, g), tg.grad(expected, double, g)
    assert d_x.dtype == np.float16
    np.testing.assert_allclose(d_x.data, d_expected.data, rtol=0, atol=2e-3)


@pytest.mark.parametrize("function", [tg.batch_norm, tg.fused_batch_norm])
def test_a_wider_gamma_decides_the_dtype_of_batch_norm_as_in_numpy(function):
    x, ones = Tensor(randn(6, 3), dtype=np.float16), np.ones(3, np.float32)
    assert function(x, Tensor(ones)).dtype == np.float32
    assert function(x, gamma=ones).dtype == np.float32
    assert function(x, Tensor(ones, dtype=np.float16)).dtype == np.float16


# --- Indices and other values without gradient ----------------------------------------


def test_argmax_and_argmin_are_integers_as_in_numpy():
    x = leaf([[1.0, 3.0, 3.0], [5.0, -2.0, 0.0]])
    for name in ("argmax", "argmin"):
        ours, numpys = getattr(x, name), getattr(x.data, name)
        for axis, keepdims in [(None, False), (0, False), (-1, True), (None, True)]:
            y = ours(axis, keepdims=keepdims)
            assert isinstance(y, Tensor) and y.dtype == np.intp
            assert not y.requires_grad
            np.testing.assert_array_equal(y.data, numpys(axis, keepdims=keepdims))
    assert x.reshape(2, 3, 1).argmax(axis=1).tolist() == [[1], [0]]
    assert x.reshape(1, 2, 3).argmin(axis=1).tolist() == [[0, 1, 1]]
    assert (x.argmax(axis=1) == [1, 0]).all()
    np.testing.assert_array_equal(x[0, x[0].argmax()].data, 3.0)


def test_tolist_gives_python_numbers():
    values = Tensor([[1.0, 2.0], [3.0, 4.5]]).tolist()
    assert values == [[1.0, 2.0], [3.0, 4.5]]
    assert type(values[0][0]) is float
    assert Tensor(3).tolist() == 3


def test_clip_keeps_the_dtype_and_takes_lists():
    assert Tensor([0.2, 3.0], dtype=np.float32).clip(0, 1).dtype == np.float32
    assert tg.clip([0.2, 3.0], 0, 1).tolist() == [0.2, 1.0]
    assert tg.clip([1, 5], np.int64(2), np.float64(4)).tolist() == [2, 4]


def test_an_axis_may_be_an_array_or_tensor_of_an_integer():
    x = Tensor(randn(2, 3))
    for axis in (np.array(1), np.int64(1), Tensor(1), [1], np.array([1])):
        np.testing.assert_array_equal(x.sum(axis).data, x.data.sum(1))


def test_flatten_and_squeeze_of_a_scalar():
    assert Tensor(3.0).flatten().shape == (1,)
    assert Tensor(3.0).squeeze().shape == ()


def test_negation_of_unsigned_integers_wraps_around_as_in_numpy():
    x = np.array([0, 1, 200], np.uint8)
    np.testing.assert_array_equal((-Tensor(x)).data, -x)
    np.testing.assert_array_equal(np.negative(Tensor(x)).data, -x)


def test_losses_take_lists():
    logits = [[1.0, 2.0], [0.5, -1.0]]
    expected = nn.cross_entropy(Tensor(logits), [1, 0]).item()
    assert nn.cross_entropy(logits, [1, 0]).item() == expected
    assert nn.mse_loss([1.0, 2.0], [3.0, 5.0]).item() == 6.5


# --- Errors ---------------------------------------------------------------------------

MASKED = np.ma.masked_array([1.0, 2.0], [False, True])
LOST = (
    "data must not be masked, because the mask would be lost. Use "
    "array.filled(value), or tg.where(mask, ...) to compute with a mask."
)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        pytest.param(
            lambda: Tensor([1.0]).clip(),
            TypeError,
            "clip: low and high must be numbers, or one of them None, but None and "
            "None were received for tensor(1,). For other bounds, use tg.maximum "
            "and tg.minimum, which also differentiate them.",
            id="clip without bounds",
        ),
        pytest.param(
            lambda: Tensor([1.0], name="x").clip(leaf(0.0, name="low")),
            TypeError,
            "clip: low and high must be numbers, or one of them None, but 'low' "
            "(scalar) and None were received for 'x'(1,). For other bounds, use "
            "tg.maximum and tg.minimum, which also differentiate them.",
            id="a tensor as bound",
        ),
        pytest.param(
            lambda: tg.softmax([leaf(1.0), leaf(2.0)]),
            TypeError,
            "softmax: inputs must be tensors, arrays or numbers, but a sequence of "
            "tensors was received. Use tg.stack(tensors), which keeps gradients.",
            id="a list of tensors for softmax",
        ),
        pytest.param(
            lambda: tg.matmul([leaf(1.0), leaf(2.0)], leaf([[1.0], [2.0]])),
            TypeError,
            "matmul: inputs must be tensors, arrays or numbers, but a sequence of "
            "tensors was received. Use tg.stack(tensors), which keeps gradients.",
            id="a list of tensors for matmul",
        ),
        pytest.param(
            lambda: tg.concatenate([[leaf(1.0)], [leaf(2.0)]]),
            TypeError,
            "concatenate: inputs must be tensors, arrays or numbers, but a sequence of "
            "tensors was received. Use tg.stack(tensors), which keeps gradients.",
            id="lists of tensors for concatenate",
        ),
        pytest.param(
            lambda: Tensor(MASKED),
            TypeError,
            f"Tensor(data): {LOST}",
            id="a masked array as data",
        ),
        pytest.param(
            lambda: tg.softmax(MASKED),
            TypeError,
            f"softmax: {LOST}",
            id="softmax of a masked array",
        ),
        pytest.param(
            lambda: tg.concatenate([Tensor([1.0]), None]),
            TypeError,
            "concatenate: data must be real numbers, but NumPy reads None as dtype "
            "object.",
            id="None for concatenate",
        ),
        pytest.param(
            lambda: tg.concatenate([MASKED, Tensor([1.0])]),
            TypeError,
            f"concatenate: {LOST}",
            id="a masked array to be joined",
        ),
    ],
)
def test_errors_say_what_must_hold_and_what_was_received(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


def test_a_masked_array_is_refused_by_operations_with_a_gradient():
    for f in (lambda x: x + MASKED, lambda x: tg.maximum(MASKED, x)):
        with pytest.raises(TypeError, match="data must not be masked"):
            f(leaf([1.0, 2.0]))


def test_the_functions_of_the_package_are_those_of_this_file():
    for name in ("softmax", "log_softmax", "logsumexp", "clip", "squeeze"):
        assert getattr(tg, name) is getattr(compositions, name)
