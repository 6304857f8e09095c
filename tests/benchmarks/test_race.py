"""benchmarks.race: the arithmetic of the table, the tutorials' loop, the command that runs both."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import race
from lessons_src import data, recipes, records
from lessons_src.data import Dataset, Split
from lessons_src.models import mlp
from lessons_src.published import AS_PUBLISHED
from lessons_src.recipes import OWN

TARGETS = {target.name: target for target in race.TARGETS}


def split(n, seed):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(256, (n, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return Split(images, torch.randperm(n, generator=generator) % 10)


@pytest.fixture
def tiny(monkeypatch):
    """Both data sets are 70 noise images that call themselves real."""
    names = tuple("0123456789")
    sets = {
        k: Dataset(k, split(70, 0), split(30, 1), names, "here") for k in data.SOURCES
    }
    monkeypatch.setattr(data, "load", lambda name: sets[name])
    return sets


def curve(*accuracies, seconds=2.0):
    return {"accuracy": list(accuracies), "seconds": [seconds] * len(accuracies)}


def ours(*accuracies, seconds=0.5, parameters=7000):
    rest = {"seconds": seconds, "parameters": parameters}
    return [{"accuracy": accuracy, **rest} for accuracy in accuracies]


# The arithmetic -----------------------------------------------------------------------------------


def test_the_mean_reaches_the_goal_not_the_best_seed():
    """Two seeds, one there in epoch 1, the other in epoch 3: the mean in epoch 2, each in its own
    seconds."""
    curves = [curve(0.98, 0.99, 0.99), curve(0.90, 0.97, 0.98, seconds=3.0)]
    side = race.reach(curves, 0.97)
    assert (side["epochs"], side["reached"], side["seconds"]) == (2, True, [4.0, 6.0])
    assert side["accuracy"]["mean"] == pytest.approx(0.98) and side["accuracy"]["n"] == 2


def test_a_curve_that_falls_again_has_reached():
    """The first epoch counts, whatever comes after it; a mean equal to the goal is there."""
    assert race.reach([curve(0.5, 0.9, 0.7)], 0.9)["epochs"] == 2
    assert race.reach([curve(0.97), curve(0.97), curve(0.97)], 0.97)["reached"]


def test_a_curve_that_never_reaches_is_a_lower_bound():
    """All its seconds, its last accuracy, and "reached" False: the row says "at least"."""
    side = race.reach([curve(0.5, 0.9, 0.89)], 0.95)
    assert (side["epochs"], side["reached"], side["seconds"]) == (3, False, [6.0])
    assert side["accuracy"]["mean"] == 0.89


def test_a_tutorial_that_was_stopped_short_may_be_the_fastest():
    """It might have got there right after: what it had taken is the bound, not the longer time
    of one that got there. Where it had taken longer, it is out of the question."""
    slow, short = race.reach([curve(0.9, 0.99)], 0.99), race.reach([curve(0.9)], 0.99)
    assert race.fastest({"a": slow, "b": short}) == "b"
    longer = race.reach([curve(0.9, 0.9, 0.9)], 0.99)
    assert race.fastest({"a": slow, "b": longer}) == "a"


def test_ratios_are_paired_by_round():
    """A round in which the machine was slow slows both: 10/1, 30/3 and 24/2, not 30/1."""
    expected = {"median": 10, "low": 10, "high": 12, "n": 3}
    assert race.ratios([10, 30, 24], [1, 3, 2]) == expected


@pytest.mark.parametrize(
    ("name", "value", "reached", "word"),
    [
        ("mlp-97", 26, True, "aim"),
        ("mlp-97", 15, True, "must"),
        ("mlp-97", 14, True, "missed"),
        ("mlp-97", 99, False, "missed"),
        ("mlp-97", None, False, "missed"),
        ("mnist-99.4", 9, True, "aim"),
        ("mnist-99.4", 30, True, "must"),
        ("mnist-99.4", 31, True, "missed"),
        ("mnist-99.4", 1, False, "missed"),
    ],
)
def test_the_verdict(name, value, reached, word):
    """More is better for ratios, less for seconds; a goal not reached is missed."""
    assert race.verdict(TARGETS[name], reached, value) == word


def test_a_row_of_ratios():
    """R3 to 99 % in its second epoch, in 4 s; ours in half a second: 8 times, so the must of 40
    is missed. R1b, which took longer, stands among the others."""
    done = {
        "R3": [curve(0.98, 0.991)] * 2,
        "R1b": [curve(0.9, 0.95, 0.96)] * 2,
        "mnist-99-quick": ours(0.992, 0.990),
    }
    entry = race.row(TARGETS["mnist-99-quick"], done)
    theirs = entry["theirs"]
    assert (theirs["recipe"], theirs["epochs"], theirs["published_epochs"]) == (
        "R3",
        2,
        2,
    )
    assert entry["ratio"] == {"median": 8, "low": 8, "high": 8, "n": 2}
    assert (entry["at_least"], entry["met"]) == (False, "missed")
    assert (entry["must"], entry["aim"]) == (40, 60)
    assert [other["recipe"] for other in entry["others"]] == ["R1b"]


def test_a_row_with_a_lower_bound():
    """Their mean never gets there in 20 s: at least 40 times, and that meets the aim."""
    done = {"R5": [curve(*[0.97] * 10)], "mlp-98": ours(0.981)}
    entry = race.row(TARGETS["mlp-98"], done)
    assert entry["at_least"] and entry["ratio"]["median"] == 40 and entry["met"] == "aim"
    assert "R5 at least 20.0 s, at least 40.0 times" in race.sentence(entry)


def test_no_ratio_where_the_course_missed_the_goal():
    """Two times to different accuracies have no ratio; the verdict is "missed"."""
    done = {"R4": [curve(0.92)], "fashion-91": ours(0.9099)}
    entry = race.row(TARGETS["fashion-91"], done)
    assert (entry["ratio"], entry["met"], entry["ours"]["reached"]) == (
        None,
        "missed",
        False,
    )


def test_a_row_of_seconds():
    """No tutorial: seconds against must_seconds and aim_seconds."""
    done = {"mnist-99.4": ours(0.995, 0.994, seconds=20)}
    entry = race.row(TARGETS["mnist-99.4"], done)
    assert (entry["must_seconds"], entry["aim_seconds"], entry["met"]) == (30, 10, "must")
    assert entry["theirs"] is None and entry["ratio"] is None


@pytest.mark.parametrize(("size", "met"), [(7999, "aim"), (8000, "missed")])
def test_a_network_that_is_too_large_misses(size, met):
    """ "Under 8,000 parameters" is part of the target."""
    done = {"mnist-small": ours(0.995, parameters=size)}
    assert race.row(TARGETS["mnist-small"], done)["met"] == met


def test_only_whole_rounds_count():
    """A round in which one side is still to come is left out, whichever side it is."""
    target, done = TARGETS["fashion-91"], {"fashion-91": ours(0.92)}
    assert race.row(target, done) is None
    assert race.row(target, {"R4": [curve(0.92)]}) is None
    entry = race.row(target, done | {"R4": [curve(0.92), curve(0.5)]})
    assert entry["theirs"]["accuracy"]["n"] == 1


def test_the_floor_counts_the_operations_of_the_recipe(monkeypatch):
    """A network whose operations are known: 784 × 100 + 100 × 10 weights. Forward 2 for each, and
    for their gradients 2 again; the gradient of the hidden layer 2 for each of the second."""
    recipe = replace(
        OWN["mlp-97"], network=lambda: mlp(784, 100, 10), epochs=3, batch_size=64
    )
    monkeypatch.setitem(OWN, "mlp-97", recipe)
    floor = race.floor(TARGETS["mlp-97"], 1000, seconds=2.0, peak=1e9, copy=1e9)
    assert floor["operations"] == (4 * (784 * 100 + 1000) + 2 * 1000) * 1000 * 3
    assert floor["seconds"] == pytest.approx(floor["operations"] / 1e9)
    assert floor["share"] == pytest.approx(floor["seconds"] / 2)


def test_the_floor_of_a_pass_is_its_bytes():
    """A thousand float32 images of 28 × 28, read and written, over 1 GB/s: 6.272 ms of 2 s."""
    floor = race.floor(TARGETS["pass"], 1000, seconds=2.0, peak=1e9, copy=1e9)
    assert floor["seconds"] == pytest.approx(0.006272)
    assert floor["share"] == pytest.approx(0.003136)


# The tutorials' loop ------------------------------------------------------------------------------


def loader_of(recipe, loaded, folder):
    race.unpack(loaded, folder)
    return race.image_loader(recipe, loaded, folder)


def test_both_sides_see_the_same_examples(tiny, tmp_path):
    """The loader's batches, in the order of the files, are the course's: images and labels."""
    for name in ("R2", "R4", "R5"):
        recipe = replace(AS_PUBLISHED[name], shuffle=False)
        train, _ = recipes.splits(recipe)
        theirs = list(loader_of(recipe, tiny[recipe.dataset], tmp_path))
        images, labels = (torch.cat(parts) for parts in zip(*theirs, strict=True))
        torch.testing.assert_close(images, train.images, atol=1e-6, rtol=1e-5)
        assert torch.equal(labels, train.labels)
        assert len(theirs[0][1]) == recipe.batch_size


def test_a_shuffled_epoch_sees_every_example_once(tiny, tmp_path):
    """In another order than the files', and the next epoch in another one again."""
    recipe = replace(AS_PUBLISHED["R5"], moments=(0.0, 1.0))
    loader = loader_of(recipe, tiny["mnist"], tmp_path)
    epochs = [torch.cat([x for x, _ in loader]).sum((1, 2, 3)) for _ in range(2)]
    whole = (tiny["mnist"].train.images / 255).sum((1, 2, 3))
    for sums in epochs:
        torch.testing.assert_close(sums.sort()[0], whole.sort()[0])
        assert not torch.allclose(sums, whole)
    assert not torch.allclose(*epochs)


def test_both_loops_learn_the_same(tiny, tmp_path):
    """Same seed, same order: loss and accuracy of three epochs are those of `fit`."""
    recipe = replace(AS_PUBLISHED["R5"], shuffle=False, epochs=3, batch_size=16)
    train, test = recipes.splits(recipe)
    loader = loader_of(recipe, tiny["mnist"], tmp_path)
    theirs = race.train_as_tutorial(recipe, loader, test, 3, 4)
    _, course = recipes.run(recipe, train, test, seed=4)
    assert theirs["loss"] == pytest.approx(course["train_loss"], abs=1e-5)
    assert theirs["accuracy"][-1] == course["accuracy"]
    assert len(theirs["seconds"]) == 3 and min(theirs["seconds"]) > 0


def test_measuring_the_accuracy_stops_the_clock(tiny, tmp_path, monkeypatch):
    """An evaluation of two seconds leaves the seconds of training as they are."""
    now = [0.0]
    monkeypatch.setattr(race.time, "perf_counter", lambda: now[0])

    def evaluate(model, test):
        now[0] += 2.0
        return 0.0, 0.5

    monkeypatch.setattr(race, "evaluate", evaluate)
    recipe = AS_PUBLISHED["R5"]
    loader = loader_of(recipe, tiny["mnist"], tmp_path)
    curves = race.train_as_tutorial(recipe, loader, None, 2, 0)
    assert curves["seconds"] == [0.0, 0.0] and now[0] == 4.0


# The command --------------------------------------------------------------------------------------

ROWS = [TARGETS[name] for name in ("pass", "mlp-97", "mlp-98")]


@pytest.fixture
def command(tiny, monkeypatch, tmp_path):
    """`python -m benchmarks.race ...` on tiny data, three rows, linear networks; its record."""
    for name in ("mlp-97", "mlp-98"):
        linear = replace(OWN[name], network=lambda: mlp(784, 10), epochs=1)
        monkeypatch.setitem(OWN, name, linear)
    monkeypatch.setattr(race, "TARGETS", ROWS)
    monkeypatch.setattr(race, "ceiling", lambda: (1e11, 1e10))
    monkeypatch.setattr(race, "keep_memory", lambda: None)
    monkeypatch.setattr(records, "FOLDER", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["/x/benchmarks/race.py", *arguments])
        race.main()
        path = tmp_path / "race.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    return run


def test_the_record(command, tmp_path, capsys):
    """Every target has a row with spread, verdict and floor; the machine and the raw curves are
    there; the file of the trainings so far is gone."""
    record = command("--rounds", "2", "--epochs", "R5=2")
    printed = capsys.readouterr().out
    assert [target["name"] for target in record["targets"]] == [
        "pass",
        "mlp-97",
        "mlp-98",
    ]
    keys = {
        "what",
        "dataset",
        "goal",
        "must",
        "aim",
        "theirs",
        "ours",
        "ratio",
        "at_least",
    }
    for entry in record["targets"]:
        assert keys | {"met", "floor"} <= entry.keys()
        assert entry["theirs"]["seconds"].keys() == {"median", "low", "high", "n"}
        assert entry["ours"]["seconds"]["n"] == 2 == record["rounds"]
        assert entry["floor"]["share"] > 0 and entry["what"] in printed
    assert {"threads", "load", "load_after", "name", "torch", "cores"} <= set(
        record["machine"]
    )
    assert record["command"] == "python -m benchmarks.race --rounds 2 --epochs R5=2"
    assert len(record["raw"]["R5"]) == 2 and len(record["raw"]["R5"][0]["accuracy"]) == 2
    assert not (tmp_path / "race.part").exists()


def test_theirs_and_ours_take_turns():
    """Within a round each training comes once, theirs before the ones compared with it."""
    expected = (
        "pass R5 mlp-97 mlp-98 R3 R1b mnist-99-quick mnist-99.4 mnist-99.5 mnist-small "
    )
    expected += "R4 fashion-91 fashion-92 fashion-93"
    assert race.turns(list(TARGETS.values()), race.LIMITS) == expected.split()


def test_an_interruption_loses_one_training(command, tmp_path, monkeypatch, capsys):
    """In the second round: one sentence, no record. The same command goes on, and trains only
    what is missing; with other settings it starts anew."""
    whole, calls = race.train_one, []

    def train_one(name, seed, *rest):
        calls.append((name, seed))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return whole(name, seed, *rest)

    monkeypatch.setattr(race, "train_one", train_one)
    arguments = ("--rounds", "2", "--epochs", "R5=1")
    with pytest.raises(SystemExit, match="from the last whole training"):
        command(*arguments)
    part = tmp_path / "race.part"
    assert not (tmp_path / "race.json").exists() and part.exists()
    record = command(*arguments)
    assert calls[5:] == [("R5", 1), ("R5", 1), ("mlp-97", 1), ("mlp-98", 1)]
    assert record["rounds"] == 2 and all(len(r) == 2 for r in record["raw"].values())
    part.write_text(
        json.dumps({"settings": {}, "done": {}, "load": []}), encoding="utf-8"
    )
    command("--rounds", "2", "--epochs", "R5=1")
    assert "of other settings: starting anew" in capsys.readouterr().out


def test_some_rows_write_nothing_unless_a_folder_is_named(command, tmp_path):
    """--only does not touch the record; with --results it writes there."""
    assert command("--only", "mlp-97", "--epochs", "R5=1", "--rounds", "1") is None
    assert not list(tmp_path.iterdir())
    record = command("--only", "mlp-97", "--rounds", "1", "--results", str(tmp_path))
    assert [target["name"] for target in record["targets"]] == ["mlp-97"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "mlp-100"], "unknown: mlp-100; there are: pass, mlp-97"),
        (["--epochs", "R9=3"], "expected NAME=N with NAME of R5"),
        (["--epochs", "R5=x"], "expected NAME=N"),
        (["--rounds", "0"], "must be 1 or more"),
    ],
)
def test_wrong_arguments_are_answered(command, arguments, message, capsys):
    """A sentence and exit status 2."""
    with pytest.raises(SystemExit) as end:
        command(*arguments)
    assert end.value.code == 2 and message in capsys.readouterr().err


def test_no_real_data_no_numbers(monkeypatch):
    """On the stand-in the command says what it needs, without a traceback."""
    monkeypatch.setenv("LESSONS_DATA", "standin")
    monkeypatch.setattr(sys, "argv", ["race.py", "--only", "pass"])
    with pytest.raises(SystemExit, match="needs the real mnist, not the stand-in"):
        race.main()
