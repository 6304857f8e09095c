"""Cost against size: slopes, ceilings, counters, and what a lesson takes from a machine."""

import json
import math
import sys
import time
from dataclasses import replace

import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from benchmarks import ceilings, classroom, own, scaling
from lessons_src.models import mlp


@pytest.mark.parametrize("k", [0.5, 1, 2])
def test_the_slope_of_a_power_is_its_exponent(k):
    """Seconds = 3 · sizeᵏ has slope k, whatever the unit of either."""
    sizes = [1, 4, 10, 500, 6000]
    assert scaling.slope(sizes, [3 * n**k for n in sizes]) == pytest.approx(k)
    assert scaling.slope([1000 * n for n in sizes], [n**k for n in sizes]) == pytest.approx(k)


def test_a_start_up_cost_flattens_the_slope_of_the_small_ones_only():
    """1 ms, and 1 µs an example: the slope through all is below that of the largest three."""
    sizes = [10**k for k in range(8)]
    points = [{"size": n, "seconds": ceilings.spread([1e-3 + 1e-6 * n])} for n in sizes]
    found = scaling.line(points)
    assert found["slope"] < 0.8 and found["slope_of_largest"] == pytest.approx(1, abs=0.01)


def test_spread():
    """Median, extremes and number."""
    assert ceilings.spread([3, 1, 2, 10]) == {"median": 2.5, "low": 1, "high": 10, "n": 4}


def test_repeated_measures_every_call_but_the_first():
    """A clock that each call moves on: by 5 s the first time, then by 1 s."""
    now, calls = [0.0], []

    def call():
        calls.append(1)
        now[0] += 5.0 if len(calls) == 1 else 1.0

    assert ceilings.repeated(call, 2.5, 2, lambda: now[0]) == [1.0, 1.0, 1.0] and len(calls) == 4
    assert ceilings.repeated(call, 0.0, 4, lambda: now[0]) == [1.0] * 4


def test_one_thread_counts_the_processors_seconds():
    """On a busy machine a step does not seem longer: waiting is not counted."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert max(ceilings.repeated(lambda: time.sleep(0.05), 0, 2, ceilings.clock())) < 0.04
        torch.set_num_threads(2)
        assert min(ceilings.repeated(lambda: time.sleep(0.05), 0, 2, ceilings.clock())) >= 0.05
    finally:
        torch.set_num_threads(threads)


def test_ceilings_are_operations_and_bytes_over_seconds(monkeypatch):
    """A product of 100 × 100 in 1 ms: 2 GFLOP/s; a copy of 1 MB in 1 ms: 2 GB/s, both ways."""
    monkeypatch.setattr(ceilings, "repeated", lambda *_: [0.004, 0.001, 0.002])
    assert ceilings.matrix_product(100) == pytest.approx(2e9)
    assert ceilings.copying(1_000_000) == pytest.approx(2e9)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The record of `python -m benchmarks.scaling` with few and small points."""
    folder, small = (
        tmp_path_factory.mktemp("scaling"),
        replace(own.RECIPES["mnist-99"], batch_size=4),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling, "WIDTHS", {k: w[:3] for k, w in scaling.WIDTHS.items()})
        patch.setattr(scaling, "BATCH", 4)
        patch.setattr(scaling, "BATCHES", (1, 2, 4, 8))
        patch.setattr(scaling, "EXAMPLES", (8, 16, 32))
        patch.setattr(scaling, "PRODUCTS", (16, 64))
        patch.setattr(scaling, "COPIES", (4096, 65536))
        patch.setattr(scaling.own, "RECIPES", {"mnist-99": small})
        arguments = ["--budget", "0.001", "--results", str(folder)]
        patch.setattr(sys, "argv", ["/x/benchmarks/scaling.py", *arguments])
        scaling.main()
    return json.loads((folder / "scaling.json").read_text())


def test_the_record(record):
    """Each line has its points with spread and slopes; ceilings and the roofline are there, and
    threads, load and clock are said."""
    for name in ("parameters", "batch", "examples"):
        for kind in ("mlp", "cnn"):
            line = record[name][kind]
            sizes = [p["size"] for p in line["points"]]
            assert sizes == sorted(sizes) and len(sizes) >= 3
            assert all(
                p["seconds"].keys() == {"median", "low", "high", "n"} for p in line["points"]
            )
            assert math.isfinite(line["slope"]) and math.isfinite(line["slope_of_largest"])
    assert record["machine"]["threads"] == 1 and record["clock"] == "process_time"
    assert {"load", "load_after", "name"} <= record["machine"].keys()
    found = record["ceilings"]
    assert found["peak"] == max(p["operations_per_second"] for p in found["matrix_product"])
    assert found["memory"] == found["copy"][-1]["bytes_per_second"]
    (network,) = record["roofline"]
    assert network["operations"] == sum(network["operations_by_kind"].values())
    assert network["bytes"] == sum(network["bytes_by_kind"].values())


def test_operations_grow_with_batch_and_width(record):
    """Twice the batch, twice the operations, to the digit; and each width has its parameters."""
    points = record["batch"]["mlp"]["points"]
    assert [p["operations"] / p["size"] for p in points] == [points[0]["operations"]] * 4
    for point in record["parameters"]["mlp"]["points"]:
        network = mlp(784, point["width"], point["width"], 10)
        assert point["parameters"] == sum(p.numel() for p in network.parameters())


def test_a_wrong_budget_is_answered(monkeypatch, capsys):
    """A sentence and exit status 2."""
    for argument in ("0", "-1", "nan"):
        monkeypatch.setattr(sys, "argv", ["scaling.py", "--budget", argument])
        with pytest.raises(SystemExit) as stopped:
            scaling.main()
        assert stopped.value.code == 2 and "--budget more than 0" in capsys.readouterr().err


def test_a_measured_lesson_has_one_thread(tmp_path, monkeypatch):
    """Whatever the shell says: the page counts the seconds of one thread."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    asked = new_code_cell("import os\nassert os.environ['OMP_NUM_THREADS'] == '1'")
    classroom.used(new_notebook(cells=[asked]), tmp_path)  # an assertion that fails is raised here


def test_a_kernel_says_what_it_used(tmp_path):
    """A cell that fills 300 MB and computes for half a second: both are in the answer, and the
    memory is that of the peak, though it was freed."""
    source = "import time\nx = bytearray(300_000_000)\ndel x\nend = time.process_time() + 0.5\n"
    source += "while time.process_time() < end: pass"
    plain = classroom.used(new_notebook(cells=[new_code_cell("1")]), tmp_path)
    found = classroom.used(new_notebook(cells=[new_code_cell(source)]), tmp_path)
    assert found["memory"] - plain["memory"] == pytest.approx(300e6, rel=0.1)
    assert 0.4 < found["processor_seconds"] - plain["processor_seconds"] < 3  # two starts differ
    assert found["seconds"] > 0.5


def test_sizes_on_disk(tmp_path):
    """Files count in blocks, a hard link once more not at all, a symbolic link not at all."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one").write_bytes(bytes(100_000))
    whole = classroom.size(tmp_path)
    assert 100_000 <= whole < 110_000
    (tmp_path / "two").hardlink_to(tmp_path / "a" / "one")
    assert classroom.size(tmp_path) == whole
    (tmp_path / "a" / "three").symlink_to(tmp_path / "two")
    (tmp_path / "a" / "one").unlink()
    assert classroom.size(tmp_path / "a") == 0
    assert classroom.size(tmp_path, lambda file: "b" in file.name) == 0


def test_an_unknown_lesson_is_answered(monkeypatch, capsys):
    """With the list of those that there are."""
    monkeypatch.setattr(sys, "argv", ["classroom.py", "99_none"])
    with pytest.raises(SystemExit) as stopped:
        classroom.main()
    assert stopped.value.code == 2
    assert "unknown: 99_none; there are: 01_images_as_tensors" in capsys.readouterr().err


def test_classroom_needs_the_real_data(monkeypatch):
    """On the stand-in nothing is measured; one sentence says why."""
    monkeypatch.setenv("LESSONS_DATA", "standin")
    monkeypatch.setattr(sys, "argv", ["classroom.py"])
    monkeypatch.setattr(classroom, "size", lambda *_: 0)
    with pytest.raises(SystemExit, match="on the real data, not on the stand-in"):
        classroom.main()
