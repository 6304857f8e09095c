"""Exercises: the reader's answer runs beside the lesson's solution, on inputs drawn anew
each time.

A file of this package holds the exercises of the lesson of its name. There

    @exercise(inputs=..., mistakes={"divide by T, do not multiply": wrong_function})
    def softmax_at(logits, T):
        return torch.softmax(logits / T, -1)

makes `softmax_at` the checker: `softmax_at(answer)` compares the reader's function
with the solution and prints one verdict. A checker never raises, whatever the answer
does.
"""

import copy
import inspect
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

passed: dict[str, bool] = {}  # exercise -> solved, of those tried so far


def summary() -> None:
    """Say how many of the exercises tried so far are solved."""
    print(f"{sum(passed.values())} of {len(passed)} exercises solved")


class Draw:
    """Random inputs for one trial. `size` grows from 1: the first failure is a small
    one."""

    def __init__(self, seed: int, size: int = 1):
        self.size, self.generator = size, torch.Generator().manual_seed(seed)

    def integer(self, low: int, high: int) -> int:
        """An int from low to high, both included."""
        return torch.randint(low, high + 1, (), generator=self.generator).item()

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A float between low and high."""
        return low + (high - low) * torch.rand((), generator=self.generator).item()

    def choice(self, *options):
        """One of the options."""
        return options[self.integer(0, len(options) - 1)]

    def normal(self, *shape: int, scale: float = 1.0, dtype=torch.float64) -> Tensor:
        """Normal random numbers of this shape, with standard deviation `scale`."""
        return scale * torch.randn(*shape, generator=self.generator, dtype=dtype)

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
    arguments, where `observe` makes other ones of them.
    """

    solution: Callable
    inputs: Callable[[Draw], tuple] | None = None
    cases: dict[str, tuple] = field(default_factory=dict)
    mistakes: dict[str, Callable] = field(default_factory=dict)
    hint: str = ""
    observe: Callable | None = None
    tolerance: float = 1e-5  # relative and absolute
    trials: int = 30
    pure: bool = True
    names: tuple[str, ...] = ()

    def __call__(self, answer, *page) -> None:
        """Print the verdict on the reader's answer, and count it.

        page: a class of the page that the exercise builds on: `observe` gets it last.
        """
        solved, message = self.verdict(answer, secrets.randbits(32), *page)
        passed[f"{self.solution.__module__}.{self.name}"] = solved
        print(message)

    @property
    def name(self) -> str:
        return self.solution.__name__

    def accepts(self, answer, *page) -> bool:
        """Whether the answer is right. Nothing is printed, and nothing is counted: a
        lesson's own solution is tried so."""
        return self.verdict(answer, secrets.randbits(32), *page)[0]

    def verdict(self, answer, seed: int, *page) -> tuple[bool, str]:
        """Whether the answer is right, and the line that says so, or what is wrong and
        where."""
        if answer is None or answer is Ellipsis:
            return False, f"○ {self.name}: not attempted yet"
        if not callable(answer):
            return False, f"✗ {self.name}: expected a function, received {show(answer)}"
        trials = [(hint, (*inputs, *page)) for hint, inputs in self.drawn(seed)]
        for number, (hint, inputs) in enumerate(trials):
            problem = self.problem(answer, inputs)
            if problem == "stub" and number == 0:
                return False, f"○ {self.name}: not attempted yet"
            if problem == "stub":
                problem = "your function returned nothing here: is a return missing?"
            if problem:
                lines = [
                    f"✗ {self.name}: {number} of {len(trials)} checks passed, then, for "
                    f"{self.described(inputs)}:",
                    problem,
                    self.explained(answer, inputs, trials, hint),
                ]
                return False, "\n  ".join(line for line in lines if line)
        return True, f"✓ {self.name}: {len(trials)} of {len(trials)} checks passed"

    def drawn(self, seed: int) -> list[tuple[str, tuple]]:
        """(hint, arguments) of all trials: small drawn ones, the cases, then larger
        ones."""
        count = self.trials if self.inputs else 0
        sizes = [1 + number // 5 for number in range(count)]
        random = [("", self.inputs(Draw(seed + n, size))) for n, size in enumerate(sizes)]
        return random[:5] + list(self.cases.items()) + random[5:]

    def problem(self, answer, inputs) -> str:
        """Why the answer is not right here: "" if it is, "stub" if it does nothing."""
        given = copy.deepcopy(inputs)
        try:
            got = self.run(answer, given)
        except NotImplementedError:
            return "stub"
        except (
            Exception,
            SystemExit,
        ) as error:  # the reader's code: shown, whatever it raises
            return f"your function raised {type(error).__name__}: {error}"
        if got is None or got is Ellipsis:
            return "stub"
        wrong = difference(
            got, self.run(self.solution, copy.deepcopy(inputs)), self.tolerance
        )
        if not wrong and self.pure and difference(given, inputs, 0):
            return "your function changed its input: work on a copy, or make new values"
        return wrong

    def run(self, function, inputs):
        """What is compared: the function's result, or what `observe` sees."""
        return self.observe(function, *inputs) if self.observe else function(*inputs)

    def explained(self, answer, failed, trials, hint: str) -> str:
        """The hint of the mistake that gives the same everywhere, else the case's own
        hint, else that of a mistake that gives the same here."""
        everywhere = [inputs for _, inputs in trials]
        for known in (self.known_mistake(answer, everywhere), hint):
            if known:
                return known
        return self.known_mistake(answer, [failed]) or self.hint

    def known_mistake(self, answer, trials) -> str:
        """The hint of the first mistake that gives what the answer gives in all these
        trials."""
        for hint, mistake in self.mistakes.items():
            is_wrong = any(self.problem(mistake, inputs) for inputs in trials)
            if is_wrong and all(self.alike(answer, mistake, i) for i in trials):
                return hint
        return ""

    def alike(self, answer, mistake, inputs) -> bool:
        """Whether both give the same for these arguments, or both fail in the same
        way."""
        results = []
        for function in (answer, mistake):
            try:
                results.append(self.run(function, copy.deepcopy(inputs)))
            except (Exception, SystemExit) as error:
                results.append(type(error).__name__)
        return not difference(*results, self.tolerance)

    def described(self, inputs) -> str:
        """The arguments as the reader knows them: `logits = [[1.0, 2.0]], T = 4`."""
        names = self.names or inspect.signature(self.solution).parameters
        named = zip(names, inputs, strict=False)
        return (
            ", ".join(f"{name} = {show(value)}" for name, value in named)
            or "no arguments"
        )


def exercise(**settings) -> Callable[[Callable], Exercise]:
    """Make the decorated solution an `Exercise`; its settings are those of the class."""
    return lambda solution: Exercise(solution, **settings)


def difference(got, expected, tolerance: float) -> str:
    """How two results differ, in a sentence; "" where they are the same."""
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return f"expected a dict with the keys {list(expected)}, received {show(got)}"
        got, expected = tuple(got[k] for k in expected), tuple(expected.values())
    if isinstance(expected, tuple | list):
        if not isinstance(got, tuple | list) or len(got) != len(expected):
            return f"expected {len(expected)} values, received {show(got)}"
        parts = [difference(*pair, tolerance) for pair in zip(got, expected, strict=True)]
        return next((f"value {k}: {part}" for k, part in enumerate(parts, 1) if part), "")
    if not isinstance(expected, Tensor | int | float) or isinstance(expected, bool):
        same = type(got) is type(expected) and got == expected
        return "" if same else f"expected {show(expected)}, received {show(got)}"
    return tensor_difference(got, expected, tolerance)


def tensor_difference(got, expected, tolerance: float) -> str:
    """`difference` for tensors and numbers: shape, dtype, then values."""
    try:
        got_t, expected_t = (
            torch.as_tensor(got).detach(),
            torch.as_tensor(expected).detach(),
        )
    except (TypeError, ValueError, RuntimeError):
        return f"expected {show(expected)}, received {show(got)}"
    if got_t.shape != expected_t.shape:
        return (
            f"expected the shape {tuple(expected_t.shape)}, received {tuple(got_t.shape)}"
        )
    floats = got_t.is_floating_point(), expected_t.is_floating_point()
    if isinstance(expected, Tensor) and floats[0] != floats[1]:
        return f"expected the dtype {expected_t.dtype}, received {got_t.dtype}"
    got_t, expected_t = got_t.double(), expected_t.double()
    if torch.allclose(got_t, expected_t, tolerance, tolerance, equal_nan=True):
        return ""
    if show(got) == show(expected):
        gap = (got_t - expected_t).abs().max().item()
        return f"{show(got)} differs from what is expected by up to {gap:.2g}"
    return f"expected {show(expected)}, received {show(got)}"


def show(value) -> str:
    """A value in a few words: numbers to six digits, a large tensor by its shape."""
    if isinstance(value, Tensor) and value.numel() > 12:
        return f"a tensor {tuple(value.shape)} {value.dtype}"
    if isinstance(value, Tensor):
        return str(_rounded(value.detach().tolist()))
    if isinstance(value, dict):
        text = ", ".join(f"{key!r}: {show(entry)}" for key, entry in value.items())
        text = "{" + text + "}"
    elif isinstance(value, tuple | list):
        inner = ", ".join(map(show, value))
        text = f"({inner})" if isinstance(value, tuple) else f"[{inner}]"
    else:
        text = f"{value:.6g}" if isinstance(value, float) else repr(value)
    return text if len(text) <= 160 else text[:157] + "..."


def _rounded(numbers):
    if isinstance(numbers, list):
        return [_rounded(n) for n in numbers]
    return float(f"{numbers:.6g}") if isinstance(numbers, float) else numbers
