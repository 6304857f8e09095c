"""benchmarks.race: the arithmetic of the table, the tutorials' loop, the command that runs both."""

import json
import sys
from dataclasses import replace

import pytest
import torch

from benchmarks import race, race_table, recipe_hash
from lessons_src import data, recipes, records
from lessons_src.data import Dataset, Split
from lessons_src.models import Crop, mlp
from lessons_src.published import AS_PUBLISHED, RECIPES
from lessons_src.recipes import OWN

TARGETS = {target.name: target for target in race_table.TARGETS}


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


def curve(*accuracies, seconds=2.0, prepare=0.0, in_memory=0.5):
    rest = {"prepare": prepare, "in_memory": in_memory}
    return {"accuracy": list(accuracies), "seconds": [seconds] * len(accuracies), **rest}


def ours(*accuracies, seconds=0.5, prepare=0.0, parameters=7000):
    rest = {"seconds": seconds, "prepare": prepare, "parameters": parameters}
    return [{"accuracy": accuracy, **rest} for accuracy in accuracies]


def rounds_of(**results):
    """Rounds in the record's form: name -> a result for each round."""
    n = max(map(len, results.values()))
    rounds = [{"date": f"2026-12-0{k + 1}", "results": {}} for k in range(n)]
    for name, values in results.items():
        for one, value in zip(rounds, values, strict=False):
            one["results"][name.replace("_", "-")] = value
    return rounds


def row_of(name, limit=100, **results):
    results = {key.replace("__", "."): value for key, value in results.items()}
    return race_table.row(TARGETS[name], rounds_of(**results), limit)


# The arithmetic -----------------------------------------------------------------------------------


def test_the_mean_reaches_the_goal_not_the_best_seed():
    """Two seeds, one there in epoch 1, the other in epoch 3: the mean in epoch 2, each in its own
    seconds, and in each what came before the first epoch."""
    curves = [curve(0.98, 0.99, 0.99, prepare=0.5), curve(0.90, 0.97, 0.98, seconds=3.0)]
    side = race_table.reach(curves, 0.97, 100)
    assert (side["epochs"], side["reached"], side["seconds"]) == (2, True, [4.5, 6.0])
    assert side["accuracy"]["mean"] == pytest.approx(0.98) and side["accuracy"]["n"] == 2


def test_a_curve_that_falls_again_has_reached():
    """The first epoch counts, whatever comes after it; a mean equal to the goal is there."""
    assert race_table.reach([curve(0.5, 0.9, 0.7)], 0.9, 100)["epochs"] == 2
    three = [curve(0.97), curve(0.97), curve(0.97)]
    assert race_table.reach(three, 0.97, 100)["reached"]


def test_a_curve_that_never_reaches_counts_with_the_limit():
    """Its last accuracy, "reached" False, and the limit that is the same for all, not the few
    seconds more that its last epoch took."""
    side = race_table.reach([curve(0.5, 0.9, 0.89)], 0.95, 5)
    assert (side["epochs"], side["reached"], side["seconds"]) == (3, False, [5])
    assert side["accuracy"]["mean"] == 0.89


def test_a_slow_round_does_not_hide_that_the_goal_was_reached():
    """A slow day's curve is shorter: the mean of an epoch is that of the rounds that came so far,
    a round that was cut counts with the limit, and the ratio is "at least"."""
    curves = [curve(0.5, 0.6, 0.99), curve(0.5, 0.6)]
    side = race_table.reach(curves, 0.95, 8)
    assert (side["epochs"], side["reached"], side["cut"]) == (3, True, 1)
    assert side["seconds"] == [6.0, 8] and side["accuracy"]["n"] == 1
    side = race_table.reach([curve(0.5, 0.96, 0.7), curve(0.5, 0.93)], 0.95, 8)
    assert (side["epochs"], side["reached"], side["cut"]) == (3, False, 2)
    entry = row_of(
        "fashion-91", R4=[curve(0.5, 0.6, 0.92), curve(0.5)], fashion_91=ours(0.92, 0.92)
    )
    assert (
        entry["at_least"] and entry["ratio"]["low"] == 12 and entry["theirs"]["reached"]
    )
    assert entry["parts"]["product"] == pytest.approx((12 * 200) ** 0.5)


def test_the_fastest_tutorial_counts():
    """One that was stopped counts with the limit, so one that got there before it is faster."""
    there = race_table.reach([curve(0.9, 0.99)], 0.99, 5)
    stopped = race_table.reach([curve(0.9, 0.9, 0.9)], 0.99, 5)
    assert race_table.fastest({"a": there, "b": stopped}) == "a"


def test_ratios_are_paired_by_round():
    """A round in which the machine was slow slows both: 10/1, 30/3 and 24/2, not 30/1."""
    expected = {"median": 10, "low": 10, "high": 12, "n": 3}
    assert race_table.ratios([10, 30, 24], [1, 3, 2]) == expected


def test_a_ratio_is_the_product_of_its_parts():
    """Their epoch takes 8 s and 2 s in memory, one of ours 0.5 s, twelve epochs against three.
    4 × 4 × 4 is what training alone would give; preparation, 4 s against 1.5 s, is the rest."""
    curves = [curve(*[0.5] * 12, seconds=8.0, prepare=4.0, in_memory=2.0)] * 2
    own = ours(0.9, 0.9, seconds=1.5, prepare=1.5)
    side = {"epochs": 12, "seconds": [100.0, 100.0]}
    parts = race_table.made_of(curves, side, own, epochs=3)
    assert (parts["loader"], parts["network"], parts["epochs"]) == pytest.approx(
        (4, 4, 4)
    )
    assert parts["product"] == pytest.approx(100 / 3)
    assert parts["rest"] == pytest.approx((100 / 3) / 64)


@pytest.mark.parametrize(
    ("name", "value", "reached", "word"),
    [
        ("mlp-97", 51, True, "aim"),
        ("mlp-97", 15, True, "must"),
        ("mlp-97", 14, True, "missed"),
        ("mlp-97", 99, False, "missed"),
        ("mlp-97", None, False, "missed"),
        ("mnist-99.4-quick", 9, True, "aim"),
        ("mnist-99.4-quick", 20, True, "must"),
        ("mnist-99.4-quick", 21, True, "missed"),
        ("mnist-99.4-quick", 1, False, "missed"),
    ],
)
def test_the_verdict(name, value, reached, word):
    """More is better for ratios, less for seconds; a goal not reached is missed."""
    assert race_table.verdict(TARGETS[name], reached, value) == word


def test_a_row_of_ratios():
    """R3 to 99 % in its second epoch, in 4 s; ours in half a second: 8 times, so the must of 40
    is missed. R1b, which took longer, stands among the others."""
    entry = row_of(
        "mnist-99-fast",
        R3=[curve(0.98, 0.991)] * 2,
        R1b=[curve(0.9, 0.95, 0.96)] * 2,
        mnist_99_fast=ours(0.992, 0.990),
    )
    theirs = entry["theirs"]
    found = (theirs["recipe"], theirs["epochs"], theirs["published_epochs"])
    assert found == ("R3", 2, 2)
    assert entry["ratio"] == {"median": 8, "low": 8, "high": 8, "n": 2}
    assert (entry["at_least"], entry["met"]) == (False, "missed")
    assert (entry["must"], entry["aim"]) == (40, 80)
    assert [other["recipe"] for other in entry["others"]] == ["R1b"]
    assert entry["dates"] == ["2026-12-01", "2026-12-02"]


def test_preparation_counts_on_both_sides():
    """Half a second of decoding on our side halves the ratio; on theirs it adds to their time."""
    entry = row_of(
        "fashion-91",
        R4=[curve(0.92, seconds=9, prepare=1)],
        fashion_91=ours(0.92, seconds=0.5, prepare=0.5),
    )
    assert entry["ratio"]["median"] == 10
    assert entry["ours"]["seconds"]["median"] == 1.0
    assert entry["ours"]["prepare"]["median"] == 0.5


def test_a_row_with_a_lower_bound():
    """Their mean never gets there within 20 s: at least 40 times, and that meets the aim."""
    entry = row_of("mlp-98", limit=20, R5=[curve(*[0.97] * 11)], mlp_98=ours(0.981))
    assert entry["at_least"] and entry["ratio"]["median"] == 40 and entry["met"] == "aim"
    assert "R5 at least 20.0 s, at least 40.0 times" in race_table.sentence(entry)


def test_the_headline_is_the_smallest_ratio():
    """Rounds of 40 and of 20 times: 20 is said first."""
    done = {
        "R4": [curve(0.92, seconds=20), curve(0.92, seconds=10)],
        "fashion_91": ours(0.92, 0.92),
    }
    said = race_table.sentence(row_of("fashion-91", **done))
    assert "20.0 times (median 30.0, n = 2)" in said


def test_no_ratio_where_the_course_missed_the_goal():
    """Two times to different accuracies have no ratio; the verdict is "missed"."""
    entry = row_of("fashion-91", R4=[curve(0.92)], fashion_91=ours(0.9099))
    found = (entry["ratio"], entry["parts"], entry["met"], entry["ours"]["reached"])
    assert found == (None, None, "missed", False)


def test_a_row_of_seconds():
    """No tutorial: seconds against must_seconds and aim_seconds."""
    rounds = [
        {"date": "", "results": {"mnist-99.4-quick": one}}
        for one in ours(0.995, 0.994, seconds=20)
    ]
    entry = race_table.row(TARGETS["mnist-99.4-quick"], rounds, 100)
    assert (entry["must_seconds"], entry["aim_seconds"], entry["met"]) == (20, 10, "must")
    assert entry["theirs"] is None and entry["ratio"] is None


@pytest.mark.parametrize(("size", "met"), [(7999, "aim"), (8000, "missed")])
def test_a_network_that_is_too_large_misses(size, met):
    """ "Under 8,000 parameters" is part of the target."""
    entry = row_of("mnist-small", mnist_small=ours(0.995, parameters=size))
    assert entry["met"] == met


def test_only_whole_rounds_count():
    """A round in which one side is still to come is left out, whichever side it is."""
    assert row_of("fashion-91", fashion_91=ours(0.92)) is None
    assert row_of("fashion-91", R4=[curve(0.92)]) is None
    both = {"fashion_91": ours(0.92), "R4": [curve(0.92), curve(0.5)]}
    assert row_of("fashion-91", **both)["theirs"]["accuracy"]["n"] == 1


def test_a_pass_is_told_twice():
    """The first one with all that comes before it, and a later one, which is the row's ratio."""
    sides = {"theirs": {"first": 9.0, "later": 8.0}, "ours": {"first": 0.6, "later": 0.1}}
    entry = race_table.row(
        TARGETS["pass"], [{"date": "", "results": {"pass": sides}}], 100
    )
    assert entry["ratio"]["median"] == pytest.approx(80)
    assert entry["first_ratio"]["median"] == pytest.approx(15)
    assert entry["met"] == "must"
    assert "the first pass 15.0 times" in race_table.sentence(entry)


def test_the_floor_counts_the_operations_of_the_recipe(monkeypatch):
    """A network whose operations are known: 784 × 100 + 100 × 10 weights. Forward 2 for each, and
    for their gradients 2 again; the gradient of the hidden layer 2 for each of the second."""
    recipe = replace(
        OWN["mlp-97"], network=lambda: mlp(784, 100, 10), epochs=3, batch_size=64
    )
    monkeypatch.setitem(OWN, "mlp-97", recipe)
    floor = race_table.floor(TARGETS["mlp-97"], 1000, seconds=2.0, peak=1e9, copy=1e9)
    assert floor["operations"] == (4 * (784 * 100 + 1000) + 2 * 1000) * 1000 * 3
    assert floor["seconds"] == pytest.approx(floor["operations"] / 1e9)
    assert floor["share"] == pytest.approx(floor["seconds"] / 2)


def test_the_floor_of_a_pass_is_its_bytes():
    """A thousand float32 images of 28 × 28, read and written, over 1 GB/s: 6.272 ms of 2 s."""
    floor = race_table.floor(TARGETS["pass"], 1000, seconds=2.0, peak=1e9, copy=1e9)
    assert floor["seconds"] == pytest.approx(0.006272)
    assert floor["share"] == pytest.approx(0.003136)


# The tutorials' loop ------------------------------------------------------------------------------


class Clock:
    """A look at it is one `epoch` after the one before, so a start and an end are, too."""

    def __init__(self, epoch):
        self.epoch, self.now = epoch, 0.0

    def perf_counter(self):
        self.now += self.epoch
        return self.now


def loader_of(recipe, loaded, folder):
    race.unpack(loaded, folder)
    moments = recipe.moments or (loaded.mean, loaded.std)
    return race.image_loader(recipe, moments, folder)


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


def test_both_loops_learn_the_same(tiny, tmp_path, monkeypatch):
    """Same seed, same order: the accuracies of three epochs are those of `fit`."""
    recipe = replace(AS_PUBLISHED["R5"], shuffle=False, epochs=3, batch_size=16)
    train, test = recipes.splits(recipe)
    loader = loader_of(recipe, tiny["mnist"], tmp_path)
    monkeypatch.setattr(race, "time", Clock(1.0))
    theirs = race.train_as_tutorial(recipe, loader, test, 3, 4)
    _, course = recipes.run(recipe, train, test, seed=4)
    assert theirs["accuracy"] == course["test_accuracy"]
    assert theirs["seconds"] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(("limit", "epochs"), [(0.5, 1), (3, 3), (3.5, 4)])
def test_a_tutorial_is_stopped_after_the_limit(
    tiny, tmp_path, monkeypatch, limit, epochs
):
    """At the end of the epoch of one second in which the limit falls."""
    monkeypatch.setattr(race, "time", Clock(1.0))
    recipe = AS_PUBLISHED["R5"]
    loader = loader_of(recipe, tiny["mnist"], tmp_path)
    curves = race.train_as_tutorial(recipe, loader, tiny["mnist"].test.scaled(), limit, 0)
    assert len(curves["accuracy"]) == len(curves["seconds"]) == epochs


def test_measuring_the_accuracy_stops_the_clock(tiny, tmp_path, monkeypatch):
    """An evaluation of two seconds leaves the seconds of training as they are."""
    times = Clock(1.0)
    monkeypatch.setattr(race, "time", times)

    def evaluate(model, test):
        times.now += 2.0
        return 0.0, 0.5

    monkeypatch.setattr(race, "evaluate", evaluate)
    recipe = AS_PUBLISHED["R5"]
    loader = loader_of(recipe, tiny["mnist"], tmp_path)
    curves = race.train_as_tutorial(recipe, loader, None, 2, 0)
    assert curves["seconds"] == [1.0, 1.0] and times.now > 6


def test_the_course_is_timed_from_the_files_on(tiny, monkeypatch):
    """Splits that take two seconds, as decoding and normalising do: they are in `prepare`."""
    times, whole = Clock(0.0), recipes.splits
    monkeypatch.setattr(race, "time", times)

    def splits(recipe):
        times.now += 2.0
        return whole(recipe)

    monkeypatch.setattr(recipes, "splits", splits)
    recipe = replace(OWN["mlp-97"], network=lambda: mlp(784, 10), epochs=1)
    result = race.train_own(recipe, 0)
    assert result["prepare"] == 2.0 and result["seconds"] > 0


# The command --------------------------------------------------------------------------------------

ROWS = [TARGETS[name] for name in ("pass", "mlp-97", "mlp-98")]


@pytest.fixture
def command(tiny, monkeypatch, tmp_path):
    """`python -m benchmarks.race ...` on tiny data, three rows, linear networks; its record."""
    for name in ("mlp-97", "mlp-98"):
        linear = replace(OWN[name], network=lambda: mlp(784, 10), epochs=1)
        for known in (OWN, RECIPES):
            monkeypatch.setitem(known, name, linear)
    monkeypatch.setattr(race, "TARGETS", ROWS)
    monkeypatch.setattr(race, "LIMIT", 0.001)
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
    """Every target has a row with dates, spread, verdict and floor; the rounds are there with
    their machine and raw curves; the file of the trainings so far is gone."""
    record = command("--rounds", "2")
    printed = capsys.readouterr().out
    names = [target["name"] for target in record["targets"]]
    assert names == ["pass", "mlp-97", "mlp-98"]
    keys = {"what", "dataset", "goal", "must", "aim", "theirs", "ours", "ratio"}
    keys |= {"at_least", "met", "floor", "dates"}
    for entry in record["targets"]:
        assert keys <= entry.keys()
        assert entry["theirs"]["seconds"].keys() == {"median", "low", "high", "n"}
        assert entry["ours"]["seconds"]["n"] == 2 == record["rounds"]
        assert entry["floor"]["share"] > 0 and entry["what"] in printed
        assert entry["dates"] == [race.today()] * 2
    assert record["limit"] == 0.001 and record["renewed"] == []
    for seed, one in enumerate(record["raw"]):
        about = {"threads", "load", "load_during", "name", "torch", "cores"}
        assert about <= one["machine"].keys() and one["seed"] == seed
        assert list(one["results"]) == ["pass", "R5", "mlp-97", "mlp-98"]
        assert one["results"]["R5"]["in_memory"] > 0
    assert record["command"] == "python -m benchmarks.race --rounds 2"
    assert not (tmp_path / "race.part").exists()


def test_a_round_of_another_day_is_added(command, monkeypatch):
    """The record keeps its rounds with their dates, and the next seed is trained."""
    monkeypatch.setattr(race, "today", lambda: "2026-12-01")
    first = command()
    monkeypatch.setattr(race, "today", lambda: "2026-12-05")
    record = command()
    assert record["rounds"] == 2 and record["raw"][0] == first["raw"][0]
    assert record["targets"][1]["dates"] == ["2026-12-01", "2026-12-05"]
    assert [one["seed"] for one in record["raw"]] == [0, 1]


def test_no_more_rounds_make_the_table_anew(command, tmp_path):
    """From the rounds of the record alone; nothing is trained, and without a record nothing is
    done."""
    with pytest.raises(SystemExit):
        command("--rounds", "0")
    record = command()
    (tmp_path / "race.json").write_text(
        json.dumps(record | {"targets": []}), encoding="utf-8"
    )
    assert command("--rounds", "0") == record | {
        "command": "python -m benchmarks.race --rounds 0"
    }


def test_a_changed_recipe_is_not_renewed_in_silence(command, monkeypatch):
    """Without a reason nothing is trained. With one, its results and no others are dropped, and
    the record says so."""
    command()
    changed = replace(OWN["mlp-98"], batch_size=16)
    for known in (OWN, RECIPES):
        monkeypatch.setitem(known, "mlp-98", changed)
    with pytest.raises(SystemExit, match="mlp-98 is not the one of the record. --why"):
        command()
    record = command("--why", "half the batch")
    (note,) = record["renewed"]
    assert (note["name"], note["why"], note["dropped"]) == ("mlp-98", "half the batch", 1)
    rows = {entry["name"]: len(entry["dates"]) for entry in record["targets"]}
    assert rows == {"pass": 2, "mlp-97": 2, "mlp-98": 1}


def test_a_recipe_that_leaves_the_race_is_noted(command, monkeypatch):
    """A row with another recipe asks for a reason, too; the other rows keep their rounds."""
    command()
    monkeypatch.setattr(race, "TARGETS", ROWS[:2])
    with pytest.raises(SystemExit, match="mlp-98 is in no row any more. --why"):
        command("--force")
    record = command("--force", "--why", "a smaller network")
    (note,) = record["renewed"]
    assert (note["name"], note["why"], note["dropped"]) == (
        "mlp-98",
        "a smaller network",
        1,
    )
    rows = {entry["name"]: len(entry["dates"]) for entry in record["targets"]}
    assert rows == {"pass": 2, "mlp-97": 2}
    assert "mlp-98" not in record["raw"][0]["results"]


def test_seconds_of_one_thread_and_of_two_do_not_meet(command, monkeypatch):
    """The record has two threads, this run one: nothing is added."""
    record = command()
    other = record["machine"]["threads"] + 1
    monkeypatch.setattr(race.torch, "get_num_threads", lambda: other)
    with pytest.raises(SystemExit, match="do not stand in one column"):
        command()


def test_the_record_is_of_todays_recipes():
    """The recipes that the course's record was made with are those of the code, frozen."""
    record = records.recorded("race")
    for one in record["raw"]:
        for name, result in one["results"].items():
            if name != "pass":
                now = recipe_hash(RECIPES[name])
                assert result["fingerprint"] == now, (
                    f"{name} has changed since its test accuracy was recorded. Take the "
                    "change back, or tune on the validation split and record it again: "
                    "python -m benchmarks.race --why REASON"
                )


@pytest.mark.parametrize(
    "change",
    [
        {"batch_size": 129},
        {"epochs": 7},
        {"moments": (0.1, 0.3)},
        {"loss_fn": torch.nn.functional.cross_entropy},
        {"network": lambda: mlp(784, 64, 10)},
        {"network": lambda: torch.nn.Sequential(Crop(20), mlp(400, 10))},
        {"network": lambda: torch.nn.Sequential(Crop(20, shift=1), mlp(400, 10))},
        {"optimizer": lambda p: torch.optim.AdamW(p, lr=0.004, weight_decay=0.02)},
        {"channels_last": True},
    ],
)
def test_any_setting_changes_the_hash(change):
    """Also a setting inside a layer, and the rate alone; no random number is drawn."""
    before = torch.random.get_rng_state()
    recipe = OWN["mlp-98"]
    assert recipe_hash(recipe) == recipe_hash(replace(recipe))
    assert recipe_hash(recipe) != recipe_hash(replace(recipe, **change))
    assert torch.equal(before, torch.random.get_rng_state())


def test_theirs_and_ours_take_turns():
    """Within a round each training comes once, theirs before the ones compared with it."""
    expected = "pass R5 mlp-97 mlp-98 R3 R1b mnist-99-fast mnist-99.4-quick "
    expected += "mnist-99.5-quick mnist-small R4 fashion-91 fashion-92 fashion-93"
    assert list(race.recipe_hashes(race_table.TARGETS)) == expected.split()


def test_an_interruption_loses_one_training(command, tmp_path, monkeypatch, capsys):
    """In the second round: one sentence; the first one is in the record. The same command goes
    on, and trains only what is missing; with other settings it starts anew."""
    whole, calls = race.train_one, []

    def train_one(name, seed, *rest):
        calls.append((name, seed))
        if len(calls) == 6:
            raise KeyboardInterrupt
        return whole(name, seed, *rest)

    monkeypatch.setattr(race, "train_one", train_one)
    with pytest.raises(SystemExit, match="from the last whole training"):
        command("--rounds", "2")
    part = tmp_path / "race.part"
    assert part.exists()
    record = command()
    assert calls[5:] == [("R5", 1), ("R5", 1), ("mlp-97", 1), ("mlp-98", 1)]
    assert record["rounds"] == 2
    part.write_text(json.dumps({"settings": {}, "results": {}}), encoding="utf-8")
    command()
    assert "of other settings: starting anew" in capsys.readouterr().out


def test_some_rows_write_nothing_unless_a_folder_is_named(command, tmp_path):
    """--only does not touch the record; with --results it writes there."""
    assert command("--only", "mlp-97") is None
    assert not list(tmp_path.iterdir())
    record = command("--only", "mlp-97", "--results", str(tmp_path))
    assert [target["name"] for target in record["targets"]] == ["mlp-97"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "mlp-100"], "unknown: mlp-100; there are: pass, mlp-97"),
        (["--limit", "0"], "must be more than 0 seconds"),
        (["--rounds", "-1"], "must be 0 or more"),
        (["--rounds", "0"], "there is none to be written"),
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
