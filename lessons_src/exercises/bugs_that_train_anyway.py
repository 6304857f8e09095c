"""Exercises of the lesson on bugs that train anyway."""

import copy
import math
import time

import torch
import torch.nn.functional as F
from torch import nn

from lessons_src.exercises import exercise
from lessons_src.exercises.compare import items_of

# Who is trained? ------------------------------------------------------------------------


def draw_model(draw):
    """A network with buffers and frozen parameters, and an optimizer in one or two
    groups, which holds most of its layers, and perhaps one that it no longer has."""
    width = draw.integer(1, 3)
    names = ["first", "second", "third", "head"][: 1 + draw.integer(1, 3)]
    model = nn.ModuleDict({name: nn.Linear(width, width) for name in names})
    model["norm"] = nn.BatchNorm1d(width)
    with torch.no_grad():  # equal values: only the identity tells parameters apart
        for p in model.parameters():
            p.fill_(1.0).requires_grad_(draw.integer(0, 2) > 0)
    old = copy.deepcopy(model[names[-1]])
    held = [p for p in model.parameters() if draw.integer(0, 2) > 0]
    held += list(old.parameters()) if draw.choice(True, False) or not held else []
    half = len(held) // 2
    groups = [{"params": part} for part in (held[:half], held[half:]) if part]
    return model, torch.optim.SGD(groups, lr=0.1)


def held_by_optimizer(optimizer):
    return {id(p) for group in optimizer.param_groups for p in group["params"]}


def by_value(model, optimizer):
    """Compares values: a new layer may look like an old one."""
    held = [p for group in optimizer.param_groups for p in group["params"]]
    return sorted(
        name
        for name, p in model.named_parameters()
        if not any(p.shape == q.shape and torch.equal(p, q) for q in held)
    )


def first_group(model, optimizer):
    held = {id(p) for p in optimizer.param_groups[0]["params"]}
    return sorted(n for n, p in model.named_parameters() if id(p) not in held)


def on_names(answer, model, optimizer):
    """The names as a sorted list, whatever holds them."""
    names = answer(model, optimizer)
    return names if names is None or names is ... else sorted(names)


@exercise(
    inputs=draw_model,
    mistakes={
        "These are the trained ones: the others are asked for.": lambda m, o: sorted(
            n for n, p in m.named_parameters() if id(p) in held_by_optimizer(o)
        ),
        "An optimizer may have several groups: look into all of them.": first_group,
        "Two parameters with equal values are still two: compare id(p).": by_value,
    },
    hint="Collect id(p) of all p in group['params'], for all groups. Then go through "
    "model.named_parameters().",
    observe=on_names,
    pure=False,  # a copy of a model and of its optimizer would not belong together
)
def untrained(model, optimizer):
    """The names of the parameters that the optimizer does not hold, sorted."""
    held = held_by_optimizer(optimizer)
    return sorted(name for name, p in model.named_parameters() if id(p) not in held)


# A leak ---------------------------------------------------------------------------------


def draw_splits(draw):
    """Tiny images, drawn from a few, so that some occur in both, at other places."""
    images = draw.bytes(4 * draw.size, 1, 2, 3) % 3
    train, test = (draw.integer(1, 3 * draw.size) for _ in range(2))
    return tuple(images[draw.labels(n, len(images))] for n in (train, test))


def as_bytes(images):
    return [image.numpy().tobytes() for image in images]


@exercise(
    inputs=draw_splits,
    cases={
        "Every test image counts, also one that occurs twice.": (
            torch.ones(1, 1, 2, 2).byte(),
            torch.ones(3, 1, 2, 2).byte(),
        ),
        "The same image may stand at another place.": (
            torch.arange(4).byte().view(4, 1, 1, 1),
            torch.arange(4).flip(0).byte().view(4, 1, 1, 1),
        ),
        "All pixels must be equal, each at its place.": (
            torch.eye(5).byte().view(1, 1, 5, 5),
            torch.stack([torch.eye(5).roll(1, 0), torch.eye(5)]).byte()[:, None],
        ),
        "One pixel less is another image.": (
            torch.eye(5).byte().view(1, 1, 5, 5),
            torch.diag(torch.tensor([1, 1, 1, 1, 0])).byte().view(1, 1, 5, 5),
        ),
    },
    mistakes={
        "The same image may stand at another place.": lambda train, test: sum(
            a == b for a, b in zip(as_bytes(train), as_bytes(test), strict=False)
        ),
        "Count test images that are among the training images, not the reverse.": (
            lambda train, test: sum(x in as_bytes(test) for x in as_bytes(train))
        ),
        "A test image that occurs twice was leaked twice.": lambda train, test: len(
            set(as_bytes(train)) & set(as_bytes(test))
        ),
        "The mean of an image does not identify it: compare all its pixels.": (
            lambda train, test: sum(
                (x.float().mean() == train.float().flatten(1).mean(1)).any().item()
                for x in test
            )
        ),
    },
    hint="image.numpy().tobytes() can be put into a set.",
)
def leaked(train, test):
    """How many test images occur, pixel by pixel, among the training images."""
    seen = set(as_bytes(train))
    return sum(image in seen for image in as_bytes(test))


# The hunter -----------------------------------------------------------------------------


def small_model(seed, classes=3):
    """A network that behaves otherwise in training: batch norm and dropout."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(4, 6),
            nn.BatchNorm1d(6),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(6, classes),
        )


def draw_evaluation(draw):
    """A model in one of its modes, and batches of which the last one is short."""
    model = small_model(draw.integer(0, 1000)).train(draw.choice(True, False))
    sizes = [draw.size + 2] * draw.integer(1, 3) + [draw.integer(2, draw.size + 2)]
    batches = [(draw.normal(n, 4, dtype=torch.float32), draw.labels(n, 3)) for n in sizes]
    return model, batches


def state_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def on_evaluation(answer, model, batches):
    """What comes back, and whether the model is as it was."""
    before, mode = state_of(model), model.training
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    with torch.random.fork_rng():
        result = answer(model, batches)
    values = items_of(result, 2)
    if values is None:
        return result
    graph = any(isinstance(v, torch.Tensor) and v.requires_grad for v in values)
    loss, accuracy = (float(value) for value in values)
    same = all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    kept = all(p.grad is not None and (p.grad == 1).all() for p in model.parameters())
    return (
        loss,
        accuracy,
        f"weights and buffers as before: {same}",
        f"mode as before: {model.training == mode}",
        f"gradients as before: {kept}",
        f"numbers that hold no graph: {not graph}",
    )


def with_three_bugs(model, batches):
    """What the reader repairs."""
    loss, right, n = 0.0, 0, 0
    for x, y in batches:
        probabilities = model(x).softmax(1)
        loss += F.cross_entropy(probabilities, y).item()
        right += (probabilities.argmax(1) == y).sum().item()
        n += len(y)
    return loss / n, right / n


def measuring(softmax=False, weighed=True, mean=False, evaluate=True, restore=True):
    """`measure` with one of its mistakes."""

    @torch.no_grad()
    def measure(model, batches):
        mode, total, right, n = model.training, 0.0, 0, 0
        if evaluate:
            model.eval()
        for x, y in batches:
            logits = model(x)
            scores = logits.softmax(1) if softmax else logits
            loss = F.cross_entropy(scores, y).item()
            total += loss * (len(y) if weighed else 1)
            right += (logits.argmax(1) == y).sum().item()
            n += len(y)
        if restore:
            model.train(mode)
        return total / (len(batches) if mean else n), right / n

    return measure


@exercise(
    inputs=draw_evaluation,
    mistakes={
        "cross_entropy applies the softmax itself: give it the logits.": (
            measuring(softmax=True)
        ),
        "The last batch is short, and may not weigh as much as the others.": (
            measuring(weighed=False, mean=True)
        ),
        "Each batch's loss is a mean: multiply it by the size of the batch.": (
            measuring(weighed=False)
        ),
        "Dropout is on, and batch norm learns from these batches: model.eval() first.": (
            measuring(evaluate=False)
        ),
        "Leave the mode as you found it: model.train(mode) at the end.": (
            measuring(restore=False)
        ),
    },
    hint="Value 1 is the mean loss over all examples, value 2 the accuracy, values 3 to "
    "5 say whether you left the model as you found it, value 6 whether memory is free.",
    observe=on_evaluation,
    pure=False,
    tolerance=1e-4,
    given=with_three_bugs,
)
def measure(model, batches):
    """Mean loss and accuracy over all examples; the model is left as it was."""
    return measuring()(model, batches)


# The blank file -------------------------------------------------------------------------


def draw_task(draw):
    """240 objects sorted by class, 120 to choose by, and a network with its modes."""
    centres = 2.5 * torch.eye(4)[torch.randperm(4, generator=draw.generator)[:3]]
    y = draw.labels(360, 3)
    x = centres[y] + draw.normal(360, 4, dtype=torch.float32)
    order = y[:240].argsort(stable=True)
    train = x[:240][order], y[:240][order]
    return small_model(draw.integer(0, 1000)), train, (x[240:], y[240:])


class Watch:
    """Looks at a training through hooks on the model: nothing of the reader's is changed.

    With `spoil_after`, each batch after so many looks at the validation images leaves the
    weights worse: then the last ones are not the best.
    """

    def __init__(self, model, train, validation, spoil_after=math.inf):
        self.model, self.start = model, state_of(model)
        self.looks, self.spoil_after = 0, spoil_after
        self.rows = {tuple(row.tolist()): k for k, row in enumerate(train[0])}
        self.held = {tuple(row.tolist()) for row in validation[0]}
        self.labels, self.val = train[1], validation
        self.trained, self.wrong_mode, self.right_gradient = [], 0, True
        self.added, self.best, self.kept = 0, math.inf, None
        self.peeking = False
        self.handle = model.register_forward_hook(self.look)

    def look(self, model, args, logits):
        """At every forward pass: which examples, in which mode, and what comes back."""
        if self.peeking:
            return
        rows = [tuple(row.tolist()) for row in args[0]]
        known = [self.rows[row] for row in rows if row in self.rows]
        if logits.requires_grad and known:
            self.wrong_mode += not model.training
            self.trained.append(known)
            seen, y = logits.detach(), self.labels[known]
            logits.register_hook(lambda gradient: self.check(gradient, seen, y))
            if self.looks > self.spoil_after:
                self.spoil()
        elif any(row in self.held for row in rows):
            self.wrong_mode += model.training
            self.looks += 1
            self.remember()

    def spoil(self):
        """Other weights, as after a bad step; the backward pass does not notice."""
        generator = torch.Generator().manual_seed(self.looks)
        for p in self.model.parameters():
            p.data += torch.randn(p.shape, generator=generator)

    def check(self, gradient, logits, y):
        """The gradient of cross-entropy: the softmax minus the label, to a factor."""
        expected = logits.softmax(1) - F.one_hot(y, 3)
        cosine = F.cosine_similarity(gradient.flatten(), expected.flatten(), 0)
        self.right_gradient &= bool(cosine > 0.999)
        old = self.model[0].weight.grad  # nothing has come back to this layer yet
        self.added += old is not None and bool((old != 0).any())

    def remember(self):
        """The weights with the lowest validation loss of those that were tried."""
        self.peeking, mode = True, self.model.training
        with torch.no_grad():
            loss = F.cross_entropy(self.model.eval()(self.val[0]), self.val[1]).item()
        self.model.train(mode)
        self.peeking = False
        if loss < self.best:
            self.best, self.kept = loss, state_of(self.model)

    def is_best(self, kept: dict) -> bool:
        """Whether these are the weights with the lowest validation loss."""
        missing = torch.tensor(math.nan)
        return self.kept is not None and all(
            torch.equal(kept.get(name, missing), value)
            for name, value in self.kept.items()
        )


def watched(answer, model, train, validation, spoil_after=math.inf):
    """What the answer gives for a copy of the model, and the watch of its training."""
    model = copy.deepcopy(model)
    watch = Watch(model, train, validation, spoil_after)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        kept = answer(model, *copy.deepcopy((train, validation)))
    watch.handle.remove()
    return kept, watch


def on_training(answer, model, train, validation):
    """What must hold of a training, as lines; most of the lesson's bugs break one."""
    begun = time.perf_counter()
    kept, watch = watched(answer, model, train, validation)
    in_time = time.perf_counter() - begun < 10
    if not isinstance(kept, dict):
        return kept
    # Again, and worse and worse from the middle on: the last weights are not the best.
    again, spoilt = watched(answer, model, train, validation, watch.looks // 2)
    best = watch.is_best(kept) and isinstance(again, dict) and spoilt.is_best(again)
    model = watch.model
    per_batch = [train[1][batch].unique().numel() for batch in watch.trained]
    mixed = bool(per_batch) and sum(n > 1 for n in per_batch) > 0.9 * len(per_batch)
    seen = [k for batch in watch.trained for k in batch]
    counts = torch.bincount(torch.tensor(seen, dtype=torch.long), minlength=240)
    moved = all(
        not torch.equal(watch.start[name], value)
        for name, value in model.named_parameters()
    )
    model.load_state_dict(watch.kept or watch.start)
    with torch.no_grad():
        right = (model.eval()(validation[0]).argmax(1) == validation[1]).double().mean()
    return (
        f"training in training mode, validation in evaluation mode: {not watch.wrong_mode}",
        f"batches of mixed classes: {mixed}",
        f"every example equally often: {bool(seen) and counts.min() == counts.max()}",
        f"the gradient is that of cross-entropy on logits: {watch.right_gradient}",
        f"old gradients are gone before a step: {not watch.added}",
        f"every parameter has moved: {moved}",
        f"the best weights come back: {best}",
        f"85 of 100 right or more: {bool(right >= 0.85)}",
        f"in ten seconds: {in_time}",
    )


def training(**bugs):
    """`train` with a bug."""

    def train(model, shown, held):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return train_with(model, shown, held, **bugs)

    return train


def train_with(
    model,
    shown,
    held,
    shuffle=True,
    mode=True,
    zero=True,
    softmax=False,
    copied=True,
    apart=False,
    head=True,
    epochs=6,
):
    """Six epochs of Adam in batches of 30; the weights with the lowest validation
    loss."""
    x, y = shown
    trained = model.parameters() if head else model[:-1].parameters()
    optimizer = torch.optim.Adam(trained, lr=0.02)
    lowest, kept = math.inf, None
    for epoch in range(epochs):
        if mode:
            model.train()
        if epoch == epochs - 1 and not copied:  # so that the last is not the best
            optimizer.param_groups[0]["lr"] = 1.0
        order = torch.randperm(len(x)) if shuffle else torch.arange(len(x))
        other = torch.randperm(len(x)) if apart else order
        for index, labels in zip(order.split(30), other.split(30), strict=True):
            logits = model(x[index])
            loss = F.cross_entropy(logits.softmax(1) if softmax else logits, y[labels])
            if zero:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            loss = F.cross_entropy(model(held[0]), held[1]).item()
        if loss < lowest:
            lowest, kept = loss, model.state_dict()
            kept = copy.deepcopy(kept) if copied else kept
    return kept


@exercise(
    inputs=draw_task,
    mistakes={
        "It stays in evaluation mode: model.train() at the start of every epoch.": (
            training(mode=False)
        ),
        "The examples come sorted by class: shuffle them in every epoch.": (
            training(shuffle=False)
        ),
        "Gradients add up: zero_grad() before backward().": training(zero=False),
        "cross_entropy applies the softmax itself: give it the logits.": (
            training(softmax=True)
        ),
        "state_dict() is no copy: the last weights came back.": training(copied=False),
        "One permutation for images and labels.": training(apart=True),
        "The optimizer holds all layers but the last: model.parameters().": (
            training(head=False)
        ),
    },
    hint="Value 1 is about the modes, 2 and 3 about the batches, 4 about the loss, 5 "
    "about zero_grad, 6 about the optimizer, 7 about the weights that you return, and 8 "
    "and 9 about how well and how fast it learns.",
    observe=on_training,
    pure=False,
    trials=1,
    seconds=60.0,  # it trains
)
def train(model, shown, held):
    """The state dict of the best epoch, of a training without a bug."""
    return training()(model, shown, held)
