"""What moving_averages.py shows: its picture and its closing tables."""

from lab import circles, figure, span, table


def report(measured):
    """The closing tables: measured numbers beside the theory."""
    same = measured["same batch"]
    averages = [
        (f"{name} after 60 times the same batch", values[-1], theory[-1])
        for name, values, theory in zip(("mean", "variance"), *same.values())
    ]
    averages += [
        (f"std of the running mean, p = {p}", value, measured["spread theory"][p])
        for p, value in measured["spread"].items()
    ]
    averages += [
        (f"train against eval, N = {n}, {k} x BN", values[-1], k / (2 * n))
        for (n, k), values in measured["gap"].items()
    ]
    trained = [
        (way, span(measured["late losses"][way]), span(run["b"] for run in runs))
        for way, runs in measured["training"].items()
    ]
    head = ("normalized by", "late loss", "|b|")
    return "\n\n".join(
        [
            table("Averages", ("", "measured", "theory"), averages),
            table("Training, over seeds", head, trained),
        ]
    )


def plot(measured, theme):
    """Three panels on what averages do, and one on training with them."""
    fig, ((a, b), (c, d)) = figure(theme, 2, 2)
    plot_same_batch(a, **measured["same batch"])
    plot_spread(b, measured["spread"], measured["spread theory"])
    plot_gap(c, measured["gap"])
    plot_losses(d, measured["training"])
    return fig


def plot_same_batch(axes, measured, theory):
    for name, values, expected in zip(("mean", "variance"), measured, theory):
        axes.plot(values, label=f"running {name}")
        label = "theory" if name == "variance" else None
        circles(axes, range(len(values)), expected, label)
    axes.set(title="The same batch again: averages arrive", xlabel="batches seen")
    axes.set_ylabel("running statistic of one channel")
    axes.legend()


def plot_spread(axes, measured, theory):
    axes.loglog(measured.keys(), measured.values(), label="measured, 1000 channels")
    circles(axes, list(theory.keys()), list(theory.values()), "theory")
    axes.set(title="Quick averages are noisy averages")
    axes.set(xlabel="p, weight of the new batch", ylabel="std of the running mean / σ")
    axes.set_xticks(list(measured), list(measured))
    axes.set_yticks([0.02, 0.05, 0.1, 0.2], [0.02, 0.05, 0.1, 0.2])
    axes.minorticks_off()
    axes.legend()


def plot_gap(axes, gaps):
    for n in (8, 32, 128):
        (line,) = axes.plot(gaps[n, 1], label=f"N = {n}")
        axes.axhline(1 / (2 * n), color=line.get_color(), linestyle=":", linewidth=1)
    axes.set(title="Evaluation stays 1 / (2N) away", yscale="log")
    axes.set(
        xlabel="times the same batch was seen",
        ylabel="output: |eval - train| / |train|",
    )
    axes.legend(title="dotted: 1 / (2N)")


def plot_losses(axes, training):
    for way, runs in training.items():
        axes.plot(runs[0]["losses"], label=way)
    axes.set(title="With quick averages training fails", ylim=(0, 8))
    axes.set(xlabel="step of SGD", ylabel="training loss (cross-entropy)")
    axes.legend(title="normalized by")
