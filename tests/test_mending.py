"""Damaged submissions: each is mended, or refused with the reason, and none stops another.

What mending does to the cells is tested on a small set without a kernel; one batch goes through
nbgrader's own commands to the table of grades and the feedback.
"""

import csv
import json
import re
import runpy
import shutil
import sys
from copy import deepcopy
from html import unescape
from pathlib import Path

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nbgrader.coursedir import CourseDirectory
from test_assignments import SETS, nbgrader, small_set, solution
from traitlets.config import Config

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "notebooks" / "assignments"))
import build  # noqa: E402
from mending import Cell, Ungradable, handed_in, mended, parted, read_cells  # noqa: E402

ANSWERS = {
    "ps9-one": "def one():\n    return 1",
    "ps9-more": "def more(x):\n    return x + base",
    "ps9-why": "My reason.",
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course folder with the small set, and those of the book."""
    folder = tmp_path_factory.mktemp("mending")
    (folder / "ps9_small.py").write_text(small_set(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "SETS", build.SETS | {"ps9": folder / "ps9_small.py"})
        build.build(folder / "course")
    return folder / "course"


def settings(course):
    """What nbgrader_config.py of a course defines, and its settings as `c`."""
    return runpy.run_path(str(course / "nbgrader_config.py"), {"get_config": Config})


def converter(course, name="ps9", **options):
    """What `nbgrader autograde` runs."""
    names = settings(course)
    coursedir = CourseDirectory(root=str(course), assignment_id=name)
    return names["GradeEach"](coursedir=coursedir, config=names["c"], **options)


def slots_of(course, name):
    grading = converter(course, name)
    with grading.gradebook() as gradebook:
        return grading.slots(gradebook, name)


@pytest.fixture(scope="module")
def slots(course):
    return slots_of(course, "ps9")


def answered(course, name="ps9", answers=ANSWERS):
    """The release of a set with answers filled in, as JSON."""
    path = course / "release" / name / f"{name}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        cell["source"] = answers.get(cell["id"], "".join(cell["source"]))
    return notebook


def cells_of(notebook, folder):
    """What is read of a notebook, after it was a file."""
    path = Path(folder) / "notebook.ipynb"
    path.write_bytes(notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode())
    return read_cells(path)


def told(made):
    """The cells of a mended notebook that belong to the set, and the student's own sources."""
    of_the_set = {
        cell.metadata.nbgrader.grade_id: (cell.cell_type, cell.source)
        for cell in made
        if "nbgrader" in cell.metadata
    }
    return of_the_set, [cell.source for cell in made if "nbgrader" not in cell.metadata]


# What may have happened to a notebook ----------------------------------------------------------


def position(notebook, name):
    return [cell["id"] for cell in notebook["cells"]].index(name)


def cell(notebook, name):
    return notebook["cells"][position(notebook, name)]


def without(*names):
    def damage(notebook):
        notebook["cells"] = [cell for cell in notebook["cells"] if cell["id"] not in names]

    return damage


def copied(name, source=None, before=False):
    """The copy has nbgrader's name, as Jupyter makes it, and an id of its own."""

    def damage(notebook):
        copy = deepcopy(cell(notebook, name)) | {"id": "copy"}
        copy["source"] = copy["source"] if source is None else source
        notebook["cells"].insert(position(notebook, name) + (not before), copy)

    return damage


def changed(name, **values):
    def damage(notebook):
        cell(notebook, name).update(values)

    return damage


def own_cell(after, source, kind="code"):
    def damage(notebook):
        new = {"id": "own", "cell_type": kind, "metadata": {}, "source": source}
        notebook["cells"].insert(position(notebook, after) + 1, new)

    return damage


def merged(*names):
    def damage(notebook):
        text = "\n\n".join(cell(notebook, name)["source"] for name in names)
        cell(notebook, names[0])["source"] = text
        without(*names[1:])(notebook)

    return damage


def stripped(notebook):
    """As VS Code and Colab may leave it: no metadata, other ids, another kernel."""
    for i, cell in enumerate(notebook["cells"]):
        cell["metadata"], cell["id"] = {"id": f"colab{i}"}, f"new-{i}"
    notebook["metadata"] = {"kernelspec": {"name": ".venv", "display_name": ".venv (3.9)"}}


def ids_kept(notebook):
    for cell in notebook["cells"]:
        cell["metadata"] = None


def emptied(notebook):
    for cell in notebook["cells"]:
        cell["metadata"]["nbgrader"], cell["id"] = {}, 7


def turned(notebook):
    notebook["cells"].reverse()


def formatted(notebook):
    for cell in notebook["cells"]:
        if "-test" in cell["id"] or "-text" in cell["id"]:
            cell["source"] = cell["source"].replace(" == ", "==").replace("\n\n", "  \n\n\n")


def other_types(notebook):
    kinds = {"ps9-one": "raw", "ps9-more-test": "markdown", "ps9-setup": "raw", "ps9-why": "code"}
    for name, kind in kinds.items():
        cell(notebook, name)["cell_type"] = kind


STUB = "def one():\n    # YOUR CODE HERE\n    raise NotImplementedError('as handed out')"
TEXTS = [f"ps9-{name}" for name in ("intro", "one-text", "more-text", "why-text")]
LOCKED = [*TEXTS, "ps9-setup", "ps9-one-test", "ps9-more-test"]
TWO = "def one():\n    return 2"
DOUBLE = "Cells occur more than once.*: "
BACK = "Locked cells were missing and are back: "
LOST_METADATA = "The cells have lost nbgrader's metadata"
ORDER = "The cells stood in another order"
#: Damages, the answers that are not as in the sound notebook, the student's own cells, the notes.
DAMAGES = {
    "none": ([], {}, [], []),
    "a test twice": ([copied("ps9-one-test")], {}, [], [f"{DOUBLE}ps9-one-test"]),
    "a text twice": ([copied("ps9-more-text")], {}, [], [f"{DOUBLE}ps9-more-text"]),
    "the set-up twice": ([copied("ps9-setup", before=True)], {}, [], [f"{DOUBLE}ps9-setup"]),
    "an answer twice": ([copied("ps9-one")], {}, [ANSWERS["ps9-one"]], [f"{DOUBLE}ps9-one"]),
    "an answer and its better copy": (
        [copied("ps9-one", TWO, before=True)],
        {"ps9-one": TWO},
        [ANSWERS["ps9-one"]],
        [f"{DOUBLE}ps9-one"],
    ),
    "a changed copy of a test": (
        [copied("ps9-one-test", "one()")],
        {},
        ["one()"],
        [f"{DOUBLE}ps9-one-test"],
    ),
    "a test deleted": ([without("ps9-one-test")], {}, [], [f"{BACK}ps9-one-test"]),
    "the set-up deleted": ([without("ps9-setup")], {}, [], [f"{BACK}ps9-setup"]),
    "all locked cells deleted": ([without(*LOCKED)], {}, [], [BACK]),
    "only the answers left, and stripped": (
        [without(*LOCKED), stripped],
        {},
        [],
        [LOST_METADATA, BACK],
    ),
    "an answer deleted": (
        [without("ps9-more")],
        {"ps9-more": None},
        [],
        ["No cell with an answer was found for: ps9-more"],
    ),
    "an answer by hand deleted": (
        [without("ps9-why")],
        {"ps9-why": "This cell was missing and is put back, empty."},
        [],
        ["No cell with an answer was found for: ps9-why"],
    ),
    "a test changed": (
        [changed("ps9-one-test", source="pass")],
        {},
        [],
        ["Locked cells were changed .*: ps9-one-test"],
    ),
    "an answer in place of a test": (
        [changed("ps9-one-test", source=ANSWERS["ps9-one"]), without("ps9-one")],
        {},
        [],
        [f"{BACK}ps9-one-test"],
    ),
    "an import in the set-up": (
        [changed("ps9-setup", source="import re\nfrom math import sqrt\n\nbase = 10\n")],
        {},
        ["import re"],
        [],
    ),
    "stripped": ([stripped], {}, [], [LOST_METADATA]),
    "only the ids left": ([ids_kept], {}, [], [LOST_METADATA]),
    "nbgrader's metadata emptied": ([emptied], {}, [], [LOST_METADATA]),
    "stripped and formatted": ([formatted, stripped], {}, [], [LOST_METADATA]),
    "stripped, with a function renamed": (
        [changed("ps9-one", source="def eins():\n    return 1"), stripped],
        {"ps9-one": "def eins():\n    return 1"},
        [],
        [LOST_METADATA],
    ),
    "stripped, with a function mentioned": (
        [own_cell("ps9-one-text", "def one(): it is easy", "markdown"), stripped],
        {},
        ["def one(): it is easy"],
        [LOST_METADATA],
    ),
    "stripped, with cells changed a little": (
        [
            changed("ps9-more-test", source='assert more(1) == 11, "ten more than 1 is 12"'),
            stripped,
        ],
        {},
        [],
        [LOST_METADATA, "Locked cells were changed .*: ps9-more-test"],
    ),
    "turned round": ([turned], {}, [], [ORDER]),
    "stripped and turned round but for the words": (
        [without("ps9-why"), turned, stripped],
        {"ps9-why": "This cell was missing and is put back, empty."},
        [],
        [LOST_METADATA, "No cell with an answer was found for: ps9-why", ORDER],
    ),
    "other types": ([other_types], {}, [], []),
    "an answer merged with its test": ([merged("ps9-one", "ps9-one-test")], {}, [], []),
    "an answer merged with its text": ([merged("ps9-one-text", "ps9-one")], {}, [], []),
    "a test merged with the next answer": (
        [merged("ps9-one-test", "ps9-more-text", "ps9-more")],
        {},
        [],
        [],
    ),
    "all code in one cell, and stripped": (
        [merged("ps9-setup", "ps9-one", "ps9-one-test", "ps9-more", "ps9-more-test"), stripped],
        {},
        [],
        [LOST_METADATA, ORDER],
    ),
    "an answer split": (
        [
            changed("ps9-one", source="def one():\n    return helper()"),
            own_cell("ps9-one", "def helper():\n    return 1"),
        ],
        {"ps9-one": "def one():\n    return helper()"},
        ["def helper():\n    return 1"],
        [],
    ),
    "tags that skip a test": (
        [changed("ps9-one-test", metadata={"tags": ["skip-execution"]})],
        {},
        [],
        [],
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_notebook_is_mended(name, course, slots, tmp_path):
    damages, answers, own, notes = DAMAGES[name]
    notebook = answered(course)
    for damage in damages:
        damage(notebook)
    made, said = mended(cells_of(notebook, tmp_path), slots)
    of_the_set, found = told(made)
    sound, _ = told(mended(cells_of(answered(course), tmp_path), slots)[0])
    expected = {slot.name: sound[slot.name] for slot in slots}
    for grade_id, source in answers.items():
        expected[grade_id] = (expected[grade_id][0], source)
        if source is None:
            del expected[grade_id]
    assert list(of_the_set.items()) == list(expected.items())
    assert found == own
    assert len(said) == len(notes)
    for note, text in zip(notes, said, strict=True):
        assert re.match(note, text)
    made = nbformat.v4.new_notebook(cells=made)
    nbformat.validate(made)
    assert len({cell.id for cell in made.cells}) == len(made.cells)
    assert not any("tags" in cell.metadata for cell in made.cells)


@pytest.mark.parametrize("name", SETS)
def test_each_set_is_known_by_its_content(name, course, tmp_path):
    slots = slots_of(course, name)
    sound = answered(course, name, solution(name))
    expected, no_notes = mended(cells_of(sound, tmp_path), slots)
    assert no_notes == []
    assert [cell.id for cell in expected] == [cell["id"] for cell in sound["cells"]]
    stripped(sound)
    made, (note,) = mended(cells_of(sound, tmp_path), slots)
    assert note.startswith(LOST_METADATA)
    assert told(made) == told(expected)
    turned(sound)
    assert told(mended(cells_of(sound, tmp_path), slots)[0])[0].keys() == told(expected)[0].keys()


@given(st.data())
def test_whatever_happens_no_cell_of_the_set_and_no_answer_is_lost(course, slots, data):
    texts = {slot.name: ANSWERS.get(slot.name, slot.shown) for slot in slots}
    cells = [
        Cell("code", texts[slot.name], slot.name, slot.name)
        for slot in data.draw(st.lists(st.sampled_from(slots), min_size=1, max_size=14))
    ]
    for i in data.draw(st.lists(st.integers(0, len(cells) - 1), max_size=4)):
        kind = data.draw(st.sampled_from(["markdown", "raw", "code"]))
        cells[i] = cells[i]._replace(grade_id="", id="", kind=kind)
    if len(cells) > 1 and data.draw(st.booleans()):
        text = cells[0].source + "\n\n" + cells[1].source
        cells[:2] = [cells[0]._replace(source=text)]
    try:
        made, _ = mended(cells, slots)
    except Ungradable:
        return
    of_the_set, _ = told(made)
    assert [name for name in of_the_set if name in LOCKED] == [
        slot.name for slot in slots if slot.locked
    ]
    assert list(of_the_set) == [slot.name for slot in slots if slot.name in of_the_set]
    assert len(of_the_set) == len([cell for cell in made if "nbgrader" in cell.metadata])
    assert all(of_the_set[slot.name][1] == slot.source for slot in slots if slot.locked)
    everything = "\n".join(cell.source for cell in made)
    for piece in parted(cells, slots):
        if piece.source in ANSWERS.values():
            assert piece.source in everything


# What may have happened to a file --------------------------------------------------------------


def older(notebook):
    notebook = nbformat.convert(nbformat.reads(json.dumps(notebook), as_version=4), 3)
    return nbformat.v3.writes_json(notebook).encode()


def lines(notebook):
    for cell in notebook["cells"]:
        cell["source"] = [f"{line}\r\n" for line in cell["source"].split("\n")]
    return json.dumps(notebook).encode()


FILES = {
    "byte order mark": lambda notebook: b"\xef\xbb\xbf" + json.dumps(notebook).encode(),
    "UTF-16": lambda notebook: json.dumps(notebook).encode("utf-16"),
    "UTF-16 without a mark": lambda notebook: json.dumps(notebook).encode("utf-16-le"),
    "UTF-32": lambda notebook: json.dumps(notebook).encode("utf-32"),
    "Windows-1252": lambda notebook: json.dumps(notebook, ensure_ascii=False).encode("cp1252"),
    "CRLF": lambda notebook: json.dumps(notebook, indent=1).replace("\n", "\r\n").encode(),
    "CRLF in cells": lines,
    "format 3": older,
    "format 4.2": lambda notebook: json.dumps(notebook | {"nbformat_minor": 2}).encode(),
    "format 5": lambda notebook: json.dumps(notebook | {"nbformat": 5}).encode(),
    "no format": lambda notebook: json.dumps({"cells": notebook["cells"]}).encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_a_notebook_is_read_in_any_encoding_and_format(name, course, tmp_path):
    notebook = answered(course)
    cell(notebook, "ps9-why")["source"] = "für “mich” – genug"
    expected = [(cell["cell_type"], cell["id"], cell["source"]) for cell in notebook["cells"]]
    cells = cells_of(FILES[name](notebook), tmp_path)
    assert [(cell.kind, cell.grade_id, cell.source.strip("\n")) for cell in cells] == expected


def test_half_a_character_is_replaced(tmp_path):
    notebook = {"cells": [{"cell_type": "code", "source": "'\ud83d\ude00 and half: \ud83d'"}]}
    (read,) = cells_of(notebook, tmp_path)
    assert read.source == "'😀 and half: \ufffd'"


@pytest.mark.parametrize(
    ("files", "counts", "notes"),
    [
        (["ps9.ipynb"], "ps9.ipynb", []),
        (["anna_ps9.ipynb"], "anna_ps9.ipynb", ["handed in as anna_ps9.ipynb, not as ps9.ipynb"]),
        (["Homework.IPYNB", "notes.txt"], "Homework.IPYNB", ["handed in as Homework.IPYNB"]),
        (["ps9/ps9/ps9.ipynb"], "ps9/ps9/ps9.ipynb", ["handed in as ps9/ps9/ps9.ipynb"]),
        (["ps9.ipynb.txt"], "ps9.ipynb.txt", ["handed in as ps9.ipynb.txt"]),
        (
            ["ps9.ipynb", "ps9 (1).ipynb"],
            "ps9.ipynb",
            [r"Of several notebooks ps9.ipynb counts; left out: ps9 \(1\).ipynb"],
        ),
        (
            ["ps9 (1).ipynb", "ps99.ipynb", "ps8.ipynb"],
            "ps9 (1).ipynb",
            ["handed in as", "Of several notebooks"],
        ),
        (["PS9.ipynb", "ps9-draft.ipynb"], "PS9.ipynb", ["handed in as", "Of several notebooks"]),
        ([".ipynb_checkpoints/ps9.ipynb", "__MACOSX/ps9.ipynb", "a.ipynb"], "a.ipynb", ["as a.ip"]),
        (
            ["ps9 (1).ipynb", "ps9 (2).ipynb"],
            None,
            "which of these counts: ps9 (1).ipynb, ps9 (2)",
        ),
        (["a.ipynb", "b.ipynb"], None, "which of these counts: a.ipynb, b.ipynb"),
        (["ps9.py", "data.csv"], None, "no notebook was handed in, only data.csv, ps9.py"),
        (["timestamp.txt"], None, "nothing was handed in. Hand in one file, ps9.ipynb."),
    ],
)
def test_which_file_counts(files, counts, notes, tmp_path):
    notebook = {"cells": [{"cell_type": "code", "source": "1"}]}
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        is_notebook = ".ipynb" in name.lower()
        path.write_text(json.dumps(notebook) if is_notebook else "no, 1", encoding="utf-8")
    if counts is None:
        with pytest.raises(Ungradable, match=re.escape(notes)):
            handed_in(tmp_path, "ps9")
    else:
        path, said = handed_in(tmp_path, "ps9")
        assert path == tmp_path / counts
        assert len(said) == len(notes)
        for note, text in zip(notes, said, strict=True):
            assert re.search(note, text)


def other_set(notebook):
    for cell in notebook["cells"]:
        cell["id"] = cell["metadata"]["nbgrader"]["grade_id"] = cell["id"].replace("ps9", "ps8")
        cell["source"] = cell["source"][::-1]


def other_set_stripped(notebook):
    other_set(notebook)
    stripped(notebook)


def unclear(notebook):
    """Two functions renamed and moved to the end, beside a cell of the student's own."""
    changed("ps9-one", source="def eins():\n    return 1")(notebook)
    notebook["cells"].append(notebook["cells"].pop(position(notebook, "ps9-one")))
    own_cell("ps9-one", "print(eins())")(notebook)
    stripped(notebook)


#: What cannot be graded: the content of ps9.ipynb or a damage to it, and the reason.
REFUSED = {
    "empty": (b" \n", "ps9.ipynb is empty. Hand in the notebook again."),
    "cut off": (
        lambda notebook: json.dumps(notebook)[:2000],
        "only a part of one: it cannot",
    ),
    "a web page": (b"<!DOCTYPE html><html>", "is no notebook, or only a part of one"),
    "an archive": (b"PK\x03\x04\x81\xff\x00", "is no notebook, or only a part of one"),
    "too deep": (b"[" * 200_000, "is no notebook, or only a part of one"),
    "other JSON": (b'{"a": 1}', "holds JSON, but no notebook"),
    "a list": (b"[1, 2]", "holds JSON, but no notebook"),
    "a number": (b"7", "holds JSON, but no notebook"),
    "a cell that is none": (b'{"cells": ["1"]}', "holds JSON, but no notebook"),
    "a cell without text": (b'{"cells": [{"cell_type": "code"}]}', "holds JSON, but no notebook"),
    "no cells": (b'{"cells": []}', "has no cells, or empty ones only"),
    "all cells deleted": (without(*LOCKED, *ANSWERS), "has no cells, or empty ones only"),
    "another set": (other_set, "its cells are those of another set (ps8-intro, ps8-setup"),
    "another set, stripped": (
        other_set_stripped,
        "hardly a cell of the set was found in it: 0",
    ),
    "stripped and unclear": (
        unclear,
        "not clear which cell is the answer to ps9-one. It may be among those that begin with "
        "'def eins():', 'print(eins())'",
    ),
}


def refused(name, course):
    """The bytes of a file that is refused."""
    content = REFUSED[name][0]
    if callable(content):
        notebook = answered(course)
        content = content(notebook) or json.dumps(notebook)
    return content.encode() if isinstance(content, str) else content


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_mended_is_refused_with_the_reason(name, course, slots, tmp_path):
    path = tmp_path / "ps9.ipynb"
    path.write_bytes(refused(name, course))
    with pytest.raises(Ungradable, match=re.escape(REFUSED[name][1])):
        mended(read_cells(path), slots)


# Through nbgrader ------------------------------------------------------------------------------


def prints(notebook):
    """50 MB on one line, and much in lines, in a test, in a value, in an error, and beforehand."""
    cell(notebook, "ps9-one")["source"] = """print("x" * 50_000_000)
for _ in range(20_000):
    print("lines " * 20)
def one():
    print("test" * 2_000_000)
    return 1
display("first", display_id="later")
display({"text/html": "later" * 2_000_000}, raw=True, display_id="later", update=True)
"value" * 2_000_000"""
    cell(notebook, "ps9-more")["source"] = "def more(x):\n    raise ValueError('z' * 5_000_000)"
    cell(notebook, "ps9-intro")["outputs"] = [{"text": "w" * 5_000_000}]


#: Damages and the points of what is left.
GRADED = {
    "a sound one": ([], 3),
    "a test twice": ([copied("ps9-one-test")], 3),
    "an old scheme": ([changed("ps9-one-test", metadata={"nbgrader": {"schema_version": 1}})], 3),
    "another kernel, stripped": ([stripped], 3),
    "no answer": ([without("ps9-more")], 1),
    "no set-up": ([without("ps9-setup")], 3),
    "prints 50 MB": ([prints], 1),
    "test to be skipped": (
        [
            changed("ps9-one-test", metadata={"tags": ["skip-execution"]}),
            changed("ps9-one", source=TWO),
        ],
        2,
    ),
}
#: Of what is refused without a kernel, these go through nbgrader.
KINDS = ("empty", "cut off", "another set", "stripped and unclear")
#: What is beside the notebook, or in its place.
FOLDERS = {
    "Zoë Müller, B.A.": {"submission (1).ipynb": None},  # None: the sound notebook
    "a script": {"ps9.py": b"print(1)"},
    "no file": {},
    "no time": {"ps9.ipynb": None, "timestamp.txt": b"yesterday 99"},
}


@pytest.fixture(scope="module")
def graded(course):
    """The log of a batch, and the rows of the table of grades by student."""
    sound = json.dumps(answered(course)).encode()
    files = {name: {"ps9.ipynb": refused(name, course)} for name in KINDS} | FOLDERS
    for name, (damages, _) in GRADED.items():
        notebook = answered(course)
        for damage in damages:
            damage(notebook)
        files[name] = {"ps9.ipynb": json.dumps(notebook).encode()}
    for student, contents in files.items():
        folder = course / "submitted" / student / "ps9"
        folder.mkdir(parents=True)
        for file, content in contents.items():
            (folder / file).write_bytes(sound if content is None else content)
    (course / "submitted" / "astray").mkdir()
    (course / "submitted" / "astray" / "ps9.ipynb").write_bytes(sound)
    log = nbgrader(course, "autograde", "ps9")
    nbgrader(course, "generate_feedback", "ps9")
    return log, grades(course)


def grades(course):
    nbgrader(course, "export", "--to=grades.csv")
    with (course / "grades.csv").open(encoding="utf-8") as file:
        return {row["student_id"]: row for row in csv.DictReader(file)}


def feedback(course, student):
    path = course / "feedback" / student / "ps9" / "ps9.html"
    assert path.stat().st_size < 1_000_000
    return unescape(re.sub("<[^>]+>", "", path.read_text(encoding="utf-8")))


@pytest.mark.slow
def test_every_submission_ends_with_points_or_a_reason(course, graded):
    log, rows = graded
    points = {name: expected for name, (_, expected) in GRADED.items()} | {"Zoë Müller, B.A.": 3}
    reasons = {name: REFUSED[name][1] for name in KINDS} | {
        "a script": "no notebook was handed in, only ps9.py",
        "no file": "nothing was handed in",
        "no time": "Invalid timestamp",
    }
    assert rows.keys() == points.keys() | reasons.keys()
    for student, expected in points.items():
        assert (float(rows[student]["score"]), rows[student]["not_graded"]) == (expected, "")
        assert f"Score: {expected:.1f} / 6.0" in feedback(course, student)
    for student, reason in reasons.items():
        row = rows[student]
        assert (row["score"], row["raw_score"], row["max_score"]) == ("", "", "6.0")
        for told in (row["not_graded"], feedback(course, student)):
            assert re.search(f"Not graded: .*{re.escape(reason)}", told)
        assert "Score: not graded / 6.0" in feedback(course, student)
        assert "ten more than -1" not in feedback(course, student)  # no hidden test
        (line,) = [line for line in log.splitlines() if f"ps9 of {student}: Not graded" in line]
        assert "ERROR" in line
    assert f"ERROR] {len(reasons)} not graded: " in log
    assert re.search(r"ERROR\] .*/astray/ps9.ipynb is not graded: it must be in a folder", log)
    assert "WARNING] ps9 of no set-up: Locked cells were missing and are back: ps9-setup." in log
    assert "Locked cells were missing and are back: ps9-setup." in feedback(course, "no set-up")
    said = feedback(course, "prints 50 MB")
    assert "more characters are left out" in said
    assert "... more output is left out" in said
    assert "... this output is left out: it is too large" in said


@pytest.mark.slow
def test_what_was_not_graded_is_tried_again(course, graded):
    sound = json.dumps(answered(course)).encode()
    (course / "submitted" / "empty" / "ps9" / "ps9.ipynb").write_bytes(sound)
    shutil.rmtree(course / "submitted" / "no file")
    log = nbgrader(course, "autograde", "ps9")
    assert "ps9 of empty" not in log
    assert "Skipping existing assignment" in log
    assert "ps9 of cut off: Not graded" in log
    (course / "submitted" / "a sound one" / "ps9" / "ps9.ipynb").write_bytes(b"")
    again = converter(course, force=True)
    again.coursedir.student_id = "a sound one"
    again.start()
    with again.gradebook() as gradebook:
        gradebook.add_student("never graded")
        gradebook.add_student("nothing handed in")
        book = gradebook.find_submission_notebook("ps9", "ps9", "cut off")
        for grade in book.grades:  # marked by hand
            grade.manual_score = 1
        gradebook.db.commit()
    (course / "submitted" / "never graded" / "ps9").mkdir(parents=True)
    rows = grades(course)
    assert (rows["empty"]["score"], rows["empty"]["not_graded"]) == ("3.0", "")
    assert "is empty" in rows["a sound one"]["not_graded"]
    assert (rows["cut off"]["score"], rows["cut off"]["not_graded"]) == ("3.0", "")
    assert rows["never graded"]["score"] == ""
    assert rows["never graded"]["not_graded"] == "Not graded: run nbgrader autograde ps9."
    assert (rows["nothing handed in"]["score"], rows["nothing handed in"]["not_graded"]) == (
        "0.0",
        "",
    )


def test_the_teachers_page_has_the_limits(course):
    page = " ".join((ROOT / "notebooks" / "teaching.md").read_text(encoding="utf-8").split())
    names = settings(course)
    assert f"a cell may take {names['c'].Execute.timeout} s" in page
    assert f"{names['MOST_TEXT']:,} characters of a cell's output are kept" in page
    assert f"ERROR] ps1 of anna: {names['NOT_GRADED']}ps1.ipynb is empty. Hand in" in page
