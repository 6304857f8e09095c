"""Benchmarks: what they record is what was measured, and every record can be made again."""

import importlib
import json
import math
import runpy
import shlex
import statistics
import sys
from dataclasses import replace
from functools import partial

import noise
import pytest
import torch
from lesson_source import ROOT

import benchmarks
from benchmarks import ablation, own, published, runs
from lessons_src import checkpoint, data
from lessons_src.data import Split
from lessons_src.models import RandomFlip

RECIPES = own.RECIPES | published.RECIPES
RECORDS = sorted(benchmarks.RESULTS.glob("*.json"))


@pytest.fixture
def tiny(monkeypatch):
    """A data set of 200 noise images that calls itself real."""
    made = noise.dataset(200, 100)
    monkeypatch.setattr(runs.data, "load", lambda name: made)
    monkeypatch.setattr(runs, "HELD_OUT", 50)
    return made


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs(tiny, name):
    """One epoch on tiny data: finite loss, a share of correct answers, its seconds."""
    recipe = replace(RECIPES[name], epochs=1)
    result = runs.run(recipe, *runs.splits(recipe), seed=0)
    assert math.isfinite(result["loss"]) and 0 <= result["accuracy"] <= 1
    assert result["seconds"] > 0


def test_the_record_holds_what_was_measured(tiny, tmp_path, capsys):
    """Mean and sd are those of the runs; date, command, machine and versions are there."""
    recipe = replace(own.RECIPES["mnist-99"], epochs=1)
    found = runs.record(recipe, 3, results_folder=tmp_path, remark="beside other work")
    record = json.loads((tmp_path / "mnist-99.json").read_text())
    values = [r["accuracy"] for r in found]
    assert record["accuracy"]["mean"] == pytest.approx(statistics.fmean(values))
    assert record["accuracy"]["sd"] == pytest.approx(statistics.stdev(values))
    assert record["accuracy"]["n"] == 3 and [r["seed"] for r in record["runs"]] == [0, 1, 2]
    assert record["machine"]["torch"] == torch.__version__ and record["machine"]["threads"]
    assert {"date", "command", "epochs", "batch_size", "lr", "optimizer"} <= record.keys()
    assert record["remark"] == "beside other work"
    assert "written" in capsys.readouterr().out


def test_the_small_network_is_small():
    """mnist-small has fewer than 8,000 parameters, as the table of speed says."""
    assert sum(p.numel() for p in own.RECIPES["mnist-small"].network().parameters()) < 8000


def test_the_recorded_command_names_no_folder_of_this_machine(tmp_path, monkeypatch):
    """What anyone types to make the record again: not where somebody kept checkpoints."""
    monkeypatch.setattr(sys, "argv", ["benchmarks/own.py", "mnist-99", "--checkpoints", "/here/ck",
                                      "--seeds", "3", "--results", str(tmp_path)])  # fmt: skip
    record = json.loads(runs.write("x", {}, tmp_path).read_text())
    assert record["command"] == "python -m benchmarks.own mnist-99 --seeds 3"


def test_validation_takes_no_test_image_and_writes_nothing(tiny, tmp_path):
    """Tuning sees the training split only, in two disjoint parts."""
    recipe = replace(own.RECIPES["mnist-99"], epochs=1)
    train, held_out = runs.splits(recipe, validation=True)
    assert (len(train), len(held_out)) == (150, 50)
    together = torch.cat([train.images, held_out.images]).sum((1, 2, 3)).sort()[0]
    whole = tiny.train.normalised(tiny.mean, tiny.std).images.sum((1, 2, 3)).sort()[0]
    torch.testing.assert_close(together, whole)
    runs.record(recipe, 1, validation=True, results_folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_that_was_broken_off_goes_on(tiny, tmp_path):
    """Two epochs, then the whole of three: the numbers of three in one go."""
    recipe = replace(published.RECIPES["R3"], epochs=3)
    split = runs.splits(recipe)
    whole = runs.run(recipe, *split, seed=1)
    runs.run(replace(recipe, epochs=2), *split, seed=1, folder=tmp_path)
    resumed = runs.run(recipe, *split, seed=1, folder=tmp_path)
    assert (resumed["accuracy"], resumed["loss"]) == (whole["accuracy"], whole["loss"])


def test_a_changed_recipe_does_not_go_on_from_an_old_checkpoint(tiny, tmp_path):
    """With another learning rate the file is refused, and the message names what differs."""
    recipe = replace(published.RECIPES["R3"], epochs=1)
    split = runs.splits(recipe)
    runs.run(recipe, *split, seed=1, folder=tmp_path)
    changed = replace(recipe, epochs=2, optimizer=partial(torch.optim.Adadelta, lr=0.25))
    with pytest.raises(checkpoint.CheckpointError, match="its lr is 0.5, not 0.25"):
        runs.run(changed, *split, seed=1, folder=tmp_path)


def test_the_stand_in_is_never_recorded(monkeypatch, tmp_path):
    """No real data: an error that says so, before any training."""
    monkeypatch.setenv("LESSONS_DATA", "standin")
    with pytest.raises(data.DataError, match="not the stand-in"):
        runs.record(own.RECIPES["mnist-99"], 1, results_folder=tmp_path)


def test_moments_are_those_of_the_recipe(tiny):
    """R3's copied constants, R2's plain 0 to 1, and the training split's own."""
    for name, (mean, std) in {"R3": (0.1302, 0.3069), "R2": (0, 1),
                              "R5": (tiny.mean, tiny.std)}.items():  # fmt: skip
        train, _ = runs.splits(published.RECIPES[name])
        torch.testing.assert_close(train.images, (tiny.train.images / 255 - mean) / std)


@pytest.mark.parametrize("module", ["own", "published"])
def test_the_command_line_says_what_there_is(module, monkeypatch, capsys):
    """--help names every recipe; an unknown one is answered with the list."""

    def command(*arguments):
        """Its exit status, what it printed, and what it complained of."""
        monkeypatch.setattr(sys, "argv", [module, *arguments])
        with pytest.raises(SystemExit) as end:  # in this process: torch is imported already
            runpy.run_path(ROOT / "benchmarks" / f"{module}.py", run_name="__main__")
        return end.value.code, *capsys.readouterr()

    status, shown, _ = command("--help")
    assert status == 0
    for name in importlib.import_module(f"benchmarks.{module}").RECIPES:
        assert name in shown
    status, _, wrong = command("R99")
    assert status == 2 and "unknown: R99; there are:" in wrong


def test_a_missing_record_names_its_command():
    """What a lesson says when a record was never made."""
    for name, command in {"R99": "published R99", "mnist-100": "own mnist-100",
                          "ablation-x": "ablation x",
                          "fashion-93-cuda": "own fashion-93$"}.items():  # fmt: skip
        with pytest.raises(FileNotFoundError, match=f"python -m benchmarks.{command}"):
            benchmarks.recorded(name)


@pytest.mark.parametrize("path", RECORDS, ids=lambda p: p.stem)
def test_every_record_belongs_to_a_recipe_and_adds_up(path):
    """Its command makes it, its recipe is today's, its mean and sd are those of its runs."""
    record = json.loads(path.read_text())
    module = shlex.split(record["command"])[2]
    assert module.startswith("benchmarks.") and record["name"] == path.stem
    recipe = RECIPES.get(record["name"].removesuffix("-cuda"))
    if recipe is None:
        return  # a comparison of several recipes

    said = {key: record[key] for key in ("dataset", "epochs", "batch_size", "lr", "warmup")}
    train = Split(torch.zeros(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64))
    assert said == {k: v for k, v in runs.describe(recipe, train).items() if k in said}
    for key in ("accuracy", "seconds"):
        values = [run[key] for run in record["runs"]]
        assert record[key]["mean"] == pytest.approx(statistics.fmean(values))
        assert record[key]["n"] == len(values)
        if len(values) > 1:
            assert record[key]["sd"] == pytest.approx(statistics.stdev(values))


def test_records_of_many_recipes_are_of_todays():
    """What a step costs, and the benchmark: recorded with the networks that the recipes have."""
    steps = benchmarks.recorded("scaling")["roofline"]
    assert [row["recipe"] for row in steps] == list(own.RECIPES)
    sides = [target["ours"] for target in benchmarks.recorded("speed")["targets"]]
    for row in steps + [side for side in sides if side["recipe"] in own.RECIPES]:
        recipe = own.RECIPES[row["recipe"]]
        size = sum(p.numel() for p in recipe.network().parameters())
        assert row["parameters"] == size, row["recipe"]
        assert row.get("batch_size", recipe.batch_size) == recipe.batch_size, row["recipe"]
        assert row.get("epochs", recipe.epochs) == recipe.epochs, row["recipe"]


# Ablations: the whole recipe with one thing changed ------------------------------------------


@pytest.mark.parametrize("name", ablation.ABLATIONS)
def test_every_variant_of_an_ablation_is_another_recipe_that_runs(name):
    """The first is the whole; each other one differs in a field or in its network, and trains."""
    variants = {key: recipe for key, (_, recipe) in ablation.ABLATIONS[name].items()}
    first, whole = next(iter(variants.items()))
    assert first == "whole" or name == "mirror"
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for key, recipe in variants.items():
        torch.manual_seed(0)
        logits = recipe.network()(x)
        assert logits.shape == (4, 10) and logits.requires_grad, key
        assert key == first or recipe != whole, key
        assert recipe.dataset == whole.dataset, key
        assert recipe.epochs == (int(key.split()[0]) if name == "mirror" else whole.epochs), key


def test_the_pairs_of_the_ablation_of_mirror_images():
    """Two trainings of each length, the same but for the layer that mirrors."""
    recipes = [recipe for _, recipe in ablation.MIRROR.values()]
    for plain, mirrored in zip(recipes[::2], recipes[1::2], strict=True):
        assert plain == replace(mirrored, network=plain.network)
        layers, with_flip = ([type(layer) for layer in r.network()] for r in (plain, mirrored))
        assert with_flip == [RandomFlip, *layers]


def test_first_layers_of_the_ablation_on_clothes():
    """The same network but for where the first filters come from, and whether they are trained."""
    nets = {}
    for key in ("whole", "learned", "trained on", "random"):
        torch.manual_seed(0)
        nets[key] = ablation.FASHION[key][1].network()
        rest = zip(nets["whole"][1:].parameters(), nets[key][1:].parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in rest), key
    first = {key: net[0].weight for key, net in nets.items()}
    assert torch.equal(first["whole"], first["trained on"])
    assert not torch.equal(first["whole"], first["random"])
    assert [key for key, w in first.items() if w.requires_grad] == ["learned", "trained on"]
    norms = first["random"].flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, first["whole"].flatten(1).norm(dim=1))
    assert torch.equal(first["random"][8:], -first["random"][:8])


def test_the_ablation_measures_its_variants_and_writes_them(tmp_path, monkeypatch):
    """Two variants on noise: a record with both, of the seeds asked for; the command names it."""
    small = noise.raw(256, 0).scaled()
    monkeypatch.setattr(runs, "splits", lambda recipe, validation: (small, small))
    two = dict(list(ablation.FASHION.items())[:2])
    two = {key: (text, replace(recipe, epochs=1)) for key, (text, recipe) in two.items()}
    monkeypatch.setitem(ablation.ABLATIONS, "fashion", two)
    monkeypatch.setattr(sys, "argv", ["benchmarks/ablation.py", "fashion", "--seeds", "2",
                                      "--results", str(tmp_path)])  # fmt: skip
    ablation.main()
    record = json.loads((tmp_path / "ablation-fashion.json").read_text())
    assert record["images"] == 256 and record["variants"][0]["epochs"] == 1
    assert record["command"] == "python -m benchmarks.ablation fashion --seeds 2"
    assert [v["name"] for v in record["variants"]] == ["whole", "learned"]
    for v in record["variants"]:
        assert v["accuracy"]["n"] == 2 and len(v["runs"]) == 2 and v["seconds"]["mean"] > 0
