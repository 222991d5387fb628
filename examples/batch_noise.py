"""What does the noise of a batch do? Does it regularize?

    python examples/batch_noise.py
    python examples/batch_noise.py --mnist-dir FOLDER

In training, the statistics that normalize a sample depend on the other samples of its
batch. The mean of N values of standard deviation s has an error of s / sqrt(N). In one
case, the effect of this noise is known exactly. Let x from N(0, s^2) be both the input
and the target of y = gamma x_hat + beta, on fresh batches of N. In a batch,
mean(x_hat) = 0, mean(x_hat^2) = 1 and mean(x_hat x) = s_B, the standard deviation of
the batch, so that

    loss = gamma^2 - 2 gamma E[s_B] + beta^2 + s^2, which is least for beta = 0 and
    gamma / s = E[s_B] / s = sqrt(2 / N) Gamma(N / 2) / Gamma((N - 1) / 2) < 1.

In evaluation mode y = (gamma / s) x: noise shrinks the output toward the mean, as a
regularizer does. With N = 2, noise is all that is left. With d = (x1 - x2) / 2,
x_hat = d / sqrt(d^2 + eps), which for eps -> 0 is the sign of d. And almost nothing
comes back: removing the mean and the component along x_hat from two numbers leaves
eps / (d^2 + eps) of their difference, so that dL/dx nearly vanishes.

The script does *not* reproduce the rule that noise regularizes classifiers, in the
sense of a lower test error. It trains on 1000 images of MNIST with batches of 128,
which are normalized in groups of 32, 8, 4 or 2 ("ghost batches": statistics of a part
of the batch, gradients of all of it). Groups of 32 hardly matter, in either direction.
Groups of 8 are worse in most seeds with Adam (10 of 12), and about equal with SGD.
Groups of 4 are worse, and groups of 2 are ruinous, in every seed. On the small digits
of scikit-learn, however, groups of 32 are slightly better than none in most seeds: it
depends on the data.

Ghost batches also arise unintentionally, where gradients are accumulated or a batch is
split among devices: see gradient_accumulation.py.

Not shown: that noise never regularizes, for example in larger networks, longer training
or at other learning rates; nor whether small groups fail in training, or in evaluation
with running statistics that training has never used.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.4; for ghost batches Hoffer et
al., arXiv 1705.08741, and, with data on which they do help, Summers & Dinneen,
arXiv 1906.03548. Luo et al., arXiv 1809.00846, derive a regularization of gamma.
"""

import math
from functools import partial
from itertools import product

import numpy as np

from parts.batch_noise.ghost_batches import BATCH, OPTIMIZERS, test_error
from parts.batch_noise.plots import plot, report
from support.command_line import (
    add_image_options,
    experiment_options,
    images,
    parse,
    seeds,
)
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import Tensor, batch_norm, grad, nn, optim

SIZES = (2, 4, 8, 16, 32, 64, 128)
S = 2.0
# Fine around 0, where the curve of the smallest eps is narrow.
DISTANCES = np.geomspace(1e-4, 3, 200)
PAIRS = np.concatenate([-DISTANCES[::-1], DISTANCES])
EPSILONS = (1e-5, 0.1, 1.0)
GROUPS = (128, 32, 8, 4, 2)


def error_of_mean(n, rng):
    """The standard deviation of the mean of a batch, over 4000 batches."""
    x = Tensor(rng.normal(0, S, (n, 4000)))
    return float(x.mean(axis=0).data.std())


def learned_shrinkage(n, rng):
    """gamma / s after training on fresh batches, averaged over many units.

    Smaller batches are noisier and get more units: n times their number is constant.
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
    """E[s_B] / s for batches of n from a normal distribution."""
    log_ratio = math.lgamma(n / 2) - math.lgamma((n - 1) / 2)
    return math.sqrt(2 / n) * math.exp(log_ratio)


def normalized_pairs(eps):
    """x_hat of the first row of batches (d, -d), with one unit for each d."""
    return batch_norm(np.stack([PAIRS, -PAIRS]), eps=eps).data[0]


def gradient_of_pairs(eps):
    """|dL/dx| / |inv_std g| in batches (d, -d), for random g, and its theory.

    In a batch of two, g - mean(g) is (a, -a). The backward pass multiplies it by
    inv_std, and by what 1 - mean(x_hat^2) leaves, eps / (d^2 + eps).
    """
    x = Tensor(np.stack([PAIRS, -PAIRS]), requires_grad=True)
    g = np.random.default_rng(0).standard_normal(x.shape)
    d_x = grad(batch_norm(x, eps=eps), x, gradient=g).data
    direct = (g - g.mean(axis=0)) / np.sqrt(PAIRS**2 + eps)
    return (d_x / direct)[0], eps / (PAIRS**2 + eps)


def over_sizes(measure_size, seed):
    """The measurement for each batch size, each with a generator of its own."""
    return [measure_size(n, np.random.default_rng(seed)) for n in SIZES]


def test_errors(data, steps, groups, which, jobs=1):
    """The test errors of classifiers over some seeds, by optimizer and group size."""
    cases = list(product(OPTIMIZERS, groups))
    runs = [(*case, s) for case in cases for s in which]
    found = in_parallel(partial(test_error, data, steps), runs, jobs, "ghost batches")
    return {case: np.array([found[(*case, s)] for s in which]) for case in cases}


def measure(data, seed, steps, quick=False, jobs=1):
    """One unit and its theory, and the test errors of classifiers with noise."""
    rng, groups = np.random.default_rng(seed), GROUPS[::2] if quick else GROUPS
    which = seeds(seed, quick)
    errors = test_errors(data, steps, groups, which, jobs)
    return {
        "sizes": SIZES,
        "error of mean": [error_of_mean(n, rng) for n in SIZES],
        "expected error": [S / math.sqrt(n) for n in SIZES],
        "errors of mean": [over_sizes(error_of_mean, s) for s in which],
        "shrinkage": [learned_shrinkage(n, rng) for n in SIZES],
        "expected shrinkage": [expected_shrinkage(n) for n in SIZES],
        "shrinkages": [over_sizes(learned_shrinkage, s) for s in which],
        "d": PAIRS,
        "pairs": {eps: normalized_pairs(eps) for eps in EPSILONS},
        "pair gradients": {eps: gradient_of_pairs(eps) for eps in EPSILONS},
        "groups": groups,
        "test errors": errors,
        "added errors": {
            (optimizer, group): found - errors[optimizer, BATCH]
            for (optimizer, group), found in errors.items()
        },
    }


def main(arguments=None):
    parser = experiment_options(__doc__, steps=300, quick_steps=15)
    add_image_options(parser)
    add_jobs_option(parser)
    options = parse(parser, arguments)
    data, jobs = images(options), requested_jobs(options)
    measured = measure(data, options.seed, options.steps, options.quick, jobs)
    save(lambda theme: plot(measured, data.name, theme), options, "batch_noise")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
