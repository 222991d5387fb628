"""SGD, Adam and AdamW: steps, flat buffers, states, errors; schedules and clipping."""

import copy
import pickle
import threading

import numpy as np
import pytest
from conftest import assert_same, leaf

import tinygrad_bn as tg
from tinygrad_bn import Tensor, functional, nn, optim


def make_parameters(dtype=float):
    rng = np.random.default_rng(0)
    return [
        Tensor(rng.standard_normal((3, 2)), requires_grad=True, name="w", dtype=dtype),
        Tensor(rng.standard_normal(4), requires_grad=True, name="b", dtype=dtype),
    ]


def make_coefficients(steps=6):
    """For each step, the coefficients of a quadratic loss for each parameter."""
    rng = np.random.default_rng(1)
    shapes = [p.shape for p in make_parameters()]
    return [[rng.uniform(-1, 3, shape) for shape in shapes] for _ in range(steps)]


def descend(optimizer, coefficients):
    """One step for each loss ``sum(c * p^2) / 2``, whose gradient is ``c * p``."""
    for step in coefficients:
        optimizer.zero_grad()
        for p, c in zip(optimizer.parameters, step, strict=True):
            (p * p * c / 2).sum().backward()
        optimizer.step()


def sgd_by_hand(p, coefficients, lr, momentum=0, weight_decay=0, nesterov=False):
    v = np.zeros_like(p)
    for c in coefficients:
        g = c * p + weight_decay * p
        v = momentum * v + g
        p = p - lr * (g + momentum * v if nesterov else v)
    return p


def adam_by_hand(
    p,
    coefficients,
    lr=1e-3,
    betas=(0.9, 0.999),
    eps=1e-8,
    weight_decay=0,
    decoupled=False,
):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, c in enumerate(coefficients, start=1):
        g = c * p + (0 if decoupled else weight_decay * p)
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p = p - (lr * weight_decay * p if decoupled else 0)
        p = p - lr * m_hat / (np.sqrt(v_hat) + eps)
    return p


def adamw_by_hand(p, coefficients, weight_decay=0.01, **settings):
    return adam_by_hand(
        p, coefficients, weight_decay=weight_decay, decoupled=True, **settings
    )


BY_HAND = {"SGD": sgd_by_hand, "Adam": adam_by_hand, "AdamW": adamw_by_hand}
SETTINGS = pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        ("SGD", {"lr": 0.1, "momentum": 1}),
        ("SGD", {"lr": 0.1, "weight_decay": 0.2}),
        ("SGD", {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.2}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.2}),
        ("Adam", {}),
        ("Adam", {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-2}),
        ("Adam", {"lr": 0.1, "betas": (0.0, 0.0), "weight_decay": 0.2}),
        ("AdamW", {}),
        ("AdamW", {"lr": 0.1, "weight_decay": 0.2}),
    ],
)
ALL = pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1),
        lambda p: optim.AdamW(p, lr=0.1, weight_decay=0.1),
    ],
    ids=["SGD", "Adam", "AdamW"],
)


# --- Steps ----------------------------------------------------------------------------


@SETTINGS
def test_steps_are_those_of_a_few_lines_of_numpy(name, settings):
    parameters, coefficients = make_parameters(), make_coefficients()
    expected = [
        BY_HAND[name](p.data.copy(), [step[i] for step in coefficients], **settings)
        for i, p in enumerate(parameters)
    ]
    descend(getattr(optim, name)(parameters, **settings), coefficients)
    for p, values in zip(parameters, expected):
        np.testing.assert_allclose(p, values, rtol=1e-12)


@SETTINGS
def test_a_parameter_that_is_frozen_later_does_not_move(name, settings):
    w, b = make_parameters()
    optimizer = getattr(optim, name)([w, b], **settings)
    descend(optimizer, make_coefficients(2))
    w.requires_grad = False
    before = w.data.copy(), b.data.copy()
    optimizer.zero_grad()
    (w.sum() * b.sum()).backward()
    optimizer.step()
    np.testing.assert_array_equal(w.data, before[0])
    assert np.all(b.data != before[1])


@SETTINGS
def test_a_parameter_that_is_thawed_continues_with_the_state_it_had(name, settings):
    w, b = make_parameters()
    optimizer = getattr(optim, name)([("w", w), ("b", b)], **settings)
    descend(optimizer, make_coefficients(2))
    w.requires_grad = False
    before = optimizer.state_dict()
    for _ in range(3):
        optimizer.zero_grad()
        b.sum().backward()
        optimizer.step()
    after = optimizer.state_dict()
    for key in before.keys() - {"lr", "steps"}:
        np.testing.assert_array_equal(after[key]["w"], before[key]["w"])


def test_graphs_of_a_frozen_parameter_stay_usable_after_a_step():
    w, b = make_parameters()
    optimizer = optim.SGD([w, b], lr=0.1)
    w.requires_grad = False
    x = Tensor([1.0, 2.0], requires_grad=True)
    y = (w * x).sum()
    b.sum().backward()
    optimizer.step()
    y.backward()
    np.testing.assert_array_equal(x.grad, w.data.sum(axis=0))


@pytest.mark.parametrize("make", [optim.Adam, optim.AdamW])
@pytest.mark.parametrize("gradient", [1e-4, 9, 100, 300])
def test_adam_steps_in_float16_have_the_size_of_the_learning_rate(make, gradient):
    p, still = (Tensor(np.float16([0.0]), requires_grad=True) for _ in range(2))
    optimizer = make([p, still], lr=0.01)
    for _ in range(100):
        p.grad = [gradient]
        optimizer.step()
    np.testing.assert_allclose(p.data, -1, rtol=0.02)
    assert still.item() == 0
    assert p.dtype == np.float16


@pytest.mark.slow
@SETTINGS
def test_steps_are_those_of_pytorch(torch, name, settings):
    parameters, coefficients = make_parameters(), make_coefficients()
    theirs = [torch.tensor(p.data, requires_grad=True) for p in parameters]
    optimizer = getattr(torch.optim, name)(theirs, **settings)
    for step in coefficients:
        optimizer.zero_grad()
        for p, c in zip(theirs, step):
            (p * p * torch.tensor(c) / 2).sum().backward()
        optimizer.step()
    descend(getattr(optim, name)(parameters, **settings), coefficients)
    for p, values in zip(parameters, theirs):
        np.testing.assert_allclose(p, values.detach().numpy(), rtol=1e-12)


@ALL
def test_gradients_that_are_not_cleared_are_not_decayed_again(make):
    (reused, *_), (fresh, *_) = make_parameters(), make_parameters()
    first, second = make([reused]), make([fresh])
    gradient = np.arange(6.0).reshape(3, 2)
    (reused * gradient).sum().backward()
    for _ in range(3):
        first.step()
        second.zero_grad()
        (fresh * gradient).sum().backward()
        second.step()
    np.testing.assert_array_equal(reused.grad, gradient)
    np.testing.assert_array_equal(reused, fresh)


@ALL
def test_a_parameter_without_gradient_is_updated_as_if_it_were_zero(make):
    without, zero = make_parameters()[0], make_parameters()[0]
    first, second = make([without]), make([zero])
    descend(first, [make_coefficients()[0][:1]])
    descend(second, [make_coefficients()[0][:1]])
    before = without.data.copy()
    for _ in range(3):
        first.zero_grad()
        first.step()
        zero.grad = np.zeros((3, 2))
        second.step()
    assert np.all(without.data != before)
    np.testing.assert_array_equal(without, zero)


@ALL
def test_a_gradient_that_the_user_assigns_is_the_one_that_counts(make):
    assigned, computed = make_parameters()[0], make_parameters()[0]
    first, second = make([assigned]), make([computed])
    gradient = np.arange(6.0).reshape(3, 2)
    (assigned * 7).sum().backward()
    assigned.grad = gradient
    (computed * gradient).sum().backward()
    first.step()
    second.step()
    np.testing.assert_array_equal(assigned, computed)
    assert gradient.tolist() == [[0, 1], [2, 3], [4, 5]]


@ALL
def test_the_learning_rate_can_be_set_between_steps(make):
    (p, *_) = make_parameters()
    optimizer = make([p])
    start = p.data.copy()
    optimizer.lr = 0
    descend(optimizer, [make_coefficients()[0][:1]])
    np.testing.assert_array_equal(p, start)
    optimizer.lr = 0.5
    assert optimizer.lr == 0.5
    descend(optimizer, [make_coefficients()[0][:1]])
    assert np.all(p.data != start)


def test_the_learning_rate_scales_the_whole_step():
    (p, *_) = make_parameters()
    optimizer = optim.SGD([p], lr=0.1, momentum=0.5)
    p.grad, start = np.ones((3, 2)), p.data.copy()
    optimizer.step()
    optimizer.lr = 0.01
    optimizer.step()
    np.testing.assert_allclose(p, start - 0.1 - 0.01 * 1.5, rtol=1e-14)


def test_a_step_makes_older_graphs_stale():
    model = nn.Linear(2, 3, rng=np.random.default_rng(0))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    loss = model(Tensor(np.ones((4, 2)))).sum()
    loss.backward()
    optimizer.step()
    with pytest.raises(RuntimeError) as error:
        loss.backward()
    assert str(error.value) == (
        "a graph runs backward only with the values it was recorded with, but "
        "'weight'(2, 3) was changed after 'linear' had used it. Run the forward pass "
        "again after changing a leaf (an optimizer's step() changes its parameters)."
    )


# --- Flat buffers ---------------------------------------------------------------------


@ALL
def test_parameters_and_gradients_are_views_of_flat_buffers(make):
    parameters = [*make_parameters(), Tensor(3.0, requires_grad=True)]
    values = [p.data.copy() for p in parameters]
    optimizer = make(parameters)
    np.testing.assert_array_equal(
        optimizer.data, np.concatenate([v.ravel() for v in values])
    )
    for _ in range(2):
        optimizer.zero_grad()
        for p in parameters:
            (p * p).sum().backward()
        for p, value in zip(parameters, values):
            assert p.shape == value.shape
            assert np.shares_memory(p.data, optimizer.data)
            assert np.shares_memory(p.grad, optimizer.grad)
            np.testing.assert_array_equal(p.grad, 2 * p.data)
        np.testing.assert_array_equal(optimizer.grad, 2 * optimizer.data)
        optimizer.step()
        for p in parameters:
            assert np.shares_memory(p.data, optimizer.data)


@ALL
def test_assigned_and_loaded_values_arrive_in_the_buffer(make):
    model = nn.Linear(2, 3, rng=np.random.default_rng(0), dtype=float)
    optimizer = make(model.parameters())
    model.weight.data = np.full((2, 3), 2.0)
    model.load_state_dict({**model.state_dict(), "bias": np.full(3, 5.0)})
    assert optimizer.data.tolist() == [2] * 6 + [5] * 3
    optimizer.step()
    np.testing.assert_array_equal(model.weight.data.ravel(), optimizer.data[:6])
    assert np.all(model.weight.data < 2)


def test_a_new_optimizer_does_not_make_older_graphs_stale():
    (p, *_) = make_parameters()
    loss = (p * p).sum()
    loss.backward()
    optimizer = optim.SGD([p], lr=0.1)
    np.testing.assert_array_equal(optimizer.grad, 2 * optimizer.data)
    loss.backward()
    np.testing.assert_array_equal(optimizer.grad, 4 * optimizer.data)


@ALL
def test_a_second_backward_adds_and_zero_grad_clears(make):
    (p, *_) = make_parameters()
    optimizer = make([p])
    for _ in range(2):
        (p * 3).sum().backward()
    assert optimizer.grad.tolist() == [6] * 6
    optimizer.zero_grad()
    assert p.grad is None
    (p * 3).sum().backward()
    assert optimizer.grad.tolist() == [3] * 6


@ALL
def test_a_parameter_belongs_to_the_last_optimizer_that_adopted_it(make):
    w, b = make_parameters()
    first = make([w, b])
    descend(first, make_coefficients(2))
    second = optim.SGD([b], lr=0.1)
    before = w.data.copy(), b.data.copy()
    with pytest.raises(RuntimeError) as error:
        first.step()
    assert str(error.value) == (
        f"{type(first).__name__}.step(): a parameter must belong to one optimizer, but "
        "'b'(4,) has since been attached to another. Use only the newer optimizer, "
        "or make a new one."
    )
    np.testing.assert_array_equal(w, before[0])
    np.testing.assert_array_equal(b, before[1])
    gradient = b.grad.copy()
    second.step()
    np.testing.assert_allclose(b, before[1] - 0.1 * gradient, rtol=1e-15)


@pytest.mark.parametrize(
    "refused",
    [
        lambda p: optim.SGD(p, lr=-1),
        lambda p: optim.SGD(p, lr=0.1, momentum=2),
        lambda p: optim.SGD([*p, Tensor([1])], lr=0.1),
        lambda p: optim.Adam(p, betas=(0.9, 1)),
        lambda p: optim.Adam(p, betas=(0.9, 1.5)),
        lambda p: optim.Adam(p, eps=-1),
    ],
)
def test_an_optimizer_that_is_refused_adopts_nothing(refused):
    parameters = make_parameters()
    optimizer = optim.SGD(parameters, lr=0.1)
    with pytest.raises((TypeError, ValueError)):
        refused(parameters)
    descend(optimizer, make_coefficients(1))
    for p in parameters:
        assert np.shares_memory(p.data, optimizer.data)


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam])
def test_the_flat_arrays_start_at_cache_lines(make):
    optimizer = make(make_parameters(), lr=0.1)
    state = [array for array in optimizer._state().values() if array.ndim]
    for array in optimizer.data, optimizer.grad, *state:
        assert array.shape == optimizer.data.shape
        assert array.ctypes.data % 64 == 0
    assert not any(array.any() for array in [optimizer.grad, *state])


# --- dtype ----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [float, np.float64])
@pytest.mark.parametrize(
    "make",
    [
        lambda p, n: optim.SGD(p, n(0.1), momentum=n(0.9), weight_decay=n(0.1)),
        lambda p, n: optim.Adam(p, n(0.1), (n(0.9), n(0.99)), n(1e-8), n(0.1)),
    ],
    ids=["SGD", "Adam"],
)
def test_float32_stays_float32_everywhere(make, number):
    rng = np.random.default_rng(0)
    layers = [nn.Linear(2, 3, rng=rng), nn.BatchNorm(3), nn.Linear(3, 2, rng=rng)]
    model = nn.Sequential(*layers)
    optimizer = make(model.parameters(), number)
    images = Tensor(rng.standard_normal((4, 2)), dtype=np.float32)
    for _ in range(3):
        optimizer.zero_grad()
        loss = nn.cross_entropy(model(images), [0, 1, 1, 0])
        loss.backward()
        optimizer.step()
    arrays = [loss, optimizer.data, optimizer.grad]
    arrays += [array for p in model.parameters() for array in (p.data, p.grad)]
    state = optimizer.state_dict()
    arrays += [state[name] for name in state.keys() - {"lr", "steps"}]
    arrays += [model[1].running_mean, model[1].running_var]
    assert {np.asarray(array).dtype.name for array in arrays} == {"float32"}


# --- State ----------------------------------------------------------------------------


def make_run(make):
    rng = np.random.default_rng(0)
    layers = [nn.Linear(2, 5, rng=rng), nn.BatchNorm(5), nn.Linear(5, 2, rng=rng)]
    model = nn.Sequential(*layers)
    return model, make(model.parameters())


def train(model, optimizer, seed):
    rng = np.random.default_rng(seed)
    for _ in range(4):
        images = Tensor(rng.standard_normal((8, 2)), dtype=np.float32)
        optimizer.zero_grad()
        nn.cross_entropy(model(images), rng.integers(0, 2, 8)).backward()
        optimizer.step()


@ALL
def test_a_run_resumed_from_its_states_arrives_at_the_same_weights(make):
    model, optimizer = make_run(make)
    train(model, optimizer, seed=1)
    optimizer.lr = 0.03
    states = model.state_dict(), optimizer.state_dict()
    saved = copy.deepcopy(states)
    train(model, optimizer, seed=2)

    resumed, resumed_optimizer = make_run(make)
    resumed.load_state_dict(states[0])
    resumed_optimizer.load_state_dict(states[1])
    assert resumed_optimizer.lr == 0.03
    train(resumed, resumed_optimizer, seed=2)
    assert_same(model.state_dict(), resumed.state_dict())
    assert_same(optimizer.state_dict(), resumed_optimizer.state_dict())
    for state, copied in zip(states, saved):
        assert_same(state, copied)


def test_the_state_holds_what_accumulates_and_the_learning_rate():
    w, b = make_parameters()
    sgd = optim.SGD([w, b], lr=0.1, momentum=0.5)
    adam = optim.Adam(make_parameters())
    for optimizer in (sgd, adam):
        for p in optimizer.parameters:
            p.grad = np.ones(p.shape)
        optimizer.step()
        optimizer.step()
    state = sgd.state_dict()
    assert list(state) == ["lr", "velocity"]
    np.testing.assert_array_equal(state["velocity"], np.full(10, 1.5))
    state = adam.state_dict()
    assert list(state) == ["lr", "sum_g", "sum_gg", "steps"]
    np.testing.assert_allclose(state["sum_g"], np.full(10, 1 + 0.9))
    np.testing.assert_allclose(state["sum_gg"], np.full(10, 1 + 0.999))
    assert state["steps"] == 2


def test_the_state_of_another_optimizer_is_refused_and_nothing_is_loaded():
    optimizer = optim.SGD(make_parameters(), lr=0.1, momentum=0.5)
    descend(optimizer, make_coefficients(2))
    before = optimizer.state_dict()
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict(
            {"lr": 0.2, "sum_g": np.zeros(10), "velocity": [1, 2]}
        )
    assert str(error.value) == (
        "SGD.load_state_dict: the entries must be those of this optimizer. Nothing was "
        "loaded. unexpected: sum_g; velocity: expected (10,) float64, received (2,) "
        "int64."
    )
    assert_same(optimizer.state_dict(), before)


@pytest.mark.parametrize(
    "change",
    [
        {"lr": -1.0},
        {"lr": float("nan")},
        {"lr": "fast"},
        {"steps": 2.5},
        {"steps": -1},
        {"steps": True},
        {"steps": np.uint64(2**63)},
        {"steps": None},
        {"steps": [1]},
        {"steps": np.ma.masked_array(3, True)},
        {"lr": True},
        {"lr": np.ma.masked_array(3.0, True)},
        {"sum_gg": np.ma.masked_array(np.ones(10), True)},
        {"sum_gg": [*np.ma.masked_array(np.ones(10), [True] + 9 * [False])]},
        {"steps": np.zeros(2, int)},
        {"sum_gg": np.full(10, "x")},
        {"sum_gg": np.full(10, None)},
        {"sum_gg": np.zeros(10, complex)},
        {"sum_gg": [[1.0], [2.0, 3.0]]},
        {"extra": 1.0},
    ],
)
@pytest.mark.parametrize("named", [False, True])
def test_a_state_that_is_refused_changes_nothing(change, named):
    parameters = make_parameters()
    optimizer = optim.Adam([("w", parameters[0]), ("b", parameters[1])])
    optimizer = optimizer if named else optim.Adam(parameters)
    descend(optimizer, make_coefficients(2))
    before = optimizer.state_dict()
    state = {**before, "lr": 0.5, "steps": np.array(7), **change}
    if named and "sum_gg" in change:
        state["sum_gg"] = {**before["sum_gg"], "b": change["sum_gg"][:4]}
    with pytest.raises(ValueError):
        optimizer.load_state_dict(state)
    assert_same(optimizer.state_dict(), before)


@pytest.mark.parametrize(
    ("make", "name"),
    [(lambda p: optim.SGD(p, 0.1, 0.9), "velocity"), (optim.Adam, "sum_gg")],
)
def test_the_state_of_an_optimizer_must_have_the_right_shapes(make, name):
    optimizer = make([leaf([1.0, 2.0])])
    before = optimizer.state_dict()
    for wrong in np.ones(1), np.ones(3), np.ones(()):
        with pytest.raises(ValueError, match="Nothing was loaded"):
            optimizer.load_state_dict(before | {name: wrong, "lr": 5.0})
    np.testing.assert_equal(optimizer.state_dict(), before)


def test_each_masked_entry_of_a_state_is_named():
    optimizer = optim.Adam(make_parameters())
    state = optimizer.state_dict()
    masked = {name: np.ma.array(state[name], mask=True) for name in ("sum_g", "sum_gg")}
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict(state | masked)
    assert str(error.value).endswith(
        "sum_g: expected an array without a mask; sum_gg: expected an array without a "
        "mask."
    )


def test_a_negative_number_of_steps_is_refused_with_a_clear_text():
    optimizer = optim.Adam(make_parameters())
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict({**optimizer.state_dict(), "steps": -1})
    assert str(error.value) == (
        "Adam.load_state_dict: the entries must be those of this optimizer. Nothing "
        "was loaded. steps: expected a number of at least 0, received -1."
    )


# --- Names ----------------------------------------------------------------------------


class Twins(nn.Module):
    """Two layers of the same shape, assigned in either order."""

    def __init__(self, names):
        for name in names:
            setattr(self, name, nn.Linear(2, 2, rng=0))

    def forward(self, x):
        return self.second(tg.tanh(self.first(x)))


@ALL
def test_the_state_of_an_optimizer_with_names_finds_its_parameters_by_name(make):
    model, other = Twins(["first", "second"]), Twins(["second", "first"])
    optimizer = make(model.named_parameters())
    train(model, optimizer, seed=1)
    resumed = make(other.named_parameters())
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    train(model, optimizer, seed=2)
    train(other, resumed, seed=2)
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[name], values)


def test_the_state_with_names_is_a_dictionary_by_name(tmp_path):
    w, b = make_parameters()
    optimizer = optim.Adam([("layer.weight", w), ("layer.bias", b)])
    w.grad = np.full((3, 2), 2.0)
    optimizer.step()
    state = optimizer.state_dict()
    assert list(state) == ["lr", "sum_g", "sum_gg", "steps"]
    assert list(state["sum_g"]) == ["layer.weight", "layer.bias"]
    np.testing.assert_array_equal(state["sum_g"]["layer.weight"], np.full((3, 2), 2.0))
    np.testing.assert_array_equal(state["sum_g"]["layer.bias"], np.zeros(4))

    tg.save(tmp_path / "run.npz", optimizer=state)
    loaded = tg.load(tmp_path / "run.npz")["optimizer"]
    again = optim.Adam([("layer.bias", b), ("layer.weight", w)])
    again.load_state_dict(loaded)
    for key in ("sum_g", "sum_gg"):
        assert_same(again.state_dict()[key], state[key])
    # Nothing in a state is shared with the optimizer.
    state["sum_g"]["layer.weight"][:] = 9
    assert optimizer.sum_g.max() == 2


def test_steps_do_not_depend_on_names():
    with_names, without = make_parameters(), make_parameters()
    descend(optim.Adam(zip("wb", with_names)), make_coefficients())
    descend(optim.Adam(without), make_coefficients())
    for p, q in zip(with_names, without):
        np.testing.assert_array_equal(p, q)


def test_a_state_with_names_and_one_without_are_not_mixed():
    named = optim.SGD(zip("wb", make_parameters()), lr=0.1, momentum=0.5)
    unnamed = optim.SGD(make_parameters(), lr=0.2, momentum=0.5)
    for optimizer, other, only, source in [
        (named, unnamed, "optimizer", "parameters()"),
        (unnamed, named, "state", "named_parameters()"),
    ]:
        before = optimizer.state_dict()
        with pytest.raises(ValueError) as error:
            optimizer.load_state_dict(other.state_dict())
        assert str(error.value) == (
            "SGD.load_state_dict: the state and the optimizer must both have names, or "
            f"neither, but only the {only} has them. Make the optimizer from "
            f"module.{source}. Nothing was loaded."
        )
        assert_same(optimizer.state_dict(), before)


def test_a_state_of_other_names_is_refused_with_a_list_of_them():
    w, b = make_parameters()
    optimizer = optim.SGD([("w", w), ("b", b)], lr=0.1, momentum=0.5)
    state = {"lr": 0.1, "velocity": {"w": np.zeros(6), "c": np.zeros(4)}}
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict(state)
    assert str(error.value) == (
        "SGD.load_state_dict: the entries must be those of this optimizer. Nothing was "
        "loaded. missing: velocity[b]; unexpected: velocity[c]; velocity[w]: expected "
        "(3, 2) float64, received (6,) float64."
    )


@pytest.mark.parametrize("state", [None, [1.0], {"state": {}, "param_groups": []}])
def test_a_state_that_this_engine_did_not_make_is_an_error(state):
    with pytest.raises(TypeError) as error:
        optim.SGD(make_parameters(), lr=0.1).load_state_dict(state)
    assert str(error.value) == (
        "SGD.load_state_dict: the state must be a dictionary that an optimizer of this "
        "engine made, such as optimizer.state_dict() or an entry of tg.load(path), but "
        f"{state!r} was received. The state of PyTorch's optimizers cannot be loaded."
    )


def test_the_repr_of_an_optimizer_shows_its_settings():
    parameters = make_parameters()
    assert repr(optim.SGD(parameters[:1], lr=0.1)).startswith("SGD(1 parameter, lr")
    assert repr(optim.SGD(parameters, lr=0.1, momentum=0.9)) == (
        "SGD(2 parameters, lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)"
    )
    assert repr(optim.AdamW(parameters)) == (
        "AdamW(2 parameters, lr=0.001, betas=(0.9, 0.999), eps=1e-08, "
        "weight_decay=0.01)"
    )


def test_errors_name_parameters_as_they_were_given():
    model = nn.Sequential(nn.Linear(2, 2, rng=0))
    older = optim.SGD(model.named_parameters(), lr=0.1)
    optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(RuntimeError, match=r"but '0\.weight'\(2, 2\) has since been"):
        older.step()


@ALL
def test_a_copied_optimizer_keeps_its_names(make):
    model, _ = make_run(make)
    optimizer = make(model.named_parameters())
    train(model, optimizer, seed=1)
    twin, optimizer_of_twin = copy.deepcopy((model, optimizer))
    assert optimizer_of_twin.names == [name for name, _ in model.named_parameters()]
    train(model, optimizer, seed=2)
    train(twin, optimizer_of_twin, seed=2)
    assert_same(twin.state_dict(), model.state_dict())


# --- Gradient clipping ----------------------------------------------------------------


@pytest.mark.parametrize("attached", [False, True])
def test_clipping_scales_all_gradients_to_the_norm(attached):
    w, b = make_parameters()
    if attached:
        optim.SGD([w, b], lr=0.1)
    (w.sum() * 3 + (b * [1.0, -2.0, 2.0, 4.0]).sum()).backward()
    before = [p.grad.copy() for p in (w, b)]
    norm = np.sqrt(6 * 9 + 25)
    assert optim.clip_grad_norm([w, b, w], 1.5) == pytest.approx(norm, rel=1e-15)
    for p, g in zip((w, b), before):
        np.testing.assert_allclose(p.grad, g * 1.5 / norm, rtol=1e-15)
    assert optim.clip_grad_norm([w, b], 2.0) == pytest.approx(1.5, rel=1e-15)
    np.testing.assert_allclose(w.grad, before[0] * 1.5 / norm, rtol=1e-15)


@pytest.mark.slow
def test_clipping_is_that_of_pytorch(torch):
    parameters = make_parameters()
    theirs = [torch.tensor(p.data, requires_grad=True) for p in parameters]
    for p, q in zip(parameters, theirs):
        p.grad = p.data * 3
        q.grad = q.detach() * 3
    norm = torch.nn.utils.clip_grad_norm_(theirs, 0.5)
    assert optim.clip_grad_norm(zip("wb", parameters), 0.5) == pytest.approx(
        norm.item()
    )
    for p, q in zip(parameters, theirs):
        np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-5)


def test_clipping_leaves_out_parameters_without_gradient():
    w, b = make_parameters()
    w.grad = np.full((3, 2), 2.0)
    assert optim.clip_grad_norm([w, b], 1e9) == np.sqrt(24)
    assert b.grad is None
    assert optim.clip_grad_norm([b], 1.0) == 0


def test_the_norm_of_float16_gradients_does_not_overflow():
    p = Tensor(np.zeros(100), requires_grad=True, dtype=np.float16)
    p.grad = np.full(100, 1000.0)
    assert optim.clip_grad_norm([p], 100.0) == 10_000
    np.testing.assert_array_equal(p.grad, np.full(100, 10.0, np.float16))


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_the_norm_of_extreme_gradients_neither_underflows_nor_overflows(size):
    w, b = leaf(np.zeros(8)), leaf(np.zeros(8))
    w.grad = b.grad = np.full(8, size)
    assert optim.clip_grad_norm([w, b], size) == pytest.approx(
        4 * size, rel=1e-15, abs=0
    )
    np.testing.assert_allclose(b.grad, size / 4, rtol=1e-15)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_gradients_that_are_not_finite_are_not_clipped(value):
    w, b = make_parameters()
    w.grad, b.grad = np.ones((3, 2)), [value, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError) as error:
        optim.clip_grad_norm([w, b], 1.0)
    assert str(error.value) == (
        f"clip_grad_norm: the gradients must be finite, but their norm is {value}. "
        "tg.find_nonfinite(loss) finds the source."
    )
    np.testing.assert_array_equal(w.grad, np.ones((3, 2)))


# --- Schedules ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("schedule", "name", "settings"),
    [
        (
            lambda step: optim.cosine_lr(step, 10, lr=0.4, final=0.1),
            "CosineAnnealingLR",
            {"T_max": 10, "eta_min": 0.1},
        ),
        (lambda step: optim.step_lr(step, 3, lr=0.4), "StepLR", {"step_size": 3}),
        (
            lambda step: optim.step_lr(step, 2, lr=0.4, factor=0.5),
            "StepLR",
            {"step_size": 2, "gamma": 0.5},
        ),
    ],
)
def test_schedules_are_those_of_pytorch(torch, schedule, name, settings):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    theirs = getattr(torch.optim.lr_scheduler, name)(optimizer, **settings)
    for step in range(11):
        assert schedule(step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_a_cosine_starts_at_lr_and_stays_at_its_final_value():
    rates = [optim.cosine_lr(step, 4, lr=1.0, final=0.2) for step in (0, 2, 4, 5, 100)]
    assert rates == pytest.approx([1.0, 0.6, 0.2, 0.2, 0.2], rel=1e-15)


def test_step_lr_multiplies_by_the_factor_after_every_few_steps():
    rates = [optim.step_lr(step, every=2, lr=8.0, factor=0.5) for step in range(6)]
    assert rates == [8, 8, 4, 4, 2, 2]


# --- Copies ---------------------------------------------------------------------------


@ALL
def test_a_deep_copy_of_a_model_trains_independently(make):
    model, optimizer = make_run(make)
    train(model, optimizer, seed=1)
    twin = copy.deepcopy(model)
    assert_same(twin.state_dict(), model.state_dict())
    assert [p.name for p in twin.parameters()] == [p.name for p in model.parameters()]

    before = model.state_dict()
    train(twin, make(twin.parameters()), seed=2)
    assert_same(model.state_dict(), before)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert np.any(p.data != q.data)

    of_twin = twin.state_dict()
    train(model, optimizer, seed=3)
    assert_same(twin.state_dict(), of_twin)
    assert np.any(model.state_dict()["0.weight"] != before["0.weight"])


@ALL
@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda run: pickle.loads(pickle.dumps(run))],
    ids=["deepcopy", "pickle"],
)
def test_a_model_and_its_optimizer_copied_together_go_on_together(make, duplicate):
    model, optimizer = make_run(make)
    train(model, optimizer, seed=1)
    twin, optimizer_of_twin = duplicate((model, optimizer))
    before = model.state_dict()
    train(twin, optimizer_of_twin, seed=2)
    assert_same(model.state_dict(), before)
    train(model, optimizer, seed=2)
    assert_same(twin.state_dict(), model.state_dict())


# --- Errors ---------------------------------------------------------------------------

W, B = make_parameters()
HALF = Tensor(np.zeros(3), requires_grad=True, dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        pytest.param(
            lambda: optim.Adam(nn.ReLU().parameters()),
            ValueError,
            "Adam: at least one parameter must be given, but none was received. Does "
            "the module hold its tensors as attributes, with requires_grad=True?",
            id="no parameters",
        ),
        pytest.param(
            lambda: optim.SGD([W, B, W], lr=0.1),
            ValueError,
            "SGD: each parameter must be given once, but 'w'(3, 2) was given 2 times. "
            "Pass module.parameters().",
            id="a parameter twice",
        ),
        pytest.param(
            lambda: optim.SGD([W, HALF], lr=0.1),
            ValueError,
            "SGD: all parameters must have one dtype, but ['float32', 'float64'] were "
            "received. Use one optimizer for each.",
            id="two dtypes",
        ),
        pytest.param(
            lambda: optim.SGD([W, (B * 2).named("twice b")], lr=0.1),
            TypeError,
            "SGD: parameters must be leaves that require a gradient, but "
            "'twice b'(4,) is not. Pass module.parameters().",
            id="the output of an operation",
        ),
        pytest.param(
            lambda: optim.Adam([Tensor(np.zeros(3), name="x")]),
            TypeError,
            "Adam: parameters must be leaves that require a gradient, but 'x'(3,) is "
            "not. Pass module.parameters().",
            id="a tensor that requires no gradient",
        ),
        pytest.param(
            lambda: optim.Adam([np.zeros(3)]),
            TypeError,
            "Adam: parameters must be leaves that require a gradient, but array(3,) is "
            "not. Pass module.parameters().",
            id="an array",
        ),
        pytest.param(
            lambda: optim.Adam([("x", Tensor(np.zeros(3)))]),
            TypeError,
            "Adam: parameters must be leaves that require a gradient, but 'x'(3,) is "
            "not. Pass module.parameters().",
            id="a named tensor that requires no gradient",
        ),
        pytest.param(
            lambda: optim.Adam([("x", W), ("x", B)]),
            ValueError,
            "Adam: each parameter must have its own name, but 2 are called 'x'. Pass "
            "module.named_parameters().",
            id="one name twice",
        ),
        pytest.param(
            lambda: optim.Adam([("x", W), ("y", W)]),
            ValueError,
            "Adam: each parameter must be given once, but 'x'(3, 2) was given 2 times. "
            "Pass module.parameters().",
            id="a parameter twice, with two names",
        ),
        pytest.param(
            lambda: optim.Adam([W, ("b", B)]),
            TypeError,
            "Adam: parameters must be all tensors, or all pairs of a name and a "
            "tensor, but 1 of 2 are pairs. Pass module.parameters() or "
            "module.named_parameters().",
            id="a mixture of tensors and pairs",
        ),
        pytest.param(
            lambda: optim.Adam({"w": W}),
            TypeError,
            "Adam: parameters must be leaves that require a gradient, but 'w' is not. "
            "Pass module.parameters().",
            id="a dictionary",
        ),
        pytest.param(
            lambda: optim.Adam(W),
            TypeError,
            "Adam: parameters must be a list of tensors, but Tensor was received. Pass "
            "module.parameters().",
            id="a tensor instead of a list",
        ),
        pytest.param(
            lambda: optim.SGD([W], lr=0.1, nesterov=True),
            ValueError,
            "SGD: nesterov needs a momentum above 0, but 0 was received.",
            id="nesterov without momentum",
        ),
        pytest.param(
            lambda: optim.AdamW([W], betas=(1, 0)),
            ValueError,
            "AdamW: betas must be two numbers in [0, 1), but (1, 0) was received.",
            id="beta of 1 for AdamW",
        ),
        pytest.param(
            lambda: optim.Adam([W], betas=(0.9,)),
            ValueError,
            "Adam: betas must be two numbers in [0, 1), but (0.9,) was received.",
            id="one beta",
        ),
        pytest.param(
            lambda: optim.Adam([W], betas=(0.9, 0.99, 0.999)),
            ValueError,
            "Adam: betas must be two numbers in [0, 1), but (0.9, 0.99, 0.999) was "
            "received.",
            id="three betas",
        ),
        pytest.param(
            lambda: optim.clip_grad_norm([W], -1),
            ValueError,
            "clip_grad_norm: max_norm must be a finite number of at least 0, but -1 "
            "was received.",
            id="a negative norm",
        ),
        pytest.param(
            lambda: optim.clip_grad_norm([1, 2], 1),
            TypeError,
            "clip_grad_norm: parameters must be tensors, but 1 was received. Pass "
            "module.parameters().",
            id="numbers to clip",
        ),
        pytest.param(
            lambda: optim.cosine_lr(1, 0, lr=0.1),
            ValueError,
            "cosine_lr: step must be at least 0, and steps above 0, but 1 and 0 were "
            "received.",
            id="a cosine of no steps",
        ),
        pytest.param(
            lambda: optim.step_lr(-1, 5, lr=0.1),
            ValueError,
            "step_lr: step must be at least 0, and every above 0, but -1 and 5 were "
            "received.",
            id="a negative step",
        ),
        pytest.param(
            lambda: optim.SGD([W], lr=float("nan")),
            ValueError,
            "SGD: lr must be a finite number of at least 0, but nan was received.",
            id="lr NaN",
        ),
        pytest.param(
            lambda: optim.Adam([W], lr=-0.1),
            ValueError,
            "Adam: lr must be a finite number of at least 0, but -0.1 was received.",
            id="lr negative",
        ),
        pytest.param(
            lambda: setattr(optim.Adam([W]), "lr", -1),
            ValueError,
            "Adam: lr must be a finite number of at least 0, but -1 was received.",
            id="lr set to a negative number",
        ),
        pytest.param(
            lambda: optim.SGD([W], lr=float("inf")),
            ValueError,
            "SGD: lr must be a finite number of at least 0, but inf was received.",
            id="lr infinite",
        ),
        pytest.param(
            lambda: optim.SGD([W], lr=0.1, momentum=1.1),
            ValueError,
            "SGD: momentum must be in [0, 1], but 1.1 was received.",
            id="momentum above 1",
        ),
        pytest.param(
            lambda: optim.SGD([W], lr=0.1, momentum=-0.5),
            ValueError,
            "SGD: momentum must be in [0, 1], but -0.5 was received.",
            id="momentum negative",
        ),
        pytest.param(
            lambda: optim.SGD([W], lr=0.1, momentum=float("nan")),
            ValueError,
            "SGD: momentum must be in [0, 1], but nan was received.",
            id="momentum NaN",
        ),
        pytest.param(
            lambda: optim.SGD([W], lr=0.1, weight_decay=-1),
            ValueError,
            "SGD: weight_decay must be a finite number of at least 0, but -1 was "
            "received.",
            id="weight decay negative",
        ),
        pytest.param(
            lambda: optim.Adam([W], betas=(0.9, 1.0)),
            ValueError,
            "Adam: betas must be two numbers in [0, 1), but (0.9, 1.0) was received.",
            id="beta of 1",
        ),
        pytest.param(
            lambda: optim.Adam([W], eps=float("nan")),
            ValueError,
            "Adam: eps must be a finite number of at least 0, but nan was received.",
            id="eps NaN",
        ),
    ],
)
def test_errors_say_what_must_hold_and_what_was_received(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


@pytest.mark.parametrize("beta", [-0.5, 1.0, np.nan])
@pytest.mark.parametrize("i", [0, 1])
def test_betas_outside_0_to_1_are_refused(beta, i):
    betas = [0.5, 0.5]
    betas[i] = beta
    with pytest.raises(ValueError, match=r"betas must be two numbers in \[0, 1\)"):
        optim.Adam([leaf([1.0])], betas=betas)
    optim.Adam([leaf([1.0])], betas=(0, 0))


def test_a_learning_rate_that_is_refused_changes_nothing():
    optimizer = optim.SGD(make_parameters(), lr=0.1)
    with pytest.raises(ValueError, match="lr must be a finite number of at least 0"):
        optimizer.lr = float("nan")
    assert optimizer.lr == 0.1


# --- Gradient buffers -----------------------------------------------------------------


def linear_loss(x, w, g):
    """A loss whose gradient d_w goes directly into the optimizer's buffer."""
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


def test_two_layers_with_one_weight_do_not_overwrite_each_others_gradient(rng):
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


def test_a_gradient_of_another_dtype_is_converted_in_the_gradient_buffer(rng):
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


def test_a_weight_used_in_several_threads_keeps_its_gradient_buffer():
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


def test_assigning_an_old_gradient_does_not_return_a_parameter_to_its_old_optimizer():
    weight = leaf([1.0])
    first = optim.SGD([weight], lr=1.0)
    (weight * 1).sum().backward()
    old = weight.grad
    optim.SGD([weight], lr=1.0)
    weight.grad = old
    with pytest.raises(RuntimeError, match="must belong to one optimizer"):
        first.step()


def test_a_numpy_number_can_be_a_learning_rate():
    assert optim.SGD([leaf([1.0])], lr=np.float32(0.5)).lr == 0.5
    assert optim.SGD([leaf([1.0])], lr=np.int64(1)).lr == 1.0


def test_the_type_of_the_learning_rate_does_not_change_float32_weights():
    weights = []
    for lr in (0.1, np.float64(0.1)):
        p = leaf(np.linspace(0, 1, 1000, dtype=np.float32))
        p.grad = np.linspace(1, 2, 1000, dtype=np.float32)
        optim.SGD([p], lr=lr).step()
        weights.append(p.data.copy())
    np.testing.assert_array_equal(*weights)
