"""How nbgrader makes and grades the problem sets; `build.py` copies it into the course folder.

A submission that does not run to its end (an endless loop, a kernel that died) gets zero automatic
points, with the reason in the log and in the student's feedback, and the grading goes on.
"""

import os
import sys

from nbformat.v4 import new_output
from nbgrader.converters import Autograde
from nbgrader.preprocessors import Execute
from nbgrader.utils import is_grade

c = get_config()  # noqa: F821  (nbgrader defines it for its configuration files)


class ExecuteToTheEnd(Execute):
    """Run a submission; where it does not come to its end, let every test fail with the reason."""

    def preprocess_cell(self, cell, resources, index):
        self.reached = cell
        return super().preprocess_cell(cell, resources, index)

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
        # nbgrader takes any output on stderr for a failed test, but a warning is none: the student
        # saw the test pass.
        for cell in nb.cells:
            for output in cell.get("outputs", []):
                if is_grade(cell) and output.get("name") == "stderr":
                    output.name = "stdout"
        return nb, resources


c.Autograde.autograde_preprocessors = [
    ExecuteToTheEnd if step is Execute else step
    for step in Autograde.autograde_preprocessors.default()
]
c.Execute.timeout = 60  # seconds that one cell may take
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

# For handing out and collecting through a folder that all students reach; see the teachers' page.
c.CourseDirectory.course_id = "topology"
