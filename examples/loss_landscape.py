"""How does batch norm help, if not by calming the distributions inside the network?

By a smoother way ahead. Along the gradient g, the loss of a network with batch norm
varies less and its gradient stays more like itself, so that a step which looks good from
where one stands is good when one arrives. Measured over step lengths eta in [lr/2, 4 lr]:

    range           max loss(th - eta g) - min loss(th - eta g)
    predictiveness  max |grad(th - eta g) - g|
    smoothness      max |grad(th - eta g) - g| / |eta g|

Smaller is better. The first two favor a shorter g, and batch norm makes g shorter; the
last one does not, and there the advantage is small.

The "internal covariate shift" account fails. Shifting and scaling at random behind each
batch norm, anew at every step, makes the inputs of the sigmoids move more than they do
without batch norm, and the network learns as fast as with clean batch norm.

What this does not show: why the way is smoother, or that this is what makes training
faster. Noise is told from nothing in sigmoid networks only: ReLU and tanh networks of
this size do well without batch norm. And beside its own tiny spread, the input of the
last sigmoid layer moves most without batch norm; the table gives both units.

Source: Santurkar et al., How Does Batch Normalization Help Optimization?,
arXiv 1805.11604, sections 2.1, 2.2 and 3.1, appendix A.2.1.
"""

from typing import NamedTuple

import numpy as np
from lab import add_image_options, figure, images, options, parse, save, table
from tqdm import tqdm

from tinygrad_bn import Tensor, nn, no_grad, optim

LENGTHS = np.geomspace(1 / 2, 4, 7)
EVERY, NOISY_STEPS, SEEDS = 10, 100, 3
NETWORKS = {"deep": (8, 0.1), "fast": (3, 0.5)}
EXPECTED = [
    ("deep", "range", "> 10"),
    ("deep", "predictiveness", "> 3"),
    ("deep", "smoothness", "> 1"),
    ("fast", "smoothness", "> 1.3"),
]
BETWEEN = {
    "without": lambda width, rng: [],
    "batch norm": lambda width, rng: [nn.BatchNorm(width)],
    "noisy batch norm": lambda width, rng: [nn.BatchNorm(width), Noise(rng)],
}


class Noise(nn.Module):
    """Shift and scale every sample at random, around centers that move at every step.

    Source: Santurkar et al., appendix A.2.1.
    """

    def __init__(self, rng):
        self.rng = rng

    def forward(self, a):
        if not self.training:
            return a
        mu = self.rng.uniform(-0.5, 0.5, a.shape[1])
        sigma = self.rng.uniform(1, 1.25, a.shape[1])
        shift = self.rng.uniform(mu - 0.1, mu + 0.1, a.shape)
        scale = self.rng.normal(sigma, 0.1, a.shape)
        return a * scale.astype(a.dtype) + shift.astype(a.dtype)


def network(data, depth, activation, kind, seed):
    """Hidden layers of 100 units, Glorot weights; ``kind`` stands before activations."""
    rng, noise = np.random.default_rng(seed), np.random.default_rng([seed, 1])

    def linear(fan_in, fan_out, bias=True):
        layer = nn.Linear(fan_in, fan_out, bias, rng=rng)
        layer.weight.data = nn.xavier_normal((fan_in, fan_out), rng)
        return layer

    modules, width = [], data.train_x.shape[1]
    for _ in range(depth):
        modules.append(linear(width, 100, bias=kind == "without"))
        modules += [*BETWEEN[kind](100, noise), activation()]
        width = 100
    return nn.Sequential(*modules, linear(width, data.num_classes))


def batches(data, steps, seed, what):
    """The number of each step and its minibatch of 128, with a progress bar."""
    rng = np.random.default_rng(seed)
    for step in tqdm(range(steps), desc=what, leave=False, disable=None):
        rows = rng.choice(len(data.train_y), 128, replace=False)
        yield step, Tensor(data.train_x[rows]), data.train_y[rows]


# --- Looking ahead along the gradient -------------------------------------------------


class Look(NamedTuple):
    """What was seen at a step: the losses ahead, and the two measures of the gradient."""

    step: np.ndarray
    low: np.ndarray
    high: np.ndarray
    change: np.ndarray
    smoothness: np.ndarray


def gradient(model, sgd, x, y):
    """The loss of a batch, and a copy of its gradient: all parameters in one vector."""
    loss = nn.cross_entropy(model(x), y)
    sgd.zero_grad()
    loss.backward()
    return loss.item(), sgd.grad.copy()


def look_ahead(model, sgd, x, y, step):
    """Try several step lengths along the gradient, and return to where one was.

    Each try is a forward pass in training mode, which moves the running statistics too;
    they are part of the state that is put back.
    """
    here, lr = model.state_dict(), sgd.lr
    _, g = gradient(model, sgd, x, y)
    losses, changes = [], []
    for length in LENGTHS:
        sgd.grad[...], sgd.lr = g, lr * length
        sgd.step()
        loss, g_there = gradient(model, sgd, x, y)
        losses.append(loss)
        changes.append(np.linalg.norm(g_there - g))
        model.load_state_dict(here)
    sgd.lr = lr
    ways = lr * LENGTHS * np.linalg.norm(g)
    return Look(step, min(losses), max(losses), max(changes), max(changes / ways))


def landscape(data, depth, lr, kind, seed, steps):
    """Train a ReLU network, looking ahead every so often."""
    model = network(data, depth, nn.ReLU, kind, seed)
    sgd = optim.SGD(model.parameters(), lr)
    looks = []
    for step, x, y in batches(data, steps, seed, f"{kind}, {depth} layers"):
        if step % EVERY == 0:
            looks.append(look_ahead(model, sgd, x, y, step))
        gradient(model, sgd, x, y)
        sgd.step()
    return Look(*np.array(looks).T)


def ratios(without, norm):
    """How many times larger each measure is without batch norm, averaged over training."""
    return {
        "range": np.mean(without.high - without.low) / np.mean(norm.high - norm.low),
        "predictiveness": np.mean(without.change) / np.mean(norm.change),
        "smoothness": np.mean(without.smoothness) / np.mean(norm.smoothness),
    }


# --- Noise behind batch norm ----------------------------------------------------------


def with_noise(data, kind, seed, steps):
    """Train a sigmoid network: its test accuracy, and how far its sigmoids' inputs move.

    The latter is the change of a unit's mean from one batch to the next, averaged over
    steps and over the units of each layer; then the same in the unit's own standard
    deviations.
    """
    model = network(data, 3, nn.Sigmoid, kind, seed)
    sgd = optim.SGD(model.parameters(), lr=0.5)
    means, stds = [], []
    for _, h, y in batches(data, steps, seed, f"{kind}, sigmoid"):
        inputs = []
        for module in model:
            if isinstance(module, nn.Sigmoid):
                inputs.append(h.data)
            h = module(h)
        means.append(np.mean(inputs, axis=1))
        stds.append(np.std(inputs, axis=1))
        sgd.zero_grad()
        nn.cross_entropy(h, y).backward()
        sgd.step()
    moved = np.abs(np.diff(means, axis=0))
    model.eval()
    with no_grad():
        classes = model(Tensor(data.test_x)).data.argmax(axis=1)
    return {
        "accuracy": np.mean(classes == data.test_y),
        "moved": moved.mean(axis=(0, 2)),
        "in stds": (moved / stds[1:]).mean(axis=(0, 2)),
    }


# --- The experiment -------------------------------------------------------------------


def measure(data, seed, steps):
    """All measurements for one seed."""
    found = {}
    for name, (depth, lr) in NETWORKS.items():
        found[name] = {
            kind: landscape(data, depth, lr, kind, seed, steps)
            for kind in ("without", "batch norm")
        }
        found[f"{name} ratios"] = ratios(*found[name].values())
    steps = min(steps, NOISY_STEPS)
    found["noise"] = {kind: with_noise(data, kind, seed, steps) for kind in BETWEEN}
    return found


def plot(runs, theme):
    """Three measures along the first run, and the noise in all runs."""
    fig, ((loss, change), (smooth, noise)) = figure(theme, 2, 2)
    for kind, hatch, marker in (("without", "", "o"), ("batch norm", "///", "s")):
        deep, fast = runs[0]["deep"][kind], runs[0]["fast"][kind]
        label = kind if kind == "without" else f"with {kind}"
        loss.fill_between(
            deep.step, deep.low, deep.high, alpha=0.6, hatch=hatch, label=label
        )
        change.plot(deep.step, deep.change, marker=marker, markersize=4)
        smooth.plot(fast.step, fast.smoothness, marker=marker, markersize=4)
    loss.set(title="The loss ahead stays in range", ylabel="loss, lr/2 to 4 lr ahead")
    change.set(title="The gradient stays like itself", ylabel="max |gradient - g|")
    smooth.set(
        title="Per unit of way: a little smoother", ylabel="max |gradient - g| / way"
    )
    for ax in (loss, change, smooth):
        ax.set(xlabel="step", yscale="log")
    loss.legend()
    for kind, marker in zip(BETWEEN, "osD"):
        x = [np.mean(run["noise"][kind]["moved"]) for run in runs]
        y = [100 * run["noise"][kind]["accuracy"] for run in runs]
        noise.plot(x, y, marker, label=kind)
        noise.annotate(
            kind, (x[0], y[0]), (0, -14), textcoords="offset points", ha="center"
        )
    noise.set(title="Inputs that move do not hurt", ylim=(0, 105), xlim=(-0.1, 0.45))
    noise.set(xlabel="change of a unit's mean in one step", ylabel="test accuracy (%)")
    return fig


def report(runs):
    """The ratios as a range over seeds beside what they should be, and the noise."""
    rows = []
    for name, quantity, expected in EXPECTED:
        values = [run[f"{name} ratios"][quantity] for run in runs]
        low_to_high = f"{min(values):.3g} to {max(values):.3g}"
        depth, lr = NETWORKS[name]
        rows.append((f"{quantity}, {depth} layers, lr {lr}", low_to_high, expected))
    landscape_table = table(
        f"Without batch norm / with it, over {len(runs)} seeds",
        ("measure", "measured", "expected"),
        rows,
    )
    rows = []
    for kind in BETWEEN:
        noise = [run["noise"][kind] for run in runs]
        accuracy = f"{np.mean([n['accuracy'] for n in noise]):.1%}"
        moved, in_stds = (
            np.mean([n[unit] for n in noise], axis=0) for unit in ("moved", "in stds")
        )
        rows.append((kind, accuracy, *(f"{v:.3f}" for v in (*moved, *in_stds))))
    noise_table = table(
        "Sigmoid networks: test accuracy, and how far inputs of layer 1 to 3 move in one step",
        ("", "accuracy", "1", "2", "3", "1 (std)", "2 (std)", "3 (std)"),
        rows,
    )
    return f"{landscape_table}\n\n{noise_table}"


def main(arguments=None):
    parser = options(__doc__, steps=300, quick_steps=60)
    add_image_options(parser)
    given = parse(parser, arguments)
    data = images(given)
    seeds = range(given.seed, given.seed + (1 if given.quick else SEEDS))
    runs = [measure(data, seed, given.steps) for seed in seeds]
    save(plot(runs, given.theme), given, "loss_landscape")
    print(report(runs))
    return runs


if __name__ == "__main__":
    main()
