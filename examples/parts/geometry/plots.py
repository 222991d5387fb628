"""The picture and the tables of geometry.py."""

import math

import numpy as np

from support.plotting import figure
from support.tables import table

AZIMUTH, ELEVATION = math.radians(-34), math.radians(24)


def report(measured):
    """The closing tables: the vectors of the picture, and the random batches."""
    found = measured["picture"]
    left = found.g + found.through_mean + found.through_var
    vectors = {
        "g = dL/dy": found.g,
        "through E[x]: - mean(g)": found.through_mean,
        "through Var[x]: - x_hat mean(g x_hat)": found.through_var,
        "what is left": left,
        f"times gamma / sigma = {found.scale:.3f}: dL/dx": found.d_x,
    }
    ones = np.ones(len(found.g))
    rows = [
        (
            name,
            *(f"{value:+.3f}" for value in vector),
            *(f"{no_minus_zero(vector @ v):.3f}" for v in (ones, found.x_hat)),
        )
        for name, vector in vectors.items()
    ]
    random = [
        (
            f"N = {n}",
            *(f"{value:.0e}" for value in columns.max(axis=0)[:3]),
            f"{math.sqrt((columns[:, 3] ** 2).mean()):.3f}",
            f"{math.sqrt((n - 2) / n):.3f}",
        )
        for n, columns in measured["random"].items()
    ]
    head = ("", "1st value", "2nd", "3rd", "sum", "x_hat . it")
    return "\n\n".join(
        [
            table("The backward pass for the batch in the picture", head, rows),
            table(
                "dL/dx for random batches, relative to gamma / sigma |g|: the largest\n"
                "deviation from the projections, the largest components along the\n"
                "ones and x_hat (theory: 0), and the root mean square length",
                ("", "deviation", "ones", "x_hat", "length", "theory"),
                random,
            ),
        ]
    )


def no_minus_zero(value):
    """``value``, or 0 for what rounding leaves of 0."""
    return 0.0 if abs(value) < 1e-12 else value


def plot(found, theme):
    """The two projections: in space, and in the plane orthogonal to the ones."""
    fig, ((space, plane),) = figure(theme, 1, 2, size=(4.2, 3.2))
    r = found.x_hat / np.linalg.norm(found.x_hat)
    up = np.ones(3) / math.sqrt(3)
    basis = np.stack([r, np.cross(up, r), up])
    plot_space(Canvas(space, basis, ELEVATION), found)
    plot_plane(Canvas(plane, basis, math.pi / 2), found)
    return fig


class Canvas:
    """A view of space: vectors (3,) are seen from an elevation above the plane.

    ``basis`` has the direction of x_hat, the tangent, and the direction of the ones.
    """

    def __init__(self, axes, basis, elevation):
        self.axes, self.basis, self.elevation = axes, basis, elevation
        axes.set(aspect="equal", xlim=(-1.8, 4.7), ylim=(-1.8, 2.95))
        axes.axis("off")

    def at(self, vector):
        """Where a vector ends on the page."""
        u, v, height = self.basis @ vector
        across = u * math.cos(AZIMUTH) - v * math.sin(AZIMUTH)
        depth = u * math.sin(AZIMUTH) + v * math.cos(AZIMUTH)
        return np.array(
            [
                across,
                depth * math.sin(self.elevation) + height * math.cos(self.elevation),
            ]
        )

    def arrow(self, start, vector, color, width=2.0, style="-"):
        """An arrow, from the end of one vector."""
        shape = {"arrowstyle": "-|>", "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
        look = {"color": color, "linewidth": width, "linestyle": style}
        ends = {"xytext": self.at(start), "xy": self.at(start + vector)}
        self.axes.annotate("", **ends, arrowprops=shape | look)

    def text(self, vector, text, color, dx=0.0, dy=0.0, **options):
        """A label next to the end of a vector."""
        x, y = self.at(vector) + (dx, dy)
        options = {"fontsize": 9, "va": "center"} | options
        self.axes.text(x, y, text, color=color, **options)

    def x_hat(self):
        """The normalized batch, an arrow from the center to the circle."""
        ink = self.axes.title.get_color()
        vector = math.sqrt(3) * self.basis[0]
        self.arrow(np.zeros(3), vector, ink)
        self.text(vector / 2, "x̂", ink, -0.1, -0.3, fontweight="bold", fontsize=11)

    def circle(self):
        """The circle of all x_hat, in the plane orthogonal to the ones."""
        angles = np.linspace(0, 2 * math.pi, 181)
        directions = np.outer(np.cos(angles), self.basis[0])
        directions += np.outer(np.sin(angles), self.basis[1])
        x, y = np.transpose([self.at(math.sqrt(3) * d) for d in directions])
        self.axes.fill(x, y, facecolor="C4", alpha=0.08)
        self.axes.plot(x, y, color="C4", linewidth=1, linestyle="-")


def as_text(vector):
    entries = ", ".join(f"{value:.2f}" for value in vector).replace("-", "−")
    return f"({entries})"


def plot_space(canvas, found):
    """Step 1, seen from the side."""
    ones, tip = np.ones(3), found.x_hat
    in_plane = found.g + found.through_mean
    canvas.circle()
    (x0, y0), (x1, y1) = canvas.at(-0.35 * ones), canvas.at(1.4 * ones)
    canvas.axes.plot([x0, x1], [y0, y1], color="C4", linewidth=1, linestyle=":")
    canvas.text(1.4 * ones, "direction of the ones,\n(1, 1, 1)", "C4", 0.1, 0.1)
    canvas.x_hat()
    canvas.arrow(tip, found.g, "C0", 2.6)
    label = f"g = dL/dy =\n{as_text(found.g)}"
    canvas.text(tip + found.g / 2, label, "C0", -0.25, 0.15, ha="right")
    canvas.arrow(tip + found.g, found.through_mean, "C1", 2.6)
    label = f"− mean(g) = {found.through_mean[0]:.2f}\nfor each value,\nthrough E[x]"
    label = label.replace("-", "−")
    canvas.text(tip + found.g + found.through_mean / 2, label, "C1", 0.15)
    canvas.arrow(tip, in_plane, "C0", 2.0, (0, (3, 1.5)))
    canvas.text(tip + in_plane, "what is left lies\nin the plane", "C0", -0.4, -0.5)
    canvas.axes.set(title="1  E[x] removes what all values share")


def plot_plane(canvas, found):
    """Steps 2 and 3, seen from above."""
    tip, in_plane = found.x_hat, found.g + found.through_mean
    left = in_plane + found.through_var
    canvas.circle()
    label = "seen from above:\nall x̂ with mean 0\nand variance 1"
    canvas.text(np.zeros(3), label, "C4", -0.1, 0.65, ha="center")
    canvas.x_hat()
    canvas.arrow(tip, in_plane, "C0", 2.0, (0, (3, 1.5)))
    canvas.text(tip + in_plane * 0.6, "g − mean(g)", "C0", 0.15, -0.3)
    canvas.arrow(tip + in_plane, found.through_var, "C2", 2.6)
    label = "− x̂ mean(g x̂),\nthrough Var[x]"
    canvas.text(tip + in_plane + found.through_var / 2, label, "C2", 0.2, 0.25)
    canvas.arrow(tip, left, "C3", 1.2)
    canvas.arrow(tip, found.d_x, "C3", 3.8)
    label = (
        "the rest is tangent to the circle;\n"
        f"times γ/σ = {found.scale:.2f}, it is\n"
        f"dL/dx = {as_text(found.d_x)}"
    )
    canvas.text(tip + left, label, "C3", -1.35, 1.15)
    canvas.axes.set(title="2  Var[x] removes what points along x̂")
