"""What a network asks for, and what a machine can give: operations, bytes, measured ceilings."""

import statistics
import time
from collections import Counter

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode


def clock():
    """The clock for measuring steps: a function that gives seconds.

    With one thread it counts the processor's seconds for this process, which are right on a busy
    machine too, and on an idle one the same as those of the wall clock, which it is otherwise.
    """
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def repeated(call, seconds: float = 1.0, least: int = 3, clock=time.perf_counter, warm=True):
    """What every call took: as many as fit into `seconds`, `least` at least; after one that is not
    measured, if `warm`."""
    if warm:
        call()
    taken, begin = [], clock()
    while len(taken) < least or clock() - begin < seconds:
        start = clock()
        call()
        taken.append(clock() - start)
    return taken


def spread(values: list[float]) -> dict:
    """median, low, high and n of measured values."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values),
            "n": len(values)}  # fmt: skip


def training_step(model: nn.Module, x, y, loss_fn, optimizer=None):
    """A function without arguments: forward, backward and, with an optimizer, its step."""

    def step():
        loss = loss_fn(model(x), y)
        model.zero_grad()
        loss.backward()
        if optimizer is not None:
            optimizer.step()

    return step


def operations(step) -> dict[str, int]:
    """Floating-point operations of one call, by kind of operation.

    Convolutions and matrix products alone, forward and backward; a multiplication and the addition
    after it are two. All else (norms, pooling, the optimizer) is memory traffic: see `traffic`.
    """
    with FlopCounterMode(display=False) as counter:
        step()
    return {str(kind).removeprefix("aten."): count
            for kind, count in counter.get_flop_counts()["Global"].items()}  # fmt: skip


class _Traffic(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.bytes = Counter()

    def __torch_dispatch__(self, kind, types, args=(), kwargs=None):
        result = kind(*args, **(kwargs or {}))
        name = str(kind.overloadpacket).removeprefix("aten.")
        if not (kind.is_view or name.startswith(("empty", "new_empty", "detach", "_unsafe_view"))):
            tensors = [t for t in tree_flatten((args, kwargs, result))[0]
                       if isinstance(t, torch.Tensor)]  # fmt: skip
            different = {(t.data_ptr(), t.numel()): t.numel() * t.element_size() for t in tensors}
            self.bytes[name] += sum(different.values())
        return result


def traffic(step) -> dict[str, int]:
    """Bytes that one call reads and writes, by kind of operation, if nothing stays in a cache:
    every tensor that goes into an operation or comes out of it counts once."""
    with _Traffic() as counter:
        step()
    return {kind: size for kind, size in counter.bytes.most_common() if size}


def matrix_product(n: int, seconds: float = 0.5, clock=time.perf_counter) -> float:
    """Operations a second of an fp32 product of two n × n matrices: 2 n³ of them, the best call."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    out = torch.empty(n, n)
    return 2 * n**3 / min(repeated(lambda: torch.mm(a, b, out=out), seconds, 3, clock))


def peak() -> float:
    """Operations a second that fp32 matrix products reach, at the best of four sizes."""
    return max(matrix_product(n) for n in (256, 512, 1024, 2048))


def copying(size: int, seconds: float = 0.3, clock=time.perf_counter) -> float:
    """Bytes a second, read and written together, of copying a tensor of `size` bytes: the best."""
    source = torch.ones(size // 4)
    target = torch.zeros(size // 4)
    return 2 * size / min(repeated(lambda: target.copy_(source), seconds, 3, clock))
