"""What becomes of the size of weights in front of batch norm?

    python examples/scale_invariance.py

It has no effect, and it only grows. For a > 0 and eps = 0, BN((aW)u) = BN(Wu), hence

    dL/d(aW) = (1/a) dL/dW              larger weights get smaller gradients,
    w . dL/dw = 0                       for the weights w of each unit, and
    |W|^2 grows by lr^2 |dL/dW|^2       at each step of plain SGD, by Pythagoras.

What counts is the direction of w, and lr / |w|^2 is how fast it turns: the effective
learning rate. It decays by itself, the more the larger it is, so that a rate much too
large costs a few steps only; and (W, lr) and (aW, a^2 lr) have the same losses.

With eps > 0, let t stretch w, s = sqrt(v + eps), v = Var[x]. Then

    x_hat(t) = t x_c / sqrt(t^2 v + eps),  whose derivative at t = 1 is
    x_c / s - x_c v / s^3 = x_hat eps / (v + eps),  and so
    w . dL/dw = eps / (v + eps) sum(dL/dx_hat x_hat) = eps / (v + eps) gamma dL/dgamma.
    BN(t x; eps) = BN(x; eps / t^2):  dL/d(aW) = (1/a) dL/dW with eps / a^2 there.

So the pull along w is as small as eps beside v, and where the loss wants a larger
|gamma|, it wants larger weights.

What this does not show: weight decay, momentum and Adam, for which the size of weights
goes other ways; or that a decaying rate is a good one.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.3; for the effective learning
rate van Laarhoven, arXiv 1706.05350.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from lab import circles, figure, options, parse, save, table
from tqdm import tqdm

from tinygrad_bn import Tensor, fused_batch_norm, grad, nn, optim

SIZES, BATCH, LR = (20, 50, 50, 50, 5), 128, 0.5
RATES, SCALES = (0.5, 5.0, 50.0), (0.1, 3.0, 10.0)
EPSILONS = 10.0 ** np.arange(-6, 5)


# --- One layer ------------------------------------------------------------------------


class Layer:
    """y = BN(u W) with a gamma, and a random cotangent for y."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.u = rng.standard_normal((BATCH, 20))
        self.w = rng.standard_normal((20, 50))
        self.gamma = rng.uniform(0.5, 2, 50)
        self.g = rng.standard_normal((BATCH, 50))

    def run(self, a=1.0, eps=0.0):
        """y, dL/d(aW) and dL/dgamma for the weights aW."""
        w = Tensor(a * self.w, requires_grad=True)
        gamma = Tensor(self.gamma, requires_grad=True)
        y = fused_batch_norm(self.u @ w, gamma, eps=eps)
        return y.data, *(d.data for d in grad(y, [w, gamma], gradient=self.g))

    def radial(self, eps):
        """The cosine of w and dL/dw of each unit, measured and by the formula above."""
        _, d_w, d_gamma = self.run(eps=eps)
        v = (self.u @ self.w).var(axis=0)
        lengths = np.linalg.norm(self.w, axis=0) * np.linalg.norm(d_w, axis=0)
        formula = eps / (v + eps) * self.gamma * d_gamma
        return (self.w * d_w).sum(axis=0) / lengths, formula / lengths

    def invariance(self, a, eps):
        """How far y and a dL/d(aW) are from those of W with eps / a^2."""
        y, d_w, _ = self.run(eps=eps / a**2)
        y_a, d_aw, _ = self.run(a, eps)
        return apart(y_a, y), apart(a * d_aw, d_w)


def apart(found, expected):
    """The largest difference, beside the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# --- A network ------------------------------------------------------------------------


class Path(NamedTuple):
    """Before each step: the loss, |W|^2 and |dL/dW|^2 of all layers in front of BN."""

    loss: np.ndarray
    size: np.ndarray
    slope: np.ndarray
    lr: float

    @property
    def pythagoras(self) -> np.ndarray:
        """|W|^2 as it must be after where it began and the gradients since."""
        grown = self.lr**2 * np.cumsum(self.slope)
        return self.size[0] + np.concatenate([[0], grown[:-1]])

    @property
    def effective_lr(self) -> np.ndarray:
        return self.lr / self.size


def train(seed, steps, a=1.0, lr=LR):
    """Train with weights aW in front of batch norm, at ``lr``, and all else at LR."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((512, SIZES[0]))
    labels = (x @ rng.standard_normal((SIZES[0], SIZES[-1]))).argmax(axis=1)
    modules, weights = [], []
    for fan_in, fan_out in pairwise(SIZES[:-1]):
        linear = nn.Linear(fan_in, fan_out, bias=False, rng=rng, dtype=float)
        linear.weight.data = a * linear.weight.data
        weights.append(linear.weight)
        modules += [linear, nn.BatchNorm(fan_out, eps=0, dtype=float), nn.Tanh()]
    model = nn.Sequential(*modules, nn.Linear(*SIZES[-2:], rng=rng, dtype=float))
    rest = [p for p in model.parameters() if p not in weights]
    optimizers = optim.SGD(weights, lr), optim.SGD(rest, LR)
    points = []
    for _ in tqdm(range(steps), desc=f"{a:g} W, lr {lr:g}", leave=False, disable=None):
        rows = rng.choice(len(x), BATCH, replace=False)
        loss = nn.cross_entropy(model(Tensor(x[rows])), labels[rows])
        model.zero_grad()
        loss.backward()
        size, slope = (
            sum((array**2).sum() for array in arrays)
            for arrays in ([w.data for w in weights], [w.grad for w in weights])
        )
        points.append((loss.item(), size, slope))
        for optimizer in optimizers:
            optimizer.step()
    return Path(*np.array(points).T, lr)


# --- The experiment -------------------------------------------------------------------


def measure(seed, steps):
    """One layer for some a and eps, and a network for some learning rates and a."""
    layer = Layer(seed)
    return {
        "invariance": {
            (a, eps): layer.invariance(a, eps) for a in SCALES for eps in (0.0, 1.0)
        },
        "radial": {eps: layer.radial(eps) for eps in (0.0, *EPSILONS)},
        "rates": {lr: train(seed, steps, lr=lr) for lr in RATES},
        "scaled": {a: train(seed, steps, a, a**2 * LR) for a in SCALES},
        "same_rate": train(seed, steps, SCALES[-1], LR),
    }


def report(measured):
    """The closing tables: what theory calls zero or equal, and the effective rates."""
    layer = [
        (f"a = {a:g}, eps = {eps:g}", *(f"{value:.1g}" for value in found))
        for (a, eps), found in measured["invariance"].items()
    ]
    radial = [
        (
            f"eps = {eps:g}",
            f"{np.abs(cosine).max():.3g}",
            f"{np.abs(formula).max():.3g}",
        )
        for eps, (cosine, formula) in measured["radial"].items()
    ]
    rates = [
        (
            f"lr = {lr:g}",
            path.effective_lr[0],
            path.effective_lr[-1],
            f"{apart(path.size, path.pythagoras):.1g}",
            f"{path.loss[-20:].mean():.3f}",
        )
        for lr, path in measured["rates"].items()
    ]
    reference = measured["rates"][LR].loss
    scaled = [
        (f"a = {a:g}", f"{apart(path.loss, reference):.1g}", "0")
        for a, path in measured["scaled"].items()
    ]
    unscaled = apart(measured["same_rate"].loss, reference)
    scaled.append(("a = 10, but lr", f"{unscaled:.1g}", "not 0"))
    return "\n\n".join(
        [
            table(
                "BN((aW)u) and a dL/d(aW), against W with eps / a^2 (theory: 0)",
                ("", "y", "gradient"),
                layer,
            ),
            table("Largest cosine of w and dL/dw", ("", "measured", "theory"), radial),
            table(
                "lr / |W|^2 at the first and last step, |W|^2 off Pythagoras, and loss",
                ("", "first", "last", "off (0)", "loss"),
                rates,
            ),
            table(
                "Losses of (aW, a^2 lr), against (W, lr)",
                ("", "apart", "theory"),
                scaled,
            ),
        ]
    )


def plot(measured, theme):
    """|W|^2, the effective learning rate, the losses, and the radial part."""
    fig, ((size, rate), (loss, radial)) = figure(theme, 2, 2)
    for lr, path in measured["rates"].items():
        size.plot(path.size, label=f"lr = {lr:g}")
        rate.plot(path.effective_lr, label=f"lr = {lr:g}")
        steps, label = np.arange(len(path.size)), None if lr < RATES[-1] else "theory"
        circles(size, steps, path.pythagoras, label)
    size.set(title="Every step makes the weights longer", yscale="log")
    size.set_yticks([300, 1000, 3000], ["300", "1000", "3000"])
    size.minorticks_off()
    size.set(xlabel="step", ylabel="|W|², all normalized layers")
    rate.set(title="A rate that is too large cures itself", yscale="log")
    rate.set(xlabel="step", ylabel="effective learning rate, lr / |W|²")
    loss.plot(measured["rates"][LR].loss, label="W, lr")
    loss.plot(measured["same_rate"].loss, label="10 W, lr")
    scaled = measured["scaled"][SCALES[-1]].loss
    circles(loss, np.arange(len(scaled)), scaled, "10 W, 100 lr")
    loss.set(title="Ten times W wants a hundred times lr", yscale="log")
    loss.set(xlabel="step", ylabel="loss")
    cosines = [np.abs(measured["radial"][eps]).mean(axis=1) for eps in EPSILONS]
    found, formula = np.transpose(cosines)
    radial.plot(EPSILONS, found, label="measured")
    circles(radial, EPSILONS, formula, "eps / (v + eps) γ dL/dγ")
    radial.set(title="Only eps lets the loss pull along w", xscale="log", yscale="log")
    radial.set(xlabel="eps (Var[x] is about 20)", ylabel="mean |cos(w, dL/dw)|")
    for axes in (size, rate, loss, radial):
        axes.legend()
    return fig


def main(arguments=None):
    given = parse(options(__doc__, steps=300, quick_steps=40), arguments)
    measured = measure(given.seed, given.steps)
    save(lambda theme: plot(measured, theme), given, "scale_invariance")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
