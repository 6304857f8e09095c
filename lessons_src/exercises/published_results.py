"""Exercises of the lesson on published results: what is left open, and who is ahead."""

import itertools
import math
import statistics

from lessons_src.exercises import exercise


def _as_text(answer):
    """Each set of words as a line of text, in the order of the alphabet."""
    given = answer()
    if not isinstance(given, dict):
        return given
    sets = set | frozenset | list | tuple
    return {
        recipe: ", ".join(sorted(map(str, words)))
        if isinstance(words, sets)
        else f"no set: {words!r}"
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
        [
            draw.choice(draw.uniform() ** 3, draw.integer(0, 9) / 10)
            for _ in range(draw.integer(2, 1 + draw.size))
        ],
        draw.uniform(1.5, 5),
    ),
    cases={
        "One value has no spread: three times float('nan').": ([0.9937], 1.0),
        "All values are equal: their spread is 0, and not nan.": ([0.5] * 4, 3.182),
        "A value that comes twice counts twice.": ([0.25, 0.5, 0.5, 1.0], 3.182),
    },
    tolerance=1e-6,
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


def _in_pairs(draw):
    """Accuracies in tenths: many choices of signs give one mean but for last digits.
    Or of any number of digits; nine pairs at most."""
    n = 1 + min(draw.size, 8 if draw.size > 6 else 5)
    tenths, scale = draw.choice(True, True, False), draw.choice(1, 1e-4)

    def drawn():
        return scale * (draw.integer(0, 9) / 10 if tenths else draw.uniform())

    return tuple([drawn() for _ in range(n)] for _ in range(2))


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
        "Almost as large is not as large.": ([0.9, 0.9], [0.92, 0.90001]),
        "There may be eight pairs: 256 choices of signs.": (
            [0.0] * 8,
            [1.0, 2, 3, 4, 5, 6, -7, -8],
        ),
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


def _student(freedom):
    """The 97.5 % point of Student's distribution, by its expansion about the normal one."""
    z = 1.959964
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**k for k, term in enumerate(terms))


def _two_recipes(draw):
    """Accuracies of two recipes whose seeds bring most of the spread, in pairs or not."""
    paired = draw.choice(True, False)
    n = 4 + draw.integer(0, draw.size)
    shared = [draw.uniform(-0.02, 0.02) for _ in range(n)]
    a = [0.9 + x + draw.uniform(0, 0.01) for x in shared]
    ahead = draw.choice(-0.02, 0.0, 0.02)
    b = [0.9 + ahead + x + draw.uniform(0, 0.015) for x in shared]
    if not paired:
        b += [0.9 + ahead + draw.uniform(-0.02, 0.02) for _ in range(draw.size)]
    return a, b, paired, _student


def _answered(low, high):
    return low, high, "b" if low > 0 else "a" if high < 0 else "cannot tell"


def _compared(
    spread=statistics.variance, pairs="used", freedom="welch", sign=1, factor=None
):
    """`compare` with a mistake: in the spread, the pairs, the degrees of freedom, ..."""

    def compare(a, b, paired, t):
        if paired if pairs == "used" else pairs == "always":
            both = zip(a, b, strict=pairs == "used")
            d = [y - x for x, y in both]
            middle, V, nu = statistics.fmean(d), spread(d) / len(d), len(d) - 1
        else:
            v = [spread(values) / len(values) for values in (a, b)]
            middle, V = statistics.fmean(b) - statistics.fmean(a), sum(v)
            nu = V**2 / (v[0] ** 2 / (len(a) - 1) + v[1] ** 2 / (len(b) - 1))
            if freedom == "sum":
                nu = len(a) + len(b) - 2
            elif freedom == "whole":
                nu = int(nu)
        reach = (factor or t(nu)) * V**0.5
        return _answered(sign * middle - reach, sign * middle + reach)

    return compare


@exercise(
    inputs=_two_recipes,
    cases={
        "In pairs, a small lead can be certain: take the differences.": (
            [0.80, 0.85, 0.90, 0.95],
            [0.811, 0.86, 0.91, 0.959],
            True,
            _student,
        ),
        "The same numbers as independent runs: the seeds' spread does not cancel.": (
            [0.80, 0.85, 0.90, 0.95],
            [0.811, 0.86, 0.91, 0.959],
            False,
            _student,
        ),
        "All of the interval is below 0: a is ahead.": (
            [0.95, 0.951, 0.952, 0.953],
            [0.80, 0.82, 0.81, 0.79, 0.80],
            False,
            _student,
        ),
        "Both are the same: an interval from 0 to 0 is neither above nor below 0.": (
            [0.80, 0.85, 0.90, 0.95],
            [0.80, 0.85, 0.90, 0.95],
            True,
            _student,
        ),
        "The interval may be tiny: if all of it is above 0, b is ahead.": (
            [0.5] * 4,
            [0.5 + 1e-10 * k for k in (8, 9, 10, 11)],
            True,
            _student,
        ),
        "A tiny interval may lie below 0.": (
            [0.5 + 1e-10 * k for k in (8, 9, 10, 11)],
            [0.5] * 5,
            False,
            _student,
        ),
    },
    tolerance=1e-6,
    mistakes={
        "paired is ignored: the interval of the mean difference is far narrower.": (
            _compared(pairs="never")
        ),
        "Without pairs the places mean nothing: use both lists as independent runs.": (
            _compared(pairs="always")
        ),
        "s² divides by n − 1.": _compared(spread=statistics.pvariance),
        "Welch's degrees of freedom are not n_a + n_b − 2.": _compared(freedom="sum"),
        "The degrees of freedom need not be whole: do not round them.": (
            _compared(freedom="whole")
        ),
        "How far b is above a: b minus a.": _compared(sign=-1),
        "t is given: 1.96 is for many runs.": _compared(factor=1.959964),
    },
    hint="Values 1 and 2 are the ends of the interval, value 3 is the answer.",
)
def compare(a, b, paired, t):
    """The interval for the mean of b minus that of a, and which one is ahead."""
    return _compared()(a, b, paired, t)
