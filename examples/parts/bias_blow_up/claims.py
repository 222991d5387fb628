"""What bias_blow_up.py must show."""

import numpy as np

from parts.bias_blow_up.growth import BETA, BOTH, FULL, MEAN, VAR
from parts.bias_blow_up.networks import CHANCE, FROZEN, NO_NORM, blew_up
from parts.bias_blow_up.one_unit import ADAM, MOMENTUM, SQUARE_ROOT_ERROR
from support.claims import claim, derived
from support.measures import relative_error

SEEDS = (0,)  # one run measures three seeds


def claims(runs):
    (run,) = runs
    yield from _of_the_unit(run)
    yield from _of_sigmoid_networks(run["sigmoid"])
    yield from _of_relu_networks(run["relu"])
    for case, cosines in run["cosines"].items():
        bounds = {"high": 1e-12} if case == FULL else {"low": 0.05}
        name = f"{case}: largest |cosine| of a unit's weights and their gradient"
        yield claim(name, cosines, **bounds)


def _of_the_unit(run):
    theory = run["theory"]
    lines, roots, rounds = (
        [unit[part] for unit in run["units"]] for part in ("line", "root", "rounds")
    )
    for case in (MEAN, BETA, MOMENTUM, ADAM):
        errors = [relative_error(line[case].b, theory["line"][case]) for line in lines]
        yield derived(f"{case}: relative error of the formula for b", errors, high=1e-6)
    changes = [np.ptp(line[MEAN].loss) for line in lines]
    yield derived("E[x] constant: change of the loss", changes, high=1e-12)
    largest = [line[FULL].b.max() for line in lines]
    yield derived("full batch norm: |b|", largest, high=1e-12)

    errors = [_largest_deviation(path.w, theory["recursion"].w) for path in roots]
    name = f"{BOTH}: relative error of the recursion for |w|"
    yield derived(name, errors, high=1e-9)
    errors = [_largest_deviation(path.w, theory["root"].w) for path in roots]
    name = f"{BOTH}: error of the square-root law / (lr (tau - 1) / (4 e))"
    yield derived(name, np.divide(errors, SQUARE_ROOT_ERROR), 0.8, 1.1)
    changes = [np.ptp(path.loss) for path in roots]
    yield derived(f"{BOTH}: change of the loss", changes, high=1e-9)
    errors = [_largest_deviation(path.w, theory["rounds"].w) for path in rounds]
    name = "statistics renewed once per round"
    yield derived(f"{name}: relative error of |w| = tau^round", errors, high=1e-6)
    changes = [np.ptp(path.loss) for path in rounds]
    yield derived(f"{name}: change of the loss", changes, high=1e-6)


def _largest_deviation(found, expected):
    return np.abs(found / expected - 1).max()


def _of_sigmoid_networks(paths):
    """Networks at the learning rate at which constants ruin them, and at lower ones."""
    for case, loss, growth in ((FULL, 0.1, 1.3), (VAR, 0.2, 3)):
        losses, biases, growths = _ends(paths[case, 2.0])
        name = f"sigmoid network, {case}, lr 2"
        yield claim(f"{name}: loss", losses, high=loss)
        yield claim(f"{name}: |b|", biases, high=1e-10)
        yield claim(f"{name}: |W|, end / start", growths, high=growth)
    for case in (MEAN, BOTH):
        losses, biases, growths = _ends(paths[case, 2.0])
        name = f"sigmoid network, {case}, lr 2"
        yield claim(f"{name}: loss", losses, low=CHANCE)
        yield claim(f"{name}: |b|", biases, low=50)
        yield claim(f"{name}: |W|, end / start", growths, low=5)
    for lr, bounds in ((0.5, (1.0, 2.0)), (0.1, (0.95, 1.1))):
        name = f"sigmoid network, lr {lr}: loss with E[x] constant / full batch norm"
        (constant, biases, _), (full, _, _) = (
            _ends(paths[case, lr]) for case in (MEAN, FULL)
        )
        yield claim(name, np.divide(constant, full), *bounds)
        yield claim(f"sigmoid network, E[x] constant, lr {lr}: |b|", biases, low=0.3)


def _of_relu_networks(paths):
    losses, _, _ = _ends(paths[FULL, 0.5])
    yield claim("ReLU network, full batch norm, lr 0.5: loss", losses, high=0.01)
    for case, lr, bounds in (
        (FROZEN, 0.5, {"low": 0.5}),
        (FROZEN, 0.1, {"high": 0.5}),
        (NO_NORM, 0.5, {"high": 0.5}),
    ):
        found = [blew_up(path) for path in paths[case, lr]]
        yield claim(
            f"ReLU network, {case}, lr {lr}: blows up (yes = 1)", found, **bounds
        )


def _ends(paths):
    """The final losses, norms of biases, and growths of weights, by seed."""
    return zip(*((path.final_loss, path.b[-1], path.growth) for path in paths))
