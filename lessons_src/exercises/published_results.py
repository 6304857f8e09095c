"""Exercises of lesson 13: published results, spread, and the best of many."""

import itertools
import math
import statistics

import torch

from lessons_src.exercises import exercise


def _as_text(answer):
    """Each set of words as a line of text, in the order of the alphabet."""
    given = answer()
    if not isinstance(given, dict):
        return given
    sets = set | frozenset | list | tuple
    return {
        recipe: ", ".join(sorted(map(str, words))) if isinstance(words, sets) else words
        for recipe, words in given.items()
    }


_OPEN = {"R1b": {"optimiser", "seed"}, "R2": {"seed"}, "R5": {"normalisation", "seed"}}


@exercise(
    cases={"Values 1, 2, 3 are R1b, R2, R5: go through the five words for each.": ()},
    mistakes={
        "R1's block names no optimiser.": lambda: _OPEN | {"R1b": {"seed"}},
        "R2's pixels are scaled to 0…1, which is a statement.": (
            lambda: _OPEN | {"R2": {"normalisation", "seed"}}
        ),
        "R5's block says nothing about pixels.": lambda: _OPEN | {"R5": {"seed"}},
        "Of all recipes only R3 names a seed.": (
            lambda: {recipe: words - {"seed"} for recipe, words in _OPEN.items()}
        ),
    },
    observe=_as_text,
)
def left_open():
    """For each recipe the words that its block leaves open."""
    return _OPEN


def _reported(middle=statistics.fmean, spread=statistics.stdev, root=True, of_s=False):
    """`report` with a mistake: another middle or spread, s not over √n, or t times s."""

    def report(values, t):
        mean = middle(values)
        if len(values) == 1:
            return mean, math.nan, math.nan, math.nan
        s = spread(values)
        se = s / len(values) ** 0.5 if root else s
        reach = t * (s if of_s else se)
        return mean, se, mean - reach, mean + reach

    return report


@exercise(
    inputs=lambda draw: (
        [draw.uniform() ** 3 for _ in range(1 + draw.size)],
        draw.uniform(1.5, 5),
    ),
    cases={"One value has no spread: three times float('nan').": ([0.9937], 1.0)},
    mistakes={
        "s² divides by n − 1.": _reported(spread=statistics.pstdev),
        "Value 2 is s / √n, not s.": _reported(root=False),
        "Values 3 and 4 are t standard errors from the mean, not t times s.": (
            _reported(of_s=True)
        ),
        "t is given: 1.96 is for many runs.": lambda values, t: _reported()(values, 1.96),
        "Value 1 is the mean, not the median.": _reported(middle=statistics.median),
        "One value has no spread: not 0, but nan.": (
            lambda v, t: _reported()(v, t) if len(v) > 1 else (v[0], 0.0, v[0], v[0])
        ),
    },
    hint="Value 1 is the mean, value 2 the standard error, values 3 and 4 the ends.",
)
def report(values, t):
    """Mean, standard error, and the ends of the interval, by the standard library."""
    return _reported()(values, t)


def _record(*accuracies):
    return {"runs": [{"seed": k, "accuracy": a} for k, a in enumerate(accuracies)]}


def _runs_and_claim(draw):
    """Accuracies and the claim in 64ths: their sums are exact, so no digit decides."""
    values = [
        draw.choice(0.2, 0.125, *[draw.integer(40, 64) / 64 for _ in range(4)])
        for _ in range(1 + draw.size)
    ]
    return _record(*values), draw.integer(44, 64) / 64


def _judged(dead=0.2, middle=statistics.fmean, mean_reaches=True, best_reaches=True):
    """`judge` with a mistake: in who died, or in whether an equal value reaches it."""

    def judge(record, claim):
        alive = [r["accuracy"] for r in record["runs"] if r["accuracy"] > dead]
        if not alive:
            return "all died"
        mean, best = middle(alive), max(alive)
        if mean > claim or (mean == claim and mean_reaches):
            return "holds"
        reached = best > claim or (best == claim and best_reaches)
        return "best only" if reached else "does not hold"

    return judge


@exercise(
    inputs=_runs_and_claim,
    cases={
        "The mean is the claim: at least means that this is enough.": (
            _record(0.75, 1.0),
            0.875,
        ),
        "A run that equals the claim reaches it.": (_record(0.5, 0.9674), 0.9674),
        "An accuracy of at most 0.2 is a death: ask this first, before any claim.": (
            _record(0.1135, 0.2),
            0.1,
        ),
        "The mean is above the claim, though most runs are below.": (
            _record(0.75, 0.75, 1.0),
            0.8125,
        ),
    },
    mistakes={
        "A run that died is left out of the mean.": _judged(dead=0),
        "A run at 0.2 died too: at most 0.2.": _judged(dead=0.1999),
        "A mean that equals the claim holds it: at least.": _judged(mean_reaches=False),
        "A run that equals the claim reaches it: at least.": _judged(best_reaches=False),
        "Compare the mean of the runs, not their median.": (
            _judged(middle=statistics.median)
        ),
    },
)
def judge(record, claim):
    """ "all died", "holds", "best only" or "does not hold"."""
    return _judged()(record, claim)


def _in_pairs(draw):
    """Accuracies in tenths: many choices of signs give one mean but for last digits."""
    n = 1 + min(draw.size, 5)
    return tuple([draw.integer(0, 9) / 10 for _ in range(n)] for _ in range(2))


def _signs(size=abs, enough=lambda mean, observed: mean >= observed - 1e-12):
    """`paired_p` with a mistake: in the size of a mean, or in what is large enough."""

    def paired_p(a, b):
        d = [y - x for x, y in zip(a, b, strict=True)]
        means = [
            size(sum(sign * x for sign, x in zip(signs, d, strict=True)) / len(d))
            for signs in itertools.product((1, -1), repeat=len(d))
        ]
        return statistics.fmean(
            enough(mean, means[0]) for mean in means
        )  # first: all plus

    return paired_p


def _between_seeds(a, b):
    """The test of the lesson, which deals all values out anew."""
    picks = itertools.combinations([*a, *b], len(a))
    gaps = [abs(2 * sum(pick) - sum(a) - sum(b)) for pick in picks]
    return statistics.fmean(gap >= abs(sum(a) - sum(b)) - 1e-12 for gap in gaps)


@exercise(
    inputs=_in_pairs,
    cases={
        "All plus and all minus are as large: count both sides, and the observed one.": (
            [1.0, 2, 3],
            [2.0, 3, 4],
        ),
        "The observed mean difference is 0: every choice is at least as large.": (
            [1.0, 2, 3, 4],
            [2.0, 1, 4, 3],
        ),
        "0.1 + 0.2 + 0.3 − 0.3 and 0.3 + 0.3 − 0.1 − 0.2 differ in their last digits.": (
            [0.0] * 4,
            [0.1, 0.2, 0.3, -0.3],
        ),
        "A negative mean difference counts by its size.": ([5.0, 5], [3.0, 4]),
    },
    mistakes={
        "In absolute value: count both sides.": _signs(size=lambda mean: mean),
        "At least as large: the observed choice counts too (>=, not >).": (
            _signs(enough=lambda mean, observed: mean > observed + 1e-12)
        ),
        "Sums in another order differ in the last digit: >= observed - 1e-12.": (
            _signs(enough=lambda mean, observed: mean >= observed)
        ),
        "Swap names within a seed, never between seeds.": _between_seeds,
    },
)
def paired_p(a, b):
    """Of all choices of signs, the share with at least as large a mean difference."""
    return _signs()(a, b)


def _best_of(p, N, n):
    """The expected maximum of n binomial shares of N, each with probability p."""
    k = torch.arange(N, dtype=torch.float64)
    log_choose = math.lgamma(N + 1) - (k + 1).lgamma() - (N - k + 1).lgamma()
    log_weights = log_choose + k * math.log(p) + (N - k) * math.log1p(-p)
    return (1 - log_weights.exp().cumsum(0) ** n).mean().item()


def _best_reported(draw):
    """What somebody reports on average whose runs truly have a drawn accuracy."""
    N, n = draw.integer(20, 100 * draw.size), draw.integer(1, 10 * draw.size)
    return _best_of(draw.uniform(0.1, 0.9), N, n), N, n


def _halved(times=30, images=None, runs=None, grid=None):
    """`true_accuracy` with a mistake, such as another number of images than is given."""

    def true_accuracy(reported, N, n):
        low, high = 0.0, 1.0
        for _ in range(times):
            p = (low + high) / 2
            above = _best_of(p, images or N, runs or n) > reported
            low, high = (low, p) if above else (p, high)
        return round(p, grid) if grid else p

    return true_accuracy


@exercise(
    inputs=_best_reported,
    cases={
        "The best of one run is that run: nothing flatters.": (0.9, 1000, 1),
        "Ten runs of the page's 10,000 images.": (0.9943, 10_000, 10),
    },
    mistakes={
        "Look for a p below it, whose expected maximum is the reported number.": (
            lambda reported, N, n: reported
        ),
        "Six digits are wanted: halve some 25 times or more.": _halved(times=12),
        "Six digits are wanted: a grid of 0.001 is too coarse.": _halved(grid=3),
        "N is that of the call, not the page's 10,000.": _halved(images=10_000),
        "n is that of the call, not the page's 10.": _halved(runs=10),
    },
    tolerance=2e-6,
    trials=10,
)
def true_accuracy(reported, N, n):
    """The p whose expected maximum is the reported share, by halving."""
    return _halved()(reported, N, n)
