"""Checkers of lesson 13's exercises: published results, spread, and the best of many."""

import math

import torch

from lessons_src.check import Case, exercise


def left_open(answer) -> bool:
    """left_open(): for R1b, R2 and R5 the set of words that the recipe leaves open."""

    def as_text():
        got = answer()
        if not isinstance(got, dict):
            return got
        return {name: ", ".join(sorted(words)) if isinstance(words, set | frozenset | list | tuple)
                else words for name, words in got.items()}  # fmt: skip

    expected = {"R1b": "optimiser, seed", "R2": "seed", "R5": "normalisation, seed"}
    hint = (
        "Values 1, 2, 3 are R1b, R2, R5. R1's block names no optimiser. R2's pixels are scaled to "
        "0…1, which is a statement; R5's block says nothing about pixels. Of all recipes only R3 "
        "names a seed."
    )
    return exercise(
        "left_open", as_text if callable(answer) else answer, [Case((), expected, hint, "()")]
    )


def report(answer) -> bool:
    """report(values, t): mean, standard error, and the ends of the interval."""
    nan = float("nan")
    cases = [
        Case(([0.96, 0.97, 0.98], 4.303), (0.97, 0.01 / 3**0.5, 0.97 - 0.04303 / 3**0.5,
             0.97 + 0.04303 / 3**0.5),
             "Value 2 is s / √n, and s² divides by n − 1. Values 3 and 4 are t of it below and "
             "above the mean."),
        Case(([2.0, 4.0, 4.0, 6.0], 3.182), (4.0, (8 / 3 / 4) ** 0.5,
             4 - 3.182 * (2 / 3) ** 0.5, 4 + 3.182 * (2 / 3) ** 0.5),
             "The sum of squared distances is 8: divide by n − 1 = 3, then by n = 4, then take the "
             "root. t is the factor of the standard error, not of s."),
        Case(([0.9937], 1.0), (0.9937, nan, nan, nan),
             "One value has no spread: mean, then three times float('nan')."),
    ]  # fmt: skip
    return exercise("report", answer, cases)


def judge(answer) -> bool:
    """judge(record, claim): "all died", "holds", "best only" or "does not hold"."""
    inputs = [
        ([0.95, 0.97], 0.96, "holds", "The mean is the claim: at least means that this is enough."),
        ([0.95, 0.97], 0.965, "best only", "The mean is below the claim, one run is above it."),
        ([0.95, 0.97], 0.975, "does not hold", "Neither the mean nor any run reaches the claim."),
        ([0.1135, 0.97], 0.96, "holds", "The run at 0.1135 died and is left out of the mean."),
        ([0.1135, 0.2], 0.1, "all died", "An accuracy of at most 0.2 is a death: ask this first, "
         "before a mean of nothing is taken or any claim is compared."),
        ([0.9674, 0.96, 0.1135], 0.9674, "best only", "A run that equals the claim reaches it."),
    ]  # fmt: skip
    cases = []
    for values, claim, expected, hint in inputs:
        record = {"runs": [{"seed": k, "accuracy": value} for k, value in enumerate(values)]}
        cases.append(Case((record, claim), expected, hint, f"accuracies {values}, claim {claim}"))
    return exercise("judge", answer, cases)


def paired_p(answer) -> bool:
    """paired_p(a, b): of all choices of signs, the share with as large a mean difference."""
    cases = [
        Case(([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), 0.25,
             "All differences are equal: of 8 choices of signs, all plus and all minus are as "
             "large. Count both sides, and the observed choice too."),
        Case(([0.0, 0.0, 0.0, 0.0], [0.1, 0.2, 0.3, -0.3]), 0.75,
             "0.1 + 0.2 + 0.3 − 0.3 and 0.3 + 0.3 − 0.1 − 0.2 are both 0.3 but for their last "
             "digits: compare with a small allowance, >= observed - 1e-12."),
        Case(([1.0, 2.0, 3.0, 4.0], [2.0, 1.0, 4.0, 3.0]), 1.0,
             "The observed mean difference is 0: every choice is at least as large (>=, not >)."),
        Case(([0.0, 0.0, 0.0, 0.0], [1.0, 2.0, 3.0, -1.0]), 0.375,
             "Six of the 16 choices reach a sum of 5 or −5. Swap names within a seed, never "
             "between seeds."),
        Case(([5.0, 5.0], [3.0, 4.0]), 0.5, "A negative mean difference counts by its size."),
    ]  # fmt: skip
    return exercise("paired_p", answer, cases)


def true_accuracy(answer) -> bool:
    """true_accuracy(reported, N, n): the accuracy behind the best of n runs."""
    cases = []
    for p, N, n, hint in (
        (0.9, 1000, 1, "The best of one run is that run: nothing flatters."),
        (0.993, 10_000, 10, "Look for the p whose expected maximum is the reported number: a p "
         "below it. The reported number is itself the answer to another question."),
        (0.5, 100, 20, "Six digits are wanted: halve some 25 times or more."),
        (0.7, 50, 3, "N and n are those of the call, not of the page."),
    ):  # fmt: skip
        k = torch.arange(N, dtype=torch.float64)
        log_choose = math.lgamma(N + 1) - (k + 1).lgamma() - (N - k + 1).lgamma()
        F = (log_choose + k * math.log(p) + (N - k) * math.log(1 - p)).exp().cumsum(0)  # (N,)
        reported = ((1 - F**n).sum() / N).item()
        cases.append(Case((reported, N, n), p, hint, f"reported {reported:.4%}, N = {N}, n = {n}"))
    return exercise("true_accuracy", answer, cases, tolerance=2e-6)
