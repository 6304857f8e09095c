"""Checkers of lesson 12's exercises: what a step costs, on one machine and on many."""

import torch

from lessons_src.check import Case, exercise


def _drawn(*shape, seed=12):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def convolution_operations(answer) -> bool:
    """convolution_operations(x_shape, w_shape, stride, padding): forward and backward."""
    inputs = [
        ((1, 1, 3, 3), (1, 1, 3, 3), 1, 0, 18,
         "One output number: nine products and nine additions. Backward costs twice that."),
        ((1, 2, 6, 6), (4, 2, 3, 3), 1, 0, 2304,
         "Each of the 4 · 4 · 4 output numbers takes 2 · 2 · 9 operations: count places of the "
         "output, not of the input."),
        ((8, 3, 10, 7), (5, 3, 3, 3), 1, 1, 151200,
         "With padding 1 and k = 3 the size stays 10 by 7. Height and width may differ, and every "
         "one of the B images counts."),
        ((128, 16, 26, 25), (32, 16, 5, 5), 2, 2, 553779200,
         "The stride divides: (H + 2p − k) // s + 1, rounded down."),
    ]  # fmt: skip
    cases = [
        Case((x, w, stride, padding), (F, 2 * F), f"Value 1 is forward, value 2 backward. {hint}",
             f"x {x}, w {w}, stride {stride}, padding {padding}")
        for x, w, stride, padding, F, hint in inputs
    ]  # fmt: skip
    return exercise("convolution_operations", answer, cases, tolerance=1e-12)


class _Device:
    """A device that works on while its caller goes on, with a clock that only work moves."""

    def __init__(self, lengths):
        self.lengths, self.calls, self.time, self.busy_until = lengths, 0, 0.0, 0.0

    def launch(self):
        """The function to be timed: 0.001 s to launch, then lengths[call] s of work."""
        length = self.lengths[min(self.calls, len(self.lengths) - 1)]
        self.calls += 1
        self.time += 0.001
        self.busy_until = max(self.busy_until, self.time) + length

    def wait(self):
        self.time = max(self.time, self.busy_until)

    def now(self):
        return self.time


def median_time(answer) -> bool:
    """median_time(f, wait, now, repeats, warmup): median seconds of a call, waited for."""
    inputs = [
        ([0.5], 3, 0, 0.501,
         "A launch takes 0.001 s here, the work behind it 0.5 s. Wait before the clock is read the "
         "second time."),
        ([7.0, 0.5], 1, 1, 0.501,
         "The first call takes 7 s, and is warm-up. Wait before the clock is read the first time "
         "too: else the warm-up's work is counted."),
        ([0.1, 0.1, 0.2, 9.0, 0.3], 3, 2, 0.301,
         "One call of the three met a busy moment and took 9 s: the median does not care, the mean "
         "does."),
        ([0.1, 0.2, 0.4, 0.8], 4, 0, 0.301,
         "With four values the median is the mean of the middle two."),
    ]  # fmt: skip
    cases = [
        Case((lengths, repeats, warmup), expected, hint,
             f"calls of {lengths} s, repeats {repeats}, warmup {warmup}")
        for lengths, repeats, warmup, expected, hint in inputs
    ]  # fmt: skip

    def run(lengths, repeats, warmup):
        device = _Device(lengths)
        got = answer(device.launch, device.wait, device.now, repeats, warmup)
        if got is not None and got is not Ellipsis and device.calls != repeats + warmup:
            raise ValueError(f"f was called {device.calls} times, not {repeats + warmup}")
        return got

    return exercise("median_time", run if callable(answer) else answer, cases)


def combine(answer) -> bool:
    """combine(gradients, sizes): the gradient of the whole batch's mean loss."""
    a, b, c = _drawn(3, 4, 2).unbind()
    nothing = torch.full((4, 2), float("nan"))
    inputs = [
        ([a, b], [64, 64], (a + b) / 2,
         "Equal shares: the plain mean of the gradients, not their sum."),
        ([a, b], [100, 28], (100 * a + 28 * b) / 128,
         "Unequal shares: each gradient weighs as many examples as its rank had."),
        ([a, b, c], [3, 1, 2], (3 * a + b + 2 * c) / 6,
         "Any number of ranks; divide by the number of all examples."),
        ([a, nothing, c], [5, 0, 3], (5 * a + 3 * c) / 8,
         "Rank 1 had no example: its gradient is nan, and 0 · nan is nan. Leave it out."),
    ]  # fmt: skip
    cases = [Case((gradients, sizes), expected, hint, f"sizes {sizes}")
             for gradients, sizes, expected, hint in inputs]  # fmt: skip
    return exercise("combine", answer, cases)


def step_end(answer) -> bool:
    """step_end(backward, reduce): when all is done, with overlap and without."""
    inputs = [
        ([3.0], [2.0], (5.0, 5.0),
         "One layer: there is nothing to send before its gradient is there."),
        ([3.0, 3.0, 3.0], [1.0, 1.0, 1.0], (10.0, 12.0),
         "Sending hides behind computing: only the last all-reduce comes after it."),
        ([1.0, 1.0, 1.0], [4.0, 4.0, 4.0], (13.0, 15.0),
         "One all-reduce at a time: the second starts when the first has ended, though its "
         "gradient was ready long before."),
        ([1.0, 5.0, 1.0], [3.0, 1.0, 4.0], (11.0, 15.0),
         "An all-reduce needs both: its gradient ready, and the one before ended. The later of the "
         "two decides, layer by layer."),
    ]  # fmt: skip
    cases = [
        Case((backward, reduce), expected, f"Value 1 is with overlap, value 2 without. {hint}",
             f"backward {backward}, reduce {reduce}")
        for backward, reduce, expected, hint in inputs
    ]  # fmt: skip
    return exercise("step_end", answer, cases, tolerance=1e-9)


def to_bfloat16(answer) -> bool:
    """to_bfloat16(x): float32 rounded to the nearest bfloat16, by bits."""
    inf, nan = float("inf"), float("nan")
    most = torch.finfo(torch.float32).max
    hidden = torch.tensor([0x7FFFFFFF, 0x7F800001, -1]).int().view(torch.float32)  # other nan
    inputs = [
        (torch.tensor([0.0, 1.0, -2.5, 2.0**-130]), "exact values",
         "What bfloat16 can hold stays as it is, signs included."),
        (torch.tensor([0.1, -0.1, 3.14159, 1e-8, -1e30]), "0.1, −0.1, 3.14159, 1e-8, −1e30",
         "Round to the nearest: cutting the lower half off is too small in size half of the time. "
         "0.1 goes up."),
        (torch.tensor([257.0, 259.0, -257.0, 1.00390625, 1.01171875]), "halves: 257, 259, …",
         "Halves go to the even neighbour: 257 to 256, but 259 to 260. Add the last bit that stays "
         "to 0x7FFF."),
        (torch.tensor([1.9999999, -0.99999994, most]), "1.9999999, −0.99999994, the largest",
         "Here the carry runs into the exponent, and that is right: 2, −1 and infinity."),
        (torch.cat([torch.tensor([inf, -inf, nan]), hidden]), "inf, −inf, nan",
         "Infinity stays. nan stays nan, whatever its lower bits: adding to them may run over into "
         "the sign, or cutting may leave infinity. Put nan back at the end."),
        (1e3 * _drawn(7, 50), "350 random numbers",
         "Any shape, and float32 at the end (view, not a conversion, from int32)."),
    ]  # fmt: skip
    cases = [Case((x,), x.bfloat16().float(), hint, shown) for x, shown, hint in inputs]

    def run(x):
        got = answer(x)
        if isinstance(got, torch.Tensor) and got.dtype != torch.float32:
            raise TypeError(f"expected the dtype torch.float32, received {got.dtype}")
        return got

    return exercise("to_bfloat16", run if callable(answer) else answer, cases, tolerance=0)
