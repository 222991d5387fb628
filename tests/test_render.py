"""Rendering: by pygraphviz, by ``dot``, and by neither."""

import base64
import hashlib
import os
import re
import shutil
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from browser import accessibility_problems, browser, watch
from conftest import SVG, texts_of

import tinygrad_bn as tg
from tinygrad_bn import Tensor
from tinygrad_bn.draw import NoRenderer

MAGIC = {
    "png": b"\x89PNG\r\n\x1a\n",
    "pdf": b"%PDF-",
    "svg": b"<svg ",
    "dot": b"digraph",
}


def drawing(**settings):
    a = Tensor([1.0, 2.0], requires_grad=True, name="ä <a>")
    return tg.draw((a * a).sum().named("L"), **settings)


def without_pygraphviz(monkeypatch):
    monkeypatch.setitem(sys.modules, "pygraphviz", None)


def without_programs(monkeypatch):
    monkeypatch.setenv("PATH", "")


@pytest.fixture(params=["pygraphviz", "dot"])
def renderer(request, monkeypatch):
    if request.param == "pygraphviz":
        pytest.importorskip("pygraphviz")
        without_programs(monkeypatch)
    else:
        if shutil.which("dot") is None:
            pytest.skip("dot is not installed")
        without_pygraphviz(monkeypatch)
    return request.param


@pytest.fixture
def no_renderer(monkeypatch):
    without_pygraphviz(monkeypatch)
    without_programs(monkeypatch)


@pytest.mark.filterwarnings("ignore:a p.. needs a font")
@pytest.mark.parametrize("kind", MAGIC)
def test_both_renderers_save_every_kind(renderer, kind, tmp_path):
    path = tmp_path / "new folder" / f"picture.{kind.upper()}"
    assert drawing().save(path) == path
    assert path.read_bytes().startswith(MAGIC[kind])
    assert path.stat().st_size > 400


def test_both_renderers_make_svg_that_shows_the_names(renderer):
    text = drawing(title="a title").svg()
    assert {"a title", "ä <a>", "mul"} <= {t.strip("\xa0") for t in texts_of(text)}
    assert "<!DOCTYPE" not in text and "href" not in text


def test_both_renderers_show_backslashes_as_they_are(renderer):
    a = Tensor([1.0], requires_grad=True, name=r"\N")
    assert r"\N" in texts_of(tg.draw((a * a).sum(), title="t").svg())


def test_both_renderers_keep_the_order_of_panels(renderer):
    panels = [drawing(title=title, direction="TB") for title in ("zebra", "apple")]
    root = ElementTree.fromstring(tg.side_by_side(*panels).svg())
    x = {t.text: float(t.get("x")) for t in root.iter(f"{SVG}text")}
    assert x["zebra"] < x["apple"]


def test_without_a_renderer_the_error_says_how_to_get_one(no_renderer):
    with pytest.raises(NoRenderer) as error:
        drawing().svg()
    assert str(error.value) == (
        "rendering a drawing needs Graphviz, but neither the Python package pygraphviz "
        "nor the program dot was found. Install one of them: on every system 'python "
        "-m pip install pygraphviz' (its wheels contain Graphviz); on Debian or Ubuntu "
        "'apt install graphviz'; on macOS 'brew install graphviz'; on Windows 'winget "
        "install graphviz'. Without it, drawing.source is the DOT text, and "
        "drawing.save('picture.dot') saves it."
    )


@pytest.mark.parametrize("kind", ["svg", "png", "pdf", "html"])
def test_without_a_renderer_nothing_is_written(no_renderer, kind, tmp_path):
    path = tmp_path / f"folder/picture.{kind}"
    with pytest.raises(NoRenderer):
        drawing().save(path)
    assert not path.parent.exists()


def test_without_a_renderer_the_dot_text_is_still_available(no_renderer, tmp_path):
    picture = drawing()
    assert picture.source.startswith("digraph tinygrad_bn {")
    assert picture.dot.source == picture.source
    path = picture.save(str(tmp_path / "picture.dot"))
    assert path.read_text(encoding="utf-8") == picture.source


def test_without_a_renderer_a_notebook_shows_one_short_message(no_renderer):
    picture = drawing()
    bundle = picture._repr_mimebundle_()
    assert bundle.keys() == {"text/plain"}
    first, reason = bundle["text/plain"].split("\n")
    assert first == repr(picture) == "<Drawing: 3 boxes, 3 arrows>"
    assert reason.startswith("rendering a drawing needs Graphviz")
    assert len(bundle["text/plain"]) < 600


def test_a_notebook_shows_the_svg(renderer):
    picture = drawing()
    bundle = picture._repr_mimebundle_(include=None, exclude=None)
    assert bundle == {"image/svg+xml": picture.svg(), "text/plain": repr(picture)}


def test_a_broken_renderer_does_not_break_a_notebook(stub):
    stub.does("echo 'libgvc.so: cannot open' >&2; exit 127")
    bundle = drawing()._repr_mimebundle_()
    assert bundle.keys() == {"text/plain"}
    assert "libgvc.so: cannot open" in bundle["text/plain"]


def test_a_picture_follows_a_symbolic_link(tmp_path):
    target = tmp_path / "real.dot"
    link = tmp_path / "link.dot"
    link.symlink_to(target)
    drawing().save(link)
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == drawing().source


@pytest.mark.parametrize("ending", [".dot", "é.dot"])
def test_a_file_name_can_be_as_long_as_the_system_allows(tmp_path, ending):
    name = "x" * (255 - len(ending.encode())) + ending
    drawing().save(tmp_path / name)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_picture_does_not_replace_a_folder(tmp_path, ending):
    folder = f"{tmp_path}/picture.dot{ending}"
    os.makedirs(folder)
    with pytest.raises(IsADirectoryError) as error:
        drawing().save(folder)
    assert str(error.value) == (
        f"drawing.save(path): the path must name a file, but {folder} names a folder. "
        "Add a file name."
    )
    assert os.listdir(tmp_path) == ["picture.dot"]


def test_a_picture_keeps_its_permissions(tmp_path):
    path = drawing().save(tmp_path / "picture.dot")
    path.chmod(0o600)
    drawing(title="new").save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert "new" in path.read_text(encoding="utf-8")


def test_an_unknown_extension_is_refused(tmp_path):
    with pytest.raises(ValueError) as error:
        drawing().save(tmp_path / "picture.jpeg")
    assert str(error.value) == (
        "drawing.save(path): the extension must be one of svg, png, pdf, dot, html, "
        "but 'picture.jpeg' was received."
    )
    with pytest.raises(ValueError, match="but 'picture' was received"):
        drawing().save(tmp_path / "picture")
    assert list(tmp_path.iterdir()) == []


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes, self.title = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.title += (
            data if self.tags[-1:] == ["title"] and "svg" not in self.tags else ""
        )


def test_a_page_is_one_file_that_loads_nothing(renderer, tmp_path):
    path = drawing(title="<b> & co\nsecond line").save(tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    page = Tags()
    page.feed(text)
    assert text.startswith("<!DOCTYPE html>") and page.title.strip() == "<b> & co"
    assert not {"img", "iframe", "object", "a"} & set(page.tags)
    names = [name for name, _ in page.attributes]
    assert not {"src", "xlink:href", "srcset", "style"} & set(names)
    # Browsers request an icon unless the page contains one.
    assert names.count("href") == 1 and ("href", "data:,") in page.attributes
    assert not any(name.startswith("on") for name in names)
    (policy,) = (v for _, v in page.attributes if v and v.startswith("default-src"))
    assert re.sub(r"'sha256-[\w+/]{43}='", "HASH", policy) == (
        "default-src 'none'; script-src HASH; style-src HASH; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "@import" not in text and "url(" not in text
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text)
    svg = text[text.index("<svg") : text.index("</svg>") + 6]
    assert "ä <a>" in texts_of(svg)
    assert any(
        t.text == "[1., 2.]" for t in ElementTree.fromstring(svg).iter(f"{SVG}title")
    )


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_page_has_the_background_of_its_picture(theme, tmp_path):
    pytest.importorskip("pygraphviz")
    text = drawing(theme=theme).save(tmp_path / "page.html").read_text(encoding="utf-8")
    color = {"light": "#ffffff", "dark": "#0f151c"}[theme]
    assert f"--tg-background: {color};" in text
    assert "prefers-color-scheme" not in text


def test_the_policy_of_a_page_allows_the_styles_of_both_themes(tmp_path):
    pytest.importorskip("pygraphviz")
    text = drawing(theme="auto").save(tmp_path / "page.html").read_text("utf-8")
    styles = re.findall("<style>(.*?)</style>", text, re.DOTALL)
    assert len(styles) == 2 and "prefers-color-scheme: dark" in styles[0]
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()) for s in styles]
    allowed = " ".join(f"'sha256-{each.decode()}'" for each in hashes)
    assert f"style-src {allowed};" in text


# --- The page in a browser ------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium():
    with browser() as running:
        yield running


@pytest.fixture
def opened(chromium, tmp_path):
    """Save a drawing and open its page; at the end, nothing may have gone wrong."""
    pytest.importorskip("pygraphviz")
    context = chromium.new_context(viewport={"width": 830, "height": 900})
    page = context.new_page()
    problems = watch(page)

    def open_page(picture):
        page.goto(picture.save(tmp_path / "page.html").as_uri())
        return page

    yield open_page
    assert problems == []
    context.close()


def centering(name="b"):
    """Boxes: 0 b, 1 u, 2 x, 3 E[x], 4 x̂, 5 L."""
    u = Tensor([[1.0, 2.0], [3.0, 5.0]], name="u")
    b = Tensor([0.5, -1.0], requires_grad=True, name=name)
    x = (u + b).named("x")
    L = ((x - x.mean(0, keepdims=True).named("E[x]")) ** 3).named("y").sum().named("L")
    return tg.draw(L, b, title="t")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_for_both_themes_looks_like_the_one_for_each(chromium, tmp_path, scheme):
    pytest.importorskip("pygraphviz")
    seen = []
    with chromium.new_context(color_scheme=scheme) as context:
        page = context.new_page()
        problems = watch(page)
        for theme in (scheme, "auto"):
            path = drawing(theme=theme).save(tmp_path / f"{theme}.html")
            page.goto(path.as_uri())
            seen.append(page.screenshot())
        assert problems == []
    assert seen[0] == seen[1]


HIGHLIGHTED = """() => [...document.querySelectorAll("svg.choice .on")].map(
  ({ dataset: d }) => d.box ?? `${d.tail}-${d.head} ${d.group ?? "data"}`).sort()"""


@pytest.mark.slow
def test_a_click_on_a_box_highlights_the_routes_through_it_and_escape_clears(opened):
    page = opened(centering())
    page.locator('[data-box="3"][data-rule]').click()
    on = page.evaluate(HIGHLIGHTED)
    streams = {line for line in on if "E[x]" in line}
    assert streams == {"0-2 E[x]", "2-3 E[x]", "3-4 E[x]"}
    assert not any("direct" in line for line in on)
    assert {"0", "2", "3", "4", "5", "4-5 common", "2-3 data"} <= set(on)
    assert "2-4 data" not in on
    shown = page.locator("#chosen").inner_text()
    assert shown == "E[x] = mean(x)  (1, 2)\n[[2.5, 2.5]]"
    page.keyboard.press("Escape")
    assert page.evaluate(HIGHLIGHTED) == []
    assert not page.locator("#chosen").is_visible()


@pytest.mark.slow
def test_a_click_on_a_gradient_highlights_its_route_only(opened):
    page = opened(centering())
    page.locator(
        '[data-tail="2"][data-head="4"][data-group="direct"] text'
    ).first.click()
    on = page.evaluate(HIGHLIGHTED)
    assert {line for line in on if " " in line} == {
        "0-2 direct", "2-4 direct", "4-5 common",
    }  # fmt: skip
    assert {line for line in on if " " not in line} == {"0", "2", "4", "5"}
    assert page.locator("#chosen").inner_text().startswith("gradient from y to x")


@pytest.mark.slow
def test_a_page_works_by_keyboard_and_shows_the_focus(opened):
    page = opened(centering())
    page.keyboard.press("Tab")
    focused = page.locator(":focus")
    assert focused.get_attribute("aria-label") == "b  (2,)"
    assert focused.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.locator("#chosen").inner_text() == "b  (2,)\n[ 0.5, -1. ]"
    assert focused.get_attribute("aria-pressed") == "true"
    assert {"0-2 direct", "0-2 E[x]"} <= set(page.evaluate(HIGHLIGHTED))
    assert accessibility_problems(page) == []


@pytest.mark.slow
def test_a_click_a_few_pixels_from_a_thin_arrow_hits_it(opened):
    page = opened(centering())
    x, y = page.locator('[data-tail="1"] path').first.evaluate(
        "p => { const at = p.getPointAtLength(p.getTotalLength() / 2)"
        ".matrixTransform(p.getScreenCTM()); return [at.x, at.y]; }"
    )
    page.mouse.click(x + 4, y)
    assert page.locator("#chosen").inner_text() == "data from u to x"
    page.locator("svg").click(position={"x": 2, "y": 2})
    assert page.evaluate(HIGHLIGHTED) == []


@pytest.mark.slow
def test_a_click_highlights_only_inside_its_panel(opened):
    page = opened(tg.side_by_side(centering(), centering()))
    page.locator('[data-panel="1"][data-box="3"][data-rule]').click()
    panels = page.evaluate(
        '[...document.querySelectorAll("svg .on")].map((e) => e.dataset.panel)'
    )
    assert len(panels) > 5 and set(panels) == {"1"}


@pytest.mark.slow
def test_without_scripts_the_page_shows_the_picture(chromium, tmp_path):
    pytest.importorskip("pygraphviz")
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(centering().save(tmp_path / "page.html").as_uri())
    assert page.locator("svg text").filter(has_text="E[x] = mean(x)").is_visible()
    assert not page.locator("#chosen").is_visible()
    context.close()


HOSTILE = [
    '"><script>document.title = "bad"</script>', "</svg></title></style><b>",
    "<img src=x onerror=alert(1)>", "' onload='x", r"\N&amp;</script>", "nul\x00",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_stays_text_on_the_page(opened, name):
    picture = centering(name)
    picture.title = name
    page = opened(picture)
    shown = name.replace("\0", "\ufffd")
    assert page.title() == shown
    box = page.locator('[data-box="0"][data-rule]')
    assert box.get_attribute("data-rule") == f"{shown}  (2,)"
    box.focus()
    page.keyboard.press("Enter")
    assert page.locator("#chosen").text_content().startswith(f"{shown}  (2,)\n")
    assert page.locator("script").count() == 1
    assert page.locator("img, b, [onerror], [onload]").count() == 0


@pytest.mark.slow
def test_the_security_policy_of_a_page_refuses_an_injected_script(chromium, tmp_path):
    pytest.importorskip("pygraphviz")
    path = centering().save(tmp_path / "page.html")
    text = path.read_text(encoding="utf-8")
    bad = "<script>document.title = 'bad'</script><img src='x.png'></body>"
    path.write_text(text.replace("</body>", bad), encoding="utf-8")
    page = chromium.new_page()
    problems = watch(page)
    page.goto(path.as_uri())
    assert page.title() == "t"
    assert any("Content Security Policy" in problem for problem in problems)
    page.close()


class Lister:
    """A stand-in for ``fc-list`` on a system with the given fonts."""

    def __init__(self, folder, monkeypatch, fonts):
        program = folder / "fc-list"
        program.write_text(f"#!/bin/sh\nprintf '{fonts}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
@pytest.mark.parametrize("kind", ["png", "pdf"])
def test_a_system_without_fonts_gets_a_warning(kind, tmp_path, monkeypatch):
    pytest.importorskip("pygraphviz")
    Lister(tmp_path, monkeypatch, "")
    with pytest.warns(UserWarning) as caught:
        drawing().save(tmp_path / f"picture.{kind}")
    (warning,) = caught
    assert str(warning.message) == (
        f"a {kind} needs a font on this system, and none is installed: its text will "
        "be missing. Install one (on Debian or Ubuntu 'apt install "
        "fonts-dejavu-core'), or save an .svg, which needs none."
    )
    assert warning.filename == __file__


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a shell script")
def test_with_fonts_or_for_an_svg_there_is_no_warning(tmp_path, monkeypatch):
    pytest.importorskip("pygraphviz")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Lister(tmp_path, monkeypatch, "")
        drawing().save(tmp_path / "picture.svg")
        Lister(tmp_path, monkeypatch, "DejaVu Sans")
        drawing().save(tmp_path / "picture.png")


def test_a_source_that_graphviz_refuses_is_an_error_that_quotes_it(
    renderer, monkeypatch
):
    picture = drawing()
    monkeypatch.setattr(type(picture), "source", "digraph { a -> }")
    with pytest.raises(RuntimeError, match="Graphviz cannot draw this: .*syntax"):
        picture.svg()


# --- Renderers that fail --------------------------------------------------------------


class Stub:
    """A program ``dot`` that does as the given shell commands say."""

    def __init__(self, folder, monkeypatch):
        self.program = folder / "bin" / "dot"
        self.program.parent.mkdir()
        without_pygraphviz(monkeypatch)
        monkeypatch.setenv("PATH", str(self.program.parent))

    def does(self, commands):
        self.program.write_text(f"#!/bin/sh\n{commands}\n")
        self.program.chmod(0o755)


@pytest.fixture
def stub(tmp_path, monkeypatch):
    if sys.platform == "win32":
        pytest.skip("the stand-in is a shell script")
    return Stub(tmp_path, monkeypatch)


FAILURES = {
    "an error": "echo 'Error: no layout' >&2; exit 1",
    "a crash": "kill -SEGV $$",
    "nothing": "exit 0",
    "no picture": "echo hello",
    "half a picture": "printf '<?xml version=\"1.0\"?><svg>'",
    "a picture and an error": "printf '<?xml?><svg></svg>'; echo 'Error: bad' >&2",
    "a picture and a crash": "printf '<?xml?><svg></svg>'; kill -SEGV $$",
}


@pytest.mark.parametrize("failure", FAILURES)
def test_a_renderer_that_fails_leaves_the_old_file_unchanged(failure, stub, tmp_path):
    path = tmp_path / "picture.svg"
    path.write_text("old")
    stub.does(FAILURES[failure])
    with pytest.raises(RuntimeError, match="Graphviz cannot draw this"):
        drawing().save(path)
    assert path.read_text() == "old"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bin", "picture.svg"]


def test_a_renderer_that_fails_is_replaced_by_another(tmp_path, monkeypatch):
    if shutil.which("sh") is None:
        pytest.skip("the stand-in is a shell script")
    pytest.importorskip("pygraphviz")
    program = tmp_path / "dot"
    picture = f'<?xml version="1.0"?><svg xmlns="{SVG[1:-1]}">by dot</svg>'
    program.write_text(f"#!/bin/sh\nprintf '{picture}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    module = sys.modules["tinygrad_bn.draw.render"]
    monkeypatch.setattr(module, "_BY_PYGRAPHVIZ", "raise SystemExit(3)")
    assert "by dot" in drawing().svg()


def test_a_full_disk_leaves_the_old_file_unchanged(renderer, tmp_path, monkeypatch):
    path = tmp_path / "picture.svg"
    path.write_text("old")

    def fails(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(OSError, match="No space left"):
        drawing().save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["picture.svg"]
    assert path.read_text() == "old"


def test_two_simultaneous_saves_of_pictures_to_one_path_do_not_interfere(
    tmp_path, monkeypatch
):
    path, fsync = tmp_path / "picture.dot", os.fsync

    def save_another_in_between(descriptor):
        monkeypatch.setattr(os, "fsync", fsync)
        drawing(title="inner").save(path)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", save_another_in_between)
    drawing(title="outer").save(path)
    assert "outer" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["picture.dot"]


def test_rendering_in_threads_leaves_the_standard_streams_intact(
    renderer, tmp_path, capfd
):
    pictures = [drawing(title=f"number {i}") for i in range(6)]

    def save(i):
        os.write(2, f"out {i}\n".encode())
        return pictures[i].save(tmp_path / f"{i}.svg")

    before = os.fstat(2).st_ino
    with ThreadPoolExecutor(4) as pool:
        paths = list(pool.map(save, range(6)))
    assert os.fstat(2).st_ino == before
    for i, path in enumerate(paths):
        assert f"number {i}" in path.read_text(encoding="utf-8")
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines) == [f"out {i}" for i in range(6)]


# --- Sizes, screens and notebooks -----------------------------------------------------


def png_size(path):
    header = path.read_bytes()[16:24]
    return int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")


@pytest.mark.filterwarnings("ignore:a p.. needs a font")
def test_scale_multiplies_the_pixels_of_a_png(renderer, tmp_path):
    path, picture = tmp_path / "picture.png", drawing()
    once, twice, default = (
        png_size(picture.save(path, **scale))
        for scale in ({"scale": 1}, {"scale": 2}, {})
    )
    assert default == twice
    for a, b in zip(once, twice):
        assert abs(2 * a - b) <= 2
    with pytest.raises(ValueError, match="the scale must be positive, but 0 was"):
        picture.save(path, scale=0)


def test_a_wide_picture_shrinks_with_the_cell_or_page_around_it(renderer):
    root = ElementTree.fromstring(drawing().svg())
    assert "max-width: 100%" in root.get("style") and root.get("viewBox")


def test_show_opens_the_picture(renderer, monkeypatch, capsys):
    opened = []
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr("webbrowser.open", lambda uri: opened.append(uri) or True)
    path = drawing(title="t").show()
    assert opened == [path.as_uri()] and "<svg" in path.read_text(encoding="utf-8")
    assert capsys.readouterr().out == ""
    path.unlink()


def test_show_says_where_the_picture_is_if_nothing_can_open_it(
    renderer, monkeypatch, capsys
):
    monkeypatch.setattr("webbrowser.open", lambda uri: False)
    path = drawing().show()
    assert capsys.readouterr().out == (
        f"found no program to show the picture, which is saved as {path}\n"
    )
    path.unlink()


def test_repr_counts_what_is_drawn():
    picture = tg.side_by_side(drawing(), drawing(), title="two")
    assert repr(picture) == "<Drawing 'two': 6 boxes, 6 arrows>"
