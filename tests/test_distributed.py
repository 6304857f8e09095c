"""lessons_src.distributed: two processes do what one does, and end when one of them dies."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from two_ranks import CASES, trained

TESTS = Path(__file__).parent


def torchrun(*arguments, ranks=2, options=(), timeout=120, **environment):
    """One job of `ranks` processes on this machine, on a free port, a thread each."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone",
               f"--nproc-per-node={ranks}", *options, *map(str, arguments)]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS.parent)}
    return subprocess.run(command, env=environment | environment, capture_output=True, text=True,
                          timeout=timeout)  # fmt: skip


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two_ranks.py found on each of two ranks: one job for most tests, it costs seconds."""
    folder = tmp_path_factory.mktemp("ranks")
    job = torchrun(TESTS / "two_ranks.py", folder)
    assert job.returncode == 0, job.stderr
    return [torch.load(folder / f"rank-{r}.pt", weights_only=False) for r in range(2)]


@pytest.mark.parametrize("case", CASES)
def test_two_processes_give_the_weights_of_one(ranks, case):
    """Half the batch on each of two ranks, or the whole on one: the same weights and buffers to
    1e-5 in float32 and to 1e-10 in float64, over batches that two does not divide."""
    alone, tolerance = trained(**CASES[case]), 1e-5 if "float32" in case else 1e-10
    for found in ranks:
        torch.testing.assert_close(found[case]["state"], alone["state"], rtol=0, atol=tolerance)
