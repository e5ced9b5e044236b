"""How nbgrader makes and grades the problem sets; `build.py` copies it into the course folder,
with `mending.py` beside it.

A submission that does not run to its end (an endless loop, a kernel that died) gets zero automatic
points, with the reason in the log and in the student's feedback, and the grading goes on.

A damaged submission is mended before it is graded: under whatever name and in whatever encoding it
was handed in, every cell of the set is found, put back or taken from the teacher's version, and the
student is told. What cannot be mended is not graded, and never counts as zero: the reason is in the
log, in the feedback, and in the exported table.
"""

import csv
import html
import json
import os
import re
import sys
from fnmatch import fnmatch
from glob import glob
from pathlib import Path

import nbformat
from ipykernel.kernelspec import make_ipkernel_cmd
from jinja2.filters import FILTERS
from nbconvert.exporters import NotebookExporter
from nbconvert.preprocessors import CSSHTMLHeaderPreprocessor
from nbformat.v4 import new_markdown_cell, new_notebook, new_output
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import api, autogradeapp
from nbgrader.converters import Autograde
from nbgrader.converters.base import NbGraderException
from nbgrader.coursedir import CourseDirectory
from nbgrader.plugins import CsvExportPlugin
from nbgrader.preprocessors import ClearHiddenTests, ClearMarkScheme, Execute, GetGrades
from nbgrader.utils import is_grade
from sqlalchemy.exc import OperationalError
from traitlets import Type

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from mending import Slot, Ungradable, handed_in, has_name, mended, read_cells

c = get_config()  # noqa: F821  (nbgrader defines it for its configuration files)

NOT_GRADED = "Not graded: "
#: Characters that a cell may print, and bytes that all of its output may take, figures included.
MOST_TEXT, MOST_OUTPUT = 100_000, 5_000_000


# ------------------------------------------------------------------ grading it


class Submission(NotebookExporter):
    """Reads the file of a submission, which nbgrader would take for a sound notebook."""

    def from_filename(self, filename, resources=None, **options):
        if not self.parent._sanitizing:  # the second step, whose file is ours
            return super().from_filename(filename, resources=resources, **options)
        return self.from_notebook_node(self.parent.read(filename, resources["nbgrader"]), resources)


class GradeEach(Autograde):
    """Grade each submission for itself: it ends with points, or with the reason why it has none."""

    exporter_class = Type(Submission, klass=NotebookExporter).tag(config=True)

    def gradebook(self):
        return Gradebook(self.coursedir.db_url, self.coursedir.course_id)

    def init_notebooks(self):
        """Every folder of the set counts, whatever is in it."""
        assignment = self.coursedir.assignment_id
        try:
            with self.gradebook() as gradebook:
                self.names = [book.name for book in gradebook.find_assignment(assignment).notebooks]
        except MissingEntry:
            why = f"No set is called {assignment}: run nbgrader generate_assignment first"
            self.log.error(why)
            raise NbGraderException(why) from None
        for path in glob(self._format_source("*", self.coursedir.student_id)):
            if os.path.isfile(path) and has_name(path, assignment):
                self.log.error("%s is not graded: it must be in a folder %s", path, assignment)
        wanted = [name for name in self.names if fnmatch(name, self.coursedir.notebook_id)]
        self.assignments = {}
        for folder in filter(
            os.path.isdir, glob(self._format_source(assignment, self.coursedir.student_id))
        ):
            try:
                folder.encode()
            except UnicodeEncodeError:
                self.log.error("%a is not graded: its name is not in UTF-8; rename it", folder)
            else:
                self.assignments[folder] = [
                    os.path.join(folder, f"{name}.ipynb") for name in wanted
                ]
        if not self.assignments or not wanted:
            super().init_notebooks()  # says what it looked for

    def init_destination(self, assignment_id, student_id):
        if super().init_destination(assignment_id, student_id):
            return True
        if student_id in self.coursedir.student_id_exclude.split(","):
            return False
        with self.gradebook() as gradebook:  # what was not graded is tried again
            return not_graded(gradebook, assignment_id, student_id) is not None

    def convert_notebooks(self):
        refused = []
        for folder in sorted(self.assignments):
            self.notebooks = self.assignments[folder]
            ids = re.match(
                self._format_source("(?P<assignment_id>.*)", "(?P<student_id>.*)", escape=True),
                folder,
            ).groupdict()
            notebooks, problem = list(self.notebooks), None
            try:
                if not self.init_destination(**ids):
                    continue
                self.run_pre_convert_hook()
                self.init_assignment(**ids)
            except OperationalError:
                raise
            except Exception as error:
                problem = error
            for notebook in notebooks:
                try:
                    if problem is not None:
                        raise problem
                    # The last result is read-only.
                    (Path(self._format_dest(**ids)) / Path(notebook).name).unlink(missing_ok=True)
                    self.convert_single_notebook(notebook)
                except OperationalError:
                    raise
                except Exception as error:
                    refused.append(ids["student_id"])
                    self.refuse(notebook, ids, error)
            self.set_permissions(**ids)
            self.run_post_convert_hook()
        if refused:
            self.log.error("%d not graded: %s", len(refused), ", ".join(refused))

    def slots(self, gradebook, name):
        """The cells of a set, in its order."""
        book = gradebook.find_notebook(name, self.coursedir.assignment_id)
        graded = {cell.name: cell.max_score for cell in (*book.grade_cells, *book.task_cells)}
        tests = {cell.name for cell in book.grade_cells}
        answers = {cell.name for cell in book.solution_cells}
        tasks = {cell.name for cell in book.task_cells}
        slots = []
        for cell in book.source_cells:
            slot = Slot(
                name=cell.name,
                cell_type=cell.cell_type,
                source=cell.source,
                shown=cell.source,
                locked=cell.locked,
                grade=cell.name in tests,
                solution=cell.name in answers,
                task=cell.name in tasks,
                points=graded.get(cell.name),
                checksum=cell.checksum,
            )
            shown = slot.filled(slot.source)
            for step in (ClearHiddenTests, ClearMarkScheme):
                shown, _ = step(parent=self).preprocess_cell(shown, {}, 0)
            slots.append(slot._replace(shown=shown.source))
        return slots

    def read(self, filename, names):
        """The notebook of a submission as it should have been handed in."""
        folder, name = os.path.dirname(filename), names["notebook"]
        with self.gradebook() as gradebook:
            book = gradebook.find_submission_notebook(name, names["assignment"], names["student"])
            for comment in book.comments:  # of an earlier grading
                comment.auto_comment = None
            gradebook.db.commit()
            slots = self.slots(gradebook, name)
        path, notes = handed_in(folder, name, set(self.names) - {name})
        cells, more = mended(read_cells(path), slots)
        notes += more
        for note in notes:
            self.log.warning("%s of %s: %s", names["assignment"], names["student"], note)
        if notes:
            lines = [f"- {html.escape(' '.join(note.split()))}" for note in notes]
            cells.insert(
                0, new_markdown_cell("\n".join(["**The notebook as handed in**\n", *lines]))
            )
        return new_notebook(cells=cells)  # no metadata: it runs in the teacher's Python

    def refuse(self, notebook, ids, error):
        """Take all points back, and leave the reason for the teacher and for the student."""
        reason = str(error)
        if not isinstance(error, Ungradable):
            self.log.error("While grading %s", notebook, exc_info=error)
            reason = f"nbgrader failed with {type(error).__name__}: {error}"
        reason = NOT_GRADED + " ".join(reason[:1000].split())
        name = os.path.splitext(os.path.basename(notebook))[0]
        assignment, student = ids["assignment_id"], ids["student_id"]
        self.log.error("%s of %s: %s", assignment, student, reason)
        with self.gradebook() as gradebook:
            try:
                gradebook.find_student(student)
            except MissingEntry:
                if not self.create_student:
                    return
                gradebook.add_student(student)
            gradebook.update_or_create_submission(assignment, student)
            book = gradebook.find_submission_notebook(name, assignment, student)
            for grade in book.grades:
                grade.auto_score, grade.needs_manual_grade = None, True
            for comment in book.comments:
                comment.auto_comment = reason
            gradebook.db.commit()
            slots = self.slots(gradebook, name)
        try:
            path, _ = handed_in(os.path.dirname(notebook), name, set(self.names) - {name})
            own = [cell._replace(id="").plain() for cell in read_cells(path)]
        except Exception:
            own = []
        marked = [slot.filled(slot.shown) for slot in slots if slot.grade or slot.task]
        cells = [new_markdown_cell(html.escape(reason)), *own]
        cells += [new_markdown_cell("**For marking by hand**"), *marked]
        path = Path(self._format_dest(**ids)) / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        nbformat.write(new_notebook(cells=cells), path)


def fail(self, why):
    raise Ungradable(why)


CourseDirectory.fail = fail  # nbgrader calls it for a damaged timestamp, and does not have it
# nbgrader has no setting for it: the command `nbgrader autograde`, and the button in Formgrader.
autogradeapp.Autograde = api.Autograde = GradeEach


class ExecuteToTheEnd(Execute):
    """Run a submission; where it does not come to its end, let every test fail with the reason."""

    def create_kernel_manager(self):
        manager = super().create_kernel_manager()
        if manager.kernel_spec.language == "python":  # this very Python, whatever is installed
            manager.kernel_spec.argv = make_ipkernel_cmd()
        return manager

    def preprocess_cell(self, cell, resources, index):
        self.reached, self.text, self.room = cell, MOST_TEXT, MOST_OUTPUT
        return super().preprocess_cell(cell, resources, index)

    def output(self, outs, msg, display_id, cell_index):
        """Keep what a page can show; all that an endless loop writes would not fit in the memory."""
        content, room = msg["content"], self.room
        if msg["msg_type"] == "stream":
            if self.text <= 0:
                return None
            self.text -= len(content["text"])
            content["text"] = shortened(content["text"], self.text + len(content["text"]))
        elif msg["msg_type"] != "error":
            self.room -= len(json.dumps(content, default=str))
            if room < 0:
                return None
            if self.room < 0:
                content |= {"data": {"text/plain": "... more output is left out"}}
        return super().output(outs, msg, display_id, cell_index)

    def preprocess(self, nb, resources, **options):
        self.reached = None
        try:
            nb, resources = super().preprocess(nb, resources, **options)
        except (RuntimeError, TimeoutError) as error:  # the kernel died, or a cell took too long
            if self.reached is None:  # no kernel to begin with is no fault of the submission
                raise
            told = "the kernel stopped"
            if isinstance(error, TimeoutError):
                told = f"a cell ran for more than {self.timeout} s (an endless loop?)"
            where = self.reached.metadata.get("nbgrader", {}).get("grade_id")
            reason = (
                f"This notebook does not run to its end: {told}, in cell "
                f"{where or self.reached.source.partition(chr(10))[0]}. All automatic points are "
                "zero. Restart the kernel and run all cells to see where it stops."
            )
            names = resources["nbgrader"]
            self.log.error("%s of %s: %s", names["assignment"], names["student"], reason)
            for cell in nb.cells:
                if is_grade(cell) and cell.cell_type == "code":
                    cell.outputs = [
                        new_output("error", ename="NotRun", evalue=reason, traceback=[reason])
                    ]
        nb.metadata.pop("widgets", None)
        for cell in nb.cells:
            for output in cell.get("outputs", []):
                shorten(output)
                # nbgrader takes any output on stderr for a failed test, but a warning is none: the
                # student saw the test pass.
                if is_grade(cell) and output.get("name") == "stderr":
                    output.name = "stdout"
        return nb, resources


def shortened(text, most=MOST_TEXT):
    if len(text) <= most:
        return text
    return f"{text[:most]}\n... {len(text) - most:,} more characters are left out\n"


def shorten(output):
    """Messages, values and pictures that were written over others, at a length for a page."""
    if output.output_type == "error":
        output.ename = shortened(output.ename, 100)
        output.evalue = shortened(output.evalue, 10_000)
        output.traceback = [shortened(line, 10_000) for line in output.traceback]
    for kind, value in output.get("data", {}).items():
        if kind == "text/plain":
            output.data[kind] = shortened(value)
        elif len(json.dumps(value)) > MOST_OUTPUT:
            output.data = {"text/plain": "... this output is left out: it is too large"}
            break


c.Autograde.autograde_preprocessors = [
    ExecuteToTheEnd if step is Execute else step
    for step in Autograde.autograde_preprocessors.default()
]
c.Execute.timeout = 60  # seconds that one cell may take
c.Execute.iopub_timeout = 60  # and what it printed, to arrive
c.Execute.interrupt_on_timeout = False  # an interrupted loop would start again in the next test
c.Execute.shutdown_kernel = "immediate"
# The kernel's one warning, that it talks unencrypted to this very process, is none.
c.Execute.extra_arguments = ["--IPKernelApp.log_level=ERROR"]
# Small networks: threads would mostly wait for one another where several notebooks run at once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# nbgrader calls `alembic` by its name to make gradebook.db: find it in an environment that is not
# activated, too.
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ.get("PATH", "")

c.ClearSolutions.code_stub = {
    "python": "# YOUR CODE HERE\n"
    'raise NotImplementedError("This task is not done yet: put your code in place of this line.")'
}


# ------------------------------------------------------------------ telling what was not graded


def not_graded(gradebook, assignment, student):
    """Why a submission has no points, or None where it has; hand-marked points count, too."""
    try:
        submission = gradebook.find_submission(assignment, student)
    except MissingEntry:
        return None
    for book in submission.notebooks:
        open_ = [g for g in book.grades if g.auto_score is None and g.manual_score is None]
        for comment in book.comments:
            if open_ and (comment.auto_comment or "").startswith(NOT_GRADED):
                return comment.auto_comment
        by_hand = {comment.name for comment in book.comments}
        if any(grade.name not in by_hand for grade in open_):
            return f"{NOT_GRADED}the grading did not come to its end. Run nbgrader autograde again."
    return None


class GradesOrReasons(CsvExportPlugin):
    """nbgrader's table, with an empty score and the reason where a submission was not graded."""

    columns = (
        *("assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email"),
        *("raw_score", "late_submission_penalty", "score", "max_score", "not_graded"),
    )

    def export(self, gradebook):
        with open(self.to or "grades.csv", "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, self.columns, extrasaction="ignore")
            table.writeheader()
            for assignment in gradebook.assignments:
                for student in gradebook.students:
                    if (not self.assignment or assignment.name in map(str, self.assignment)) and (
                        not self.student or student.id in map(str, self.student)
                    ):
                        table.writerow(self.row(gradebook, assignment, student))

    def row(self, gradebook, assignment, student):
        row = {"assignment": assignment.name, "duedate": assignment.duedate, "timestamp": ""}
        row |= {"student_id": student.id, "max_score": assignment.max_score}
        row |= {key: getattr(student, key) for key in ("last_name", "first_name", "email")}
        reason = not_graded(gradebook, assignment.name, student.id)
        points, penalty = 0.0, 0.0
        try:
            submission = gradebook.find_submission(assignment.name, student.id)
        except MissingEntry:  # nothing was handed in, or the grading never came to it
            folders = self.parent.coursedir
            if os.path.isdir(
                folders.format_path(folders.submitted_directory, student.id, assignment.name)
            ):
                reason = f"{NOT_GRADED}run nbgrader autograde {assignment.name}."
        else:
            row["timestamp"] = submission.timestamp
            points, penalty = submission.score, submission.late_submission_penalty or 0.0
        row["late_submission_penalty"] = penalty
        if reason:
            return row | {"not_graded": reason}
        return row | {"raw_score": points, "score": max(0.0, points - penalty)}


class GradesOrReason(GetGrades):
    """The feedback says `not graded` where it would say 0."""

    def preprocess(self, nb, resources):
        nb, resources = super().preprocess(nb, resources)
        names = resources["nbgrader"]
        with Gradebook(names["db_url"]) as gradebook:
            if not_graded(gradebook, names["assignment"], names["student"]):
                names["score"] = "not graded"
        return nb, resources

    def _get_score(self, cell, resources):
        super()._get_score(cell, resources)
        grade = self.gradebook.find_grade(
            cell.metadata.nbgrader["grade_id"],
            self.notebook_id,
            self.assignment_id,
            self.student_id,
        )
        if grade.auto_score is None and grade.manual_score is None:
            cell.metadata.nbgrader["score"] = "not graded"


def number_or_words(name):
    """A filter of the page's template that leaves words as they are."""
    return lambda value, *options: (
        value if value == "not graded" else FILTERS[name](value, *options)
    )


c.ExportApp.plugin_class = GradesOrReasons
c.GenerateFeedback.preprocessors = [GradesOrReason, CSSHTMLHeaderPreprocessor]
c.HTMLExporter.filters = {name: number_or_words(name) for name in ("float", "round")}

# For handing out and collecting through a folder that all students reach; see the teachers' page.
c.CourseDirectory.course_id = "topology"
