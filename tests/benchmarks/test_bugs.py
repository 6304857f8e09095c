"""benchmarks.bugs: twins with the same seed, and a record of what was measured."""

import json
import sys

import noise
import pytest
import torch

from benchmarks import bugs
from lessons_src import data
from lessons_src.data import DataError


@pytest.fixture
def small(monkeypatch):
    """Noise that calls itself real, few images, one epoch."""
    made = noise.dataset(400, 100)
    monkeypatch.setattr(data, "load", lambda name: made)
    monkeypatch.setattr(bugs, "EXAMPLES", 300)
    monkeypatch.setattr(bugs, "HELD_OUT", 100)
    monkeypatch.setattr(bugs, "EPOCHS", 1)
    monkeypatch.setattr(bugs, "keep_memory", lambda: None)
    monkeypatch.setattr(bugs.measured, "__defaults__", (1,))


def run(monkeypatch, tmp_path, *words):
    words = [*words, "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["/x/benchmarks/bugs.py", *words])
    bugs.main()


def test_the_command_writes_what_it_measured(small, monkeypatch, tmp_path):
    """Every bug and its twin on both data sets; the cost is the difference of the
    twins' accuracies, seed by seed."""
    run(monkeypatch, tmp_path, "--seeds", "1")
    record = json.loads((tmp_path / "bugs.json").read_text(encoding="utf-8"))
    assert record["command"] == "python -m benchmarks.bugs --seeds 1"
    assert [bug["name"] for bug in record["bugs"]] == [
        bug.broken.__name__ for bug in bugs.BUGS
    ]
    for bug in record["bugs"]:
        for dataset in bugs.DATASETS:
            broken = record["programs"][bug["name"]][dataset][0]
            repaired = record["programs"][bug["repaired"]][dataset][0]
            expected = repaired["accuracy"] - broken["accuracy"]
            assert abs(bug[dataset]["cost"]["mean"] - expected) < 1e-12
            assert bug[dataset]["cost"]["n"] == 1
            flattery = broken["says"] - broken["accuracy"]
            assert abs(bug[dataset]["flatters"]["mean"] - flattery) < 1e-12


def test_some_bugs_are_printed_and_not_written(small, monkeypatch, tmp_path, capsys):
    """--only trains the named ones and their twins."""
    run(monkeypatch, tmp_path, "--seeds", "1", "--only", "MixedApart")
    assert not list(tmp_path.iterdir())
    words = capsys.readouterr().out.split()
    assert "Mixup" in words and "Program" not in words


def test_the_stand_in_is_refused(monkeypatch):
    """Costs are those of the real data."""
    monkeypatch.setenv("LESSONS_DATA", "standin")
    with pytest.raises(DataError, match="stand-in"):
        bugs.images("mnist")


def test_twins_have_the_same_start():
    """The same seed gives a program with a bug and its twin the same weights."""
    splits = (noise.raw(100, 0), noise.raw(50, 1), noise.raw(50, 2))
    for bug in bugs.BUGS:
        starts = []
        for kind in (bug.broken, bug.repaired):
            torch.manual_seed(0)
            starts.append(kind(*splits).start()[0])
        both = [
            [model.hidden[0][0].weight, model.hidden[1][0].weight, model.head.weight]
            for model in starts
        ]
        assert all(map(torch.equal, *both)), bug.title


def test_images_come_class_by_class(small):
    """As a folder for each class would list them; the held-out ones are others."""
    train, held_out, test = bugs.images("mnist")
    assert (train.labels.diff() >= 0).all()
    assert [len(split) for split in (train, held_out, test)] == [300, 100, 100]
    seen = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in seen for image in held_out.images)
