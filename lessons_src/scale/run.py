"""Train a recipe of the course, measure it once on the test split, print one line.

  python -m lessons_src.scale.run mnist-99
  python -m lessons_src.scale.run R5 --epochs 1 --examples 6000
  python -m lessons_src.scale.run R1b --checkpoint r1b.pt     again after Ctrl-C: it goes on

On several processes, on one machine or on many (HOST is one of them):

  torchrun --standalone --nproc-per-node=2 -m lessons_src.scale.run R5
  TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 torchrun --standalone --nproc-per-node=2 \\
           --max-restarts=3 -m lessons_src.scale.run R1b --checkpoint r1b.pt
  torchrun --nnodes=2 --nproc-per-node=8 --rdzv-backend=c10d --rdzv-endpoint=HOST:29500 \\
           -m lessons_src.scale.run mnist-99

torchrun starts the processes, called ranks. Each takes its part of every batch, and the
gradients are averaged. Rank 0 alone writes and reports. When a rank dies, torchrun ends
the others. With --max-restarts it starts all of them anew, and with --checkpoint they
resume from the last whole epoch. See "How to read and run" in the book.

Exit status: 0 done; 1 the run failed; 2 wrong options; 130 interrupted with Ctrl-C.
"""

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
from dataclasses import replace
from pathlib import Path

import torch
from torch.distributed.elastic.multiprocessing.errors import get_error_handler
from tqdm import tqdm

from lessons_src import data, recipes
from lessons_src.files import atomic_write
from lessons_src.published import RECIPES
from lessons_src.recipes import Recipe
from lessons_src.scale.checkpoint import CheckpointError, fit_with_checkpoint, save
from lessons_src.scale.distributed import (
    GroupError,
    group,
    local_rank_0_first,
    on_rank_0,
    rank,
    world_size,
)
from lessons_src.scale.fit import evaluate, fit
from lessons_src.train import TrainingError, pick_device

PROGRAM = "python -m lessons_src.scale.run"
FAILURES = (TrainingError, CheckpointError, GroupError, data.DataError, OSError)


class UsageError(ValueError):
    """Options that do not fit this machine or these data; the message says which."""


def main(argv: list[str] | None = None) -> None:
    """Read the options, run, turn what goes wrong into one line and an exit status."""
    args = arguments(argv)
    try:
        run(args)
    except UsageError as error:
        end(2, error)
    except FAILURES as error:
        end(1, error)
    except KeyboardInterrupt:
        how = "The same command" if args.checkpoint else "With --checkpoint FILE it"
        end(130, f"interrupted. {how} resumes from the last whole epoch.")


def end(status: int, message) -> None:
    """One line on stderr and the exit status; torchrun's report holds the reason too."""
    if rank() == 0 or isinstance(message, GroupError):
        print(f"{PROGRAM}: error: {message}", file=sys.stderr, flush=True)
    get_error_handler().record_exception(sys.exception())
    sys.exit(status)


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The options; under torchrun one rank alone says what is wrong with them."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        usage=f"{PROGRAM} RECIPE [options]",
        description=__doc__,
        epilog="recipes: " + ", ".join(RECIPES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("recipe", metavar="RECIPE", choices=RECIPES, help="one of the recipes below")
    count = whole_number(1)
    add("--epochs", type=count, metavar="N", help="in place of the recipe's own")
    add("--examples", type=count, metavar="N", help="train on the first N images only")
    seeds = whole_number(0, 2**32 - 1)  # NumPy takes no others
    add("--seed", type=seeds, default=0, metavar="N", help="of weights and order (0)")
    add("--device", choices=["cpu", "cuda", "mps"], help="else a GPU where there is one")
    add(
        "--validation",
        action="store_true",
        help="for tuning: measure on 10,000 training images held out at random",
    )
    add(
        "--checkpoint",
        metavar="FILE",
        help="written every epoch; where it is, training goes on",
    )
    add("--save", metavar="FILE", help="the trained network's state_dict")
    add("--json", metavar="FILE", help="settings, curves, seconds, versions, command")
    stderr = sys.stderr if os.environ.get("RANK", "0") == "0" else io.StringIO()
    with contextlib.redirect_stderr(stderr):
        args = parser.parse_args(argv)
    args.command = shlex.join(
        [*PROGRAM.split(), *(sys.argv[1:] if argv is None else argv)]
    )
    return args


def whole_number(low: int, high: int = 2**63 - 1):
    """What makes a whole number in this range of a text, for argparse."""

    def number(text: str) -> int:
        if not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text} is not from {low} to {high}")
        return int(text)

    number.__name__ = "whole number"  # invalid whole number value: 'x'
    return number


def run(args) -> None:
    """Train, measure, write, print: of all ranks, rank 0 alone writes and prints."""
    recipe = RECIPES[args.recipe]
    recipe = replace(recipe, epochs=args.epochs or recipe.epochs)
    check_device(args.device)
    with group(args.device) as device:
        if world_size() == 1 and args.device is None:
            device = pick_device()
        on_rank_0(lambda: check_writable(args))
        loaded, train, test = load_for(recipe, args)
        model, history = trained(recipe, args, train.to(device), device)
        test_loss, test_accuracy = evaluate(model, test.to(device))
        result = report(recipe, args, loaded, model, device) | vars(history)
        result |= {"test_loss": test_loss, "test_accuracy": test_accuracy}
        on_rank_0(lambda: write_results(args, model, result))


def check_device(device: str | None) -> None:
    """UsageError where a GPU is asked for that PyTorch does not find."""
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device, True):
        raise UsageError(f"--device {device}: PyTorch finds none on this machine")


def check_writable(args) -> None:
    """OSError before the training, where its results could not be written after it."""
    names = (args.checkpoint, args.save, args.json)
    files = [Path(name).resolve() for name in names if name]
    if len(set(files)) < len(files):
        raise UsageError("--checkpoint, --save and --json need a file each")
    for file in files:
        with contextlib.suppress(OSError):  # said below, for whatever reason
            file.parent.mkdir(parents=True, exist_ok=True)
        folder_is_fine = file.parent.is_dir() and os.access(file.parent, os.W_OK)
        if file.is_dir() or not folder_is_fine:
            raise OSError(
                f"cannot write {file}: name a file in a folder that may be written"
            )


def load_for(recipe: Recipe, args) -> tuple[data.Dataset, data.Split, data.Split]:
    """The data set, and what is trained and measured on; one rank fetches."""
    with local_rank_0_first(), contextlib.redirect_stdout(notices()):
        loaded = data.load(recipe.dataset)
    train, test = recipes.normalised(recipe, loaded, args.validation)
    if args.examples is not None and args.examples > len(train):
        raise UsageError(
            f"--examples {args.examples}: there are {len(train)} to train on"
        )
    return loaded, train[: args.examples], test


def notices():
    """Where the notice about the stand-in goes: stderr, from rank 0 alone."""
    return sys.stderr if rank() == 0 else io.StringIO()


def trained(recipe: Recipe, args, train: data.Split, device):
    """The trained network and its History; a bar on a terminal, else a line an epoch."""
    model, optimizer, scheduler, generator = recipe.start(len(train), args.seed)
    model.to(device)
    bar = tqdm(
        total=recipe.epochs * math.ceil(len(train) / recipe.batch_size),
        unit=" batches",
        leave=False,
        disable=rank() > 0 or not sys.stderr.isatty(),
    )
    optimizer.register_step_post_hook(lambda *_: bar.update())
    options = {"batch_size": recipe.batch_size, "loss_fn": recipe.loss_fn}
    options |= {"scheduler": scheduler, "generator": generator, "progress": bar.disable}
    with bar, contextlib.redirect_stdout(notices()):
        if args.checkpoint is None:
            history = fit(model, train, recipe.epochs, optimizer, **options)
        else:
            history = fit_with_checkpoint(
                args.checkpoint, model, train, recipe.epochs, optimizer, **options
            )
    return model, history


def report(recipe: Recipe, args, loaded: data.Dataset, model, device) -> dict:
    """What --json writes beside the curves: settings, where, when, by which command."""
    return {
        "recipe": recipe.name,
        **recipe.as_dict(),
        "standin": loaded.standin,
        "examples": args.examples,
        "validation": args.validation,
        "seed": args.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        "world_size": world_size(),
        "device": torch.device(device).type,
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "date": datetime.date.today().isoformat(),
        "command": args.command,
    }


def write_results(args, model, result: dict) -> None:
    """The files that were asked for, and the line with the result."""
    if args.save:
        save(args.save, model.state_dict())
    if args.json:
        write_text(Path(args.json).resolve(), json.dumps(result, indent=1) + "\n")
    standin = " (THE STAND-IN)" if result["standin"] else ""
    split = "validation" if args.validation else "test"
    print(
        f"{result['recipe']}  {result['dataset']}{standin}  {split} "
        f"{result['test_accuracy']:.2%}  loss {result['test_loss']:.4f}  "
        f"epochs: {result['epochs']}, {sum(result['seconds']):.1f} s  "
        f"processes: {result['world_size']}, {result['device']}",
        flush=True,
    )


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; /dev/stdout or a pipe, which nothing can take
    the place of, is written to as it is."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    with atomic_write(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    main()
