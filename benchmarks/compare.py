"""Side by side in numbers: when curves reach a mean accuracy, ratios, floors, verdicts, the table.

Nothing here trains: `benchmarks.speed` does, and hands over what it measured.
"""

import statistics
from dataclasses import dataclass

import torch

from benchmarks import ceilings, own, published, runs

LOADER, RESIDENT = "DataLoader over torchvision's MNIST", "permuted resident tensors"


@dataclass(frozen=True)
class Target:
    """One row. `name` is the course's recipe; must and aim are ratios where there is a tutorial to
    compare with, else seconds."""

    name: str
    what: str
    goal: float | None  # mean test accuracy
    must: float
    aim: float
    theirs: tuple[str, ...] = ()  # of benchmarks.published
    parameters: int | None = None  # the network has fewer

    @property
    def is_ratio(self) -> bool:
        return bool(self.theirs) or self.goal is None


def reach(curves: list[dict], goal: float) -> dict:
    """When curves of several seeds reach a mean accuracy, and what it took each of them.

    curves: accuracy and seconds by the epoch, one dict a seed. Where no epoch has the goal as its
    mean, the numbers are those of the last epoch, and "reached" is False.
    """
    by_epoch = zip(*(c["accuracy"] for c in curves), strict=True)
    means = [statistics.fmean(shares) for shares in by_epoch]
    epochs = next((e for e, mean in enumerate(means, 1) if mean >= goal - 1e-9), None)
    last = epochs or len(means)
    each = [sum(c["seconds"][:last]) for c in curves]
    at = [{"accuracy": c["accuracy"][last - 1]} for c in curves]
    return {"accuracy": runs.summarise(at, "accuracy"), "seconds": ceilings.spread(each),
            "epochs": last, "reached": epochs is not None, "each": each}  # fmt: skip


def fastest(found: dict[str, dict]) -> dict:
    """Of several tutorials the one with the least seconds, its name added as "recipe".

    One that was stopped short counts with what it had taken: it might have got there right after,
    so a longer time of another tutorial is not known to be the least.
    """
    name = min(found, key=lambda n: found[n]["seconds"]["median"])
    return {"recipe": name} | found[name]


def ratios(theirs: list[float], ours: list[float]) -> dict:
    """Their seconds over ours, round by round."""
    return ceilings.spread([t / o for t, o in zip(theirs, ours, strict=True)])


def verdict(target: Target, reached: bool, value: float | None) -> str:
    """Which of "aim", "must" and "missed" holds: value is a ratio or seconds, as the target's."""
    if not reached or value is None:
        return "missed"
    sign = 1 if target.is_ratio else -1
    return next((word for word in ("aim", "must") if sign * value >= sign * getattr(target, word)),
                "missed")  # fmt: skip


def row(target: Target, done: dict) -> dict | None:
    """The target's entry in the record, of all whole rounds; None where there is none yet.

    done: name of a training -> its results, one a round.
    """
    names = [name for name in target.theirs if done.get(name)]
    rounds = min(len(done.get(name, [])) for name in (target.name, *names))
    if not rounds or (target.theirs and not names):
        return None
    ours, unit = done[target.name][:rounds], "" if target.is_ratio else "_seconds"
    entry = {"name": target.name, "what": target.what, "goal": target.goal,
             f"must{unit}": target.must, f"aim{unit}": target.aim, "theirs": None, "ratio": None,
             "at_least": False}  # fmt: skip
    entry |= _pass(ours) if target.goal is None else _training(target, ours)
    if names:
        curves = {name: done[name][:rounds] for name in names}
        entry |= _against(curves, target.goal, [r["seconds"] for r in ours], entry["ours"])
    measure = entry["ratio"] if target.is_ratio else entry["ours"]["seconds"]
    entry["met"] = verdict(target, entry["ours"]["reached"], measure and measure["median"])
    return entry


def _pass(rounds: list[dict]) -> dict:
    """The row of one pass over the data: both ways, seconds alone."""
    theirs, ours = [r["theirs"] for r in rounds], [r["ours"] for r in rounds]
    none = {"accuracy": None, "epochs": 1, "reached": True}
    return {"dataset": "mnist", "ratio": ratios(theirs, ours),
            "theirs": {"recipe": LOADER, "seconds": ceilings.spread(theirs)} | none,
            "ours": {"recipe": RESIDENT, "seconds": ceilings.spread(ours)} | none}  # fmt: skip


def _training(target: Target, results: list[dict]) -> dict:
    """The course's side of a row: its recipe has a fixed number of epochs."""
    recipe, share = own.RECIPES[target.name], runs.summarise(results, "accuracy")
    size = results[0]["parameters"]
    small = target.parameters is None or size < target.parameters
    ours = {"recipe": recipe.name, "accuracy": share, "epochs": recipe.epochs, "parameters": size,
            "seconds": ceilings.spread([r["seconds"] for r in results]),
            "reached": share["mean"] >= target.goal - 1e-9 and small}  # fmt: skip
    return {"dataset": recipe.dataset, "ours": ours}


def _against(curves: dict, goal: float, seconds: list[float], ours: dict) -> dict:
    """The tutorials' side of a row, and the ratio where the course has reached the goal itself."""
    found = {name: reach(c, goal) for name, c in curves.items()}
    each = {name: one.pop("each") for name, one in found.items()}
    theirs = fastest(found)
    theirs["published_epochs"] = published.RECIPES[theirs["recipe"]].epochs
    others = [{"recipe": name} | one for name, one in found.items() if name != theirs["recipe"]]
    ratio = (
        ratios(each[theirs["recipe"]], seconds) if ours["reached"] else None
    )  # else not to the same accuracy
    return {"theirs": theirs, "others": others, "at_least": not theirs["reached"], "ratio": ratio}


def floor(target: Target, examples: int, seconds: float, peak: float, copy: float) -> dict:
    """What the row costs at least on this machine, and which share of that speed it has.

    Of a training: operations counted from the recipe's own network, over the measured `peak`. Of a
    pass: bytes read and written, over the measured speed of copying.
    """
    if target.goal is None:
        moved = 2 * examples * 28 * 28 * 4  # float32: each pixel is read and written
        return {"bytes": moved, "copy": copy, "seconds": moved / copy,
                "share": moved / copy / seconds}  # fmt: skip
    recipe = own.RECIPES[target.name]
    torch.manual_seed(0)
    x, y = torch.rand(recipe.batch_size, 1, 28, 28), torch.arange(recipe.batch_size) % 10
    step = ceilings.training_step(recipe.network().train(), x, y, recipe.loss_fn)
    one = sum(ceilings.operations(step).values()) / recipe.batch_size  # of one example
    total = round(one * examples * recipe.epochs)
    return {"operations": total, "peak": peak, "seconds": total / peak,
            "share": total / peak / seconds}  # fmt: skip


def shown(entry: dict) -> str:
    """One line of the printed table."""
    theirs, ours = entry["theirs"], entry["ours"]
    more = "≥ " if entry["at_least"] else ""
    share = f"{ours['accuracy']['mean']:.2%}" if entry["goal"] else ""
    who = ""
    if theirs and entry["goal"]:
        who = f"{theirs['recipe']}, {theirs['epochs']} epochs, {theirs['accuracy']['mean']:.2%}"
    took = f"{more}{theirs['seconds']['median']:.1f} s" if theirs else ""
    ratio = entry["ratio"]
    ratio = f"{more}{ratio['median']:.1f} ({ratio['low']:.1f}-{ratio['high']:.1f})" if ratio else ""
    wanted = (f"{entry['must']} / {entry['aim']} times" if "must" in entry else
              f"{entry['must_seconds']} / {entry['aim_seconds']} s")  # fmt: skip
    line = f"{entry['what']:33} {who:23} {took:>10} {share:>7} {ours['seconds']['median']:7.2f} s "
    line += f"{ratio:>20} {wanted:>15} {entry['met']:>6}"
    return line + (f" {entry['floor']['share']:6.0%}" if "floor" in entry else "")


HEAD = (f"{'':33} {'their recipe':23} {'time':>10} {'ours':>7} {'time':>9} {'times faster':>20} "
        f"{'must / aim':>15} {'met':>6}  floor")  # fmt: skip
