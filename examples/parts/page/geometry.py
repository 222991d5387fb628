"""Chapter 3: the backward pass of batch norm as two projections, for three samples.

The plane is that of all vectors with mean 0. In it, x_hat lies on a circle.
"""

import math

from parts.page.svg import WIDTH, circle, element, figure, line, words

# Where the plane is in the figure, and the view from the side above it.
HEIGHT, SCALE, CENTER, SIDE_SCALE, SIDE = 420, 30, (184, 259), 22, (16, 44)
# x - E[x] and g - mean(g) in the plane, and the mean of g. x can become twice as long.
X, GRADIENT, MEAN = (2.36, -0.86), (-0.65, 2.05), 0.8
LONGEST = {"x": 3 * math.sqrt(3), "g": 2.3}  # the first is a sigma of 3
ROWS = {
    "x": ("x", "bias"),
    "xHat": ("x̂", ""),
    "g": ("g", "direct"),
    "meanPart": ("− mean(g)", "mean"),
    "hatPart": ("− x̂ mean(g x̂)", "var"),
    "dX": ("sum ÷ σ = ∂L/∂x", "total"),
}
LABELS = {
    "x": ("drag x", "bold bias"), "hat": ("x̂", "bold"),
    "g": ("drag g", "bold direct"), "removed": ("along x̂", "bold var"),
    "rest": ("left over", "bold left"), "dx": ("∂L/∂x", "bold left"),
}  # fmt: skip


def numbers() -> dict:
    """Where the arrows start, and how the figure is scaled."""
    return {
        "x": X, "g": GRADIENT, "mean": MEAN, "scale": SCALE, "center": CENTER,
        "sideScale": SIDE_SCALE, "side": SIDE, "width": WIDTH, "top": 90,
        "bottom": HEIGHT, "longest": LONGEST,
    }  # fmt: skip


def parts() -> dict[str, str]:
    """What the template contains of this chapter."""
    return {"figure": drawing(), "table": table()}


def drawing() -> str:
    x, y = CENTER
    radius = round(SCALE * math.sqrt(3), 1)
    fixed = [
        words("From the side", 120, 18, "bold"),
        *_key(38, "g, in space", "direct dashed"),
        *_key(57, "along (1, 1, 1): removed", "mean"),
        *_key(76, "g − mean(g), in the plane", "direct"),
        words("From above", 4, 102, "bold"),
        words("in the plane", 4, 119, "quiet"),
        words("|∂L/∂x| ×1.00", WIDTH - 4, 102, "end bold left", id="geometry-length"),
        words("σ ×1.00", WIDTH - 4, 119, "end bold bias", id="geometry-sigma"),
        words("circle: all x̂", 4, HEIGHT - 8, "quiet"),
        words("limit: σ = 3", WIDTH - 4, HEIGHT - 8, "end quiet"),
    ]
    # The arrow "g" from above is the arrow "plane" from the side.
    names = ("xc", "hat", "removed", "g", "rest", "dx")
    arrows = [_arrow(n, "plane" if n == "g" else n) for n in names]
    return figure(
        "geometry",
        HEIGHT,
        line(4, SIDE[1], 104, SIDE[1], "axis"),
        *(_arrow(f"side-{name}", name) for name in ("ones", "plane", "g")),
        line(0, 87, WIDTH, 87, "axis"),
        circle(x, y, round(SCALE * LONGEST["x"], 1), "limit"),
        circle(x, y, radius, "orbit"),
        line(x, y, x, y, "ray", id="geometry-ray"),
        *arrows,
        element("g", *fixed, id="geometry-fixed"),
        _handle("x", "Tip of x"),
        _handle("g", "Tip of g"),
        *(words(t, 0, 0, c, id=f"geometry-label-{k}") for k, (t, c) in LABELS.items()),
        role="group",
    )


def _key(y, text, class_):
    yield line(120, y - 5, 138, y - 5, f"swatch {class_}")
    yield words(text, 146, y)


def _arrow(name, class_):
    shaft = line(0, 0, 0, 0, "shaft")
    head = element("path", d="M0 0l-11 -5.5v11z", class_="head")
    return element("g", shaft, head, id=f"geometry-{name}", class_=f"arrow of-{class_}")


def _handle(name, label):
    ring, target = circle(0, 0, 9, "ring"), circle(0, 0, 22, "area")
    return element(
        "g", target, ring, id=f"geometry-handle-{name}", class_=f"handle of-{name}",
        tabindex=0, role="slider", aria_label=label, aria_valuenow=0, aria_valuemin=0,
        aria_valuemax=round(LONGEST[name], 2),
    )  # fmt: skip


def table() -> str:
    """The rows of the table, with a cell for each sample."""
    return "\n".join(
        f'<tr class="{class_}"><th scope="row">{name}</th>'
        + "".join(f'<td id="geometry-{key}-{i}"></td>' for i in range(3))
        + "</tr>"
        for key, (name, class_) in ROWS.items()
    )
