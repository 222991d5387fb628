"""What must not go wrong in silence: each of these once gave a wrong number."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, ops, optim


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

    def backward(g, saved, needs, out, a, b):
        return (g * b,)

    broken = tg.Fused("broken", forward, backward, definition=lambda a, b: a * b)
    with pytest.raises(ValueError, match="shorter"):
        broken(leaf([1.0]), leaf([2.0])).sum().backward()


def test_a_rule_that_returns_a_number_is_named():
    constant = tg.Primitive("constant", lambda x: x * 1, lambda g, y, x: 1.0)
    with pytest.raises(
        ValueError, match="constant: the gradient .* returned 1.0. Mend"
    ):
        constant(leaf([1.0, 2.0])).sum().backward()


# --- Numbers --------------------------------------------------------------------------


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
