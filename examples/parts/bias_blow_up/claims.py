"""What bias_blow_up.py must show."""

import numpy as np

from parts.bias_blow_up.growth import BETA, BOTH, FULL, MEAN, VAR
from parts.bias_blow_up.networks import CHANCE, FROZEN, NO_NORM
from parts.bias_blow_up.one_unit import ADAM, MOMENTUM
from support.claims import claim
from support.measures import relative_error

SEEDS = (0,)  # one run measures three seeds


def claims(runs):
    (run,) = runs
    yield from _of_the_unit(run)
    yield from _of_sigmoid_networks(run["sigmoid"])
    yield from _of_relu_networks(run["relu"])
    for case, cosines in run["cosines"].items():
        bounds = {"high": 1e-12} if case == FULL else {"low": 0.05}
        if case != BOTH:
            yield claim(f"{case}: cosine of weights and gradient", cosines, **bounds)


def _of_the_unit(run):
    theory = run["theory"]
    lines, roots, rounds = (
        [unit[part] for unit in run["units"]] for part in ("line", "root", "rounds")
    )
    for case in (MEAN, BETA, MOMENTUM, ADAM):
        errors = [relative_error(line[case].b, theory["line"][case]) for line in lines]
        yield claim(f"{case}: relative error of the formula for b", errors, high=1e-6)
    changes = [np.ptp(line[MEAN].loss) for line in lines]
    yield claim("E[x] constant: change of the loss", changes, high=1e-12)
    largest = [line[FULL].b.max() for line in lines]
    yield claim("full batch norm: |b|", largest, high=1e-12)

    errors = [_largest_deviation(path.w, theory["root"].w) for path in roots]
    yield claim(
        "both constant: relative error of the square-root law", errors, high=0.005
    )
    changes = [np.ptp(path.loss) for path in roots]
    yield claim("both constant: change of the loss", changes, high=1e-9)
    errors = [_largest_deviation(path.w, theory["rounds"].w) for path in rounds]
    name = "statistics renewed once per round"
    yield claim(f"{name}: relative error of the exponential law", errors, high=1e-6)
    changes = [np.ptp(path.loss) for path in rounds]
    yield claim(f"{name}: change of the loss", changes, high=1e-6)


def _largest_deviation(found, expected):
    return np.abs(found / expected - 1).max()


def _of_sigmoid_networks(paths_of_cases):
    for case, loss, growth in ((FULL, 0.1, 1.3), (VAR, 0.2, 3)):
        losses, biases, growths = _ends(paths_of_cases[case])
        yield claim(f"sigmoid network, {case}: loss", losses, high=loss)
        yield claim(f"sigmoid network, {case}: |b|", biases, high=1e-10)
        yield claim(f"sigmoid network, {case}: |W|, end / start", growths, high=growth)
    for case in (MEAN, BOTH):
        losses, biases, growths = _ends(paths_of_cases[case])
        yield claim(f"sigmoid network, {case}: loss", losses, low=CHANCE)
        yield claim(f"sigmoid network, {case}: |b|", biases, low=50)
        yield claim(f"sigmoid network, {case}: |W|, end / start", growths, low=5)


def _of_relu_networks(paths_of_cases):
    losses, _, _ = _ends(paths_of_cases[FULL])
    yield claim("ReLU network, full batch norm: loss", losses, high=0.01)
    losses, _, growths = _ends(paths_of_cases[FROZEN])
    # A loss that is not a number has blown up, too.
    blown = [not loss < 10 or growth > 10 for loss, growth in zip(losses, growths)]
    yield claim(f"ReLU network, {FROZEN}: blows up (yes = 1)", blown, low=0.5)
    losses, _, growths = _ends(paths_of_cases[NO_NORM])
    yield claim("ReLU network, no normalization: loss", losses, high=10)
    yield claim("ReLU network, no normalization: |W|, end / start", growths, high=10)


def _ends(paths):
    """The final losses, norms of biases, and growths of weights, by seed."""
    return zip(*((path.final_loss, path.b[-1], path.growth) for path in paths))
