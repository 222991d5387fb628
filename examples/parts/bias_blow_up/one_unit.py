"""One linear unit before batch norm, and three laws by which its b or w grows.

The docstring of bias_blow_up.py defines the unit and derives the three laws; the
functions whose names end in ``theory`` compute them.
"""

import math
from functools import partial

import numpy as np

import tinygrad_bn as tg
from parts.bias_blow_up.growth import BETA, FULL, MEAN, Path, train
from tinygrad_bn import Tensor, nn, optim

# tau - 1 and c differ from 1 and from each other, so that a formula that misses one of
# these factors does not pass.
TAU, C, LR = 3.0, 2.0, 0.05
MOMENTUM, ADAM = "E[x] constant, momentum 0.9", "E[x] constant, Adam"
BALANCED = "E[x] constant, two balanced classes"


class Unit:
    """x = u.w + b and its normalization; initially w = w*, b = 0 and beta = 0."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        u, w = rng.standard_normal((64, 5)), rng.standard_normal((5, 1))
        self.u = np.linalg.qr(u - u.mean(axis=0))[0] * math.sqrt(64)
        self.w = Tensor(w / np.linalg.norm(w), requires_grad=True, name="w")
        self.b, self.beta = (Tensor([0.0], requires_grad=True, name=n) for n in "bβ")
        self.target = TAU * self.u @ self.w.data + C
        self.signs = np.where(self.target > np.median(self.target), 1.0, -1.0)

    def x(self):
        return self.u @ self.w + self.b

    def loss(self, classes=False, **statistics):
        """Half the mean squared error, or the cross-entropy of two balanced classes."""
        y = tg.batch_norm(self.x(), beta=self.beta, eps=0, **statistics)
        if classes:
            return tg.log(1 + tg.exp(-self.signs * y)).mean()
        return nn.mse_loss(y, self.target) / 2

    def train(self, optimizer, steps, **options):
        compute_loss = partial(self.loss, **options)
        return train(compute_loss, optimizer, [self.w], [self.b], steps)


def straight_line(seed, steps):
    """The paths of b when it is trained alone, or in one case together with beta."""
    paths = {}
    for case in (FULL, MEAN, BETA, MOMENTUM, ADAM, BALANCED):
        unit = Unit(seed)
        trained = [unit.b, unit.beta] if case == BETA else [unit.b]
        if case == ADAM:
            optimizer = optim.Adam(trained, LR)
        else:
            optimizer = optim.SGD(trained, LR, momentum=0.9 if case == MOMENTUM else 0)
        constants = () if case == FULL else ("mean",)
        paths[case] = unit.train(
            optimizer, steps, classes=case == BALANCED, constants=constants
        )
    return paths


def line_theory(k):
    """The values of b in ``straight_line`` after k steps, where there is a formula."""
    lag = 0.9 * (1 - 0.9**k) / (1 - 0.9)
    return {
        FULL: 0 * k,
        MEAN: LR * C * k,
        BETA: C * (1 - (1 - LR) ** k),
        MOMENTUM: LR * C * (k - lag) / (1 - 0.9),
        ADAM: LR * k,
    }


def square_root(seed, steps):
    """The path of w and b when both statistics are constant in the backward pass."""
    unit = Unit(seed)
    optimizer = optim.SGD([unit.w, unit.b], LR)
    return unit.train(optimizer, steps, constants=("mean", "var"))


def recursion_theory(steps):
    """The path of ``square_root``, exactly: a step adds lr (tau - 1) / |w| to |w|."""
    w = [1.0]
    for _ in range(steps - 1):
        w.append(w[-1] + LR * (TAU - 1) / w[-1])
    return _path_theory(np.array(w))


def square_root_theory(steps):
    """The path of ``square_root``, to leading order in lr (tau - 1)."""
    return _path_theory(np.sqrt(1 + 2 * LR * (TAU - 1) * np.arange(steps)))


# The largest relative error of the square-root law, to leading order.
SQUARE_ROOT_ERROR = LR * (TAU - 1) / (4 * math.e)


def exponential(seed, rounds=12, steps=40):
    """The path of w and b by round, and the loss at the end of each round.

    The statistics are computed at the start of a round, and constant during it.
    """
    unit, points = Unit(seed), []
    for _ in range(rounds):
        x = unit.x().data
        mean, var = x.mean(axis=0), x.var(axis=0)
        # The curvature of the loss is 1 / var, so a step with this lr halves the error.
        optimizer = optim.SGD([unit.w, unit.b], lr=var.item() / 2)
        path = unit.train(optimizer, steps, mean=mean, var=var)
        points.append((path.w[0], path.b[0], path.loss[0], path.loss[-1]))
    *path, converged = np.array(points).T
    return Path(*path), converged


def exponential_theory(rounds=12):
    """The path of ``exponential``."""
    return _path_theory(TAU ** np.arange(rounds))


def _path_theory(w):
    """The path with these |w|: both laws tie b to |w| and leave the loss constant."""
    loss = ((TAU - 1) ** 2 + C**2) / 2
    return Path(w, C * (w - 1) / (TAU - 1), np.full(len(w), loss))
