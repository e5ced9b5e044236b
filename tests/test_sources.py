"""What is written in the book's sources and would go wrong without an error."""

import re
from pathlib import Path

import jupytext
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
PAGES = sorted([*NOTEBOOKS.rglob("*.md"), *NOTEBOOKS.glob("*.py"), *NOTEBOOKS.rglob("ps*.py")])


def swallowed(text):
    """The lines of Markdown that MyST takes for comments: those that begin with %, but in code."""
    found, open_ = [], []  # the fences that are open, and whether code is in them
    for line in text.splitlines():
        if fence := re.match(r"\s*(`{3,}|:{3,})(.*)", line):
            if open_ and line.strip() == open_[-1][0]:
                open_.pop()
            else:
                open_.append((fence[1], not re.match(r"\s*\{(?!code)", fence[2])))
        elif re.match(r"[ >]*%", line) and not any(code for _, code in open_):
            found.append(line)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_line_is_swallowed_as_a_comment(page):
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".py":
        cells = jupytext.reads(text, fmt="py:percent").cells
        text = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert swallowed(text) == []


def test_what_is_swallowed_is_found():
    assert swallowed("It takes a 95\n% interval of the\n100 % of") == ["% interval of the"]
    assert swallowed("> so is\n> % this") == ["> % this"]
    assert swallowed("```{exercise-start}\n```\n% this\n```{exercise-end}\n```") == ["% this"]
    assert swallowed("```python\n%timeit f()\n```\n```\n% code\n```\n") == []
