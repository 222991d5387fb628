"""Rebuilding the graph of a tensor: unfolded, or replayed in another precision."""

import numpy as np
import pytest

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn
from tinygrad_bn.graph import Unfolded, replay, scale_of, without_rounding
from tinygrad_bn.tape import tape

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)


def network(dtype=np.float32):
    model = nn.Sequential(
        nn.Linear(3, 4, rng=0, dtype=dtype), nn.BatchNorm(4, dtype=dtype), nn.ReLU(),
        nn.Linear(4, 2, rng=1, dtype=dtype),
    )  # fmt: skip
    labels = np.array([0, 1, 1, 0, 1, 0])
    return nn.cross_entropy(model(Tensor(X.astype(dtype))), labels), model


def test_a_replay_is_the_same_graph_in_float64():
    y, model = network()
    twins = replay(y)
    theirs, _ = network(float)
    with np.errstate(all="raise"):
        expected = network(float)[1]
    for p, q in zip(model.parameters(), expected.parameters()):
        q.data = p.data.astype(float)
    expected = nn.cross_entropy(
        expected(Tensor(X.astype(float))), np.array([0, 1, 1, 0, 1, 0])
    )
    assert twins[y].item() == expected.item() != theirs.item()
    assert abs(twins[y].item() - y.item()) < 1e-6
    ours, replayed = tg.tape(y), tg.tape(twins[y])
    assert [t.op for t in ours] == [t.op for t in replayed]
    assert [t.scope for t in ours] == [t.scope for t in replayed]
    assert all(t.dtype == float for t in replayed)


def test_an_unfolded_graph_and_its_replay_have_the_same_operations():
    y, _ = network()
    order, twins = Unfolded(y).order, Unfolded(replay(y)[y]).order
    assert len(order) > 25
    for t, twin in zip(order, twins, strict=True):
        assert (t.op, t.name, t.shape) == (twin.op, twin.name, twin.shape)
        np.testing.assert_allclose(t.data, twin.data, rtol=1e-4, atol=1e-5)


def test_a_replay_keeps_integers_and_converts_to_float64_only():
    a = Tensor([1.0, 2, 3], requires_grad=True, dtype=np.float16)
    index, mask = Tensor([2, 0]), Tensor([True, False])
    y = tg.where(mask, a[index].astype(np.float32), 0).sum() * Tensor(3)
    twins = replay(y)
    assert twins[y].dtype == float and twins[y].item() == 9
    kinds = [x.dtype.kind for t in tg.tape(twins[y]) for x in t.inputs if x in twins]
    (where,) = (t for t in tg.tape(twins[y]) if t.op.name == "where")
    assert where.inputs[0].dtype == bool and "c" not in kinds
    assert all(t.dtype == float for t in tg.tape(twins[y]))


def test_a_replay_may_have_lower_precision():
    y, model = network(float)
    twins = replay(y, np.float32)
    assert twins[y].dtype == np.float32
    assert twins[model[0].weight].dtype == np.float32


def test_a_replay_changes_nothing():
    y, model = network()
    before = model.state_dict()
    gradient = tg.grad(y, model[0].weight).data
    replay(y)
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(tg.grad(y, model[0].weight).data, gradient)


def test_a_fused_operation_inside_a_definition_is_unfolded_too():
    double = tg.Fused(
        "double",
        lambda x: (x * 2, None),
        lambda g, saved, needs, x: [g * 2],
        definition=lambda x: x + x,
    )
    quadruple = tg.Fused(
        "quadruple",
        lambda x: (x * 4, None),
        lambda g, saved, needs, x: [g * 4],
        definition=lambda x: double(double(x)),
    )
    a = Tensor([1.0, 2.0], requires_grad=True, name="a")
    y = quadruple(a)
    graph = Unfolded(y)
    names = [t.op.name for t in graph.order]
    assert names == ["quadruple", "double", "add", "double", "add"]
    assert graph.within[graph.order[1]] is y
    assert graph.within[graph.order[2]] is graph.order[1]
    np.testing.assert_array_equal(tg.explain(y.sum(), a).total, [4, 4])


def test_a_definition_that_returns_its_input_adds_nothing_to_the_graph():
    same = tg.Fused(
        "same",
        lambda x: (x * 1, None),
        lambda g, saved, needs, x: [g * 1],
        definition=lambda x: x,
    )
    x = Tensor([1.0, 2.0], requires_grad=True) * 2
    y = same(x)
    assert [t.op.name for t in Unfolded(y).order] == ["same", "mul"]
    assert tg.tape(x) == [x] and tape(x, boundary={x}) == []


def test_an_entry_is_compared_with_the_largest_one_at_its_index():
    exact = [np.array([1.0, 2e-4, 0]), np.array([-3.0, 1e-4, np.inf])]
    np.testing.assert_allclose(scale_of(exact), [3, 3e-4, 3e-4])
    assert scale_of([]) == 0


@pytest.mark.parametrize(
    ("recorded", "exact", "shown"),
    [
        (0.5, 1e-10, 0), (0.5, 1e-8, 0.5), (np.inf, 0, np.inf), (0.5, np.nan, 0.5),
        (0, 1, 0), (-0.5, -1e-10, 0),
    ],
)  # fmt: skip
def test_what_the_replay_shows_to_be_zero_is_zero(recorded, exact, shown):
    found = without_rounding(np.float32([recorded]), np.array([exact]), np.ones(1))
    assert found.dtype == np.float32 and found == shown
