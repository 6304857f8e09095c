"""benchmarks.cost and benchmarks.classroom: slopes, ceilings, counters, what a lesson takes."""

import json
import math
import sys
import time
from argparse import Namespace
from dataclasses import replace

import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook

from benchmarks import RecordError, classroom, cost, median_and_range, write_record
from lessons_src import recipes
from lessons_src.models import mlp


@pytest.mark.parametrize("k", [0.5, 1, 2])
def test_the_slope_of_a_power_is_its_exponent(k):
    """Seconds = 3 · sizeᵏ has slope k, whatever the unit of either."""
    sizes = [1, 4, 10, 500, 6000]
    assert cost.slope(sizes, [3 * n**k for n in sizes]) == pytest.approx(k)
    assert cost.slope([1000 * n for n in sizes], [n**k for n in sizes]) == pytest.approx(
        k
    )


def test_a_start_up_cost_flattens_the_slope_of_the_small_ones_only():
    """1 ms, and 1 µs an example: the slope through all is below that of the largest three."""
    sizes = [10**k for k in range(8)]
    points = [{"size": n, "seconds": median_and_range([1e-3 + 1e-6 * n])} for n in sizes]
    curve = cost.line(points)
    assert curve["slope"] < 0.8 and curve["slope_of_largest"] == pytest.approx(
        1, abs=0.01
    )


def test_spread():
    """Median, extremes and number."""
    expected = {"median": 2.5, "low": 1, "high": 10, "n": 4}
    assert median_and_range([3, 1, 2, 10]) == expected


def test_repeated_measures_every_call_but_the_first():
    """A clock that each call moves on: by 5 s the first time, then by 1 s."""
    now, calls = [0.0], []

    def call():
        calls.append(1)
        now[0] += 5.0 if len(calls) == 1 else 1.0

    assert cost.repeated(call, 2.5, 2, lambda: now[0]) == [1.0] * 3 and len(calls) == 4
    assert cost.repeated(call, 0.0, 4, lambda: now[0]) == [1.0] * 4


def test_one_thread_counts_the_processors_seconds():
    """On a busy machine a step does not seem longer: waiting is not counted."""
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert max(cost.repeated(lambda: time.sleep(0.05), 0, 2, cost.clock())) < 0.04
        torch.set_num_threads(2)
        assert min(cost.repeated(lambda: time.sleep(0.05), 0, 2, cost.clock())) >= 0.05
    finally:
        torch.set_num_threads(threads)


def test_a_copy_counts_both_ways(monkeypatch):
    """1 MB in 1 ms: 2 GB/s."""
    monkeypatch.setattr(cost, "repeated", lambda *_: [0.004, 0.001, 0.002])
    assert cost.copying(1_000_000) == pytest.approx(2e9)


@pytest.mark.parametrize("n", [16, 32, 64, 192])
@pytest.mark.parametrize("fastest", [0, 1], ids=["product", "convolution"])
def test_the_faster_library_is_the_ceiling(fastest, n, monkeypatch):
    """A product in 1 ms, by torch.mm or as a convolution, which gives as many numbers."""
    seconds, sizes = [[0.003], [0.003]], []
    seconds[fastest] = [0.004, 0.001]

    def repeated(call, *_):
        sizes.append(call().numel())
        return seconds[len(sizes) - 1]

    monkeypatch.setattr(cost, "repeated", repeated)
    assert cost.matrix_product(n) == pytest.approx(2 * n**3 / 0.001)
    assert sizes == [n * n, n * n]


def test_operations_of_a_convolution():
    """2 · B · H · W · k² · C_in · C_out forward; without the image's gradient as much backward."""
    layer = torch.nn.Conv2d(3, 5, 3, bias=False)
    x, y = torch.rand(2, 3, 10, 10), torch.zeros(2, 5, 8, 8)
    step = cost.training_step(layer, x, y, torch.nn.functional.mse_loss)
    assert sum(cost.operations(step).values()) == 2 * (2 * 2 * 8 * 8 * 9 * 3 * 5)


def test_traffic_counts_every_tensor_once():
    """b = a + a reads a and writes b; a view moves nothing."""
    a = torch.ones(1000)
    assert cost.traffic(lambda: a + a) == {"add": 8000}
    assert cost.traffic(lambda: a.view(10, 100).T) == {}


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """The record of `python -m benchmarks.cost` with few and small points."""
    folder = tmp_path_factory.mktemp("cost")
    small = replace(recipes.OWN["mnist-99"], batch_size=4)
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        few = {kind: dict(list(all.items())[:3]) for kind, all in cost.WIDTHS.items()}
        patch.setattr(cost, "WIDTHS", few)
        patch.setattr(cost, "BATCH", 4)
        patch.setattr(cost, "BATCHES", (1, 2, 4, 8))
        patch.setattr(cost, "EXAMPLES", (8, 16, 32))
        patch.setattr(cost, "PRODUCTS", (16, 64))
        patch.setattr(cost, "COPIES", (4096, 65536))
        patch.setattr(cost, "keep_memory", lambda: None)
        patch.setattr(recipes, "OWN", {"mnist-99": small})
        arguments = ["--budget", "0.001", "--results", str(folder)]
        patch.setattr(sys, "argv", ["/x/benchmarks/cost.py", *arguments])
        cost.main()
    torch.set_num_threads(threads)
    return json.loads((folder / "cost.json").read_text(encoding="utf-8"))


def test_the_record(record):
    """Each line has its points with spread and slopes; ceilings and the roofline are there, and
    threads, load and clock are said."""
    for name in ("parameters", "batch", "examples"):
        for kind in ("mlp", "cnn"):
            line = record[name][kind]
            sizes = [point["size"] for point in line["points"]]
            assert sizes == sorted(sizes) and len(sizes) >= 3
            for point in line["points"]:
                assert point["seconds"].keys() == {"median", "low", "high", "n"}
            assert math.isfinite(line["slope"] + line["slope_of_largest"])
    assert record["budget"] == 0.001
    assert record["machine"]["threads"] == 1 and record["clock"] == "process_time"
    assert {"load", "load_after", "name"} <= record["machine"].keys()
    ceilings = record["ceilings"]
    speeds = [product["operations_per_second"] for product in ceilings["matrix_product"]]
    assert ceilings["peak"] == max(speeds)
    assert ceilings["memory"] == ceilings["copy"][-1]["bytes_per_second"]
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


def test_a_smaller_budget_is_answered_before_anything_is_measured(monkeypatch):
    """The record that is there was made with a second for each point."""
    monkeypatch.setattr(sys, "argv", ["cost.py", "--budget", "0.5"])
    monkeypatch.setattr(cost, "keep_memory", lambda: None)
    monkeypatch.setattr(cost, "measure", lambda budget: pytest.fail("it measures"))
    threads = torch.get_num_threads()
    with pytest.raises(SystemExit, match="has 1.0 seconds for a point.* by 0.5"):
        cost.main()
    torch.set_num_threads(threads)


def test_fewer_lessons_are_answered_before_one_is_run(monkeypatch, tmp_path):
    """Where --results says, another run with more lessons may lie."""
    lessons = [{"lesson": "softmax"}, {"lesson": "gpus"}]
    args = Namespace(results=tmp_path, force=False, lessons=["gpus"])
    write_record("classroom", {"lessons": lessons}, args)
    monkeypatch.setattr(classroom, "measure", lambda names: pytest.fail("it runs"))
    with pytest.raises(RecordError, match="lose these lessons: softmax"):
        classroom.record(args)


@pytest.mark.parametrize("budget", ["0", "-1", "nan"])
def test_a_wrong_budget_is_answered(monkeypatch, capsys, budget):
    """A sentence and exit status 2."""
    monkeypatch.setattr(sys, "argv", ["cost.py", "--budget", budget])
    with pytest.raises(SystemExit) as end:
        cost.main()
    assert end.value.code == 2 and "--budget more than 0" in capsys.readouterr().err


# What a lesson takes ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_kernel_says_what_it_used(tmp_path, monkeypatch):
    """A cell that fills 300 MB and computes for half a second: both are in the answer, and the
    memory is that of the peak, though it was freed. The kernel has one thread, whatever the
    shell says."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    source = "import os, time\nassert os.environ['OMP_NUM_THREADS'] == '1'\n"
    source += "x = bytearray(300_000_000)\ndel x\nend = time.process_time() + 0.5\n"
    source += "while time.process_time() < end: pass"
    cells = [new_code_cell("1"), new_code_cell(source)]
    plain, used = (
        classroom.run_in_kernel(new_notebook(cells=[c]), tmp_path) for c in cells
    )
    assert used["memory"] - plain["memory"] == pytest.approx(300e6, rel=0.1)
    # Two starts of a kernel differ by a second or two.
    assert 0.4 < used["processor_seconds"] - plain["processor_seconds"] < 3
    assert used["seconds"] > 0.5


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
    with pytest.raises(SystemExit) as end:
        classroom.main()
    assert end.value.code == 2
    assert "unknown: 99_none; there are: images_as_tensors" in capsys.readouterr().err


def test_classroom_needs_the_real_data(monkeypatch):
    """On the stand-in nothing is measured; one sentence says why."""
    monkeypatch.setenv("LESSONS_DATA", "standin")
    monkeypatch.setattr(sys, "argv", ["classroom.py"])
    monkeypatch.setattr(classroom, "size", lambda *_: 0)
    with pytest.raises(SystemExit, match="on the real data, not on the stand-in"):
        classroom.main()
