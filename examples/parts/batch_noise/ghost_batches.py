"""Classifiers that normalize groups of each batch separately: "ghost batches".

Smaller groups have noisier statistics, while steps and batches stay the same. So the
classifiers differ only in the noise of batch norm. Evaluation mode ignores the groups.

Source: Hoffer, Hubara & Soudry, arXiv 1705.08741, Algorithm 1.
"""

import numpy as np

from support.networks import accuracy, perceptron, train
from tinygrad_bn import fused_batch_norm, nn, optim

IMAGES, BATCH = 1000, 128
OPTIMIZERS = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.001),
}


class GhostBatchNorm(nn.BatchNorm):
    """Batch norm that in training gives each group of a batch its own statistics.

    The running statistics are those of whole batches, so that they favor no group size.

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
