"""The colors of drawings, light and dark, and the colors of values.

Direct routes are blue, those through E[x] vermilion, those through Var[x] green, and
all others purple. This is Okabe and Ito's palette, whose colors color-blind readers can
distinguish. Color is never the only cue: routes are named, cuts are dotted and crossed,
and gradients that cancel are dashed.

This file comes after ``scene.py`` in the reading order; ``markup.py`` is next.

Left out on purpose: colors chosen by the user, which may be hard to distinguish.
"""

from dataclasses import asdict, dataclass

import numpy as np

from .scene import COMMON, DIRECT


@dataclass(frozen=True)
class Theme:
    """Colors as ``#rrggbb``, by what they are for."""

    background: str
    ink: str
    quiet: str
    arrow: str
    border: str
    operation: str
    data: str
    leaf: str
    leaf_border: str
    frame: str
    mean: str
    mean_text: str
    var: str
    direct: str
    other: str
    negative: str
    positive: str
    zero: str
    track: str
    alarm: str

    def of(self, group: str) -> str:
        """The color of the streams of a group of routes."""
        if group == COMMON:
            return self.ink
        if group == DIRECT:
            return self.direct
        last = group.rpartition(".")[2]
        return {"E[x]": self.mean, "Var[x]": self.var}.get(last, self.other)

    def text_of(self, group: str) -> str:
        """The color of text about a group of routes."""
        color = self.of(group)
        return self.mean_text if color == self.mean else color

    def of_operation(self, operation: str) -> str:
        """The color of a primitive, the same wherever it occurs."""
        name = operation.split()[0].partition("(")[0]
        color = _OPERATIONS.get(name, self.border)
        return _mix(self.background, color, 0.35)

    def tile(self, value: float, largest: float) -> str:
        """The color of a value: negative purple, positive green, not finite red."""
        if not np.isfinite(value):
            return _mix(self.background, self.alarm, 0.35)
        if not largest:
            return self.zero
        end = self.positive if value > 0 else self.negative
        return _mix(self.zero, end, min(abs(value) / largest, 1) ** 0.8)


LIGHT = Theme(
    background="#ffffff", ink="#1b2733", quiet="#5d6975", arrow="#96a0ab",
    border="#c3cbd4", operation="#ffffff", data="#f4f6f8", leaf="#fff9e8",
    leaf_border="#e69f00", frame="#f6f8fa", mean="#d55e00", mean_text="#b84d00",
    var="#00806a", direct="#0072b2", other="#a24a86", negative="#a67bb5",
    positive="#62a877", zero="#f7f7f5", track="#e9edf1", alarm="#c1121f",
)  # fmt: skip
DARK = Theme(
    background="#0f151c", ink="#e8edf2", quiet="#9aa7b4", arrow="#6b7886",
    border="#44515e", operation="#18212b", data="#202a35", leaf="#2b2413",
    leaf_border="#e69f00", frame="#141c25", mean="#e8762c", mean_text="#ff9a57",
    var="#2fb49c", direct="#4aa3df", other="#d585bb", negative="#7d4f92",
    positive="#2f7d4b", zero="#222c37", track="#26313d", alarm="#ff5d5d",
)  # fmt: skip
# The letters with which batch norm and its gradients are spelled, then the others.
_OPERATIONS = {
    "add": "#4477aa", "sub": "#66ccee", "mul": "#ee6677", "power": "#aa3377",
    "sum_to": "#228833", "broadcast_to": "#ccbb44", "div": "#ee99aa",
    "matmul": "#ee8866",
    "relu": "#bbcc33", "sigmoid": "#bbcc33", "tanh": "#bbcc33", "mean": "#228833",
}  # fmt: skip
THEMES = {"light": LIGHT, "dark": DARK}
# The themes of a picture for a reader who prefers light, and for one who prefers dark.
PAIRS = {name: (theme, theme) for name, theme in THEMES.items()}
PAIRS["auto"] = LIGHT, DARK
Colors = dict[str, tuple[str, str]]


def colors_of(pair: tuple[Theme, Theme]) -> Colors:
    """The light and the dark color of everything, by the name of a CSS variable."""
    light, dark = map(asdict, pair)
    return {f"--tg-{name}": (light[name], dark[name]) for name in light}


def stylesheet(colors: Colors) -> str:
    """CSS variables that follow the color scheme of the reader."""
    light, dark = (
        " ".join(f"{name}: {pair[i]};" for name, pair in colors.items()) for i in (0, 1)
    )
    scheme = "@media (prefers-color-scheme: dark)"
    both = f"{scheme} {{ :root {{ {dark} }} }}" if light != dark else ""
    return f":root {{ {light} }}\n{both}"


def _mix(a: str, b: str, share: float) -> str:
    parts = (
        round(int(a[i : i + 2], 16) * (1 - share) + int(b[i : i + 2], 16) * share)
        for i in (1, 3, 5)
    )
    return "#" + "".join(f"{part:02x}" for part in parts)
