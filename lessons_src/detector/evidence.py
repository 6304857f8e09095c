"""What was seen of a training, in the form in which the checks ask for it."""

import math
import numbers
import warnings
from functools import cached_property

import torch
from torch import Tensor

from lessons_src.detector.watch import Part, Snapshot, Watch, parameters_of, part

IMAGES = 256  # of each split that the functions are given
# Nodes of the autograd graph that leave what passes through them linear, or pool it.
# Add and the like: of a constant, since `source` is None where two results are combined.
PASSING = (
    "View Reshape UnsafeView Transpose Permute Squeeze Unsqueeze T Clone Alias Slice Select "
    "Expand ConstantPad NativeBatchNorm CudnnBatchNorm NativeDropout FeatureDropout ToCopy "
    "AvgPool AdaptiveAvgPool MaxPool AdaptiveMaxPool Mean Add Sub Mul Div"
)


class Evidence:
    """What was seen of a training: the arguments, and the watched calls of the loop.

    first, second: of train_epoch; tests: three of evaluate, the last of them on half as
    many images. Everything below that runs the
    model does so with the weights, modes and random states of the start.
    """

    def __init__(self, model, loss_fn, optimizer, scheduler, best_state):
        self.model, self.loss_fn, self.optimizer = model, loss_fn, optimizer
        self.scheduler, self.best_state = scheduler, best_state
        self.names = {p: name for name, p in model.named_parameters()}  # the registered
        self.watches, self.tests, self.test_parts, self.changed = [], [], [], []
        self.flags = [[], []]  # requires_grad, before and after evaluate

    def observe(self, train_epoch, train, evaluate, test) -> None:
        """An epoch, three evaluations, the beginning of another epoch, each on a part of the
        data: the weights go on from one to the next, as in a real training."""
        before = Snapshot(self.model)
        for n in (IMAGES, 4 * IMAGES):  # more where gradients are accumulated for long
            self.train = part("train", train, n)
            self.first = self.watch(train_epoch, self.train, self.optimizer, steps=2)
            if self.first.steps or not self.first.backwards:
                break
        self.trained = [p for p in before.changed() if p in self.names]
        before = Snapshot(self.model)
        self.flags[0] = [p.requires_grad for p in self.names]
        for n in (IMAGES, IMAGES, IMAGES // 2) if evaluate else ():
            self.test_parts.append(part("test", test, n, 100))
            self.tests.append(self.watch(evaluate, self.test_parts[-1]))
            if len(self.tests) == 1:
                self.changed = before.changed()
        self.flags[1] = [p.requires_grad for p in self.names]
        again, steps = part("train", train, IMAGES), 1 if len(self.first.steps) > 1 else 2
        self.second = self.watch(
            train_epoch, again, self.optimizer, steps=steps, images=1
        )

    def watch(self, function, few, *others, steps=0, images=2 * IMAGES) -> Watch:
        """The function under watch, until it has seen so many steps and images."""

        def enough(watch):
            return len(watch.steps) >= steps and watch.images_seen >= images

        held = {*self.names, *parameters_of(self.optimizer)}
        watch = Watch(self.model, held, self.scheduler, enough)
        self.watches.append(watch)
        return watch.call(function, self.model, few.given, *others)

    @cached_property
    def forwards(self) -> list:
        """The forward passes that trained: a gradient came back to them."""
        both = self.first.forwards + self.second.forwards
        return [f for f in both if f.grad is not None and not f.for_input]

    @cached_property
    def losses(self) -> list:
        """The first call of one of torch's loss functions after each of these."""
        return [loss for forward in self.forwards for loss in forward.losses[:1]]

    @cached_property
    def x(self) -> Tensor | None:
        """Images as the model gets them in training: (b, ...), b at most 64."""
        x = self.first.forwards[0].x if self.first.forwards else None
        return x[:64] if torch.is_tensor(x) else None

    @cached_property
    def leaves(self) -> set:
        """The tensors with requires_grad on which the model's answer depends."""
        nodes = graph(self.forwards[0].node) if self.forwards else []
        return {node.variable for node in nodes if hasattr(node, "variable")}

    @cached_property
    def held(self) -> set:
        """The parameters of the optimizers that took a step."""
        used = [step.optimizer for step in self.first.steps] or [self.optimizer]
        return {p for optimizer in used for p in parameters_of(optimizer)}

    def answers(self, x, training=False) -> Tensor | None:
        """What the model says in this mode, (b, K); None where it is no tensor."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.train(training)
        try:
            with torch.no_grad():
                out = self.model(x)
        finally:
            for module, mode in modes.items():
                module.training = mode
        return out.detach() if torch.is_tensor(out) else None

    @cached_property
    def modes_matter(self) -> bool:
        """Whether training and evaluation mode differ, in the answer or in buffers."""
        if self.x is None:
            return False
        before = Snapshot(self.model)
        out, out_in_training = (self.answers(self.x, mode) for mode in (False, True))
        matter = bool(before.changed()) or not close(out, out_in_training)
        before.restore()
        return matter

    def named(self, parameters) -> str:
        """How many parameters, and the names of the first."""
        names = [self.names.get(p, "without a name") for p in parameters]
        more = ", ..." if len(names) > 2 else ""
        return (
            f"{len(names)} of {len(self.names)} parameters ({', '.join(names[:2])}{more})"
        )


# Numbers -------------------------------------------------------------------------------


def close(a, b) -> bool:
    """Whether two answers (tensors, or None) are equal but for rounding."""
    if a is None or b is None or a.shape != b.shape:
        return a is b
    return bool((a - b).abs().max() <= 1e-4 * (1e-3 + b.abs().max()))


def alike(a: float, b: float) -> bool:
    """Whether two numbers are equal but for rounding."""
    return math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-9)


def inner(a: dict, b: dict) -> float:
    """The inner product of two sets of tensors that go by the same keys."""
    return sum((a[p].double() * b[p].double()).sum().item() for p in a.keys() & b.keys())


def norm(a: dict) -> float:
    """Euclidean norm of a set of tensors."""
    return math.sqrt(inner(a, a))


def parallel(a: dict, b: dict) -> bool:
    """Whether two sets of tensors point in the same direction."""
    return 0.999 * norm(a) * norm(b) < inner(a, b)


def added(a: dict, b: dict, factor=1) -> dict:
    """a + factor * b, of two sets of tensors; what is missing is zero."""
    return {p: a.get(p, 0) + factor * b.get(p, 0) for p in a.keys() | b.keys()}


def alike_rows(w: Tensor, tolerance: float = 1e-6) -> bool:
    """Whether all rows of a weight (out, in, ...) are equal."""
    return bool((w - w[:1]).abs().max() <= tolerance * w.abs().max())


def sums_to_one(p: Tensor, dim: int) -> bool:
    """Whether p (B, K) is positive and sums to 1 along this dimension."""
    sums = p.sum(dim)
    return bool((p >= 0).all() and (sums - 1).abs().max() < 1e-3)


def numbers_in(returned) -> list[float]:
    """All numbers in what a function returned."""
    if isinstance(returned, numbers.Real) and not isinstance(returned, bool):
        return [float(returned)]
    if isinstance(returned, Tensor):
        return [returned.item()] if returned.numel() == 1 else []
    if hasattr(returned, "__dataclass_fields__"):
        returned = vars(returned)
    if isinstance(returned, dict):
        returned = list(returned.values())
    if isinstance(returned, list | tuple):
        return [number for item in returned for number in numbers_in(item)]
    return []


# Graphs --------------------------------------------------------------------------------


def graph(node) -> list:
    """All nodes of the autograd graph behind one, the nearest first."""
    nodes, waiting = {}, [node]
    while waiting:
        node = waiting.pop(0)
        if node is not None and id(node) not in nodes:
            nodes[id(node)] = node
            waiting += [before for before, _ in node.next_functions]
    return list(nodes.values())


def kind_of(node) -> str:
    """What a node does: "Relu", "MaxPool", without version and dimensions."""
    name = node.name().split("Backward")[0]
    return name.split("2D")[0].split("1D")[0].split("3D")[0]


def parameter_of(node):
    """The parameter for which a node stands, also where it is transposed; else None."""
    while kind_of(node) in ("T", "Transpose0") and len(node.next_functions) == 1:
        node = node.next_functions[0][0]
    return getattr(node, "variable", None)


def source(node):
    """The node whose result this one works on; None where there are several or none."""
    nodes = [before for before, _ in node.next_functions if before is not None]
    nodes = [before for before in nodes if parameter_of(before) is None]
    return nodes[0] if len(nodes) == 1 else None


def weight(node) -> Tensor | None:
    """The weight (out, in, ...) of the node of a linear layer or convolution."""
    if kind_of(node) in ("Addmm", "Mm", "Linear", "Convolution", "MkldnnConvolution"):
        found = [parameter_of(one) for one, _ in node.next_functions if one is not None]
        return next((p for p in found if p is not None and p.ndim > 1), None)
    return None


def is_passing(node) -> bool:
    """Whether a node is none of a layer or an activation."""
    return kind_of(node).rstrip("0") in PASSING.split() and weight(node) is None


def tail(root) -> list:
    """The nodes between the root of a graph and the last layers with weights."""
    nodes, waiting = {}, [root]
    while waiting:
        node = waiting.pop(0)
        if node is not None and id(node) not in nodes and weight(node) is None:
            nodes[id(node)] = node
            waiting += [before for before, _ in node.next_functions]
    return list(nodes.values())


def softmax_dim(node) -> int | None:
    """The dimension, from 0, over which a node is a softmax or its logarithm; else None."""
    if kind_of(node).rstrip("0") not in ("Softmax", "LogSoftmax"):
        return None
    dim = node._saved_dim
    return dim if dim < 2**63 else dim - 2**64 + len(shape_of(node))  # -1 is 2**64 - 1


def shape_of(node) -> tuple:
    """The shape of a node's result."""
    return tuple(node._input_metadata[0].shape)


def worked_on(node, ends=()):
    """The node whose result this one works on, behind views, factors and the like, but not
    behind one of `ends`; None where there are several or none."""
    before = source(node)
    while before is not None and before not in ends and is_passing(before):
        before = source(before)
    return before


# Calls of the loop ---------------------------------------------------------------------


def labels_of(forward, few: Part) -> Tensor | None:
    """The labels (B,) int64 of a forward pass: as the loss got them, or looked up."""
    hard = [one for one in forward.losses if one.target.ndim == 1]
    hard = [one for one in hard if not one.target.is_floating_point()]
    if hard:
        losses = beside(hard[0], hard)  # mixup has two: that which counts more
        parts = factors(losses) if len(losses) > 1 else [1.0]
        return losses[parts.index(max(parts))].target
    if not few.batches or forward.x is None:
        return None
    pairs = zip(few.images.cpu().numpy(), few.labels.tolist(), strict=True)
    known = {image.tobytes(): label for image, label in pairs}
    labels = [known.get(image.tobytes()) for image in forward.x.cpu().numpy()]
    whole = all(isinstance(label, int) for label in labels)
    return torch.tensor(labels, device=forward.x.device) if whole else None


def inputs(watch: Watch) -> Tensor | None:
    """All images that the model got in a call, (n, ...)."""
    xs = [forward.x for forward in watch.forwards]
    whole = xs and all(torch.is_tensor(x) and x.shape[1:] == xs[0].shape[1:] for x in xs)
    return torch.cat(xs).float() if whole else None


def is_summed(loss) -> bool:
    """Whether a call of a loss function summed over the batch."""
    return loss.options.get("reduction") == "sum"


def beside(loss, losses) -> list:
    """Of the calls of loss functions those on the same logits, this one first."""
    others = [] if loss.grad is None else losses
    others = [one for one in others if one is not loss and one.grad is not None]
    return [loss, *(one for one in others if close(one.logits, loss.logits))]


def factors(losses) -> list[float]:
    """The factor of each mean loss on the same logits in what was minimised, by the
    gradient that came back to the logits: a mean loss alone has 1."""
    expected = []
    for loss in losses:
        z = loss.logits.clone().requires_grad_()
        with warnings.catch_warnings():  # the reader has had them already
            warnings.simplefilter("ignore")
            value = loss.function(z, loss.target, *loss.extra, **loss.options)
        mean = value.sum() / len(z) if is_summed(loss) else value.mean()
        expected.append(torch.autograd.grad(mean, z)[0].flatten().double().cpu())
    grad = losses[0].grad.flatten().double().cpu().nan_to_num()
    each = torch.stack(expected, 1).nan_to_num()
    return torch.linalg.lstsq(each, grad, driver="gelsd").solution.tolist()


def rescaled(steps) -> float:
    """By what the loop multiplies the gradients of every step; 1 where it is not always
    the same, as when they are clipped."""
    own = [step for step in steps if norm(step.own) and parallel(step.grads, step.own)]
    sizes = [norm(step.grads) / norm(step.own) for step in own]
    constant = len(sizes) > 1 and max(sizes) < 1.001 * min(sizes)
    return sizes[0] if constant else 1.0


def mean_loss(loss) -> float:
    """The mean over the batch of a call of a loss function."""
    value = loss.value.double().mean().item()
    return value / len(loss.logits) if is_summed(loss) else value


def simulated(scheduler, optimizer, n: int) -> list[float]:
    """The learning rates of the next n steps of a scheduler; nothing is changed."""
    before, rates = Snapshot(scheduler, optimizer), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(n):
            rates.append(float(optimizer.param_groups[0]["lr"]))
            try:
                scheduler.step()
            except ValueError:  # OneCycleLR: more steps than it was made for
                break
    before.restore()
    return rates


def first_input(seen: Evidence) -> Tensor | None:
    """What the first layer with weights gets; where there is none, what the model gets."""
    found = []

    def note(module, arguments):
        if torch.is_tensor(arguments[0]) and arguments[0].is_floating_point():
            found.append(arguments[0].detach())

    layers = [m for m in seen.model.modules() if torch.is_tensor(getattr(m, "weight", 0))]
    layers = [m for m in layers if m.weight.ndim > 1]
    hooks = [layer.register_forward_pre_hook(note) for layer in layers]
    if seen.x is not None:
        seen.answers(seen.x)
    for hook in hooks:
        hook.remove()
    return found[0] if found else None


def shared(images: Tensor, others: Tensor) -> float:
    """Share of the images (n, ...) that are among the others (m, ...).

    Both are stretched to 0..1 first, so that another normalisation does not hide it, and
    compared by three random projections, rounded.
    """
    if images.shape[1:].numel() != others.shape[1:].numel():
        return 0.0
    generator = torch.Generator().manual_seed(0)
    directions = torch.randn(images[0].numel(), 3, generator=generator)
    keys = []
    for group in (images, others):
        x = group.flatten(1).cpu()
        low, high = (float(end) for end in x.aminmax())
        x = (x.float() @ directions - low * directions.sum(0)) / max(high - low, 1e-12)
        a, b, c = x.mul(200).round().long().T
        keys.append(a + 1_000_003 * b + 1_000_003**2 * c)
    return torch.isin(*keys).double().mean().item()
