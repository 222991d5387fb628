"""Optimizer: the flat arrays that hold all parameters, checks, and the saved state.

    flat array        one array that holds all parameters one after the other; each
                      ``parameter.data`` is a slice of it
    gradient buffer   the slice of a second flat array that is ``parameter.grad``
    attach            to move parameters into the flat arrays; a parameter belongs to
                      the last optimizer that attached it
    lr                the learning rate, which can be set at any time

``parameter.grad`` is a gradient buffer, which the next backward pass overwrites after
``zero_grad()``: copy it to keep it. A parameter that received no gradient since
``zero_grad()`` is updated as if its gradient were zero: momentum and weight decay still
move it (PyTorch skips it).

An optimizer takes ``model.parameters()`` or ``model.named_parameters()``. When it loads
a checkpoint, it matches the state by name if it has names, and otherwise by position,
which depends on the order in which the layers were created.

This file comes after ``nn.py`` in the reading order; ``schedules.py`` is next.

Left out on purpose: parameter groups, and parameters of different dtypes in one
optimizer.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy as np

from .arguments import contains
from .clock import clock
from .errors import describe, with_shape
from .tensor import Tensor

Parameters = Iterable[Tensor] | Iterable[tuple[str, Tensor]]


class Optimizer:
    """What all optimizers share: the flat arrays, the checks, and the saved state.

    ``parameters``: tensors, or pairs of a name and a tensor.

    Raises: ``ValueError`` for no parameters, a parameter given twice, mixed dtypes, or
    a setting out of range; ``TypeError`` for anything but leaves that require a
    gradient, or if only some of them have names.
    """

    def __init__(self, parameters: Parameters, lr: float, weight_decay: float):
        self.names, self.parameters = names_and_tensors(type(self).__name__, parameters)
        self._check_parameters()
        self.lr = lr
        name = type(self).__name__
        self.weight_decay = at_least_zero(name, "weight_decay", weight_decay)
        size = sum(p.size for p in self.parameters)
        dtype = self.parameters[0].dtype
        self.data, self.grad = (aligned_zeros(size, dtype) for _ in range(2))
        self._attach()
        keep_freed_memory()

    def _attach(self) -> None:
        self._buffers = self._slices(self.grad)
        for p, data, grad in zip(
            self.parameters, self._slices(self.data), self._buffers
        ):
            p._move_to(data, grad)

    def _slices(self, flat: np.ndarray) -> list[np.ndarray]:
        """The part of a flat array that belongs to each parameter, in its shape."""
        ends = np.cumsum([p.size for p in self.parameters])[:-1]
        parts = np.split(flat, ends)
        return [part.reshape(p.shape) for p, part in zip(self.parameters, parts)]

    def __setstate__(self, state: dict) -> None:
        """Attach the parameters again, because the copy of a slice is not a slice."""
        vars(self).update(state)
        self._attach()

    def __repr__(self) -> str:
        names = "lr", "momentum", "nesterov", "betas", "eps", "weight_decay"
        settings = [f"{n}={getattr(self, n)}" for n in names if hasattr(self, n)]
        count = len(self.parameters)
        parts = [f"{count} parameter{'s' * (count != 1)}", *settings]
        return f"{type(self).__name__}({', '.join(parts)})"

    @property
    def lr(self) -> float:
        """The learning rate, at least 0."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = at_least_zero(type(self).__name__, "lr", value)

    def zero_grad(self) -> None:
        """Clear the gradients of all parameters."""
        for p in self.parameters:
            p._grad = None

    def step(self) -> None:
        """Update the parameters from their gradients.

        A parameter whose ``requires_grad`` has been set to False keeps its values and
        its state.

        Raises: ``RuntimeError`` if another optimizer has since attached one of them.
        """
        self._gather()
        g = self._decayed_gradient()
        # Timestamps change first, so that an interrupted update does not go unnoticed.
        now, frozen = clock.tick(), []
        for i, p in enumerate(self.parameters):
            if p._requires_grad:
                p.timestamp = now
            else:
                frozen.append(i)
        copies = self._copies(frozen) if frozen else []
        try:
            self._update(g)
        finally:
            for part, values in copies:
                part[...] = values

    def _copies(self, indices: list[int]) -> list[tuple[np.ndarray, np.ndarray]]:
        """The values and the state of some parameters, each with a copy."""
        flat = [a for a in self._state().values() if a.shape == self.data.shape]
        all_parts = map(self._slices, [self.data, *flat])
        return [(parts[i], parts[i].copy()) for parts in all_parts for i in indices]

    def _decayed_gradient(self) -> np.ndarray:
        """The gradient, with that of ``weight_decay * p^2 / 2`` added."""
        if not self.weight_decay:
            return self.grad
        # Not in place: the gradients belong to the user, who may use them again.
        g = np.multiply(self.data, self.weight_decay, dtype=self.grad.dtype)
        g += self.grad
        return g

    def _gather(self) -> None:
        """Copy gradients stored elsewhere into the flat array; missing ones are 0."""
        for p, buffer in zip(self.parameters, self._buffers):
            if p._grad is not buffer:
                if not p._uses_buffer(buffer):
                    raise RuntimeError(
                        f"{type(self).__name__}.step(): a parameter must belong to one "
                        f"optimizer, but {self._describe(p)} has since been attached "
                        "to another. Use only the newer optimizer, or make a new one."
                    )
                buffer[...] = 0 if p._grad is None else p._grad

    def _update(self, g: np.ndarray) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _update().")

    def _state(self) -> dict[str, np.ndarray]:
        """The arrays that a checkpoint must keep, by name."""
        raise NotImplementedError(f"{type(self).__name__} must define _state().")

    def _state_by_parameter(self) -> dict[str, Any]:
        """The state, with flat arrays as dictionaries of slices by parameter name."""
        names = self.names
        if names is None:
            return dict(self._state())
        return {
            key: dict(zip(names, self._slices(a))) if a.shape == self.data.shape else a
            for key, a in self._state().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Copies of the arrays that change with each step, and the learning rate.

        With names, each flat array becomes a dictionary by parameter name.
        """
        copies = {
            key: {name: part.copy() for name, part in value.items()}
            if isinstance(value, dict)
            else value.copy()
            for key, value in self._state_by_parameter().items()
        }
        return {"lr": self.lr, **copies}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from the ``state_dict()`` of an optimizer for the same parameters.

        Entries with names are matched by name, in any order, and others by position.

        Raises: ``ValueError`` for entries that are missing, unexpected, or of another
        shape or kind, and if only one of the state and the optimizer has names;
        ``TypeError`` for anything but a state of this engine. In these cases, nothing
        changes.
        """
        method = f"{type(self).__name__}.load_state_dict"
        if not isinstance(state, Mapping) or "param_groups" in state:
            raise TypeError(
                f"{method}: the state must be a dictionary that an optimizer of this "
                "engine made, such as optimizer.state_dict() or an entry of "
                f"tg.load(path), but {describe(state)} was received. The state of "
                "PyTorch's optimizers cannot be loaded."
            )
        state_has_names = any(isinstance(value, dict) for value in state.values())
        if state_has_names != (self.names is not None):
            source = "named_parameters()" if state_has_names else "parameters()"
            raise ValueError(
                f"{method}: the state and the optimizer must both have names, or "
                "neither, but only the "
                f"{'state' if state_has_names else 'optimizer'} has them. Make the "
                f"optimizer from module.{source}. Nothing was loaded."
            )
        here = {"lr": np.array(self.lr), **_flattened(self._state_by_parameter())}
        values = _flattened(state)
        if wrong := _differences(here, values):
            raise ValueError(
                f"{method}: the entries must be those of this optimizer. Nothing was "
                f"loaded. {'; '.join(wrong)}."
            )
        self.lr = np.asarray(values.pop("lr")).item()
        # The state may contain arrays of this optimizer, so it is copied as a whole.
        copies = {name: np.array(value) for name, value in values.items()}
        for name, value in copies.items():
            here[name][...] = value

    def _describe(self, p: Tensor) -> str:
        """A parameter as errors describe it, by the name it was given with, if any."""
        if self.names is None or not isinstance(p, Tensor):
            return describe(p)
        name = next(n for n, q in zip(self.names, self.parameters) if q is p)
        return with_shape(repr(name), p.shape)

    def _check_parameters(self) -> None:
        if not self.parameters:
            raise ValueError(
                f"{type(self).__name__}: at least one parameter must be given, "
                "but none was received. Does the module hold its tensors as "
                "attributes, with requires_grad=True?"
            )
        for p in self.parameters:
            if not isinstance(p, Tensor) or not p.is_leaf or not p.requires_grad:
                raise TypeError(
                    f"{type(self).__name__}: parameters must be leaves that require "
                    f"a gradient, but {self._describe(p)} is not. Pass "
                    "module.parameters()."
                )
        for p, times in Counter(self.parameters).items():
            if times > 1:
                raise ValueError(
                    f"{type(self).__name__}: each parameter must be given once, but "
                    f"{self._describe(p)} was given {times} times. Pass "
                    "module.parameters()."
                )
        for name, times in Counter(self.names or ()).items():
            if times > 1:
                raise ValueError(
                    f"{type(self).__name__}: each parameter must have its own name, "
                    f"but {times} are called {name!r}. Pass module.named_parameters()."
                )
        if len(dtypes := {p.dtype.name for p in self.parameters}) > 1:
            raise ValueError(
                f"{type(self).__name__}: all parameters must have one dtype, but "
                f"{sorted(dtypes)} were received. Use one optimizer for each."
            )


def aligned_zeros(size: int, dtype: np.dtype) -> np.ndarray:
    """A flat array of zeros that starts at a multiple of 64 bytes.

    A cache line has 64 bytes, and an array that starts elsewhere takes longer to read
    and write: with NumPy's own arrays, which start at multiples of 16 bytes, a step on
    the MNIST network of ``benchmarks`` takes 1.02 to 1.05 times as long.
    """
    size *= dtype.itemsize
    buffer = np.zeros(size + 64, np.uint8)
    address, _ = buffer.__array_interface__["data"]
    start = -address % 64
    return buffer[start : start + size].view(dtype)


def keep_freed_memory() -> None:
    """Let the C library keep the memory that one training step frees for the next.

    glibc gives it back to the system and maps it again in every step, until it has seen
    a larger block freed (mallopt(3), M_MMAP_THRESHOLD). On the MNIST network of
    ``benchmarks``, a step takes 1.2 times as long as the step written by hand; without
    this line, 1.8 to 2.0 times.
    """
    np.empty(2**25 - 2**16, np.uint8)


def names_and_tensors(
    function: str, parameters: Parameters
) -> tuple[list[str] | None, list[Tensor]]:
    """Separate the names, if there are any, from the tensors."""
    if not isinstance(parameters, Iterable) or isinstance(parameters, Tensor):
        raise TypeError(
            f"{function}: parameters must be a list of tensors, but "
            f"{type(parameters).__name__} was received. Pass module.parameters()."
        )
    given: list[Any] = list(parameters)
    pairs = [p for p in given if isinstance(p, tuple) and len(p) == 2]
    if not pairs:
        return None, given
    if len(pairs) < len(given) or not all(isinstance(name, str) for name, _ in pairs):
        raise TypeError(
            f"{function}: parameters must be all tensors, or all pairs of a name and a "
            f"tensor, but {len(pairs)} of {len(given)} are pairs. Pass "
            "module.parameters() or module.named_parameters()."
        )
    return [name for name, _ in pairs], [p for _, p in pairs]


def _flattened(state: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a state, with those of inner dictionaries as ``key[name]``."""
    flat: dict[str, Any] = {}
    for key, value in state.items():
        if isinstance(value, dict):
            flat |= {f"{key}[{name}]": part for name, part in value.items()}
        else:
            flat[key] = value
    return flat


def _differences(here: dict[str, np.ndarray], there: dict[str, Any]) -> list[str]:
    """The reasons why the entries of one state cannot replace those of another."""
    wrong = [f"missing: {name}" for name in here if name not in there]
    wrong += [f"unexpected: {name}" for name in there if name not in here]
    for name in here.keys() & there.keys():
        if contains(np.ma.MaskedArray, there[name]):
            wrong.append(f"{name}: expected an array without a mask")
            continue
        expected, received = here[name], np.asarray(there[name])
        fits = np.can_cast(received.dtype, expected.dtype, "same_kind")
        if received.shape != expected.shape or not fits or received.dtype == bool:
            wrong.append(
                f"{name}: expected {expected.shape} {expected.dtype}, "
                f"received {received.shape} {received.dtype}"
            )
        elif expected.dtype.kind == "i" and (received.astype(expected.dtype) < 0).any():
            wrong.append(
                f"{name}: expected a number of at least 0, received {received}"
            )
    return sorted(wrong)


def at_least_zero(function: str, name: str, value: float) -> float:
    if not (isinstance(value, Real) and 0 <= value < math.inf):
        raise ValueError(
            f"{function}: {name} must be a finite number of at least 0, but {value!r} "
            "was received."
        )
    return float(value)
