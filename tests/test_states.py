"""Long random histories: optimizers, modules and checkpoints against simple models.

Hypothesis makes up histories of what users do. After each step, the library must agree
with a model of it that has no buffers, no sharing and no files.
"""

import copy
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim
from tinygrad_bn.nn import Module

REPRODUCIBLE = settings(
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

# --- Optimizers -----------------------------------------------------------------------

SHAPES = [(3,), (2, 2), (3,), ()]
places = st.integers(0, len(SHAPES) - 1)
seeds = st.integers(0, 100)


class PlainSGD:
    """SGD with momentum and weight decay, one array at a time."""

    def __init__(self, shapes):
        self.velocity = [np.zeros(shape) for shape in shapes]

    def step(self, values, gradients):
        for i, (p, g) in enumerate(zip(values, gradients, strict=True)):
            self.velocity[i] = 0.9 * self.velocity[i] + g + 0.01 * p
            values[i] = p - 0.1 * self.velocity[i]


class PlainAdam:
    """Adam, as Algorithm 1 of the paper has it, one array at a time."""

    def __init__(self, shapes):
        self.m = [np.zeros(shape) for shape in shapes]
        self.v = [np.zeros(shape) for shape in shapes]
        self.t = 0

    def step(self, values, gradients):
        self.t += 1
        for i, (p, g) in enumerate(zip(values, gradients, strict=True)):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.99 * self.v[i] + 0.01 * g * g
            m_hat = self.m[i] / (1 - 0.9**self.t)
            v_hat = self.v[i] / (1 - 0.99**self.t)
            values[i] = p - 0.1 * m_hat / (np.sqrt(v_hat) + 1e-3)


KINDS = {
    "sgd": (lambda p: optim.SGD(p, 0.1, 0.9, weight_decay=0.01), PlainSGD),
    "adam": (lambda p: optim.Adam(p, 0.1, (0.9, 0.99), 1e-3), PlainAdam),
}


class OptimizerHistory(RuleBasedStateMachine):
    """Freezing, new optimizers, gradients that are exchanged, copies, and steps."""

    @initialize(kind=st.sampled_from(sorted(KINDS)))
    def begin(self, kind):
        rng = np.random.default_rng(0)
        self.values = [rng.standard_normal(shape) for shape in SHAPES]
        self.gradients = [None] * len(SHAPES)
        self.parameters = [Tensor(v, requires_grad=True) for v in self.values]
        self.frozen, self.old, self.graph = set(), None, None
        self.make(kind)

    def make(self, kind):
        self.kind = kind
        make, make_plain = KINDS[kind]
        self.optimizer, self.plain = make(self.parameters), make_plain(SHAPES)

    def coefficients(self, seed):
        rng = np.random.default_rng(seed)
        return [rng.standard_normal(shape) for shape in SHAPES]

    def loss(self, coefficients):
        pairs = zip(self.parameters, coefficients, strict=True)
        return sum((p * c).sum() for p, c in pairs)

    @rule(seed=seeds)
    def backward(self, seed):
        coefficients = self.coefficients(seed)
        if len(self.frozen) == len(SHAPES):
            with pytest.raises(RuntimeError, match="must start from a tensor that"):
                self.loss(coefficients).backward()
            return
        self.loss(coefficients).backward()
        for i, c in enumerate(coefficients):
            if i not in self.frozen:
                g = self.gradients[i]
                self.gradients[i] = c.copy() if g is None else g + c

    @rule()
    def record(self):
        self.graph = self.loss(self.coefficients(0))
        self.used = {*range(len(SHAPES))} - self.frozen

    @rule()
    def zero_grad(self):
        self.optimizer.zero_grad()
        self.gradients = [None] * len(SHAPES)

    @rule()
    def step(self):
        self.optimizer.step()
        pairs = zip(self.gradients, self.values, strict=True)
        gradients = [np.zeros(v.shape) if g is None else g for g, v in pairs]
        state = [a for a in vars(self.plain).values() if isinstance(a, list)]
        copies = [(a, i, a[i]) for a in [self.values, *state] for i in self.frozen]
        self.plain.step(self.values, gradients)
        for a, i, value in copies:
            a[i] = value
        self.refuse_the_graph()

    @rule(i=places)
    def freeze_or_unfreeze(self, i):
        self.frozen ^= {i}
        self.parameters[i].requires_grad = i not in self.frozen

    @rule()
    def exchange_gradients(self):
        a, b = self.parameters[0], self.parameters[2]
        a.grad, b.grad = b.grad, a.grad
        g = self.gradients
        g[0], g[2] = g[2], g[0]

    @rule()
    def hand_a_gradient_over(self):
        a, b = self.parameters[0], self.parameters[2]
        b.grad, a.grad = a.grad, None
        self.gradients[2], self.gradients[0] = self.gradients[0], None

    @rule(i=places, seed=seeds)
    def assign_a_gradient(self, i, seed):
        g = self.coefficients(seed)[i]
        self.parameters[i].grad = g
        self.gradients[i] = g.copy()
        g[...] = np.nan

    @rule(i=places, seed=seeds)
    def assign_values(self, i, seed):
        self.values[i] = self.coefficients(seed)[i]
        self.parameters[i].data = self.values[i]
        if self.graph is not None and i in self.used:
            self.refuse_the_graph()
        self.graph = None

    def refuse_the_graph(self):
        if self.graph is not None and self.graph.requires_grad:
            with pytest.raises(RuntimeError, match="was changed after"):
                self.graph.backward()
        self.graph = None

    @precondition(lambda self: not self.frozen)
    @rule(kind=st.sampled_from(sorted(KINDS)))
    def make_another_optimizer(self, kind):
        self.old = self.optimizer
        self.make(kind)

    @precondition(lambda self: self.old is not None)
    @rule()
    def step_of_the_old_one(self):
        with pytest.raises(RuntimeError, match="must belong to one optimizer"):
            self.old.step()

    @rule()
    def load_own_state(self):
        state = self.optimizer.state_dict()
        self.optimizer.load_state_dict(state)
        for name, value in state.items():
            if name != "lr":
                value[...] = 77

    @rule()
    def refuse_a_wrong_state(self):
        state = self.optimizer.state_dict()
        name = next(name for name in state if name != "lr")
        state = {key: value * 0 + 5 for key, value in state.items()}
        with pytest.raises(ValueError, match="Nothing was loaded"):
            self.optimizer.load_state_dict(state | {name: np.zeros(99)})

    @precondition(lambda self: not self.frozen)
    @rule()
    def resume_in_a_new_optimizer(self):
        state, plain = self.optimizer.state_dict(), self.plain
        self.make(self.kind)
        self.optimizer.load_state_dict(state)
        self.plain = plain

    @rule(by_pickle=st.booleans())
    def go_on_with_a_copy(self, by_pickle):
        everything = self.parameters, self.optimizer
        if by_pickle:  # A recorded graph cannot be pickled.
            duplicate = (*pickle.loads(pickle.dumps(everything)), None)
        else:
            duplicate = copy.deepcopy((*everything, self.graph))
        for p in self.parameters:
            p.data = np.full(p.shape, np.nan)
            p.grad = None
        self.parameters, self.optimizer, self.graph = duplicate
        self.old = None

    @invariant()
    def values_and_gradients_are_those_of_the_model(self):
        for i, p in enumerate(self.parameters):
            np.testing.assert_allclose(p.data, self.values[i], rtol=1e-9, atol=1e-12)
            if self.gradients[i] is None:
                assert p.grad is None
            else:
                np.testing.assert_allclose(p.grad, self.gradients[i], rtol=1e-12)

    @invariant()
    def no_two_parameters_share_memory(self):
        arrays = [p.data for p in self.parameters]
        arrays += [p.grad for p in self.parameters if p.grad is not None]
        for i, a in enumerate(arrays):
            assert not any(np.shares_memory(a, b) for b in arrays[i + 1 :])


@pytest.mark.slow
class TestOptimizerHistory(OptimizerHistory.TestCase):
    settings = settings(REPRODUCIBLE, max_examples=150, stateful_step_count=30)


# --- Modules --------------------------------------------------------------------------

NAMES = ["a", "b", "c", "blocks"]


class Leaf(Module):
    """A module with one parameter, one buffer, and an activation that is no member."""

    def __init__(self, seed):
        self.weight = Tensor(np.full(2, float(seed)), requires_grad=True)
        self.count = np.array(seed)
        self.last = self.weight * 2

    def forward(self, x):
        self.last = x * self.weight
        return self.last


def members(value, name=""):
    """What a module should consist of: names and objects, from attributes alone."""
    if isinstance(value, Module):
        if name:
            yield name, value
        inner = vars(value).items()
    elif isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        recorded = isinstance(value, Tensor) and value.op is not None
        if isinstance(value, np.ndarray | Tensor) and not recorded:
            yield name, value
        return
    for key, item in inner:
        yield from members(item, f"{name}.{key}" if name else str(key))


class ModuleHistory(RuleBasedStateMachine):
    """Assigning, sharing, deleting, freezing, copying, saving and loading."""

    parts = Bundle("parts")

    @initialize(target=parts)
    def begin(self):
        self.module, self.saved = Module(), None
        first, second = Leaf(1), Leaf(2)
        return multiple(first, second, nn.Sequential(first, nn.ReLU(), second))

    @rule(target=parts, seed=seeds)
    def make_a_leaf(self, seed):
        return Leaf(seed)

    @rule(target=parts, first=parts, second=parts)
    def make_a_container(self, first, second):
        return nn.Sequential(first, second)

    @rule(target=parts, first=parts, second=parts)
    def make_lists(self, first, second):
        module = Module()
        module.inside = [first, {"x": second, "y": [first]}]
        return module

    @rule(name=st.sampled_from(NAMES), part=parts)
    def assign(self, name, part):
        setattr(self.module, name, part)

    @rule(name=st.sampled_from(NAMES), seed=seeds)
    def assign_a_tensor(self, name, seed):
        value = np.full(3, float(seed))
        setattr(self.module, name, Tensor(value, requires_grad=seed % 2 == 0))

    @rule(name=st.sampled_from(NAMES))
    def delete(self, name):
        vars(self.module).pop(name, None)

    @rule(part=parts)
    def use(self, part):
        for leaf in part.modules():
            if isinstance(leaf, Leaf) and leaf.weight.requires_grad:
                leaf.zero_grad()
                leaf(np.ones(2)).sum().backward()
                np.testing.assert_array_equal(leaf.weight.grad, np.ones(2))

    @rule(wanted=st.booleans())
    def freeze_or_unfreeze(self, wanted):
        for p in self.all_tensors():
            p.requires_grad = wanted

    def all_tensors(self):
        return [m for _, m in members(self.module) if isinstance(m, Tensor)]

    @rule()
    def save(self):
        self.saved = self.module, self.module.state_dict()

    @precondition(lambda self: self.saved is not None)
    @rule()
    def load(self):
        module, state = self.saved
        if {*state} != {*module.state_dict()} or any(
            value.shape != state[name].shape
            for name, value in module.state_dict().items()
        ):
            before = module.state_dict()
            with pytest.raises(ValueError, match="Nothing was loaded"):
                module.load_state_dict(state)
            np.testing.assert_equal(module.state_dict(), before)
        else:
            module.load_state_dict(state)

    @rule(add=st.integers(1, 3))
    def change_all_values(self, add):
        for p in {id(t): t for t in self.all_tensors()}.values():
            p.data = p.data + add

    @rule(target=parts, by_pickle=st.booleans())
    def copy_it_all(self, by_pickle):
        before, original = self.module.state_dict(), self.module
        for leaf in original.modules():
            if isinstance(leaf, Leaf) and by_pickle:
                leaf.last = None  # A recorded graph cannot be pickled.
        duplicate = (
            pickle.loads(pickle.dumps(original))
            if by_pickle
            else copy.deepcopy(original)
        )
        mine, its = dict(members(original)), dict(members(duplicate))
        assert [*mine] == [*its]
        for name, member in mine.items():
            # Members that were shared stay shared, but not between original and copy.
            shared = {n for n, other in mine.items() if other is member}
            assert shared == {n for n, other in its.items() if other is its[name]}
            assert member is not its[name]
        for tensor in {
            id(m): m for m in its.values() if isinstance(m, Tensor)
        }.values():
            tensor.data = tensor.data + 100
        np.testing.assert_equal(original.state_dict(), before)
        duplicate.load_state_dict(before)
        np.testing.assert_equal(duplicate.state_dict(), before)
        self.module = duplicate
        return multiple()

    @invariant()
    def its_members_are_found_by_name(self):
        expected = [*members(self.module)]
        tensors = {n: m for n, m in expected if not isinstance(m, Module)}
        assert [*self.module.state_dict()] == [*tensors]
        for name, value in self.module.state_dict().items():
            np.testing.assert_array_equal(value, np.asarray(tensors[name]))
        first = {}
        for name, member in expected:
            first.setdefault(id(member), (name, member))
            assert self.module.path_of(member) == first[id(member)][0]
        named = [
            (name, member)
            for name, member in first.values()
            if isinstance(member, Tensor) and member.requires_grad
        ]
        found = [*self.module.named_parameters()]
        assert [name for name, _ in found] == [name for name, _ in named]
        assert all(a is b for (_, a), (_, b) in zip(found, named, strict=True))
        modules = [m for _, m in first.values() if isinstance(m, Module)]
        for module, other in zip(self.module.modules(), [self.module, *modules]):
            assert module is other
        assert len([*self.module.modules()]) == len(modules) + 1


@pytest.mark.slow
class TestModuleHistory(ModuleHistory.TestCase):
    settings = settings(REPRODUCIBLE, max_examples=60, stateful_step_count=25)


# --- Checkpoints ----------------------------------------------------------------------

KILLED_AT_A_LINE = """
import os, signal, sys
import numpy as np
import tinygrad_bn as tg

path, epoch, left = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def trace(frame, event, argument):
    global left
    if frame.f_code.co_filename.endswith(("checkpoint.py", "zipfile.py", "pathlib.py")):
        left -= event == "line"
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace

sys.settrace(trace)
tg.save(path, epoch=epoch, weights=np.full(1000, float(epoch)))
"""


class CheckpointHistory(RuleBasedStateMachine):
    """Saving, dying while saving, damage, and loading."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "a.npz"
        self.possible, self.next = {None}, 1

    def teardown(self):
        self.folder.cleanup()

    @rule()
    def save(self):
        epoch, self.next = self.next, self.next + 1
        tg.save(self.path, epoch=epoch, weights=np.full(1000, float(epoch)))
        self.possible = {epoch}
        assert os.listdir(self.folder.name) == ["a.npz"]

    @rule(line=st.integers(0, 700))
    def die_while_saving(self, line):
        epoch, self.next = self.next, self.next + 1
        program = [sys.executable, "-c", KILLED_AT_A_LINE, self.path, f"{epoch}"]
        died = subprocess.run([*program, f"{line}"], check=False)
        if died.returncode == 0:
            self.possible = {epoch}
        else:
            assert died.returncode == -signal.SIGKILL
            self.possible.add(epoch)

    @rule()
    def lose_it(self):
        self.path.unlink(missing_ok=True)
        self.possible = {None}

    @invariant()
    def what_was_saved_can_be_loaded(self):
        try:
            state = tg.load(self.path)
        except FileNotFoundError:
            epoch = None
        else:
            epoch = state["epoch"]
            np.testing.assert_equal(state["weights"], np.full(1000, float(epoch)))
        assert epoch in self.possible
        self.possible = {epoch}
        # At most one unfinished file: each save removes the file of the one before it.
        assert len(os.listdir(self.folder.name)) <= 2


@pytest.mark.slow
class TestCheckpointHistory(CheckpointHistory.TestCase):
    settings = settings(REPRODUCIBLE, max_examples=8, stateful_step_count=8)
