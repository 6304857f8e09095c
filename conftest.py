"""How the lessons are compared: to the letter on real data, in their form on the
stand-in.

The tests and the lessons' kernels use the module of this folder, whatever else is
installed. Which data there are is found out once, here, so that a missing file is
downloaded once and a machine without a network does not ask every mirror again in
every lesson.
"""

import gc
import os
import re
import sys
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parent)
STANDIN_HELP = (
    'A cell whose output depends on the data carries the tag "data"; '
    "its check.between(...) may need a range for the stand-in: standin=(low, high)."
)

# First on the path, here and in every process started from here: kernels start in
# lessons/, and an environment may hold an editable install of another copy of the course.
sys.path.insert(0, ROOT)
path = os.environ.get("PYTHONPATH")
os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{path}" if path else ROOT

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: one thread for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it when it is imported

# Importing and collecting make no garbage. Looking for it takes 4 of their 10 seconds.
gc.disable()

from lessons_src import data  # noqa: E402


def mask_data(text):
    """The text in its form: figures lose their content, and numbers their digits."""
    if not isinstance(text, str):
        return text
    text = re.sub(r'(?s)(<svg[^>]*aria-label="[^"]*")[^>]*>.*?</svg>', r"\1></svg>", text)
    text = re.sub(r"[-+−]?\d[\d.,]*(e[-+]?\d+)?", "#", text)
    return re.sub(r"(# ?%|# s\b|[ \t]+)", lambda m: " " if m[0].isspace() else m[0], text)


def on_standin():
    """Whether the lessons run on the stand-in."""
    return os.environ.get("LESSONS_DATA") == "standin"


def pytest_configure(config):
    """Look for the data once, in the process that starts the workers."""
    is_worker = "PYTEST_XDIST_WORKER" in os.environ
    if config.option.nbval and not is_worker and data.load("mnist").standin:
        os.environ["LESSONS_DATA"] = "standin"


def pytest_report_header(config):
    """The folder of the module that is tested, and the data that the lessons run on."""
    lines = [f"lessons_src: {Path(data.__file__).parent}"]
    if config.option.nbval:
        name = "THE STAND-IN (no real data)" if on_standin() else "the real data"
        lines.append(f"lessons run on: {name}")
    return lines


def pytest_collection_finish():
    """Collect garbage from here on, but do not look for it among what was imported."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    """On the stand-in, cells tagged "data" are compared in their form."""
    if not on_standin():
        return
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is not None and "data" in cell.metadata.get("tags", []):
            item.sanitize = lambda text, plain=item.sanitize: mask_data(plain(text))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A cell that differs on the stand-in: say what an author does about it."""
    report = yield
    if report.failed and hasattr(item, "cell") and on_standin():
        report.sections.append(("on the stand-in", STANDIN_HELP))
    return report
