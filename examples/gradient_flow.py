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

Without, h has the variance q, which becomes sigma^2 E[phi(h)^2] in the next layer: the
factor is sigma^2 in linear and sigma^2 / 2 in ReLU networks, and for tanh and sigmoid
follows q. With batch norm, a unit has the variance sigma^2 Var[phi], by which it is
divided: sigma cancels. ReLU keeps pi / (pi - 1) = 1.47, or 10^5 in 30 layers. Training
undoes that, since a layer with a large gradient soon has large weights, and what batch
norm divides by their size has a small gradient (scale_invariance.py).

|dL/dW| would not show this: it is |dL/dh| times the input of the layer, and in linear
and ReLU networks one grows as the other shrinks.

What this does not show: other architectures (convolutions, ways around batch norm), or
that the size of the gradient is all that matters: at depth 20, ReLU networks train
better with batch norm despite their factor. Finite batches and widths add some percent.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.3; Yang et al., arXiv 1902.08129,
theorem 3.10; Schoenholz et al., Deep Information Propagation, arXiv 1611.01232.
"""

import math
from itertools import pairwise

import numpy as np
from lab import add_image_options, figure, images, options, parse, save, table
from tqdm import tqdm

from tinygrad_bn import Tensor, grad, nn, no_grad, optim

ACTIVATIONS = {"linear": None, "ReLU": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
HE = math.sqrt(2)
SIGMAS = (0.5, 1, HE, 2, 4)
WIDTH, DEPTH, BATCH = 256, 30, 128
# Layers 8 to 25: those before still know the data, those after the loss.
FIRST, LAST = 7, 24
RATES, TOLD = (0.01, 0.1, 0.5), (0, 1, 2, 5, 15)
DEPTHS = (3, 5, 10, 20)
# Sigma and the learning rate; 1 is Glorot's initialization where layers are square.
TRAINED = {"sigmoid": (1, 0.5), "ReLU": (HE, 0.1)}


def hidden(sizes, activation, bn, sigma, rng, dtype=np.float32, eps=1e-5):
    """Linear, batch norm if asked for, and activation, for each pair of sizes."""
    modules = []
    for fan_in, fan_out in pairwise(sizes):
        linear = nn.Linear(fan_in, fan_out, bias=not bn, rng=rng, dtype=dtype)
        linear.weight.data = sigma / HE * linear.weight.data
        modules.append(linear)
        modules += [nn.BatchNorm(fan_out, eps=eps, dtype=dtype)] if bn else []
        modules += [ACTIVATIONS[activation]()] if ACTIVATIONS[activation] else []
    return modules


def classifier(data, depth, width, activation, bn, sigma, rng):
    """``depth`` hidden layers, and a linear one to the classes."""
    sizes = [data.train_x.shape[1], *[width] * depth]
    last = nn.Linear(width, data.num_classes, rng=rng)
    return nn.Sequential(*hidden(sizes, activation, bn, sigma, rng), last)


def forward(modules, x):
    """The output, and what each linear layer gave on the way."""
    outputs = []
    for module in modules:
        x = module(x)
        if isinstance(module, nn.Linear):
            outputs.append(x)
    return x, outputs


def squares(y, tensors, gradient=None):
    """|dL/dh|^2 of each tensor."""
    return np.array([(g.data**2).sum() for g in grad(y, tensors, gradient)])


def factor(squares):
    """The factor per layer, towards the input, on average over layers 8 to 25."""
    return float((squares[FIRST] / squares[LAST]) ** (1 / (LAST - FIRST)))


# --- At initialization ----------------------------------------------------------------


def gradient_profile(activation, bn, sigma, seed):
    """|dL/dh|^2 of each of 30 layers, for random data and a random cotangent."""
    rng = np.random.default_rng(seed)
    sizes = [WIDTH] * (DEPTH + 1)
    modules = hidden(sizes, activation, bn, sigma, rng, dtype=float, eps=0)
    y, outputs = forward(modules, Tensor(rng.standard_normal((BATCH, WIDTH))))
    return squares(y, outputs, rng.standard_normal(y.shape))


# An even number of points: none is on the kink of ReLU, where a slope is convention.
Z = np.linspace(-8, 8, 4000)
DENSITY = np.exp(-(Z**2) / 2) / np.exp(-(Z**2) / 2).sum()


def gaussian_moments(activation, q):
    """E[phi], E[phi^2] and E[phi'^2] for a normal input of variance ``q``."""
    z = Tensor(math.sqrt(q) * Z, requires_grad=True)
    phi = ACTIVATIONS[activation]()(z) if ACTIVATIONS[activation] else z * 1
    slope = grad(phi, z, gradient=np.ones_like(Z)).data
    return DENSITY @ phi.data, DENSITY @ phi.data**2, DENSITY @ slope**2


def theory(activation, bn, sigma):
    """The factor per layer for a large width and batch; see the top of this file."""
    if bn:
        mean, square, slope = gaussian_moments(activation, 1)
        return float(slope / (square - mean**2))
    q, factors = sigma**2, []
    for _ in range(LAST):
        _, square, slope = gaussian_moments(activation, q)
        factors.append(sigma**2 * slope)
        q = sigma**2 * square
    return math.exp(np.log(factors[FIRST:]).mean())


# --- In training ----------------------------------------------------------------------


def train(model, data, lr, steps, rng, what):
    """Take steps of SGD, and hand over the loss and the layers' outputs before each."""
    sgd = optim.SGD(model.parameters(), lr)
    for _ in tqdm(range(steps), desc=what, leave=False, disable=None):
        rows = rng.choice(len(data.train_y), BATCH, replace=False)
        logits, outputs = forward(model, Tensor(data.train_x[rows]))
        loss = nn.cross_entropy(logits, data.train_y[rows])
        yield loss, outputs
        sgd.zero_grad()
        loss.backward()
        sgd.step()


def tamed(data, lr, steps, seed):
    """The factor of a ReLU network with batch norm before each step of training."""
    rng = np.random.default_rng(seed)
    model = classifier(data, DEPTH, WIDTH, "ReLU", True, HE, rng)
    found = train(model, data, lr, steps, rng, f"depth {DEPTH}, lr {lr}")
    return [factor(squares(loss, outputs)) for loss, outputs in found]


def accuracy(data, activation, bn, depth, steps, seed):
    """The test accuracy after training layers of 100 units."""
    rng = np.random.default_rng(seed)
    sigma, lr = TRAINED[activation]
    model = classifier(data, depth, 100, activation, bn, sigma, rng)
    for _ in train(model, data, lr, steps, rng, f"{activation}, depth {depth}"):
        pass
    model.eval()
    with no_grad():
        classes = model(Tensor(data.test_x)).data.argmax(axis=1)
    return float(np.mean(classes == data.test_y))


# --- The experiment -------------------------------------------------------------------


def measure(data, seed, steps, quick=False):
    """The factors and their theory, how training tames one, and trained accuracies."""
    sigmas, depths, rates, taming = SIGMAS, DEPTHS, RATES, TOLD[-1] + 1
    if quick:
        sigmas, depths, rates, taming = SIGMAS[2:4], DEPTHS[1:2], RATES[-1:], 6
    cases = [(activation, bn) for activation in ACTIVATIONS for bn in (False, True)]
    profiles = {
        (*case, sigma): gradient_profile(*case, sigma, seed)
        for case in tqdm(cases, desc="factor per layer", leave=False, disable=None)
        for sigma in sigmas
    }
    return {
        "sigmas": sigmas,
        "profiles": profiles,
        "factors": {c: [factor(profiles[*c, s]) for s in sigmas] for c in cases},
        "theory": {c: [theory(*c, s) for s in sigmas] for c in cases},
        "taming_steps": taming,
        "tamed": {lr: tamed(data, lr, taming, seed) for lr in rates},
        "depths": depths,
        "accuracy": {
            (activation, bn): [
                accuracy(data, activation, bn, depth, steps, seed) for depth in depths
            ]
            for activation in TRAINED
            for bn in (False, True)
        },
    }


def report(measured):
    """The closing tables: factors beside the theory, and what becomes of training."""
    sigmas = [f"sigma {sigma:.3g}" for sigma in measured["sigmas"]]
    factors = [
        (_named(*case), *(f"{a:.4g} ({b:.4g})" for a, b in zip(found, expected)))
        for case, found in measured["factors"].items()
        for expected in (measured["theory"][case],)
    ]
    told = [k for k in TOLD if k < measured["taming_steps"]]
    tamed = [
        (f"lr {lr}", *(f"{found[k]:.3f}" for k in told))
        for lr, found in measured["tamed"].items()
    ]
    accuracies = [
        (_named(*case), *(f"{value:.1%}" for value in found))
        for case, found in measured["accuracy"].items()
    ]
    title = "Factor of |dL/dh|^2 per layer, measured (theory)"
    tamed_title = "Factor of ReLU with batch norm, during training"
    return "\n\n".join(
        [
            table(title, ("", *sigmas), factors),
            table(tamed_title, ("", *(f"step {k}" for k in told)), tamed),
            table(
                "Test accuracy after training",
                ("", *(f"depth {depth}" for depth in measured["depths"])),
                accuracies,
            ),
        ]
    )


def _named(activation, bn):
    return f"{activation}, {'batch norm' if bn else 'without'}"


def plot(measured, theme):
    """At initialization: one gradient, and all factors. Then what training does."""
    fig, ((profile, without), (with_bn, tamed), accuracies) = figure(theme, 3, 2)
    plot_profiles(profile, measured["profiles"])
    plot_factors(without, measured, bn=False)
    plot_factors(with_bn, measured, bn=True)
    plot_tamed(tamed, measured["tamed"])
    for activation, axes in zip(TRAINED, accuracies):
        plot_accuracies(axes, measured, activation)
    return fig


def plot_profiles(axes, profiles):
    layers = np.arange(1, DEPTH + 1)
    for activation in ("ReLU", "sigmoid"):
        for bn, style in ((True, "-"), (False, "--")):
            found = profiles[activation, bn, HE]
            color = "C0" if activation == "ReLU" else "C1"
            label = _named(activation, bn)
            axes.plot(layers, found / found[-1], style, color=color, label=label)
    axes.set(title="Sigmoid vanishes, unless normalized", yscale="log")
    axes.set(xlabel="layer, from the input", ylabel="|dL/dh|² (last layer: 1)")
    axes.legend(title="sigma² = 2")


def plot_factors(axes, measured, bn):
    sigmas = measured["sigmas"]
    for i, (activation, marker) in enumerate(zip(ACTIVATIONS, "osD^")):
        found, expected = (measured[k][activation, bn] for k in ("factors", "theory"))
        axes.plot(sigmas, expected, color=f"C{i}", linewidth=1)
        axes.plot(sigmas, found, marker, color=f"C{i}", label=activation)
    title = "With batch norm: sigma is gone" if bn else "Without: sigma decides"
    axes.set(title=title, xscale="log", yscale="linear" if bn else "log")
    axes.set(xlabel="sigma of the weights", ylabel="factor of |dL/dh|² per layer")
    axes.set_xticks(sigmas, [f"{sigma:.3g}" for sigma in sigmas])
    axes.xaxis.minorticks_off()
    axes.legend(title="lines: theory", loc=(0.7, 0.42) if bn else "upper left")


def plot_tamed(axes, tamed):
    for lr, found in tamed.items():
        axes.plot(found, label=f"lr {lr}")
    axes.axhline(theory("ReLU", True, HE), color="C4", linewidth=1, linestyle=":")
    axes.set(title="ReLU: training undoes the explosion", xlabel="step of SGD")
    axes.set_ylabel("factor with batch norm")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(title="dotted: theory at step 0")


def plot_accuracies(axes, measured, activation):
    depths = [str(depth) for depth in measured["depths"]]
    for bn, marker in ((True, "o"), (False, "s")):
        found = 100 * np.array(measured["accuracy"][activation, bn])
        axes.plot(depths, found, marker=marker, label=_named(activation, bn))
    verb = {"sigmoid": "need", "ReLU": "gain from"}[activation]
    axes.set(title=f"Deep {activation} networks {verb} it", ylim=(0, 105))
    axes.set(xlabel="hidden layers", ylabel="test accuracy (%)")
    axes.legend(loc=(0.4, 0.35))


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
