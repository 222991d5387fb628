"""What does the noise of a batch do? Does it regularize?

    python examples/batch_noise.py
    python examples/batch_noise.py --mnist-dir FOLDER

In training, each sample is normalized by statistics that its companions decide: the
mean of N values of standard deviation s is off by s / sqrt(N). In one case its effect
is known exactly. Let x from N(0, s^2) be the target of y = gamma x_hat + beta, on fresh
batches of N. A batch has mean(x_hat) = 0, mean(x_hat^2) = 1 and mean(x_hat x) = s_B,
its own deviation, so

    loss = gamma^2 - 2 gamma E[s_B] + beta^2 + s^2,  least for beta = 0 and
    gamma / s = E[s_B] / s = sqrt(2 / N) Gamma(N / 2) / Gamma((N - 1) / 2) < 1.

In evaluation y = (gamma / s) x: noise shrinks towards the mean, as a regularizer does.
With N = 2 the noise is all there is: x_hat = d / sqrt(d^2 + eps) for d = (x1 - x2) / 2,
as eps -> 0 the sign of d.

That noise regularizes classifiers, as lower test error, is *not reproduced* as a rule.
1000 images of MNIST, batches of 128 that are normalized in groups of 32, 8, 4 or 2
("ghost batches"): groups of 32 are better by a hair with SGD, in most seeds, and not
clearly anything with Adam; more noise is worse in every seed, from groups of 8 on with
Adam, of 4 with SGD; groups of 2 are ruinous. On the small digits of scikit-learn,
though, groups of 32 are slightly better than none in most seeds: it depends on the
data.

What this does not show: that noise never regularizes, say in larger networks, longer
training, or at other rates; nor whether small groups fail in training, or in evaluation
by averages that their training has never seen.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.4; for ghost batches Hoffer et
al., arXiv 1705.08741.
"""

import math

import numpy as np
from ghost_batches import BATCH, OPTIMIZERS, test_error
from lab import add_image_options, images, options, parse, save, seeds
from plots.batch_noise import plot, report

from tinygrad_bn import Tensor, batch_norm, nn, optim

SIZES = (2, 4, 8, 16, 32, 64, 128)
S = 2.0
PAIRS = np.linspace(-3, 3, 120)
EPSILONS = (1e-5, 0.1, 1.0)
GROUPS = (128, 32, 8, 4, 2)


def error_of_mean(n, rng):
    """The standard deviation of the mean of a batch, over 4000 batches."""
    x = Tensor(rng.normal(0, S, (n, 4000)))
    return float(x.mean(axis=0).data.std())


def learned_shrinkage(n, rng):
    """gamma / s after training on fresh batches, on average over many units at once.

    The noisier small batches get more units: n times their number is the same.
    """
    units = 12_800 // n
    model = nn.BatchNorm(units, eps=0, dtype=float)
    sgd = optim.SGD(model.parameters(), lr=0.25)
    gammas = []
    for _ in range(60):
        x = rng.normal(0, S, (n, units))
        loss = ((model(Tensor(x)) - x) ** 2).mean(axis=0).sum()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        gammas.append(model.gamma.data.mean())
    return float(np.mean(gammas[20:]) / S)


def expected_shrinkage(n):
    """E[s_B] / s of batches of n from a normal distribution."""
    log_ratio = math.lgamma(n / 2) - math.lgamma((n - 1) / 2)
    return math.sqrt(2 / n) * math.exp(log_ratio)


def normalized_pairs(eps):
    """x_hat of the first of two, for pairs (d, -d): a unit for each pair."""
    return batch_norm(np.stack([PAIRS, -PAIRS]), eps=eps).data[0]


def measure(data, seed, steps, quick=False):
    """One unit beside its theory, and the test errors of classifiers with noise."""
    rng, groups = np.random.default_rng(seed), GROUPS[::2] if quick else GROUPS
    measured = {
        "sizes": SIZES,
        "error_of_mean": [error_of_mean(n, rng) for n in SIZES],
        "expected_error": [S / math.sqrt(n) for n in SIZES],
        "shrinkage": [learned_shrinkage(n, rng) for n in SIZES],
        "expected_shrinkage": [expected_shrinkage(n) for n in SIZES],
        "d": PAIRS,
        "pairs": {eps: normalized_pairs(eps) for eps in EPSILONS},
        "groups": groups,
        "test_errors": {
            (optimizer, group): [
                test_error(data, group, optimizer, steps, s) for s in seeds(seed)
            ]
            for optimizer in OPTIMIZERS
            for group in groups
        },
    }
    measured["added_errors"] = {
        case: against_calm(measured, *case) for case in measured["test_errors"]
    }
    return measured


def against_calm(measured, optimizer, group):
    """How much larger the test errors are than without groups, seed by seed."""
    errors = measured["test_errors"]
    return np.subtract(errors[optimizer, group], errors[optimizer, BATCH])


def main(arguments=None):
    parser = options(__doc__, steps=300, quick_steps=15)
    add_image_options(parser)
    given = parse(parser, arguments)
    data = images(given)
    measured = measure(data, given.seed, given.steps, given.quick)
    save(lambda theme: plot(measured, data.name, theme), given, "batch_noise")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
