"""Classifiers whose batch norm sees only a part of each batch: a "ghost batch".

Smaller groups have noisier statistics, while steps and batches stay what they are: so
the noise of batch norm is all that differs. Evaluation mode knows no groups.

Source: Hoffer, Hubara & Soudry, arXiv 1705.08741, Algorithm 1.
"""

import numpy as np
from networks import accuracy, perceptron, train

from tinygrad_bn import fused_batch_norm, nn, optim

IMAGES, BATCH = 1000, 128
OPTIMIZERS = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.001),
}


class GhostBatchNorm(nn.BatchNorm):
    """Batch norm that trains on groups of a batch, each with its own statistics.

    The running statistics are those of whole batches, and so favor no size of group.

    Raises: ``ValueError`` in training if the rows do not split into groups.
    """

    def __init__(self, num_features, group):
        super().__init__(num_features)
        self.group = group

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        if len(x) % self.group:
            raise ValueError(
                f"GhostBatchNorm: a batch must split into groups of {self.group}, but "
                f"{len(x)} rows were received. Take a multiple of {self.group}."
            )
        self.running.update(x.data.mean(axis=0), x.data.var(axis=0), len(x))
        groups = x.reshape(-1, self.group, self.num_features)
        x_hat = fused_batch_norm(groups, axes=(1,), eps=self.eps).reshape(x.shape)
        return x_hat * self.gamma + self.beta


def test_error(data, group, optimizer, steps, seed):
    """The share of wrong answers after training on few images; the seed picks them."""
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
