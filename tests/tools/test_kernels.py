"""A forked kernel is what an ordinary one is, also where something goes wrong."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
import time

import kernels
import pytest
from jupyter_client.launcher import launch_kernel
from jupyter_client.provisioning import local_provisioner
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel

pytestmark = pytest.mark.skipif(
    not kernels.forks_are_safe() or os.environ.get("OMP_NUM_THREADS") != "1",
    reason="kernels are not forked here: make test forks them, on Linux without a GPU",
)
LIGHT = ["ipykernel.kernelapp"]
SAME = {  # what a cell says in either kernel
    "surroundings": "import os, sys; print(os.getcwd(), sys.path, sys.flags, sys.stdin)",
    "environment": "print(sorted((k, v) for k, v in os.environ.items() if k != "
    "'JPY_PARENT_PID'))",
    "arguments": "print(len(sys.argv), sys.argv[:2], __name__, sys.modules['__main__'])",
    "signals": "import signal; print([(s, signal.getsignal(s)) for s in "
    "signal.valid_signals()]); print(signal.pthread_sigmask(signal.SIG_BLOCK, []))",
    "session": "print(os.getsid(0) == os.getpgid(0) == os.getpid())",
    "limits": "print(open('/proc/self/limits').read(), oct(os.umask(0o22)))",
    "files": "print(os.read(0, 1), os.readlink('/proc/self/fd/2'))",
    "names": "print(sorted(n for n in globals() if n[0] != '_'))",
    "warnings": "import warnings; warnings.warn('said'); print(len(warnings.filters) > 0)",
    "a process": "!echo said; echo wrong >&2",
    "an error": "def f(x):\n    return 1 / x\n\nf(0)",
    "an exit": "raise SystemExit('words that a reader needs')",
    "numbers": "import torch; torch.manual_seed(0); print(torch.rand(3), "
    "torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())",
    "gradients": "w = torch.ones(2, 3, requires_grad=True); (w @ w.T).sum().backward(); "
    "print(w.grad)",
    "a bad product": "torch.ones(2, 3) @ torch.ones(2, 3)",
    "pictures": "import matplotlib.pyplot as plt; print(plt.get_backend(), "
    "plt.isinteractive()); plt.plot([1, 2]); plt.show()",
    "workers": "from torch.utils.data import DataLoader; "
    "print(list(DataLoader(range(4), num_workers=2)))",
}


def start(folder, stem=None):
    """A kernel as nbval starts it: an ordinary one, or from this stem."""
    launch = functools.partial(kernels.launch, stem) if stem else launch_kernel
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(local_provisioner, "launch_kernel", launch)
        return RunningKernel(CURRENT_ENV_KERNEL_NAME, str(folder))


def process_of(kernel):
    return kernel.km.provisioner.process


def said(kernel, cell):
    """All that a cell makes a kernel say: kinds and contents, without process ids."""
    message = kernel.execute_cell_input(cell, allow_stdin=False)
    kernel.await_reply(message, timeout=60)
    parts = []
    while True:
        part = kernel.get_message("iopub", timeout=60)
        if part["parent_header"].get("msg_id") != message:
            continue
        words = re.sub(r"ipykernel_\d+", "ipykernel", json.dumps(part["content"]))
        content = json.loads(words)
        if content.get("execution_state") == "idle":
            return parts
        if part["msg_type"] == "stream" and parts and parts[-1][0] == content["name"]:
            parts[-1] = (content["name"], parts[-1][1] + content["text"])
        elif part["msg_type"] == "stream":
            parts.append((content["name"], content["text"]))
        elif part["msg_type"] not in ("status", "execute_input"):
            parts.append((part["msg_type"], content))


@pytest.fixture(scope="module")
def stem():
    """One that imports what lessons import: the worker's own, where there is one."""
    launch = local_provisioner.launch_kernel
    own = launch.args[0] if isinstance(launch, functools.partial) else kernels.Stem()
    yield own
    if own.process is not None and launch is launch_kernel:
        own.close()


@pytest.fixture(scope="module")
def both(stem, tmp_path_factory):
    """An ordinary kernel and a forked one, in one folder."""
    folder = tmp_path_factory.mktemp("kernels")
    two = start(folder), start(folder, stem)
    assert isinstance(process_of(two[0]), subprocess.Popen)
    assert isinstance(process_of(two[1]), kernels.Forked), "no kernel is forked"
    yield two
    for kernel in two:
        kernel.stop()


@pytest.mark.slow
@pytest.mark.parametrize("about", SAME)
def test_it_says_what_an_ordinary_kernel_says(both, about):
    """Of its surroundings, of numbers and pictures, and when something goes wrong."""
    ordinary, forked = (said(kernel, SAME[about]) for kernel in both)
    assert ordinary and ordinary[0][0] in ("stdout", "stderr", "error", "display_data")
    assert forked == ordinary


@pytest.mark.slow
def test_generators_without_a_seed_differ(stem, tmp_path):
    """In two kernels from one stem, as in any two processes."""
    draw = "import numpy, random, torch; print(numpy.random.rand(), random.random(), "
    draw += "torch.rand(1).item(), torch.initial_seed())"
    drawn = []
    for _ in range(2):
        kernel = start(tmp_path, stem)
        drawn.append(said(kernel, draw)[0][1].split())
        kernel.stop()
    assert all(one != other for one, other in zip(*drawn, strict=True)), drawn


@pytest.fixture
def light(tmp_path):
    """A kernel from a stem of its own, which imports little."""
    stem = kernels.Stem(LIGHT)
    kernel = start(tmp_path, stem)
    yield kernel
    kernel.stop()
    stem.close()


def ends(process, seconds=10):
    """How it ends, within this time."""
    return process.wait(timeout=seconds)


@pytest.mark.slow
def test_it_is_interrupted_and_goes_on(light):
    """As nbval does when a cell takes too long."""
    message = light.execute_cell_input("import time; time.sleep(60)", False)
    time.sleep(0.5)
    light.interrupt()
    light.await_reply(message, timeout=10)
    assert said(light, "print(1)") == [("stdout", "1\n")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cell", "status"), [("import os; os._exit(3)", 3), ("os.kill(os.getpid(), 9)", -9)]
)
def test_how_it_ended_is_known(light, cell, status):
    """Its status, or the signal that killed it."""
    process = process_of(light)
    light.kc.execute("import os\n" + cell)
    assert ends(process) == status and not light.is_alive()


@pytest.mark.slow
def test_it_ends_with_its_stem_and_the_next_one_is_ordinary(light, tmp_path):
    """Nothing is left behind, and the tests go on."""
    stem, pid = process_of(light).stem, light.km.provisioner.pid
    stem.process.kill()
    stem.process.wait()
    assert ends(process_of(light)) == -signal.SIGKILL
    end = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < end:
        time.sleep(0.1)
    assert not os.path.exists(f"/proc/{pid}"), "the kernel lives on without its stem"
    after = start(tmp_path, stem)
    assert isinstance(process_of(after), subprocess.Popen)
    assert said(after, "print(1)") == [("stdout", "1\n")]
    after.stop()


def test_a_folder_that_is_gone_is_an_error(light, tmp_path):
    """The one that an ordinary kernel raises."""
    with pytest.raises(FileNotFoundError):
        start(tmp_path / "gone", process_of(light).stem)


VERSION = [sys.executable, "-m", "ipykernel_launcher", "--version"]


@pytest.mark.slow
def test_another_environment_brings_an_ordinary_kernel(light, monkeypatch):
    """The libraries may have read it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        process = kernels.launch(process_of(light).stem, VERSION, stdout=nothing)
    assert isinstance(process, subprocess.Popen) and ends(process) == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "library",
    [
        "print('words at an import')",
        "import os; os.write(2, b'words from C')",
        "import threading as t; t.Thread(target=t.Event().wait, daemon=True).start()",
        "raise ImportError('not here')",
    ],
)
def test_where_forks_are_not_safe_the_kernel_is_ordinary(library, tmp_path, monkeypatch):
    """Where a library says something, makes a thread or is missing."""
    (tmp_path / "library_of_a_test.py").write_text(library, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with open(os.devnull, "w", encoding="utf-8") as nothing:
        stem = kernels.Stem(["library_of_a_test"])
        process = kernels.launch(stem, VERSION, stdout=nothing)
    assert isinstance(process, subprocess.Popen)
    assert ends(process) == 0 and ends(stem.process) in (0, 1)
