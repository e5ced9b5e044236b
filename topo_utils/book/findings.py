"""What a chapter says of its own result, and how it is read back from the executed notebook."""

from __future__ import annotations

import math
from pathlib import Path

from topo_utils.book.chapters import declared_in
from topo_utils.book.errors import BookError, UsageError

#: What a finding may come to, and the colour of its box.
_BOXES = {
    "reproduced": "tip",
    "reproduced with limits": "note",
    "not reproduced": "warning",
    "inconclusive": "note",
}
VERDICTS = tuple(_BOXES)

_FINDING = "topobook_finding"  # key in the metadata of the output that shows a verdict

_places = set()  # for which `place` has made room in this kernel


def place(name):
    """Make room in a chapter for what it knows later: there `fill` puts it.

    Parameters
    ----------
    name : str
        "answer" for the box of `record_finding`, else of your own choice.
    """
    from IPython.display import display

    _places.add(name)
    waiting = "*This is filled in when all cells have run.*"
    display({"text/markdown": waiting, "text/plain": waiting}, raw=True, display_id=name)


def fill(name, shown, *, caption="", **options):
    """Show something at its `place`; without one, here.

    Parameters
    ----------
    name : str
        Of the place.
    shown : object
        A figure, or whatever IPython's ``display`` takes, as it takes the other `options`.
    caption : str, optional
        Of a figure, in the place of the one in the cell's metadata, which knows nothing of the run.
    """
    from IPython.display import display, update_display

    if caption:
        options["metadata"] = {"caption": caption}
    show = update_display if name in _places else display
    show(shown, display_id=name, **options)


def record_finding(claim, verdict, reason, numbers, *, headline=""):
    """Show a chapter's verdict in its answer box, and hand it to ``results.json``.

    Parameters
    ----------
    claim : str
        What was tested, in one sentence.
    verdict : str
        One of `VERDICTS`.
    reason : str
        Why, in one or two sentences, with the strongest control and limit.
    numbers : dict of str to float, Estimate or (float, float, float)
        The headline numbers by name: a value, or a value with the lower and the upper end of its
        interval. The first is shown in the table of findings.
    headline : str, optional
        That first number as a phrase that a person understands.

    Raises
    ------
    ValueError
        Unknown verdict, no numbers, or one that is not finite.
    """
    if verdict not in VERDICTS:
        raise ValueError(f"unknown verdict {verdict!r}; accepted: {', '.join(VERDICTS)}")
    if not numbers:
        raise ValueError("a finding needs at least one number")
    recorded = {}
    for name, number in numbers.items():
        ends = [x for x in (number if hasattr(number, "__iter__") else [number]) if x is not None]
        if len(ends) not in (1, 3) or not all(map(math.isfinite, ends)):
            raise ValueError(
                f"number {name!r} is {number!r}; accepted: a finite number, or (value, low, high)"
            )
        recorded[name] = dict(zip(("value", "low", "high"), map(float, ends), strict=False))
    finding = {"claim": claim, "verdict": verdict, "reason": reason, "numbers": recorded}
    finding["headline"] = next(iter(recorded))  # notebooks are kept with their keys sorted
    if headline:
        finding["phrase"] = headline
    told = f"{reason}\n\n{headline}".strip()
    box = f":::{{admonition}} Verdict: {verdict}\n:class: {_BOXES[verdict]}\n{told}\n:::"
    shown = {"text/markdown": box, "text/plain": box}
    fill("answer", shown, raw=True, metadata={_FINDING: finding})


def _outputs(notebook, tag=None):
    """The outputs of a notebook's cells, or of those with a tag."""
    for cell in notebook.cells:
        if tag is None or tag in cell.metadata.get("tags", []):
            yield from cell.get("outputs", [])


def finding(notebook):
    """What `record_finding` left in an executed notebook, or None."""
    found = (output.get("metadata", {}).get(_FINDING) for output in _outputs(notebook))
    return next((dict(one) for one in found if one is not None), None)


def prose(notebook, tag=None):
    """The paragraphs that an executed notebook shows with numbers of the run, verdicts left out.

    Parameters
    ----------
    notebook : nbformat.NotebookNode
        Executed.
    tag : str, optional
        Only of cells with this tag.

    Returns
    -------
    list of str
    """
    texts = [
        "".join(output["data"]["text/markdown"])
        for output in _outputs(notebook, tag)
        if "text/markdown" in output.get("data", {}) and _FINDING not in output.get("metadata", {})
    ]
    return [" ".join(part.split()) for text in texts for part in text.split("\n\n") if part.strip()]


def figures(notebook):
    """Every figure that a chapter names: its metadata in the cell, and the output that shows it."""
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        for output in cell.get("outputs", []):
            if figure and "image/svg+xml" in output.get("data", {}):
                yield figure, output


def format_number(number):
    """A recorded number as text, with its interval where it has one."""
    text = f"{number['value']:.3g}"
    return f"{text} [{number['low']:.3g}, {number['high']:.3g}]" if "low" in number else text


def duration(seconds):
    """A time as text, in the unit that fits: "0.21 s", "3.5 min", "12 h"."""
    size, unit = next((u for u in ((3600, "h"), (60, "min")) if seconds >= u[0]), (1, "s"))
    number = seconds / size
    return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.2g} {unit}"


def chapter_of(notebook):
    """The name of the chapter that was executed."""
    return Path(notebook.metadata.papermill.input_path).stem


def used_parameters(notebook):
    """The value that each parameter had in an executed notebook."""
    declared = declared_in(chapter_of(notebook), notebook)
    defaults = {name: parameter.default for name, parameter in declared.items()}
    given = notebook.metadata.papermill.parameters.items()
    return defaults | {n: declared[n].restore(v) if n in declared else v for n, v in given}


def results(notebook):
    """Verdict, recorded numbers and prose with numbers of an executed notebook, as text by name."""
    found = {}
    if recorded := finding(notebook):
        found["verdict"] = recorded["verdict"]
        found |= {name: format_number(n) for name, n in recorded["numbers"].items()}
    return found | {f"paragraph {i}": text for i, text in enumerate(prose(notebook), 1)}


def read_run(path):
    """An executed notebook, as `Project.run` wrote it.

    Raises
    ------
    BookError
        It is not there, or not the finished run of a chapter.
    """
    import nbformat

    todo = "Give a notebook that topobook run wrote"
    unread = (OSError, ValueError, TypeError, KeyError, AttributeError, nbformat.ValidationError)
    try:
        notebook = nbformat.read(path, as_version=4)
    except FileNotFoundError:
        todo = "Run a chapter first: topobook run CHAPTER -o FILE.ipynb"
        raise UsageError(f"there is no notebook {path}", todo) from None
    except (*unread, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}", todo) from None
    try:  # what is asked of it later
        chapter_of(notebook), used_parameters(notebook), results(notebook)
        notebook.metadata["topobook"]["key"]
    except (*unread, BookError):
        raise UsageError(f"{path} is no finished run of a chapter", todo) from None
    return notebook


def compare_runs(a, b):
    """Which parameters and which numbers of two runs of a chapter differ.

    Parameters
    ----------
    a, b : path
        Executed notebooks.

    Returns
    -------
    dict of str to dict of str to tuple
        Under "parameters" and "results", by name, what `a` has and what `b` has; None where one
        has nothing of the name. Results are the verdict, the recorded numbers as text with their
        intervals, and the paragraphs with numbers.

    Raises
    ------
    BookError
        Not two executed notebooks of one chapter.
    """
    runs = [read_run(path) for path in (a, b)]
    first, second = map(chapter_of, runs)
    if first != second:
        raise UsageError(
            f"{a} is a run of {first}, {b} of {second}", "Give two runs of one chapter"
        )

    def differences(of):
        first, second = map(of, runs)
        pairs = {name: (first.get(name), second.get(name)) for name in first | second}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}

    return {"parameters": differences(used_parameters), "results": differences(results)}
