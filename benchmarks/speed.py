"""The course against the tutorials, side by side: time to a mean test accuracy.

    python -m benchmarks.speed                    the whole table: results/speed.json (make bench)
    python -m benchmarks.speed --quick            a look in two minutes; writes nothing
    python -m benchmarks.speed --only mlp-97      some rows; written only with --results FOLDER

In every round the tutorial's training and the course's take turns, with the round's number as their
seed. The tutorial's loop is a DataLoader over torchvision's data set, with their network, optimizer
and batch; it trains epoch by epoch, and its time is that up to the first epoch at which the *mean*
test accuracy of all rounds reaches the goal. Where no epoch does, the ratio is a lower bound. The
course's recipes have a fixed number of epochs and were tuned on held-out training images.

The whole table takes 40 to 50 minutes on two cores, which should have nothing else to do. Every
training is kept as it ends, in speed.part beside the record: after an interruption the same command
goes on.
"""

import argparse
import json
import os
import platform
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import RESULTS, ceilings, own, published, runs, tutorial
from benchmarks.compare import HEAD, Target, floor, row, shown
from lessons_src import data
from lessons_src.data import Split
from lessons_src.train import batches

TARGETS = [
    Target("pass", "one pass over the data", None, 50, 70),
    Target("mlp-97", "MLP to 97 %", 0.97, 15, 25, ("R5",)),
    Target("mlp-98", "MLP to 98 %", 0.98, 12, 20, ("R5",)),
    Target("mnist-99-quick", "CNN to 99 %", 0.99, 40, 60, ("R3", "R1b")),
    Target("mnist-99.4", "CNN to 99.4 %", 0.994, 30, 10),
    Target("mnist-99.5", "CNN to 99.5 %", 0.995, 120, 45),
    Target("mnist-small", "under 8,000 parameters to 99.4 %", 0.994, 90, 40, parameters=8000),
    Target("fashion-91", "clothes to 91 %", 0.91, 10, 20, ("R4",)),
    Target("fashion-92", "clothes to 92 %", 0.92, 6, 12, ("R4",)),
    Target("fashion-93", "clothes to 93 %", 0.93, 60, 25),
]
# How long the tutorials' loops go on at most. R2 is not run: at its learning rate it is published
# with 63 % after three epochs, and no affordable number of them brings it to 97 %.
EPOCHS = {"R5": 25, "R3": 8, "R1b": 10, "R4": 8}
QUICK = {"R5": 2, "R3": 1, "R1b": 0, "R4": 1}


def one_pass(loader, split, seed: int) -> dict:
    """Seconds to see every example once, shuffled, in batches of the same size: both ways."""
    start = time.perf_counter()
    for _ in loader:
        pass
    theirs = time.perf_counter() - start

    def ours():
        generator = torch.Generator().manual_seed(seed)
        for index in batches(len(split), loader.batch_size, generator):
            split.images[index], split.labels[index]

    return {"theirs": theirs, "ours": statistics.median(ceilings.repeated(ours, 1.0, 5))}


def flags() -> list[str] | None:
    """Which vector instructions the processor has; None where /proc/cpuinfo does not say."""
    try:
        found = re.search(r"flags\s*: (.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        return None
    wanted = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "asimd")
    return [flag for flag in wanted if found and flag in found[1].split()]


class Kept:
    """The trainings that have ended, in a file that grows with each of them."""

    def __init__(self, path: Path | None, settings: dict):
        self.path, self.state = path, {"settings": settings, "done": {}, "load": []}
        if path and path.exists():
            state = json.loads(path.read_text())
            if state["settings"] == settings:
                self.state = state
                print(f"going on with {sum(map(len, state['done'].values()))} trainings of {path}")
            else:
                print(f"{path} is of other settings: starting anew")

    def add(self, name: str, result: dict) -> None:
        self.state["done"].setdefault(name, []).append(result)
        self.state["load"].append(os.getloadavg()[0] if hasattr(os, "getloadavg") else None)
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.path.with_suffix(".part.new")
            beside.write_text(json.dumps(self.state))
            beside.replace(self.path)  # whole or not at all


class Bench:
    """The data of one run of the benchmark, and its trainings by name."""

    def __init__(self, epochs: dict[str, int], root: Path):
        self.epochs, self.root, self.unpacked = epochs, root, set()

    def loader(self, name: str):
        """The tutorial's loader, and the test split with the same pixels."""
        recipe = published.RECIPES[name]
        loaded = data.load(recipe.dataset)
        if recipe.dataset not in self.unpacked:
            tutorial.unpack(loaded, self.root)
            self.unpacked.add(recipe.dataset)
        return tutorial.loader(recipe, self.root, loaded.mean, loaded.std), runs.splits(recipe)

    def train(self, name: str, seed: int) -> dict:
        """One training (or pass): what it took and what it reached."""
        if name == "pass":
            loader, (train, _) = self.loader("R5")
            return one_pass(loader, train, seed)
        if name in published.RECIPES:
            loader, (_, test) = self.loader(name)
            return tutorial.curve(published.RECIPES[name], loader, test, self.epochs[name], seed)
        recipe = own.RECIPES[name]
        result = runs.run(recipe, *runs.splits(recipe), seed)
        print(f" {result['accuracy']:.2%}", end="")
        return {key: result[key] for key in ("accuracy", "seconds", "parameters")}


def recipe_of(name: str) -> dict | None:
    """What the recipe is today: a training that another one gave is not gone on with."""
    recipe = (own.RECIPES | published.RECIPES).get(name)
    if recipe is None:
        return None
    one = Split(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    size = sum(p.numel() for p in recipe.network().parameters())
    return runs.describe(recipe, one) | {"parameters": size}


def order(targets: list[Target], epochs: dict[str, int]) -> list[str]:
    """The trainings of one round: theirs, ours, theirs, ..., each once."""
    names = [n for t in targets for n in (*(n for n in t.theirs if epochs[n] > 0), t.name)]
    return list(dict.fromkeys(names))


def table(targets: list[Target], done: dict) -> list[dict]:
    """Print the rows that there are, and return them."""
    rows = [entry for entry in (row(target, done) for target in targets) if entry]
    print("\n".join(["", HEAD, *map(shown, rows), ""]), flush=True)
    return rows


def with_floors(rows: list[dict], peak: float, copy: float) -> list[dict]:
    """The rows with their floors, for the 60,000 training images."""
    by_name = {target.name: target for target in TARGETS}
    return [entry | {"floor": floor(by_name[entry["name"]], 60_000,
                                    entry["ours"]["seconds"]["median"], peak, copy)}
            for entry in rows]  # fmt: skip


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    names = ", ".join(target.name for target in TARGETS)
    parser.add_argument("--rounds", type=int, default=3, help="seeds 0 to N - 1 (3)")
    quick = "one round of the comparisons, the tutorials for an epoch or two"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"rows: {names}")
    parser.add_argument("--epochs", nargs="+", metavar="NAME=N", default=[],
                        help="how long a tutorial goes on at most; now: "
                        + " ".join(f"{n}={e}" for n, e in EPOCHS.items()))  # fmt: skip
    parser.add_argument("--results", metavar="FOLDER", help=f"where the record goes ({RESULTS})")
    parser.add_argument("--threads", type=int, help="of PyTorch (now: as many as it takes itself)")
    args = parser.parse_args()
    unknown = set(args.only or []) - {target.name for target in TARGETS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {names}")
    if args.rounds < 1 or (args.threads or 1) < 1:
        parser.error("--rounds and --threads must be 1 or more")
    limits = dict(QUICK if args.quick else EPOCHS)
    for text in args.epochs:
        name, _, number = text.partition("=")
        if name not in limits or not number.isdigit():
            parser.error(f"--epochs {text}: expected NAME=N with NAME of {', '.join(limits)}")
        limits[name] = int(number)
    args.epochs = limits
    return args


def main() -> None:
    args = arguments()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the table is that of the CPU
    if args.threads:
        torch.set_num_threads(args.threads)
    targets = [t for t in TARGETS if not args.only or t.name in args.only]
    if args.quick:
        args.rounds, targets = 1, [t for t in targets if t.is_ratio]
    for target in [t for t in targets if t.goal and t.name not in own.RECIPES]:
        print(f"{target.name}: benchmarks.own has no such recipe; its row is left out")
        targets.remove(target)
    written = not args.quick and (args.results or not args.only)
    try:
        bench(targets, args, Path(args.results or RESULTS) if written else None)
    except (data.DataError, OSError) as error:
        sys.exit(f"benchmarks.speed: {error}")
    except KeyboardInterrupt:
        sys.exit("\nBroken off. " + ("The same command goes on from the last whole training."
                                     if written else "Nothing was written."))  # fmt: skip


def bench(targets: list[Target], args, folder: Path | None) -> None:
    """All rounds, the table, and the record where there is a folder for it."""
    runs.splits(published.RECIPES["R5"])  # no real data: said now, not after minutes
    runs.keep_memory()  # of this process: the tutorials' loop has it too
    machine = runs.machine() | {"flags": flags(), "cores": os.cpu_count(),
                                "system": platform.platform()}  # fmt: skip
    names = order(targets, args.epochs)
    settings = {"threads": machine["threads"], "processor": machine["name"], "epochs": args.epochs,
                "recipes": {name: recipe_of(name) for name in names}}  # fmt: skip
    kept = Kept(folder and folder / "speed.part", settings)
    done = kept.state["done"]
    peak, copy = ceilings.peak(), ceilings.copying(256 << 20)
    with tempfile.TemporaryDirectory() as root:
        trainings = Bench(args.epochs, Path(root))
        for seed in range(args.rounds):
            for name in names:
                if len(done.get(name, [])) > seed:
                    continue
                print(f"round {seed + 1}  {name:12}", end="", flush=True)
                start = time.perf_counter()
                kept.add(name, trainings.train(name, seed))
                print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
            table(targets, {name: results[: seed + 1] for name, results in done.items()})
    peak = max(peak, ceilings.peak())
    copy = max(copy, ceilings.copying(256 << 20))
    rows = with_floors([entry for t in targets if (entry := row(t, done))], peak, copy)
    print("\n".join([HEAD, *map(shown, rows)]))
    print(f"floor: operations over {peak / 1e9:.0f} GFLOP/s, the machine's measured peak; "
          f"of the pass, bytes over {copy / 1e9:.1f} GB/s")  # fmt: skip
    if folder is None:
        return print("Nothing was written.")
    machine |= {"load_after": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
                "load_during": ceilings.spread(kept.state["load"])}  # fmt: skip
    rounds = min(map(len, done.values()))  # more than asked for, where an earlier run had them
    record = {"machine": machine, "rounds": rounds, "limits": args.epochs, "targets": rows}
    print("written:", runs.write("speed", record | {"raw": done}, folder))
    kept.path.unlink()


if __name__ == "__main__":
    main()
