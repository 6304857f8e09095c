"""lessons_src.distributed: two processes do what one does, and end when one of them dies."""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torch import nn
from two_ranks import CASES, NORMS, network, normalised, run_command, shares, trained

from lessons_src import checkpoint, distributed
from lessons_src.checkpoint import CheckpointError

TESTS = Path(__file__).parent


def torchrun(*arguments, ranks=2, options=(), timeout=300):
    """A job of some processes on this machine, on a free port, a thread each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               f"--nproc-per-node={ranks}", *options, *map(str, arguments)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS.parent)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def job(folder):
    """One job on two ranks for most tests here: to start it costs seconds. A checkpoint that one
    process wrote is there for it to go on from. When all is found, rank 1 is killed in epoch 3 of
    a training, the job is started again once, and raises in the end."""
    trained("cnn", epochs=2, checkpoint=folder / "from-one.pt")
    done = torchrun(TESTS / "two_ranks.py", folder, options=["--max-restarts=1"])
    done.ended = time.time()
    assert all((folder / f"rank-{r}.pt").is_file() for r in range(2)), done.stderr
    return done


@pytest.fixture(scope="module")
def ranks(job, folder):
    """What each of the two ranks found."""
    return [torch.load(folder / f"rank-{r}.pt", weights_only=False) for r in range(2)]


def same(got, expected, tolerance):
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)


# One process or two: the same -------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_weights_of_one(ranks, case):
    """Half of every batch on each of two ranks, or the whole on one: the same weights and buffers,
    to 1e-5 in float32 and to 1e-10 in float64, though the batches have 37 and 1 examples."""
    alone, tolerance = trained(**CASES[case]), 1e-5 if "float32" in case else 1e-10
    start = network(CASES[case].get("name", "cnn"), CASES[case].get("dtype", torch.float64))
    assert any(not torch.equal(a, b) for a, b in zip(alone["state"].values(),
               start.state_dict().values(), strict=True))  # fmt: skip # something was learnt
    for found in ranks:
        same(found[case]["state"], alone["state"], tolerance)


@pytest.mark.parametrize("case", CASES)
def test_measured_numbers_are_those_of_one_process(ranks, case):
    """Loss and accuracy while learning, on the test split, and by evaluate: on every rank."""
    alone, tolerance = trained(**CASES[case]), 1e-5 if "float32" in case else 1e-10
    for found in ranks:
        for what in ("history", "evaluated"):
            same(found[case][what], alone[what], tolerance)


def test_the_ranks_stay_equal_to_the_last_bit(ranks):
    """Also in float32, with dropout and augmentation that differ between them."""
    for case in ("float32 cnn", "float32 mlp", "random"):
        same(ranks[0][case], ranks[1][case], 0)


def test_every_example_of_a_batch_is_seen_once(ranks):
    """The two shares of a batch together are the batch of one process: none twice, none missing;
    they differ by one in length at most, also where a batch has fewer examples than ranks."""
    first, second = (found["shares"] for found in ranks)
    assert [sorted(a + b) for a, b in zip(first, second, strict=True)] == list(
        map(sorted, shares())
    )
    assert [len(b) for b in first] == [19, 19, 1] and [len(b) for b in second] == [18, 18, 0]


@pytest.mark.parametrize("case", NORMS)
def test_batch_norm_takes_the_whole_batch(ranks, case):
    """Outputs, gradients of input and parameters, running statistics, and then evaluation: equal
    to torch's batch norm on the whole batch, at a mean of 10,000 standard deviations too."""
    alone = normalised(*NORMS[case])
    for what in ("output", "input"):
        parts = torch.cat([found["norms"][case][what] for found in ranks], 1)
        torch.testing.assert_close(parts, alone[what], rtol=1e-6, atol=1e-6)
    parts = torch.cat([found["norms"][case]["evaluation"] for found in ranks])
    if case != "plain":  # without running statistics each batch has its own, here as there
        torch.testing.assert_close(parts, alone["evaluation"], rtol=1e-6, atol=1e-6)
    for found in ranks:
        for what in ("parameters", "state"):
            torch.testing.assert_close(
                found["norms"][case][what], alone[what], rtol=1e-6, atol=1e-6
            )


def test_each_rank_draws_its_own_random_numbers(ranks):
    """Same seed at the start on both; after `fit` began, dropout and augmentation differ."""
    first, second = (found["draws"] for found in ranks)
    assert not torch.equal(first, second)


def test_the_command_by_torchrun_gives_the_weights_of_one_process(job, folder):
    """python -m lessons_src.train --model cnn on two ranks: weights and buffers to 1e-5, the same
    loss and accuracy, one result line, the number of ranks in the JSON."""
    run_command(folder, 1)
    alone, both = (json.loads((folder / f"command-{n}.json").read_text()) for n in (1, 2))
    first, second = (checkpoint.load(folder / f"command-{n}.pt") for n in (1, 2))
    torch.testing.assert_close(second, first, rtol=0, atol=1e-5)
    for key in ("loss", "accuracy", "test_loss", "test_accuracy"):
        assert both[key] == pytest.approx(alone[key], abs=1e-6), key
    assert (alone["world_size"], both["world_size"]) == (1, 2)
    lines = [line for line in job.stdout.splitlines() if "loss" in line and "processes" in line]
    assert len(lines) == 1 and lines[0].endswith("2 processes on cpu")


# One writes, all know ---------------------------------------------------------------------------


def test_one_rank_writes_and_prints(ranks, job):
    """A line an epoch, not two; checkpoints are written by rank 0 alone."""
    lines = [line for line in job.stdout.splitlines() if line.startswith("epoch ")]
    assert [line[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert [len(found["saved"]) for found in ranks] == [2, 0]


def test_one_fetches_while_the_others_wait(ranks):
    """The first rank of the machine makes the file; the other comes when it is there."""
    assert [found["there already"] for found in ranks] == [False, True]


def test_numbers_and_things_of_all_ranks(ranks):
    """The sum and the list are on both."""
    for found in ranks:
        assert found["total"] == 2.0 and found["gathered"] == [{"rank": 0}, {"rank": 1}]


@pytest.mark.parametrize("where, batch, rank", [(2, 1, 0), (37 + 20, 2, 1), (74, 3, 0)])
def test_a_loss_that_is_not_finite_stops_all_ranks(ranks, where, batch, rank):
    """One nan in one rank's share: every rank raises, and names epoch, batch and that rank; a
    rank without examples is not blamed."""
    for found in ranks:
        assert found["nan"][where].startswith(
            f"TrainingError: the loss is nan in epoch 1, batch {batch}, on rank {rank} of 2, at"
        )


def test_an_error_of_the_one_that_reads_or_writes_is_raised_on_all(ranks):
    """A damaged checkpoint, one that cannot be written: no rank waits for ever."""
    for found in ranks:
        assert found["damaged"].startswith("CheckpointError") and "damaged" in found["damaged"]
        assert "could not write" in found["unwritable"]


# Checkpoints and another number of ranks --------------------------------------------------------


def test_two_go_on_from_the_checkpoint_of_one(ranks):
    """Order of examples, optimizer and schedule as they were: the weights of an unbroken run."""
    alone = trained("cnn", epochs=4)
    for found in ranks:
        same(found["resumed"]["state"], alone["state"], 1e-10)
        same(found["resumed"]["history"], alone["history"], 1e-10)


def test_one_goes_on_from_the_checkpoint_of_two(ranks, folder, tmp_path):
    """It knows the random state of rank 0 and leaves the other's aside: both epochs are kept,
    nothing is refused, and the training goes on with a finite loss."""
    (tmp_path / "a.pt").write_bytes((folder / "random-2.pt").read_bytes())
    history = trained("random", epochs=4, checkpoint=tmp_path / "a.pt")["history"]
    assert (
        history["loss"][:2] == ranks[0]["random"]["history"]["loss"] and len(history["loss"]) == 4
    )
    kept = checkpoint.load(folder / "random-2.pt")
    assert len(kept["others"]) == 1
    assert not torch.equal(kept["random"]["torch"], kept["others"][0]["torch"])


# Ranks that die ---------------------------------------------------------------------------------


def test_a_killed_rank_loses_nothing(job, folder, ranks):
    """kill -9 in the middle of epoch 3, and torchrun --max-restarts: weights and numbers are to the
    last bit those of an unbroken run on two ranks, with dropout and augmentation on each; only
    epochs 3 and 4 were done again."""
    assert "Signal 9 (SIGKILL)" in job.stderr or "exitcode: -9" in job.stderr
    for rank, unbroken in enumerate(ranks):
        found = torch.load(folder / f"killed-{rank}.pt", weights_only=False)
        same(found["state"], unbroken["random again"]["state"], 0)
        same(found["history"], unbroken["random again"]["history"], 0)
        assert found["calls"] == 2 * (3 + (rank == 0))  # 3 batches; rank 0 evaluates one


def test_a_rank_that_raises_ends_the_job(job, folder):
    """Its error stands in the output, torchrun names the rank, and nobody waits for long."""
    assert job.returncode != 0
    assert "ValueError: planted on rank 1" in job.stderr
    assert "rank      : 1 (local_rank: 1)" in job.stderr.partition("Root Cause")[2]
    assert job.ended - (folder / "raised").stat().st_mtime < 60


def test_ranks_that_start_again_do_not_meet_the_dead(monkeypatch):
    """What an earlier start left in the store is passed by, whoever comes first: the ranks agree on
    a name, and it is a new one."""
    monkeypatch.setattr(distributed, "WAIT", timedelta(seconds=9))
    store = torch.distributed.HashStore()
    store.set_timeout(distributed.WAIT)
    for first in (1, 2, 0):
        before = store.get("invitation") if store.check(["invitation"]) else b""
        with ThreadPoolExecutor(3) as pool:
            found = [pool.submit(distributed._meeting, store, first, 3)]
            time.sleep(0.2)  # long enough to follow what is there already
            found += [pool.submit(distributed._meeting, store, n, 3) for n in {0, 1, 2} - {first}]
            names = {future.result(timeout=10) for future in found}
        assert len(names) == 1 and names != {before.decode()}
    monkeypatch.setattr(distributed, "WAIT", timedelta(seconds=0.3))
    with pytest.raises(distributed.GroupError, match="rank 1 of 3 waited for the others in vain"):
        distributed._meeting(store, 1, 3)


# A process on its own ---------------------------------------------------------------------------


def test_alone_everything_is_as_given(monkeypatch):
    """Rank 0 of 1; the model itself, the whole batch, the same loss; the group does nothing."""
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    model, batch, loss = network(), torch.arange(5), torch.tensor(2.0)
    with distributed.group("cpu") as device, distributed.one_first():
        assert device == torch.device("cpu")
        assert (distributed.rank(), distributed.world_size()) == (0, 1)
        assert distributed.replicate(model) is model and type(model[2]) is not distributed.BatchNorm
        assert torch.equal(distributed.share(batch), batch)
        assert distributed.whole(loss, 5, 5) is loss and distributed.total(7) == 7
        assert distributed.gather("a") == ["a"] and distributed.by_one(lambda: 3) == 3
    with pytest.raises(CheckpointError):
        distributed.by_one(lambda: checkpoint.load("/no/such/file"))


@pytest.mark.parametrize("n, ranks", [(10, 3), (2, 4), (64, 2), (1, 2)])
def test_shares_are_disjoint_and_even(monkeypatch, n, ranks):
    """For any number of ranks: all examples, each once, lengths that differ by one at most."""
    monkeypatch.setattr(distributed, "world_size", lambda: ranks)
    parts = []
    for rank in range(ranks):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        parts.append(distributed.share(torch.arange(n)).tolist())
    assert sorted(sum(parts, [])) == list(range(n))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_ranks_than_gpus_is_said(monkeypatch):
    """And a device that several processes cannot share."""
    for name, value in {
        "RANK": "1",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "x",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(distributed.GroupError, match="process 1 .* no GPU of its own, of 1"):
        distributed.group("cuda").__enter__()
    with pytest.raises(distributed.GroupError, match="CPUs or CUDA GPUs, not on mps"):
        distributed.group("mps").__enter__()


def test_batch_norm_needs_two_values(monkeypatch):
    """One value a channel has no variance: ValueError, as torch's."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "all_reduce", lambda x: None)
    layer = nn.BatchNorm1d(3)
    layer.__class__ = distributed.BatchNorm
    with pytest.raises(ValueError, match=r"two values a channel, received \(1, 3\)"):
        layer(torch.zeros(1, 3))
