"""Does batch norm cure vanishing gradients? And exploding ones?

    python examples/gradient_flow.py
    python examples/gradient_flow.py --mnist-dir FOLDER

At initialization, batch norm before every activation cures vanishing gradients, removes
the explosion that comes from large weights, and adds one of its own, mild per layer. On
its way back through batch norm, a gradient is divided by the standard deviation that
divided the data in the forward pass, and loses two directions of the batch, that of a
bias and that of a scale. Make the weights of all layers ten times as large, and all
these standard deviations are ten times as large: from layer to layer, the scale of the
weights cancels. What is left is a constant of the activation. Let h be the output of a
linear layer with weights from N(0, sigma^2 / fan_in), phi the activation after it, and
Z ~ N(0, 1). From layer to layer toward the input, |dL/dh|^2 is multiplied by

    sigma^2 E[phi'(h)^2]             without batch norm
    E[phi'(Z)^2] / Var[phi(Z)]       with batch norm before phi, in large batches

(``support/mean_field.py`` says why). The script measures these factors in networks of
30 layers, before and during training, and the accuracy of trained networks. The second
factor is never below 1, because Var[phi(Z)] <= E[phi'(Z)^2] for every phi (the Gaussian
Poincare inequality). So the gradient of a wide network with batch norm cannot vanish at
initialization. In all but linear ones it grows, mildly per layer: for ReLU, the factor
is pi / (pi - 1) = 1.47, which is 1.21 for its length and amounts to 10^5 for its square
in 30 layers. It is larger in small batches: 1.79 if 8 rows are normalized together.
He's initialization without batch norm has a factor of 1.

Skip connections make the growth polynomial instead of exponential
(residual_networks.py). Training undoes the growth: a layer with a large gradient soon
has large weights, and therefore, before batch norm, a small gradient
(scale_invariance.py). A few steps of SGD suffice; the larger the learning rate, the
fewer. What batch norm buys in training is a wide range of learning rates and initial
scales that work (learning_rates.py). Networks can also work without it: without batch
norm, sigmoid networks of depth 5 stay at chance level with sigma = 1, but with sigma 4
they train as well as with it. At depth 20, ReLU networks with batch norm are ahead at
lr 0.1 and behind at lr 0.01; at the best rate of each, they are ahead by a few points.

"The scale of the weights cancels" is a statement about the factor between two layers if
all layers have the same sigma, the output layer included. If the output layer is fixed,
|dL/dh|^2 of the hidden layers scales as 1 / sigma^2. And the gradient of a layer's own
weights, |dL/dW|, scales as 1 / |W|, with batch norm before it or not. Nor would
|dL/dW| show the effect: it is |dL/dh| times the input of the layer, and in linear and
ReLU networks without batch norm one grows while the other shrinks.

Not shown: other architectures, such as convolutions. The theory is that of infinite
width. For the batch there are two versions, of which one is exact for finite batches.
Finite widths change the factor by a few percent.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.3; Yang et al., arXiv 1902.08129,
theorem 3.10; Schoenholz et al., Deep Information Propagation, arXiv 1611.01232. The
inequality: Chernoff, Annals of Probability 9 (1981).
"""

import math
from functools import partial

import numpy as np

from parts.gradient_flow.plots import plot, report
from support import mean_field
from support.command_line import add_image_options, experiment_options, images, parse
from support.layers import layers
from support.networks import (
    ACTIVATIONS,
    HE,
    accuracy,
    batch_norm_and,
    linears,
    perceptron,
    train,
    training,
)
from support.parallel import add_jobs_option, in_parallel, requested_jobs
from support.plotting import save
from tinygrad_bn import Tensor, grad, optim

SIGMAS = (0.5, 1, HE, 2, 4)
WIDTH, DEPTH, BATCH = 256, 30, 128
# Layers 8 to 25: earlier ones depend on the data, later ones on the loss.
FIRST, LAST = 7, 24
BATCHES = (8, 16, 32, BATCH)
RATES, EARLY_STEPS, DEPTHS = (0.01, 0.1, 0.5), 16, (3, 5, 10, 20)
# Sigma and the learning rate; 1 is Glorot's initialization if layers are square.
TRAINED = {"sigmoid": (1, 0.5), "ReLU": (HE, 0.1)}
# The counter-examples: other sigmas at depth 5, other learning rates at depth 20.
SIGMOID_SIGMAS, RELU_RATES = (1, 2, 4), (0.01, 0.03, 0.1, 0.3)


def network(sizes, activation, bn, sigma, rng, dtype=np.float32, eps=1e-5):
    """Layers of linear, batch norm if requested, and activation; then a linear one."""
    between = batch_norm_and(ACTIVATIONS[activation], bn, eps=eps, dtype=dtype)
    model = perceptron(sizes, between, rng, bias=not bn, dtype=dtype)
    # These weights are Kaiming He's, with sigma = sqrt(2).
    for linear in linears(model):
        linear.weight.data = sigma / HE * linear.weight.data
    return model


def squared_norms(loss):
    """|dL/dh|^2 for each linear layer, from the input on."""
    found = [layer for layer in layers(loss).values() if layer.kind == "Linear"]
    return np.array([(layer.gradient**2).sum() for layer in found])


def factor(squares):
    """The factor per layer toward the input, averaged over layers 8 to 25."""
    return float((squares[FIRST] / squares[LAST]) ** (1 / (LAST - FIRST)))


def theory(activation, bn, sigma):
    """The same average for large widths and batches."""
    return mean_field.factor(ACTIVATIONS[activation](), bn, sigma, FIRST, LAST)


def gradient_profile(activation, bn, sigma, seed, batch=BATCH):
    """|dL/dh|^2 of each of 30 layers, for random data and a random cotangent."""
    rng = np.random.default_rng(seed)
    model = network([WIDTH] * (DEPTH + 1), activation, bn, sigma, rng, float, eps=0)
    x, g = rng.standard_normal((2, batch, WIDTH))
    return squared_norms((model(Tensor(x)) * g).sum())


def fixed_output(activation, sigma, seed):
    """|dL/dh| and |dL/dW| of layer 10, if the output layer has sigma 1 regardless."""
    rng = np.random.default_rng(seed)
    model = network([WIDTH] * 13, activation, True, sigma, rng, float, eps=0)
    *_, tenth, _, output = linears(model)
    output.weight.data = output.weight.data / sigma
    x, g = rng.standard_normal((2, BATCH, WIDTH))
    loss = (model(Tensor(x)) * g).sum()
    weight_gradient = grad(loss, tenth.weight).data
    return math.sqrt(squared_norms(loss)[-3]), float(np.linalg.norm(weight_gradient))


def early_factors(data, lr, steps, seed):
    """The factor of a ReLU network with batch norm before each step of training."""
    rng = np.random.default_rng(seed)
    sizes = (data.train_x.shape[1], *[WIDTH] * DEPTH, data.num_classes)
    model = network(sizes, "ReLU", True, HE, rng)
    sgd = optim.SGD(model.parameters(), lr)
    losses = training(model, sgd, data, BATCH, steps, rng, f"depth {DEPTH}, lr {lr}")
    return [factor(squared_norms(loss)) for loss in losses]


def trained_accuracy(data, steps, seed, activation, bn, depth, sigma, lr):
    """The test accuracy after training layers of 100 units."""
    rng = np.random.default_rng(seed)
    sizes = (data.train_x.shape[1], *[100] * depth, data.num_classes)
    model = network(sizes, activation, bn, sigma, rng)
    sgd = optim.SGD(model.parameters(), lr)
    # A loss that overflows ends in an accuracy of chance level.
    with np.errstate(over="ignore", invalid="ignore"):
        train(model, sgd, data, BATCH, steps, rng, f"{activation} x {depth}")
        return accuracy(model, data)


def trained_cases(quick):
    """(activation, bn, depth, sigma, lr) of all networks that are trained."""
    depths = DEPTHS[1:2] if quick else DEPTHS
    settings = [(a, depth, *TRAINED[a]) for a in TRAINED for depth in depths]
    if not quick:
        settings += [("sigmoid", 5, sigma, 0.5) for sigma in SIGMOID_SIGMAS]
        settings += [("ReLU", 20, HE, lr) for lr in RELU_RATES]
    return [(a, bn, *rest) for a, *rest in settings for bn in (False, True)]


def measure(data, seed, steps, quick=False, jobs=1):
    """The factors and their theory, before and in training, and test accuracies."""
    sigmas, batch_sizes, rates, early_steps = SIGMAS, BATCHES, RATES, EARLY_STEPS
    if quick:
        sigmas, rates, early_steps = SIGMAS[2:4], RATES[-1:], 6
        batch_sizes = BATCHES[::3]
    cases = [(activation, bn) for activation in ACTIVATIONS for bn in (False, True)]
    profiles = {(*c, s): gradient_profile(*c, s, seed) for c in cases for s in sigmas}
    trained = partial(trained_accuracy, data, steps, seed)
    early = partial(early_factors, data)
    return {
        "sigmas": sigmas,
        "profiles": profiles,
        "factors": {c: [factor(profiles[(*c, s)]) for s in sigmas] for c in cases},
        "theory": {c: [theory(*c, s) for s in sigmas] for c in cases},
        "batches": {
            (a, b): factor(gradient_profile(a, True, 1, seed, b))
            for a in ACTIVATIONS
            for b in batch_sizes
        },
        "batch theory": {
            (a, b): mean_field.finite_batch_factor(ACTIVATIONS[a](), b)
            for a in ACTIVATIONS
            for b in batch_sizes
        },
        "fixed output": {s: fixed_output("ReLU", s, seed) for s in sigmas},
        "early": {
            lr: found
            for (lr, *_), found in in_parallel(
                early, [(lr, early_steps, seed) for lr in rates], jobs, "early"
            ).items()
        },
        "accuracy": in_parallel(trained, trained_cases(quick), jobs, "training"),
    }


def main(arguments=None):
    parser = experiment_options(__doc__, steps=300, quick_steps=60)
    add_image_options(parser)
    add_jobs_option(parser)
    options = parse(parser, arguments)
    data, jobs = images(options), requested_jobs(options)
    measured = measure(data, options.seed, options.steps, options.quick, jobs)
    save(lambda theme: plot(measured, theme), options, "gradient_flow")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
