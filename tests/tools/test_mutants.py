"""The command that breaks the module, and what it says of tests that look away."""

import gc
import os
import subprocess
import sys
import time
from types import FunctionType

import pytest
import torch
from lesson_source import ROOT

from lessons_src import data, download, train  # noqa: F401 (before a child is made)
from lessons_src.scale import checkpoint  # noqa: F401
from tools import mutants
from tools.mutations import Mutant, mutants_of

SOURCE = b'''
SIZE = 3

def first(numbers: list[int], n: int = 1):
    """The first n, \xc3\xa4 all of them where there are fewer; 7 is no number of it."""
    if not numbers or n < 0:
        raise ValueError(f"n must be 0 or more, received {n + 0}")
    return numbers[
        : n + 1 - 1
    ]
'''


def test_each_mutant_is_one_small_mistake():
    """Comparisons, signs, numbers, conditions, removals, None; each in its line, and no
    line moves. No mutant of annotations, docstrings and messages."""
    found = mutants_of("a.py", SOURCE)
    shown = [str(mutant) for mutant in found]
    for text in (
        "a.py:2: SIZE = 3  →  SIZE = 4",
        "a.py:6: if not numbers or n < 0:  →  if not numbers and n < 0:",
        "a.py:6: if not numbers or n < 0:  →  if not numbers or n <= 0:",
        "a.py:6: if not numbers or n < 0:  →  if numbers or n < 0:",
        "a.py:6: if not numbers or n < 0:  →  if not numbers or n < 1:",
        "a.py:8: return numbers[:n + 1 - 1]  →  return None",
        "a.py:9: return numbers[:n + 1 - 1]  →  return numbers[:n - 1 - 1]",
    ):
        assert text in shown, text
    assert any(text.endswith("→  pass") for text in shown)
    assert not [text for text in shown if "received" in text.split("→")[1]]
    for mutant in found:
        assert mutant.text.count(b"\n") == SOURCE.count(b"\n") and mutant.text != SOURCE
        compile(mutant.text, "a.py", "exec")
    assert [m.in_function for m in found if m.line in (2, 4, 6)] == [0] * 4 + [1] * 6


def test_functions_get_the_mutants_code_wherever_they_are_held(tmp_path, monkeypatch):
    """Also where another module has imported them by name."""
    monkeypatch.chdir(tmp_path)
    path = str(tmp_path / "a.py")
    module = {}
    exec(compile(SOURCE, path, "exec"), module)
    held = module["first"]
    (mutant,) = (m for m in mutants_of("a.py", SOURCE) if "n - 1 - 1" in m.after)
    assert held([1, 2, 3], 2) == [1, 2]
    mutants.put_in(mutant, [held])
    assert held([1, 2, 3], 2) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_returns_crashes_or_is_ended():
    """None of the three harms the process that asked."""
    assert mutants.in_child(lambda: [1], 60) == ("returned", [1])
    assert mutants.in_child(lambda: os.kill(os.getpid(), 9), 60) == ("crashed", None)
    assert mutants.in_child(lambda: time.sleep(60), 0.1) == ("timed out", None)


# What every lesson stands on: module, the function as its `def` begins, a part of it, what
# that is broken into, and how the name of the test begins that notices.
KEY_LINES = """
train | fit | optimizer.zero_grad() | pass | test_fit_equals_a_loop
train | fit | loss.backward() | pass | test_fit_equals_a_loop
train | fit | optimizer.step() | pass | test_fit_equals_a_loop
train | fit | loss.item() * len(y) | loss.item() | test_fit_equals_a_loop
train | fit | logits.argmax(1) | logits.argmin(1) | test_fit_equals_a_loop
train | fit | scheduler.step() | pass | test_scheduler_is_stepped
train | fit | model.train() | pass | test_fit_trains_in_training_mode
train | fit | if not loss.isfinite() | if False | test_fit_stops_on_a_loss
train | evaluate | model.eval() | pass | test_fit_trains_in_training_mode
train | evaluate | * len(y) | * batch_size | test_evaluate_covers_the_split
train | evaluate | argmax(1) | argmin(1) | test_evaluate_covers_the_split
train | evaluate | model.train(was_training) | pass | test_evaluate_restores_the_mode[T
train | accuracy | argmax(1) | argmin(1) | test_accuracy_refuses_a_column_of_labels
train | batches | torch.randperm(n, generator=generator) | torch.arange(n) | test_the_gen
data | scaled | / 255 | / 256 | test_split_slices
data | normalised(self, mean | div_(255) | div_(256) | test_split_slices
data | hold_out | self[order[n:]] | self[order] | test_split_slices
download | unpacked | != sha256 | != sha256 and not packed | test_a_damaged_local_file_is_replaced
download | _downloaded | != sha256 | == "" | test_an_altered_download
scale/checkpoint | load | "cpu", weights_only=True | "cpu", weights_only=False | test_a_file_w
"""
KEY_LINES = [line.split(" | ") for line in KEY_LINES.strip().splitlines()]
TESTS_OF = {
    "train": "module/test_train.py",
    "data": "module/test_data.py",
    "download": "faults/test_downloads.py",
    "scale/checkpoint": "module/test_checkpoint.py",
}


def broken(module, function, before, after) -> Mutant:
    """The module with this line of the function broken."""
    file = ROOT / f"lessons_src/{module}.py"
    text = file.read_text(encoding="utf-8")
    _, begin, body = text.partition(f"def {function}")
    assert before in body.partition("\ndef ")[0], (
        f"{function} in {file.name} has no `{before}` any more: name what it has now"
    )
    start, begin, body = text.partition(f"def {function}")
    text = start + begin + body.replace(before, after, 1)
    return Mutant(str(file), text.encode(), (range(0), range(0)), before, after, True)


class Trial:
    """A pytest plugin: each test on the sound module, and on the one with its broken
    line. How the two ended: "passed", or the name of the error."""

    def __init__(self, lines):
        self.lines, self.ends, self.end = lines, [], ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        if call.excinfo and self.end == "passed":
            self.end = call.excinfo.typename
        return (yield)

    def run(self, item) -> str:
        if item is None:
            return "there is no such test"
        self.end = "passed"
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
        return self.end

    def pytest_runtestloop(self, session):
        gc.unfreeze()  # what conftest.py has frozen is not listed
        functions = [f for f in gc.get_objects() if type(f) is FunctionType]
        functions = [f for f in functions if "lessons_src" in f.__code__.co_filename]
        sound = [(function, function.__code__) for function in functions]
        for mutant, test in self.lines:
            item = next((i for i in session.items if i.name.startswith(test)), None)
            before = self.run(item)
            mutants.put_in(mutant, functions)
            self.ends.append((before, self.run(item)))
            for function, code in sound:
                function.__code__ = code
        return True


@pytest.fixture(scope="module")
def ends():
    """Of all key lines: how the test ended before the line was broken, and after."""
    if not hasattr(os, "fork"):
        pytest.skip("no fork on this system")

    trial = Trial([(broken(*line), test) for *line, test in KEY_LINES])

    def work():
        torch.set_num_threads(1)  # no other thread lives in a fork
        mutants.silent()
        files = [f"{ROOT}/tests/{file}" for file in TESTS_OF.values()]
        pytest.main([*mutants.QUIET, *files], plugins=[trial])
        return trial.ends

    return mutants.in_child(work, 300)


@pytest.mark.parametrize(
    "number", range(len(KEY_LINES)), ids=[" ".join(line[:3]) for line in KEY_LINES]
)
def test_a_key_line_that_is_broken_is_noticed(ends, number):
    """By an assertion of a test that passes where the line is whole."""
    module, function, before, after, test = KEY_LINES[number]
    assert ends[0] == "returned" and len(ends[1]) == len(KEY_LINES), (
        "the run was cut short"
    )
    whole, now = ends[1][number]
    assert whole == "passed", f"{test} does not pass on the sound module: {whole}"
    assert now in ("AssertionError", "Failed"), (
        f"{test} does not notice `{after}` for `{before}` in {module}.{function}: {now}"
    )


@pytest.mark.sweep
@pytest.mark.parametrize("tests, left", [("test_expect", 0), ("test_svg", 1)])
def test_the_command_says_what_no_test_notices(tests, left):
    """One line with its own tests, and with tests of something else."""
    line = (ROOT / "lessons_src/expect.py").read_text(encoding="utf-8")
    number = 1 + line[: line.index("fits = is_whole")].count("\n")
    command = [sys.executable, "-m", "tools.mutants", f"lessons_src/expect.py:{number}"]
    run = subprocess.run(
        [*command, "--tests", f"tests/module/{tests}.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert run.returncode == left, run.stderr
    assert ("no test notices  lessons_src/expect.py:" in run.stdout) == bool(left)
