"""How cost grows: a training step against parameters, examples and batch.

    python -m benchmarks.cost                 records/cost.json, about three minutes
    python -m benchmarks.cost --threads 2     with two threads

The values of pixels and weights do not change what a step costs: the images are noise,
and no data are needed. With one thread, seconds are those of the processor for this
process, which are right on a busy machine too; with more they are those of the wall
clock, and the machine should be idle.
"""

import argparse
import math
import time
from collections import Counter
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import (
    check_replaces,
    errors_in_a_sentence,
    keep_memory,
    load_average,
    machine,
    median_and_range,
    options,
    write_record,
)
from lessons_src import recipes
from lessons_src.data import Split
from lessons_src.models import cnn, mlp
from lessons_src.train import fit

BATCH = 128
NETWORKS = {"mlp": partial(mlp, 784, 100, 10), "cnn": recipes.small}  # the course's own
MLP_WIDTHS = (16, 32, 64, 128, 256, 512, 1024, 2048)
CNN_WIDTHS = (4, 8, 16, 32, 64)
WIDTHS = {
    "mlp": {w: partial(mlp, 784, w, w, 10) for w in MLP_WIDTHS},
    "cnn": {c: partial(cnn, (c,), (2 * c, 2 * c), (4 * c,)) for c in CNN_WIDTHS},
}
EXAMPLES = (1000, 3000, 10_000, 30_000, 60_000)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
PRODUCTS = (16, 32, 64, 128, 256, 512, 1024, 2048)
ADAMW = partial(torch.optim.AdamW, lr=1e-3, fused=True)
COPIES = tuple(4**k * 1024 for k in range(2, 10))  # 16 KB, in a cache, to 256 MB, outside


# What a step asks for, and what a machine can give -------------------------------------


def clock():
    """The clock for steps: the processor's with one thread, else the wall clock."""
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def repeated(call, seconds=1.0, least=3, clock=time.perf_counter, warm=True) -> list:
    """The seconds of every call: as many as fit into `seconds`, and `least` at least.

    warm: a first call is not measured.
    """
    if warm:
        call()
    measured, begin = [], clock()
    while len(measured) < least or clock() - begin < seconds:
        start = clock()
        call()
        measured.append(clock() - start)
    return measured


def training_step(model: nn.Module, x, y, loss_fn, optimizer=None):
    """A function without arguments: forward, backward, and the optimizer's step."""

    def step():
        loss = loss_fn(model(x), y)
        model.zero_grad()
        loss.backward()
        if optimizer is not None:
            optimizer.step()

    return step


def operations(step) -> dict[str, int]:
    """Floating-point operations of one call, by kind of operation.

    Only convolutions and matrix products count, forward and backward; a multiplication
    and the addition after it are two. All else (norms, pooling, the optimizer) is memory
    `traffic`.
    """
    with FlopCounterMode(display=False) as counter:
        step()
    counts = counter.get_flop_counts()["Global"]
    return {str(kind).removeprefix("aten."): count for kind, count in counts.items()}


class TrafficCounter(TorchDispatchMode):
    """Counts the bytes of all tensors that go into an operation or come out of it."""

    NO_TRAFFIC = ("empty", "new_empty", "detach", "_unsafe_view")  # they touch no number

    def __init__(self):
        super().__init__()
        self.bytes = Counter()

    def __torch_dispatch__(self, kind, types, args=(), kwargs=None):
        result = kind(*args, **(kwargs or {}))
        name = str(kind.overloadpacket).removeprefix("aten.")
        if not kind.is_view and not name.startswith(self.NO_TRAFFIC):
            tensors = filter(torch.is_tensor, tree_leaves((args, kwargs, result)))
            sizes = {(t.data_ptr(), t.numel()): t.nbytes for t in tensors}  # each once
            self.bytes[name] += sum(sizes.values())
        return result


def traffic(step) -> dict[str, int]:
    """Bytes that one call reads and writes, by kind, if nothing stays in a cache."""
    with TrafficCounter() as counter:
        step()
    return {kind: size for kind, size in counter.bytes.most_common() if size > 0}


def matrix_product(n: int, seconds=0.5, clock=time.perf_counter) -> float:
    """Operations a second, the best call, of a product of n × n matrices: 2 n³ each.

    n is 16, 32 or a multiple of 64. As a convolution of 1×1 another library does the same
    work, twice as fast on AMD's processors; the faster one counts.
    """
    a, b, out = torch.randn(n, n), torch.randn(n, n), torch.empty(n, n)
    height = min(n // 16, 4)
    x = a.view(16, n, height, -1).contiguous(memory_format=torch.channels_last)
    kernel = b.view(n, n, 1, 1)
    product = repeated(lambda: torch.mm(a, b, out=out), seconds / 2, 3, clock)
    convolution = repeated(lambda: torch.conv2d(x, kernel), seconds / 2, 3, clock)
    return 2 * n**3 / min(product + convolution)


def copying(size: int, seconds=0.3, clock=time.perf_counter) -> float:
    """Bytes a second, the best call, of copying `size` bytes: read and written."""
    source, target = torch.ones(size // 4), torch.zeros(size // 4)
    return 2 * size / min(repeated(lambda: target.copy_(source), seconds, 3, clock))


# Seconds against sizes -----------------------------------------------------------------


def slope(sizes: list[float], seconds: list[float]) -> float:
    """Least squares through the points on log-log axes: k where seconds = c · sizeᵏ."""
    x = torch.tensor(sizes, dtype=torch.float64).log()
    y = torch.tensor(seconds, dtype=torch.float64).log()
    x = x - x.mean()
    return ((x @ y) / (x @ x)).item()


def line(points: list[dict]) -> dict:
    """Points and the slope through all of them, and through the three largest."""
    sizes = [point["size"] for point in points]
    seconds = [point["seconds"]["median"] for point in points]
    largest = slope(sizes[-3:], seconds[-3:])
    return {"points": points, "slope": slope(sizes, seconds), "slope_of_largest": largest}


def step_of(network, batch: int, channels_last: bool, optimizer=ADAMW):
    """A training step of a network on noise, as `fit` does it, and its parameters."""
    torch.manual_seed(0)
    model = network().train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    x, y = torch.rand(batch, 1, 28, 28), torch.arange(batch) % 10  # (B, 1, 28, 28), (B,)
    step = training_step(model, x, y, F.cross_entropy, optimizer(model.parameters()))
    return step, sum(p.numel() for p in model.parameters())


def step_point(kind: str, network, batch: int, budget: float) -> dict:
    """Seconds of a step, its parameters and operations."""
    step, parameters = step_of(network, batch, channels_last=kind == "cnn")
    return {
        "size": parameters,
        "parameters": parameters,
        "batch_size": batch,
        "seconds": median_and_range(repeated(step, budget, 5, clock())),
        "operations": sum(operations(step).values()),
    }


def by_parameters(kind: str, budget: float) -> dict:
    """A step of batches of 128 against the parameters: one network, made wider."""
    points = []
    for width, network in WIDTHS[kind].items():
        points.append(step_point(kind, network, BATCH, budget) | {"width": width})
    return line(points)


def by_batch(kind: str, budget: float) -> dict:
    """A step of the course's network against the number of examples in a batch.

    The convolutions start from two: batch norm has no variance of a single value.
    """
    points = []
    for batch in BATCHES if kind == "mlp" else BATCHES[1:]:
        point = step_point(kind, NETWORKS[kind], batch, budget)
        per_example = point["seconds"]["median"] / batch
        points.append(point | {"size": batch, "per_example": per_example})
    return line(points)


def by_examples(kind: str, budget: float) -> dict:
    """An epoch of `fit` with batches of 128 against the number of training examples."""
    points = []
    for n in EXAMPLES:
        split = Split(torch.rand(n, 1, 28, 28), torch.arange(n) % 10)
        torch.manual_seed(0)
        model = NETWORKS[kind]().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        generator = torch.Generator().manual_seed(0)
        options = {"batch_size": BATCH, "generator": generator, "progress": False}
        epoch = partial(fit, model, split, 1, optimizer, **options)
        least = 3 if n <= 10_000 else 1
        seconds = repeated(epoch, budget, least, clock(), warm=n < 10_000)
        points.append({"size": n, "seconds": median_and_range(seconds)})
    return line(points)


def ceilings(budget: float) -> dict:
    """What the machine gives: operations a second in products, bytes in copies.

    peak is the best of the products; memory is the largest copy, beyond all caches.
    """
    speeds = {n: matrix_product(n, budget, clock()) for n in PRODUCTS}
    copies = {size: copying(size, budget, clock()) for size in COPIES}
    return {
        "matrix_product": [
            {"size": n, "operations_per_second": speed} for n, speed in speeds.items()
        ],
        "copy": [{"bytes": n, "bytes_per_second": speed} for n, speed in copies.items()],
        "peak": max(speeds.values()),
        "memory": copies[COPIES[-1]],
    }


def roofline(budget: float) -> list[dict]:
    """A step of each of the course's recipes: operations and bytes, by kind, and seconds.

    Operations over bytes is the arithmetic intensity. A step cannot be shorter than its
    operations over the machine's peak, nor, where nothing stays in a cache, than its
    bytes over the memory's speed.
    """
    rows = []
    for recipe in recipes.OWN.values():
        step, parameters = step_of(
            recipe.network, recipe.batch_size, recipe.channels_last, recipe.optimizer
        )
        operations_by_kind, bytes_by_kind = operations(step), traffic(step)
        row = {
            "recipe": recipe.name,
            "parameters": parameters,
            "batch_size": recipe.batch_size,
            "operations": sum(operations_by_kind.values()),
            "bytes": sum(bytes_by_kind.values()),
            "seconds": median_and_range(repeated(step, budget, 5, clock())),
        }
        row |= {"operations_by_kind": operations_by_kind, "bytes_by_kind": bytes_by_kind}
        rows.append(row)
    return rows


# The command ---------------------------------------------------------------------------


def measure(budget: float) -> dict:
    """Everything, with `budget` seconds for a point (a longer point has its repeats)."""
    record = {"batch_size": BATCH, "clock": clock().__name__}
    curves = {"parameters": by_parameters, "batch": by_batch, "examples": by_examples}
    for name, curve in curves.items():
        record[name] = {}
        for kind in NETWORKS:
            record[name][kind] = curve(kind, budget)
            print(sentence(name, kind, record[name][kind]), flush=True)
    record["ceilings"] = ceilings(budget / 2)
    peak, memory = record["ceilings"]["peak"], record["ceilings"]["memory"]
    print(f"matrix products: {peak / 1e9:.0f} GFLOP/s, copies: {memory / 1e9:.1f} GB/s")
    return record | {"roofline": roofline(budget)}


def sentence(name: str, kind: str, curve: dict) -> str:
    """One measured line in words."""
    first, last = curve["points"][0], curve["points"][-1]
    return (
        f"{kind}, seconds against {name}: {first['size']:,} in "
        f"{first['seconds']['median']:.2g} s, {last['size']:,} in "
        f"{last['seconds']['median']:.2g} s; slope {curve['slope']:.2f}, of the largest "
        f"three {curve['slope_of_largest']:.2f}"
    )


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = options(__doc__)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (1)")
    help = "seconds for each point (1)"
    parser.add_argument("--budget", type=float, default=1.0, metavar="S", help=help)
    args = parser.parse_args()
    if args.threads < 1 or not (args.budget > 0 and math.isfinite(args.budget)):
        parser.error("--threads must be 1 or more, and --budget more than 0")
    return args


def main() -> None:
    """Measure everything and write the record."""
    args = arguments()
    torch.set_num_threads(args.threads)
    keep_memory()
    before = machine()
    with errors_in_a_sentence():
        check_replaces("cost", {"seconds for a point": args.budget}, args)
        record = measure(args.budget)
        about = {
            "budget": args.budget,
            "machine": before | {"load_after": load_average()},
        }
        write_record("cost", about | record, args)


if __name__ == "__main__":
    main()
