"""Lesson 13, published results: its equations and functions,
and its table against the records."""

import itertools
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

from lessons_src import data, records
from lessons_src.data import Split
from lessons_src.published import AS_PUBLISHED, PUBLISHED
from lessons_src.recipes import OWN

LESSON = "13_published_results"
FUNCTIONS = (
    "unevenness record_of other_choice command_row compared interval one_more CHANCE "
    "verdict reached ours spread written where table_row deaths by_epoch loss_beside "
    "why story standard_error welch permutation_p seeds_for differences right_on "
    "same_images best_of best_epoch side_by_side"
)


@pytest.fixture
def page():
    """The lesson's own functions, without any record."""
    page = definitions(LESSON, *FUNCTIONS.split())
    page["RECORDS"] = dict.fromkeys([*AS_PUBLISHED, *OWN])
    return page


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
    """With so many seeds the difference is seen in 80 cases of 100; with two thirds,
    in fewer."""
    close(2 * (scipy.stats.norm.ppf(0.975) + scipy.stats.norm.ppf(0.8)) ** 2, 15.7, 1e-3)
    for sigma, delta in ((1, 0.5), (2, 1.5)):
        n = math.ceil(15.7 * (sigma / delta) ** 2)
        for seeds, low, high in ((n, 0.79, 0.85), (2 * n // 3, 0, 0.7)):
            z = 1.96 - delta / (sigma * (2 / seeds) ** 0.5)
            assert low < scipy.stats.norm.sf(z) < high


def test_eq_same_images(page):
    """Equal to the standard error of the per-image differences,
    computed image by image."""
    for shares in ((0.9, 0.8), (0.5, 0.5), (1.0, 0.0), (1.0, 1.0)):
        first, second = (
            torch.tensor(rng(k).random(4000) < p) for k, p in enumerate(shares)
        )
        d = first.double() - second.double()
        gap, se, separate = page["same_images"](first, second)
        close(gap, d.mean())
        close(se, (d.var(correction=0) / len(d)) ** 0.5)
        p, q = first.double().mean(), second.double().mean()
        close(separate, ((p * (1 - p) + q * (1 - q)) / len(d)) ** 0.5, 1e-6)


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
    "one run, above": (R1B, [0.9940], "holds, in one run"),
    "one run, below": (R1B, [0.9910], "below, but one run has no spread"),
    "far above": (
        R1B,
        [0.9960, 0.9961, 0.9962],
        "holds; ours is higher than seeds explain",
    ),
    "a bound is not matched but passed": (R4, [0.95, 0.951, 0.952], "holds"),
    "over 91 % is not 90.6 %": (R4, [0.9060, 0.9060, 0.9061], "does not hold"),
    "some died": (R1B, [0.1135, 0.9937, 0.9938], "holds; 1 of 3 runs died"),
    "all but one died": (
        R1B,
        [0.1135, 0.9, 0.1135],
        "below, but one run has no spread; 2 of 3 runs died",
    ),
    "all died": (R1B, [0.1135, 0.1135], "does not hold: all runs died"),
    "no record": (R1B, [], "not recorded"),
    "no number": (PUBLISHED["R3"], [0.98, 0.99], "no number is left"),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_verdict(page, case):
    """Each answer where it belongs, at its edges."""
    result, values, answer = VERDICTS[case]
    assert page["verdict"](result, values) == answer


# Records: shown where they are, and said plainly where they are not ---------------------


def record(name, accuracies, seconds=10.0, curve=True):
    """A made-up record; its accuracy rises evenly from the half to the last epoch."""
    recipe = (AS_PUBLISHED | OWN)[name]
    runs = []
    for seed, share in enumerate(accuracies):
        rise = [share * (0.5 + (e + 1) / recipe.epochs / 2) for e in range(recipe.epochs)]
        runs.append(
            {
                "seed": seed,
                "accuracy": share,
                "loss": 0.05,
                "seconds": seconds + seed,
                "train_loss": rise[::-1],
                "train_accuracy": rise,
                "parameters": 1,
            }
            | ({"test_accuracy": rise} if curve else {})
        )
    return {
        "name": name,
        "date": "2026-01-02",
        "dataset": recipe.dataset,
        "epochs": recipe.epochs,
        "accuracy": {"mean": statistics.fmean(accuracies), "n": len(runs)},
        "seconds": {"mean": statistics.fmean(r["seconds"] for r in runs)},
        "machine": {"device": "cpu", "name": "a processor", "threads": 2},
        "runs": runs,
    }


def test_without_records_the_page_says_so(page, tmp_path, monkeypatch):
    """Every sentence and row says that nothing was recorded, and the command is named."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    assert page["record_of"]("R1a") is None
    said = []
    monkeypatch.setitem(page, "say", said.append)
    page["compared"]({"train_loss": [1.0]}, None)
    said += [
        page["other_choice"]("R5", "R5-scaled"),
        page["command_row"]("R1a"),
        page["table_row"]("R1b"),
        page["side_by_side"](),
    ]
    for text in said:
        assert "python -m benchmarks." in text and str(tmp_path) not in text, text
    for text in (page["story"]("R2"), page["best_epoch"]("R2"), page["seeds_for"]("R2")):
        assert "recorded" in text


def test_reached_is_at_the_epoch_of_the_published_number(page):
    """R2's is the third of five; without a curve nothing is known of it;
    others end there."""
    page["RECORDS"]["R2"] = record("R2", [0.7, 0.75])
    assert page["reached"]("R2") == pytest.approx([0.7 * 0.8, 0.75 * 0.8])
    page["RECORDS"]["R2"] = record("R2", [0.7, 0.75], curve=False)
    assert page["reached"]("R2") == [] and "not recorded by epoch" in page["table_row"](
        "R2"
    )
    page["RECORDS"]["R5"] = record("R5", [0.96], curve=False)
    assert page["reached"]("R5") == [0.96]


def test_ours_is_the_quickest_that_beats_both(page):
    """Not the best, not one of other data, not one below the re-run."""
    records = page["RECORDS"]
    assert page["ours"]("R1b") is None
    records["mnist-99"] = record("mnist-99", [0.993], seconds=5)
    records["mnist-99.4"] = record("mnist-99.4", [0.996], seconds=30)
    records["fashion-91"] = record("fashion-91", [0.999], seconds=1)
    assert page["ours"]("R1a") == "mnist-99" and page["ours"]("R1b") == "mnist-99.4"
    records["R1a"] = record("R1a", [0.9, 0.994])
    assert page["ours"]("R1a") == "mnist-99.4"
    records["R1a"] = record("R1a", [0.997])
    assert page["ours"]("R1a") is None and "none recorded yet" in page["table_row"]("R1a")


def test_stories_follow_the_records(page):
    """Deaths, sleep, epochs, losses and distances are those of the record."""
    records = page["RECORDS"]
    records["R1a"] = record("R1a", [0.1135, 0.975, 0.977])
    records["R1a"]["runs"][1]["train_accuracy"][:20] = [0.11] * 3 + [0.9] * 17
    told = page["story"]("R1a")
    assert "**1** of 3 runs died (seed 0)" in told and "**11.35%**" in told
    assert "Seed 1 spent **3** of its 100 epochs at chance" in told
    assert "97.60%" in told and "Test loss: 0.10831 published, **0.05000** here" in told
    records["R2"] = record("R2", [0.7, 0.75])
    assert "epoch 3: 62.8% published, **58.00%**" in page["story"]("R2")
    records["R2"] = record("R2", [0.7, 0.75], curve=False)
    assert "cannot be compared" in page["story"]("R2")
    records["R1b"] = record("R1b", [0.9910, 0.9911, 0.9912])
    told = page["story"]("R1b")
    assert (
        "does not hold" in told and "**0.26** points below" in told and "99.12%" in told
    )
    assert "The optimiser is not stated" in told
    records["R1b"] = record("R1b", [0.9960, 0.9961, 0.9962])
    assert "**0.24** points above" in page["story"]("R1b")
    records["R1b"] = record("R1b", [0.9935])
    assert "Our one run is **0.02** points below. " in page["story"]("R1b")
    records["R5"] = record("R5", [0.96, 0.962])
    assert page["story"]("R5") == "**R5**: holds. "


def test_other_choice_and_best_epoch(page):
    """Points more or less; what looking at every epoch would have gained."""
    records = page["RECORDS"]
    records["R5"], records["R5-scaled"] = (
        record("R5", [0.96]),
        record("R5-scaled", [0.94]),
    )
    told = page["other_choice"]("R5", "R5-scaled")
    assert "**2.00** points less" in told
    assert "the published number: holds, in one run" in told and "choice: below" in told
    records["R5"]["runs"][0]["test_accuracy"][4] = 0.97
    assert page["best_epoch"]("R5") == "| R5 | **96.00%** | **97.00%** | **1.00** |"


def test_seeds_for(page):
    """15.7 (s/Δ)², rounded up, two at least; the dead are left out."""
    page["RECORDS"]["R1a"] = record("R1a", [0.1135, 0.974, 0.976])
    s = statistics.stdev([0.974, 0.976])
    assert page["seeds_for"]("R1a").endswith(
        f"**{math.ceil(15.7 * (s / 0.001) ** 2)}** |"
    )
    page["RECORDS"]["R1a"] = record("R1a", [0.975, 0.975])
    assert page["seeds_for"]("R1a").endswith("**2** |")


def test_compared_fails_where_the_record_is_another(page, monkeypatch):
    """On real data, two epochs that differ by more than the promise raise;
    equal ones pass."""
    monkeypatch.setattr(data, "using_standin", lambda: False)
    made = record("R5", [0.96])
    page["compared"]({"train_loss": made["runs"][0]["train_loss"][:2]}, made)
    with pytest.raises(AssertionError, match="outside"):
        page["compared"]({"train_loss": [0.1, 0.1]}, made)


def test_side_by_side_reads_the_record(page, tmp_path, monkeypatch):
    """Each target a row; a ratio that is a lower bound says so; none is left out."""
    side = {
        "recipe": "R3",
        "seconds": {"median": 50.0, "low": 49.0, "high": 51.0, "n": 3},
    }
    target = {
        "what": "CNN to 99 %",
        "goal": 0.99,
        "must": 40,
        "theirs": side,
        "met": "must",
        "ours": side | {"recipe": "mnist-99", "accuracy": {"mean": 0.991}},
        "at_least": True,
        "ratio": {"median": 41.0, "low": 39.0, "high": 44.0, "n": 3},
    }
    alone = {
        "what": "99.4 %",
        "theirs": None,
        "ours": side,
        "ratio": None,
        "met": "missed",
    }
    other = alone | {"ours": side | {"recipe": "a loader"}}
    speed = {
        "date": "2026-01-02",
        "machine": {"name": "a processor", "threads": 2},
        "targets": [target, alone, other],
    }
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    (tmp_path / "race.json").write_text(json.dumps(speed))
    shown = page["side_by_side"]()
    row = (
        "| `R3`: **50.00 s** | `mnist-99`: **99.10%** in **50.00 s** "
        "| at least **41.0 ×**"
    )
    assert row in shown
    assert (
        "| 99.4 % |  | `R3`: **50.00 s** |  | missed |" in shown and "2026-01-02" in shown
    )
    assert "| a loader: **50.00 s** |" in shown  # no recipe: not set as code


# The page as stored ---------------------------------------------------------------------


def stored(beginning):
    """The stored Markdown output that begins so."""
    outputs = [o for c in cells(LESSON) if c.cell_type == "code" for o in c.outputs]
    shown = [o.get("data", {}).get("text/markdown", "") for o in outputs]
    (found,) = (text for text in shown if text.startswith(beginning))
    return found


def read(name):
    path = records.FOLDER / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def spread(values, form, unit=""):
    mean = f"**{format(statistics.fmean(values), form)}{unit}**"
    if len(values) == 1:
        return mean
    return f"{mean} ± **{format(statistics.stdev(values), form)}{unit}**"


def shares(values):
    return f"{spread(values, '.2%')} (n = {len(values)})"


def cell_of(record, values, after=None):
    seconds = spread([run["seconds"] for run in record["runs"]], ".1f", " s")
    machine = f"{record['machine']['device']}, threads: {record['machine']['threads']}"
    if remark := record.get("remark"):
        machine += f" ({remark})"
    shown = shares(values) if values else "not recorded by epoch"
    if after and after != record["epochs"]:
        last = shares([run["accuracy"] for run in record["runs"]])
        shown = f"epoch {after}: {shown}<br>epoch {record['epochs']}: {last}"
    return f"{shown}<br>{seconds}, {machine}"


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_table_equals_the_records(name, page):
    """Each row of the stored table, computed again from the JSON files, to the letter.

    Where this fails, a record is newer than the page: store the lesson again.
    """
    lines = stored("| | published | verdict").splitlines()
    (row,) = (line for line in lines if line.startswith(f"| {name} |"))
    _, _, printed, said, here, ours, _ = (part.strip() for part in row.split("|"))
    result, mine = PUBLISHED[name], read(name)
    assert printed == result.text
    values, best_run = [], result.accuracy or 0
    if mine:
        best_run = max([best_run, *(run["accuracy"] for run in mine["runs"])])
        values = [run["accuracy"] for run in mine["runs"]]
        if result.epoch != mine["epochs"]:
            curves = [r["test_accuracy"] for r in mine["runs"] if "test_accuracy" in r]
            values = [curve[result.epoch - 1] for curve in curves]
    command = f"`python -m benchmarks.record {name}`"
    assert here == (cell_of(mine, values, result.epoch) if mine else command)
    others = [
        r
        for r in map(read, OWN)
        if r
        and r["accuracy"]["mean"] > best_run
        and r["dataset"] == AS_PUBLISHED[name].dataset
    ]
    if others:
        best = min(others, key=lambda r: r["seconds"]["mean"])
        values_of_best = [run["accuracy"] for run in best["runs"]]
        assert ours == f"`{best['name']}`: {cell_of(best, values_of_best)}"
    else:
        assert ours == "none recorded yet"
    assert said == page["verdict"](result, values)


def test_no_number_of_ours_is_typed():
    """No cell's source holds an accuracy or a time of a record as the page would print
    it.

    Quizzes offer made-up numbers to choose from: one of them may be some run's by chance.
    """
    told = ("nn-published", "quiz(")
    source = "\n".join(
        c.source for c in cells(LESSON) if not any(t in c.source for t in told)
    )
    for path in records.FOLDER.glob("*.json"):
        record = json.loads(path.read_text())
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
