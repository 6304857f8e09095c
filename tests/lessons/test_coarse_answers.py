"""Coarse answers are refused: the page's own solution for arguments that are rounded, cut
short, or made positive stands for rules that hold on a grid, for short lists, or without
special values."""

import numpy as np
import pytest
import torch
from swept import some
from test_exercises import TASKS, checker, handed_over


def each(change, value):
    """The value with every float and every tensor of floats in it changed."""
    if isinstance(value, list | tuple):
        return type(value)([each(change, part) for part in value])
    if isinstance(value, float):
        return change(torch.tensor(value, dtype=torch.float64)).item()
    if isinstance(value, np.ndarray):
        return each(change, torch.from_numpy(value)).numpy()
    is_tensor = isinstance(value, torch.Tensor) and value.is_floating_point()
    return change(value) if is_tensor else value


def rounded(value):
    """To three decimals; what is huge stays."""
    return each(lambda t: torch.where(t.abs() < 1e9, (t * 1000).round() / 1000, t), value)


def positive(value):
    return each(torch.abs, value)


def first_eight(value):
    """Of a list; the later rows of a tensor are 0."""
    if isinstance(value, np.ndarray):
        return first_eight(torch.from_numpy(value)).numpy()
    if isinstance(value, torch.Tensor) and value.ndim > 0:
        return torch.cat([value[:8], torch.zeros_like(value[8:])])
    return value[:8] if isinstance(value, list) else value


def eight_columns(value):
    """The later columns of a tensor are 0."""
    if isinstance(value, np.ndarray):
        return eight_columns(torch.from_numpy(value)).numpy()
    if isinstance(value, torch.Tensor) and value.ndim > 1:
        return torch.cat([value[:, :8], torch.zeros_like(value[:, 8:])], 1)
    return value


def same(new, old) -> bool:
    """Whether a change left all as it was: of other things than numbers it gives them back."""
    if new is old:
        return True
    if isinstance(new, list | tuple):
        return len(new) == len(old) and all(map(same, new, old))
    if isinstance(new, np.ndarray):
        new, old = torch.from_numpy(new), torch.from_numpy(old)
    if isinstance(new, torch.Tensor):
        return torch.allclose(new, old, 0, 0, equal_nan=True)
    return new == old


HARMLESS = {  # (exercise, what is changed): the answer is the same for a good reason
    ("floor_of", 1): "of the images only the shape counts",
    ("gradient_check", 1): "tanh is odd: the loss at -w has the same slope",
}
UNTRIED = {  # their exercises await the same questions
    "inside_the_network",
    "fooled_and_unsure",
    "bugs_that_train_anyway",
    "pytorch_and_keras",
}
CASES = [
    (*task, place, change)
    for task in TASKS
    if task[0] not in UNTRIED and checker(*task).inputs and checker(*task).trials > 1
    for place in range(max(len(inputs) for _, inputs in checker(*task).drawn(0)))
    for change in (rounded, positive, first_eight, eight_columns)
    if (task[1], place) not in HARMLESS
]


@pytest.mark.parametrize(
    "case",
    some(CASES, lambda case: case[0] in ("generalization", "published_results")),
    ids=lambda case: f"{case[1]}-{case[2]}-{case[3].__name__}",
)
def test_a_coarse_answer_is_refused(case):
    """In one trial at least of those in which what the function is given changes."""
    lesson, name, place, change = case
    exercise = checker(lesson, name)
    solution, *page = handed_over(lesson, name)

    pairs = []  # an exercise may hand over something else than what it drew

    def coarse(*args):
        given = [change(arg) if k == place else arg for k, arg in enumerate(args)]
        if place < len(args):
            pairs.append((given[place], args[place]))
        return solution(*given)

    trials = [inputs for _, inputs in exercise.drawn(0)]
    refused = any(exercise.problem(coarse, (*inputs, *page)) for inputs in trials)
    assert refused or all(same(new, old) for new, old in pairs), (
        f"{name}: {change.__name__} (argument {place}) passes {len(trials)} trials: draw finer "
        "values, longer lists, or special ones"
    )
