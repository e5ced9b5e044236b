"""Broken links are found, good ones are not blamed, and no network is no broken link."""

import http.server
import threading
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_book import make_project

from topo_utils.__main__ import main
from topo_utils.book import BookError
from topo_utils.book.links import check_external_links, check_internal_links

NAMES = st.text(
    st.characters(categories=("L", "N"), include_characters="-_.~%+ "), min_size=1, max_size=8
).filter(str.strip)


def write_pages(project, **pages):
    """Pages of a built book, without building one."""
    html = project.build / "html"
    html.mkdir(parents=True, exist_ok=True)
    for name, text in ({"index": ""} | pages).items():
        (html / f"{name}.html").write_text(text, encoding="utf-8")
    return html


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path)


@pytest.fixture(scope="module")
def any_project(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("links"))


@given(st.sets(NAMES, min_size=1), st.sets(NAMES))
@settings(deadline=None, max_examples=50)
def test_broken_are_the_links_to_places_that_are_not_there(any_project, places, others):
    """Whatever the names: places are those that were written, links are to these and to others."""
    links = [f"#{quote(name)}" for name in places | others]
    write_pages(
        any_project,
        here="".join(f'<p id="{name}">' for name in places)
        + "".join(f'<a href="{link}">' for link in links),
        there="".join(f'<a href="here.html{link}">' for link in links),
    )
    broken, checked = check_internal_links(any_project)
    wrong = {f"#{quote(name)}" for name in others - places - {"top"}}
    assert {link for page, link, _ in broken if page == "here.html"} == wrong
    assert {link for page, link, _ in broken if page == "there.html"} == {
        f"here.html{link}" for link in wrong
    }
    assert checked == 2 * len(links)


def test_every_kind_of_link_is_looked_up(project):
    (project.root / "secret.txt").write_text("")
    html = write_pages(
        project,
        page='<a id="part" href="https://elsewhere.org/x"></a><a href="mailto:a@b.org"></a>'
        '<a href=""></a><a href="#"></a><a href="#part"></a><a href="?q=1"></a>'
        '<img src="data:image/png;base64,xx"><img src="a%20b.png" srcset="a%20b.png 1x, no.png 2x">'
        '<link href="no.css"><script src="no.js?v=1"></script><a href="../../secret.txt"></a>',
    )
    (html / "a b.png").write_text("")
    (project.root / "README.md").write_text(
        "# Two words\n[a](notebooks) [b](notebooks/intro.md) [c](#two-words) [d](#three)\n"
        "![e](no.svg) [f](https://elsewhere.org)\n\n| table |\n|---|\n| [g](no.md) |\n"
    )
    broken, _ = check_internal_links(project)
    assert [str(link) for link in broken] == [
        "README.md: #three (no such place on that page)",
        "README.md: no.md (no such file)",
        "README.md: no.svg (no such file)",
        "page.html: ../../secret.txt (leads out of the book)",
        "page.html: no.css (no such file)",
        "page.html: no.js?v=1 (no such file)",
        "page.html: no.png (no such file)",
    ]


def test_the_command_tells_broken_links_and_fails(project, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    write_pages(project, page='<a href="index.html"></a><a href="none.html"></a>')
    assert main(["links"]) == 1
    assert capsys.readouterr().out == (
        "page.html: none.html (no such file)\n2 links inside the book and README.md, 1 broken\n"
    )
    write_pages(project, page='<a href="index.html"></a>')
    assert main(["links"]) == 0
    assert "1 links inside the book and README.md, 0 broken" in capsys.readouterr().out


@pytest.mark.parametrize("check", [check_internal_links, check_external_links])
def test_without_a_book_there_are_no_links(project, check):
    with pytest.raises(
        BookError, match=r"no built book in .*_build\nBuild it first: topobook book"
    ):
        check(project)


def test_sources_that_cannot_be_read_are_no_broken_links(project):
    write_pages(project)
    with pytest.raises(
        BookError, match=r"could not read the book\n(.|\n)*\nBuild it again with topobook book$"
    ):
        check_external_links(project)


class Site(http.server.BaseHTTPRequestHandler):
    """One page, with one place in it."""

    def do_GET(self):
        there = self.path == "/there"
        self.send_response(200 if there else 404)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b'<p id="part">' if there else b"")

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_other_sites_are_asked(project, monkeypatch, capsys):
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def build(*links):
        text = "".join(f"[{number}]({link})\n" for number, link in enumerate(links))
        (project.notebooks / "intro.md").write_text(f"# Intro\n\n{text}")
        project.build_book(progress=False)
        capsys.readouterr()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{server.server_port}"
        links = [f"{site}/there", f"{site}/there#part", f"{site}/there#no", f"{site}/none"]
        build(*links)
        assert main(["links", "--external"]) == 1
        out = capsys.readouterr().out.splitlines()
        assert out[-1] == "4 links to other sites, 2 broken"
        assert out[-2] == f"intro.html: {site}/there#no (Anchor 'no' not found)"
        assert out[-3].startswith(f"intro.html: {site}/none (404 Client Error")
        assert "intro" not in "".join(out[:-3])
        build(*links[:2])
        assert main(["links", "--external"]) == 0
        assert capsys.readouterr().out.endswith("2 links to other sites, 0 broken\n")
        server.shutdown()
    # The server is gone: nothing is known of the links, and none is blamed.
    assert main(["links", "--external"]) == 1
    captured = capsys.readouterr()
    assert "none of the 2 links to other sites could be reached" in captured.err
    assert "there" not in captured.out
