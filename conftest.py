"""How the lessons are compared: to the letter on real data, in their form on the stand-in.

Which data there are is found out once, here, so that a missing file is downloaded once and
a machine without a network does not ask every mirror again in every lesson.
"""

import gc
import os
import re

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # side by side, one thread each: before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

gc.disable()  # until all is imported and collected: nothing of it is garbage, to look costs seconds

from lessons_src import data  # noqa: E402


def mask_data(text):
    """What depends on the data keeps its form: figures lose their content, numbers their digits."""
    if not isinstance(text, str):
        return text
    text = re.sub(r'(?s)(<svg[^>]*aria-label="[^"]*")[^>]*>.*?</svg>', r"\1></svg>", text)
    text = re.sub(r"[-+−]?\d[\d.,]*(e[-+]?\d+)?", "#", text)
    return re.sub(r"(# ?%|# s\b|[ \t]+)", lambda m: " " if m[0].isspace() else m[0], text)


def pytest_configure(config):
    # Threads that spin for some microseconds, then sleep. Spinning on (the default), they take
    # ten times as long beside another busy process; asleep at once, four times on an idle machine.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    asked = "PYTEST_XDIST_WORKER" in os.environ  # by the process that started this worker
    if config.option.nbval and not asked and data.load("mnist").standin:
        os.environ["LESSONS_DATA"] = "standin"


def pytest_report_header(config):
    if config.option.nbval:
        standin = os.environ.get("LESSONS_DATA") == "standin"
        return "lessons run on: " + ("THE STAND-IN (no real data)" if standin else "the real data")


def pytest_collection_finish():
    """From here on garbage is collected again, but not looked for among what was imported."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items):
    """On the stand-in, cells tagged "data" are compared in their form."""
    if os.environ.get("LESSONS_DATA") != "standin":
        return
    for item in items:
        cell = getattr(item, "cell", None)
        if cell is not None and "data" in cell.metadata.get("tags", []):
            item.sanitize = lambda text, plain=item.sanitize: mask_data(plain(text))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A cell that differs on the stand-in: say what an author does about it."""
    report = (yield).get_result()
    if report.failed and hasattr(item, "cell") and os.environ.get("LESSONS_DATA") == "standin":
        report.sections.append(
            (
                "on the stand-in",
                'A cell whose output depends on the data carries the tag "data"; '
                "its check.between(...) may need a range for the stand-in: standin=(low, high).",
            )
        )


def pytest_terminal_summary(terminalreporter):
    """Each lesson's seconds (its kernel's start included) and how many cells were compared."""
    seconds, cells = {}, {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            lesson, _, cell = getattr(report, "nodeid", "").partition("::Cell ")
            if cell:
                seconds[lesson] = seconds.get(lesson, 0) + report.duration
                cells[lesson] = cells.get(lesson, 0) + (report.when == "call")
    if seconds and terminalreporter.config.getoption("numprocesses", None):
        terminalreporter.write_line("with one thread each, side by side:")
    for lesson in sorted(seconds):
        terminalreporter.write_line(
            f"{lesson}: {cells[lesson]} cells, {seconds[lesson]:.1f} s", yellow=seconds[lesson] > 30
        )
