"""Every lesson keeps the anatomy, and was stored as run. Each test's docstring is its
claim."""

import ast
import re

import pytest
from lesson_source import LESSONS, ROOT, cells, notebook, tags

from lessons_src.figures import PALETTE

NAMES = [path.stem for path in LESSONS]
every_lesson = pytest.mark.parametrize("lesson", NAMES)


def code(lesson):
    return [cell for cell in cells(lesson) if cell.cell_type == "code"]


def prose(lesson):
    return [cell.source for cell in cells(lesson) if cell.cell_type == "markdown"]


def outputs(lesson, mime):
    return [
        o.data[mime] for c in code(lesson) for o in c.outputs if mime in o.get("data", {})
    ]


def block(lesson, kind):
    pattern = rf'(?s)<div class="nn-{kind}">(.*?)</div>'
    return re.findall(pattern, "\n\n".join(prose(lesson)))


def test_there_are_lessons():
    """The tests below run on something."""
    assert NAMES


@every_lesson
def test_stored_as_executed_in_order(lesson):
    """Every code cell holds the outputs of one run from top to bottom: nbval compares
    them all."""
    assert [c.execution_count for c in code(lesson)] == list(
        range(1, len(code(lesson)) + 1)
    )


@every_lesson
def test_no_stderr_is_stored(lesson):
    """No reader sees a warning."""
    stderr = [o for c in code(lesson) for o in c.outputs if o.get("name") == "stderr"]
    assert not stderr


@every_lesson
def test_errors_are_only_where_they_are_meant(lesson):
    """A cell that raises says so by its tag, and one that says so raises."""
    for cell in code(lesson):
        raises = any(o.output_type == "error" for o in cell.outputs)
        assert raises == ("raises-exception" in tags(cell)), cell.source


@every_lesson
def test_at_most_three_cells_are_not_compared(lesson, capsys):
    """nbval ignores the output of three cells at most, and it is said which and why."""
    ignored = [c for c in code(lesson) if "nbval-ignore-output" in tags(c)]
    with capsys.disabled():
        for cell in ignored:
            print(f"\n  not compared in {lesson}: {cell.source.splitlines()[0]}", end="")
    assert len(ignored) <= 3
    for cell in ignored:
        assert re.search(r"^# Not compared: \w+", cell.source), (
            "its first line gives the reason"
        )
    assert not any("nbval-skip" in tags(c) or "NBVAL" in c.source for c in code(lesson))


@every_lesson
def test_opens_with_its_question(lesson):
    """A lesson starts with its title and a card: question, abilities, minutes, what it
    needs."""
    assert re.match(r"# \S", prose(lesson)[0])
    (card,) = block(lesson, "card")
    for part in (
        "**Question.**",
        "**You will be able to**",
        "**Time.**",
        "**Before this.**",
    ):
        assert part in card, part
    assert re.search(r"\d+ minutes", card)


@every_lesson
def test_has_interactive_parts(lesson):
    """At least one stepper and two quizzes."""
    plain = outputs(lesson, "text/plain")
    assert sum(text.startswith("Stepper over") for text in plain) >= 1
    assert sum(text.startswith("Quiz:") for text in plain) >= 2
    assert "widgets" in notebook(lesson).metadata, (
        "widget state must be stored for the page"
    )
    quizzes = [
        c for c in code(lesson) if "quiz(" in c.source and "def quiz" not in c.source
    ]
    assert all("hide-input" in tags(c) for c in quizzes), "a quiz's code holds its answer"


@every_lesson
def test_exercises_have_checker_hint_and_solution(lesson):
    """Three exercises or more, each with minutes and a hint, a stub that its checker
    calls "not attempted yet", and a solution that passes the same checker."""
    tasks = block(lesson, "exercise")
    stubs = [c for c in code(lesson) if "exercise" in tags(c)]
    solutions = [c for c in code(lesson) if "solution" in tags(c)]
    assert len(tasks) >= 3 and len(tasks) == len(stubs) == len(solutions)
    for number, (task, stub, solution) in enumerate(
        zip(tasks, stubs, solutions, strict=True), 1
    ):
        assert f"**Exercise {number} · " in task
        assert re.search(r"\((easy|medium|hard), \d+ minutes\)", task)
        assert '<details class="nn-hint">' in task
        assert "hide-input" in tags(solution)
        checker = re.compile(r"^(check\.\w+)\(", re.M)
        assert checker.findall(stub.source) == checker.findall(solution.source) != []
        assert "not attempted yet" in stub.outputs[0].text
        assert re.match(r"✓ .*: (\d+) of \1 checks passed", solution.outputs[0].text)


@every_lesson
def test_has_its_blocks(lesson):
    """A derivation or result, a failure on purpose, a summary of five points,
    references."""
    assert block(lesson, "failure") and block(lesson, "summary")
    (summary,) = block(lesson, "summary")
    assert len(re.findall(r"^(?:\d+\.|-) ", summary, re.M)) == 5
    assert re.search(r"^## References", "\n".join(prose(lesson)), re.M)
    assert re.search(r"\{cite:\w\}`", prose(lesson)[-1])


@every_lesson
def test_figures_carry_alt_text(lesson):
    """Every figure is an SVG with an alt text; no output image goes without."""
    figures = outputs(lesson, "text/html")
    for text in figures:
        for svg in re.findall(r"<svg[^>]*>", text):
            assert len(re.search(r'aria-label="([^"]*)"', svg)[1]) >= 20
    assert not outputs(lesson, "image/png") and not outputs(lesson, "image/jpeg")
    assert not re.search(r"!\[\s*\]\(", "\n".join(prose(lesson)))


@every_lesson
def test_every_boxed_equation_is_tested_by_name(lesson):
    """`(eq-name)` in a result box has a test function `test_eq_name`."""
    labels = re.findall(r"\$\$ *\((eq-[\w-]+)\)", "".join(block(lesson, "result")))
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for label in labels:
        assert f"def test_{label.replace('-', '_')}(" in tests, label
    boxed = sum(text.count("$$") // 2 for text in block(lesson, "result"))
    assert boxed == len(labels), "every boxed equation is named"


@every_lesson
def test_no_measured_number_is_typed(lesson):
    """Outside blocks of published results and exercises' minutes, Markdown holds no
    accuracy, no seconds and no speed-up: sentences that need one are made by code."""
    text = "\n\n".join(prose(lesson))
    for kind in ("published", "card"):
        text = re.sub(rf'(?s)<div class="nn-{kind}">.*?</div>', "", text)
    text = re.sub(r"(?s)\$\$.*?\$\$|\$[^$\n]*\$|```.*?```", "", text)
    found = re.findall(
        r"\d[\d.,]* ?(?:%|percent|seconds?\b|s\b|ms\b|µs\b|times faster|× faster)", text
    )
    assert not found


@every_lesson
def test_rhythm(lesson):
    """Prose cells of about 80 words, code cells of about 12 lines (plots may be
    longer)."""
    for text in prose(lesson):
        words = re.sub(
            r"(?s)\$\$.*?\$\$|<details.*?</details>|<[^>]+>|\|.*\|", "", text
        ).split()
        limit = 260 if "nn-derivation" in text else 150
        assert len(words) <= limit, f"{len(words)} words: {text[:80]}"
    for cell in code(lesson):
        lines = [
            x
            for x in cell.source.splitlines()
            if x.strip() and not x.lstrip().startswith("#")
        ]
        limit = 60 if {"hide-input", "setup", "long"} & set(tags(cell)) else 16
        assert len(lines) <= limit, f"{len(lines)} lines: {lines[0]}"


@every_lesson
def test_plain_words(lesson):
    """No "simply", no "it can be shown", no "obviously"."""
    text = " ".join(prose(lesson)).lower()
    found = re.findall(
        r"\b(simply|obviously|trivial(?:ly)?|it can be shown|of course|clearly)\b", text
    )
    assert not found


@every_lesson
def test_first_code_cell_is_the_same_everywhere(lesson):
    """The Colab set-up cell is one text, copied into every lesson."""
    assert code(lesson)[0].source == code(NAMES[0])[0].source
    assert {"setup", "remove-cell"} <= set(tags(code(lesson)[0]))


@every_lesson
def test_uses_the_shared_palette(lesson):
    """No colour of one's own: figures name the palette's colours."""
    for cell in code(lesson):
        for hexcode in re.findall(r"#[0-9a-fA-F]{6}\b", cell.source):
            assert hexcode.lower() in PALETTE.values(), hexcode


@every_lesson
def test_is_valid_python(lesson):
    """Every cell parses (a Colab or Jupyter magic would not work under nbval's
    comparison)."""
    for cell in code(lesson):
        ast.parse(cell.source)


def test_toc_lists_what_exists():
    """The book's table of contents names every lesson, and nothing that is not there."""
    listed = re.findall(r"file: (\S+)", (ROOT / "_toc.yml").read_text())
    assert [x for x in listed if x.startswith("lessons/")] == [
        f"lessons/{n}" for n in NAMES
    ]
    for entry in listed:
        assert any((ROOT / f"{entry}{s}").exists() for s in ("", ".md", ".ipynb")), entry
