"""The lesson on attacks and calibration: its equations, and what its functions promise,
against torch, SciPy and brute force."""

import itertools

import pytest
import scipy
import torch
import torch.nn.functional as F
from lesson_source import broken, cells, close, definitions, drawn
from torch import nn

LESSON = "fooled_and_unsure"
ATTACK = ("gradient", "one_step", "noise", "lead", "many_steps", "smallest_flip")
SURE = ("answers", "reliability", "ece", "fit_temperature")
TILES = ("shuffled_tiles",)
SIZES = (0.0, 0.01, 0.15, 0.5, 1.0)


@pytest.fixture
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *ATTACK, *SURE, *TILES)


def network(seed=0, classes=4, scale=3.0):
    """A small network with large random weights: its surface is far from flat."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(36, 64),
        nn.ReLU(),
        nn.Linear(64, 64),
        nn.ReLU(),
        nn.Linear(64, classes),
    ).double()
    for p in model.parameters():
        p.data *= scale
    return model


def images(n=40, seed=0, classes=4):
    """Images with pixels from 0 to 1, some of them exactly 0 or 1, and labels."""
    x = (drawn((n, 1, 6, 6), seed=seed) + 0.5).clamp(0, 1)
    return x, torch.arange(n) % classes


# Boxed equations ------------------------------------------------------------------------


def test_eq_worst_change():
    """Equal to the largest value over all corners of the box, and no point inside it
    gives more."""
    for seed in range(5):
        g, eps = drawn((7,), seed=seed), 0.3
        corners = torch.tensor(list(itertools.product((-1, 1), repeat=7))).double()
        close((eps * corners @ g).max(), eps * g.abs().sum())
        close(g @ (eps * g.sign()), eps * g.abs().sum())
        inside = eps * (2 * torch.rand(1000, 7).double() - 1)
        assert (inside @ g).max() <= eps * g.abs().sum()


def test_eq_random_change():
    """Equal to the standard deviation over all patterns of signs, each equally likely."""
    for seed in range(5):
        g, eps = drawn((9,), seed=seed), 0.2
        signs = torch.tensor(list(itertools.product((-1, 1), repeat=9))).double()
        changes = eps * signs @ g
        close(changes.mean(), 0)
        close(changes.std(correction=0), eps * g.square().sum().sqrt())


def test_equal_entries_give_the_root_of_the_dimension():
    """784 entries of one size: the worst change is 28 times the random one, and no
    gradient has a larger ratio."""
    g = torch.full((784,), 0.3).double()
    close(g.abs().sum() / g.norm(), 28)
    for seed in range(5):
        g = drawn((784,), seed=seed)
        assert g.abs().sum() / g.norm() <= 28


def test_eq_temperature_slope():
    """Equal to autograd's derivative with respect to 1/T, which never falls as 1/T
    grows."""
    z, y = 5 * drawn((50, 6)), torch.arange(50) % 6
    slopes = []
    for beta in torch.logspace(-2, 2, 40).double():
        b = beta.clone().requires_grad_()
        (exact,) = torch.autograd.grad(F.cross_entropy(b * z, y), b)
        p = (beta * z).softmax(1)
        slope = ((p * z).sum(1) - z[torch.arange(50), y]).mean()
        close(slope, exact)
        slopes.append(slope)
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(slopes))


def test_each_right_answer_lowers_the_slope():
    """What an image adds is below 0 where its label has the largest logit, at every
    temperature; where another one is larger, above 0 once the temperature is low."""
    z = 5 * drawn((200, 6))
    largest, others = z.argmax(1), z.argsort(1)[:, 2]
    for T in (0.01, 0.5, 1.0, 2.0, 50.0):
        m = ((z / T).softmax(1) * z).sum(1)
        assert (m <= z.gather(1, largest[:, None])[:, 0]).all()
    m = ((z / 0.01).softmax(1) * z).sum(1)
    assert (m > z.gather(1, others[:, None])[:, 0]).all()


# Attacks --------------------------------------------------------------------------------


def test_gradient_is_each_images_own(page):
    """Equal to the gradient of each image alone; weights get no gradient, and the images
    do not begin to ask for one."""
    model, (x, y) = network(), images(5)
    together = page["gradient"](model, x, y)
    for k in range(5):
        own = x[k : k + 1].clone().requires_grad_()
        F.cross_entropy(model(own), y[k : k + 1]).backward()
        close(together[k], own.grad[0])
    model.zero_grad(set_to_none=True)
    page["gradient"](model, x, y)
    assert not x.requires_grad and all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", ["one_step", "many_steps"])
def test_eps_0_changes_nothing(page, name):
    """The image comes back to the bit, so that the accuracy at 0 is the known one."""
    model, (x, y) = network(), images()
    assert torch.equal(page[name](model, x, y, 0), x)
    assert torch.equal(page["noise"](x, 0), x)


@pytest.mark.parametrize("eps", SIZES)
def test_no_pixel_moves_by_more_than_eps_or_leaves_the_range(page, eps):
    """|δ| <= ε and 0 <= pixel <= 1, for noise, one step and many."""
    for seed in range(3):
        model, (x, y) = network(seed), images(seed=seed)
        for moved in (
            page["noise"](x, eps),
            page["one_step"](model, x, y, eps),
            page["many_steps"](model, x, y, eps),
        ):
            assert (moved - x).abs().max() <= eps + 1e-7
            assert moved.min() >= 0 and moved.max() <= 1


@pytest.mark.parametrize("eps", SIZES)
def test_many_steps_do_at_least_the_harm_of_one(page, eps):
    """For each image, the lead of the right class is no larger; with more steps it does
    not grow; and an image that one step flips stays flipped."""
    for seed in range(3):
        model, (x, y) = network(seed), images(seed=seed)
        leads = [page["lead"](model(page["one_step"](model, x, y, eps)), y)]
        for steps in (1, 2, 5, 10):
            moved = page["many_steps"](model, x, y, eps, steps)
            leads.append(page["lead"](model(moved), y))
        for weaker, stronger in itertools.pairwise(leads):
            assert (stronger <= weaker + 1e-9).all()


def test_many_steps_find_more(page):
    """Where the surface is far from flat, they flip images that one step does not."""
    model, (x, y) = network(), images(200)
    y = model(x).argmax(1)
    one = page["lead"](model(page["one_step"](model, x, y, 0.1)), y) < 0
    many = page["lead"](model(page["many_steps"](model, x, y, 0.1)), y) < 0
    assert many.sum() > one.sum()


def test_many_steps_reach_the_worst_corner_of_a_linear_network(page):
    """With two classes and no clamp in the way, the lead falls by exactly ε Σ |w|."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double()
    x, y = torch.full((4, 1, 6, 6), 0.5).double(), torch.tensor([0, 1, 0, 1])
    w = model[1].weight[0] - model[1].weight[1]
    for attack in ("one_step", "many_steps"):
        moved = page[attack](model, x, y, 0.2)
        fallen = page["lead"](model(x), y) - page["lead"](model(moved), y)
        close(fallen.detach(), (0.2 * w.abs().sum()).detach().expand(4))


def test_noise_has_the_size_of_a_step(page):
    """Before the clamp, every pixel moves by exactly ε, half of them up."""
    moved = page["noise"](torch.full((20, 1, 28, 28), 0.5), 0.2) - 0.5
    close(moved.abs(), torch.full_like(moved, 0.2), 1e-6)
    assert 0.45 < (moved > 0).float().mean() < 0.55


def test_lead_is_below_0_exactly_where_the_answer_is_wrong(page):
    """It is the right logit less the largest other one, also where all are huge."""
    z, y = 1e6 * drawn((200, 5)), torch.arange(200) % 5
    leads = page["lead"](z, y)
    assert torch.equal(leads < 0, z.argmax(1) != y)
    for row, k, got in zip(z, y, leads, strict=True):
        others = [v for j, v in enumerate(row.tolist()) if j != k]
        close(got, row[k].item() - max(others))


def test_smallest_flip_is_exact_where_the_answer_is_known(page):
    """A linear network of two classes flips at lead / Σ |w|, to 1/256; and what it
    reports, the attack achieves."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 2)).double()
    x = 0.5 + 0.05 * drawn((30, 1, 6, 6)).clamp(-1, 1)
    y = model(x).argmax(1)
    w = (model[1].weight[0] - model[1].weight[1]).abs().sum()
    exact = page["lead"](model(x), y) / w
    assert exact.max() < 0.4  # no clamp stands in the way
    found = page["smallest_flip"](model, x, y, halvings=8).double()
    assert ((found - exact).abs() <= 1 / 256 + 1e-9).all()
    moved = page["many_steps"](model, x, y, found[:, None, None, None])
    assert (page["lead"](model(moved), y) < 1e-9).all()


def test_a_cold_network_hides_its_gradient(page):
    """Logits times 100 in float32: the same answers, a gradient that is exactly 0, and
    an attack that finds nothing, though images made elsewhere still fool it."""
    model, (x, y) = network(scale=5.0).float(), images(100)
    x = x.float()
    y = model(x).argmax(1)
    sure = page["lead"](model(x), y) > 1.2
    x, y = x[sure], y[sure]

    def cold(x):
        return 100 * model(x)

    assert len(x) > 20 and (page["gradient"](cold, x, y) == 0).all()
    assert torch.equal(page["many_steps"](cold, x, y, 0.2), x)
    moved = page["many_steps"](model, x, y, 0.2)
    assert (page["lead"](cold(moved), y) < 0).any()


# Calibration ----------------------------------------------------------------------------


def test_reliability_counts_every_answer_once(page):
    """Counts, means and shares equal those of a loop over the bins, certainty 1
    included; an empty bin is nan."""
    certainty = torch.cat(
        [
            torch.rand(300, generator=torch.Generator().manual_seed(0)),
            torch.tensor([0.0, 1.0, 1.0, 0.5]),
        ]
    )
    right = (torch.arange(304) % 3 > 0).float()
    for bins in (1, 2, 7, 10, 100, 1000):
        count, claimed, achieved = page["reliability"](certainty, right, bins)
        assert count.sum() == 304 and len(count) == bins
        for b in range(bins):
            # The last bin is closed above; borders as float32 multiplies them.
            scaled = certainty * bins
            inside = (scaled >= b) & ((scaled < b + 1) | (b == bins - 1))
            assert count[b] == inside.sum()
            if count[b]:
                close(claimed[b], certainty[inside].double().mean(), 1e-6)
                close(achieved[b], right[inside].double().mean(), 1e-6)
            else:
                assert claimed[b].isnan() and achieved[b].isnan()


def test_ece_of_known_cases(page):
    """0 where claims are kept exactly, the gap where they are missed by one amount, and
    never below |mean claim - accuracy|, which it equals with one bin."""
    kept = torch.tensor([0.75] * 4), torch.tensor([1.0, 1, 1, 0])
    close(page["ece"](*kept), 0, 1e-6)
    close(page["ece"](torch.full((10,), 0.95), torch.ones(10)), 0.05, 1e-6)
    certainty = torch.rand(500, generator=torch.Generator().manual_seed(1))
    right = (torch.arange(500) % 2).float()
    plain = (certainty.mean() - right.mean()).abs().item()
    close(page["ece"](certainty, right, 1), plain, 1e-5)
    for bins in (5, 15, 100):
        assert page["ece"](certainty, right, bins) >= plain - 1e-6


def test_ece_rises_as_bins_are_split(page):
    """Splitting each bin in two never lowers it (the triangle inequality)."""
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        certainty = torch.rand(400, generator=generator)
        right = (torch.rand(400, generator=generator) < certainty).float()
        values = [page["ece"](certainty, right, bins) for bins in (4, 8, 16, 32, 64)]
        assert all(a <= b + 1e-6 for a, b in itertools.pairwise(values))


def logits_and_labels(T=1.0, n=4000, K=10, seed=0):
    """Logits, and labels that softmax(logits / T) draws: T is the true temperature."""
    z = 3 * drawn((n, K), seed=seed)
    generator = torch.Generator().manual_seed(1000 + seed)  # not the one of z
    return z, torch.multinomial((z / T).softmax(1), 1, generator=generator)[:, 0]


def nll(z, y, T):
    return F.cross_entropy(z / T, y).item()


def test_accuracy_is_unchanged(page):
    """Dividing by the fitted T moves no answer."""
    for true in (0.3, 1.0, 4.0):
        z, y = logits_and_labels(true)
        T = page["fit_temperature"](z, y)
        assert torch.equal((z / T).argmax(1), z.argmax(1))


def test_nll_on_the_fitting_split_never_rises(page):
    """Not for any of many logits and labels, calibrated, absurd, few, or all right."""
    for seed in range(30):
        z, y = logits_and_labels((0.2, 1.0, 5.0)[seed % 3], n=1 + 7 * seed, seed=seed)
        if seed % 5 == 0:
            y = torch.arange(len(y)) % 10  # labels that the logits know nothing of
        T = page["fit_temperature"](z, y)
        assert 0.01 <= T <= 100
        assert nll(z, y, T) <= nll(z, y, 1) + 1e-12
    z, y = logits_and_labels()
    y = z.argmax(1)  # all right: the colder the better
    assert nll(z, y, page["fit_temperature"](z, y)) <= nll(z, y, 1)


def test_the_temperature_is_scipys(page):
    """Equal to the minimum that SciPy finds in log T, to six digits, in float32 too."""
    for true in (0.5, 1.0, 2.5):
        z, y = logits_and_labels(true, n=500)
        best = scipy.optimize.minimize_scalar(
            lambda t, z=z, y=y: nll(z, y, torch.tensor(t).exp()),
            bounds=(-4, 4),
            method="bounded",
            options={"xatol": 1e-10},
        )
        close(page["fit_temperature"](z, y), torch.tensor(best.x).exp(), 1e-5)
        close(page["fit_temperature"](z.float(), y), page["fit_temperature"](z, y), 1e-5)


@pytest.mark.slow
def test_a_known_temperature_is_recovered(page):
    """Labels drawn at T give T back, up to their chance; logits times c give c T, to
    nine digits."""
    for true in (0.5, 1.0, 2.0, 3.0):
        z, y = logits_and_labels(true, n=20_000)
        T = page["fit_temperature"](z, y)
        assert abs(T / true - 1) < 0.05
        for c in (0.5, 3.0, 10.0):
            close(page["fit_temperature"](c * z, y) / T, c)


def test_more_bins_and_fewer_answers_make_perfection_look_bad(page):
    """What the page says of ECE, averaged over many draws of calibrated answers."""
    generator = torch.Generator().manual_seed(0)
    certainty = 0.5 + 0.5 * torch.rand(10_000, generator=generator)
    perfect = (torch.rand(10_000, generator=generator) < certainty).float()
    low = page["ece"](certainty, perfect, 5)
    high = sum(
        page["ece"](certainty[k : k + 500], perfect[k : k + 500], 100)
        for k in range(0, 10_000, 500)
    )
    assert low < 0.02 and high / 20 > 0.1


def test_shuffled_tiles_hold_the_same_pixels(page):
    """Sixteen tiles of 7×7, each whole, the same order in every image, not the old one."""
    x = torch.arange(2 * 784.0).view(2, 1, 28, 28)
    moved = page["shuffled_tiles"](x)
    assert moved.shape == x.shape and not moved.equal(x)

    def tiles(images):
        rows = [
            images[:, 0, k : k + 7, j : j + 7]
            for k in range(0, 28, 7)
            for j in range(0, 28, 7)
        ]
        return torch.stack(rows, 1)  # (2, 16, 7, 7)

    old, new = tiles(x), tiles(moved)
    same = (new[0, :, None] == old[0]).all((2, 3))  # (16, 16)
    assert (same.sum(0) == 1).all() and (same.sum(1) == 1).all()
    order = same.int().argmax(1)
    assert new.equal(old[:, order])


# What the page says ---------------------------------------------------------------------


def test_what_is_chosen_is_chosen_on_validation_images():
    """The temperature and the threshold are fitted to the held-out part of the training
    split, and no network trains on the test split."""
    code = "\n".join(cell.source for cell in cells(LESSON) if cell.cell_type == "code")
    assert "T = fit_temperature(held_logits, validation.labels)" in code
    assert "threshold = answers(held_logits, validation.labels, T)" in code
    assert "fit(model, test" not in code and "fit_temperature(test" not in code


# These tests can fail ---------------------------------------------------------------

# A function of the page, what stands in it and what in its place -> the test that finds it.
IN_RANGE = test_no_pixel_moves_by_more_than_eps_or_leaves_the_range, {"eps": 0.5}
BROKEN = [
    ("one_step", ".clamp(0, 1)", "", *IN_RANGE),
    ("noise", ".clamp(0, 1)", "", *IN_RANGE),
    ("many_steps", ".clamp(0, 1)", "", *IN_RANGE),
    ("many_steps", ".clamp(x - eps, x + eps)", "", *IN_RANGE),
    (
        "many_steps",
        "leads < least",
        "leads > least",
        test_many_steps_do_at_least_the_harm_of_one,
        {"eps": 0.15},
    ),
    (
        "many_steps",
        "eps / k",
        "eps / (k + 1)",
        test_many_steps_do_at_least_the_harm_of_one,
        {"eps": 0.15},
    ),
    (
        "one_step",
        "x + eps",
        "x - eps",
        test_many_steps_reach_the_worst_corner_of_a_linear_network,
        {},
    ),
    (
        "gradient",
        'reduction="sum"',
        'reduction="mean"',
        test_gradient_is_each_images_own,
        {},
    ),
    ("noise", "2 * coins - 1", "coins", test_noise_has_the_size_of_a_step, {}),
    (
        "lead",
        "-torch.inf",
        "0.0",
        test_lead_is_below_0_exactly_where_the_answer_is_wrong,
        {},
    ),
    (
        "smallest_flip",
        "(flipped, low, middle)",
        "(flipped, middle, low)",
        test_smallest_flip_is_exact_where_the_answer_is_known,
        {},
    ),
    (
        "reliability",
        "bincount(right",
        "bincount(certainty",
        test_reliability_counts_every_answer_once,
        {},
    ),
    ("ece", "(gap * count)", "gap", test_ece_of_known_cases, {}),
    (
        "fit_temperature",
        "slope > 0",
        "slope < 0",
        test_a_known_temperature_is_recovered,
        {},
    ),
    ("fit_temperature", "range(60)", "range(6)", test_the_temperature_is_scipys, {}),
    (
        "shuffled_tiles",
        "stride=7)  # (B, 49, 16)",
        "stride=7).flip(1)  # (B, 49, 16)",
        test_shuffled_tiles_hold_the_same_pixels,
        {},
    ),
    (
        "one_step",
        "x + eps *",
        "x + (eps + 0.01) *",
        test_eps_0_changes_nothing,
        {"name": "one_step"},
    ),
    (
        "many_steps",
        "moved, worst, least = x, x,",
        "moved, worst, least = x + 0.01, x,",
        test_eps_0_changes_nothing,
        {"name": "many_steps"},
    ),
    (
        "noise",
        "x + eps *",
        "x + (eps + 0.01) *",
        test_eps_0_changes_nothing,
        {"name": "one_step"},
    ),
    ("fit_temperature", "return T", "return -T", test_accuracy_is_unchanged, {}),
    (
        "fit_temperature",
        "return T",
        "return 3 * T",
        test_nll_on_the_fitting_split_never_rises,
        {},
    ),
]


@pytest.mark.parametrize("function, old, new, test, arguments", BROKEN)
def test_a_broken_form_fails(page, function, old, new, test, arguments):
    """Each comparison refuses a form of the page's function that is wrong in one place."""
    broken(page, LESSON, function, old, new)
    with pytest.raises(AssertionError):
        test(page, **arguments)
