"""Does a bias before batch norm do anything? What does it cost to leave it out?

    python examples/bias_is_redundant.py
    python examples/bias_is_redundant.py --mnist-dir FOLDER

It does nothing, and leaving it out costs nothing: BN(W u + b) = BN(W u), because b
moves E[x] by the same amount. Two networks that start with the same weights, one with
any b and one without, stay equal throughout training, with any optimizer, up to
rounding errors. Hence b cannot cause overfitting, either. How far rounding errors
spread depends on the precision. In float64, parameters agree to 1e-9 after 200 steps.
In float32, losses agree to 1e-6 in most runs with SGD and momentum (19 of 24); in the
others, individual losses differ by up to 0.06. With Adam, which amplifies rounding
errors, they differ by about 0.1 to 0.2, in either direction (on MNIST; on the digits,
by much less).

The subtraction of the mean is the reason, with or without gamma and beta; beta takes
over the job of b.

A bias that learns nothing can still move. Its gradient is zero except for rounding
errors, and Adam divides a gradient by its own size. Rounding errors of 1e-9, as in
float32, matter compared with Adam's eps of 1e-8 and move b by up to lr in each step;
rounding errors of 1e-18, as in float64, do not. Whatever b becomes, batch norm removes
it again.

b learns wherever something other than the mean of its own batch is subtracted: with
running statistics, before a ReLU, with a skip connection around batch norm, or if
the average is over features, as in layer norm.

The script prints how far the two networks drift apart, how far a bias without gradient
moves, and how much gradient b receives in seven situations.

Not shown: evaluation mode, in which the drift may do harm, because the running mean
lags behind b; and biases elsewhere in a network.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.2.
"""

from functools import partial

import numpy as np

import tinygrad_bn as tg
from parts.bias_is_redundant.plots import plot, report
from support.command_line import (
    add_image_options,
    experiment_options,
    images,
    parse,
    seeds,
)
from support.measures import largest
from support.networks import batch_norm_and, linears, perceptron, training
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import Tensor, nn, optim

OPTIMIZERS = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.01),
}
DRIFTS = [("Adam", np.float32), ("Adam", np.float64), ("SGD", np.float32)]


def network(data, seed, bias=True, affine=True, dtype=np.float64):
    """Three hidden layers of 50; their weights are the same with and without b."""
    between = batch_norm_and(nn.ReLU, affine=affine, dtype=dtype)
    sizes = (data.train_x.shape[1], 50, 50, 50, 10)
    rng = np.random.default_rng(seed)
    return perceptron(sizes, between, rng, bias=bias, dtype=dtype)


def train(model, name, data, seed, steps):
    """The loss before each step, on batches of 64 that depend on the seed only."""
    optimizer, rng = OPTIMIZERS[name](model.parameters()), np.random.default_rng(seed)
    return training(model, optimizer, data, 64, steps, rng, name)


def with_and_without(data, steps, seed, optimizer, affine, dtype=np.float64):
    """The losses with b and without, and how much all other parameters differ."""
    models = [network(data, seed, bias, affine, dtype) for bias in (True, False)]
    runs = [train(model, optimizer, data, seed, steps) for model in models]
    with_b, without = (dict(model.named_parameters()) for model in models)
    rng = np.random.default_rng([seed, 1])
    for name in sorted(with_b.keys() - without.keys()):
        b = with_b[name]
        b.data = rng.standard_normal(b.shape).astype(b.dtype)
    losses, differences = [], []
    for both in zip(*runs):
        losses.append([loss.item() for loss in both])
        differences.append(
            max(largest(with_b[n].data - without[n].data) for n in without)
        )
    return {"losses": np.array(losses).T, "differences": np.array(differences)}


def drift(data, steps, seed, optimizer, dtype):
    """The largest entry of any hidden bias before each step; all biases start at 0."""
    model = network(data, seed, dtype=dtype)
    biases = [layer.bias for layer in linears(model)[:-1]]
    run = train(model, optimizer, data, seed, steps)
    return np.array([max(largest(b.data) for b in biases) for _ in run])


def gradient_left(seed):
    """|dL/db| relative to the sum of |dL/dx| over the batch, by what follows x = u + b.

    The gradient of b is the sum of dL/dx over the batch: the ratio is what cancellation
    leaves of it.
    """
    rng = np.random.default_rng(seed)
    u, g = rng.standard_normal((2, 64, 10))
    before = rng.standard_normal((64, 10))
    statistics = {"mean": before.mean(axis=0), "var": before.var(axis=0)}
    cases = {
        "batch norm": tg.batch_norm,
        "Var[x] constant": lambda x: tg.batch_norm(x, constants=("var",)),
        "E[x] constant": lambda x: tg.batch_norm(x, constants=("mean",)),
        "running statistics": lambda x: tg.batch_norm(x, **statistics),
        "ReLU, batch norm": lambda x: tg.batch_norm(tg.relu(x)),
        "skip connection": lambda x: x + tg.batch_norm(x),
        "layer norm": lambda x: tg.batch_norm(x, axes=(1,)),
    }
    found = {}
    for case, normalize in cases.items():
        b = Tensor(np.zeros(10), requires_grad=True)
        x = u + b
        d_b, d_x = tg.grad(normalize(x), [b, x], gradient=g)
        found[case] = float((np.abs(d_b.data) / np.abs(d_x.data).sum(axis=0)).max())
    return found


def measure(data, seed, steps, quick=False, jobs=1):
    """Everything that the tables and the picture show, over three seeds or one."""
    # A pixel that is blank in a whole batch acts as a bias: its weights learn nothing.
    varies = data.train_x.std(axis=0) > 0.3
    data = data._replace(train_x=data.train_x[:, varies])
    which = seeds(seed, quick)

    def over_seeds(function, cases):
        """``{case: results}`` of ``function(data, steps, seed, *case)``."""
        runs = [(s, *case) for case in cases for s in which]
        found = in_parallel(partial(function, data, steps), runs, jobs, "training")
        return {case: [found[(s, *case)] for s in which] for case in cases}

    pairs = over_seeds(
        with_and_without, [(o, a) for o in OPTIMIZERS for a in (True, False)]
    )
    float32 = over_seeds(with_and_without, [(o, True, np.float32) for o in OPTIMIZERS])
    drifts = over_seeds(drift, DRIFTS)
    return {
        "pairs": pairs,
        "float32 pairs": {optimizer: runs for (optimizer, *_), runs in float32.items()},
        "drifts": {(o, dtype.__name__): runs for (o, dtype), runs in drifts.items()},
        "gradient left": [gradient_left(s) for s in which],
    }


def main(arguments=None):
    parser = experiment_options(__doc__, steps=200, quick_steps=20)
    add_image_options(parser)
    add_jobs_option(parser)
    options = parse(parser, arguments)
    data, jobs = images(options, np.float64), requested_jobs(options)
    measured = measure(data, options.seed, options.steps, options.quick, jobs)
    save(lambda theme: plot(measured, theme), options, "bias_is_redundant")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
