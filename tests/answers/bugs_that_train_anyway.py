"""Answers to the exercises of the lesson on bugs that train anyway."""

import collections
import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


def held_by(optimizer):
    return [p for group in optimizer.param_groups for p in group["params"]]


def named(is_wanted, names=list):
    """The names of the parameters that are wanted: (p, those held) -> bool."""
    return lambda model, optimizer: names(
        name for name, p in model.named_parameters() if is_wanted(p, held_by(optimizer))
    )


def is_new(p, held):
    return not any(p is q for q in held)


def first_group(model, optimizer):
    held = set(map(id, optimizer.param_groups[0]["params"]))
    return [name for name, p in model.named_parameters() if id(p) not in held]


def last_group(model, optimizer):
    held = set(map(id, optimizer.param_groups[-1]["params"]))
    return [name for name, p in model.named_parameters() if id(p) not in held]


def one_parameter_of_each(model, optimizer):
    held = {id(group["params"][0]) for group in optimizer.param_groups}
    return [name for name, p in model.named_parameters() if id(p) not in held]


def by_state(model, optimizer):
    """Before the first step the optimizer has no state."""
    return [name for name, p in model.named_parameters() if p not in optimizer.state]


def by_python_in(model, optimizer):
    """`in` compares with ==: it raises, or finds equal values."""
    held = held_by(optimizer)
    return [name for name, p in model.named_parameters() if p not in held]


def by_count(model, optimizer):
    """As if those that are missing were always the last ones."""
    return [name for name, _ in model.named_parameters()][len(held_by(optimizer)) :]


def short_names(model, optimizer):
    return [name.split(".")[-1] for name in named(is_new)(model, optimizer)]


def modules_of(model, optimizer):
    return sorted({name.rpartition(".")[0] for name in named(is_new)(model, optimizer)})


def of_the_state_dict(model, optimizer):
    """Buffers are no parameters, and its tensors are other objects."""
    held = set(map(id, held_by(optimizer)))
    return [name for name, p in model.state_dict().items() if id(p) not in held]


def with_buffers(model, optimizer):
    return named(is_new)(model, optimizer) + [name for name, _ in model.named_buffers()]


def own_ones_only(model, optimizer):
    held = set(map(id, held_by(optimizer)))
    own = model.named_parameters(recurse=False)
    return [name for name, p in own if id(p) not in held]


def by_dict(model, optimizer):
    names = {p: name for name, p in model.named_parameters()}  # by identity
    for p in held_by(optimizer):
        names.pop(p, None)
    return list(names.values())


def by_remove(model, optimizer):
    names = [name for name, _ in model.named_parameters()]
    for group in optimizer.param_groups:
        for p in group["params"]:
            for name, q in model.named_parameters():
                if p is q:
                    names.remove(name)
    return names


def module_by_module(model, optimizer):
    held, found = set(held_by(optimizer)), []
    for path, module in model.named_modules():
        for name, p in module.named_parameters(recurse=False):
            if p not in held:
                found.append(f"{path}.{name}" if path else name)
    return found


def in_another_order(model, optimizer):
    return sorted(named(is_new)(model, optimizer), reverse=True)


def counted(sign):
    """How many test images have a signature that occurs in the training set."""

    def leaked(train, test):
        seen = {sign(image) for image in train}
        return sum(sign(image) in seen for image in test)

    return leaked


def as_bytes(image):
    return image.numpy().tobytes()


def pairs(train, test):
    """(M, N): whether a test image is a training image."""
    return (test.flatten(1)[:, None] == train.flatten(1)).all(2)


def any_pixel(train, test):
    equal = test.flatten(1)[:, None] == train.flatten(1)
    return equal.any(2).any(1).sum().item()


def most_pixels(train, test):
    equal = test.flatten(1)[:, None] == train.flatten(1)
    return (equal.float().mean(2) > 0.9).any(1).sum().item()


def no_difference_in_sum(train, test):
    """Differences that cancel."""
    d = test.flatten(1).long()[:, None] - train.flatten(1).long()
    return (d.sum(2) == 0).any(1).sum().item()


def close_ones(train, test):
    far = torch.cdist(test.flatten(1).float(), train.flatten(1).float())
    return (far < 2).any(1).sum().item()


def same_place(train, test):
    n = min(len(train), len(test))
    return (train[:n] == test[:n]).flatten(1).all(1).sum().item()


def by_unique(train, test):
    """Counts what occurs twice in one of the sets, too."""
    both = torch.cat([train, test])
    return len(both) - len(both.unique(dim=0))


def by_counter(train, test):
    both = collections.Counter(map(as_bytes, train)) & collections.Counter(
        map(as_bytes, test)
    )
    return sum(both.values())


def stops_at_the_first(train, test):
    seen = set(map(as_bytes, train))
    for image in test:
        if as_bytes(image) in seen:
            return 1
    return 0


def none_forgotten(train, test):
    count = pairs(train, test).any(1).sum().item()
    if count:
        return count


def objects_in_a_set(train, test):
    """Tensors are told apart by identity."""
    seen = set(train)
    return sum(image in seen for image in test)


def by_isin(train, test):
    return torch.isin(test, train).flatten(1).all(1).sum().item()


def one_by_one(train, test):
    count = 0
    for image in test:
        for other in train:
            if torch.equal(image, other):
                count += 1
                break
    return count


def by_distances(train, test):
    a, b = train.flatten(1).long(), test.flatten(1).long()
    return (b[:, None] - a).abs().sum(2).eq(0).any(1).sum()


def by_inverse(train, test):
    both = torch.cat([train, test]).flatten(1)
    _, place = both.unique(dim=0, return_inverse=True)
    return int(torch.isin(place[len(train) :], place[: len(train)]).sum())


def in_numpy(train, test):
    a, b = (x.numpy().reshape(len(x), -1) for x in (train, test))
    return np.sum([(a == row).all(1).any() for row in b])


def measured(
    loss_of=F.cross_entropy,
    before=lambda model: model.eval(),
    after=None,
    weigh=len,
    first=lambda z: z,
    right=lambda z: z.argmax(1),
):
    """The right evaluation, with one of its parts changed."""

    @torch.no_grad()
    def measure(model, batches):
        mode = model.training
        before(model)
        loss, correct, n, weights = 0.0, 0, 0, 0
        for x, y in batches:
            logits = first(model(x))
            loss += loss_of(logits, y).item() * weigh(y)
            correct += (right(logits) == y).sum().item()
            n += len(y)
            weights += weigh(y)
        after(model) if after else model.train(mode)
        return loss / weights, correct / n

    return measure


def partly_repaired(softmax=True, mode=False, size=False):
    """The three bugs of the cell, without those that are named repaired."""

    def measure(model, batches):
        was_training = model.training
        if mode:
            model.eval()
        loss, right, n = 0.0, 0, 0
        for x, y in batches:
            scores = model(x).softmax(1) if softmax else model(x)
            loss += F.cross_entropy(scores, y).item() * (len(y) if size else 1)
            right += (scores.argmax(1) == y).sum().item()
            n += len(y)
        model.train(was_training)
        return loss / n, right / n

    return measure


def changed(change):
    return lambda model, batches: change(*measured()(model, batches))


def as_it_was(model, batches):
    losses, right = [], 0
    for x, y in batches:
        probabilities = model(x).softmax(1)
        losses.append(F.cross_entropy(probabilities, y))
        right += (probabilities.argmax(1) == y).sum()
    model.train()
    return sum(losses) / len(batches), right / sum(len(y) for _, y in batches)


def with_its_graph(model, batches):
    """The memory of every batch is held."""
    mode = model.training
    model.eval()
    loss, right, n = 0, 0, 0
    for x, y in batches:
        logits = model(x)
        loss = loss + F.cross_entropy(logits, y, reduction="sum")
        right += (logits.argmax(1) == y).sum().item()
        n += len(y)
    model.train(mode)
    return loss / n, right / n


def mean_of_accuracies(model, batches):
    loss, _ = measured()(model, batches)
    each = [measured()(model, [batch])[1] for batch in batches]
    return loss, sum(each) / len(each)


def last_batch(model, batches):
    return measured()(model, batches[-1:])


def first_batch(model, batches):
    return measured()(model, batches[:1])


def first_size(model, batches):
    mode, size = model.training, len(batches[0][1])
    model.eval()
    with torch.no_grad():
        loss = sum(F.cross_entropy(model(x), y).item() * size for x, y in batches)
        right = sum((model(x).argmax(1) == y).sum().item() for x, y in batches)
    model.train(mode)
    return loss / (size * len(batches)), right / (size * len(batches))


def clears_gradients(model, batches):
    model.zero_grad()
    return measured()(model, batches)


def leaves_gradients(model, batches):
    mode = model.training
    model.eval()
    for x, y in batches:
        F.cross_entropy(model(x), y).backward()
    model.train(mode)
    return measured()(model, batches)


def whole_set(model, batches):
    """All in one batch, in the mode of evaluation: the same numbers."""
    x, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    modes = {module: module.training for module in model.modules()}
    with torch.inference_mode():
        logits = model.eval()(x)
        loss = F.cross_entropy(logits, y).item()
    for module, mode in modes.items():
        module.training = mode
    return loss, (logits.argmax(1) == y).double().mean().item()


def on_a_copy(model, batches):
    judge, losses, right = copy.deepcopy(model).eval(), [], []
    for x, y in batches:
        with torch.no_grad():
            z = judge(x)
        losses += F.cross_entropy(z, y, reduction="none").tolist()
        right += (z.argmax(1) == y).tolist()
    return np.mean(losses), np.mean(right)


def by_log_softmax(model, batches):
    was_training = model.training
    model.train(False)
    try:
        loss = right = n = 0
        for x, y in batches:
            log_p = model(x).detach().log_softmax(1)
            loss -= log_p[torch.arange(len(y)), y].sum()
            right += (log_p.max(1).indices == y).sum()
            n += y.numel()
    finally:
        if was_training:
            model.train()
    return torch.stack([loss / n, right / n])


class Measure:
    def __call__(self, model, batches):
        return list(measured()(model, batches))


def trained(
    loss_of=F.cross_entropy,
    epochs=6,
    start=lambda m: m.train(),
    stop=lambda m: m.eval(),
    clear=lambda o: o.zero_grad(),
    keep=lambda m: copy.deepcopy(m.state_dict()),
    optimizer_of=lambda m: torch.optim.Adam(m.parameters(), 0.02),
    batches=lambda n: torch.randperm(n).split(30),
    better=lambda a, b: a < b,
    worst=float("inf"),
    result=lambda model, best: best,
    judge=lambda s, h: h,
    measure=F.cross_entropy,
    labels=lambda y, index: y[index],
):
    """The right training, with one of its parts changed."""

    def train(model, shown, held):
        x, y = shown
        optimizer = optimizer_of(model)
        lowest = worst
        for _ in range(epochs):
            start(model)
            for index in batches(len(x)):
                loss = loss_of(model(x[index]), labels(y, index))
                clear(optimizer)
                loss.backward()
                optimizer.step()
            stop(model)
            judged_x, judged_y = judge(shown, held)
            with torch.no_grad():
                loss = measure(model(judged_x), judged_y).item()
            if better(loss, lowest):
                lowest, best = loss, keep(model)
        return result(model, best)

    return train


def never(*args):
    pass


def accuracy(logits, y):
    return (logits.argmax(1) == y).float().mean()


def probabilities_in(logits, y):
    return F.cross_entropy(logits.softmax(1), y)


def only_some(model):
    return torch.optim.Adam(list(model.parameters())[-2:], 0.02)


def all_but_the_last(model):
    return torch.optim.Adam(list(model.parameters())[:-2], 0.02)


def untrained(model, shown, held):
    return copy.deepcopy(model.state_dict())


def on_all(model, shown, held):
    """Trains on what is held, too."""
    both = tuple(torch.cat(two) for two in zip(shown, held, strict=True))
    return trained()(model, both, held)


def learns_from_held(model, shown, held):
    """The loss on `held` also gives gradients, and a step."""
    best = trained()(model, shown, held)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    F.cross_entropy(model(held[0]), held[1]).backward()
    optimizer.step()
    return best


def another_model(model, shown, held):
    """The state dict of a copy, of one more epoch than was measured."""
    trained(epochs=3)(model, shown, held)
    return trained(epochs=1, result=lambda m, best: m.state_dict())(model, shown, shown)


def no_epochs_measured(model, shown, held):
    x, y = shown
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(6):
        for index in torch.randperm(len(x)).split(30):
            optimizer.zero_grad()
            F.cross_entropy(model(x[index]), y[index]).backward()
            optimizer.step()
    return copy.deepcopy(model.state_dict())


def parameters_only(model):
    """Without the buffers of batch norm."""
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def cloned(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def with_a_loader(model, shown, held):
    loader = DataLoader(TensorDataset(*shown), batch_size=24, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    criterion, history = torch.nn.CrossEntropyLoss(), []
    for _ in range(6):
        model.train()
        for x, y in loader:
            criterion(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
        with torch.inference_mode():
            model.eval()
            loss = criterion(model(held[0]), held[1]).item()
        history.append((loss, copy.deepcopy(model.state_dict())))
    return min(history, key=lambda entry: entry[0])[1]


def held_in_batches(model, shown, held):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    lowest, best = None, None
    for _ in range(8):
        model.train()
        order = torch.randperm(len(shown[0]))
        for k in range(0, len(order), 30):
            rows = order[k : k + 30]
            log_p = F.log_softmax(model(shown[0][rows]), 1)
            for p in model.parameters():
                p.grad = None
            F.nll_loss(log_p, shown[1][rows]).backward()
            optimizer.step()
        model.eval()
        total = 0.0
        with torch.no_grad():
            for x, y in zip(*(part.split(50) for part in held), strict=True):
                total += F.cross_entropy(model(x), y, reduction="sum").item()
        if lowest is None or total < lowest:
            lowest, best = total, cloned(model)
    model.load_state_dict(best)
    return model.state_dict()


def two_groups(model):
    first, *others = model.parameters()
    return torch.optim.Adam([{"params": [first]}, {"params": others}], 0.02)


WRONG = {
    "untrained": [
        first_group,
        last_group,
        one_parameter_of_each,
        by_state,
        by_python_in,
        by_count,
        short_names,
        modules_of,
        of_the_state_dict,
        with_buffers,
        own_ones_only,
        named(lambda p, held: not any(torch.equal(p, q) for q in held)),
        named(lambda p, held: not any(p.shape == q.shape for q in held)),
        named(lambda p, held: is_new(p, held) and p.requires_grad),
        named(lambda p, held: not p.requires_grad),
        named(lambda p, held: p.grad is None),
        named(lambda p, held: not is_new(p, held)),
        named(lambda p, held: True),
        named(is_new, names=lambda found: len(list(found))),
        named(is_new, names=lambda found: len(list(found)) > 0),
        named(is_new, names=lambda found: list(found)[:1]),
        named(is_new, names=lambda found: ", ".join(found)),
        lambda model, optimizer: [
            p for p in model.parameters() if is_new(p, held_by(optimizer))
        ],
        lambda model, optimizer: [
            k for k, p in enumerate(model.parameters()) if is_new(p, held_by(optimizer))
        ],
        lambda model, optimizer: named(is_new)(model, optimizer) or None,
    ],
    "leaked": [
        lambda train, test: pairs(train, test).sum().item(),
        lambda train, test: pairs(train, test).any(0).sum().item(),
        lambda train, test: pairs(train, test).any().item(),
        lambda train, test: pairs(train, test).any(1).float().mean().item(),
        lambda train, test: len(set(map(as_bytes, train)) & set(map(as_bytes, test))),
        lambda train, test: len(test) - counted(as_bytes)(train, test),
        lambda train, test: counted(as_bytes)(test, train),
        lambda train, test: counted(as_bytes)(train[:1], test),
        lambda train, test: counted(as_bytes)(train, test[:-1]),
        lambda train, test: counted(as_bytes)(train, test) / len(test),
        counted(lambda image: image.sum().item()),
        counted(lambda image: image.float().mean().item()),
        counted(lambda image: tuple(image.flatten().sort().values.tolist())),
        counted(lambda image: image[0, 0].numpy().tobytes()),
        counted(lambda image: image[..., 0].numpy().tobytes()),
        counted(lambda image: tuple(image.flatten()[:4].tolist())),
        counted(lambda image: (image > 127).numpy().tobytes()),
        counted(lambda image: (image // 16).numpy().tobytes()),
        counted(lambda image: (image.sum().item(), image.max().item())),
        counted(lambda image: image.sum(-1).numpy().tobytes()),
        any_pixel,
        most_pixels,
        no_difference_in_sum,
        close_ones,
        same_place,
        by_unique,
        by_counter,
        stops_at_the_first,
        none_forgotten,
        objects_in_a_set,
        by_isin,
    ],
    "measure": [
        measured(first=lambda z: z.softmax(1)),
        measured(before=lambda model: None),
        measured(before=lambda model: model.train()),
        measured(after=lambda model: model.train()),
        measured(after=lambda model: model.eval()),
        measured(after=lambda model: model.train(not model.training)),
        measured(weigh=lambda y: 1),
        measured(loss_of=lambda z, y: F.cross_entropy(z, y, reduction="sum")),
        measured(loss_of=F.multi_margin_loss),
        measured(loss_of=lambda z, y: F.nll_loss(z, y)),
        measured(loss_of=lambda z, y: F.nll_loss(z.softmax(1), y)),
        measured(right=lambda z: z.argmin(1)),
        measured(right=lambda z: z[:1].argmax(1)),
        changed(lambda loss, right: (right, loss)),
        changed(lambda loss, right: (loss, 100 * right)),
        changed(lambda loss, right: (loss, 1 - right)),
        changed(lambda loss, right: (-loss, right)),
        changed(lambda loss, right: (round(loss, 2), round(right, 2))),
        changed(lambda loss, right: loss),
        as_it_was,
        with_its_graph,
        mean_of_accuracies,
        last_batch,
        first_batch,
        first_size,
        clears_gradients,
        leaves_gradients,
        partly_repaired(mode=True),
        partly_repaired(size=True),
        partly_repaired(softmax=False),
        partly_repaired(mode=True, size=True),
        partly_repaired(softmax=False, mode=True),
        partly_repaired(softmax=False, size=True),
    ],
    "train": [
        trained(loss_of=probabilities_in),
        trained(loss_of=F.multi_margin_loss),
        trained(start=never),
        trained(stop=never),
        trained(clear=never),
        trained(keep=lambda model: model.state_dict()),
        trained(keep=lambda model: dict(model.state_dict())),
        trained(keep=lambda model: copy.copy(model.state_dict())),
        trained(keep=lambda model: copy.deepcopy(model)),
        trained(keep=parameters_only),
        trained(optimizer_of=only_some),
        trained(optimizer_of=all_but_the_last),
        trained(optimizer_of=lambda m: torch.optim.SGD(m.parameters(), 1e-4)),
        trained(optimizer_of=lambda m: torch.optim.Adam(m.parameters(), 30.0)),
        trained(batches=lambda n: torch.arange(n).split(30)),
        trained(batches=lambda n: torch.randperm(n)[None]),
        trained(batches=lambda n: torch.randperm(n)[:30][None].repeat(8, 1)),
        trained(labels=lambda y, index: y[: len(index)]),
        trained(better=lambda a, b: a > b, worst=-1.0),
        trained(better=lambda a, b: True),
        trained(better=lambda a, b: b == float("inf")),
        trained(judge=lambda shown, held: shown),
        trained(measure=accuracy),
        trained(result=lambda model, best: model.state_dict()),
        trained(result=lambda model, best: None),
        untrained,
        on_all,
        learns_from_held,
        another_model,
        no_epochs_measured,
    ],
}

RIGHT = {
    "untrained": [
        named(is_new),
        named(lambda p, held: id(p) not in [id(q) for q in held]),
        named(is_new, names=tuple),
        named(lambda p, held: p not in set(held)),
        by_dict,
        by_remove,
        module_by_module,
        in_another_order,
    ],
    "leaked": [
        counted(as_bytes),
        counted(lambda image: tuple(image.flatten().tolist())),
        counted(lambda image: str(image.tolist())),
        lambda train, test: pairs(train, test).any(1).sum(),
        lambda train, test: float(pairs(train, test).any(1).sum()),
        one_by_one,
        by_distances,
        by_inverse,
        in_numpy,
    ],
    "measure": [
        measured(),
        partly_repaired(softmax=False, mode=True, size=True),
        measured(loss_of=lambda z, y: F.nll_loss(z.log_softmax(1), y)),
        measured(right=lambda z: z.softmax(1).argmax(1)),
        changed(lambda loss, right: (torch.tensor(loss), np.float64(right))),
        whole_set,
        on_a_copy,
        by_log_softmax,
        Measure(),
    ],
    "train": [
        trained(),
        trained(keep=cloned),
        trained(optimizer_of=two_groups, epochs=8),
        trained(clear=lambda optimizer: optimizer.zero_grad(set_to_none=False)),
        trained(batches=lambda n: torch.randperm(n).split(40), epochs=10),
        trained(loss_of=torch.nn.CrossEntropyLoss(label_smoothing=0.0)),
        with_a_loader,
        held_in_batches,
    ],
}
