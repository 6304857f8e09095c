"""A fault that is planted in a lesson is noticed: it breaks a promise, or changes an
output that is compared.

A halved learning rate raises no error, and most of what a page says after it looks as
before. So what a training has reached must be promised closely enough.
"""

import copy

import pytest
from lesson_source import cells, notebook, path_of

from lessons_src import data
from tools import promises, store

# Lesson, a text that stands once in its code, and what is planted in its place.
FAULTS = [
    ("chain_rule", "p.data -= 0.08 * p.grad", "p.data -= 0.04 * p.grad"),
    ("chain_rule", "Value(ratio, ((a, 1 / b.data)", "Value(ratio, ((a, 2 / b.data)"),
    ("cross_entropy", "x, y, epochs=8, lr=0.5", "x, y, epochs=8, lr=0.25"),
    ("backpropagation", "biases, steps, lr=0.05", "biases, steps, lr=0.025"),
    (
        "backpropagation",
        "lr=0.05, momentum=0.9)\nschedule",
        "lr=0.025, momentum=0.9)\nschedule",
    ),
    ("gradients_to_trust", "steps=600, lr=0.02", "steps=600, lr=0.01"),
    ("gradient_descent", "batch_size=10, peak=0.5", "batch_size=10, peak=0.25"),
    ("gradient_descent", "    W -= 0.1 * softmax", "    W -= 0.05 * softmax"),
    ("gradient_descent", "    late -= 0.5 *", "    late -= 0.25 *"),
    ("multilayer_perceptrons", "classes, 200, lr=0.03", "classes, 200, lr=0.015"),
    ("multilayer_perceptrons", "step - done, lr=0.03", "step - done, lr=0.015"),
    ("multilayer_perceptrons", "lr=0.1)\nx, y", "lr=0.05)\nx, y"),
    ("multilayer_perceptrons", "lr=0.1)\n    return", "lr=0.05)\n    return"),
    ("training_well", "model.parameters(), lr=0.01)", "model.parameters(), lr=0.005)"),
    ("training_well", 'recorded("R5-scaled")', 'recorded("R5")'),
    ("generalization", "lr=0.003, weight_decay=0, f", "lr=0.0015, weight_decay=0, f"),
    ("regularization", "weight_decay=0.0, lr=0.003", "weight_decay=0.0, lr=0.0015"),
    ("convolution_backward", "w - 1.0 * dw", "w - 0.5 * dw"),
    ("convolution_backward", "lr=0.05)\n    order", "lr=0.025)\n    order"),
    (
        "cnn_mnist",
        "hasty, gentle = eight_runs(lr=0.1",
        "hasty, gentle = eight_runs(lr=0.05",
    ),
    ("cnn_fashion_mnist", "lr=0.001)\nhistory", "lr=0.0005)\nhistory"),
    (
        "inside_the_network",
        "    stages = [copy.deepcopy(network).eval()]",
        "    scheduler.base_lrs = [lr / 2 for lr in scheduler.base_lrs]\n"
        "    stages = [copy.deepcopy(network).eval()]",
    ),
    ("fooled_and_unsure", "model.parameters(), 0.003", "model.parameters(), 0.0015"),
    ("fooled_and_unsure", "student.parameters(), 0.003", "student.parameters(), 0.0015"),
    ("bugs_that_train_anyway", "lr=0.002, fused", "lr=0.001, fused"),
]
# Changes no promise, and one number that is printed: the comparison has to notice it.
DIGIT = ("chain_rule", "a, b = Value(2), Value(3)\nu", "a, b = Value(2), Value(4)\nu")


def where(lesson: str, text: str) -> list:
    """The code cells that hold a text, one for each time that it stands there."""
    code = [cell for cell in cells(lesson) if cell.cell_type == "code"]
    return [cell for cell in code for _ in range(cell.source.count(text))]


def noticed(lesson: str, text: str, planted: str) -> str:
    """Run a lesson with a fault: what was noticed, or "" where nothing was."""
    stored = notebook(lesson)
    faulty = copy.deepcopy(stored)
    for cell in faulty.cells:
        if cell.cell_type == "code":
            cell.source = cell.source.replace(text, planted)
    try:
        ran = store.executed(faulty, path_of(lesson))
    except promises.Broken as broken:
        return str(broken)
    for cell, kept in zip(ran.cells, stored.cells, strict=True):
        cell.source = kept.source  # the outputs are compared, not the fault itself
    return "" if store.same(stored, store.normalised(ran)) else "an output differs"


@pytest.mark.parametrize(("lesson", "text", "planted"), [*FAULTS, DIGIT])
def test_the_table_is_up_to_date(lesson, text, planted):
    """Each text stands in its lesson once, so that the sweep plants what is meant."""
    count = len(where(lesson, text))
    assert count == 1, (
        f"{text!r} stands {count} times in the lesson {lesson}. Where its code was "
        "changed on purpose, change FAULTS in this file likewise, and run the sweep"
    )
    assert planted != text


@pytest.fixture
def real_data():
    """Skips the test on the stand-in, whose promises are wider."""
    if data.load("mnist", notice=False).standin:
        pytest.skip("needs the real data: promises for the stand-in are wider")


@pytest.mark.sweep
@pytest.mark.parametrize(("lesson", "text", "planted"), FAULTS)
def test_a_planted_fault_breaks_a_promise(lesson, text, planted, real_data):
    """By its promises alone: a number in the output of such a cell is not compared."""
    message = noticed(lesson, text, planted)
    assert "is broken" in message, (
        f"{planted!r} in place of {text!r} breaks no promise of the lesson {lesson}"
        f" ({message or 'and no output differs'}). Promise the number that it changes, "
        "in a range that holds for several seeds and not with the fault"
    )


@pytest.mark.sweep
def test_a_changed_digit_is_an_output_that_differs(real_data):
    """What no promise covers is compared; and where nothing is planted, nothing is
    noticed."""
    lesson, text, planted = DIGIT
    assert noticed(lesson, text, text) == ""
    assert noticed(lesson, text, planted) == "an output differs"
