"""Checkpoints: whole or not at all, every byte checked, resumed to the same numbers."""

import errno
import os
import random

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lessons_src import checkpoint, train
from lessons_src.checkpoint import CheckpointError
from lessons_src.data import Split
from lessons_src.models import RandomShift


@pytest.fixture
def split():
    images = torch.randn(130, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Split(images, images.flatten(1)[:, :3].argmax(1))


def made(seed=0):
    """A model with all that has a state: batch norm, dropout, augmentation; Adam; a schedule."""
    train.seed_everything(seed)
    model = nn.Sequential(RandomShift(1), nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(),
                          nn.Flatten(), nn.Dropout(0.3), nn.Linear(144, 3))  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    steps = 4 * 9
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: train.warmup_decay(t, steps))
    return model, optimizer, scheduler


def fitted(split, epochs, path=None, seed=0, **options):
    model, optimizer, scheduler = made(seed)
    options = {"batch_size": 16, "test": split[:40], "scheduler": scheduler} | options
    history = train.fit(model, split, epochs, optimizer, device="cpu", progress=False,
                        checkpoint=path, **options)  # fmt: skip
    return history, model


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


STATE = {"weights": torch.arange(6.0).view(2, 3), "epoch": 3, "name": "a", "none": None,
         "lists": [1.5, {"k": torch.ones(2, dtype=torch.int64)}]}  # fmt: skip


def test_what_is_saved_is_loaded(tmp_path):
    """Tensors, numbers, strings, None and their lists and dicts, into a folder that is made."""
    path = tmp_path / "new" / "folder" / "a.pt"
    checkpoint.save(path, STATE)
    got = checkpoint.load(path)
    assert torch.equal(got["weights"], STATE["weights"]) and got["lists"][0] == 1.5
    assert (got["epoch"], got["name"], got["none"]) == (3, "a", None)
    assert os.listdir(path.parent) == ["a.pt"]
    assert torch.load(path, weights_only=True)["epoch"] == 3  # no format of our own


def test_a_flipped_byte_is_never_loaded_in_silence(tmp_path):
    """Any byte of the file: an error that says so, or the numbers are still the right ones."""
    path = tmp_path / "a.pt"
    weights = torch.randn(2000, generator=torch.Generator().manual_seed(1))
    checkpoint.save(path, {"weights": weights})
    whole, refused = path.read_bytes(), 0
    draw = random.Random(0)
    for place in sorted(draw.sample(range(len(whole)), 300)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        try:
            assert torch.equal(checkpoint.load(path)["weights"], weights), place
        except CheckpointError as error:
            refused += 1
            assert str(path) in str(error)
    assert refused > 200
    path.write_bytes(whole)
    # Plain torch.load takes a flipped byte among the numbers: the reason for our check.
    middle = whole.index(weights.numpy().tobytes()) + 4000
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 64]) + whole[middle + 1 :])
    assert not torch.equal(torch.load(path, weights_only=True)["weights"], weights)
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoint.load(path)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 and then nothing"])
def test_a_file_that_is_none(tmp_path, content):
    """Empty, foreign, cut short: named, with what to do."""
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt is damaged .* Delete it"):
        checkpoint.load(path)
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        checkpoint.load(tmp_path / "b.pt")


def test_a_checkpoint_cut_short_is_refused(tmp_path):
    """A copy that broke off at any length."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, STATE)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            checkpoint.load(path)


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/lessons-evil-was-run",)


def test_a_file_with_code_is_not_run(tmp_path):
    """A pickled call is refused; nothing of it happens."""
    path = tmp_path / "a.pt"
    torch.save({"weights": Evil()}, path)
    with pytest.raises(CheckpointError, match="more than numbers"):
        checkpoint.load(path)
    assert not os.path.exists("/tmp/lessons-evil-was-run")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    """The write breaks off in the middle: the checkpoint before it can still be read."""
    path = tmp_path / "a.pt"
    checkpoint.save(path, {"epoch": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left.*before it is unharmed"):
        checkpoint.save(path, {"epoch": 2})
    monkeypatch.undo()
    assert checkpoint.load(path) == {"epoch": 1} and os.listdir(tmp_path) == ["a.pt"]


def test_a_disk_that_is_really_full():
    """/dev/full: every write fails there, inside torch.save."""
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with pytest.raises((OSError, RuntimeError)), open("/dev/full", "wb", buffering=0) as file:
        torch.save({"weights": torch.zeros(100_000)}, file)


def test_an_unwritable_folder_is_named(tmp_path):
    """A folder under a regular file, which not even root can make."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"could not write .*nothing was written"):
        checkpoint.save(tmp_path / "file" / "a.pt", STATE)


class Stop(Exception):
    pass


def test_broken_off_and_resumed_is_the_same_to_the_last_bit(tmp_path, split):
    """Killed in the middle of epoch 3 and started again: the same history, weights, buffers."""
    whole, model = fitted(split, 4)
    calls = 0

    def breaks(logits, y):
        nonlocal calls
        calls += 1
        if calls > 2 * 10 + 5:  # an epoch: 9 batches of training, 1 of evaluation
            raise Stop
        return F.cross_entropy(logits, y)

    path = tmp_path / "a.pt"
    with pytest.raises(Stop):
        fitted(split, 4, path, loss_fn=breaks)
    kept = len(checkpoint.load(path)["history"]["loss"])
    assert kept == 2
    resumed, again = fitted(split, 4, path, seed=99)  # other start values: they must not matter
    assert resumed.loss == whole.loss and resumed.test_accuracy == whole.test_accuracy
    assert resumed.accuracy == whole.accuracy and len(resumed.seconds) == 4
    assert equal(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("part", ["order", "torch", "optimizer", "scheduler", "model"])
def test_each_part_of_the_state_is_needed(tmp_path, split, part):
    """Take one part out of what is put back: the numbers come out differently."""
    whole, _ = fitted(split, 4)
    path = tmp_path / "a.pt"
    fitted(split, 2, path)
    state, (model, optimizer, scheduler) = checkpoint.load(path), made(7)
    fresh = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    if part in fresh:
        state["parts"][part] = fresh[part].state_dict()
    else:
        state["random"][part] = torch.Generator().manual_seed(5).get_state()
    checkpoint.save(path, state)
    resumed, _ = fitted(split, 4, path)
    assert resumed.loss[:2] == whole.loss[:2] and resumed.loss[2:] != whole.loss[2:]


def test_a_training_that_is_done_is_not_done_again(tmp_path, split):
    """All epochs kept: fit returns at once, with the trained weights."""
    path = tmp_path / "a.pt"
    whole, model = fitted(split, 2, path)
    again, other = fitted(split, 2, path, seed=3)
    assert again == whole and equal(other.state_dict(), model.state_dict())


def test_a_checkpoint_of_another_training_is_refused(tmp_path, split):
    """Other batch size, seed, data, optimizer or network: named, with what to do."""
    path = tmp_path / "a.pt"
    fitted(split, 1, path)
    for other in ({"batch_size": 17}, {"shuffle": False}, {"scheduler": None}):
        with pytest.raises(CheckpointError, match="another training.*Delete the file"):
            fitted(split, 2, path, **other)
    with pytest.raises(CheckpointError, match="another training"):
        fitted(split[:100], 2, path)
    model, optimizer = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), None
    optimizer = torch.optim.AdamW(model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1)
    with pytest.raises(CheckpointError, match="of another model"):
        train.fit(model, split, 2, optimizer, batch_size=16, scheduler=scheduler, device="cpu",
                  checkpoint=path)  # fmt: skip
