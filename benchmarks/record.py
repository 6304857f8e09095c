"""Train recipes with several seeds; the records are lessons_src/records/NAME.json.

    python -m benchmarks.record mnist-99 R3
    python -m benchmarks.record mnist-99 --validation           for tuning; writes nothing
    python -m benchmarks.record R1b --checkpoints runs/        can be interrupted

Each trained network is measured on the test split: once, or after every epoch where the
tutorial prints so. On a GPU, where there is one, the record
is called NAME-cuda. The seconds are those of training alone.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks import (
    check_replaces,
    errors_in_a_sentence,
    keep_memory,
    machine,
    options,
    recipe_hash,
    summarise,
    write_record,
)
from lessons_src import recipes
from lessons_src.published import RECIPES
from lessons_src.recipes import Recipe
from lessons_src.scale.checkpoint import fit_with_checkpoint
from lessons_src.train import fit, pick_device


def run_seeds(recipe: Recipe, args, device) -> dict:
    """Train with every seed and print a line for each; what the record says."""
    train, test = recipes.splits(recipe, args.validation)
    train, test = train.to(device), test.to(device)
    before, runs = machine(), []
    for seed in range(args.seeds):
        fit_seed = fit_of(recipe, seed, args.checkpoints)
        _, result = recipes.run(recipe, train, test, seed, loop=fit_seed)
        runs.append(result)
        print(f"{recipe.name}  seed {seed}  {measured(result, args)}", flush=True)
    entry = recipe.as_dict() | {"fingerprint": recipe_hash(recipe)}
    for key in ("accuracy", "accuracy_tta", "seconds"):
        if key in runs[0]:
            entry[key] = summarise([run[key] for run in runs])
    return entry | {"remark": args.remark, "machine": before, "runs": runs}


def fit_of(recipe: Recipe, seed: int, folder: Path | None):
    """`train.fit`, or with a folder one that resumes from a checkpoint there."""
    if folder is None:
        return fit
    about = {"recipe": recipe.name, "measured every epoch": recipe.test_every_epoch}
    return partial(fit_with_checkpoint, folder / f"{recipe.name}-{seed}.pt", about=about)


def measured(result: dict, args) -> str:
    """The line of one seed."""
    split = "validation" if args.validation else "test"
    return f"{split} {result['accuracy']:.2%}  {result['seconds']:.1f} s"


def summary(name: str, entry: dict, args) -> str:
    """The line of all seeds: mean ± sd of the accuracy, mean seconds."""
    accuracy, split = entry["accuracy"], "validation" if args.validation else "test"
    sd = "" if accuracy["sd"] is None else f" ± {accuracy['sd']:.2%}"
    return (
        f"{name}  {split} {accuracy['mean']:.2%}{sd} (n = {accuracy['n']}), "
        f"{entry['seconds']['mean']:.1f} s"
    )


def record(recipe: Recipe, args) -> None:
    """Train, print, and write the record; on the validation split nothing is written."""
    device = pick_device()
    name = recipe.name if device.type == "cpu" else f"{recipe.name}-{device.type}"
    if not args.validation:
        check_replaces(name, {"seeds": args.seeds}, args)
    entry = run_seeds(recipe, args, device)
    print(summary(recipe.name, entry, args))
    if not args.validation:
        write_record(name, entry, args)


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = options(__doc__)
    add = parser.add_argument
    add("names", nargs="+", metavar="NAME", help="of: " + ", ".join(RECIPES))
    add("--seeds", type=int, default=3, help="runs with seeds 0 to N - 1 (3)")
    tuning = "measure on held-out training images, for tuning; writes nothing"
    add("--validation", action="store_true", help=tuning)
    keep = "keep every epoch there, and resume from it after an interruption"
    add("--checkpoints", metavar="FOLDER", type=Path, help=keep)
    remark = "about the seconds, such as: other work ran beside; pages show it"
    add("--remark", default="", metavar="TEXT", help=remark)
    args = parser.parse_args()
    unknown = [name for name in args.names if name not in RECIPES]
    if unknown:
        names = ", ".join(RECIPES)
        parser.error(f"unknown: {', '.join(unknown)}; there are: {names}")
    if args.seeds < 1:
        parser.error("--seeds must be 1 or more")
    return args


def main() -> None:
    """Record the recipes that are named, one after the other."""
    args = arguments()
    keep_memory()
    with errors_in_a_sentence():
        for name in args.names:
            try:
                record(RECIPES[name], args)
            except KeyboardInterrupt:
                how = "The same command" if args.checkpoints else "With --checkpoints it"
                sys.exit(
                    f"\n{name}: interrupted. {how} resumes from the last whole epoch."
                )


if __name__ == "__main__":
    main()
