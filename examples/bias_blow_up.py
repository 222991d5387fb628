"""Why does a bias in front of batch norm not grow without limit?

    python examples/bias_blow_up.py
    python examples/bias_blow_up.py --quick --theme dark

Because E[x] is part of the graph: what the loss sends to b directly, it takes back
through E[x]. If the backward pass treats E[x] as a constant, nothing is taken back, and
b grows although the loss never changes. The script shows three forms of this in a
single linear unit (``parts/bias_blow_up/one_unit.py``), and then what happens to
networks (``parts/bias_blow_up/networks.py``).

The unit: u is centered and white (mean(u u^T) = I), and w* is the direction on which
the target depends, |w*| = 1. The unit computes x = u.w + b and y = (x - m) / s with
s = |w|. The target is t = TAU u.w* + C, and the loss is mean((y - t)^2) / 2. Hence
S = sum dL/dy = mean(y - t) = -C.

1. m is constant, w stays at w*. Then y and S never change, so that b_k = -k lr S, a
   straight line.
2. m and s are constant. Then dL/dw = (1 - TAU) w / |w|^2, so a step adds
   lr (TAU - 1) / |w| to |w|, and |w| is nearly sqrt(1 + 2 lr (TAU - 1) k). The step
   adds lr C / |w| to b, less than without scaling: b = C (|w| - 1) / (TAU - 1). Neither
   y nor the loss ever changes.
3. m and s are computed once per round, and frozen until w and b have converged. At the
   end of a round y = t, so w = s TAU w* and b = m + s C. When the statistics are
   renewed, m = b and s = |w|, and y is u.w* again: each round multiplies |w| by TAU and
   leaves the loss where it was.

A learnable beta behind batch norm takes S to 0, and b stops when beta stops. Momentum
mu makes the line 1 / (1 - mu) times as steep. Adam moves b by lr per step, whatever S
is.

Not shown: that anybody trains like this, or that every loss behaves this way. Where S
is near 0, as for two balanced classes, b hardly moves; and with a learnable beta,
networks still learn.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 2.
"""

import numpy as np
from tqdm import tqdm

import tinygrad_bn as tg
from parts.bias_blow_up.growth import BETA, BOTH, CONSTANTS, FULL, MEAN, VAR
from parts.bias_blow_up.networks import (
    CHANCE,
    FROZEN,
    NO_NORM,
    largest_cosine,
    relu_network,
    sigmoid_network,
)
from parts.bias_blow_up.one_unit import (
    Unit,
    exponential,
    exponential_theory,
    line_theory,
    square_root,
    square_root_theory,
    straight_line,
)
from parts.bias_blow_up.plots import plot_networks, plot_unit, report
from support.command_line import experiment_options, parse, seeds
from support.plotting import save


def routes_to_b(seed):
    """The gradient of b, route by route, for each choice of constants."""
    unit = Unit(seed)
    losses = {case: unit.loss(constants=which) for case, which in CONSTANTS.items()}
    return {case: tg.explain(loss, unit.b) for case, loss in losses.items()}


def measure_unit(seed, steps):
    """The three paths of the unit."""
    rounds, converged = exponential(seed)
    return {
        "line": straight_line(seed, steps),
        "root": square_root(seed, steps),
        "rounds": rounds,
        "converged": converged,
    }


def measure(seed, steps, quick=False):
    """The unit with its theory, and the networks, over three seeds or one."""
    which = seeds(seed, quick)

    def over_seeds(network, cases, steps):
        return {
            case: [network(s, case, steps) for s in tqdm(which, case, disable=None)]
            for case in cases
        }

    cases = (FULL, MEAN, VAR, BOTH, BETA)
    return {
        "routes": routes_to_b(seed),
        "units": [measure_unit(s, steps) for s in which],
        "theory": {
            "line": line_theory(np.arange(steps)),
            "root": square_root_theory(steps),
            "rounds": exponential_theory(),
        },
        "sigmoid": over_seeds(sigmoid_network, cases, steps),
        "relu": over_seeds(relu_network, (FULL, FROZEN, NO_NORM), (steps + 1) // 2),
        "chance": CHANCE,
        "cosines": {c: [largest_cosine(s, c) for s in which] for c in CONSTANTS},
    }


def main(arguments=None):
    given = parse(experiment_options(__doc__, 200, quick_steps=40), arguments)
    measured = measure(given.seed, given.steps, given.quick)
    save(lambda theme: plot_unit(measured, theme), given, "bias_blow_up")
    save(lambda theme: plot_networks(measured, theme), given, "bias_blow_up_networks")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
