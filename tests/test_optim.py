"""SGD and Adam: their steps, their flat buffers, their states and errors."""

import copy
import pickle

import numpy as np
import pytest

from tinygrad_bn import Tensor, nn, optim


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


def sgd_by_hand(p, coefficients, lr, momentum=0, weight_decay=0):
    v = np.zeros_like(p)
    for c in coefficients:
        v = momentum * v + c * p + weight_decay * p
        p = p - lr * v
    return p


def adam_by_hand(
    p, coefficients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0
):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, c in enumerate(coefficients, start=1):
        g = c * p + weight_decay * p
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p = p - lr * m_hat / (np.sqrt(v_hat) + eps)
    return p


SETTINGS = pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SGD", {"lr": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9}),
        ("SGD", {"lr": 0.1, "momentum": 1}),
        ("SGD", {"lr": 0.1, "weight_decay": 0.2}),
        ("SGD", {"lr": 0.1, "momentum": 0.5, "weight_decay": 0.2}),
        ("Adam", {}),
        ("Adam", {"lr": 0.1, "betas": (0.5, 0.8), "eps": 1e-2}),
        ("Adam", {"lr": 0.1, "betas": (0.0, 0.0), "weight_decay": 0.2}),
    ],
)
BOTH = pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
        lambda p: optim.Adam(p, lr=0.1, weight_decay=0.1),
    ],
    ids=["SGD", "Adam"],
)


# --- Steps ----------------------------------------------------------------------------


@SETTINGS
def test_steps_are_those_of_a_few_lines_of_numpy(name, settings):
    parameters, coefficients = make_parameters(), make_coefficients()
    by_hand = {"SGD": sgd_by_hand, "Adam": adam_by_hand}[name]
    expected = [
        by_hand(p.data.copy(), [step[i] for step in coefficients], **settings)
        for i, p in enumerate(parameters)
    ]
    descend(getattr(optim, name)(parameters, **settings), coefficients)
    for p, values in zip(parameters, expected):
        np.testing.assert_allclose(p, values, rtol=1e-12)


@SETTINGS
def test_parameters_of_several_blocks_are_updated_to_the_last(name, settings):
    values = np.random.default_rng(0).standard_normal((2, 2 * optim.BLOCK + 3))
    p = Tensor(values[0], requires_grad=True, name="p")
    by_hand = {"SGD": sgd_by_hand, "Adam": adam_by_hand}[name]
    expected = by_hand(p.data.copy(), [values[1]] * 2, **settings)
    descend(getattr(optim, name)([p], **settings), [[values[1]]] * 2)
    np.testing.assert_allclose(p, expected, rtol=1e-12, atol=1e-12)


@SETTINGS
def test_steps_are_those_of_pytorch(name, settings):
    torch = pytest.importorskip("torch")
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


@BOTH
def test_gradients_that_stay_from_step_to_step_are_not_decayed_again(make):
    (kept, *_), (fresh, *_) = make_parameters(), make_parameters()
    first, second = make([kept]), make([fresh])
    gradient = np.arange(6.0).reshape(3, 2)
    (kept * gradient).sum().backward()
    for _ in range(3):
        first.step()
        second.zero_grad()
        (fresh * gradient).sum().backward()
        second.step()
    np.testing.assert_array_equal(kept.grad, gradient)
    np.testing.assert_array_equal(kept, fresh)


@BOTH
def test_a_parameter_without_gradient_counts_as_one_of_gradient_zero(make):
    silent, told = make_parameters()[0], make_parameters()[0]
    first, second = make([silent]), make([told])
    descend(first, [make_coefficients()[0][:1]])
    descend(second, [make_coefficients()[0][:1]])
    before = silent.data.copy()
    for _ in range(3):
        first.zero_grad()
        first.step()
        told.grad = np.zeros((3, 2))
        second.step()
    assert np.all(silent.data != before)
    np.testing.assert_array_equal(silent, told)


@BOTH
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


@BOTH
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


@BOTH
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
            assert p.data.base is optimizer.data
            assert p.grad.base is optimizer.grad
            np.testing.assert_array_equal(p.grad, 2 * p.data)
        np.testing.assert_array_equal(optimizer.grad, 2 * optimizer.data)
        optimizer.step()
        for p in parameters:
            assert p.data.base is optimizer.data


@BOTH
def test_what_is_assigned_or_loaded_arrives_in_the_buffer(make):
    model = nn.Linear(2, 3, rng=np.random.default_rng(0), dtype=float)
    optimizer = make(model.parameters())
    model.weight.data = np.full((2, 3), 2.0)
    model.load_state_dict({**model.state_dict(), "bias": np.full(3, 5.0)})
    assert optimizer.data.tolist() == [2] * 6 + [5] * 3
    optimizer.step()
    np.testing.assert_array_equal(model.weight.data.ravel(), optimizer.data[:6])
    assert np.all(model.weight.data < 2)


def test_adoption_is_no_change_to_the_graphs_before_it():
    (p, *_) = make_parameters()
    loss = (p * p).sum()
    loss.backward()
    optimizer = optim.SGD([p], lr=0.1)
    np.testing.assert_array_equal(optimizer.grad, 2 * optimizer.data)
    loss.backward()
    np.testing.assert_array_equal(optimizer.grad, 4 * optimizer.data)


@BOTH
def test_a_second_backward_adds_and_zero_grad_forgets(make):
    (p, *_) = make_parameters()
    optimizer = make([p])
    for _ in range(2):
        (p * 3).sum().backward()
    assert optimizer.grad.tolist() == [6] * 6
    optimizer.zero_grad()
    assert p.grad is None
    (p * 3).sum().backward()
    assert optimizer.grad.tolist() == [3] * 6


@BOTH
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
        "'b'(4,) was attached to another one since. Use the newer optimizer only, or "
        "make a new one."
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
        assert p.data.base is optimizer.data


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


def assert_same_state(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])


@BOTH
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
    assert_same_state(model.state_dict(), resumed.state_dict())
    assert_same_state(optimizer.state_dict(), resumed_optimizer.state_dict())
    for state, copied in zip(states, saved):
        assert_same_state(state, copied)


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
        "SGD.load_state_dict: the entries and their shapes must be {'lr': (), "
        "'velocity': (10,)}, but {'lr': (), 'sum_g': (10,), 'velocity': (2,)} was "
        "received. Nothing was loaded."
    )
    assert_same_state(optimizer.state_dict(), before)


# --- Copies ---------------------------------------------------------------------------


@BOTH
def test_a_deep_copy_of_a_model_trains_independently(make):
    model, optimizer = make_run(make)
    train(model, optimizer, seed=1)
    twin = copy.deepcopy(model)
    assert_same_state(twin.state_dict(), model.state_dict())
    assert [p.name for p in twin.parameters()] == [p.name for p in model.parameters()]

    before = model.state_dict()
    train(twin, make(twin.parameters()), seed=2)
    assert_same_state(model.state_dict(), before)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        assert np.any(p.data != q.data)

    of_twin = twin.state_dict()
    train(model, optimizer, seed=3)
    assert_same_state(twin.state_dict(), of_twin)
    assert np.any(model.state_dict()["0.weight"] != before["0.weight"])


@BOTH
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
    assert_same_state(model.state_dict(), before)
    train(model, optimizer, seed=2)
    assert_same_state(twin.state_dict(), model.state_dict())


# --- Errors ---------------------------------------------------------------------------

W, B = make_parameters()
HALF = Tensor(np.zeros(3), requires_grad=True, dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        pytest.param(
            lambda: optim.Adam(nn.ReLU().parameters()),
            ValueError,
            "Adam: at least one parameter must be given, received none. Does the "
            "module hold its tensors as attributes, with requires_grad=True?",
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
            lambda: optim.SGD([W], lr=float("nan")),
            ValueError,
            "lr must be a finite number of at least 0, but nan was received.",
            id="lr NaN",
        ),
        pytest.param(
            lambda: optim.Adam([W], lr=-0.1),
            ValueError,
            "lr must be a finite number of at least 0, but -0.1 was received.",
            id="lr negative",
        ),
        pytest.param(
            lambda: setattr(optim.Adam([W]), "lr", -1),
            ValueError,
            "lr must be a finite number of at least 0, but -1 was received.",
            id="lr set to a negative number",
        ),
        pytest.param(
            lambda: optim.SGD([W], lr=float("inf")),
            ValueError,
            "lr must be a finite number of at least 0, but inf was received.",
            id="lr infinite",
        ),
        pytest.param(
            lambda: optim.SGD([W], lr=0.1, momentum=1.1),
            ValueError,
            "SGD: momentum must be in [0, 1], but 1.1 was received.",
            id="momentum above 1",
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
            "weight_decay must be a finite number of at least 0, but -1 was received.",
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
            "eps must be a finite number of at least 0, but nan was received.",
            id="eps NaN",
        ),
    ],
)
def test_errors_say_what_must_hold_and_what_was_received(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text


def test_a_learning_rate_that_is_refused_changes_nothing():
    optimizer = optim.SGD(make_parameters(), lr=0.1)
    with pytest.raises(ValueError, match="lr must be a finite number of at least 0"):
        optimizer.lr = float("nan")
    assert optimizer.lr == 0.1
