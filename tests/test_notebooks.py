"""Every chapter runs with the smoke preset, and the book renders without a warning."""

import ast
import html
import json
import re
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from conftest import functions_of
from markdown_it import MarkdownIt
from nbconvert import HTMLExporter

from topo_utils import Decay, Estimate
from topo_utils.book import VERDICTS, Project
from topo_utils.book.findings import finding, prose

ROOT = Path(__file__).parents[1]
CHAPTERS = Project(ROOT).chapters()
QUOTES = str.maketrans("“”‘’", "\"\"''")
NO_FINDING = ("homology_primer", "your_network", "scaling")


def test_every_page_is_there(built):
    assert (built.build / "html" / "index.html").is_file()
    for page in built.pages():
        text = (built.build / "html" / f"{page}.html").read_text()
        assert "Traceback" not in text, page
        assert ":::" not in text, page  # a directive that was not understood
        images = re.findall(r"<img\s[^>]*>", text)
        assert all(re.search(r'alt="[^"]{15,}"', image) for image in images), page
    # Solutions and hidden tests of the problem sets carry markers; none may be published.
    files = [file for file in (built.build / "html").rglob("*") if file.is_file()]
    assert not [file for file in files if b"-marker-ps" in file.read_bytes()]


def test_every_finding_has_a_verdict(built):
    results = json.loads((built.build / "results.json").read_text())
    findings = [chapter for chapter in CHAPTERS if chapter not in NO_FINDING]
    assert list(results) == findings
    for found in results.values():
        assert found["verdict"] in VERDICTS
        assert found["reason"].endswith(".")
        assert found["numbers"]


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
    assert "glue" not in " ".join(cell.source for cell in notebook.cells)


def texts(paragraph):
    """The words of a paragraph in Markdown, in pieces between the roles in it."""
    for piece in re.split(r"\{[\w:]+\}`[^`]*`", paragraph):
        plain = re.sub(r"<[^>]+>", "", MarkdownIt().enable("table").render(piece))
        yield from (" ".join(line.split()) for line in html.unescape(plain).splitlines())


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_prose_has_the_same_numbers_wherever_it_is_read(built, chapter):
    notebook = nbformat.read(built.build / "executed" / f"{chapter}.ipynb", 4)
    exported, _ = HTMLExporter().from_notebook_node(notebook)
    page = (built.build / "html" / f"{chapter}.html").read_text()
    for place in (page, exported):
        words = " ".join(html.unescape(re.sub(r"<[^>]+>", "", place)).split())
        words = words.translate(QUOTES)  # the book has typographic ones
        for paragraph in prose(notebook):
            for text in texts(paragraph):
                assert text.translate(QUOTES).replace("--", "–") in words.replace("--", "–")


HIDDEN = {"hide-cell", "hide-input", "remove-cell", "remove-input"}


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_visible_code_is_the_idea_and_not_the_plumbing(chapter):
    cells = Project(ROOT).read(chapter).cells
    solution = 0  # in a solution code may be longer: it opens on a click
    for cell in cells:
        solution += cell.source.count("{solution-start}") - cell.source.count("{solution-end}")
        if cell.cell_type == "code" and not HIDDEN & set(cell.metadata.get("tags", [])):
            lines = cell.source.splitlines()
            assert max(map(len, lines)) <= 78, lines
            assert solution or len([*filter(None, lines)]) <= 12, cell.source


def test_no_helper_stands_in_two_chapters():
    homes = {}
    for chapter in CHAPTERS:
        source = ast.parse(Project(ROOT).source(chapter).read_text(encoding="utf-8"))
        for node in source.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                homes.setdefault(ast.unparse(body), []).append(f"{chapter}.{node.name}")
    assert [where for where in homes.values() if len(where) > 1] == []


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_sources_are_text_without_outputs_or_typed_results(chapter):
    project = Project(ROOT)
    assert project.read(chapter).cells[0].source.startswith("# ")
    for parameter in project.parameters(chapter).values():
        assert parameter.meaning.endswith("."), parameter
        parameter.check(parameter.default)
    for preset in ("smoke", "default", "thorough", "paper"):
        project.resolve(chapter, preset)


#: Other settings, on top of the smoke preset; most of them have a verdict to come to,
#: since each claim must be able to come out as false, and none from a threshold beyond all values.
SETTINGS = [
    (
        "homology_primer",
        {"network": "efficientnet_lite2", "block": "_blocks.20", "image_size": 96},
        None,
    ),
    (
        "depth_decay",
        {
            "models": ["efficientnet_lite1", "efficientnet_lite2"],
            "dataset": "mnist_samples",
            "threshold": -1000.0,
            "seed": 3,
        },
        "inconclusive",
    ),
    (
        "similar_datasets",
        {"n_images": None, "pairs": [["cifar100_samples", "mnist_samples"]]},
        "not reproduced",
    ),
    (
        "similar_datasets",
        {"pairs": [["digits", "mnist_5k"]], "threshold": -1000.0},
        "inconclusive",
    ),
    (
        "depth_invariance",
        {
            "n_images": None,
            "dataset": "mnist_samples",
            "models": ["efficientnet_lite1", "efficientnet_lite2", "efficientnet_lite0"],
        },
        "not reproduced",
    ),
    (
        "depth_invariance",
        {
            "families": [["vgg16", "mobilenet_v2"]],
            "dataset": "cifar10_samples",
            "threshold": 1000.0,
        },
        "inconclusive",
    ),
    ("resolution_invariance", {}, "not reproduced"),  # 64 against 96 pixels
    (
        "resolution_invariance",
        {"dataset": "mnist_samples", "threshold": 1000.0, "seed": 3},
        "inconclusive",
    ),
    (
        "subsampling_invariance",
        {"n_images": 300, "subsamples": "one class", "threshold": -1.0},
        "not reproduced",
    ),
    (
        "subsampling_invariance",
        {"dataset": "digits", "n_images": 40, "seed": 1, "threshold": -1000.0},
        "inconclusive",
    ),
    ("threshold", {"thresholds": [-60.0, 0.0, 60.0]}, "not reproduced"),
    (
        "threshold",
        {"dataset": "mnist_samples", "seed": 3, "thresholds": [-1000.0, 1000.0]},
        "inconclusive",
    ),
    (
        "controls",
        {
            "model": "efficientnet_lite1",
            "dataset": "mnist_samples",
            "n_images": 4,
            "seed": 1,
            "threshold": -1000.0,
        },
        "inconclusive",
    ),
    (
        "architecture_choices",
        {"dataset": "mnist_5k", "image_size": 12, "activations": ["gelu", "relu"]},
        "inconclusive",
    ),
    ("architecture_choices", {"depths": [1, 3], "seed": 3, "threshold": 0.3}, "inconclusive"),
    ("transfer_score", {"penalty": 1000.0}, "not reproduced"),
    (  # the path of the preset `paper`, without its downloads
        "transfer_score",
        {
            "models": ["resnet18", "densenet121"],
            "weights": "random",
            "n_images": 2,
            "image_size": 64,
        },
        "reproduced with limits",
    ),
    (
        "ranking",
        {
            "target": "digits",
            "seeds": [1, 2],
            "probes": [],
            "n_labels": 50,
            "threshold": -1000.0,
            "seed": 3,
        },
        "inconclusive",
    ),
    (  # wide layers learn without moving much
        "ricci_flow",
        {"n_seeds": 5, "classes": [0, 1], "width": 200, "epochs": 4},
        "not reproduced",
    ),
    (
        "ricci_flow",
        {"dataset": "mnist_5k", "classes": [3, 8], "n_train": 40, "n_held_out": 40, "seed": 1},
        "inconclusive",
    ),
    ("polytopes", {"n_digits": 60}, "not reproduced"),  # so few that any labels need one face
    ("polytopes", {"radii": [1.7, 1.3], "seed": 3}, None),
    (
        "topological_features",  # one level: next to nothing is counted
        {"n_splits": 5, "epochs": 15, "n_levels": 1, "n_lifetimes": 1, "seed": 2},
        "not reproduced",
    ),
    ("topological_features", {"dataset": "mnist_5k", "ink_level": 0.7}, None),
    (
        "dive_into_layers",
        {"n_seeds": 4, "widths": [4, 8, 16, 32, 64], "epochs": 5},
        "not reproduced",
    ),
    ("dive_into_layers", {"n_counted": 12, "reach": 0.8, "seed": 2}, "inconclusive"),
    (
        "performance",
        # So slow that the other engines get the two smallest volumes only.
        {
            "network": "fashion_plain_5",
            "image_size": 28,
            "limit": 0.0,
            "experiment": ["fashion_dense_6"],
            "experiment_size": 28,
            "seed": 1,
        },
        None,
    ),
    (
        "scaling",
        {"model": "efficientnet_lite0", "machines": 1, "image_size": 96, "workers": 4},
        None,
    ),
    ("simplicial_baseline", {"width": 1}, "inconclusive"),
    ("simplicial_baseline", {"n_pairs": 1, "noise": 0.1, "seed": 2}, "inconclusive"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chapter", "parameters", "verdict"),
    SETTINGS,
    ids=[f"{s[0]}-{i % 2}" for i, s in enumerate(SETTINGS)],
)
def test_chapters_run_with_other_parameters(tmp_path, chapter, parameters, verdict):
    project = Project(ROOT)
    for name, value in parameters.items():
        project.parameters(chapter)[name].check(value)
    values = project.resolve(chapter, "smoke") | parameters
    notebook = project.run(chapter, values, tmp_path / "out.ipynb", progress=False)
    found = finding(notebook)
    if verdict:
        assert found["verdict"] == verdict
    elif chapter not in NO_FINDING:
        assert found["verdict"] in VERDICTS


@pytest.mark.slow
def test_ranking_comes_out_the_same_again(built, tmp_path, monkeypatch):
    monkeypatch.setenv("TOPO_UTILS_CACHE", "off")  # so that every network is fine-tuned again
    project = Project(ROOT)
    parameters = project.resolve("ranking", "smoke")
    notebook = project.run("ranking", parameters, tmp_path / "out.ipynb", progress=False)
    results = json.loads((built.build / "results.json").read_text())
    assert finding(notebook)["numbers"] == results["ranking"]["numbers"]


def verdict_of(chapter, rule, arguments):
    """What a chapter's rule says; triples stand for estimates."""
    arguments = [Estimate(*each) if isinstance(each, tuple) else each for each in arguments]
    (found,) = functions_of(chapter, rule)
    return found(*arguments)[0]


FALLS = Decay(-3.0, -3.1, -2.9, minimum_depth=1.0, minimum=200.0, first=6000.0, last=200.0)
ABOVE = replace(FALLS, minimum_depth=0.8, last=211.0)
FLAT = replace(FALLS, value=0.1, low=-0.1, high=0.3)
# A curve that does not change, as rounding may leave it.
BLANK = replace(FALLS, value=-2.78e-17, low=-2.78e-17, high=-2.78e-17, last=6000.0)
RISING_BLANK = replace(BLANK, value=3e-16, low=1e-16, high=5e-16)
RISES = replace(FALLS, value=2.0, low=1.9, high=2.1)
UNKNOWN = replace(FALLS, value=np.nan, low=np.nan, high=np.nan)


@pytest.mark.parametrize(
    ("pretrained", "untrained", "verdict", "reason"),
    [
        ([FALLS, FALLS], [FLAT, RISES], "reproduced", "falls with depth in 2 of 2 networks, in no"),
        ([FALLS, FALLS], [FALLS, FLAT], "reproduced with limits", "in 1 of 2 without any training"),
        ([FALLS, ABOVE], [FLAT, FLAT], "reproduced with limits", "n1 end above their minimum"),
        ([FALLS, replace(FALLS, last=210.0)], [FLAT, FLAT], "reproduced", "ends at its minimum"),
        ([FALLS, FLAT], [FALLS, FALLS], "inconclusive", "contains 0 in n1"),
        ([FALLS, UNKNOWN], [FLAT, FLAT], "inconclusive", "contains 0 in n1"),
        ([RISES, FLAT], [FALLS, FALLS], "not reproduced", "rises with depth in n0"),
        ([FALLS, replace(FALLS, high=0.0)], [FLAT, FLAT], "inconclusive", "contains 0 in n1"),
        ([FALLS, replace(FALLS, high=-1e-16)], [FLAT, FLAT], "inconclusive", "contains 0 in n1"),
        ([FALLS, replace(FALLS, low=1e-16, high=1)], [FLAT, FLAT], "inconclusive", "contains 0"),
        ([BLANK, FALLS], [FALLS, FLAT], "inconclusive", "the decay is exactly 0 in n0, as where"),
        (
            [FLAT, RISING_BLANK],
            [FALLS, FLAT],
            "inconclusive",
            "exactly 0 in n1, as where the threshold",
        ),
        ([BLANK, RISES], [FALLS, FLAT], "not reproduced", "rises with depth in n1"),
        (
            [FALLS, FALLS],
            [BLANK, RISING_BLANK],
            "reproduced with limits",
            "in 2 of 2 networks, but the decay is exactly 0 in 2 of 2 untrained ones",
        ),
    ],
)
def test_the_rule_of_depth_decay(pretrained, untrained, verdict, reason):
    named = [{f"n{i}": d for i, d in enumerate(which)} for which in (pretrained, untrained)]
    (rule,) = functions_of("depth_decay", "depth_decay_verdict")
    found, why = rule(*named)
    assert found == verdict
    assert reason in why
    assert why.endswith(".")
    assert why.count(".") == 1  # one sentence


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        (((0.5, 0.2, 0.7), (0.3, 0.1, 0.5), 24, 5), "reproduced"),
        (((0.5, 0.2, 0.7), (0.3, -0.1, 0.5), 24, 5), "reproduced with limits"),
        (((-0.5, -0.7, -0.2), (0, 0, 0), 24, 5), "not reproduced"),
        (((0, -0.2, 0.2), (0, 0, 0), 24, 5), "not reproduced"),
        (((0.1, -0.4, 0.5), (0, 0, 0), 24, 5), "inconclusive"),
        (((0.5, 0.2, 0.7), (0.3, 0.1, 0.5), 11, 5), "inconclusive"),
        (((0.5, 0.2, 0.7), (0.3, 0.1, 0.5), 24, 4), "inconclusive"),
        (((0, 0, 0), (0, 0, 0), 24, 5), "inconclusive"),
    ],
)
def test_the_rule_of_architecture_choices(arguments, verdict):
    assert verdict_of("architecture_choices", "architecture_verdict", arguments) == verdict


FASTER, SLOWER, SAME = (0.3, 0.2, 0.4), (-0.3, -0.4, -0.2), (0, -0.05, 0.05)


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        ((FASTER, FASTER, 1.0, 5, 0.99, True), "reproduced"),
        ((FASTER, SAME, 1.0, 5, 0.99, True), "reproduced with limits"),
        ((FASTER, FASTER, 0.9, 5, 0.99, True), "reproduced with limits"),
        ((FASTER, FASTER, 0.4, 5, 0.99, True), "not reproduced"),
        ((SLOWER, SAME, 1.0, 5, 0.99, True), "not reproduced"),
        ((SAME, SAME, 1.0, 5, 0.99, True), "not reproduced"),
        (((0.1, -0.3, 0.5), SAME, 1.0, 5, 0.99, True), "inconclusive"),
        ((FASTER, FASTER, 1.0, 4, 0.99, True), "inconclusive"),
        ((FASTER, FASTER, 1.0, 5, 0.90, True), "inconclusive"),
        ((FASTER, FASTER, 1.0, 5, 0.99, False), "inconclusive"),
    ],
)
def test_the_rule_of_the_simplicial_baseline(arguments, verdict):
    assert verdict_of("simplicial_baseline", "simplicial_verdict", arguments) == verdict


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-0.5, -0.01, -1),
        (0.01, 0.5, 1),
        (-0.1, 0.1, 0),
        (0, 0, 0),
        # What is shown as 0.00 neither rises nor falls.
        (0.001, 0.004, 0),
        (0.001, 0.2, 0),
        (-0.2, -0.004, 0),
        (1e-17, 1e-17, 0),
    ],
)
def test_a_network_of_ones_own_rises_or_falls_as_the_figures_show(low, high, expected):
    (sign,) = functions_of("your_network", "sign")
    assert sign(Estimate((low + high) / 2, low, high)) == expected


EXACT = {"pearson": 0.0, "kendall": 1e-4}
HIGH, LOW = {"a": 0.7, "b": 0.6}, {"a": 0.7, "b": 0.1}


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        ((EXACT, HIGH, HIGH), "reproduced"),
        ((EXACT, LOW, HIGH), "reproduced with limits"),
        ((EXACT, HIGH, LOW), "reproduced with limits"),
        (({"pearson": 0.0, "kendall": -0.05}, HIGH, HIGH), "not reproduced"),
    ],
)
def test_the_rule_of_the_transfer_score(arguments, verdict):
    assert verdict_of("transfer_score", "transfer_score_verdict", arguments) == verdict


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        (((0.8, 0.4, 0.9), (0.3, 0.1, 0.5), 1, 11), "reproduced"),
        (((0.8, 0.4, 0.9), (0.3, -0.1, 0.5), 1, 11), "reproduced with limits"),
        (((0.4, 0.1, 0.9), (-0.3, -0.5, -0.1), 9, 11), "not reproduced"),
        (((-0.6, -0.9, -0.1), (-0.1, -0.5, 0.3), 6, 11), "not reproduced"),
        (((0.3, -0.4, 0.8), (0.3, 0.1, 0.5), 1, 11), "inconclusive"),
    ],
)
def test_the_rule_of_ranking(arguments, verdict):
    assert verdict_of("ranking", "ranking_verdict", arguments) == verdict


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        (((0.4, 0.3, 0.5), 1.0), "reproduced"),
        (((0.4, 0.3, 0.5), 1.3), "reproduced with limits"),
        (((2.0, 1.5, 2.5), 1.0), "not reproduced"),
        (((1.0, 0.8, 1.2), 1.0), "inconclusive"),
    ],
)
def test_the_rule_of_performance(arguments, verdict):
    assert verdict_of("performance", "performance_verdict", arguments) == verdict
