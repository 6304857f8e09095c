"""The checks: each looks for one fault in what was seen, and yields a `Finding`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import CyclicLR, LRScheduler, ReduceLROnPlateau

from lessons_src.detector.evidence import (
    added,
    alike,
    alike_rows,
    beside,
    close,
    factors,
    first_input,
    graph,
    inner,
    inputs,
    is_passing,
    kind_of,
    labels_of,
    mean_loss,
    norm,
    numbers_in,
    parallel,
    rescaled,
    shape_of,
    shared,
    simulated,
    softmax_dim,
    source,
    sums_to_one,
    tail,
    weight,
    worked_on,
)
from lessons_src.detector.findings import Finding
from lessons_src.detector.watch import DETAILED, Snapshot

ACTIVATIONS = (
    "Relu Sigmoid Tanh LeakyRelu Elu Gelu Silu Mish Softplus Hardtanh Hardsigmoid Threshold "
    "LogSigmoid Clamp ClampMin Abs"
)
VIEWS = "View UnsafeView Squeeze Unsqueeze Clone Alias Mul Div Add"
CLASSES = (F.cross_entropy, F.nll_loss)
WANT_LOGITS = ("cross_entropy", "nll_loss", "binary_cross_entropy_with_logits")
TURNS = {  # how test images may lie -> what it is called
    "as in training": lambda x: x,
    "transposed": lambda x: x.transpose(-1, -2),
    "mirrored": lambda x: x.flip(-1),
    "upside down": lambda x: x.flip(-2),
    "turned by 180 degrees": lambda x: x.flip(-1, -2),
    "turned by 90 degrees": lambda x: x.rot90(1, (-2, -1)),
    "turned by 270 degrees": lambda x: x.rot90(3, (-2, -1)),
    "inverted": lambda x: -x,
}


# The loop ------------------------------------------------------------------------------


def check_gradients(seen):
    """A step uses the gradients of the backward passes since the last one, no others."""
    before = {}  # what the last step used
    for watch in (seen.first, seen.second):
        for number, step in enumerate(watch.steps, 1):
            grads, size = step.grads, norm(step.grads)
            rest = added(grads, step.own, -1)  # beyond what these backward passes gave
            wrong = norm(step.own) and not parallel(grads, step.own)
            # Gradients that moved the weights, which came back since, have been used
            wrong = wrong and not step.closure and not step.climbed
            # Where some tensors alone were zeroed, the old gradients are in the others
            both = before.keys() & rest.keys()
            both = [p for p in both if rest[p].norm() > 0.1 * before[p].norm()]
            old, new = ({p: of[p] for p in both} for of in (before, rest))
            carried = norm(added(new, old, -1)) < 0.1 * norm(old)
            if wrong and (not size or parallel(grads, step.latest)):
                used = "the last of them" if size else "none of them"
                yield Finding(
                    "gradients_lost",
                    f"{step.backwards} backward passes came before step {number}; the step "
                    f"used the gradient of {used}.",
                )
            elif carried or wrong and before and parallel(grads, added(step.own, before)):
                yield Finding(
                    "gradients_not_zeroed",
                    f"at step {number} the gradient had norm {size:.3g}, that of its own "
                    f"batch {norm(step.own):.3g}: the rest was left from before.",
                )
            before = grads


def check_steps(seen):
    """An epoch calls the model, and changes parameters."""
    watch = seen.first
    unseen = [p for p in seen.names if p.requires_grad and p not in watch.reached]
    if not watch.forwards and (unseen or not seen.trained):  # it may call the parts
        what = "train_epoch ended without a call of model(x), and no gradient came to "
        yield Finding("other_model", f"{what}{seen.named(unseen)}.")
    elif not seen.trained and all(step.lr for step in watch.steps):
        yield Finding(
            "no_step",
            f"{len(watch.steps)} steps of an optimizer, {watch.backwards} backward passes "
            "through the model, and no parameter of it has changed.",
        )
    elif watch.complete and len(watch.steps) == 1:
        step, what = watch.steps[0], "backward passes came before the epoch's only step."
        if step.backwards > 1 and parallel(step.grads, step.latest):
            yield Finding("no_step", f"{step.backwards} {what}")


def check_clipping(seen):
    """Gradients are clipped between backward and step."""
    late = seen.first.late_clips
    if late and not seen.first.timely_clips:
        yield Finding(
            "clipped_too_late",
            f"{late} times in {len(seen.first.steps)} steps gradients were clipped with no "
            "backward pass since the last step.",
        )


def check_optimizer(seen):
    """The steps are those of the optimizer that was handed over."""
    used = {id(step.optimizer) for step in seen.first.steps}
    if used and id(seen.optimizer) not in used:
        yield Finding(
            "optimizer_recreated",
            f"{len(seen.first.steps)} steps were those of {len(used)} other optimizer(s).",
        )


def check_modes(seen):
    """Training forward passes are in training mode, those of evaluation are not."""
    tests = seen.tests[0].forwards if seen.tests else []
    for kind, passes, mode in (
        ("eval_mode_in_training", seen.forwards, False),
        ("train_mode_in_evaluation", tests, True),
    ):
        wrong = sum(forward.training == mode for forward in passes)
        if wrong and seen.modes_matter:
            what = f"{wrong} of {len(passes)} passes had model.training == {mode}."
            yield Finding(kind, what)


def check_evaluation(seen):
    """Evaluation leaves weights, buffers and gradients as they are."""
    state = [*seen.model.named_parameters(), *seen.model.named_buffers()]
    changed = {id(tensor) for tensor in seen.changed}
    names = [name for name, tensor in state if id(tensor) in changed]
    if names:
        what = f"{len(names)} tensors were others after evaluate(), such as {names[0]}."
    elif seen.tests and seen.tests[0].backwards:
        what = f"evaluate() made {seen.tests[0].backwards} backward passes."
    elif seen.flags[0] != seen.flags[1]:
        what = "evaluate() changed requires_grad of parameters."
    else:
        return
    yield Finding("evaluation_changes_model", what)


def check_evaluated(seen):
    """evaluate calls the model, or another that has learned what it has."""
    watch = seen.tests[0] if seen.tests and seen.trained and seen.first.complete else None
    if watch is None or watch.forwards:
        return
    groups = [list(module.parameters()) for module in watch.called]
    if any(p in seen.names for group in groups for p in group):
        return
    start = list(seen.names)  # the weights have been put back
    for group in groups:
        if [p.shape for p in group] == [p.shape for p in start]:
            pairs = [(p.detach(), q) for p, q in zip(start, group, strict=True)]
            gap = norm({p: q.detach().to(p) - p for p, q in pairs if p.ndim > 1})
            if not gap or gap > norm({p: p for p, _ in pairs if p.ndim > 1}):
                what = "other weights" if gap else "the weights of before the training"
                yield Finding("other_model", f"evaluate called a network with {what}.")
                return


def check_schedule(seen):
    """The scheduler is stepped, and in the unit that it was made for."""
    scheduler, calls = seen.scheduler, len(seen.first.scheduler_calls)
    if scheduler is None or not seen.first.steps:
        return
    if getattr(scheduler, "optimizer", seen.optimizer) is not seen.optimizer:
        yield Finding("schedule_never_moves", "it belongs to another optimizer.")
    elif not calls:
        if seen.first.complete:
            what = "scheduler.step() was not called in a whole epoch."
            yield Finding("schedule_never_moves", what)
    elif isinstance(scheduler, ReduceLROnPlateau):
        if calls >= len(seen.first.steps) > 1:
            what = f"{calls} calls in {len(seen.first.steps)} steps: it counts calls without "
            yield Finding(
                "schedule_per_batch", what + "progress, and takes them for epochs."
            )
    elif not isinstance(scheduler, LRScheduler):
        return
    elif calls >= len(seen.first.steps) > 1:
        n = math.ceil(seen.train.total / len(seen.first.forwards[0].x))
        rates = simulated(scheduler, seen.optimizer, n)
        peak = max(rates)
        top = next(k for k, rate in enumerate(rates) if rate > 0.999 * peak)
        low = min(rates[top:])
        fallen = [
            k for k, r in enumerate(rates) if k > top and r < low + 0.1 * (peak - low)
        ]
        is_early = fallen and (fallen[0] < n / 4 or rates[len(rates) // 2] < 0.2 * peak)
        if low < 0.7 * peak and is_early and not isinstance(scheduler, CyclicLR):
            yield Finding(
                "schedule_per_batch",
                f"stepped after every batch, the rate falls from {peak:.2g} to "
                f"{rates[fallen[0]]:.2g} in {fallen[0]} of the {n} batches of one epoch.",
            )
    elif len(seen.first.steps) > 1:
        rates = simulated(scheduler, seen.optimizer, 1000)
        group = seen.optimizer.param_groups[0]
        peak = group.get("max_lr", group.get("initial_lr", rates[0]))
        if max(rates[:10]) < 0.2 * peak or max(rates) == min(rates):
            yield Finding(
                "schedule_never_moves",
                f"stepped once an epoch, the rate is {rates[0]:.2g} at first and "
                f"{rates[:10][-1]:.2g} after ten epochs, where it is to reach {peak:.2g}.",
            )


def check_best_state(seen):
    """The saved state has memory of its own."""
    tensors = [tensor for tensor, *_ in Snapshot(seen.best_state).tensors]
    live = {tensor.data_ptr() for tensor in seen.model.state_dict().values()}
    shared = sum(tensor.data_ptr() in live for tensor in tensors if tensor.numel())
    if shared:
        what = f"{shared} of its {len(tensors)} tensors are the model's own."
        yield Finding("best_state_is_live", what)


def check_reports(seen):
    """What the functions return is the mean over the images, not another number."""
    parts = [seen.train, *seen.test_parts[::2]]
    calls = [(seen.first, "train_epoch"), *((w, "evaluate") for w in seen.tests[::2])]
    sums = []  # of each call: the sum over the images by what it is of
    for (watch, name), few in zip(calls, parts, strict=True):
        returned = numbers_in(watch.returned) if watch.complete else []
        sums.append({})
        for what, right, wrong in statistics(watch, few):
            sums[-1][what] = right[2]
            if any(alike(number, value) for number in returned for value in right):
                continue
            for how, value in wrong.items():
                if value and any(alike(number, value) for number in returned):
                    yield Finding(
                        "reported_average",
                        f"{name} returned {value:.4g} as {what}, which is {how}. The mean "
                        f"is {right[0]:.4g}.",
                    )
    if len({w.images_seen for w in seen.tests if w.complete}) < 2:
        return  # not called, or with a number of images of its own
    # On half as many images a sum is divided by half the number, unless that is fixed
    whole, half = (numbers_in(watch.returned) for watch in seen.tests[::2])
    for what in sums[1].keys() & sums[2].keys():
        for a, b in zip(whole, half, strict=False):
            n = sums[1][what] / a if a and b else 0
            fixed = n > 1.5 and math.isclose(n, sums[2][what] / b, rel_tol=1e-6)
            total = parts[1].total  # may be written out, and in percent
            if fixed and not alike(n, total) and not alike(100 * n, total):
                text = f"evaluate returned {what} divided by {n:.6g}, however many"
                yield Finding("reported_average", f"{text} images it was given.")


def statistics(watch, few):
    """(name, right values, wrong values by what they are) of loss and accuracy over the
    batches of a call."""
    passes = [forward for forward in watch.forwards if forward.out is not None]
    sizes = [len(forward.out) for forward in passes]
    n, batches = sum(sizes), len(passes)
    if passes and all(forward.losses for forward in passes):
        losses = [mean_loss(forward.losses[0]) for forward in passes]
        total = sum(loss * size for loss, size in zip(losses, sizes, strict=True))
        wrong = {
            "batch means, divided by the number of images": sum(losses) / n,
            "the last batch's": losses[-1],
            "divided as if every batch were full": total / sizes[0] / batches,
        }
        yield "loss", [total / n, sum(losses) / batches, total, sum(losses)], wrong
    labels = all_labels(watch, few)
    if labels is None or len(labels) != n or passes[0].out.ndim != 2:
        return
    answers = [forward.out.argmax(1) for forward in passes]
    pairs = list(zip(answers, labels.split(sizes), strict=True))
    correct = [(answer == y).sum().item() for answer, y in pairs]
    shares = [c / size for c, size in zip(correct, sizes, strict=True)]
    right = [sum(correct) / n, sum(shares) / batches, sum(correct)]
    right += [1 - right[0], 1 - right[1], n - right[2]]
    of_all = sum((answer[:, None] == y).sum().item() for answer, y in pairs) / n
    wrong = {
        "right answers, divided by the number of batches": sum(correct) / batches,
        "the last batch's": shares[-1],
        "batch means, divided by the number of images": sum(shares) / n,
        "right answers of the last batch, divided by the number of images": correct[-1]
        / n,
        "every answer compared with every label": of_all,
        "divided as if every batch were full": sum(correct) / sizes[0] / batches,
    }
    yield "accuracy", right + [100 * value for value in right], wrong


# The optimizer -------------------------------------------------------------------------


def check_parameters(seen):
    """Every parameter that the answer depends on is the model's and is trained."""
    own, held, leaves = set(seen.names), seen.held, seen.leaves
    asks = [p for p in own if p.requires_grad]
    hidden = leaves - own - held
    if hidden:
        n = sum(p.numel() for p in hidden)
        what = f"the answer depends on {len(hidden)} tensors with {n:,} numbers that"
        yield Finding("plain_list", f"{what} model.parameters() does not list.")
    missing = [p for p in asks if p in leaves and p not in held]
    moved = {p for step in seen.first.steps for p in step.own}
    strangers = held - own - leaves - moved if seen.forwards else ()
    if missing:
        what = f"the optimizer does not hold {seen.named(missing)}."
        yield Finding("not_in_optimizer", what)
    elif strangers:
        what = (
            f"the optimizer holds {len(strangers)} parameters that are not the model's."
        )
        yield Finding("not_in_optimizer", what)
    cut = [p for p in asks if seen.forwards and p not in leaves]
    if cut:
        called = seen.first.called
        owner = {p: m for m in seen.model.modules() for p in m.parameters(recurse=False)}
        detached = [p for p in cut if owner[p] in called]
        unused = [p for p in cut if owner[p] not in called]
        if detached:
            what = f"no path leads back to {seen.named(detached)}."
            yield Finding("detached", what)
        if unused:
            yield Finding("unused_layer", f"{seen.named(unused)} took no part.")


def check_learning_rate(seen):
    """The steps are long enough to learn something, and short enough not to diverge."""
    losses = [mean_loss(loss) for loss in seen.losses]
    if losses and not first_loss(seen) > 2:
        start, worst = losses[0], max(losses[1:], default=0.0)
        if not math.isfinite(sum(losses)) or worst > 4 * max(start, 2.3):
            lr = seen.first.steps[0].lr if seen.first.steps else math.nan
            what = f"at rate {lr:.3g} the loss went from {start:.3g} to {worst:.3g}."
            yield Finding("learning_rate", what)
            return
    steps = [step for step in seen.first.steps if step.change and step.own]
    warming = len({step.lr for step in steps}) > 1  # by hand
    if not steps or warming or seen.scheduler is not None or not first_loss(seen) > 0.5:
        return
    fall = 1000 * max(-inner(step.own, step.change) for step in steps)
    move = 1000 * max(longest(step) for step in steps)
    if 0 <= fall < 0.03 or 0 < move < 0.1:
        what = (
            f"at rate {steps[0].lr:.3g}, 1,000 steps like the first {len(steps)} would "
        )
        what += f"lower the loss by {fall:.1g} and change a layer by {move:.2%} at most."
        yield Finding("learning_rate", what)


def longest(step) -> float:
    """The change of the layer that a step changes most, as a part of its weights."""
    weights = [p for p in step.change if p.ndim > 1 and step.before[p].any()]
    parts = [step.change[p].norm() / step.before[p].norm() for p in weights]
    return max(parts, default=torch.tensor(0.0)).item()


def first_loss(seen) -> float:
    """The first loss as a multiple of log K, that of guessing; NaN where it is another."""
    for loss in seen.losses[:1]:
        if (
            loss.function in CLASSES
            and loss.logits.ndim == 2
            and loss.logits.shape[1] > 1
        ):
            return mean_loss(loss) / math.log(loss.logits.shape[1])
    return math.nan


# The loss ------------------------------------------------------------------------------


def check_probabilities(seen):
    """cross_entropy gets logits, nll_loss log-probabilities, each over the classes."""
    for loss in seen.losses[:1] or seen.forwards[:1]:
        by_hand = loss in seen.forwards[:1]
        z, name = (loss.out, "") if by_hand else (loss.logits, loss.function.__name__)
        if z.ndim != 2 or len(z) < 2 or not by_hand and loss.function not in CLASSES:
            continue
        if sums_to_one(z, 0) or sums_to_one(z.exp(), 0):
            what = "the probabilities of each class sum to 1 over the batch."
            yield Finding("softmax_over_batch", what)
        elif sums_to_one(z, 1) and name == "cross_entropy":
            what = "what cross_entropy gets is positive and sums to 1 for each image."
            yield Finding("softmax_twice", what)
        elif name == "nll_loss" and not sums_to_one(z.exp(), 1):
            total = z.exp().sum(1).mean()
            what = (
                f"exp of what nll_loss gets sums to {total:.3g} for an image, not to 1."
            )
            yield Finding("nll_without_log", what)


def check_softmaxes(seen):
    """In the loss's graph no softmax follows another, and none of the answers goes over the
    batch: what a loss written by hand shows, too."""
    ends = {forward.node for forward in seen.forwards if forward.node is not None}
    for root in seen.first.roots[:1]:
        for node in tail(root):
            dim = softmax_dim(node)
            before = None if dim is None else worked_on(node, ends)
            if before is None:
                continue
            # Of a log_softmax it is no second one: log-probabilities stay as they are
            if kind_of(before).startswith("Softmax") and softmax_dim(before) == dim:
                what = "in the loss's graph a softmax works on what another one gives."
                yield Finding("softmax_twice", what)
            elif before in ends and dim == 0 and len(shape_of(node)) == 2:
                what = (
                    "the loss applies softmax to the logits over dimension 0, the batch."
                )
                yield Finding("softmax_over_batch", what)


def check_logits(seen):
    """No activation stands between the last layer and the loss."""
    for loss in seen.losses[:1]:
        node = loss.node
        while node is not None and kind_of(node) in VIEWS.split():
            node = source(node)
        word, name = "" if node is None else kind_of(node), loss.function.__name__
        if word in ACTIVATIONS.split() and name in WANT_LOGITS:
            yield Finding(
                "activation_on_logits", f"{word} is applied to what {name} gets."
            )


def check_gradient_of_loss(seen):
    """What comes back to the logits is the gradient of the mean loss: sign and size."""
    reasons = []  # to think that training goes uphill
    for loss in seen.losses[:1]:
        if loss.grad is None:
            continue
        size, losses = len(loss.logits), beside(loss, seen.forwards[0].losses)
        ratio = sum(factors(losses)) * rescaled(seen.first.steps)
        if ratio < 0:
            reasons.append("the gradient at the logits is that of the loss with a minus.")
        passes = (
            max(step.backwards for step in seen.first.steps) if seen.first.steps else 1
        )
        batches = math.ceil(seen.train.total / size)
        sizes = {size, seen.train.total, len(seen.train.labels), batches}
        sizes.add(len(seen.first.forwards))
        if ratio and 1 / abs(ratio) > 1.5 * passes:
            for n in sizes:
                if n > 3 and abs(abs(ratio) * n - 1) < 0.02:
                    what = (
                        f"the gradient is {n} times smaller than that of the mean loss."
                    )
                    yield Finding("averaged_twice", what)
    along = [inner(step.own, step.change) for step in seen.first.steps if step.change]
    if not seen.losses and goes_uphill(seen):
        reasons.append("the gradient lowers the logits of the right classes.")
    if along and min(along) > 0:
        reasons.append(f"each of {len(along)} steps went along the gradient, up it.")
    if len(reasons) == 1:  # two turns are none
        yield Finding("wrong_sign", reasons[0])


def goes_uphill(seen) -> bool:
    """For a loss written by hand: whether the right class's logit is pushed down."""
    forward = seen.forwards[0] if seen.forwards else None
    y = labels_of(forward, seen.train) if forward else None
    if y is None or forward.grad.ndim != 2 or y.max() >= forward.grad.shape[1]:
        return False
    return bool(forward.grad.gather(1, y[:, None]).mean() > 0)


def check_broadcast(seen):
    """Answers and labels have one shape."""
    shapes = seen.first.broadcast
    if shapes:
        what = f"{shapes[0]} and {shapes[1]} were combined to {(shapes[0][0],) * 2}."
        yield Finding("broadcast_in_loss", what)


# The model -----------------------------------------------------------------------------


def check_repeated_layers(seen):
    """No container holds the same layer, or the same parameters, twice."""
    for name, module in seen.model.named_modules():
        groups = {}  # of siblings: in a container all, else those numbered, conv1 and conv2
        for child, layer in module._modules.items():
            whole = isinstance(module, nn.ModuleDict)
            group = groups.setdefault("" if whole else child.rstrip("0123456789"), [])
            group += [tuple(map(id, layer.parameters()))] if layer is not None else []
        for group in groups.values():
            layers = [layer for layer in group if layer]
            if len(set(layers)) < len(layers):
                what = f"{name or 'the model'} has {len(layers)} layers with parameters, "
                what += f"but only {len(set(layers))} different."
                yield Finding("same_layer_repeated", what)


def check_activations(seen):
    """Between two layers with weights stands an activation."""
    for node in graph(seen.forwards[0].node) if seen.forwards else []:
        after, before = weight(node), source(node)
        if after is None or before is None or getattr(node, "_saved_groups", 1) > 1:
            continue
        while before is not None and weight(before) is None and is_passing(before):
            before = source(before)
        first = None if before is None else weight(before)
        if first is None or getattr(before, "_saved_groups", 1) > 1:
            continue
        # A narrow middle is meant: a matrix of low rank, a bottleneck
        ends = min(first[0].numel(), len(after))
        if len(first) > ends / 4 or after[0, 0].numel() > 1:
            names = [seen.names.get(p, "a layer") for p in (first, after)]
            what = f"{names[1]} gets what {names[0]} gives, with nothing but pooling or "
            yield Finding("missing_activation", what + "normalisation between.")


def check_start(seen):
    """The units of a hidden layer are different, or get different gradients."""
    nodes = graph(seen.forwards[0].node) if seen.forwards else []
    weights = [weight(node) for node in nodes]
    weights = [w for w in weights if w is not None]  # the last layer's first
    steps = [step.own for step in seen.first.steps + seen.second.steps]
    joins = [node for node in nodes if kind_of(node) == "Add" and source(node) is None]
    for w in weights[1:]:
        if len(w) < 2 or not alike_rows(w.detach()):
            continue
        # A branch beside a shortcut may start at zero: its units get different gradients,
        # at the first step or, where what follows is at zero too, at one of the next
        grads = [own[w] for own in steps if w in own]
        stay_alike = grads and all(alike_rows(grad, 1e-3) for grad in grads)
        if w.any() or not joins or stay_alike:
            what = f"all {len(w)} units of {seen.names.get(w, 'a layer')} have equal weights."
            yield Finding("constant_init", what)


def check_answers(seen):
    """In evaluation mode an image has one answer, whatever the rest of the batch."""
    if seen.x is None or len(seen.x) < 4:
        return
    out = seen.answers(seen.x)
    again = seen.answers(seen.x)
    if out is None or len(out) != len(seen.x):
        return
    if not close(out, again):
        gap = (out - again).abs().max()
        what = f"the same images twice: the answers differ by up to {gap:.2g}."
        yield Finding("random_in_evaluation", what)
        return
    half = len(out) // 2
    alone = seen.answers(seen.x[:half])
    if not close(out[:half], alone):
        gap = (out[:half] - alone).abs().max() if alone.shape == out[:half].shape else 0
        what = "without the other half of the batch the answers differ by up to "
        nodes = graph(seen.forwards[0].node) if seen.forwards else []
        nodes = [node for node in nodes if kind_of(node) in ("Softmax", "LogSoftmax")]
        over = any(node._saved_dim == 0 for node in nodes)
        kind = "softmax_over_batch" if over else "depends_on_batch"
        yield Finding(kind, f"{what}{gap:.2g}.")


# The data ------------------------------------------------------------------------------


def check_order(seen):
    """The batches of an epoch have the same mixture of classes."""
    y = all_labels(seen.first, seen.train)
    if y is None and seen.train.batches and not seen.train.fixed:
        y = seen.train.labels  # in the order in which the loader gave them
    if y is None or y.ndim != 1 or y.is_floating_point() or len(y) < 64:
        return
    out = seen.first.forwards[0].out if seen.first.forwards else None
    K = max(int(y.max()) + 1, out.shape[1] if out is not None and out.ndim == 2 else 1)
    halves = [torch.bincount(half, minlength=K) / len(half) for half in y.chunk(2)]
    apart = (halves[0] - halves[1]).abs().sum().item() / 2
    first = int((halves[0] > 0).sum())
    if K > 2 and (apart > 0.5 or len(y.unique()) <= K / 3):
        what = f"the first {len(y) // 2} examples had {first} of {K} classes."
        yield Finding("not_shuffled", what)


def check_pairs(seen):
    """The labels are those of the images: in the data, and in what the loop makes of
    them."""
    for few, name in (
        (seen.train, "training"),
        *((p, "test") for p in seen.test_parts[:1]),
    ):
        if not few.batches or few.labels.ndim != 1 or few.labels.is_floating_point():
            return
        x, y = few.images.flatten(1).double().cpu(), few.labels.cpu()
        if len(y) < 100:
            return
        distance = torch.cdist(x, x).fill_diagonal_(math.inf)
        agree = (y[distance.argmin(1)] == y).double()
        mean = agree.mean().item()
        chance = (torch.bincount(y).double() / len(y)).square().sum().item()
        # All of them, then each quarter: data to which others have been appended
        for some in (agree, *agree.chunk(4)):
            share, n = some.mean().item(), len(some)
            is_chance = share < chance + 3 * math.sqrt(chance * (1 - chance) / n)
            less = share < mean - 4 * math.sqrt(mean * (1 - mean) / n)
            if is_chance and (some is agree or less):
                what = (
                    f"of {n} {name} images in a row, {share:.0%} have the label of the "
                )
                what += f"most similar one; at random it would be {chance:.0%}."
                yield Finding("labels_apart", what)
                return
    x, y = seen.train.images.flatten(1).double().cpu(), seen.train.labels.cpu()
    for forward in seen.first.forwards[:DETAILED]:
        wrong = mixed_apart(forward, x, y)
        if wrong > 0.2:
            what = f"{wrong:.0%} of a batch have another label than in the data."
            yield Finding("labels_apart", what)
            return


def mixed_apart(forward, images, labels) -> float:
    """Share of a batch whose labels do not follow their images.

    Each image of the batch is written as a sum of images of the data, A @ images + shift;
    the labels must be the same sum. That holds for a permutation and for mixup alike.
    """
    if not forward.losses or forward.x is None or len(images) >= images.shape[1] / 2:
        return 0.0
    x, K = forward.x.flatten(1).double().cpu(), forward.losses[0].logits.shape[-1]
    if x.shape[1:] != images.shape[1:] or int(labels.max()) >= K:
        return 0.0
    basis = torch.cat([images, torch.ones(1, images.shape[1], dtype=torch.double)])
    A = torch.linalg.lstsq(basis.T, x.T, driver="gelsd").solution.T  # (B, n + 1)
    if (A @ basis - x).norm() > 1e-3 * x.norm():
        return 0.0  # changed in another way
    A = A[:, :-1] / A[:, :-1].sum(1, keepdim=True)
    expected = A @ F.one_hot(labels, K).double()  # (B, K)
    losses = beside(forward.losses[0], forward.losses)  # mixup has two
    targets = [one.target.cpu() for one in losses]
    if len(targets) > 1 and any(y.is_floating_point() for y in targets):
        return 0.0
    given = [
        y if y.is_floating_point() else F.one_hot(y.clamp(0, K - 1), K) for y in targets
    ]
    if any(soft.shape != expected.shape for soft in given):
        return 0.0
    parts = factors(losses) if len(losses) > 1 else [1.0]
    given = sum(part * y for part, y in zip(parts, given, strict=True)) / (
        sum(parts) or 1
    )
    return ((expected - given).abs().max(1).values > 0.25).double().mean().item()


def check_pixels(seen):
    """What the first layer with weights gets is neither huge nor tiny."""
    x = first_input(seen)
    if x is not None and (x.std() > 10 or 0 < x.std() < 0.02):
        what = f"the first layer gets numbers from {x.min():.3g} to {x.max():.3g}, with "
        yield Finding("pixel_range", f"{what}standard deviation {x.std():.3g}.")


def check_preparation(seen):
    """Test images look like training images: moments, and how they lie."""
    train, test = inputs(seen.first), inputs(seen.tests[0]) if seen.tests else None
    if train is None or test is None or train.shape[1:] != test.shape[1:]:
        return
    mean, std = train.mean().item(), train.std().item()
    test_mean, test_std = test.mean().item(), test.std().item()
    if abs(mean - test_mean) > 0.25 * std or not 0.7 < test_std / max(std, 1e-9) < 1.4:
        what = f"mean and standard deviation are {mean:.3g} and {std:.3g} in training, "
        what += f"{test_mean:.3g} and {test_std:.3g} in evaluation."
        yield Finding("test_preprocessing", what)
    elif how := how_turned(seen, train, test):
        what = f"by the mean images of the classes, the test images are {how}."
        yield Finding("test_preprocessing", what)


def check_augmentation(seen):
    """Evaluation sees the same images when it is repeated."""
    images = [inputs(watch) for watch in seen.tests[:2] if watch.complete]
    if len(images) == 2 and all(x is not None for x in images):
        others, few = 1 - shared(images[1], images[0]), seen.test_parts[0]
        given = few.images if few.fixed else few.everything
        if given is not None and shared(images[1], given) > 0.95:
            return  # some of the same images, or others of the split, not changed
        if others > 0.3:
            what = f"{others:.0%} of the images of a second evaluation were others."
            yield Finding("test_augmented", what)


def how_turned(seen, train, test) -> str:
    """How the test images lie, if they look more like training images when turned; or that
    they look like nothing in training."""
    if train.ndim != 4 or train.shape[2] != train.shape[3]:
        return ""
    y = all_labels(seen.first, seen.train)
    y_test = all_labels(seen.tests[0], seen.test_parts[0])
    if y is None or y_test is None or len(y) != len(train) or len(y_test) != len(test):
        return ""
    classes = sorted(set(y.tolist()) & set(y_test.tolist()))
    mean, test_mean = class_means(train, y, classes), class_means(test, y_test, classes)
    match = {}
    for how, turn in TURNS.items():
        both = torch.stack([mean.flatten(), turn(test_mean).flatten()])
        match[how] = torch.corrcoef(both)[0, 1].item()
    best = max(match, key=match.get)
    straight = match["as in training"]  # unchanged: 0.87 and more
    if match[best] > straight + 0.15:
        return best
    is_like = len(classes) < 2 or straight > 0.4
    return "" if is_like else f"others (correlation {straight:.2f})"


def all_labels(watch, few) -> Tensor | None:
    """The labels of all images of a call, (n,); None where one is not known."""
    labels = [labels_of(forward, few) for forward in watch.forwards]
    return None if not labels or any(y is None for y in labels) else torch.cat(labels)


def class_means(images, labels, classes) -> Tensor:
    """The mean image of each class less the mean of these, (K, ...)."""
    means = torch.stack([images[labels == k].mean(0) for k in classes])
    return means - means.mean(0)


def check_overlap(seen):
    """No test image is a training image."""
    if not seen.tests:
        return
    train, test = seen.train, seen.test_parts[0]
    shares = {"test images are": 0.0, "images that evaluate used are": 0.0}
    if train.everything is not None and test.everything is not None:
        shares["test images are"] = shared(test.everything, train.everything)
    elif train.indices and train.base is test.base:
        both = set(train.indices) & set(test.indices)
        shares["test images are"] = len(both) / len(set(test.indices))
    used = inputs(seen.tests[0])
    if used is not None and train.batches:
        shares["images that evaluate used are"] = shared(used, train.images)
    for what, share in shares.items():
        if share > 0.01:
            yield Finding("test_in_train", f"{share:.0%} of the {what} training images.")
            return


# Symptoms ------------------------------------------------------------------------------


def check_first_loss(seen):
    """Before training, the loss is about that of guessing."""
    if first_loss(seen) > 2:
        loss = seen.losses[0]
        value, K = mean_loss(loss), loss.logits.shape[1]
        what = f"the first loss is {value:.3g}; log {K} is {math.log(K):.3g}."
        yield Finding("initial_loss", what)


def check_repeatable(seen):
    """Two evaluations give the same."""
    if seen.tests and all(watch.complete for watch in seen.tests):
        first, second = (numbers_in(watch.returned) for watch in seen.tests[:2])
        pairs = zip(first, second, strict=True) if len(first) == len(second) else []
        differ = [pair for pair in pairs if not alike(*pair)]
        if differ:
            what = (
                f"{differ[0][0]:.6g} and then {differ[0][1]:.6g}, with the same weights."
            )
            yield Finding("evaluation_random", what)


def check_overfit(seen):
    """The loss on sixteen images falls well below that of guessing by their classes; with
    the loop's own optimizer too, where its weight decay is strong."""
    forward = seen.forwards[0] if seen.forwards else None
    y = labels_of(forward, seen.train) if forward else None
    if y is None or forward.out.ndim != 2 or forward.out.shape[1] < 2:
        return
    asks = [p for p in seen.held if p.requires_grad]
    share = torch.bincount(y[:16]).double() / len(y[:16])
    by_class = -torch.xlogy(share, share).sum().item()  # the best that ignores the images
    by_class = by_class if first_loss(seen) > 0.5 else math.inf
    seen.model.train()
    start = Snapshot(seen.model)
    for lr, steps in ((0.01, 60), (0.002, 120)):  # long steps can kill a narrow layer
        start.restore()
        losses = learn(seen, torch.optim.Adam(asks, lr=lr), steps, by_class)
        if is_learned(losses, by_class):
            break
    else:
        what = f"in {steps} steps of Adam the loss of 16 images went from "
        yield Finding("cannot_overfit", f"{what}{losses[0]:.3g} to {losses[-1]:.3g}.")
        return
    shrinks = max(map(decay_of, seen.optimizer.param_groups))
    if shrinks > 0.01 and losses:
        start.restore()
        last = learn(seen, seen.optimizer, steps=120)[-40:]
        level = torch.tensor(last).median().item()  # a step too long may throw it up
        if level > 0.5 * by_class:
            what = (
                f"each step takes {shrinks:.1%} of the weights away by weight decay; the "
            )
            what += f"loss of 16 images stays at {level:.3g} in 120 steps."
            yield Finding("cannot_overfit", what)


def learn(seen, optimizer, steps: int, by_class: float = -math.inf) -> list[float]:
    """The losses of so many steps on sixteen images, or fewer where they are learned
    before; none where the loss takes the labels in another form."""
    x, y = seen.forwards[0].x[:16], labels_of(seen.forwards[0], seen.train)[:16]
    losses = []
    while len(losses) < steps and not (losses and is_learned(losses, by_class)):
        try:
            loss = seen.loss_fn(seen.model(x), y)
        except (RuntimeError, TypeError, ValueError, IndexError):
            return []
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def is_learned(losses: list[float], by_class: float) -> bool:
    """Whether the last loss is well below the first, and below that of guessing."""
    return not losses or losses[-1] < 0.75 * min(losses[0], by_class)


def decay_of(group: dict) -> float:
    """The part of the weights that weight decay takes away in a step, in the long run."""
    rate, momentum = float(group["lr"]), group.get("momentum", 0.0)
    return rate * float(group.get("weight_decay", 0.0)) / max(1 - momentum, 1e-3)


CAUSES = [
    check_gradients,
    check_steps,
    check_clipping,
    check_optimizer,
    check_modes,
    check_evaluation,
    check_evaluated,
    check_schedule,
    check_best_state,
    check_reports,
    check_parameters,
    check_learning_rate,
    check_probabilities,
    check_softmaxes,
    check_logits,
    check_gradient_of_loss,
    check_broadcast,
    check_repeated_layers,
    check_activations,
    check_start,
    check_answers,
    check_order,
    check_pairs,
    check_pixels,
    check_preparation,
    check_augmentation,
    check_overlap,
]
SYMPTOMS = [check_first_loss, check_repeatable, check_overfit]  # where no cause is found
