"""Read what a student handed in as a notebook, and mend it before nbgrader grades it.

Files are renamed, cut off and saved in other encodings on their way; students delete, copy, merge
and move cells; Colab and other programs take nbgrader's metadata out. `handed_in` finds the file,
`read_cells` reads it, and `mended` matches its cells with those of the set: by nbgrader's name for
them, by their text, by the functions that they define, and at last by their place. What cannot be
told for certain is `Ungradable`, with the reason.
"""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import NamedTuple

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell
from rapidfuzz import fuzz


class Ungradable(Exception):
    """Why a submission cannot be graded, and what to do."""


class Cell(NamedTuple):
    """A cell as it was handed in."""

    kind: str
    source: str
    grade_id: str = ""  # what nbgrader calls it
    id: str = ""
    attachments: dict | None = None

    def plain(self):
        """The cell without anything that other programs write into it."""
        made = {"code": new_code_cell, "markdown": new_markdown_cell}.get(self.kind, new_raw_cell)(
            self.source
        )
        if self.attachments and self.kind != "code":
            made["attachments"] = self.attachments
        if re.fullmatch(r"[\w-]{1,64}", self.id, re.ASCII):
            made["id"] = self.id
        return made


def listed(names, most=5):
    names = list(names)
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + rest


def read_cells(path):
    """The cells of a notebook file in any encoding and format; outputs and metadata are left out."""
    data = path.read_bytes()
    if not data.strip():
        raise Ungradable(f"{path.name} is empty. Hand in the notebook again.")
    try:
        try:
            content = json.loads(data)  # finds out which UTF it is, with a byte order mark or not
        except UnicodeDecodeError:
            content = json.loads(data.decode("cp1252", "replace"))
    except (ValueError, RecursionError) as error:
        raise Ungradable(
            f"{path.name} is no notebook, or only a part of one: it cannot be read as JSON "
            f"({error}). Hand in the notebook again, as Jupyter saved it."
        ) from None
    try:
        if "worksheets" in content:  # as it was before 2014
            content = nbformat.convert(nbformat.reader.reads(json.dumps(content)), 4)
        cells = [_cell(cell) for cell in content["cells"]]
    except Exception:  # whatever nbformat makes of it
        raise Ungradable(
            f"{path.name} holds JSON, but no notebook that could be read. Hand in the notebook again, "
            "as Jupyter saved it."
        ) from None
    if not any(cell.source.strip() for cell in cells):
        raise Ungradable(f"{path.name} has no cells, or empty ones only.")
    return cells


def _cell(cell):
    source = "".join(cell["source"])  # a text, or its lines
    # Half of a character that takes two in UTF-16 cannot be sent to a kernel.
    source = source.encode("utf-16", "surrogatepass").decode("utf-16", "replace")

    def part(whole, key, kind):
        return value if isinstance(value := whole.get(key), kind) else kind()

    return Cell(
        kind=part(cell, "cell_type", str),
        source=source.replace("\r\n", "\n").replace("\r", "\n"),
        grade_id=part(part(part(cell, "metadata", dict), "nbgrader", dict), "grade_id", str),
        id=part(cell, "id", str),
        attachments=part(cell, "attachments", dict),
    )


def has_name(path, name):
    """Whether the name of a set is in a file's: ps1 is in `anna_PS1 (2).ipynb`, not in `ps10`."""
    return re.search(rf"(?<![a-z0-9]){re.escape(name)}(?![a-z0-9])", Path(path).name, re.IGNORECASE)


def handed_in(folder, name, others=()):
    """The file that counts as a notebook, and what is to be said about that.

    The exact name counts. Without it, the only notebook does, wherever it is in the folder and
    whatever it is called; of several the only one with the name of the set in its own.
    """
    folder = Path(folder)
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name != "timestamp.txt"
        and not any(part.startswith((".", "__")) for part in path.relative_to(folder).parts)
        and path not in [folder / f"{other}.ipynb" for other in others]
    ]
    notebooks = [path for path in files if path.suffix.lower() == ".ipynb"]
    notebooks = notebooks or [path for path in files if _is_notebook(path)]
    for choice in (
        [path for path in notebooks if path == folder / f"{name}.ipynb"],
        notebooks,
        [path for path in notebooks if path.stem.lower() == name.lower()],
        [path for path in notebooks if has_name(path, name)],
    ):
        if len(choice) == 1:
            (path,) = choice
            break
    else:
        there = listed(path.relative_to(folder) for path in notebooks or files)
        why = f"no file is called {name}.ipynb, and it is not clear which of these counts: {there}"
        if not notebooks:
            why = f"no notebook was handed in, only {there}" if files else "nothing was handed in"
        raise Ungradable(f"{why}. Hand in one file, {name}.ipynb.")
    notes = []
    if path != folder / f"{name}.ipynb":
        notes.append(f"It was handed in as {path.relative_to(folder)}, not as {name}.ipynb.")
    if left := [other.relative_to(folder) for other in notebooks if other != path]:
        notes.append(f"Of several notebooks {path.name} counts; left out: {listed(left)}.")
    return path, notes


def _is_notebook(path):
    """Whether a file of another name is one all the same: `ps1.ipynb.txt`, `ps1.json`."""
    try:
        return path.stat().st_size < 100_000_000 and bool(read_cells(path))
    except (Ungradable, OSError):
        return False


class Slot(NamedTuple):
    """A cell of the set, as the gradebook knows it."""

    name: str
    cell_type: str
    source: str  # the teacher's
    shown: str  # the students', without hidden tests
    locked: bool
    grade: bool
    solution: bool
    task: bool
    points: float | None
    checksum: str | None

    def filled(self, source, attachments=None):
        """A cell of a notebook in this place."""
        cell = Cell(self.cell_type, source, id=self.name, attachments=attachments).plain()
        cell.metadata["nbgrader"] = {
            key: getattr(self, key) for key in ("locked", "grade", "solution", "task", "cell_type")
        } | {"grade_id": self.name, "schema_version": 3}
        if self.checksum:
            cell.metadata["nbgrader"]["checksum"] = self.checksum
        if self.points is not None:
            cell.metadata["nbgrader"]["points"] = self.points
        return cell


def squeezed(text):
    """A text without blanks, which editors and formatters change."""
    return "".join(text.split())


def functions(text):
    """Functions and classes that a cell defines, whether or not it is free of errors."""
    return set(re.findall(r"^(?:async +)?(?:def|class) +(\w+)", text, re.MULTILINE))


def defined(text):
    """Names that a cell gives to functions, classes and values."""
    return functions(text) | set(re.findall(r"^(\w+) *=(?!=)", text, re.MULTILINE))


def wanted(slots):
    """The functions that students have to write."""
    return set().union(*(functions(slot.shown) for slot in slots if slot.solution))


def parted(cells, slots):
    """Cells that a student merged with a locked one, taken apart again."""
    whole = {squeezed(text) for slot in slots for text in (slot.shown, slot.source)}
    locked = [slot for slot in slots if slot.locked]
    sound = {squeezed(cell.source) for cell in cells}
    patterns = [
        re.compile("^" + r"[ \t]*\n".join(map(re.escape, lines)) + r"[ \t]*$", re.MULTILINE)
        for text in sorted((slot.shown.strip() for slot in locked), key=len, reverse=True)
        if len(squeezed(text)) >= 10 and squeezed(text) not in sound
        for lines in [[line.rstrip() for line in text.split("\n")]]
    ]
    for cell in cells:
        pieces = [cell.source]  # at odd places what is locked
        for pattern in patterns if squeezed(cell.source) not in whole else ():
            for i in range(0, len(pieces), 2):
                if where := pattern.search(pieces[i]):
                    text = pieces[i]
                    pieces[i : i + 1] = [text[: where.start()], where[0], text[where.end() :]]
                    break
        own = cell.grade_id if cell.grade_id not in [slot.name for slot in locked] else ""
        for i, piece in enumerate(pieces):
            if len(pieces) == 1:
                yield cell
            elif piece.strip():
                kind = "code" if wanted(slots) & functions(piece) else cell.kind
                yield Cell(kind, piece.strip("\n"), "" if i % 2 else own)
                own = own if i % 2 else ""  # the first piece that is the student's keeps the name


def match(cells, slots):
    """Where the cells of a set are in a submission: by name, a list of positions."""
    found = {slot.name: [] for slot in slots}
    free = dict(enumerate(cells))

    def take(i, name):
        found[name].append(i)
        del free[i]

    locked = {slot.name: slot.source for slot in slots if slot.locked}

    def is_called(cell, name):  # what writes an answer in the place of a locked cell is none
        answer = wanted(slots) & functions(cell.source) - functions(locked.get(name, ""))
        return name in found and not (name in locked and answer)

    for i, cell in enumerate(cells):
        if is_called(cell, cell.grade_id):
            take(i, cell.grade_id)
    told = len(cells) - len(free)
    for i, cell in list(free.items()):
        if is_called(cell, cell.id) and not found[cell.id]:
            take(i, cell.id)
    texts = Counter(squeezed(slot.shown) for slot in slots)
    by_text = {
        squeezed(slot.shown): slot.name
        for slot in slots
        if texts[squeezed(slot.shown)] == 1
        and (slot.locked or functions(slot.shown))  # YOUR ANSWER HERE says nothing
    }
    for i, cell in list(free.items()):
        if squeezed(cell.source) in by_text:
            take(i, by_text[squeezed(cell.source)])
    for slot in slots:  # a locked cell that was changed is still known by most of its text
        if slot.locked and not found[slot.name] and free:
            text = squeezed(slot.shown)
            likeness, i = max(
                (fuzz.ratio(squeezed(cell.source), text, score_cutoff=85), i)
                for i, cell in free.items()
            )
            if likeness:  # 0 below the cutoff
                take(i, slot.name)
    answers = [slot for slot in slots if slot.solution]
    for slot in answers:
        if not found[slot.name]:
            names = functions(slot.shown)
            there = [i for i, cell in free.items() if names & defined(cell.source)]
            for i in [i for i in there if cells[i].kind == "code"] or there:
                take(i, slot.name)
    everything = defined("\n".join(cell.source for cell in cells))
    lost = [
        slot
        for slot in answers
        if not found[slot.name]
        and not (functions(slot.shown) and functions(slot.shown) <= everything)
    ]

    foreign = [cell.grade_id for cell in cells if cell.grade_id and cell.grade_id not in found]
    known = sum(bool(found[name]) for name in locked)
    if len(foreign) > sum(map(bool, found.values())):
        raise Ungradable(f"its cells are those of another set ({listed(foreign, 3)}).")
    if len(lost) == len(answers) and known <= len(locked) / 2:
        raise Ungradable(
            f"hardly a cell of the set was found in it: {known} of {len(locked)} texts and tests, "
            "and no answer. Is it the notebook of another set?"
        )

    # An answer of which nothing is known but its place is what stands in its place.
    first = {name: where[0] for name, where in found.items() if where}
    places = defaultdict(list)
    for slot in lost:
        k = slots.index(slot)
        before = [first[above.name] for above in slots[:k] if above.name in first]
        after = [first[below.name] for below in slots[k:] if below.name in first]
        place = (before or [-1])[-1], (after or [len(cells)])[0], slot.cell_type == "code"
        places[place].append(slot)
    for (before, after, code), missing in places.items():
        there = [
            i
            for i, cell in free.items()
            if before < i < after and (cell.kind == "code") == code and cell.source.strip()
        ]
        if len(missing) in (1, len(there)):
            for i, slot in zip(there, missing, strict=False):
                take(i, slot.name)
    lost = [slot.name for slot in lost if not found[slot.name]]
    by_content = told * 2 < len(cells) - len(free)
    code = {slot.name for slot in answers if slot.cell_type == "code"}
    rest = [c.source.strip() for c in free.values() if c.kind == "code" and c.source.strip()]
    if by_content and code & set(lost) and rest:
        raise Ungradable(
            "nbgrader's metadata are missing, and it is not clear which cell is the answer to "
            f"{listed(name for name in lost if name in code)}. It may be among those that begin "
            f"with {listed((repr(text.partition(chr(10))[0]) for text in rest), 3)}."
        )
    return found, lost, by_content


def mended(cells, slots):
    """Every cell of the set once, in the set's order, with the answers and the student's own cells.

    Locked cells are the teacher's. Of an answer that occurs twice the first one that was changed
    keeps the name; the others stay where they are and run, as they did for the student. A student's
    own cell stays behind the cell that it followed.
    """
    cells = list(parted(cells, slots))
    found, lost, by_content = match(cells, slots)
    counts, left_out, changed = {}, set(), set()
    for slot in slots:
        where = found[slot.name]
        own = [
            i
            for i in where
            if squeezed(cells[i].source) not in (squeezed(slot.shown), squeezed(slot.source))
        ]
        untouched = [i for i in where if i not in own]
        left_out.update(untouched)
        if where:
            i = ((untouched or own) if slot.locked else (own or untouched))[0]
            counts[i] = slot
            left_out.discard(i)
            if slot.locked and i in own:
                changed.add(slot.name)
    behind, last, ids = defaultdict(list), None, set(found)
    for i, cell in enumerate(cells):
        if i in counts:
            last = counts[i].name
        elif i not in left_out:
            behind[last].append(cell._replace(id="" if cell.id in ids else cell.id).plain())
            ids.add(cell.id)

    position = {slot.name: i for i, slot in counts.items()}
    made, waiting = [], behind[None]
    for slot in slots:
        there = slot.name in position
        if there or slot.grade:  # a test that is put back tests what was written in its place
            made, waiting = made + waiting, []
        if slot.locked:
            made.append(slot.filled(slot.source))
        elif there:
            answer = cells[position[slot.name]]
            made.append(slot.filled(answer.source, answer.attachments))
        elif slot.grade:  # not the words that were handed out, so that a person looks at it
            mark = "# " if slot.cell_type == "code" else ""
            made.append(slot.filled(f"{mark}This cell was missing and is put back, empty."))
        if slot.solution:  # what follows an answer belongs to it
            made += behind[slot.name]
        else:
            waiting = waiting + behind[slot.name]
    made += waiting

    order = [position[slot.name] for slot in slots if slot.name in position]
    back = [slot.name for slot in slots if slot.locked and slot.name not in position]
    notes = {
        "The cells have lost nbgrader's metadata (some programs take them out); they were matched "
        "by their content.": by_content,
        "Locked cells were missing and are back: ": back,
        "Locked cells were changed and are as they were handed out: ": sorted(changed),
        "Cells occur more than once; copies that were changed run where they stand, the others are "
        "left out: ": [name for name, where in found.items() if len(where) > 1],
        "No cell with an answer was found for: ": lost,
        "The cells stood in another order; they are graded in the order of the set.": (
            order != sorted(order)
        ),
    }
    return made, [
        text + (f"{listed(what)}." if isinstance(what, list) else "")
        for text, what in notes.items()
        if what
    ]
