"""Watches a training loop for a few steps and puts everything back: the eyes of `detector`.

`Snapshot` remembers the state of a model, its optimizer and whatever they hold; `part`
takes a small part of a data set, in the form that it has; `Watch` notes what a loop does.
"""

import contextlib
import io
import itertools
import math
import random
from dataclasses import dataclass, field
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils.data import (
    DataLoader,
    RandomSampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
)

LOSSES = (F.cross_entropy, F.nll_loss, F.mse_loss, F.l1_loss, F.smooth_l1_loss)
LOSSES += (F.huber_loss, F.kl_div, F.multi_margin_loss, F.binary_cross_entropy)
LOSSES += (F.binary_cross_entropy_with_logits,)
CHANGES_GRADIENT = ("mul_", "div_", "clamp_", "clip_", "_foreach_mul_")
CHANGES_GRADIENT += ("_foreach_clamp_min_", "_foreach_clamp_max_")
DETAILED = 4  # steps whose gradients are kept: a large model's would fill the memory
PATIENCE = 64  # forward passes, for a loop that goes on and on


class Enough(BaseException):
    """Ends a loop that has shown enough. No `except Exception` of the loop stops it."""


class Snapshot:
    """What can be reached from some objects: tensors with their gradients, dicts, lists,
    attributes of modules, optimizers and schedulers; and the global random states.

    `restore` puts all of it back, to the last bit and into the same tensors.
    """

    def __init__(self, *roots):
        self.tensors, self.boxes, self.seen = [], [], {}
        for root in roots:
            self.walk(root)
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        self.random = (
            random.getstate(),
            np.random.get_state(),
            torch.get_rng_state(),
            cuda,
        )

    def walk(self, thing) -> None:
        if id(thing) in self.seen:
            return
        self.seen[id(thing)] = thing  # held, so that no other object gets its id
        if isinstance(thing, Tensor):
            grad = thing.grad if thing.is_leaf else None
            data = thing.data
            self.tensors.append((thing, data, data.clone(), thing.requires_grad, grad))
            self.walk(grad)
        elif isinstance(thing, nn.Module | Optimizer | LRScheduler):
            self.walk(vars(thing))
        elif isinstance(thing, dict):
            self.boxes.append((thing, dict(thing)))
            for item in itertools.chain(thing, thing.values()):
                self.walk(item)
        elif isinstance(thing, list | tuple):
            if isinstance(thing, list):
                self.boxes.append((thing, list(thing)))
            for item in thing:
                self.walk(item)

    def changed(self) -> list[Tensor]:
        """The tensors that hold other numbers than they did."""
        return [t for t, _, value, _, _ in self.tensors if not same_bits(t.data, value)]

    def restore(self) -> None:
        for box, content in self.boxes:
            box.clear()
            box.update(content) if isinstance(box, dict) else box.extend(content)
        for tensor, data, value, requires_grad, grad in self.tensors:
            tensor.data = data
            data.copy_(value)
            if tensor.is_leaf:
                tensor.requires_grad_(requires_grad)
                tensor.grad = grad
        python, numpy, cpu, cuda = self.random
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda:
            torch.cuda.set_rng_state_all(cuda)


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Equal in shape and in every number, NaN at the same places."""
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


# A part of the data --------------------------------------------------------------------


@dataclass
class Part:
    """Some hundred examples in the form that the loop takes, and what is known of all.

    given: to hand to the loop. total: how many examples there are. everything: all images
    (N, ...) where they lie in memory, else None.
    """

    given: object
    total: int
    everything: Tensor | None
    batches: list = field(default_factory=list)  # (x, y), as the loop receives them
    base: object = None  # of a loader: the data set behind all Subsets
    indices: list = field(default_factory=list)  # and which of its examples
    fixed: bool = True  # whether an image is the same whenever it is asked for

    @property
    def images(self) -> Tensor:
        """The images that the loop received: (n, ...)."""
        return torch.cat([x for x, _ in self.batches])

    @property
    def labels(self) -> Tensor:
        """Their labels: (n,)."""
        return torch.cat([y for _, y in self.batches])


def part(name: str, data, n: int, batch_size: int | None = None) -> Part:
    """About n examples of `data`, evenly spaced, so that sorted ones stay sorted.

    batch_size: the largest that a DataLoader may have. ValueError on what it cannot read.
    """
    if isinstance(data, DataLoader):
        return part_of_loader(data, n, batch_size)
    if hasattr(data, "images") and hasattr(data, "labels"):
        few = data[spaced(len(data.labels), n)]
        batches = [(few.images, few.labels)]
        return Part(few, len(data.labels), data.images, batches)
    if isinstance(data, tuple) and len(data) == 2 and all(map(torch.is_tensor, data)):
        index = spaced(len(data[1]), n)
        few = (data[0][index], data[1][index])
        return Part(few, len(data[1]), data[0], [few])
    if isinstance(data, list | tuple) and data and all(is_batch(b) for b in data):
        images = torch.cat([x for x, _ in data])
        index = spaced(len(data), math.ceil(n / len(data[0][1]))).tolist()
        few = [tuple(t.clone() for t in data[k]) for k in index]
        return Part(few, len(images), images, few)
    raise ValueError(
        f"{name}: expected a Split, a pair of tensors (images, labels), a DataLoader or a "
        f"list of batches (x, y), received {type(data).__name__}; "
        "write list(...) around a generator"
    )


def part_of_loader(loader: DataLoader, n: int, batch_size: int | None) -> Part:
    """The same loader over a few of its examples; it notes the batches that it gives."""
    sampler, dataset = loader.sampler, loader.dataset
    few = Part(None, len(dataset), tensor_of(dataset), [], *origin(dataset), fixed=False)
    if not is_plain(sampler) or loader.batch_size is None:  # its first batches
        seen, few.given = 0, Batches()
        for batch in loader:
            few.given.append(batch)
            seen += len(batch[0])
            if seen >= n:
                break
        few.given.dataset = range(seen)
        few.batches = [b for b in few.given if is_batch(b)]
        return few
    if isinstance(sampler, SubsetRandomSampler):
        dataset = Subset(dataset, list(sampler.indices))
        few.total, few.everything = len(dataset), tensor_of(dataset)
        few.base, few.indices = origin(dataset)
    size = min(loader.batch_size, batch_size or loader.batch_size)
    index = spaced(len(dataset), max(n, size)).tolist()

    def collate(examples):
        batch = loader.collate_fn(examples)
        if is_batch(batch):
            few.batches.append(tuple(t.clone() for t in batch))
        return batch

    few.given = DataLoader(
        Subset(dataset, index),
        size,
        shuffle=not isinstance(sampler, SequentialSampler),
        generator=loader.generator,
        drop_last=loader.drop_last,
        collate_fn=collate,
    )
    return few


def is_plain(sampler) -> bool:
    """Whether a sampler gives every example once: not one of the reader's own, and none
    that draws with replacement, or another number of examples than there are."""
    if type(sampler) is RandomSampler:
        whole = sampler.num_samples == len(sampler.data_source)
        return whole and not sampler.replacement
    return type(sampler) in (SequentialSampler, SubsetRandomSampler)


class Batches(list):
    """A list of batches with a `dataset` whose length is right."""


def spaced(total: int, n: int) -> Tensor:
    """At most n indices from 0 to total - 1, evenly spaced."""
    return torch.linspace(0, total - 1, min(n, total)).round().long()


def is_batch(batch) -> bool:
    """Whether this is a pair of tensors (x, y) of one length."""
    return (
        isinstance(batch, list | tuple)
        and len(batch) == 2
        and all(torch.is_tensor(t) and t.ndim for t in batch)
        and len(batch[0]) == len(batch[1])
    )


def origin(dataset):
    """The data set behind all Subsets, and which of its examples are used."""
    indices = range(len(dataset))
    while isinstance(dataset, Subset):
        indices = [dataset.indices[k] for k in indices]
        dataset = dataset.dataset
    return dataset, indices


def tensor_of(dataset) -> Tensor | None:
    """All images of a data set that holds them in one tensor, before its transforms."""
    if isinstance(dataset, Subset):
        images = tensor_of(dataset.dataset)
        return None if images is None else images[torch.as_tensor(dataset.indices)]
    tensors = getattr(dataset, "tensors", None)  # TensorDataset
    images = tensors[0] if tensors else getattr(dataset, "data", None)  # torchvision
    return images if torch.is_tensor(images) else None


# A loop --------------------------------------------------------------------------------


@dataclass
class LossCall:
    """A call of one of torch's loss functions."""

    function: object
    logits: Tensor  # whatever stands in their place, (B, K)
    target: Tensor
    extra: tuple  # arguments after these two
    options: dict
    value: Tensor
    node: object  # of the autograd graph, from which the logits come
    grad: Tensor | None = None  # what came back to the logits


@dataclass
class Forward:
    """A forward pass of the model."""

    training: bool
    x: Tensor | None
    out: Tensor | None
    node: object = None  # of the autograd graph
    for_input: bool = False  # whether x asks for a gradient, as in an attack
    grad: Tensor | None = None  # what came back to `out`
    losses: list[LossCall] = field(default_factory=list)


@dataclass
class Step:
    """A step of an optimizer; the dicts go from parameters to tensors."""

    optimizer: Optimizer
    lr: float
    closure: bool
    backwards: int  # backward passes since the last step
    grads: dict = field(default_factory=dict)  # what the step used
    own: dict = field(default_factory=dict)  # what these backward passes gave
    latest: dict = field(default_factory=dict)  # what the last of them gave
    climbed: bool = False  # the weights went away between the backward passes, and back
    before: dict = field(default_factory=dict)
    change: dict = field(default_factory=dict)


class Watch(TorchFunctionMode):
    """Notes what a loop does: `call` runs it.

    enough(watch) is asked before every forward pass and says when to stop.
    """

    def __init__(self, model, parameters, scheduler=None, enough=lambda watch: False):
        super().__init__()
        self.model, self.parameters, self.scheduler = model, parameters, scheduler
        self.enough = enough
        self.forwards, self.steps, self.scheduler_calls = [], [], []
        self.called = set()  # modules, whether they are the model's or not
        self.backwards = self.pending = self.late_clips = self.timely_clips = 0
        self.broadcast = None  # shapes
        self.own, self.latest = {}, {}
        self.reached = set()  # parameters to which a gradient came
        self.roots = []  # of the autograd graph: what backward() was called on
        self.place, self.away = {}, 0.0  # of the weights since the last step
        self.stepping = self.clipping = self.for_input = False
        self.inside = []  # optimizers whose step has begun: one may call that of its class
        self.generators, self.returned, self.complete = {}, None, False

    @property
    def images_seen(self) -> int:
        """How many images went through the model."""
        return sum(len(seen.x) for seen in self.forwards if torch.is_tensor(seen.x))

    @property
    def is_waiting(self) -> bool:
        """Whether gradients have come that no step has used yet."""
        return bool(self.pending or self.own)

    def restore_generators(self) -> None:
        """Put back the torch generators that the loop used."""
        for generator, state in self.generators.values():
            generator.set_state(state)

    def call(self, function, *arguments) -> "Watch":
        """Run the function under watch; returns self."""
        handles = [
            self.model.register_forward_pre_hook(self.before_forward),
            self.model.register_forward_hook(self.after_forward),
            register_module_forward_pre_hook(lambda m, _: self.called.add(m)),
            register_optimizer_step_pre_hook(self.before_step),
            register_optimizer_step_post_hook(self.after_step),
        ]
        for p in self.parameters:
            if p.requires_grad:
                handles.append(p.register_hook(lambda grad, p=p: self.gradient(p, grad)))
        with contextlib.ExitStack() as stack:
            for handle in handles:
                stack.callback(handle.remove)
            if self.scheduler is not None:
                step = self.scheduled(self.scheduler.step)
                stack.enter_context(patch.object(self.scheduler, "step", step))
            stack.enter_context(self.noting_clips(function))
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.suppress(Enough))
            stack.enter_context(self)
            self.returned = function(*arguments)
            self.complete = True
        return self

    def before_forward(self, model, arguments):
        if len(self.forwards) >= PATIENCE or self.enough(self):
            raise Enough
        self.note_place()

    def after_forward(self, model, arguments, out):
        x = arguments[0] if arguments else None
        for_input = torch.is_tensor(x) and x.requires_grad
        x = x.detach().clone() if torch.is_tensor(x) else None
        seen = Forward(model.training, x, None, for_input=for_input)
        self.forwards.append(seen)
        if torch.is_tensor(out):
            seen.out, seen.node = out.detach().clone(), out.grad_fn
            if out.requires_grad:
                out.register_hook(lambda grad: self.backward(seen, grad))

    def backward(self, seen: Forward, grad: Tensor):
        seen.grad = grad.detach().clone()
        self.for_input = seen.for_input
        if not self.for_input:
            self.backwards += 1
            self.pending += 1
            self.latest = {}

    def gradient(self, p, grad):
        if self.for_input:  # of an attack, to be thrown away
            return
        grad = grad.detach()
        self.reached.add(p)
        self.own[p] = self.own[p] + grad if p in self.own else grad.clone()
        self.latest[p] = grad.clone()

    def before_step(self, optimizer, arguments, options):
        self.inside.append(optimizer)
        if self.inside.count(optimizer) > 1:
            return
        self.stepping = True
        closure = bool(arguments[1:] or options.get("closure"))
        lr = float(optimizer.param_groups[0]["lr"])
        step = Step(optimizer, lr, closure, self.pending)
        self.steps.append(step)
        if len(self.steps) <= DETAILED:
            held = parameters_of(optimizer)
            step.grads = {p: p.grad.clone() for p in held if p.grad is not None}
            step.own = {p: self.own[p] for p in held if p in self.own}
            step.latest = {p: self.latest[p] for p in held if p in self.latest}
            step.before = {p: p.detach().clone() for p in held}
            step.climbed = 10 * self.distance() < self.away

    def after_step(self, optimizer, arguments, options):
        self.inside.remove(optimizer)
        if optimizer in self.inside:
            return
        step = self.steps[-1]
        step.change = {p: p.detach() - old for p, old in step.before.items()}
        self.own, self.pending, self.stepping = {}, 0, False
        self.place, self.away = {}, 0.0

    def note_place(self):
        """How far the weights have gone since the first forward pass after the last step,
        when another follows a backward pass."""
        if len(self.steps) >= DETAILED or not torch.is_grad_enabled():
            return
        if not self.place:
            self.place = {p: p.detach().clone() for p in self.parameters}
        elif self.pending:
            self.away = max(self.away, self.distance())

    def distance(self) -> float:
        """How far the weights are from where they were at that forward pass."""
        gaps = [(p.detach() - old).norm() for p, old in self.place.items()]
        return math.hypot(*(gap.item() for gap in gaps))

    def scheduled(self, step):
        def stepped(*arguments, **options):
            self.scheduler_calls.append(len(self.steps))
            return step(*arguments, **options)

        return stepped

    @contextlib.contextmanager
    def noting_clips(self, loop):
        """Notes calls of torch's functions that clip, under any name in the modules of the
        loop and of the functions that it encloses."""
        places = [vars(nn.utils), *(f.__globals__ for f in enclosed(loop))]
        clips = [nn.utils.clip_grad_norm_, nn.utils.clip_grad_value_]
        changed = [
            (names, name, function)
            for names in {id(names): names for names in places}.values()
            for name, function in names.items()
            if any(function is clip for clip in clips)
        ]
        for names, name, function in changed:
            names[name] = self.noted(function)
        try:
            yield
        finally:
            for names, name, function in changed:
                names[name] = function

    def noted(self, function):
        def clip(*arguments, **options):
            bound = (*arguments[1:2], *map(options.get, ("max_norm", "clip_value")))
            bound = next((float(b) for b in bound if b is not None), math.inf)
            if math.isfinite(bound):  # else it measures the norm, and changes nothing
                self.timely_clips += self.is_waiting
                self.late_clips += not self.is_waiting
            self.clipping = True
            try:
                return function(*arguments, **options)
            finally:
                self.clipping = False

        return clip

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = options or {}
        generator = options.get("generator")
        known = id(generator) in self.generators
        if isinstance(generator, torch.Generator) and not known:
            self.generators[id(generator)] = generator, generator.get_state()
        if function is Tensor.backward and len(self.roots) < DETAILED:
            self.roots.append(arguments[0].grad_fn)
        result = function(*arguments, **options)
        name = getattr(function, "__name__", "")
        if function in LOSSES:
            self.note_loss(function, arguments, options, result)
        elif name.strip("_") in ("sub", "rsub", "mul", "rmul"):
            self.note_broadcast(*arguments[:2])
        elif name in CHANGES_GRADIENT:
            changed = arguments[0]
            self.note_change(changed if isinstance(changed, list | tuple) else [changed])
        return result

    def note_loss(self, function, arguments, options, value):
        given = dict(zip(("input", "target"), arguments, strict=False)) | options
        logits, target = given.pop("input"), given.pop("target")
        copied, value, extra = logits.detach().clone(), value.detach(), arguments[2:]
        call = LossCall(function, copied, target, extra, given, value, logits.grad_fn)
        if logits.requires_grad:
            logits.register_hook(lambda grad: setattr(call, "grad", grad.clone()))
        self.note_broadcast(logits, target)
        if self.forwards:
            self.forwards[-1].losses.append(call)

    def note_broadcast(self, a, b):
        if not (torch.is_tensor(a) and torch.is_tensor(b)) or not self.forwards:
            return
        shapes = sorted((tuple(a.shape), tuple(b.shape)), key=len)
        B = len(a) if a.ndim else 0
        if B > 1 and shapes == [(B,), (B, 1)] and a.requires_grad != b.requires_grad:
            self.broadcast = shapes

    def note_change(self, tensors):
        """A change of gradients in place when no step is to use them."""
        if not (self.stepping or self.clipping or self.is_waiting):
            grads = {p.grad.data_ptr() for p in self.parameters if p.grad is not None}
            self.late_clips += any(t.data_ptr() in grads for t in tensors)


def enclosed(function, depth: int = 3) -> list:
    """A Python function and those in its closure, and in theirs."""
    function = getattr(function, "__func__", function)
    if not hasattr(function, "__globals__"):
        return []
    found = [function]
    for cell in function.__closure__ or () if depth else ():
        with contextlib.suppress(ValueError):  # an empty cell
            found += enclosed(cell.cell_contents, depth - 1)
    return found


def parameters_of(optimizer: Optimizer) -> list:
    """All parameters that an optimizer holds."""
    return [p for group in optimizer.param_groups for p in group["params"]]
