"""What a statement forbids is refused in the line that does it, and nothing else is."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lessons_src.exercises import exercise
from lessons_src.exercises.forbidden import (
    AUTOGRAD,
    LOGSUMEXP,
    SIGMOID,
    SOFTMAX,
    NotAllowed,
    OnePass,
    Vectorised,
    without,
    without_modules,
)

Z = torch.tensor([[1.0, 2.0]])


def descended(z):
    z = z.clone().requires_grad_()
    z.sum().backward()
    return z.grad


@pytest.mark.parametrize(
    ("names", "answer"),
    [
        (SOFTMAX, lambda z: z.softmax(1)),
        (SOFTMAX, torch.nn.Softmax(1)),
        (SOFTMAX, lambda z: F.softmin(-z, 1)),
        (SOFTMAX, lambda z: torch.special.log_softmax(z, 1)),
        (LOGSUMEXP, lambda z: torch.special.logsumexp(z, 1)),
        (SIGMOID, torch.nn.LogSigmoid()),
        (SIGMOID, torch.special.expit),
        (("cross_entropy",), lambda z: torch.nn.CrossEntropyLoss()(z, z)),
        (AUTOGRAD, descended),
        (AUTOGRAD, torch.func.grad(torch.sum)),
        ((), lambda z: torch.tensor(1.0)),
    ],
)
def test_a_forbidden_function_is_refused(names, answer):
    """Under each of its names; without names, all of PyTorch."""
    with pytest.raises(NotAllowed, match="to be solved without PyTorch"):
        without(*names)(answer, Z)


@pytest.mark.parametrize(
    "answer",
    [
        lambda z: torch.nn.Linear(2, 3)(z),
        lambda z: torch.nn.Sequential()(z),
        lambda z: torch.optim.SGD([z.clone().requires_grad_()], lr=0.1),
    ],
)
def test_modules_and_optimisers_are_refused(answer):
    """Where one is made; functions and parameters are none, and it ends afterwards."""
    with pytest.raises(NotAllowed, match="without (Linear|Sequential|SGD)"):
        without_modules(answer, Z)
    without_modules(lambda z: F.linear(z, torch.nn.Parameter(z)), Z)
    torch.nn.Linear(2, 3)


def test_all_else_is_allowed():
    """NumPy, lists, and other functions see the same tensors as ever."""
    given = without(*SOFTMAX, *AUTOGRAD)(lambda z: (np.asarray(z).max(), z.tolist()), Z)
    assert given == (2.0, [[1.0, 2.0]])
    assert torch.softmax(Z, 1).sum() == 1  # nothing is forbidden afterwards


def test_the_message_names_the_function_and_the_line():
    """And the checker's own solution may use it."""

    def solution(z):
        return torch.softmax(z, 1)

    solution.__module__ = "lessons_src.exercises.some_lesson"
    checker = exercise(cases={"": (Z,)}, observe=without(*SOFTMAX))(solution)
    assert checker.verdict(solution, 0)[0]
    assert checker.verdict(lambda z: z.exp() / z.exp().sum(1, True), 0)[0]
    solved, message = checker.verdict(lambda z: torch.softmax(z, 1), 0)
    assert not solved and "without PyTorch's softmax" in message
    assert "in the line: " in message


def test_loops_and_large_tensors_are_noticed():
    """A few operations pass, views of any shape too."""
    x = torch.ones(20, 8)
    with Vectorised(operations=5, numbers=20 * 20 * 8):
        x[:, None].expand(20, 20, 8)
        assert (x @ x.T).shape == (20, 20)
    with pytest.raises(NotAllowed, match="memory"), Vectorised(5, 20 * 20 * 8):
        x[:, None] - x
    with pytest.raises(NotAllowed, match="loop"), Vectorised(5, 20 * 20 * 8):
        [row.sum() for row in x]


def test_a_list_for_one_pass():
    """It is a list in all but a second pass."""
    batches = OnePass([1, 2, 3])
    assert len(batches) == 3 and batches[0] == 1 and sum(batches) == 6
    with pytest.raises(NotAllowed, match="a second time"):
        sum(batches)


def test_a_name_may_tell_its_module():
    """`F.unfold` is refused, and the method `Tensor.unfold` is another function."""
    images = torch.zeros(1, 1, 4, 4)
    observe = without("torch.nn.functional.unfold", "im2col")
    with pytest.raises(NotAllowed, match="without PyTorch's unfold"):
        observe(lambda x: F.unfold(x, 2), images)
    assert observe(lambda x: x.unfold(3, 2, 1), images).shape == (1, 1, 4, 3, 2)
