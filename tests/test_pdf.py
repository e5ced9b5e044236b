"""The book as one PDF: what is in it, where its links lead, and what is said when it cannot be."""

import re
import shutil
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import bs4
import pytest
from test_book import make_project

from topo_utils.__main__ import main
from topo_utils.book import BookError
from topo_utils.book.pdf import launch_chromium, write_pdf

pypdf = pytest.importorskip("pypdf", reason="pypdf is not installed")
playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")

ROOT = Path(__file__).parents[1]
INTRO = """\
# Intro

See {doc}`small`, and [elsewhere](https://elsewhere.org/).

```
first %s last
```

:::{dropdown} A question
The hidden answer.
:::
"""


@pytest.fixture(scope="module")
def browser_there():
    with playwright.sync_playwright() as run:
        try:
            launch_chromium(run).close()
        except BookError:
            pytest.skip("no Chromium: install it with the system's packages (.ci/run does)")


def without_spaces(text):
    """Text to compare: a PDF has spaces of its own, and ligatures."""
    return re.sub(r"\s", "", unicodedata.normalize("NFKC", text))


def read(path):
    """The texts of a PDF's pages, and the names and addresses to which its links lead."""
    reader = pypdf.PdfReader(path)
    inside, outside = set(), set()
    for page in reader.pages:
        for link in page.get("/Annots", []):
            link = link.get_object()
            if "/Dest" in link:
                inside.add(link["/Dest"])
            elif "/A" in link:
                outside.add(link["/A"]["/URI"])
    places = {
        name: reader.get_destination_page_number(place)
        for name, place in reader.named_destinations.items()
    }
    return [page.extract_text() for page in reader.pages], places, inside, outside


@pytest.mark.slow
def test_a_small_book_is_printed(tmp_path, monkeypatch, capsys, browser_there):
    project = make_project(tmp_path)
    monkeypatch.chdir(project.root)
    # As in the book, whose rules for print are in its style sheet.
    (project.notebooks / "_static").mkdir()
    shutil.copy(ROOT / "notebooks/_static/book.css", project.notebooks / "_static")
    more = "myst_enable_extensions: [colon_fence], html_static_path: [_static], "
    more += "html_css_files: [book.css], "
    config = (project.root / "_config.yml").read_text()
    (project.root / "_config.yml").write_text(config.replace("{config: {", "{config: {" + more))
    (project.notebooks / "intro.md").write_text(INTRO % " ".join(["word"] * 100))
    project.build_book(progress=False)
    capsys.readouterr()
    assert main(["pdf"]) == 0
    pdf = project.build / "book.pdf"
    texts, places, inside, outside = read(pdf)
    assert capsys.readouterr().out == f"The book is at {pdf}, {len(texts)} pages\n"
    # Cover, contents, and every chapter on a page of its own, where the contents say it is.
    assert texts[0].startswith("Small")
    for title, number in re.findall(r"^(Intro|A small chapter)\s*(\d+)$", texts[1], re.MULTILINE):
        assert texts[int(number) - 1].startswith(title)
        assert texts[int(number) - 1].rstrip().endswith(number)
    assert len(re.findall(r"\d+$", texts[1], re.MULTILINE)) >= 2
    text = "\n".join(texts)
    assert "The hidden answer." in text
    # What would be cut off at the edge is not in a PDF at all: the long line is broken.
    assert without_spaces("word last") in without_spaces(text)
    assert inside <= set(places)
    assert outside == {"https://elsewhere.org/"}
    assert main(["pdf", "-o", str(tmp_path / "mine.pdf")]) == 0
    assert (tmp_path / "mine.pdf").is_file()


@pytest.mark.slow
def test_the_whole_book_is_printed(built, browser_there):
    path, count = write_pdf(built)
    texts, places, inside, outside = read(path)
    assert len(texts) == count
    for page in built.pages():
        title = without_spaces(built.title(page))
        assert without_spaces(texts[places[f"/{page}"]]).startswith(title)
    # Every line of code, folded or not: what is cut off at the edge is not in a PDF.
    footer = r"The topology of embeddings\s*\d+\s*$"
    text = without_spaces("".join(re.sub(footer, "", text) for text in texts))
    missing = []
    for page in built.pages():
        html = (built.build / "html" / f"{page}.html").read_text(encoding="utf-8")
        for pre in bs4.BeautifulSoup(html, "html.parser").select("article pre"):
            lines = pre.get_text().splitlines()
            missing += [line for line in lines if without_spaces(line) not in text]
    assert len(missing) < 10, missing  # a few go on overleaf
    assert "Solution" in text
    assert "\\(" not in text  # formulas are typeset
    assert "\\frac" not in text
    assert inside <= set(places)
    assert not any("book.invalid" in link for link in outside)


def test_without_a_book_there_is_no_pdf(tmp_path):
    with pytest.raises(
        BookError, match=r"no built book in .*_build\nBuild it first: topobook book"
    ):
        write_pdf(make_project(tmp_path))


def test_without_a_package_it_is_named(tmp_path, monkeypatch, capsys):
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "pypdf", None)
    assert main(["pdf"]) == 1
    told = "topobook: pypdf is not installed\npip install 'topo_utils[pdf]'\n"
    assert capsys.readouterr().err == told


def test_without_a_browser_it_is_said():
    def launch(**_):
        raise playwright.Error("no such browser")

    with pytest.raises(BookError, match=r"no Chromium, Chrome or Edge could be started\nInstall"):
        launch_chromium(SimpleNamespace(chromium=SimpleNamespace(launch=launch)))
