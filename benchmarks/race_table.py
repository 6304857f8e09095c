"""The table of the race: from rounds to rows, by arithmetic alone.

A round is a dict: its date, its machine, the ceilings `peak` and `copy`, and the results
of each training by name (see `benchmarks.race`, which makes them).
"""

import math
import statistics
from dataclasses import dataclass

import torch

from benchmarks import median_and_range, summarise
from benchmarks.cost import operations, training_step
from lessons_src.published import AS_PUBLISHED
from lessons_src.recipes import OWN


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

    @property
    def names(self) -> tuple[str, ...]:
        """The trainings of the row: theirs, then ours."""
        return (*self.theirs, self.name)


LIGHT = "under 8,000 parameters to 99.4 %"
TARGETS = [
    Target("pass", "one pass over the data", None, 50, 100),
    Target("mlp-97", "MLP to 97 %", 0.97, 15, 50, ("R5",)),
    Target("mlp-98", "MLP to 98 %", 0.98, 12, 40, ("R5",)),
    Target("mnist-99-fast", "CNN to 99 %", 0.99, 40, 80, ("R3", "R1b")),
    Target("mnist-99.4-quick", "CNN to 99.4 %", 0.994, 20, 10),
    Target("mnist-99.5-quick", "CNN to 99.5 %", 0.995, 40, 25),
    Target("mnist-small", LIGHT, 0.994, 60, 30, parameters=8000),
    Target("fashion-91", "clothes to 91 %", 0.91, 12, 30, ("R4",)),
    Target("fashion-92", "clothes to 92 %", 0.92, 10, 20, ("R4",)),
    Target("fashion-93", "clothes to 93 %", 0.93, 45, 25),
]
# R2 is in no row: at its learning rate it is published with 63 % after three epochs, and it
# does not get to 97 % within the limit.


def reach(curves: list[dict], goal: float, limit: float) -> dict:
    """When curves of several rounds reach a mean accuracy, and the seconds of each until
    then, preparation included.

    curves: accuracy and seconds by the epoch, a dict for each round. A slow round has
    fewer epochs, so the mean of an epoch is that of the rounds that came so far; a round
    that did not counts with the limit, and is "cut". Where no epoch has the goal,
    "reached" is False, and the seconds of all are the limit.
    """
    longest = max(len(curve["accuracy"]) for curve in curves)
    for epochs in range(1, longest + 1):
        so_far = [
            c["accuracy"][epochs - 1] for c in curves if len(c["accuracy"]) >= epochs
        ]
        accuracy = summarise(so_far)
        reached = accuracy["mean"] >= goal - 1e-9
        if reached:
            break
    seconds, cut = [], 0
    for curve in curves:
        if reached and len(curve["accuracy"]) >= epochs:
            seconds.append(curve["prepare"] + sum(curve["seconds"][:epochs]))
        else:
            seconds.append(limit)
            cut += 1
    side = {"accuracy": accuracy, "seconds": seconds, "epochs": epochs}
    return side | {"reached": reached, "cut": cut}


def fastest(sides: dict[str, dict]) -> str:
    """The name of the tutorial with the least seconds; one that was stopped counts with
    the limit."""
    return min(sides, key=lambda name: statistics.median(sides[name]["seconds"]))


def ratios(theirs: list[float], ours: list[float]) -> dict:
    """Their seconds over ours, round by round."""
    return median_and_range([t / o for t, o in zip(theirs, ours, strict=True)])


def made_of(curves: list[dict], side: dict, ours: list[dict], epochs: int) -> dict:
    """What the ratio is the product of, each a geometric mean over the rounds.

    loader: the tutorial's epoch over the same epoch on tensors in memory. network: that
    epoch over one of the course's (network, optimizer, batch). epochs: theirs over ours,
    which is what the schedule saves. rest: preparation, and epochs that are slower than
    the mean.
    """
    factors = {"loader": [], "network": [], "epochs": [], "rest": []}
    for curve, seconds, own in zip(curves, side["seconds"], ours, strict=True):
        theirs = curve["seconds"][: side["epochs"]]  # fewer in a round that was cut
        their_epoch = statistics.fmean(theirs)
        our_epoch = own["seconds"] / epochs
        factors["loader"].append(their_epoch / curve["in_memory"])
        factors["network"].append(curve["in_memory"] / our_epoch)
        factors["epochs"].append(len(theirs) / epochs)
        in_training = sum(theirs) / own["seconds"]
        ratio = seconds / (own["prepare"] + own["seconds"])
        factors["rest"].append(ratio / in_training)
    parts = {name: statistics.geometric_mean(values) for name, values in factors.items()}
    return parts | {"product": math.prod(parts.values())}


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


def row(target: Target, rounds: list[dict], limit: float) -> dict | None:
    """The target's entry in the record; None where no round has all its trainings.

    rounds: each with its date, its machine and its results by name.
    """
    rounds = [one for one in rounds if set(target.names) <= one["results"].keys()]
    if not rounds:
        return None
    results = {name: [one["results"][name] for one in rounds] for name in target.names}
    unit = "" if target.is_ratio else "_seconds"
    entry = {"name": target.name, "what": target.what, "goal": target.goal}
    entry |= {f"must{unit}": target.must, f"aim{unit}": target.aim}
    entry |= {"dates": [one["date"] for one in rounds]}
    entry |= {"theirs": None, "ratio": None, "at_least": False}
    if target.goal is None:
        entry |= pass_row(results[target.name])
    else:
        entry |= {"dataset": OWN[target.name].dataset}
        entry |= {"ours": our_side(target, results[target.name])}
    if target.theirs:
        entry |= their_side(target, results, entry["ours"], limit)
    measured = entry["ratio"] if target.is_ratio else entry["ours"]["seconds"]
    value = None if measured is None else measured["median"]
    return entry | {"met": verdict(target, entry["ours"]["reached"], value)}


def pass_row(results: list[dict]) -> dict:
    """The row of one pass over the data, both ways, seconds alone: a later one, and apart
    from it the first, with all that comes before it."""
    rest = {"accuracy": None, "epochs": 1, "reached": True}
    names = {
        "theirs": "DataLoader over torchvision's MNIST",
        "ours": "permuted resident tensors",
    }
    entry, seconds = {"dataset": "mnist"}, {}
    for side, recipe in names.items():
        first, later = ([r[side][when] for r in results] for when in ("first", "later"))
        seconds[side] = {"first": first, "later": later}
        entry[side] = {"recipe": recipe, "seconds": median_and_range(later)} | rest
        entry[side]["first"] = median_and_range(first)
    theirs, ours = seconds["theirs"], seconds["ours"]
    entry["ratio"] = ratios(theirs["later"], ours["later"])
    return entry | {"first_ratio": ratios(theirs["first"], ours["first"])}


def our_seconds(results: list[dict]) -> list[float]:
    return [result["prepare"] + result["seconds"] for result in results]


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
        "seconds": median_and_range(our_seconds(results)),
        "prepare": median_and_range([result["prepare"] for result in results]),
        "reached": accuracy["mean"] >= target.goal - 1e-9 and is_small,
    }


def their_side(target: Target, results: dict, ours: dict, limit: float) -> dict:
    """The tutorials' side of a row; the ratio if the course has reached the goal."""
    sides = {name: reach(results[name], target.goal, limit) for name in target.theirs}
    best, own = fastest(sides), results[target.name]
    ratio = parts = None
    if ours["reached"]:  # else the two times are not to the same accuracy
        ratio = ratios(sides[best]["seconds"], our_seconds(own))
        parts = made_of(results[best], sides[best], own, ours["epochs"])
    entries = {}
    for name, side in sides.items():
        prepare = median_and_range([curve["prepare"] for curve in results[name]])
        seconds = median_and_range(side["seconds"])
        published = AS_PUBLISHED[name].epochs
        entries[name] = {"recipe": name, "published_epochs": published} | side
        entries[name] |= {"seconds": seconds, "prepare": prepare}
    theirs = entries.pop(best)
    at_least, others = theirs["cut"] > 0, list(entries.values())
    entry = {"theirs": theirs, "others": others, "ratio": ratio, "parts": parts}
    return entry | {"at_least": at_least}


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
        line += f", {at_least}{ratio['low']:.1f} times"
        line += f" (median {ratio['median']:.1f}, n = {ratio['n']})"
    if entry.get("parts"):
        parts = entry["parts"].items()
        line += " = " + " × ".join(f"{k} {v:.2f}" for k, v in parts if k != "product")
    if "first_ratio" in entry:
        line += f"; the first pass {entry['first_ratio']['low']:.1f} times"
    return f"{line}: {entry['met']}"


def print_rows(targets: list[Target], rounds: list[dict], limit: float) -> list[dict]:
    """Print the rows that there are, and return them."""
    rows = [row(target, rounds, limit) for target in targets]
    rows = [entry for entry in rows if entry is not None]
    print("\n".join(["", *map(sentence, rows), ""]), flush=True)
    return rows


def with_floors(rows: list[dict], targets: list[Target], rounds: list[dict]) -> None:
    """Add to each row what it costs at least, by the best ceilings of its rounds."""
    of = {target.name: target for target in targets}
    peak, copy = (max(one[key] for one in rounds) for key in ("peak", "copy"))
    for entry in rows:
        seconds = entry["ours"]["seconds"]["median"]
        entry["floor"] = floor(of[entry["name"]], 60_000, seconds, peak, copy)
        share = entry["floor"]["share"]
        print(f"{entry['what']}: {share:.0%} of the speed that the machine can give")
