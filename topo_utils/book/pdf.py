"""The built book as one PDF, printed by Chromium from the pages of the website.

Jupyter Book's own way to a PDF without TeX (``pdfhtml``) puts all pages into one under the names
that things have on each, and many pages have things of the same name: its links lead astray, and it
has neither contents nor page numbers. Here names get the page's name before them.
"""

from __future__ import annotations

import shutil
from html import escape
from io import BytesIO
from pathlib import Path
from urllib.parse import urldefrag, urljoin

from topo_utils.book.chapters import read_yaml
from topo_utils.book.errors import BookError
from topo_utils.book.links import built
from topo_utils.files import check_place, replacing

_SITE = "http://book.invalid/"  # where the browser believes the book to be; nothing is asked there

_PAGE = """<!doctype html>
<html lang="en" data-theme="light" data-mode="light">
<head><meta charset="utf-8"><title>{title}</title>{head}
<style>
  main {{ display: block; max-width: none; }}
  .print-cover {{ padding-top: 40vh; text-align: center; }}
  .print-contents, article {{ break-before: page; }}
  .print-contents p {{ margin: 0; padding-left: 1.5em; display: flex; gap: 0.5em; }}
  .print-contents p a {{ flex: 1; }}
  .print-contents h2 {{ font-size: 1em; margin: 1em 0 0.2em; }}
</style></head>
<body><main>
<div class="print-cover"><div class="h1">{title}</div><p>{author}</p></div>
<nav class="print-contents"><h1 id="print-contents">Contents</h1>{contents}</nav>
{articles}
</main></body></html>"""

_FOOTER = """<div style="width: 100%; margin: 0 15mm; font: 8px sans-serif; color: #444;
display: flex; justify-content: space-between;">
<span class="title"></span><span class="pageNumber"></span></div>"""


def launch_chromium(playwright):
    """Start, without a window, the computer's Chromium, Chrome or Edge, else Playwright's own."""
    from playwright.sync_api import Error

    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    installed = [{"executable_path": path} for path in filter(None, map(shutil.which, names))]
    # Neither has a graphics card in a container, where formulas and moving pictures are drawn, too.
    flags = ["--disable-background-networking", "--enable-unsafe-swiftshader"]
    for which in [*installed, {}, {"channel": "chrome"}, {"channel": "msedge"}]:
        try:
            return playwright.chromium.launch(args=flags, **which)
        except Error:
            continue
    raise BookError(
        "no Chromium, Chrome or Edge could be started",
        "Install one with the system's packages, or with playwright install chromium",
    )


def write_pdf(project, out=None):
    """Print all pages of the built book, in the order of its table of contents.

    Parameters
    ----------
    out : path, optional
        Of the PDF, by default ``book.pdf`` in the folder of what is built.

    Returns
    -------
    path : pathlib.Path
        Of the PDF.
    count : int
        How many pages it has.

    Raises
    ------
    BookError
        There is no built book, or no Chromium.
    """
    from playwright.sync_api import sync_playwright
    from pypdf import PdfReader

    html = built(project) / "html"
    out = Path(out or project.build / "book.pdf")
    check_place(out)
    one = _OnePage(project, html)

    def answer(route):
        path = route.request.url.removeprefix(_SITE).partition("?")[0]
        if path == "":
            route.fulfill(body=one.text(numbers), content_type="text/html; charset=utf-8")
        elif route.request.url.startswith(_SITE) and (html / path).is_file():
            route.fulfill(path=html / path)
        else:
            route.abort()

    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(600_000)
        page.route("**/*", answer)
        numbers = {}
        # A second time with the page numbers that the first has told.
        for last in (False, True):
            page.goto(_SITE, wait_until="load")
            page.evaluate("() => window.MathJax?.startup.promise")
            page.evaluate("Promise.all([...document.images].map((i) => i.decode().catch(() => 0)))")
            pdf = page.pdf(
                format="A4",
                scale=0.8,
                margin={"top": "15mm", "bottom": "18mm", "left": "15mm", "right": "15mm"},
                print_background=True,
                display_header_footer=True,
                header_template="<span></span>",
                footer_template=_FOOTER,
                outline=last,
                tagged=last,
            )
            reader = PdfReader(BytesIO(pdf))
            numbers = {
                name.lstrip("/"): reader.get_destination_page_number(place) + 1
                for name, place in reader.named_destinations.items()
            }
        browser.close()
    with replacing(out) as part:
        part.write_bytes(pdf)
    return out, len(reader.pages)


class _OnePage:
    """All pages of the built book as one, without what is only there to be clicked."""

    def __init__(self, project, html):
        config = read_yaml(project.root / "_config.yml")
        self.title, self.author = config.get("title", ""), config.get("author", "")
        self.toc = read_yaml(project.root / "_toc.yml")
        self.pages = project.pages()
        self.head, self.articles, self.titles = {}, [], {}
        for page in self.pages:
            self._add(page, (html / f"{page}.html").read_text(encoding="utf-8"))

    def _add(self, page, text):
        from bs4 import BeautifulSoup

        soup = BeautifulSoup(text, "html.parser")
        article = soup.find("article")
        for sheet in soup.head.find_all("link", rel="stylesheet"):
            self.head[str(sheet)] = None
        # MathJax's settings and MathJax itself, which a page of the book loads when it needs it.
        for script in soup.find_all("script"):
            if script.get("id") == "mathjax":
                self.head[f'<script defer src="{script["src"]}"></script>'] = None
            elif "MathJax" in (script.string or ""):
                self.head[f"<script>{script.string}</script>"] = None
        for element in article.select("script, .headerlink, button"):
            element.decompose()
        self.titles[page] = article.h1.get_text().strip()
        for element in article.find_all("details"):
            element["open"] = ""
        for element in article.find_all(id=True):
            element["id"] = f"{page}--{element['id']}"
        for element in article.find_all("a", href=True):
            target, fragment = urldefrag(urljoin(f"{_SITE}{page}.html", element["href"]))
            name = target.removeprefix(_SITE).removesuffix(".html")
            if name in self.pages:
                element["href"] = f"#{name}--{fragment}" if fragment else f"#{name}"
            elif target.startswith(_SITE):
                del element["href"]  # a file that comes with the website only
        article["id"] = page
        self.articles.append(str(article))

    def text(self, numbers):
        """The page; `numbers` are those of the printed pages, by id."""
        contents = []
        parts = self.toc.get("parts", [self.toc])
        for part in [{"chapters": [{"file": self.toc["root"]}]}, *parts]:
            if "caption" in part:
                contents.append(f"<h2>{escape(part['caption'])}</h2>")
            for chapter in part["chapters"]:
                page = chapter["file"]
                contents.append(
                    f'<p><a href="#{page}">{escape(self.titles[page])}</a>'
                    f"<span>{numbers.get(page, 0)}</span></p>"
                )
        return _PAGE.format(
            title=escape(self.title),
            author=escape(self.author),
            head="\n".join(self.head),
            contents="\n".join(contents),
            articles="\n".join(self.articles),
        )
