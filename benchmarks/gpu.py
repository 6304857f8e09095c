"""The course on one GPU: every step a CUDA graph (lessons_src.gpu), against targets for one H200.

    python -m benchmarks.gpu                           all targets: results/gpu.json
    python -m benchmarks.gpu fashion-94 --validation   one, on held-out images, for tuning
    python -m benchmarks.gpu --dry-run                 all of it on this CPU, with a few images

Five seeds, bfloat16, and before them a first training, whose times are kept apart. Seconds are
those of training alone; copying the data, warm-up and capture are reported beside them. With every
seed goes an epoch without a graph: the same step, started operation by operation. The record is
written again after every target, so what is broken off has its finished targets.

All records of a GPU, planned for nine minutes of an H200 (the first line is a test, not a record;
it asks whether a graph trains to the same weights as single operations there):

    python -m pytest -q --noconftest -o addopts= tests/test_gpu.py -k on_a_gpu &&
    python -m benchmarks.gpu --minutes 5;
    python -m benchmarks.own fashion-93;
    python -m benchmarks.published R1b R1a --seeds 1

The last two measure `train.fit`, the loop of the lessons, on the GPU (NAME-cuda.json). Needed are
PyTorch (2.11 will do), scikit-learn and pooch; no torchvision; the eight .gz files in data/.
"""

import argparse
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from benchmarks import RESULTS, runs
from benchmarks.runs import Recipe
from lessons_src.data import DataError
from lessons_src.gpu import fit_resident
from lessons_src.models import Crop, RandomFlip, RandomShift, cnn
from lessons_src.train import TrainingError, evaluate

AMP = torch.bfloat16
adamw = partial(torch.optim.AdamW, weight_decay=0.01, fused=True)
smooth = partial(F.cross_entropy, label_smoothing=0.1)


@dataclass(frozen=True)
class Target:
    """A mean test accuracy, and the seconds in which it must and should be reached."""

    what: str
    goal: float
    must: float
    aim: float
    recipe: Recipe


def recipe(name, dataset, network, epochs, batch_size, lr, **more) -> Recipe:
    return Recipe(name, dataset, network, epochs, batch_size, partial(adamw, lr=lr), smooth,
                  warmup=0.25, channels_last=True, **more)  # fmt: skip


def digits(*groups, **options):
    """The networks of lesson 08, with more channels: a GPU computes them in the same time."""
    return partial(cnn, *groups, **options)


def clothes(*groups, augment=(), **options):
    """Those of lesson 09: 3 x 3 convolutions that keep the size, mirrored images."""
    options |= {"kernel": 3, "padded": True, "augment": [RandomFlip(), *augment]}
    return partial(cnn, *groups, **options)


TARGETS = [
    Target("MNIST to 99 %", 0.99, 0.25, 0.1, recipe(
        "mnist-99", "mnist", digits((32,), (64, 64), (128,), augment=[Crop(26)]),
        1, 256, 0.015)),
    Target("MNIST to 99.4 %", 0.994, 0.6, 0.35, recipe(
        "mnist-99.4", "mnist", digits((48,), (96, 96), (192,), augment=[Crop(24, shift=2)]),
        4, 256, 0.015)),
    Target("MNIST to 99.5 %", 0.995, 1.2, 0.6, recipe(
        "mnist-99.5", "mnist", digits((64,), (128, 128), (256,), augment=[Crop(24, shift=2)]),
        8, 384, 0.015)),
    Target("Fashion-MNIST to 93 %", 0.93, 1.5, 0.7, recipe(
        "fashion-93", "fashion-mnist", clothes((64,), (128,), (128,), flatten=True),
        8, 256, 0.01, two_looks=True)),
    Target("Fashion-MNIST to 94 %", 0.94, 6, 3, recipe(
        "fashion-94", "fashion-mnist", clothes((64, 64), (128, 128), (256,), dropout=0.2,
                                               augment=[RandomShift(1)]),
        16, 256, 0.01, two_looks=True)),
    Target("Fashion-MNIST to 95 %", 0.95, 40, 20, recipe(
        "fashion-95", "fashion-mnist", clothes((64, 64), (128, 128, 128), (256, 256), dropout=0.3,
                                               augment=[RandomShift(2)]),
        40, 512, 0.015, two_looks=True)),
]  # fmt: skip
TARGETS = {target.recipe.name: target for target in TARGETS}


def train_once(recipe: Recipe, train, seed: int, device, graph: bool):
    """The trained network, its history, and the seconds of a step."""
    full = len(train) // recipe.batch_size
    # The schedule ends with the last step, and only full batches have one.
    model, optimizer, scheduler = runs.prepare(recipe, train[: full * recipe.batch_size], seed)
    history = fit_resident(model, train, recipe.epochs, optimizer, batch_size=recipe.batch_size,
                           scheduler=scheduler, loss_fn=recipe.loss_fn, seed=seed, device=device,
                           graph=graph, amp=AMP)  # fmt: skip
    return model, history, sum(history.seconds) / (full * recipe.epochs)


def measure(target: Target, train, test, seeds: int, device) -> dict:
    """The target's entry in the record: a first training, then one a seed, and what they took."""
    whole = target.recipe
    epoch = replace(whole, epochs=1)
    model, first, _ = train_once(whole, train, 0, device, graph=True)
    train_once(epoch, train, 0, device, graph=False)
    found = []
    for seed in range(seeds):
        model, history, step = train_once(whole, train, seed, device, graph=True)
        eager = train_once(epoch, train, seed, device, graph=False)[2]
        result = {"seed": seed, "seconds": sum(history.seconds), "step": step, "eager": eager,
                  "ratio": eager / step, "data_seconds": history.data_seconds,
                  "warmup_seconds": history.warmup_seconds}  # fmt: skip
        result["loss"], result["accuracy"] = evaluate(model, test)
        if whole.two_looks:
            result["accuracy_tta"] = evaluate(runs.TwoLooks(model), test)[1]
        found.append(result)
    entry = {"name": whole.name, "what": target.what, "goal": target.goal,
             "must_seconds": target.must, "aim_seconds": target.aim}  # fmt: skip
    ours = runs.describe(whole, train) | {
        "recipe": whole.name, "parameters": sum(p.numel() for p in model.parameters()),
        "accuracy": runs.summarise(found, "accuracy"), "seconds": spread(found, "seconds"),
    }  # fmt: skip
    if whole.two_looks:
        ours["accuracy_tta"] = runs.summarise(found, "accuracy_tta")
    ours["reached"] = ours["accuracy"]["mean"] >= target.goal
    return entry | {
        "ours": ours, "met": verdict(target, ours),
        "first": {"seconds": sum(first.seconds), "data_seconds": first.data_seconds,
                  "warmup_seconds": first.warmup_seconds},
        "before": {key: spread(found, key) for key in ("data_seconds", "warmup_seconds")},
        "graph": {key: spread(found, key) for key in ("step", "eager", "ratio")},
        "runs": found,
    }  # fmt: skip


def spread(results: list[dict], key: str) -> dict:
    """median, low, high and n of one measured quantity."""
    values = [result[key] for result in results]
    return {"median": statistics.median(values), "low": min(values), "high": max(values),
            "n": len(values)}  # fmt: skip


def verdict(target: Target, ours: dict) -> str:
    """ "aim", "must" or "missed": by the mean accuracy, without test-time augmentation, and the
    median of the seconds."""
    seconds = ours["seconds"]["median"]
    if not ours["reached"] or seconds > target.must:
        return "missed"
    return "aim" if seconds <= target.aim else "must"


def shown(entry: dict) -> str:
    """The entry as a line for people."""
    ours, graph = entry["ours"], entry["graph"]
    accuracy, seconds = ours["accuracy"], ours["seconds"]
    sd = f" ± {accuracy['sd']:.2%}" if accuracy["sd"] is not None else ""
    looks = f" (two looks {ours['accuracy_tta']['mean']:.2%})" if "accuracy_tta" in ours else ""
    return (f"{entry['what']:22} {accuracy['mean']:.2%}{sd}{looks}, n = {accuracy['n']}, in "
            f"{seconds['median']:.2f} s ({seconds['low']:.2f} to {seconds['high']:.2f}; must "
            f"{entry['must_seconds']}, aim {entry['aim_seconds']}): {entry['met']}; "
            f"step {graph['step']['median'] * 1e6:.0f} µs, without a graph "
            f"{graph['eager']['median'] * 1e6:.0f} µs, {graph['ratio']['median']:.1f} times; "
            f"before it {entry['before']['warmup_seconds']['median']:.2f} s, "
            f"the first time {entry['first']['warmup_seconds']:.2f} s")  # fmt: skip


def machine() -> dict:
    """Device, processor and versions, with those of the GPU's driver and libraries."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60)
        driver = said.stdout.split("\n")[0].strip() or None
    except (OSError, subprocess.TimeoutExpired):
        driver = None
    return runs.machine() | {"driver": driver, "cuda": torch.version.cuda,
                             "cudnn": torch.backends.cudnn.version()}  # fmt: skip


def dry(target: Target, train, test):
    """The same target with two batches of 16 images and one epoch, to see it run."""
    short = replace(target.recipe, epochs=1, batch_size=16)
    return replace(target, recipe=short), train[:40], test[:100]


def bench(targets: list[Target], args, device, folder: Path | None) -> None:
    """Measure the targets one after the other; the record is written after each."""
    start, rows, left = time.monotonic(), [], [target.recipe.name for target in targets]
    record = {"dry_run": args.dry_run, "machine": machine() | {"device": device.type},
              "seeds": args.seeds, "amp": str(AMP).removeprefix("torch."),
              "cudnn_benchmark": torch.backends.cudnn.benchmark, "failed": {}}  # fmt: skip
    for target in targets:
        if args.minutes is not None and time.monotonic() - start > args.minutes * 60:
            print(f"{args.minutes:g} minutes are over; left out: {', '.join(left)}")
            break
        train, test = runs.splits(target.recipe, args.validation)
        if args.dry_run:
            target, train, test = dry(target, train, test)
        try:
            rows.append(measure(target, train, test, args.seeds, device))
            print(shown(rows[-1]), flush=True)
        except TrainingError as error:
            record["failed"][target.recipe.name] = str(error)
            print(f"{target.what}: {error}", flush=True)
        left.remove(target.recipe.name)
        if folder:
            name = "gpu-dry-run" if args.dry_run else "gpu"
            path = runs.write(name, record | {"left_out": left, "targets": rows}, folder)
    print(f"written: {path}" if folder and len(left) < len(targets) else "Nothing was written.")
    if record["failed"]:
        sys.exit(f"failed: {', '.join(record['failed'])}")


def arguments() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("names", nargs="*", metavar="NAME", help="of: " + ", ".join(TARGETS))
    parser.add_argument("--seeds", type=int, default=5, help="runs with seeds 0 to N - 1 (5)")
    parser.add_argument(
        "--validation",
        action="store_true",
        help="measure on held-out training images, for tuning; writes nothing",
    )
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="begin no further target when M minutes are over"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="on the CPU, with a few images; written only with --results, as gpu-dry-run.json",
    )
    parser.add_argument("--results", metavar="FOLDER", help="where the record goes "
                        f"({RESULTS}, if no NAME is given)")  # fmt: skip
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in TARGETS]
    if unknown or args.seeds < 1:
        parser.error(f"unknown: {', '.join(unknown)}; there are: {', '.join(TARGETS)}"
                     if unknown else "--seeds must be 1 or more")  # fmt: skip
    return args


def main() -> None:
    args = arguments()
    if not args.dry_run and not torch.cuda.is_available():
        sys.exit("benchmarks.gpu needs a CUDA GPU, and this machine has none that PyTorch can "
                 "use; --dry-run shows on the CPU that everything runs.")  # fmt: skip
    device = torch.device("cpu" if args.dry_run else "cuda")
    torch.backends.cudnn.benchmark = device.type == "cuda"  # the fastest algorithm for each layer
    folder = args.results or (None if args.names or args.dry_run else RESULTS)
    try:
        targets = [TARGETS[name] for name in args.names or TARGETS]
        bench(targets, args, device, Path(folder) if folder and not args.validation else None)
    except DataError as error:
        sys.exit(f"benchmarks.gpu: {error}")
    except KeyboardInterrupt:
        sys.exit("\nBroken off. What was finished before is in the record, where one is written.")


if __name__ == "__main__":
    main()
