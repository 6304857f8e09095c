"""lessons_src.recipes and lessons_src.published: what is run is what is said."""

import math
import re
from dataclasses import replace

import noise
import pytest
import torch
import torch.nn.functional as F
from lesson_source import ROOT
from torch import nn

from lessons_src import data, recipes
from lessons_src.data import Split
from lessons_src.models import MirrorAverage
from lessons_src.published import AS_PUBLISHED, PUBLISHED, RECIPES
from lessons_src.recipes import OWN
from lessons_src.train import evaluate


def images(n=200, seed=0):
    """A split of n noise images, normalised."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, 28, 28, generator=generator)
    return Split(x, torch.arange(n) % 10)


@pytest.fixture
def tiny(monkeypatch):
    """A data set of 200 noise images that calls itself real."""
    made = noise.dataset(200, 100)
    monkeypatch.setattr(data, "load", lambda name: replace(made, name=name))
    return made


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_runs(tiny, name):
    """One epoch: a finite loss, a share of right answers, its seconds and its size."""
    recipe = replace(RECIPES[name], epochs=1)
    model, result = recipes.run(recipe, *recipes.splits(recipe), seed=0)
    assert math.isfinite(result["loss"]) and 0 <= result["accuracy"] <= 1
    assert result["seconds"] > 0
    assert result["parameters"] == sum(p.numel() for p in model.parameters())


def test_a_run_is_repeated_to_the_last_digit():
    """Same seed, same numbers; another seed, others."""
    recipe = replace(OWN["mnist-99.4"], epochs=1)  # with augmentation
    results = [
        recipes.run(recipe, images(), images(50, 1), seed)[1] for seed in (0, 0, 1)
    ]
    for result in results:
        del result["seconds"]
    assert results[0] == results[1] != results[2] | {"seed": 0}


@pytest.mark.parametrize("name", RECIPES)
def test_describing_a_recipe_draws_no_random_number(name):
    """Neither PyTorch's nor Python's random state changes; a learning rate is named."""
    torch.manual_seed(5)
    before = torch.get_rng_state()
    settings = RECIPES[name].as_dict()
    assert torch.equal(torch.get_rng_state(), before)
    _, optimizer, _, _ = RECIPES[name].start(100, 0)
    group = optimizer.param_groups[0]
    assert settings["lr"] == group.get("initial_lr", group["lr"])
    assert settings["optimizer"] == type(optimizer).__name__


def test_the_small_network_is_small():
    """mnist-small has fewer than 8,000 parameters, as the race says."""
    assert sum(p.numel() for p in OWN["mnist-small"].network().parameters()) < 8000


def test_moments_are_those_of_the_recipe(tiny):
    """R3's copied constants, R2's plain 0 to 1, and the training split's own."""
    own = (tiny.mean, tiny.std)
    for name, (mean, std) in {"R3": (0.1302, 0.3069), "R2": (0, 1), "R5": own}.items():
        train, _ = recipes.splits(AS_PUBLISHED[name])
        torch.testing.assert_close(train.images, (tiny.train.images / 255 - mean) / std)


def test_the_schedule_rises_and_ends_at_zero():
    """warmup is the share of the steps before the peak, which is the optimizer's rate."""
    recipe = replace(OWN["mnist-99"], epochs=2, batch_size=50, warmup=0.25)
    _, optimizer, scheduler, _ = recipe.start(400, 0)
    rates = []
    for _ in range(16):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert max(rates) == rates[3] == pytest.approx(0.01)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


OWN_NETWORKS = [
    recipes.small,
    recipes.light,
    recipes.lighter,
    recipes.medium,
    recipes.tiny,
]
OWN_NETWORKS += [recipes.clothes, recipes.wide_clothes]


@pytest.mark.parametrize("network", OWN_NETWORKS, ids=lambda network: network.__name__)
def test_own_networks_are_what_they_say(network):
    """Their parameters; the pixels that they look at, and whether those move: to every
    place that a shift of two pixels reaches."""
    says, model = network.__doc__, network()
    stated = re.search(r"([\d,]+) parameters", says)[1]
    assert sum(p.numel() for p in model.parameters()) == int(stated.replace(",", ""))
    if pixels := re.search(r"(\d+) × \1", says):
        x = torch.arange(28.0 * 28).view(1, 1, 28, 28).expand(800, -1, -1, -1)
        torch.manual_seed(0)
        seen = model[0].train()(x)
        assert seen.shape[2:] == (int(pixels[1]),) * 2
        places = len(set(seen[:, 0, 0, 0].tolist()))
        assert places == (25 if "move" in says else 1)


def test_what_a_recipe_switches_on_is_on():
    """Memory format, mirror images at the test, measuring after every epoch; off where
    it is not asked for. Nothing is printed."""
    for name in ("mnist-99", "mlp-97"):
        convolutions = [p for p in OWN[name].start(100, 0)[0].parameters() if p.ndim == 4]
        last = [p.is_contiguous(memory_format=torch.channels_last) for p in convolutions]
        assert all(last) and bool(last) == (name == "mnist-99")
    plain = replace(OWN["mnist-99"], channels_last=False).start(100, 0)[0]
    weight = next(p for p in plain.parameters() if p.ndim == 4 and p.shape[1] > 1)
    assert weight.is_contiguous()


def test_mirror_images_are_measured_apart(capsys):
    """accuracy_tta is that of the averaged network, where the recipe asks for it."""
    recipe, test = replace(OWN["fashion-93"], epochs=1), images(100, 1)
    model, result = recipes.run(recipe, images(), test, 0)
    averaged = evaluate(MirrorAverage(model), test)[1]
    assert result["accuracy_tta"] == averaged != result["accuracy"]
    alone = replace(recipe, mirror_at_test=False)
    assert "accuracy_tta" not in recipes.run(alone, images(), test, 0)[1]
    assert capsys.readouterr().out == ""


def test_what_a_recipe_cannot_do_is_said_before_the_training():
    """A batch of none, raw pixels to test on, another thing than a recipe."""

    def never(*_, **__):
        pytest.fail("this would have been trained")

    recipe = OWN["mlp-97"]
    with pytest.raises(ValueError, match="batch_size must be a whole number"):
        replace(recipe, batch_size=0)
    raw = Split(torch.zeros(4, 1, 28, 28, dtype=torch.uint8), torch.zeros(4).long())
    with pytest.raises(ValueError, match="call .scaled"):
        recipes.run(recipe, images(), raw, 0, loop=never)
    for call in (recipes.splits, lambda r: recipes.normalised(r, noise.dataset(4, 4))):
        with pytest.raises(ValueError, match="recipe must be a Recipe"):
            call("mlp-97")


def test_an_optimizer_without_weight_decay_has_none():
    """Its description says 0."""
    recipe = replace(OWN["mlp-97"], optimizer=torch.optim.Rprop)
    assert recipe.as_dict()["weight_decay"] == 0


# Published ----------------------------------------------------------------------------------------

STATED = {  # data, parameters, epochs, batch, optimiser, lr, moments, shuffled, loss
    "R1a": ("mnist", 58_730, 100, 64, "SGD", 0.01, None, True, F.nll_loss),
    "R1b": ("mnist", 45_020, 100, 64, "SGD", 0.01, None, True, F.nll_loss),
    "R2": ("mnist", 669_706, 5, 64, "SGD", 0.001, (0, 1), False, F.cross_entropy),
    "R3": ("mnist", 300_426, 2, 32, "Adadelta", 0.5, (0.1302, 0.3069), True, F.nll_loss),
    "R4": (
        "fashion-mnist",
        280_186,
        10,
        32,
        "Adam",
        0.001,
        (0, 1),
        True,
        F.cross_entropy,
    ),
    "R5": ("mnist", 79_510, 10, 64, "SGD", 0.01, None, True, F.cross_entropy),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_recipe_is_the_published_one(name):
    """Data, size, epochs, batch, optimiser, rate, pixels, order and loss are the source's."""
    recipe = AS_PUBLISHED[name]
    model, optimizer, scheduler, generator = recipe.start(200, 0)
    size, group = sum(p.numel() for p in model.parameters()), optimizer.param_groups[0]
    training = (recipe.epochs, recipe.batch_size, type(optimizer).__name__, group["lr"])
    rest = (recipe.moments, recipe.shuffle, recipe.loss_fn)
    assert (recipe.dataset, size, *training, *rest) == STATED[name]
    assert scheduler is None and not group["weight_decay"]
    assert (generator is not None) == recipe.shuffle


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_loss_fits_the_last_layer(name):
    """NLL behind log-softmax, cross-entropy behind logits: never log-softmax twice."""
    recipe = AS_PUBLISHED[name]
    has_log_softmax = isinstance(list(recipe.network())[-1], nn.LogSoftmax)
    assert has_log_softmax == (recipe.loss_fn is F.nll_loss)


def test_dropout_is_of_the_published_kinds():
    """R1b drops channels once and units once, R3 a tenth of its channels and a quarter of its
    units."""
    expected = {
        "R1a": [("Dropout", 0.5)],
        "R1b": [("Dropout2d", 0.5), ("Dropout", 0.5)],
        "R2": [],
        "R3": [("Dropout2d", 0.1), ("Dropout", 0.25)],
        "R4": [],
        "R5": [],
    }
    for name, kinds in expected.items():
        layers = [layer for layer in AS_PUBLISHED[name].network() if hasattr(layer, "p")]
        assert [(type(layer).__name__, layer.p) for layer in layers] == kinds


@pytest.mark.filterwarnings("ignore:dropout2d")
def test_dropout2d_on_a_flat_tensor_is_dropout():
    """What R3's choice says: from the same random state, the same zeros, the same scale."""
    x, outputs = torch.randn(50, 64), []
    for layer in (nn.Dropout2d(0.25), nn.Dropout(0.25)):
        torch.manual_seed(0)
        outputs.append(layer(x))
    assert torch.equal(*outputs) and 0.15 < (outputs[0] == 0).float().mean() < 0.35


def test_the_size_of_test_batches_changes_no_number():
    """R3 tests in batches of 500, we in batches of 1,000: the same share, the same loss."""
    torch.manual_seed(0)
    model, split = AS_PUBLISHED["R3"].network(), images(1200)
    sizes = [
        evaluate(model, split, batch_size=b, loss_fn=F.nll_loss) for b in (1000, 500)
    ]
    assert sizes[0] == pytest.approx(sizes[1], rel=1e-5)


def test_evaluating_every_epoch_changes_no_number():
    """With dropout and momentum: the same training, and its last epoch is the final one."""
    recipe = replace(AS_PUBLISHED["R1b"], epochs=2)
    assert recipe.test_every_epoch
    split = images(), images(100, 1)
    watched = recipes.run(recipe, *split, seed=1)[1]
    alone = recipes.run(replace(recipe, test_every_epoch=False), *split, seed=1)[1]
    assert "test_accuracy" not in alone and len(watched["test_accuracy"]) == 2
    for key in ("accuracy", "loss", "train_loss", "train_accuracy"):
        assert watched[key] == alone[key], key
    assert watched["test_accuracy"][-1] == alone["accuracy"]


def test_other_choices_differ_in_one_thing():
    """R2-shuffled is R2 shuffled, R5-scaled is R5 on pixels from 0 to 1; both say so."""
    for name, change in {
        "R2-shuffled": {"shuffle": True},
        "R5-scaled": {"moments": (0, 1)},
    }.items():
        other, recipe = AS_PUBLISHED[name], AS_PUBLISHED[name.partition("-")[0]]
        assert other == replace(recipe, name=name, choices=other.choices, **change)
        assert other.choices and not set(PUBLISHED) & {name}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_numbers_are_those_of_the_sources_text(name):
    """What is computed with is what the source prints; `digit` is its last one; it is cited."""
    result = PUBLISHED[name]
    assert f"{{{result.cite}," in (ROOT / "book/references.bib").read_text(
        encoding="utf-8"
    )
    assert 1 <= result.epoch <= AS_PUBLISHED[name].epochs
    numbers = re.findall(r"\d+(?:\.\d+)?", result.text.partition("%")[0])
    assert float(numbers[-1]) == pytest.approx(100 * result.accuracy)
    digits = len(numbers[-1].partition(".")[2])
    assert result.digit == pytest.approx(10 ** (-2 - digits))
    if result.loss is not None:
        assert f"loss {result.loss}" in result.text
    if result.by_epoch:
        assert [float(n) for n in numbers] == pytest.approx(
            [100 * v for v in result.by_epoch]
        )
        assert result.by_epoch[result.epoch - 1] == result.accuracy
