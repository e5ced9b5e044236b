"""The built book as its readers meet it, in a real browser."""

import functools
import http.server
import json
import re
import threading
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import wait_until

from topo_utils import betti_numbers
from topo_utils.book import BookError, Project
from topo_utils.book.links import check_internal_links
from topo_utils.book.pdf import launch_chromium

ROOT = Path(__file__).parents[1]
PAGES, CHAPTERS = Project(ROOT).pages(), Project(ROOT).chapters()


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    with playwright.sync_playwright() as run:
        try:
            browser = launch_chromium(run)
        except BookError:
            pytest.skip("no Chromium: install it with the system's packages (.ci/run does)")
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(built):
    """The address at which the built book is served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=built.build / "html")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def open_page(chromium, site):
    """Open a page of the book; what goes wrong on it is gathered in `page.troubles`."""
    contexts = []

    def open_one(name, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.troubles, page.loaded = [], []

        def answer(route):
            page.loaded.append(route.request.url)
            if route.request.url.startswith(site):
                route.continue_()
            else:
                page.troubles.append(f"leaves the site: {route.request.url}")
                route.abort()

        def listen(message):
            # Advice on speed, to plotly and to a computer without a graphics card, is no trouble.
            advice = ("GPU stall", "willReadFrequently")
            if message.type in ("error", "warning") and not any(a in message.text for a in advice):
                page.troubles.append(f"console: {message.text}")

        page.route(re.compile("^http"), answer)
        page.on("console", listen)
        page.on("pageerror", lambda error: page.troubles.append(f"error: {error}"))
        page.on(
            "response",
            lambda r: r.status >= 400 and page.troubles.append(f"{r.status}: {r.url}"),
        )
        page.goto(f"{site}/{name}.html", wait_until="load")
        return page

    yield open_one
    for context in contexts:
        context.close()


def contrast_troubles(page):
    """Texts of less contrast than WCAG AA wants, and pictures without a text, as axe finds them."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is missing")
    rules = {"runOnly": ["color-contrast", "image-alt", "svg-img-alt", "role-img-alt"]}
    found = axe.Axe().run(page, options=rules).response["violations"]
    return [
        f"{v['id']}: {n['html'][:150]} {n['failureSummary']}" for v in found for n in v["nodes"]
    ]


FADED = """() => document.getAnimations().every((a) => a.playState === "finished")"""

WIDER = """() => {
  const wide = document.documentElement.scrollWidth;
  const width = (e) => e.getBoundingClientRect().width;
  // A drawing that is cut off makes no page wider.
  const drawings = [...document.querySelectorAll(".moving-scene .svg-container")];
  const drawn = drawings.length === document.querySelectorAll(".moving-scene").length;
  const shown = window.innerWidth;
  if (drawn && wide <= shown && drawings.every((e) => width(e) <= shown)) return null;
  const out = [...document.querySelectorAll("main *")].filter(
    (e) => e.getBoundingClientRect().right > shown + 1);
  return `${wide} pixels: ` + out.slice(0, 4).map((e) => e.outerHTML.slice(0, 120)).join(" | ");
}"""


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PAGES, "search", "genindex"])
def test_a_page_in_the_browser(open_page, name):
    page = open_page(name, viewport={"width": 1280, "height": 900}, color_scheme="light")
    moving = page.locator("div.moving")
    for number in range(moving.count()):
        moving.nth(number).and_(page.locator(".moving-drawn")).wait_for()
    # The scripts that a page does not need are not loaded.
    loads = {script for script in ("mathjax", "plotly") if any(script in u for u in page.loaded)}
    assert ("plotly" in loads) == bool(moving.count())
    assert ("mathjax" in loads) == bool(page.locator(".math").count())
    for image in page.locator("article img").all():
        assert len(image.get_attribute("alt") or "") >= 15
        assert image.evaluate("image => image.naturalWidth") > 0
    for theme in ("light", "dark"):
        page.evaluate("theme => { document.documentElement.dataset.theme = theme }", theme)
        page.wait_for_function(FADED)
        assert contrast_troubles(page) == [], theme
    page.set_viewport_size({"width": 390, "height": 800})
    wait_until(lambda: page.evaluate(WIDER) is None)
    assert page.evaluate(WIDER) is None
    assert page.troubles == []


def test_the_slider_shows_other_betti_numbers(open_page):
    page = open_page("homology_primer")
    picture = page.locator("#fig-sublevel")
    picture.locator(".moving-drawn canvas").first.wait_for(state="attached")
    data = json.loads(picture.locator(".moving script").text_content())
    levels = np.reshape(data["levels"], data["shape"])
    slider, output = picture.get_by_role("slider"), picture.locator("output")
    shown = set()
    for stop in (0, len(data["etas"]) // 2, len(data["etas"]) - 1):
        slider.fill(str(stop))
        text = output.inner_text()
        beta0, beta1, beta2 = betti_numbers(levels, stop)  # of the volume that the page has
        assert text.endswith(
            f"β₀ = {beta0}, β₁ = {beta1}, β₂ = {beta2}, Ω = {beta0 + beta1 + beta2}"
        )
        # The surface that is drawn is that of the same set: two triangles a square.
        inside = np.pad(levels <= stop, 1)
        squares = sum(np.diff(inside, axis=axis).sum() for axis in range(3))
        drawn = page.evaluate("document.querySelector('.moving-scene').data[0].i.length")
        assert drawn == 2 * squares
        shown.add(text)
    assert len(shown) == 3
    slider.press("ArrowLeft")
    assert output.inner_text() not in shown
    assert not picture.locator("img").is_visible()


def test_points_of_curves_tell_what_they_are(open_page):
    page = open_page("depth_decay")
    plot = page.locator("#fig-depth-decay .moving-scene")
    plot.locator(".point").first.hover(force=True)
    text = plot.locator(".hovertext").text_content()
    assert re.search(r"block \S+\d+ × \d+ × \d+β₀ = [\d.]+, β₁ = [\d.]+, β₂ = [\d.]+Ω = ", text)
    assert page.troubles == []


@pytest.mark.parametrize(("name", "figure"), [("homology_primer", "fig-sublevel")])
def test_without_scripts_the_static_picture_is_there(open_page, name, figure):
    page = open_page(name, java_script_enabled=False)
    assert page.locator(f"#{figure} img").is_visible()
    assert page.locator(".moving").count() == 1
    assert not page.locator(".moving").first.is_visible()


def test_search_finds_a_word(open_page):
    page = open_page("search")
    page.goto(page.url + "?q=sublevel")
    page.locator("ul.search li a").first.wait_for()
    found = " ".join(page.locator("ul.search li a").all_inner_texts())
    assert "Components, tunnels and cavities" in found
    assert page.troubles == []


def test_the_theme_can_be_changed(open_page):
    page = open_page("intro", viewport={"width": 1280, "height": 900}, color_scheme="dark")
    root = page.locator("html")
    assert root.get_attribute("data-theme") == "dark"  # as the reader's system is
    for _ in range(3):
        page.locator("button.theme-switch-button").first.click()
        if root.get_attribute("data-theme") == "light":
            break
    assert root.get_attribute("data-theme") == "light"
    page.reload()
    assert root.get_attribute("data-theme") == "light"


def test_no_link_inside_the_book_is_broken(built):
    broken, checked = check_internal_links(built)
    assert broken == []
    assert checked > 1000


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_chapter_tells_how_to_rerun_it(built, chapter):
    html = (built.build / "html" / f"{chapter}.html").read_text(encoding="utf-8")
    box = html.partition("Rerun this page")[2].partition("</details>")[0]
    text = re.sub(r"<[^>]+>", "", box)
    assert f"topobook run {chapter}" in text
    for parameter in built.parameters(chapter).values():
        assert f"{parameter.name} (" in text
    assert f"{chapter}.py" in text
    # The page can be taken home as a notebook.
    assert f'href="_sources/{chapter}.ipynb"' in html
    notebook = nbformat.read(built.build / "html" / "_sources" / f"{chapter}.ipynb", 4)
    assert any(cell.get("outputs") for cell in notebook.cells)


def test_the_report_of_the_build_has_every_chapter(built):
    html = (built.build / "html" / "build_report.html").read_text(encoding="utf-8")
    for chapter in CHAPTERS:
        assert f'href="{chapter}.html"' in html.partition("Run times")[2]
    assert "torch" in html
    assert "not installed" not in html
