"""The lesson on published results: its equations and functions, and its table against
the records."""

import json
import math
import re
import statistics
from dataclasses import replace

import numpy as np
import pytest
import scipy  # its parts are imported when they are used
import torch
from lesson_source import cells, close, definitions, drawn

from lessons_src import records
from lessons_src.data import Split
from lessons_src.exercises import published_results
from lessons_src.published import AS_PUBLISHED, PUBLISHED, RECIPES
from lessons_src.recipes import OWN

LESSON = "published_results"
FUNCTIONS = (
    "unevenness interval one_more CHANCE verdict reached ours "
    "welch permutation_p right_on same_images"
)


@pytest.fixture
def page():
    """The lesson's own functions, without any record."""
    return definitions(LESSON, *FUNCTIONS.split(), RECORDS={})


def rng(seed=0):
    return np.random.default_rng(seed)


# Boxed equations ------------------------------------------------------------------------


def test_eq_mean_of_runs():
    """The variance of a mean of n draws is the draws' variance over n,
    also for skewed draws."""
    for n in (2, 5, 20):
        means = rng(n).exponential(3, (200_000, n)).mean(1)  # variance 9
        assert means.var() == pytest.approx(9 / n, rel=0.02)


def test_eq_one_more_run():
    """A further draw differs from the mean with variance σ²(1 + 1/n),
    not σ² and not σ²/n."""
    for n in (1, 2, 5):
        draws = rng(n).exponential(3, (200_000, n + 1))
        far = draws[:, 0] - draws[:, 1:].mean(1)
        assert far.var() == pytest.approx(9 * (1 + 1 / n), rel=0.02)


def test_eq_welch(page):
    """V and ν give scipy's interval; with equal n and spreads,
    ν is that of Student's test."""
    for n_a, n_b, scale in ((3, 3, 1), (2, 9, 4), (8, 5, 1e-6), (4, 4, 1e6)):
        a, b = drawn((n_a,)).tolist(), (scale * drawn((n_b,), seed=1) + 1).tolist()
        theirs = scipy.stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.9)
        close(page["welch"](a, b, 0.9), list(theirs))
        v = [statistics.variance(x) / len(x) for x in (a, b)]
        nu = sum(v) ** 2 / (v[0] ** 2 / (n_a - 1) + v[1] ** 2 / (n_b - 1))
        close(nu, scipy.stats.ttest_ind(b, a, equal_var=False).df, 1e-7)


def test_eq_seeds_needed():
    """With σ known, so many seeds show the difference in 80 cases of 100, and two thirds
    of them in fewer; four seeds whose σ is estimated show it in fewer, too."""
    close(2 * (scipy.stats.norm.ppf(0.975) + scipy.stats.norm.ppf(0.8)) ** 2, 15.7, 1e-3)
    for sigma, delta in ((1, 0.5), (2, 1.5)):
        n = math.ceil(15.7 * (sigma / delta) ** 2)
        for seeds, low, high in ((n, 0.79, 0.85), (2 * n // 3, 0, 0.7)):
            z = 1.96 - delta / (sigma * (2 / seeds) ** 0.5)
            assert low < scipy.stats.norm.sf(z) < high
    powers = []
    for n in (4, 5):  # Δ = 2 σ, by the t test
        t = scipy.stats.t.ppf(0.975, 2 * n - 2)
        powers.append(scipy.stats.nct.sf(t, 2 * n - 2, 2 / (2 / n) ** 0.5))
    assert powers[0] < 0.7 < 0.78 < powers[1]


def test_eq_same_images(page):
    """Equal to the standard error of the differences, computed image by image."""
    for shares in ((0.9, 0.8), (0.5, 0.5), (1.0, 0.0), (1.0, 1.0)):
        first, second = (
            torch.tensor(rng(k).random(4000) < p) for k, p in enumerate(shares)
        )
        d = first.double() - second.double()
        gap, se = page["same_images"](first, second)
        close(gap, d.mean())
        close(se, (d.var(correction=0) / len(d)) ** 0.5)


# Functions ------------------------------------------------------------------------------


def test_interval_and_one_more(page):
    """scipy's interval of a mean; both catch what they promise in 95 of 100
    simulated cases."""
    values = drawn((6,)).tolist()
    theirs = scipy.stats.t.interval(
        0.9, 5, statistics.fmean(values), scipy.stats.sem(values)
    )
    close(page["interval"](values, 0.9), theirs)
    caught = np.zeros(2)
    for row in rng(1).normal(5, 2, (3000, 4)):
        for k, (low, high) in enumerate(
            (page["interval"](row[:3]), page["one_more"](row[:3]))
        ):
            caught[k] += low <= (5 if k == 0 else row[3]) <= high
    assert np.all(abs(caught / 3000 - 0.95) < 0.015)


def test_unevenness(page):
    """Equal to χ² batch by batch by scipy; a short last batch is left out."""
    labels = torch.tensor(rng(0).integers(0, 10, 1000))
    expected = 64 * np.bincount(labels, minlength=10) / 1000
    by_hand = [
        scipy.stats.chisquare(
            np.bincount(batch, minlength=10), expected, sum_check=False
        )[0]
        for batch in labels.split(64)[:-1]
    ]
    assert page["unevenness"](labels) == pytest.approx(
        statistics.fmean(by_hand), rel=1e-5
    )


def test_the_factor_of_the_exercise_is_students():
    """The checker's own factor, given to the reader's function, is scipy's to a
    hundredth."""
    for freedom in (3, 3.5, 7, 20, 1000):
        factor = scipy.stats.t.ppf(0.975, freedom)
        assert published_results._student(freedom) == pytest.approx(factor, rel=0.01)


def test_the_comparison_of_the_exercise_is_scipys():
    """In pairs and not, the checker's interval is that of scipy's tests."""
    a, b = drawn((6,)).tolist(), (drawn((6,), seed=1) + 1).tolist()
    for paired in (True, False):
        other = b if paired else [*b, 0.3]
        test = (
            scipy.stats.ttest_rel(other, a)
            if paired
            else scipy.stats.ttest_ind(other, a, equal_var=False)
        )
        low, high, _ = published_results.compare.solution(
            a, other, paired, lambda freedom: scipy.stats.t.ppf(0.975, freedom)
        )
        close([low, high], list(test.confidence_interval(0.95)))


@pytest.mark.parametrize("n", [(2, 3), (4, 4), (2, 6)])
def test_permutation_p(page, n):
    """scipy's exact two-sided test, ties and equal samples too."""
    for a, b in (
        (drawn((n[0],)).tolist(), (drawn((n[1],), seed=1) + 1).tolist()),
        ([0.5] * n[0], [0.5] * n[1]),
    ):
        theirs = scipy.stats.permutation_test(
            (a, b),
            lambda x, y: abs(np.mean(x) - np.mean(y)),
            alternative="greater",
            n_resamples=np.inf,
            vectorized=False,
        )
        close(page["permutation_p"](a, b), theirs.pvalue)


def test_permutation_p_of_accuracies(page):
    """Eight accuracies against eight, with many ties but for the last digit: equal to
    scipy's test of the counts of correct images, which knows no rounding."""
    counts = 3400 + rng(3).integers(0, 40, (2, 8))
    theirs = scipy.stats.permutation_test(
        counts,
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        vectorized=True,
        n_resamples=np.inf,
    )
    assert 0.01 < theirs.pvalue < 1
    close(page["permutation_p"](*counts.tolist()), theirs.pvalue)
    close(page["permutation_p"](*(counts / 4000).tolist()), theirs.pvalue)


def test_right_on(page):
    """The images whose largest logit is the label's, in evaluation mode,
    without a gradient."""
    model = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(4, 10), torch.nn.Dropout(0.9)
    )
    split = Split(torch.randn(30, 1, 2, 2), torch.arange(30) % 10)
    got = page["right_on"](model.train(), split)
    model.eval()
    assert torch.equal(got, model(split.images).argmax(1) == split.labels)


# Verdicts -------------------------------------------------------------------------------

R1B, R4, R5 = PUBLISHED["R1b"], PUBLISHED["R4"], PUBLISHED["R5"]
VERDICTS = {
    "reached to the printed digit": (R1B, [0.9936, 0.9937, 0.9938], "holds"),
    "96 % may be 95.6 %": (R5, [0.955, 0.957], "holds"),
    "95.4 % is not 96 %": (R5, [0.9540, 0.9541, 0.9539, 0.9540], "does not hold"),
    "a run might reach it": (R1B, [0.9930, 0.9933, 0.9936], "within the spread"),
    "none would": (R1B, [0.9910, 0.9911, 0.9912], "does not hold"),
    "one run, above": (R1B, [0.9940], "reached, in one run"),
    "one run, below": (R1B, [0.9910], "below, in one run"),
    "far above": (R1B, [0.9960, 0.9961, 0.9962], "passed, not matched"),
    "a bound is not matched but passed": (R4, [0.95, 0.951, 0.952], "holds"),
    "over 91 % is not 90.6 %": (R4, [0.9060, 0.9060, 0.9061], "does not hold"),
    "some died": (R1B, [0.1135, 0.9937, 0.9938], "holds"),
    "all but one died": (R1B, [0.1135, 0.9, 0.1135], "below, in one run"),
    "all died": (R1B, [0.1135, 0.1135], "does not hold: all runs died"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_verdict(page, case):
    """Each answer where it belongs, at its edges."""
    result, values, answer = VERDICTS[case]
    assert page["verdict"](result, values) == answer


# The table ------------------------------------------------------------------------------


def record(name, accuracies, seconds=10.0):
    """A made-up record; its accuracy rises evenly from the half to the last epoch."""
    recipe = RECIPES[name]
    runs = []
    for seed, share in enumerate(accuracies):
        rise = [share * (0.5 + (e + 1) / recipe.epochs / 2) for e in range(recipe.epochs)]
        runs.append({"seed": seed, "accuracy": share, "test_accuracy": rise})
    return {
        "dataset": recipe.dataset,
        "epochs": recipe.epochs,
        "accuracy": {"mean": statistics.fmean(accuracies)},
        "seconds": {"mean": seconds},
        "runs": runs,
    }


def test_reached_is_at_the_epoch_of_the_published_number(page):
    """R2's is the third of five; the others end there; another choice is another
    record."""
    page["RECORDS"] = {
        "R2": record("R2", [0.7, 0.75]),
        "R2-shuffled": record("R2-shuffled", [0.5]),
        "R5": record("R5", [0.96]),
    }
    assert page["reached"]("R2") == pytest.approx([0.7 * 0.8, 0.75 * 0.8])
    assert page["reached"]("R2", "R2-shuffled") == pytest.approx([0.5 * 0.8])
    assert page["reached"]("R5") == [0.96]


def test_ours_is_the_quickest_that_beats_both(page):
    """Not the best, not one of other data, not one below a re-run."""
    made = {own: record(own, [0.5]) for own in OWN}
    page["RECORDS"] = made
    made["mnist-99"] = record("mnist-99", [0.993], seconds=5)
    made["mnist-99.4"] = record("mnist-99.4", [0.996], seconds=30)
    made["fashion-91"] = record("fashion-91", [0.999], seconds=1)
    made["R1a"] = record("R1a", [0.97])
    made["R1b"] = record("R1b", [0.99])
    assert page["ours"]("R1a") == "mnist-99" and page["ours"]("R1b") == "mnist-99.4"
    made["R1a"] = record("R1a", [0.9, 0.994])
    assert page["ours"]("R1a") == "mnist-99.4"


# The page as stored ---------------------------------------------------------------------


def printed(beginning):
    """The lines of the stored output that begins so."""
    outputs = [o for c in cells(LESSON) if c.cell_type == "code" for o in c.outputs]
    (found,) = (
        text for o in outputs if (text := o.get("text", "")).startswith(beginning)
    )
    return found.splitlines()


def read(name):
    return json.loads((records.FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def shown(values):
    """Mean and sample standard deviation, of 100."""
    mean = f"{100 * statistics.fmean(values):.2f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {100 * statistics.stdev(values):.2f}"


def at_epoch(name):
    """What a record gives at the epoch of the published number."""
    mine, epoch = read(name), PUBLISHED[name].epoch
    if epoch == mine["epochs"]:
        return [run["accuracy"] for run in mine["runs"]]
    return [run["test_accuracy"][epoch - 1] for run in mine["runs"]]


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_equals_the_records(name):
    """Each row of the stored table, computed again from the JSON files, to the letter.

    Where this fails, a record is newer than the page: store the lesson again.
    """
    (row,) = (x for x in printed("      published") if x.startswith(f"{name} "))
    result, values = PUBLISHED[name], at_epoch(name)
    last = [run["accuracy"] for run in read(name)["runs"]]
    goal = max([result.accuracy, *values, *last])
    better = [
        r
        for r in map(read, OWN)
        if r["accuracy"]["mean"] > goal and r["dataset"] == AS_PUBLISHED[name].dataset
    ]
    own = min(better, key=lambda r: r["seconds"]["mean"])
    mine = [run["accuracy"] for run in own["runs"]]
    number = result.text.removesuffix(f", loss {result.loss}")
    expected = (
        f"{name} {number} {result.epoch} {len(values)} {shown(values)} "
        f"{own['name']} {shown(mine)} {len(mine)}"
    )
    assert row.split() == expected.split()


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_verdicts_equal_the_records(name, page):
    """The stored verdict and the range for one more run, computed again by scipy."""
    (row,) = (x for x in printed("      one more run") if x.startswith(f"{name} "))
    values = at_epoch(name)
    said = page["verdict"](PUBLISHED[name], values)
    expected = "unknown"
    if len(values) > 1:
        n, s = len(values), statistics.stdev(values)
        low, high = scipy.stats.t.interval(
            0.95, n - 1, statistics.fmean(values), s * (1 + 1 / n) ** 0.5
        )
        expected = f"{100 * low:.2f} to {100 * high:.2f}"
    died = sum(value <= 0.2 for value in values)
    assert row.split() == f"{name} {expected} {died} {said}".split()


def test_no_number_of_ours_is_typed():
    """No cell's source holds an accuracy or a time of a record as the page would print
    it."""
    told = ("nn-published", "quiz(")
    source = "\n".join(
        c.source for c in cells(LESSON) if not any(t in c.source for t in told)
    )
    for path in records.FOLDER.glob("*.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        for run in record.get("runs", []):
            for text in (
                f"{run['accuracy']:.2%}",
                f"{run['accuracy']:.4f}",
                f"{100 * run['accuracy']:.2f}",
                f"{run['seconds']:.1f} s",
            ):
                assert not re.search(rf"(?<!\d){re.escape(text)}", source), text


def test_the_published_blocks_say_what_the_module_says():
    """Each source, its number, its loss and its recipe's epochs stand in a
    published block."""
    text = "\n".join(
        c.source for c in cells(LESSON) if 'class="nn-published"' in c.source
    )
    for name, result in PUBLISHED.items():
        assert result.source.lower() in text.lower()
        for number in re.findall(r"\d+\.?\d*", result.text):
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?!\d)", text), (
                name,
                number,
            )
        assert f"{AS_PUBLISHED[name].epochs} epochs" in text
    assert f"{100 * PUBLISHED['R5'].train_accuracy:.2f} % on the training split" in text


def test_two_epochs_are_the_recipes_own():
    """The page trains R5 as the module holds it:
    epochs and pixels are all that it replaces."""
    (cell,) = (c for c in cells(LESSON) if "def two_epochs_of_r5" in c.source)
    assert 'replace(AS_PUBLISHED["R5"], epochs=2)' in cell.source
    assert replace(AS_PUBLISHED["R5"], epochs=2).optimizer is AS_PUBLISHED["R5"].optimizer
