"""Side by side: the arithmetic of the table, the tutorials' loop, the command that runs both."""

import json
import sys
from dataclasses import replace

import pytest
import torch

import benchmarks
from benchmarks import ceilings, compare, own, published, runs, speed, tutorial
from lessons_src import data
from lessons_src.data import Dataset, Split
from lessons_src.models import mlp

TARGETS = {target.name: target for target in speed.TARGETS}


def made(n, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randperm(n, generator=generator) % 10)


@pytest.fixture
def tiny(monkeypatch):
    """Both data sets are 70 noise images that call themselves real."""
    sets = {name: Dataset(name, made(70, 0), made(30, 1), tuple("0123456789"), "here")
            for name in data.SOURCES}  # fmt: skip
    monkeypatch.setattr(data, "load", lambda name: sets[name])
    return sets


def curve(*shares, seconds=2.0):
    return {"accuracy": list(shares), "seconds": [seconds] * len(shares)}


def test_the_mean_reaches_the_goal_not_the_best_seed():
    """Two seeds, one there in epoch 1, the other in epoch 3: the mean in epoch 2, each in its own
    seconds."""
    found = compare.reach([curve(0.98, 0.99, 0.99), curve(0.90, 0.97, 0.98, seconds=3.0)], 0.97)
    assert found["epochs"] == 2 and found["reached"]
    assert found["each"] == [4.0, 6.0]
    assert found["seconds"] == {"median": 5.0, "low": 4.0, "high": 6.0, "n": 2}
    assert found["accuracy"]["mean"] == pytest.approx(0.98) and found["accuracy"]["n"] == 2


def test_a_curve_that_falls_again_has_reached():
    """The first epoch counts, whatever comes after it; a mean equal to the goal counts as there."""
    assert compare.reach([curve(0.5, 0.9, 0.7)], 0.9)["epochs"] == 2
    assert compare.reach([curve(0.97), curve(0.97), curve(0.97)], 0.97)["reached"]


def test_a_curve_that_never_reaches_is_a_lower_bound():
    """All its seconds, its last accuracy, and "reached" False: the row says "at least"."""
    found = compare.reach([curve(0.5, 0.9, 0.89)], 0.95)
    assert (found["epochs"], found["reached"], found["each"]) == (3, False, [6.0])
    assert found["accuracy"]["mean"] == 0.89


def test_a_tutorial_that_was_stopped_short_may_be_the_fastest():
    """It might have got there right after: what it had taken is the bound, not the longer time of
    one that got there. Where it had taken longer, it is out of the question."""
    slow, fast = compare.reach([curve(0.9, 0.99)], 0.99), compare.reach([curve(0.9)], 0.99)
    assert compare.fastest({"a": slow, "b": fast})["recipe"] == "b"
    longer = compare.reach([curve(0.9, 0.9, 0.9)], 0.99)
    assert compare.fastest({"a": slow, "b": longer})["recipe"] == "a"


def test_ratios_are_paired_by_round():
    """A round in which the machine was slow slows both: 10/1, 30/3 and 24/2, not 30/1."""
    assert compare.ratios([10, 30, 24], [1, 3, 2]) == {"median": 10, "low": 10, "high": 12, "n": 3}


@pytest.mark.parametrize(
    ("name", "value", "reached", "word"),
    [
        ("mlp-97", 26, True, "aim"), ("mlp-97", 15, True, "must"), ("mlp-97", 14, True, "missed"),
        ("mlp-97", 99, False, "missed"), ("mlp-97", None, False, "missed"),
        ("mnist-99.4", 9, True, "aim"), ("mnist-99.4", 30, True, "must"),
        ("mnist-99.4", 31, True, "missed"), ("mnist-99.4", 1, False, "missed"),
    ],
)  # fmt: skip
def test_the_verdict(name, value, reached, word):
    """More is better for ratios, less for seconds; a goal that was not reached is missed."""
    assert compare.verdict(TARGETS[name], reached, value) == word


def ours(*shares, seconds=0.5, parameters=7000):
    return [{"accuracy": s, "seconds": seconds, "parameters": parameters} for s in shares]


def test_a_row_of_ratios():
    """R3 to 99 % in its second epoch, in 4 s; ours in half a second: 8 times, so the must of 40 is
    missed. R1b, which took longer, stands among the others."""
    done = {"R3": [curve(0.98, 0.991)] * 2, "R1b": [curve(0.9, 0.95, 0.96)] * 2,
            "mnist-99-quick": ours(0.992, 0.990)}  # fmt: skip
    entry = compare.row(TARGETS["mnist-99-quick"], done)
    assert entry["theirs"]["recipe"] == "R3" and entry["theirs"]["epochs"] == 2
    assert entry["theirs"]["published_epochs"] == 2
    assert entry["ratio"] == {"median": 8, "low": 8, "high": 8, "n": 2}
    assert (entry["at_least"], entry["met"], entry["must"], entry["aim"]) == (
        False, "missed", 40, 60)  # fmt: skip
    assert [other["recipe"] for other in entry["others"]] == ["R1b"]


def test_a_row_with_a_lower_bound():
    """Their mean never gets there in 20 s: at least 40 times, and that meets the aim."""
    done = {"R5": [curve(*[0.97] * 10)], "mlp-98": ours(0.981)}
    monkeypatched = own.RECIPES.get("mlp-98") or replace(own.RECIPES["mnist-99"], name="mlp-98")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(own.RECIPES, "mlp-98", monkeypatched)
        entry = compare.row(TARGETS["mlp-98"], done)
    assert entry["at_least"] and entry["ratio"]["median"] == 40 and entry["met"] == "aim"
    assert "≥ 40.0" in compare.shown(entry) and "≥ 20.0 s" in compare.shown(entry)


def test_no_ratio_where_the_course_missed_the_goal():
    """Two times to different accuracies have no ratio; the verdict is "missed"."""
    done = {"R4": [curve(0.92)], "fashion-91": ours(0.9099)}
    entry = compare.row(TARGETS["fashion-91"], done)
    assert entry["ratio"] is None and entry["met"] == "missed" and not entry["ours"]["reached"]


def test_a_row_of_seconds():
    """No tutorial: seconds against must_seconds and aim_seconds."""
    entry = compare.row(TARGETS["mnist-99.4"], {"mnist-99.4": ours(0.995, 0.994, seconds=20)})
    assert (entry["must_seconds"], entry["aim_seconds"], entry["met"]) == (30, 10, "must")
    assert entry["theirs"] is None and entry["ratio"] is None


def test_a_network_that_is_too_large_misses(monkeypatch):
    """ "Under 8,000 parameters" is part of the target."""
    recipe = replace(own.RECIPES["mnist-99"], name="mnist-small")
    monkeypatch.setitem(own.RECIPES, "mnist-small", recipe)
    for size, met in ((7999, "aim"), (8000, "missed")):
        done = {"mnist-small": ours(0.995, parameters=size)}
        assert compare.row(TARGETS["mnist-small"], done)["met"] == met


def test_only_whole_rounds_count():
    """A round in which one side is still to come is left out, whichever side it is."""
    done = {"R4": [curve(0.92), curve(0.5)], "fashion-91": ours(0.92)}
    assert compare.row(TARGETS["fashion-91"], done)["theirs"]["accuracy"]["n"] == 1
    assert compare.row(TARGETS["fashion-91"], {"fashion-91": ours(0.92)}) is None
    assert compare.row(TARGETS["fashion-91"], {"R4": [curve(0.92)]}) is None


def test_the_floor_counts_the_operations_of_the_recipe():
    """A network whose operations are known: 784 × 100 + 100 × 10 weights. Forward 2 for each, and
    for their gradients 2 again; the gradient of the hidden layer 2 for each of the second."""
    recipe = replace(own.RECIPES["mnist-99"], name="mlp-97", network=lambda: mlp(784, 100, 10),
                     epochs=3, batch_size=64)  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(own.RECIPES, "mlp-97", recipe)
        found = compare.floor(TARGETS["mlp-97"], 1000, seconds=2.0, peak=1e9, copy=1e9)
    assert found["operations"] == (4 * (784 * 100 + 1000) + 2 * 1000) * 1000 * 3
    assert found["seconds"] == pytest.approx(found["operations"] / 1e9)
    assert found["share"] == pytest.approx(found["seconds"] / 2)


def test_the_floor_of_a_pass_is_its_bytes():
    """A thousand float32 images of 28 × 28, read and written, over 1 GB/s: 6.272 ms of 2 s."""
    found = compare.floor(TARGETS["pass"], 1000, seconds=2.0, peak=1e9, copy=1e9)
    assert found["seconds"] == pytest.approx(0.006272)
    assert found["share"] == pytest.approx(0.003136)


def test_operations_of_a_convolution():
    """2 · B · H · W · k² · C_in · C_out forward; without the image's gradient as much backward."""
    layer = torch.nn.Conv2d(3, 5, 3, bias=False)
    x, y = torch.rand(2, 3, 10, 10), torch.zeros(2, 5, 8, 8)
    step = ceilings.training_step(layer, x, y, torch.nn.functional.mse_loss)
    assert sum(ceilings.operations(step).values()) == 2 * (2 * 2 * 8 * 8 * 9 * 3 * 5)


def test_traffic_counts_every_tensor_once():
    """b = a + a reads a and writes b; a view moves nothing."""
    a = torch.ones(1000)
    assert ceilings.traffic(lambda: a + a) == {"add": 8000}
    assert ceilings.traffic(lambda: a.view(10, 100).T) == {}


def test_both_sides_see_the_same_examples(tiny, tmp_path):
    """The loader's batches, in the order of the files, are the course's: images and labels."""
    for name in ("R2", "R4", "R5"):
        recipe = replace(published.RECIPES[name], shuffle=False)
        loaded = tiny[recipe.dataset]
        tutorial.unpack(loaded, tmp_path)
        train, _ = runs.splits(recipe)
        theirs = list(tutorial.loader(recipe, tmp_path, loaded.mean, loaded.std))
        images, labels = (torch.cat(parts) for parts in zip(*theirs, strict=True))
        torch.testing.assert_close(images, train.images, atol=1e-6, rtol=1e-5)
        assert torch.equal(labels, train.labels)
        assert len(theirs[0][1]) == recipe.batch_size
    assert len(theirs) == 2


def test_a_shuffled_epoch_sees_every_example_once(tiny, tmp_path):
    """In another order than the files', and the next epoch in another one again."""
    recipe, loaded = published.RECIPES["R5"], tiny["mnist"]
    tutorial.unpack(loaded, tmp_path)
    loader = tutorial.loader(recipe, tmp_path, 0.0, 1.0)
    epochs = [torch.cat([x for x, _ in loader]).sum((1, 2, 3)) for _ in range(2)]
    whole = (loaded.train.images / 255).sum((1, 2, 3))
    for sums in epochs:
        torch.testing.assert_close(sums.sort()[0], whole.sort()[0])
        assert not torch.allclose(sums, whole)
    assert not torch.allclose(*epochs)


def test_both_loops_learn_the_same(tiny, tmp_path):
    """Same seed, same order: the loss and the accuracy of three epochs are those of `fit`."""
    recipe = replace(published.RECIPES["R5"], shuffle=False, epochs=3, batch_size=16)
    loaded = tiny["mnist"]
    tutorial.unpack(loaded, tmp_path)
    train, test = runs.splits(recipe)
    loader = tutorial.loader(recipe, tmp_path, loaded.mean, loaded.std)
    theirs = tutorial.curve(recipe, loader, test, 3, seed=4, say=lambda *_, **__: None)
    course = runs.run(recipe, train, test, seed=4)
    assert theirs["loss"] == pytest.approx(course["train_loss"], abs=1e-5)
    assert theirs["accuracy"][-1] == course["accuracy"]
    assert len(theirs["seconds"]) == 3 and min(theirs["seconds"]) > 0


def test_measuring_the_accuracy_stops_the_clock(tiny, tmp_path, monkeypatch):
    """An evaluation of two seconds leaves the seconds of training as they are."""
    now = [0.0]
    monkeypatch.setattr(tutorial.time, "perf_counter", lambda: now[0])

    def evaluate(model, test):
        now[0] += 2.0
        return 0.0, 0.5

    monkeypatch.setattr(tutorial, "evaluate", evaluate)
    tutorial.unpack(tiny["mnist"], tmp_path)
    recipe = published.RECIPES["R5"]
    loader = tutorial.loader(recipe, tmp_path, 0.1, 0.3)
    found = tutorial.curve(recipe, loader, None, 2, seed=0, say=lambda *_, **__: None)
    assert found["seconds"] == [0.0, 0.0] and now[0] == 4.0


@pytest.fixture
def command(tiny, monkeypatch, tmp_path):
    """`python -m benchmarks.speed ...` on tiny data, with recipes of one epoch; its results."""
    small = {n: replace(own.RECIPES["mnist-99"], name=n, network=lambda: mlp(784, 10),
                        channels_last=False) for n in ("mlp-97", "mlp-98")}  # fmt: skip
    monkeypatch.setattr(own, "RECIPES", small)
    monkeypatch.setattr(speed.own, "RECIPES", small)
    monkeypatch.setattr(ceilings, "matrix_product", lambda *_: 1e11)
    monkeypatch.setattr(ceilings, "copying", lambda *_: 1e10)
    monkeypatch.setattr(benchmarks, "RESULTS", tmp_path)
    monkeypatch.setattr(runs, "RESULTS", tmp_path)
    monkeypatch.setattr(speed, "RESULTS", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["/x/benchmarks/speed.py", *arguments])
        speed.main()
        record = tmp_path / "speed.json"
        return json.loads(record.read_text()) if record.exists() else None

    return run


def test_the_record(command, tmp_path, capsys):
    """Every target whose recipe exists has a row with spread, verdict and floor; what it was
    measured on is said; the raw curves are there; the file of the way is gone."""
    record = command("--rounds", "2", "--epochs", "R5=2")
    printed = capsys.readouterr().out
    assert [t["name"] for t in record["targets"]] == ["pass", "mlp-97", "mlp-98"]
    for entry in record["targets"]:
        assert {"what", "dataset", "goal", "must", "aim", "theirs", "ours", "ratio", "at_least",
                "met", "floor"} <= entry.keys()  # fmt: skip
        assert entry["theirs"]["seconds"].keys() == {"median", "low", "high", "n"}
        assert entry["ours"]["seconds"]["n"] == 2 == record["rounds"]
        assert entry["floor"]["share"] > 0 and entry["what"] in printed
    assert {"threads", "load", "load_after", "flags", "name", "torch", "cores"} <= set(
        record["machine"])  # fmt: skip
    assert record["command"] == "python -m benchmarks.speed --rounds 2 --epochs R5=2"
    assert len(record["raw"]["R5"]) == 2 and len(record["raw"]["R5"][0]["accuracy"]) == 2
    assert "mnist-99.5: benchmarks.own has no such recipe" in printed
    assert not (tmp_path / "speed.part").exists()


def test_theirs_and_ours_take_turns():
    """Within a round each training comes once, theirs before the ones compared with it."""
    assert speed.order(speed.TARGETS, speed.EPOCHS) == [
        "pass", "R5", "mlp-97", "mlp-98", "R3", "R1b", "mnist-99-quick", "mnist-99.4",
        "mnist-99.5", "mnist-small", "R4", "fashion-91", "fashion-92", "fashion-93"]  # fmt: skip


def test_an_interruption_loses_one_training(command, tmp_path, monkeypatch, capsys):
    """Broken off in the second round: one sentence, no record. The same command goes on, and trains
    only what is missing; with other settings it starts anew."""
    whole, calls = speed.Bench.train, []

    def train(self, name, seed):
        calls.append((name, seed))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return whole(self, name, seed)

    monkeypatch.setattr(speed.Bench, "train", train)
    arguments = ("--rounds", "2", "--epochs", "R5=1")
    with pytest.raises(SystemExit, match="goes on from the last whole training"):
        command(*arguments)
    assert not (tmp_path / "speed.json").exists() and (tmp_path / "speed.part").exists()
    record = command(*arguments)
    assert calls[5:] == [("R5", 1), ("R5", 1), ("mlp-97", 1), ("mlp-98", 1)]
    assert record["rounds"] == 2 and all(len(r) == 2 for r in record["raw"].values())

    (tmp_path / "speed.part").write_text(json.dumps({"settings": {}, "done": {}, "load": []}))
    command("--rounds", "1", "--epochs", "R5=1")
    assert "of other settings: starting anew" in capsys.readouterr().out


def test_a_quick_look_writes_nothing(command, tmp_path):
    """Neither --quick nor --only touches the record; --only does so where it is told a folder."""
    assert command("--quick", "--epochs", "R5=1") is None
    assert command("--only", "mlp-97", "--epochs", "R5=1", "--rounds", "1") is None
    assert not list(tmp_path.iterdir())
    record = command("--only", "mlp-97", "--rounds", "1", "--results", str(tmp_path))
    assert [t["name"] for t in record["targets"]] == ["mlp-97"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--only", "mlp-100"], "unknown: mlp-100; there are: pass, mlp-97"),
        (["--epochs", "R9=3"], "expected NAME=N with NAME of R5"),
        (["--epochs", "R5=x"], "expected NAME=N"),
        (["--rounds", "0"], "must be 1 or more"),
    ],
)
def test_wrong_arguments_are_answered(command, arguments, words, capsys):
    """A sentence and exit status 2."""
    with pytest.raises(SystemExit) as stopped:
        command(*arguments)
    assert stopped.value.code == 2 and words in capsys.readouterr().err


def test_no_real_data_no_numbers(monkeypatch):
    """On the stand-in the command says what it needs, without a traceback."""
    monkeypatch.setenv("LESSONS_DATA", "standin")
    monkeypatch.setattr(sys, "argv", ["speed.py", "--quick", "--only", "pass"])
    with pytest.raises(SystemExit, match="needs the real mnist, not the stand-in"):
        speed.main()
