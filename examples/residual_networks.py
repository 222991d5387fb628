"""How do residual networks cope with the explosion that batch norm causes?

    python examples/residual_networks.py

By adding the output of each block to its input. In a ReLU network with batch norm,
|dL/dh|^2 grows by a factor of 1.47 per layer toward the input (gradient_flow.py), which
amounts to 10^10 in 64 layers. In a chain of residual blocks x + W relu(norm(x)), the
growth is polynomial in the number of blocks, not exponential.

Why. Let q_l be the variance of x_l over the batch, q_0 = 1, and let the weights be from
N(0, sigma^2 / width). Forward, each block adds the variance of its branch. This is
v = sigma^2 Var[relu(Z)], Z ~ N(0, 1), whatever q_l is, because batch norm divides by
sqrt(q_l). Backward, the gradient that comes through the branch is divided by sqrt(q_l),
too:

    q_l = 1 + l v        |dL/dx_l|^2 = (1 + sigma^2 E[relu'(Z)^2] / q_l) |dL/dx_l+1|^2

So the deeper a block, the larger its x, and the less its branch matters next to the
skip connection. With He's sigma^2 = 2, v = (pi - 1) / pi and the factor is 1 + 1 / q_l.
For large l that is 1 + 1.47 / l: the same constant, divided by the number of the block.
The product over n blocks grows like n^1.47 instead of 1.47^n.

Layer norm divides by E[relu(Z)^2] instead, so that q_l = 1 + l and the product of
(1 + 1 / q_l) over n blocks is n + 1. A skip connection alone is no remedy: without any
norm, both the variance and |dL/dx|^2 double in each block.

The script compares the theory with networks of 64 blocks: with batch norm, layer norm
and no norm, with and without skip connections, and for several sigma.

Not shown: training; blocks with several layers, in which batch norm comes after the
weights; other remedies, such as scaling the branch by a small number. The theory is
exact for infinitely wide networks and infinitely large batches.

Source: De & Smith, Batch Normalization Biases Residual Blocks Towards the Identity
Function in Deep Networks, arXiv 2002.10444; Yang & Schoenholz, Mean Field Residual
Networks, arXiv 1712.08969; Yang et al., arXiv 1902.08129, for networks without skips.
"""

from itertools import product

import numpy as np

from parts.residual_networks.blocks import BATCH, LAYER, NONE, Blocks
from parts.residual_networks.plots import numbers, plot, report
from parts.residual_networks.theory import growth_in_theory
from support.command_line import experiment_options, parse
from support.json_file import add_json_option, save_json
from support.networks import HE
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import Tensor, grad

NORMS, SIGMAS = (NONE, BATCH, LAYER), (0.5, 1, HE, 2, 4)
WIDTH, DEPTH, ROWS = 256, 64, 128


def growth(norm, skip, sigma, seed):
    """|dL/dx_l|^2 for l from 0 to 64, relative to that of the output x_64.

    The data and the gradient at the output are random.
    """
    rng = np.random.default_rng(seed)
    blocks = Blocks(DEPTH, WIDTH, norm, skip, sigma, rng)
    x = Tensor(rng.standard_normal((ROWS, WIDTH)), requires_grad=True)
    g = rng.standard_normal((ROWS, WIDTH))
    xs = blocks(x)
    squares = [(d_x.data**2).sum() for d_x in grad(xs[-1], xs, gradient=g)]
    return np.array(squares) / squares[-1]


def measure(seed, quick=False, jobs=1):
    """The growth of the gradient with and without norm, skip connection, and He."""
    sigmas = (HE,) if quick else SIGMAS
    cases = [*product(NORMS, (True, False), sigmas, [seed])]
    found = in_parallel(growth, cases, jobs, "networks")
    return {
        "sigmas": sigmas,
        "growth": {case[:3]: squares for case, squares in found.items()},
        "theory": {case[:3]: growth_in_theory(*case[:3], DEPTH) for case in found},
    }


def main(arguments=None):
    parser = experiment_options(__doc__)
    add_jobs_option(parser)
    add_json_option(parser)
    options = parse(parser, arguments)
    measured = measure(options.seed, options.quick, requested_jobs(options))
    save(lambda theme: plot(measured, theme), options, "residual_networks")
    save_json(numbers(measured), options)
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
