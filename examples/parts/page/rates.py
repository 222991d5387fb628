"""Chapter 6: the map of learning rates and initial weights.

The numbers are those that ``learning_rates.py`` measured and saved.
"""

import json
from functools import cache
from pathlib import Path

from parts.page.svg import WIDTH, element, figure, line, words

MEASURED = Path(__file__).parents[1] / "learning_rates" / "measured.json"
# The map, and the panel of training curves below it.
LEFT, TOP, WIDE, HIGH, GAP = 58, 24, 44, 44, 6
PANEL_LEFT, PANEL_RIGHT, PANEL_HEIGHT, LARGEST = 44, 360, 84, 3
SIDES = {False: "without", True: "with"}
FIRST = {"lr": "0.1", "weights": "0.3"}  # both curves stay in their panel


@cache
def measured() -> dict:
    return json.loads(MEASURED.read_text(encoding="utf-8"))


def values(key: str) -> list[float]:
    """The learning rates or the scales of the map, smallest first."""
    return sorted({network[key] for network in measured()["networks"]})


def cells() -> dict[str, dict]:
    """Accuracy and training curve of both networks of each cell."""
    found: dict[str, dict] = {}
    for network in measured()["networks"]:
        name = f"{network['lr']:g} {network['weights']:g}"
        side = SIDES[network["batch norm"]]
        found.setdefault(name, {})[side] = {
            "accuracy": network["accuracy"],
            "loss": [None if v is None else round(v, 3) for v in network["loss"]],
        }
    return found


def numbers() -> dict:
    """What the script shows of the chosen cell."""
    bottom = _panel_top() + PANEL_HEIGHT
    return {
        "cells": cells(), "steps": measured()["steps"], "first": FIRST,
        "rates": [f"{v:g}" for v in values("lr")],
        "weights": [f"{v:g}" for v in values("weights")],
        "left": PANEL_LEFT, "right": PANEL_RIGHT, "top": _panel_top(), "bottom": bottom,
        "largest": LARGEST,
    }  # fmt: skip


def parts() -> dict[str, str]:
    """What the template contains of this chapter: the figure and some numbers."""
    steps, data = measured()["steps"], measured()["data"]
    texts = {"figure": drawing(), "steps": str(max(steps) + 1), "data": data.upper()}
    texts["cells"] = str(len(cells()))
    for side in SIDES.values():
        found = [cell[side]["accuracy"] for cell in cells().values()]
        texts[f"best_{side}"] = percent(max(found))
        texts[f"many_{side}"] = f"{sum(v > 0.8 for v in found)} of {len(found)}"
    return texts


def percent(value: float) -> str:
    return f"{100 * value:.0f}%"


def drawing() -> str:
    rates, scales = values("lr"), values("weights")
    bottom = TOP + HIGH * len(scales)
    content = [
        words("Accuracy in %:", 4, 14, "bold"),
        words("without", 132, 14, "bold mean"), words("above,", 202, 14),
        words("with", 258, 14, "bold direct"), words("below", 300, 14),
        words(
            "initial weights (1: He initialization)", 0, 0, "middle quiet",
            transform=f"translate(14 {(TOP + bottom) / 2}) rotate(-90)",
        ),
        words("learning rate", (LEFT + WIDTH) / 2, bottom + 33, "middle quiet"),
    ]  # fmt: skip
    for i, scale in enumerate(reversed(scales)):
        middle = TOP + HIGH * i + HIGH / 2 + 5
        content.append(words(f"{scale:g}", LEFT - 6, middle, "end quiet"))
    for j, rate in enumerate(rates):
        middle = LEFT + WIDE * j + WIDE / 2
        content.append(words(f"{rate:g}", middle, bottom + 16, "middle quiet"))
    content += [
        _cell(rate, scale, LEFT + WIDE * j, TOP + HIGH * i)
        for i, scale in enumerate(reversed(scales))
        for j, rate in enumerate(rates)
    ]
    height = _panel_top() + PANEL_HEIGHT + 24
    return figure("rates", height, *content, *_panel(), role="group")


def _cell(rate, scale, x, y):
    name = f"{rate:g} {scale:g}"
    cell = cells()[name]
    x, y, wide, high = x + GAP / 2, y + GAP / 2, WIDE - GAP, HIGH - GAP
    half, parts, spoken = high / 2, [], f"learning rate {rate:g}, weights {scale:g}"
    for k, (side, class_) in enumerate((("without", "mean"), ("with", "direct"))):
        accuracy = cell[side]["accuracy"]
        # Even the palest half differs from the ground; a gap divides the two.
        parts.append(
            element(
                "rect", x=x, y=y + k * (half + 1), width=wide, height=half - 1,
                class_=f"tile {class_}", fill_opacity=round(0.1 + 0.45 * accuracy, 3),
            )
        )  # fmt: skip
        text = f"{100 * accuracy:.0f}"
        parts.append(words(text, x + wide / 2, y + (k + 0.5) * half + 5, "middle"))
        spoken += f", {side} batch norm {percent(accuracy)}"
    frame = element("rect", x=x, y=y, width=wide, height=high, class_="frame")
    return element(
        "g", *parts, frame, class_="cell", role="button", tabindex=-1, data_cell=name,
        aria_label=spoken,
    )  # fmt: skip


def _panel_top() -> int:
    return TOP + HIGH * len(values("weights")) + 74


def _panel():
    top, steps = _panel_top(), max(measured()["steps"]) + 1
    bottom = top + PANEL_HEIGHT
    yield words("loss", 4, top - 13, "quiet")
    for side, x, class_ in (("with", 54, "direct"), ("without", 126, "mean")):
        yield line(x, top - 18, x + 18, top - 18, f"curve {side}-norm")
        yield words(side, x + 24, top - 13, class_, id=f"rates-key-{side}")
    for value in range(LARGEST + 1):
        y = bottom - PANEL_HEIGHT * value / LARGEST
        yield line(PANEL_LEFT, y, PANEL_RIGHT, y, "axis")
        yield words(str(value), PANEL_LEFT - 6, y + 5, "end quiet")
    yield words("step 1", PANEL_LEFT, bottom + 18, "quiet")
    yield words(f"step {steps}", PANEL_RIGHT, bottom + 18, "end quiet")
    wide, high = PANEL_RIGHT - PANEL_LEFT, PANEL_HEIGHT + 8
    window = element("rect", x=PANEL_LEFT, y=top - 6, width=wide, height=high)
    yield element("clipPath", window, id="rates-window")
    for side in SIDES.values():
        yield element(
            "polyline", id=f"rates-curve-{side}", class_=f"curve {side}-norm",
            clip_path="url(#rates-window)",
        )  # fmt: skip
