"""The course on one GPU, against targets: every step is a CUDA graph.

    python -m benchmarks.gpu                           all targets: records/gpu.json
    python -m benchmarks.gpu fashion-94 --validation   one, on held-out images, for tuning
    python -m benchmarks.gpu --dry-run                 all of it on this CPU, few images

The targets are for one H200: five seeds, bfloat16, after a first training whose times are
kept apart. The seconds are those of training alone; moving the data, warm-up and
recording the graph are reported beside them. With every seed goes an epoch without a
graph: the same step, started operation by operation. The record is written again after
every target, so an interruption loses one target; while an earlier record has more, the
new one is gpu.part beside it. First see on that machine that a graph
trains to the same weights:

    python -m pytest -q tests/module/test_graph.py tests/benchmarks/test_gpu.py
"""

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from math import isfinite

import torch
from torch import nn

from benchmarks import (
    check_replaces,
    errors_in_a_sentence,
    machine,
    median_and_range,
    options,
    summarise,
    write_unfinished,
)
from lessons_src.data import Split
from lessons_src.models import Crop, MirrorAverage, RandomFlip, RandomShift, cnn
from lessons_src.recipes import Recipe, adamw, images, splits
from lessons_src.scale.graph import graphed, preserve_state
from lessons_src.train import History, TrainingError, evaluate

AMP = torch.bfloat16


@dataclass(frozen=True)
class GpuTarget:
    """A mean test accuracy, and the seconds in which it must and should be reached."""

    what: str
    goal: float
    must: float
    aim: float
    recipe: Recipe


# The networks of the lessons on a fast CNN and on Fashion-MNIST with more channels: a GPU
# computes them as quickly.
large_digits = partial(images, batch_size=256, optimizer=partial(adamw, lr=0.015))
large_fashion = partial(
    images,
    dataset="fashion-mnist",
    batch_size=256,
    optimizer=partial(adamw, lr=0.01),
    mirror_at_test=True,
)
padded_cnn = partial(cnn, kernel=3, padded=True)
mnist_99 = large_digits(
    name="mnist-99",
    network=partial(cnn, (32,), (64, 64), (128,), augment=[Crop(26)]),
    epochs=1,
)
mnist_994 = large_digits(
    name="mnist-99.4",
    network=partial(cnn, (48,), (96, 96), (192,), augment=[Crop(24, shift=2)]),
    epochs=4,
)
mnist_995 = large_digits(
    name="mnist-99.5",
    network=partial(cnn, (64,), (128, 128), (256,), augment=[Crop(24, shift=2)]),
    epochs=8,
    batch_size=384,
)
mirrored = partial(
    padded_cnn, (64,), (128,), (128,), flatten=True, augment=[RandomFlip()]
)
fashion_93 = large_fashion(name="fashion-93", network=mirrored, epochs=8)
deeper = partial(padded_cnn, (64, 64), (128, 128), (256,), dropout=0.2)
moved = partial(deeper, augment=[RandomFlip(), RandomShift(1)])
fashion_94 = large_fashion(name="fashion-94", network=moved, epochs=16)
deepest = partial(padded_cnn, (64, 64), (128, 128, 128), (256, 256), dropout=0.3)
fashion_95 = large_fashion(
    name="fashion-95",
    network=partial(deepest, augment=[RandomFlip(), RandomShift(2)]),
    epochs=40,
    batch_size=512,
    optimizer=partial(adamw, lr=0.015),
)
TARGETS = {
    target.recipe.name: target
    for target in (
        GpuTarget("MNIST to 99 %", 0.99, 0.25, 0.1, mnist_99),
        GpuTarget("MNIST to 99.4 %", 0.994, 0.6, 0.35, mnist_994),
        GpuTarget("MNIST to 99.5 %", 0.995, 1.2, 0.6, mnist_995),
        GpuTarget("Fashion-MNIST to 93 %", 0.93, 1.5, 0.7, fashion_93),
        GpuTarget("Fashion-MNIST to 94 %", 0.94, 6, 3, fashion_94),
        GpuTarget("Fashion-MNIST to 95 %", 0.95, 40, 20, fashion_95),
    )
}


# Training with all that a step needs on the device -------------------------------------


def train_on_device(recipe: Recipe, split: Split, seed: int, *, graph=True, amp=AMP):
    """Train like `train.fit` on full batches; the network, its History, seconds of the
    warm-up.

    split: on the device. Each epoch draws its order there, takes the full batches, and
    reads the numbers for the History back at its end. graph: on CUDA each step is a CUDA
    graph. amp: None for float32. TrainingError, at the end of an epoch, on a loss that is
    not finite.
    """
    device, size = split.images.device, recipe.batch_size
    batches = len(split) // size
    model, optimizer, scheduler, _ = recipe.start(batches * size, seed)
    model.to(device).train()
    generator = torch.Generator(device).manual_seed(seed)  # of the order
    rates = learning_rates(scheduler, recipe.epochs * batches).to(device)  # (steps,)
    # All that changes between two steps. A step reads these tensors and writes into them.
    number = torch.zeros(1, dtype=torch.int64, device=device)  # of the step, from 0
    order = torch.zeros(batches, size, dtype=torch.int64, device=device)
    lr = torch.zeros((), device=device)
    totals = torch.zeros(2, device=device)  # sum of the losses, number of right answers
    optimizer.param_groups[0] |= {"lr": lr, "capturable": True}  # read from the tensor

    def step():
        index = order[number % batches][0]  # (B,)
        x, y = split.images[index], split.labels[index]  # (B, 1, 28, 28), (B,)
        lr.copy_(rates[number][0])
        with torch.autocast(device.type, amp, amp is not None, cache_enabled=False):
            logits = model(x)  # (B, 10)
            loss = recipe.loss_fn(logits, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.add_(torch.stack([loss.detach().float(), (logits.argmax(1) == y).sum()]))
        number.add_(1)

    start, run_step = now(device), step
    if graph and device.type == "cuda":
        with preserve_state(model, optimizer, number, totals):
            run_step = graphed(step)
    history, warmup_seconds = History(), now(device) - start
    for epoch in range(1, recipe.epochs + 1):
        start = now(device)
        shuffled = torch.randperm(len(split), generator=generator, device=device)
        order.copy_(shuffled[: batches * size].view(batches, size))
        totals.zero_()
        for _ in range(batches):
            run_step()
        loss, correct = totals.tolist()
        history.seconds.append(now(device) - start)
        history.loss.append(loss / batches)
        history.accuracy.append(correct / (batches * size))
        if not isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} in epoch {epoch}. Try a smaller learning rate, and "
                "look for inf or nan in the input."
            )
    return model, history, warmup_seconds


def learning_rates(scheduler, steps: int) -> torch.Tensor:
    """The learning rate of every step of a LambdaLR, (steps,)."""
    (peak,), (factor,) = scheduler.base_lrs, scheduler.lr_lambdas
    return torch.tensor([peak * factor(t) for t in range(steps)])


def now(device: torch.device) -> float:
    """Seconds on the clock, read when the GPU has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


# A target's entry in the record --------------------------------------------------------


def train_once(recipe: Recipe, train: Split, seed: int, device, graph=True):
    """The trained network; seconds of training, of a step, and of what came before."""
    start = now(device)
    train = train.to(device)
    data_seconds = now(device) - start
    model, history, warmup = train_on_device(recipe, train, seed, graph=graph)
    seconds = sum(history.seconds)
    return model, {
        "seconds": seconds,
        "step": seconds / (len(train) // recipe.batch_size * recipe.epochs),
        "data_seconds": data_seconds,
        "warmup_seconds": warmup,
    }


def measure(target: GpuTarget, train: Split, test: Split, seeds: int, device) -> dict:
    """The target's entry: a first training, then one for each seed."""
    recipe, one_epoch = target.recipe, replace(target.recipe, epochs=1)
    model, first = train_once(recipe, train, 0, device)
    train_once(one_epoch, train, 0, device, graph=False)
    runs = []
    for seed in range(seeds):
        model, result = train_once(recipe, train, seed, device)
        _, eager = train_once(one_epoch, train, seed, device, graph=False)
        result |= {"seed": seed, "eager": eager["step"]}
        result["ratio"] = result["eager"] / result["step"]
        result["loss"], result["accuracy"] = evaluate(model, test)
        if recipe.mirror_at_test:
            result["accuracy_tta"] = evaluate(MirrorAverage(model), test)[1]
        runs.append(result)
    first.pop("step")
    return target_entry(target, model, first, runs)


def target_entry(
    target: GpuTarget, model: nn.Module, first: dict, runs: list[dict]
) -> dict:
    """What the record says about a target: settings, summaries, verdict, runs."""

    def values(key):
        return [run[key] for run in runs]

    accuracy, seconds = summarise(values("accuracy")), median_and_range(values("seconds"))
    ours = target.recipe.as_dict() | {"recipe": target.recipe.name}
    ours["parameters"] = sum(p.numel() for p in model.parameters())
    ours |= {"accuracy": accuracy, "seconds": seconds}
    ours["reached"] = accuracy["mean"] >= target.goal
    if target.recipe.mirror_at_test:
        ours["accuracy_tta"] = summarise(values("accuracy_tta"))
    return {
        "name": target.recipe.name,
        "what": target.what,
        "goal": target.goal,
        "must_seconds": target.must,
        "aim_seconds": target.aim,
        "ours": ours,
        "met": met(target, accuracy["mean"], seconds["median"]),
        "first": first,
        "before": {
            k: median_and_range(values(k)) for k in ("data_seconds", "warmup_seconds")
        },
        "graph": {
            key: median_and_range(values(key)) for key in ("step", "eager", "ratio")
        },
        "runs": runs,
    }


def met(target: GpuTarget, accuracy: float, seconds: float) -> str:
    """Which of "aim", "must" and "missed" holds, without test-time augmentation."""
    if accuracy < target.goal or seconds > target.must:
        return "missed"
    return "aim" if seconds <= target.aim else "must"


def line(entry: dict) -> str:
    """The entry as a line for people."""
    accuracy, seconds = entry["ours"]["accuracy"], entry["ours"]["seconds"]
    step, eager = (entry["graph"][key]["median"] * 1e6 for key in ("step", "eager"))
    return (
        f"{entry['what']:22} {accuracy['mean']:.2%} (n = {accuracy['n']}) in "
        f"{seconds['median']:.2f} s (must {entry['must_seconds']}, aim "
        f"{entry['aim_seconds']}): {entry['met']}; a step {step:.0f} µs, without a graph "
        f"{eager:.0f} µs"
    )


# The command ---------------------------------------------------------------------------


def gpu_machine(device) -> dict:
    """The machine, with the versions of the GPU's driver and libraries."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        answer = ""
    return machine() | {
        "device": device.type,
        "driver": answer.partition("\n")[0].strip() or None,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }


def shortened(target: GpuTarget, train: Split, test: Split):
    """The same target with two batches of 16 images and one epoch, to see it run."""
    recipe = replace(target.recipe, epochs=1, batch_size=16)
    return replace(target, recipe=recipe), train[:40], test[:100]


def measure_all(args, device) -> None:
    """Measure the targets one after the other; the record is written after each."""
    name = "gpu-dry-run" if args.dry_run else "gpu"
    if args.writes:
        covers = {"seeds": args.seeds, "targets": set(args.names)}
        check_replaces(name, covers, args)
    start, left, entries = time.monotonic(), list(args.names), []
    record = {
        "dry_run": args.dry_run,
        "machine": gpu_machine(device),
        "seeds": args.seeds,
    }
    record |= {"amp": "bfloat16", "cudnn_benchmark": torch.backends.cudnn.benchmark}
    record |= {"left_out": left, "targets": entries}
    for target in [TARGETS[name] for name in args.names]:
        if time.monotonic() - start > 60 * args.minutes:
            print(f"{args.minutes:g} minutes are over; left out: {', '.join(left)}")
            break
        train, test = splits(target.recipe, args.validation)
        if args.dry_run:
            target, train, test = shortened(target, train, test)
        entries.append(measure(target, train, test, args.seeds, device))
        print(line(entries[-1]), flush=True)
        left.remove(target.recipe.name)
        if args.writes:
            write_unfinished(name, record, args)
    if not args.writes:
        print("Nothing was written.")


def arguments() -> argparse.Namespace:
    """The options of the command line; `writes` says whether there will be a record."""
    parser = options(__doc__)
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="of: " + ", ".join(TARGETS))
    add("--seeds", type=int, default=5, help="runs with seeds 0 to N - 1 (5)")
    tuning = "measure on held-out training images, for tuning; writes nothing"
    add("--validation", action="store_true", help=tuning)
    minutes = "begin no further target when M minutes are over"
    add("--minutes", type=float, default=float("inf"), metavar="M", help=minutes)
    dry = (
        "on the CPU, with a few images; written only with --results, as gpu-dry-run.json"
    )
    add("--dry-run", action="store_true", help=dry)
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in TARGETS]
    if unknown:
        names = ", ".join(TARGETS)
        parser.error(f"unknown: {', '.join(unknown)}; there are: {names}")
    if args.seeds < 1:
        parser.error("--seeds must be 1 or more")
    whole = not args.names and not args.dry_run  # else only where --results says
    args.writes = not args.validation and (whole or args.results is not None)
    args.names = args.names or list(TARGETS)
    return args


def main() -> None:
    """Record the targets on this machine's GPU."""
    args = arguments()
    if not args.dry_run and not torch.cuda.is_available():
        sys.exit(
            "benchmarks.gpu needs a CUDA GPU, and this machine has none that PyTorch can "
            "use; --dry-run shows on the CPU that everything runs."
        )
    device = torch.device("cpu" if args.dry_run else "cuda")
    # cuDNN tries its algorithms and takes the fastest for each layer.
    torch.backends.cudnn.benchmark = device.type == "cuda"
    with errors_in_a_sentence():
        try:
            measure_all(args, device)
        except KeyboardInterrupt:
            sys.exit("\nInterrupted. What was written has the finished targets.")


if __name__ == "__main__":
    main()
