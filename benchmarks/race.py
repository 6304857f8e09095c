"""The course against the tutorials, side by side: time to a mean test accuracy.

    python -m benchmarks.race                    the whole table: records/race.json
    python -m benchmarks.race --only mlp-97      some rows; written only with --results
    python -m benchmarks.race --only mlp-97 --rounds 1 --epochs R5=2    a quick look

In every round the tutorial's training and the course's take turns, with the round's
number as their seed. The tutorial's loop is a DataLoader over torchvision's data set,
with the tutorial's network, optimizer and batch. Its time is that up to the first epoch
at which the *mean* test accuracy of all rounds reaches the goal; where no epoch does, the
ratio is a lower bound. The course's recipes have a fixed number of epochs and were tuned
on held-out training images.

The whole table takes 40 to 50 minutes on two cores. Every training is kept as it ends, in
race.part beside the record, so that the same command goes on after an interruption.
"""

import argparse
import json
import os
import platform
import statistics
import struct
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks import (
    check_replaces,
    errors_in_a_sentence,
    keep_memory,
    load,
    machine,
    options,
    record_path,
    replace_file,
    spread,
    summarise,
    write_record,
)
from benchmarks.cost import copying, matrix_product, operations, repeated, training_step
from lessons_src import data, recipes
from lessons_src.data import Dataset, Split
from lessons_src.published import AS_PUBLISHED
from lessons_src.recipes import OWN, Recipe
from lessons_src.train import batches, evaluate, pick_device, seed_everything


@dataclass(frozen=True)
class Target:
    """One row. `name` is the course's recipe; must and aim are ratios where there is a
    tutorial to compare with, else seconds."""

    name: str
    what: str
    goal: float | None  # mean test accuracy
    must: float
    aim: float
    theirs: tuple[str, ...] = ()  # published recipes
    parameters: int | None = None  # the network has fewer

    @property
    def is_ratio(self) -> bool:
        return len(self.theirs) > 0 or self.goal is None


LIGHT = "under 8,000 parameters to 99.4 %"
TARGETS = [
    Target("pass", "one pass over the data", None, 50, 70),
    Target("mlp-97", "MLP to 97 %", 0.97, 15, 25, ("R5",)),
    Target("mlp-98", "MLP to 98 %", 0.98, 12, 20, ("R5",)),
    Target("mnist-99-quick", "CNN to 99 %", 0.99, 40, 60, ("R3", "R1b")),
    Target("mnist-99.4", "CNN to 99.4 %", 0.994, 30, 10),
    Target("mnist-99.5", "CNN to 99.5 %", 0.995, 120, 45),
    Target("mnist-small", LIGHT, 0.994, 90, 40, parameters=8000),
    Target("fashion-91", "clothes to 91 %", 0.91, 10, 20, ("R4",)),
    Target("fashion-92", "clothes to 92 %", 0.92, 6, 12, ("R4",)),
    Target("fashion-93", "clothes to 93 %", 0.93, 60, 25),
]
# How long the tutorials' loops go on at most. R2 is not run: at its learning rate it is
# published with 63 % after three epochs, and it does not get to 97 % in affordable time.
LIMITS = {"R5": 25, "R3": 8, "R1b": 10, "R4": 8}


# The tutorials' loop: torchvision's data set behind a DataLoader, image by image -------


def unpack(loaded: Dataset, root: Path) -> None:
    """Write the tensors under `root` as the four IDX files that torchvision reads."""
    folder = root / data.SOURCES[loaded.name]["folder"]
    folder.mkdir(parents=True, exist_ok=True)
    train, test = loaded.train, loaded.test
    parts = (train.images[:, 0], train.labels, test.images[:, 0], test.labels)
    for file, values in zip(data.FILES, parts, strict=True):
        # A magic number (unsigned bytes, so many axes) and the shape: see the lesson on images.
        head = struct.pack(f">{1 + values.ndim}I", 0x0800 + values.ndim, *values.shape)
        pixels = values.byte().numpy().tobytes()
        (folder / file.removesuffix(".gz")).write_bytes(head + pixels)


def image_loader(recipe: Recipe, loaded: Dataset, root: Path) -> DataLoader:
    """The training images as the tutorial reads them: batches x (B, 1, 28, 28), y
    (B,)."""
    from torchvision import datasets, transforms  # here: it takes seconds to import

    steps = [transforms.ToTensor()]  # pixels from 0 to 1
    mean, std = recipe.moments or (loaded.mean, loaded.std)
    if (mean, std) != (0.0, 1.0):
        steps.append(transforms.Normalize((mean,), (std,)))
    kinds = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}
    transform = transforms.Compose(steps)
    images = kinds[recipe.dataset](str(root), train=True, transform=transform)
    return DataLoader(images, batch_size=recipe.batch_size, shuffle=recipe.shuffle)


def train_epoch(model, loader, optimizer, loss_fn, device) -> float:
    """One epoch as the tutorials write it; the mean loss over its examples."""
    total_loss = 0.0
    model.train()
    for images, labels in loader:
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()
        total_loss += loss.item() * len(labels)
    return total_loss / len(loader.dataset)


def train_as_tutorial(
    recipe: Recipe, loader, test: Split, epochs: int, seed: int
) -> dict:
    """Train from scratch; each epoch's test accuracy, seconds of training and loss."""
    seed_everything(seed)
    device = pick_device()
    model = recipe.network().to(device)
    optimizer = recipe.optimizer(model.parameters())
    curves = {"accuracy": [], "seconds": [], "loss": []}
    for _ in range(epochs):
        start = time.perf_counter()
        loss = train_epoch(model, loader, optimizer, recipe.loss_fn, device)
        curves["seconds"].append(time.perf_counter() - start)
        curves["loss"].append(loss)
        curves["accuracy"].append(evaluate(model, test)[1])
        print(f" {curves['accuracy'][-1]:.2%}", end="", flush=True)
    return curves


def one_pass(loader: DataLoader, split: Split, seed: int) -> dict:
    """Seconds to see every example once, shuffled, in equal batches: both ways."""
    start = time.perf_counter()
    for _ in loader:
        pass
    theirs = time.perf_counter() - start

    def ours():
        generator = torch.Generator().manual_seed(seed)
        for index in batches(len(split), loader.batch_size, generator):
            split.images[index], split.labels[index]

    return {"theirs": theirs, "ours": statistics.median(repeated(ours, 1.0, 5))}


def train_one(name: str, seed: int, limits: dict[str, int], root: Path) -> dict:
    """One training of either side, or the pass: what it took and what it reached."""
    if name in OWN:
        _, result = recipes.run(OWN[name], *recipes.splits(OWN[name]), seed)
        print(f" {result['accuracy']:.2%}", end="")
        return {key: result[key] for key in ("accuracy", "seconds", "parameters")}
    recipe = AS_PUBLISHED["R5" if name == "pass" else name]
    loaded = data.load(recipe.dataset)
    if not (root / data.SOURCES[loaded.name]["folder"]).exists():
        unpack(loaded, root)
    loader = image_loader(recipe, loaded, root)
    train, test = recipes.splits(recipe)
    if name == "pass":
        return one_pass(loader, train, seed)
    return train_as_tutorial(recipe, loader, test, limits[name], seed)


# A row of the table --------------------------------------------------------------------


def reach(curves: list[dict], goal: float) -> dict:
    """When curves of several seeds reach a mean accuracy, and the seconds of each until
    then.

    curves: accuracy and seconds by the epoch, a dict for each seed. Where no epoch's mean
    has the goal, the numbers are those of the last epoch, and "reached" is False.
    """
    by_epoch = zip(*(curve["accuracy"] for curve in curves), strict=True)
    reached = [statistics.fmean(values) >= goal - 1e-9 for values in by_epoch]
    epochs = reached.index(True) + 1 if True in reached else len(reached)
    return {
        "accuracy": summarise([curve["accuracy"][epochs - 1] for curve in curves]),
        "seconds": [sum(curve["seconds"][:epochs]) for curve in curves],
        "epochs": epochs,
        "reached": True in reached,
    }


def fastest(sides: dict[str, dict]) -> str:
    """The name of the tutorial with the least seconds.

    One that was stopped before the goal counts with the seconds that it had taken. It
    might have reached the goal right after, so the longer time of another one is no
    bound.
    """
    return min(sides, key=lambda name: statistics.median(sides[name]["seconds"]))


def ratios(theirs: list[float], ours: list[float]) -> dict:
    """Their seconds over ours, round by round."""
    return spread([t / o for t, o in zip(theirs, ours, strict=True)])


def verdict(target: Target, reached: bool, value: float | None) -> str:
    """Which of "aim", "must" and "missed" holds for a ratio or for seconds, as the
    target's."""
    if not reached or value is None:
        return "missed"
    if target.is_ratio:
        meets_aim, meets_must = value >= target.aim, value >= target.must
    else:
        meets_aim, meets_must = value <= target.aim, value <= target.must
    if meets_aim:
        return "aim"
    return "must" if meets_must else "missed"


def row(target: Target, done: dict) -> dict | None:
    """The target's entry in the record, of all whole rounds; None where there is none
    yet.

    done: name of a training -> its results, one for each round.
    """
    theirs = [name for name in target.theirs if done.get(name)]
    rounds = min(len(done.get(name, [])) for name in (target.name, *theirs))
    if rounds == 0 or (target.theirs and not theirs):
        return None
    results = {name: done[name][:rounds] for name in (target.name, *theirs)}
    unit = "" if target.is_ratio else "_seconds"
    entry = {"name": target.name, "what": target.what, "goal": target.goal}
    entry |= {f"must{unit}": target.must, f"aim{unit}": target.aim}
    entry |= {"theirs": None, "ratio": None, "at_least": False}
    if target.goal is None:
        entry |= pass_row(results[target.name])
    else:
        entry |= {"dataset": OWN[target.name].dataset}
        entry |= {"ours": our_side(target, results[target.name])}
    if theirs:
        entry |= their_side(target, results, entry["ours"]["reached"])
    measured = entry["ratio"] if target.is_ratio else entry["ours"]["seconds"]
    value = None if measured is None else measured["median"]
    return entry | {"met": verdict(target, entry["ours"]["reached"], value)}


def pass_row(results: list[dict]) -> dict:
    """The row of one pass over the data: both ways, seconds alone."""
    theirs, ours = [r["theirs"] for r in results], [r["ours"] for r in results]
    rest = {"accuracy": None, "epochs": 1, "reached": True}
    loader, tensors = "DataLoader over torchvision's MNIST", "permuted resident tensors"
    return {
        "dataset": "mnist",
        "ratio": ratios(theirs, ours),
        "theirs": {"recipe": loader, "seconds": spread(theirs)} | rest,
        "ours": {"recipe": tensors, "seconds": spread(ours)} | rest,
    }


def our_side(target: Target, results: list[dict]) -> dict:
    """The course's side of a row: its recipe has a fixed number of epochs."""
    accuracy = summarise([result["accuracy"] for result in results])
    parameters = results[0]["parameters"]
    is_small = target.parameters is None or parameters < target.parameters
    return {
        "recipe": target.name,
        "accuracy": accuracy,
        "epochs": OWN[target.name].epochs,
        "parameters": parameters,
        "seconds": spread([result["seconds"] for result in results]),
        "reached": accuracy["mean"] >= target.goal - 1e-9 and is_small,
    }


def their_side(target: Target, results: dict, reached: bool) -> dict:
    """The tutorials' side of a row; the ratio if the course has reached the goal."""
    names = [name for name in results if name != target.name]
    sides = {name: reach(results[name], target.goal) for name in names}
    best, ratio = fastest(sides), None
    if reached:  # else the two times are not to the same accuracy
        ours = [result["seconds"] for result in results[target.name]]
        ratio = ratios(sides[best]["seconds"], ours)
    entries = {}
    for name, side in sides.items():
        entries[name] = {"recipe": name} | side | {"seconds": spread(side["seconds"])}
    theirs = entries.pop(best) | {"published_epochs": AS_PUBLISHED[best].epochs}
    at_least = not theirs["reached"]
    others = list(entries.values())
    return {"theirs": theirs, "others": others, "ratio": ratio, "at_least": at_least}


def floor(
    target: Target, examples: int, seconds: float, peak: float, copy: float
) -> dict:
    """What the row costs at least on this machine, and which share of that speed it has.

    For a training: the operations of the recipe's own network over the measured `peak`.
    For a pass: bytes read and written over the measured speed of copying.
    """
    if target.goal is None:
        moved = 2 * examples * 28 * 28 * 4  # float32: each pixel is read and written
        least = moved / copy
        return {"bytes": moved, "copy": copy, "seconds": least, "share": least / seconds}
    recipe = OWN[target.name]
    torch.manual_seed(0)
    x, y = torch.rand(recipe.batch_size, 1, 28, 28), torch.arange(recipe.batch_size) % 10
    step = training_step(recipe.network().train(), x, y, recipe.loss_fn)
    per_example = sum(operations(step).values()) / recipe.batch_size
    total = round(per_example * examples * recipe.epochs)
    least = total / peak
    return {"operations": total, "peak": peak, "seconds": least, "share": least / seconds}


def sentence(entry: dict) -> str:
    """The row in words."""
    ours, theirs, ratio = entry["ours"], entry["theirs"], entry["ratio"]
    line = f"{entry['what']}: {ours['seconds']['median']:.2f} s"
    if ours["accuracy"] is not None:
        line += f" to {ours['accuracy']['mean']:.2%}"
    at_least = "at least " if entry["at_least"] else ""
    if theirs is not None:
        line += f"; {theirs['recipe']} {at_least}{theirs['seconds']['median']:.1f} s"
    if ratio is not None:
        line += f", {at_least}{ratio['median']:.1f} times"
        line += f" ({ratio['low']:.1f} to {ratio['high']:.1f})"
    return f"{line}: {entry['met']}"


def table(targets: list[Target], done: dict) -> list[dict]:
    """Print the rows that there are, and return them."""
    rows = [row(target, done) for target in targets]
    rows = [entry for entry in rows if entry is not None]
    print("\n".join(["", *map(sentence, rows), ""]), flush=True)
    return rows


# The command ---------------------------------------------------------------------------


class Progress:
    """The trainings that have ended, kept in a file that grows with each of them.

    path: None where nothing is written. settings: a file of other settings is not
    resumed.
    """

    def __init__(self, path: Path | None, settings: dict):
        self.path = path
        self.state = {"settings": settings, "done": {}, "load": []}
        if path is None or not path.exists():
            return
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["settings"] == settings:
            self.state = state
            trainings = sum(map(len, state["done"].values()))
            print(f"resuming after {trainings} trainings of {path}")
        else:
            print(f"{path} is of other settings: starting anew")

    @property
    def done(self) -> dict[str, list]:
        return self.state["done"]

    def add(self, name: str, result: dict) -> None:
        self.done.setdefault(name, []).append(result)
        self.state["load"].append(load())
        if self.path is not None:
            replace_file(self.path, json.dumps(self.state))


def turns(targets: list[Target], limits: dict[str, int]) -> list[str]:
    """The trainings of one round: theirs, ours, theirs, ..., each once."""
    names = []
    for target in targets:
        names += [name for name in target.theirs if limits[name] > 0]
        names.append(target.name)
    return list(dict.fromkeys(names))


def settings_of(names: list[str], limits: dict[str, int]) -> dict:
    """What must be the same for a race to be resumed: the machine and today's recipes."""
    settings = {"processor": machine()["name"], "threads": torch.get_num_threads()}
    settings |= {"epochs": limits, "recipes": {"pass": None}}
    for name in names:
        if name in OWN | AS_PUBLISHED:
            recipe = (OWN | AS_PUBLISHED)[name]
            size = sum(p.numel() for p in recipe.network().parameters())
            settings["recipes"][name] = recipe.described() | {"parameters": size}
    return settings


def ceiling() -> tuple[float, float]:
    """Operations a second of the best matrix product, bytes a second of a large copy."""
    return max(matrix_product(n) for n in (256, 512, 1024, 2048)), copying(256 << 20)


def run_rounds(targets: list[Target], args, progress: Progress) -> None:
    """Train what is missing, round by round, and print the table after each."""
    with tempfile.TemporaryDirectory() as root:
        for seed in range(args.rounds):
            for name in turns(targets, args.epochs):
                if len(progress.done.get(name, [])) > seed:
                    continue
                print(f"round {seed + 1}  {name:12}", end="", flush=True)
                start = time.perf_counter()
                progress.add(name, train_one(name, seed, args.epochs, Path(root)))
                print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
            done = {name: runs[: seed + 1] for name, runs in progress.done.items()}
            table(targets, done)


def race(targets: list[Target], args) -> None:
    """All rounds, the table, and the record."""
    if args.writes:
        check_replaces("race", args.rounds, args)
    recipes.splits(AS_PUBLISHED["R5"])  # no real data: said now, not after minutes
    about = machine() | {"cores": os.cpu_count(), "system": platform.platform()}
    part = record_path("race", args).with_suffix(".part") if args.writes else None
    progress = Progress(part, settings_of(turns(targets, args.epochs), args.epochs))
    before = ceiling()
    run_rounds(targets, args, progress)
    peak, copy = map(max, before, ceiling())
    rows = table(targets, progress.done)
    for target, entry in zip(targets, rows, strict=True):
        seconds = entry["ours"]["seconds"]["median"]
        entry["floor"] = floor(target, 60_000, seconds, peak, copy)
        share = entry["floor"]["share"]
        print(f"{target.what}: {share:.0%} of the speed that the machine can give")
    if not args.writes:
        return print("Nothing was written.")
    about |= {"load_after": load(), "load_during": spread(progress.state["load"])}
    rounds = min(map(len, progress.done.values()))  # an earlier run may have had more
    record = {"machine": about, "rounds": rounds, "limits": args.epochs}
    record |= {"targets": rows, "raw": progress.done}
    write_record("race", record, args)
    part.unlink()


def arguments() -> argparse.Namespace:
    """The options of the command line; `writes` says whether there will be a record."""
    parser = options(__doc__)
    add, names = parser.add_argument, ", ".join(target.name for target in TARGETS)
    add("--rounds", type=int, default=3, help="seeds 0 to N - 1 (3)")
    add("--only", nargs="+", metavar="NAME", help=f"rows: {names}")
    now = " ".join(f"{name}={epochs}" for name, epochs in LIMITS.items())
    limits = f"how long a tutorial goes on at most; now: {now}"
    add("--epochs", nargs="+", metavar="NAME=N", default=[], help=limits)
    args = parser.parse_args()
    unknown = set(args.only or []) - {target.name for target in TARGETS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {names}")
    if args.rounds < 1:
        parser.error("--rounds must be 1 or more")
    args.epochs = limits_of(parser, args.epochs)
    args.writes = args.results is not None or args.only is None
    return args


def limits_of(parser, changes: list[str]) -> dict[str, int]:
    """LIMITS with changes such as "R5=20"."""
    limits = dict(LIMITS)
    for change in changes:
        name, _, number = change.partition("=")
        if name not in limits or not number.isdigit():
            names = ", ".join(limits)
            parser.error(f"--epochs {change}: expected NAME=N with NAME of {names}")
        limits[name] = int(number)
    return limits


def main() -> None:
    """Run the race on the CPU and write the record."""
    args = arguments()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the table is that of the CPU
    keep_memory()  # of this process: the tutorials' loop has it too
    targets = [t for t in TARGETS if args.only is None or t.name in args.only]
    with errors_in_a_sentence():
        try:
            race(targets, args)
        except KeyboardInterrupt:
            how = "Nothing was written."
            if args.writes:
                how = "The same command goes on from the last whole training."
            sys.exit(f"\nInterrupted. {how}")


if __name__ == "__main__":
    main()
