"""Operations: NumPy's values, gradients to second order, conventions, errors."""

import numpy as np
import pytest
from conftest import leaf, nodes_behind, randn

import tinygrad_bn as tg
from tinygrad_bn import Tensor, check_gradients, compositions, ops, tensor
from tinygrad_bn.tape import Operation


def distinct(*shape, seed=0):
    """Values that are at least 0.1 from 0 and from each other, in random order."""
    n = int(np.prod(shape))
    values = 0.1 * (np.arange(n) - n // 2) + 0.05
    return np.random.default_rng(seed).permutation(values).reshape(shape)


def positive(*shape, seed=0):
    return 0.5 + np.abs(randn(*shape, seed=seed))


MASK = np.array([[True, False, True], [False, False, True]])

# The function for tensors, the one for arrays (None if it is the same), the inputs.
CASES = {
    # Arithmetic, with and without broadcasting.
    "a + b": (lambda a, b: a + b, None, randn(2, 3), randn(2, 3, seed=1)),
    "a + row": (lambda a, b: a + b, None, randn(2, 3), randn(3)),
    "column + row": (lambda a, b: a + b, None, randn(2, 1), randn(3)),
    "scalar + a": (lambda a, b: a + b, None, randn(), randn(2, 3)),
    "a + 2": (lambda a: a + 2, None, randn(2, 3)),
    "a - row": (lambda a, b: a - b, None, randn(2, 3), randn(1, 3)),
    "column - row": (lambda a, b: a - b, None, randn(2, 1), randn(3)),
    "2 - a": (lambda a: 2 - a, None, randn(2, 3)),
    "-a": (lambda a: -a, None, randn(2, 3)),
    "+a": (lambda a: +a, None, randn(2, 3)),
    "a * row": (lambda a, b: a * b, None, randn(2, 3), randn(3)),
    "a * a": (lambda a: a * a, None, randn(2, 3)),
    "3 * a": (lambda a: 3 * a, None, randn(2, 3)),
    "a / row": (lambda a, b: a / b, None, randn(2, 3), positive(3)),
    "column / row": (lambda a, b: a / b, None, randn(2, 1), positive(3)),
    "2 / a": (lambda a: 2 / a, None, positive(2, 3)),
    "a / 2": (lambda a: a / 2, None, randn(2, 3)),
    "a ** 2": (lambda a: a**2, None, randn(2, 3)),
    "a ** 3": (lambda a: a**3, None, randn(2, 3)),
    "a ** -0.5": (lambda a: a**-0.5, None, positive(2, 3)),
    "a ** 1": (lambda a: a**1, None, randn(2, 3)),
    "a ** 0": (lambda a: a**0, None, randn(2, 3)),
    "a ** row": (lambda a, b: a**b, None, positive(2, 3), randn(3)),
    "2 ** a": (lambda a: 2**a, None, randn(2, 3)),
    "abs(a)": (abs, None, distinct(2, 3)),
    # Elementwise functions.
    "absolute": (tg.absolute, np.absolute, distinct(2, 3)),
    "exp": (tg.exp, np.exp, randn(2, 3)),
    "log": (tg.log, np.log, positive(2, 3)),
    "sqrt": (tg.sqrt, np.sqrt, positive(2, 3)),
    "tanh": (tg.tanh, np.tanh, randn(2, 3)),
    "sigmoid": (tg.sigmoid, lambda x: 1 / (1 + np.exp(-x)), randn(2, 3)),
    "relu": (tg.relu, lambda x: np.where(x > 0, x, 0), distinct(2, 3)),
    "maximum": (tg.maximum, np.maximum, distinct(2, 3), randn(2, 3, seed=1)),
    "maximum of row": (tg.maximum, np.maximum, distinct(2, 3), randn(3)),
    "maximum of number": (lambda a: tg.maximum(a, 0.1), None, distinct(2, 3)),
    "minimum": (tg.minimum, np.minimum, distinct(2, 3), randn(2, 3, seed=1)),
    "minimum of row": (tg.minimum, np.minimum, distinct(2, 3), randn(3)),
    "clip": (lambda a: a.clip(-0.12, 0.12), None, distinct(2, 3)),
    "clip from below": (lambda a: a.clip(0.1), None, distinct(2, 3)),
    "clip from above": (lambda a: a.clip(None, 0.1), None, distinct(2, 3)),
    "where": (
        lambda a, b: tg.where(MASK, a, b),
        lambda a, b: np.where(MASK, a, b),
        *(randn(2, 3), randn(2, 3, seed=1)),
    ),
    "where, all broadcast": (
        lambda a, b: tg.where(MASK[:, :1], a, b),
        lambda a, b: np.where(MASK[:, :1], a, b),
        *(randn(3), randn()),
    ),
    "where with a number": (
        lambda a: tg.where(MASK, a, 7.0),
        lambda a: np.where(MASK, a, np.float32(7)),
        randn(2, 3),
    ),
    # Reductions.
    "sum": (lambda a: a.sum(), None, randn(2, 3)),
    "sum over 0": (lambda a: a.sum(axis=0), None, randn(2, 3, 4)),
    "sum over 1": (lambda a: a.sum(1), None, randn(2, 3, 4)),
    "sum over -1": (lambda a: a.sum(axis=-1), None, randn(2, 3, 4)),
    "sum over 0, -1": (lambda a: a.sum(axis=(0, -1)), None, randn(2, 3, 4)),
    "sum over 2, 1": (lambda a: a.sum(axis=(2, 1)), None, randn(2, 3, 4)),
    "sum over all": (lambda a: a.sum(axis=(0, 1, 2)), None, randn(2, 3, 4)),
    "sum over none": (lambda a: a.sum(axis=()), None, randn(2, 3)),
    "sum of a scalar": (lambda a: a.sum(), None, randn()),
    "sum of nothing": (lambda a: a.sum(axis=0), None, randn(0, 3)),
    "sum of an axis of one": (lambda a: a.sum(axis=1), None, randn(2, 1)),
    "sum, keepdims": (
        lambda a: a.sum(axis=(0, 2), keepdims=True),
        None,
        randn(2, 3, 4),
    ),
    "sum of all, keepdims": (lambda a: a.sum(keepdims=True), None, randn(2, 3)),
    "mean": (lambda a: a.mean(), None, randn(2, 3)),
    "mean over -2": (lambda a: a.mean(axis=-2), None, randn(2, 3, 4)),
    "mean, keepdims": (
        lambda a: a.mean(axis=(0, 2), keepdims=True),
        None,
        randn(2, 3, 4),
    ),
    "mean over none": (lambda a: a.mean(axis=()), None, randn(2, 3)),
    "var": (lambda a: a.var(), None, randn(2, 3)),
    "var over 1": (lambda a: a.var(axis=1), None, randn(2, 3, 4)),
    "var with ddof": (lambda a: a.var(0, ddof=1), None, randn(4, 3)),
    "std": (lambda a: a.std(), None, randn(2, 3)),
    "std over 0, -1": (lambda a: a.std(axis=(0, -1)), None, randn(2, 3, 4)),
    "std, keepdims": (lambda a: a.std(axis=1, keepdims=True), None, randn(2, 3)),
    "std with ddof": (lambda a: a.std(0, ddof=1), None, randn(4, 3)),
    "var, keepdims": (
        lambda a: a.var(axis=(0, -1), keepdims=True),
        None,
        randn(2, 3, 4),
    ),
    "max": (lambda a: a.max(), None, distinct(2, 3)),
    "max over 0": (lambda a: a.max(axis=0), None, distinct(4, 3)),
    "max over -1, keepdims": (
        lambda a: a.max(axis=-1, keepdims=True),
        None,
        distinct(4, 3),
    ),
    "max over 2, 0": (lambda a: a.max(axis=(2, 0)), None, distinct(2, 3, 4)),
    "max over none": (lambda a: a.max(axis=()), None, distinct(2, 3)),
    "min": (lambda a: a.min(), None, distinct(2, 3)),
    "min over 0": (lambda a: a.min(axis=0), None, distinct(4, 3)),
    "min over -1, keepdims": (
        lambda a: a.min(axis=-1, keepdims=True),
        None,
        distinct(4, 3),
    ),
    # Matrix products.
    "matrix @ matrix": (lambda a, b: a @ b, None, randn(2, 3), randn(3, 4)),
    "vector @ matrix": (lambda a, b: a @ b, None, randn(3), randn(3, 4)),
    "matrix @ vector": (lambda a, b: a @ b, None, randn(2, 3), randn(3)),
    "vector @ vector": (lambda a, b: a @ b, None, randn(3), randn(3, seed=1)),
    "stack @ stack": (lambda a, b: a @ b, None, randn(5, 2, 3), randn(5, 3, 4)),
    "stack @ matrix": (lambda a, b: a @ b, None, randn(5, 2, 3), randn(3, 4)),
    "matrix @ stack": (lambda a, b: a @ b, None, randn(2, 3), randn(5, 3, 4)),
    "stack of one @ stack": (lambda a, b: a @ b, None, randn(1, 2, 3), randn(5, 3, 4)),
    "stacks across": (lambda a, b: a @ b, None, randn(2, 1, 2, 3), randn(5, 3, 1)),
    "vector @ stack": (lambda a, b: a @ b, None, randn(3), randn(5, 3, 4)),
    "stack @ vector": (lambda a, b: a @ b, None, randn(5, 2, 3), randn(3)),
    "a @ a": (lambda a: a @ a, None, randn(3, 3)),
    # Shapes.
    "reshape": (lambda a: a.reshape(3, 2), None, randn(2, 3)),
    "reshape to a tuple": (lambda a: a.reshape((1, 6)), None, randn(2, 3)),
    "reshape, rest": (lambda a: a.reshape(-1, 2), None, randn(2, 3)),
    "reshape to a scalar": (lambda a: a.reshape(()), None, randn(1, 1)),
    "transpose": (lambda a: a.transpose(), None, randn(2, 3, 4)),
    "transpose, some order": (lambda a: a.transpose(2, 0, 1), None, randn(2, 3, 4)),
    "transpose, from the end": (
        lambda a: a.transpose((-1, 0, 1)),
        None,
        randn(2, 3, 4),
    ),
    "T": (lambda a: a.T, None, randn(2, 3)),
    "mT": (lambda a: a.mT, None, randn(2, 3, 4)),
    "broadcast_to": (
        lambda a: ops.broadcast_to(a, shape=(4, 2, 3)),
        lambda a: np.broadcast_to(a, (4, 2, 3)),
        randn(2, 1),
    ),
    "sum_to": (
        lambda a: ops.sum_to(a, shape=(3, 1)),
        lambda a: a.sum(axis=(0, 2))[:, None],
        randn(2, 3, 4),
    ),
    "broadcast_to, public": (
        lambda a: tg.broadcast_to(a, (4, 2, 3)),
        lambda a: np.broadcast_to(a, (4, 2, 3)),
        randn(2, 1),
    ),
    "flatten": (lambda a: a.flatten(), None, randn(2, 3, 4)),
    "ravel": (lambda a: a.ravel(), None, randn(2, 3)),
    "squeeze": (lambda a: a.squeeze(), None, randn(1, 3, 1)),
    "squeeze one axis": (lambda a: a.squeeze(-1), None, randn(1, 3, 1)),
    "expand_dims": (
        lambda a: tg.expand_dims(a, -1),
        lambda a: np.expand_dims(a, -1),
        randn(2, 3),
    ),
    "expand_dims, several": (
        lambda a: tg.expand_dims(a, (0, 2)),
        lambda a: np.expand_dims(a, (0, 2)),
        randn(2, 3),
    ),
    # Indexing.
    "a[i]": (lambda a: a[1], None, randn(4, 3)),
    "a[-1, 2]": (lambda a: a[-1, 2], None, randn(4, 3)),
    "a slice": (lambda a: a[1:3], None, randn(4, 3)),
    "a slice with a step": (lambda a: a[::-2, 1:], None, randn(4, 3)),
    "an empty list": (lambda a: a[[]], None, randn(4, 3)),
    "an empty slice": (lambda a: a[2:2], None, randn(4, 3)),
    "a[...]": (lambda a: a[...], None, randn(4, 3)),
    "a[..., i]": (lambda a: a[..., 1], None, randn(2, 4, 3)),
    "a[:, None]": (lambda a: a[:, None], None, randn(4, 3)),
    "a[None, ..., [0, 0]]": (lambda a: a[None, ..., [0, 0]], None, randn(2, 4, 3)),
    "an integer array": (lambda a: a[np.array([2, 0])], None, randn(4, 3)),
    "a list": (lambda a: a[[2, 0, -1]], None, randn(4, 3)),
    "repeated indices": (lambda a: a[[1, 1, 1, 3]], None, randn(4, 3)),
    "pairs of indices": (lambda a: a[[0, 1, 1], [2, 0, 0]], None, randn(4, 3)),
    "a matrix of indices": (lambda a: a[[[0, 1], [1, 1]]], None, randn(4, 3)),
    "a boolean mask": (lambda a: a[MASK], None, randn(2, 3)),
    "a mask of rows": (lambda a: a[[True, False, True, True]], None, randn(4, 3)),
    "a comparison": (lambda a: a[np.asarray(a) > 0], None, distinct(4, 3)),
    "scatter_add": (
        lambda a: ops.scatter_add(a, index=([0, 0, 1],), shape=(2, 3)),
        lambda a: np.stack([a[0] + a[1], a[2]]),
        randn(3, 3),
    ),
    # Joining.
    "concatenate": (
        lambda a, b: tg.concatenate([a, b]),
        lambda a, b: np.concatenate([a, b]),
        *(randn(2, 3), randn(4, 3)),
    ),
    "concatenate along -1": (
        lambda a, b: tg.concatenate((a, b, a), axis=-1),
        lambda a, b: np.concatenate((a, b, a), axis=-1),
        *(randn(2, 3), randn(2, 1)),
    ),
    "concatenate, flat": (
        lambda a, b: tg.concatenate([a, b], axis=None),
        lambda a, b: np.concatenate([a, b], axis=None),
        *(randn(2, 3), randn(4)),
    ),
    "stack": (
        lambda a, b: tg.stack([a, b]),
        lambda a, b: np.stack([a, b]),
        *(randn(2, 3), randn(2, 3, seed=1)),
    ),
    "stack along 1": (
        lambda a, b: tg.stack((a, b), axis=1),
        lambda a, b: np.stack((a, b), axis=1),
        *(randn(2, 3), randn(2, 3, seed=1)),
    ),
    "stack along -1": (
        lambda a, b: tg.stack((a, b), axis=-1),
        lambda a, b: np.stack((a, b), axis=-1),
        *(randn(2, 3), randn(2, 3, seed=1)),
    ),
    "stack of scalars": (
        lambda a, b: tg.stack([a, b]),
        lambda a, b: np.stack([a, b]),
        *(randn(), randn(seed=1)),
    ),
}
# These convert float32 to float64.
CASES_IN_FLOAT64 = {
    "astype": (lambda a: a.astype(np.float64) ** 2, None, randn(2, 3)),
}
ALL = CASES | CASES_IN_FLOAT64
CONSTANT = {ops.equal, ops.sign, ops.stop_gradient}


def leaves_of(arrays, dtype=np.float64):
    return [Tensor(x, requires_grad=True, dtype=dtype) for x in arrays]


@pytest.mark.parametrize("case", ALL)
def test_the_value_is_that_of_numpy(case):
    f, reference, *arrays = ALL[case]
    expected = (reference or f)(*arrays)
    y = f(*leaves_of(arrays))
    assert isinstance(y, Tensor) and y.dtype == np.float64
    np.testing.assert_allclose(y.data, expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("case", ALL)
def test_gradients_are_right_to_second_order(case):
    f, _, *arrays = ALL[case]
    check_gradients(f, *arrays)


@pytest.mark.parametrize("case", CASES)
def test_float32_stays_float32_forward_and_backward(case):
    f, reference, *arrays = CASES[case]
    leaves = leaves_of(arrays, np.float32)
    y = f(*leaves)
    assert y.dtype == np.float32
    arrays = [x.astype(np.float32) for x in arrays]
    expected = (reference or f)(*arrays)
    np.testing.assert_allclose(y.data, expected, rtol=1e-5, atol=1e-6)
    for create_graph in (False, True):
        gradients = tg.grad(y, leaves, np.ones(y.shape, np.float32), create_graph)
        assert {g.dtype for g in gradients} == {np.dtype(np.float32)}


@pytest.mark.parametrize("case", ALL)
def test_rules_give_arrays_from_arrays_and_the_same_in_tensors_from_tensors(case):
    f, _, *arrays = ALL[case]
    for node in nodes_behind(f(*leaves_of(arrays))):
        g = randn(*node.shape, seed=3)
        inputs = [x.data if isinstance(x, Tensor) else x for x in node.inputs]
        again = node.op(*inputs, **node.params)
        assert isinstance(again, np.ndarray | np.generic)
        np.testing.assert_array_equal(again, node.data)
        needs = [isinstance(x, Tensor) and x.requires_grad for x in node.inputs]
        from_arrays = node.op.apply_pullbacks(g, node, needs)
        from_tensors = node.op.apply_pullbacks(Tensor(g), node, needs)
        for (x, array), (same_x, result) in zip(from_arrays, from_tensors, strict=True):
            assert x is same_x
            assert isinstance(array, np.ndarray | np.generic)
            assert isinstance(result, Tensor)
            np.testing.assert_allclose(result.data, array, rtol=1e-13)


def test_every_primitive_has_a_gradient_test_or_is_declared_constant():
    found = {p for p in vars(ops).values() if isinstance(p, Operation)}
    tested = set()
    for f, _, *arrays in ALL.values():
        tested |= {node.op for node in nodes_behind(f(*leaves_of(arrays)))}
    assert found - tested <= CONSTANT


def changeable(param, arrays):
    """The same param made of arrays, which are appended to ``arrays``."""
    if isinstance(param, tuple | list):
        return type(param)(changeable(part, arrays) for part in param)
    if isinstance(param, slice):
        bounds = (param.start, param.stop, param.step)
        return slice(*(changeable(bound, arrays) for bound in bounds))
    if isinstance(param, int | float | np.ndarray):
        arrays.append(np.array(param))
        return arrays[-1]
    return param


def test_no_primitive_notices_that_its_params_change_later():
    tested = set()
    for f, _, *arrays in ALL.values():
        for node in nodes_behind(f(*leaves_of(arrays))):
            if not node.params or not isinstance(node.op, tg.Primitive):
                continue  # The axis of Concatenate is a number.
            (x,), changing = leaves_of([x.data for x in node.inputs]), []
            params = {
                name: changeable(param, changing) for name, param in node.params.items()
            }
            y = node.op(x, **params)
            before = tg.grad((y * y).sum(), x)
            for array in changing:
                array[...] = array == 0
            after = tg.grad((y * y).sum(), x)
            np.testing.assert_array_equal(after.data, before.data)
            tested.add(node.op.name)
    assert tested == {
        "astype", "broadcast_to", "clip", "getitem", "max_to", "min_to", "reshape",
        "scatter_add", "sum_to", "transpose",
    }  # fmt: skip


def test_a_set_among_the_params_is_copied_like_other_containers():
    scale = tg.Primitive(
        "scale",
        lambda x, factors: x * sum(factors["all"]),
        lambda g, y, x, factors: g * sum(factors["all"]),
    )
    x, factors = leaf([1.0, 2.0]), {"all": {2, 3}}
    y = scale(x, factors=factors).sum()
    factors["all"].add(5)
    assert tg.grad(y, x).data.tolist() == [5, 5]


def test_a_primitive_has_one_pullback_per_input_and_none_for_a_mask():
    assert ops.where.pullbacks[0] is None
    for f, _, *arrays in ALL.values():
        for node in nodes_behind(f(*leaves_of(arrays))):
            if isinstance(node.op, tg.Primitive):
                assert len(node.op.pullbacks) == len(node.inputs)


@pytest.mark.parametrize("case", ALL)
def test_gradients_of_gradients_use_registered_primitives_only(case):
    f, _, *arrays = ALL[case]
    registered = {p for p in vars(ops).values() if isinstance(p, Operation)}
    registered.add(compositions._concatenate)
    leaves = leaves_of(arrays)
    y = f(*leaves)
    for _ in range(2):
        total = sum((g * g).sum() for g in tg.grad(y.sum(), leaves, create_graph=True))
        assert {node.op for node in nodes_behind(total)} <= registered
        y = y + total


# --- Constants, and how operations are made of others ---------------------------------


def test_equal_and_sign_are_constants_that_stay_on_the_tape():
    x = Tensor([-2.0, 0.0, 3.0], requires_grad=True)
    for y, expected in [(ops.equal(x, 0), [0, 1, 0]), (ops.sign(x), [-1, 0, 1])]:
        np.testing.assert_array_equal(y.data, expected)
        assert y.dtype == np.float64 and not y.requires_grad
        assert y.op is not None and y.inputs[0] is x
    np.testing.assert_array_equal(tg.grad((ops.sign(x) * x).sum(), x).data, [-1, 0, 1])


def test_negation_is_multiplication_by_minus_one():
    x = Tensor([1.0], requires_grad=True)
    assert (-x).op is ops.mul and (-x).inputs == (x, -1)


def test_division_is_a_primitive_of_its_own_and_bit_for_bit_that_of_numpy():
    a, b = randn(1000), positive(1000)
    y = Tensor(a, requires_grad=True) / b
    assert y.op is ops.div
    np.testing.assert_array_equal(y.data, a / b)


def test_stack_is_reshape_and_concatenate():
    a, b = leaves_of([randn(3), randn(3)])
    operations = [node.op.name for node in tg.tape(tg.stack([a, b]))]
    assert operations == ["concatenate", "reshape", "reshape"]


def test_operations_on_arrays_give_arrays():
    x = positive(2, 3)
    for y in (
        tg.exp(x),
        tg.matmul(x, x.T),
        tg.stack([x, x]),
        compositions.var(x),
        x + x,
    ):
        assert type(y) in (np.ndarray, np.float64)
    np.testing.assert_array_equal(tg.stack([x, x], axis=1), np.stack([x, x], axis=1))
    np.testing.assert_allclose(compositions.var(x, 0), x.var(0), rtol=1e-15)


@pytest.mark.parametrize(
    "x", [-2, -2.0, [-2, 3], np.array([200, 100], np.uint8), [True]]
)
def test_relu_and_sigmoid_take_numbers_lists_and_integers(x):
    values = np.array(x, float)
    np.testing.assert_array_equal(tg.relu(x), np.where(values > 0, values, 0))
    np.testing.assert_allclose(tg.sigmoid(x), 1 / (1 + np.exp(-values)), rtol=1e-15)
    np.testing.assert_array_equal(tg.relu(Tensor(x)), tg.relu(x))
    np.testing.assert_array_equal(tg.sigmoid(Tensor(x)), tg.sigmoid(x))


def test_sigmoid_does_not_overflow():
    x = Tensor([-1e4, 0.0, 1e4], requires_grad=True)
    np.testing.assert_array_equal(tg.sigmoid(x).data, [0, 0.5, 1])
    np.testing.assert_array_equal(tg.grad(tg.sigmoid(x).sum(), x).data, [0, 0.25, 0])


def test_the_index_is_copied():
    x = Tensor(randn(4, 3), requires_grad=True)
    index = np.array([0, 1])
    y = x[index]
    index[...] = 3
    expected = np.repeat([1, 1, 0, 0], 3).reshape(4, 3)
    np.testing.assert_array_equal(tg.grad(y.sum(), x).data, expected)


def test_a_tensor_can_be_an_index():
    x = Tensor(randn(4, 3), requires_grad=True)
    np.testing.assert_array_equal(x[Tensor([2, 0])].data, x.data[[2, 0]])
    np.testing.assert_array_equal(x[1, Tensor(2)].data, x.data[1, 2])


def test_iterating_gives_the_rows():
    x = Tensor(randn(2, 3), requires_grad=True)
    rows = list(x)
    assert len(rows) == 2
    np.testing.assert_array_equal(rows[1].data, x.data[1])
    np.testing.assert_array_equal(tg.grad(rows[1].sum(), x).data, [[0] * 3, [1] * 3])


# --- Conventions at kinks -------------------------------------------------------------


@pytest.mark.parametrize(
    "f, x, first, second",
    [
        (tg.relu, 0.0, 0, 0),
        (tg.absolute, 0.0, 0, 0),
        (lambda x: tg.maximum(x, 0.0), 0.0, 0.5, 0),
        (lambda x: tg.maximum(x, x), 3.0, 1, 0),
        (lambda x: tg.minimum(x, 0.0), 0.0, 0.5, 0),
        (lambda x: x.clip(0.0, 1.0), 0.0, 1, 0),
        (lambda x: x.clip(-1.0, 0.0), 0.0, 1, 0),
        (lambda x: x.clip(0.0, 0.0), 0.0, 1, 0),
        (lambda x: (x * x).clip(None, 1.0), 1.0, 2, 2),
        (lambda x: x**0, 0.0, 0, 0),
        (lambda x: x**0, 2.0, 0, 0),
        (lambda x: x**1, 0.0, 1, 0),
        (lambda x: x**1.0, 0.0, 1, 0),
        (lambda x: x**2, 0.0, 0, 2),
        (lambda x: x**3, 0.0, 0, 0),
        (lambda x: x ** np.array(0.0), 0.0, 0, 0),
        (lambda x: x ** np.array(1.0), 0.0, 1, 0),
        (lambda x: x ** np.array(2.0), 0.0, 0, 2),
    ],
)
def test_the_convention_at_a_kink_holds_to_second_order(f, x, first, second):
    x = Tensor(x, requires_grad=True)
    d_x = tg.grad(f(x), x, create_graph=True)
    assert d_x.item() == first == tg.grad(f(x), x).item()
    assert tg.grad(d_x, x).item() == second


def test_maximum_shares_the_gradient_equally_in_a_tie():
    a, b = leaves_of([np.array([1.0, 2.0, 5.0]), np.array([1.0, 3.0, 4.0])])
    d_a, d_b = tg.grad(tg.maximum(a, b), [a, b], gradient=[2.0, 2.0, 2.0])
    np.testing.assert_array_equal(d_a.data, [1, 0, 2])
    np.testing.assert_array_equal(d_b.data, [1, 2, 0])


def test_max_shares_the_gradient_equally_among_ties():
    x = Tensor([[3.0, 1.0, 3.0], [2.0, 2.0, 2.0]], requires_grad=True)
    d_x = tg.grad(x.max(axis=1), x, gradient=[2.0, 3.0])
    np.testing.assert_array_equal(d_x.data, [[1, 0, 1], [1, 1, 1]])


def test_min_shares_the_gradient_equally_among_ties():
    x = Tensor([[3.0, 1.0, 1.0], [2.0, 2.0, 2.0]], requires_grad=True)
    d_x = tg.grad(x.min(axis=1), x, gradient=[2.0, 3.0])
    np.testing.assert_array_equal(d_x.data, [[0, 1, 1], [1, 1, 1]])


def test_the_gradient_of_an_exponent_is_zero_where_the_base_is_zero():
    x, n = leaves_of([np.zeros(3), np.array([1.0, 2.0, 3.0])])
    np.testing.assert_array_equal(tg.grad((x**n).sum(), n).data, [0, 0, 0])


def test_the_mixed_derivative_of_power_is_right_at_the_exponents_0_and_1():
    """d/dn of d/dx x^n = n x^(n-1) is x^(n-1) (1 + n log x)."""
    x, n = leaves_of([np.array([2.0, 3.0, 4.0]), np.array([0.0, 1.0, 2.0])])
    d_x = tg.grad((x**n).sum(), x, create_graph=True)
    expected = x.data ** (n.data - 1) * (1 + n.data * np.log(x.data))
    np.testing.assert_allclose(tg.grad(d_x.sum(), n).data, expected, rtol=1e-14)


def test_a_negative_base_with_a_whole_exponent_has_a_gradient():
    x = Tensor([-2.0, -3.0], requires_grad=True)
    np.testing.assert_array_equal(tg.grad((x**3).sum(), x).data, [12, 27])


def test_the_maximum_over_a_short_axis_keeps_a_long_one():
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


# --- NumPy on the left ----------------------------------------------------------------


@pytest.mark.parametrize(
    "f",
    [
        lambda left, x: left + x,
        lambda left, x: left - x,
        lambda left, x: left * x,
        lambda left, x: left / x,
        lambda left, x: np.abs(left) ** x,
    ],
)
@pytest.mark.parametrize("left", [randn(2, 3), np.float64(2.5), np.array(2.5), 2])
def test_a_number_or_array_on_the_left_gives_one_tensor(f, left):
    x = Tensor(positive(3), requires_grad=True)
    y = f(left, x)
    assert isinstance(y, Tensor) and y.requires_grad
    np.testing.assert_array_equal(y.data, f(left, x.data))
    check_gradients(lambda x: f(left, x), x.data)


def test_an_array_on_the_left_of_a_matrix_product_gives_a_tensor():
    left, x = randn(2, 3), Tensor(randn(3, 4), requires_grad=True)
    y = left @ x
    assert isinstance(y, Tensor)
    np.testing.assert_array_equal(y.data, left @ x.data)
    np.testing.assert_allclose(tg.grad(y.sum(), x).data, left.T @ np.ones((2, 4)))


UNARY = [
    *(np.negative, np.positive, np.square, np.reciprocal, np.absolute, np.abs),
    *(np.exp, np.log, np.sqrt, np.tanh),
]
BINARY = [
    *(np.add, np.subtract, np.multiply, np.divide, np.true_divide, np.power),
    *(np.maximum, np.minimum),
]


@pytest.mark.parametrize("ufunc", UNARY)
def test_a_numpy_function_of_a_tensor_is_a_tensor_with_a_gradient(ufunc):
    x = Tensor(positive(3), requires_grad=True)
    np.testing.assert_array_equal(ufunc(x).data, ufunc(x.data))
    check_gradients(ufunc, x.data)


@pytest.mark.parametrize("ufunc", BINARY)
def test_a_numpy_function_of_two_tensors_is_a_tensor_with_gradients(ufunc):
    a, b = leaves_of([positive(2, 3), positive(3, seed=1)])
    np.testing.assert_array_equal(ufunc(a, b).data, ufunc(a.data, b.data))
    np.testing.assert_array_equal(ufunc(a.data, b).data, ufunc(a.data, b.data))
    check_gradients(ufunc, a.data, b.data)


def test_the_table_of_numpy_functions_has_no_entry_that_is_not_tested():
    assert set(tensor._PRIMITIVES) == {*UNARY, *BINARY, np.matmul, np.sign}


def test_numpy_sign_of_a_tensor_is_a_constant():
    x = Tensor([-2.0, 0.0, 3.0], requires_grad=True)
    assert np.sign(x).data.tolist() == [-1, 0, 1]
    assert not np.sign(x).requires_grad


def test_numpy_argmax_of_a_tensor_is_an_array():
    logits = Tensor([[1.0, 3.0], [2.0, 0.0]], requires_grad=True)
    assert np.argmax(logits, axis=1).tolist() == [1, 0]


def test_a_primitive_has_one_pullback_per_input():
    product = tg.Primitive("product", np.multiply, lambda g, y, a, b: g * b)
    a, b = leaf([1.0]), leaf([2.0])
    with pytest.raises(TypeError) as error:
        product(a, b)  # The gradient of b would be lost.
    assert str(error.value) == (
        "product: the number of inputs must be 1, like that of its pullbacks, but it "
        "is 2. Pass inputs by position and settings by name, and define one pullback "
        "per input (None for an input without a derivative)."
    )
    scaled = tg.Primitive(
        "scaled", lambda x, c=2.0: x * c, lambda g, y, x, c: g * c, None
    )
    with pytest.raises(TypeError, match="must be 2, .* but it is 1"):
        scaled(a)  # The pullback would not receive c.


@pytest.mark.parametrize("function", [tg.exp, tg.maximum, ops.add, tg.where])
def test_an_additional_input_is_not_the_place_where_numpy_writes_the_result(function):
    inputs = [randn(2) for _ in range(len(function.pullbacks) + 1)]
    last = inputs[-1].copy()
    with pytest.raises(TypeError, match="the number of inputs must be"):
        function(*inputs)
    assert inputs[-1].tolist() == last.tolist()


def test_an_axis_may_be_any_integer_also_one_that_changes():
    x, i = Tensor(np.arange(6.0).reshape(2, 3)), Tensor(0)
    assert x.sum(axis=(i,)).tolist() == [3, 5, 7]
    i[()] = 1
    assert x.sum(axis=(i,)).tolist() == [3, 12]
    assert x.sum(axis=(np.array(0), np.int64(1))).tolist() == 15


@pytest.mark.parametrize(
    "function, instead",
    [
        (np.sum, "tensor.sum()"),
        (np.mean, "tensor.mean()"),
        (np.var, "tensor.var()"),
        (np.max, "tensor.max()"),
        (np.std, "tensor.std()"),
        (np.min, "tensor.min()"),
        (np.transpose, "tensor.transpose()"),
        (np.ravel, "tensor.ravel()"),
        (np.squeeze, "tensor.squeeze()"),
        (np.log1p, "a composition of the functions of tg"),
        (np.sort, "a composition of the functions of tg"),
    ],
)
def test_a_numpy_function_without_a_gradient_names_what_to_use(function, instead):
    with pytest.raises(TypeError) as error:
        function(Tensor([1.0, 2.0], requires_grad=True))
    assert str(error.value) == (
        f"np.{function.__name__} must be given arrays, but received a tensor, whose "
        f"gradient it would lose. Use {instead}, or np.asarray(tensor) where no "
        "gradient is wanted."
    )


@pytest.mark.parametrize(
    "function, argument, instead",
    [
        (np.clip, 0.0, r"tensor\.clip\(\)"),
        (np.expand_dims, 0, r"tg\.expand_dims\(\)"),
        (np.broadcast_to, (3, 2), r"tg\.broadcast_to\(\)"),
    ],
)
def test_a_numpy_function_called_with_arguments_names_what_to_use(
    function, argument, instead
):
    with pytest.raises(TypeError, match=f"{function.__name__} .* Use {instead}"):
        function(Tensor([1.0, 2.0]), argument)


def test_a_numpy_function_of_a_sequence_with_a_tensor_names_what_to_use():
    x = Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"np\.stack .* Use tg\.stack\(\)"):
        np.stack([x, x])
    with pytest.raises(TypeError, match=r"np\.concatenate .* Use tg\.concatenate\(\)"):
        np.concatenate([x, x])
    with pytest.raises(TypeError, match=r"np\.where .* Use tg\.where\(\)"):
        np.where([True, False], x, 0.0)


def test_a_numpy_function_with_out_or_as_a_method_is_an_error():
    x = Tensor([1.0, 2.0])
    rest = (
        ": the gradient would be lost. Use tensor.data to compute with the values, or "
        "the operators and functions of tg, which return new tensors."
    )
    with pytest.raises(TypeError) as error:
        np.add.reduce(x)
    assert str(error.value) == (
        "np.add.reduce accepts arrays only, but received a tensor" + rest
    )
    array = np.zeros(2)
    with pytest.raises(TypeError) as error:
        array += x
    assert str(error.value) == (
        "np.add cannot write a result computed from a tensor into an array" + rest
    )


def test_comparisons_are_numpy_booleans_and_hashes_are_identities():
    x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
    twin = Tensor([1.0, 2.0, 3.0])
    for result, expected in [
        (x < 2, [True, False, False]),
        (x <= np.full(3, 2), [True, True, False]),
        (x > Tensor(2.0), [False, False, True]),
        (2 <= x, [False, True, True]),
        (np.full(3, 2.0) > x, [True, False, False]),
        (np.isfinite(x), [True, True, True]),
        (np.isclose(x, twin), [True, True, True]),
        (x == twin, [True, True, True]),
        (x == [1, 5, 3], [True, False, True]),
        (np.array([1, 5, 3]) == x, [True, False, True]),
        (x != Tensor(2.0), [True, False, True]),
    ]:
        assert type(result) is np.ndarray and result.dtype == bool
        np.testing.assert_array_equal(result, expected)
    assert len({x, twin, x}) == 2 and {x: "x"}[x] == "x"


def test_the_accuracy_of_a_prediction_is_the_mean_of_a_comparison():
    prediction, target = Tensor([0, 1, 1, 2]), Tensor([0, 1, 2, 2])
    assert np.mean(prediction == target) == 0.75


# --- dtypes and operands --------------------------------------------------------------


def test_a_float32_tensor_combined_with_numbers_arrays_and_scalars_follows_numpy():
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    float32 = [
        x + 1,
        2.5 * x,
        x**2,
        x / 3,
        1 - x,
        x * np.float32(2),
        x * np.ones(3, "f4"),
    ]
    assert {y.dtype for y in float32} == {np.dtype(np.float32)}
    assert (x * np.ones(3)).dtype == np.float64
    assert (np.float64(2) * x).dtype == np.float64


def test_the_gradient_has_the_dtype_of_its_tensor_in_a_mixed_graph():
    x = Tensor(np.ones(3, np.float32), requires_grad=True)
    y = x * np.ones(3)
    assert y.dtype == np.float64
    for create_graph in (False, True):
        assert tg.grad(y.sum(), x, create_graph=create_graph).dtype == np.float32


def test_a_conversion_to_integers_or_booleans_has_no_gradient():
    x = Tensor([1.5, 2.5], requires_grad=True)
    assert not x.astype(int).requires_grad
    assert not x.astype(bool).requires_grad


def test_a_list_as_an_operand_broadcasts_and_leaves_the_gradient_its_shape():
    x = Tensor([2.0], requires_grad=True)
    assert tg.grad((x * [1.0, 2.0, 3.0]).sum(), x).data.tolist() == [6.0]
    assert tg.grad(tg.where([True, False], x, 0.0).sum(), x).data.tolist() == [1.0]


def test_axes_and_lengths_may_be_numpy_integers():
    x = Tensor(randn(2, 3), requires_grad=True)
    axis, length = np.argmax([0, 1]), np.int64(6)
    np.testing.assert_array_equal(x.sum(axis=axis).data, x.data.sum(axis=1))
    assert x.reshape(length).shape == (6,)


@pytest.mark.parametrize("axis", [None, 0])
def test_the_mean_of_an_empty_tensor_is_nan(axis):
    y = Tensor(np.zeros((0, 2))).mean(axis)
    assert np.isnan(y.data).all()
    assert y.shape == np.zeros((0, 2)).sum(axis).shape


def test_relu_turns_booleans_into_integers():
    y = tg.relu(Tensor([True, False]))
    assert (y.dtype, y.data.tolist()) == (np.dtype(int), [1, 0])
    assert tg.relu(np.array([True])).dtype == int


# --- Shapes that do not fit -----------------------------------------------------------

U, W = Tensor(randn(2, 3), requires_grad=True, name="u"), Tensor(randn(4, 3), name="w")
BROADCASTABLE = (
    ": the shapes, aligned at their last axes, must agree or be 1 on each axis; "
    "reshape or transpose one of them. Received: "
)
MULTIPLIABLE = (
    "matmul: the last axis of the first input and the second-to-last axis of the "
    "second must have the same length, and the axes before them must broadcast; "
    "transpose or reshape one of them. Received: "
)
JOINABLE = (
    "concatenate: the inputs must have the same shape except along the axis to be "
    "joined. Received: "
)
RESHAPE = (
    "reshape: the shape must hold 6 values, and at most one of its sizes may be -1, "
    "but 'u'(2, 3) received "
)
TRANSPOSE = "transpose: each of the 2 axes must be named once, but 'u'(2, 3) received "
AXIS = "axis must name existing axes, each once, but "
SQUEEZE = "squeeze: the axes to be removed must have length 1, but "
DDOF = "var: ddof must be smaller than the number of values averaged, "
MUST_AGREE = (
    "its axes must agree with the last axes of that shape, or have length 1. Reshape "
    "it."
)
BOTH = "'u'(2, 3), 'w'(4, 3)."


@pytest.mark.parametrize(
    "f, message",
    [
        (lambda: U + W, "add" + BROADCASTABLE + BOTH),
        (lambda: U - W, "sub" + BROADCASTABLE + BOTH),
        (lambda: U * W, "mul" + BROADCASTABLE + BOTH),
        (lambda: U / W, "div" + BROADCASTABLE + BOTH),
        (lambda: U**W, "power" + BROADCASTABLE + BOTH),
        (lambda: tg.maximum(U, W), "maximum" + BROADCASTABLE + BOTH),
        (lambda: tg.no_grad()(lambda: U + W)(), "add" + BROADCASTABLE + BOTH),
        (lambda: U.data + W, "add" + BROADCASTABLE + "array(2, 3), 'w'(4, 3)."),
        (lambda: U @ W, MULTIPLIABLE + BOTH),
        (lambda: U @ 2.0, MULTIPLIABLE + "'u'(2, 3), array()."),
        (
            lambda: randn(2, 5, 3) @ Tensor(randn(4, 3, 2)),
            MULTIPLIABLE + "array(2, 5, 3), tensor(4, 3, 2).",
        ),
        (lambda: tg.concatenate([U, W], axis=1), JOINABLE + BOTH),
        (lambda: tg.concatenate([U, Tensor(0.0)]), JOINABLE + "'u'(2, 3), tensor()."),
        (
            lambda: tg.concatenate([]),
            "concatenate: at least one tensor must be given, but none was received.",
        ),
        (
            lambda: tg.stack([U, W]),
            "stack: all tensors must have one shape. Received: " + BOTH,
        ),
        (lambda: U.reshape(4, -1), RESHAPE + "(4, -1)."),
        (lambda: U.reshape((-1, -1)), RESHAPE + "(-1, -1)."),
        (lambda: U.reshape(-2, -3), RESHAPE + "(-2, -3)."),
        (lambda: U.reshape(4), RESHAPE + "(4,)."),
        (lambda: U.reshape(7), RESHAPE + "(7,)."),
        (lambda: U.transpose(0, 0), TRANSPOSE + "(0, 0)."),
        (lambda: U.transpose(0, 3), TRANSPOSE + "(0, 3)."),
        (lambda: U.sum(axis=2), AXIS + "2 was received for 'u'(2, 3)."),
        (lambda: U.sum(axis=5), AXIS + "5 was received for 'u'(2, 3)."),
        (lambda: U.max(axis=(0, -2)), AXIS + "(0, -2) was received for 'u'(2, 3)."),
        (lambda: U.sum(axis=1.5), AXIS + "1.5 was received for 'u'(2, 3)."),
        (lambda: U.sum(axis=1.0), AXIS + "1.0 was received for 'u'(2, 3)."),
        (lambda: U.max((0, 1.0)), AXIS + "(0, 1.0) was received for 'u'(2, 3)."),
        (lambda: U.mean(axis="0"), AXIS + "'0' was received for 'u'(2, 3)."),
        (
            lambda: tg.stack([U, U], axis=3),
            f"{AXIS}3 was received for 'u'(2, 3), and the result has 3 axes.",
        ),
        (
            lambda: tg.stack([U, U], axis=None),
            "axis must be a single integer, but None was received for 'u'(2, 3).",
        ),
        (
            lambda: tg.concatenate([U, U], axis=(0, 1)),
            "axis must be a single integer, but (0, 1) was received for 'u'(2, 3).",
        ),
        (
            lambda: U.argmax(axis=(0, 1)),
            "axis must be a single integer, but (0, 1) was received for 'u'(2, 3).",
        ),
        (
            lambda: tg.expand_dims(U, (0, 0)),
            f"{AXIS}(0, 0) was received for 'u'(2, 3), and the result has 4 axes.",
        ),
        (
            lambda: U.squeeze(0),
            SQUEEZE + "axis=0 was received for 'u'(2, 3).",
        ),
        (
            lambda: tg.broadcast_to(U, (2, 4)),
            f"broadcast_to: 'u'(2, 3) does not broadcast to (2, 4): {MUST_AGREE}",
        ),
        (
            lambda: tg.broadcast_to(U, 3),
            f"broadcast_to: 'u'(2, 3) does not broadcast to (3,): {MUST_AGREE}",
        ),
        (
            lambda: U.var(axis=0, ddof=2),
            DDOF + "2, but 2 was received for 'u'(2, 3).",
        ),
        (
            lambda: tg.concatenate([U, U], axis=-3),
            AXIS + "-3 was received for 'u'(2, 3).",
        ),
    ],
)
def test_shapes_that_do_not_fit_are_an_error_that_names_the_operation(f, message):
    with pytest.raises(ValueError) as error:
        f()
    assert str(error.value) == message


def test_an_index_out_of_bounds_is_an_error_with_the_shape():
    with pytest.raises(IndexError) as error:
        U[2]
    assert str(error.value) == (
        "getitem: index 2 is out of bounds for axis 0 with size 2. Received: 'u'(2, 3)."
    )


def test_an_operand_that_is_not_a_number_is_an_error_that_does_not_blame_the_shapes():
    with pytest.raises(TypeError, match=r"^add: .*Received: 'u'\(2, 3\), None\.$") as e:
        U + None
    assert "the shapes must agree" not in str(e.value)


def test_a_rule_that_returns_a_wrong_shape_is_an_error_that_names_the_operation():
    careless = tg.Primitive("careless", lambda x: x.sum(), lambda g, y, x: g)
    with pytest.raises(ValueError) as error:
        tg.grad(careless(U), U)
    assert str(error.value) == (
        "careless: the gradient of an input must have its shape, but the pullback for "
        "'u'(2, 3) returned (). Correct it, or, if requires_grad was set after the "
        "forward pass, set it before."
    )
    with pytest.raises(ValueError, match="careless: the gradient of an input must"):
        str(tg.explain(careless(U), U))
    with pytest.raises(ValueError, match="careless: the gradient of an input must"):
        tg.find_nonfinite(careless(U))


# --- Errors of NumPy ------------------------------------------------------------------


def test_the_operation_that_receives_a_ragged_list_refuses_it():
    with pytest.raises(ValueError, match=r"exp: .*Received: \[\[1\], \[1, 2\]\]."):
        tg.exp([[1], [1, 2]])


def test_an_error_of_numpy_is_not_mistaken_for_a_shape_error():
    with pytest.raises(ValueError, match="power: Integers to negative integer powers"):
        Tensor([1, 2]) ** -1


# --- Inputs that an operation refuses -------------------------------------------------


def test_a_masked_array_is_refused_because_its_mask_would_get_lost():
    masked = np.ma.masked_array([1.0, 2.0], mask=[False, True])
    for use in (tg.exp, lambda x: Tensor([1.0, 2.0]) * x, Tensor):
        with pytest.raises(TypeError, match="mask"):
            use(masked)


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("an index or param", lambda x, m: x[m.astype(int)]),
        ("an index or param", lambda x, m: x[m > 0, None]),
        ("an index or param", lambda x, m: x[[m > 0]]),
        ("an index or param", lambda x, m: x.__setitem__(m > 0, 1)),
        ("Tensor(data)", lambda x, m: Tensor([m, m])),
        ("Tensor(data)", lambda x, m: Tensor([[1.0, np.ma.masked]])),
        ("mul", lambda x, m: x * [m]),
        ("mul", lambda x, m: [m] * x),
        ("matmul", lambda x, m: x @ [m, m]),
        ("softmax", lambda x, m: tg.softmax([m])),
        ("where", lambda x, m: tg.where([m > 0], x, 0)),
        ("comparison", lambda x, m: x < m),
        ("comparison", lambda x, m: x >= [m]),
        ("comparison", lambda x, m: x == m),
        ("comparison", lambda x, m: x != m),
        ("comparison", lambda x, m: x > m),
        ("comparison", lambda x, m: x <= m),
        ("axis", lambda x, m: x.sum(m.astype(int))),
        ("axis", lambda x, m: x.mean(axis=[np.ma.masked])),
        ("axis", lambda x, m: x.squeeze([m.astype(int)])),
        ("axis", lambda x, m: tg.expand_dims(x, m.astype(int))),
        ("axis", lambda x, m: tg.stack([x, x], m.astype(int)[:1])),
        ("shape", lambda x, m: x.transpose(m.astype(int))),
        ("shape", lambda x, m: x.reshape(m.astype(int))),
        ("shape", lambda x, m: tg.broadcast_to(x, m.astype(int))),
        ("tensor.data = values", lambda x, m: setattr(x, "data", [*m])),
        ("tensor[index] = values", lambda x, m: x.__setitem__(0, [m])),
        ("tensor.data = values", lambda x, m: setattr(x, "data", m)),
        ("tensor[index] = values", lambda x, m: x.__setitem__(slice(None), m)),
        ("tensor.grad = values", lambda x, m: setattr(x, "grad", m)),
        ("tensor.grad = values", lambda x, m: setattr(x, "grad", [*m])),
        ("gradient", lambda x, m: (x * 2).backward(m)),
        ("gradient", lambda x, m: (x * 2).backward([*m])),
        ("gradient", lambda x, m: tg.grad(x * 2, x, m)),
        ("mean", lambda x, m: tg.batch_norm(Tensor([[1.0, 2.0]] * 2), mean=m)),
        ("var", lambda x, m: tg.batch_norm(Tensor([[1.0, 2.0]] * 2), var=[*m])),
        ("check_gradients", lambda x, m: tg.check_gradients(tg.exp, m)),
        ("gamma", lambda x, m: tg.fused_batch_norm(Tensor([[1.0, 2.0]] * 2), m)),
    ],
)
def test_a_masked_array_is_refused_in_assignments_too(name, use):
    x = leaf([1.0, 2.0])
    masked = np.ma.masked_array([0.0, 1.0], mask=[False, True])
    with pytest.raises(TypeError) as error:
        use(x, masked)
    assert str(error.value).startswith(f"{name}: data must not be masked")
    assert x.grad is None
    np.testing.assert_array_equal(x.data, [1, 2])


def test_a_number_too_large_for_its_dtype_is_a_clear_error():
    with pytest.raises(
        OverflowError, match=r"mul: int too large .* tensor\(1,\), 1000"
    ):
        Tensor([1.0]) * 10**400
