"""Lesson 09, a convolutional network on Fashion-MNIST:
its equations and its functions."""

import json
import math
import re
from itertools import combinations, product

import pytest
import torch
import torch.nn.functional as F
from lesson_source import cells, close, definitions, drawn, tags
from torch import nn

from lessons_src import models, records
from lessons_src.data import Split

LESSON = "09_cnn_fashion_mnist"
FUNCTIONS = (
    "nearest_mean train_well r4_as_printed last_side r4 layer_sizes RandomFlip "
    "Sometimes CHANGES course_network logits_of by_class standard_error confused_pairs "
    "two_looks record_row r4_story record_of judged recorded_looks on_gpu "
    "cosine_filters ablation_table mirror_story"
)


@pytest.fixture(scope="module")
def page():
    """What the lesson defines, as a namespace."""
    return definitions(LESSON, *FUNCTIONS.split())


# Boxed equations ------------------------------------------------------------------------


def test_eq_standard_error(page):
    """Over all 2^n outcomes, weighed by their probability,
    the share's standard deviation."""
    for p, n in product((0.0, 0.1, 0.5, 0.93, 1.0), (1, 2, 5, 9)):
        mean = square = 0.0
        for outcome in product((0, 1), repeat=n):
            weight = math.prod(p if r else 1 - p for r in outcome)
            mean += weight * sum(outcome) / n
            square += weight * (sum(outcome) / n) ** 2
        close(square - mean**2, p * (1 - p) / n)
        close(page["standard_error"](p, n), math.sqrt(p * (1 - p) / n))


def test_eq_standard_error_of_part(page):
    """Over every part of n of N images, the standard deviation of its accuracy."""
    for N, right in ((6, 2), (9, 5), (8, 8), (5, 0)):
        p = right / N
        for n in range(1, N + 1):
            parts = combinations([1.0] * right + [0.0] * (N - right), n)
            shares = torch.tensor([sum(part) / n for part in parts], dtype=torch.float64)
            se = math.sqrt(p * (1 - p) / n * (N - n) / (N - 1))
            close(shares.std(unbiased=False), se)
            close(page["standard_error"](p, n, N), se)


def test_eq_mean_of_looks():
    """The loss of the mean probability is at most the mean loss;
    equal where all looks agree."""
    for M in (1, 2, 3, 10):
        p = (5 * drawn((M, 2000), seed=M)).sigmoid()  # from near 0 to near 1
        gap = (-p.log()).mean(0) - -p.mean(0).log()
        assert (gap >= -1e-12).all() and (M == 1 or (gap > 1e-12).double().mean() > 0.95)
    same = drawn((1, 50)).sigmoid().expand(4, 50)
    close(-same.mean(0).log(), (-same.log()).mean(0))


def test_eq_cosines_orthonormal():
    """For many k, by the formula of the page; and the telescoping sum that proves it."""
    for k in range(1, 12):
        y = torch.arange(k, dtype=torch.float64) + 0.5
        c = torch.stack([torch.cos(math.pi * u * y / k) for u in range(k)])
        c = c / c.norm(dim=1, keepdim=True)
        close(c @ c.T, torch.eye(k, dtype=torch.float64))
        for m in range(1, 2 * k):
            half = math.pi * m / (2 * k)
            assert abs(math.sin(half)) > 1e-3
            close(2 * math.sin(half) * torch.cos(2 * half * y).sum(), 0.0)


def test_derivation_of_the_inequality():
    """log u is at most u − 1, and they meet at 1 alone."""
    u = torch.logspace(-12, 12, 100_001, dtype=torch.float64)
    gap = u - 1 - u.log()
    assert (gap >= 0).all() and u[gap == 0].tolist() == [1.0]


def test_covariance_of_two_draws():
    """Two draws without replacement have the covariance −p(1 − p)/(N − 1)."""
    for N, right in ((5, 2), (9, 8)):
        r, p = [1] * right + [0] * (N - right), right / N
        pairs = [r[i] * r[j] for i in range(N) for j in range(N) if i != j]
        close(sum(pairs) / len(pairs) - p**2, -p * (1 - p) / (N - 1))


def variants_of(name):
    """The variants of a recorded ablation, and how far a is above b in
    standard errors."""
    found = {v["name"]: v for v in records.recorded(name)["variants"]}

    def gap(a, b):
        (one, n), (two, m) = (
            (found[k]["accuracy"], found[k]["accuracy"]["n"]) for k in (a, b)
        )
        se = math.sqrt(one["sd"] ** 2 / n + two["sd"] ** 2 / m)
        return (one["mean"] - two["mean"]) / se

    return found, gap


def test_the_ablation_says_what_the_page_reads_in_it():
    """The sentences below its table, against the record:
    gaps in standard errors of two means."""
    found, gap = variants_of("ablation-fashion")
    for behind in ("learned", "random", "trained on", "maximum", "mirrored"):
        assert gap("whole", behind) > 2, behind
    assert gap("trained on", "learned") > 2
    assert abs(gap("whole", "no label smoothing")) < 2
    whole, learned = found["whole"]["accuracy"], found["learned"]["accuracy"]
    assert whole["mean"] - learned["mean"] > max(whole["sd"], learned["sd"])
    assert found["whole"]["seconds"]["mean"] < found["learned"]["seconds"]["mean"]


def test_mirror_images_pay_where_the_page_says_so():
    """They cost in two epochs and pay in eight and sixteen;
    without them sixteen end below four."""
    found, gap = variants_of("ablation-mirror")
    assert [v["epochs"] for v in found.values()] == [2, 2, 4, 4, 8, 8, 16, 16]
    ahead = {
        n: gap(f"{n} epochs, mirrored", f"{n} epochs, as they are") for n in (2, 4, 8, 16)
    }
    assert ahead[2] < -2 < ahead[4] < 2 < min(ahead[8], ahead[16])
    assert gap("4 epochs, as they are", "16 epochs, as they are") > 2
    learned = {name: v["runs"][0]["train_accuracy"][-1] for name, v in found.items()}
    assert (
        learned["16 epochs, as they are"] > 0.99 > learned["4 epochs, as they are"] + 0.02
    )
    assert records.recorded("ablation-mirror")["images"] == 20_000


def test_a_second_look_gives_what_the_page_says():
    """It gains where the training mirrored, and loses where it did not:
    the record of each."""
    gains = {}
    for name in ("fashion-mirrored", "fashion-93"):
        record = records.recorded(name)
        gains[name] = [run["accuracy_tta"] - run["accuracy"] for run in record["runs"]]
    assert min(gains["fashion-mirrored"]) > 0 and max(gains["fashion-93"]) < 0


# The page's functions -------------------------------------------------------------------


def test_the_page_has_the_modules_functions(page):
    """R4 starts and computes as the module's does; so do the flip,
    and the filters of any k."""
    x, made = drawn((6, 1, 28, 28)).float(), []
    for r4, flip in ((page["r4"], page["RandomFlip"]), (models.r4, models.RandomFlip)):
        torch.manual_seed(0)
        model = nn.Sequential(flip(), r4())
        loss = model(x)[:, 0].sum()
        made.append([loss, model.eval()(x)])
        made[-1] += torch.autograd.grad(loss, list(model.parameters()))
    for ours, theirs in zip(*made, strict=True):
        assert torch.equal(ours, theirs)
    for k in range(2, 8):
        filters = page["cosine_filters"](k)
        assert filters.shape == (2 * k * k - 2, 1, k, k)
        assert torch.equal(filters, models.cosine_filters(k))
        half = filters[: k * k - 1].flatten(1)
        close(half @ half.T, torch.eye(len(half)), 1e-5)
        close(filters.sum((1, 2, 3)), torch.zeros(len(filters)), 1e-5)


def test_r4_as_printed_fails_and_r4_runs(page):
    """Only the padding differs: 128 numbers arrive as printed, 800 as repaired."""
    x = torch.zeros(4, 1, 28, 28)
    with pytest.raises(RuntimeError, match="4x128 and 800x256"):
        page["r4_as_printed"]()(x)
    assert page["r4"]()(x).shape == (4, 10)
    for ours, theirs in zip(page["r4_as_printed"](), page["r4"](), strict=True):
        assert type(ours) is type(theirs)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert p.shape == q.shape


def test_last_side_is_what_the_modules_give(page):
    """All 256 choices of paddings from 0 to 3, against the convolutions themselves."""
    for paddings in product(range(4), repeat=4):
        x = torch.zeros(1, 1, 28, 28)
        for k, p, pooled in zip((3, 3, 5, 5), paddings, (0, 1, 0, 1), strict=True):
            x = F.conv2d(x, torch.zeros(1, 1, k, k), padding=p)
            x = F.max_pool2d(x, 2) if pooled else x
        assert x.shape[2] == page["last_side"](paddings)


def test_layer_sizes_reads_the_model_and_leaves_no_hook(page):
    """Shapes and parameter counts of every layer, and the model as it was."""
    model = models.r4()
    found = page["layer_sizes"](model, torch.zeros(2, 1, 28, 28))
    assert [name for name, *_ in found] == [type(layer).__name__ for layer in model]
    assert found[0] == ("Conv2d", (16, 28, 28), 160) and found[-1] == (
        "Linear",
        (10,),
        1290,
    )
    assert sum(held for *_, held in found) == sum(p.numel() for p in model.parameters())
    assert not any(layer._forward_hooks for layer in model)


def test_random_flip_mirrors_half_of_the_images_whole(page):
    """Each image is as it was or mirrored left to right; about half are;
    none in evaluation."""
    torch.manual_seed(0)
    x, layer = torch.randn(1000, 2, 3, 4), page["RandomFlip"]()
    made = layer(x)
    same, turned = ((made == t).flatten(1).all(1) for t in (x, x.flip(3)))
    assert (same ^ turned).all() and 430 < turned.sum() < 570
    assert layer.eval()(x) is x
    x = x[:8].requires_grad_()
    (grad,) = torch.autograd.grad(page["RandomFlip"]()(x).sum(), x)
    assert torch.equal(grad, torch.ones_like(x))


@pytest.mark.parametrize("extreme", [0.0, 1e38, torch.inf, torch.nan])
def test_random_flip_passes_extreme_values_on(page, extreme):
    """Nothing is computed with the pixels: infinity and nan stay in their own image."""
    x = torch.zeros(50, 1, 2, 2)
    x[::2, :, :, 0] = extreme
    torch.manual_seed(3)
    made = page["RandomFlip"]()(x)
    assert torch.equal(made[1::2], x[1::2])
    torch.testing.assert_close(made.sum(3), x.sum(3), equal_nan=True)


def test_sometimes_with_the_mirror_is_random_flip(page):
    """The same draws, the same images; unchanged in evaluation."""
    x, made = torch.randn(40, 1, 5, 5), []
    for layer in (page["RandomFlip"](), page["Sometimes"](page["CHANGES"]["mirrored"])):
        torch.manual_seed(5)
        made.append(layer(x))
    assert torch.equal(*made) and layer.eval()(x) is x


def test_changes_do_what_they_are_called(page):
    """Every change keeps the shape, and moves a single bright pixel where
    its name says."""
    x = torch.zeros(1, 1, 28, 28)
    x[0, 0, 3, 10] = 1
    places = {
        "none": (3, 10),
        "mirrored": (3, 17),
        "shifted by 1": (4, 11),
        "shifted by 2": (5, 12),
        "upside down": (24, 10),
        "turned by 90°": (17, 3),
    }
    for name, change in page["CHANGES"].items():
        assert change(x).shape == x.shape
        assert tuple(change(x)[0, 0].nonzero()[0].tolist()) == places[name], name


def test_nearest_mean(page):
    """Equal to going over the images one by one."""
    images, labels = drawn((200, 1, 3, 3)).float(), torch.arange(200) % 10
    split = Split(images + labels.view(-1, 1, 1, 1), labels)
    right = 0
    for x, y in zip(split.images, labels, strict=True):
        far = [(x - split.images[labels == k].mean(0)).norm().item() for k in range(10)]
        right += far.index(min(far)) == y
    close(page["nearest_mean"](split, split), right / 200, 1e-6)


def test_train_well_learns_and_ends_at_rate_zero(page):
    """The loss falls; seed by seed the same numbers; AdamW is given the peak rate."""
    images = drawn((300, 1, 4, 4)).float()
    split = Split(images, images.flatten(1)[:, :3].argmax(1))
    histories = []
    for _ in range(2):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 10))
        histories.append(page["train_well"](model, split, 5, lr=0.05, batch_size=64))
    assert histories[0].loss == histories[1].loss
    assert histories[0].loss[-1] < 0.8 * histories[0].loss[0]


def test_logits_of_is_the_model_in_evaluation_mode(page):
    """Any batch size, the last one short; batch norm and flips at rest."""
    torch.manual_seed(0)
    model, images = page["course_network"](models.RandomFlip()), torch.randn(7, 1, 28, 28)
    got = page["logits_of"](model.train(), images, 3)
    with torch.no_grad():
        torch.testing.assert_close(got, model.eval()(images), rtol=1e-4, atol=1e-5)
    assert not got.requires_grad


def test_by_class(page):
    """Equal to a loop over the classes; a class without images has no accuracy."""
    labels = torch.arange(90) % 9
    right = drawn((90,)) > 0
    got = page["by_class"](right, labels)
    for k in range(9):
        close(got[k], right[labels == k].double().mean(), 1e-6)
    assert got[9].isnan()


def test_confused_pairs(page):
    """Both directions together, each pair once, the largest first, no diagonal."""
    labels = torch.tensor([0, 0, 0, 1, 2, 2, 5])
    answers = torch.tensor([1, 1, 0, 0, 3, 2, 5])
    pairs = page["confused_pairs"](labels, answers)
    assert pairs[:2] == [(3, 1, 0), (1, 3, 2)] and len(pairs) == 45
    assert sum(count for count, *_ in pairs) == 4


@pytest.mark.parametrize("scale", [0.0, 1.0, 50.0, 1e4])
def test_two_looks_is_the_mean_probability(page, scale):
    """In float64 equal to averaging softmaxes, gradients too;
    at extreme logits finite."""
    a, b = scale * drawn((20, 10)), scale * drawn((20, 10), seed=1)
    got = page["two_looks"](a, b)
    assert got.isfinite().all()
    torch.testing.assert_close(got.exp(), (a.softmax(1) + b.softmax(1)) / 2)
    a.requires_grad_()
    ours, theirs = (
        torch.autograd.grad(v.exp()[:, 0].sum(), a)[0]
        for v in (page["two_looks"](a, b), ((a.softmax(1) + b.softmax(1)) / 2).log())
    )
    if scale <= 1:
        close(ours, theirs)


# Records: shown where they are, and said plainly where they are not ---------------------


def record(name, **more):
    runs = [
        {
            "seed": s,
            "accuracy": 0.92,
            "train_loss": [0.5, 0.3],
            "train_accuracy": [0.8, 0.95],
            "seconds": 60.0,
            "parameters": 1234,
        }
        | more
        for s in range(2)
    ]
    return {
        "name": name,
        "date": "2026-01-02",
        "epochs": 2,
        "runs": runs,
        "accuracy": {"mean": 0.92, "sd": 0.001, "n": 2},
        "seconds": {"mean": 60.0, "sd": 1.0, "n": 2},
        "machine": {"device": "cpu", "name": "a processor", "threads": 2},
    }


def test_without_records_the_page_says_so(page, tmp_path, monkeypatch):
    """Each cell that shows a record names the command that would make it, and no path."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = [
        page["record_row"]("R4", "R4"),
        page["judged"]("fashion-91", 0.91, 10),
        page["recorded_looks"]("fashion-93"),
        page["on_gpu"](),
        page["ablation_table"](),
    ]
    monkeypatch.setitem(page, "say", said.append)
    page["mirror_story"]()
    for text in said:
        assert "python -m benchmarks." in text and str(tmp_path) not in text, text


def test_with_records_the_page_shows_them(page, tmp_path, monkeypatch):
    """Rows, verdicts and the second look follow the numbers of the record,
    without sd too."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("R4", "fashion-91", "fashion-93", "fashion-93-cuda"):
        more = {"accuracy_tta": 0.925} if name == "fashion-93" else {}
        (tmp_path / f"{name}.json").write_text(json.dumps(record(name, **more)))
    row = page["record_row"]("R4", "R4")
    assert "**92.00%** ± **0.10%**, n = 2" in row and "a processor, cpu, 2 threads" in row
    assert "so the promise is kept" in page["judged"]("fashion-91", 0.91, 90)
    for share, seconds in ((0.93, 90), (0.91, 10)):
        assert "so the promise is not kept" in page["judged"](
            "fashion-91", share, seconds
        )
    assert "**92.50%** with two" in page["recorded_looks"]("fashion-93")
    assert "hold no second look" in page["recorded_looks"]("fashion-91")
    assert "recorded on 2026-01-02 on a processor: 92.00%" in page["on_gpu"]()
    ablation = record("ablation-fashion")
    sides = {"accuracy": {"mean": 0.91, "sd": 0.002, "n": 2}, "seconds": {"mean": 20.4}}
    ablation["variants"] = [{"name": "whole", "changed": "nothing"} | sides]
    (tmp_path / "ablation-fashion.json").write_text(json.dumps(ablation))
    assert (
        "| whole | nothing | **91.00%** ± **0.20%** | **20 s** |"
        in page["ablation_table"]()
    )
    assert "n = 2 seeds, 2 epochs, 2 threads" in page["ablation_table"]()
    mirror, said = record("ablation-mirror") | {"images": 3000}, []
    for epochs, change in product((2, 4), ("as they are", "mirrored")):
        sides = {
            "accuracy": {"mean": 0.9, "sd": None, "n": 1},
            "epochs": epochs,
            "runs": [{"train_accuracy": [0.5, 0.9 + epochs / 100]}],
        }
        mirror.setdefault("variants", []).append(
            {"name": f"{epochs} epochs, {change}"} | sides
        )
    (tmp_path / "ablation-mirror.json").write_text(json.dumps(mirror))
    monkeypatch.setitem(page, "say", said.append)
    monkeypatch.setitem(page, "show", lambda fig, *args, **named: said.append(fig))
    page["mirror_story"]()
    (ax,), text = said[0].axes, said[1]
    assert text.startswith(
        "Mean ± sd over n = 1 seeds, 3,000 images. In the last of 4 epochs, "
    )
    assert "**94.0%** of the training images are right as they are" in text
    drawn = [container.lines[0].get_xydata().tolist() for container in ax.containers]
    assert drawn == [[[2, 90], [4, 90]]] * 2
    lone = record("R4")
    lone["accuracy"]["sd"] = None
    (tmp_path / "R4.json").write_text(json.dumps(lone))
    assert "±" not in page["record_row"]("R4", "R4")


def test_r4_story_follows_the_record(page, tmp_path, monkeypatch):
    """Above 91 % the promise holds, at or below it does not."""
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    said = []
    monkeypatch.setitem(page, "say", said.append)
    monkeypatch.setitem(page, "show", lambda *args, **named: None)
    for share, verdict in ((0.92, "promise holds"), (0.91, "promise does not hold")):
        made = record("R4")
        made["accuracy"]["mean"] = share
        (tmp_path / "R4.json").write_text(json.dumps(made))
        page["r4_story"]()
        assert verdict in said[-1]


def test_the_gpu_cell_is_gated():
    """One cell carries the tag gpu; all it prints is a line that the
    sanitising file masks."""
    (cell,) = (c for c in cells(LESSON) if "gpu" in tags(c))
    assert "cuda" in cell.source and "nbval-ignore-output" not in tags(cell)
    (output,) = cell.outputs
    assert re.fullmatch(r"PyTorch \d[^\n]*", output.data["text/markdown"])
