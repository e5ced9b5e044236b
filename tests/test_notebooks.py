"""Every chapter runs with the smoke preset, and the book renders without a warning."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from topo_utils.book import VERDICTS, Project, _finding

ROOT = Path(__file__).parents[1]
CHAPTERS = Project(ROOT).chapters()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    project = Project(ROOT, build=tmp_path_factory.mktemp("build"))
    project.build_book("smoke")
    return project


def test_every_page_is_there(built):
    assert (built.build / "html" / "index.html").is_file()
    for page in built.pages():
        html = (built.build / "html" / f"{page}.html").read_text()
        assert "Traceback" not in html, page
        assert ":::" not in html, page  # a directive that was not understood
        images = re.findall(r"<img\s[^>]*>", html)
        assert all(re.search(r'alt="[^"]{15,}"', image) for image in images), page


def test_every_finding_has_a_verdict(built):
    results = json.loads((built.build / "results.json").read_text())
    findings = [chapter for chapter in CHAPTERS if chapter != "homology_primer"]
    assert list(results) == findings
    for finding in results.values():
        assert finding["verdict"] in VERDICTS
        assert finding["reason"].endswith(".")
        assert finding["numbers"]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_executed_notebooks_are_clean(built, chapter):
    notebook = nbformat.read(built.build / "executed" / f"{chapter}.ipynb", 4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert outputs
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    figures = [c for c in notebook.cells if "figure" in c.metadata.get("mystnb", {})]
    for cell in figures:
        assert [o for o in cell.outputs if "image/svg+xml" in o.get("data", {})]
        assert len(cell.metadata.mystnb.image.alt) > 30
    glued = set(re.findall(r"\{glue:text\}`(\w+)", " ".join(c.source for c in notebook.cells)))
    known = {o.metadata.scrapbook.name for o in outputs if "scrapbook" in o.get("metadata", {})}
    assert glued == known  # nothing glued in vain either


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_sources_are_text_without_outputs_or_typed_results(chapter):
    project = Project(ROOT)
    assert project.read(chapter).cells[0].source.startswith("# ")
    for parameter in project.parameters(chapter).values():
        assert parameter.meaning.endswith("."), parameter
        parameter.check(parameter.default)
    for preset in ("smoke", "default", "paper"):
        project.resolve(chapter, preset)


@pytest.mark.parametrize(
    ("chapter", "parameters"),
    [
        ("homology_primer", {"network": "efficientnet_lite2", "block": "_blocks.20"}),
        ("depth_decay", {"dataset": "mnist_samples", "threshold": 0.5}),
        ("depth_decay", {"models": ["efficientnet_lite1", "efficientnet_lite2"], "seed": 3}),
    ],
)
def test_chapters_run_with_other_parameters(tmp_path, chapter, parameters):
    project = Project(ROOT)
    values = project.resolve(chapter, "smoke") | parameters
    notebook = project.run(chapter, values, tmp_path / "out.ipynb", progress=False)
    assert _finding(notebook) is None or _finding(notebook)["verdict"] in VERDICTS
