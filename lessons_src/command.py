"""What `python -m lessons_src.train` does with its options, alone or on every rank of torchrun."""

import argparse
import contextlib
import datetime
import io
import json
import math
import os
import platform
import shlex
import sys
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from tqdm import tqdm
from tqdm.contrib import DummyTqdmFile

from lessons_src import checkpoint, data, distributed, train
from lessons_src.data import Dataset, Split
from lessons_src.options import EXTRA, HELD_OUT, MODELS, OPTIMIZERS, PROGRAM

from lessons_src.options import UsageError, filled, parser  # isort: skip

FAILURES = (train.TrainingError, checkpoint.CheckpointError, distributed.GroupError, OSError)


def main(argv: list[str] | None = None) -> None:
    """Read the options, run, and turn what goes wrong into one line and an exit status."""
    args = read(argv)
    again = (
        "The same command goes on from" if args.checkpoint else "With --checkpoint FILE it keeps"
    )
    again += " the last whole epoch."
    try:
        return run(filled(args))
    except UsageError as error:
        status, said = 2, error
    except FAILURES as error:
        status, said = 1, error
    except KeyboardInterrupt:
        status, said = 130, KeyboardInterrupt(f"broken off. {again}")
    except RuntimeError as error:
        if not distributed.lost(error):
            raise
        status, said = (
            1,
            distributed.GroupError(
                f"rank {distributed.rank()} lost another rank: look for its own message. {again}"
            ),
        )
    if distributed.rank() == 0 or isinstance(said, distributed.GroupError):  # all raise the rest
        print(f"{PROGRAM}: error: {said}", file=sys.stderr, flush=True)
    get_error_handler().record_exception(said)  # for torchrun's report; without it nothing
    sys.exit(status)


def read(argv: list[str] | None) -> argparse.Namespace:
    """The options; under torchrun one rank alone says what is wrong with them."""
    hush = io.StringIO() if os.environ.get("RANK", "0") != "0" else None
    with (
        contextlib.redirect_stderr(hush or sys.stderr),
        contextlib.redirect_stdout(hush or sys.stdout),
    ):
        args = parser().parse_args(argv)
    args.command = shlex.join([*PROGRAM.split(), *(sys.argv[1:] if argv is None else argv)])
    return args


def run(args) -> None:
    """Train, measure, write, print: every rank goes through this, rank 0 writes and prints."""
    if args.threads:
        torch.set_num_threads(args.threads)
    with distributed.group(args.device) as device:
        if distributed.world_size() == 1 and not args.device:
            device = train.pick_device()
        distributed.by_one(lambda: check_writable(args))
        loaded, learn, measure = splits(args)
        model, history = trained(args, loaded, learn, device)
        found = report(args, loaded, model, history, device)
        found["test_loss"], found["test_accuracy"] = train.evaluate(model, measure.to(device))
        distributed.by_one(lambda: write(args, model, found))


def check_writable(args) -> None:
    """OSError before the training, where its results could not be written after it."""
    for file in map(Path, filter(None, (args.checkpoint, args.save, args.json))):
        with contextlib.suppress(OSError):  # said below: it is not there, or cannot be written
            file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir() or not os.access(file.parent, os.W_OK):
            raise OSError(f"cannot write {file}: name a file, in a folder that may be written")


def splits(args) -> tuple[Dataset, Split, Split]:
    """The data set, what is trained on and what is measured on; one rank fetches, all read."""
    notice = io.StringIO() if distributed.rank() else sys.stderr
    with distributed.one_first(), contextlib.redirect_stdout(notice):
        loaded = data.load(args.data)
    learn, measure = loaded.normalised()
    if args.validation:
        learn, measure = learn.hold_out(HELD_OUT)
    if (args.examples or 0) > len(learn):
        raise UsageError(f"--examples {args.examples}: there are {len(learn)} to train on")
    dtype = getattr(torch, args.dtype)
    learn, measure = (Split(s.images.to(dtype), s.labels) for s in (learn, measure))
    return loaded, learn[: args.examples], measure


def trained(args, loaded: Dataset, learn: Split, device) -> tuple[torch.nn.Module, train.History]:
    """The trained network and what was measured; a bar on a terminal, and a line an epoch."""
    train.seed_everything(args.seed)
    model = MODELS[args.model][0]().to(device, getattr(torch, args.dtype))
    momentum = {"momentum": args.momentum} if args.optimizer == "sgd" else {}
    optimizer = OPTIMIZERS[args.optimizer][0](model.parameters(), lr=args.lr, **momentum)
    steps = args.epochs * math.ceil(len(learn) / args.batch_size)
    rate = partial(train.warmup_decay, steps=steps, warmup=args.warmup)
    scheduler = args.warmup and torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    done = distributed.by_one(lambda: epochs_kept(args))
    shown = distributed.rank() == 0 and not args.quiet
    if shown and done:
        print(f"{args.checkpoint} holds {done} epochs: going on from there", file=sys.stderr)
    bar = tqdm(total=steps, initial=done * steps // args.epochs, unit=" batches", leave=False,
               file=sys.stderr, disable=None if shown else True)  # fmt: skip # None: on a terminal
    optimizer.register_step_post_hook(lambda *_: bar.update())
    with bar, contextlib.redirect_stdout(DummyTqdmFile(sys.stderr)):  # lines go above the bar
        history = train.fit(
            model, learn, args.epochs, optimizer, batch_size=args.batch_size, seed=args.seed,
            scheduler=scheduler or None, device=device, progress=shown,
            # R1a to R3 give log-probabilities: cross-entropy leaves these as they are
            loss_fn=partial(F.cross_entropy, label_smoothing=args.label_smoothing),
            checkpoint=args.checkpoint, about=about(args, loaded))  # fmt: skip
    return model, history


def epochs_kept(args) -> int:
    """How many epochs the checkpoint holds already."""
    there = args.checkpoint and Path(args.checkpoint).exists()
    return len(checkpoint.load(args.checkpoint)["history"]["loss"]) if there else 0


def about(args, loaded: Dataset) -> dict:
    """What has to be the same for a checkpoint to be gone on from, beside what fit looks at."""
    names = ["data", "model", "validation", "optimizer", "lr", "dtype", *EXTRA]
    names += ["epochs"] * (args.warmup > 0)  # the schedule ends with the last epoch
    return {name: getattr(args, name) for name in names} | {"standin": loaded.standin}


def report(args, loaded: Dataset, model, history: train.History, device) -> dict:
    """What --json writes: settings, results by epoch, where, when, and by which command."""
    names = ["epochs", "batch_size", "optimizer", "lr", *EXTRA, "examples", "validation", "seed"]
    return {
        "data": args.data, "standin": loaded.standin, "model": args.model,
        "parameters": sum(p.numel() for p in model.parameters()),
        **{name: getattr(args, name) for name in names},
        "world_size": distributed.world_size(), "device": torch.device(device).type,
        "threads": torch.get_num_threads(), "dtype": args.dtype,
        "loss": history.loss, "accuracy": history.accuracy, "seconds": history.seconds,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "date": datetime.date.today().isoformat(), "command": args.command,
    }  # fmt: skip


def write(args, model, found: dict) -> None:
    """The files that were asked for, and the result line."""
    if args.save:
        checkpoint.save(args.save, model.state_dict())
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1) + "\n")
    on, ranks = "validation" if args.validation else "test", found["world_size"]
    print(f"{args.data}{' (THE STAND-IN)' * found['standin']}  {args.model}  {on} "
          f"{found['test_accuracy']:.2%}  loss {found['test_loss']:.4f}  "
          f"{args.epochs} epoch{'s' * (args.epochs > 1)} in {sum(found['seconds']):.1f} s  "
          f"{ranks} process{'es' * (ranks > 1)} on {found['device']}", flush=True)  # fmt: skip
