"""Optimizers: SGD, Adam and AdamW, each in a handful of NumPy calls.

Two schedules, ``cosine_lr`` and ``step_lr``, are functions of the step:
``optimizer.lr = optim.cosine_lr(step, steps, lr=0.1)``.

This file comes after ``optimizer.py`` and ``schedules.py`` in the reading order.

Left out on purpose: second-order methods, and averages of parameters.
"""

import math

import numpy as np

from .errors import describe
from .kernels import norm
from .optimizer import (
    Optimizer,
    Parameters,
    aligned_zeros,
    at_least_zero,
    names_and_tensors,
)
from .schedules import cosine_lr, step_lr
from .tensor import Tensor


class SGD(Optimizer):
    """Gradient descent: ``v = momentum * v + g``, ``p = p - lr * v``.

    With ``nesterov``, the step is ``lr * (g + momentum * v)`` instead: it applies the
    momentum of the next step in advance.

    lr >= 0, momentum in [0, 1], weight_decay >= 0 (added to the gradient as
    ``weight_decay * p``).

    Source: Sutskever et al., ICML 2013, section 2; here lr scales the whole step.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        momentum: float = 0,
        weight_decay: float = 0,
        *,
        nesterov: bool = False,
    ):
        if not 0 <= momentum <= 1:
            raise ValueError(
                f"SGD: momentum must be in [0, 1], but {momentum!r} was received."
            )
        if nesterov and not momentum:
            raise ValueError(
                "SGD: nesterov needs a momentum above 0, but 0 was received."
            )
        super().__init__(parameters, lr, weight_decay)
        self.momentum, self.nesterov = float(momentum), nesterov
        self.velocity = aligned_zeros(self.data.size, self.data.dtype)

    def _update(self, g: np.ndarray) -> None:
        step = g
        if self.momentum:
            self.velocity *= self.momentum
            self.velocity += g
            step = self.velocity
        if self.nesterov:
            step = g + self.momentum * self.velocity
        self.data -= self.lr * step

    def _state(self) -> dict[str, np.ndarray]:
        return {"velocity": self.velocity}


class Adam(Optimizer):
    """Steps of about lr, from exponential averages of the gradient and its square.

    ``m = beta1 m + (1 - beta1) g``, ``v = beta2 v + (1 - beta2) g^2``,
    ``p = p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)``.

    The state holds ``sum_g = m / (1 - beta1)`` and ``sum_gg = v / (1 - beta2)`` instead
    of m and v, which saves two multiplications per parameter. The state of float16
    parameters is in float32.

    lr >= 0, betas in [0, 1), eps >= 0, weight_decay >= 0 (added to the gradient).

    Source: Kingma & Ba, arXiv 1412.6980v9, Algorithm 1.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
    ):
        if np.shape(betas) != (2,) or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                f"{type(self).__name__}: betas must be two numbers in [0, 1), but "
                f"{betas!r} was received."
            )
        self.betas, self.eps = (
            tuple(map(float, betas)),
            at_least_zero(type(self).__name__, "eps", eps),
        )
        super().__init__(parameters, lr, weight_decay)
        # In float16, the square of 256 would overflow, and eps would be 0.
        dtype = np.promote_types(self.data.dtype, np.float32)
        self.sum_g, self.sum_gg = (
            aligned_zeros(self.data.size, dtype) for _ in range(2)
        )
        self.steps = np.zeros((), int)

    def _update(self, g: np.ndarray) -> None:
        self.steps += 1
        beta1, beta2 = self.betas
        t = int(self.steps)
        # With root^2 = c and sum_gg = s, this saves one multiplication per value:
        # sqrt(c s) + eps = (sqrt(s) + eps / sqrt(c)) sqrt(c).
        root = math.sqrt((1 - beta2) / (1 - beta2**t))
        lr, eps = self.lr * (1 - beta1) / (1 - beta1**t) / root, self.eps / root
        g = g.astype(self.sum_g.dtype, copy=False)
        self.sum_g *= beta1
        self.sum_g += g
        self.sum_gg *= beta2
        self.sum_gg += g * g
        step = np.sqrt(self.sum_gg)
        step += eps
        np.divide(self.sum_g, step, out=step)
        step *= lr
        self.data -= step

    def _state(self) -> dict[str, np.ndarray]:
        return {"sum_g": self.sum_g, "sum_gg": self.sum_gg, "steps": self.steps}


class AdamW(Adam):
    """Adam with decoupled weight decay: ``p = p - lr * weight_decay * p``, then Adam.

    The decay does not enter Adam's averages, so it shrinks all parameters at the same
    rate, whatever the size of their gradients.

    Source: Loshchilov & Hutter, arXiv 1711.05101v3, Algorithm 2; as in PyTorch, lr also
    scales the decay.
    """

    def __init__(
        self,
        parameters: Parameters,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(parameters, lr, betas, eps, weight_decay)

    def _decayed_gradient(self) -> np.ndarray:
        return self.grad

    def _update(self, g: np.ndarray) -> None:
        self.data *= 1 - self.lr * self.weight_decay
        super()._update(g)


def clip_grad_norm(parameters: Parameters, max_norm: float) -> float:
    """Scale the gradients so that their norm as one vector is at most ``max_norm``.

    Parameters without a gradient are ignored. Returns the norm before scaling.

    Raises: ``ValueError`` for a norm that is not finite, and a negative ``max_norm``.
    """
    at_least_zero("clip_grad_norm", "max_norm", max_norm)
    _, tensors = names_and_tensors("clip_grad_norm", parameters)
    for p in tensors:
        if not isinstance(p, Tensor):
            raise TypeError(
                f"clip_grad_norm: parameters must be tensors, but {describe(p)} was "
                "received. Pass module.parameters()."
            )
    gradients = [p.grad for p in dict.fromkeys(tensors) if p.grad is not None]
    total = norm(np.array([norm(g) for g in gradients]))
    if not math.isfinite(total):
        raise ValueError(
            f"clip_grad_norm: the gradients must be finite, but their norm is {total}. "
            "tg.find_nonfinite(loss) finds the source."
        )
    if total > max_norm:
        for g in gradients:
            g *= max_norm / total
    return total


__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Optimizer",
    "clip_grad_norm",
    "cosine_lr",
    "step_lr",
]


def __dir__() -> list[str]:
    """What completion offers: no imports."""
    return __all__
