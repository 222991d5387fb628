"""How far weights and biases grow in training, for each way to treat the statistics.

"Constant" is a statistic that the forward pass computes from the batch, but through
which backward sends no gradient.
"""

import math
from typing import NamedTuple

import numpy as np
from lab import late_loss

FULL, MEAN, VAR = "full batch norm", "E[x] constant", "Var[x] constant"
BOTH = "both constant"
WAYS = {FULL: (), MEAN: ("mean",), VAR: ("var",), BOTH: ("mean", "var")}
BETA = "E[x] constant, beta learns"


class Path(NamedTuple):
    """The length of all weights, that of all biases, and the loss, before each step."""

    w: np.ndarray
    b: np.ndarray
    loss: np.ndarray

    @property
    def late_loss(self) -> float:
        """The median over the last quarter of the steps, which spikes do not move."""
        return late_loss(self.loss)


def train(loss_now, optimizer, weights, biases, steps) -> Path:
    """Take the steps, or stop where the loss is no longer a number."""
    points = []
    for _ in range(steps):
        loss = loss_now()
        points.append((length(weights), length(biases), loss.item()))
        if not math.isfinite(loss.item()):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Path(*np.array(points).T)


def length(tensors) -> float:
    """The length of some tensors, all their entries taken as one vector."""
    return math.sqrt(sum((t.data**2).sum() for t in tensors))
