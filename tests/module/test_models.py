"""Layers and networks that lessons share."""

import pytest
import torch
import torch.nn.functional as F
from scipy.fft import dctn
from torch import nn

from lessons_src.models import (
    Crop,
    MirrorAverage,
    RandomFlip,
    RandomShift,
    cnn,
    cosine_filters,
    fix_first,
    mlp,
    r1a,
    r1b,
    r3,
    r4,
)


def images(n=64, channels=2, seed=0):
    return torch.randn(n, channels, 9, 7, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("pixels", [1, 2, 3])
def test_every_shifted_image_is_one_of_the_possible_shifts(pixels):
    """Each image, all its channels together, is the padded image cut out at one place."""
    x = images(400)
    shifted = RandomShift(pixels)(x)
    assert shifted.shape == x.shape
    padded, seen = F.pad(x, (pixels,) * 4), set()
    places = [(i, j) for i in range(2 * pixels + 1) for j in range(2 * pixels + 1)]
    for n in range(len(x)):
        found = [
            (i, j)
            for i, j in places
            if torch.equal(padded[n, :, i : i + 9, j : j + 7], shifted[n])
        ]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) > 0.9 * len(places) or pixels == 3
    assert (0, 0) in seen or pixels == 3


def test_shifts_differ_between_images_and_calls():
    """No two calls give the same; a seed repeats them."""
    x, shift = images(), RandomShift(2)
    torch.manual_seed(0)
    first, second = shift(x), shift(x)
    torch.manual_seed(0)
    assert torch.equal(first, shift(x)) and not torch.equal(first, second)


@pytest.mark.parametrize("layer", [RandomShift(2), RandomFlip()])
def test_augmentation_is_off_in_evaluation_and_passes_gradients(layer):
    """eval(): the input itself. train(): each kept pixel's gradient is one."""
    x = images().requires_grad_()
    assert layer.eval()(x) is x
    out = layer.train()(x)
    out.sum().backward()
    assert set(x.grad.unique().tolist()) <= {0.0, 1.0} and x.grad.mean() > 0.5
    assert RandomShift(0)(x) is x


def test_flips_are_about_half_and_whole_images():
    """Each image is itself or its mirror image, about as many of both."""
    x = images(1000)
    torch.manual_seed(0)
    flipped = RandomFlip()(x)
    same = (flipped == x).flatten(1).all(1)
    mirrored = (flipped == x.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all() and 430 < mirrored.sum() < 570


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (r1a, 58_730),
        (r1b, 45_020),
        (lambda: mlp(784, 512, 512, 10), 669_706),
        (lambda: mlp(784, 100, 10), 79_510),
        (r3, 300_426),
        (r4, 280_186),
    ],
    ids=["R1a", "R1b", "R2", "R5", "R3", "R4"],
)
def test_published_networks_have_their_parameters(network, parameters):
    """The numbers published for R1a, R1b, R2, R5; for R3 and R4 what their layers
    give."""
    assert sum(p.numel() for p in network().parameters()) == parameters


@pytest.mark.parametrize("network", [r1a, r1b, r3])
def test_published_networks_end_in_log_probabilities(network):
    """exp of the output sums to one, so NLL on it is cross-entropy."""
    out = network()(torch.randn(5, 1, 28, 28))
    assert out.shape == (5, 10)
    torch.testing.assert_close(out.exp().sum(1), torch.ones(5))


@pytest.mark.parametrize(
    "groups", [((4,), (6,), (8,)), ((4,), (6, 6), (8,)), ((4, 4), (4, 4))]
)
def test_cnn_is_the_layers_that_it_says(groups):
    """By torch.nn.functional, layer for layer: convolution, pool at a group's end,
    norm, ReLU."""
    torch.manual_seed(0)
    model = cnn(*groups).eval()
    x = a = torch.randn(3, 1, 28, 28)
    layers = [m for m in model if list(m.parameters())]
    convolutions, norms, last = layers[:-1:2], layers[1:-1:2], layers[-1]
    ends = {sum(map(len, groups[: g + 1])) for g in range(len(groups) - 1)}
    for k, (conv, norm) in enumerate(zip(convolutions, norms, strict=True), 1):
        assert conv.kernel_size == ((5, 5) if k == 1 else (3, 3))
        a = F.conv2d(a, conv.weight)
        a = F.max_pool2d(a, 2) if k in ends else a
        a = F.relu(
            F.batch_norm(a, norm.running_mean, norm.running_var, norm.weight, norm.bias)
        )
    logits = F.linear(a.amax((2, 3)), last.weight, last.bias)
    torch.testing.assert_close(model(x), logits)
    assert [c.out_channels for c in convolutions] == [c for g in groups for c in g]


def test_cnn_padded_and_flat_keeps_every_place():
    """28, 14, 7: with padding only pools shrink; the classifier sees every place."""
    model = cnn((4,), (6,), (8,), kernel=3, padded=True, flatten=True, dropout=0.3)
    assert model[-1].in_features == 8 * 7 * 7 and isinstance(model[-2], torch.nn.Dropout)
    assert all(m.training for m in model) and model(torch.zeros(2, 1, 28, 28)).shape == (
        2,
        10,
    )
    small = cnn((4,), (8,), augment=[Crop(24)], flatten=True, size=24)
    assert small[-1].in_features == 8 * 8 * 8 and small(
        torch.zeros(2, 1, 28, 28)
    ).shape == (2, 10)


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_crop_is_the_middle_or_up_to_shift_beside_it(shift):
    """Evaluation: the middle. Training: each image cut out at one of the possible
    places."""
    x = torch.randn(300, 2, 12, 12, generator=torch.Generator().manual_seed(0))
    crop, seen = Crop(8, shift), set()
    assert torch.equal(crop.eval()(x), x[:, :, 2:10, 2:10])
    cut = crop.train()(x)
    for n in range(len(x)):
        places = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if torch.equal(x[n, :, i : i + 8, j : j + 8], cut[n])
        ]
        assert len(places) == 1
        seen.add(places[0])
    near = range(2 - shift, 3 + shift)
    assert seen == {(i, j) for i in near for j in near}


def test_cnn_augments_in_training_only():
    """The layers given act first, and leave evaluation alone."""
    torch.manual_seed(0)
    model = cnn((4,), (8,), augment=[RandomShift(2), RandomFlip()])
    x = torch.randn(8, 1, 28, 28)
    model.eval()
    assert torch.equal(model(x), model(x))
    model.train()
    assert not torch.equal(model(x), model(x))


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_cosine_filters_are_the_cosine_transform(k):
    """Equal to scipy's orthonormal DCT of every window, but for the constant one; both
    signs."""
    filters = cosine_filters(k)
    assert filters.shape == (2 * k * k - 2, 1, k, k)
    windows = torch.randn(20, k, k, generator=torch.Generator().manual_seed(k))
    answers = torch.einsum("nyx,fyx->nf", windows, filters[:, 0])
    theirs = torch.from_numpy(dctn(windows.numpy(), axes=(1, 2), norm="ortho"))
    half = k * k - 1
    torch.testing.assert_close(
        answers[:, :half], theirs.flatten(1)[:, 1:], atol=1e-5, rtol=1e-5
    )
    assert torch.equal(filters[half:], -filters[:half])
    torch.testing.assert_close(
        filters.sum((2, 3)), torch.zeros(2 * half, 1), atol=1e-6, rtol=0
    )


def test_fix_first_is_never_trained():
    """Its filters stay to the bit under weight decay; all the rest learns; it is in
    the state."""
    torch.manual_seed(0)
    model = fix_first(cnn((16,), (4,), kernel=3, augment=[RandomFlip()]))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    F.cross_entropy(model(torch.randn(8, 1, 28, 28)), torch.arange(8)).backward()
    optimizer.step()
    same = [name for name, p in model.named_parameters() if torch.equal(p, before[name])]
    assert same == ["1.weight"] and "1.weight" in model.state_dict()
    assert torch.equal(model[1].weight, cosine_filters())
    below = model[1](torch.randn(2, 1, 28, 28))
    assert not below.requires_grad and model[3](below).requires_grad  # from batch norm on


@pytest.mark.parametrize("groups, kernel", [(((8,), (4,)), 3), (((16,), (4,)), 5)])
def test_fix_first_says_what_does_not_fit(groups, kernel):
    with pytest.raises(
        ValueError, match=f"of {kernel}×{kernel} must be 1→{2 * kernel**2 - 2} "
    ):
        fix_first(cnn(*groups, kernel=kernel))


# What the first example of each listing gives, layer by layer, where its shape changes.
SHAPES = {
    r1a: [(1, 26, 26), (1, 24, 24), (576,), (100,), (10,)],
    r1b: [(20, 24, 24), (20, 12, 12), (30, 8, 8), (30, 4, 4), (480,), (60,), (10,)],
    r3: [(16, 26, 26), (32, 24, 24), (32, 12, 12), (4608,), (64,), (10,)],
    r4: [(16, 28, 28), (16, 14, 14), (32, 12, 12), (32, 10, 10), (32, 5, 5), (800,)]
    + [(256,), (128,), (10,)],
}


@pytest.mark.parametrize("network", SHAPES, ids=lambda network: network.__name__)
def test_published_networks_have_the_shapes_of_their_listings(network):
    """After every layer: another padding may give as many features, and another
    network."""
    x, seen = torch.zeros(2, 1, 28, 28), []
    for layer in network().eval():
        x = layer(x)
        if not seen or seen[-1] != tuple(x.shape[1:]):
            seen.append(tuple(x.shape[1:]))
    assert seen == SHAPES[network]


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_a_padded_convolution_keeps_the_size(kernel):
    """Whatever the first kernel is."""
    first = cnn((2,), kernel=kernel, padded=True)[0]
    assert first(torch.zeros(1, 1, 28, 28)).shape == (1, 2, 28, 28)


def test_a_crop_that_never_moves_draws_nothing():
    """In training too: the random numbers of the rest stay the same."""
    state = torch.get_rng_state()
    Crop(24).train()(torch.zeros(2, 1, 28, 28))
    assert torch.equal(state, torch.get_rng_state())


def test_a_crop_that_would_leave_the_image_is_refused():
    """26 pixels, moved by up to 2, need 30; moved by 1, they are all of 28."""
    Crop(26, shift=1)(torch.zeros(2, 1, 28, 28))
    with pytest.raises(ValueError, match="needs images of 30 pixels"):
        Crop(26, shift=2)(torch.zeros(2, 1, 28, 28))


def test_the_mean_of_an_image_and_its_mirror_image():
    """Probabilities of both, averaged: they add up to one, and mirrored images get the
    same."""
    torch.manual_seed(0)
    model = mlp(63, 5).eval()
    x = images(8, channels=1)
    found = MirrorAverage(model)(x)
    left, right = (F.softmax(model(part), dim=1) for part in (x, x.flip(-1)))
    assert torch.allclose(found.exp(), (left + right) / 2, atol=1e-6)
    assert torch.allclose(found.exp().sum(1), torch.ones(8))
    assert torch.allclose(found, MirrorAverage(model)(x.flip(-1)), atol=1e-6)


def test_cnn_has_dropout_where_it_is_asked_for():
    """Before the last layer, with the given share; none by default."""
    for share in (0.25, 1.0):
        layers = list(cnn((2,), (3,), flatten=True, dropout=share))
        assert isinstance(layers[-2], nn.Dropout) and layers[-2].p == share
    assert not [m for m in cnn((2,)).modules() if isinstance(m, nn.Dropout)]


def test_cnn_looks_at_28_pixels_where_no_size_is_given():
    """Flattened, so that another size would not fit."""
    assert cnn((2,), flatten=True)(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
