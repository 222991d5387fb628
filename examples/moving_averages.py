"""Does batch norm train with moving averages of the mean and the variance?

    python examples/moving_averages.py
    python examples/moving_averages.py --mnist-dir FOLDER

No, though a popular answer says so. Training normalizes by the mini-batch's own mean
and variance, inside the graph; the averages are kept beside it, for inference and for
people who watch. Whoever trains with averages takes the statistics for constants, and
what ``bias_blow_up.py`` shows happens to them: biases grow, and the loss with them.

Let p be the weight of the new batch: ``momentum`` here and in PyTorch, while Keras's is
1 - p. The average starts at a_0; after k batches with the same statistic v it is

    a_k = v + (1 - p)^k (a_0 - v).

Over batches of N values with standard deviation sigma the weights are p (1 - p)^j, so
that the running mean varies by sqrt(p / (2 - p)) sigma / sqrt(N).

In a frozen network that sees the same batch again and again, evaluation comes close to
training but stays about 1 / (2N) away for each layer: the running variance is unbiased,
N / (N - 1) times that of the batch, and 1 - sqrt((N - 1) / N) is nearly 1 / (2N).

Not shown: that averages always fail. With p = 0.01 the network learns; it fails where
averages follow quickly and the gradient does not know it. Nor is 1 / (2N) exact for
deep layers, whose inputs are also off center in evaluation.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.1 and Algorithm 2; on averages in
training: Ioffe, Batch Renormalization, arXiv 1702.03275, section 2.
"""

from functools import partial

import networks
import numpy as np
from lab import add_image_options, images, late_loss, options, parse, save, seeds
from networks import linears, perceptron, scaled
from plots.moving_averages import plot, report

from tinygrad_bn import Tensor, batch_norm, nn, optim


class NormByAverages(nn.BatchNorm):
    """What the popular answer describes: averages in training, too."""

    def forward(self, x):
        if self.training:
            self.running.update(x.data.mean(axis=0), x.data.var(axis=0), len(x))
        return batch_norm(x, mean=self.running_mean, var=self.running_var)


WAYS = {
    "the batch's own": (nn.BatchNorm, 0.1),
    "averages, p = 0.1": (NormByAverages, 0.1),
    "averages, p = 0.01": (NormByAverages, 0.01),
}
OWN, FAST, _ = WAYS
WEIGHTS = (0.5, 0.2, 0.1, 0.05, 0.02)  # p
GAPS = [(8, 1), (32, 1), (128, 1), (32, 2), (32, 3)]  # batch size, layers


def same_batch(seed, p=0.1, updates=60):
    """Running mean and variance, batch by batch, with the closed form of each."""
    x = np.random.default_rng(seed).normal(3, 2, (16, 1))
    norm, path = nn.BatchNorm(1, momentum=p, dtype=float), []
    for _ in range(updates + 1):
        path.append((norm.running_mean.item(), norm.running_var.item()))
        norm(Tensor(x))
    a_0, v = np.array([[0], [1]]), np.array([[x.mean()], [x.var(ddof=1)]])
    theory = v + (1 - p) ** np.arange(updates + 1) * (a_0 - v)
    return {"measured": np.array(path).T, "theory": theory}


def spread(seed, p, n=16):
    """The standard deviation of the running mean over 1000 channels, sigma = 1."""
    rng = np.random.default_rng(seed)
    norm = nn.BatchNorm(1000, momentum=p, dtype=float)
    # After 10 / p batches, e^-10 of where the average began is left in it.
    for _ in range(round(10 / p)):
        norm(Tensor(rng.standard_normal((n, 1000))))
    return float(norm.running_mean.std())


def spread_theory(p, n=16):
    """The same in the limit of many channels."""
    return np.sqrt(p / (2 - p) / n)


def gap(seed, n, layers, updates=150):
    """How far evaluation is from training, relative, after each look at one batch."""
    rng = np.random.default_rng(seed)
    modules = []
    for _ in range(layers):
        modules.append(nn.Linear(50, 50, bias=False, rng=rng, dtype=float))
        modules += [nn.BatchNorm(50, affine=False, eps=0, dtype=float), nn.ReLU()]
    model = nn.Sequential(*modules[:-1])
    x = Tensor(rng.standard_normal((n, 50)))
    found = []
    for _ in range(updates):
        in_training = model.train()(x).data
        found.append(np.linalg.norm(model.eval()(x).data - in_training))
    return np.array(found) / np.linalg.norm(in_training)


def train(data, seed, way, steps):
    """The losses of a sigmoid network, and the length of its hidden biases."""
    rng = np.random.default_rng(seed)
    norm, p = WAYS[way]

    def between(width):
        return [norm(width, affine=False, momentum=p), nn.Sigmoid()]

    sizes = (data.train_x.shape[1], 100, 100, 100, data.num_classes)
    model = perceptron(sizes, between, rng, weights=partial(scaled, 1))
    sgd = optim.SGD(model.parameters(), lr=1)
    losses = networks.train(model, sgd, data, 128, steps, rng, way)
    biases = np.concatenate([layer.bias.data for layer in linears(model)[:-1]])
    return {"losses": np.array(losses), "b": float(np.linalg.norm(biases))}


def measure(seed, steps, data, quick=False):
    """The averages beside their theory, and training over three seeds, or one."""
    runs = {
        way: [train(data, s, way, steps) for s in seeds(seed, quick)] for way in WAYS
    }
    return {
        "same batch": same_batch(seed),
        "spread": {p: spread(seed, p) for p in WEIGHTS},
        "spread theory": {p: spread_theory(p) for p in WEIGHTS},
        "gap": {case: gap(seed, *case) for case in GAPS},
        "training": runs,
        "late losses": {
            way: [late_loss(run["losses"]) for run in found]
            for way, found in runs.items()
        },
    }


def main(arguments=None):
    parser = options(__doc__, steps=300, quick_steps=80)
    add_image_options(parser)
    given = parse(parser, arguments)
    measured = measure(given.seed, given.steps, images(given), given.quick)
    save(lambda theme: plot(measured, theme), given, "moving_averages")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
