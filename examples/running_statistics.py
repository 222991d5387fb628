"""Does batch norm train with running statistics?

    python examples/running_statistics.py
    python examples/running_statistics.py --mnist-dir FOLDER

No, although a popular answer says that it does. Training normalizes by the mean and the
variance of the mini-batch itself, inside the graph. The running statistics (the paper's
"moving averages") are collected outside of the graph, for inference and for monitoring.
Training with them means treating the statistics as constants, as ``bias_blow_up.py``
does: biases move although they cannot change the loss. What this costs depends on the
learning rate. At lr 1, statistics that follow quickly make the loss grow. At lr 0.5 the
network learns, but less well than with those of the batch. At lr 0.1, statistics that
follow quickly are better than slow ones, which are out of date.

Let p be the weight of the new batch: ``momentum`` here and in PyTorch; in Keras,
momentum is 1 - p. The running statistic starts at a_0. After k batches with the same
statistic v it is

    a_k = v + (1 - p)^k (a_0 - v).

Over batches of N values with standard deviation sigma, the weights are p (1 - p)^j, so
that the running mean has standard deviation sqrt(p / (2 - p)) sigma / sqrt(N).

If a network does not train and sees the same batch again and again, its output in
evaluation mode approaches that in training mode, but a gap of about 1 / (2N) per layer
remains: the running variance is unbiased, N / (N - 1) times that of the batch. For a
single layer, the gap is exactly 1 - sqrt(1 - 1 / N). For k layers, k / (2N) is only the
leading order, since inputs of deep layers are not centered in evaluation mode, either.

The script compares these formulas with measurements, and trains the same network with
both kinds of statistics.

Not shown: that training with running statistics always fails. At low learning rates, it
works.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.1 and Algorithm 2; on training
with running statistics: Ioffe, Batch Renormalization, arXiv 1702.03275, section 2.
"""

import math
from functools import partial

import numpy as np

from parts.running_statistics.plots import plot, report
from support import networks
from support.command_line import (
    add_image_options,
    experiment_options,
    images,
    parse,
    seeds,
)
from support.networks import linears, perceptron, scaled
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import Tensor, batch_norm, nn, optim


class RunningNorm(nn.BatchNorm):
    """The popular answer put into practice: running statistics in training, too."""

    def forward(self, x):
        if self.training:
            self.running.update(x.data.mean(axis=0), x.data.var(axis=0), len(x))
        return batch_norm(x, mean=self.running_mean, var=self.running_var)


NORMS = {
    "batch statistics": (nn.BatchNorm, 0.1),
    "running statistics, p = 0.1": (RunningNorm, 0.1),
    "running statistics, p = 0.01": (RunningNorm, 0.01),
}
WEIGHTS = (0.5, 0.2, 0.1, 0.05, 0.02)  # p
RATES = (0.1, 0.5, 1.0)
GAPS = [(8, 1), (32, 1), (128, 1), (32, 2), (32, 3)]  # batch size, layers


def same_batch(seed, p=0.1, updates=60):
    """The running mean and variance after each update, with the theory of each."""
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
    # After 10 / p batches, the initial value has a weight of about e^-10.
    for _ in range(round(10 / p)):
        norm(Tensor(rng.standard_normal((n, 1000))))
    return float(norm.running_mean.std())


def spread_theory(p, n=16):
    """The value of ``spread`` for many channels."""
    return np.sqrt(p / (2 - p) / n)


def gap(seed, n, layers, updates=150):
    """The relative difference of evaluation and training, after each forward pass."""
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


def gap_theory(n, layers):
    """The last value of ``gap``: exact for one layer, leading order for more."""
    return 1 - math.sqrt(1 - 1 / n) if layers == 1 else layers / (2 * n)


def train(data, steps, case, lr, seed):
    """The losses of a sigmoid network, and the norm of its hidden biases at the end."""
    rng = np.random.default_rng(seed)
    norm, p = NORMS[case]

    def between(width):
        return [norm(width, affine=False, momentum=p), nn.Sigmoid()]

    sizes = (data.train_x.shape[1], 100, 100, 100, data.num_classes)
    model = perceptron(sizes, between, rng, weights=partial(scaled, 1))
    sgd = optim.SGD(model.parameters(), lr)
    losses = networks.train(model, sgd, data, 128, steps, rng, case)
    biases = np.concatenate([layer.bias.data for layer in linears(model)[:-1]])
    return {"losses": np.array(losses), "b": float(np.linalg.norm(biases))}


def measure(data, seed, steps, quick=False, jobs=1):
    """The running statistics, and training with them, over three seeds or one."""
    which, rates = seeds(seed, quick), RATES[-1:] if quick else RATES
    cases = [(case, lr, s) for case in NORMS for lr in rates for s in which]
    trained = in_parallel(partial(train, data, steps), cases, jobs, "training")
    return {
        "same batch": [same_batch(s) for s in which],
        "spread": {p: [spread(s, p) for s in which] for p in WEIGHTS},
        "spread theory": {p: spread_theory(p) for p in WEIGHTS},
        "gap": {case: [gap(s, *case) for s in which] for case in GAPS},
        "gap theory": {case: gap_theory(*case) for case in GAPS},
        "training": {
            (case, lr): [trained[case, lr, s] for s in which]
            for case in NORMS
            for lr in rates
        },
    }


def main(arguments=None):
    parser = experiment_options(__doc__, steps=300, quick_steps=80)
    add_image_options(parser)
    add_jobs_option(parser)
    options = parse(parser, arguments)
    data, jobs = images(options), requested_jobs(options)
    measured = measure(data, options.seed, options.steps, options.quick, jobs)
    save(lambda theme: plot(measured, theme), options, "running_statistics")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
