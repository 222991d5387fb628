"""Is a bias in front of batch norm good for anything, and does leaving it out cost?

    python examples/bias_is_redundant.py
    python examples/bias_is_redundant.py --mnist-dir FOLDER

For nothing, and no: BN(W u + b) = BN(W u), because b moves E[x] by b as well. Two
networks with the same weights, one with any b and one without, stay alike through
training, whatever the optimizer: so b cannot overfit either. Subtracting the mean does
this, with gamma and beta or without; beta takes over the job that b used to have.

Dead is not still. The gradient of b is zero but for rounding noise, and Adam divides a
gradient by its own size: noise of 1e-9, as in float32, is felt beside Adam's eps of
1e-8 and moves b by up to lr at each step; noise of 1e-18, as in float64, is not. Batch
norm takes out again whatever b has become.

b is alive wherever something else than the mean of its own batch is subtracted: with
running statistics, before a ReLU, with a way around batch norm, or where the average is
over features, as in layer norm.

Not shown: that drift is harmless in evaluation mode, where the running mean follows b
with a delay; nor anything about biases elsewhere in a network.

Source: Ioffe & Szegedy, arXiv 1502.03167v3, section 3.2.
"""

import numpy as np
from lab import add_image_options, figure, images, options, parse, save, span, table
from tqdm import tqdm

import tinygrad_bn as tg
from tinygrad_bn import Tensor, nn, optim

OPTIMIZERS = {
    "SGD": lambda parameters: optim.SGD(parameters, lr=0.1),
    "momentum": lambda parameters: optim.SGD(parameters, lr=0.1, momentum=0.9),
    "Adam": lambda parameters: optim.Adam(parameters, lr=0.01),
}
DRIFTS = [("Adam", np.float32), ("Adam", np.float64), ("SGD", np.float32)]


def network(data, seed, bias=True, affine=True, dtype=np.float64):
    """Three hidden layers of 50; with and without b, their weights are the same."""
    rng = np.random.default_rng(seed)
    modules, width = [], data.train_x.shape[1]
    for _ in range(3):
        modules.append(nn.Linear(width, 50, bias, rng=rng, dtype=dtype))
        modules += [nn.BatchNorm(50, affine=affine, dtype=dtype), nn.ReLU()]
        width = 50
    return nn.Sequential(*modules, nn.Linear(width, 10, rng=rng, dtype=dtype))


def train(model, data, optimizer, seed, steps):
    """The loss, step by step, on batches of 64 that the seed alone decides."""
    rng = np.random.default_rng(seed)
    dtype = model.parameters()[0].dtype
    for _ in range(steps):
        rows = rng.choice(len(data.train_y), 64, replace=False)
        x, labels = Tensor(data.train_x[rows], dtype=dtype), data.train_y[rows]
        loss = nn.cross_entropy(model(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield loss.item()


def with_and_without(data, seed, steps, optimizer, affine):
    """The losses with b and without, and how far all other parameters are apart."""
    rng = np.random.default_rng([seed, 1])
    models = [network(data, seed, bias, affine) for bias in (True, False)]
    runs = [
        train(model, data, OPTIMIZERS[optimizer](model.parameters()), seed, steps)
        for model in models
    ]
    with_b, without = (dict(model.named_parameters()) for model in models)
    for name in sorted(with_b.keys() - without.keys()):
        with_b[name][:] = rng.standard_normal(with_b[name].shape)
    losses, apart = [], []
    for both in zip(*runs):
        losses.append(both)
        apart.append(
            max(np.abs(with_b[n].data - without[n].data).max() for n in without)
        )
    return {"losses": np.array(losses).T, "apart": np.array(apart)}


def drift(data, seed, steps, optimizer, dtype):
    """The largest entry of any hidden bias after each step; they all begin at 0."""
    model = network(data, seed, dtype=dtype)
    biases = [m.bias for m in list(model)[:-1] if isinstance(m, nn.Linear)]
    losses = train(model, data, OPTIMIZERS[optimizer](model.parameters()), seed, steps)
    return np.array([max(np.abs(b.data).max() for b in biases) for _ in losses])


def liveliness(seed):
    """|dL/db| beside the sum of |dL/dx| that makes it up, by what follows x = u + b."""
    rng = np.random.default_rng(seed)
    u, g = rng.standard_normal((2, 64, 10))
    before = rng.standard_normal((64, 10))
    statistics = {"mean": before.mean(axis=0), "var": before.var(axis=0)}
    cases = {
        "batch norm": tg.batch_norm,
        "Var[x] constant": lambda x: tg.batch_norm(x, constants=("var",)),
        "E[x] constant": lambda x: tg.batch_norm(x, constants=("mean",)),
        "running statistics": lambda x: tg.batch_norm(x, **statistics),
        "ReLU, batch norm": lambda x: tg.batch_norm(tg.relu(x)),
        "way around it": lambda x: x + tg.batch_norm(x),
        "layer norm": lambda x: tg.batch_norm(x, axes=(1,)),
    }
    found = {}
    for case, normalize in cases.items():
        b = Tensor(np.zeros(10), requires_grad=True)
        x = u + b
        d_b, d_x = tg.grad(normalize(x), [b, x], gradient=g)
        found[case] = float((np.abs(d_b.data) / np.abs(d_x.data).sum(axis=0)).max())
    return found


def measure(seed, steps, data, quick=False):
    """All that the tables and the picture show, over three seeds, or over one."""
    seeds = range(seed, seed + (1 if quick else 3))
    # A pixel that is blank in a whole batch acts as a bias: its weights are dead, too.
    varies = data.train_x.std(axis=0) > 0.3
    data = data._replace(train_x=data.train_x[:, varies])
    return {
        "pairs": {
            (optimizer, affine): [
                with_and_without(data, s, steps, optimizer, affine)
                for s in tqdm(seeds, desc=optimizer, disable=None)
            ]
            for optimizer in OPTIMIZERS
            for affine in (True, False)
        },
        "drifts": {
            (optimizer, dtype.__name__): [
                drift(data, s, steps, optimizer, dtype)
                for s in tqdm(seeds, desc=f"drift, {optimizer}", disable=None)
            ]
            for optimizer, dtype in DRIFTS
        },
        "liveliness": liveliness(seed),
    }


def report(measured):
    """The closing tables: measured numbers beside the theory."""
    pairs = [
        (
            f"{optimizer}{'' if affine else ', no gamma and beta'}",
            span(abs(np.subtract(*run["losses"])).max() for run in runs),
            span(run["apart"].max() for run in runs),
            "0",
        )
        for (optimizer, affine), runs in measured["pairs"].items()
    ]
    drifts = [
        (f"{optimizer}, {dtype}", span(run[-1] for run in runs))
        for (optimizer, dtype), runs in measured["drifts"].items()
    ]
    dead = ("batch norm", "Var[x] constant")
    alive = [
        (case, value, "0" if case in dead else "not 0")
        for case, value in measured["liveliness"].items()
    ]
    head = ("", "losses", "parameters", "theory")
    return "\n\n".join(
        [
            table("With and without b, at most apart by", head, pairs),
            table("Largest dead bias after training", ("", "measured"), drifts),
            table("|dL/db| / sum |dL/dx|", ("", "measured", "theory"), alive),
        ]
    )


def plot(measured, theme):
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    a.set_title("With b or without: the same training")
    with_b, without = measured["pairs"]["Adam", True][0]["losses"]
    a.plot(with_b, label="with b")
    k = np.arange(0, len(without), len(without) // 20 + 1)
    a.plot(k, without[k], "o", color="C1", fillstyle="none", label="without")
    a.set(xlabel="step", ylabel="loss (Adam)", yscale="log")
    b.set_title("All that tells them apart is rounding")
    for optimizer in OPTIMIZERS:
        b.plot(measured["pairs"][optimizer, True][0]["apart"], label=optimizer)
    b.set(xlabel="step", ylabel="largest difference of a parameter", yscale="log")
    c.set_title("A dead bias moves where noise is felt")
    for (optimizer, dtype), runs in measured["drifts"].items():
        c.plot(runs[0], label=f"{optimizer}, {dtype}")
    c.set(xlabel="step", ylabel="largest entry of b", yscale="log")
    d.set_title("Where b is dead, and where alive")
    cases, values = zip(*reversed(measured["liveliness"].items()))
    d.bar_label(d.barh(cases, values), fmt=" %.2g")
    d.set(xlabel="|dL/db| / sum of |dL/dx|", xlim=(0, 1.2 * max(values)))
    d.grid(visible=False, axis="y")
    for axes in (a, b, c):
        axes.legend()
    return fig


def main(arguments=None):
    parser = options(__doc__, steps=200, quick_steps=20)
    add_image_options(parser)
    given = parse(parser, arguments)
    data = images(given, np.float64)
    measured = measure(given.seed, given.steps, data, given.quick)
    save(lambda theme: plot(measured, theme), given, "bias_is_redundant")
    print(report(measured))
    return measured


if __name__ == "__main__":
    main()
