"""python -m lessons_src.scale.run: its options, its files, its one line, its words in trouble."""

import errno
import fcntl
import json
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
import torch
from lesson_source import ROOT

from lessons_src import data, recipes, train
from lessons_src.data import Dataset, Split
from lessons_src.scale import checkpoint, run


@pytest.fixture
def few(monkeypatch):
    """300 images of two easy classes in place of 60,000; `few.standin` says what they
    are."""
    labels = torch.arange(300) % 2
    bright = labels.view(-1, 1, 1, 1) * 200
    images = (bright + torch.arange(784).view(1, 28, 28) % 50).byte()
    split = Split(images, labels)

    class Few:
        standin = False

    def load(name, root=None):
        if Few.standin:
            print("THIS IS NOT MNIST")
        names = tuple("0123456789")
        return Dataset(name, split, split[:100], names, "here", Few.standin)

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(recipes, "HELD_OUT", 50)
    monkeypatch.delenv("RANK", raising=False)
    return Few


def status(*arguments):
    """The command in this process: its exit status (0 where it returns)."""
    try:
        run.main([*map(str, arguments), "--device", "cpu"])
    except SystemExit as end:
        return end.code
    return 0


SHORT = ("mlp-97", "--epochs", 2)


def test_one_line_of_result_and_progress_elsewhere(few, capsys):
    """stdout: one line with accuracy, loss, epochs, seconds, processes. stderr: one an
    epoch."""
    assert status(*SHORT) == 0
    out, err = capsys.readouterr()
    form = r"mlp-97  mnist  test 100.00%  loss 0\.\d+  epochs: 2, [\d.]+ s  processes: 1, cpu\n"
    assert re.fullmatch(form, out)
    assert [line[:9] for line in err.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_the_json_holds_all_that_the_run_was(few, tmp_path):
    """Settings, lists by epoch, the numbers of the test split, versions, the command
    itself."""
    assert status(*SHORT, "--seed", 4, "--json", tmp_path / "new" / "a.json") == 0
    result = json.loads((tmp_path / "new" / "a.json").read_text(encoding="utf-8"))
    for key in ("loss", "accuracy", "seconds"):
        assert len(result[key]) == 2
    expected = {
        "recipe": "mlp-97",
        "dataset": "mnist",
        "standin": False,
        "parameters": 101_770,
        "epochs": 2,
        "batch_size": 128,
        "optimizer": "AdamW",
        "lr": 0.005,
        "seed": 4,
        "examples": None,
        "validation": False,
        "world_size": 1,
        "device": "cpu",
        "threads": torch.get_num_threads(),
        "test_accuracy": 1.0,
    }
    assert expected.items() <= result.items()
    assert result["command"].startswith(
        "python -m lessons_src.scale.run mlp-97 --epochs 2"
    )
    assert result["versions"]["torch"] == torch.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", result["date"])


def test_the_standin_is_named(few, capsys, tmp_path):
    """In the JSON and in the line; the loud notice goes to stderr."""
    few.standin = True
    assert status(*SHORT, "--json", tmp_path / "a.json") == 0
    out, err = capsys.readouterr()
    assert (
        json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))["standin"] is True
    )
    assert out.startswith("mlp-97  mnist (THE STAND-IN)  test") and "NOT MNIST" in err


def test_the_saved_network_is_the_one_that_was_measured(few, tmp_path):
    """Its state_dict goes into the recipe's network, and gives the accuracy of the
    JSON."""
    files = ("--save", tmp_path / "a.pt", "--json", tmp_path / "a.json")
    assert status("mnist-99", "--examples", 128, *files) == 0
    model = recipes.small()
    model.load_state_dict(checkpoint.load(tmp_path / "a.pt"))
    loaded = data.load("mnist")
    test = loaded.test.normalised(loaded.mean, loaded.std)
    result = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    expected = result["test_loss"], result["test_accuracy"]
    assert train.evaluate(model, test) == pytest.approx(expected, rel=1e-5)
    assert result["examples"] == 128


def test_validation_leaves_the_test_split_alone(few, capsys, monkeypatch):
    """250 images to train on, 50 others to measure on."""
    sizes = []

    def spy(name):
        function = getattr(run, name)

        def counted(model, split, *arguments, **options):
            sizes.append(len(split))
            return function(model, split, *arguments, **options)

        monkeypatch.setattr(run, name, counted)

    spy("fit")
    spy("evaluate")
    assert status(*SHORT, "--validation") == 0
    assert sizes == [250, 50] and "  validation " in capsys.readouterr().out


@pytest.mark.parametrize("name", run.RECIPES)
def test_every_recipe_runs(few, name, capsys):
    """One epoch of each: a finite loss and a line with its own name and data."""
    assert status(name, "--epochs", 1, "--examples", 64) == 0
    line = capsys.readouterr().out
    assert line.startswith(f"{name}  {run.RECIPES[name].dataset}  test ")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["resnet"], "argument RECIPE: invalid choice: 'resnet'"),
        ([], "the following arguments are required: RECIPE"),
        (["R5", "--epochs", "0"], "argument --epochs: 0 is not from 1 to"),
        (
            ["R5", "--epochs", "many"],
            "argument --epochs: invalid whole number value: 'many'",
        ),
        (["R5", "--ep", "3"], "unrecognized arguments: --ep 3"),
        (["R5", "--examples", "301"], "--examples 301: there are 300 to train on"),
        (["R5", "--save", "a", "--checkpoint", "a"], "need a file each"),
    ],
)
def test_wrong_use_is_said_in_the_last_line_with_status_2(few, capsys, wrong, message):
    """What is wrong, and no traceback."""
    assert status(*wrong) == 2
    out, err = capsys.readouterr()
    line = err.splitlines()[-1]
    assert line.startswith("python -m lessons_src.scale.run: error: ") and message in line
    assert out == "" and "Traceback" not in err


def test_the_json_of_before_stays_where_the_disk_is_full(few, tmp_path, monkeypatch):
    """The write breaks off: the file of an earlier run is whole, and nothing is beside."""
    path = tmp_path / "a.json"
    assert status(*SHORT, "--json", path) == 0
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert status(*SHORT, "--seed", 4, "--json", path) == 1
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_the_json_may_be_a_pipe_or_a_link(few, tmp_path):
    """As `--json /dev/stdout`: written to, and not replaced by a file of that name."""
    pipe, link, file = (tmp_path / name for name in ("pipe", "link", "file"))
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert status(*SHORT, "--json", pipe) == 0
    assert json.loads(os.read(reader, 100_000))["recipe"] == "mlp-97" and pipe.is_fifo()
    os.close(reader)
    link.symlink_to(file)
    assert status(*SHORT, "--json", link) == 0
    assert link.is_symlink() and json.loads(file.read_text(encoding="utf-8"))["loss"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there(few, capsys):
    with pytest.raises(SystemExit, match="2"):
        run.main(["R5", "--device", "cuda"])
    assert "--device cuda: PyTorch finds none on this machine" in capsys.readouterr().err


def test_a_run_that_fails_ends_with_one_line_and_status_1(
    few, capsys, tmp_path, monkeypatch
):
    """A loss that is not finite; a file that cannot be written, found before the
    training."""
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file" / "a.json", tmp_path):
        assert status(*SHORT, "--json", wrong) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"cannot write {wrong}: name a file" in line  # and no epoch was trained

    def diverges(*arguments, **options):
        raise train.TrainingError("the loss is nan in epoch 1, batch 2")

    monkeypatch.setattr(run, "fit", diverges)
    assert status(*SHORT) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("error: the loss is nan in epoch 1, batch 2")


def test_a_checkpoint_is_resumed_and_another_training_refused(few, capsys, tmp_path):
    """Two epochs and then four are four; another recipe, data, seed or schedule is
    named."""
    file = ("--checkpoint", tmp_path / "a.pt")
    assert status("R1a", "--epochs", 2, *file) == 0
    capsys.readouterr()
    assert status("R1a", "--epochs", 4, *file, "--json", tmp_path / "a.json") == 0
    err = capsys.readouterr().err
    assert [line[:9] for line in err.splitlines()] == ["epoch 3/4", "epoch 4/4"]
    assert status("R1a", "--epochs", 4, "--json", tmp_path / "b.json") == 0
    resumed, whole = (
        json.loads((tmp_path / f"{x}.json").read_text(encoding="utf-8")) for x in "ab"
    )
    for key in ("loss", "accuracy", "test_loss"):
        assert resumed[key] == whole[key]
    capsys.readouterr()
    for other, message in (
        (["R1a", "--seed", 1], "its shuffling is by seed 0, not by seed 1"),
        (["R1a", "--examples", 200], "its data is"),
        (["R1b"], "its network is"),
        (["R1a", "--epochs", 1], "holds 4 epochs, more than the 1"),
    ):
        words = other if "--epochs" in other else [*other, "--epochs", 5]
        assert status(*words, *file) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "a.pt " in line and message in line
    assert status(*SHORT, "--checkpoint", tmp_path / "b.pt") == 0
    assert status("mlp-97", "--epochs", 3, "--checkpoint", tmp_path / "b.pt") == 1
    assert "its schedule is" in capsys.readouterr().err


def test_help_explains_itself(capsys):
    """Every recipe, torchrun, the exit status, and examples that can be parsed."""
    assert status("--help") == 0
    text = capsys.readouterr().out
    for word in (*run.RECIPES, "torchrun --standalone", "--max-restarts=3", "0 done"):
        assert word in text
    commands = text.replace("\\\n", " ").splitlines()
    examples = [line.partition("lessons_src.scale.run ")[2] for line in commands]
    examples = [words.split("   ")[0] for words in examples if words and "[" not in words]
    assert len(examples) >= 5
    for example in examples:
        run.arguments(shlex.split(example))


def test_ranks_other_than_the_first_are_silent(few, capsys, monkeypatch):
    """Of wrong options only rank 0 speaks; all end with the same status."""
    monkeypatch.setenv("RANK", "1")
    assert status("R9") == 2
    assert capsys.readouterr() == ("", "")


def test_torchruns_report_holds_the_reason(few, capsys, monkeypatch, tmp_path):
    """The error and where it was raised go to the file from which torchrun reports;
    where all ranks come to the same error, rank 0 alone says it on stderr."""
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setattr(run, "rank", lambda: 1)

    def fails(args):
        raise train.TrainingError("the loss is nan in epoch 1")

    monkeypatch.setattr(run, "run", fails)
    assert status("R5") == 1
    assert capsys.readouterr().err == ""
    assert "TrainingError: the loss is nan" in (tmp_path / "error.json").read_text(
        encoding="utf-8"
    )


def heed_ctrl_c():
    """As on a terminal: where the tests were started in the background, Ctrl-C is
    ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_a_bar_on_a_terminal_and_ctrl_c(tmp_path):
    """On a terminal a bar counts batches; Ctrl-C ends it with one line that says how
    to go on, and status 130. (A process of its own, for the terminal and the signal.)"""
    file = tmp_path / "a.pt"
    words = ["R5", "--epochs", "500", "--examples", "2000", "--checkpoint", str(file)]
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "lessons_src.scale.run", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=end,
        preexec_fn=heed_ctrl_c,
    )
    screen, interrupted, deadline = b"", False, time.time() + 200
    while process.poll() is None or select.select([terminal], [], [], 0.2)[0]:
        if select.select([terminal], [], [], 0.2)[0]:
            screen += os.read(terminal, 4096)
        if not interrupted and (file.exists() or time.time() > deadline):
            process.send_signal(signal.SIGINT)
            interrupted = True
    screen = screen.decode()
    os.close(terminal)
    os.close(end)  # not before: what the process said last could be lost with it
    assert (process.wait(60), process.stdout.read()) == (130, ""), screen[-2000:]
    assert "/16000 [" in screen and "batches/s" in screen
    (line,) = (x for x in screen.replace("\r", "\n").splitlines() if "error: " in x)
    assert "interrupted. The same command resumes from the last whole epoch." in line
    assert len(checkpoint.load(file)["history"]["loss"]) >= 1
    assert "Traceback" not in screen
