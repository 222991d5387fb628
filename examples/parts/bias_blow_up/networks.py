"""Networks whose backward pass treats statistics as constants.

The sigmoid network computes its statistics in each step, but leaves some of them out of
the gradient. The statistics of the ReLU network are frozen for several steps.
"""

import math
from functools import partial

import numpy as np

import tinygrad_bn as tg
from parts.bias_blow_up.growth import BETA, CONSTANTS, Path, train
from support.networks import linears, perceptron, scaled
from tinygrad_bn import Tensor, nn, optim

FROZEN, NO_NORM = "statistics frozen for 10 steps", "no normalization"
CHANCE = math.log(5)


class Network:
    """A perceptron and its task: to find the largest of the 5 columns of X A.

    ``norm`` holds the settings of batch norm before each activation, or None.
    """

    def __init__(self, seed, widths, activation, norm):
        rng = np.random.default_rng(1000 + seed)
        x, a = rng.standard_normal((512, 20)), rng.standard_normal((20, 5))
        self.x, self.labels = Tensor(x), (x @ a).argmax(axis=1)

        def between(width):
            if norm is not None:
                yield nn.BatchNorm(width, dtype=np.float64, **norm)
            yield activation()

        self.model = perceptron(
            [20, *widths, 5], between, np.random.default_rng(seed),
            weights=partial(scaled, 1), dtype=np.float64,
        )  # fmt: skip
        self.hidden = linears(self.model)[:-1]

    def loss(self):
        return nn.cross_entropy(self.model(self.x), self.labels)

    def train(self, optimizer, steps):
        weights, biases = zip(*((layer.weight, layer.bias) for layer in self.hidden))
        return train(self.loss, optimizer, weights, biases, steps)


def sigmoid_network(seed, case, lr, steps):
    """Three hidden layers of 50; ``case`` says which statistics are constants."""
    constants = ("mean",) if case == BETA else CONSTANTS[case]
    norm = {"affine": case == BETA, "constants": constants}
    network = Network(seed, [50] * 3, nn.Sigmoid, norm)
    return network.train(optim.SGD(network.model.parameters(), lr), steps)


def relu_network(seed, case, lr, steps):
    """Eight hidden layers of 50: full batch norm, frozen statistics, or no norm."""
    norm = None if case == NO_NORM else {"affine": False, "momentum": 1}
    network = Network(seed, [50] * 8, nn.ReLU, norm)
    optimizer = optim.SGD(network.model.parameters(), lr)
    if case != FROZEN:
        return network.train(optimizer, steps)
    paths = []
    for start in range(0, steps, 10):
        refresh_statistics(network)
        # The overflow is what this experiment shows, and no reason for a warning.
        with np.errstate(over="ignore", invalid="ignore"):
            paths.append(network.train(optimizer, min(10, steps - start)))
        if not math.isfinite(paths[-1].loss[-1]):
            break
    return Path(*map(np.concatenate, zip(*paths)))


def blew_up(path: Path) -> bool:
    """Whether the loss is not a finite number below 10, or weights grew tenfold."""
    return not path.loss[-1] < 10 or path.growth > 10


def refresh_statistics(network):
    """Run one forward pass in training mode, then freeze its statistics (eval mode)."""
    network.model.train()
    with tg.no_grad():
        network.loss()
    network.model.eval()


def largest_cosine(seed, case):
    """The largest |cosine| between a hidden unit's weights and their gradient.

    It is measured before training, with eps = 0.
    """
    norm = {"affine": False, "eps": 0, "constants": CONSTANTS[case]}
    network = Network(seed, [50] * 3, nn.Sigmoid, norm)
    weights, largest = [layer.weight for layer in network.hidden], 0
    for w, d_w in zip(weights, tg.grad(network.loss(), weights)):
        w, d_w = (v.data / np.linalg.norm(v.data, axis=0) for v in (w, d_w))
        largest = max(largest, np.abs((w * d_w).sum(axis=0)).max())
    return float(largest)
