"""What must not go wrong in silence: each of these once gave a wrong number."""

import copy
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

import tinygrad_bn as tg
from tinygrad_bn import Tensor, functional, nn, ops, optim


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def leaf(values, name=None):
    return Tensor(values, requires_grad=True, name=name)


# --- Memory ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "view",
    [lambda x: x.reshape(2, 1), lambda x: x.T, lambda x: x[::-1], tg.stop_gradient],
)
def test_an_output_keeps_its_values_when_the_leaf_it_came_from_changes(view):
    w = leaf([1.0, 2.0])
    y = view(w)
    before = y.data.copy()
    w[...] = [10.0, 20.0]
    np.testing.assert_array_equal(y.data, before)


def test_a_changed_leaf_does_not_reach_a_gradient_through_a_view():
    w, a = leaf([1.0, 2.0]), leaf([1.0, 1.0])
    product = (w.reshape(2, 1) * a.reshape(2, 1)).sum()
    w[...] = [10.0, 20.0]
    assert tg.grad(product, a).data.tolist() == [1, 2]


def test_a_copy_of_an_output_is_as_read_only_as_the_output():
    y = copy.deepcopy(tg.exp(leaf([0.0])))
    with pytest.raises(TypeError, match="only leaves can be assigned to"):
        y[0] = 100


def test_a_shallow_copy_of_a_leaf_has_its_own_values():
    a = leaf([3.0])
    b = copy.copy(a)
    b[0] = 50
    assert a.data.tolist() == [3]


def test_a_copied_graph_has_the_same_operations():
    assert copy.deepcopy(tg.exp(leaf([0.0]))).op is ops.exp


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


# --- Gradients that would get lost ----------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [tg.exp, lambda x: tg.maximum(x, 0), lambda x: Tensor([1.0, 2.0]) + x],
)
def test_a_list_of_tensors_is_no_input(function):
    a, b = leaf(1.0), leaf(2.0)
    with pytest.raises(TypeError, match=r"Use tg.stack\(tensors\)"):
        function([a, b])


def test_a_tensor_with_a_gradient_cannot_be_written_into_a_leaf():
    out, w = Tensor(np.zeros(2)), leaf([1.0, 2.0], "w")
    with pytest.raises(TypeError) as error:
        out[0] = w[0]
    assert str(error.value) == (
        "tensor[index] = values: values must be numbers, but tensor() has a gradient "
        "to lose. Use tg.stack or tg.concatenate, or values.data."
    )


def test_a_fused_backward_must_return_a_gradient_for_every_input():
    def forward(a, b):
        return a * b, None

    def backward(g, saved, needs, a, b):
        return (g * b,)

    broken = tg.Fused("broken", forward, backward, definition=lambda a, b: a * b)
    with pytest.raises(ValueError) as error:
        broken(leaf([1.0]), leaf([2.0])).sum().backward()
    assert str(error.value) == (
        "broken: backward must return one gradient per input, but for 2 inputs it "
        "returned 1. Return None where none is needed."
    )


def test_a_rule_that_returns_a_number_is_named():
    constant = tg.Primitive("constant", lambda x: x * 1, lambda g, y, x: 1.0)
    with pytest.raises(
        ValueError, match="constant: the gradient .* returned 1.0. Correct"
    ):
        constant(leaf([1.0, 2.0])).sum().backward()


# --- Gradients that are written where an optimizer keeps them -------------------------


def linear_loss(x, w, g):
    """A loss whose gradient by w is written at once into the optimizer's buffer."""
    return (functional.fused_linear(x, w, None) * g).sum()


@pytest.mark.parametrize("times", [1, 2])
def test_a_weight_used_several_times_gets_the_sum(rng, times):
    x, w = rng.standard_normal((2, 4, 3, 3))
    found = []
    for adopted in (False, True):
        weight = leaf(w[0])
        optimizer = optim.SGD([weight], lr=0.1) if adopted else None
        loss = linear_loss(x[0], weight, w[1]) + (weight * w[2]).sum()
        loss = loss + linear_loss(x[1], weight, w[3]) * 0.5
        for _ in range(times):
            loss.backward()
        found.append(weight.grad.copy())
        assert optimizer is None or np.shares_memory(weight.grad, optimizer.grad)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    expected = x[0].T @ w[1] + w[2] + 0.5 * x[1].T @ w[3]
    np.testing.assert_allclose(found[0], times * expected, rtol=1e-12)


def test_two_layers_with_one_weight_do_not_write_over_each_other(rng):
    x, w, g = rng.standard_normal((3, 3, 3))
    weight = leaf(w)
    optim.SGD([weight], lr=0.1)
    h = functional.fused_linear(x, weight, None)
    (functional.fused_linear(h, weight, None) * g).sum().backward()
    np.testing.assert_allclose(weight.grad, (x @ w).T @ g + x.T @ (g @ w.T), rtol=1e-12)


@pytest.mark.parametrize("first", [True, False])
def test_a_backward_pass_within_a_backward_pass_adds_its_gradient(rng, first):
    x, w, g, more = rng.standard_normal((4, 3, 3))
    weight = leaf(w)
    optim.SGD([weight], lr=0.1)

    def inner(d_y, y, a):
        linear_loss(x, weight, more).backward()
        return d_y

    nested = tg.Primitive("nested", lambda a: a.view(), inner)
    h = leaf(x)
    y = functional.fused_linear(h, weight, None)
    y = nested(y) if first else functional.fused_linear(nested(h), weight, None)
    (y * g).sum().backward()
    np.testing.assert_allclose(weight.grad, x.T @ g + x.T @ more, rtol=1e-12)


def test_a_backward_pass_that_fails_leaves_no_gradient_behind(rng):
    def fails(g, y, a):
        raise ZeroDivisionError

    weight, x = leaf(rng.standard_normal((3, 3))), leaf(rng.standard_normal((2, 3)))
    optimizer = optim.SGD([weight], lr=0.1)
    failing = tg.Primitive("failing", lambda a: a.view(), fails)
    with pytest.raises(ZeroDivisionError):
        functional.fused_linear(failing(x), weight, None).sum().backward()
    assert weight.grad is None
    before = weight.data.copy()
    optimizer.step()
    np.testing.assert_array_equal(weight.data, before)
    functional.fused_linear(x, weight, None).sum().backward()
    assert np.shares_memory(weight.grad, optimizer.grad)


def test_a_gradient_of_another_dtype_goes_home_as_a_copy(rng):
    x, w, b, g = (rng.standard_normal(shape) for shape in ((4, 3), (3, 2), 2, (4, 2)))
    weight, bias = (Tensor(v, requires_grad=True, dtype=np.float32) for v in (w, b))
    optimizer = optim.SGD([weight, bias], lr=0.1)
    y = functional.fused_linear(Tensor(x), weight, bias)
    assert y.dtype == np.float64
    (y * g).sum().backward()
    np.testing.assert_allclose(weight.grad, x.T @ g, rtol=1e-6)
    np.testing.assert_allclose(bias.grad, g.sum(axis=0), rtol=1e-6)
    for p in (weight, bias):
        assert p.grad.dtype == np.float32
        assert np.shares_memory(p.grad, optimizer.grad)


def test_an_optimizer_made_within_a_backward_pass_keeps_its_parameters(rng):
    weight, made = leaf([1.0, 2.0]), []

    def rule(g, y, a):
        made.append(optim.SGD([weight], lr=1.0))
        return g

    hook = tg.Primitive("hook", lambda a: a.view(), rule)
    (hook(weight * 2) * weight).sum().backward()
    np.testing.assert_array_equal(weight.grad, [4, 8])
    made[0].step()
    np.testing.assert_array_equal(weight.data, [-3, -6])


def test_threads_with_a_common_weight_leave_it_its_home():
    weight = leaf([1.0, 1.0])
    optimizer = optim.SGD([weight], lr=1.0)
    first_is_within, second_is_within, first_is_done = (
        threading.Event() for _ in range(3)
    )

    def pausing(before, after):
        def rule(g, y, a):
            before.set()
            after.wait(5)
            return g

        return tg.Primitive("pausing", lambda a: a.view(), rule)

    def first():
        y = pausing(first_is_within, second_is_within)(Tensor([1.0, 1.0]) * weight)
        (y + weight).sum().backward()
        first_is_done.set()

    def second():
        first_is_within.wait(5)
        y = pausing(second_is_within, first_is_done)(weight * 1)
        (y + weight).sum().backward()

    threads = [threading.Thread(target=run) for run in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    optimizer.zero_grad()
    (weight * 3).sum().backward()
    optimizer.step()
    np.testing.assert_array_equal(weight.data, [-2, -2])


def test_a_fused_backward_may_yield_its_gradients():
    def backward(g, saved, needs, a):
        yield g * 2

    twice = tg.Fused("twice", lambda a: (a * 2, None), backward, lambda a: a * 2)
    x = leaf([1.0, 2.0])
    twice(x).sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 2])


def test_an_optimizer_does_not_take_back_a_parameter_through_an_old_gradient():
    weight = leaf([1.0])
    first = optim.SGD([weight], lr=1.0)
    (weight * 1).sum().backward()
    old = weight.grad
    optim.SGD([weight], lr=1.0)
    weight.grad = old
    with pytest.raises(RuntimeError, match="must belong to one optimizer"):
        first.step()


def test_a_ragged_list_is_refused_by_the_operation_that_received_it():
    with pytest.raises(ValueError, match=r"exp: .*Received: \[\[1\], \[1, 2\]\]."):
        tg.exp([[1], [1, 2]])


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


def test_a_fused_operation_off_the_way_does_not_run_backward():
    def backward(g, saved, needs, a):
        raise AssertionError("nobody asked for this gradient")

    unwanted = tg.Fused("unwanted", lambda a: (a * 2, None), backward, lambda a: a * 2)
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    np.testing.assert_array_equal(tg.grad(unwanted(a).sum(), b).data, [0, 0])
    loss = (unwanted(a) + b * 3).sum()
    np.testing.assert_array_equal(tg.grad(loss, b).data, [3, 3])


def test_threads_record_and_name_their_operations_apart():
    x, entered, leave = leaf([1.0]), threading.Event(), threading.Event()

    @tg.composite
    def slowly(t):
        entered.set()
        leave.wait()
        return t * 2

    found = []
    with tg.no_grad():
        worker = threading.Thread(target=lambda: found.append(slowly(x)))
        worker.start()
        entered.wait()
        here = x * 3
    leave.set()
    worker.join()
    assert here.op is None and here.scope is None
    assert found[0].op.name == "mul" and found[0].scope.name == "slowly"


def test_what_backward_would_need_is_kept_only_where_there_is_a_way_back():
    x = leaf([[1.0], [2.0]])
    assert tg.fused_batch_norm(x).saved is not None
    with tg.no_grad():
        assert tg.fused_batch_norm(x).saved is None


def test_a_copy_of_a_leaf_has_a_gradient_of_its_own():
    p = leaf([1.0, 2.0])
    (p * 3).sum().backward()
    q = copy.copy(p)
    (q * 5).sum().backward()
    assert q.grad.tolist() == [8, 8]
    assert p.grad.tolist() == [3, 3]


def test_a_gradient_of_another_shape_cannot_be_assigned():
    p = leaf([1.0, 2.0], "p")
    with pytest.raises(ValueError) as error:
        p.grad = np.zeros(3)
    assert str(error.value) == (
        "tensor.grad = values: a gradient must have the shape of its tensor, but "
        "'p'(2,) received one of (3,). Set .grad to None to clear it."
    )
    assert p.grad is None


# --- Numbers --------------------------------------------------------------------------


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


def test_a_number_of_numpy_is_a_learning_rate():
    assert optim.SGD([leaf([1.0])], lr=np.float32(0.5)).lr == 0.5
    assert optim.SGD([leaf([1.0])], lr=np.int64(1)).lr == 1.0


def test_complex_numbers_do_not_get_in_through_an_operation():
    with pytest.raises(TypeError) as error:
        Tensor([1.0]) * 1j
    assert str(error.value) == (
        "mul: the result must be real numbers, but it is complex128."
    )


def test_the_type_of_the_learning_rate_does_not_change_float32_weights():
    weights = []
    for lr in (0.1, np.float64(0.1)):
        p = leaf(np.linspace(0, 1, 1000, dtype=np.float32))
        p.grad = np.linspace(1, 2, 1000, dtype=np.float32)
        optim.SGD([p], lr=lr).step()
        weights.append(p.data.copy())
    np.testing.assert_array_equal(*weights)


def test_an_error_of_numpy_is_not_taken_for_one_of_shapes():
    with pytest.raises(ValueError, match="power: Integers to negative integer powers"):
        Tensor([1, 2]) ** -1


def test_a_failing_batch_norm_leaves_running_statistics_alone():
    bn = nn.BatchNorm(3, fused=False)
    bn.gamma = leaf(np.ones(4, np.float32))
    with pytest.raises(ValueError, match="gamma must have one value per channel"):
        bn(Tensor(np.arange(6, dtype=np.float32).reshape(2, 3)))
    assert bn.running_mean.tolist() == [0, 0, 0]


def test_integers_are_normalized_alike_by_both_definitions():
    x = Tensor([[1, 2], [3, 5], [4, 4]])
    ours = tg.fused_batch_norm(x).data, tg.batch_norm(x).data
    np.testing.assert_allclose(*ours, atol=1e-14)
