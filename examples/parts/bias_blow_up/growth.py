"""How far weights and biases grow in training when statistics are constants.

"Constant" means that the forward pass computes the statistic from the batch, but the
backward pass sends no gradient through it.
"""

import math
from typing import NamedTuple

import numpy as np

from support.measures import final_loss

FULL, MEAN, VAR = "full batch norm", "E[x] constant", "Var[x] constant"
BOTH = "E[x] and Var[x] constant"
CONSTANTS = {FULL: (), MEAN: ("mean",), VAR: ("var",), BOTH: ("mean", "var")}
BETA = "E[x] constant, beta learns"


class Path(NamedTuple):
    """The norm of all weights, the norm of all biases, and the loss, at each step."""

    w: np.ndarray
    b: np.ndarray
    loss: np.ndarray

    @property
    def final_loss(self) -> float:
        """The median loss of the last quarter of the steps."""
        return final_loss(self.loss)

    @property
    def growth(self) -> float:
        """The norm of the weights at the end, relative to the start."""
        return self.w[-1] / self.w[0]


def train(compute_loss, optimizer, weights, biases, steps) -> Path:
    """Take the steps, or stop when the loss is no longer a finite number."""
    points = []
    for _ in range(steps):
        loss = compute_loss()
        points.append((norm(weights), norm(biases), loss.item()))
        if not math.isfinite(loss.item()):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Path(*np.array(points).T)


def norm(tensors) -> float:
    """The norm of all entries of some tensors, taken as one vector."""
    return math.sqrt(sum((t.data**2).sum() for t in tensors))
