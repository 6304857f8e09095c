"""What a statement forbids: a ready-made softmax, autograd, a module, a Python loop.

Each is an `observe`, or the part of one. The checkers' own solutions and mistakes may do
what a reader may not.
"""

import contextlib
from collections.abc import Callable
from unittest import mock

from torch import Tensor, nn, optim
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

AUTOGRAD = ("grad", "backward")
CONVOLUTION = ("conv1d", "conv2d", "conv3d", "convolution", "conv_transpose2d")
UNFOLD = ("torch.nn.functional.unfold", "im2col")  # Tensor.unfold is another one
SOFTMAX = ("softmax", "softmin", "log_softmax", "special_softmax", "special_log_softmax")
LOGSUMEXP = ("logsumexp", "special_logsumexp")
SIGMOID = ("sigmoid", "special_expit", "log_sigmoid")


class NotAllowed(Exception):
    """Raised in the reader's line that does what the statement forbids."""


class Without(TorchFunctionMode):
    """PyTorch's functions of these names are not allowed; without names, none is.

    A name may tell its module, as in "torch.nn.functional.unfold".
    """

    def __init__(self, names: tuple[str, ...]):
        super().__init__()
        self.names = names

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        full = f"{getattr(func, '__module__', '')}.{name}"
        if not self.names or name in self.names or full in self.names:
            what = f"PyTorch's {name}" if self.names else "PyTorch"
            raise NotAllowed(f"the exercise is to be solved without {what}")
        return func(*args, **(kwargs or {}))


def is_ours(answer: Callable) -> bool:
    """Whether the function is a checker's own, or a partial one of it."""
    answer = getattr(answer, "func", answer)
    return str(getattr(answer, "__module__", "")).startswith("lessons_src.")


def without(*names: str) -> Callable:
    """An `observe`: what the answer gives, if it does without these functions."""

    def observe(answer, *inputs):
        with contextlib.nullcontext() if is_ours(answer) else Without(names):
            return answer(*inputs)

    return observe


def without_modules(answer, *inputs):
    """What the answer gives, if it makes no module and no optimiser: an `observe`."""
    if is_ours(answer):
        return answer(*inputs)
    with contextlib.ExitStack() as stack:
        for kind in (nn.Module, optim.Optimizer):
            stack.enter_context(mock.patch.object(kind, "__init__", refused))
        return answer(*inputs)


def refused(self, *args, **kwargs):
    """In the place of an `__init__`."""
    raise NotAllowed(f"the exercise is to be solved without {type(self).__name__}")


def names_called(answer: Callable) -> set[str]:
    """The globals and attributes that the body of a function names."""
    code = getattr(answer, "__code__", None)
    return set(code.co_names) if code else set()


class Vectorised(TorchDispatchMode):
    """At most so many operations, and no new tensor of so many numbers."""

    def __init__(self, operations: int, numbers: int):
        super().__init__()
        self.left, self.numbers = operations, numbers

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.left -= 1
        if self.left < 0:
            raise NotAllowed("no Python loop: do it for all rows in a few operations")
        if isinstance(result, Tensor) and room(result) >= self.numbers:
            shape = tuple(result.shape)
            raise NotAllowed(f"an operation on the way takes too much memory: {shape}")
        return result


def room(tensor: Tensor) -> int:
    """How many numbers its memory holds: a view adds none."""
    return tensor.untyped_storage().nbytes() // max(tensor.element_size(), 1)


class OnePass(list):
    """A list that may be run through once."""

    seen = False

    def __iter__(self):
        if self.seen:
            raise NotAllowed("look at each batch once: here you start a second time")
        self.seen = True
        return super().__iter__()
