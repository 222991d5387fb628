"""Does batch norm train with moving averages of the mean and the variance?

    python examples/moving_averages.py
    python examples/moving_averages.py --mnist-dir FOLDER

No, though a popular answer says so. Training normalizes by the mini-batch's own mean
and variance, inside the graph; the averages are kept beside it, for inference and for
people who watch. Whoever trains with averages takes the statistics for constants, and
what ``bias_blow_up.py`` shows happens to them: biases grow, and the loss with them.

Let p be the weight of the new batch: ``momentum`` here and in PyTorch, while Keras's is
1 - p. The average starts at a_0; after k batches with the same statistic v it is

    a_k = v + (1 - p)^k (a_0 - v).

Over batches of N values with standard deviation sigma the weights are p (1 - p)^j, so
that the running mean varies by sqrt(p / (2 - p)) sigma / sqrt(N).

In a frozen network that sees the same batch again and again, evaluation comes close to
training but stays about 1 / (2N) away for each layer: the running variance is unbiased,
N / (N - 1) times that of the batch, and 1 - sqrt((N - 1) / N) is nearly 1 / (2N).

Not shown: that averages always fail. With p = 0.01 the network learns; it fails where
averages follow at once and the gradient does not know it. Nor is 1 / (2N) exact for
deep layers: what they receive in evaluation is also off center.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.1 and Algorithm 2; on averages in
training: Ioffe, Batch Renormalization, arXiv 1702.03275, section 2.
"""

import math

import numpy as np
from lab import add_image_options, figure, images, options, parse, save, span, table
from tqdm import tqdm

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim


class NormByAverages(nn.BatchNorm):
    """What the popular answer describes: averages in training, too."""

    def forward(self, x):
        if self.training:
            self.running.update(x.data.mean(axis=0), x.data.var(axis=0), len(x))
        return tg.batch_norm(x, mean=self.running_mean, var=self.running_var)


OWN, FAST, SLOW = "the batch's own", "averages, p = 0.1", "averages, p = 0.01"
WAYS = {
    OWN: (nn.BatchNorm, 0.1),
    FAST: (NormByAverages, 0.1),
    SLOW: (NormByAverages, 0.01),
}
GAPS = [(8, 1), (32, 1), (128, 1), (32, 2), (32, 3)]  # batch size, layers


@tg.no_grad()
def same_batch(seed, p=0.1, updates=60):
    """Running mean and variance, batch by batch, with the closed form of each."""
    x = np.random.default_rng(seed).normal(3, 2, (16, 1))
    norm = nn.BatchNorm(1, momentum=p, dtype=np.float64)
    path = [(norm.running_mean.item(), norm.running_var.item())]
    for _ in range(updates):
        norm(Tensor(x))
        path.append((norm.running_mean.item(), norm.running_var.item()))
    fade = (1 - p) ** np.arange(updates + 1)
    mean, var = x.mean(), x.var(ddof=1)
    theory = np.stack([mean + fade * (0 - mean), var + fade * (1 - var)])
    return {"measured": np.array(path).T, "theory": theory}


@tg.no_grad()
def spread(seed, p, n=16):
    """The standard deviation of the running mean over 1000 channels, sigma = 1."""
    rng = np.random.default_rng(seed)
    norm = nn.BatchNorm(1000, momentum=p, dtype=np.float64)
    # After 10 / p batches, e^-10 of where the average began is left in it.
    for _ in range(round(10 / p)):
        norm(Tensor(rng.standard_normal((n, 1000))))
    return float(norm.running_mean.std())


def spread_theory(p, n=16):
    return np.sqrt(p / (2 - p)) / math.sqrt(n)


@tg.no_grad()
def gap(seed, n, layers, updates=150):
    """How far evaluation is from training, relative, after each look at one batch."""
    rng = np.random.default_rng(seed)
    modules = []
    for _ in range(layers):
        linear = nn.Linear(50, 50, bias=False, rng=rng, dtype=np.float64)
        norm = nn.BatchNorm(50, affine=False, eps=0, dtype=np.float64)
        modules += [linear, norm, nn.ReLU()]
    model = nn.Sequential(*modules[:-1])
    x = Tensor(rng.standard_normal((n, 50)))
    found = []
    for _ in range(updates):
        in_training = model.train()(x).data
        found.append(np.linalg.norm(model.eval()(x).data - in_training))
    return np.array(found) / np.linalg.norm(in_training)


def train(data, seed, way, steps):
    """The losses of a sigmoid network, and the length of its hidden biases."""
    rng = np.random.default_rng(seed)
    norm, p = WAYS[way]
    modules, width = [], data.train_x.shape[1]
    for _ in range(3):
        modules.append(linear(width, 100, rng))
        modules += [norm(100, affine=False, momentum=p), nn.Sigmoid()]
        width = 100
    model = nn.Sequential(*modules, linear(width, 10, rng))
    optimizer = optim.SGD(model.parameters(), lr=1)
    losses = []
    for _ in range(steps):
        rows = rng.choice(len(data.train_y), 128, replace=False)
        loss = nn.cross_entropy(model(Tensor(data.train_x[rows])), data.train_y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    biases = np.concatenate([model[i].bias.data for i in (0, 3, 6)])
    return {"losses": np.array(losses), "b": float(np.linalg.norm(biases))}


def linear(fan_in, fan_out, rng):
    """A layer with weights of variance 1 / fan_in."""
    layer = nn.Linear(fan_in, fan_out, rng=rng)
    layer.weight[:] = rng.standard_normal((fan_in, fan_out)) / math.sqrt(fan_in)
    return layer


def late_loss(run):
    """The median over the last quarter of the steps, which spikes do not move."""
    return float(np.median(run["losses"][-(len(run["losses"]) // 4 or 1) :]))


def measure(seed, steps, data, quick=False):
    """The averages beside their theory, and training over three seeds, or one."""
    seeds = range(seed, seed + (1 if quick else 3))
    return {
        "same batch": same_batch(seed),
        "spread": {p: spread(seed, p) for p in (0.5, 0.2, 0.1, 0.05, 0.02)},
        "gap": {case: gap(seed, *case) for case in GAPS},
        "training": {
            way: [
                train(data, s, way, steps) for s in tqdm(seeds, desc=way, disable=None)
            ]
            for way in WAYS
        },
    }


def report(measured):
    """The closing tables: measured numbers beside the theory."""
    same = measured["same batch"]
    averages = [
        (f"{name} after 60 times the same batch", values[-1], theory[-1])
        for name, values, theory in zip(("mean", "variance"), *same.values())
    ]
    averages += [
        (f"std of the running mean, p = {p}", value, float(spread_theory(p)))
        for p, value in measured["spread"].items()
    ]
    averages += [
        (f"train against eval, N = {n}, {k} x BN", values[-1], k / (2 * n))
        for (n, k), values in measured["gap"].items()
    ]
    training = [
        (way, span(map(late_loss, runs)), span(run["b"] for run in runs))
        for way, runs in measured["training"].items()
    ]
    head = ("normalized by", "late loss", "|b|")
    return "\n\n".join(
        [
            table("Averages", ("", "measured", "theory"), averages),
            table("Training, over seeds", head, training),
        ]
    )


def plot(measured, theme):
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    same = measured["same batch"]
    a.set_title("The same batch again: averages arrive")
    for name, values, theory in zip(("mean", "variance"), *same.values()):
        a.plot(values, label=f"running {name}")
        a.plot(theory, "o", markevery=5, color="C4", fillstyle="none")
    a.set(xlabel="batches", ylabel="average (circles: theory)")

    b.set_title("Quick averages are noisy averages")
    p = np.linspace(0, 0.6)
    b.plot(p, spread_theory(p), label="theory")
    b.plot(*zip(*measured["spread"].items()), "o", color="C1", label="measured")
    b.set(xlabel="p, weight of the new batch", ylabel="std of the running mean")

    c.set_title("Evaluation stays 1 / (2N) away")
    for n in (8, 32, 128):
        (line,) = c.plot(measured["gap"][n, 1], label=f"N = {n}")
        c.axhline(1 / (2 * n), color=line.get_color(), linestyle=":", linewidth=1)
    c.set(xlabel="batches", ylabel="eval against train (dots: 1 / (2N))", yscale="log")

    d.set_title("With quick averages training fails")
    for way, runs in measured["training"].items():
        d.plot(runs[0]["losses"], label=way)
    d.set(xlabel="step", ylabel="loss", ylim=(0, 8))
    for axes in (a, b, c, d):
        axes.legend()
    return fig


def main(arguments=None):
    parser = options(__doc__, steps=300, quick_steps=80)
    add_image_options(parser)
    given = parse(parser, arguments)
    measured = measure(given.seed, given.steps, images(given), given.quick)
    save(lambda theme: plot(measured, theme), given, "moving_averages")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
