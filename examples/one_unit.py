"""One linear unit before batch norm, and the three ways in which its b or w grow.

The docstring of bias_blow_up.py defines the unit, and derives where the three paths
must lead.
"""

import math
from functools import partial

import numpy as np
from growth import BETA, FULL, MEAN, Path, train

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim

TAU, C, LR = 2.0, 1.0, 0.05
MOMENTUM, ADAM, BALANCED = "momentum 0.9", "Adam", "two balanced classes"


class Unit:
    """x = u.w + b and its normalization; at first w = w*, b = 0 and beta = 0."""

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

    def train(self, optimizer, steps, **how):
        loss_now = partial(self.loss, **how)
        return train(loss_now, optimizer, [self.w], [self.b], steps)


def straight_line(seed, steps):
    """The paths of b where nothing else is trained, but beta in one case."""
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


def square_root(seed, steps):
    """The path of w and b with fresh statistics, both constant in backward."""
    unit = Unit(seed)
    optimizer = optim.SGD([unit.w, unit.b], LR)
    return unit.train(optimizer, steps, constants=("mean", "var"))


def exponential(seed, rounds=12, steps=40):
    """The path of w and b from round to round, and the loss at the end of each.

    The statistics are computed at the start of a round, and frozen in it.
    """
    unit, points = Unit(seed), []
    for _ in range(rounds):
        x = unit.x().data
        mean, var = x.mean(axis=0), x.var(axis=0)
        # The curvature of the loss is 1 / var: with this lr a step halves the error.
        optimizer = optim.SGD([unit.w, unit.b], lr=var.item() / 2)
        path = unit.train(optimizer, steps, mean=mean, var=var)
        points.append((path.w[0], path.b[0], path.loss[0], path.loss[-1]))
    *path, converged = np.array(points).T
    return Path(*path), converged
