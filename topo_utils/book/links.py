"""Whether the links of the built book lead somewhere: inside the book, and to other sites."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from topo_utils.book.errors import BookError
from topo_utils.book.pages import complaints, jupyter_book


class BrokenLink(NamedTuple):
    """A link that leads nowhere, the page that has it, and why it does not."""

    page: str
    link: str
    why: str

    def __str__(self):
        return f"{self.page}: {self.link} ({self.why})"


class _Page(HTMLParser):
    """The links of a page, and the places in it that a link can lead to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.places = [], {"", "top"}  # browsers know these two themselves
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if not value:
                continue
            if name == "id" or (tag == "a" and name == "name"):
                self.places.add(value)
            elif name in ("href", "src"):
                self.links.append(value)
            elif name == "srcset":
                self.links += [choice.split()[0] for choice in value.split(",")]


def check_internal_links(project):
    """Look up every link inside the built book, and every relative link of README.md.

    Returns
    -------
    broken : list of BrokenLink
        Whose file is missing, or has no place of that name.
    checked : int
        How many links were looked up.
    """
    html = built(project) / "html"
    # Under _static are the theme's own templates, which are no pages.
    files = [file for file in html.rglob("*.html") if "_static" not in file.relative_to(html).parts]
    pages = {file: _Page(file.read_text(encoding="utf-8")) for file in files}
    readme = project.root / "README.md"
    if readme.is_file():
        pages[readme] = _Page(_markdown_as_html(readme.read_text(encoding="utf-8")))
    broken, checked = [], 0
    for file, page in pages.items():
        name = file.relative_to(project.root if file == readme else html).as_posix()
        for link in dict.fromkeys(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if not (target.exists() if file == readme else target.is_file()):
                broken.append(BrokenLink(name, link, "no such file"))
            elif file != readme and not target.is_relative_to(html):
                broken.append(BrokenLink(name, link, "leads out of the book"))
            elif target in pages and unquote(parts.fragment) not in pages[target].places:
                broken.append(BrokenLink(name, link, "no such place on that page"))
    return sorted(broken), checked


def check_external_links(project):
    """Ask other sites for every link of the book that leads there, by Sphinx's own link checker.

    How long and how often it asks is said by the ``linkcheck_*`` settings in ``_config.yml``.

    Returns
    -------
    broken : list of BrokenLink
        One for each address, with the first page that has it.
    checked : int
        How many addresses were asked for.

    Raises
    ------
    BookError
        The checker failed, or no address at all could be reached.
    """
    out = built(project) / "linkcheck"
    shutil.rmtree(out, ignore_errors=True)
    done = jupyter_book(project.build / "source", out, ["--builder", "linkcheck"])
    # Its exit code only says that links are broken; without this file it did not get that far.
    results = out / "_build" / "html" / "output.json"
    if not results.is_file():
        raise BookError(
            f"the link checker could not read the book\n{complaints(done)}",
            "Build it again with topobook book",
        )
    asked = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    asked = [link for link in asked if link["uri"].startswith(("http:", "https:"))]
    asked = [link for link in asked if link["status"] not in ("ignored", "unchecked")]
    if asked and not any(_answered(link) for link in asked):
        raise BookError(
            f"none of the {len(asked)} links to other sites could be reached, so nothing is known "
            f"of them ({asked[0]['info']})",
            "Check the network connection and try again",
        )
    broken = [
        BrokenLink(
            Path(link["filename"]).with_suffix(".html").name,
            link["uri"],
            link["info"] or link["status"],
        )
        for link in asked
        if link["status"] not in ("working", "redirected")
    ]
    return sorted(broken), len(asked)


def built(project):
    """The folder of what was built."""
    if not (project.build / "html" / "index.html").is_file():
        raise BookError(f"no built book in {project.build}", "Build it first: topobook book")
    return project.build


def _answered(link):
    """Whether a server said something, be it that there is no such page."""
    told = re.match(r"\d{3} (Client|Server) Error|Anchor ", link["info"])
    return link["status"] in ("working", "redirected", "rate-limited") or bool(told)


def _markdown_as_html(text):
    """A Markdown file as HTML whose headings can be linked to as on GitHub."""
    from markdown_it import MarkdownIt
    from mdit_py_plugins.anchors import anchors_plugin

    return MarkdownIt().use(anchors_plugin, max_level=6).render(text)
