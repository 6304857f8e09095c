"""Every exercise's checker passes the lesson's solution, knows a stub, and catches mistakes.

The planted mistakes stand in the lessons' own test files: MUTANTS, what is planted ->
(exercise, wrong answer, what the message must say).
"""

import importlib
import re

import pytest
from lesson_source import LESSONS, cells, definitions, tags


def exercises():
    """(lesson, exercise) from lesson 05 on; those before are tested beside their lessons."""
    for path in LESSONS:
        if path.stem < "05":
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


def mutants(lesson):
    return importlib.import_module(f"test_lesson{lesson[:2]}").MUTANTS


PLANTED = [(lesson, mistake) for lesson in dict(exercises()) for mistake in mutants(lesson)]


@pytest.mark.parametrize(("lesson", "mistake"), PLANTED)
def test_checker_catches_and_helps(lesson, mistake, capsys):
    """A planted mistake is found, and the message says what is likely wrong."""
    name, answer, told = mutants(lesson)[mistake]
    assert not checker(lesson, name)(answer)
    out = capsys.readouterr().out
    assert out.startswith(f"✗ {name}: ") and told in out, out


@pytest.mark.parametrize(("lesson", "name"), list(exercises()))
def test_every_checker_has_two_mutants(lesson, name):
    """At least two planted mistakes for each exercise."""
    assert sum(mutant[0] == name for mutant in mutants(lesson).values()) >= 2
