"""Networks without batch norm, with batch norm, and with noise after batch norm.

The noise shifts and scales the output of batch norm, so that the inputs of the next
layer move from step to step. ``with_noise`` trains a sigmoid network of each kind, and
measures how well it learns and how far its inputs move.

Source: Santurkar et al., arXiv 1805.11604, section 2.1, appendix A.2.1.
"""

import numpy as np

from support.networks import accuracy, batches, glorot, perceptron
from tinygrad_bn import nn, optim

KINDS = {
    "without": lambda width, rng: [],
    "batch norm": lambda width, rng: [nn.BatchNorm(width)],
    "noisy batch norm": lambda width, rng: [nn.BatchNorm(width), Noise(rng)],
}


class Noise(nn.Module):
    """Shift and scale each sample at random, around centers that move in every step.

    Source: Santurkar et al., appendix A.2.1.
    """

    def __init__(self, rng):
        self.rng = rng

    def forward(self, a):
        if not self.training:
            return a
        mu = self.rng.uniform(-0.5, 0.5, a.shape[1])
        sigma = self.rng.uniform(1, 1.25, a.shape[1])
        shift = self.rng.uniform(mu - 0.1, mu + 0.1, a.shape)
        scale = self.rng.normal(sigma, 0.1, a.shape)
        return a * scale.astype(a.dtype) + shift.astype(a.dtype)


def network(data, depth, activation, kind, seed):
    """Hidden layers of 100 units with Glorot weights and a kind of normalization."""
    rng, noise = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    return perceptron(
        (data.train_x.shape[1], *[100] * depth, data.num_classes),
        lambda width: [*KINDS[kind](width, noise), activation()],
        rng,
        weights=glorot,
    )


def with_noise(data, kind, seed, steps):
    """The test accuracy of a sigmoid network, and how far its inputs move in a step.

    ``moved`` is the change of a unit's mean over the batch from one step to the next,
    averaged over each layer. ``in stds`` is the same in standard deviations of the
    unit.
    """
    model = network(data, 3, nn.Sigmoid, kind, seed)
    sgd = optim.SGD(model.parameters(), lr=0.5)
    rng, means, stds = np.random.default_rng(seed), [], []
    for h, y in batches(data, 128, steps, rng, f"{kind}, sigmoid"):
        inputs = []
        for module in model:
            if isinstance(module, nn.Sigmoid):
                inputs.append(h.data)
            h = module(h)
        means.append(np.mean(inputs, axis=1))
        stds.append(np.std(inputs, axis=1))
        sgd.zero_grad()
        nn.cross_entropy(h, y).backward()
        sgd.step()
    moved = np.abs(np.diff(means, axis=0))
    in_stds = (moved / stds[1:]).mean(axis=(0, 2))
    return {
        "accuracy": accuracy(model, data),
        "moved": moved.mean(axis=(0, 2)),
        "in stds": in_stds,
    }
