"""Ctrl-C at any point: what was interrupted can be repeated, with right results.

A trace function raises KeyboardInterrupt at the first line of the package that is run,
then at the second, and so on, until the run ends before the interrupt.
"""

import gc
import os
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim
from tinygrad_bn.scopes import this_thread

PACKAGE = str(Path(tg.__file__).parent)
X = np.random.default_rng(0).standard_normal((6, 3))
LABELS = np.arange(6) % 2


class Interrupt:
    """Raise KeyboardInterrupt at the given event, counted from 0.

    The events are the lines of the package as they run, or the starts and ends of
    calls, where Python looks for signals.
    """

    def __init__(self, number, events="lines", package=PACKAGE):
        self.left, self.package = number, package
        self.events = {"line"} if events == "lines" else {"call", "return", "c_return"}
        self.install = sys.settrace if events == "lines" else sys.setprofile

    def __enter__(self):
        self.install(self.look)

    def __exit__(self, *_):
        self.install(None)

    def look(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(self.package):
            return None
        if event in self.events:
            if self.left == 0:
                self.install(None)
                raise KeyboardInterrupt
            self.left -= 1
        return self.look


def is_interrupted(run, prepared, interrupt):
    """Whether the interrupt comes before ``run(*prepared)`` ends.

    It runs in its own thread, where nothing else is recorded.
    """

    def attempt():
        try:
            with interrupt:
                run(*prepared)
        except KeyboardInterrupt:
            return True
        finally:
            assert this_thread.scopes == [None], "a finished call is still open"
            assert this_thread.is_recording
        return False

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(attempt).result()


def interrupted(prepare, run, events="lines", package=PACKAGE):
    """Interrupt ``run(*prepare())`` at each event; yield what was prepared."""
    number, prepared = 0, prepare()
    while is_interrupted(run, prepared, Interrupt(number, events, package)):
        yield prepared
        number, prepared = number + 1, prepare()
    assert number > 5, "hardly anything was interrupted"


class Training:
    """A small network with its optimizer."""

    def __init__(self, make_optimizer, fused=True):
        rng = np.random.default_rng(1)
        self.model = nn.Sequential(
            nn.Linear(3, 4, rng=rng, dtype=float),
            nn.BatchNorm(4, fused=fused, dtype=float),
            nn.Sigmoid(),
            nn.Linear(4, 2, rng=rng, dtype=float),
        )
        self.optimizer = make_optimizer(self.model.parameters())

    def loss(self):
        return nn.cross_entropy(self.model(Tensor(X)), LABELS)

    def train(self):
        loss = self.loss()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()

    def everything(self):
        return [*self.model.state_dict().values()], self.optimizer.state_dict()


OPTIMIZERS = {
    "sgd": lambda parameters: optim.SGD(parameters, 0.1),
    "momentum": lambda parameters: optim.SGD(parameters, 0.1, 0.9, weight_decay=0.1),
    "adamw": lambda parameters: optim.AdamW(parameters, 0.1, weight_decay=0.1),
}


@pytest.fixture(
    params=["sgd", pytest.param("momentum", marks=pytest.mark.slow), "adamw"]
)
def make_optimizer(request):
    return OPTIMIZERS[request.param]


def assert_the_next_step_is_right(training, make_optimizer, fused=True):
    """The next step is that of an uninterrupted run that starts from this state."""
    fresh = Training(make_optimizer, fused)
    fresh.model.load_state_dict(training.model.state_dict())
    fresh.optimizer.load_state_dict(training.optimizer.state_dict())
    training.train()
    fresh.train()
    for p, q in zip(training.model.parameters(), fresh.model.parameters(), strict=True):
        np.testing.assert_array_equal(p.grad, q.grad)
        assert np.isfinite(p.data).all()
    np.testing.assert_equal(training.everything(), fresh.everything())


def assert_stale_if_changed(training, loss, before):
    """The graph behind ``loss`` runs backward only if no parameter has changed."""
    after = [p.data for p in training.model.parameters()]
    if any((a != b).any() for a, b in zip(before, after, strict=True)):
        with pytest.raises(RuntimeError, match="was changed after"):
            loss.backward()
        return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("fused", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_training_continues_correctly_after_an_interrupted_backward(fused):
    make_optimizer = OPTIMIZERS["momentum"]

    def prepare():
        training = Training(make_optimizer, fused)
        training.train()
        training.optimizer.zero_grad()
        return training, training.loss()

    training, loss = prepare()
    loss.backward()
    expected = [p.grad for p in training.model.parameters()]
    for training, loss in interrupted(prepare, lambda _, loss: loss.backward()):
        # The same graph can still be used, because only gradients have changed.
        training.optimizer.zero_grad()
        loss.backward()
        for g, p in zip(expected, training.model.parameters(), strict=True):
            np.testing.assert_array_equal(g, p.grad)
        assert_the_next_step_is_right(training, make_optimizer, fused)


@pytest.mark.slow
def test_training_continues_correctly_after_an_interrupted_accumulation(make_optimizer):
    def prepare():
        training = Training(make_optimizer)
        training.loss().backward()
        return training, training.loss()

    for training, _ in interrupted(prepare, lambda _, loss: loss.backward()):
        assert_the_next_step_is_right(training, make_optimizer)


def test_older_graphs_are_stale_after_an_interrupted_step(make_optimizer):
    def prepare():
        training = Training(make_optimizer)
        training.train()
        loss = training.loss()
        # A gradient that is missing and one that is not in the optimizer's buffer.
        first, second, *_ = training.model.parameters()
        first.grad, second.grad = None, second.grad + 1
        return training, loss, [p.data.copy() for p in training.model.parameters()]

    found = []
    for training, loss, before in interrupted(
        prepare, lambda training, *_: training.optimizer.step()
    ):
        found.append(assert_stale_if_changed(training, loss, before))
        assert_the_next_step_is_right(training, make_optimizer)
    assert {*found} == {True, False}


@pytest.mark.slow
def test_older_graphs_are_stale_after_an_interrupted_assignment():
    def prepare():
        training = Training(OPTIMIZERS["sgd"])
        before = [p.data.copy() for p in training.model.parameters()]
        return training, training.loss(), before

    def load(training, *_):
        training.model.load_state_dict(
            {name: a + 1 for name, a in training.model.state_dict().items()}
        )

    found = []
    for training, loss, before in interrupted(prepare, load):
        found.append(assert_stale_if_changed(training, loss, before))
    assert {*found} == {True, False}


@pytest.mark.slow
@pytest.mark.parametrize("fused", [True, False])
def test_training_continues_correctly_after_an_interrupted_forward_pass(fused):
    def prepare():
        return (Training(OPTIMIZERS["sgd"], fused),)

    for (training,) in interrupted(prepare, lambda training: training.loss(), "calls"):
        assert_the_next_step_is_right(training, OPTIMIZERS["sgd"], fused)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_training_continues_correctly_after_an_interrupted_second_order_pass():
    def prepare():
        training = Training(OPTIMIZERS["sgd"])
        return training, training.loss()

    def run(training, loss):
        tg.grad(loss, training.model.parameters(), create_graph=True)

    for training, _ in interrupted(prepare, run, "calls"):
        assert_the_next_step_is_right(training, OPTIMIZERS["sgd"])


@pytest.mark.slow
def test_an_interrupted_zero_grad_can_be_repeated(make_optimizer):
    def prepare():
        training = Training(make_optimizer)
        training.train()
        return (training,)

    for (training,) in interrupted(prepare, lambda t: t.optimizer.zero_grad()):
        assert_the_next_step_is_right(training, make_optimizer)


@pytest.mark.slow
def test_an_interrupted_creation_of_an_optimizer_can_be_repeated(make_optimizer):
    def prepare():
        training = Training(make_optimizer)
        training.train()
        return (training,)

    def run(training):
        make_optimizer(training.model.parameters())

    for (training,) in interrupted(prepare, run):
        training.optimizer = make_optimizer(training.model.parameters())
        assert_the_next_step_is_right(training, make_optimizer)


@pytest.mark.slow
@pytest.mark.parametrize(
    "package", [PACKAGE, zipfile.__file__], ids=["save", "zipfile"]
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupted_save_raises_the_interrupt_and_leaves_a_whole_checkpoint(
    tmp_path, package
):
    path = tmp_path / "a.npz"
    old, new = {"a": np.zeros(3), "epoch": 1}, {"a": np.ones(3), "epoch": 2}

    def prepare():
        with suppress(FileNotFoundError):
            path.unlink()
        tg.save(path, **old)
        return ()

    found = set()
    gc.freeze()
    for _ in interrupted(prepare, lambda: tg.save(path, **new), package=package):
        gc.collect()  # Half-closed archives complain when they are collected.
        epoch = tg.load(path)["epoch"]
        np.testing.assert_equal(tg.load(path), old if epoch == 1 else new)
        found.add(epoch)
        tg.save(path, **new)
        assert os.listdir(tmp_path) == ["a.npz"]
    gc.unfreeze()
    assert 1 in found
