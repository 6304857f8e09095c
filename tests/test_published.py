"""The published recipes: each as its source says, its number typed once, a killed run goes on."""

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lesson_source import ROOT
from torch import nn

from benchmarks import published, runs
from benchmarks.published import PUBLISHED, RECIPES
from lessons_src.data import Dataset, Split
from lessons_src.train import evaluate


def noise(n=200, seed=0):
    """A split of n noise images, normalised."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(n, 1, 28, 28, generator=generator)
    return Split(images, torch.arange(n) % 10)


STATED = {  # name: data, parameters, epochs, batch, optimiser, lr, moments, shuffled, its loss
    "R1a": ("mnist", 58_730, 100, 64, "SGD", 0.01, None, True, F.nll_loss),
    "R1b": ("mnist", 45_020, 100, 64, "SGD", 0.01, None, True, F.nll_loss),
    "R2": ("mnist", 669_706, 5, 64, "SGD", 0.001, (0, 1), False, F.cross_entropy),
    "R3": ("mnist", 300_426, 2, 32, "Adadelta", 0.5, (0.1302, 0.3069), True, F.nll_loss),
    "R4": ("fashion-mnist", 280_186, 10, 32, "Adam", 0.001, (0, 1), True, F.cross_entropy),
    "R5": ("mnist", 79_510, 10, 64, "SGD", 0.01, None, True, F.cross_entropy),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_recipe_is_the_published_one(name):
    """Data, size, epochs, batch, optimiser, rate, pixels, order and loss are the source's."""
    recipe = RECIPES[name]
    model, optimizer, scheduler = runs.prepare(recipe, noise(), 0)
    assert (
        recipe.dataset, sum(p.numel() for p in model.parameters()), recipe.epochs,
        recipe.batch_size, type(optimizer).__name__, optimizer.param_groups[0]["lr"],
        recipe.moments, recipe.shuffle, recipe.loss_fn,
    ) == STATED[name]  # fmt: skip
    assert scheduler is None and not optimizer.param_groups[0]["weight_decay"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_loss_fits_the_last_layer(name):
    """NLL behind log-softmax, cross-entropy behind logits: never log-softmax twice."""
    has_log_softmax = isinstance(list(RECIPES[name].network())[-1], nn.LogSoftmax)
    assert has_log_softmax == (RECIPES[name].loss_fn is F.nll_loss)


def test_dropout_is_of_the_published_kinds():
    """R1b drops channels once and units once, R3 a tenth of its channels and a quarter of units."""
    kinds = {
        name: [(type(m).__name__, m.p) for m in RECIPES[name].network() if "Dropout" in str(m)]
        for name in PUBLISHED
    }
    assert kinds == {
        "R1a": [("Dropout", 0.5)], "R1b": [("Dropout2d", 0.5), ("Dropout", 0.5)], "R2": [],
        "R3": [("Dropout2d", 0.1), ("Dropout", 0.25)], "R4": [], "R5": [],
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:dropout2d")
def test_dropout2d_on_a_flat_tensor_is_dropout():
    """What R3's choice says: from the same random state, the same zeros, the same scale."""
    x, made = torch.randn(50, 64), []
    for layer in (nn.Dropout2d(0.25), nn.Dropout(0.25)):
        torch.manual_seed(0)
        made.append(layer(x))
    assert torch.equal(*made) and 0.15 < (made[0] == 0).float().mean() < 0.35


def test_the_size_of_test_batches_changes_no_number():
    """R3 tests in batches of 500, we in batches of 1,000: the same share, the same loss."""
    torch.manual_seed(0)
    model, split = RECIPES["R3"].network(), noise(1200)
    (loss, share), (loss_500, share_500) = (
        evaluate(model, split, batch_size=b, loss_fn=F.nll_loss) for b in (1000, 500)
    )
    assert share == share_500 and loss == pytest.approx(loss_500, rel=1e-5)


def test_evaluating_every_epoch_changes_no_number():
    """With dropout and momentum: the same training, and its last epoch is the final evaluation."""
    recipe = replace(RECIPES["R1b"], epochs=2)
    assert recipe.by_epoch
    watched = runs.run(recipe, noise(), noise(100, 1), seed=1)
    alone = runs.run(replace(recipe, by_epoch=False), noise(), noise(100, 1), seed=1)
    assert "test_accuracy" not in alone
    for key in ("accuracy", "loss", "train_loss", "train_accuracy"):
        assert watched[key] == alone[key], key
    assert len(watched["test_accuracy"]) == 2 and watched["test_accuracy"][-1] == alone["accuracy"]


def test_without_shuffling_the_order_is_the_files():
    """R2's batches are those of the file, in every epoch; R2-shuffled differs in that alone."""
    assert replace(RECIPES["R2-shuffled"], name="R2", shuffle=False,
                   choices=RECIPES["R2"].choices) == RECIPES["R2"]  # fmt: skip
    assert replace(RECIPES["R5-scaled"], name="R5", moments=None,
                   choices=RECIPES["R5"].choices) == RECIPES["R5"]  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_are_those_of_the_printed_form(name):
    """What is computed with is what the source prints; its step is the last digit; it is cited."""
    result = PUBLISHED[name]
    assert f"{{{result.cite}," in (ROOT / "book/references.bib").read_text()
    assert 1 <= result.after <= RECIPES[name].epochs and name in RECIPES
    found = re.findall(r"\d+(?:\.\d+)?", result.printed.partition("%")[0])
    assert found or (result.accuracy is None and result.printed == "lost")
    if found:
        assert float(found[-1]) == pytest.approx(100 * result.accuracy)
        digits = len(found[-1].partition(".")[2])
        assert result.step == pytest.approx(10 ** (-2 - digits))
    if result.loss:
        assert f"loss {result.loss}" in result.printed
    if result.by_epoch:
        assert [float(f) for f in found] == pytest.approx([100 * v for v in result.by_epoch])
        assert result.by_epoch[result.after - 1] == result.accuracy


DRIVER = """
import os, signal, sys, torch
sys.path.insert(0, "tests")
from test_published import killed_at, tiny
from benchmarks import runs
torch.set_num_threads(1)
runs.data.load = lambda name: tiny()
runs.main({"R1b": killed_at(28, lambda: os.kill(os.getpid(), signal.SIGKILL))[0]}, "a test")
"""
COMMAND = ["R1b", "--seeds", "2", "--checkpoints", "checkpoints", "--results", "results"]


def tiny():
    """A data set of 200 noise images that calls itself real: four batches an epoch."""
    images = torch.randint(256, (200, 1, 28, 28), generator=torch.Generator().manual_seed(0),
                           dtype=torch.uint8)  # fmt: skip
    split = Split(images, torch.arange(200) % 10)
    return Dataset("mnist", split, split[:50], tuple("0123456789"), "here")


def killed_at(n, kill):
    """R1b with three epochs, its n-th computed loss kills; and the list of losses so far."""
    calls = []

    def loss_fn(logits, y):
        calls.append(1)
        if len(calls) == n:
            kill()
        return F.nll_loss(logits, y)

    return replace(RECIPES["R1b"], epochs=3, loss_fn=loss_fn), calls


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_command_goes_on_to_the_same_record(tmp_path, monkeypatch):
    """SIGKILL in the middle of the last epoch of seed 1; the same command again computes that
    epoch alone, and the record is that of an unbroken run. (One process imports torch.)"""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs.data, "load", lambda name: tiny())
    monkeypatch.setattr(runs, "keep_memory", lambda: None)
    python = [sys.executable, "-c", DRIVER.replace('"tests"', repr(str(ROOT / "tests")))]
    killed = subprocess.run([*python, *COMMAND], capture_output=True, text=True,
                            env=os.environ | {"PYTHONPATH": str(ROOT)})  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "seed 0" in killed.stdout and "seed 1" not in killed.stdout
    assert not (tmp_path / "results").exists()

    records = []
    for folder in ("checkpoints", "none yet"):
        recipe, calls = killed_at(0, None)
        monkeypatch.setattr(sys, "argv", ["benchmarks/published.py", *COMMAND])
        sys.argv[sys.argv.index("checkpoints")] = folder
        runs.main({"R1b": recipe}, "a test")
        records.append(json.loads(Path("results/R1b.json").read_text())["runs"])
        assert len(calls) == (5 if folder == "checkpoints" else 30)  # 4 batches and a test, each
    torch.set_num_threads(threads)
    for key in ("seed", "accuracy", "loss", "train_loss", "train_accuracy", "test_accuracy"):
        assert [run[key] for run in records[0]] == [run[key] for run in records[1]], key


def test_a_checkpoint_from_before_by_epoch_gives_no_half_curve(tmp_path):
    """Where a training was begun without a look at every epoch, no curve is recorded."""
    recipe = replace(RECIPES["R5"], epochs=2)
    runs.run(replace(recipe, epochs=1, by_epoch=False), noise(), noise(50), 0, tmp_path)
    assert "test_accuracy" not in runs.run(recipe, noise(), noise(50), 0, tmp_path)


def test_published_names_are_recipes():
    """Every published result has a recipe, and every other recipe says what it changes."""
    assert list(PUBLISHED) == ["R1a", "R1b", "R2", "R3", "R4", "R5"]
    for recipe in published.OTHERS:
        assert recipe.name.split("-")[0] in PUBLISHED and recipe.choices
