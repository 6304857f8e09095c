"""Checkpoints, and a loop around `fit` that resumes from the last whole epoch.

They are written whole or not at all, and read only if they are what was written.
"""

import hashlib
import pickle
import zipfile
from pathlib import Path

import torch
import torch.nn.functional as F

from lessons_src.data import Split
from lessons_src.expect import described, whole
from lessons_src.files import replacing
from lessons_src.scale.distributed import gather, on_rank_0, rank
from lessons_src.scale.fit import fit
from lessons_src.train import History, check_split, kept


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message says which, why, what to do."""


def save(path, state: dict) -> None:
    """Write `state` to `path`; what stood there stays until the new file is complete.

    state: tensors, numbers, strings, None, and lists, tuples and dicts of them, such as
    model.state_dict(). The folder is made. Plain torch.load reads the file too.
    CheckpointError where the disk refuses; the old file is then still good.
    """
    path = Path(path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(state, file)
            file.flush()
            torch.load(file.name, weights_only=True)  # what cannot be read is not kept
    except (pickle.PickleError, AttributeError, TypeError) as error:
        raise CheckpointError(
            f"{path} was not written: the state may hold tensors, numbers and strings, "
            f"such as model.state_dict(), and not {described(state)} ({error})"
        ) from error
    except (OSError, RuntimeError) as error:  # torch wraps a full disk in a RuntimeError
        kept = "the checkpoint before it is unharmed"
        kept = kept if path.exists() else "nothing was written"
        raise CheckpointError(
            f"could not write {path}: {error}. Free some space or choose another folder; "
            f"{kept}."
        ) from error


def load(path) -> dict:
    """What `save` wrote, every byte checked; tensors arrive on the CPU.

    Reads tensors and plain values only (weights_only=True): a file from somewhere else
    cannot run code here. CheckpointError where the file is missing, damaged, or holds
    anything else.
    """
    path = Path(path).expanduser()
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
    about: what else has to be the same for that, such as the name of a loss. Arguments
    and result are those of `scale.fit.fit`, alone or under torchrun. CheckpointError,
    with model, optimizer and file untouched, where the file is of another training or
    holds more epochs than asked.
    """
    path = Path(path).expanduser()
    check_split(split)
    whole("epochs", epochs)
    training = description(model, split, optimizer, scheduler, generator, options, about)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    history = History()
    state = on_rank_0(lambda: load(path) if path.exists() else None)
    if state is not None:
        check_same(path, state, training, epochs)
        history = restore(state, parts, generator)
    options |= {"scheduler": scheduler, "generator": generator, "progress": False}
    with kept(history):
        for _ in range(len(history.loss), epochs):
            history.extend(fit(model, split, 1, optimizer, **options))
            write(path, training, parts, generator, history)
            if progress and rank() == 0:
                print(history.last_epoch(epochs))
    return history


def description(model, split, optimizer, scheduler, generator, options, about) -> dict:
    """What has to be the same where a training is resumed, in numbers and words."""
    loss_fn = options.get("loss_fn", F.cross_entropy)
    named = getattr(loss_fn, "func", loss_fn)  # of a functools.partial
    return {
        "network": [f"{name} {tuple(x.shape)}" for name, x in model.state_dict().items()],
        "data": fingerprint(split),
        "batch size": options.get("batch_size", 64),
        "loss": [getattr(named, "__name__", "unnamed"), getattr(loss_fn, "keywords", {})],
        "optimizer": [type(optimizer).__name__, *map(settings, optimizer.param_groups)],
        "schedule": [type(scheduler).__name__, rates(scheduler)],
        "shuffling": None if generator is None else f"by seed {generator.initial_seed()}",
        **(about or {}),
    }


def settings(group: dict) -> dict:
    """The settings of one of an optimizer's groups: lr, momentum and the like."""
    simple = {k: v for k, v in group.items() if isinstance(v, int | float | str | tuple)}
    simple["lr"] = simple.pop("initial_lr", simple["lr"])  # a schedule moves lr
    return simple


def rates(scheduler) -> list[float]:
    """What a LambdaLR gives at some steps, so that another curve or length is noticed."""
    curves = getattr(scheduler, "lr_lambdas", [])
    return [rate_at(curve, t) for curve in curves for t in (0, 30, 1000)]


def rate_at(curve, t: int) -> float | str:
    """The factor at step t; what is said where the schedule is over before."""
    try:
        return curve(t)
    except ValueError as error:
        return str(error)


def fingerprint(split: Split) -> str:
    """Letters that differ where images or labels do: shape and SHA-256."""
    digest = hashlib.sha256()
    for tensor in (split.images, split.labels):
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return f"{tuple(split.images.shape)} {digest.hexdigest()[:16]}"


def check_same(path, state: dict, training: dict, epochs: int) -> None:
    """CheckpointError unless the state is of this training, and not of more epochs."""
    if not {"training", "parts", "history"} <= state.keys():
        raise CheckpointError(
            f"{path} is no checkpoint of a training: name another file."
        )
    there = state["training"]
    for name in training | there:
        if training.get(name) != there.get(name):
            raise CheckpointError(
                f"{path} is of another training: its {name} is {there.get(name)}, not "
                f"{training.get(name)}. Delete the file, or name another."
            )
    done = len(state["history"]["loss"])
    if done > epochs:
        raise CheckpointError(
            f"{path} holds {done} epochs, more than the {epochs} that are asked for. Ask for "
            f"{done} or more, or name another file."
        )


def write(path, training: dict, parts: dict, generator, history: History) -> None:
    """Write all that the next epoch depends on; rank 0 does, the others wait.

    That is parameters, optimizer, schedule, the generator of the order, each rank's
    random state (for dropout and augmentation), and what was measured.
    """
    states = {name: part.state_dict() for name, part in parts.items() if part is not None}
    order = None if generator is None else generator.get_state()
    random = gather({"cpu": torch.get_rng_state(), "cuda": cuda_random_state()})
    state = {"training": training, "parts": states, "order": order, "random": random}
    on_rank_0(lambda: save(path, state | {"history": vars(history)}))


def restore(state: dict, parts: dict, generator) -> History:
    """Put back what `write` wrote. With more ranks than wrote it, the additional ones
    draw their dropout and augmentation afresh; the order of the examples is as it was."""
    for name, part in parts.items():
        if part is not None:
            part.load_state_dict(state["parts"][name])
    if generator is not None:
        generator.set_state(state["order"])
    if rank() < len(state["random"]):
        mine = state["random"][rank()]
        torch.set_rng_state(mine["cpu"])
        if mine["cuda"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(mine["cuda"])
    return History(**state["history"])


def cuda_random_state():
    """The random state of the current GPU; None where no GPU has been used."""
    return torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
