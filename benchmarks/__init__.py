"""The commands that measure. Each writes a record, which lessons and pages show.

    python -m benchmarks.record NAME ...   recipes, over several seeds
    python -m benchmarks.ablations NAME    a recipe with one thing changed at a time
    python -m benchmarks.race              the course against the tutorials
    python -m benchmarks.cost              what a training step costs
    python -m benchmarks.classroom         what a lesson takes from a machine
    python -m benchmarks.gpu               the course on one GPU, against targets
    python -m benchmarks.bugs              what fourteen silent bugs cost
    python -m benchmarks.detector          the detector on planted bugs, beside others

Run them on a machine that does nothing else. The records are
lessons_src/records/NAME.json. This package is not installed with the course, and nothing
imports it.
"""

import argparse
import contextlib
import ctypes
import datetime
import hashlib
import json
import os
import platform
import re
import shlex
import statistics
import sys
from pathlib import Path

import torch

from lessons_src import records
from lessons_src.data import DataError
from lessons_src.files import atomic_write
from lessons_src.recipes import Recipe
from lessons_src.scale.checkpoint import CheckpointError
from lessons_src.train import pick_device

# The lists of a record, and by what their entries are told apart.
LISTS = {
    "variants": "name",
    "targets": "name",
    "bugs": "name",
    "planted": "name",
    "held_out": "name",
    "sound": "name",
    "looks": "bugs",
    "lessons": "lesson",
    "roofline": "recipe",
}
SETTING = (bool, int, float, str, tuple)  # what a module is set up with


class RecordError(RuntimeError):
    """A record may not be written; the message says why, and what to do."""


def options(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every command has: --results and --force."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=raw)
    where = "where the record goes (lessons_src/records)"
    parser.add_argument("--results", metavar="FOLDER", type=Path, help=where)
    force = "replace a record even if it covers more"
    parser.add_argument("--force", action="store_true", help=force)
    return parser


@contextlib.contextmanager
def errors_in_a_sentence():
    """What goes wrong for a known reason ends the command with its message alone."""
    try:
        yield
    except (DataError, CheckpointError, RecordError, OSError) as error:
        sys.exit(f"benchmarks.{Path(sys.argv[0]).stem}: {error}")


def summarise(values: list[float]) -> dict:
    """mean, sd (of a sample; None for one value) and n."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": sd, "n": len(values)}


def median_and_range(values: list[float]) -> dict:
    """median, low, high and n."""
    median = statistics.median(values)
    return {"median": median, "low": min(values), "high": max(values), "n": len(values)}


def keep_memory() -> None:
    """Ask glibc to keep freed memory in the process; elsewhere nothing happens.

    Otherwise each large tensor is given back to the system and asked for again, page by
    page: about a tenth of a step's time with these networks. The variables
    MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ would do the same, but only if they
    are set before Python starts, and a command that forgot them would not give the
    seconds of its record.
    """
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 32 << 20)  # M_MMAP_THRESHOLD: up to 32 MB from the heap
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD: the heap shrinks above 1 GB unused


def machine() -> dict:
    """Device, processor, threads, how busy it is, and versions."""
    device = pick_device()
    on_gpu = device.type == "cuda"
    return {
        "device": device.type,
        "name": torch.cuda.get_device_name() if on_gpu else processor(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "load": load_average(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def recipe_hash(recipe: Recipe) -> str:
    """A hash of all that a recipe trains with: another one if any setting changes. Draws
    no random number."""
    with torch.random.fork_rng(devices=[]):
        network = recipe.network()
    optimizer = recipe.optimizer(network.parameters())
    loss_fn = recipe.loss_fn
    loss = [getattr(loss_fn, "func", loss_fn).__name__, getattr(loss_fn, "keywords", {})]
    parameters = [(tuple(p.shape), p.requires_grad) for p in network.parameters()]
    modules = []
    for module in network.modules():
        plain = {k: v for k, v in vars(module).items() if isinstance(v, SETTING)}
        modules.append((type(module).__name__, sorted(plain.items())))
    settings = [recipe.as_dict() | {"choices": ""}, recipe.moments, loss, parameters]
    settings += [recipe.channels_last, recipe.mirror_at_test, modules]
    groups = [
        sorted((k, v) for k, v in g.items() if k != "params")
        for g in optimizer.param_groups
    ]
    settings += [type(optimizer).__name__, groups]
    return hashlib.sha256(repr(settings).encode()).hexdigest()[:16]


def processor() -> str:
    """The processor's name, as Linux or Python gives it."""
    with contextlib.suppress(OSError):
        name = re.search(
            r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8")
        )
        if name:
            return name[1]
    return platform.processor() or platform.machine()


def load_average() -> float | None:
    """How many processes wanted to run in the last minute; None where it is unknown."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def write_record(name: str, record: dict, args) -> None:
    """Write the record with its date and command, whole or not at all.

    args: with `results` and `force`. RecordError as in `check_replaces`.
    """
    check_replaces(name, coverage(record), args)
    write_dated(record_path(name, args), name, record)


def write_unfinished(name: str, record: dict, args) -> None:
    """Write a record that still grows: as NAME.part while one that covers more is there,
    and in its place from then on."""
    part = record_path(name, args).with_suffix(".part")
    try:
        write_record(name, record, args)
        part.unlink(missing_ok=True)
    except RecordError as error:
        write_dated(part, name, record)
        print(f"not in its place yet: {error}")


def write_dated(path: Path, name: str, record: dict) -> None:
    """Write the record, with its name, the date and the command before the rest."""
    date = datetime.date.today().isoformat()
    record = {"name": name, "date": date, "command": command()} | record
    write_json(path, record, indent=1, ensure_ascii=False)
    print(f"written: {path}")


def write_json(path: Path, content: dict, **form) -> None:
    """Write the content, whole or not at all; form: options of json.dumps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(f"{json.dumps(content, **form)}\n".encode())


def record_path(name: str, args) -> Path:
    """The file of a record: in --results, or where the lessons look for it."""
    return (args.results or records.FOLDER) / f"{name}.json"


def check_replaces(name: str, covers: dict, args) -> None:
    """RecordError where the record is there and covers more, unless --force is given.

    covers: as of `coverage`, or what of it is known. The commands ask this before they
    measure, and once more when they write.
    """
    path = record_path(name, args)
    if args.force or not path.exists():
        return
    there = coverage(json.loads(path.read_text(encoding="utf-8")))
    for what, new in covers.items():
        lost = less(what, there[what], new) if what in there else None
        if lost is not None:
            raise RecordError(
                f"{path} {lost}. --force does that all the same; --results FOLDER writes "
                "the new record somewhere else."
            )


def less(what: str, there, new) -> str | None:
    """What a record has that the new one has not, in words; None where it has all."""
    if isinstance(there, set):
        lost = ", ".join(sorted(there - new))
        return f"would lose these {what}: {lost}" if lost else None
    if there > new:
        return f"has {there} {what}, and would be replaced by {new}"
    return None


def coverage(record: dict) -> dict:
    """What a record of any of the commands covers, by words: a set of names, or a
    number of which more is better."""
    covers = {}
    for key, name in LISTS.items():
        if key in record:
            covers[key] = {entry[name] for entry in record[key]}
    if "variants" in record:  # of benchmarks.ablations
        covers["seeds"] = min(len(variant["runs"]) for variant in record["variants"])
    elif "runs" in record:  # of benchmarks.record
        covers["seeds"] = len(record["runs"])
    elif "seeds" in record:  # of gpu and of bugs
        covers["seeds"] = record["seeds"]
    if "rounds" in record:  # of benchmarks.race
        covers["rounds"] = record["rounds"]
    if "roofline" in record:  # of benchmarks.cost; the first records had the usual budget
        covers["seconds for a point"] = record.get("budget", 1.0)
        covers["points"] = number_of_points(record)
    if "planted" in record:  # of benchmarks.detector
        covers["tools"] = set(record["summary"])
        tried = record["planted"] + record["held_out"] + record["sound"]
        covers["trainings"] = sum(bug["settings"] for bug in tried)
    return covers


def number_of_points(record: dict) -> int:
    """How many points the curves of a record of benchmarks.cost have."""
    curves = []
    for name in ("parameters", "batch", "examples"):
        curves += record[name].values()
    return sum(len(curve["points"]) for curve in curves)


def command() -> str:
    """What anyone types to make the record again, without the folders of this machine."""
    words = ["python", "-m", f"benchmarks.{Path(sys.argv[0]).stem}", *sys.argv[1:]]
    local = r" --(checkpoints|results)[ =]('[^']*'|\S+)| --force\b"
    return re.sub(local, "", shlex.join(words))
