"""Why does a bias in front of batch norm not grow for ever?

    python examples/bias_blow_up.py
    python examples/bias_blow_up.py --quick --theme dark

Because E[x] is part of the graph: what the loss asks of b directly, it takes back
through E[x]. Where backward takes E[x] for a constant, nothing is taken back, and b
grows while the loss stands still. Three such warnings, each alone in one linear unit
(``one_unit.py``), and then what becomes of networks (``blow_up_networks.py``).

The unit: u centered and white (mean(u u^T) = I), w* the direction that the target
depends on, |w*| = 1. x = u.w + b, y = (x - m) / s with s = |w|, t = TAU u.w* + C, and
the loss is mean((y - t)^2) / 2. So S = sum dL/dy = mean(y - t) = -C.

1. m constant, w kept at w*: y and S never change, so b_k = -k lr S, a straight line.
2. m and s constant: dL/dw = (1 - TAU) w / |w|^2, so a step adds lr (TAU - 1) / |w| to
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

import numpy as np
from blow_up_networks import (
    CHANCE,
    NO_NORM,
    OUTSIDE,
    largest_cosine,
    relu_network,
    sigmoid_network,
)
from growth import BETA, BOTH, FULL, MEAN, VAR, WAYS, Path
from lab import options, parse, save, seeds
from one_unit import (
    ADAM,
    LR,
    MOMENTUM,
    TAU,
    C,
    Unit,
    exponential,
    square_root,
    straight_line,
)
from plots.bias_blow_up import plot_networks, plot_unit, report
from tqdm import tqdm

import tinygrad_bn as tg


def routes_to_b(seed):
    """The gradient of b, route by route, for each way to treat the statistics."""
    unit = Unit(seed)
    losses = {way: unit.loss(constants=constants) for way, constants in WAYS.items()}
    return {way: tg.explain(loss, unit.b) for way, loss in losses.items()}


def line_theory(k):
    """Where b of ``straight_line`` is after k steps, where there is a formula."""
    lag = 0.9 * (1 - 0.9**k) / (1 - 0.9)
    return {
        FULL: 0 * k,
        MEAN: LR * C * k,
        BETA: C * (1 - (1 - LR) ** k),
        MOMENTUM: LR * C * (k - lag) / (1 - 0.9),
        ADAM: LR * k,
    }


def path_theory(w):
    """The path of ``square_root`` and ``exponential`` that belongs to these |w|."""
    loss = ((TAU - 1) ** 2 + C**2) / 2
    return Path(w, C * (w - 1) / (TAU - 1), np.full(len(w), loss))


def measure(seed, steps, quick=False):
    """All paths by what was done; those of networks over three seeds, or over one."""
    which = seeds(seed, quick)

    def over_seeds(network, ways, steps):
        return {
            way: [network(s, way, steps) for s in tqdm(which, desc=way, disable=None)]
            for way in ways
        }

    rounds, converged = exponential(seed)
    k, r = np.arange(steps), np.arange(len(rounds.w))
    ways = (FULL, MEAN, VAR, BOTH, BETA)
    return {
        "routes": routes_to_b(seed),
        "line": straight_line(seed, steps),
        "line theory": line_theory(k),
        "root": square_root(seed, steps),
        "root theory": path_theory(np.sqrt(1 + 2 * LR * (TAU - 1) * k)),
        "rounds": rounds,
        "rounds theory": path_theory(TAU**r),
        "converged": converged,
        "sigmoid": over_seeds(sigmoid_network, ways, steps),
        "relu": over_seeds(relu_network, (FULL, OUTSIDE, NO_NORM), (steps + 1) // 2),
        "chance": CHANCE,
        "cosines": {way: [largest_cosine(s, way) for s in which] for way in WAYS},
    }


def main(arguments=None):
    given = parse(options(__doc__, steps=200, quick_steps=40), arguments)
    measured = measure(given.seed, given.steps, given.quick)
    save(lambda theme: plot_unit(measured, theme), given, "bias_blow_up")
    save(lambda theme: plot_networks(measured, theme), given, "bias_blow_up_networks")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
