"""How cost grows: a training step against parameters, examples and batch, and what the machine has.

    python -m benchmarks.scaling                 results/scaling.json, about three minutes
    python -m benchmarks.scaling --threads 2     with two threads

The values of pixels and weights do not change what a step costs: the images are noise, and no data
are needed. With one thread, seconds are those of the processor for this process, which are right on
a busy machine too; with more they are those of the wall clock, and the machine should be idle.
"""

import argparse
import math
from functools import partial

import torch
import torch.nn.functional as F

from benchmarks import RESULTS, ceilings, own, runs
from lessons_src.data import Split
from lessons_src.models import cnn, mlp
from lessons_src.train import fit

BATCH = 128
NETWORKS = {"mlp": partial(mlp, 784, 100, 10), "cnn": own.small}  # the course's own
WIDTHS = {
    "mlp": [(w, partial(mlp, 784, w, w, 10)) for w in (16, 32, 64, 128, 256, 512, 1024, 2048)],
    "cnn": [(c, partial(cnn, (c,), (2 * c, 2 * c), (4 * c,))) for c in (4, 8, 16, 32, 64)],
}
EXAMPLES = (1000, 3000, 10_000, 30_000, 60_000)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096)
PRODUCTS = (16, 32, 64, 128, 256, 512, 1024, 2048)
COPIES = tuple(4**k * 1024 for k in range(2, 10))  # 16 KB, inside a cache, to 256 MB, outside


def slope(sizes: list[float], seconds: list[float]) -> float:
    """Least squares through the points on log-log axes: 1 for seconds in proportion to the size.

    Where seconds = c · sizeᵏ, it is k.
    """
    x = torch.tensor(sizes, dtype=torch.float64).log()
    y = torch.tensor(seconds, dtype=torch.float64).log()
    x = x - x.mean()
    return ((x @ y) / (x @ x)).item()


def line(points: list[dict]) -> dict:
    """Points and the slope through all of them, and through the three largest."""
    sizes, seconds = [p["size"] for p in points], [p["seconds"]["median"] for p in points]
    return {"points": points, "slope": slope(sizes, seconds),
            "slope_of_largest": slope(sizes[-3:], seconds[-3:])}  # fmt: skip


def step_of(network, batch: int, channels_last: bool = False):
    """One training step of a network on noise, as `fit` does it, and the network's parameters."""
    torch.manual_seed(0)
    model = network().train()
    if channels_last:
        model = model.to(memory_format=torch.channels_last)
    x, y = torch.rand(batch, 1, 28, 28), torch.arange(batch) % 10  # (B, 1, 28, 28), (B,)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    step = ceilings.training_step(model, x, y, F.cross_entropy, optimizer)
    return step, sum(p.numel() for p in model.parameters())


def point(network, batch: int, budget: float, least: int = 5, **extra) -> dict:
    """Seconds of a step, its parameters and operations."""
    step, parameters = step_of(network, batch, network is not NETWORKS["mlp"])
    taken = ceilings.repeated(step, budget, least, ceilings.clock())
    return {"size": parameters, "parameters": parameters, "batch_size": batch,
            "seconds": ceilings.spread(taken),
            "operations": sum(ceilings.operations(step).values())} | extra  # fmt: skip


def by_parameters(kind: str, budget: float) -> dict:
    """A step of batches of 128 against the number of parameters: the same network, made wider."""
    return line([point(network, BATCH, budget, width=width) for width, network in WIDTHS[kind]])


def by_batch(kind: str, budget: float) -> dict:
    """A step of the course's network against the number of examples in a batch.

    From two on for the convolutions: batch norm has no variance of a single value.
    """
    points = []
    for batch in BATCHES if kind == "mlp" else BATCHES[1:]:
        found = point(NETWORKS[kind], batch, budget)
        each = found["seconds"]["median"] / batch
        points.append(found | {"size": batch, "per_example": each})
    return line(points)


def by_examples(kind: str, budget: float) -> dict:
    """An epoch of `fit` with batches of 128 against the number of training examples."""
    points = []
    for n in EXAMPLES:
        split = Split(torch.rand(n, 1, 28, 28), torch.arange(n) % 10)
        torch.manual_seed(0)
        model = NETWORKS[kind]().to(memory_format=torch.channels_last)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
        epoch = partial(fit, model, split, 1, optimizer, batch_size=BATCH, device="cpu",
                        progress=False)  # fmt: skip
        least = 3 if n <= 10_000 else 1
        taken = ceilings.repeated(epoch, budget, least, ceilings.clock(), warm=n < 10_000)
        points.append({"size": n, "seconds": ceilings.spread(taken)})
    return line(points)


def machine_ceilings(budget: float) -> dict:
    """Operations a second of matrix products by size, bytes a second of copies by size, and the
    best of the first and what memory gives, beyond all caches."""
    clock = ceilings.clock()
    products = [{"size": n, "operations_per_second": ceilings.matrix_product(n, budget, clock)}
                for n in PRODUCTS]  # fmt: skip
    copies = [{"bytes": size, "bytes_per_second": ceilings.copying(size, budget, clock)}
              for size in COPIES]  # fmt: skip
    peak = max(p["operations_per_second"] for p in products)
    return {"matrix_product": products, "copy": copies, "peak": peak,
            "memory": copies[-1]["bytes_per_second"]}  # fmt: skip


def roofline(budget: float) -> list[dict]:
    """A training step of each of the course's recipes: operations and bytes, by kind, and seconds.

    Operations over bytes is the arithmetic intensity. A step cannot be shorter than its operations
    over the machine's peak, nor, where nothing stays in a cache, than its bytes over the memory's.
    """
    found = []
    for recipe in own.RECIPES.values():
        B = recipe.batch_size
        step, parameters = step_of(recipe.network, B, recipe.channels_last)
        count, moved = ceilings.operations(step), ceilings.traffic(step)
        taken = ceilings.repeated(step, budget, 5, ceilings.clock())
        found.append({"recipe": recipe.name, "parameters": parameters, "batch_size": B,
                      "operations": sum(count.values()), "bytes": sum(moved.values()),
                      "seconds": ceilings.spread(taken), "operations_by_kind": count,
                      "bytes_by_kind": moved})  # fmt: skip
    return found


def measure(budget: float = 1.0) -> dict:
    """Everything, with `budget` seconds for a point (a point that is longer has its repeats)."""
    record = {"batch_size": BATCH, "clock": ceilings.clock().__name__}
    for name, one in (
        ("parameters", by_parameters),
        ("batch", by_batch),
        ("examples", by_examples),
    ):
        record[name] = {}
        for kind in NETWORKS:
            record[name][kind] = one(kind, budget)
            print(told(name, kind, record[name][kind]), flush=True)
    record["ceilings"] = machine_ceilings(budget / 2)
    record["roofline"] = roofline(budget)
    return record


def told(name: str, kind: str, found: dict) -> str:
    """One measured line in words."""
    first, last = found["points"][0], found["points"][-1]
    return (f"{kind}, seconds against {name}: {first['size']:,} in "
            f"{first['seconds']['median']:.2g} s, {last['size']:,} in "
            f"{last['seconds']['median']:.2g} s; slope {found['slope']:.2f}, of the largest three "
            f"{found['slope_of_largest']:.2f}")  # fmt: skip


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch (1)")
    parser.add_argument("--budget", type=float, default=1.0, metavar="SECONDS",
                        help="for each point (1)")  # fmt: skip
    parser.add_argument("--results", metavar="FOLDER", help=f"where the record goes ({RESULTS})")
    args = parser.parse_args()
    if args.threads < 1 or not (args.budget > 0 and math.isfinite(args.budget)):
        parser.error("--threads must be 1 or more, and --budget more than 0")
    torch.set_num_threads(args.threads)
    runs.keep_memory()
    before = runs.machine()
    found = measure(args.budget)
    machine = before | {"load_after": runs.machine()["load"]}
    print(f"machine: {found['ceilings']['peak'] / 1e9:.0f} GFLOP/s in matrix products, "
          f"{found['ceilings']['memory'] / 1e9:.1f} GB/s in copies")  # fmt: skip
    print("written:", runs.write("scaling", {"machine": machine} | found, args.results))


if __name__ == "__main__":
    main()
