"""Schedules: the learning rate as a function of the step, counted from 0.

A schedule has no state. Set the learning rate before each step, so that a resumed run
continues with the right one::

    for step in range(steps):
        optimizer.lr = optim.cosine_lr(step, steps, lr=0.1)
        ...
        optimizer.step()

This file comes after ``optimizer.py`` in the reading order; ``optim.py`` is next.

Left out on purpose: warm-up and restarts, which are arithmetic on ``step``.
"""

import math


def cosine_lr(step: float, steps: float, lr: float, final: float = 0) -> float:
    """Decay from ``lr`` to ``final`` over ``steps`` steps, along half a cosine wave.

    After that, the learning rate stays at ``final``.

    Raises: ``ValueError`` for a negative step, and for steps that are not positive.

    Source: Loshchilov & Hutter, arXiv 1608.03983, equation 5, without restarts.
    """
    _check("cosine_lr", step, "steps", steps)
    share = min(step / steps, 1)
    return final + (lr - final) * (1 + math.cos(math.pi * share)) / 2


def step_lr(step: float, every: float, lr: float, factor: float = 0.1) -> float:
    """Multiply ``lr`` by ``factor`` once every ``every`` steps.

    Raises: ``ValueError`` for a negative step, and for ``every`` that is not positive.
    """
    _check("step_lr", step, "every", every)
    return lr * factor ** (step // every)


def _check(function: str, step: float, name: str, value: float) -> None:
    if step < 0 or value <= 0:
        raise ValueError(
            f"{function}: step must be at least 0, and {name} above 0, but {step!r} "
            f"and {value!r} were received."
        )
