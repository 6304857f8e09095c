"""Every exercise's checker passes the lesson's solution and knows a stub, whatever its form.

What each checker says to wrong answers is tested beside its lesson.
"""

import importlib
import re

import pytest
from lesson_source import LESSONS, cells, definitions, tags


def exercises():
    """(lesson, exercise) for all lessons; 02 to 04 need more than a name: tested beside them."""
    for path in LESSONS:
        if path.stem[:2] in ("02", "03", "04"):
            continue
        for cell in cells(path.stem):
            if "exercise" in tags(cell):
                yield path.stem, re.search(r"^check\.(\w+)\(", cell.source, re.M)[1]


def checker(lesson, name):
    return getattr(importlib.import_module(f"lessons_src.check.lesson{lesson[:2]}"), name)


@pytest.mark.parametrize(("lesson", "name"), list(exercises()))
def test_checker_passes_the_solution(lesson, name, capsys):
    """The lesson's own solution passes its checker."""
    assert checker(lesson, name)(definitions(lesson, name, tag="solution")[name])
    assert capsys.readouterr().out.startswith(f"✓ {name}: ")


@pytest.mark.parametrize(("lesson", "name"), list(exercises()))
def test_checker_says_not_attempted_to_a_stub(lesson, name, capsys):
    """A stub that returns nothing, one that raises NotImplementedError, and an empty name."""

    def raises(*args):
        raise NotImplementedError

    for stub in (lambda *args: None, lambda *args: ..., raises, None):
        assert not checker(lesson, name)(stub)
        assert "not attempted yet" in capsys.readouterr().out
