"""lessons_src.scale: two processes do what one does, and end when one of them dies."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lesson_source import ROOT
from two_ranks import CASES, message, network, parts, run_command, trained

from lessons_src.scale import checkpoint, distributed
from lessons_src.scale.checkpoint import CheckpointError

HERE = Path(__file__).parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def job(folder):
    """One job on two ranks for most tests here: to start it costs seconds. A
    checkpoint that one process wrote is there to resume. When all is measured, rank 1
    is killed in epoch 3 of a training, the job is started again once, and raises in
    the end."""
    trained("cnn", path=folder / "from-one.pt")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = ["--nproc-per-node=2", "--max-restarts=1", HERE / "two_ranks.py", folder]
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE.parent, HERE))),
        distributed.OWN_STORE: "1",
    }
    done = subprocess.run(
        [*torchrun, *map(str, words)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    done.ended = time.time()
    assert all((folder / f"rank-{r}.pt").is_file() for r in range(2)), done.stderr
    return done


@pytest.fixture(scope="module")
def ranks(job, folder):
    """What each of the two ranks measured."""
    return [torch.load(folder / f"rank-{r}.pt", weights_only=False) for r in range(2)]


def same(got, expected, tolerance):
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)


# One process or two: the same -----------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_weights_and_numbers_of_one(ranks, case):
    """Half of every batch on each of two ranks, or the whole on one: the same weights,
    losses and accuracies, to 1e-5 in float32 and to 1e-10 in float64, though batches
    have 37 and 1 examples."""
    alone, tolerance = trained(**CASES[case]), 1e-5 if "float32" in case else 1e-10
    start = {k: v for k, v in CASES[case].items() if k in ("name", "dtype")}
    before = network(**start).state_dict()
    assert any(not torch.equal(alone["state"][name], before[name]) for name in before)
    for result in ranks:
        same(result[case], alone, tolerance)


def test_the_ranks_stay_equal_to_the_last_bit(ranks):
    """Also in float32, with dropout and augmentation that differ between them."""
    for case in ("float32 mlp", "random"):
        same(ranks[0][case], ranks[1][case], 0)


def test_every_example_of_a_batch_is_seen_once(ranks):
    """The two parts of a batch together are the batch of one process: none twice, none
    missing; they differ by one in length at most, also where a batch has fewer
    examples than ranks."""
    first, second = (result["parts"] for result in ranks)
    together = [sorted(a + b) for a, b in zip(first, second, strict=True)]
    assert together == list(map(sorted, parts()))
    assert [len(b) for b in first] == [19, 19, 1] and [len(b) for b in second] == [
        18,
        18,
        0,
    ]


def test_batch_norm_normalises_each_ranks_own_part_on_a_cpu(ranks):
    """The weights stay the same on all ranks; each keeps its own running statistics,
    and both differ from those of one process, as the book says. A rank without
    examples is refused."""
    alone = trained("batch norm", batch_size=25)["state"]
    first, second = (result["batch norm"]["state"] for result in ranks)
    weights = [
        name for name in first if not name.endswith(("running_mean", "running_var"))
    ]
    same([first[name] for name in weights], [second[name] for name in weights], 0)
    assert not torch.equal(first["2.running_mean"], alone["2.running_mean"])
    for result in ranks:
        assert "a batch of 1 examples cannot be shared by 2 ranks" in result["too few"]


def test_each_rank_draws_its_own_random_numbers(ranks):
    """Same seed at the start on both; after `fit` began, dropout and augmentation
    differ."""
    first, second = (result["draws"] for result in ranks)
    assert not torch.equal(first, second)


def test_the_command_by_torchrun_gives_the_weights_of_one_process(job, folder):
    """Recipe R5 on two ranks: weights to 1e-5, the same loss and accuracy, one line of
    result, the number of ranks in the JSON."""
    run_command(folder, 1)
    alone, both = (
        json.loads((folder / f"command-{n}.json").read_text(encoding="utf-8"))
        for n in (1, 2)
    )
    first, second = (checkpoint.load(folder / f"command-{n}.pt") for n in (1, 2))
    same(second, first, 1e-5)
    for key in ("loss", "accuracy", "test_loss", "test_accuracy"):
        assert both[key] == pytest.approx(alone[key], abs=1e-6), key
    assert (alone["world_size"], both["world_size"]) == (1, 2)
    (line,) = (line for line in job.stdout.splitlines() if line.startswith("R5  mnist"))
    assert line.endswith("processes: 2, cpu")


# One writes, all know -------------------------------------------------------------------


def test_one_rank_writes_and_prints(ranks, job):
    """A line an epoch, not two; checkpoints are written by rank 0 alone."""
    lines = [line[:9] for line in job.stdout.splitlines() if line.startswith("epoch ")]
    assert lines == ["epoch 1/2", "epoch 2/2"]
    assert [len(result["saved"]) for result in ranks] == [2, 0]


def test_one_fetches_while_the_others_wait(ranks):
    """The first rank of the machine makes the file; the other comes when it is there."""
    assert [result["there already"] for result in ranks] == [False, True]


def test_numbers_and_things_of_all_ranks(ranks):
    """The sum and the list are on both."""
    for result in ranks:
        assert result["sum"] == 2.0 and result["gathered"] == [{"rank": 0}, {"rank": 1}]


@pytest.mark.parametrize(
    ("where", "batch", "rank"), [(2, 1, 0), (37 + 20, 2, 1), (74, 3, 0)]
)
def test_a_loss_that_is_not_finite_stops_all_ranks(ranks, where, batch, rank):
    """One nan in one rank's part: every rank raises, and names epoch, batch and that
    rank; a rank without examples is not blamed."""
    for result in ranks:
        text = result["nan"][where]
        assert text.startswith(
            f"TrainingError: the loss is nan in epoch 1, batch {batch}, at"
        )
        assert text.endswith(f"It was so on rank {rank} of 2.")


def test_an_error_of_the_one_that_reads_or_writes_is_raised_on_all(ranks):
    """A damaged checkpoint, one that cannot be written: no rank waits for ever."""
    for result in ranks:
        assert result["damaged"].startswith("CheckpointError")
        assert (
            "damaged" in result["damaged"] and "could not write" in result["unwritable"]
        )


# Checkpoints and another number of ranks ------------------------------------------------


def test_two_resume_the_checkpoint_of_one(ranks):
    """Order of examples and optimizer as they were: the weights of an uninterrupted
    run."""
    alone = trained("cnn", epochs=4)
    for result in ranks:
        same(result["resumed"], alone, 1e-10)


def test_one_resumes_the_checkpoint_of_two(ranks, folder, tmp_path):
    """It takes the random state of rank 0: both epochs are kept, nothing is refused,
    and the training goes on with a finite loss."""
    (tmp_path / "a.pt").write_bytes((folder / "random-2.pt").read_bytes())
    losses = trained("random", epochs=4, path=tmp_path / "a.pt")["history"]["loss"]
    assert losses[:2] == ranks[0]["random"]["history"]["loss"] and len(losses) == 4
    first, second = checkpoint.load(folder / "random-2.pt")["random"]
    assert not torch.equal(first["cpu"], second["cpu"])


# Ranks that die -------------------------------------------------------------------------


def test_a_killed_rank_loses_nothing(job, folder, ranks):
    """kill -9 in the middle of epoch 3, and torchrun --max-restarts: weights and
    numbers are to the last bit those of four epochs in one call of `fit` on two ranks,
    with dropout and augmentation on each; only epochs 3 and 4 were done again."""
    assert "Signal 9 (SIGKILL)" in job.stderr or "exitcode: -9" in job.stderr
    for rank, whole in enumerate(ranks):
        result = torch.load(folder / f"killed-{rank}.pt", weights_only=False)
        assert result.pop("calls") == 2 * (
            4 if rank == 0 else 2
        )  # parts; rank 0 evaluates
        same(result, whole["uninterrupted"], 0)


def test_a_rank_that_raises_ends_the_job(job, folder):
    """Its error stands in the output, torchrun names the rank, and nobody waits for
    long."""
    assert job.returncode != 0
    assert "ValueError: planted on rank 1" in job.stderr
    assert "rank      : 1 (local_rank: 1)" in job.stderr.partition("Root Cause")[2]
    assert job.ended - (folder / "raised").stat().st_mtime < 60


def test_restarts_need_a_store_of_their_own(monkeypatch):
    """Where torchrun would keep its store of old addresses, the ranks say what to set,
    at the start and not after the first death; without restarts, or with the switch,
    nothing is said."""
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    with pytest.raises(
        distributed.GroupError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"
    ):
        distributed.check_restarts()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    distributed.check_restarts()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    distributed.check_restarts()


# A process on its own -------------------------------------------------------------------


def test_alone_everything_is_as_given(monkeypatch):
    """Rank 0 of 1, and the group does nothing."""
    monkeypatch.delenv("RANK", raising=False)
    with distributed.group("cpu") as device, distributed.local_rank_0_first():
        assert device == torch.device("cpu")
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
        assert distributed.all_gather("a") == ["a"] and distributed.sum_over_ranks(7) == 7
        assert distributed.on_rank_0(lambda: 3) == 3
    text = message(
        CheckpointError, distributed.on_rank_0, lambda: checkpoint.load("/no/file")
    )
    assert "there is no checkpoint /no/file" in text


def test_more_ranks_than_gpus_is_said(monkeypatch):
    """And a device that several processes cannot share."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    text = message(distributed.GroupError, distributed.group("cuda").__enter__)
    assert "process 1 of this machine has no GPU of its own, of 1" in text
    text = message(distributed.GroupError, distributed.group("mps").__enter__)
    assert "CPUs or CUDA GPUs, not on mps" in text
