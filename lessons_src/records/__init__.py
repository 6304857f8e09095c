"""Recorded runs: what trainings too long for a lesson gave, each in a file NAME.json.

The commands in `benchmarks` write them; lessons and pages show them. No number in them
is typed.
"""

import json
from pathlib import Path

from lessons_src.expect import expect, expect_type

FOLDER = Path(__file__).parent
BENCHMARKS = ("race", "cost", "classroom", "gpu", "bugs", "detector")


def recorded(name: str) -> dict:
    """The record NAME.json; accuracies are shares from 0 to 1. FileNotFoundError says by
    which command it is made, or which records there are."""
    expect_type("name", name, str)
    there = sorted(path.stem for path in FOLDER.glob("*.json"))
    if name not in there:
        raise FileNotFoundError(
            f"{name} has not been recorded; it is made by:  {command_for(name)}"
            if can_be_made(name)
            else f"no record {name!r}; there are: {', '.join(there)}"
        )
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def line(name: str) -> str:
    """A recorded run in a line: accuracy, runs, seconds and machine.

    Where there is no record, the command that makes it.
    """
    try:
        record = recorded(name)
    except FileNotFoundError as error:
        return str(error)
    expect("accuracy" in record, "a line is for the record of a recipe", name)
    accuracy, machine = record["accuracy"], record["machine"]
    spread = "" if accuracy["sd"] is None else f" ± {100 * accuracy['sd']:.2f}"
    return (
        f"{name}: {100 * accuracy['mean']:.2f}{spread} %, n = {accuracy['n']}, "
        f"{record['seconds']['mean']:.1f} s "
        f"({machine['name']}, {machine['device']}, {threads_of(record)})"
    )


def machine_of(record: dict) -> str:
    """When and on what a record was measured, in a line."""
    expect_type("record", record, dict, ", as recorded(name) gives it")
    machine = record["machine"]
    made = f"{record['date']}, {machine['name']}, {threads_of(record)}"
    return f"{made}, PyTorch {machine['torch']}"


def threads_of(record: dict) -> str:
    """With how many threads a record was measured: "1 thread", "2 threads"."""
    threads = record["machine"]["threads"]
    return "1 thread" if threads == 1 else f"{threads} threads"


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; every column after the first holds numbers.

    heads: a text for each column. rows: as many texts each. ValueError on other lengths.
    """
    for row in rows:
        expect(
            len(row) == len(heads),
            f"a row of the table must have {len(heads)} texts, as many as there are heads",
            len(row),
        )
    lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def command_for(name: str) -> str:
    """The command that makes the record NAME.json."""
    if name in BENCHMARKS:
        return f"python -m benchmarks.{name}"
    if name.startswith("ablation-"):
        return f"python -m benchmarks.ablations {name.removeprefix('ablation-')}"
    return f"python -m benchmarks.record {recipe_of(name)}"


def recipe_of(name: str) -> str:
    """The recipe of a record, which may be made on a machine with a GPU."""
    return name.removesuffix("-cuda").removesuffix("-mps")


def can_be_made(name: str) -> bool:
    """Whether a benchmark makes a record of this name, so that it is not misspelt.

    A recipe's own name does not count: its record, of a CPU, comes with the course.
    """
    return name in BENCHMARKS or name.startswith("ablation-") or recipe_of(name) != name
