"""Why does a bias before batch norm not grow without limit?

    python examples/bias_blow_up.py
    python examples/bias_blow_up.py --quick --theme dark

Because E[x] is part of the graph: what the loss sends to b directly, it takes back
through E[x]. If the backward pass treats E[x] as a constant, nothing is taken back, and
b grows although the loss never changes. The script shows three forms of this in a
single linear unit (``parts/bias_blow_up/one_unit.py``), and then what happens to
networks (``parts/bias_blow_up/networks.py``).

The unit: u is centered and white (mean(u u^T) = I), and w* is the direction on which
the target depends, |w*| = 1. The unit computes x = u.w + b and y = (x - m) / s with
s = |w|. The target is t = tau u.w* + c with tau = 3 and c = 2, and the loss is
mean((y - t)^2) / 2. Hence S = sum dL/dy = mean(y - t) = -c.

1. m is constant, w stays at w*. Then y and S never change, so that b_k = -k lr S, a
   straight line.
2. m and s are constant. Then dL/dw = (1 - tau) w / |w|^2, so a step adds
   lr (tau - 1) / |w| to |w|. Squared, with a = lr (tau - 1): |w|^2 grows by 2 a, plus
   a^2 / |w|^2. Without the last term, |w| = sqrt(1 + 2 a k). This law is approximate:
   its relative error is about a log(1 + 2 a k) / (4 (1 + 2 a k)), at most a / (4 e).
   The step adds lr c / |w| to b, less than without scaling, so that
   b = c (|w| - 1) / (tau - 1). Neither y nor the loss ever changes.
3. m and s are computed once per round, and frozen until w and b have converged. At the
   end of a round y = t, so w = s tau w* and b = m + s c. When the statistics are
   renewed, m = b and s = |w|, and y is u.w* again: each round multiplies |w| by tau and
   leaves the loss where it was.

A learnable beta after batch norm takes S to 0, and b stops when beta stops. Momentum
mu (each step repeats mu times the step before) makes the line 1 / (1 - mu) times as
steep. Adam moves b by lr per step, regardless of S.

In networks, constant statistics lower the largest learning rate that works; they do not
make every network fail. At lr 2, sigmoid networks with a constant E[x] stop learning.
At lr 0.5 they end close to full batch norm, and at lr 0.1 the loss shows no difference,
although b drifts. ReLU networks whose statistics are frozen for ten steps at a time
overflow at lr 0.5 in all seeds shown, and in 23 of 24 others that were tried. At lr 0.1
they do not.

What is the point of b, then? None: it is the simplest parameter whose steps the
normalization undoes, which makes it a good example. The scale of w is another.

Not shown: that anybody trains like this, or that every loss behaves this way. Where S
is near 0, as for two balanced classes, b hardly moves.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 2.
"""

import numpy as np

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
    recursion_theory,
    square_root,
    square_root_theory,
    straight_line,
)
from parts.bias_blow_up.plots import plot_networks, plot_unit, report
from support.command_line import experiment_options, parse, seeds
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save

SIGMOID_RATES, RELU_RATES = (0.1, 0.5, 2.0), (0.1, 0.2, 0.5)


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


def measure(seed, steps, quick=False, jobs=1):
    """The unit with its theory, and the networks, over three seeds or one."""
    which = seeds(seed, quick)

    def over_seeds(network, cases, rates, steps):
        runs = [(s, case, lr, steps) for case in cases for lr in rates for s in which]
        found = in_parallel(network, runs, jobs, network.__name__)
        return {
            (case, lr): [found[s, case, lr, steps] for s in which]
            for case in cases
            for lr in rates
        }

    sigmoid_cases, relu_cases = (FULL, MEAN, VAR, BOTH), (FULL, FROZEN, NO_NORM)
    rates = SIGMOID_RATES, RELU_RATES
    if quick:
        rates = SIGMOID_RATES[::2], RELU_RATES[::2]
    return {
        "routes": routes_to_b(seed),
        "units": [measure_unit(s, steps) for s in which],
        "theory": {
            "line": line_theory(np.arange(steps)),
            "root": square_root_theory(steps),
            "recursion": recursion_theory(steps),
            "rounds": exponential_theory(),
        },
        "sigmoid": over_seeds(sigmoid_network, sigmoid_cases, rates[0], steps)
        | over_seeds(sigmoid_network, (BETA,), SIGMOID_RATES[-1:], steps),
        "relu": over_seeds(relu_network, relu_cases, rates[1], (steps + 1) // 2),
        "chance": CHANCE,
        "cosines": {c: [largest_cosine(s, c) for s in which] for c in CONSTANTS},
    }


def main(arguments=None):
    parser = experiment_options(__doc__, steps=200, quick_steps=40)
    add_jobs_option(parser)
    options = parse(parser, arguments)
    jobs = requested_jobs(options)
    measured = measure(options.seed, options.steps, options.quick, jobs)
    save(lambda theme: plot_unit(measured, theme), options, "bias_blow_up")
    save(lambda theme: plot_networks(measured, theme), options, "bias_blow_up_networks")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
