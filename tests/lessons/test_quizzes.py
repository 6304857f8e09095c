"""The quizzes' right answers, where they are numbers that can be computed anew."""

import ast
import math
import re

import pytest
import scipy.stats
import torch
import torch.nn.functional as F
from lesson_source import LESSONS, cells


def gradient(f, *values):
    """The derivative of f with respect to its first value."""
    leaves = [torch.tensor(float(value), requires_grad=True) for value in values]
    return torch.autograd.grad(f(*leaves), leaves[0])[0].item()


def bytes_added():
    a, b = (torch.tensor(value, dtype=torch.uint8) for value in (200, 100))
    return f"{a + b} and {b - a}"


def naive_softmax():
    e = torch.tensor([1000.0, 0.0, -1000.0]).exp()
    return ", ".join(f"{value:.0f}" for value in (e / e.sum()).tolist())


def added_up():
    total = torch.tensor(0, dtype=torch.bfloat16)
    for _ in range(1000):
        total += 1
    return f"{total.item():.0f}"


def accumulated():
    w = torch.tensor(1.0, requires_grad=True)
    for _ in range(2):
        (6 * w).backward()
    return f"{w.grad.item():.0f}: "


def best_of_a_hundred():
    below = torch.tensor(scipy.stats.binom.cdf(range(101), 100, 0.5)) ** 100
    largest = 100 - below[:-1].sum().item()  # of a hundred, on average: 62.4
    return f"{min((50, 53, 63, 75), key=lambda offered: abs(offered - largest))} %"


def strays():
    p, n = 0.9937, 10_000
    return f"within about {100 * 2 * math.sqrt(2 * p * (1 - p) / n):.2f} points"


def one_layer_or_the_other():
    places = 1280 * 720
    inputs, outputs = 3 * places, 16 * places
    of_convolution = 3 * 3 * 3 * 16 + 16
    return f"about {(inputs + 1) * outputs / of_convolution / 1e9:.0f} billion"


# Words of the question -> how the right answer begins, computed.
COMPUTED = {
    "uint8 tensors with the values 200": bytes_added,
    "Where does 0.1302 come from": lambda: (
        f"Pixels divided by {0.1307 * 255 / 0.1302:.0f} "
    ),
    "N = 60,000 examples, B = 64": lambda: (
        f"{math.ceil(60_000 / 64)} batches, the last of {60_000 % 64}"
    ),
    "softmax_naive of the logits": naive_softmax,
    "A network is untrained": lambda: (
        f"log 10, about {F.cross_entropy(torch.zeros(1, 10), torch.tensor([3])):.1f}"
    ),
    "Set d to 6": lambda: (
        f"{gradient(lambda a, d: (a + 3) * torch.maximum(d, torch.tensor(4.0)), 2, 6):.0f}"
    ),
    "With a = 2 and b = 3: u = 5": lambda: (
        f"{gradient(lambda a, b: (a + b) * (a * b), 2, 3):.0f}: "
    ),
    "Which step h gives the smallest": lambda: (
        f"Somewhere near 1e{math.log10(torch.finfo(torch.float64).eps) / 3:.0f}"
    ),
    "w.grad is 6 after the first": accumulated,
    "The valley has curvature 1": lambda: f"{2 / 10}",
    "draw 10,000 times with replacement": lambda: (
        f"about {100 * (1 - (1 - 1e-4) ** 10_000):.0f} %"
    ),
    "How large a batch has half the noise": lambda: f"{64 * 2**2}",
    "A ReLU unit of the first layer": lambda: (
        f"its gradient is exactly {gradient(torch.relu, -1):.0f}: "
    ),
    "A network is right on 9,937": strays,
    "The best of 100 coin tossers": best_of_a_hundred,
    "An image of 28×28 pixels, a kernel": lambda: "{}×{}".format(
        *F.conv2d(torch.zeros(1, 1, 28, 28), torch.zeros(1, 1, 5, 5), None, 2, 2).shape[
            2:
        ]
    ),
    "A frame of a film has 1280×720": one_layer_or_the_other,
    "Start at 0 and add 1": added_up,
    "Each rank's gradient has 100 MB": lambda: (
        f"about {round(2 * 63 / 64 * 100, -1):.0f} MB"
    ),
    "What is the p-value": lambda: f"p = {2 / math.comb(6, 3)}, ",
}
# Words of the question -> where else its number is held, or that it is only a name.
ELSEWHERE = {
    "Set the second hidden neuron": "names of derivatives",
    "All weights and biases are 0": "names of derivatives",
    "Twenty layers. In which": "tests/lessons/test_gradients_to_trust.py: He's factor",
    "the layer divides by the root of v": "tests/lessons/test_regularization.py",
    "Figure 1 showed what guided": "the promise on the cell below it",
    "Leave ReLU out": "a theorem: the fourth corner is the sum of two less the third",
    "R2's network has eight times": "the promise on the cell below it",
    "Suppose that all four convolutions": "tests/lessons/test_convolution.py: its sides",
    "R1a has 58,730 parameters": "names of recipes",
    "A program written from R5's": "a range of pixels",
}


def all_quizzes():
    """(lesson, the call that makes a quiz) of every quiz."""
    for path in LESSONS:
        for cell in cells(path.stem):
            if cell.cell_type == "code" and cell.source.startswith("quiz("):
                yield path.stem, ast.parse(cell.source).body[0].value


def quizzes():
    """(lesson, question, right answer) wherever the right answer has a number."""
    for lesson, call in all_quizzes():
        question = ast.literal_eval(call.args[0])
        right = ast.literal_eval(call.keywords[0].value)
        if re.search(r"\d", right):
            yield lesson, question, right


def test_each_choice_has_a_reason_of_its_own():
    """Who chooses again is told something else."""
    for lesson, call in all_quizzes():
        reasons = [ast.literal_eval(reason) for reason in call.args[1].values]
        assert len(set(reasons)) == len(reasons) > 1, (lesson, reasons)


def test_each_number_is_computed_or_held_elsewhere():
    """A new quiz with a number for its answer is computed here too, and none is left of
    a quiz that is gone."""
    found = {}
    for lesson, question, _ in quizzes():
        keys = [key for key in {**COMPUTED, **ELSEWHERE} if key in question]
        assert len(keys) == 1, f"{lesson}: compute the answer of {question!r} here"
        found[keys[0]] = lesson
    assert found.keys() == {**COMPUTED, **ELSEWHERE}.keys()


@pytest.mark.parametrize("words", COMPUTED)
def test_the_right_answer_is_what_comes_out(words):
    """It begins with the number, as it is computed from the question."""
    ((lesson, right),) = [(name, r) for name, q, r in quizzes() if words in q]
    expected = COMPUTED[words]()
    assert right.startswith(expected), f"{lesson} says {right!r}, and it is {expected!r}"
