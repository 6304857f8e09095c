"""What a cell promises is tried where it was computed, and must be able to fail."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from lesson_source import LESSONS, ROOT, cells
from nbformat.v4 import new_code_cell

from lessons_src.train import History
from tools import promises
from tools.promises import Broken, bounds, can_fail, kept, true_by_definition

PAGES = [path.stem for path in LESSONS]
PAGES += [f"../book/{path.stem}" for path in sorted((ROOT / "book").glob("*.ipynb"))]
# Ranges of measured seconds, and of counts out of 300 starts.
JUDGED = {f"0 <= seconds['{name}'] <= 6" for name in ("mnist-99", "mnist-99-quick")}
JUDGED |= {f"0 <= silent['{n}'] <= 8" for n in ("4 channels", "leaky ReLU", "batch norm")}
NAMES = {
    "accuracy": 0.82,
    "tanh": 0.9,
    "relu": 0.8,
    "losses": [3.0, 2.0, 1.0],
    "by_name": {"mean": 1.5, "best": 2.5},
    "counts": torch.tensor([5, 6, 7]),
    "array": np.array([0.1, 0.2]),
    "same": True,
    "single": torch.tensor(2.0),
    "word": "done",
    "history": History(loss=[2.0, 1.0]),
    "model": torch.nn.Linear(2, 2),
    "math": math,
    "check": lambda answer: answer is math.sqrt,
    "answer": math.sqrt,
}


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("0.81 <= accuracy <= 0.83", 0.82),
        ("0 <= accuracy - relu < 1e-1", 0.02),
        ("tanh > relu", None),
        ("losses[0] > losses[-1]", None),
        ("all(a > b for a, b in zip(losses, losses[1:]))", None),
        ("-1 <= by_name['mean'] <= 2", 1.5),
        ("by_name['best'] >= by_name['mean']", None),
        ("(counts >= 5).all()", None),
        ("array.max() < 0.3", None),
        ("same", None),
        ("1 <= single.item() <= 3", 2.0),
        ("counts.shape == (3,)", None),
        ("word == 'done'", None),
        ("history.loss[0] > history.loss[1]", None),
        ("check(answer)", None),
        ("math.isfinite(accuracy) and accuracy > 0", None),
    ],
)
def test_a_kept_promise_gives_the_number_in_its_range(condition, value):
    """To four digits, and null where it is no range."""
    assert json.loads(kept([condition], NAMES)) == [value]


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("0.83 <= accuracy <= 0.85", "is broken: accuracy is 0.82"),
        ("relu > tanh", "relu is 0.8, tanh is 0.9"),
        ("nothing > 1", "NameError"),
        ("not same", "false"),
        ("1 <= float('nan') <= 2", "broken"),
    ],
)
def test_a_broken_promise_says_what_was_found(condition, message):
    """The condition and its sides."""
    with pytest.raises(Broken, match=f"(?s){message}"):
        kept([condition], NAMES)


@pytest.mark.parametrize(
    "condition",
    [
        "True",
        "1 < 2",
        "accuracy == accuracy",
        "accuracy * 0 == 0",
        "len(losses) >= 0",
        "accuracy > 0 or accuracy <= 0",
        "max(losses) >= min(losses)",
        "isinstance(accuracy, float)",
        "math.pi > 3",
    ],
)
def test_a_promise_that_always_holds_is_refused(condition):
    """Whatever numbers the names stand for, these hold: they promise nothing."""
    assert not can_fail(condition, NAMES)
    with pytest.raises(Broken, match="holds whatever"):
        kept([condition], NAMES)


@pytest.mark.parametrize(
    ("condition", "is_empty"),
    [
        ("0 <= share <= 1", True),
        ("0.0 < by_class['shirt'] < 1", True),
        ("0 <= min(shares) <= 1", True),
        ("0 <= silent <= 8", True),
        ("twice > once or not on_gpu", True),
        ("on_gpu or twice > once", True),
        ("0.3 <= share <= 1", False),
        ("0 <= share <= 0.9", False),
        ("0 <= abs(slope - 1) <= 1", False),
        ("0 <= number_wrong <= 1000", False),
        ("0 <= drift <= 1e-5", False),
        ("share > 0.3 or loss < 2", False),
        ("accuracy > 0.3", False),
    ],
)
def test_what_is_true_by_definition(condition, is_empty):
    """A share between 0 and 1, a count of a few, and what a switch turns off."""
    assert bool(true_by_definition(condition)) is is_empty


@pytest.mark.parametrize("page", PAGES)
def test_no_promise_is_true_by_definition(page):
    """On the real data and on the stand-in."""
    found = {
        condition: why
        for cell in cells(page)
        for condition in promises.of(cell, False) + promises.of(cell, True)
        if (why := true_by_definition(condition)) and condition not in JUDGED
    }
    assert not found, (
        f"{list(found.items())}: leave it out, or give the range that a wrong conclusion "
        "would leave"
    )


def test_nothing_is_changed():
    """Trying leaves the lesson's own values as they are."""
    names = {"x": [1.0, 2.0], "t": torch.ones(3), "h": History(loss=[1.0])}
    kept(["x[0] < x[1]", "t.sum() > 2", "h.loss[0] == 1"], names)
    assert names["x"] == [1.0, 2.0] and names["t"].tolist() == [1, 1, 1]
    assert names["h"].loss == [1.0] and names.keys() == {"x", "t", "h"}


def test_the_standin_has_promises_of_its_own():
    """They stand in the place of the others; an empty list promises nothing."""
    cell = new_code_cell("", metadata={"promise": ["a > 1"]})
    assert promises.of(cell, standin=True) == ["a > 1"]
    cell.metadata["promise_on_standin"] = []
    assert promises.of(cell, standin=True) == []
    assert promises.of(cell, standin=False) == ["a > 1"]


def test_bounds_are_those_of_a_range_between_constants():
    """Everything else is a comparison: a tick in the book."""
    assert bounds("0.5 <= x <= 2 * 3") == (0.5, "x", 6.0)
    assert bounds("-1 < abs(x) < 1e-3") == (-1.0, "abs(x)", 1e-3)
    for other in ("x > 1", "low <= x <= high", "1 >= x >= 0", "x", "f(x)", "a == b"):
        assert bounds(other) is None


def test_the_kernels_reply_is_read():
    """Values where all were kept; the message where one was not."""

    def reply(**result):
        return {"content": {"user_expressions": {"kept": result}}}

    ok = reply(status="ok", data={"text/plain": "'[0.5, null]'"})
    assert promises.read(ok) == [0.5, None]
    with pytest.raises(Broken, match="x is 3"):
        promises.read(reply(status="error", ename="Broken", evalue="x is 3"))


def test_every_promise_is_python():
    """Of every lesson, on the real data and on the stand-in; and no list is forgotten."""
    for path in LESSONS:
        for cell in cells(path.stem):
            for condition in promises.of(cell, False) + promises.of(cell, True):
                compile(condition, path.name, "eval")
            if "promise_on_standin" in cell.metadata:
                assert "promise" in cell.metadata


def test_form_without_digits():
    """Numbers of other lengths are alike; words and shapes of lines are not."""
    same = promises.in_form
    assert same("accuracy  9.81 %") == same("accuracy 98.10 %")
    assert same("a 1") != same("b 1") and same("a\n1") != same("a 1")
    assert same(SimpleNamespace) is SimpleNamespace
