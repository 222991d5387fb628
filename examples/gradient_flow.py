"""Does batch norm cure vanishing gradients? And exploding ones?

    python examples/gradient_flow.py
    python examples/gradient_flow.py --mnist-dir FOLDER

It makes the gradient independent of the scale of the initial weights, and so cures the
vanishing in sigmoid networks. To deep ReLU networks it brings a mild explosion of its
own, where initialization alone (He's) keeps the size of the gradient; some steps of SGD
undo it, the sooner the larger their rate.

Let h be the output of a linear layer with weights N(0, sigma^2 / fan_in), and phi what
follows it. From layer to layer towards the input, |dL/dh|^2 is multiplied by

    sigma^2 E[phi'(h)^2]             without batch norm
    E[phi'(Z)^2] / Var[phi(Z)]       with batch norm before phi, Z ~ N(0, 1)

(mean_field.py says why). Without, this is sigma^2 in linear and sigma^2 / 2 in ReLU
networks, and follows the variance of h in others. With it, sigma cancels, since batch
norm divides by the standard deviation of h, and ReLU keeps pi / (pi - 1) = 1.47, or
10^5 in 30 layers. Training undoes that: a layer with a large gradient soon has large
weights, and so, behind batch norm, a small gradient (scale_invariance.py).

|dL/dW| would not show this: it is |dL/dh| times the input of the layer, and in linear
and ReLU networks without batch norm one grows as the other shrinks.

What this does not show: other architectures (convolutions, ways around batch norm), or
that the size of the gradient is all that matters: at depth 20, ReLU networks train
better with batch norm despite their factor. Finite batches and widths add some percent.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.3; Yang et al., arXiv 1902.08129,
theorem 3.10; Schoenholz et al., Deep Information Propagation, arXiv 1611.01232.
"""

import mean_field
import numpy as np
from diagnostics import layers
from lab import add_image_options, images, options, parse, save
from networks import HE, accuracy, linears, perceptron, train, training
from plots.gradient_flow import plot, report

from tinygrad_bn import Tensor, nn, optim

# A sequence of no modules passes on what it gets.
ACTIVATIONS = {
    "linear": nn.Sequential, "ReLU": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
}  # fmt: skip
SIGMAS = (0.5, 1, HE, 2, 4)
WIDTH, DEPTH, BATCH = 256, 30, 128
# Layers 8 to 25: those before still know the data, those after the loss.
FIRST, LAST = 7, 24
RATES, TAMING_STEPS, DEPTHS = (0.01, 0.1, 0.5), 16, (3, 5, 10, 20)
# Sigma and the learning rate; 1 is Glorot's initialization where layers are square.
TRAINED = {"sigmoid": (1, 0.5), "ReLU": (HE, 0.1)}


def network(sizes, activation, bn, sigma, rng, dtype=np.float32, eps=1e-5):
    """Linear, batch norm if asked for, activation, again and again; a linear end."""

    def between(width):
        norm = [nn.BatchNorm(width, eps=eps, dtype=dtype)] if bn else []
        return [*norm, ACTIVATIONS[activation]()]

    model = perceptron(sizes, between, rng, bias=not bn, dtype=dtype)
    # Its weights are Kaiming He's, of sigma = sqrt(2).
    for linear in linears(model):
        linear.weight[:] = sigma / HE * linear.weight.data
    return model


def squares(loss):
    """|dL/dh|^2 of each linear layer, from the input on."""
    found = [layer for layer in layers(loss).values() if layer.kind == "Linear"]
    return np.array([(layer.gradient**2).sum() for layer in found])


def factor(squares):
    """The factor per layer, towards the input, on average over layers 8 to 25."""
    return float((squares[FIRST] / squares[LAST]) ** (1 / (LAST - FIRST)))


def theory(activation, bn, sigma):
    """The same average for a large width and batch."""
    return mean_field.factor(ACTIVATIONS[activation](), bn, sigma, FIRST, LAST)


def gradient_profile(activation, bn, sigma, seed):
    """|dL/dh|^2 of each of 30 layers, for random data and a random cotangent."""
    rng = np.random.default_rng(seed)
    model = network([WIDTH] * (DEPTH + 1), activation, bn, sigma, rng, float, eps=0)
    x, g = rng.standard_normal((2, BATCH, WIDTH))
    return squares((model(Tensor(x)) * g).sum())


def tamed(data, lr, steps, seed):
    """The factor of a ReLU network with batch norm before each step of training."""
    rng = np.random.default_rng(seed)
    sizes = (data.train_x.shape[1], *[WIDTH] * DEPTH, data.num_classes)
    model = network(sizes, "ReLU", True, HE, rng)
    sgd = optim.SGD(model.parameters(), lr)
    losses = training(model, sgd, data, BATCH, steps, rng, f"depth {DEPTH}, lr {lr}")
    return [factor(squares(loss)) for loss in losses]


def learned(data, activation, bn, depth, steps, seed):
    """The test accuracy after training layers of 100 units."""
    rng = np.random.default_rng(seed)
    sigma, lr = TRAINED[activation]
    sizes = (data.train_x.shape[1], *[100] * depth, data.num_classes)
    model = network(sizes, activation, bn, sigma, rng)
    sgd = optim.SGD(model.parameters(), lr)
    train(model, sgd, data, BATCH, steps, rng, f"{activation} x {depth}")
    return accuracy(model, data)


def measure(data, seed, steps, quick=False):
    """The factors and their theory, how training tames one, and trained accuracies."""
    sigmas, depths, rates, taming = SIGMAS, DEPTHS, RATES, TAMING_STEPS
    if quick:
        sigmas, depths, rates, taming = SIGMAS[2:4], DEPTHS[1:2], RATES[-1:], 6
    cases = [(activation, bn) for activation in ACTIVATIONS for bn in (False, True)]
    profiles = {(*c, s): gradient_profile(*c, s, seed) for c in cases for s in sigmas}
    return {
        "sigmas": sigmas,
        "profiles": profiles,
        "factors": {c: [factor(profiles[*c, s]) for s in sigmas] for c in cases},
        "theory": {c: [theory(*c, s) for s in sigmas] for c in cases},
        "tamed": {lr: tamed(data, lr, taming, seed) for lr in rates},
        "depths": depths,
        "accuracy": {
            c: [learned(data, *c, depth, steps, seed) for depth in depths]
            for c in cases
            if c[0] in TRAINED
        },
    }


def main(arguments=None):
    parser = options(__doc__, steps=300, quick_steps=60)
    add_image_options(parser)
    given = parse(parser, arguments)
    measured = measure(images(given), given.seed, given.steps, given.quick)
    save(lambda theme: plot(measured, theme), given, "gradient_flow")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
