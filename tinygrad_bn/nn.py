"""Modules: what a multilayer perceptron with batch norm is made of.

==================  ====================================================================
module              a function with parameters: ``module(x)`` calls ``forward``
member              a leaf, a module or an array among the attributes of a module, also
                    inside lists, tuples and dictionaries. A tensor that was recorded,
                    such as an activation, is none
parameter           a member that requires a gradient
state               what a checkpoint contains: tensors, and arrays that are not trained
qualified name      attribute names from the outermost module inward, as in ``0.weight``
==================  ====================================================================

Nothing is registered. Names and parameters are found by a walk through the attributes
whenever somebody asks, so they always describe the module as it is.

This file comes after ``functional.py`` in the reading order.

Left out on purpose: convolutions, recurrent networks, hooks, devices, lazy shapes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from . import ops
from .axes import axes_of, shape_without
from .batchnorm import (
    RunningStatistics,
    as_tensor,
    batch_norm,
    check_settings,
    fused_batch_norm,
)
from .errors import describe
from .functional import cross_entropy, fused_linear, mse_loss
from .init import kaiming_normal
from .scopes import Scope, state
from .tensor import Tensor

Member = Any  # a Tensor, a Module or an array


class Module:
    """A function with parameters. Subclasses assign attributes and write ``forward``.

    The parameters are the tensors among the attributes that require a gradient, in the
    order of assignment, including those of inner modules and those in lists, tuples and
    dictionaries. Each is named by its place, as in ``0.weight`` or ``blocks.2.bias``.
    """

    training = True

    def forward(self, *inputs: Any, **params: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define forward().")

    def __call__(self, *inputs: Any, **params: Any) -> Any:
        scopes = state.scopes
        scopes.append(Scope(None, self, scopes[-1]))
        try:
            return self.forward(*inputs, **params)
        finally:
            scopes.pop()

    # --- Members ----------------------------------------------------------------------

    def _members(self) -> Iterator[tuple[str, Member]]:
        """The leaves, modules and arrays among the attributes, with their names."""
        for name, value in vars(self).items():
            yield from _members_in(name, value)

    def _walk(self, around: tuple = ()) -> Iterator[tuple[str, Member]]:
        """The members of this module and of all modules inside, outermost first."""
        around = (*around, self)
        for name, member in self._members():
            # A module that contains itself is not entered a second time.
            if isinstance(member, Module) and any(member is m for m in around):
                continue
            yield name, member
            if isinstance(member, Module):
                for inner_name, inner in member._walk(around):
                    yield f"{name}.{inner_name}", inner

    def path_of(self, member: "Tensor | Module") -> str | None:
        """The qualified name of a tensor or module inside this one, or None."""
        return next((name for name, m in self._walk() if m is member), None)

    def named_modules(self) -> Iterator[tuple[str, "Module"]]:
        """This module, with an empty name, and all those inside, each once."""
        found = {id(self)}
        yield "", self
        for name, member in self._walk():
            if isinstance(member, Module) and id(member) not in found:
                found.add(id(member))
                yield name, member

    def modules(self) -> Iterator["Module"]:
        """This module and all those inside, outermost first, each once."""
        return (module for _, module in self.named_modules())

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Each parameter once, with its qualified name as seen from this module."""
        found = set()
        for name, member in self._walk():
            if isinstance(member, Tensor) and member.requires_grad:
                if member not in found:
                    found.add(member)
                    yield name, member

    def parameters(self) -> list[Tensor]:
        """The parameters, each once, in the order of assignment."""
        return [tensor for _, tensor in self.named_parameters()]

    # --- Modes and gradients ----------------------------------------------------------

    def zero_grad(self) -> None:
        """Clear the gradients of all parameters."""
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

    # --- State ------------------------------------------------------------------------

    def _state(self) -> dict[str, Tensor | np.ndarray]:
        return {
            name: member
            for name, member in self._walk()
            if not isinstance(member, Module)
        }

    def state_dict(self) -> dict[str, np.ndarray]:
        """Copies of all tensors and arrays of this module, by qualified name."""
        return {name: np.array(value) for name, value in self._state().items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Copy ``state`` into the tensors and arrays of this module.

        Raises: ``ValueError`` for entries that are missing, unexpected, or of another
        shape or dtype; it lists them all, and nothing is changed.
        """
        here = self._state()
        wrong = [f"missing: {name}" for name in here if name not in state]
        wrong += [f"unexpected: {name}" for name in state if name not in here]
        for name in here.keys() & state.keys():
            expected, received = here[name], np.asarray(state[name])
            if (received.shape, received.dtype) != (expected.shape, expected.dtype):
                wrong.append(
                    f"{name}: expected {expected.shape} {expected.dtype}, "
                    f"received {received.shape} {received.dtype}"
                )
        if wrong:
            raise ValueError(
                "load_state_dict: the entries must be those of this "
                f"{type(self).__name__}. Nothing was loaded. "
                f"{'; '.join(sorted(wrong))}."
            )
        for name, value in here.items():
            value[...] = state[name]

    # --- Text -------------------------------------------------------------------------

    def __repr__(self) -> str:
        return self._text(())

    def _text(self, around: tuple) -> str:
        around = (*around, self)
        inside = [
            f"  {name}: " + m._text(around).replace("\n", "\n  ")
            for name, m in self._members()
            if isinstance(m, Module) and not any(m is outer for outer in around)
        ]
        body = "\n".join(["", *inside, ""]) if inside else self.extra_repr()
        return f"{type(self).__name__}({body})"

    def extra_repr(self) -> str:
        """What ``repr`` shows of this module between its parentheses."""
        return ""

    def caption(self) -> str:
        """What pictures show of this module below its name: its class and its sizes."""
        return f"{type(self).__name__} {self.extra_repr()}".strip()


def _members_in(name: str, value: Any) -> Iterator[tuple[str, Member]]:
    if isinstance(value, Tensor):
        if value.is_leaf:
            yield name, value
    elif isinstance(value, Module | np.ndarray):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _members_in(f"{name}.{key}", inner)
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            yield from _members_in(f"{name}.{i}", inner)


def _called(module: Module) -> str:
    """What an error calls a module during its call: its class and qualified name."""
    scope = state.scopes[-1]
    name = scope.name if scope is not None and scope.owner is module else ""
    return f"{type(module).__name__} {name!r}" if name else type(module).__name__


# --- Layers ---------------------------------------------------------------------------


class Linear(Module):
    """``x @ weight + bias``, with Kaiming normal weights and a bias of zeros.

    Shapes: x (..., in_features) -> (..., out_features); ``weight`` (in_features,
    out_features), the transpose of PyTorch's; ``bias`` (out_features,) or None.
    ``rng`` is a generator of random numbers or a seed for the weights; without it they
    differ from run to run.

    Raises: ``ValueError`` for sizes that are not positive, and for x of another size.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: np.random.Generator | int | None = None,
        dtype: Any = np.float32,
    ):
        if in_features < 1 or out_features < 1:
            raise ValueError(
                "Linear: in_features and out_features must be at least 1, but "
                f"{in_features} and {out_features} were received."
            )
        weight = kaiming_normal((in_features, out_features), rng, dtype)
        self.weight = Tensor(weight, requires_grad=True)
        self.bias = (
            Tensor(np.zeros(out_features, dtype), requires_grad=True) if bias else None
        )

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        if x.shape[-1:] != self.weight.shape[:1]:
            raise ValueError(
                f"{_called(self)}: the last axis must have {len(self.weight)} "
                f"features, but {describe(x)} was received. Check the layer before it."
            )
        return fused_linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        fan_in, fan_out = self.weight.shape
        return f"{fan_in} → {fan_out}" + ("" if self.bias is not None else ", bias=False")


class BatchNorm(Module):
    """Batch normalization with running statistics for evaluation mode.

    ``axes`` are the axes averaged over, (0,) for x (N, C) and (0, 2, 3) for x
    (N, C, H, W). ``momentum`` in [0, 1] is the weight of the *new* batch in the running
    statistics; None weighs all batches equally. Training normalizes by the batch's own
    variance, which divides by m; the running variance is m / (m - 1) times that.
    ``fused`` chooses between the two definitions. ``constants``, ``("mean",)``,
    ``("var",)`` or both, are statistics that the backward pass wrongly treats as
    constants; the graph of primitives is then used.

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
        dtype: Any = np.float32,
    ):
        check_settings("BatchNorm", eps, constants)
        if num_features < 1:
            raise ValueError(
                f"BatchNorm: num_features must be at least 1, but {num_features!r} was "
                "received."
            )
        self.num_features, self.axes, self.eps = num_features, axes, eps
        self.constants, self.fused = constants, fused
        ones, zeros = np.ones(num_features, dtype), np.zeros(num_features, dtype)
        self.gamma = Tensor(ones, requires_grad=True) if affine else None
        self.beta = Tensor(zeros, requires_grad=True) if affine else None
        self.running = RunningStatistics(num_features, momentum, dtype)

    @property
    def running_mean(self) -> np.ndarray:
        return self.running.mean

    @property
    def running_var(self) -> np.ndarray:
        return self.running.var

    def forward(self, x: Any) -> Tensor:
        x = as_tensor(x)
        self._check_features(x)
        axes, eps = self.axes, self.eps
        if not self.training:
            mean, var = self.running_mean, self.running_var
            return batch_norm(
                x, self.gamma, self.beta, axes=axes, eps=eps, mean=mean, var=var
            )
        if self.fused and not self.constants:
            return fused_batch_norm(
                x, self.gamma, self.beta, axes=axes, eps=eps, running=self.running
            )
        return batch_norm(
            x, self.gamma, self.beta, axes=axes, eps=eps,
            constants=self.constants, running=self.running,
        )  # fmt: skip

    def _check_features(self, x: Tensor) -> None:
        channels = shape_without(x, axes_of(x, self.axes))
        if channels != (self.num_features,):
            raise ValueError(
                f"{_called(self)}: {self.num_features} features must be left when axes "
                f"{self.axes} are averaged over, but {describe(x)} was received, which "
                f"leaves {channels}. Check num_features, axes and the layer before it."
            )

    def _members(self) -> Iterator[tuple[str, Member]]:
        yield from super()._members()
        yield "running_mean", self.running.mean
        yield "running_var", self.running.var
        yield "updates", self.running.updates

    def extra_repr(self) -> str:
        shown = [f"{self.num_features}", f"eps={self.eps}"]
        shown.append(f"momentum={self.running.momentum}")
        if self.axes != (0,):
            shown.append(f"axes={self.axes}")
        if self.gamma is None:
            shown.append("affine=False")
        if not self.fused:
            shown.append("fused=False")
        if self.constants:
            shown.append(f"constants={self.constants}")
        return ", ".join(shown)

    def caption(self) -> str:
        return f"BatchNorm {self.num_features}"


class ReLU(Module):
    """``max(x, 0)``, elementwise."""

    def forward(self, x: Any) -> Any:
        return ops.relu(x)


class Sigmoid(Module):
    """``1 / (1 + exp(-x))``, elementwise."""

    def forward(self, x: Any) -> Any:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent, elementwise."""

    def forward(self, x: Any) -> Any:
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

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x

    def __iter__(self) -> Iterator[Module]:
        return iter([v for v in vars(self).values() if isinstance(v, Module)])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __getitem__(self, i: int) -> Any:
        return list(self)[i]


__all__ = [
    "BatchNorm",
    "Linear",
    "Module",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Tanh",
    "cross_entropy",
    "mse_loss",
]
