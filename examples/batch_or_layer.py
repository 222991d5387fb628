"""Which makes gradients explode, and which makes them vanish: batch norm or layer norm?

    python examples/batch_or_layer.py

Both subtract a mean and divide by a standard deviation. Batch norm takes them over the
batch, for each unit; layer norm takes them over the units, for each row. So both cancel
the scale of the weights, and both make the size of the gradient change by a constant
factor per layer. But the constants differ. Toward the input, a layer of a wide network
multiplies |dL/dh|^2 by

    E[phi'(Z)^2] / Var[phi(Z)]     with batch norm before the activation phi
    E[phi'(Z)^2] / E[phi(Z)^2]     with layer norm before phi            Z ~ N(0, 1)

(h is the output of a linear layer.) The denominators come from the forward pass. What
phi returns has a part that all rows share, its mean, and a part in which the rows
differ. Random weights turn the shared part into a different constant for each unit.
Over the batch it is a constant, which batch norm removes; over the units it is a
spread, which layer norm does not remove, but divides by.

    ReLU       batch norm 1.47, a mild growth per layer; layer norm 1, no change
    sigmoid    batch norm 1.03, hardly any growth; layer norm 0.15, it vanishes

So the average over the batch, which makes a bias redundant, cures sigmoid networks and
lets the gradients of ReLU networks explode. In ReLU networks it has an advantage all
the same: with layer norm, the rows of a batch become more alike from layer to layer,
and with batch norm they do not.

Two more measurements. A beta above 0 moves ReLU toward its straight part, and the
factor toward 1. And batch norm *after* the activation brings the dependence on the
scale sigma of the weights back, because sigma then decides which part of the activation
is used: the factor is sigma^2 E[phi'(h)^2] / Var[phi(h)], h ~ N(0, sigma^2).

Not shown: training, which soon changes the factors (gradient_flow.py); convolutions and
attention; skip connections (residual_networks.py). The theory is exact for infinitely
wide networks and infinitely large batches; batches of 128 change it by a few percent.

Source: Yang et al., A Mean Field Theory of Batch Normalization, arXiv 1902.08129,
theorem 3.10, for batch norm; Ba, Kiros & Hinton, Layer Normalization, arXiv 1607.06450.
The factor of layer norm follows from the same argument, given above.
"""

from functools import partial
from itertools import product

import numpy as np

from parts.batch_or_layer.plots import numbers, plot, report
from parts.batch_or_layer.theory import factor_in_theory, similarity_in_theory
from parts.batch_or_layer.variants import AFTER, BATCH, LAYER, NONE, between
from support.command_line import experiment_options, parse
from support.json_file import add_json_option, save_json
from support.layers import layers
from support.networks import ACTIVATIONS, HE, perceptron, scaled
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import Tensor

SIGMAS = (0.5, 1, HE, 2, 4)
BETAS = (0.0, 0.5, 1.0, 2.0)
WIDTH, DEPTH, ROWS = 256, 30, 128
# Layers 8 to 25: earlier ones depend on the data, later ones on the loss.
FIRST, LAST = 7, 24


def profile(activation, norm, sigma, beta, seed):
    """|dL/dh|^2 and the similarity of rows in each of 30 layers.

    The data and the gradient at the output are random. Similarity is the mean cosine of
    two rows of h.
    """
    rng = np.random.default_rng(seed)
    model = perceptron(
        [WIDTH] * (DEPTH + 1),
        partial(between, activation=activation, norm=norm, beta=beta),
        rng, weights=partial(scaled, sigma), bias=False, dtype=np.float64,
    )  # fmt: skip
    x, g = rng.standard_normal((2, ROWS, WIDTH))
    found = layers((model(Tensor(x)) * g).sum()).values()
    linear = [layer for layer in found if layer.kind == "Linear"]
    squares = [(layer.gradient**2).sum() for layer in linear]
    return np.array(squares), np.array([similarity(layer.values) for layer in linear])


def similarity(rows):
    """The mean cosine of two different rows."""
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    n, total = len(rows), np.linalg.norm(rows.sum(axis=0)) ** 2
    return (total - n) / (n * (n - 1))


def factor(squares):
    """The factor per layer toward the input, averaged over layers 8 to 25."""
    return float((squares[FIRST] / squares[LAST]) ** (1 / (LAST - FIRST)))


def measure(seed, quick=False, jobs=1):
    """Profiles and factors, measured and in theory, of all variants of a network."""
    sigmas, betas = (SIGMAS[2:4], BETAS[:3:2]) if quick else (SIGMAS, BETAS)
    cases = [*product(ACTIVATIONS, (NONE, BATCH, LAYER), sigmas, [0.0], [seed])]
    cases += product(["tanh"], [AFTER], sigmas, [0.0], [seed])
    cases += product(["ReLU"], [BATCH], [HE], betas, [seed])
    found = in_parallel(profile, cases, jobs, "networks")
    return {
        "sigmas": sigmas,
        "betas": betas,
        "profiles": {case[:4]: squares for case, (squares, _) in found.items()},
        "similarity": {case[:4]: alike for case, (_, alike) in found.items()},
        "similarity theory": similarity_in_theory(DEPTH),
        "factors": {case[:4]: factor(squares) for case, (squares, _) in found.items()},
        "theory": {
            case[:4]: factor_in_theory(*case[:4], FIRST, LAST) for case in found
        },
    }


def main(arguments=None):
    parser = experiment_options(__doc__)
    add_jobs_option(parser)
    add_json_option(parser)
    options = parse(parser, arguments)
    measured = measure(options.seed, options.quick, requested_jobs(options))
    save(lambda theme: plot(measured, theme), options, "batch_or_layer")
    save_json(numbers(measured), options)
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
