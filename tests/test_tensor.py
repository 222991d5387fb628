"""The tape and the backward pass, point by point as in the headings below."""

import copy
import gc
import pickle
import sys
import threading
import weakref
from typing import NamedTuple

import numpy as np
import pytest
from conftest import leaf, randn

import tinygrad_bn as tg
from tinygrad_bn import Tensor, functional, nn, ops, optim
from tinygrad_bn.arguments import private_copy
from tinygrad_bn.clock import Clock, clock
from tinygrad_bn.errors import describe
from tinygrad_bn.scopes import this_thread


@pytest.fixture
def no_collector():
    """Whatever is freed in such a test is freed because nothing refers to it."""
    gc.collect()
    gc.freeze()  # Later collections look only at what is made from here on.
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


def tensors_behind(y):
    inputs = (x for node in tg.tape(y) for x in node.inputs)
    return {y} | {x for x in inputs if isinstance(x, Tensor) and x.requires_grad}


def small_network():
    rng = np.random.default_rng(0)
    return nn.Sequential(
        nn.Linear(2, 4, bias=False, rng=rng), nn.BatchNorm(4), nn.ReLU(),
        nn.Linear(4, 3, rng=rng),
    )  # fmt: skip


# --- 1. The tape is data --------------------------------------------------------------


def test_parents_keep_their_order_and_their_multiplicity():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 5.0])
    assert (a - b).inputs == (a, b) and (b - a).inputs == (b, a)
    assert (a + a).inputs == (a, a)
    np.testing.assert_array_equal(tg.grad((a + a).sum(), a).data, [2, 2])
    np.testing.assert_array_equal(tg.grad((a * a * a).sum(), a).data, [3, 12])


def test_the_tape_says_what_was_done_with_what_and_how():
    x = leaf(randn(2, 3))
    y = x.sum(axis=0, keepdims=True)
    assert (y.op, y.inputs, y.params) == (ops.sum_to, (x,), {"shape": (1, 3)})
    assert (x.op, x.inputs) == (None, ())


def test_numbers_stay_numbers_on_the_tape_and_arrays_become_leaves():
    x, array = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    assert (x * 2).inputs == (x, 2) and (2.5 - x).inputs == (2.5, x)
    assert (x**-0.5).inputs == (x, -0.5)
    data = (x * array).inputs[1]
    assert isinstance(data, Tensor) and data.op is None and not data.requires_grad


def test_an_array_that_is_changed_later_does_not_change_the_graph():
    x, array = leaf([1.0, 2.0]), np.array([3.0, 4.0])
    y = (x * array).sum()
    array[...] = 0
    np.testing.assert_array_equal(tg.grad(y, x).data, [3, 4])


def test_a_tensor_copies_its_data():
    array = np.array([1.0, 2.0])
    x = Tensor(array)
    array[...] = 0
    np.testing.assert_array_equal(x.data, [1, 2])


def test_a_tensor_has_slots_and_no_dictionary():
    with pytest.raises(AttributeError):
        Tensor(1.0).color = "red"


def test_a_graph_is_freed_when_its_last_tensor_is_deleted(no_collector):
    x = leaf(randn(3))
    hidden = tg.exp(x)
    loss = (hidden * hidden).sum()
    loss.backward()
    array = weakref.ref(hidden.numpy())
    del hidden
    assert array() is not None
    del loss
    assert array() is None


def test_no_graph_contains_a_reference_cycle(no_collector):
    model, x = small_network(), leaf(randn(6, 2), name="x")
    loss = nn.cross_entropy(model(x), np.array([0, 1, 2, 0, 1, 2]))
    loss.backward()
    d_x = tg.grad(loss, x, create_graph=True)
    (tg.concatenate([d_x, d_x[[0, 0]]]) * 2).max().backward()
    gc.collect()  # The modules themselves may have cycles.
    del loss, d_x
    assert gc.collect() == 0


def test_a_thousand_training_steps_leave_memory_flat(no_collector):
    model = small_network()
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    x, labels = Tensor(randn(8, 2)), np.arange(8) % 3

    def train(steps):
        for _ in range(steps):
            optimizer.zero_grad()
            nn.cross_entropy(model(x), labels).backward()
            optimizer.step()

    train(10)
    gc.collect()
    before = sys.getallocatedblocks()
    train(1000)
    # Collecting empties Python's free lists; it must find no garbage.
    assert gc.collect() == 0
    # One leaked object per step would be a thousand. Caches of Python and NumPy still
    # grow by up to 140 blocks in the first thousand steps.
    assert sys.getallocatedblocks() - before < 500


# --- 2. The same pullbacks for arrays and for tensors ---------------------------------


def test_a_pullback_receives_arrays_in_a_backward_pass_and_tensors_with_create_graph():
    seen = []

    def rule(g, y, x):
        seen.append({type(g), type(y), type(x)})
        return g * y

    exp, x = tg.Primitive("my_exp", np.exp, rule), leaf([0.5, 1.0])
    exp(x).backward(gradient=[1.0, 2.0])
    plain = tg.grad(exp(x), x, gradient=[1.0, 2.0])
    recorded = tg.grad(exp(x), x, gradient=[1.0, 2.0], create_graph=True)
    assert seen == [{np.ndarray}, {np.ndarray}, {Tensor}]
    np.testing.assert_array_equal(plain.data, recorded.data)
    np.testing.assert_array_equal(plain.data, x.grad)
    assert plain.op is None and recorded.op is ops.mul


def test_a_backward_pass_makes_no_tensor():
    """Each new tensor advances the clock by one, so the clock counts tensors."""
    model = small_network()
    loss = nn.cross_entropy(model(Tensor(randn(6, 2))), np.arange(6) % 3)
    before = clock.tick()
    loss.backward()
    assert clock.tick() == before + 1


def test_the_gradient_with_create_graph_can_be_differentiated_again_and_again():
    x = leaf(2.0)
    y = x**5
    for expected in (5 * 16, 20 * 8, 60 * 4, 120 * 2, 120, 0):
        y = tg.grad(y, x, create_graph=True)
        assert y.item() == expected


def test_the_gradient_without_create_graph_is_a_leaf():
    x = leaf(2.0)
    d_x = tg.grad(x**3, x)
    assert d_x.op is None and not d_x.requires_grad


def test_the_cotangent_can_be_a_tensor_to_differentiate_by():
    x, g = leaf(randn(3)), leaf(randn(3, seed=1), name="g")
    d_x = tg.grad(tg.exp(x), x, gradient=g, create_graph=True)
    np.testing.assert_allclose(tg.grad(d_x.sum(), g).data, np.exp(x.data))


# --- 3. Only what is needed is computed -----------------------------------------------


def counting_product(calls):
    def rule(i):
        def pullback(g, y, a, b):
            calls.append(i)
            return g * (a, b)[1 - i]

        return pullback

    return tg.Primitive("product", np.multiply, rule(0), rule(1))


def test_the_gradient_of_data_is_never_computed():
    calls = []
    w, data = leaf([2.0]), Tensor([3.0])
    counting_product(calls)(data, w).backward()
    assert calls == [1]


def test_grad_computes_only_what_leads_to_the_tensors_asked_for():
    calls = []
    product = counting_product(calls)
    a, b, c = leaf([2.0]), leaf([3.0]), leaf([5.0])
    y = product(product(a, b), c)
    assert tg.grad(y, c).item() == 6 and calls == [1]
    calls.clear()
    assert tg.grad(y, b).item() == 10 and calls == [0, 1]
    calls.clear()
    assert tg.grad(y, [a, c])[0].item() == 15 and sorted(calls) == [0, 0, 1]


def test_grad_does_not_walk_below_the_tensors_asked_for():
    calls = []
    product = counting_product(calls)
    a, b = leaf([2.0]), leaf([3.0])
    h = product(a, b)
    assert tg.grad(product(h, h), h).item() == 12
    assert calls == [0, 1]


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_cotangent_arrives_complete_where_paths_of_different_length_meet(
    create_graph,
):
    calls = []
    square = tg.Primitive(
        "square", np.square, lambda g, y, x: (calls.append(1), g * 2 * x)[1]
    )
    x = leaf(3.0)
    h = square(x)
    y = h + tg.exp(h * 0) * h + (h + h)
    assert tg.grad(y, x, create_graph=create_graph).item() == 4 * 6
    assert calls == [1]


def test_a_fused_backward_learns_which_inputs_need_a_gradient():
    received = []

    def backward(g, saved, needs, a, b):
        received.append(list(needs))
        return g * b, g * a

    product = tg.Fused("product", lambda a, b: (a * b, None), backward, ops.mul)
    a, b = leaf([2.0]), leaf([3.0])
    y = product(a, b)
    assert tg.grad(y, b).item() == 2
    product(a, Tensor([7.0])).backward()
    y.backward()
    assert received == [[False, True], [True, False], [True, True]]
    assert (a.grad, b.grad) == ([7 + 3], [2])


# --- 4. Broadcasting is an operation --------------------------------------------------


def test_broadcasting_is_on_the_tape_of_a_tensor_that_needs_a_gradient():
    u, b = leaf(randn(4, 3)), leaf(randn(3))
    y = u + b
    stretched = y.inputs[1]
    assert y.inputs[0] is u
    assert stretched.op is ops.broadcast_to and stretched.inputs == (b,)
    assert stretched.params == {"shape": (4, 3)}


def test_broadcasting_is_not_on_the_tape_for_data():
    u, b = leaf(randn(4, 3)), leaf(randn(3))
    data = Tensor(randn(3, seed=1))
    assert (u + data).inputs == (u, data)
    assert (u * 2).inputs == (u, 2)
    y = Tensor(randn(4, 3)) + b
    assert [x.op for x in y.inputs] == [None, ops.broadcast_to]


def test_the_gradient_graph_of_a_broadcast_bias_says_sum_over_the_batch():
    b = leaf(randn(3))
    d_b = tg.grad(
        Tensor(randn(4, 3)) + b, b, gradient=leaf(randn(4, 3)), create_graph=True
    )
    assert d_b.op is ops.sum_to and d_b.params == {"shape": (3,)}


# --- 5. Closed under differentiation (test_ops.py: each primitive) --------------------


def test_a_network_has_derivatives_of_third_order():
    w, v = randn(2, 3), randn(3, 1, seed=1)
    x = randn(4, 2, seed=2)
    tg.check_gradients(
        lambda w, v: tg.tanh(tg.sigmoid(x @ w) @ v).mean(), w, v, order=3
    )


# --- 6. Walks never recurse -----------------------------------------------------------


@pytest.mark.slow
def test_100_000_operations_go_forward_and_backward_and_are_freed(no_collector):
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + x
    y.backward()
    assert x.grad == 100_001
    assert len(tg.tape(y)) == 100_000
    first = weakref.ref(y.numpy())
    del y
    assert first() is None


def test_20_000_operations_can_be_differentiated_twice():
    x = leaf(1.0)
    y = x * x
    for _ in range(20_000):
        y = y * 1
    d_x = tg.grad(y, x, create_graph=True)
    assert tg.grad(d_x, x).item() == 2


# --- 7. grad and backward -------------------------------------------------------------


def test_grad_mutates_nothing():
    x, w = leaf(randn(3), name="x"), leaf(randn(3, seed=1), name="w")
    y = (tg.exp(x) * w).sum()
    tensors = [x, w, y, *tg.tape(y)]

    def snapshot():
        return [
            (
                t.grad,
                t.timestamp,
                t.name,
                t.requires_grad,
                t.op,
                t.inputs,
                t.data.tolist(),
            )
            for t in tensors
        ]

    before = snapshot()
    tg.grad(y, [x, w])
    tg.grad(y, [x, w], create_graph=True)
    assert snapshot() == before
    assert x.grad is None and y.grad is None


def test_grad_returns_a_tensor_for_a_tensor_and_a_list_for_a_sequence():
    a, b = leaf(2.0), leaf(3.0)
    single, several = tg.grad(a * b, a), tg.grad(a * b, (b, a, b))
    assert isinstance(single, Tensor) and single.item() == 3
    assert [g.item() for g in several] == [2, 3, 2]
    assert tg.grad(a * b, []) == []


def test_grad_works_for_intermediate_tensors_and_for_the_output_itself():
    x = leaf([1.0, 2.0])
    h = x * 3
    y = (h * h).sum()
    d_y, d_h, d_x = tg.grad(y, [y, h, x])
    assert d_y.item() == 1
    np.testing.assert_array_equal(d_h.data, [6, 12])
    np.testing.assert_array_equal(d_x.data, [18, 36])


@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_is_zero_for_what_the_output_does_not_depend_on(create_graph):
    x, other = leaf(2.0), Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    d_x, d_other = tg.grad(x * x, [x, other], create_graph=create_graph)
    assert d_x.item() == 4
    assert d_other.dtype == np.float32
    np.testing.assert_array_equal(d_other.data, np.zeros((2, 3)))


@pytest.mark.parametrize("create_graph", [False, True])
def test_grad_is_zero_if_the_output_depends_on_nothing(create_graph):
    x = leaf([1.0, 2.0])
    for y in (Tensor(3.0), tg.no_grad()(lambda: x.sum())(), tg.stop_gradient(x).sum()):
        d_x = tg.grad(y, x, create_graph=create_graph)
        np.testing.assert_array_equal(d_x.data, [0, 0])


def test_backward_adds_to_the_gradient_of_leaves_only():
    x = leaf([1.0, 2.0])
    h = x * 3
    h.sum().backward()
    np.testing.assert_array_equal(x.grad, [3, 3])
    assert type(x.grad) is np.ndarray
    assert h.grad is None
    (x * x).sum().backward()
    np.testing.assert_array_equal(x.grad, [3 + 2, 3 + 4])


def test_a_second_backward_adds_the_same_again():
    model, labels = small_network(), np.arange(6) % 3
    loss = nn.cross_entropy(model(Tensor(randn(6, 2))), labels)
    loss.backward()
    once = [p.grad.copy() for p in model.parameters()]
    loss.backward()
    for p, g in zip(model.parameters(), once):
        np.testing.assert_array_equal(p.grad, 2 * g)


def test_backward_from_a_leaf_gives_it_the_cotangent():
    x = leaf([1.0, 2.0])
    x.backward(gradient=Tensor([3.0, 4.0]))
    np.testing.assert_array_equal(x.grad, [3, 4])


def test_a_cotangent_may_be_left_out_only_for_a_single_number():
    x = leaf([[3.0]])
    (x * x).backward()
    np.testing.assert_array_equal(x.grad, [[6]])


def test_backward_of_several_numbers_names_both_remedies():
    y = leaf(randn(2, 3)) * 2
    message = (
        "a backward pass starts from one number, but 'y'(2, 3) has 6. Reduce it first, "
        "for example with .sum() or .mean(), or pass gradient=, an array of shape "
        "(2, 3)."
    )
    for ask in (y.named("y").backward, lambda: tg.grad(y, y)):
        with pytest.raises(ValueError) as error:
            ask()
        assert str(error.value) == message


def test_a_cotangent_of_another_shape_is_an_error():
    y = leaf(randn(2, 3)) * 2
    with pytest.raises(ValueError) as error:
        y.backward(gradient=np.ones(3))
    assert str(error.value) == (
        "gradient must have the shape of the tensor it arrives at, but tensor(2, 3) "
        "received one of shape (3,)."
    )


def test_backward_of_a_tensor_that_depends_on_no_leaf_is_an_error():
    with pytest.raises(RuntimeError) as error:
        (Tensor([2.0], name="data") * 3).named("y").backward()
    assert str(error.value) == (
        "backward() must start from a tensor that depends on a leaf with "
        "requires_grad=True, but 'y'(1,) does not. Was it computed under no_grad(), "
        "detached, or made of data only?"
    )


def test_a_gradient_of_a_tensor_that_requires_none_is_an_error():
    x, data = leaf([1.0]), Tensor([2.0], name="data")
    with pytest.raises(ValueError) as error:
        tg.grad(x * data, data)
    assert str(error.value) == (
        "grad(y, wrt): wrt must require a gradient, so that the tape records how y "
        "depends on it, but 'data'(1,) (float64) does not. Make it with "
        "Tensor(..., requires_grad=True)."
    )


def test_a_gradient_with_respect_to_a_string_is_an_error():
    x = leaf([1.0])
    with pytest.raises(TypeError) as error:
        tg.grad(x * 2, [x, "w"])
    assert str(error.value) == (
        "grad(y, wrt): wrt must be tensors, but it contains 'w'."
    )


def test_a_cotangent_that_is_a_tensor_is_cast_like_an_array():
    x = leaf([1.0, 2.0])
    mask = Tensor([True, True])
    assert tg.grad(x + x, x, gradient=mask, create_graph=True).data.tolist() == [2, 2]
    v = Tensor(np.ones(2, np.float32), requires_grad=True)
    cube = x**3
    with tg.no_grad():
        d_x = tg.grad(cube, x, gradient=v, create_graph=True)
    assert d_x.dtype == np.float64
    assert tg.grad(d_x.sum(), v).data.tolist() == [3, 12]


@pytest.mark.parametrize(
    ("y", "wrt"),
    [(3.0, leaf([1.0])), (leaf([1.0]) * 2, None), (leaf([1.0]) * 2, 3)],
)
def test_grad_requires_a_tensor_and_inputs_to_differentiate_with_respect_to(y, wrt):
    with pytest.raises(
        TypeError, match="y must be a tensor, and wrt a tensor or a sequence of them"
    ):
        tg.grad(y, wrt)


# --- 8. no_grad, stop_gradient, detach ------------------------------------------------


def test_no_grad_records_nothing_inside_and_records_again_after():
    x = leaf([1.0, 2.0])
    with tg.no_grad():
        y = x * 2
        with tg.no_grad():
            pass
        z = x * 3
    for t in (y, z):
        assert t.op is None and not t.requires_grad
    assert (x * 2).requires_grad


def test_no_grad_decorates_functions():
    @tg.no_grad()
    def double(x):
        return x * 2

    x = leaf([1.0])
    for _ in range(2):
        assert double(x).op is None
        assert (x * 2).op is ops.mul
    assert double.__name__ == "double"


def test_no_grad_ends_where_an_exception_leaves_it():
    x = leaf([1.0])
    with pytest.raises(KeyError), tg.no_grad():
        raise KeyError
    assert (x * 2).requires_grad


def test_gradients_can_be_computed_and_recorded_inside_no_grad():
    x = leaf([2.0])
    y = (x**3).sum()
    with tg.no_grad():
        y.backward()
        d_x = tg.grad(y, x, create_graph=True)
        assert (x * 2).op is None
    assert x.grad == [12]
    assert tg.grad(d_x, x).item() == 12


def test_a_gradient_converted_to_the_dtype_of_its_leaf_is_recorded_inside_no_grad():
    x = leaf(np.array([2.0], "f4"))
    y = (x**3 * np.array([1.0])).sum()
    assert y.dtype == np.float64
    with tg.no_grad():
        d_x = tg.grad(y, x, create_graph=True)
    assert d_x.dtype == np.float32
    assert tg.grad(d_x, x).item() == 12


def test_stop_gradient_stays_on_the_tape_as_a_visible_cut():
    x = leaf([2.0])
    cut = tg.stop_gradient(x)
    assert cut.op is tg.stop_gradient and cut.inputs == (x,)
    assert not cut.requires_grad
    np.testing.assert_array_equal(cut.data, x.data)


def test_operations_behind_a_cut_are_recorded_but_backward_does_not_follow_them():
    x = leaf([2.0])
    behind = tg.stop_gradient(x) * 5
    assert behind.op is ops.mul and not behind.requires_grad
    y = behind * x
    assert tg.grad(y, x).item() == 10
    assert tg.tape(y) == [y]
    assert tg.tape(y, through_cuts=True) == [y, behind, behind.inputs[0]]


def test_detach_leaves_the_graph_with_a_copy():
    x = leaf([2.0], name="x")
    y = x * 3
    away = y.detach()
    assert away.op is None and away.inputs == () and not away.requires_grad
    x_away = x.detach()
    x[0] = 7.0
    assert (away.data, x_away.data, x_away.name) == ([6], [2], "x")


# --- 9. Nothing goes silently wrong ---------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        tg.exp,
        lambda x: x.reshape(6),
        lambda x: x.T,
        lambda x: x[0],
        lambda x: x[...],
        lambda x: x[0, 0],
        lambda x: x.sum(),
        lambda x: x.sum(axis=()),
        lambda x: x.max(axis=()),
        lambda x: ops.broadcast_to(x, shape=(4, 2, 3)),
        lambda x: ops.broadcast_to(x, shape=(2, 3)),
        lambda x: ops.sum_to(x, shape=(2, 3)),
        lambda x: x.astype(float),
        lambda x: tg.concatenate([x]),
        tg.stop_gradient,
        tg.fused_batch_norm,
        lambda x: nn.cross_entropy(x, np.array([0, 1])),
        tg.no_grad()(tg.exp),
        tg.no_grad()(lambda x: x.reshape(6)),
        tg.no_grad()(tg.stop_gradient),
    ],
)
def test_the_output_of_an_operation_is_a_read_only_array_and_its_input_is_not(f):
    x = leaf(randn(2, 3))
    y = f(x)
    assert type(y.data) is np.ndarray
    assert not y.data.flags.writeable
    assert x.data.flags.writeable and x.data is not y.data
    with pytest.raises(ValueError, match="read-only"):
        y.data[...] = 0


def test_a_tensor_that_backward_does_not_follow_shares_no_memory_with_a_leaf():
    """A leaf may change, and only a backward pass would notice."""
    x = leaf([1.0, 2.0])
    with tg.no_grad():
        unrecorded = x.reshape(2, 1)
    cut = tg.stop_gradient(x.reshape(2, 1))
    x[0] = 7.0
    assert unrecorded.data.tolist() == cut.data.tolist() == [[1], [2]]


def test_assigning_to_the_output_of_an_operation_is_an_error():
    y = (leaf(randn(2, 3)) * 2).named("y")
    message = (
        "only leaves can be assigned to, but 'y'(2, 3) is the output of 'mul'. Compute "
        "a new tensor, or change a leaf and run the forward pass again."
    )
    with pytest.raises(TypeError) as error:
        y.data = np.zeros((2, 3))
    assert str(error.value) == message
    with pytest.raises(TypeError) as error:
        y[0] = 1.0
    assert str(error.value) == message


def test_assigning_data_copies_into_the_array_that_is_there():
    x = leaf([1.0, 2.0])
    array, values = x.data, np.array([3.0, 4.0])
    x.data = values
    assert x.data is array and x.data is not values
    np.testing.assert_array_equal(array, [3, 4])
    x.data = [5, 6]
    np.testing.assert_array_equal(array, [5, 6])


@pytest.mark.parametrize(
    "values, received",
    [(np.zeros(2), "(2,) float64"), (np.zeros(3, "f4"), "(3,) float32")],
)
def test_assigning_data_of_another_shape_or_dtype_is_an_error(values, received):
    x = leaf(randn(3), name="x")
    before = x.data.copy()
    with pytest.raises(ValueError) as error:
        x.data = values
    assert str(error.value) == (
        "tensor.data = values: shape and dtype must agree, but 'x'(3,) is float64 and "
        f"the values are {received}. Make a new Tensor instead."
    )
    np.testing.assert_array_equal(x.data, before)


def change_data(x):
    x.data = x.data + 1


def change_an_element(x):
    x[0] = 5.0


def take_a_step(x):
    optimizer = optim.SGD([x], lr=0.1)
    x.grad[...] = 1
    optimizer.step()


STALE = (
    "a graph runs backward only with the values it was recorded with, but {} was "
    "changed after 'mul' had used it. Run the forward pass again after changing a leaf "
    "(an optimizer's step() changes its parameters)."
)


@pytest.mark.parametrize("change", [change_data, change_an_element, take_a_step])
@pytest.mark.parametrize("name, called", [("w", "'w'(2,)"), (None, "tensor(2,)")])
def test_a_leaf_changed_after_it_was_used_is_an_error_that_names_it(
    change, name, called
):
    w = leaf([1.0, 2.0], name=name)
    y = tg.exp(w * w).sum()
    y.backward()
    change(w)
    for ask in (
        y.backward,
        lambda: tg.grad(y, w),
        lambda: tg.grad(y, w, create_graph=True),
    ):
        with pytest.raises(RuntimeError) as error:
            ask()
        assert str(error.value) == STALE.format(called)


def test_data_changed_after_it_was_used_is_an_error_that_names_it():
    w, data = leaf([1.0, 2.0]), Tensor([3.0, 4.0], name="data")
    y = (w * data).sum()
    data[0] = 7.0
    with pytest.raises(RuntimeError) as error:
        tg.grad(y, w)
    assert str(error.value) == STALE.format("'data'(2,)")


def test_a_leaf_of_a_fused_operation_that_changed_is_an_error():
    x, gamma = leaf(randn(4, 2), name="x"), leaf([1.0, 2.0], name="gamma")
    y = tg.fused_batch_norm(x, gamma).sum()
    gamma[0] = 3.0
    for create_graph in (False, True):
        with pytest.raises(RuntimeError, match=r"but 'gamma'\(2,\) was changed after"):
            tg.grad(y, x, create_graph=create_graph)


def test_a_gradient_that_fails_for_a_changed_leaf_adds_nothing():
    a, b = leaf([1.0]), leaf([2.0])
    y = (a * a) * 3 + b
    a[0] = 5.0
    with pytest.raises(RuntimeError):
        y.backward()
    assert a.grad is None and b.grad is None


def test_a_changed_leaf_can_be_used_again():
    w = leaf([1.0])
    w * w
    w[0] = 3.0
    assert tg.grad(w * w, w).item() == 6


def test_a_leaf_changed_in_another_part_of_the_graph_does_no_harm():
    a, b = leaf([1.0]), leaf([2.0])
    h = a * a
    y = h * 3 + b * b
    b[0] = 5.0
    assert tg.grad(h * 3, a).item() == 6
    assert tg.grad(y, h).item() == 3


def test_a_leaf_given_to_an_optimizer_does_not_count_as_changed():
    w = leaf([1.0, 2.0])
    y = (w * w).sum()
    optim.SGD([w], lr=0.1)
    y.backward()
    np.testing.assert_array_equal(w.grad, [2, 4])


def test_the_docstring_of_data_says_that_element_writes_go_unnoticed():
    assert "go unnoticed" in Tensor.data.__doc__


@pytest.mark.parametrize("values", [[1, 2], [True, False]])
def test_integers_and_booleans_cannot_require_a_gradient(values):
    dtype = np.array(values).dtype
    message = (
        "only floating-point tensors can require a gradient, but 'labels'(2,) is "
        f"{dtype}. Pass dtype=float, or leave out requires_grad."
    )
    with pytest.raises(TypeError) as error:
        Tensor(values, requires_grad=True, name="labels")
    assert str(error.value) == message
    x = Tensor(values, name="labels")
    with pytest.raises(TypeError) as error:
        x.requires_grad = True
    assert str(error.value) == message
    assert Tensor(values, requires_grad=True, dtype=float).requires_grad


def test_requires_grad_can_be_set_on_leaves_only():
    x = Tensor([1.0])
    x.requires_grad = True
    y = x * 2
    with pytest.raises(TypeError) as error:
        y.requires_grad = False
    assert str(error.value) == (
        "requires_grad can be set on leaves only, but tensor(1,) is the output of "
        "'mul'. Use .detach() or tg.stop_gradient() to stop gradients."
    )


def test_the_truth_of_several_numbers_is_an_error():
    with pytest.raises(ValueError) as error:
        bool(Tensor([1.0, 2.0], name="x"))
    assert str(error.value) == (
        "the truth of a tensor is defined for one element only, but 'x'(2,) has 2. Use "
        ".data.any() or .data.all()."
    )
    with pytest.raises(ValueError, match=r"but tensor\(0,\) has 0"):
        bool(Tensor([]))
    assert bool(Tensor([[2.0]])) is True and bool(Tensor(0)) is False


@pytest.mark.parametrize(
    "data, reads",
    [
        ("abc", "'abc' as dtype <U3"),
        (1j, "1j as dtype complex128"),
        (None, "None as dtype object"),
    ],
)
def test_data_that_are_not_real_numbers_are_an_error(data, reads):
    with pytest.raises(TypeError) as error:
        Tensor(data)
    assert str(error.value) == (
        f"Tensor(data): data must be real numbers, but NumPy reads {reads}."
    )


@pytest.mark.parametrize("values", [np.array([1j, 0]), None, [None, 1.0], ["1", "2"]])
def test_values_that_are_not_real_numbers_cannot_be_assigned(values):
    x = leaf([1.0, 2.0])
    with pytest.raises(
        TypeError, match=r"^tensor\[index\] = values: data must be real"
    ):
        x[:] = values
    assert x.data.tolist() == [1, 2]


@pytest.mark.parametrize("values", [None, [None, 1.0], ["1", "2"]])
def test_a_dtype_does_not_make_real_numbers_of_other_values(values):
    x = leaf([1.0, 2.0])
    with pytest.raises(TypeError, match=r"^tensor\.data = values: data must be real"):
        x.data = values
    with pytest.raises(TypeError, match=r"^Tensor\(data\): data must be real"):
        Tensor(values, dtype=float)
    assert x.data.tolist() == [1, 2]


def test_numpy_checks_the_numbers_that_are_assigned():
    small = Tensor(np.zeros(2, np.uint8))
    for value, error in (
        (300, OverflowError),
        (-1, OverflowError),
        (np.nan, TypeError),
    ):
        with pytest.raises(error):
            small[0] = value
    assert small.data.tolist() == [0, 0]
    x = leaf([1.0, 2.0])
    x[0] = 2**70
    assert x.data.tolist() == [2.0**70, 2]


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, bool])
def test_a_tensor_of_integers_does_not_truncate_what_is_assigned(dtype):
    x = Tensor(np.array([1, 0], dtype), name="x")
    with pytest.raises(TypeError) as error:
        x.data = [1.7, 2.9]
    assert str(error.value) == (
        f"'x'(2,) has dtype {x.dtype}, which would truncate floats, but values of "
        f"float64 were received. Write np.round(values).astype('{x.dtype}')."
    )
    with pytest.raises(TypeError, match="would truncate floats"):
        x[0] = 300.9
    assert x.data.tolist() == [1, 0]
    x[0:0] = []
    x[:] = [0, 1]
    x.data = [1, 1]
    assert x.data.tolist() == [1, 1]


def test_a_tensor_made_of_a_tensor_is_an_error():
    with pytest.raises(TypeError) as error:
        Tensor(Tensor([1.0], name="x"))
    assert str(error.value) == (
        "Tensor(data): data must be numbers, but 'x'(1,) is a tensor already. Use it "
        "as it is, or data.detach() for one without history."
    )


@pytest.mark.parametrize("nest", [lambda x: [x, 2.0], lambda x: [[x, x], [x, x]]])
def test_a_sequence_with_tensors_is_an_error_because_it_would_lose_gradients(nest):
    with pytest.raises(TypeError) as error:
        Tensor(nest(leaf(1.0)))
    assert str(error.value) == (
        "Tensor(data): data must be numbers, but this sequence contains tensors. Use "
        "tg.stack(tensors), which keeps their gradients."
    )


def test_no_backward_pass_writes_into_a_cotangent_that_it_shares():
    """The two batch norms receive the same array from the addition."""
    x, gamma = leaf(randn(6, 3)), leaf(randn(3))
    weights = randn(6, 3, seed=1)

    def gradients(y):
        return [g.data for g in tg.grad(y, [x, gamma], gradient=weights)]

    one, two = (tg.fused_batch_norm(x, gamma, eps=eps) for eps in (1e-5, 0.1))
    separately = [a + b for a, b in zip(gradients(one), gradients(two))]
    for together, expected in zip(gradients(one + two), separately):
        np.testing.assert_allclose(together, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("make", [tg.fused_batch_norm, tg.batch_norm, tg.exp, tg.relu])
def test_a_backward_pass_writes_neither_into_its_cotangent_nor_into_what_was_saved(
    make,
):
    x, weights = leaf(randn(6, 3)), randn(6, 3, seed=1)
    before = weights.copy()
    y = make(x)
    first, second = (tg.grad(y, x, gradient=weights).data for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(weights, before)


def test_fused_operations_accept_a_read_only_cotangent():
    x, labels = leaf(randn(6, 3)), np.arange(6) % 3
    w, b = leaf(randn(3, 3, seed=1)), leaf(randn(3, seed=2))
    loss = tg.fused_batch_norm(functional.fused_linear(x, w, b)).sum()
    (loss * nn.cross_entropy(x, labels)).backward()
    assert all(np.isfinite(t.grad).all() for t in (x, w, b))


def test_grad_is_a_writable_array_of_its_own():
    a, b, weights = leaf([1.0, 2.0]), leaf([3.0, 4.0]), np.array([5.0, 6.0])
    (a + b).backward(gradient=weights)
    a.grad[...] = 0
    assert a.grad.flags.writeable
    np.testing.assert_array_equal(b.grad, [5, 6])
    np.testing.assert_array_equal(weights, [5, 6])


# --- Conversions and repr -------------------------------------------------------------


def test_a_tensor_converts_to_arrays_and_numbers():
    x = Tensor([[2.5]])
    assert x.numpy() is x.data and np.asarray(x) is x.data
    assert np.array(x) is not x.data
    assert np.asarray(x, dtype=np.float32).dtype == np.float32
    assert (x.item(), float(x), int(x), f"{x:.3f}") == (2.5, 2.5, 2, "2.500")
    assert [10, 11, 12][Tensor(1)] == 11
    assert len(Tensor(randn(4, 2))) == 4
    assert (x.shape, x.ndim, x.size, x.dtype) == ((1, 1), 2, 1, np.float64)


def test_the_single_value_of_several_numbers_is_an_error():
    for convert in (Tensor.item, float, lambda x: f"{x:.3f}"):
        with pytest.raises(ValueError) as error:
            convert(Tensor([1.0, 2.0], name="x"))
        assert str(error.value) == (
            "only a tensor of one element can become a Python number, but 'x'(2,) has "
            "2. Index it or reduce it first."
        )


def test_repr_says_values_shape_dtype_name_operation_and_requires_grad():
    x = leaf([1.5, 2.0], name="x")
    assert repr(x) == (
        "Tensor([1.5, 2. ], shape=(2,), dtype=float64, name='x', requires_grad=True)"
    )
    assert repr(x.sum()) == (
        "Tensor(3.5, shape=(), dtype=float64, op='sum_to', requires_grad=True)"
    )
    assert repr(Tensor([1], dtype=np.int8)) == "Tensor([1], shape=(1,), dtype=int8)"
    assert len(repr(Tensor(randn(1000, 1000)))) < 1000
    assert f"{x}" == repr(x)


def test_the_default_dtype_is_numpys():
    for data in (1, 1.0, True, [1, 2], np.float32(1), np.ones(2, np.float16)):
        assert Tensor(data).dtype == np.asarray(data).dtype
    assert Tensor([1, 2], dtype=np.float32).dtype == np.float32


# --- 10. float32 stays float32 --------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam])
def test_a_float32_network_stays_float32_through_training(fused, optimizer):
    bn = nn.BatchNorm(3, fused=fused)
    model = nn.Sequential(nn.Linear(2, 3), bn, nn.Sigmoid(), nn.Linear(3, 2))
    optimizer = optimizer(model.parameters(), lr=0.1)
    x = Tensor(randn(6, 2).astype(np.float32))
    logits = model(x)
    loss = nn.cross_entropy(logits, np.arange(6) % 2) + (logits**2).mean() * 0.1
    loss.backward()
    optimizer.step()
    seen = {loss.dtype, logits.dtype, bn.running_mean.dtype, bn.running_var.dtype}
    seen |= {t.dtype for t in tensors_behind(loss)}
    for p in model.parameters():
        seen |= {p.dtype, p.grad.dtype}
    assert seen == {np.dtype(np.float32)}
    assert model.eval()(x).dtype == np.float32


# --- 11. Composites -------------------------------------------------------------------


def test_the_operations_of_a_composite_remember_its_name_and_the_enclosing_scopes():
    @tg.composite
    def inner(x):
        return x * 2

    @tg.composite
    def outer(x):
        """What it does."""
        return inner(x) + 1

    x = leaf([1.0])
    y = outer(x)
    product = y.inputs[0]
    assert y.scope.name == "outer" and y.scope.parent is None and y.scope.owner is None
    assert product.scope.name == "inner" and product.scope.parent is y.scope
    assert x.scope is None and (x * 2).scope is None
    assert outer.__name__ == "outer" and outer.__doc__ == "What it does."


def test_two_calls_of_a_composite_are_two_scopes():
    x = leaf(randn(2, 3))
    one, two = x.mean(), x.mean()
    assert one.scope.name == two.scope.name == "mean"
    assert one.scope is not two.scope


def test_a_module_is_a_scope_that_knows_its_module():
    model = small_network()
    y = model(Tensor(randn(4, 2)))
    assert y.op is functional.fused_linear
    assert (y.scope.name, y.scope.owner) == ("3", model[3])
    assert y.scope.parent.owner is model
    weight = y.inputs[1]
    assert weight is model[3].weight and weight.name is None
    assert weight.qualified_name(y.scope) == "3.weight"


def test_a_named_tensor_of_a_module_is_called_by_its_qualified_name():
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm(3, fused=False))
    y = model(Tensor(randn(4, 2)))
    named = {describe(x, node.scope) for node in tg.tape(y) for x in node.inputs}
    assert {"'1.E[x]'(1, 3)", "'1.Var[x]'(1, 3)", "'0.weight'(2, 3)"} <= named


def test_a_scope_ends_where_an_exception_leaves_it():
    @tg.composite
    def fails(x):
        raise KeyError

    with pytest.raises(KeyError):
        fails(leaf([1.0]))
    assert this_thread.scopes == [None]


def test_a_composite_adds_nothing_to_the_tape():
    def plain(x):
        return tg.exp(x) * x

    x = leaf([1.0])
    one, two = plain(x), tg.composite(plain)(x)
    assert [t.op for t in tg.tape(one)] == [t.op for t in tg.tape(two)]
    assert two.timestamp - one.timestamp == 2


# --- 12. Fused operations -------------------------------------------------------------


def counting_cube(calls):
    def definition(x):
        calls.append("definition")
        return x * x * x

    def forward(x):
        return x**3, x**2

    def backward(g, x_squared, needs, x):
        calls.append("backward")
        return (g * 3 * x_squared,)

    return tg.Fused("cube", forward, backward, tg.composite(definition))


def test_a_fused_operation_runs_its_own_backward_at_first_order():
    calls, x = [], leaf([2.0])
    y = counting_cube(calls)(x)
    y.backward()
    assert (y.data, x.grad, calls) == ([8], [12], ["backward"])
    assert len(tg.tape(y)) == 1


def test_a_fused_operation_runs_its_definition_again_with_create_graph():
    calls, x = [], leaf([2.0])
    y = counting_cube(calls)(x)
    d_x = tg.grad(y, x, create_graph=True)
    assert (d_x.item(), calls) == (12, ["definition"])
    dd_x = tg.grad(d_x, x, create_graph=True)
    assert (dd_x.item(), tg.grad(dd_x, x).item()) == (12, 6)
    assert calls == ["definition"]


def test_the_definition_runs_under_the_scope_in_which_the_fused_operation_ran():
    calls, x = [], leaf([2.0])
    cube = counting_cube(calls)

    @tg.composite
    def layer(x):
        return cube(x)

    y = layer(x)
    again = y.op.unfold(y)
    assert again.scope.name == "definition" and again.scope.parent is y.scope
    assert y.scope.name == "layer" and this_thread.scopes == [None]
    np.testing.assert_array_equal(again.data, y.data)


def test_a_fused_operation_among_others_has_derivatives_of_third_order():
    cube = counting_cube([])
    tg.check_gradients(lambda x: tg.exp(cube(tg.tanh(x)) * x), randn(3), order=3)


def test_a_fused_operation_of_a_tensor_and_a_function_of_it_is_right_to_third_order():
    """The walk must stop at the inputs, even if one is computed from the other."""
    product = tg.Fused(
        "product",
        lambda a, b: (a * b, None),
        lambda g, saved, needs, a, b: (g * b, g * a),
        definition=ops.mul,
    )
    tg.check_gradients(lambda x: product(x, tg.exp(x)), randn(3), order=3)
    tg.check_gradients(lambda x: product(x, x), randn(3))


def test_a_fused_operation_may_have_many_inputs():
    # Python has a single object for each number up to 256, and `is` compares objects.
    add = tg.Fused(
        "add",
        lambda *inputs: (sum(inputs), None),
        lambda g, saved, needs, *inputs: [g] * len(inputs),
        definition=lambda *inputs: sum(inputs),
    )
    inputs = [leaf([1.0]) for _ in range(300)]
    add(*inputs).backward()
    assert all(x.grad.tolist() == [1] for x in inputs)


def test_an_operation_is_documented_by_its_own_docstring_or_that_of_its_class():
    assert tg.exp.__doc__ == "``e^x``, elementwise."
    assert tg.Primitive("p", np.exp).__doc__ == tg.Primitive.__doc__


def test_the_repr_of_an_operation_says_what_it_is():
    assert repr(ops.add) == "<elementwise add>"
    assert repr(counting_cube([])) == "<fused cube>"


# --- Memory, copies and gradients that could get lost ---------------------------------


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


@pytest.mark.parametrize(
    "make", [lambda: Tensor(1.0, name=5), lambda: leaf(1.0).named(5)]
)
def test_a_name_is_a_string(make):
    with pytest.raises(TypeError) as error:
        make()
    assert str(error.value) == (
        "a name must be a string or None, but 5 was received. Convert it with "
        "str(name)."
    )


def test_a_primitive_may_return_a_window_view_of_its_input():
    # NumPy's base of such a view is not an array.
    windows = tg.Primitive(
        "windows",
        lambda x: np.lib.stride_tricks.sliding_window_view(x, 2),
        lambda g, y, x: np.append(g[:, 0], 0) + np.append(0, g[:, 1]),
    )
    w = leaf([1.0, 2.0, 3.0])
    y = windows(w)
    assert tg.grad(y, w, gradient=[[1, 10], [100, 1000]]).data.tolist() == [
        1,
        110,
        1000,
    ]
    w[...] = 0
    assert y.data.tolist() == [[1, 2], [2, 3]]


def test_a_changed_leaf_does_not_reach_a_gradient_through_a_view():
    w, a = leaf([1.0, 2.0]), leaf([1.0, 1.0])
    product = (w.reshape(2, 1) * a.reshape(2, 1)).sum()
    w[...] = [10.0, 20.0]
    assert tg.grad(product, a).data.tolist() == [1, 2]


def test_a_copy_of_an_output_is_as_read_only_as_the_output():
    y = tg.exp(leaf([0.0]))
    for duplicate in copy.copy(y), copy.deepcopy(y):
        with pytest.raises(TypeError, match="only leaves can be assigned to"):
            duplicate[0] = 100
        with pytest.raises(ValueError, match="read-only"):
            duplicate.data[0] = 5
    x = copy.deepcopy(leaf([1.0]))
    x.data[0] = 5  # A leaf's array can be written to.
    assert x.item() == 5


def test_a_shallow_copy_of_a_leaf_has_its_own_values():
    a = leaf([3.0])
    b = copy.copy(a)
    b[0] = 50
    assert a.data.tolist() == [3]


def test_a_copied_graph_has_the_same_operations():
    assert copy.deepcopy(tg.exp(leaf([0.0]))).op is ops.exp


@pytest.mark.parametrize(
    "function",
    [tg.exp, lambda x: tg.maximum(x, 0), lambda x: Tensor([1.0, 2.0]) + x],
)
def test_a_list_of_tensors_is_not_accepted_as_an_input(function):
    a, b = leaf(1.0), leaf(2.0)
    with pytest.raises(TypeError, match=r"Use tg.stack\(tensors\)"):
        function([a, b])


def test_a_tensor_with_a_gradient_cannot_be_written_into_a_leaf():
    out, w = Tensor(np.zeros(2)), leaf([1.0, 2.0], "w")
    with pytest.raises(TypeError) as error:
        out[0] = w[0]
    assert str(error.value) == (
        "tensor[index] = values: values must be numbers, but tensor (scalar) requires "
        "a gradient, which would be lost. Use tg.stack or tg.concatenate, or "
        "values.data."
    )


@pytest.mark.parametrize("returned", [1, 3])
def test_a_fused_backward_must_return_one_gradient_per_input(returned):
    def forward(a, b):
        return a * b, None

    def backward(g, saved, needs, a, b):
        return [g * b] * returned

    broken = tg.Fused("broken", forward, backward, definition=lambda a, b: a * b)
    with pytest.raises(ValueError) as error:
        broken(leaf([1.0]), leaf([2.0])).sum().backward()
    assert str(error.value) == (
        "broken: backward must return one gradient per input, but for 2 inputs it "
        f"returned {returned}. Return None where none is needed."
    )


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_gradient_has_the_dtype_of_its_tensor_whatever_the_pullback_returns(
    create_graph,
):
    halve = tg.Primitive("halve", lambda x: (x / 2).astype("f4"), lambda g, y, x: g / 2)
    x = Tensor([1.0, 2.0], requires_grad=True)
    d_x = tg.grad(halve(x).sum(), x, create_graph=create_graph)
    assert d_x.dtype == np.float64
    assert d_x.tolist() == [0.5, 0.5]


def test_a_pullback_that_returns_a_number_is_an_error_that_names_the_operation():
    constant = tg.Primitive("constant", lambda x: x * 1, lambda g, y, x: 1.0)
    with pytest.raises(
        ValueError, match="constant: the gradient .* returned 1.0. Correct"
    ):
        constant(leaf([1.0, 2.0])).sum().backward()


def test_a_fused_backward_may_yield_its_gradients():
    def backward(g, saved, needs, a):
        yield g * 2

    twice = tg.Fused("twice", lambda a: (a * 2, None), backward, lambda a: a * 2)
    x = leaf([1.0, 2.0])
    twice(x).sum().backward()
    np.testing.assert_array_equal(x.grad, [2, 2])


def test_a_fused_operation_whose_gradient_nobody_needs_does_not_run_backward():
    def backward(g, saved, needs, a):
        raise AssertionError("nobody asked for this gradient")

    unwanted = tg.Fused("unwanted", lambda a: (a * 2, None), backward, lambda a: a * 2)
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    np.testing.assert_array_equal(tg.grad(unwanted(a).sum(), b).data, [0, 0])
    loss = (unwanted(a) + b * 3).sum()
    np.testing.assert_array_equal(tg.grad(loss, b).data, [3, 3])


def test_threads_record_and_name_their_operations_independently():
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


def test_a_copy_of_a_leaf_has_a_gradient_of_its_own():
    p = leaf([1.0, 2.0])
    (p * 3).sum().backward()
    q = copy.copy(p)
    (q * 5).sum().backward()
    assert q.grad.tolist() == [8, 8]
    assert p.grad.tolist() == [3, 3]


def test_a_gradient_of_another_shape_cannot_be_assigned():
    p = leaf(np.zeros((2, 3)), "p")
    for shape in (3,), (), (3, 2):
        with pytest.raises(ValueError) as error:
            p.grad = np.ones(shape)
        assert str(error.value) == (
            "tensor.grad = values: a gradient must have the shape of its tensor, but "
            f"'p'(2, 3) received one of {shape}. Set .grad to None to clear it."
        )
    assert p.grad is None


# Newer versions of NumPy deprecate such assignments.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("attached", [False, True])
def test_the_shape_and_dtype_of_a_gradient_cannot_be_changed_in_place(attached):
    p = leaf([1.0, 2.0], "p")
    optimizer = optim.SGD([p], lr=1.0) if attached else None
    for expected in [3, 3], [6, 6]:
        (p * 3).sum().backward()
        p.grad.shape = (2, 1)
        p.grad.dtype = int
        p.grad.setflags(write=False)
        assert p.grad.shape == (2,) and p.grad.tolist() == expected
    p.grad[0] = 1
    p.grad *= 2
    assert p.grad.tolist() == [2, 12]
    if attached:
        optimizer.step()
        assert p.data.tolist() == [-1, -10]
        p.grad.shape = (2, 1)
        optimizer.zero_grad()
        (p * 3).sum().backward()
        assert p.grad.tolist() == [3, 3]


@pytest.mark.parametrize("wrong", [np.array([1j, 2]), np.array([None, 1]), ["1", "2"]])
def test_a_gradient_must_be_real_numbers(wrong):
    p = leaf([1.0, 2.0], "p")
    with pytest.raises(TypeError, match="Cannot cast"):
        p.grad = wrong
    with pytest.raises(TypeError, match="Cannot cast"):
        (p * 2).backward(wrong)
    assert p.grad is None


def test_an_operation_with_a_complex_result_is_an_error():
    with pytest.raises(TypeError) as error:
        Tensor([1.0]) * 1j
    assert str(error.value) == (
        "mul: the result must be real numbers, but it is complex128."
    )


# --- What changes later does not change the graph -------------------------------------


def test_params_that_change_later_do_not_change_the_graph():
    """Every kind of mutable value in an index: bounds of slices, arrays and lists."""
    x = leaf(randn(6))
    start, stop, step = (np.array(n) for n in (1, 5, 2))
    places, mask = np.array([0, 3]), np.array([True, False] * 3)
    nested = [2, 4]
    cases = [
        (x[start:stop:step], [1, 3]), (x[places], [0, 3]), (x[mask], [0, 2, 4]),
        (x[nested], [2, 4]), (x[Tensor(places)], [0, 3]), (x[start], [1]),
    ]  # fmt: skip
    for changing in (start, stop, step, places):
        changing[...] = 0
    mask[...] = True
    nested[:] = [0, 0]
    for y, taken in cases:
        expected = np.zeros(6)
        expected[taken] = 1
        np.testing.assert_array_equal(tg.grad(y.sum(), x).data, expected)


class Place(NamedTuple):
    """A tuple whose constructor takes each entry by itself."""

    row: np.ndarray
    column: int


class Convertible:
    """An array of another library, which NumPy can convert."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype=dtype) if copy else self.array


class Series(Convertible):
    """An array of another library, which NumPy's functions can take."""

    def __array_ufunc__(self, ufunc, method, *inputs):
        return NotImplemented


def test_a_private_copy_copies_everything_that_can_change():
    array = np.array([1, 2])
    value = (
        slice(array[0], np.array(4)), [array, [array]], Tensor(array), {"a": array},
        Place(array, 0), Series(array), None, "ij",
    )  # fmt: skip
    copied = private_copy(value)
    arrays = [
        copied[0].stop, copied[1][0], copied[1][1][0], copied[2], copied[3]["a"],
        copied[4][0], copied[5],
    ]  # fmt: skip
    assert all(type(a) is np.ndarray for a in arrays)
    assert not any(np.shares_memory(a, array) for a in arrays)
    assert copied[6:] == (None, "ij") and type(copied) is tuple
    assert type(copied[1]) is list and type(copied[0].start) is np.int64
    unknown = Convertible(array)
    assert private_copy(unknown) is unknown


# --- Copies and timestamps ------------------------------------------------------------


@pytest.mark.parametrize("timestamp", [10, 11])
def test_the_clock_advances_past_a_later_timestamp_and_never_goes_back(timestamp):
    clock = Clock()
    clock.pass_by(timestamp)
    assert clock.tick() == timestamp + 1
    clock.pass_by(5)
    assert clock.tick() > timestamp + 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_stale_graph_is_stale(copied):
    x = leaf([1.0, 2.0], name="x")
    y = (x * x).sum()
    x[0] = 5.0
    with pytest.raises(RuntimeError, match=r"'x'\(2,\) was changed after 'mul'"):
        copied(y).backward()


def test_a_deep_copy_of_a_graph_runs_backward_and_leaves_the_original_alone():
    x = leaf([1.0, 2.0], name="x")
    y = (tg.exp(x) * x).sum()
    twin = copy.deepcopy(y)
    twin.backward()
    (twin_x,) = {t for t in tensors_behind(twin) if t.name == "x"}
    np.testing.assert_allclose(twin_x.grad, np.exp(x.data) * (1 + x.data))
    assert x.grad is None


def test_a_leaf_from_a_process_with_a_later_clock_can_be_used_here():
    x = leaf([2.0], name="x")
    x.timestamp += 10**6
    restored = pickle.loads(pickle.dumps(x))
    y = restored * 3
    assert y.timestamp > restored.timestamp == x.timestamp
    assert tg.grad(y, restored).item() == 3
    restored[0] = 1.0
    with pytest.raises(RuntimeError, match="was changed after"):
        y.backward()


# --- Gradients that are assigned ------------------------------------------------------


def test_swapping_two_gradients_loses_no_values():
    a, b = leaf([1.0, 1.0]), leaf([2.0, 2.0])
    optimizer = optim.SGD([a, b], lr=1.0)
    (a * 3 + b * 5).sum().backward()
    a.grad, b.grad = b.grad, a.grad
    optimizer.step()
    np.testing.assert_array_equal([a.data, b.data], [[1 - 5] * 2, [2 - 3] * 2])


def test_a_gradient_given_to_another_tensor_is_a_copy():
    a, b = leaf([1.0, 1.0]), leaf([2.0, 2.0])
    optim.SGD([a, b], lr=1.0)
    (a * 3).sum().backward()
    b.grad = a.grad
    a.grad = None
    (a * 7 + b).sum().backward()
    np.testing.assert_array_equal([a.grad, b.grad], [[7, 7], [4, 4]])


def test_a_gradient_can_be_changed_in_place():
    a = leaf([1.0, 2.0])
    optimizer = optim.SGD([a], lr=1.0)
    (a * 3).sum().backward()
    a.grad *= 2
    a.grad[0] = 1
    optimizer.step()
    np.testing.assert_array_equal(a.data, [0, 2 - 6])


# --- no_grad in generators ------------------------------------------------------------


def test_contexts_that_end_out_of_order_leave_recording_as_it_was():
    def steps():
        with tg.no_grad():
            yield

    x = leaf([1.0])
    first, second = steps(), steps()
    next(first), next(second)
    first.close()
    assert (x * 2).op is None
    second.close()
    assert (x * 2).op is ops.mul


def test_a_context_that_another_thread_ends_leaves_recording_as_it_was():
    def steps():
        with tg.no_grad():
            yield

    x, first = leaf([1.0]), steps()
    next(first)
    assert (x * 2).op is None
    thread = threading.Thread(target=first.close)
    thread.start()
    thread.join()
    assert (x * 2).op is ops.mul
