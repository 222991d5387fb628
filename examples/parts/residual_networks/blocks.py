"""A chain of blocks x + W relu(norm(x)); without skip connections, W relu(norm(x))."""

import numpy as np

from support.networks import scaled
from tinygrad_bn import Tensor, fused_batch_norm, relu
from tinygrad_bn.functional import layer_norm

NONE, BATCH, LAYER = "no norm", "batch norm", "layer norm"

NORM = {
    NONE: lambda x: x,
    BATCH: lambda x: fused_batch_norm(x, eps=0),
    LAYER: lambda x: layer_norm(x, eps=0),
}


class Blocks:
    """The weights of all blocks, from N(0, sigma^2 / width)."""

    def __init__(self, depth, width, norm, skip, sigma, rng):
        shape = (width, width)
        self.weights = [scaled(sigma, shape, rng, np.float64) for _ in range(depth)]
        self.norm, self.skip = NORM[norm], skip

    def __call__(self, x: Tensor) -> list[Tensor]:
        """The input and the output of each block."""
        xs = [x]
        for w in self.weights:
            branch = relu(self.norm(xs[-1])) @ w
            xs.append(xs[-1] + branch if self.skip else branch)
        return xs
