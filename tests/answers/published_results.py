"""Answers to the exercises of the lesson on published results."""

import fractions
import itertools
import math
import random
import statistics

import numpy as np
import torch
from scipy import stats

NAN = float("nan")
OPEN = {"R1b": {"optimiser", "seed"}, "R2": {"seed"}, "R5": {"normalisation", "seed"}}


def opened(**other):
    """The right sets, with some of them changed."""
    return lambda: {**OPEN, **other}


def by_a_loop():
    found = {}
    for name, words in (("R1b", "optimiser seed"), ("R2", "seed")):
        found[name] = set(words.split())
    found["R5"] = found["R2"] | {"normalisation"}
    return found


def by_difference():
    asked = {"optimiser", "normalisation", "epochs", "seed", "batch size"}
    said = {
        "R1b": ["normalisation", "epochs", "batch size"],
        "R2": ["optimiser", "normalisation", "epochs", "batch size"],
        "R5": ["optimiser", "epochs", "batch size"],
    }
    return {name: asked.difference(words) for name, words in said.items()}


class LeftOpen:
    def __call__(self):
        return dict(sorted(OPEN.items(), reverse=True))


def reported(
    ddof=1,
    width=lambda se, t: t * se,
    root=lambda n: n**0.5,
    middle=lambda v: sum(v) / len(v),
    one=lambda v: (v, NAN, NAN, NAN),
    result=lambda *four: four,
):
    """The right report, with one of its parts changed."""

    def report(values, t):
        n, mean = len(values), middle(values)
        if n == 1:
            return one(mean)
        se = (sum((v - mean) ** 2 for v in values) / (n - ddof)) ** 0.5 / root(n)
        return result(mean, se, mean - width(se, t), mean + width(se, t))

    return report


def nan_for_equal(values, t):
    mean = sum(values) / len(values)
    if len(set(values)) == 1:
        return mean, NAN, NAN, NAN
    return reported()(values, t)


def nan_for_two(values, t):
    return reported()(values, t) if len(values) > 2 else (values[0], NAN, NAN, NAN)


def none_for_one(values, t):
    if len(values) > 1:
        return reported()(values, t)


def raises_for_one(values, t):
    se = statistics.stdev(values) / len(values) ** 0.5
    mean = statistics.fmean(values)
    return mean, se, mean - t * se, mean + t * se


def own_factor(values, t):
    return reported()(values, stats.t.ppf(0.975, max(len(values) - 1, 1)))


def by_absolute_distance(values, t):
    mean = sum(values) / len(values)
    if len(values) == 1:
        return mean, NAN, NAN, NAN
    se = sum(abs(v - mean) for v in values) / (len(values) - 1) / len(values) ** 0.5
    return mean, se, mean - t * se, mean + t * se


def by_statistics(values, t):
    mean = statistics.fmean(values)
    if len(values) < 2:
        return mean, math.nan, math.nan, math.nan
    se = statistics.stdev(values) / math.sqrt(len(values))
    return (mean, se, mean - t * se, mean + t * se)


def by_numpy(values, t):
    values = np.array(values)
    n, mean = len(values), values.mean()
    se = values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return mean, se, mean - t * se, mean + t * se


def by_torch(values, t):
    values = torch.tensor(values, dtype=torch.float64)
    if len(values) == 1:
        return values[0], *[torch.tensor(NAN)] * 3
    se = (values.var() / len(values)).sqrt()
    return values.mean(), se, values.mean() - t * se, values.mean() + t * se


def by_pairs_of_values(values, t):
    """The variance as half the mean squared distance of two different values."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n == 1:
        return (*values, NAN, NAN, NAN)
    pairs = itertools.combinations(values, 2)
    se = math.sqrt(sum((v - w) ** 2 for v, w in pairs) / (n * (n - 1)) / n)
    return mean, se, mean - t * se, mean + t * se


def by_scipy(values, t):
    mean = float(np.mean(values))
    se = float(stats.sem(values)) if len(values) > 1 else NAN
    return np.array([mean, se, mean - t * se, mean + t * se])


def signs(n):
    return list(itertools.product((1, -1), repeat=n))


def paired(
    far=lambda value, observed: abs(value) >= abs(observed) - 1e-12,
    choices=signs,
    share=lambda count, n: count / 2**n,
    differences=lambda a, b: np.array(b) - np.array(a),
):
    """The right test, with one of its parts changed."""

    def paired_p(a, b):
        d = differences(a, b)
        count = sum(
            bool(far((np.array(s) * d).mean(), d.mean())) for s in choices(len(d))
        )
        return share(count, len(d))

    return paired_p


def unpaired(a, b):
    """The names of all runs are mixed."""
    both, n = [*a, *b], len(a)
    observed = abs(np.mean(b) - np.mean(a))
    count = total = 0
    for rows in itertools.combinations(range(2 * n), n):
        first = [both[k] for k in rows]
        second = [both[k] for k in range(2 * n) if k not in rows]
        count += abs(np.mean(second) - np.mean(first)) >= observed - 1e-12
        total += 1
    return count / total


def no_slack(a, b):
    """Equal means differ by rounding."""
    d = [y - x for x, y in zip(a, b, strict=True)]
    observed = abs(sum(d) / len(d))
    hits = [
        abs(sum(s * v for s, v in zip(c, d, strict=True)) / len(d)) for c in signs(len(d))
    ]
    return sum(hit >= observed for hit in hits) / len(hits)


def by_chance(a, b):
    d = np.array(b) - np.array(a)
    draw = random.Random(0)
    hits = 0
    for _ in range(200):
        flipped = [draw.choice((1, -1)) * v for v in d]
        hits += abs(np.mean(flipped)) >= abs(d.mean()) - 1e-12
    return hits / 200


def by_students_t(a, b):
    if len(a) < 2:
        return 1.0
    return float(stats.ttest_rel(a, b).pvalue)


def of_the_signs(a, b):
    """The sign test: sizes are ignored."""
    d = [y - x for x, y in zip(a, b, strict=True)]
    k = sum(v > 0 for v in d)
    return min(1.0, 2 * stats.binom.cdf(min(k, len(d) - k), len(d), 0.5))


def slack_in_per_cent(a, b):
    return paired(lambda v, o: abs(v) >= 0.99 * abs(o))(a, b)


def by_matrix(a, b):
    d = torch.tensor(b, dtype=torch.float64) - torch.tensor(a, dtype=torch.float64)
    n = len(d)
    bits = torch.arange(2**n)[:, None] >> torch.arange(n) & 1  # (2^n, n)
    means = (1 - 2 * bits.double()) @ d / n
    return (means.abs() >= d.mean().abs() - 1e-12).double().mean()


def by_growing(a, b):
    sums = [0.0]
    for x, y in zip(a, b, strict=True):
        sums = [s + sign * (x - y) for s in sums for sign in (-1, 1)]
    observed = abs(sum(b) - sum(a))
    return sum(abs(s) >= observed - 1e-11 for s in sums) / len(sums)


def by_recursion(a, b):
    d = [y - x for x, y in zip(a, b, strict=True)]
    least = abs(sum(d)) - 1e-11

    def count(k, total):
        if k == len(d):
            return int(abs(total) >= least)
        return count(k + 1, total + d[k]) + count(k + 1, total - d[k])

    return fractions.Fraction(count(0, 0.0), 2 ** len(d)).__float__()


def half_by_symmetry(a, b):
    """The first sign stays: the other half mirrors this one."""
    d = np.subtract(b, a)
    half = [(1, *rest) for rest in signs(len(d) - 1)]
    means = np.array(half) @ d / len(d)
    return np.mean(np.abs(means) >= abs(d.mean()) - 1e-12)


def swapped_names(a, b):
    hits, n = 0, len(a)
    observed = abs(np.mean(b) - np.mean(a))
    for swap in itertools.product([False, True], repeat=n):
        first, second = np.where(swap, b, a), np.where(swap, a, b)
        hits += abs(second.mean() - first.mean()) >= observed - 1e-12
    return hits / 2**n


def mean_and_v(values, ddof=1):
    """The mean, and the square of its standard error."""
    n, mean = len(values), sum(values) / len(values)
    return mean, sum((v - mean) ** 2 for v in values) / (n - ddof) / n


def welch(va, vb, na, nb):
    return (va + vb) ** 2 / (va**2 / (na - 1) + vb**2 / (nb - 1))


def interval(
    a,
    b,
    is_paired,
    t,
    freedom=welch,
    ddof=1,
    V=lambda va, vb: va + vb,
    pairs=lambda n: n - 1,
    root=0.5,
    sign=1,
):
    if is_paired:
        middle, v = mean_and_v([y - x for x, y in zip(a, b, strict=True)], ddof)
        degrees = pairs(len(a))
    else:
        (mean_a, va), (mean_b, vb) = mean_and_v(a, ddof), mean_and_v(b, ddof)
        middle, v = mean_b - mean_a, V(va, vb)
        degrees = freedom(va, vb, len(a), len(b))
    reach = t(degrees) * v**root
    return sign * middle - reach, sign * middle + reach


def say(low, high):
    return "b" if low > 0 else "a" if high < 0 else "cannot tell"


def compared(answer=say, result=lambda low, high, word: (low, high, word), **settings):
    """The right comparison, with one of its parts changed."""

    def compare(a, b, paired, t):
        low, high = interval(a, b, paired, t, **settings)
        return result(low, high, answer(low, high))

    return compare


def never_paired(a, b, paired, t):
    return compared()(a, b, False, t)


def always_paired(a, b, paired, t):
    n = min(len(a), len(b))
    return compared()(a[:n], b[:n], True, t)


def own_t(a, b, paired, t):
    return compared()(a, b, paired, lambda freedom: stats.t.ppf(0.975, freedom))


def calls_nothing(a, b, paired, t):
    return compared()(a, b, paired, lambda freedom: 1.96)


def forgets_pairs(a, b, paired, t):
    if not paired:
        return compared()(a, b, paired, t)


def pooled(a, b, paired, t):
    """Student's test, as if the spreads were equal."""
    if paired:
        return compared()(a, b, paired, t)
    (mean_a, va), (mean_b, vb) = mean_and_v(a), mean_and_v(b)
    na, nb = len(a), len(b)
    s2 = (va * na * (na - 1) + vb * nb * (nb - 1)) / (na + nb - 2)
    reach = t(na + nb - 2) * (s2 * (1 / na + 1 / nb)) ** 0.5
    low, high = mean_b - mean_a - reach, mean_b - mean_a + reach
    return low, high, say(low, high)


def overlap(a, b, paired, t):
    """Two intervals that overlap."""
    low, high, word = compared()(a, b, paired, t)
    (mean_a, va), (mean_b, vb) = mean_and_v(a), mean_and_v(b)
    reach = t(len(a) - 1) * va**0.5 + t(len(b) - 1) * vb**0.5
    return low, high, say(mean_b - mean_a - reach, mean_b - mean_a + reach)


def sorted_pairs(a, b, paired, t):
    return compared()(sorted(a), sorted(b), paired, t)


def by_the_statistics_module(a, b, paired, t):
    if paired:
        d = [y - x for x, y in zip(a, b, strict=True)]
        middle, se = statistics.mean(d), statistics.stdev(d) / math.sqrt(len(d))
        freedom = len(d) - 1
    else:
        v = [statistics.variance(values) / len(values) for values in (a, b)]
        middle, se = statistics.fmean(b) - statistics.fmean(a), math.sqrt(sum(v))
        freedom = welch(*v, len(a), len(b))
    low, high = middle - t(freedom) * se, middle + t(freedom) * se
    if low > 0:
        return low, high, "b"
    if high < 0:
        return low, high, "a"
    return low, high, "cannot tell"


def compared_in_numpy(a, b, paired, t):
    a, b = np.array(a), np.array(b)
    if paired:
        middle, V, freedom = (b - a).mean(), (b - a).var(ddof=1) / len(a), len(a) - 1
    else:
        va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
        middle, V, freedom = b.mean() - a.mean(), va + vb, welch(va, vb, len(a), len(b))
    ends = middle + np.array([-1, 1]) * t(freedom) * np.sqrt(V)
    return [*ends, str(np.select([ends[0] > 0, ends[1] < 0], ["b", "a"], "cannot tell"))]


def in_tensors(a, b, paired, t):
    low, high, word = compared()(a, b, paired, t)
    return torch.tensor(low), torch.tensor(high), word


class Compare:
    words = ("a", "cannot tell", "b")

    def __call__(self, a, b, paired, t):
        low, high = interval(a, b, paired, t)
        return low, high, self.words[1 + (low > 0) - (high < 0)]


WRONG = {
    "left_open": [
        opened(R1b={"optimiser"}),
        opened(R1b={"seed"}),
        opened(R1b={"optimiser", "seed", "batch size"}),
        opened(R1b={"optimiser", "seed", "epochs"}),
        opened(R1b={"optimiser", "seed", "normalisation"}),
        opened(R2=set()),
        opened(R2={}),
        opened(R2={"seed", "normalisation"}),
        opened(R2={"seed", "optimiser"}),
        opened(R5={"normalisation"}),
        opened(R5={"seed"}),
        opened(R5={"normalization", "seed"}),
        opened(R5={"normalisation", "seed", "batch size"}),
        opened(R5={"Normalisation", "Seed"}),
        opened(R1b="optimiser, seed"),
        opened(R1b={"optimiser": True, "seed": True}),
        opened(R1a={"optimiser", "seed"}),
        lambda: {"R1b": OPEN["R1b"], "R2": OPEN["R2"]},
        lambda: {"R1": OPEN["R1b"], "R2": OPEN["R2"], "R5": OPEN["R5"]},
        lambda: {"R1b": OPEN["R5"], "R2": OPEN["R2"], "R5": OPEN["R1b"]},
        lambda: {name: set() for name in OPEN},
        lambda: {name: {"seed"} for name in OPEN},
        lambda: {name: {"optimiser", "normalisation", "seed"} for name in OPEN},
        lambda: list(OPEN),
        lambda: OPEN["R1b"] | OPEN["R5"],
    ],
    "report": [
        reported(ddof=0),
        reported(ddof=2),
        reported(root=lambda n: 1),
        reported(root=lambda n: n),
        reported(root=lambda n: (n - 1) ** 0.5),
        reported(width=lambda se, t: se),
        reported(width=lambda se, t: 2 * se),
        reported(width=lambda se, t: t),
        reported(width=lambda se, t: t * se / 2),
        reported(width=lambda se, t: -t * se),
        reported(middle=statistics.median),
        reported(middle=lambda v: v[0]),
        reported(one=lambda v: (v, 0.0, v, v)),
        reported(one=lambda v: (v, NAN, v, v)),
        reported(one=lambda v: (NAN, NAN, NAN, NAN)),
        reported(one=lambda v: (v, 0.0, NAN, NAN)),
        reported(one=lambda v: (v, None, None, None)),
        reported(one=lambda v: v),
        reported(result=lambda mean, se, low, high: (mean, low, high)),
        reported(result=lambda mean, se, low, high: (mean, se, (low, high))),
        reported(result=lambda mean, se, low, high: (mean, se**2, low, high)),
        reported(result=lambda *four: tuple(round(v, 3) for v in four)),
        lambda values, t: reported()(list(set(values)), t),
        lambda values, t: reported()(values[:5], t),
        lambda values, t: reported()(values[:12], t),
        nan_for_equal,
        nan_for_two,
        none_for_one,
        raises_for_one,
        own_factor,
        by_absolute_distance,
    ],
    "paired_p": [
        paired(lambda v, o: abs(v) > abs(o) + 1e-12),
        paired(lambda v, o: v >= o - 1e-12),
        paired(lambda v, o: v >= abs(o) - 1e-12),
        paired(lambda v, o: abs(v) >= o - 1e-12),
        paired(lambda v, o: abs(v) <= abs(o) + 1e-12),
        paired(share=lambda count, n: count),
        paired(share=lambda count, n: count / n),
        paired(share=lambda count, n: (count + 1) / (2**n + 1)),
        paired(share=lambda count, n: (count - 1) / 2**n),
        paired(share=lambda count, n: count / 2 ** (n - 1)),
        paired(share=lambda count, n: 1 - count / 2**n),
        paired(share=lambda count, n: round(count / 2**n, 2)),
        paired(choices=lambda n: [c for c in signs(n) if sum(c) < n]),
        paired(choices=lambda n: [c for c in signs(n) if sum(c) >= n - 2]),
        paired(choices=lambda n: list(itertools.product((1, 0), repeat=n))),
        paired(differences=lambda a, b: np.abs(np.subtract(b, a))),
        paired(differences=lambda a, b: np.subtract(sorted(b), sorted(a))),
        paired(differences=lambda a, b: np.subtract(b[::-1], a)),
        paired(differences=lambda a, b: np.sign(np.subtract(b, a))),
        paired(differences=lambda a, b: np.add(b, a)),
        lambda a, b: paired()(a[:6], b[:6]),
        lambda a, b: paired()(a[:8], b[:8]),
        paired(lambda v, o: abs(v) >= abs(o) - 1e-6),
        paired(lambda v, o: abs(v) >= abs(o) - 1e-4),
        unpaired,
        no_slack,
        by_chance,
        by_students_t,
        of_the_signs,
        slack_in_per_cent,
    ],
    "compare": [
        compared(ddof=0),
        compared(root=1),
        compared(sign=-1),
        compared(pairs=lambda n: n),
        compared(pairs=lambda n: 2 * n - 2),
        compared(freedom=lambda va, vb, na, nb: na + nb - 2),
        compared(freedom=lambda va, vb, na, nb: min(na, nb) - 1),
        compared(freedom=lambda va, vb, na, nb: int(welch(va, vb, na, nb))),
        compared(freedom=lambda va, vb, na, nb: round(welch(va, vb, na, nb))),
        compared(freedom=lambda va, vb, na, nb: welch(va, vb, na + 1, nb + 1)),
        compared(freedom=lambda va, vb, na, nb: welch(va * na, vb * nb, na, nb)),
        compared(freedom=lambda va, vb, na, nb: welch(va**0.5, vb**0.5, na, nb)),
        compared(V=lambda va, vb: va - vb if va > vb else vb - va),
        compared(V=lambda va, vb: max(va, vb)),
        compared(V=lambda va, vb: (va**0.5 + vb**0.5) ** 2),
        compared(V=lambda va, vb: (va + vb) / 2),
        compared(answer=lambda low, high: say(-high, -low)),
        compared(answer=lambda low, high: "b" if low + high > 0 else "a"),
        compared(answer=lambda low, high: "b" if low > 0 else "cannot tell"),
        compared(answer=lambda low, high: "a" if low > 0 else "b" if high < 0 else "?"),
        compared(answer=lambda low, high: "b" if high > 0 else "a"),
        compared(answer=lambda low, high: say(low, high).upper()),
        compared(result=lambda low, high, word: (high, low, word)),
        compared(result=lambda low, high, word: (low, high)),
        compared(result=lambda low, high, word: word),
        compared(result=lambda low, high, word: (word, low, high)),
        compared(answer=lambda low, high: "b" if low >= 0 else "a" if high <= 0 else "?"),
        compared(answer=lambda low, high: low >= 0 and "b" or say(low, high)),
        compared(answer=lambda low, high: say(low - 1e-4, high + 1e-4)),
        compared(answer=lambda low, high: say(low - 1e-9, high + 1e-9)),
        compared(result=lambda low, high, word: (round(low, 4), round(high, 4), word)),
        lambda a, b, paired, t: compared()(a[:8], b[:8], paired, t),
        lambda a, b, paired, t: compared()(a[:12], b[:12], paired, t),
        never_paired,
        always_paired,
        own_t,
        calls_nothing,
        forgets_pairs,
        pooled,
        overlap,
        sorted_pairs,
    ],
}

RIGHT = {
    "left_open": [
        opened(),
        lambda: dict(
            R5={"seed", "normalisation"}, R2={"seed"}, R1b={"seed", "optimiser"}
        ),
        lambda: {k: set(words) for k, words in OPEN.items()},
        lambda: {
            "R1b": {"seed", "optimiser"},
            "R2": {"seed"} - {"epochs"},
            "R5": {"seed"}.union({"normalisation"}),
        },
        by_a_loop,
        by_difference,
        LeftOpen(),
    ],
    "report": [
        reported(),
        reported(middle=statistics.fmean),
        reported(result=lambda *four: tuple(np.float64(v) for v in four)),
        by_statistics,
        by_numpy,
        by_torch,
        by_pairs_of_values,
        by_scipy,
    ],
    "paired_p": [
        paired(),
        paired(differences=lambda a, b: np.subtract(a, b)),
        paired(choices=lambda n: np.array(signs(n))),
        by_matrix,
        by_growing,
        by_recursion,
        half_by_symmetry,
        swapped_names,
    ],
    "compare": [
        compared(),
        compared(
            answer=lambda low, high: "cannot tell" if low <= 0 <= high else say(low, high)
        ),
        compared(result=lambda *three: list(three)),
        by_the_statistics_module,
        compared_in_numpy,
        in_tensors,
        Compare(),
    ],
}
