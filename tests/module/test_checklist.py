"""book/checklist.md: every line is true of a sound training, and false of one with its bug."""

import copy
import math
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from lesson_source import ROOT

from benchmarks import planted, planted_bugs
from lessons_src import data
from lessons_src.detector.watch import Watch

PAGE = (ROOT / "book/checklist.md").read_text(encoding="utf-8")
LINES = {
    int(number): line for number, line in re.findall(r"^(\d+)\. .*`([^`]+)`$", PAGE, re.M)
}
SHOWN_BY = {  # the bugs that a line shows
    1: "pixels_to_255 divided_twice",
    2: "sorted_by_class",
    3: "permuted_apart",
    4: "test_only_scaled test_not_scaled",
    5: "test_is_the_training_set split_overlaps",
    6: "weights_far_too_large",
    7: "softmax_in_the_network",
    8: "functional_dropout dropout_made_in_forward",
    9: "normalised_by_the_batch no_running_statistics log_softmax_over_the_batch",
    10: "head_replaced_later only_the_head",
    11: "detach_in_forward through_numpy first_layer_twice zero_weights",
    12: "constant_weights zero_weights",
    13: "one_layer_three_times layers_in_a_dict",
    14: "stays_in_evaluation_mode",
    15: "zero_grad_is_missing zeroed_once_an_epoch",
    16: "step_is_missing zeroed_before_the_step only_the_head head_replaced_later",
    17: "minus_before_the_loss maximize",
    18: "step_by_the_batch",
    19: "only_the_border rate_far_too_small",
    20: "eval_is_missing evaluated_on_a_random_part evaluation_trains",
    21: "accuracy_by_batches",
    22: "best_by_reference best_as_a_shallow_copy",
}
BUGS = {bug.name: bug for bug in planted.bugs_of(planted_bugs)}
BUGS["zero_grad_is_missing"] = planted.zero_grad_is_missing
PAIRS = [(n, name) for n, names in SHOWN_BY.items() for name in names.split()]


@pytest.fixture(scope="module")
def digits():
    """Part of MNIST, or of its stand-in."""
    whole = data.load("mnist")
    return replace(whole, train=whole.train[:3000], test=whole.test[:500])


def holds(number: int, setting) -> bool:
    """Whether a line of the page is true of a training."""
    model = setting.model
    known = vars(setting) | {"math": math, "torch": torch, "lr": 0.05}
    known |= {"best": setting.best_state, "by_hand": BY_HAND.get(type(model).__name__)}
    if number in IN_THE_LOOP:
        known |= IN_THE_LOOP[number](setting)
        return known["line"] if "line" in known else eval(LINES[number], known)
    if number < 14:
        known |= first_batch(setting)
    if number == 11:
        setting.loss_fn(model(known["x"]), known["y"]).backward()
    return bool(eval(LINES[number], known))


def first_batch(setting) -> dict:
    """x and y as model and loss get them."""
    watch = Watch(setting.model, [], enough=lambda watch: len(watch.forwards) == 1)
    watch.call(setting.train_epoch, setting.model, setting.train, setting.optimizer)
    forward = watch.forwards[0]
    return {"x": forward.x, "y": forward.losses[0].target, "f": forward.x.flatten(1)}


def at_a_forward_pass(number, setting) -> dict:
    """The line, tried at the second forward pass of an epoch after an evaluation."""
    seen = []

    def look(model, x, out):
        seen.append(eval(LINES[number], {"model": model}))

    setting.evaluate(setting.model, setting.test)
    handle = setting.model.register_forward_hook(look)
    setting.train_epoch(setting.model, setting.train[:128], setting.optimizer)
    handle.remove()
    return {"line": seen[1]}


def after_a_step(setting) -> dict:
    """A batch, its loss before the step, and the parameters before it."""
    few, before = (
        setting.train[:64],
        [p.detach().clone() for p in setting.model.parameters()],
    )
    loss = setting.loss_fn(setting.model.eval()(few.images), few.labels).detach()
    setting.train_epoch(setting.model, few, setting.optimizer)
    setting.model.eval()
    return {"loss": loss, "x": few.images, "y": few.labels, "before": before}


def after_an_epoch(setting) -> dict:
    """Nothing is known but what the training holds."""
    setting.train_epoch(setting.model, setting.train, setting.optimizer)
    return {}


def after_200_steps(setting) -> dict:
    """The loss of a batch of 16."""
    few = setting.train[:16]
    for _ in range(200):
        setting.train_epoch(setting.model, few, setting.optimizer)
    return {"loss": setting.loss_fn(setting.model.eval()(few.images), few.labels)}


IN_THE_LOOP = {
    14: partial(at_a_forward_pass, 14),
    15: partial(at_a_forward_pass, 15),
    16: after_a_step,
    17: after_a_step,
    18: after_an_epoch,
    19: after_200_steps,
}
BY_HAND = {  # parameters of the networks as they were meant
    "BN": 25 * 8 + 2 * 8 + 9 * 8 * 16 + 2 * 16 + 400 * 10 + 10,
    "Sequential": 784 * 64 + 64 + 3 * (64 * 64 + 64) + 64 * 10 + 10,
    "Blocks": 25 * 8 + 8 + 2 * 8 + 9 * 8 * 16 + 16 + 400 * 10 + 10,
}


def accuracy_by_batches(setting, data):
    """The planted bug, in the form (loss, accuracy) that the page asks for."""
    wrong = BUGS["accuracy_by_batches"].plant(setting, data).evaluate
    return replace(setting, evaluate=lambda model, test: (0.0, wrong(model, test)))


def test_the_page_has_all_its_lines():
    """Numbered from 1, each with a bug that it shows."""
    assert list(LINES) == list(range(1, 23)) == list(SHOWN_BY)


@pytest.mark.parametrize("number", LINES)
def test_a_line_is_true_of_a_sound_training(number, digits):
    """With batch norm and dropout."""
    setting = planted.sound("bn", digits)
    best = copy.deepcopy(setting.model.state_dict())
    assert holds(number, replace(setting, best_state=best))


@pytest.mark.parametrize("number, name", PAIRS)
def test_a_line_is_false_of_a_bug(number, name, digits):
    """The one that it is there for."""
    bug = BUGS[name]
    setting = bug.setting(bug.networks[-1], digits)
    if number == 21:
        setting = accuracy_by_batches(planted.sound("bn", digits), digits)
    assert not holds(number, setting)
