"""What each ingredient of a recipe bought: the recipe without it, on held-out images.

    python -m benchmarks.ablations mnist     digits; records/ablation-mnist.json
    python -m benchmarks.ablations fashion   clothes; records/ablation-fashion.json
    python -m benchmarks.ablations mirror    mirrored clothes, in short and long trainings
    python -m benchmarks.ablations muon      digits by Muon and by AdamW

One ingredient is taken out at a time. Every variant has the same seeds, and the variants
take turns, so that a machine that slows down slows all of them.
"""

import argparse
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import (
    check_replaces,
    errors_in_a_sentence,
    keep_memory,
    machine,
    options,
    summarise,
    write_record,
)
from lessons_src.models import Crop, RandomFlip, cnn, cosine_filters
from lessons_src.muon import Muon
from lessons_src.recipes import OWN, Recipe, clothes, run, splits


@dataclass(frozen=True)
class Variant:
    """A recipe with one thing changed; `changed` says what, for the table of a lesson."""

    name: str
    changed: str
    recipe: Recipe


# Networks with one thing changed -------------------------------------------------------


def without(kind: type, network) -> nn.Module:
    """The network with every layer of this kind left out."""
    return nn.Sequential(*[layer for layer in network() if not isinstance(layer, kind)])


def without_batch_norm(network) -> nn.Module:
    """Batch norm left out; the convolutions get back the bias that it made needless."""
    model = without(nn.BatchNorm2d, network)
    for k, layer in enumerate(model):
        if isinstance(layer, nn.Conv2d):
            model[k] = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size)
    return model


def pool_last(network) -> nn.Module:
    """Convolution, norm, ReLU, pool: the usual order, in which norm and ReLU do more."""
    layers = list(network())
    pools = [k for k, layer in enumerate(layers) if isinstance(layer, nn.MaxPool2d)]
    for k in pools:
        pool, norm, relu = layers[k : k + 3]
        layers[k : k + 3] = [norm, relu, pool]
    return nn.Sequential(*layers)


def average_pool(network) -> nn.Module:
    """The mean over all positions at the end, in place of the largest value."""
    model = network()
    for k, layer in enumerate(model):
        if isinstance(layer, nn.AdaptiveMaxPool2d):
            model[k] = nn.AdaptiveAvgPool2d(1)
    return model


def padded(network) -> nn.Module:
    """Every convolution keeps height and width: more positions to compute."""
    model = network()
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            layer.padding = tuple(k // 2 for k in layer.kernel_size)
    return model


def first_layer(filters=None, trained=False) -> nn.Module:
    """The network of fashion-92 with a random first layer, or with these filters."""
    model = clothes(fixed=False)
    if filters is not None:
        model[0].weight = nn.Parameter(filters(), requires_grad=trained)
    return model


def random_filters() -> torch.Tensor:
    """As many as there are cosine filters, of the same length and with both signs."""
    half = torch.randn(8, 1, 3, 3)
    half = half / half.flatten(1).norm(dim=1).view(8, 1, 1, 1)
    return torch.cat([half, -half])  # (16, 1, 3, 3)


def mirrored() -> nn.Module:
    """The network of fashion-92; in training each image is mirrored with probability 1/2."""
    return nn.Sequential(RandomFlip(), *clothes())


# Optimisers with one thing changed -----------------------------------------------------


class FreeLength(Muon):
    """Muon that leaves the kernels the length that its steps give them."""

    def step_of_kernel(self, kernel, lr, momentum):
        before = kernel.clone()
        super().step_of_kernel(kernel, lr, momentum)
        scaled = before * (len(kernel) ** 0.5 / before.norm())
        kernel.add_(before - scaled)  # takes the scaling back


# The ablations: the first variant of each is the whole recipe --------------------------

DIGITS = replace(OWN["mnist-99.4"], epochs=2)  # of three: eleven variants, three seeds
BY_MUON = replace(OWN["mnist-99.5-quick"], epochs=2)  # of three: in three minutes
CLOTHES = OWN["fashion-92"]


def digits(name: str, changed: str, network=None, **changes) -> Variant:
    """The recipe for digits; network: makes the changed network from the recipe's own."""
    if network is not None:
        changes["network"] = partial(network, DIGITS.network)
    return Variant(name, changed, replace(DIGITS, **changes))


def by_muon(name: str, changed: str, **changes) -> Variant:
    """The recipe for digits by Muon with these fields changed."""
    return Variant(name, changed, replace(BY_MUON, **changes))


def fashion(name: str, changed: str, **changes) -> Variant:
    """The recipe for clothes with these fields changed."""
    return Variant(name, changed, replace(CLOTHES, **changes))


def unmoved(_) -> nn.Module:
    """The network of mnist-99.4 on the middle of every image."""
    return cnn((24,), (48, 48), (96,), augment=[Crop(24)])


sgd = partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
constant = partial(torch.optim.AdamW, lr=0.003, fused=True)
MNIST = [
    digits("whole", "nothing"),
    digits("no shift", "the crop always from the middle", unmoved),
    digits("no crop", "all of the image, never moved", partial(without, Crop)),
    digits("no label smoothing", "plain cross-entropy", loss_fn=F.cross_entropy),
    digits("no batch norm", "convolutions with a bias instead", without_batch_norm),
    digits(
        "constant rate",
        "a constant learning rate, a third of the peak",
        warmup=None,
        optimizer=constant,
    ),
    digits(
        "SGD",
        "SGD with Nesterov momentum 0.9, peak 0.1",
        optimizer=partial(sgd, fused=True),
    ),
    digits("average at the end", "global average instead of maximum", average_pool),
    digits("pool last", "pooling after norm and ReLU", pool_last),
    digits("padding", "convolutions with padding", padded),
    digits("channels first", "memory in the order N, C, H, W", channels_last=False),
]
FASHION = [
    fashion("whole", "nothing: cosine filters, fixed"),
    fashion(
        "learned",
        "the first layer is learned from a random start, as all others",
        network=first_layer,
    ),
    fashion(
        "trained on",
        "the first layer starts from the cosine filters and is trained",
        network=partial(first_layer, cosine_filters, True),
    ),
    fashion(
        "random",
        "the first layer has random filters, fixed",
        network=partial(first_layer, random_filters),
    ),
    fashion(
        "maximum",
        "the largest value of each last map, in place of all places",
        network=partial(clothes, flatten=False),
    ),
    fashion(
        "mirrored",
        "each image mirrored with probability 1/2 in training",
        network=mirrored,
    ),
    fashion("no label smoothing", "plain cross-entropy", loss_fn=F.cross_entropy),
]
MIRROR = []  # not one thing left out but one put in, in trainings of different length
for length in (2, 4, 8, 16):
    MIRROR += [
        fashion(f"{length} epochs, as they are", "nothing", epochs=length),
        fashion(
            f"{length} epochs, mirrored",
            "each image mirrored with probability 1/2 in training",
            epochs=length,
            network=mirrored,
        ),
    ]
MUON = [
    by_muon("whole", "nothing: Muon for kernels, AdamW at a peak of 0.015 for the rest"),
    by_muon(
        "AdamW",
        "AdamW at a peak of 0.015 for kernels, too",
        optimizer=partial(torch.optim.AdamW, lr=0.015, weight_decay=0.01, fused=True),
    ),
    by_muon(
        "AdamW 0.01",
        "AdamW at the peak that was tuned for it, in the batches and warm-up of Muon",
        optimizer=OWN["mnist-99.5"].optimizer,
    ),
    by_muon(
        "AdamW's own",
        "optimiser, batches and warm-up of mnist-99.5: AdamW, 0.01, 128, a quarter",
        optimizer=OWN["mnist-99.5"].optimizer,
        batch_size=OWN["mnist-99.5"].batch_size,
        warmup=OWN["mnist-99.5"].warmup,
    ),
    by_muon(
        "free length",
        "the length of kernels is not kept",
        optimizer=partial(FreeLength, lr=0.15, adam_lr=0.015),
    ),
]
ABLATIONS = {"mnist": MNIST, "fashion": FASHION, "mirror": MIRROR, "muon": MUON}
EXAMPLES = {"mirror": 20_000}  # of the 50,000 that are not held out; else all of them


def run_in_turns(variants: list[Variant], train, held_out, seeds: int) -> dict:
    """The results of every variant by its name, a list with one for each seed."""
    results = {variant.name: [] for variant in variants}
    for seed in range(seeds):
        for variant in variants:
            _, result = run(variant.recipe, train, held_out, seed)
            results[variant.name].append(result)
            measured = f"{result['accuracy']:.2%}  {result['seconds']:.1f} s"
            print(f"seed {seed}  {variant.name:20} {measured}", flush=True)
    return results


def entry(variant: Variant, runs: list[dict]) -> dict:
    """The variant's part of the record."""
    return {
        "name": variant.name,
        "changed": variant.changed,
        "accuracy": summarise([run["accuracy"] for run in runs]),
        "seconds": summarise([run["seconds"] for run in runs]),
        "epochs": variant.recipe.epochs,
        "runs": runs,
    }


def record(args) -> None:
    """Train all variants of an ablation and write the record."""
    name, variants = f"ablation-{args.ablation}", ABLATIONS[args.ablation]
    names = {variant.name for variant in variants}
    check_replaces(name, {"seeds": args.seeds, "variants": names}, args)
    whole = variants[0].recipe
    train, held_out = splits(whole, validation=True)
    train = train[: EXAMPLES.get(args.ablation)]
    about = {"of": whole.name, "measured_on": "validation", "images": len(train)}
    about["machine"] = machine()
    results = run_in_turns(variants, train, held_out, args.seeds)
    entries = [entry(variant, results[variant.name]) for variant in variants]
    whole = whole.as_dict() | about | {"variants": entries}
    write_record(name, whole, args)


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = options(__doc__)
    parser.add_argument("ablation", choices=list(ABLATIONS))
    seeds = "runs with seeds 0 to N - 1 (3)"
    parser.add_argument("--seeds", type=int, default=3, help=seeds)
    args = parser.parse_args()
    if args.seeds < 1:
        parser.error("--seeds must be 1 or more")
    return args


def main() -> None:
    """Record one ablation."""
    args = arguments()
    keep_memory()
    with errors_in_a_sentence():
        record(args)


if __name__ == "__main__":
    main()
