"""Why does batch norm scale and shift, by gamma and beta, what it has normalized?

    python examples/gamma_and_beta.py
    python examples/gamma_and_beta.py --quick --theme dark

Because normalization alone can limit what a layer represents, and gamma and beta remove
the limit: with gamma = sqrt(var + eps) and beta = mean, batch norm is the identity. The
sigmoid of values with mean 0 and variance 1 is nearly a straight line. If the values
are normal, 95% of them lie in [-2, 2], and a linear fit explains 98% of the variance
of the sigmoid (the script computes the exact share).

Here is a case in which this hurts, and by how much. Take one input, 8 sigmoid units
after batch norm, and a linear readout. Without gamma and beta, and with eps = 0,
BN(w x + b) is sign(w) x_hat for any w and b, and sigmoid(-x_hat) = 1 - sigmoid(x_hat).
So all the units together span only 1 and sigmoid(x_hat). The least-squares fit in this
span is a floor for the error, which training reaches but cannot pass. For an even
target the best fit is a constant, because sigmoid(x_hat) - 1/2 is odd: of |x|, x² and
the bump, the network learns the mean and nothing else.

Not shown: that networks with many inputs suffer as much. There, x_hat differs from unit
to unit, and much can be represented without gamma and beta. Nor does every seed reach
an equally small error with them: for sin 3x, 6 of 40 seeds ended above 0.002, and the
worst of all that were tried at 0.017.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.
"""

import math
from functools import partial
from statistics import NormalDist

import numpy as np

import tinygrad_bn as tg
from parts.gamma_and_beta.plots import plot, report
from support.command_line import experiment_options, parse, seeds
from support.measures import largest
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import Tensor, nn, optim

X = np.linspace(-2, 2, 129)[:, None]
TARGETS = {
    "|x|": np.abs(X),
    "x²": X**2,
    "bump": np.where(np.abs(X) < 0.5, 1.0, 0.0),
    "sin 3x": np.sin(3 * X),
}
# The normal distribution as 2001 values of equal probability.
NORMAL = np.array([NormalDist().inv_cdf((i + 0.5) / 2001) for i in range(2001)])
# Points and weights of Gauss-Hermite quadrature, for expectations over N(0, 1).
POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(100)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def identity_error(seed):
    """The error of batch norm as the identity, with the gamma and beta given above."""
    x = np.random.default_rng(seed).normal(3, 2, (64, 10))
    gamma, beta = np.sqrt(x.var(axis=0) + 1e-5), x.mean(axis=0)
    return largest(tg.batch_norm(x, gamma, beta, eps=1e-5).data - x)


def r_squared(std):
    """R² of a linear fit to sigmoid(z) for z ~ N(0, std^2)."""
    z = std * NORMAL
    return float(np.corrcoef(z, tg.sigmoid(z))[0, 1] ** 2)


def r_squared_theory(std):
    """The value of ``r_squared``: Cov[z, sigmoid(z)]^2 / (Var[z] Var[sigmoid(z)])."""
    y = tg.sigmoid(std * POINTS)
    covariance = WEIGHTS @ (POINTS * y)
    return float(covariance**2 / (WEIGHTS @ y**2 - (WEIGHTS @ y) ** 2))


def best_fit(target):
    """The least-squares fit by 1 and sigmoid(x_hat)."""
    x_hat = tg.batch_norm(X, eps=0).data
    basis = np.hstack([np.ones_like(X), tg.sigmoid(x_hat)])
    return basis @ np.linalg.lstsq(basis, target)[0]


def trained_fit(steps, name, affine, seed):
    """The output of the network after training, with gamma and beta or without."""
    rng = np.random.default_rng(seed)
    readout = nn.Linear(8, 1, rng=rng, dtype=np.float64)
    readout.weight.data = rng.uniform(-1, 1, (8, 1)) / math.sqrt(8)
    model = nn.Sequential(
        nn.Linear(1, 8, rng=rng, dtype=np.float64),
        nn.BatchNorm(8, affine=affine, eps=0, dtype=np.float64),
        nn.Sigmoid(),
        readout,
    )
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    x = Tensor(X)
    for _ in range(steps):
        loss = nn.mse_loss(model(x), TARGETS[name])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model(x).data


def mse(fit, target):
    """The mean squared error of a fit."""
    return float(((fit - target) ** 2).mean())


def measure(seed, steps, quick=False, jobs=1):
    """The identity, the linear fit to the sigmoid, and the fits of all targets."""
    which = seeds(seed, quick)
    best = {name: best_fit(target) for name, target in TARGETS.items()}
    cases = [(name, affine) for name in TARGETS for affine in (False, True)]
    runs = [(*case, s) for case in cases for s in which]
    found = in_parallel(partial(trained_fit, steps), runs, jobs, "training")
    fits = {case: [found[(*case, s)] for s in which] for case in cases}
    return {
        "identity": [identity_error(s) for s in which],
        "within 2": float((np.abs(NORMAL) < 2).mean()),
        "r squared": {std: r_squared(std) for std in (1, 4)},
        "r squared theory": {std: r_squared_theory(std) for std in (1, 4)},
        "line": np.polyfit(NORMAL, tg.sigmoid(NORMAL), 1),
        "x": X,
        "targets": TARGETS,
        "best": best,
        "floor": {name: mse(fit, TARGETS[name]) for name, fit in best.items()},
        "fits": fits,
        "losses": {
            (name, affine): [mse(fit, TARGETS[name]) for fit in found]
            for (name, affine), found in fits.items()
        },
    }


def main(arguments=None):
    parser = experiment_options(__doc__, steps=3000, quick_steps=200)
    add_jobs_option(parser)
    options = parse(parser, arguments)
    jobs = requested_jobs(options)
    measured = measure(options.seed, options.steps, options.quick, jobs)
    save(lambda theme: plot(measured, theme), options, "gamma_and_beta")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
