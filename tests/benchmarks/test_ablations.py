"""benchmarks.ablations: the whole recipe with one thing changed, measured in turns."""

import json
import sys
from dataclasses import replace

import noise
import pytest
import torch

from benchmarks import ablations
from lessons_src.models import RandomFlip
from lessons_src.muon import Muon

ABLATIONS = {k: {v.name: v.recipe for v in vs} for k, vs in ablations.ABLATIONS.items()}


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_variant_is_another_recipe_that_runs(name):
    """The first is the whole; each other one differs in a field or in its network, and trains."""
    variants = ABLATIONS[name]
    first, whole = next(iter(variants.items()))
    assert first == "whole" or name == "mirror"
    x = torch.randn(4, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    for key, recipe in variants.items():
        torch.manual_seed(0)
        logits = recipe.network()(x)
        assert logits.shape == (4, 10) and logits.requires_grad, key
        assert key == first or recipe != whole, key
        assert recipe.dataset == whole.dataset, key
        epochs = int(key.split()[0]) if name == "mirror" else whole.epochs
        assert recipe.epochs == epochs, key


def test_pooling_last_keeps_the_layers_and_their_number():
    """Convolution, norm, ReLU, pool: the same layers as in the whole recipe, in that order."""
    whole, last = (
        list(ABLATIONS["mnist"][key].network()) for key in ("whole", "pool last")
    )
    kinds = [type(layer).__name__ for layer in last]
    assert sorted(kinds) == sorted(type(layer).__name__ for layer in whole)
    for k, kind in enumerate(kinds):
        if kind == "MaxPool2d":
            assert kinds[k - 3 : k] == ["Conv2d", "BatchNorm2d", "ReLU"]


def test_pairs_of_mirror_images_differ_in_the_layer_that_mirrors():
    """Two trainings of each length, the same but for that layer."""
    variants = list(ABLATIONS["mirror"].values())
    for plain, mirrored in zip(variants[::2], variants[1::2], strict=True):
        assert plain == replace(mirrored, name=plain.name, network=plain.network)
        kinds = [[type(layer) for layer in r.network()] for r in (plain, mirrored)]
        assert kinds[1] == [RandomFlip, *kinds[0]]


def test_first_layers_of_the_ablation_on_clothes():
    """The same network but for where the first filters come from, and whether they are trained."""
    networks = {}
    for key in ("whole", "learned", "trained on", "random"):
        torch.manual_seed(0)
        networks[key] = ABLATIONS["fashion"][key].network()
        rest = [list(networks[k][1:].parameters()) for k in ("whole", key)]
        assert all(map(torch.equal, *rest)), key
    first = {key: network[0].weight for key, network in networks.items()}
    assert torch.equal(first["whole"], first["trained on"])
    assert not torch.equal(first["whole"], first["random"])
    trained = [key for key, weight in first.items() if weight.requires_grad]
    assert trained == ["learned", "trained on"]
    norms = [first[key].flatten(1).norm(dim=1) for key in ("random", "whole")]
    torch.testing.assert_close(*norms)
    assert torch.equal(first["random"][8:], -first["random"][:8])


def test_free_length_is_muon_without_the_scaling():
    """The kernel plus the same step: what Muon does, but from where the kernel is."""
    kernel = 5 * torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    moved = {}
    for kind in (Muon, ablations.FreeLength):
        weight = torch.nn.Parameter(kernel.clone())
        optimizer = kind([weight, torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        for _ in range(2):  # the second with a velocity
            start = weight.detach().clone()
            weight.grad = kernel.flip(0)
            optimizer.step()
        moved[kind] = start, weight.detach()
    start, after = moved[Muon]
    step = start * (6**0.5 / start.norm()) - after
    start, after = moved[ablations.FreeLength]
    torch.testing.assert_close(start - after, step, atol=1e-5, rtol=0)
    assert after.norm() > 20 > 6**0.5


def test_the_command_measures_its_variants_and_writes_them(tmp_path, monkeypatch):
    """Two variants on noise: a record with both, of the seeds asked for; the command names it."""
    small = noise.raw(256, 0).scaled()
    monkeypatch.setattr(ablations, "splits", lambda recipe, validation: (small, small))
    monkeypatch.setattr(ablations, "keep_memory", lambda: None)
    two = [
        replace(variant, recipe=replace(variant.recipe, epochs=1))
        for variant in ablations.FASHION[:2]
    ]
    monkeypatch.setitem(ablations.ABLATIONS, "fashion", two)
    words = ["fashion", "--seeds", "2", "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["/x/benchmarks/ablations.py", *words])
    ablations.main()
    record = json.loads((tmp_path / "ablation-fashion.json").read_text(encoding="utf-8"))
    assert record["command"] == "python -m benchmarks.ablations fashion --seeds 2"
    assert record["images"] == 256 and record["measured_on"] == "validation"
    assert [v["name"] for v in record["variants"]] == ["whole", "learned"]
    for variant in record["variants"]:
        assert variant["accuracy"]["n"] == 2 == len(variant["runs"])
        assert variant["changed"] and variant["epochs"] == 1
