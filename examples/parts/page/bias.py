"""Chapter 1: four samples, one bias, and what is left of its gradient."""

from parts.page.svg import WIDTH, circle, element, figure, line, standalone, words
from parts.page.text import plain
from support import drawings as example

FEATURE = 1  # of the four samples of the drawings
U, C, B = example.U[:, FEATURE], example.C[:, FEATURE], 2.0
LEARNING_RATE, STEPS = 0.1, 30
# The bias moves between -7 and 7, so the samples lie between -8 and 11.
LIMIT, SCALE, ORIGIN = 7, 18, 158
HEIGHT = 204
C_NOTE = f"c: fixed weights, sum {plain(C.sum())}"


def numbers() -> dict:
    """What the script needs to compute the forward pass and the two routes."""
    return {
        "u": U.tolist(), "c": C.tolist(), "b": B, "lr": LEARNING_RATE, "steps": STEPS,
        "limit": LIMIT, "scale": SCALE, "origin": ORIGIN, "width": WIDTH,
    }  # fmt: skip


def parts() -> dict[str, object]:
    """What the template contains of this chapter."""
    texts = {"b": B, "limit": LIMIT, "steps": STEPS, "rate": LEARNING_RATE}
    return {"figure": drawing(), **texts}


def picture(style: str) -> str:
    """The dots without and with the bias, as a file for text that cannot move."""
    return standalone(drawing(*_without_bias()), style, HEIGHT)


def drawing(*more: str) -> str:
    """Two lines of dots, where they are before anybody touches the bias."""
    x, y, y_hat = U + B, 62, 158
    loss = C @ (x - x.mean())

    def marker(y, text, class_, **rest):
        arrow = element("path", d=f"M0 {y} l7 12 h-14 z", class_=f"marker {class_}")
        label = words(text, 0, y + 28, f"middle {class_}")
        return element("g", arrow, label, **rest)

    samples = [
        circle(_place(v), y, 7, "sample", id=f"bias-x{i}") for i, v in enumerate(x)
    ]
    area = element("rect", x=0, y=y - 26, width=WIDTH, height=56, class_="area")
    hats = [
        circle(_place(v), y_hat, 7, "normalized", id=f"bias-hat{i}")
        for i, v in enumerate(U - U.mean())
    ]
    mean = _place(x.mean())
    return figure(
        "bias",
        HEIGHT,
        words("x = u + b", 4, 16, "bold bias"),
        line(mean, y - 20, mean, y - 20, "trail", id="bias-trail"),
        line(0, y, WIDTH, y, "axis"),
        *more,
        marker(
            y + 10, "E[x]", "mean", id="bias-mean", transform=f"translate({mean} 0)"
        ),
        element("g", area, *samples, id="bias-samples"),
        words("x̂ = x − E[x]", 4, 124, "bold"),
        words(f"loss L = Σ c·x̂ = {plain(loss)}", WIDTH - 4, 124, "end", id="bias-loss"),
        words(C_NOTE, WIDTH - 4, 141, "end quiet"),
        line(0, y_hat, WIDTH, y_hat, "axis"),
        *hats,
        marker(y_hat + 10, "mean 0", "quiet", transform=f"translate({ORIGIN} 0)"),
    )


def _without_bias():
    yield from (circle(_place(v), 34, 7, "sample before") for v in U)
    yield words("b = 0", _place(U.max() + 1), 39, "quiet")
    yield words(f"b = {B:g}", _place(U.max() + B + 1), 56, "bold bias")


def _place(value):
    return ORIGIN + SCALE * value
