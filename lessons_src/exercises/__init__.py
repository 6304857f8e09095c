"""Exercises: the reader's answer runs beside the lesson's solution.

Both get the same inputs, drawn anew each time. A file of this package holds the
exercises of the lesson of its name. There

    @exercise(inputs=..., mistakes={"divide by T, do not multiply": wrong_function})
    def softmax_at(logits, T):
        return torch.softmax(logits / T, -1)

makes `softmax_at` the checker: what is written there is the solution, and
`softmax_at(answer)` compares the reader's function with it and prints one verdict. A
checker never raises, whatever the answer does. `inputs` makes arguments from a `Draw`,
whose `size` grows from trial to trial; `cases` are arguments that are always tried. The
text beside a case, and beside the first mistake that answers as the reader does, is the
hint that the reader gets.

Where a statement forbids a ready-made function, `observe` watches the call:
`observe=without(*SOFTMAX)` compares what the answer returns, and refuses an answer that
calls a PyTorch function of one of the names in `SOFTMAX`. `forbidden.py` has such lists
and other watchers. The checker's own solution and mistakes may call what they like.
"""

import contextlib
import copy
import dis
import inspect
import io
import linecache
import os
import random
import secrets
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import log10
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lessons_src.exercises import limits
from lessons_src.exercises.compare import (
    difference,
    plain_value,
    short_repr,
    shortened,
    text_of,
)

SMALL = 6  # what is larger is in the last trials only
TOO_LONG = "your function took more than"
passed: dict[str, bool] = {}  # exercise -> solved, of those tried so far


def summary() -> None:
    """Say how many of the exercises tried so far are solved."""
    print(f"{sum(passed.values())} of {len(passed)} exercises solved")


def say(message: str) -> None:
    """Print a verdict, on a terminal without ✓ in other words."""
    try:
        print(message)
    except UnicodeEncodeError:
        plain = message.replace("✓", "right:").replace("✗", "wrong:").replace("○", "-")
        print(plain.encode("ascii", "replace").decode())


class Draw:
    """Random inputs for one trial.

    `size` grows from 1, so the first failure is a small one. In the last trials it is
    large, and half of the integers are the highest possible: long lists, many rows.
    """

    def __init__(self, seed: int, size: int = 1):
        self.size, self.generator = size, torch.Generator().manual_seed(seed)

    def integer(self, low: int, high: int) -> int:
        """An int from low to high, both included."""
        if self.size > SMALL and torch.rand((), generator=self.generator) < 0.5:
            return high
        return self._any(low, high)

    def _any(self, low: int, high: int) -> int:
        return torch.randint(low, high + 1, (), generator=self.generator).item()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A float between low and high."""
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def choice(self, *options):
        """One of the options."""
        return options[self._any(0, len(options) - 1)]

    def near(self, value: float, least: float = 1e-9) -> float:
        """The value itself, or one that lies beside it: by 10 % of it, or down to
        `least`."""
        return value * (1 + self.choice(-1, 0, 1) * 10 ** self.uniform(log10(least), -1))

    def normal(self, *shape: int, scale: float = 1.0, dtype=torch.float64) -> Tensor:
        """Normal random numbers of this shape, with standard deviation `scale`."""
        return scale * torch.randn(*shape, generator=self.generator, dtype=dtype)

    def numbers(self, *shape: int, dtype=torch.float64) -> Tensor:
        """Numbers of this shape: normal ones, whole ones (many are 0), or ten times as
        large ones. (Where sums cancel, float32 is not exact enough for larger ones.)"""
        x = self.normal(*shape, dtype=dtype)
        return self.choice(x, x, (2 * x).round() + 0.0, 10 * x)  # + 0.0: no -0.0

    def labels(self, n: int, classes: int) -> Tensor:
        """Labels (n,) int64 from 0 to classes - 1."""
        return torch.randint(classes, (n,), generator=self.generator)

    def bytes(self, *shape: int) -> Tensor:
        """uint8 from 0 to 255 of this shape."""
        return torch.randint(256, shape, generator=self.generator).byte()


def value_and_gradient(answer: Callable, x: Tensor, *others):
    """What the answer gives for x, and what comes back to x through it: an `observe`."""
    x = x.clone().requires_grad_()
    y = answer(x, *others)
    if not isinstance(y, Tensor):
        return y
    weights = torch.arange(1.0, 1 + y.numel(), dtype=y.dtype).cos().view(y.shape)
    if not y.requires_grad:
        raise ValueError(
            "no gradient can flow through the result: is x detached, or no_grad on?"
        )
    return y, *torch.autograd.grad((weights * y).sum(), x)


@dataclass
class Exercise:
    """A solution, the inputs that are drawn for it, and the mistakes that are known.

    inputs: Draw -> the arguments. cases: hint -> arguments that must be tried (huge
    values, an empty list, a tie). mistakes: hint -> a function with the mistake that
    this hint explains. hint: for all other wrong answers. observe: (answer,
    *arguments) -> what is compared, where it is more than what the answer returns.
    pure: the answer may not change its arguments. names: what a message calls the
    arguments, where `observe` makes other ones of them. given: what stands in the
    reader's cell, to be repaired: what does the same is no attempt yet.
    """

    solution: Callable
    inputs: Callable[[Draw], tuple] | None = None
    cases: dict[str, tuple] = field(default_factory=dict)
    mistakes: dict[str, Callable] = field(default_factory=dict)
    hint: str = ""
    observe: Callable | None = None
    tolerance: float = 1e-5  # relative and absolute
    trials: int = 30
    largest: int = 20  # the size of the last three trials
    pure: bool = True
    names: tuple[str, ...] = ()
    seconds: float = 10.0  # that one trial may take
    given: Callable | None = None

    def __call__(self, answer, *page) -> None:
        """Print the verdict on the reader's answer, and count it.

        page: a class of the page that the exercise builds on: `observe` gets it last.
        """
        solved, message = self.verdict(answer, secrets.randbits(32), *page)
        passed[f"{self.solution.__module__}.{self.name}"] = solved
        say(message)

    @property
    def name(self) -> str:
        return self.solution.__name__

    def accepts(self, answer, *page) -> bool:
        """Whether the answer is right, on the same inputs each time. Nothing is printed,
        and nothing is counted: a lesson's own solution is tried so."""
        return self.verdict(answer, 0, *page)[0]

    def verdict(self, answer, seed: int, *page) -> tuple[bool, str]:
        """Whether the answer is right, and a line that says so, or says what is wrong."""
        if answer is None or answer is Ellipsis or is_stub(answer):
            return False, f"○ {self.name}: not attempted yet"
        if not callable(answer):
            got = short_repr(answer)
            return False, f"✗ {self.name}: expected a function, received {got}"
        trials = [(hint, (*inputs, *page)) for hint, inputs in self.drawn(seed)]
        for number, (hint, inputs) in enumerate(trials):
            problem = self.problem(answer, inputs)
            if problem:
                if self.given and self.is_as_given(answer, trials):
                    return False, f"○ {self.name}: not attempted yet"
                lines = [
                    f"✗ {self.name}: {number} of {len(trials)} checks passed, then, for "
                    f"{self.arguments_text(inputs)}:",
                    problem,
                    hint or self.hint
                    if problem.startswith(TOO_LONG)  # and would again
                    else self.explained(answer, inputs, trials, hint),
                ]
                return False, "\n  ".join(line for line in lines if line)
        return True, f"✓ {self.name}: {len(trials)} of {len(trials)} checks passed"

    def drawn(self, seed: int) -> list[tuple[str, tuple]]:
        """(hint, arguments) of all trials: small drawn ones, the cases, larger ones."""
        count = self.trials if self.inputs else 0
        sizes = [min(1 + number // 5, SMALL) for number in range(count)]
        if count > 5:
            sizes[-3:] = [self.largest] * 3
        random = [("", self.inputs(Draw(seed + n, size))) for n, size in enumerate(sizes)]
        return random[:5] + list(self.cases.items()) + random[5:]

    def problem(self, answer, inputs) -> str:
        """Why the answer is not right here; "" where it is."""
        given = copy.deepcopy(inputs)
        try:
            got = self.run(answer, given, self.seconds)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # the reader's code: whatever it raises is shown
            return raised(error)
        if got is None or got is Ellipsis:
            return "your function returned nothing here: is a return missing?"
        expected = self.run(self.solution, copy.deepcopy(inputs))
        wrong = self.apart(got, expected, self.tolerance)
        if not wrong and self.pure and self.apart(given, inputs, 0):
            return "your function changed its input: work on a copy, or make new values"
        return wrong

    def run(self, function, inputs, seconds: float | None = None):
        """What is compared: the function's result, or what `observe` sees. TooLong after
        so many seconds, where they are given: a reader's function may never end."""
        limit = limits.seconds(seconds) if seconds else contextlib.nullcontext()
        with undisturbed(), limit:
            call = partial(self.observe, function) if self.observe else function
            # In here, because an iterator runs the reader's code as well
            return plain_value(call(*inputs))

    def apart(self, got, expected, tolerance: float) -> str:
        """`difference`, under the time limit; what cannot be compared is told too."""
        try:
            with limits.seconds(self.seconds):
                return difference(got, expected, tolerance)
        except KeyboardInterrupt:
            raise
        except limits.TooLong as error:
            return raised(error)
        except (
            BaseException
        ) as error:  # a quantized tensor, an object that compares oddly
            said = shortened(f"{type(error).__name__}: {text_of(str, error)}", 200)
            kind = type(got).__name__
            return f"what your function gives, a {kind}, cannot be compared: {said}"

    def explained(self, answer, failed, trials, hint: str) -> str:
        """The hint of the mistake that gives the same everywhere, else the case's own
        hint, else that of a mistake that gives the same here."""
        with contextlib.redirect_stdout(io.StringIO()):  # it has printed once already
            everywhere = self.known_mistake(answer, [inputs for _, inputs in trials])
            return everywhere or hint or self.known_mistake(answer, [failed]) or self.hint

    def known_mistake(self, answer, trials) -> str:
        """The hint of the first mistake that gives, in all these trials, the same."""
        try:
            given = [self.outcome(answer, inputs, self.seconds) for inputs in trials]
        except limits.TooLong:
            return ""
        for hint, mistake in self.mistakes.items():
            same = all(
                not self.apart(got, self.outcome(mistake, inputs), self.tolerance)
                for got, inputs in zip(given, trials, strict=True)
            )
            if same and any(self.problem(mistake, inputs) for inputs in trials):
                return hint
        return ""

    def is_as_given(self, answer, trials) -> bool:
        """Whether the answer does what `given` does, in all these trials."""
        with contextlib.redirect_stdout(io.StringIO()):
            try:
                return all(
                    not difference(
                        self.outcome(answer, inputs, self.seconds),
                        self.outcome(self.given, inputs),
                        self.tolerance,
                    )
                    for _, inputs in trials
                )
            except limits.TooLong:
                return False

    def outcome(self, function, inputs, seconds: float | None = None):
        """What the function gives for these arguments, or the name of its error."""
        try:
            return self.run(function, copy.deepcopy(inputs), seconds)
        except (KeyboardInterrupt, limits.TooLong):
            raise
        except BaseException as error:
            return type(error).__name__

    def arguments_text(self, inputs) -> str:
        """The arguments as the reader knows them: `logits = [[1.0, 2.0]], T = 4`."""
        names = self.names or inspect.signature(self.solution).parameters
        named = zip(names, inputs, strict=False)
        return (
            ", ".join(f"{name} = {short_repr(value)}" for name, value in named)
            or "no arguments"
        )


def exercise(**settings) -> Callable[[Callable], Exercise]:
    """Make the decorated solution an `Exercise`; its settings are those of the class."""
    return lambda solution: Exercise(solution, **settings)


def is_stub(answer) -> bool:
    """Whether it is a function that does nothing yet: `...`, `pass`, a docstring, or
    `raise NotImplementedError`; or a class of such methods."""
    if isinstance(answer, type):
        methods = [value for value in vars(answer).values() if inspect.isfunction(value)]
        return bool(methods) and all(map(is_stub, methods))
    code = getattr(inspect.unwrap(answer) if callable(answer) else None, "__code__", None)
    if code is None:
        return False
    if code.co_names:  # the names of what it uses
        body = [i.opname for i in dis.get_instructions(code)]
        return code.co_names == ("NotImplementedError",) and "RAISE_VARARGS" in body
    short = {"RESUME", "NOP", "LOAD_CONST", "RETURN_CONST", "RETURN_VALUE"}
    steps = list(dis.get_instructions(code))
    values = [i.argval for i in steps if "CONST" in i.opname]
    return all(i.opname in short for i in steps) and set(values) <= {None, ...}


def folder() -> str | None:
    """The working folder; None where it has been removed."""
    return os.getcwd() if os.path.isdir(os.curdir) else None


def back_to(before: str | None) -> None:
    """Make it the working folder again; None: there was none."""
    if before is not None:
        os.chdir(before)


def set_deterministic(mode: int) -> None:
    """0: off, 1: warn, 2: on."""
    torch.set_deterministic_debug_mode(mode)
    if compiler := sys.modules.get("torch._inductor.config"):  # its import takes seconds
        compiler.deterministic = mode > 0


SETTINGS = (  # what an answer may set for the whole process, and what sets it back
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_deterministic_debug_mode, set_deterministic),
    (np.geterr, lambda before: np.seterr(**before)),
    (folder, back_to),
)


@contextlib.contextmanager
def undisturbed():
    """Gradients on; generators of random numbers and settings afterwards as before."""
    states = random.getstate(), np.random.get_state()
    before = [(read, write, read()) for read, write in SETTINGS]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            yield
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            for read, write, value in before:
                if read() != value:
                    write(value)


def raised(error: BaseException) -> str:
    """What the reader's function raised, and in which of its lines."""
    if isinstance(error, limits.TooLong):
        return f"{TOO_LONG} {error} seconds: does a loop never end?"
    said = shortened(f"{type(error).__name__}: {text_of(str, error)}", 400)
    own = [f for f in traceback.extract_tb(error.__traceback__) if is_readers(f.filename)]
    if not own:
        return f"calling your function, or using what it gives, raised {said}"
    line = linecache.getline(own[-1].filename, own[-1].lineno).strip()
    return f"your function raised {said}" + (f"\n  in the line: {line}" if line else "")


def is_readers(filename: str) -> bool:
    """Whether a file of a traceback is neither this course's module nor a library."""
    is_library = "site-packages" in filename or filename.startswith("<frozen")
    inside = (Path(__file__).parents[1], Path(contextlib.__file__).parent)
    return not is_library and not any(p in Path(filename).parents for p in inside)
