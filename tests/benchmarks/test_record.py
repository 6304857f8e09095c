"""benchmarks.record: what is recorded is what was measured, and no record is lost."""

import json
import os
import signal
import statistics
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import noise
import pytest
import torch
import torch.nn.functional as F
from lesson_source import ROOT

import benchmarks
from benchmarks import record
from lessons_src import data, recipes, records
from lessons_src.published import AS_PUBLISHED, RECIPES
from lessons_src.recipes import OWN


@pytest.fixture
def tiny(monkeypatch):
    """A data set of 200 noise images that calls itself real."""
    made = noise.dataset(200, 100)
    monkeypatch.setattr(data, "load", lambda name: replace(made, name=name))
    monkeypatch.setattr(recipes, "HELD_OUT", 50)
    monkeypatch.setattr(record, "keep_memory", lambda: None)
    return made


@pytest.fixture
def command(tiny, monkeypatch, tmp_path):
    """`python -m benchmarks.record ...` with recipes of one epoch; the record that it made."""
    short = {name: replace(recipe, epochs=1) for name, recipe in record.RECIPES.items()}
    monkeypatch.setattr(record, "RECIPES", short)

    def run(name, *arguments):
        words = [name, *map(str, arguments), "--results", str(tmp_path)]
        monkeypatch.setattr(sys, "argv", ["/x/benchmarks/record.py", *words])
        record.main()
        path = tmp_path / f"{name}.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    return run


def test_the_record_holds_what_was_measured(command, capsys):
    """Mean and sd are those of the runs; date, command, machine and versions are there, and no
    folder of this machine."""
    made = command("mnist-99", "--remark", "beside other work")
    values = [run["accuracy"] for run in made["runs"]]
    assert made["accuracy"]["mean"] == pytest.approx(statistics.fmean(values))
    assert made["accuracy"]["sd"] == pytest.approx(statistics.stdev(values))
    assert made["accuracy"]["n"] == 3 and [run["seed"] for run in made["runs"]] == [
        0,
        1,
        2,
    ]
    assert made["machine"]["torch"] == torch.__version__ and made["machine"]["threads"]
    assert {"date", "epochs", "batch_size", "lr", "optimizer"} <= made.keys()
    assert made["remark"] == "beside other work"
    expected = "python -m benchmarks.record mnist-99 --remark 'beside other work'"
    assert made["command"] == expected
    assert "written: " in capsys.readouterr().out


def test_one_seed_has_no_spread(command):
    """And a recipe that is measured mirrored too says so apart."""
    made = command("fashion-93", "--seeds", 1)
    assert made["accuracy"]["sd"] is None and made["accuracy_tta"]["n"] == 1


def test_validation_takes_no_test_image_and_writes_nothing(command, tiny, capsys):
    """Tuning sees the training split only, in two disjoint parts."""
    train, held_out = recipes.splits(OWN["mnist-99"], validation=True)
    assert (len(train), len(held_out)) == (150, 50)
    together = torch.cat([train.images, held_out.images]).sum((1, 2, 3)).sort()[0]
    whole = tiny.train.normalised(tiny.mean, tiny.std).images.sum((1, 2, 3)).sort()[0]
    torch.testing.assert_close(together, whole)
    assert command("mnist-99", "--validation", "--seeds", 1) is None
    assert "validation" in capsys.readouterr().out


def test_fewer_seeds_never_replace_a_record(command, tmp_path):
    """It is said before anything is trained; as many or more do replace it, and --force does."""
    assert len(command("mnist-99", "--seeds", 2)["runs"]) == 2
    before = (tmp_path / "mnist-99.json").read_bytes()
    with pytest.raises(
        SystemExit, match="has 2 seeds, and would be replaced by 1. --force"
    ):
        command("mnist-99", "--seeds", 1)
    assert (tmp_path / "mnist-99.json").read_bytes() == before
    assert len(command("mnist-99", "--seeds", 3)["runs"]) == 3
    made = command("mnist-99", "--seeds", 1, "--force")
    assert len(made["runs"]) == 1 and "--force" not in made["command"]


def test_a_record_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """The disk is full in the middle: the old record stays, and nothing lies beside it."""
    args = Namespace(results=tmp_path, force=False)
    benchmarks.write_record("a", {"runs": [1]}, args)
    before = (tmp_path / "a.json").read_bytes()

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError):
        benchmarks.write_record("a", {"runs": [1, 2]}, args)
    assert (tmp_path / "a.json").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.json"]


def curves(widths: int) -> dict:
    """The curves of a record of benchmarks.cost, each with so many points."""
    curve = {"mlp": {"points": [{"size": size} for size in range(widths)]}}
    return {"parameters": curve, "batch": curve, "examples": curve}


def bug(name: str, settings=6) -> dict:
    return {"name": name, "settings": settings}


def found(*planted, tools=("detector", "torchtest2")) -> dict:
    """A record of benchmarks.detector with these planted bugs."""
    summary = dict.fromkeys(tools, {})
    return {
        "summary": summary,
        "planted": [*planted],
        "held_out": [],
        "sound": [bug("plain")],
    }


def entries(*names, key="name", **more) -> list[dict]:
    return [{key: name} | more for name in names]


COST = {"roofline": entries("mnist-99", key="recipe"), "budget": 1.0} | curves(3)
FEWER = {
    "record": ({"runs": [1, 2]}, {"runs": [1]}, "has 2 seeds, and .* by 1"),
    "ablations: seeds": (
        {"variants": entries("a", "b", runs=[1, 2])},
        {"variants": entries("a", runs=[1, 2]) + entries("b", runs=[1])},
        "has 2 seeds",
    ),
    "ablations: variants": (
        {"variants": entries("a", "b", runs=[1])},
        {"variants": entries("a", runs=[1, 2])},
        "lose these variants: b",
    ),
    "race": (
        {"rounds": 2, "targets": entries("a")},
        {"rounds": 1, "targets": entries("a")},
        "has 2 rounds",
    ),
    "gpu": (
        {"seeds": 5, "targets": entries("a", "b", "c")},
        {"seeds": 5, "targets": entries("a")},
        "lose these targets: b, c",
    ),
    "bugs": (
        {"seeds": 3, "bugs": entries("a", "b")},
        {"seeds": 3, "bugs": entries("b")},
        "lose these bugs: a",
    ),
    "cost: budget": (
        COST,
        COST | {"budget": 0.1},
        "has 1.0 seconds for a point.* by 0.1",
    ),
    "cost: points": (COST, COST | curves(2), "has 9 points, and .* by 6"),
    "cost: recipes": (COST, COST | {"roofline": []}, "lose these roofline: mnist-99"),
    "classroom": (
        {"lessons": entries("softmax", "gpus", key="lesson")},
        {"lessons": entries("gpus", key="lesson")},
        "lose these lessons: softmax",
    ),
    "detector: bugs": (found(bug("a"), bug("b")), found(bug("b", 12)), "planted: a"),
    "detector: data sets": (found(bug("a")), found(bug("a", 3)), "has 12 trainings"),
    "detector: tools": (
        found(bug("a")),
        found(bug("a"), tools=["detector"]),
        "lose these tools: torchtest2",
    ),
}


@pytest.mark.parametrize("kind", FEWER)
def test_what_covers_less_never_replaces_a_record(tmp_path, kind):
    """Of each command: refused with what would be lost; the same again is not, nor is
    --force."""
    more, fewer, message = FEWER[kind]
    args = Namespace(results=tmp_path, force=False)
    benchmarks.write_record("a", more, args)
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(benchmarks.RecordError, match=message):
        benchmarks.write_record("a", fewer, args)
    assert (tmp_path / "a.json").read_bytes() == before
    benchmarks.write_record("a", more, args)
    benchmarks.write_record("a", fewer, Namespace(results=tmp_path, force=True))
    assert (tmp_path / "a.json").read_bytes() != before


def test_the_stand_in_is_never_recorded(monkeypatch, tmp_path):
    """No real data: one sentence, before any training."""
    monkeypatch.setenv("LESSONS_DATA", "standin")
    monkeypatch.setattr(
        sys, "argv", ["record.py", "mnist-99", "--results", str(tmp_path)]
    )
    with pytest.raises(SystemExit, match="needs the real mnist, not the stand-in"):
        record.main()


def test_the_command_line_says_what_there_is(command, monkeypatch, capsys):
    """--help names every recipe; an unknown one is answered with the list."""
    with pytest.raises(SystemExit):
        command("--help")
    text = capsys.readouterr().out
    assert all(name in text for name in RECIPES)
    for wrong, message in (
        (["R99"], "unknown: R99; there are:"),
        (["R5", "--seeds", 0], "1 or"),
    ):
        with pytest.raises(SystemExit) as end:
            command(*wrong)
        assert end.value.code == 2 and message in capsys.readouterr().err


# A command that is killed -------------------------------------------------------------------------

DRIVER = f"""
import os, signal, sys, torch
sys.path[:0] = [{str(Path(__file__).parent)!r}, {str(ROOT / "tests")!r}]
import noise, test_record
from benchmarks import record
from lessons_src import data
torch.set_num_threads(1)
data.load = lambda name: noise.dataset(200, 50, name)
test_record.kill_at(28, lambda: os.kill(os.getpid(), signal.SIGKILL))
record.main()
"""
COMMAND = ["R1b", "--seeds", "2", "--checkpoints", "checkpoints", "--results", "results"]


def kill_at(n, kill) -> list:
    """R1b gets three epochs, and its n-th computed loss kills; the list of losses so far."""
    calls = []

    def nll_loss(logits, y):
        calls.append(1)
        if len(calls) == n:
            kill()
        return F.nll_loss(logits, y)

    record.RECIPES["R1b"] = replace(AS_PUBLISHED["R1b"], epochs=3, loss_fn=nll_loss)
    return calls


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_command_resumes_to_the_same_record(tiny, tmp_path, monkeypatch):
    """SIGKILL in the last epoch of seed 1; the same command again computes that epoch alone,
    and the record is that of an uninterrupted run."""
    monkeypatch.setattr(record, "RECIPES", dict(record.RECIPES))
    monkeypatch.setattr(data, "load", lambda name: noise.dataset(200, 50, name))
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    killed = subprocess.run(
        [sys.executable, "-c", DRIVER, *COMMAND],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "seed 0" in killed.stdout and "seed 1" not in killed.stdout
    assert not Path("results").exists()

    runs = []
    for folder in ("checkpoints", "none yet"):
        calls = kill_at(0, None)
        words = [folder if word == "checkpoints" else word for word in COMMAND]
        monkeypatch.setattr(sys, "argv", ["record.py", *words])
        record.main()
        runs.append(
            json.loads(Path("results/R1b.json").read_text(encoding="utf-8"))["runs"]
        )
        # 4 batches and a test for each epoch
        assert len(calls) == (5 if folder == "checkpoints" else 30)
    torch.set_num_threads(threads)
    for one, other in zip(*runs, strict=True):
        del one["seconds"], other["seconds"]
        assert one == other


# The records that there are -----------------------------------------------------------------------

RECORDS = sorted(records.FOLDER.glob("*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.stem)
def test_every_record_belongs_to_a_recipe_and_adds_up(path):
    """Its command exists, its recipe is today's, its mean and sd are those of its runs."""
    made = json.loads(path.read_text(encoding="utf-8"))
    _, _, module, *_ = made["command"].split()
    assert (
        made["name"] == path.stem and (ROOT / f"{module.replace('.', '/')}.py").exists()
    )
    recipe = record.RECIPES.get(path.stem.removesuffix("-cuda"))
    if recipe is None:
        return  # a comparison of several recipes
    today = recipe.as_dict()
    for key in ("dataset", "epochs", "batch_size", "lr", "warmup", "optimizer"):
        assert made[key] == today[key]
    size = sum(p.numel() for p in recipe.network().parameters())
    assert {run["parameters"] for run in made["runs"]} == {size}
    for key in ("accuracy", "seconds"):
        values = [run[key] for run in made["runs"]]
        assert made[key] == pytest.approx(benchmarks.summarise(values))


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.stem)
def test_every_record_covers_something(path):
    """Seeds, rounds, targets, lessons, points: what a new one is compared by."""
    covers = benchmarks.coverage(json.loads(path.read_text(encoding="utf-8")))
    assert covers and all(covers.values())


def test_records_of_many_recipes_are_of_todays():
    """What a step costs, and the race: recorded with the networks that the recipes have."""
    steps = records.recorded("cost")["roofline"]
    assert [row["recipe"] for row in steps] == list(OWN)
    sides = [target["ours"] for target in records.recorded("race")["targets"]]
    for row in steps + [side for side in sides if side["recipe"] in OWN]:
        recipe = OWN[row["recipe"]]
        size = sum(p.numel() for p in recipe.network().parameters())
        assert row["parameters"] == size, row["recipe"]
        assert row.get("batch_size", recipe.batch_size) == recipe.batch_size, row[
            "recipe"
        ]
        assert row.get("epochs", recipe.epochs) == recipe.epochs, row["recipe"]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("mnist-99.4-mps", "record mnist-99.4"),
        ("fashion-93-cuda", "record fashion-93"),
        ("ablation-x", "ablations x"),
    ],
)
def test_a_missing_record_names_its_command(name, command):
    """What a lesson says when a record was never made."""
    with pytest.raises(FileNotFoundError, match=f"python -m benchmarks.{command}$"):
        records.recorded(name)
    assert records.command_for("gpu") == "python -m benchmarks.gpu"


@pytest.mark.parametrize("name", ["r5", "R5.json", "mnist-100", "race-of-nobody", ""])
def test_a_record_that_no_command_makes_names_those_that_are_there(name):
    """A misspelt name would be sent to a command that does not know it either."""
    with pytest.raises(
        FileNotFoundError, match=f"no record '{name}'; there are: R1a, .*race"
    ):
        records.recorded(name)


def test_a_machine_in_a_line():
    """When, on what, with how many threads and which PyTorch; one thread is singular."""
    machine = {"name": "a processor", "threads": 1, "torch": "2.9"}
    record = {"date": "2026-01-02", "machine": machine}
    made = "2026-01-02, a processor, 1 thread, PyTorch 2.9"
    assert records.machine_of(record) == made
    machine["threads"] = 2
    assert records.machine_of(record) == made.replace("1 thread", "2 threads")


def test_a_table_is_markdown():
    """Heads, then the rows; the first column holds words, the others numbers."""
    made = records.table(["to", "s", "times"], [["a", "1.0", "2"], ["b", "3.0", "40"]])
    rows = [
        "| to | s | times |",
        "| --- | --: | --: |",
        "| a | 1.0 | 2 |",
        "| b | 3.0 | 40 |",
    ]
    assert made.splitlines() == rows
    assert records.table(["alone"], []) == "| alone |\n| --- |"
