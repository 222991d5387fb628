"""Optimizers: SGD and Adam, a handful of NumPy calls for any number of parameters.

==================  ====================================================================
flat array          one array that holds all parameters one after the other; each
                    ``parameter.data`` is a slice of it
gradient buffer     the slice of a second flat array that is ``parameter.grad``
attach              to move parameters into the flat arrays; a parameter belongs to the
                    last optimizer that attached it
lr                  the learning rate, which can be set at any time
==================  ====================================================================

``parameter.grad`` is a gradient buffer, which the next backward pass overwrites after
``zero_grad()``: copy it to keep it. A parameter that received no gradient since
``zero_grad()`` counts as one whose gradient is zero: momentum and weight decay still
move it (PyTorch skips it).

This file comes after ``nn.py`` in the reading order.

Left out on purpose: parameter groups, schedules (set ``lr``), gradient clipping, and
parameters of different dtypes in one optimizer.
"""

import math
from collections import Counter
from collections.abc import Iterable
from numbers import Real

import numpy as np

from .errors import describe
from .tape import clock
from .tensor import Tensor

# Values per block. In float32, five such arrays fit into a cache of 1 MB.
BLOCK = 32768


class Optimizer:
    """What all optimizers share: the flat buffers, their checks, and their state.

    Raises: ``ValueError`` for no parameters, one given twice, mixed dtypes, or a
    setting out of range; ``TypeError`` for anything but leaves that require a gradient.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float, weight_decay: float):
        if not isinstance(parameters, Iterable):
            raise TypeError(
                f"{type(self).__name__}: parameters must be a list of tensors, but "
                f"{type(parameters).__name__} was received. Pass module.parameters()."
            )
        self.parameters = list(parameters)
        self._check_parameters()
        self.lr = lr
        self.weight_decay = _at_least_zero("weight_decay", weight_decay)
        size = sum(p.size for p in self.parameters)
        self.data, self.grad = (
            np.zeros(size, self.parameters[0].dtype) for _ in range(2)
        )
        # A step goes through its arrays several times. Block by block, they stay in the
        # cache from one time to the next.
        self.blocks = [slice(i, i + BLOCK) for i in range(0, size, BLOCK)]
        self.scratch = np.empty_like(self.data[:BLOCK])
        self._attach()

    def _attach(self) -> None:
        ends = np.cumsum([p.size for p in self.parameters])[:-1]
        slices = np.split(self.data, ends), np.split(self.grad, ends)
        self._buffers = []
        for p, data, grad in zip(self.parameters, *slices):
            buffer = grad.reshape(p.shape)
            p.move_to(data.reshape(p.shape), buffer)
            self._buffers.append(buffer)

    def __setstate__(self, state: dict) -> None:
        """Attach the parameters again: the copy of a slice is no longer a slice."""
        vars(self).update(state)
        self._attach()

    @property
    def lr(self) -> float:
        """The learning rate, at least 0."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        self._lr = _at_least_zero("lr", value)

    def zero_grad(self) -> None:
        """Clear the gradients of all parameters."""
        for p in self.parameters:
            p.grad = None

    def step(self) -> None:
        """Update the parameters from their gradients.

        Raises: ``RuntimeError`` if another optimizer has attached one of them since.
        """
        self._gather()
        g = self.grad
        if self.weight_decay:
            # Not in place: the gradients are the user's, and may stay for another step.
            g = np.multiply(self.data, self.weight_decay, dtype=g.dtype)
            g += self.grad
        # First the timestamps: an interrupted update must not go unnoticed.
        now = clock.tick()
        for p in self.parameters:
            p.timestamp = now
        self._update(g)

    def _gather(self) -> None:
        """Make sure that the flat array contains all gradients, 0 for missing ones."""
        for p, buffer in zip(self.parameters, self._buffers):
            if p.grad is not buffer:
                if not p.uses_buffer(buffer):
                    raise RuntimeError(
                        f"{type(self).__name__}.step(): a parameter must belong to one "
                        f"optimizer, but {describe(p)} was attached to another one "
                        "since. Use the newer optimizer only, or make a new one."
                    )
                buffer[...] = 0 if p.grad is None else p.grad

    def _update(self, g: np.ndarray) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _update().")

    def _state(self) -> dict[str, np.ndarray]:
        """The arrays that a checkpoint must keep, by name."""
        raise NotImplementedError(f"{type(self).__name__} must define _state().")

    def state_dict(self) -> dict:
        """Copies of what accumulated over the steps, and the learning rate."""
        return {"lr": self.lr, **{name: a.copy() for name, a in self._state().items()}}

    def load_state_dict(self, state: dict) -> None:
        """Continue from the ``state_dict()`` of an optimizer for the same parameters.

        Raises: ``ValueError`` for entries that are missing, unexpected or misshapen;
        nothing is changed then.
        """
        here = self._state()
        shapes = {"lr": (), **{name: a.shape for name, a in here.items()}}
        received = {name: np.shape(value) for name, value in state.items()}
        if received != shapes:
            raise ValueError(
                f"{type(self).__name__}.load_state_dict: the entries and their shapes "
                f"must be {shapes}, but {received} was received. Nothing was loaded."
            )
        self.lr = float(state["lr"])
        for name, array in here.items():
            array[...] = state[name]

    def _check_parameters(self) -> None:
        if not self.parameters:
            raise ValueError(
                f"{type(self).__name__}: at least one parameter must be given, "
                "received none. Does the module hold its tensors as attributes, "
                "with requires_grad=True?"
            )
        for p in self.parameters:
            if not isinstance(p, Tensor) or not p.is_leaf or not p.requires_grad:
                raise TypeError(
                    f"{type(self).__name__}: parameters must be leaves that require a "
                    f"gradient, but {describe(p)} is not. Pass module.parameters()."
                )
        for p, times in Counter(self.parameters).items():
            if times > 1:
                raise ValueError(
                    f"{type(self).__name__}: each parameter must be given once, but "
                    f"{describe(p)} was given {times} times. Pass module.parameters()."
                )
        if len(dtypes := {p.dtype.name for p in self.parameters}) > 1:
            raise ValueError(
                f"{type(self).__name__}: all parameters must have one dtype, but "
                f"{sorted(dtypes)} were received. Use one optimizer for each."
            )


class SGD(Optimizer):
    """Gradient descent: ``v = momentum * v + g``, ``p = p - lr * v``.

    lr >= 0, momentum in [0, 1], weight_decay >= 0 (added to the gradient as
    ``weight_decay * p``).

    Source: Sutskever et al., ICML 2013, section 2; here lr scales the whole step.
    """

    def __init__(
        self, parameters, lr: float, momentum: float = 0, weight_decay: float = 0
    ):
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"SGD: momentum must be in [0, 1], but {momentum!r} was received."
            )
        super().__init__(parameters, lr, weight_decay)
        self.momentum = float(momentum)
        self.velocity = np.zeros_like(self.data)

    def _update(self, g):
        for block in self.blocks:
            p, v = self.data[block], g[block]
            if self.momentum:
                v = self.velocity[block]
                v *= self.momentum
                v += g[block]
            p -= np.multiply(v, self.lr, out=self.scratch[: p.size])

    def _state(self):
        return {"velocity": self.velocity}


class Adam(Optimizer):
    """Steps about as long as lr, from averages of the gradient and of its square.

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g^2``,
    ``p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)``.

    The state holds ``sum_g = m / (1 - beta1)`` and ``sum_gg = v / (1 - beta2)`` instead
    of m and v, which saves two multiplications per parameter.

    lr >= 0, betas in [0, 1), eps >= 0, weight_decay >= 0 (added to the gradient).

    Source: Kingma & Ba, arXiv 1412.6980v9, Algorithm 1.
    """

    def __init__(
        self,
        parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ):
        if np.shape(betas) != (2,) or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                "Adam: betas must be two numbers in [0, 1), but "
                f"{betas!r} was received."
            )
        self.betas, self.eps = tuple(map(float, betas)), _at_least_zero("eps", eps)
        super().__init__(parameters, lr, weight_decay)
        self.sum_g, self.sum_gg = np.zeros_like(self.data), np.zeros_like(self.data)
        self.steps = np.zeros((), int)

    def _update(self, g):
        self.steps += 1
        beta1, beta2 = self.betas
        t = int(self.steps)
        # sqrt(c s) + eps = (sqrt(s) + eps / sqrt(c)) sqrt(c) saves one multiplication.
        root = math.sqrt((1 - beta2) / (1 - beta2**t))
        lr, eps = self.lr * (1 - beta1) / (1 - beta1**t) / root, self.eps / root
        for block in self.blocks:
            p, d_p = self.data[block], g[block]
            sum_g, sum_gg = self.sum_g[block], self.sum_gg[block]
            scratch = self.scratch[: p.size]
            sum_g *= beta1
            sum_g += d_p
            sum_gg *= beta2
            sum_gg += np.multiply(d_p, d_p, out=scratch)
            np.sqrt(sum_gg, out=scratch)
            scratch += eps
            np.divide(sum_g, scratch, out=scratch)
            scratch *= lr
            p -= scratch

    def _state(self):
        return {"sum_g": self.sum_g, "sum_gg": self.sum_gg, "steps": self.steps}


def _at_least_zero(name: str, value: float) -> float:
    if not (isinstance(value, Real) and 0 <= value < math.inf):
        raise ValueError(
            f"{name} must be a finite number of at least 0, but {value!r} was received."
        )
    return float(value)
