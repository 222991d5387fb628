"""What does the noise of a batch do? Does it regularize?

    python examples/batch_noise.py
    python examples/batch_noise.py --mnist-dir FOLDER

In training, each sample is normalized by statistics that its companions decide: the
mean of N values is off by sigma / sqrt(N). In one case its effect is known exactly. Let
x from N(0, s^2) be the target of y = gamma x_hat + beta, on fresh batches of N. A batch
has mean(x_hat) = 0, mean(x_hat^2) = 1 and mean(x_hat x) = s_B, its own deviation, so

    loss = gamma^2 - 2 gamma E[s_B] + beta^2 + s^2,  least for beta = 0 and
    gamma / s = E[s_B] / s = sqrt(2 / N) Gamma(N / 2) / Gamma((N - 1) / 2) < 1.

In evaluation y = (gamma / s) x: noise shrinks towards the mean, as a regularizer does.
With N = 2 the noise is all there is: x_hat = d / sqrt(d^2 + eps) for d = (x1 - x2) / 2,
as eps -> 0 the sign of d.

That noise regularizes classifiers, as lower test error, is *not reproduced* as a rule.
1000 images of MNIST, batches of 128 that are normalized in groups of 32, 8, 4 or 2
("ghost batches"): groups of 32 are better by a hair with SGD, and not clearly anything
with Adam; more noise is worse in every seed, from groups of 8 on with Adam, of 4 with
SGD; groups of 2 are ruinous. On the small digits of scikit-learn, though, groups of 32
and 8 are slightly better than none in most seeds: it depends on the data.

What this does not show: that noise never regularizes, say in larger networks, longer
training, or at other rates; nor whether small groups fail in training, or in evaluation
by averages that their training has never seen.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.4; for ghost batches Hoffer et
al., arXiv 1705.08741.
"""

import math

import numpy as np
from lab import add_image_options, figure, images, options, parse, save, table
from tqdm import tqdm

from tinygrad_bn import Tensor, batch_norm, fused_batch_norm, nn, no_grad, optim

SIZES = (2, 4, 8, 16, 32, 64, 128)
S = 2.0
PAIRS = np.linspace(-3, 3, 120)
EPSILONS = (1e-5, 0.1, 1.0)
IMAGES, BATCH, GROUPS, SEEDS = 1000, 128, (128, 32, 8, 4, 2), 3
OPTIMIZERS = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.001),
}


# --- What is known exactly ------------------------------------------------------------


def error_of_mean(n, rng):
    """The standard deviation of the mean of a batch, over 4000 batches."""
    x = Tensor(rng.normal(0, S, (n, 4000)))
    return float(x.mean(axis=0).data.std())


def learned_shrinkage(n, steps, rng):
    """gamma / s after training on fresh batches, on average over 200 units at once."""
    model = nn.BatchNorm(200, eps=0, dtype=float)
    sgd = optim.SGD(model.parameters(), lr=0.05)
    gammas = []
    for _ in range(steps):
        x = rng.normal(0, S, (n, 200))
        loss = ((model(Tensor(x)) - x) ** 2).mean(axis=0).sum()
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        gammas.append(model.gamma.data.mean())
    return float(np.mean(gammas[steps // 2 :]) / S)


def expected_shrinkage(n):
    """E[s_B] / s of batches of n from a normal distribution."""
    log_ratio = math.lgamma(n / 2) - math.lgamma((n - 1) / 2)
    return math.sqrt(2 / n) * math.exp(log_ratio)


def normalized_pairs(eps):
    """x_hat of the first of two, for pairs (d, -d): a unit for each pair."""
    return batch_norm(np.stack([PAIRS, -PAIRS]), eps=eps).data[0]


# --- Ghost batches --------------------------------------------------------------------


class GhostBatchNorm(nn.BatchNorm):
    """Batch norm that trains on groups of a batch, each with its own statistics."""

    def __init__(self, num_features, group):
        super().__init__(num_features)
        self.group = group

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        self.running.update(x.data.mean(axis=0), x.data.var(axis=0), len(x))
        groups = x.reshape(-1, self.group, self.num_features)
        x_hat = fused_batch_norm(groups, axes=(1,), eps=self.eps).reshape(x.shape)
        return x_hat * self.gamma + self.beta


def test_error(data, group, optimizer, steps, seed):
    """The share of wrong answers after training on few images; the seed picks them."""
    rng = np.random.default_rng(seed)
    few = rng.choice(len(data.train_y), IMAGES, replace=False)
    modules, width = [], data.train_x.shape[1]
    for _ in range(2):
        modules.append(nn.Linear(width, 100, bias=False, rng=rng))
        modules += [GhostBatchNorm(100, group), nn.ReLU()]
        width = 100
    model = nn.Sequential(*modules, nn.Linear(width, data.num_classes, rng=rng))
    trainer = OPTIMIZERS[optimizer](model.parameters())
    for _ in range(steps):
        rows = rng.choice(few, BATCH, replace=False)
        loss = nn.cross_entropy(model(Tensor(data.train_x[rows])), data.train_y[rows])
        trainer.zero_grad()
        loss.backward()
        trainer.step()
    model.eval()
    with no_grad():
        classes = model(Tensor(data.test_x)).data.argmax(axis=1)
    return float(np.mean(classes != data.test_y))


# --- The experiment -------------------------------------------------------------------


def measure(data, seed, steps, quick=False):
    """What the batch does to one unit, and the test errors of ghost batches."""
    rng = np.random.default_rng(seed)
    groups = GROUPS[::2] if quick else GROUPS
    runs = [(optimizer, group) for optimizer in OPTIMIZERS for group in groups]
    return {
        "error_of_mean": [error_of_mean(n, rng) for n in SIZES],
        "shrinkage": [learned_shrinkage(n, 200, rng) for n in SIZES],
        "pairs": {eps: normalized_pairs(eps) for eps in EPSILONS},
        "groups": groups,
        "test_errors": {
            (optimizer, group): [
                test_error(data, group, optimizer, steps, s)
                for s in range(seed, seed + SEEDS)
            ]
            for optimizer, group in tqdm(runs, desc="ghost batches", disable=None)
        },
    }


def against_calm(measured, optimizer, group):
    """How much larger the test errors are than without groups, seed by seed."""
    errors = measured["test_errors"]
    return np.subtract(errors[optimizer, group], errors[optimizer, BATCH])


def report(measured):
    """The closing tables: one unit beside its theory, and the classifiers."""
    units = [
        (
            f"N = {n}",
            f"{error:.4g} ({S / math.sqrt(n):.4g})",
            f"{shrinkage:.4f} ({expected_shrinkage(n):.4f})",
        )
        for n, error, shrinkage in zip(
            SIZES, measured["error_of_mean"], measured["shrinkage"]
        )
    ]
    apart = max(
        np.abs(x_hat - PAIRS / np.sqrt(PAIRS**2 + eps)).max()
        for eps, x_hat in measured["pairs"].items()
    )
    ghosts = [
        (
            f"{optimizer}, groups of {group}",
            f"{np.mean(found):.2%}",
            int(np.sum(against_calm(measured, optimizer, group) < 0)),
            int(np.sum(against_calm(measured, optimizer, group) > 0)),
        )
        for (optimizer, group), found in measured["test_errors"].items()
    ]
    head = ("", "error of the mean", "gamma / s")
    return "\n\n".join(
        [
            table(f"Batches of N from N(0, {S:g}^2), measured (theory)", head, units),
            f"Batches of two: x_hat is d / sqrt(d^2 + eps) up to {apart:.1g}",
            table(
                f"Ghost batches, {SEEDS} seeds, each against its own groups of {BATCH}",
                ("", "test error", "better in", "worse in"),
                ghosts,
            ),
        ]
    )


def plot(measured, name, theme):
    """The error of the mean, shrinkage, batches of two, and ghost batches."""
    fig, ((mean, shrink), (two, ghost)) = figure(theme, 2, 2)
    n = np.array(SIZES)
    mean.plot(n, S / np.sqrt(n), label="theory: sigma / sqrt(N)")
    mean.plot(n, measured["error_of_mean"], "o", color="C1", label="measured")
    mean.set(title="A batch knows its mean vaguely", yscale="log")
    mean.set(ylabel="std of the mean (sigma = 2)")
    shrink.plot(n, [expected_shrinkage(i) for i in SIZES], label="theory: E[s_B] / s")
    shrink.plot(n, measured["shrinkage"], "o", color="C1", label="learned")
    shrink.set(title="Its noise shrinks what is learned", ylim=(0.5, 1.02))
    shrink.set(ylabel="gamma / s (no noise: 1)")
    for axes in (mean, shrink):
        axes.set(xlabel="batch size N", xscale="log")
        axes.set_xticks(n, n)
        axes.minorticks_off()
        axes.legend()
    mean.set_yticks([0.2, 0.5, 1], ["0.2", "0.5", "1"])
    for eps, x_hat in measured["pairs"].items():
        two.plot(PAIRS, x_hat, label=f"eps = {eps:g}")
    two.set(title="Of two, only who is larger is left")
    two.set(xlabel="half the difference of the two", ylabel="x_hat of the first")
    two.legend()
    plot_ghosts(ghost, measured, name)
    return fig


def plot_ghosts(axes, measured, name):
    noisy = measured["groups"][1:]
    for optimizer, marker in zip(OPTIMIZERS, "os"):
        found = [100 * against_calm(measured, optimizer, group) for group in noisy]
        (line,) = axes.plot(noisy, np.mean(found, axis=1), label=optimizer)
        axes.plot(noisy, found, marker, color=line.get_color(), fillstyle="none")
    axes.axhline(0, color="C4", linewidth=1)
    axes.set(title="Much noise makes classifiers worse", xscale="log")
    axes.set_yscale("symlog", linthresh=2, linscale=2)
    axes.set_yticks([-1, 0, 1, 2, 10], ["-1", "0", "+1", "+2", "+10"])
    axes.set(xlabel="samples normalized together, of 128", ylim=(-1.8, 60))
    axes.set_ylabel(f"added test error (points), {name}")
    axes.set_xticks(noisy, noisy)
    axes.minorticks_off()
    axes.legend()


def main(arguments=None):
    parser = options(__doc__, steps=500, quick_steps=30)
    add_image_options(parser)
    given = parse(parser, arguments)
    data = images(given)
    measured = measure(data, given.seed, given.steps, given.quick)
    save(lambda theme: plot(measured, data.name, theme), given, "batch_noise")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
