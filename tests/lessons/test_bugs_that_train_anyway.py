"""The lesson on bugs that train anyway: every test of one line, the program and its
bugs, what listens to them, and what the text says of the record."""

import ast
import copy
import inspect
import math
import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lesson_source import boxed, cells, close, definitions, drawn
from swept import some
from torch import nn
from torch.utils.data import DataLoader

from benchmarks import bugs
from lessons_src.data import Split
from lessons_src.exercises import bugs_that_train_anyway as check
from lessons_src.records import recorded

LESSON = "bugs_that_train_anyway"
# The test of one line -> the program with the bug that it exposes, and its repaired twin.
EXPOSED = {
    "a_sure_answer_is_free": ("SoftmaxTwice", "Program"),
    "alone_as_in_company": ("WrongAxis", "Program"),
    "trains_in_training_mode": ("StaysInEval", "Program"),
    "the_same_answer_twice": ("EternalDropout", "Program"),
    "what_is_kept_is_a_copy": ("KeptByReference", "Program"),
    "each_step_has_its_own_gradient": ("NeverZeroed", "Program"),
    "all_parameters_are_known": ("PlainList", "Program"),
    "the_optimizer_holds_them": ("OldHead", "Program"),
    "the_rate_outlives_an_epoch": ("RateEveryBatch", "Program"),
    "a_batch_mixes_classes": ("NotShuffled", "Program"),
    "labels_go_with_their_images": ("MixedApart", "Mixup"),
    "test_images_are_prepared_alike": ("RawTest", "Program"),
    "no_test_image_was_seen": ("TestIsTrain", "Program"),
    "the_loss_is_that_of_all_images": ("WrongCount", "Program"),
}
BROKEN = [name for name, _ in EXPOSED.values()]
NETWORKS = ("AcrossTheBatch", "DropsForever", "InAList")
WRITTEN = ("block", "Network", "prepared", "Loop", "Program", "run", "Mixup")
WRITTEN += (*NETWORKS, *BROKEN)
LISTENING = ("watch", "leaves_no_trace", "images_of")


def images(n, seed):
    """n images in uint8, sorted by class: a pattern for each class, and noise."""
    patterns = torch.rand(10, 1, 28, 28, generator=torch.Generator().manual_seed(99))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (n,), generator=generator).sort().values
    noise = torch.randn(n, 1, 28, 28, generator=generator)
    pixels = 255 * (0.6 * patterns[labels] + 0.25 * noise).clamp(0, 1)
    return Split(pixels.round().byte(), labels)


@pytest.fixture(scope="module")
def splits():
    """1,000 images to train on, 150 to choose by, 600 to test on."""
    return images(1000, 0), images(150, 1), images(600, 2)


@pytest.fixture(scope="module")
def page(splits):
    """What the lesson defines: programs, tests, and what listens; with a batch of data."""
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:50]
    batch = splits[0][order]
    x = batch.normalised(0.2, 0.35).images
    names = (*WRITTEN, *EXPOSED, *LISTENING)
    train, validation, _ = bugs.Program(*splits).loaders()
    loaders = {"train_loader": train, "validation_loader": validation}
    return definitions(LESSON, *names, x=x, y=batch.labels, **loaders)


def passes(page, splits, test, name, seed=0):
    """Whether a program of the page passes a test of the page."""
    torch.manual_seed(seed)
    program = page[name](*splits)
    return bool(page[test](program, *program.start()))


# The tests of one line ------------------------------------------------------------------


def test_each_is_of_three_lines_at_most(page):
    """The card says so: of each test's body, its name and its docstring aside."""
    for cell in cells(LESSON):
        for node in ast.parse(cell.source).body if cell.cell_type == "code" else []:
            if getattr(node, "name", None) in EXPOSED:
                lines = node.body[-1].end_lineno - node.body[0].lineno + 1
                assert lines <= 3, f"{node.name}: {lines} lines"


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("test", EXPOSED)
def test_it_exposes_its_bug_and_passes_the_twin(page, splits, test, seed):
    """False on the program with the bug, True on the repaired one, whatever the seed."""
    broken, repaired = EXPOSED[test]
    for name, verdict in ((broken, False), (repaired, True)):
        assert passes(page, splits, test, name, seed) is verdict, name


# A bug that another test finds too, and why.
ALSO = {
    ("alone_as_in_company", "PlainList"),  # its batch norm never leaves training mode
    ("the_loss_is_that_of_all_images", "PlainList"),
    ("alone_as_in_company", "EternalDropout"),  # its answers are random
    ("the_loss_is_that_of_all_images", "EternalDropout"),
    ("each_step_has_its_own_gradient", "OldHead"),  # nobody zeroes the new head
}


@pytest.mark.parametrize("test", sorted(EXPOSED.keys() - {"labels_go_with_their_images"}))
def test_it_accuses_no_other(page, splits, test):
    """A test fails on its own bug alone, and where another has the same fault."""
    for name in set(BROKEN) - {EXPOSED[test][0]}:
        try:
            passed = passes(page, splits, test, name)
        except ValueError as error:  # batch norm in training mode wants two images
            assert name == "PlainList" and "more than 1 value" in str(error)
            passed = False
        blends = test == "a_sure_answer_is_free" and name == "MixedApart"
        assert passed or blends or (test, name) in ALSO, name


TRAINED = ["Program", "Mixup", *BROKEN]


@pytest.mark.parametrize("name", some(TRAINED, lambda name: name in TRAINED[:5]))
def test_it_trains_happily(page, splits, name):
    """The claim of the lesson: with every bug the loss falls, and no error is raised."""
    torch.manual_seed(0)
    program = page[name](*splits)
    _, best, (_, accuracy) = page["run"](program, 4)
    assert np.isfinite(program.losses).all() and 0 <= accuracy <= 1 and 0 <= best <= 1
    first, last = np.mean(program.losses[:5]), np.mean(program.losses[-20:])
    assert last < first - 0.1, (first, last)


def test_recorded_losses_fall():
    """So they do in the record: the last epoch's mean loss is below that of the first,
    and below that of guessing, on both data sets."""
    for name, by_dataset in recorded("bugs")["programs"].items():
        for runs in by_dataset.values():
            for run in runs:
                epochs = np.array(run["curve"]).reshape(-1, 4).mean(1)
                assert epochs[-1] < epochs[0] and epochs[-1] < math.log(10), name


def test_eq_softmax_floor():
    """No probabilities give a lower loss; the sure and right ones give this one."""
    assert boxed(LESSON, "eq-softmax-floor") == r"L\ge\log(e+K-1)-1"
    generator = torch.Generator().manual_seed(0)
    for K in (2, 3, 10, 100):
        floor = math.log(math.e + K - 1) - 1
        for scale in (0.1, 1.0, 10.0, 300.0):
            logits = scale * torch.randn(
                2000, K, generator=generator, dtype=torch.float64
            )
            labels = logits.argmax(1)
            losses = F.cross_entropy(logits.softmax(1), labels, reduction="none")
            assert losses.min() >= floor - 1e-12
        sure = 1000.0 * torch.eye(K, dtype=torch.float64)
        close(F.cross_entropy(sure.softmax(1), torch.arange(K)), floor)


def test_the_derivations_step():
    """Moving probability to the label lowers the loss, at the rate that is stated."""
    p = drawn((7, 5)).softmax(1).requires_grad_()
    y = torch.arange(7) % 5
    (gradient,) = torch.autograd.grad(F.cross_entropy(p, y, reduction="sum"), p)
    q = p.detach().softmax(1)
    for i in range(7):
        for j in set(range(5)) - {y[i].item()}:
            rate = gradient[i, y[i]] - gradient[i, j]
            close(rate, (q[i, y[i]] - 1) - q[i, j])
            assert rate < 0


def test_a_second_log_softmax_changes_nothing():
    """As the text says in brackets, at extreme logits too."""
    for logits in (drawn((9, 10)), 1e4 * drawn((9, 10)), torch.zeros(3, 10)):
        once = logits.log_softmax(1)
        close(once.log_softmax(1), once)


def test_alone_it_always_says_zero(page):
    """Softmax across a batch of one: all outputs are 0, so the first class wins."""
    torch.manual_seed(0)
    model = page["AcrossTheBatch"](10).eval()
    for k in range(5):
        assert not model(page["x"][k : k + 1]).any()


def test_the_count_of_parameters(page):
    """As counted by hand in the text."""
    count = sum(p.numel() for p in page["Network"](10).parameters())
    assert count == 785 * 128 + 129 * 128 + 4 * 128 + 129 * 10 == 118_794


def test_which_layers_learn(page, splits):
    """In a list the hidden layers stand still, with the old optimizer the head does; in
    the right program all move."""
    still = {"Program": set(), "PlainList": {0, 1}, "OldHead": {2}}
    for name, expected in still.items():
        torch.manual_seed(0)
        program = page[name](*splits)
        model, optimizer = program.start()
        layers = [model.hidden[0][0], model.hidden[1][0], model.head]
        before = [layer.weight.detach().clone() for layer in layers]
        program.train_epoch(model, program.loaders()[0], optimizer)
        pairs = enumerate(zip(before, layers, strict=True))
        assert {k for k, (old, new) in pairs if old.equal(new.weight)} == expected, name


def test_mixup_blends_pairs(page):
    """Every image is blended with another of its batch, in the proportion of the
    labels."""
    torch.manual_seed(0)
    y = torch.arange(10)
    x = torch.eye(10).view(10, 1, 1, 10)
    blended, labels = page["Mixup"](*[None] * 3).augment(x, y)
    close(blended.flatten(1), labels)
    close(labels.sum(1), torch.ones(10))
    assert ((labels > 0).sum(1) <= 2).all()


# What listens ---------------------------------------------------------------------------


def listened(page, splits, name):
    torch.manual_seed(0)
    program = page[name](*splits)
    model, optimizer = program.start()
    return page["watch"](program.train_epoch, model, optimizer), model


def test_watch_sees_the_gradient_of_autograd(page, splits):
    """The first gradient that is seen is that of the batch, dropout and all."""
    ((mode, first), (_, second)), model = listened(page, splits, "Program")
    torch.manual_seed(0)
    loss = F.cross_entropy(model(page["x"]), page["y"])
    (expected,) = torch.autograd.grad(loss, model.head.weight)
    assert mode
    close(first, expected, 1e-5)
    close(second, expected, 1e-5)


def test_watch_names_three_bugs(page, splits):
    """The second gradient doubles where none was zeroed, and for a head that the
    optimizer does not know; the mode is seen. Of the others those alone are accused that
    augment at random, as the text says."""
    for name in ("Program", "Mixup", *BROKEN):
        ((mode, first), (_, second)), _ = listened(page, splits, name)
        accused = name in ("NeverZeroed", "OldHead", "Mixup", "MixedApart")
        assert first.allclose(second, atol=1e-6) != accused, name
        if name in ("NeverZeroed", "OldHead"):
            close(second, 2 * first, 1e-5)
        assert mode
    torch.manual_seed(0)
    program = page["StaysInEval"](*splits)
    model, optimizer = program.start()
    program.evaluate(model, program.loaders()[1])
    (mode, _), _ = page["watch"](program.train_epoch, model, optimizer)
    assert not mode


def test_watch_leaves_no_hook(page, splits):
    """Afterwards the model and the optimizer call nothing."""
    torch.manual_seed(0)
    program = page["Program"](*splits)
    model, optimizer = program.start()
    page["watch"](program.train_epoch, model, optimizer)
    assert not model._forward_pre_hooks and not optimizer._optimizer_step_pre_hooks


def test_leaves_no_trace(page, splits):
    """An evaluation in training mode is caught by batch norm's averages, one with
    dropout by its answers, and one that learns by the weights."""
    torch.manual_seed(0)
    program = page["Program"](*splits)
    model, optimizer = program.start()
    *_, loader = program.loaders()
    assert page["leaves_no_trace"](program.evaluate, model, loader)

    def in_training_mode(model, loader):
        model.train()
        with torch.no_grad():
            return sum(model(x).sum().item() * 0 for x, _ in loader)

    def learns(model, loader):
        program.train_epoch(model, loader, optimizer)
        return 0.0

    for wrong in (in_training_mode, learns):
        assert not page["leaves_no_trace"](wrong, copy.deepcopy(model), loader)
    torch.manual_seed(0)
    dropping = page["EternalDropout"](*splits)
    model, _ = dropping.start()
    assert not page["leaves_no_trace"](dropping.evaluate, model, loader)


def test_the_cell_to_repair():
    """What stands in the reader's cell is no attempt, and with one bug less it is one."""
    source = next(c.source for c in cells(LESSON) if "\ncheck.measure(" in c.source)
    for line, attempted in (("", False), ("model.eval()", True)):
        page = {"F": F, "check": None}
        changed = source.split("check.")[0].replace(
            "    loss, right", f"    {line}\n    loss, right"
        )
        exec(changed, page)
        _, message = check.measure.verdict(page["measure"], 0)
        assert message.startswith("✗" if attempted else "○"), message


# The page, the benchmark and the record -------------------------------------------------


def on_the_page():
    return "\n\n\n".join(c.source for c in cells(LESSON) if c.cell_type == "code")


@pytest.mark.parametrize("name", WRITTEN)
def test_the_record_is_of_the_code_on_the_page(name):
    """What `benchmarks.bugs` trains stands on the page, letter for letter."""
    assert inspect.getsource(getattr(bugs, name)).strip() in on_the_page()


def test_every_bug_is_cited_and_recorded():
    """The page links the source of every bug of the record, and has a test for each."""
    text = "\n".join(c.source for c in cells(LESSON) if c.cell_type == "markdown")
    listed = recorded("bugs")["bugs"]
    assert sorted(bug["name"] for bug in listed) == sorted(BROKEN)
    for bug in listed:
        project, number = bug["source"].split("#")
        places = [f"github.com/{project}/{kind}/{number})" for kind in ("issues", "pull")]
        assert any(place in text for place in places), bug["source"]


def test_every_bug_is_repaired():
    """The page says of each bug how it is repaired."""
    text = "\n".join(c.source for c in cells(LESSON) if c.cell_type == "markdown")
    assert len(re.findall(r"^\*\*The repair:\*\* \S", text, re.M)) == len(BROKEN)


# What a quiz offers -> the points of accuracy that a bug must have cost on digits.
COSTS = {
    "it changes by less than half a point": (-0.5, 0.5),
    "it falls by half a point to five points": (0.5, 5),
    "it falls by more than ten points": (10, 100),
}


def quizzes():
    """(question, choices, the right one) of every quiz of the page."""
    for cell in cells(LESSON):
        if cell.cell_type == "code" and cell.source.startswith("quiz("):
            call = ast.parse(cell.source).body[0].value
            question, answers = map(ast.literal_eval, call.args)
            yield question, list(answers), ast.literal_eval(call.keywords[0].value)


def in_digits(name, what="cost"):
    """Points of accuracy on digits, mean over the seeds of the record."""
    (bug,) = (bug for bug in recorded("bugs")["bugs"] if bug["name"] == name)
    return 100 * bug["mnist"][what]["mean"]


def test_what_a_bug_costs_is_what_its_quiz_says():
    """A quiz on one bug offers three costs, and calls right the one that the record
    gives; five bugs have such a quiz."""
    asked = [quiz for quiz in quizzes() if set(quiz[1]) == set(COSTS)]
    assert len(asked) == 5
    for question, _, right in asked:
        (name,) = [bug for bug in BROKEN if bug in question]
        low, high = COSTS[right]
        assert low <= in_digits(name) <= high, (name, in_digits(name), right)


def test_what_other_quizzes_compare_is_so_in_the_record():
    """Of two bugs that a quiz names, the right answer loses more; and of the two that
    measure wrongly, one says too little and the other too much."""
    for first, second in (
        ("EternalDropout", "KeptByReference"),
        ("PlainList", "OldHead"),
    ):
        (right,) = [
            right
            for question, choices, right in quizzes()
            if {first, second} & {*choices}
        ]
        other = ({first, second} - {right}).pop()
        assert in_digits(right) > in_digits(other) + 1
        assert in_digits(right) < 10 or right == "PlainList"  # not "more than ten"
    assert (
        in_digits("RawTest", "flatters") < -1 and in_digits("TestIsTrain", "flatters") > 1
    )
    assert "RawTest less, TestIsTrain more" in [right for *_, right in quizzes()]


def test_the_rate_that_a_quiz_names():
    """After thirty batches of fifty images, below a hundred-thousandth of its start."""
    assert 0.3 ** (30 // 3) < 1e-5 and 30 * 50 == 1500


def test_the_right_program_among_fifteen():
    """The letter that the text gives away is that of the right program."""
    programs = recorded("bugs")["programs"]
    order = sorted(programs.keys() - {"Mixup"}, key=lambda name: name[::-1])
    letter = "ABCDEFGHIJKLMNO"[order.index("Program")]
    text = "\n".join(c.source for c in cells(LESSON) if c.cell_type == "markdown")
    assert f"right one was {letter}" in text
    right = programs["Program"]["mnist"][0]["curve"]
    same = [name for name in order if programs[name]["mnist"][0]["curve"] == right]
    assert len(same) == 5 and "five curves are the same" in text


def test_only_the_training_split_is_read():
    """The page says so: its test images are held out from the training split."""
    assert "mnist.test" not in on_the_page()


def test_a_loader_of_one_image_changes_no_right_answer(page, splits):
    """The right program's accuracy does not depend on the size of the test batches."""
    torch.manual_seed(0)
    program = page["Program"](*splits)
    model, _, (_, accuracy) = page["run"](program, 1)
    dataset = program.loaders()[2].dataset
    for size in (1, 7, 600):
        got = program.evaluate(model, DataLoader(dataset, size))[1]
        assert abs(got - accuracy) < 1e-9
    assert isinstance(model, nn.Module)
