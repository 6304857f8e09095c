"""Every exercise passes the lesson's solution, knows a stub, and catches and names its
mistakes."""

import functools
import importlib
import re

import pytest
from lesson_source import LESSONS, cells, definitions, tags
from swept import some

from lessons_src.exercises import Exercise
from lessons_src.exercises.compare import difference

# A reader's check draws its seed: what holds must hold for all. The sweep tries more.
every_seed = pytest.mark.parametrize("seed", some(range(5), lambda seed: seed == 0))


def tasks():
    """(lesson, name) of every exercise that a lesson sets."""
    for path in LESSONS:
        lesson = path.stem.split("_", 1)[1]
        for cell in cells(lesson):
            if "exercise" in tags(cell):
                yield lesson, re.search(r"^check\.(\w+)\(", cell.source, re.M)[1]


def checker(lesson, name) -> Exercise:
    return getattr(importlib.import_module(f"lessons_src.exercises.{lesson}"), name)


# What a lesson's exercises build on: solutions call it, or the page hands it over.
BUILT_ON = {"chain_rule": ("Value", "as_value", "topological_order")}
TASKS = list(tasks())
MISTAKES = [(*task, hint) for task in TASKS for hint in checker(*task).mistakes]
TRAIN = ("bugs_that_train_anyway", "fooled_and_unsure")  # at each mistake
every_task = pytest.mark.parametrize(("lesson", "name"), TASKS)


@functools.cache
def handed_over(lesson, name):
    """What the solution cell hands to its checker: the solution, then the rest."""
    engine = definitions(lesson, *BUILT_ON.get(lesson, ()))
    for cell in cells(lesson):
        (tried,) = (
            cell.metadata.get("promise", [""]) if "solution" in tags(cell) else [""]
        )
        if call := re.fullmatch(rf"check\.{name}\.accepts\(([\w, ]+)\)", tried):
            solution, *page = call[1].split(", ")
            written = definitions(lesson, solution, tag="solution", **engine)
            return written[solution], *(engine[other] for other in page)
    raise LookupError(f"{lesson} has no solution of {name}")


def verdict(lesson, name, answer, seed):
    """What the checker says of an answer that stands in the place of the solution."""
    _, *page = handed_over(lesson, name)
    return checker(lesson, name).verdict(answer, seed, *page)


@every_seed
@every_task
def test_the_lessons_solution_passes(lesson, name, seed):
    """The folded solution of the page, whatever inputs are drawn; so does the module's
    own."""
    for answer in (handed_over(lesson, name)[0], checker(lesson, name).solution):
        solved, message = verdict(lesson, name, answer, seed)
        assert solved, message


@every_task
def test_a_stub_is_not_attempted_yet(lesson, name):
    """A function that returns nothing, one that raises NotImplementedError, and an
    empty name."""

    def raises(*args):
        raise NotImplementedError

    for stub in (lambda *args: None, lambda *args: ..., raises, None, ...):
        solved, message = verdict(lesson, name, stub, 0)
        assert not solved and message == f"○ {name}: not attempted yet"


@every_seed
@pytest.mark.parametrize(
    ("lesson", "name", "hint"),
    [pytest.param(*m, marks=pytest.mark.slow) if m[0] in TRAIN else m for m in MISTAKES],
)
def test_a_known_mistake_is_caught_and_named(lesson, name, hint, seed):
    """Whatever inputs are drawn, and the message holds this mistake's own hint."""
    mistake = checker(lesson, name).mistakes[hint]
    solved, message = verdict(lesson, name, mistake, seed)
    assert not solved and message.startswith(f"✗ {name}: ")
    assert message.endswith(hint), message


@every_task
def test_two_mistakes_or_more_are_known(lesson, name):
    """At least two planted mistakes for each exercise, each with a hint of its own."""
    assert len(checker(lesson, name).mistakes) >= 2


@every_task
def test_inputs_are_drawn_anew(lesson, name):
    """Answers cannot be replayed: another seed brings other inputs."""
    exercise = checker(lesson, name)
    if exercise.inputs is None:
        assert exercise.cases, "neither drawn nor given inputs"
        return
    one, other = ([i for _, i in exercise.drawn(seed)] for seed in (1, 1000))
    assert any(difference(a, b, 0) for a, b in zip(one, other, strict=True))
