"""What every benchmark shares: a recipe, its run over seeds, and the record of it."""

import argparse
import contextlib
import ctypes
import datetime
import json
import math
import os
import platform
import re
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import RESULTS
from lessons_src import checkpoint, data
from lessons_src.data import Split
from lessons_src.train import evaluate, fit, pick_device, seed_everything, warmup_decay

HELD_OUT = 10_000  # training images for tuning: the test split plays no part in any choice


@dataclass(frozen=True)
class Recipe:
    """A training from start to end; `choices` says what its source leaves open."""

    name: str
    dataset: str
    network: Callable[[], nn.Module]
    epochs: int
    batch_size: int
    optimizer: Callable  # parameters -> optimizer; its lr is the peak where warmup is given
    loss_fn: Callable = F.cross_entropy
    warmup: float | None = None  # share of the steps before the peak; None: a constant lr
    shuffle: bool = True
    moments: tuple[float, float] | None = None  # mean and std; None: the training split's own
    channels_last: bool = False
    two_looks: bool = False  # also measured with each image and its mirror image, reported apart
    by_epoch: bool = False  # also measured after every epoch, as many sources report it
    choices: str = ""


class TwoLooks(nn.Module):
    """Test-time augmentation: the mean of the probabilities for an image and its mirror image."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x):
        both = self.model(x).softmax(1) + self.model(x.flip(3)).softmax(1)  # (B, 10)
        return (both / 2).log()


def splits(recipe: Recipe, validation: bool = False) -> tuple[Split, Split]:
    """What the recipe trains on, and what it is measured on (test, or held-out training images).

    DataError where the real data cannot be had: the stand-in's numbers are never recorded.
    """
    loaded = data.load(recipe.dataset)
    if loaded.standin:
        raise data.DataError(f"{recipe.name} needs the real {recipe.dataset}, not the stand-in")
    mean, std = recipe.moments or (loaded.mean, loaded.std)
    train, test = (s.normalised(mean, std) for s in (loaded.train, loaded.test))
    return train.hold_out(HELD_OUT) if validation else (train, test)


def prepare(recipe: Recipe, train: Split, seed: int):
    """The network with its start values for this seed, its optimizer and its schedule."""
    seed_everything(seed)
    model = recipe.network()
    if recipe.channels_last:
        model = model.to(memory_format=torch.channels_last)
    optimizer = recipe.optimizer(model.parameters())
    steps = recipe.epochs * math.ceil(len(train) / recipe.batch_size)
    scheduler = recipe.warmup and torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda t: warmup_decay(t, steps, recipe.warmup)
    )
    return model, optimizer, scheduler


def run(recipe: Recipe, train: Split, test: Split, seed: int, folder=None, progress=False) -> dict:
    """One training and one evaluation, with what it took.

    folder: for checkpoints; a run that was broken off goes on from its last whole epoch, and
    CheckpointError says so where the file is of a recipe that has changed since. The seconds are
    those of training alone, by the epoch, without data, evaluation or checkpoints.
    """
    model, optimizer, scheduler = prepare(recipe, train, seed)
    file = Path(folder) / f"{recipe.name}-{seed}.pt" if folder else None
    group = optimizer.param_groups[0]
    about = {"recipe": recipe.name, "optimizer": type(optimizer).__name__,
             "lr": group.get("initial_lr", group["lr"])}  # fmt: skip
    history = fit(model, train, recipe.epochs, optimizer, batch_size=recipe.batch_size,
                  scheduler=scheduler, loss_fn=recipe.loss_fn, shuffle=recipe.shuffle, seed=seed,
                  test=test if recipe.by_epoch else None, progress=progress,
                  checkpoint=file, about=about)  # fmt: skip
    loss, share = evaluate(model, test, loss_fn=F.cross_entropy)
    result = {"seed": seed, "accuracy": share, "loss": loss, "seconds": sum(history.seconds)}
    if recipe.two_looks:
        result["accuracy_tta"] = evaluate(TwoLooks(model), test)[1]
    result |= {"train_loss": history.loss, "train_accuracy": history.accuracy}
    if len(history.test_accuracy) == recipe.epochs:  # a checkpoint may come from before by_epoch
        result |= {"test_loss": history.test_loss, "test_accuracy": history.test_accuracy}
    return result | {"parameters": sum(p.numel() for p in model.parameters()), "model": model}


def summarise(results: list[dict], key: str) -> dict:
    """mean, sd (of a sample; None for one value) and n of one measured quantity."""
    values = [r[key] for r in results]
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "n": len(values)}


def keep_memory() -> None:
    """Ask glibc to keep freed memory in the process; elsewhere nothing happens.

    Otherwise each large tensor is given back to the kernel and asked for again, page by page:
    about a tenth of a step's time with these networks.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: up to 32 MB from the heap
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: the heap shrinks above 1 GB unused


def machine() -> dict:
    """Device, processor, threads, how busy it is, and versions."""
    device = pick_device()
    name = torch.cuda.get_device_name() if device.type == "cuda" else _processor()
    return {"device": device.type, "name": name, "threads": torch.get_num_threads(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "python": platform.python_version(), "torch": torch.__version__}  # fmt: skip


def _processor() -> str:
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def write(name: str, record: dict, folder=None) -> Path:
    """Add date, command and machine to the record, and write it to `folder`/NAME.json."""
    words = [f"python -m {Path(sys.argv[0]).parent.name}.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
    # Where files lie on this machine is left out: the numbers do not depend on it.
    command = re.sub(r" --(checkpoints|results) \S+", "", " ".join(words))
    today = datetime.date.today().isoformat()
    record = {"name": name, "date": today, "command": command} | record
    path = Path(folder or RESULTS) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return path


def record(recipe: Recipe, seeds: int, *, validation=False, folder=None, results_folder=None,
           remark=""):  # fmt: skip
    """Run the recipe for seeds 0 to seeds - 1, print a line each, and write the record.

    folder: for checkpoints; a seed that is done there is not trained again, only evaluated.
    remark: kept with the seconds, and shown beside them.
    On the validation split nothing is written: that is for tuning.
    """
    keep_memory()
    train, test = splits(recipe, validation)
    on = "validation" if validation else "test"
    start, found = machine(), []
    for seed in range(seeds):
        result = run(recipe, train, test, seed, folder)
        del result["model"]
        found.append(result)
        print(f"{recipe.name}  seed {seed}  {on} {result['accuracy']:.2%}  "
              f"{result['seconds']:.1f} s", flush=True)  # fmt: skip
    accuracy, seconds = summarise(found, "accuracy"), summarise(found, "seconds")
    spread = f" ± {accuracy['sd']:.2%}" if accuracy["sd"] is not None else ""
    print(f"{recipe.name}  {on} {accuracy['mean']:.2%}{spread} (n = {seeds}), "
          f"{seconds['mean']:.1f} s")  # fmt: skip
    extra = {"accuracy_tta": summarise(found, "accuracy_tta")} if recipe.two_looks else {}
    if not validation:
        name = recipe.name + ("-cuda" if start["device"] == "cuda" else "")
        print("written:", write(name, describe(recipe, train) | {
            "accuracy": accuracy, **extra, "seconds": seconds, "remark": remark,
            "machine": start, "runs": found,
        }, results_folder))  # fmt: skip
    return found


def describe(recipe: Recipe, train: Split) -> dict:
    """The recipe in words and numbers, for the record."""
    _, optimizer, _ = prepare(recipe, train, 0)
    group = {k: v for k, v in optimizer.param_groups[0].items() if isinstance(v, int | float)}
    return {"dataset": recipe.dataset, "epochs": recipe.epochs, "batch_size": recipe.batch_size,
            "optimizer": type(optimizer).__name__, "lr": group.get("initial_lr", group["lr"]),
            "weight_decay": group.get("weight_decay", 0), "warmup": recipe.warmup,
            "shuffle": recipe.shuffle, "choices": recipe.choices}  # fmt: skip


def main(recipes: dict[str, Recipe], description: str) -> None:
    """The command line of a module with recipes: names, seeds, tuning, resuming."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of: " + ", ".join(recipes))
    parser.add_argument("--seeds", type=int, default=3, help="runs with seeds 0 to N - 1 (3)")
    parser.add_argument(
        "--validation",
        action="store_true",
        help="measure on held-out training images, for tuning; writes nothing",
    )
    parser.add_argument(
        "--checkpoints",
        metavar="FOLDER",
        help="keep every epoch there, and go on from it after an interruption",
    )
    parser.add_argument("--results", metavar="FOLDER", help=f"where records go ({RESULTS})")
    parser.add_argument("--remark", default="", metavar="TEXT", help="about the seconds, say that "
                        "other work ran beside: pages show it")  # fmt: skip
    args = parser.parse_args()
    unknown = [n for n in args.names if n not in recipes]
    if unknown or args.seeds < 1:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(recipes)}"
                     if unknown else "--seeds must be 1 or more")  # fmt: skip
    for name in args.names or recipes:
        try:
            record(recipes[name], args.seeds, validation=args.validation, folder=args.checkpoints,
                   results_folder=args.results, remark=args.remark)  # fmt: skip
        except (data.DataError, checkpoint.CheckpointError) as error:
            sys.exit(f"{name}: {error}")
        except KeyboardInterrupt:
            how = "The same command" if args.checkpoints else "With --checkpoints FOLDER it"
            sys.exit(f"\n{name} was broken off. {how} goes on from the last whole epoch.")
