"""Why does batch norm scale and shift again, by gamma and beta, what it has normalized?

    python examples/gamma_and_beta.py
    python examples/gamma_and_beta.py --quick --theme dark

Because normalizing alone can take away what a layer is able to say, and gamma and beta
give it back: gamma = sqrt(var + eps) and beta = mean make batch norm the identity. The
sigmoid of values with mean 0 and variance 1 is nearly a straight line: 95 % of them lie
in [-2, 2], and the line explains 98.4 % of the variance there.

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
from lab import circles, figure, options, parse, save, span, table
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


def mse(fit, target):
    return float(((fit - target) ** 2).mean())


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


def measure(seed, steps, quick=False):
    """The identity, the straight part, and the fits of all targets over seeds."""
    seeds = range(seed, seed + (1 if quick else 3))
    return {
        "identity": identity_error(seed),
        "within 2": float((np.abs(NORMAL) < 2).mean()),
        "straight": {std: straight_share(std) for std in (1, 4)},
        "floor": {
            name: mse(best_fit(target), target) for name, target in TARGETS.items()
        },
        "fits": {
            (name, affine): [
                trained_fit(target, affine, s, steps)
                for s in tqdm(seeds, desc=name, disable=None)
            ]
            for name, target in TARGETS.items()
            for affine in (False, True)
        },
    }


def losses(measured, name, affine):
    return [mse(fit, TARGETS[name]) for fit in measured["fits"][name, affine]]


def report(measured):
    """The closing tables: measured numbers beside the theory."""
    straight = measured["straight"]
    single = [
        ("largest error of the identity", measured["identity"], "0"),
        ("share of N(0, 1) within 2", measured["within 2"], math.erf(math.sqrt(2))),
        ("straight share of sigmoid, std 1", straight[1], "0.984"),
        ("straight share of sigmoid, std 4", straight[4], "0.84"),
    ]
    fits = [
        (
            name,
            floor,
            span(losses(measured, name, affine=False)),
            span(losses(measured, name, affine=True)),
        )
        for name, floor in measured["floor"].items()
    ]
    head = ("target", "floor", "without", "with gamma and beta")
    return "\n\n".join(
        [
            table("Exact statements", ("", "measured", "expected"), single),
            table("Mean squared error after training, over seeds", head, fits),
        ]
    )


def plot(measured, theme):
    fig, ((a, b), *rows) = figure(theme, 3, 2)
    z = np.linspace(-6, 6, 241)
    a.set_title("On N(0, 1), sigmoid is nearly straight")
    a.plot(z, tg.sigmoid(z), label="sigmoid(z)")
    slope, height = np.polyfit(NORMAL, tg.sigmoid(NORMAL), 1)
    a.plot(z, slope * z + height, label="its line")
    a.fill_between(z, np.exp(-(z**2) / 2) / 3, color="C4", alpha=0.3, label="N(0, 1)")
    a.set(xlabel="z", ylabel="sigmoid(z)", ylim=(-0.02, 1.05))

    b.set_title("Without gamma and beta: a floor")
    names, floors = list(measured["floor"]), list(measured["floor"].values())
    b.scatter(names, floors, s=500, marker="_", color="C4", label="floor")
    for affine, label, style in ((False, "without", "C1o"), (True, "with them", "C2s")):
        values = [losses(measured, name, affine) for name in names]
        points = b.plot(names, values, style, linestyle="none", fillstyle="none")
        points[0].set_label(label)
    b.set(ylabel="mean squared error", yscale="log", xlim=(-0.5, 3.5))

    for axes, (name, target) in zip(np.ravel(rows), TARGETS.items()):
        even = np.allclose(target, target[::-1])
        axes.set_title(f"{name}: {'its mean' if even else 'one sigmoid'} without them")
        axes.plot(X, measured["fits"][name, True][0], label="with gamma and beta")
        axes.plot(X, measured["fits"][name, False][0], label="without")
        axes.plot(X, target, label="target")
        circles(axes, X, best_fit(target), "floor")
        axes.set(xlabel="x", ylabel="output")
    for axes in (a, b, rows[0][0]):
        axes.legend()
    return fig


def main(arguments=None):
    given = parse(options(__doc__, steps=3000, quick_steps=200), arguments)
    measured = measure(given.seed, given.steps, given.quick)
    save(lambda theme: plot(measured, theme), given, "gamma_and_beta")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
