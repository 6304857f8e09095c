"""Checkpoints, and a loop around `fit` that resumes from the last whole epoch.

They are written whole or not at all, and read only if they are what was written.
"""

import copy
import io
import os
import pickle
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F

from lessons_src.data import Split
from lessons_src.expect import describe, expect, expect_bool, expect_int, expect_type
from lessons_src.files import atomic_write
from lessons_src.scale.description import description
from lessons_src.scale.distributed import all_gather, on_rank_0, rank
from lessons_src.scale.fit import fit
from lessons_src.train import History, history_on_error
from lessons_src.train_checks import check_each, check_together


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message says which, why, what to do."""


def save(path, state: dict) -> None:
    """Write `state` to `path`; what stood there stays until the new file is complete.

    state: tensors, numbers, strings, None, and lists, tuples and dicts of them, such as
    model.state_dict(). The folder is made. Plain torch.load reads the file too.
    CheckpointError where the disk refuses; the old file is then still good.
    """
    path = file_at(path, "save(path, state)")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # In memory first: torch makes of a Ctrl-C inside file.write a RuntimeError.
        written = io.BytesIO()
        torch.save(state, written)
        with atomic_write(path) as file:
            file.write(written.getbuffer())
            file.flush()
            torch.load(file.name, weights_only=True)  # what cannot be read is not kept
    except (pickle.PickleError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path} was not written: the state may hold tensors, numbers and strings, "
            f"such as model.state_dict(), and not {describe(state)} ({error})"
        ) from error
    except (OSError, RuntimeError) as error:  # RuntimeError: torch cannot read it back
        left = "nothing was written"
        if path.exists():
            left = "the checkpoint before it is unharmed"
        raise CheckpointError(
            f"could not write {path}: {error}. Free some space or choose another folder; "
            f"{left}."
        ) from error


def file_at(path, call: str) -> Path:
    """The path, with ~ as the home folder; ValueError where it is none."""
    needed = f"path must be that of a file: {call}"
    expect(isinstance(path, str | os.PathLike), needed, path)
    return Path(path).expanduser()


def load(path) -> dict:
    """What `save` wrote, every byte checked; tensors arrive on the CPU.

    Reads tensors and plain values only (weights_only=True): a file from somewhere else
    cannot run code here. CheckpointError where the file is missing, damaged, or holds
    anything else.
    """
    path = file_at(path, "load(path)")
    try:
        with zipfile.ZipFile(path) as archive:  # torch's format: a CRC-32 for each tensor
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except (PermissionError, IsADirectoryError) as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} holds more than numbers, and is not loaded"
        ) from error
    except Exception as error:  # damage shows in many ways
        damaged = type(error).__name__
    raise CheckpointError(
        f"{path} is damaged ({damaged}): a byte differs from what was written, or the "
        "file is cut short. Delete it and train again, or take an older checkpoint."
    )


def fit_with_checkpoint(
    path,
    model,
    split: Split,
    epochs: int,
    optimizer,
    *,
    scheduler=None,
    generator=None,
    about: dict | None = None,
    progress=True,
    **options,
) -> History:
    """`fit`, with all that the next epoch needs written to `path` after every epoch.

    Where the file is there, training resumes from its last epoch, to the same numbers.
    about: what else has to be the same for that. A loss that is a lambda needs it, such
    as {"factor of the loss": 3}, since all lambdas have one name.
    Arguments and result are those of `scale.fit.fit`, alone or under torchrun.
    CheckpointError, with model, optimizer, scheduler and file as they were, where the
    file is of another training, does not fit, or holds more epochs than asked.
    """
    path = file_at(path, "fit_with_checkpoint(path, model, split, epochs, optimizer)")
    expect_int("epochs", epochs)
    expect_bool("progress", progress)
    if about is not None:
        expect_type("about", about, dict, ', such as {"factor of the loss": 3}')
    batch_size, test = options.get("batch_size", 64), options.get("test")
    loss_fn = options.get("loss_fn", F.cross_entropy)
    check_each(
        model, split, epochs, optimizer, batch_size, scheduler, loss_fn, test, generator
    )
    training = description(model, split, optimizer, scheduler, generator, options, about)
    state = on_rank_0(lambda: load(path) if path.exists() else None)
    if state is not None:
        check_same(path, state, training, epochs)
    # A schedule may be at its end where the file is there
    new = epochs if state is None else 0
    check_together(model, split, new, optimizer, batch_size, scheduler, test)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    history = History()
    if state is not None:
        history = restore(path, state, parts, generator)
    options |= {"scheduler": scheduler, "generator": generator, "progress": False}
    with history_on_error(history):
        for _ in range(len(history.loss), epochs):
            history.extend(fit(model, split, 1, optimizer, **options))
            write_checkpoint(path, training, parts, generator, history)
            if progress and rank() == 0:
                print(history.progress_line(epochs))
    return history


def check_same(path, state: dict, training: dict, epochs: int) -> None:
    """CheckpointError unless the state is of this training, and not of more epochs."""
    if not {"training", "parts", "history"} <= state.keys():
        raise CheckpointError(
            f"{path} is no checkpoint of a training: name another file."
        )
    there = state["training"]
    if "list of layers" not in there:
        raise CheckpointError(
            f"{path} is of an earlier version of the course, which wrote down too little "
            "to resume safely. Delete the file, or name another."
        )
    for name in training | there:
        old, new = there.get(name), training.get(name)
        if old != new:
            if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
                old, new = next((o, n) for o, n in zip(old, new, strict=True) if o != n)
            raise CheckpointError(
                f"{path} is of another training: its {name} is {old}, not {new}. Delete "
                "the file, or name another."
            )
    done = len(state["history"]["loss"])
    if done > epochs:
        raise CheckpointError(
            f"{path} holds {done} epochs, more than the {epochs} that are asked for. Ask for "
            f"{done} or more, or name another file."
        )


def write_checkpoint(
    path, training: dict, parts: dict, generator, history: History
) -> None:
    """Write all that the next epoch depends on; rank 0 does, the others wait.

    That is parameters, optimizer, schedule, the generator of the order, each rank's
    random state (for dropout and augmentation), and what was measured.
    """
    states = {name: part.state_dict() for name, part in parts.items() if part is not None}
    order = None if generator is None else generator.get_state()
    random = all_gather({"cpu": torch.get_rng_state(), "cuda": cuda_random_state()})
    state = {"training": training, "parts": states, "order": order, "random": random}
    on_rank_0(lambda: save(path, state | {"history": vars(history)}))


def restore(path, state: dict, parts: dict, generator) -> History:
    """Put back what `write_checkpoint` wrote, all of it or nothing.

    With more ranks than wrote it, the additional ones draw their dropout and
    augmentation afresh; the order of the examples is as it was.
    """
    parts = {name: part for name, part in parts.items() if part is not None}
    before = {name: copy.deepcopy(part.state_dict()) for name, part in parts.items()}
    try:
        for name, part in parts.items():
            part.load_state_dict(state["parts"][name])
    except Exception as error:  # a load_state_dict of anyone's may raise anything
        for changed, old in before.items():
            parts[changed].load_state_dict(old)
        raise CheckpointError(
            f"{path} does not fit: its {name} was refused ({error}). Delete the file, or "
            "name another."
        ) from error
    restore_random(state, generator)
    return History(**state["history"])


def restore_random(state: dict, generator) -> None:
    """Put back the generator of the order and this rank's random state."""
    if generator is not None:
        generator.set_state(state["order"])
    if rank() < len(state["random"]):
        mine = state["random"][rank()]
        torch.set_rng_state(mine["cpu"])
        if mine["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(mine["cuda"])


def cuda_random_state():
    """The random state of the current GPU; None where no GPU has been used."""
    return torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
