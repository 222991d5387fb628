"""The gradient check itself: right gradients pass, wrong ones are caught and named."""

import numpy as np
import pytest
from conftest import randn

import tinygrad_bn as tg
from tinygrad_bn import Tensor, check_gradients, ops
from tinygrad_bn.batchnorm import _fused
from tinygrad_bn.check import SEED

EPS = 1e-5


# --- Five wrong backward passes of batch norm -----------------------------------------


def parts(g, saved, x):
    x_c, inv_std, _, _, var = saved
    x_hat = x_c * inv_std
    return x_hat, inv_std, var, g.mean(0), (g * x_hat).mean(0), len(x)


def x_hat_term_dropped(g, saved, x, gamma):
    _, inv_std, _, mean_g, _, _ = parts(g, saved, x)
    return gamma * inv_std * (g - mean_g)


def mean_term_dropped(g, saved, x, gamma):
    x_hat, inv_std, _, _, mean_g_x_hat, _ = parts(g, saved, x)
    return gamma * inv_std * (g - x_hat * mean_g_x_hat)


def m_minus_1_for_m(g, saved, x, gamma):
    x_hat, inv_std, _, mean_g, mean_g_x_hat, m = parts(g, saved, x)
    return gamma * inv_std * (g - (mean_g + x_hat * mean_g_x_hat) * (m / (m - 1)))


def eps_outside_the_root(g, saved, x, gamma):
    x_hat, _, var, mean_g, mean_g_x_hat, _ = parts(g, saved, x)
    return gamma / (np.sqrt(var) + EPS) * (g - mean_g - x_hat * mean_g_x_hat)


def zero(g, saved, x, gamma):
    return np.zeros_like(x)


def right(g, saved, x, gamma):
    x_hat, inv_std, _, mean_g, mean_g_x_hat, _ = parts(g, saved, x)
    return gamma * inv_std * (g - mean_g - x_hat * mean_g_x_hat)


WRONG = [
    x_hat_term_dropped,
    mean_term_dropped,
    m_minus_1_for_m,
    eps_outside_the_root,
    zero,
]


def batch_norm_with(d_x_of):
    """Batch norm whose backward pass computes d_x with the given function."""

    def backward(g, saved, needs, x, gamma, beta, *, axes, eps):
        _, *rest = _fused.backward(g, saved, needs, x, gamma, beta, axes=axes, eps=eps)
        return d_x_of(g, saved, x, gamma), *rest

    operation = tg.Fused("my_batch_norm", _fused.forward, backward, tg.batch_norm)

    def my_batch_norm(x, gamma, beta):
        return operation(x, gamma, beta, axes=(0,), eps=EPS)

    return my_batch_norm


def test_the_right_backward_pass_of_batch_norm_passes():
    check_gradients(batch_norm_with(right), randn(8, 3), randn(3, seed=1), randn(3))


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_backward_pass_of_batch_norm_is_caught(wrong):
    inputs = randn(8, 3), randn(3, seed=1), randn(3)
    with pytest.raises(AssertionError) as error:
        check_gradients(batch_norm_with(wrong), *inputs)
    assert str(error.value).startswith(
        "check_gradients(my_batch_norm), order 1, input 0 'x'(8, 3): the slope along a "
        "random direction must be the same by pullbacks and by differences, but "
    )


@pytest.mark.parametrize("wrong", [x_hat_term_dropped, eps_outside_the_root, zero])
def test_the_loss_sum_of_y_compares_0_with_0_and_misses_the_mistake(wrong):
    x = Tensor(randn(8, 3), requires_grad=True)
    gamma, beta = randn(3, seed=1), randn(3)
    v, h = randn(8, 3, seed=2), 1e-4

    def loss(x):
        return batch_norm_with(wrong)(x, gamma, beta).sum()

    by_rules = (tg.grad(loss(x), x).data * v).sum()
    up, down = loss(Tensor(x.data + h * v)), loss(Tensor(x.data - h * v))
    assert abs(by_rules) < 1e-9
    assert abs((up - down).item() / (2 * h)) < 1e-9


# --- Wrong primitives -----------------------------------------------------------------


def test_a_wrong_sign_is_caught_and_the_message_gives_all_sizes():
    minus_exp = tg.Primitive("minus_exp", np.exp, lambda g, y, x: g * -y)
    with pytest.raises(AssertionError) as error:
        check_gradients(minus_exp, Tensor(randn(2), name="u"), directions=1)
    rng = np.random.default_rng(SEED)
    terms = rng.standard_normal(2) * np.exp(randn(2))
    slopes = terms * rng.uniform(0.5, 1, 2) * rng.choice([-1, 1], 2)
    scale = np.abs(terms).sum() + 2 * np.abs(slopes).sum()
    assert str(error.value) == (
        "check_gradients(minus_exp), order 1, input 0 'u'(2,): the slope along a "
        "random direction must be the same by pullbacks and by differences, but "
        f"pullbacks give {-slopes.sum():+.9g} and differences {slopes.sum():+.9g}, at "
        f"a scale of {scale:.3g}. Correct the pullback; if it is right, keep inputs "
        "away from kinks, or change step=."
    )


def test_a_missing_factor_is_caught():
    square = tg.Primitive("square", np.square, lambda g, y, x: g * x)
    with pytest.raises(AssertionError, match=r"\(square\), order 1, input 0"):
        check_gradients(square, randn(3))


def test_a_relative_error_of_a_hundred_thousandth_is_caught():
    factor = 1 + 1e-5
    almost = tg.Primitive("almost", np.exp, lambda g, y, x: g * y * factor)
    with pytest.raises(AssertionError, match=r"\(almost\), order 1, input 0"):
        check_gradients(almost, randn(50))


def test_one_wrong_entry_of_many_is_caught():
    mask = np.ones(1000)
    mask[617] = 1.01
    almost = tg.Primitive("almost", np.exp, lambda g, y, x: g * y * mask)
    with pytest.raises(AssertionError, match=r"\(almost\), order 1, input 0"):
        check_gradients(almost, randn(1000))


def test_the_message_names_the_input_whose_gradient_is_wrong():
    product = tg.Primitive(
        "product", np.multiply, lambda g, y, a, b: g * b, lambda g, y, a, b: g * b
    )
    with pytest.raises(AssertionError, match=r"order 1, input 1 'right'\(3,\)"):
        check_gradients(
            lambda left, right: product(left, right), randn(3), randn(3) + 2
        )


def test_a_gradient_with_nan_is_caught():
    nan = tg.Primitive("nan", np.exp, lambda g, y, x: g * float("nan"))
    with pytest.raises(AssertionError, match="pullbacks give [+]?nan"):
        check_gradients(nan, randn(3))


def test_a_rule_that_is_right_only_at_first_order_is_caught():
    """Its gradient is right, but does not remember that it depends on x."""
    forgets_x = tg.Primitive("forgets_x", np.exp, lambda g, y, x: g * np.asarray(y))
    check_gradients(forgets_x, randn(3), order=1)
    with pytest.raises(AssertionError, match=r"order 2, input 0 tensor\(3,\)"):
        check_gradients(forgets_x, randn(3))


def test_a_rule_that_forgets_how_it_depends_on_the_cotangent_is_caught():
    forgets_g = tg.Primitive("forgets_g", np.exp, lambda g, y, x: np.asarray(g) * y)
    check_gradients(forgets_g, randn(3), order=1)
    expected = r"order 2, input 1 'cotangent of order 1'\(3,\)"
    with pytest.raises(AssertionError, match=expected):
        check_gradients(forgets_g, randn(3))


def test_a_rule_that_is_wrong_from_the_third_order_on_is_caught_at_that_order():
    cosine = tg.Primitive("cosine", np.cos, lambda g, y, x: g * -np.sin(np.asarray(x)))
    sine = tg.Primitive("sine", np.sin, lambda g, y, x: g * cosine(x))
    check_gradients(sine, randn(3), order=2)
    with pytest.raises(AssertionError, match=r"\(sine\), order 3, input 0"):
        check_gradients(sine, randn(3), order=3)


def test_a_fused_operation_whose_definition_differs_is_caught():
    """Its backward pass is right. Its definition, used with create_graph, is wrong."""
    operation = tg.Fused(
        "cube",
        lambda x: (x**3, None),
        lambda g, saved, needs, x: (g * 3 * x**2,),
        definition=lambda x: x**3 + 0.5 * x,
    )
    with pytest.raises(AssertionError) as error:
        check_gradients(operation, np.array([1.0]), directions=1)
    g = np.random.default_rng(SEED).standard_normal(1)
    assert str(error.value) == (
        "check_gradients(cube), order 1, input 0 tensor(1,): the gradient must be the "
        f"same with and without create_graph, but its size is {abs(g[0]) * 3.5:.9g} "
        f"with and {abs(g[0]) * 3:.9g} without, and they differ by "
        f"{abs(g[0]) * 0.5:.3g}. A pullback must use operators and functions of tg "
        "only; a fused operation must compute what its definition computes."
    )


def test_a_gradient_that_misses_a_detached_factor_is_caught():
    with pytest.raises(AssertionError, match="order 1, input 0 'x'"):
        check_gradients(lambda x: tg.exp(x) * x.detach(), randn(3))


# --- What passes ----------------------------------------------------------------------


def test_a_gradient_that_cancels_is_compared_with_the_size_of_its_parts():
    u, gamma = randn(8, 3), randn(3, seed=1)
    check_gradients(lambda b: tg.batch_norm(u + b, gamma), randn(3))


def test_a_small_function_is_checked_relative_to_its_own_size():
    tiny = 1e-30
    check_gradients(lambda x: tg.exp(x) * tiny, randn(3))
    minus_exp = tg.Primitive("minus_exp", np.exp, lambda g, y, x: g * -y)
    with pytest.raises(AssertionError):
        check_gradients(lambda x: minus_exp(x) * tiny, randn(3))


def test_third_and_fourth_order_can_be_checked():
    check_gradients(lambda x: tg.tanh(x), randn(3), order=4)


def test_a_function_that_ignores_an_input_passes():
    check_gradients(lambda x, unused: x * 2, randn(3), randn(2))


def test_a_kink_within_two_steps_is_caught_and_a_smaller_step_passes():
    x = np.array([0.0015, -1.0])
    with pytest.raises(AssertionError, match="keep inputs away from kinks"):
        check_gradients(tg.relu, x)
    check_gradients(tg.relu, x, step=1e-4)


def test_lists_floats_and_numpy_functions_are_accepted():
    check_gradients(np.exp, [0.5, 1.0])
    check_gradients(lambda x: x**3, 2.0)


def test_the_function_gets_copies_in_float64_and_the_callers_tensor_is_unchanged():
    u = Tensor(randn(3).astype(np.float32), name="u")
    values, timestamp = u.data.copy(), u.timestamp
    seen = []

    def f(x):
        seen.append((x is u, x.dtype, x.name, x.requires_grad))
        return x * x

    check_gradients(f, u)
    assert set(seen) == {(False, np.dtype(np.float64), "u", True)}
    assert u.dtype == np.float32 and not u.requires_grad and u.grad is None
    assert u.timestamp == timestamp
    np.testing.assert_array_equal(u.data, values)


def test_two_runs_use_the_same_random_numbers():
    seen = []

    def f(x):
        seen.append(x.data)
        return x * x

    check_gradients(f, randn(3))
    check_gradients(f, randn(3))
    half = len(seen) // 2
    np.testing.assert_array_equal(seen[:half], seen[half:])


def test_the_random_cotangent_differs_from_data_made_with_a_small_seed():
    """With g = x, the right d_x of batch norm is 0, and so are many wrong ones."""
    cotangents = []

    def rule(g, y, x):
        cotangents.append(np.array(g))
        return g * y

    check_gradients(tg.Primitive("my_exp", np.exp, rule), randn(3), order=1)
    for seed in range(100):
        assert not np.isin(randn(3, seed=seed), cotangents).any()


# --- Invalid arguments ----------------------------------------------------------------


def test_a_check_without_inputs_is_an_error():
    with pytest.raises(ValueError) as error:
        check_gradients(tg.exp)
    assert str(error.value) == (
        "check_gradients(exp): there must be an input, and order and directions must "
        "be at least 1, but 0 inputs, order=2 and directions=3 were received."
    )


def test_an_order_below_one_is_an_error():
    with pytest.raises(ValueError, match="but 1 inputs, order=0"):
        check_gradients(tg.exp, randn(3), order=0)


def test_integer_inputs_are_an_error():
    with pytest.raises(TypeError) as error:
        check_gradients(ops.add, randn(3), np.arange(3))
    assert str(error.value) == (
        "check_gradients(add): inputs must be floating-point, but input 1 is int64. "
        "Convert it, or pass it by a lambda: "
        "check_gradients(lambda x: f(x, labels), x)."
    )


@pytest.mark.parametrize(
    "f, received",
    [
        (lambda x: (x, x), "<class 'tuple'>"),
        (lambda x: x.data, "<class 'numpy.ndarray'>"),
        (lambda x: x.astype(np.float32), "a tensor of float32"),
        (lambda x: Tensor([1, 2]), "a tensor of int64"),
    ],
)
def test_a_result_that_is_not_a_float64_tensor_is_an_error(f, received):
    with pytest.raises(TypeError) as error:
        check_gradients(f, randn(3))
    assert str(error.value) == (
        "check_gradients(<lambda>): f must return one float64 tensor, like its inputs, "
        f"but {received} was received. Let no operation convert."
    )
