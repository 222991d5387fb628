"""Why does batch norm scale and shift again, by gamma and beta, what it has normalized?

    python examples/gamma_and_beta.py
    python examples/gamma_and_beta.py --quick --theme dark

Because normalizing alone can take away what a layer is able to say, and gamma and beta
give it back: gamma = sqrt(var + eps) and beta = mean make batch norm the identity. The
sigmoid of values with mean 0 and variance 1 is nearly a straight line: where they are
normal, 95 % of them lie in [-2, 2], and a line explains 98.4 % of its variance.

Where it hurts, exactly. One input, 8 sigmoid units behind batch norm, a linear readout.
Without gamma and beta, and with eps = 0, BN(w x + b) is sign(w) x_hat for any w and b,
and sigmoid(-x_hat) = 1 - sigmoid(x_hat). So all units together span no more than 1 and
sigmoid(x_hat). The least squares fit in this span is a floor that training reaches and
never passes. For an even target it is a constant, because sigmoid(x_hat) - 1/2 is odd:
of |x|, x² and the bump the network learns the mean, and nothing else.

Not shown: that networks with many inputs suffer as much. There x_hat differs from unit
to unit, and much can be had without gamma and beta. Nor does every seed get far with
them: sin 3x may stay above 0.005 for thousands of steps.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.
"""

import math
from statistics import NormalDist

import numpy as np
from lab import options, parse, save, seeds
from plots.gamma_and_beta import plot, report
from tqdm import tqdm

import tinygrad_bn as tg
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


def identity_error(seed):
    """How far batch norm with the gamma and beta of the identity is from it."""
    x = np.random.default_rng(seed).normal(3, 2, (64, 10))
    gamma, beta = np.sqrt(x.var(axis=0) + 1e-5), x.mean(axis=0)
    return float(np.abs(tg.batch_norm(x, gamma, beta, eps=1e-5).data - x).max())


def straight_share(std):
    """The share of the variance of sigmoid(z) that a line explains, z ~ N(0, std^2)."""
    z = std * NORMAL
    return float(np.corrcoef(z, tg.sigmoid(z))[0, 1] ** 2)


def best_fit(target):
    """The least squares fit by 1 and sigmoid(x_hat)."""
    x_hat = tg.batch_norm(X, eps=0).data
    basis = np.hstack([np.ones_like(X), tg.sigmoid(x_hat)])
    return basis @ np.linalg.lstsq(basis, target)[0]


def trained_fit(target, affine, seed, steps):
    """What the network makes of X after training, with gamma and beta or without."""
    rng = np.random.default_rng(seed)
    readout = nn.Linear(8, 1, rng=rng, dtype=np.float64)
    readout.weight[:] = rng.uniform(-1, 1, (8, 1)) / math.sqrt(8)
    model = nn.Sequential(
        nn.Linear(1, 8, rng=rng, dtype=np.float64),
        nn.BatchNorm(8, affine=affine, eps=0, dtype=np.float64),
        nn.Sigmoid(),
        readout,
    )
    optimizer = optim.Adam(model.parameters(), lr=0.02)
    x = Tensor(X)
    for _ in range(steps):
        loss = nn.mse_loss(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model(x).data


def mse(fit, target):
    return float(((fit - target) ** 2).mean())


def losses(measured, name, affine):
    """Where training on a target ended, seed by seed."""
    return [mse(fit, TARGETS[name]) for fit in measured["fits"][name, affine]]


def measure(seed, steps, quick=False):
    """The identity, the straight part, and the fits of all targets over seeds."""
    best = {name: best_fit(target) for name, target in TARGETS.items()}
    measured = {
        "identity": identity_error(seed),
        "within 2": float((np.abs(NORMAL) < 2).mean()),
        "straight": {std: straight_share(std) for std in (1, 4)},
        "line": np.polyfit(NORMAL, tg.sigmoid(NORMAL), 1),
        "x": X,
        "targets": TARGETS,
        "best": best,
        "floor": {name: mse(fit, TARGETS[name]) for name, fit in best.items()},
        "fits": {
            (name, affine): [
                trained_fit(target, affine, s, steps)
                for s in tqdm(seeds(seed, quick), desc=name, disable=None)
            ]
            for name, target in TARGETS.items()
            for affine in (False, True)
        },
    }
    ends = {case: losses(measured, *case) for case in measured["fits"]}
    return measured | {"losses": ends}


def main(arguments=None):
    given = parse(options(__doc__, steps=3000, quick_steps=200), arguments)
    measured = measure(given.seed, given.steps, given.quick)
    save(lambda theme: plot(measured, theme), given, "gamma_and_beta")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
