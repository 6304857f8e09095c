"""The command that breaks the module, and what it says of tests that look away."""

import os
import subprocess
import sys
import time

import pytest
from lesson_source import ROOT

from tools import mutants
from tools.mutations import mutants_of

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
