"""What each ingredient of a recipe bought: the recipe without it, measured on held-out images.

    python -m benchmarks.ablation mnist         digits; writes results/ablation-mnist.json
    python -m benchmarks.ablation fashion       clothes; writes results/ablation-fashion.json
    python -m benchmarks.ablation mirror        mirrored clothes, in short and long trainings
    python -m benchmarks.ablation mnist --seeds 5

One ingredient is taken out at a time, every variant has the same seeds, and the variants take
turns, so that a machine that slows down slows all of them.
"""

import argparse
import sys
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from benchmarks import own, runs
from lessons_src.data import DataError
from lessons_src.models import Crop, RandomFlip, cnn, cosine_filters


def without(kind: type, network) -> nn.Module:
    """The network with every layer of this kind left out."""
    return nn.Sequential(*[layer for layer in network() if not isinstance(layer, kind)])


def without_batch_norm(network) -> nn.Module:
    """Batch norm left out; the convolutions get back the bias that it had made needless."""
    layers = []
    for layer in without(nn.BatchNorm2d, network):
        if isinstance(layer, nn.Conv2d):
            layer = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size)
        layers.append(layer)
    return nn.Sequential(*layers)


def pool_last(network) -> nn.Module:
    """Convolution, norm, ReLU, pool: the usual order; norm and ReLU have four times the work."""
    layers, waiting = [], None
    for layer in network():
        if isinstance(layer, nn.MaxPool2d):
            waiting = layer
            continue
        layers.append(layer)
        if isinstance(layer, nn.ReLU) and waiting is not None:
            layers, waiting = [*layers, waiting], None
    return nn.Sequential(*layers)


def average_pool(network) -> nn.Module:
    """The mean over all places at the end, in place of the largest value."""
    return nn.Sequential(*[nn.AdaptiveAvgPool2d(1) if isinstance(layer, nn.AdaptiveMaxPool2d)
                           else layer for layer in network()])  # fmt: skip


def padded(network) -> nn.Module:
    """Every convolution keeps height and width: more places to compute."""
    model = network()
    for layer in model:
        if isinstance(layer, nn.Conv2d):
            layer.padding = tuple(k // 2 for k in layer.kernel_size)
    return model


def first_layer(filters=None, trained=False) -> nn.Module:
    """The network of fashion-92 with another first layer: a random start, or these filters."""
    model = own.clothes(fixed=False)
    if filters is not None:
        model[0].weight = nn.Parameter(filters(), requires_grad=trained)
    return model


def random_filters() -> torch.Tensor:
    """As many as there are cosine filters, of the same length, and with both signs too."""
    half = torch.randn(8, 1, 3, 3)
    half = half / half.flatten(1).norm(dim=1).view(8, 1, 1, 1)
    return torch.cat([half, -half])


def mirrored() -> nn.Module:
    """The network of fashion-92; in training every second image is mirrored."""
    return nn.Sequential(RandomFlip(), *own.clothes())


# Each: name -> (what is changed, the recipe). The first is the whole recipe.
WHOLE = replace(own.RECIPES["mnist-99.4"], epochs=2)  # of three: eleven variants, three seeds
NET = WHOLE.network
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True)
MNIST = {
    "whole": ("nothing", WHOLE),
    "no shift": ("the crop always from the middle", replace(WHOLE, network=partial(
        cnn, (24,), (48, 48), (96,), augment=[Crop(24)]))),
    "no crop": ("all of the image, never moved",
                replace(WHOLE, network=partial(without, Crop, NET))),
    "no label smoothing": ("plain cross-entropy", replace(WHOLE, loss_fn=F.cross_entropy)),
    "no batch norm": ("convolutions with a bias instead",
                      replace(WHOLE, network=partial(without_batch_norm, NET))),
    "constant rate": ("a constant learning rate, a third of the peak", replace(
        WHOLE, warmup=None, optimizer=partial(torch.optim.AdamW, lr=0.003, fused=True))),
    "SGD": ("SGD with Nesterov momentum 0.9, peak 0.1", replace(WHOLE, optimizer=SGD)),
    "average at the end": ("global average instead of maximum",
                           replace(WHOLE, network=partial(average_pool, NET))),
    "pool last": ("pooling after norm and ReLU", replace(WHOLE, network=partial(pool_last, NET))),
    "padding": ("convolutions with padding", replace(WHOLE, network=partial(padded, NET))),
    "channels first": ("memory in the order N, C, H, W", replace(WHOLE, channels_last=False)),
}  # fmt: skip
CLOTHES = own.RECIPES["fashion-92"]
FASHION = {
    "whole": ("nothing: cosine filters, fixed", CLOTHES),
    "learned": ("the first layer is learned from a random start, as all others",
                replace(CLOTHES, network=first_layer)),
    "trained on": ("the first layer starts from the cosine filters and is trained",
                   replace(CLOTHES, network=partial(first_layer, cosine_filters, True))),
    "random": ("the first layer has random filters, fixed",
               replace(CLOTHES, network=partial(first_layer, random_filters))),
    "maximum": ("the largest value of each last map, in place of all places",
                replace(CLOTHES, network=partial(own.clothes, flatten=False))),
    "mirrored": ("every second image mirrored in training", replace(CLOTHES, network=mirrored)),
    "no label smoothing": ("plain cross-entropy", replace(CLOTHES, loss_fn=F.cross_entropy)),
}  # fmt: skip
# Not one thing left out, but one thing put in, in trainings of different length.
MIRROR = {
    f"{epochs} epochs, {'mirrored' if network is mirrored else 'as they are'}":
        ("every second image mirrored in training" if network is mirrored else "nothing",
         replace(CLOTHES, epochs=epochs, network=network))
    for epochs in (2, 4, 8, 16) for network in (CLOTHES.network, mirrored)
}  # fmt: skip
ABLATIONS = {"mnist": MNIST, "fashion": FASHION, "mirror": MIRROR}
IMAGES = {"mirror": 20_000}  # of the 50,000 that are not held out; else all of them


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("dataset", choices=list(ABLATIONS))
    parser.add_argument("--seeds", type=int, default=3, help="runs with seeds 0 to N - 1 (3)")
    parser.add_argument("--results", metavar="FOLDER", help="where the record goes")
    args = parser.parse_args()
    variants = ABLATIONS[args.dataset]
    _, whole = next(iter(variants.values()))
    try:
        train, held_out = runs.splits(whole, validation=True)
    except DataError as error:
        sys.exit(str(error))
    train = train[: IMAGES.get(args.dataset)]
    runs.keep_memory()
    machine, found = runs.machine(), {name: [] for name in variants}
    for seed in range(args.seeds):
        for name, (_, recipe) in variants.items():
            result = runs.run(recipe, train, held_out, seed)
            del result["model"]
            found[name].append(result)
            print(f"seed {seed}  {name:20} {result['accuracy']:.2%}  {result['seconds']:.1f} s",
                  flush=True)  # fmt: skip
    entries = [
        {"name": name, "changed": changed, "accuracy": runs.summarise(found[name], "accuracy"),
         "seconds": runs.summarise(found[name], "seconds"), "epochs": recipe.epochs,
         "runs": found[name]}
        for name, (changed, recipe) in variants.items()
    ]  # fmt: skip
    record = runs.describe(whole, train) | {"of": whole.name, "measured_on": "validation"}
    record |= {"images": len(train)}
    record |= {"machine": machine, "variants": entries}
    print("written:", runs.write(f"ablation-{args.dataset}", record, args.results))


if __name__ == "__main__":
    main()
