"""How does batch norm help, if not by calming the distributions inside the network?

    python examples/loss_landscape.py
    python examples/loss_landscape.py --mnist-dir FOLDER

By a smoother way ahead. Along the gradient g, the loss of a network with batch norm
varies less and its gradient stays more like itself, so that a step that looks good from
where one stands is good when one arrives. For eta of lr/2, lr, 2 lr and 4 lr:

    range           max loss(th - eta g) - min loss(th - eta g)
    predictiveness  max |grad(th - eta g) - g|
    smoothness      max |grad(th - eta g) - g| / |eta g|

Smaller is better. The first two favor a shorter g; the last one does not, and there the
advantage is small. At first all three favor the deep network without batch norm, which
hardly has a gradient then: a plateau is smooth.

The "internal covariate shift" account fails. Shifting and scaling at random behind each
batch norm, anew at every step, makes the inputs of the sigmoids move more than they do
without batch norm, and the network learns as fast as with clean batch norm.

Not shown: why the way is smoother, or that this is what makes training faster. Only
sigmoid networks show what noise does not do: ReLU and tanh networks of this size learn
without batch norm, too. And beside its own tiny spread, the input of the last sigmoid
layer moves most without batch norm: the table gives both units.

Source: Santurkar et al., How Does Batch Normalization Help Optimization?,
arXiv 1805.11604, sections 2.1, 2.2 and 3.1, appendix A.2.1.
"""

from itertools import pairwise

import numpy as np
from lab import add_image_options, figure, images, options, parse, save, span, table
from tqdm import tqdm

from tinygrad_bn import Tensor, nn, no_grad, optim

LENGTHS = np.array([1 / 2, 1, 2, 4])
EVERY, NOISY_STEPS, SEEDS = 10, 100, 3
LEARNING_RATES = {8: 0.1, 3: 0.5}  # by depth
EXPECTED = {
    "range, 8 layers": "> 10",
    "predictiveness, 8 layers": "> 3",
    "smoothness, 8 layers": "> 1",
    "smoothness, 3 layers": "> 1.3",
}
BETWEEN = {
    "without": lambda rng: [],
    "batch norm": lambda rng: [nn.BatchNorm(100)],
    "noisy batch norm": lambda rng: [nn.BatchNorm(100), Noise(rng)],
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
    """Hidden layers of 100 units, Glorot weights; ``kind`` goes before activations."""
    rng, noise = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    sizes = [data.train_x.shape[1], *[100] * depth, data.num_classes]
    modules = []
    for fan_in, fan_out in pairwise(sizes):
        modules += [*BETWEEN[kind](noise), activation()] if modules else []
        linear = nn.Linear(fan_in, fan_out, rng=rng)
        linear.weight.data = nn.xavier_normal((fan_in, fan_out), rng)
        modules.append(linear)
    return nn.Sequential(*modules)


def batches(data, steps, seed, what):
    """The number of each step and a minibatch of 128 for it, with a progress bar."""
    rng = np.random.default_rng(seed)
    for step in tqdm(range(steps), desc=what, leave=False, disable=None):
        rows = rng.choice(len(data.train_y), 128, replace=False)
        yield step, Tensor(data.train_x[rows]), data.train_y[rows]


# --- Looking ahead along the gradient -------------------------------------------------


def gradient(model, sgd, x, y):
    """The loss of a batch, and a copy of its gradient: all parameters in one vector."""
    loss = nn.cross_entropy(model(x), y)
    sgd.zero_grad()
    loss.backward()
    return loss.item(), sgd.grad.copy()


def look_ahead(model, sgd, x, y):
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
        loss, g_ahead = gradient(model, sgd, x, y)
        losses.append(loss)
        changes.append(np.linalg.norm(g_ahead - g))
        model.load_state_dict(here)
    sgd.lr = lr
    way = lr * LENGTHS * np.linalg.norm(g)
    return min(losses), max(losses), max(changes), max(changes / way)


def landscape(data, depth, kind, seed, steps):
    """Train a ReLU network, and what it saw ahead: each measure at every tenth step."""
    model = network(data, depth, nn.ReLU, kind, seed)
    sgd = optim.SGD(model.parameters(), LEARNING_RATES[depth])
    seen = []
    for step, x, y in batches(data, steps, seed, f"{kind}, {depth} layers"):
        if step % EVERY == 0:
            seen.append((step, *look_ahead(model, sgd, x, y)))
        gradient(model, sgd, x, y)
        sgd.step()
    step, low, high, change, smoothness = np.array(seen).T
    return {
        "step": step, "low": low, "high": high,
        "range": high - low, "predictiveness": change, "smoothness": smoothness,
    }  # fmt: skip


# --- Noise behind batch norm ----------------------------------------------------------


def with_noise(data, kind, seed, steps):
    """Train a sigmoid network: its test accuracy, and how far inputs of sigmoids move.

    ``moved`` is the change of a unit's mean over the batch from one step to the next,
    averaged over each layer; ``in_stds`` is the same beside the unit's spread.
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
    in_stds = (moved / stds[1:]).mean(axis=(0, 2))
    model.eval()
    with no_grad():
        classes = model(Tensor(data.test_x)).data.argmax(axis=1)
    accuracy = float(np.mean(classes == data.test_y))
    return {"accuracy": accuracy, "moved": moved.mean(axis=(0, 2)), "in_stds": in_stds}


# --- The experiment -------------------------------------------------------------------


def measure(data, seed, steps):
    """All measurements for one seed; ratios are of averages, without over with."""
    seen = {
        (depth, kind): landscape(data, depth, kind, seed, steps)
        for depth in LEARNING_RATES
        for kind in ("without", "batch norm")
    }
    ratios = {
        f"{name}, {depth} layers": float(
            seen[depth, "without"][name].mean() / seen[depth, "batch norm"][name].mean()
        )
        for depth in LEARNING_RATES
        for name in ("range", "predictiveness", "smoothness")
    }
    steps = min(steps, NOISY_STEPS)
    noise = {kind: with_noise(data, kind, seed, steps) for kind in BETWEEN}
    return {"seen": seen, "ratios": ratios, "noise": noise}


def plot(runs, theme):
    """The three measures along the first run, and the noise in all runs."""
    fig, ((loss, change), (smooth, noise)) = figure(theme, 2, 2)
    for kind, hatch, marker in (("without", "", "o"), ("batch norm", "///", "s")):
        deep, fast = (runs[0]["seen"][depth, kind] for depth in (8, 3))
        loss.fill_between(
            deep["step"], deep["low"], deep["high"], alpha=0.6, hatch=hatch, label=kind
        )
        change.plot(deep["step"], deep["predictiveness"], marker=marker, markersize=4)
        smooth.plot(fast["step"], fast["smoothness"], marker=marker, markersize=4)
    loss.set(
        title="Batch norm narrows the loss ahead", ylabel="loss, lr/2 to 4 lr ahead"
    )
    loss.set(xlabel="step (8 layers, lr 0.1)", ylim=0)
    loss.legend()
    change.set(title="Its gradients stay more alike", ylabel="max |gradient - g|")
    change.set(xlabel="step (8 layers, lr 0.1)", yscale="log")
    smooth.set(title="Per unit of way: smoother at first", ylim=0)
    smooth.set(xlabel="step (3 layers, lr 0.5)", ylabel="max |gradient - g| / |way|")
    for kind, marker in zip(BETWEEN, "osD"):
        x = [run["noise"][kind]["moved"].mean() for run in runs]
        y = [100 * run["noise"][kind]["accuracy"] for run in runs]
        noise.plot(x, y, marker)
        noise.annotate(
            kind, (x[0], min(y)), (0, -16), textcoords="offset points", ha="center"
        )
    noise.set(title="Inputs that move do no harm", ylabel="test accuracy (%)")
    noise.set(xlabel="change of a unit's mean in one step", ylim=(0, 105))
    noise.set_xlim(-0.1, 0.45)
    return fig


def report(runs):
    """The ratios, from the least to the largest over seeds, and what noise did."""
    rows = []
    for name, expected in EXPECTED.items():
        values = [run["ratios"][name] for run in runs]
        rows.append((name, span(values), expected))
    ratios = table(
        f"Without / with batch norm, {len(runs)} seeds", ("", "ratio", "expected"), rows
    )
    rows = []
    for kind in BETWEEN:
        found = [run["noise"][kind] for run in runs]
        accuracy = np.mean([run["accuracy"] for run in found])
        moved = np.mean([[*run["moved"], *run["in_stds"]] for run in found], axis=0)
        rows.append((kind, f"{accuracy:.1%}", *(f"{value:.3f}" for value in moved)))
    noise = table(
        "Sigmoid networks: how far the inputs of layers 1 to 3 move in one step",
        ("", "accuracy", "1", "2", "3", "1 (stds)", "2 (stds)", "3 (stds)"),
        rows,
    )
    return f"{ratios}\n\n{noise}"


def main(arguments=None):
    parser = options(__doc__, steps=300, quick_steps=100)
    add_image_options(parser)
    given = parse(parser, arguments)
    data = images(given)
    seeds = range(given.seed, given.seed + (1 if given.quick else SEEDS))
    runs = [measure(data, seed, given.steps) for seed in seeds]
    save(lambda theme: plot(runs, theme), given, "loss_landscape")
    print(report(runs))
    return runs


if __name__ == "__main__":
    main()
