"""lessons_src.exercises: a checker finds what is wrong, says it on a small input,
never raises."""

import contextlib
import dataclasses
import enum
import io
import itertools
import os
import random
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from lessons_src import exercises
from lessons_src.exercises import Draw, Exercise, exercise, value_and_gradient
from lessons_src.exercises.compare import difference, short_repr


@exercise(
    inputs=lambda draw: (draw.normal(draw.size, 3), draw.uniform(1, 2)),
    cases={"Zero stays zero.": (torch.zeros(2, 2).double(), 1.0)},
    mistakes={
        "Multiply, do not add.": lambda x, factor: x + factor,
        "By the factor itself, not by its square.": lambda x, factor: factor**2 * x,
    },
    hint="It is one product.",
)
def scaled(x, factor):
    """x times a factor."""
    return factor * x


def message(answer, checker=scaled, seed=0):
    return checker.verdict(answer, seed)[1]


def test_a_right_answer_passes_and_is_counted(capsys, monkeypatch):
    """One line, and the tally; a call returns nothing, so a cell shows nothing more."""
    monkeypatch.setattr(exercises, "passed", {})
    assert scaled(lambda x, factor: factor * x) is None
    exercises.summary()
    assert capsys.readouterr().out == (
        "✓ scaled: 31 of 31 checks passed\n1 of 1 exercises solved\n"
    )
    scaled(lambda x, factor: x)
    exercises.summary()
    assert capsys.readouterr().out.endswith("0 of 1 exercises solved\n")


def test_the_smallest_input_and_the_mistakes_own_hint():
    """The first failure is a small one, and the hint is that of the mistake that was
    made."""
    told = message(lambda x, factor: factor * factor * x)
    assert told.startswith("✗ scaled: 0 of 31 checks passed, then, for x = [[")
    assert "expected" in told and told.endswith(
        "By the factor itself, not by its square."
    )
    assert message(lambda x, factor: x + factor).endswith("Multiply, do not add.")
    assert message(lambda x, factor: -x).endswith("It is one product.")


def test_a_mistake_that_is_right_here_gives_no_hint():
    """An answer that is refused for changing its input is not told of a mistake that would have
    been right on that input."""

    @exercise(
        inputs=lambda draw: (draw.normal(draw.size),),
        mistakes={"In long vectors too.": lambda x: 2 * x if len(x) < 3 else x},
        hint="Make a new vector.",
    )
    def doubled(x):
        return 2 * x

    told = message(lambda x: x.mul_(2), doubled)
    assert "changed its input" in told and told.endswith("Make a new vector.")


def test_a_hint_of_a_case_is_for_that_case():
    """An answer that is wrong on a named case alone hears why that case was tried."""
    told = message(lambda x, factor: factor * x if x.any() else x + 1)
    assert told.endswith("Zero stays zero.") and "5 of 31" in told


def test_nothing_returned_later_is_no_stub():
    """A forgotten return in one branch is a mistake, not an exercise that was never
    begun."""
    told = message(lambda x, factor: factor * x if len(x) < 3 else None)
    assert "is a return missing?" in told and told.startswith("✗")


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda x, factor: sys.exit(1), "raised SystemExit: 1"),
        (lambda x, factor: 1 / 0, "raised ZeroDivisionError"),
        (lambda x: x, "raised TypeError"),
        (lambda x, factor: "text", "received 'text'"),
        (lambda x, factor: (factor * x).int(), "expected the dtype torch.float64"),
        (lambda x, factor: (factor * x)[0], "expected the shape (1, 3), received (3,)"),
        (3, "expected a function, received 3"),
    ],
)
def test_whatever_an_answer_does_is_said(wrong, told):
    """Never raised: SystemExit neither."""
    assert told in message(wrong)


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no words")


class Odd(BaseException):
    pass


def endless(x, factor):
    while True:
        pass


def stubborn(x, factor):
    while True:
        with contextlib.suppress(Exception):
            sum(range(1000))


def asleep(x, factor):
    time.sleep(60)


def raises_odd(x, factor):
    raise Odd("one" * 1000)


def yields_late(x, factor):
    """A generator: its body runs only when the values are asked for."""
    while len(x):
        pass
    yield factor


class Slow:
    """A result that never says how long it is: the comparison would wait for it."""

    def __init__(self, x, factor):
        pass

    def __len__(self):
        return endless(0, 0)

    __getitem__ = __len__


@pytest.mark.parametrize("answer", [endless, stubborn, asleep, yields_late, Slow])
def test_what_never_ends_is_ended(answer):
    """By a signal, also out of a sleep; the message says what was too long."""
    quick, calls = dataclasses.replace(scaled, seconds=0.1), []

    def counted(x, factor):
        calls.append(1)
        return answer(x, factor)

    assert "took more than 0.1 seconds" in message(counted, quick)
    assert len(calls) == 1, "it was run once more for a hint"


@pytest.mark.parametrize("answer", [endless, stubborn])
def test_what_never_ends_is_ended_without_signals_too(answer):
    """In a thread, where no signal arrives."""
    quick = dataclasses.replace(scaled, seconds=0.1)
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(message, answer, quick).result(timeout=20)
        assert "took more than 0.1 seconds" in told
        assert pool.submit(message, lambda x, factor: factor * x).result()[0] == "✓"


def test_the_limit_leaves_nothing_behind():
    """No timer runs on, and the signal's handler is the one from before."""
    before = signal.getsignal(signal.SIGALRM)
    message(lambda x, factor: x)
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_an_odd_exception_is_said_in_few_words():
    """One that is no Exception, with a long text; the reader's line stands below it."""
    told = message(raises_odd)
    assert "raised Odd: oneone" in told and len(told) < 900
    assert "\n  in the line: raise Odd(" in told


def test_an_error_outside_the_readers_lines_is_not_laid_on_them():
    """A wrong number of parameters, or a result that the checker cannot use."""
    squares = Exercise(
        lambda x: x**2, lambda draw: (draw.normal(draw.size),), observe=value_and_gradient
    )
    told = message(lambda x: x.bool() & True, squares)
    assert "calling your function, or using what it gives" in told


@pytest.mark.parametrize(
    "attempt",
    [
        lambda x, factor: print(end=""),
        lambda x, factor: x.fill_(0) and None,
        lambda x, factor: torch.zeros(2, device="meta").nonzero(),  # NotImplementedError
    ],
)
def test_an_attempt_is_never_called_none(attempt):
    """A forgotten return, or an operation that torch does not have, is an attempt."""
    assert message(attempt).startswith("✗ scaled: 0 of 31")


def test_a_class_of_empty_methods_is_not_attempted_yet():
    """Whatever decorates them; one method that does something is an attempt."""

    class Stub:
        def __init__(self, x, factor): ...

        @torch.no_grad()
        def step(self): ...

    class Begun(Stub):
        def __init__(self, x, factor):
            self.x = x

    assert message(Stub) == "○ scaled: not attempted yet"
    assert message(Begun).startswith("✗")


def test_nothing_outside_is_changed():
    """Grad mode and random numbers are as before, whatever the answer does with them."""

    def disturbing(x, factor):
        torch.manual_seed(0), random.seed(0), np.random.seed(0)
        torch.set_grad_enabled(False)
        return factor * x

    def drawn():
        return torch.rand(1).item(), random.random(), np.random.rand()

    def reseeded():
        torch.manual_seed(5), random.seed(5), np.random.seed(5)

    reseeded()
    expected = drawn()
    reseeded()
    assert message(disturbing).startswith("✓")
    assert drawn() == expected and torch.is_grad_enabled()
    with torch.no_grad():
        assert message(lambda x, factor: factor * x).startswith("✓")
        assert not torch.is_grad_enabled()


def test_no_setting_is_left_changed(tmp_path):
    """Those of the whole process, which an answer may change by mistake or on purpose."""

    def disturbing(x, factor):
        torch.set_default_dtype(torch.float64)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.set_deterministic_debug_mode("error")
        np.seterr(all="raise")
        os.chdir(tmp_path)
        return factor * x

    def settings():
        return [read() for read, _ in exercises.SETTINGS]

    before = settings()
    assert message(disturbing).startswith("✓")
    assert settings() == before and before[0] == torch.float32


@pytest.mark.parametrize(
    "form",
    [
        lambda y: [[Fraction(v) for v in row] for row in y.tolist()],
        lambda y: [[Decimal(v) for v in row] for row in y.tolist()],
        lambda y: (iter(row) for row in y),
        lambda y: map(list, y),
        lambda y: y.numpy(),
        lambda y: y.tolist(),
        lambda y: y.float(),
        lambda y: y.to_sparse(),
        lambda y: [list(row) for row in y],
        lambda y: y.clone().requires_grad_(),
        lambda y: torch.nn.Parameter(y),
        lambda y: list(y),
    ],
)
def test_another_form_of_a_right_answer_passes(form):
    """An array, a list, another dtype, sparse, with a graph."""
    assert message(lambda x, factor: form(factor * x)).startswith("✓")


@pytest.mark.parametrize("low", [torch.float16, torch.bfloat16])
def test_the_tolerance_follows_the_dtype(low):
    """What a coarse dtype rounds away is not held against it; a wrong factor is."""
    assert not difference(torch.tensor([1 / 3]).to(low), torch.tensor([1 / 3]), 1e-6)
    assert difference(torch.tensor([0.5]).to(low), torch.tensor([1 / 3]), 1e-6)


@pytest.mark.parametrize(
    "received",
    [
        Unprintable(),
        [Unprintable()] * 3,
        1j,
        torch.zeros(3, 3, dtype=torch.complex64),
        torch.zeros(3, device="meta"),
        {1, 2},
        iter(()),
        object,
        itertools.repeat(1.0),
        Decimal("sNaN"),
        "1" * 10**6,
        [[]] * 10**4,
        (lambda: (yield))(),
    ],
)
def test_a_strange_result_is_told(received):
    """Never raised, never long, never the same words twice."""
    told = message(lambda x, factor: received)
    assert told.startswith("✗ scaled: 0 of 31") and len(told) < 1000
    loop = []
    loop.append(loop)
    assert "expected" in difference(loop, 3.0, 0)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:The PyTorch API")
@pytest.mark.parametrize(
    "made",
    [
        lambda: torch.quantize_per_tensor(torch.ones(1, 3), 0.1, 0, torch.quint8),
        lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(1)]),
    ],
)
def test_a_tensor_that_cannot_be_compared_is_told(made):
    """Of a kind that PyTorch itself cannot compare: never raised."""
    told = message(lambda x, factor: made())
    assert told.startswith("✗ scaled: 0 of 31") and len(told) < 1000


def test_a_kind_of_text_is_text():
    """A str subclass and an entry of a StrEnum are their text, in a list too."""
    kinds = type("Word", (str,), {}), enum.StrEnum("Kind", {"fine": "fine"})
    named = Exercise(lambda: "fine", cases={"": ()})
    listed = Exercise(lambda: ["fine"], cases={"": ()})
    for kind in kinds:
        assert named.verdict(lambda kind=kind: kind("fine"), 0)[0]
        assert listed.verdict(lambda kind=kind: iter([kind("fine")]), 0)[0]
    assert "received 'fin'" in message(lambda: kinds[0]("fin"), named)


def test_the_first_differing_place_is_shown():
    """Of a large tensor: where, what, and how many differ."""
    one, other = torch.zeros(4, 5), torch.zeros(4, 5)
    other[2, 3] = other[3, 0] = 1
    assert difference(other, one, 1e-5) == (
        "at [2, 3]: expected 0, received 1 (2 of 20 values differ)"
    )


def test_an_answer_that_changes_its_input_is_told():
    """In lists and dicts too, and the message shows the input as it was."""

    @exercise(inputs=lambda draw: ([float(k) for k in range(1, 1 + draw.size)],))
    def total(values):
        return sum(values)

    def emptied(values):
        answer = 0.0
        while values:
            answer += values.pop()
        return answer

    told = message(emptied, total)
    assert "changed its input" in told and "values = [1]" in told
    assert message(lambda x, factor: x.mul_(factor)).count("changed its input") == 1


def test_what_cannot_be_seen_in_the_value():
    """`value_and_gradient` tells an answer under no_grad, and one with another
    gradient."""
    squares = Exercise(
        lambda x: x**2, lambda draw: (draw.normal(draw.size),), observe=value_and_gradient
    )
    assert squares.verdict(lambda x: x * x, 0)[0]
    assert "no gradient can flow" in message(lambda x: (x * x).detach(), squares)
    assert "value 2" in message(lambda x: x * x.detach(), squares)


def test_drawn_inputs_grow_and_differ():
    """Small ones first; another seed, other inputs."""
    sizes = [len(inputs[0]) for hint, inputs in scaled.drawn(0) if not hint]
    assert sizes == sorted(sizes) and sizes[0] == 1 and sizes[-4:] == [6, 20, 20, 20]
    assert difference(scaled.drawn(0)[0], scaled.drawn(1)[0], 0)
    draw = Draw(0)
    assert {draw.integer(1, 3) for _ in range(50)} == {1, 2, 3}
    assert {draw.choice("a", "b") for _ in range(50)} == {"a", "b"}
    beside = [abs(draw.near(5.0) / 5 - 1) for _ in range(200)]
    assert min(beside) == 0 and 0.01 < max(beside) <= 0.1
    assert any(0 < gap < 1e-7 for gap in beside)
    assert draw.labels(100, 4).unique().tolist() == [0, 1, 2, 3]
    assert draw.bytes(2, 3).dtype == torch.uint8


@pytest.mark.parametrize(
    ("got", "expected", "told"),
    [
        ((1, 2), (1, 2, 3), "expected 3 values"),
        ((1, 2.5), (1, 2), "value 2: expected 2, received 2.5"),
        ({"a": 1}, {"b": 1}, "a dict with the keys ['b']"),
        ({"a": 1}, {"a": 2}, "value 1"),
        ("yes", "no", "expected 'no', received 'yes'"),
        (1, True, "expected True, received 1"),
        (torch.tensor(True), True, ""),
        (np.float64(2.0), 2, ""),
        (torch.tensor([1.0, 2.0]), [1.0, 2.0], ""),
        (zip((1.0,), (2.0,), strict=True), [(1.0, 2.0)], ""),
        ("12", [1, 2], "expected 2 values, received '12'"),
        (np.array(1), "1", "expected '1', received 1"),
        (1.00003, 1.0, "expected 1, received 1.00003"),
        (float("nan"), 1.0, "received nan"),
        (torch.tensor([1.0 + 1e-7]), torch.tensor([1.0]).double(), ""),
        (float("nan"), float("nan"), ""),
    ],
)
def test_differences_are_told(got, expected, told):
    """Shapes, dtypes, keys, values; nan equals nan."""
    found = difference(got, expected, 1e-5)
    assert told in found if told else found == ""


def test_two_that_read_the_same_tell_their_gap():
    """Never "expected 1, received 1"."""
    assert "differs from what is expected by 5e-07" in difference(1 + 5e-7, 1.0, 1e-8)


def test_arguments_are_told_by_their_names():
    """Those of the solution, or those given where `observe` makes the arguments
    itself."""
    assert "for x = [[" in message(lambda x, factor: x)
    doubled = Exercise(
        lambda f: 2 * f(),
        cases={"": (3,)},
        observe=lambda answer, x: answer(lambda: x),
        names=("what f returns",),
    )
    assert "for what f returns = 3:" in message(lambda f: f(), doubled)


def test_a_dict_is_shown_by_its_entries():
    """Its tensors as those of a list: numbers, or the shape."""
    shown = short_repr({"w": torch.zeros(2), "random": torch.zeros(99)})
    assert shown == "{'w': [0.0, 0.0], 'random': a tensor (99,) torch.float32}"


def test_what_an_exercise_builds_on_is_handed_to_observe(capsys):
    """A class of the page, given to the call, is the last argument of `observe`."""

    class Metres(float):
        pass

    @exercise(
        inputs=lambda draw: (draw.uniform(),),
        observe=lambda answer, x, unit: isinstance(answer(unit(x)), unit),
    )
    def same_unit(x):
        return x

    same_unit(lambda x: x, Metres)
    assert capsys.readouterr().out.startswith("✓ same_unit: 30 of 30")
    same_unit(lambda x: float(x), Metres)
    assert capsys.readouterr().out.startswith("✗ same_unit: 0 of 30")


def test_a_terminal_without_the_mark_is_told_in_words(monkeypatch):
    """stdout that is not UTF-8: no UnicodeEncodeError, and right is not wrong."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", terminal)
    scaled(lambda x, factor: factor * x)
    scaled(lambda x, factor: x)
    terminal.flush()
    right, wrong, *_ = terminal.buffer.getvalue().decode("cp1252").splitlines()
    assert right.startswith("right: scaled") and wrong.startswith("wrong: scaled")


def test_the_limit_is_for_the_answer_alone():
    """A machine may be so slow that the solution itself takes longer: no error of the
    checker's own."""

    def solution(x):
        time.sleep(0.2)
        return 2 * x

    slow = Exercise(solution, cases={"": (1.0,)}, seconds=0.1)
    assert slow.verdict(lambda x: x + x, 0)[0]
