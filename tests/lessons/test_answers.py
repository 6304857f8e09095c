"""Checkers cannot be fooled: of the answers of people who had not read them, every wrong
one is refused and every right one passes."""

import importlib

import pytest
from test_exercises import TASKS, verdict

SEEDS = range(3)


def answers(lesson, name, kind):
    """The answers of one kind, WRONG or RIGHT, that the tests hold for an exercise."""
    return getattr(importlib.import_module(f"answers.{lesson}"), kind)[name]


every_task = pytest.mark.parametrize(("lesson", "name"), TASKS)


@every_task
def test_there_are_enough(lesson, name):
    """Ten wrong ones and six right ones at least."""
    assert len(answers(lesson, name, "WRONG")) >= 10
    assert len(answers(lesson, name, "RIGHT")) >= 6


@pytest.mark.sweep
@pytest.mark.parametrize("seed", SEEDS)
@every_task
def test_every_wrong_answer_is_refused(lesson, name, seed):
    """As an attempt, with what was expected or a hint."""
    for number, answer in enumerate(answers(lesson, name, "WRONG")):
        solved, message = verdict(lesson, name, answer, seed)
        assert not solved, f"wrong answer {number} passes"
        assert message.startswith("✗") and message.count("\n") >= 1, message


@pytest.mark.sweep
@pytest.mark.parametrize("seed", SEEDS)
@every_task
def test_every_right_answer_passes(lesson, name, seed):
    """In whatever form the statement allows."""
    for number, answer in enumerate(answers(lesson, name, "RIGHT")):
        solved, message = verdict(lesson, name, answer, seed)
        assert solved, f"right answer {number} is refused: {message}"


@pytest.mark.slow
@pytest.mark.parametrize("lesson", sorted({lesson for lesson, _ in TASKS}))
def test_some_of_each_lesson(lesson):
    """One of each kind for each exercise of a lesson: the others are in the sweep."""
    for name in [name for own, name in TASKS if own == lesson]:
        assert verdict(lesson, name, answers(lesson, name, "RIGHT")[0], 7)[0]
        assert not verdict(lesson, name, answers(lesson, name, "WRONG")[0], 7)[0]
