"""Does batch norm keep the inputs of a sigmoid in place? The paper's first figure.

    python examples/covariate_shift.py --mnist-dir FOLDER
    python examples/covariate_shift.py

Yes. With it, the inputs of a hidden sigmoid vary from image to image as its gamma says,
from the first step to the last. Without it, what reaches the last hidden layer is the
same for all images, nearly; training stands still until it is not, and by then the
spread has grown many times over. Batch norm gains speed, far more than final accuracy.

Three hidden layers of 100 sigmoids, binary pixels, batches of 60, 5000 steps of SGD
(the paper: 50,000), weights N(0, 0.1^2) and lr 0.1 (the paper tells neither). Measured:
test accuracy, judged by running statistics; and the 15th, 50th and 85th percentile of
what enters each sigmoid of the last hidden layer, over 2000 training images (or all, if
there are fewer), normalized as in training, by their own statistics. While gamma is 1,
p85 - p15 is about that of N(0, 1), which is 2.07.

Without a folder of MNIST, the smaller digits of scikit-learn are used: other numbers,
and a longer plateau. --quick takes a tenth of the steps, each ten times as long.

What this does not show: that inputs in place are what makes a network fast (they are
not, says loss_landscape.py). Nor is one learning rate for both a fair race: with --lr 2
the network without batch norm leaves its plateau early.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 4.1 and Figure 1.
"""

from itertools import pairwise
from typing import NamedTuple

import networks
import numpy as np
from lab import add_image_options, images, options, parse, rate, save
from networks import accuracy, perceptron
from plots.covariate_shift import plot, report

from tinygrad_bn import Tensor, nn, no_grad, optim

BATCH, HIDDEN, STD = 60, (100, 100, 100), 0.1
PERCENTILES = (15, 50, 85)


class Run(NamedTuple):
    """One training: ``steps`` (T,) at which was measured, test ``accuracy`` (T,), and
    ``percentiles`` (T, 3, 100) of the input of each sigmoid in the last hidden layer.
    """

    steps: np.ndarray
    accuracy: np.ndarray
    percentiles: np.ndarray

    @property
    def spread(self) -> np.ndarray:
        """p85 - p15 of each unit, (T, 100)."""
        return self.percentiles[:, 2] - self.percentiles[:, 0]

    @property
    def growth(self) -> np.ndarray:
        """How many times larger the spread of each unit is at the end, (100,)."""
        return self.spread[-1] / self.spread[0]

    @property
    def wander(self) -> np.ndarray:
        """How far the median of each unit is at the end from where it began, (100,)."""
        return np.abs(self.percentiles[-1, 1] - self.percentiles[0, 1])


def binary(data):
    """The images with each pixel 0 or 1: dark or bright, whatever their scale."""
    middle = (data.train_x.min() + data.train_x.max()) / 2
    train_x, test_x = (
        (x > middle).astype(np.float32) for x in (data.train_x, data.test_x)
    )
    return data._replace(train_x=train_x, test_x=test_x)


def network(features, classes, bn, rng):
    """Linear, batch norm if asked for, sigmoid, three times, and a linear layer."""

    def between(width):
        return [nn.BatchNorm(width), nn.Sigmoid()] if bn else [nn.Sigmoid()]

    def weights(shape, rng, dtype):
        return (STD * rng.standard_normal(shape)).astype(dtype)

    sizes = (features, *HIDDEN, classes)
    return perceptron(sizes, between, rng, weights=weights, bias=not bn)


@no_grad()
def look(model, data):
    """The test accuracy, and the percentiles of what enters the last sigmoids."""
    before = model.state_dict()
    h = Tensor(data.train_x[:2000])
    for module in list(model)[:-2]:
        h = module(h)
    # What was only looked at must not become part of the running statistics.
    model.load_state_dict(before)
    return accuracy(model, data), np.percentile(h.data, PERCENTILES, axis=0)


def train(data, bn, seed, steps, lr):
    """Take steps of SGD, and look at the network about every hundredth of them."""
    rng = np.random.default_rng(seed)
    model = network(data.train_x.shape[1], data.num_classes, bn, rng)
    sgd = optim.SGD(model.parameters(), lr)
    every, seen = max(steps // 100, 20), []
    for begin, step in pairwise([0, *range(every, steps, every), steps]):
        what = f"batch norm: {bn}, to step {step} of {steps}"
        networks.train(model, sgd, data, BATCH, step - begin, rng, what)
        seen.append((step, *look(model, data)))
    return Run(*map(np.array, zip(*seen)))


def measure(data, seed, steps, lr=0.1):
    """The same training without batch norm and with it."""
    data = binary(data)
    return {
        "without": train(data, False, seed, steps, lr),
        "with": train(data, True, seed, steps, lr),
    }


def main(arguments=None):
    parser = options(__doc__, steps=5000, quick_steps=500)
    add_image_options(parser)
    parser.add_argument("--lr", type=rate, help="of SGD (default 0.1; --quick: 1)")
    given = parse(parser, arguments)
    if given.lr is None:
        given.lr = 1.0 if given.quick else 0.1
    data = images(given)
    if data.name != "mnist":
        print(f"data: {data.name}; the paper's figure is of MNIST: give --mnist-dir")
    measured = measure(data, given.seed, given.steps, given.lr)
    save(lambda theme: plot(measured, data.name, theme), given, "covariate_shift")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
