"""Why does a bias in front of batch norm not grow for ever?

    python examples/bias_blow_up.py
    python examples/bias_blow_up.py --quick --theme dark

Because E[x] is part of the graph: what the loss asks of b directly, it takes back
through E[x]. Where backward takes E[x] for a constant, nothing is taken back, and b
grows while the loss stands still. Three such warnings, each alone in one linear unit,
and then what becomes of networks.

The unit: u centered and white, |w*| = 1, x = u.w + b, y = (x - m) / s with s = |w|,
target t = TAU u.w* + C, loss mean((y - t)^2) / 2. So S = sum dL/dy = mean(y - t) = -C.

1. m constant, w kept at w*: y and S never change, so b_k = -k lr S, a straight line.
2. m and s constant: dL/dw = (1 - TAU) w / |w|, so a step adds lr (TAU - 1) / |w| to
   |w|, which is nearly sqrt(1 + 2 lr (TAU - 1) k), and lr C / |w| to b, less than
   without scaling: b = C (|w| - 1) / (TAU - 1). y and the loss never change.
3. (m, s) frozen until w and b have converged: then y = t, so w = s TAU w*, b = m + s C.
   Computed anew, they are m = b and s = |w|, and y is back at u.w*: a round multiplies
   |w| by TAU and leaves the loss where it was.

A learnable beta behind it takes S to 0, and b stops where beta stops. Momentum mu makes
the line 1 / (1 - mu) times as steep; Adam moves b by lr per step whatever S is.

Not shown: that anybody trains like this, or that every loss does it. Where S is near 0,
as with two balanced classes, b hardly moves; with a learnable beta networks learn, too.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 2.
"""

import math
from functools import partial
from typing import NamedTuple

import numpy as np
from lab import circles, figure, options, parse, save, span, table
from tqdm import tqdm

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim

TAU, C, LR = 2.0, 1.0, 0.05
CHANCE = math.log(5)
FULL, MEAN, VAR = "full batch norm", "E[x] constant", "Var[x] constant"
WAYS = {FULL: (), MEAN: ("mean",), VAR: ("var",), "both constant": ("mean", "var")}
BETA, MOMENTUM, ADAM = "E[x] constant, beta learns", "momentum 0.9", "Adam"
BALANCED = "two balanced classes"
OUTSIDE, NO_NORM = "frozen for 10 steps", "no normalization"


class Path(NamedTuple):
    """The length of all weights, that of all biases, and the loss, before each step."""

    w: np.ndarray
    b: np.ndarray
    loss: np.ndarray

    @property
    def late_loss(self) -> float:
        """The median over the last quarter of the steps, which spikes do not move."""
        return float(np.median(self.loss[-(len(self.loss) // 4 or 1) :]))


def train(loss_now, optimizer, weights, biases, steps) -> Path:
    """Take the steps, or stop where the loss is no longer a number."""
    points = []
    for _ in range(steps):
        loss = loss_now()
        points.append((length(weights), length(biases), loss.item()))
        if not math.isfinite(loss.item()):
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Path(*np.array(points).T)


def length(tensors):
    return math.sqrt(sum((t.data**2).sum() for t in tensors))


# --- One unit -------------------------------------------------------------------------


class Unit:
    """A linear unit and its normalization, as the docstring above defines them."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        u, w = rng.standard_normal((64, 5)), rng.standard_normal((5, 1))
        self.u = np.linalg.qr(u - u.mean(axis=0))[0] * math.sqrt(64)
        self.w = Tensor(w / np.linalg.norm(w), requires_grad=True, name="w")
        self.b, self.beta = (Tensor([0.0], requires_grad=True, name=n) for n in "bβ")
        self.target = TAU * self.u @ self.w.data + C
        self.signs = np.where(self.target > np.median(self.target), 1.0, -1.0)

    def x(self):
        return self.u @ self.w + self.b

    def loss(self, classes=False, **statistics):
        """Half the mean squared error, or the cross-entropy of two balanced classes."""
        y = tg.batch_norm(self.x(), beta=self.beta, eps=0, **statistics)
        if classes:
            return tg.log(1 + tg.exp(-self.signs * y)).mean()
        return nn.mse_loss(y, self.target) / 2

    def train(self, optimizer, steps, **how):
        loss_now = partial(self.loss, **how)
        return train(loss_now, optimizer, [self.w], [self.b], steps)


def routes_to_b(seed):
    """The gradient of b, route by route, for each way to treat the statistics."""
    unit = Unit(seed)
    losses = {way: unit.loss(constants=constants) for way, constants in WAYS.items()}
    return {way: tg.explain(loss, unit.b) for way, loss in losses.items()}


def straight_line(seed, steps):
    """The paths of b where nothing else is trained, but beta in one case."""
    paths = {}
    for case in (FULL, MEAN, BETA, MOMENTUM, ADAM, BALANCED):
        unit = Unit(seed)
        trained = [unit.b, unit.beta] if case == BETA else [unit.b]
        if case == ADAM:
            optimizer = optim.Adam(trained, LR)
        else:
            optimizer = optim.SGD(trained, LR, momentum=0.9 if case == MOMENTUM else 0)
        constants = () if case == FULL else ("mean",)
        paths[case] = unit.train(
            optimizer, steps, classes=case == BALANCED, constants=constants
        )
    return paths


def line_theory(k):
    """Where b is after k steps, case by case; balanced classes leave it near 0."""
    lag = 0.9 * (1 - 0.9**k) / (1 - 0.9)
    return {
        FULL: 0 * k,
        MEAN: LR * C * k,
        BETA: C * (1 - (1 - LR) ** k),
        MOMENTUM: LR * C * (k - lag) / (1 - 0.9),
        ADAM: LR * k,
        BALANCED: 0 * k,
    }


def square_root(seed, steps):
    """The path of w and b with fresh statistics, both constant in backward."""
    unit = Unit(seed)
    optimizer = optim.SGD([unit.w, unit.b], LR)
    return unit.train(optimizer, steps, constants=("mean", "var"))


def exponential(seed, rounds=12, steps=40):
    """The path of w and b from round to round, and the loss at the end of each."""
    unit, points = Unit(seed), []
    for _ in range(rounds):
        x = unit.x().data
        mean, var = x.mean(axis=0), x.var(axis=0)
        # The curvature of the loss is 1 / var: with this lr a step halves the error.
        optimizer = optim.SGD([unit.w, unit.b], lr=var.item() / 2)
        path = unit.train(optimizer, steps, mean=mean, var=var)
        points.append((path.w[0], path.b[0], path.loss[0], path.loss[-1]))
    *path, converged = np.array(points).T
    return Path(*path), converged


def path_theory(w):
    """The path of ``square_root`` and ``exponential`` that belongs to these |w|."""
    loss = ((TAU - 1) ** 2 + C**2) / 2
    return Path(w, C * (w - 1) / (TAU - 1), np.full(len(w), loss))


# --- Networks -------------------------------------------------------------------------


class Network:
    """A perceptron, and its task: to say which column of X A is the largest.

    ``norm`` are the settings of batch norm before each activation, None for no norm.
    """

    def __init__(self, seed, widths, activation, norm):
        rng = np.random.default_rng(1000 + seed)
        x, a = rng.standard_normal((512, 20)), rng.standard_normal((20, 5))
        self.x, self.labels = Tensor(x), (x @ a).argmax(axis=1)
        self.hidden, modules = [], []
        for fan_in, fan_out in zip([20, *widths], widths):
            self.hidden.append(linear(fan_in, fan_out, rng))
            modules.append(self.hidden[-1])
            if norm is not None:
                modules.append(nn.BatchNorm(fan_out, dtype=np.float64, **norm))
            modules.append(activation())
        self.model = nn.Sequential(*modules, linear(widths[-1], 5, rng))

    def loss(self):
        return nn.cross_entropy(self.model(self.x), self.labels)

    def train(self, optimizer, steps):
        weights, biases = zip(*((layer.weight, layer.bias) for layer in self.hidden))
        return train(self.loss, optimizer, weights, biases, steps)


def linear(fan_in, fan_out, rng):
    """A layer with weights of variance 1 / fan_in."""
    layer = nn.Linear(fan_in, fan_out, rng=rng, dtype=np.float64)
    layer.weight[:] = rng.standard_normal((fan_in, fan_out)) / math.sqrt(fan_in)
    return layer


def sigmoid_network(seed, way, steps):
    """Three hidden layers of 50, and one way to treat the statistics."""
    constants = ("mean",) if way == BETA else WAYS[way]
    norm = {"affine": way == BETA, "constants": constants}
    network = Network(seed, [50] * 3, nn.Sigmoid, norm)
    return network.train(optim.SGD(network.model.parameters(), lr=2), steps)


def relu_network(seed, way, steps):
    """Eight hidden layers of 50: statistics in the step, outside of it, or none."""
    norm = None if way == NO_NORM else {"affine": False, "momentum": 1}
    network = Network(seed, [50] * 8, nn.ReLU, norm)
    optimizer = optim.SGD(network.model.parameters(), lr=0.5)
    if way != OUTSIDE:
        return network.train(optimizer, steps)
    paths = []
    for start in range(0, steps, 10):
        network.model.train()
        with tg.no_grad():
            network.loss()
        network.model.eval()
        # Numbers that blow up overflow, which is what is to be seen here.
        with np.errstate(over="ignore", invalid="ignore"):
            paths.append(network.train(optimizer, min(10, steps - start)))
        if not math.isfinite(paths[-1].loss[-1]):
            break
    return Path(*map(np.concatenate, zip(*paths)))


def largest_cosine(seed, way):
    """Between the weights of a hidden unit and their gradient, at first and eps = 0."""
    norm = {"affine": False, "eps": 0, "constants": WAYS[way]}
    network = Network(seed, [50] * 3, nn.Sigmoid, norm)
    weights, largest = [layer.weight for layer in network.hidden], 0
    for w, d_w in zip(weights, tg.grad(network.loss(), weights)):
        w, d_w = (v.data / np.linalg.norm(v.data, axis=0) for v in (w, d_w))
        largest = max(largest, np.abs((w * d_w).sum(axis=0)).max())
    return float(largest)


# --- What was measured ----------------------------------------------------------------


def measure(seed, steps, quick=False):
    """All paths by what was done; those of networks over three seeds, or over one."""
    seeds = range(seed, seed + (1 if quick else 3))

    def over_seeds(network, ways, steps):
        return {
            way: [network(s, way, steps) for s in tqdm(seeds, desc=way, disable=None)]
            for way in ways
        }

    rounds, converged = exponential(seed)
    k, r = np.arange(steps), np.arange(len(rounds.w))
    return {
        "routes": routes_to_b(seed),
        "line": straight_line(seed, steps),
        "line theory": line_theory(k),
        "root": square_root(seed, steps),
        "root theory": path_theory(np.sqrt(1 + 2 * LR * (TAU - 1) * k)),
        "rounds": rounds,
        "rounds theory": path_theory(TAU**r),
        "converged": converged,
        "sigmoid": over_seeds(sigmoid_network, [*WAYS, BETA], steps),
        "relu": over_seeds(relu_network, [FULL, OUTSIDE, NO_NORM], (steps + 1) // 2),
        "cosines": {way: [largest_cosine(s, way) for s in seeds] for way in WAYS},
    }


def report(measured):
    """The closing tables: measured numbers beside the theory."""
    routes = [
        (way, *(entry for _, (entry,), _ in explanation.rows()))
        for way, explanation in measured["routes"].items()
    ]
    unit = [
        (f"b alone: {case}", path.b[-1], float(measured["line theory"][case][-1]))
        for case, path in measured["line"].items()
    ]
    for part, what in (("root", "both constant"), ("rounds", "frozen in rounds")):
        ends = zip(("|w|", "b", "loss"), measured[part], measured[f"{part} theory"])
        unit += [(f"{what}: {name}", a[-1], b[-1]) for name, a, b in ends]
    unit.append(("  loss at the end of a round", measured["converged"].max(), 0.0))
    networks = [
        (
            f"{kind}: {way}",
            span(path.late_loss for path in paths),
            span(path.b[-1] for path in paths),
            span(path.w[-1] / path.w[0] for path in paths),
        )
        for kind in ("sigmoid", "relu")
        for way, paths in measured[kind].items()
    ]
    cosines = [(way, span(values)) for way, values in measured["cosines"].items()]
    head = ("", "direct", "E[x]", "Var[x]", "Var[x], E[x]", "total")
    return "\n\n".join(
        [
            table("The gradient of b, by its routes", head, routes),
            table("One unit, before the last step", ("", "measured", "theory"), unit),
            table(
                f"Networks, over seeds (chance: {CHANCE:.3f})",
                ("", "late loss", "|b|", "|W| grew by"),
                networks,
            ),
            table("Largest cosine of weights and gradient", ("", "measured"), cosines),
        ]
    )


def plot_unit(measured, theme):
    """One unit: the straight line, what stops it, the square root, the exponential."""
    line, k = measured["line"], np.arange(len(measured["root"].w))
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    a.set_title("E[x] constant: b climbs, the loss stays")
    a.plot(line[MEAN].b, label="b")
    a.plot(line[MEAN].loss, label="loss")
    a.plot(line[FULL].b, label="b with full batch norm")
    circles(a, k, measured["line theory"][MEAN], r"$-k\,lr\,S$")
    b.set_title("A learnable beta behind it stops b")
    b.plot(line[BETA].b, label="b")
    b.plot(line[BETA].loss, label="loss")
    c.set_title("Var[x] constant too: like a square root")
    d.set_title("Frozen in rounds: doubled in each")
    formulas = {"root": r"$\sqrt{1 + 2\,lr\,(TAU-1)\,k}$", "rounds": r"$TAU^{\,round}$"}
    for axes, part in ((c, "root"), (d, "rounds")):
        for name, values in zip(("|w|", "b", "loss"), measured[part]):
            axes.plot(values, label=name)
        w = measured[f"{part} theory"].w
        circles(axes, np.arange(len(w)), w, formulas[part])
    c.set_ylim(top=1.3 * measured["root"].w[-1])
    d.set_yscale("log", base=2)
    for axes in (a, b, c, d):
        axes.set(xlabel="step k", ylabel="value")
        axes.legend()
    d.set(xlabel="round of 40 steps", ylim=(0.5, None))
    return fig


def plot_networks(measured, theme):
    """The networks: |b|, |W| and loss of the one kind, and the loss of the other."""
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    sigmoid, relu = measured["sigmoid"], measured["relu"]
    a.set_title("Only E[x] protects b")
    # A logarithmic axis has no place for the 0 at which biases begin.
    plot_ways(a, sigmoid, lambda path: np.maximum(path.b, 1e-17), "|b|")
    b.set_title("E[x] constant: W grows most")
    plot_ways(b, sigmoid, lambda path: path.w / path.w[0], "|W|, 1 at the start")
    c.set_title("E[x] constant: no learning without beta")
    plot_ways(c, sigmoid, lambda path: path.loss, "loss")
    chance = c.axhline(CHANCE, color="C4", linestyle=":", linewidth=1.2, label="chance")
    c.legend(handles=[chance], loc="lower left")
    d.set_title("Frozen statistics: ReLU network blows up")
    plot_ways(d, relu, lambda path: path.loss, "loss")
    d.set_ylim(1e-3, 1e6)
    a.legend()
    d.legend()
    return fig


def plot_ways(axes, paths_of_ways, values_of, label):
    """One line per seed, the first one thick, and one style per way."""
    for way, (first, *others) in paths_of_ways.items():
        (line,) = axes.plot(values_of(first), label=way)
        for path in others:
            style = {"color": line.get_color(), "linestyle": line.get_linestyle()}
            axes.plot(values_of(path), linewidth=0.8, alpha=0.4, **style)
    axes.set(xlabel="step", ylabel=label, yscale="log")


def main(arguments=None):
    given = parse(options(__doc__, steps=200, quick_steps=40), arguments)
    measured = measure(given.seed, given.steps, given.quick)
    save(lambda theme: plot_unit(measured, theme), given, "bias_blow_up")
    save(lambda theme: plot_networks(measured, theme), given, "bias_blow_up_networks")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
