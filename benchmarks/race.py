"""The course against the tutorials, side by side: time to a mean test accuracy.

    python -m benchmarks.race                    one more round: records/race.json
    python -m benchmarks.race --only mlp-97      some rows; written only with --results
    python -m benchmarks.race --only mlp-97 --limit 20     a quick look

In a round the tutorials' trainings and the course's take turns, with the round's number
as their seed. Rounds of several days stand in one record, each with its date and machine;
a row uses those rounds in which its recipes were the ones of today.

One clock for both sides: it starts with files on the disk, so that decoding, scaling and
normalising count, and it stands still while an accuracy is measured. Importing libraries
and drawing start weights count for neither side.

The tutorial's loop is a DataLoader over torchvision's data set, with the tutorial's
network, optimizer and batch. It goes on for LIMIT seconds, the same for all. Its time is
that up to the first epoch at which the *mean* test accuracy of the rounds that came so
far reaches the goal; for a round that did not, the limit is its time and the ratio a
lower bound. The course's
recipes have a fixed number of epochs and were tuned on held-out training images.

A round takes 15 to 25 minutes on two cores. Every training is kept as it ends, in
race.part beside the record, so that the same command goes on after an interruption.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import struct
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks import (
    RecordError,
    errors_in_a_sentence,
    keep_memory,
    load_average,
    machine,
    median_and_range,
    options,
    recipe_hash,
    record_path,
    write_json,
    write_record,
)
from benchmarks.cost import copying, matrix_product
from benchmarks.race_table import TARGETS, Target, print_rows, with_floors
from lessons_src import data, recipes
from lessons_src.data import Dataset, Split
from lessons_src.published import AS_PUBLISHED, RECIPES
from lessons_src.recipes import OWN, Recipe
from lessons_src.train import batches, evaluate, fit, pick_device, seed_everything

LIMIT = 150  # seconds of training after which a tutorial is stopped


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


def image_loader(recipe: Recipe, moments: tuple, root: Path) -> DataLoader:
    """The training images as the tutorial reads them: batches x (B, 1, 28, 28), y (B,).

    moments: mean and std of the pixels, which the tutorials type.
    """
    steps = [transforms.ToTensor()]  # pixels from 0 to 1
    mean, std = moments
    if (mean, std) != (0.0, 1.0):
        steps.append(transforms.Normalize((mean,), (std,)))
    kinds = {"mnist": datasets.MNIST, "fashion-mnist": datasets.FashionMNIST}
    transform = transforms.Compose(steps)
    images = kinds[recipe.dataset](str(root), train=True, transform=transform)
    return DataLoader(images, batch_size=recipe.batch_size, shuffle=recipe.shuffle)


def train_epoch(model, loader, optimizer, loss_fn, device) -> float:
    """One epoch as R3's notebook writes it, after the official example: the loss is read
    in every tenth step. The last one that was read.

    The notebook also prints it, which is left out here.
    """
    model.train()
    for step, (images, labels) in enumerate(loader):
        images, labels = images.to(device), labels.to(device)
        optimizer.zero_grad()
        loss = loss_fn(model(images), labels)
        loss.backward()
        optimizer.step()
        if step % 10 == 0:
            read = loss.item()
    return read


def train_as_tutorial(recipe: Recipe, loader, test: Split, limit: float, seed: int):
    """Train from scratch until `limit` seconds of training have passed, to the end of an
    epoch; each epoch's test accuracy, seconds of training and loss."""
    seed_everything(seed)
    device = pick_device()
    model = recipe.network().to(device)
    optimizer = recipe.optimizer(model.parameters())
    curves = {"accuracy": [], "seconds": [], "loss": []}
    while not curves["seconds"] or sum(curves["seconds"]) < limit:
        start = time.perf_counter()
        loss = train_epoch(model, loader, optimizer, recipe.loss_fn, device)
        curves["seconds"].append(time.perf_counter() - start)
        curves["loss"].append(loss)
        curves["accuracy"].append(evaluate(model, test)[1])
        print(f" {curves['accuracy'][-1]:.2%}", end="", flush=True)
    return curves


def epoch_in_memory(recipe: Recipe, train: Split, seed: int) -> float:
    """Seconds of the tutorial's second epoch in the course's loop: the same network,
    optimizer and batches, tensors in memory in place of the DataLoader."""
    model, optimizer, _, generator = recipe.start(len(train), seed)
    size, loss_fn = recipe.batch_size, recipe.loss_fn
    history = fit(
        model,
        train,
        2,
        optimizer,
        batch_size=size,
        loss_fn=loss_fn,
        generator=generator,
        progress=False,
    )
    return history.seconds[1]


def seconds_of(action) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def passes(recipe: Recipe, moments: tuple, root: Path, seed: int) -> dict:
    """Seconds to see every example once, shuffled, in equal batches: both ways, the
    first time with all that comes before it, and then the mean of three more times."""

    def their_pass():
        for _ in loader:
            pass

    def our_pass():
        generator = torch.Generator().manual_seed(seed)
        for index in batches(len(split), recipe.batch_size, generator):
            split.images[index], split.labels[index]

    results = {}
    start = time.perf_counter()
    loader = image_loader(recipe, moments, root)
    first = time.perf_counter() - start + seconds_of(their_pass)
    later = statistics.fmean(seconds_of(their_pass) for _ in range(3))
    results["theirs"] = {"first": first, "later": later}
    start = time.perf_counter()
    split, _ = recipes.splits(recipe)
    first = time.perf_counter() - start + seconds_of(our_pass)
    later = statistics.fmean(seconds_of(our_pass) for _ in range(3))
    return results | {"ours": {"first": first, "later": later}}


def train_one(name: str, seed: int, limit: float, root: Path) -> dict:
    """One training of either side, or the passes: what it took and what it reached."""
    if name in OWN:
        return train_own(OWN[name], seed)
    recipe = AS_PUBLISHED["R5" if name == "pass" else name]
    loaded = data.load(recipe.dataset)
    if not (root / data.SOURCES[loaded.name]["folder"]).exists():
        unpack(loaded, root)
    moments = recipe.moments or (loaded.mean, loaded.std)
    if name == "pass":
        return passes(recipe, moments, root, seed)
    start = time.perf_counter()
    loader = image_loader(recipe, moments, root)
    prepare = time.perf_counter() - start
    train, test = recipes.normalised(recipe, loaded)
    curves = train_as_tutorial(recipe, loader, test, limit, seed)
    in_memory = epoch_in_memory(recipe, train, seed)
    return {"prepare": prepare, "in_memory": in_memory} | curves


def train_own(recipe: Recipe, seed: int) -> dict:
    """The course's recipe, from the files on the disk to a trained network."""
    start = time.perf_counter()
    train, test = recipes.splits(recipe)
    prepare = time.perf_counter() - start
    _, result = recipes.run(recipe, train, test, seed)
    print(f" {result['accuracy']:.2%}", end="")
    kept = {key: result[key] for key in ("accuracy", "seconds", "parameters")}
    return {"prepare": prepare} | kept


# The rounds ----------------------------------------------------------------------------


def recipe_hashes(targets: list[Target]) -> dict[str, str | None]:
    """The trainings of one round in their turn (theirs, ours, theirs, ..., each once),
    with the hash of each recipe."""
    names = [name for target in targets for name in target.names]
    return {
        name: recipe_hash(RECIPES[name]) if name in RECIPES else None for name in names
    }


def earlier(path: Path, limit: float) -> dict:
    """The rounds of the record so far, and what was renewed in it.

    RecordError where its rounds do not stand in one column with those of today.
    """
    if not path.exists():
        return {"raw": [], "renewed": []}
    record = json.loads(path.read_text(encoding="utf-8"))
    threads = torch.get_num_threads()
    if "limit" not in record:
        raise RecordError(f"{path} is of an older form: move it away to start anew.")
    if (record["limit"], record["machine"]["threads"]) != (limit, threads):
        raise RecordError(
            f"{path} has a limit of {record['limit']} seconds and "
            f"{record['machine']['threads']} threads; this run has {limit} and {threads}. "
            "Seconds of the two do not stand in one column: --results FOLDER writes a "
            "record of its own."
        )
    return {"raw": record["raw"], "renewed": record["renewed"]}


def drop_changed(before: dict, now: dict, why: str | None) -> None:
    """Take results of recipes that have changed, or that no row has any more, out of the
    earlier rounds, and note it.

    RecordError without a reason: a row is not renewed in silence.
    """
    raced = {name for one in before["raw"] for name in one["results"]}
    for name in sorted(raced):
        rounds = [one for one in before["raw"] if name in one["results"]]
        if name in now:
            mark, what = now[name], "is not the one of the record"
            rounds = [o for o in rounds if o["results"][name].get("fingerprint") != mark]
        else:
            what = "is in no row any more"
        if rounds and not why:
            raise RecordError(
                f"the recipe {name} {what}. --why REASON drops its "
                f"{len(rounds)} results and writes the reason into the record."
            )
        for one in rounds:
            del one["results"][name]
        if rounds:
            note = {"name": name, "date": today(), "why": why, "dropped": len(rounds)}
            before["renewed"].append(note)


def today() -> str:
    return datetime.date.today().isoformat()


class Round:
    """The trainings of one round, kept in a file that grows with each of them.

    path: None where nothing is written. settings: a file of other settings is not
    resumed.
    """

    def __init__(self, path: Path | None, settings: dict):
        self.path = path
        about = machine() | {"cores": os.cpu_count(), "system": platform.platform()}
        self.state = {"settings": settings, "date": today(), "machine": about}
        self.state |= {"results": {}, "load": []}
        if path is None or not path.exists():
            return
        state = json.loads(path.read_text(encoding="utf-8"))
        if state["settings"] == settings:
            self.state = state
            print(f"resuming after {len(state['results'])} trainings of {path}")
        else:
            print(f"{path} is of other settings: starting anew")

    def add(self, name: str, result: dict) -> None:
        self.state["results"][name] = result
        self.state["load"].append(load_average())
        if self.path is not None:
            write_json(self.path, self.state)

    def run(self, root: Path) -> dict:
        """Train what is missing; the round as the record keeps it."""
        settings, results = self.state["settings"], self.state["results"]
        before = ceiling()
        for name, mark in settings["recipes"].items():
            if name in results:
                continue
            print(f"round {settings['seed'] + 1}  {name:14}", end="", flush=True)
            start = time.perf_counter()
            result = train_one(name, settings["seed"], settings["limit"], root)
            self.add(name, {"fingerprint": mark} | result)
            print(f"  ({time.perf_counter() - start:.0f} s)", flush=True)
        peak, copy = map(max, before, ceiling())
        kept = {key: self.state[key] for key in ("date", "machine", "results")}
        kept["machine"]["load_during"] = median_and_range(self.state["load"])
        return {"seed": settings["seed"], "peak": peak, "copy": copy} | kept


def ceiling() -> tuple[float, float]:
    """Operations a second of the best matrix product, bytes a second of a large copy."""
    return max(matrix_product(n) for n in (256, 512, 1024, 2048)), copying(256 << 20)


def race(targets: list[Target], args) -> None:
    """The rounds, the table after each, and the record."""
    recipes.splits(AS_PUBLISHED["R5"])  # no real data: said now, not after minutes
    now, path = recipe_hashes(targets), record_path("race", args)
    before = earlier(path, args.limit) if args.writes else {"raw": [], "renewed": []}
    drop_changed(before, now, args.why)
    rounds, renewed = before["raw"], before["renewed"]
    part = path.with_suffix(".part") if args.writes else None
    for _ in range(args.rounds):
        settings = {"processor": machine()["name"], "threads": torch.get_num_threads()}
        settings |= {"limit": args.limit, "seed": len(rounds), "recipes": now}
        with tempfile.TemporaryDirectory() as root:
            rounds.append(Round(part, settings).run(Path(root)))
        rows = rows_of(targets, rounds, args)
        if args.writes:
            write_race(rows, rounds, renewed, args)
            part.unlink(missing_ok=True)
        else:
            print("Nothing was written.")
    if args.rounds == 0:
        write_race(rows_of(targets, rounds, args), rounds, renewed, args)


def rows_of(targets: list[Target], rounds: list[dict], args) -> list[dict]:
    rows = print_rows(TARGETS if args.writes else targets, rounds, args.limit)
    with_floors(rows, TARGETS, rounds)
    return rows


def write_race(rows: list[dict], rounds: list[dict], renewed: list[dict], args) -> None:
    record = {"machine": rounds[-1]["machine"], "rounds": len(rounds)}
    record |= {"limit": args.limit, "renewed": renewed, "targets": rows}
    write_record("race", record | {"raw": rounds}, args)


def arguments() -> argparse.Namespace:
    """The options of the command line; `writes` says whether there will be a record."""
    parser = options(__doc__)
    add, names = parser.add_argument, ", ".join(target.name for target in TARGETS)
    add("--rounds", type=int, default=1, help="how many more (1); 0: the table anew")
    add("--only", nargs="+", metavar="NAME", help=f"rows: {names}")
    limit = f"seconds after which a tutorial is stopped ({LIMIT})"
    add("--limit", type=float, default=LIMIT, metavar="SECONDS", help=limit)
    why = "why recipes of the record have changed; their results are dropped"
    add("--why", metavar="REASON", help=why)
    args = parser.parse_args()
    unknown = set(args.only or []) - {target.name for target in TARGETS}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are: {names}")
    if args.rounds < 0:
        parser.error("--rounds must be 0 or more")
    if args.limit <= 0:
        parser.error("--limit must be more than 0 seconds")
    args.writes = args.results is not None or (args.only is None and args.limit == LIMIT)
    if args.rounds == 0 and not (args.writes and record_path("race", args).exists()):
        parser.error(
            "--rounds 0 makes the table of a record anew: there is none to be written"
        )
    return args


def main() -> None:
    """Run the race on the CPU and write the record."""
    args = arguments()
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # the table is that of the CPU
    keep_memory()  # both sides run in this process, so both benefit
    targets = [t for t in TARGETS if args.only is None or t.name in args.only]
    with errors_in_a_sentence():
        try:
            race(targets, args)
        except KeyboardInterrupt:
            how = "Nothing was written."
            if args.writes:
                how = "The same command resumes from the last whole training."
            sys.exit(f"\nInterrupted. {how}")


if __name__ == "__main__":
    main()
