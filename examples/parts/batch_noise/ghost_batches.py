"""Classifiers that are trained with ghost batches of several sizes.

Smaller groups have noisier statistics, while steps and batches stay the same. So the
classifiers differ only in the noise of batch norm. Evaluation mode ignores the groups.

Source: Hoffer, Hubara & Soudry, arXiv 1705.08741, Algorithm 1.
"""

import numpy as np

from support.ghost_batch_norm import GhostBatchNorm
from support.networks import accuracy, perceptron, train
from tinygrad_bn import nn, optim

IMAGES, BATCH = 1000, 128
OPTIMIZERS = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.001),
}


def test_error(data, steps, optimizer, group, seed):
    """The test error after training on a few images, which the seed selects."""
    rng = np.random.default_rng(seed)
    few = rng.choice(len(data.train_y), IMAGES, replace=False)
    few = data._replace(train_x=data.train_x[few], train_y=data.train_y[few])
    model = perceptron(
        (data.train_x.shape[1], 100, 100, data.num_classes),
        lambda width: (GhostBatchNorm(width, group), nn.ReLU()),
        rng,
        bias=False,
    )
    trainer = OPTIMIZERS[optimizer](model.parameters())
    train(model, trainer, few, BATCH, steps, rng, f"{optimizer}, groups of {group}")
    return 1 - accuracy(model, data)
