"""The full runs: recipes too long for a lesson, and their recorded results.

`python -m benchmarks.own mnist-99` and `python -m benchmarks.published R3` train, evaluate once on
the test split and write `benchmarks/results/NAME.json`, which the lessons show. No number there is
typed. Run them on a machine that does nothing else.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def recorded(name: str) -> dict:
    """The record `benchmarks/results/NAME.json`.

    Accuracies are shares from 0 to 1. FileNotFoundError names the command that makes the record.
    """
    path = RESULTS / f"{name}.json"
    if not path.exists():
        name = name.removesuffix("-cuda")  # the same command on a machine with a GPU
        module, _, what = name.rpartition("-") if name.startswith("ablation-") else ("", "", name)
        module = module or ("published" if name.startswith("R") else "own")
        if name in ("speed", "scaling", "classroom"):
            module, what = name, ""
        raise FileNotFoundError(
            f"{path} has not been recorded; it is made by:  python -m benchmarks.{module} {what}"
        )
    return json.loads(path.read_text())
