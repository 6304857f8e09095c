"""The detector, and two other tools, on planted bugs and on sound trainings.

    python -m benchmarks.detector                    records/detector.json, some minutes
    python -m benchmarks.detector --only NAME ...    these bugs, printed and not written

Every bug is planted in up to three networks on two data sets. `benchmarks.planted_bugs` and
`benchmarks.detector_heldout` are known to whoever wrote the rules. `benchmarks.detector_blind`
holds trainings by someone who had not seen them. They were blind in the first record, of
2026-11-30, which named 90 of 95 bugs. Since then the rules have been mended with them, so
that what they measure now is whether it stays mended, and no longer how the rules do on
what nobody has looked at.
The cause is *named* where a tool reports it: `check_training` by a finding of the bug's
kind, another tool by a rule that stands for that kind in `RULES` below. On sound trainings,
the course's recipes among them, every report is an alarm.

torchtest2 and torch-audit are not part of the course's environment; their versions are
pinned in requirements/bench.in. Where they are missing, the command says how to install
them, and measures the detector alone. The record holds a hash of the rules, so that a test
asks for a new record when they change.
"""

import argparse
import ast
import contextlib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import io
import logging
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks import (
    check_replaces,
    detector_heldout,
    errors_in_a_sentence,
    load_average,
    machine,
    median_and_range,
    options,
    planted,
    planted_bugs,
    write_record,
)
from benchmarks.planted import BATCH, Planted, Setting
from lessons_src import data, published, recipes
from lessons_src import detector as rules_of_ours
from lessons_src.detector import check_training
from lessons_src.detector.watch import part
from lessons_src.train import evaluate, fit

RULES_OF_OURS = Path(rules_of_ours.__file__).parent
PINNED = Path(__file__).parents[1] / "requirements" / "bench.in"
# Which kinds a rule of another tool names, read generously: whatever its documentation says
# that the rule is for. Rules that are not listed name none.
RULES = {
    "torchtest2": {
        "initial_loss": ["initial_loss"],
        "eval_determinism": ["random_in_evaluation"],
        "optimizer_coverage": ["not_in_optimizer"],
        "gradient_flow": ["detached", "unused_layer", "constant_init"],
        "gradient_magnitude": ["initial_loss", "learning_rate"],
        "params_change": ["learning_rate", "constant_init", "no_step"],
        "input_dependency": ["cannot_overfit"],
        "output_varies": ["cannot_overfit"],
        "batch_independence": ["depends_on_batch", "softmax_over_batch"],
        "overfit_batch": ["cannot_overfit"],
    },
    "torch-audit": {
        "TA100": ["learning_rate"],  # NaN or inf
        "TA102": ["learning_rate", "initial_loss"],  # gradient explosion
        "TA103": ["constant_init"],  # dead units
        "TA104": ["no_step", "gradients_lost"],  # no gradients
        "TA105": ["constant_init"],  # activation collapse
        "TA301": ["pixel_range"],  # suspicious data range
        "TA302": ["cannot_overfit"],  # flat or empty data
        "TA405": ["constant_init"],  # dead convolution filters
        "TA500": ["unused_layer"],
        "TA501": ["same_layer_repeated"],  # stateful layer reuse
    },
}


# The tools -----------------------------------------------------------------------------


def by_detector(setting: Setting) -> list[str]:
    """The kinds that `check_training` finds."""
    return [finding.kind for finding in check_training(**vars(setting))]


def by_torchtest2(setting: Setting) -> list[str]:
    """The checks of torchtest2 that warn or fail on a batch of training images."""
    import torchtest2

    few = part("train", setting.train, BATCH)
    x, y = next(iter(few.given)) if not few.batches else (few.images, few.labels)
    report = torchtest2.check_model(
        setting.model, x, y, loss_fn=setting.loss_fn, optimizer=setting.optimizer
    )
    return [result.name for result in [*report.failures, *report.warnings]]


def by_torch_audit(setting: Setting) -> list[str]:
    """The rules of torch-audit that speak up, other than as information, in an epoch of
    twenty batches. Its advice on speed (sizes that suit a GPU) accuses no training."""
    import torch_audit
    from torch_audit.core import Severity
    from torch_audit.registry import RuleRegistry

    few = part("train", setting.train, 20 * BATCH)
    auditor = torch_audit.autopatch(
        setting.model, optimizer=setting.optimizer, every_n_steps=1
    )
    try:
        setting.train_epoch(setting.model, few.given, setting.optimizer)
        result = auditor.finish(report=False)
    finally:
        auditor.unpatch()
    loud = {f.rule_id for f in result.findings if f.severity != Severity.INFO}
    about_speed = {
        rule.id for rule in RuleRegistry.all_rules() if rule.category == "Performance"
    }
    return sorted(loud - about_speed)


TOOLS = {
    "detector": by_detector,
    "torchtest2": by_torchtest2,
    "torch-audit": by_torch_audit,
}
MODULES = {"torchtest2": "torchtest2", "torch-audit": "torch_audit"}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def pins() -> dict[str, str]:
    """name -> version of each of the other tools."""
    lines = PINNED.read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if line and line[0] != "#")


def how_to_install() -> str:
    """The command that installs the other tools, beside the course's environment."""
    packages = " ".join(f"{name}=={version}" for name, version in pins().items())
    return (
        f"python -m pip install --no-deps --target FOLDER {packages}, then the same command "
        "with FOLDER in PYTHONPATH"
    )


def available() -> dict[str, Callable]:
    """The tools that are there, as pinned; where one is missing, or is of another version,
    how to install it is printed."""
    missing = [name for name in MODULES if version_of(name) != pins()[name]]
    if missing:
        names = " and ".join(f"{name} {pins()[name]}" for name in missing)
        print(f"{names} not installed, measuring without: {how_to_install()}")
    return {name: tool for name, tool in TOOLS.items() if name not in missing}


def version_of(package: str) -> str:
    """The version that is installed; "" where there is none."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def named(tool: str, kind: str, found: list[str]) -> bool:
    """Whether what a tool found is the cause."""
    if tool == "detector":
        return kind in found
    return any(kind in RULES[tool].get(rule, []) for rule in found)


# What they are tried on ----------------------------------------------------------------


@dataclass(frozen=True)
class Trial:
    """A bug or a sound training in one place; `make` builds it anew for each tool."""

    bug: Planted
    where: str
    make: Callable[[], Setting]


def trials(bugs: list[Planted], sets: dict[str, data.Dataset]) -> list[Trial]:
    """Every bug in each of its networks and data sets."""
    return [
        Trial(
            bug,
            f"{network} {name}",
            lambda b=bug, n=network, d=name: b.setting(n, sets[d]),
        )
        for bug in bugs
        for name in bug.datasets
        for network in bug.networks
    ]


def recipe_setting(recipe, loaded: data.Dataset) -> Setting:
    """A recipe of the course, or a published one, as a training."""
    train, test = recipes.normalised(recipe, loaded)
    model, optimizer, scheduler, generator = recipe.start(len(train), 0)

    def train_epoch(model, train, optimizer):
        return fit(
            model,
            train,
            1,
            optimizer,
            batch_size=recipe.batch_size,
            scheduler=scheduler,
            loss_fn=recipe.loss_fn,
            generator=generator,
            progress=False,
        )

    return Setting(
        model, recipe.loss_fn, optimizer, train_epoch, train, evaluate, test, scheduler
    )


def recipe_trials(sets: dict[str, data.Dataset]) -> list[Trial]:
    """All recipes of the course and of published results, as sound trainings."""
    tried = []
    for recipe in published.RECIPES.values():
        loaded = sets[recipe.dataset]
        bug = Planted(f"recipe {recipe.name}", None, None, (), (recipe.dataset,))
        make = lambda r=recipe, d=loaded: recipe_setting(r, d)  # noqa: E731
        tried.append(Trial(bug, recipe.dataset, make))
    return tried


def known_bugs() -> list[Planted]:
    """What the rules were written and mended by."""
    files = (planted_bugs, detector_heldout)
    return [planted.zero_grad_is_missing, *sum(map(planted.bugs_of, files), [])]


def held_out() -> list[Planted]:
    """The bugs of `benchmarks.detector_blind`; none where it is not there."""
    name = "benchmarks.detector_blind"
    if importlib.util.find_spec(name) is None:
        print(f"{name} is not there: no held-out bugs")
        return []
    return planted.bugs_of(importlib.import_module(name))


def fingerprint(folder: Path = RULES_OF_OURS) -> str:
    """A hash of the detector's code: another one if anything but layout, comments and
    docstrings changes."""
    trees = []
    for path in sorted(folder.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
                del node.body[0]
        trees.append([path.name, nested(tree)])
    return hashlib.sha256(repr(trees).encode()).hexdigest()[:16]


def nested(node) -> object:
    """A syntax tree as lists: the same in every version of Python, unlike `ast.dump`."""
    if isinstance(node, list):
        return [nested(item) for item in node]
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value != []]
    return [type(node).__name__, *((n, nested(v)) for n, v in fields if v is not None)]


# Measuring -----------------------------------------------------------------------------


def measure(tool: Callable, trial: Trial) -> dict:
    """What a tool finds in a trial, and the seconds that it takes."""
    setting, errors = trial.make(), ""
    torch.manual_seed(1)
    start, used = time.perf_counter(), time.process_time()
    silent = contextlib.redirect_stdout(io.StringIO())
    with silent, contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = tool(setting)
        except Exception as error:
            found, errors = [], f"{type(error).__name__}: {error}"
    return {
        "found": found,
        "error": errors,
        "seconds": time.perf_counter() - start,
        "processor_seconds": time.process_time() - used,
    }


def entry(bug: Planted, tried: list[Trial], tools: dict[str, Callable]) -> dict:
    """One bug in all its places: for each tool, where it is named and what is found."""
    what = (bug.plant.__doc__ or "").strip() if bug.plant else "a recipe of the course"
    about = {"name": bug.name, "kind": bug.kind, "what": what, "settings": len(tried)}
    for name, tool in tools.items():
        results = {trial.where: measure(tool, trial) for trial in tried}
        found = Counter(word for r in results.values() for word in r["found"])
        seconds = [r["seconds"] for r in results.values()]
        part = {"found": dict(found)}
        if bug.kind is None:
            part["alarms"] = sum(bool(r["found"]) for r in results.values())
        else:
            missed = [
                w for w, r in results.items() if not named(name, bug.kind, r["found"])
            ]
            part |= {"named": len(tried) - len(missed), "missed": missed}
        errors = {w: r["error"] for w, r in results.items() if r["error"]}
        if errors:
            part["errors"] = errors
        used = [r["processor_seconds"] for r in results.values()]
        about[name] = part | {"seconds": seconds, "processor_seconds": used}
    return about


def summary(entries: dict[str, list], tools) -> dict:
    """For each tool: named of all planted and held-out, alarms of all sound, seconds."""
    result = {}
    for name in tools:
        every = [bug[name] for group in entries.values() for bug in group]
        result[name] = {
            "planted": share(entries["planted"], name, "named"),
            "held_out": share(entries["held_out"], name, "named"),
            "sound": share(entries["sound"], name, "alarms"),
            "seconds": median_and_range([s for one in every for s in one["seconds"]]),
            "processor_seconds": median_and_range(
                [s for one in every for s in one["processor_seconds"]]
            ),
        }
    return result


def share(group: list[dict], tool: str, key: str) -> dict:
    """How many of the settings of a group, and of its bugs (a bug in all its settings)."""
    return {
        key: sum(bug[tool][key] for bug in group),
        "of": sum(bug["settings"] for bug in group),
        "bugs": sum(bug[tool][key] == bug["settings"] for bug in group),
        "of_bugs": len(group),
    }


def compact(entries: dict[str, list], tools) -> None:
    """Of the seconds of each bug, keep the median and the extremes."""
    for bug in (bug for group in entries.values() for bug in group):
        for name in tools:
            for key in ("seconds", "processor_seconds"):
                bug[name][key] = median_and_range(bug[name][key])


def line(bug: dict, tools) -> str:
    """A bug in a line: how often each tool named it, or raised an alarm."""
    counts = []
    for name in tools:
        part = bug[name]
        word = "alarms" if bug["kind"] is None else "named"
        extra = {kind for kind in part["found"] if kind != bug["kind"]}
        more = f" also {', '.join(sorted(extra))}" if extra and name == "detector" else ""
        more += " ERROR" if part.get("errors") else ""
        counts.append(f"{name} {part[word]}/{bug['settings']}{more}")
    return f"{bug['name']:36} {bug['kind'] or 'sound':26} " + "  ".join(counts)


def record(args) -> None:
    """Try every tool on everything; print a line for each bug, and write the record."""
    logging.disable(logging.WARNING)
    before, tools, mark = machine(), available(), fingerprint()
    sets = {name: data.load(name) for name in planted.DATASETS}
    if any(loaded.standin for loaded in sets.values()):
        raise data.DataError("the record needs the real data, not the stand-in")
    known, others = known_bugs(), held_out()
    groups = {
        "planted": trials([bug for bug in known if bug.kind], sets),
        "held_out": trials([bug for bug in others if bug.kind], sets),
        "sound": trials([bug for bug in [*known, *others] if not bug.kind], sets),
    }
    groups["sound"] += recipe_trials(sets)
    if not args.only:
        check_replaces("detector", planned(groups, tools), args)
    entries = {name: [] for name in groups}
    for group, tried in groups.items():
        for bug in dict.fromkeys(trial.bug for trial in tried):
            if args.only and bug.name not in args.only:
                continue
            mine = [trial for trial in tried if trial.bug == bug]
            entries[group].append(entry(bug, mine, tools))
            print(line(entries[group][-1], tools), flush=True)
    result = summary(entries, tools)
    compact(entries, tools)
    for name, numbers in result.items():
        print(sentence(name, numbers))
    if not args.only:
        versions = {n: importlib.metadata.version(n) for n in tools if n != "detector"}
        about = {"machine": before | {"load_after": load_average()}, "versions": versions}
        about["fingerprint"] = mark
        rules = {name: RULES[name] for name in versions}
        write_record(
            "detector", about | {"rules": rules, "summary": result} | entries, args
        )


def planned(groups: dict[str, list], tools) -> dict:
    """What the record will cover, as `benchmarks.coverage` says it of the record."""
    names = {key: {trial.bug.name for trial in tried} for key, tried in groups.items()}
    trainings = sum(len(tried) for tried in groups.values())
    return names | {"tools": set(tools), "trainings": trainings}


def sentence(name: str, numbers: dict) -> str:
    """A tool's result in a line."""
    a, b, c = (numbers[key] for key in ("planted", "held_out", "sound"))
    return (
        f"{name}: named {a['named']} of {a['of']} planted and {b['named']} of {b['of']} "
        f"held out, {c['alarms']} alarms on {c['of']} sound trainings, median "
        f"{numbers['seconds']['median']:.2f} s"
    )


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = options(__doc__)
    only = "these bugs alone, printed and not written"
    parser.add_argument("--only", nargs="+", metavar="BUG", help=only)
    return parser.parse_args()


def main() -> None:
    """Measure the tools."""
    args = arguments()
    with errors_in_a_sentence():
        record(args)


if __name__ == "__main__":
    main()
