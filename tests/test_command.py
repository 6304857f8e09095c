"""python -m lessons_src.train: its options, its files, its one line, and its words in trouble."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
import torch
from lesson_source import ROOT

from lessons_src import checkpoint, command, data, distributed, options, train
from lessons_src.data import Dataset, Split

KEYS = {"data", "standin", "model", "parameters", "epochs", "batch_size", "world_size", "device",
        "threads", "optimizer", "lr", "seed", "loss", "accuracy", "seconds", "test_loss",
        "test_accuracy", "versions", "date", "command"}  # fmt: skip


@pytest.fixture
def few(monkeypatch):
    """300 images in place of 60,000, in two easy classes; `few.standin = True` to say they are."""
    labels = torch.arange(300) % 2
    images = (labels.view(-1, 1, 1, 1) * 200 + torch.arange(28 * 28).view(1, 28, 28) % 50).byte()
    made = Split(images, labels)

    class Few:
        standin = False

    def load(name, root=None):
        if Few.standin:
            print("THIS IS NOT MNIST")
        return Dataset(name, made, made[:100], tuple("0123456789"), "here", Few.standin)

    monkeypatch.setattr(data, "load", load)
    monkeypatch.setattr(command, "HELD_OUT", 50)
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    return Few


def run(*arguments):
    """The command in this process: its exit status (0 where it returns)."""
    try:
        command.main([*map(str, arguments), "--device", "cpu"])
    except SystemExit as end:
        return end.code
    return 0


SHORT = ("--model", "mlp", "--epochs", 2, "--batch-size", 50)


def test_one_line_of_result_and_progress_elsewhere(few, capsys):
    """stdout: one line with accuracy, loss, epochs, seconds, processes. stderr: one an epoch."""
    assert run(*SHORT) == 0
    out, err = capsys.readouterr()
    (line,) = out.splitlines()
    assert line.startswith("mnist  mlp  test 100.00%  loss 0.") and "2 epochs in" in line
    assert line.endswith("1 process on cpu")
    assert [x[:9] for x in err.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_quiet_says_the_result_alone(few, capsys):
    assert run(*SHORT, "--quiet") == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 and err == ""


def test_the_json_holds_all_that_the_run_was(few, tmp_path):
    """Every key of a record: lists by epoch, the numbers of the test split, the command itself."""
    assert run(*SHORT, "--seed", 4, "--json", tmp_path / "new" / "a.json") == 0
    found = json.loads((tmp_path / "new" / "a.json").read_text())
    assert set(found) >= KEYS
    for key in ("loss", "accuracy", "seconds"):
        assert len(found[key]) == 2
    assert found["accuracy"][-1] == 1 and found["test_accuracy"] == 1
    settings = ("mnist", False, "mlp", 79510, 2, 50, 1, "cpu", "adam", 0.01, 4)
    names = ("data", "standin", "model", "parameters", "epochs", "batch_size", "world_size",
             "device", "optimizer", "lr", "seed")  # fmt: skip
    assert tuple(found[name] for name in names) == settings
    assert found["command"].startswith("python -m lessons_src.train --model mlp --epochs 2")
    assert found["versions"]["torch"] == torch.__version__


def test_the_standin_is_named(few, capsys, tmp_path):
    """In the JSON and in the line; the loud notice goes to stderr."""
    few.standin = True
    assert run(*SHORT, "--json", tmp_path / "a.json") == 0
    out, err = capsys.readouterr()
    assert json.loads((tmp_path / "a.json").read_text())["standin"] is True
    assert out.startswith("mnist (THE STAND-IN)  mlp") and "THIS IS NOT MNIST" in err


def test_the_saved_network_is_the_one_that_was_measured(few, tmp_path):
    """Its state_dict goes into the network, and gives the accuracy of the JSON."""
    files = ("--save", tmp_path / "a.pt", "--json", tmp_path / "a.json")
    assert run("--model", "cnn", "--examples", 128, *files) == 0
    model = options.cnn()
    model.load_state_dict(checkpoint.load(tmp_path / "a.pt"))
    loss, share = command.train.evaluate(model, data.load("mnist").normalised()[1])
    found = json.loads((tmp_path / "a.json").read_text())
    assert (loss, share) == (found["test_loss"], found["test_accuracy"])
    assert found["examples"] == 128


def test_validation_leaves_the_test_split_alone(few, capsys, monkeypatch):
    """Held-out training images are measured; the test split is not even looked at."""
    seen, evaluate = [], command.train.evaluate
    monkeypatch.setattr(command.train, "evaluate",
                        lambda m, s: seen.append(len(s)) or evaluate(m, s))  # fmt: skip
    assert run(*SHORT, "--validation") == 0
    assert seen == [50] and "  validation " in capsys.readouterr().out


@pytest.mark.parametrize("model", options.MODELS)
def test_every_network_trains_with_its_defaults(few, model, tmp_path):
    """One epoch of each with its own optimizer: the loss is finite and the line is printed."""
    assert run("--model", model, "--epochs", 1, "--json", tmp_path / "a.json") == 0
    found = json.loads((tmp_path / "a.json").read_text())
    own = options.MODELS[model][2]
    assert (found["optimizer"], found["lr"]) == (own["optimizer"], own["lr"])


def test_another_optimizer_brings_its_own_rate(few):
    """The network's rate belongs to its optimizer; --lr has the last word."""

    def read(*words):
        return options.filled(options.parser().parse_args(["--model", "r1a", *words]))

    assert (read().lr, read().momentum) == (0.01, 0.5)
    assert (read("--optimizer", "adadelta").lr, read("--optimizer", "adam").momentum) == (1.0, 0)
    assert read("--optimizer", "adam", "--lr", "0.5").lr == 0.5
    assert read("--momentum", "0").momentum == 0


@pytest.mark.parametrize("wrong, said", [
    (["--lr", "fast"], "argument --lr: invalid number value: 'fast'"),
    (["--lr", "nan"], "argument --lr: nan is not at least 0"),
    (["--epochs", "0"], "argument --epochs: 0 is not at least 1"),
    (["--warmup", "1"], "argument --warmup: 1 is not at least 0 and less than 1"),
    (["--model", "resnet"], "invalid choice: 'resnet'"),
    (["--ep", "3"], "unrecognized arguments: --ep 3"),
    (["--momentum", "0.5"], "--momentum belongs to --optimizer sgd, not to adamw"),
    (["--examples", "301"], "--examples 301: there are 300 to train on"),
])  # fmt: skip
def test_wrong_use_ends_with_one_line_and_status_2(few, capsys, wrong, said):
    """What is wrong, and no traceback, no page of usage."""
    assert run(*wrong) == 2
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert line.startswith("python -m lessons_src.train: error: ") and said in line and out == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there(few, capsys):
    with pytest.raises(SystemExit, match="2"):
        command.main(["--device", "cuda"])
    assert "--device cuda: PyTorch finds none on this machine" in capsys.readouterr().err


def test_a_run_that_fails_ends_with_one_line_and_status_1(few, capsys, tmp_path):
    """A loss that is not finite; a file that cannot be written, found before the training."""
    assert run(*SHORT, "--warmup", 0, "--lr", 1e30, "--quiet") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "error: the loss is " in line and "learning rate 1e+30" in line
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file" / "a.json", tmp_path):
        assert run(*SHORT, "--json", wrong) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert f"cannot write {wrong}: name a file" in line  # and no epoch was trained


def test_a_checkpoint_is_gone_on_from_and_another_training_refused(few, capsys, tmp_path):
    """Two epochs and then four are four; another rate, network or data set is named."""
    file = ("--checkpoint", tmp_path / "a.pt")
    plain = ("--model", "r1a", "--batch-size", 50)
    assert run(*plain, "--epochs", 2, *file) == 0
    capsys.readouterr()
    assert run(*plain, "--epochs", 4, *file, "--json", tmp_path / "a.json") == 0
    err = capsys.readouterr().err
    assert "a.pt holds 2 epochs: going on from there" in err
    assert [x[:9] for x in err.splitlines()[1:]] == ["epoch 3/4", "epoch 4/4"]
    assert run(*plain, "--epochs", 4, "--json", tmp_path / "b.json") == 0
    resumed, whole = (json.loads((tmp_path / f"{x}.json").read_text()) for x in "ab")
    assert resumed["loss"] == whole["loss"] and resumed["test_loss"] == whole["test_loss"]
    capsys.readouterr()
    for other, said in ((["--lr", 0.02], "its lr is 0.01, not 0.02"),
                        (["--data", "fashion-mnist"], "its data is mnist, not fashion-mnist"),
                        (["--seed", 1], "its seed is 0, not 1")):  # fmt: skip
        assert run(*plain, "--epochs", 4, *file, *other, "--quiet") == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "a.pt is of another training: " in line and said in line
    assert run("--model", "r1b", "--batch-size", 50, "--epochs", 4, *file, "--quiet") == 1
    assert "its model is r1a, not r1b" in capsys.readouterr().err


def test_a_schedule_belongs_to_its_number_of_epochs(few, capsys, tmp_path):
    """With --warmup the rate ends at zero with the last epoch: more are another training."""
    file = ("--checkpoint", tmp_path / "a.pt", "--quiet", "--warmup", 0.3)
    assert run("--model", "mlp", "--epochs", 1, *file) == 0
    assert run("--model", "mlp", "--epochs", 2, *file) == 1
    assert "its epochs is 1, not 2" in capsys.readouterr().err


def test_help_explains_itself(capsys):
    """Groups, each network's defaults, torchrun, examples that can be parsed, exit status."""
    assert run("--help") == 0
    text = capsys.readouterr().out
    for word in ("what is trained:", "what is written (by rank 0):", "torchrun --standalone",
                 "--max-restarts=3", "exit status: 0 done"):  # fmt: skip
        assert word in text
    for name, (_, _, own) in options.MODELS.items():
        (line,) = (x for x in text.splitlines() if x.startswith(f"  {name} "))
        assert f"{own['optimizer']} {own['lr']:g}" in line
    examples = [x.partition("lessons_src.train ")[2] for x in text.splitlines()
                if x.startswith(("  python -m", "  torchrun", "           -m"))]  # fmt: skip
    assert len([options.parser().parse_args(x.split("   ")[0].replace("\\", "").split())
                for x in examples]) >= 6  # fmt: skip


def test_ranks_other_than_the_first_are_silent(few, capsys, monkeypatch):
    """Of wrong options and of --help only rank 0 speaks; all end with the same status."""
    monkeypatch.setenv("RANK", "1")
    assert run("--lr", "fast") == 2 and run("--help") == 0
    assert capsys.readouterr() == ("", "")


# Whole processes ----------------------------------------------------------------------------------


def start(*arguments, **how):
    words = [sys.executable, "-m", "lessons_src.train", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, env=environment, text=True, **how)


def heed_ctrl_c():
    """As on a terminal: where the tests were started in the background, Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_bar_on_a_terminal_and_ctrl_c(tmp_path):
    """On a terminal a bar counts batches; Ctrl-C ends it with one line that says how to go on, and
    status 130. (A process of its own, for the terminal and the signal.)"""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # rows, columns
    process = start("--data", "digits", "--model", "mlp", "--epochs", 500, "--examples", 2000,
                    "--checkpoint", tmp_path / "a.pt", stdout=subprocess.PIPE, stderr=end,
                    preexec_fn=heed_ctrl_c)  # fmt: skip
    shown, interrupted, deadline = b"", False, time.time() + 200
    while process.poll() is None or select.select([terminal], [], [], 0.2)[0]:
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 4096)
        if not interrupted and (b"epoch 2/500" in shown or time.time() > deadline):
            process.send_signal(signal.SIGINT)
            interrupted = True
    shown = shown.decode()
    os.close(terminal)
    os.close(end)  # not before: what the process said last could be lost with it
    assert process.wait(60) == 130 and process.stdout.read() == ""
    assert "/8000 [" in shown and "batches/s" in shown
    (said,) = (line for line in shown.replace("\r", "\n").splitlines() if "error: " in line)
    assert "error: broken off. The same command goes on from the last whole epoch." in said
    assert len(checkpoint.load(tmp_path / "a.pt")["history"]["loss"]) >= 2
    assert "Traceback" not in shown


def test_torchruns_report_holds_the_reason(few, capsys, monkeypatch, tmp_path):
    """The error and where it was raised go to the file from which torchrun reports; where all
    ranks come to the same error, rank 0 alone says it on stderr."""
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(tmp_path / "error.json"))
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    said = train.TrainingError("the loss is nan in epoch 1, batch 2, on rank 0 of 2")

    def fails(args):
        raise said

    monkeypatch.setattr(command, "run", fails)
    assert run() == 1
    assert capsys.readouterr().err == ""
    assert "TrainingError: the loss is nan in epoch 1" in (tmp_path / "error.json").read_text()


def test_a_lost_rank_is_reported_in_a_line(few, capsys, monkeypatch):
    """What gloo says of a closed connection becomes: which rank lost another, how to go on."""
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    gone = RuntimeError(
        "[third_party/gloo/gloo/transport/tcp/pair.cc:545] Connection reset by peer"
    )

    def lost(args):
        raise gone

    monkeypatch.setattr(command, "run", lost)
    assert run() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "rank 0 lost another rank: look for its own message. With --checkpoint FILE" in line
    gone = RuntimeError("a fault of ours")
    with pytest.raises(RuntimeError, match="a fault of ours"):
        run()
