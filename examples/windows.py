"""What the experiments must show: each statement, and what some seeds gave it.

A window is a statement, the values that were measured for it, one or more for each
seed, and between which bounds every one of them must lie. Each function takes the
results of an experiment in full, for at least three seeds, and says its windows. They
are wide enough to hold for other seeds and machines: what is exact is held to rounding,
what is theory for large networks to some percent, and what is an ordering by a margin.

``python examples/gallery.py --experiments`` checks them, and writes what it found under
the numbers of each experiment.
"""

import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import batch_noise
import bias_blow_up
import bias_is_redundant
import gamma_and_beta
import moving_averages
import numpy as np
import scale_invariance
from lab import apart, span, table
from plots.gradient_flow import named

SEEDS = (0, 1, 2)


class Window(NamedTuple):
    """A statement, its measured values, and the bounds between which they must be."""

    statement: str
    values: list[float]
    low: float = -math.inf
    high: float = math.inf

    @property
    def holds(self) -> bool:
        """Whether there are values, and all are numbers between the bounds."""
        return bool(self.values) and all(self.low < v < self.high for v in self.values)

    @property
    def bounds(self) -> str:
        if self.low == -math.inf:
            return f"< {self.high:g}"
        if self.high == math.inf:
            return f"> {self.low:g}"
        return f"{self.low:g} to {self.high:g}"


def window(statement: str, values: Iterable, low=-math.inf, high=math.inf) -> Window:
    return Window(statement, [float(v) for v in values], low, high)


def checked(windows: Iterable[Window]) -> str:
    """The windows as a table.

    Raises: ``AssertionError`` if one does not hold, which shows them all.
    """
    windows = list(windows)
    rows = [
        (w.statement, span(w.values), w.bounds, "yes" if w.holds else "NO")
        for w in windows
    ]
    text = table("Checked, over seeds", ("", "measured", "must be", "holds"), rows)
    if not all(w.holds for w in windows):
        raise AssertionError(f"a statement does not hold\n\n{text}")
    return text


# --- One function for each experiment -------------------------------------------------


def of_bias_blow_up(runs) -> Iterator[Window]:
    script, steps = bias_blow_up, 200
    lines = [script.straight_line(seed, steps) for seed in SEEDS]
    theory = script.line_theory(np.arange(steps))
    for case in (script.MEAN, script.BETA, script.MOMENTUM, script.ADAM):
        off = [apart(line[case].b, theory[case]) for line in lines]
        yield window(f"{case}: b off its line", off, high=1e-6)
    moved = [np.ptp(line[script.MEAN].loss) for line in lines]
    yield window("E[x] constant: the loss moves", moved, high=1e-12)
    full = [line[script.FULL].b.max() for line in lines]
    yield window("full batch norm: b", full, high=1e-12)

    roots = [script.square_root(seed, steps) for seed in SEEDS]
    expected = np.sqrt(1 + 2 * script.LR * (script.TAU - 1) * np.arange(steps))
    off = [np.abs(path.w / expected - 1).max() for path in roots]
    yield window("both constant: |w| off the square root", off, high=0.005)
    moved = [np.ptp(path.loss) for path in roots]
    yield window("both constant: the loss moves", moved, high=1e-9)
    rounds = [script.exponential(seed)[0] for seed in SEEDS]
    off = [np.abs(p.w / script.TAU ** np.arange(len(p.w)) - 1).max() for p in rounds]
    yield window("frozen in rounds: |w| off the exponential", off, high=1e-6)
    moved = [np.ptp(path.loss) for path in rounds]
    yield window("frozen in rounds: the loss moves", moved, high=1e-6)

    (run,) = runs
    sigmoid, relu = run["sigmoid"], run["relu"]
    for way in (script.FULL, script.VAR):
        high_loss, high_w = (0.1, 1.3) if way == script.FULL else (0.2, 3)
        paths = sigmoid[way]
        yield window(f"sigmoid, {way}: loss", late(paths), high=high_loss)
        yield window(f"sigmoid, {way}: |b|", [p.b[-1] for p in paths], high=1e-10)
        yield window(f"sigmoid, {way}: |W| grew by", grown(paths), high=high_w)
    for way in (script.MEAN, script.BOTH):
        paths = sigmoid[way]
        yield window(f"sigmoid, {way}: loss", late(paths), low=script.CHANCE)
        yield window(f"sigmoid, {way}: |b|", [p.b[-1] for p in paths], low=50)
        yield window(f"sigmoid, {way}: |W| grew by", grown(paths), low=5)
    yield window("ReLU, full: loss", late(relu[script.FULL]), high=0.01)
    lost = [not (v < 10) for v in late(relu[script.OUTSIDE])]
    blown = [a or b > 10 for a, b in zip(lost, grown(relu[script.OUTSIDE]))]
    yield window("ReLU, frozen: blew up (1)", blown, low=0.5)
    yield window("ReLU, none: loss", late(relu[script.NO_NORM]), high=10)
    yield window("ReLU, none: |W| grew by", grown(relu[script.NO_NORM]), high=10)
    cosines = run["cosines"]
    yield window("cosine, full batch norm", cosines[script.FULL], high=1e-12)
    for way in (script.MEAN, script.VAR):
        yield window(f"cosine, {way}", cosines[way], low=0.05)


def late(paths):
    return [path.late_loss for path in paths]


def grown(paths):
    return [path.w[-1] / path.w[0] for path in paths]


def of_bias_is_redundant(runs) -> Iterator[Window]:
    (run,) = runs
    for (optimizer, affine), pairs in run["pairs"].items():
        name = f"{optimizer}{'' if affine else ', no gamma and beta'}"
        yield window(f"{name}: apart", [p["apart"].max() for p in pairs], high=1e-10)
    drifts = {k: [path[-1] for path in v] for k, v in run["drifts"].items()}
    yield window("dead b, Adam, float32", drifts["Adam", "float32"], 1e-3, 0.2)
    yield window("dead b, Adam, float64", drifts["Adam", "float64"], high=1e-8)
    alive = [bias_is_redundant.liveliness(seed) for seed in SEEDS]
    for case in alive[0]:
        dead = case in ("batch norm", "Var[x] constant")
        bounds = {"high": 1e-12} if dead else {"low": 0.01}
        name = f"b before {case}" if case != "way around it" else f"b with a {case}"
        yield window(name, [found[case] for found in alive], **bounds)


def of_gamma_and_beta(runs) -> Iterator[Window]:
    (run,) = runs
    identity = [gamma_and_beta.identity_error(seed) for seed in SEEDS]
    yield window("the identity is off by", identity, high=1e-12)
    yield window("share of N(0, 1) within 2", [run["within 2"]], 0.95, 0.96)
    yield window("straight share, std 1", [run["straight"][1]], 0.98, 0.99)
    yield window("straight share, std 4", [run["straight"][4]], 0.83, 0.85)
    for name, floor in run["floor"].items():
        fixed, learned = (
            gamma_and_beta.losses(run, name, affine) for affine in (False, True)
        )
        ratios = [loss / floor for loss in fixed]
        yield window(f"{name}: without, beside the floor", ratios, 1 - 1e-9, 1.01)
        high = 0.02 if name == "bump" else 0.002
        yield window(f"{name}: with gamma and beta", learned, high=high)


def of_moving_averages(runs) -> Iterator[Window]:
    (run,) = runs
    script = moving_averages
    same = [script.same_batch(seed) for seed in SEEDS]
    off = [apart(found["measured"], found["theory"]) for found in same]
    yield window("closed form of the averages: off", off, high=1e-12)
    for p in run["spread"]:
        ratios = [script.spread(s, p) / script.spread_theory(p) for s in SEEDS]
        yield window(f"std of the running mean, p = {p}: ratio", ratios, 0.92, 1.08)
    for n, k in run["gap"]:
        gaps = [script.gap(s, n, k)[-1] * 2 * n / k for s in SEEDS]
        bounds = (0.95, 1.05) if k == 1 else (1.0, 1.5)
        yield window(f"gap, N = {n}, k = {k}, beside k/(2N)", gaps, *bounds)
    for way, bounds in ((script.OWN, {"high": 0.5}), (script.FAST, {"low": 1.5})):
        yield window(f"{way}: loss", run["late losses"][way], **bounds)


def of_covariate_shift(runs) -> Iterator[Window]:
    for name, low, high in (("without", -math.inf, 0.65), ("with", 0.88, math.inf)):
        early = [run[name].accuracy[run[name].steps == 1000].item() for run in runs]
        yield window(f"{name}: test accuracy, step 1000", early, low, high)
    ends = [run["with"].accuracy[-1] - run["without"].accuracy[-1] for run in runs]
    yield window("ahead at step 5000 by", ends, low=0.02)
    for name, low, high in (("without", 10, math.inf), ("with", -math.inf, 2)):
        growth = [np.median(run[name].growth) for run in runs]
        yield window(f"{name}: growth of the spread", growth, low, high)


def of_gradient_flow(runs) -> Iterator[Window]:
    for case in runs[0]["factors"]:
        name, (_, bn) = named(*case), case
        found = [run["factors"][case] for run in runs]
        ratios = np.divide(found, [run["theory"][case] for run in runs])
        yield window(f"{name}: factor / theory", ratios.ravel(), 0.95, 1.05)
        spread = [max(f) / min(f) - 1 for f in found]
        bounds = {"high": 1e-6} if bn else {"low": 1}
        yield window(f"{name}: sigma changes it by", spread, **bounds)
    for rate, step in ((0.5, 2), (0.1, 15)):
        factors = [run["tamed"][rate][step] for run in runs]
        yield window(f"ReLU, lr {rate}: factor after {step}", factors, high=1.2)
    for i, depth in enumerate(runs[0]["depths"]):
        if depth not in (5, 10):
            continue
        for bn, low, high in ((False, -math.inf, 0.3), (True, 0.85, math.inf)):
            found = [run["accuracy"]["sigmoid", bn][i] for run in runs]
            name = named(f"sigmoid x {depth}", bn)
            yield window(f"{name}: accuracy", found, low, high)


def of_scale_invariance(runs) -> Iterator[Window]:
    off = [max(max(f) for f in run["invariance"].values()) for run in runs]
    yield window("BN((aW)u) and its gradient: off", off, high=1e-12)
    cosines = [np.abs(run["radial"][0.0][0]).max() for run in runs]
    yield window("cosine of W and dL/dW, eps = 0", cosines, high=1e-13)
    off = [
        max(apart(*found) for eps, found in run["radial"].items() if eps)
        for run in runs
    ]
    yield window("cosine with eps: off the formula", off, high=1e-6)
    paths = [path for run in runs for path in run["rates"].values()]
    off = [apart(path.size, path.pythagoras) for path in paths]
    yield window("|W|² off Pythagoras", off, high=1e-12)
    grown = [np.diff(path.size).min() for path in paths]
    yield window("smallest growth of |W|² in a step", grown, low=0)
    decay = [path.effective_lr[-1] / path.effective_lr[0] for path in paths]
    yield window("effective learning rate, end / start", decay, high=1)
    off = [
        apart(path.loss, run["rates"][scale_invariance.LR].loss)
        for run in runs
        for path in run["scaled"].values()
    ]
    yield window("losses of (aW, a² lr): off", off, high=1e-9)


def of_batch_noise(runs) -> Iterator[Window]:
    (run,) = runs
    script, sizes = batch_noise, batch_noise.SIZES
    errors, shrinkages = (
        [[measure(n, np.random.default_rng(seed)) for n in sizes] for seed in SEEDS]
        for measure in (script.error_of_mean, script.learned_shrinkage)
    )
    ratios = np.divide(errors, run["expected_error"])
    yield window("error of the mean / (s / √N)", ratios.ravel(), 0.95, 1.05)
    ratios = np.divide(shrinkages, run["expected_shrinkage"])
    yield window("gamma / s, beside its expectation", ratios.ravel(), 0.98, 1.02)
    yield window("gamma / s", np.ravel(shrinkages), high=1)
    signs = run["pairs"][min(run["pairs"])]
    off = np.abs(signs - np.sign(script.PAIRS)).max()
    yield window("x̂ of a batch of two: off its sign", [off], high=0.01)
    for optimizer in script.OPTIMIZERS:
        for group in (2, 4):
            worse = script.against_calm(run, optimizer, group)
            yield window(f"{optimizer}, groups of {group}: worse by", worse, low=0)


def of_loss_landscape(runs) -> Iterator[Window]:
    (seeds,) = runs
    for name, low in (
        ("range, 8 layers", 10), ("predictiveness, 8 layers", 3),
        ("smoothness, 8 layers", 1), ("smoothness, 3 layers", 1.3),
    ):  # fmt: skip
        yield window(f"{name}: without / with", [s["ratios"][name] for s in seeds], low)
    standard, plain, noisy = (
        [s["noise"][kind] for s in seeds]
        for kind in ("without", "batch norm", "noisy batch norm")
    )
    accuracy = [[run["accuracy"] for run in kind] for kind in (standard, plain, noisy)]
    yield window(
        "BN and noisy BN: apart", np.abs(np.subtract(*accuracy[1:])), high=0.03
    )
    for name, values in zip(("BN", "noisy BN"), accuracy[1:]):
        ahead = np.subtract(values, accuracy[0])
        yield window(f"{name}: ahead of without by", ahead, low=0.2)
    shifts = [n["moved"].mean() / s["moved"].mean() for n, s in zip(noisy, standard)]
    yield window("noisy BN: shifts, beside without", shifts, low=1)


def of_backward_by_hand(runs) -> Iterator[Window]:
    off = [max(off for _, off in run["steps"].values()) for run in runs]
    yield window("by hand and by the engine: apart", off, high=1e-12)
    off = [max(run["apart"].values()) for run in runs]
    yield window("parts and routes: apart", off, high=1e-12)
    along = [np.abs(run["along ones"]["total"]).max() for run in runs]
    yield window("d_x along the ones", along, high=1e-12)
    errors = [run["float32"][1e4] for run in runs]
    yield window("float32, mean 1e4, one pass", [e["one pass"] for e in errors], low=1)
    for way, high in (("two passes", 0.02), ("centered again", 1e-5)):
        found = [e[way] for e in errors]
        yield window(f"float32, mean 1e4, {way}", found, high=high)
    negative = [e["negative"] for e in errors]
    yield window("negative variances in one pass", negative, 0.2, 0.8)


def of_diagnostics(runs) -> Iterator[Window]:
    for name, bounds in (("without", {"low": 0.02}), ("batch norm", {"high": 0.01})):
        dead = [run[name]["dead"][-1].mean() for run in runs]
        yield window(f"dead units, {name}", dead, **bounds)
    losses = [
        run["without"]["loss"][-1] - run["batch norm"]["loss"][-1] for run in runs
    ]
    yield window("loss, without - batch norm", losses, low=0)


WINDOWS = {
    "bias_blow_up": of_bias_blow_up,
    "bias_is_redundant": of_bias_is_redundant,
    "gamma_and_beta": of_gamma_and_beta,
    "moving_averages": of_moving_averages,
    "covariate_shift": of_covariate_shift,
    "gradient_flow": of_gradient_flow,
    "scale_invariance": of_scale_invariance,
    "batch_noise": of_batch_noise,
    "loss_landscape": of_loss_landscape,
    "backward_by_hand": of_backward_by_hand,
    "diagnostics": of_diagnostics,
}
# These measure three seeds or more in one run; the others are run for each.
MANY_SEEDS = {
    "bias_blow_up", "bias_is_redundant", "gamma_and_beta", "moving_averages",
    "batch_noise", "loss_landscape",
}  # fmt: skip
