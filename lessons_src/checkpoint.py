"""Checkpoints that are written whole or not at all, and read only if they are what was written."""

import os
import pickle
import zipfile
from pathlib import Path

import torch


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message says which file, why, and what to do."""


def save(path, state: dict) -> None:
    """Write `state` to `path`; what stood there before stays until the new file is complete.

    state: tensors, numbers, strings, None, and lists, tuples and dicts of them: model.state_dict(),
    optimizer.state_dict(), a generator's get_state(). The folder is made. Plain torch.load reads
    the file too. CheckpointError where the disk refuses; the old file is then still good.
    """
    path = Path(path)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")  # same file system: a true move
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())  # on the disk, before the name points to it
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
        raise CheckpointError(
            f"could not write {path}: {error}. Free some space or choose another folder; "
            f"{'the checkpoint before it is unharmed' if path.exists() else 'nothing was written'}."
        ) from error
    finally:
        if beside.exists():
            beside.unlink()


def load(path) -> dict:
    """What `save` wrote, every byte checked; tensors arrive on the CPU.

    Reads numbers only (weights_only=True): a file from somewhere else cannot run code here.
    CheckpointError where the file is missing, damaged, or holds anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with zipfile.ZipFile(path) as archive:  # torch's format: a zip, a CRC-32 for every tensor
            damaged = archive.testzip()
        if damaged is None:
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path} holds more than numbers, and is not loaded") from error
    except (zipfile.BadZipFile, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        damaged = type(error).__name__
    raise CheckpointError(
        f"{path} is damaged ({damaged}): a byte differs from what was written, or the file is cut "
        "short. Delete it and train again, or take an older checkpoint."
    )
