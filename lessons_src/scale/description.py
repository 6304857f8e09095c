"""A training in numbers and words: what has to be the same where it is resumed."""

import functools
import hashlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from lessons_src.data import Split

# Of a schedule: what its steps change, and what is described elsewhere.
MOVING = {"last_epoch", "_step_count", "_last_lr", "T_cur", "T_i", "_is_initial"}
ELSEWHERE = {"optimizer", "lr_lambdas", "_get_lr_called_within_step"}


def description(model, split, optimizer, scheduler, generator, options, about) -> dict:
    """What has to be the same; options: those of `fit`, about: what the caller adds.

    The result holds numbers, strings, None, and lists and dicts of them, and is the
    same before and after steps of the same objects.
    """
    loss_fn, test = options.get("loss_fn", F.cross_entropy), options.get("test")
    groups = optimizer.param_groups
    return {
        "network": [f"{name} {tuple(x.shape)}" for name, x in model.state_dict().items()],
        "list of layers": [layer(*one) for one in model.named_modules()],
        "list of frozen parameters": frozen(model),
        "data": f"{tuple(split.images.shape)} {tensor_hash(split)}",
        "test split": None if test is None else tensor_hash(test),
        "batch size": options.get("batch_size", 64),
        "loss": loss(loss_fn, model),
        "optimizer": [
            type(optimizer).__name__,
            *[settings(group, scheduler) for group in groups],
        ],
        "list of parameters": [parameters(group, model) for group in groups],
        "schedule": schedule(scheduler),
        "shuffling": None if generator is None else f"by seed {generator.initial_seed()}",
        **plain(about or {}),
    }


def layer(name: str, module) -> list:
    """Its place, its type, and the numbers and words that it was set up with."""
    found = {}
    for key, value in vars(module).items():
        is_plain = isinstance(value, bool | int | float | str | tuple)
        if is_plain and not key.startswith("_") and key != "training":
            found[key] = plain(value)
    return [name, type(module).__name__, found]


def frozen(model) -> list[str]:
    """The names of the parameters that ask for no gradient."""
    return [name for name, p in model.named_parameters() if not p.requires_grad]


def plain(value):
    """The value in numbers, strings, lists and dicts: a tensor of several numbers as
    its hash, a function by its name, any other object by that of its type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        return value.item() if value.numel() == 1 else tensor_hash([value])
    if isinstance(value, dict):
        return {str(name): plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, LRScheduler):  # in a SequentialLR
        return schedule(value)
    return getattr(value, "__name__", type(value).__name__)


def tensor_hash(tensors) -> str:
    """Letters that differ where a number of these tensors, or of a Split, does."""
    if isinstance(tensors, Split):
        tensors = (tensors.images, tensors.labels)
    digest = hashlib.sha256()
    for tensor in tensors:
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy())  # NumPy knows no bfloat16
    return digest.hexdigest()[:16]


def loss(loss_fn, model) -> list:
    """The function by its name; a partial and a module with what they were given."""
    if isinstance(loss_fn, functools.partial):
        given = [plain(loss_fn.args), plain(loss_fn.keywords)]
        return [*loss(loss_fn.func, model), *given]
    parts = loss_fn.modules() if isinstance(loss_fn, nn.Module) else [loss_fn]
    trained = set(map(id, model.modules()))  # described as the network
    return [[plain(part), attributes(part)] for part in parts if id(part) not in trained]


def attributes(thing) -> dict:
    """What an object was set up with: its public attributes, and a module's buffers."""
    own = getattr(thing, "__dict__", {})
    public = {name: value for name, value in own.items() if not name.startswith("_")}
    return plain(public | own.get("_buffers", {}))


def settings(group: dict, scheduler) -> dict:
    """The settings of one of an optimizer's groups: lr, momentum and the like."""
    found = {name: plain(value) for name, value in group.items() if name != "params"}
    found["lr"] = found.pop("initial_lr", found.get("lr"))  # a schedule moves lr
    if getattr(scheduler, "cycle_momentum", False):  # and this one the momentum
        found.pop("momentum", None)
        found["betas"] = found.get("betas", [])[1:]
    return found


def parameters(group: dict, model) -> list[str]:
    """What a group trains: names of the model's parameters, shapes of any others."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return [names.get(one, f"another {tuple(one.shape)}") for one in group["params"]]


def schedule(scheduler) -> list | None:
    """The type of a schedule, what it was set up with, and some rates of its lambdas."""
    if scheduler is None:
        return None
    found = {}
    for name, value in vars(scheduler).items():
        if name not in MOVING | ELSEWHERE:
            found[name] = plain(value)
    return [type(scheduler).__name__, found, rates(scheduler)]


def rates(scheduler) -> list:
    """What a LambdaLR gives at some steps, so that another curve or length is noticed."""
    curves = getattr(scheduler, "lr_lambdas", [])
    return [rate_at(curve, t) for curve in curves for t in (0, 30, 1000)]


def rate_at(curve, t: int) -> float | str:
    """The factor at step t; what is said where the schedule is over before."""
    try:
        return plain(curve(t))
    except ValueError as error:
        return str(error)
