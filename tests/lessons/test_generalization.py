"""The lesson on generalization: its equations, its functions, and what its text says.

What a boxed equation says is what comes out when all cases are gone through.
"""

import ast
import itertools
import math
import statistics
from types import SimpleNamespace

import numpy as np
import pytest
import scipy  # its parts are imported when they are used
import torch
from lesson_source import cells, close, definitions
from torch import nn

from lessons_src.data import Split

LESSON = "generalization"
FUNCTIONS = ("adam", "train", "fit_early", "epochs_until", "standard_error", "best_of")


def split_of(n=200, seed=0):
    """n small images with labels that can be learned."""
    images = torch.randn(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed))
    return Split(images, images.flatten(1)[:, :3].argmax(1))


@pytest.fixture
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS, validation=split_of(seed=1))


# Boxed equations ------------------------------------------------------------------------


def test_eq_accuracy_error(page):
    """Equal to the standard deviation of a binomial share, outcome by outcome."""
    for p, n in ((0.3, 1), (0.5, 7), (0.99, 40), (1.0, 3), (0.0, 3)):
        chance = scipy.stats.binom.pmf(np.arange(n + 1), n, p)
        share = np.arange(n + 1) / n
        mean = chance @ share
        close(mean, p)
        close(page["standard_error"](p, n), (chance @ (share - mean) ** 2) ** 0.5)


def test_eq_two_spreads():
    """Exact for a true accuracy of two values: the variance of a mixture of
    two binomials."""
    for N, P in ((1, (0.2, 0.9)), (7, (0.3, 0.5)), (50, (0.99, 1.0))):
        k = np.arange(N + 1)
        weights = (
            scipy.stats.binom.pmf(k, N, P[0]) + scipy.stats.binom.pmf(k, N, P[1])
        ) / 2
        exact = weights @ (k / N) ** 2 - (weights @ (k / N)) ** 2
        mu, tau2 = statistics.fmean(P), statistics.pvariance(P)
        close(exact, tau2 + (mu * (1 - mu) - tau2) / N)


def largest_of(k, n, p):
    """The expected largest of k independent scores, each of n answers right with p."""
    below = scipy.stats.binom.cdf(np.arange(n + 1), n, p)  # P(score <= i / n)
    chance = np.diff(np.concatenate([[0], below**k]))  # P(max == i / n)
    return chance @ np.arange(n + 1) / n


def test_eq_best_of_many():
    """The largest of k scores stays, on average, under the bound, whatever they are
    truly worth; for coins it comes near to it."""
    for n, k in itertools.product((20, 100, 1000), (1, 2, 10, 100, 10_000)):
        bound = math.sqrt(math.log(k) / (2 * n))
        for p in (0.01, 0.3, 0.5, 0.9, 0.993):
            assert largest_of(k, n, p) <= p + bound + 1e-9
        assert k < 10 or largest_of(k, n, 0.5) - 0.5 > 0.6 * bound


def test_the_bound_needs_neither_independence_nor_equals():
    """On one test split, with classifiers that share most answers or are of different
    worth, the bound holds too."""
    rng, n, k = np.random.default_rng(0), 50, 30
    common = rng.random((2000, 1, n))
    own = rng.random((2000, k, n))
    for shared in (0.0, 0.5, 0.95):
        use_common = rng.random((2000, k, n)) < shared
        luck = np.where(use_common, common, own)
        for worth in (np.full(k, 0.8), np.linspace(0.5, 0.8, k)):
            best = (luck < worth[:, None]).mean(2).max(1).mean()
            assert best <= 0.8 + math.sqrt(math.log(k) / (2 * n))


def test_the_bound_needs_its_hypotheses():
    """It fails for scores of the same standard deviation that are no means of n
    answers, and for a classifier that was not fixed before the test."""
    k, n = 100, 100
    bound, sigma, rare = math.sqrt(math.log(k) / (2 * n)), 0.5 / math.sqrt(n), 0.01
    high = sigma * math.sqrt((1 - rare) / rare)  # a law of two points, with mean 0
    low = -sigma * math.sqrt(rare / (1 - rare))
    close(rare * high + (1 - rare) * low, 0)
    close(rare * high**2 + (1 - rare) * low**2, sigma**2)
    none_is_high = (1 - rare) ** k
    assert (1 - none_is_high) * high + none_is_high * low > bound
    assert 0.5 + bound < 1.0  # one that has seen the answers to coins


def test_eq_expected_maximum(page):
    """Equal to going over all outcomes of all runs; for one run the mean is Np."""
    for p, N, n in ((0.3, 4, 1), (0.3, 4, 2), (0.9, 3, 4)):
        weights = scipy.stats.binom.pmf(np.arange(N + 1), N, p)
        exact = sum(
            np.prod([weights[k] for k in outcome]) * max(outcome)
            for outcome in itertools.product(range(N + 1), repeat=n)
        )
        close(page["best_of"](p, N, n), exact / N)
    for p in (0.0, 1e-9, 0.5, 1 - 1e-9, 1.0):
        close(page["best_of"](p, 10_000, 1), p)
        assert p - 1e-12 <= page["best_of"](p, 10_000, 10) <= 1


# The page's functions -------------------------------------------------------------------


def source_of(name, lesson=LESSON):
    """The text of a function or class on the page, decorators included."""
    for cell in cells(lesson):
        skip = {"exercise", "solution"} & set(cell.metadata.get("tags", []))
        if cell.cell_type != "code" or skip:
            continue
        for node in ast.parse(cell.source).body:
            if getattr(node, "name", "") == name:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                return "\n".join(cell.source.splitlines()[first - 1 : node.end_lineno])
    raise LookupError(name)


def early_run(page):
    """The validation losses of 25 epochs, and that of the weights which fit_early
    leaves."""
    losses, evaluate = [], page["evaluate"]

    def recorded(model, split, **options):
        losses.append(evaluate(model, split, **options)[0])
        return losses[-1], 0.0

    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 3))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    page = {**page, "evaluate": recorded}
    exec(source_of("fit_early"), page)
    page["fit_early"](model, split_of(60), 25, optimizer, progress=False)
    return losses, evaluate(model, page["validation"])[0]


def test_fit_early_puts_the_best_weights_back(page):
    """The weights that come back have the lowest validation loss of all epochs, to the
    digit."""
    losses, kept = early_run(page)
    assert len(losses) == 25 and kept == min(losses) < losses[-1]


def test_epochs_until():
    """Counted from 1; one past the last if the share is never reached."""
    epochs_until = definitions(LESSON, "epochs_until")["epochs_until"]
    history = SimpleNamespace(accuracy=[0.5, 0.9, 0.8])
    assert [epochs_until(history, share) for share in (0.4, 0.9, 0.95)] == [1, 2, 4]


def test_stopping_is_the_same_training(page):
    """Epoch by epoch with one generator: the weights go the same way as in one call, so
    the loss that is kept is the lowest of that history."""
    runs = []
    for early in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3)
        )
        if early:
            page["fit_early"](
                model,
                split_of(300),
                8,
                page["adam"](model),
                batch_size=100,
                generator=torch.Generator().manual_seed(0),
                progress=False,
            )
            runs.append(page["evaluate"](model, page["validation"])[0])
        else:
            history = page["train"](model, split_of(300), 8, test=page["validation"])
            runs.append(min(history.test_loss))
    close(runs[1], runs[0], 1e-6)


def test_the_test_split_is_never_read():
    """The page says so."""
    code = [cell.source for cell in cells(LESSON) if cell.cell_type == "code"]
    assert not any("mnist.test" in source for source in code)
