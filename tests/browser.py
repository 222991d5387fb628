"""A browser for the tests of the page, and what must hold of any page shown in it.

The tests need playwright and axe-playwright-python from PyPI, and a Chromium or Chrome:
one that is on the path, or the one that ``playwright install chromium`` installs. Where
something is missing, they are skipped.
"""

import functools
import http.server
import shutil
import threading
from contextlib import contextmanager

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# What matters here, and in a container: no sandbox of its own, no graphics card, and
# no requests in the background.
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--no-first-run",
]  # fmt: skip


@contextmanager
def browser():
    """A running Chromium."""
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = next(filter(None, map(shutil.which, [*NAMES, own])), None)
        if path is None:
            pytest.skip("no Chromium is installed; CONTRIBUTING.md says how to get it")
        chromium = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


def watch(page) -> list[str]:
    """All that goes wrong on a page from now on, and all that it requests."""
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(f"error: {error}"))

    def console(message):
        if message.type in ("error", "warning"):
            problems.append(f"console: {message.text}")

    def request(sent):
        # The document itself is no problem, and data: leads nowhere.
        if not sent.is_navigation_request() and not sent.url.startswith("data:"):
            problems.append(f"request: {sent.url}")

    page.on("console", console)
    page.on("request", request)
    return problems


@contextmanager
def server(folder):
    """The address of a local server of ``folder``, and its log of requests."""
    log: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, _, *arguments):
            log.append(str(arguments[0]))

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", log
        running.shutdown()
        thread.join()


def accessibility_problems(page) -> list[str]:
    """What axe finds."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    violations = axe.run(page).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:200]}" for v in violations]


def pale_texts(page, at_least: float = 4.5) -> list[str]:
    """The texts of figures with too little contrast to what is painted below them.

    axe leaves text in SVG undecided.
    """
    return page.evaluate(CONTRAST, at_least)


CONTRAST = """
(atLeast) => {
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const mix = (below, { rgb, a }) => below.map((v, i) => v * (1 - a) + rgb[i] * a);
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((v) => v / 255).map((v) =>
      v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = parse(getComputedStyle(document.body).backgroundColor).rgb;
  const inside = (box, x, y) =>
    box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;

  // Shapes are painted in the order of the document: those before the text, below it.
  const painted = (text, x, y) => {
    let color = ground;
    for (const shape of text.ownerSVGElement.querySelectorAll("rect, circle")) {
      if (!(shape.compareDocumentPosition(text) & 4)) break;
      const style = getComputedStyle(shape);
      const hidden = style.visibility === "hidden" || shape.closest("clipPath");
      if (style.fill === "none" || hidden) continue;
      if (!inside(shape.getBoundingClientRect(), x, y)) continue;
      const { rgb, a } = parse(style.fill);
      color = mix(color, { rgb, a: a * Number(style.fillOpacity) });
    }
    return color;
  };

  const pale = [];
  for (const text of document.querySelectorAll("svg text")) {
    const style = getComputedStyle(text);
    const box = text.getBoundingClientRect();
    if (style.visibility === "hidden" || box.width === 0) continue;
    const below = painted(text, box.left + box.width / 2, box.top + box.height / 2);
    const [a, b] = [luminance(mix(below, parse(style.fill))), luminance(below)];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < atLeast) pale.push(`${text.textContent}: ${contrast.toFixed(2)}`);
  }
  return pale;
}
"""
