"""Does batch norm cure vanishing gradients? And exploding ones?

    python examples/gradient_flow.py
    python examples/gradient_flow.py --mnist-dir FOLDER

Batch norm makes the gradient independent of the scale of the initial weights, and so
cures the vanishing in sigmoid networks. In deep ReLU networks it causes a mild
explosion of its own, whereas He's initialization alone preserves the size of the
gradient. A few steps of SGD undo this explosion; the larger the learning rate, the
sooner.

Let h be the output of a linear layer with weights from N(0, sigma^2 / fan_in), and phi
the activation behind it. From layer to layer toward the input, |dL/dh|^2 is multiplied
by

    sigma^2 E[phi'(h)^2]             without batch norm
    E[phi'(Z)^2] / Var[phi(Z)]       with batch norm before phi, Z ~ N(0, 1)

(``parts/gradient_flow/mean_field.py`` says why). Without batch norm, the factor is
sigma^2 in linear and sigma^2 / 2 in ReLU networks, and depends on the variance of h in
others. With batch norm, sigma cancels, because batch norm divides by the standard
deviation of h. For ReLU the factor is pi / (pi - 1) = 1.47, which amounts to 10^5 in 30
layers. Training undoes it: a layer with a large gradient soon has large weights, and
therefore, behind batch norm, a small gradient (scale_invariance.py).

|dL/dW| would not show the effect. It is |dL/dh| times the input of the layer, and in
linear and ReLU networks without batch norm one grows while the other shrinks.

Not shown: other architectures (convolutions, skip connections around batch norm), or
that only the size of the gradient matters. At depth 20, ReLU networks train better with
batch norm in spite of their factor. Finite batches and widths change the factor by a
few percent.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.3; Yang et al., arXiv 1902.08129,
theorem 3.10; Schoenholz et al., Deep Information Propagation, arXiv 1611.01232.
"""

import numpy as np

from parts.gradient_flow import mean_field
from parts.gradient_flow.plots import plot, report
from support.command_line import add_image_options, experiment_options, images, parse
from support.layers import layers
from support.networks import HE, accuracy, linears, perceptron, train, training
from support.plotting import save
from tinygrad_bn import Tensor, nn, optim

# An empty sequence of modules is the identity.
ACTIVATIONS = {
    "linear": nn.Sequential, "ReLU": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid,
}  # fmt: skip
SIGMAS = (0.5, 1, HE, 2, 4)
WIDTH, DEPTH, BATCH = 256, 30, 128
# Layers 8 to 25: earlier ones depend on the data, later ones on the loss.
FIRST, LAST = 7, 24
RATES, EARLY_STEPS, DEPTHS = (0.01, 0.1, 0.5), 16, (3, 5, 10, 20)
# Sigma and the learning rate; 1 is Glorot's initialization if layers are square.
TRAINED = {"sigmoid": (1, 0.5), "ReLU": (HE, 0.1)}


def network(sizes, activation, bn, sigma, rng, dtype=np.float32, eps=1e-5):
    """Layers of linear, batch norm if requested, and activation; then a linear one."""

    def between(width):
        norm = [nn.BatchNorm(width, eps=eps, dtype=dtype)] if bn else []
        return [*norm, ACTIVATIONS[activation]()]

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


def gradient_profile(activation, bn, sigma, seed):
    """|dL/dh|^2 of each of 30 layers, for random data and a random cotangent."""
    rng = np.random.default_rng(seed)
    model = network([WIDTH] * (DEPTH + 1), activation, bn, sigma, rng, float, eps=0)
    x, g = rng.standard_normal((2, BATCH, WIDTH))
    return squared_norms((model(Tensor(x)) * g).sum())


def early_factors(data, lr, steps, seed):
    """The factor of a ReLU network with batch norm before each step of training."""
    rng = np.random.default_rng(seed)
    sizes = (data.train_x.shape[1], *[WIDTH] * DEPTH, data.num_classes)
    model = network(sizes, "ReLU", True, HE, rng)
    sgd = optim.SGD(model.parameters(), lr)
    losses = training(model, sgd, data, BATCH, steps, rng, f"depth {DEPTH}, lr {lr}")
    return [factor(squared_norms(loss)) for loss in losses]


def trained_accuracy(data, activation, bn, depth, steps, seed):
    """The test accuracy after training layers of 100 units."""
    rng = np.random.default_rng(seed)
    sigma, lr = TRAINED[activation]
    sizes = (data.train_x.shape[1], *[100] * depth, data.num_classes)
    model = network(sizes, activation, bn, sigma, rng)
    sgd = optim.SGD(model.parameters(), lr)
    train(model, sgd, data, BATCH, steps, rng, f"{activation} x {depth}")
    return accuracy(model, data)


def measure(data, seed, steps, quick=False):
    """The factors and their theory, before and in training, and test accuracies."""
    sigmas, depths, rates, early_steps = SIGMAS, DEPTHS, RATES, EARLY_STEPS
    if quick:
        sigmas, depths, rates, early_steps = SIGMAS[2:4], DEPTHS[1:2], RATES[-1:], 6
    cases = [(activation, bn) for activation in ACTIVATIONS for bn in (False, True)]
    profiles = {(*c, s): gradient_profile(*c, s, seed) for c in cases for s in sigmas}
    return {
        "sigmas": sigmas,
        "profiles": profiles,
        "factors": {c: [factor(profiles[(*c, s)]) for s in sigmas] for c in cases},
        "theory": {c: [theory(*c, s) for s in sigmas] for c in cases},
        "early": {lr: early_factors(data, lr, early_steps, seed) for lr in rates},
        "depths": depths,
        "accuracy": {
            c: [trained_accuracy(data, *c, depth, steps, seed) for depth in depths]
            for c in cases
            if c[0] in TRAINED
        },
    }


def main(arguments=None):
    parser = experiment_options(__doc__, steps=300, quick_steps=60)
    add_image_options(parser)
    given = parse(parser, arguments)
    measured = measure(images(given), given.seed, given.steps, given.quick)
    save(lambda theme: plot(measured, theme), given, "gradient_flow")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
