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
import tempfile
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parent)
STANDIN_HELP = (
    'A cell whose output depends on the data carries the tag "data"; what it promises '
    'may differ there: "promise_on_standin" in its metadata.'
)
DRAW_NO_PNG = "get_ipython().display_formatter.formatters['image/png'].enabled = False"
LARGEST = 2 * 2**30  # bytes that a lesson's kernel may take: what the free machines have
TOO_LARGE = (
    "This cell brings the lesson's memory to {peak:.1f} GiB; a reader's machine may have "
    "{largest:.0f} GiB to spare. Work on a part of the examples at a time, keep images as "
    "uint8, evaluate under torch.no_grad(), and `del` what is no longer needed."
)

# First on the path, here and in every process started from here: kernels start in
# lessons/, and an environment may hold an editable install of another copy of the course.
sys.path.insert(0, ROOT)
path = os.environ.get("PYTHONPATH")
os.environ["PYTHONPATH"] = f"{ROOT}{os.pathsep}{path}" if path else ROOT

# Keras, which the appendix compares with: on PyTorch and its CPU, and no file of settings.
os.environ["KERAS_BACKEND"] = "torch"
os.environ["KERAS_TORCH_DEVICE"] = "cpu"
os.environ["KERAS_HOME"] = os.devnull

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: one thread for each
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch reads it when it is imported

# Where the home cannot be written, matplotlib would say so in a lesson's first cell.
if not os.access(os.path.expanduser("~"), os.W_OK):
    os.environ.setdefault("MPLCONFIGDIR", tempfile.mkdtemp(prefix="lessons-"))

# Importing and collecting make no garbage. Looking for it takes 4 of their 10 seconds.
# Here and not elsewhere: only pytest imports and collects so much, and it reads this file
# before all others. `pytest_collection_finish` below puts it back.
gc.disable()

from lessons_src import data  # noqa: E402
from tools import promises  # noqa: E402


def on_standin():
    """Whether the lessons run on the stand-in."""
    return os.environ.get("LESSONS_DATA") == "standin"


def pytest_addoption(parser):
    parser.addoption(
        "--twice",
        action="store_true",
        help="run every cell of a lesson twice, and compare what the second run gives",
    )


def pytest_configure(config):
    """Name the masks, from whatever folder this was started; look for the data once, in
    the process that starts the workers."""
    if config.option.nbval_sanitize_with is None:
        config.option.nbval_sanitize_with = os.path.join(ROOT, "tests", "sanitise.cfg")
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


def pytest_collection_finish(session):
    """Collect garbage from here on, but do not look for it among what was imported: the
    other half of `gc.disable()` above. A worker, which runs many lessons, forks their
    kernels."""
    gc.freeze()
    gc.enable()
    if session.config.option.nbval and hasattr(session.config, "workerinput"):
        import kernels  # a checkout's copy without tests needs none

        session.config.add_cleanup(kernels.start_by_forking().close)


def pytest_collection_modifyitems(items):
    """Cells that promise something are compared in their form, unless they are tagged
    "recorded": what they print stands in a record. On the stand-in, so are cells tagged
    "data"."""
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is None:
            continue
        tags = cell.metadata.get("tags", [])
        is_measured = "promise" in cell.metadata and "recorded" not in tags
        if is_measured or (on_standin() and "data" in tags):
            item.sanitize = lambda text, plain=item.sanitize: promises.in_form(
                plain(text)
            )


def peak_memory(process: int) -> int:
    """The most bytes that a process ever had in memory; 0 where no /proc tells it."""
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    except (OSError, TypeError):  # no /proc, or a process that has ended
        return 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A cell's promise is tried in the lesson's kernel as soon as the cell has run, and
    the kernel's memory is looked at."""
    cell = getattr(item, "cell", None)
    if cell is not None and not hasattr(item.parent, "peak"):  # the lesson's first
        draw_no_png(item)
    if cell is not None and item.config.option.twice:
        kernel = item.parent.kernel
        message = kernel.execute_cell_input(cell.source, allow_stdin=False)
        kernel.await_reply(message, timeout=120)
        kernel.await_idle(message, timeout=120)
    yield
    conditions = promises.of(cell, on_standin()) if cell is not None else []
    if conditions:
        kernel = item.parent.kernel
        try:
            promises.in_kernel(kernel.kc, conditions)
        except promises.Broken as broken:
            item.raise_cell_error(str(broken))
    if cell is not None:
        bound_memory(item)


def draw_no_png(item):
    """Of a figure's two forms nbval compares the SVG alone: a third of its time."""
    if not item.config.option.nbdime:
        kernel = item.parent.kernel
        message = kernel.kc.execute(DRAW_NO_PNG, silent=True, allow_stdin=False)
        kernel.await_reply(message, timeout=60)
        kernel.await_idle(message, timeout=60)


def bound_memory(item):
    """Fail at the cell that brings its lesson over the limit, and at none after it."""
    before = getattr(item.parent, "peak", 0)
    peak = peak_memory(item.parent.kernel.km.provisioner.pid)
    item.parent.peak = peak
    item.user_properties.append(("peak memory", peak))
    if before <= LARGEST < peak:
        sizes = {"peak": peak / 2**30, "largest": LARGEST / 2**30}
        item.raise_cell_error(TOO_LARGE.format(**sizes))


def pytest_terminal_summary(terminalreporter):
    """The lesson that takes most memory, so that one sees it come near the limit."""
    peaks = {}
    for report in terminalreporter.stats.get("passed", []):
        if peak := dict(report.user_properties).get("peak memory"):
            peaks[report.fspath] = max(peak, peaks.get(report.fspath, 0))
    if peaks:
        name = max(peaks, key=peaks.get)
        text = f"largest memory of a lesson: {peaks[name] / 2**30:.2f} GiB ({name})"
        terminalreporter.write_line(text)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A cell that differs on the stand-in: say what an author does about it."""
    report = yield
    if report.failed and hasattr(item, "cell") and on_standin():
        report.sections.append(("on the stand-in", STANDIN_HELP))
    return report
