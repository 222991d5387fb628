"""Modules and losses: what a multilayer perceptron with batch norm is made of.

==================  ====================================================================
module              a function with parameters: ``module(x)`` calls ``forward``
parameter           a leaf that requires a gradient, held as an attribute of a module
state               what a checkpoint keeps: tensors, and arrays that are not trained
qualified name      attribute names from the outermost module inward, as in ``0.weight``
logits              one score per class; their softmax is a probability distribution
==================  ====================================================================

This file comes after ``batchnorm.py`` in the reading order.

Left out on purpose: convolutions, recurrence, dropout, hooks, devices, lazy shapes.
"""

import functools
import math
from collections.abc import Iterator

import numpy as np

from . import ops
from .batchnorm import (
    RunningStatistics,
    batch_norm,
    check_settings,
    fused_batch_norm,
)
from .ops import axes_of, dropped
from .tensor import Fused, Scope, Tensor, composite, describe, state

# --- Fused operations, each below its definition --------------------------------------


@composite
def linear(x, weight, bias=None) -> Tensor:
    """``x @ weight + bias``: the definition of the fused operation.

    Shapes: x (..., in_features), weight (in_features, out_features),
    bias (out_features,).
    """
    y = x @ weight
    return y if bias is None else y + bias


def _linear_forward(x, weight, bias):
    if not x.ndim or weight.ndim != 2:
        raise ValueError("x must have features, and weight be a matrix.")
    if bias is not None and bias.shape != weight.shape[1:]:
        raise ValueError("bias must have one value per column of weight.")
    # For two matrices, dot is matmul with half the overhead.
    y = x.dot(weight)
    return (y if bias is None else ops.add_row(y, bias)), None


def _linear_backward(g, saved, needs, out, x, weight, bias):
    d_x = g.dot(weight.T) if needs[0] else None
    if x.ndim != 2:
        x, g = x.reshape(-1, x.shape[-1]), g.reshape(-1, g.shape[-1])
    # dot writes into an array of the result's dtype only.
    d_weight = x.T.dot(g, out[1] if x.dtype == g.dtype else None) if needs[1] else None
    d_bias = ops.sum_of_rows(g, out[2]) if needs[2] else None
    return d_x, d_weight, d_bias


fused_linear = Fused(
    "linear",
    _linear_forward,
    _linear_backward,
    definition=linear,
    demands="x (..., in_features), weight (in_features, out_features) and bias "
    "(out_features,) must fit together.",
)


@composite
def softmax_cross_entropy(logits, labels) -> Tensor:
    """The mean of ``-log softmax(logits)[label]``: the fused operation's definition.

    Shapes: logits (N, C), labels (N,), integers in [0, C); the result is a scalar.
    """
    # The loss does not depend on what is subtracted, so it may be a constant.
    z = logits - logits.data.max(axis=1, keepdims=True)
    log_probabilities = z - ops.log(ops.exp(z).sum(axis=1, keepdims=True))
    return -log_probabilities[np.arange(len(z)), labels].mean()


def _softmax_cross_entropy_forward(logits, labels):
    # A row per class in memory too, so that NumPy's inner loops run over the batch.
    z = ops.as_floats(logits).T.copy()
    z -= np.maximum.reduce(z)
    places = _places_of_labels(labels, z.shape)
    of_label = z.reshape(-1)[places]
    probabilities = np.exp(z)
    total = ops.sum_of_rows(probabilities)
    probabilities /= total
    loss = ops.mean_of_rows(np.log(total) - of_label)
    return loss, (probabilities, places)


def _places_of_labels(labels, shape):
    """Where in an array (C, N), read row by row, each example's label stands."""
    try:
        return np.ravel_multi_index((labels, _column_numbers(shape[1])), shape)
    except ValueError:
        raise ValueError(
            f"labels must be in [0, {shape[0]}), one of the columns of the logits, "
            f"but they range from {labels.min()} to {labels.max()}"
        ) from None


_column_numbers = functools.lru_cache(maxsize=16)(np.arange)


def _softmax_cross_entropy_backward(g, saved, needs, out, logits, labels):
    probabilities, places = saved
    weight = g.item() / len(logits)
    d_logits = probabilities * weight
    d_logits.reshape(-1)[places] -= weight
    return d_logits.T, None


_fused_softmax_cross_entropy = Fused(
    "softmax_cross_entropy",
    _softmax_cross_entropy_forward,
    _softmax_cross_entropy_backward,
    definition=softmax_cross_entropy,
)

# --- Losses ---------------------------------------------------------------------------


def cross_entropy(logits, labels) -> Tensor:
    """The mean negative log likelihood of the labels under softmax of the logits.

    Shapes: logits (N, C), labels (N,), integers in [0, C); the result is a scalar.

    Raises: ``TypeError`` for labels that are not integers, ``ValueError`` for shapes
    that do not fit and labels out of range.
    """
    labels = labels if isinstance(labels, Tensor) else Tensor(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(
            "cross_entropy: labels must be integers, the index of the right class for "
            f"each row, but an array of {labels.dtype} was received. "
            "Convert with labels.astype(int)."
        )
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not labels.size:
        raise ValueError(
            "cross_entropy: logits (N, C) need labels (N,) with N > 0, but "
            f"{describe(logits)} and labels {labels.shape} were received."
        )
    return _fused_softmax_cross_entropy(logits, labels)


@composite
def mse_loss(prediction, target) -> Tensor:
    """The mean of the squared differences. Shapes: both alike; the result is a scalar.

    Raises: ``ValueError`` for shapes that differ (broadcasting would hide a mistake).
    """
    if np.shape(prediction) != np.shape(target):
        raise ValueError(
            "mse_loss: prediction and target must have the same shape, but "
            f"{describe(prediction)} and {np.shape(target)} were received. "
            "Reshape one of them."
        )
    return ((prediction - target) ** 2).mean()


# --- Initialization -------------------------------------------------------------------


def kaiming_normal(shape, rng: np.random.Generator, dtype=np.float32) -> np.ndarray:
    """Weights (fan_in, fan_out) of variance 2 / fan_in: keeps the scale through ReLU.

    Source: He et al., arXiv 1502.01852, section 2.2, equation 10.
    """
    return (rng.standard_normal(shape) * math.sqrt(2 / shape[0])).astype(dtype)


def kaiming_uniform(shape, rng: np.random.Generator, dtype=np.float32) -> np.ndarray:
    """Weights (fan_in, fan_out) of variance 2 / fan_in, uniform.

    Source: He et al., arXiv 1502.01852, section 2.2, equation 10.
    """
    return (rng.uniform(-1, 1, shape) * math.sqrt(6 / shape[0])).astype(dtype)


def xavier_normal(shape, rng: np.random.Generator, dtype=np.float32) -> np.ndarray:
    """Weights (fan_in, fan_out), variance 2 / (fan_in + fan_out): for tanh and sigmoid.

    Source: Glorot & Bengio, AISTATS 2010, section 4.2.1, equation 12.
    """
    return (rng.standard_normal(shape) * math.sqrt(2 / sum(shape))).astype(dtype)


def xavier_uniform(shape, rng: np.random.Generator, dtype=np.float32) -> np.ndarray:
    """Weights (fan_in, fan_out) of variance 2 / (fan_in + fan_out), uniform.

    Source: Glorot & Bengio, AISTATS 2010, section 4.2.1, equation 16.
    """
    return (rng.uniform(-1, 1, shape) * math.sqrt(6 / sum(shape))).astype(dtype)


# --- Modules --------------------------------------------------------------------------


class Module:
    """A function with parameters. Subclasses assign attributes and write ``forward``.

    The parameters are the leaves among the attributes that require a gradient, in the
    order of their assignment, those of modules inside (also in lists and tuples)
    included. Each is named by its place: ``0.weight``.
    """

    training = True
    path = ""

    def forward(self, *inputs):
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    def __call__(self, *inputs):
        scopes = state.scopes
        scopes.append(Scope(self.path, self, scopes[-1]))
        try:
            return self.forward(*inputs)
        finally:
            scopes.pop()

    def __setattr__(self, name: str, value) -> None:
        object.__setattr__(self, name, value)
        if isinstance(value, Tensor | Module | list | tuple):
            self._name_members()

    def _name_members(self) -> None:
        for name, member in self._members():
            path = f"{self.path}.{name}" if self.path else name
            if isinstance(member, Tensor):
                member.name = path
            else:
                object.__setattr__(member, "path", path)
                member._name_members()

    def _members(self) -> Iterator[tuple[str, "Tensor | Module"]]:
        """The leaves and modules among the attributes."""
        for name, value in vars(self).items():
            values = [(name, value)]
            if isinstance(value, list | tuple):
                values = [(f"{name}.{i}", v) for i, v in enumerate(value)]
            for place, v in values:
                if isinstance(v, Module) or isinstance(v, Tensor) and v.is_leaf:
                    yield place, v

    def modules(self) -> Iterator["Module"]:
        """This module and all those inside, outermost first."""
        yield self
        for _, member in self._members():
            if isinstance(member, Module):
                yield from member.modules()

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Each parameter once, with its qualified name as seen from here."""
        seen = set()
        for name, tensor in self._named_tensors():
            if tensor.requires_grad and tensor not in seen:
                seen.add(tensor)
                yield name, tensor

    def _named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, member in self._members():
            if isinstance(member, Tensor):
                yield name, member
            else:
                yield from ((f"{name}.{n}", t) for n, t in member._named_tensors())

    def parameters(self) -> list[Tensor]:
        """The parameters, each once, in the order of assignment."""
        return [tensor for _, tensor in self.named_parameters()]

    def zero_grad(self) -> None:
        """Forget the gradients of all parameters."""
        for tensor in self.parameters():
            tensor.grad = None

    def train(self, mode: bool = True) -> "Module":
        """Training mode, here and in all modules inside: batch norm uses its batch."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self) -> "Module":
        """Evaluation mode: batch norm uses its running statistics."""
        return self.train(False)

    def _state(self) -> Iterator[tuple[str, Tensor | np.ndarray]]:
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                yield name, value
        for name, member in self._members():
            if isinstance(member, Tensor):
                yield name, member
            else:
                yield from ((f"{name}.{n}", value) for n, value in member._state())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all tensors and arrays of this module, by qualified name."""
        return {name: np.array(value) for name, value in self._state()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Copy ``state`` into the tensors and arrays that are there.

        Raises: ``ValueError`` for entries that are missing, unexpected, or of another
        shape or dtype; it lists them all, and nothing is changed.
        """
        here = dict(self._state())
        wrong = [f"missing: {name}" for name in here if name not in state]
        wrong += [f"unexpected: {name}" for name in state if name not in here]
        for name in here.keys() & state.keys():
            have, got = here[name], np.asarray(state[name])
            if got.shape != have.shape or got.dtype != have.dtype:
                wrong.append(
                    f"{name}: expected {have.shape} {have.dtype}, "
                    f"received {got.shape} {got.dtype}"
                )
        if wrong:
            raise ValueError(
                "load_state_dict: the entries must be those of this "
                f"{type(self).__name__}. Nothing was loaded. "
                f"{'; '.join(sorted(wrong))}."
            )
        for name, value in here.items():
            value[...] = state[name]

    def __repr__(self) -> str:
        inside = [
            f"  {name}: " + repr(m).replace("\n", "\n  ")
            for name, m in self._members()
            if isinstance(m, Module)
        ]
        body = "\n".join(["", *inside, ""]) if inside else self.extra_repr()
        return f"{type(self).__name__}({body})"

    def extra_repr(self) -> str:
        """What ``repr`` and pictures say of this module between its parentheses."""
        return ""

    def _called(self) -> str:
        """What an error calls this module."""
        return (
            f"{type(self).__name__} {self.path!r}" if self.path else type(self).__name__
        )


class Linear(Module):
    """``x @ weight + bias``, with Kaiming normal weights and a bias of zeros.

    Shapes: x (..., in_features) -> (..., out_features); ``weight`` (in_features,
    out_features), transposed beside PyTorch's; ``bias`` (out_features,) or None.
    ``rng`` is the generator of the weights; without one they differ from run to run.

    Raises: ``ValueError`` for sizes that are not positive, and for x of another size.
    """

    def __init__(
        self, in_features, out_features, bias=True, *, rng=None, dtype=np.float32
    ):
        if in_features < 1 or out_features < 1:
            raise ValueError(
                "Linear: in_features and out_features must be at least 1, but "
                f"{in_features} and {out_features} were received."
            )
        rng = np.random.default_rng() if rng is None else rng
        weight = kaiming_normal((in_features, out_features), rng, dtype)
        self.weight = Tensor(weight, requires_grad=True)
        self.bias = (
            Tensor(np.zeros(out_features, dtype), requires_grad=True) if bias else None
        )

    def forward(self, x):
        x = x if isinstance(x, Tensor) else Tensor(x)
        try:
            return fused_linear(x, self.weight, self.bias)
        except ValueError:
            features = len(self.weight)
            if x.shape[-1:] == (features,):
                raise
            raise ValueError(
                f"{self._called()}: the last axis must have {features} features, but "
                f"{describe(x)} was received. Check the layer before it."
            ) from None

    def extra_repr(self) -> str:
        fan_in, fan_out = self.weight.shape
        return f"{fan_in} → {fan_out}" + (
            "" if self.bias is not None else ", bias=False"
        )


class BatchNorm(Module):
    """Batch normalization with running statistics for evaluation mode.

    ``axes`` are averaged over, (0,) for x (N, C) and (0, 2, 3) for x (N, C, H, W).
    ``momentum`` in [0, 1] is the weight of the *new* batch in the running statistics,
    None their plain average. Training normalizes by the batch's own variance, which
    divides by m; the running variance is m / (m - 1) times that. ``fused`` chooses
    between the two definitions; ``constants``, ``("mean",)``, ``("var",)`` or both, are
    the statistics that backward mistakes for constants, for which the graph of
    primitives is run.

    ``gamma`` starts at 1 and ``beta`` at 0, both (C,), None unless ``affine``;
    ``running_mean`` and ``running_var`` are NumPy arrays (C,).

    Raises: ``ValueError`` for the wrong number of features, one value per channel in
    training, momentum outside [0, 1], eps < 0.

    Source: Ioffe & Szegedy, arXiv 1502.03167v3, Algorithms 1 and 2.
    """

    def __init__(
        self,
        num_features: int,
        axes: tuple[int, ...] = (0,),
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        fused: bool = True,
        constants: tuple[str, ...] = (),
        dtype=np.float32,
    ):
        check_settings("BatchNorm", eps, constants)
        if num_features < 1:
            raise ValueError(
                f"BatchNorm: num_features must be at least 1, but {num_features!r} was "
                "received."
            )
        self.num_features, self.axes, self.eps = num_features, axes, eps
        self.constants, self.fused = constants, fused
        self.gamma = (
            Tensor(np.ones(num_features, dtype), requires_grad=True) if affine else None
        )
        self.beta = (
            Tensor(np.zeros(num_features, dtype), requires_grad=True)
            if affine
            else None
        )
        self.running = RunningStatistics(num_features, momentum, dtype)

    @property
    def running_mean(self) -> np.ndarray:
        return self.running.mean

    @property
    def running_var(self) -> np.ndarray:
        return self.running.var

    def forward(self, x):
        self._check_features(x)
        settings = {"axes": self.axes, "eps": self.eps}
        if not self.training:
            statistics = {"mean": self.running_mean, "var": self.running_var}
            return batch_norm(x, self.gamma, self.beta, **settings, **statistics)
        settings["running"] = self.running
        if self.fused and not self.constants:
            return fused_batch_norm(x, self.gamma, self.beta, **settings)
        return batch_norm(
            x, self.gamma, self.beta, constants=self.constants, **settings
        )

    def _check_features(self, x):
        channels = dropped(x, axes_of(x, self.axes))
        if channels != (self.num_features,):
            raise ValueError(
                f"{self._called()}: {self.num_features} features must be left when "
                f"axes {self.axes} are averaged over, but {describe(x)} was received, "
                f"which leaves {tuple(channels)}. "
                "Check num_features, axes and the layer before it."
            )

    def _state(self):
        yield from super()._state()
        yield "running_mean", self.running.mean
        yield "running_var", self.running.var
        yield "updates", self.running.updates

    def extra_repr(self) -> str:
        return f"{self.num_features}"


class ReLU(Module):
    """``max(x, 0)``, elementwise."""

    def forward(self, x):
        return ops.relu(x)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``, elementwise."""

    def forward(self, x):
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, elementwise."""

    def forward(self, x):
        return ops.tanh(x)


class Sequential(Module):
    """Modules one after the other, named ``0``, ``1``, ...; indexed like a list."""

    def __init__(self, *modules: Module):
        for i, module in enumerate(modules):
            if not isinstance(module, Module):
                raise TypeError(
                    f"Sequential: modules must be given, but {i} is {module!r}. "
                    "Is it a class that was not called, or a function?"
                )
            setattr(self, str(i), module)

    def forward(self, x):
        for module in self:
            x = module(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return iter([v for v in vars(self).values() if isinstance(v, Module)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, i: int) -> Module:
        return list(self)[i]
