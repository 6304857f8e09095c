"""The bugs that the detector was built with, and sound trainings that look odd.

In the form of `benchmarks.planted`. Those in another module, `benchmarks.detector_heldout`,
were written by someone who had not seen the rules. Sources are reports on real programs.
"""

import copy
import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from benchmarks.planted import (
    BN,
    MLP,
    Setting,
    in_order,
    planted,
    sgd,
    shuffled,
    sound,
    zero_grad_is_missing,
)
from lessons_src.data import Split

__all__ = ["zero_grad_is_missing"]


def loop(step, before=None, after=None, batches=shuffled):
    """An epoch: step(model, x, y, optimizer) for every batch, in training mode."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in batches(train):
            step(model, x, y, optimizer)
        if after is not None:
            after()

    return train_epoch


def with_loss(setting: Setting, loss) -> Setting:
    """The training with another loss(model, x, y) in its loop."""

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        loss(model, x, y).backward()
        optimizer.step()

    return replace(setting, train_epoch=loop(step))


def with_model(setting: Setting, model: nn.Module) -> Setting:
    """The training of another model."""
    return replace(setting, model=model, optimizer=sgd(model))


def after_model(setting: Setting, function) -> Setting:
    """The training of the model followed by a function of its logits."""

    class Followed(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return function(self.model(x))

    return with_model(setting, Followed(setting.model))


def with_batches(setting: Setting, batches) -> Setting:
    """The training with other batches."""

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        optimizer.step()

    return replace(setting, train_epoch=loop(step, batches=batches))


# The loop ------------------------------------------------------------------------------


@planted("gradients_not_zeroed")
def zeroed_once_an_epoch(setting, data):
    """zero_grad before the loop over batches."""

    def train_epoch(model, train, optimizer):
        model.train()
        optimizer.zero_grad()
        for x, y in shuffled(train):
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch)


@planted("gradients_lost")
def zeroed_before_the_step(setting, data):
    """backward, zero_grad, step."""

    def step(model, x, y, optimizer):
        setting.loss_fn(model(x), y).backward()
        optimizer.zero_grad()
        optimizer.step()

    return replace(setting, train_epoch=loop(step))


@planted("gradients_lost")
def step_outside_the_loop(setting, data):
    """XinyiYS/Gradient-Driven-Rewards#3: an indentation."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
        optimizer.step()

    return replace(setting, train_epoch=train_epoch)


@planted("gradients_lost")
def accumulation_undone(setting, data):
    """A step after every second batch, but zeroed after every one."""

    def train_epoch(model, train, optimizer):
        model.train()
        for k, (x, y) in enumerate(shuffled(train, 32)):
            optimizer.zero_grad()
            (setting.loss_fn(model(x), y) / 2).backward()
            if k % 2 == 1:
                optimizer.step()

    return replace(setting, train_epoch=train_epoch)


@planted("no_step")
def step_is_missing(setting, data):
    """zero_grad and backward, and nothing else."""

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()

    return replace(setting, train_epoch=loop(step))


@planted("no_step")
def backward_is_missing(setting, data):
    """The loss is computed, and nothing is done with it."""

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y)
        optimizer.step()

    return replace(setting, train_epoch=loop(step))


@planted("clipped_too_late")
def clipped_after_the_step(setting, data):
    """awslabs/graphstorm#1366, VGRNN#4."""

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        optimizer.step()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)

    return replace(setting, train_epoch=loop(step))


@planted("clipped_too_late")
def clipped_before_backward(setting, data):
    """nano-world-model#22."""

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        loss = setting.loss_fn(model(x), y)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        loss.backward()
        optimizer.step()

    return replace(setting, train_epoch=loop(step))


@planted("optimizer_recreated")
def optimizer_in_the_loop(setting, data):
    """A new one for every epoch."""

    def train_epoch(model, train, optimizer):
        setting.train_epoch(model, train, sgd(model))

    return replace(setting, train_epoch=train_epoch)


@planted("eval_mode_in_training", networks=("bn",))
def stays_in_evaluation_mode(setting, data):
    """pytorch/tutorials#1602, on Fashion-MNIST: train() before the epochs, not in them."""

    def train_epoch(model, train, optimizer):
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch)


@planted("train_mode_in_evaluation", networks=("bn",))
def eval_is_missing(setting, data):
    """evaluate under no_grad, but in training mode."""

    @torch.no_grad()
    def evaluate(model, test):
        right = sum(
            (model(x).argmax(1) == y).sum().item() for x, y in in_order(test, 100)
        )
        return right / len(test)

    return replace(setting, evaluate=evaluate)


@planted("evaluation_changes_model")
def evaluation_trains(setting, data):
    """The loop copied with its backward and step."""

    def evaluate(model, test):
        model.eval()
        loss = 0.0
        for x, y in in_order(test):
            setting.optimizer.zero_grad()
            batch_loss = setting.loss_fn(model(x), y)
            batch_loss.backward()
            setting.optimizer.step()
            loss += batch_loss.item() * len(y)
        return loss / len(test)

    return replace(setting, evaluate=evaluate)


def scheduled(setting: Setting, scheduler, each: str) -> Setting:
    """The training with a scheduler stepped after each "batch" or "epoch", or "never"."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()
            if each == "batch":
                scheduler.step()
        if each == "epoch":
            scheduler.step()

    return replace(setting, train_epoch=train_epoch, scheduler=scheduler)


schedules = torch.optim.lr_scheduler


@planted("schedule_never_moves")
def scheduler_is_not_stepped(setting, data):
    """It is made, and forgotten."""
    return scheduled(setting, schedules.StepLR(setting.optimizer, 1, 0.5), "never")


@planted("schedule_never_moves")
def scheduler_of_another_optimizer(setting, data):
    """The optimizer was made again after the scheduler."""
    return scheduled(setting, schedules.StepLR(sgd(setting.model), 1, 0.5), "epoch")


@planted("schedule_never_moves")
def one_cycle_by_the_epoch(setting, data):
    """OneCycleLR counts batches."""
    steps = 5 * math.ceil(len(data.train) / 64)
    cycle = schedules.OneCycleLR(setting.optimizer, 0.1, total_steps=steps)
    return scheduled(setting, cycle, "epoch")


@planted("schedule_per_batch")
def step_by_the_batch(setting, data):
    """pytorch/tutorials#640."""
    return scheduled(setting, schedules.StepLR(setting.optimizer, 7, 0.1), "batch")


@planted("schedule_per_batch")
def cosine_by_the_batch(setting, data):
    """T_max in epochs, stepped by batches."""
    cosine = schedules.CosineAnnealingLR(setting.optimizer, T_max=10)
    return scheduled(setting, cosine, "batch")


@planted("best_state_is_live")
def best_by_reference(setting, data):
    """pytorch/tutorials#188."""
    return replace(setting, best_state=setting.model.state_dict())


@planted("best_state_is_live")
def best_as_a_shallow_copy(setting, data):
    """dict() copies names, not tensors."""
    best = {name: t.detach() for name, t in setting.model.state_dict().items()}
    return replace(setting, best_state=best)


@planted("reported_average")
def loss_divided_by_the_examples(setting, data):
    """pytorch/tutorials#1486, on Fashion-MNIST."""

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        loss, right = 0.0, 0
        for x, y in in_order(test):
            logits = model(x)
            loss += setting.loss_fn(logits, y).item()
            right += (logits.argmax(1) == y).sum().item()
        return {"loss": loss / len(test), "accuracy": right / len(test)}

    return replace(setting, evaluate=evaluate)


@planted("reported_average")
def last_batch_reported(setting, data):
    """2D-Hand-Pose-Estimation-RGB#2: the loss of an epoch is that of its last batch."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            loss = setting.loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
        return loss.item()

    return replace(setting, train_epoch=train_epoch)


@planted("reported_average")
def accuracy_by_batches(setting, data):
    """Right answers divided by the number of batches."""

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        pairs = [(model(x), y) for x, y in in_order(test)]
        right = sum((logits.argmax(1) == y).sum().item() for logits, y in pairs)
        return right / len(pairs)

    return replace(setting, evaluate=evaluate)


# The optimizer -------------------------------------------------------------------------


@planted("not_in_optimizer")
def head_replaced_later(setting, data):
    """meta-pytorch/opacus#432: the optimizer holds the old head."""
    model = setting.model
    if isinstance(model, MLP):
        model.out = nn.Linear(64, 10)
    elif isinstance(model, BN):
        model.fc = nn.Linear(400, 10)
    else:
        model[-1] = nn.Linear(400, 10)
    return setting


@planted("not_in_optimizer")
def only_the_head(setting, data):
    """The optimizer was given the last layer's parameters."""
    last = list(setting.model.parameters())[-2:]
    return replace(setting, optimizer=torch.optim.Adam(last))


@planted("learning_rate")
def rate_far_too_small(setting, data):
    """Three zeros too many."""
    optimizer = torch.optim.SGD(setting.model.parameters(), lr=1e-6)
    return replace(setting, optimizer=optimizer)


@planted("learning_rate")
def rate_far_too_large(setting, data):
    """Adam with a rate of 3."""
    return replace(
        setting, optimizer=torch.optim.Adam(setting.model.parameters(), lr=3.0)
    )


# The loss ------------------------------------------------------------------------------


@planted("softmax_twice")
def softmax_in_the_network(setting, data):
    """jaehong31/CGES#1, on MNIST."""
    return after_model(setting, nn.Softmax(dim=1))


@planted("softmax_twice")
def softmax_in_the_loop(setting, data):
    """ml_privacy_meter#95."""
    return with_loss(setting, lambda m, x, y: F.cross_entropy(m(x).softmax(-1), y))


@planted("activation_on_logits")
def relu_on_the_logits(setting, data):
    """An official beginner's model."""
    return after_model(setting, F.relu)


@planted("activation_on_logits")
def sigmoid_on_the_logits(setting, data):
    """One for each class, before cross-entropy."""
    return after_model(setting, torch.sigmoid)


@planted("softmax_over_batch")
def log_softmax_over_the_batch(setting, data):
    """book_DeepLearning_in_PyTorch_Source#8, on MNIST."""
    followed = after_model(setting, nn.LogSoftmax(dim=0))
    return with_loss(followed, lambda m, x, y: F.nll_loss(m(x), y))


@planted("softmax_over_batch")
def softmax_over_the_batch_in_the_loop(setting, data):
    """dim=0 before cross-entropy."""
    return with_loss(setting, lambda m, x, y: setting.loss_fn(F.softmax(m(x), 0), y))


@planted("nll_without_log")
def nll_of_logits(setting, data):
    """log_softmax forgotten."""
    changed = with_loss(setting, lambda m, x, y: F.nll_loss(m(x), y))
    return replace(changed, loss_fn=nn.NLLLoss())


@planted("nll_without_log")
def nll_of_probabilities(setting, data):
    """softmax in the place of log_softmax."""
    changed = after_model(replace(setting, loss_fn=nn.NLLLoss()), nn.Softmax(dim=1))
    return with_loss(changed, lambda m, x, y: F.nll_loss(m(x), y))


@planted("wrong_sign")
def minus_before_the_loss(setting, data):
    """As if a likelihood were maximised."""
    return with_loss(setting, lambda m, x, y: -setting.loss_fn(m(x), y))


@planted("wrong_sign")
def maximize(setting, data):
    """An option of the optimizer."""
    up = torch.optim.SGD(setting.model.parameters(), lr=0.05, maximize=True)
    return replace(setting, optimizer=up)


@planted("wrong_sign")
def log_likelihood_minimised(setting, data):
    """The loss written by hand, without its minus."""

    def loss(model, x, y):
        return model(x).log_softmax(1)[torch.arange(len(y)), y].mean()

    return replace(with_loss(setting, loss), loss_fn=setting.loss_fn)


@planted("averaged_twice")
def mean_divided_by_the_batch(setting, data):
    """The mean loss divided by the batch size."""
    return with_loss(setting, lambda m, x, y: setting.loss_fn(m(x), y) / len(y))


@planted("averaged_twice")
def mean_divided_by_the_examples(setting, data):
    """The mean loss divided by the number of training images."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            loss = setting.loss_fn(model(x), y) / len(train)
            loss.backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch)


def regression(setting: Setting, loss) -> Setting:
    """The training of a network with one output, the digit as a number."""
    if isinstance(setting.model, nn.Sequential):
        setting.model[-1] = nn.Linear(400, 1)
    elif isinstance(setting.model, MLP):
        setting.model.out = nn.Linear(64, 1)
    else:
        setting.model.fc = nn.Linear(400, 1)

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        return F.mse_loss(model(test.images).squeeze(1), test.labels / 9).item()

    changed = with_model(setting, setting.model)
    return replace(with_loss(changed, loss), loss_fn=F.mse_loss, evaluate=evaluate)


@planted("broadcast_in_loss")
def mse_of_two_shapes(setting, data):
    """fastai#1863: (B, 1) against (B,)."""
    return regression(setting, lambda m, x, y: F.mse_loss(m(x), y / 9))


@planted("broadcast_in_loss")
def squares_of_two_shapes(setting, data):
    """The same, written by hand."""
    return regression(setting, lambda m, x, y: ((m(x) - y / 9) ** 2).mean())


# The model -----------------------------------------------------------------------------


class InAList(nn.Module):
    """(B, 1, 28, 28) -> logits (B, 10); its hidden layers stand in a list."""

    def __init__(self):
        super().__init__()
        self.layers = [nn.Linear(784, 64), nn.Linear(64, 64)]
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        x = x.flatten(1)
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x)


@planted("plain_list", networks=("mlp",))
def layers_in_a_list(setting, data):
    """texar-pytorch#72."""
    return with_model(setting, InAList())


@planted("plain_list", networks=("cnn", "bn"))
def layers_in_a_dict(setting, data):
    """The same with a dict, of convolutions."""

    class Blocks(nn.Module):
        def __init__(self, norm):
            super().__init__()
            norms = (nn.BatchNorm2d(8),) if norm else ()
            self.blocks = {
                "first": nn.Sequential(nn.Conv2d(1, 8, 5, 2), *norms, nn.ReLU()),
                "second": nn.Sequential(nn.Conv2d(8, 16, 3, 2), nn.ReLU()),
            }
            self.head = nn.Linear(400, 10)

        def forward(self, x):
            x = self.blocks["second"](self.blocks["first"](x))
            return self.head(x.flatten(1))

    return with_model(setting, Blocks(isinstance(setting.model, BN)))


@planted("same_layer_repeated")
def one_layer_three_times(setting, data):
    """pytorch-vq-vae#2: [layer] * 3."""
    blocks = [nn.Linear(64, 64), nn.ReLU()] * 3
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), *blocks, nn.Linear(64, 10)
    )
    return with_model(setting, model)


@planted("same_layer_repeated")
def one_convolution_in_a_module_list(setting, data):
    """U-Net_v2#10: nn.ModuleList([block] * 2)."""

    class Repeated(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv2d(1, 8, 5, 2)
            block = nn.Sequential(
                nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
            )
            self.blocks = nn.ModuleList([block] * 2)
            self.head = nn.Linear(8, 10)

        def forward(self, x):
            x = self.first(x).relu()
            for block in self.blocks:
                x = block(x)
            return self.head(x.amax((2, 3)))

    return with_model(setting, Repeated())


def cut(setting: Setting, function) -> Setting:
    """The training of a network with a function between its hidden layers."""

    class Cut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 8, 5, 2)
            self.fc1, self.fc2 = nn.Linear(1152, 32), nn.Linear(32, 10)

        def forward(self, x):
            x = function(self.conv(x).relu().flatten(1))
            return self.fc2(self.fc1(x).relu())

    return with_model(setting, Cut())


@planted("detached")
def detach_in_forward(setting, data):
    """detach() left over from looking at features."""
    return cut(setting, lambda x: x.detach())


@planted("detached")
def through_numpy(setting, data):
    """To NumPy and back."""
    return cut(setting, lambda x: torch.from_numpy(x.detach().numpy()))


@planted("unused_layer")
def first_layer_twice(setting, data):
    """conv2 is made; conv1 is called in its place."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1 = nn.Linear(784, 64)
            self.fc2, self.fc3 = nn.Linear(64, 64), nn.Linear(64, 64)
            self.out = nn.Linear(64, 10)

        def forward(self, x):
            x = F.relu(self.fc1(x.flatten(1)))
            x = F.relu(self.fc2(x))
            return self.out(F.relu(self.fc2(x)))

    return with_model(setting, Twice())


@planted("missing_activation")
def linear_after_linear(setting, data):
    """No ReLU after the first layer."""
    if isinstance(setting.model, MLP):
        layers = nn.Flatten(), nn.Linear(784, 64), nn.Linear(64, 64), nn.ReLU()
        return with_model(setting, nn.Sequential(*layers, nn.Linear(64, 10)))
    norm = [nn.BatchNorm2d(8)] if isinstance(setting.model, BN) else []
    layers = nn.Conv2d(1, 8, 5, 2), *norm, nn.Conv2d(8, 16, 3, 2), nn.ReLU()
    return with_model(setting, nn.Sequential(*layers, nn.Flatten(), nn.Linear(400, 10)))


@planted("constant_init")
def constant_weights(setting, data):
    """nn.init.constant_ on every layer."""
    with torch.no_grad():
        for p in setting.model.parameters():
            if p.ndim > 1:
                p.fill_(0.02)
    return setting


@planted("constant_init")
def zero_weights(setting, data):
    """Everything starts at zero."""
    with torch.no_grad():
        for p in setting.model.parameters():
            if p.ndim > 1:
                p.zero_()
    return setting


def between(setting: Setting, function) -> Setting:
    """The training of a network whose hidden layer is followed by function(x, module)."""

    class Between(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(784, 64), nn.Linear(64, 10)

        def forward(self, x):
            return self.fc2(function(F.relu(self.fc1(x.flatten(1)))))

    return with_model(setting, Between())


@planted("random_in_evaluation")
def functional_dropout(setting, data):
    """F.dropout is in training mode unless it is told otherwise."""
    return between(setting, lambda x: F.dropout(x, 0.3))


@planted("random_in_evaluation")
def dropout_made_in_forward(setting, data):
    """yangze0930/NTS-Net#14."""
    return between(setting, lambda x: nn.Dropout(0.3)(x))


@planted("depends_on_batch")
def normalised_by_the_batch(setting, data):
    """Features less their mean over the batch, in evaluation too."""
    return between(setting, lambda x: x - x.mean(0))


@planted("depends_on_batch", networks=("bn",))
def no_running_statistics(setting, data):
    """BatchNorm2d(track_running_stats=False)."""
    setting.model.bn1 = nn.BatchNorm2d(8, track_running_stats=False)
    return with_model(setting, setting.model)


# The data ------------------------------------------------------------------------------


@planted("not_shuffled")
def sorted_by_class(setting, data):
    """Deci-AI/super-gradients#416: in the order of the folders, never shuffled."""
    order = setting.train.labels.argsort(stable=True)
    return with_batches(replace(setting, train=setting.train[order]), in_order)


@planted("not_shuffled")
def loader_without_shuffle(setting, data):
    """The same with a DataLoader."""
    order = setting.train.labels.argsort(stable=True)
    split = setting.train[order]
    loader = DataLoader(TensorDataset(split.images, split.labels), 64)
    return with_batches(replace(setting, train=loader), iter)


@planted("labels_apart")
def permuted_apart(setting, data):
    """Two permutations, when the data are prepared."""
    images, labels = setting.train.images, setting.train.labels
    return replace(setting, train=Split(images, labels[torch.randperm(len(labels))]))


@planted("labels_apart")
def batch_permuted_apart(setting, data):
    """The images of each batch are permuted, its labels are not."""

    def batches(train):
        for x, y in shuffled(train):
            yield x[torch.randperm(len(x))], y

    return with_batches(setting, batches)


@planted("labels_apart")
def mixed_apart(setting, data):
    """xudonmao/VMT#1: mixup with two permutations."""

    def batches(train):
        for x, y in shuffled(train):
            y = F.one_hot(y, 10).float()
            x = 0.7 * x + 0.3 * x[torch.randperm(len(x))]
            yield x, 0.7 * y + 0.3 * y[torch.randperm(len(y))]

    return with_batches(setting, batches)


@planted("pixel_range")
def pixels_to_255(setting, data):
    """pytorch/vision#546: float, but not divided."""
    train, test = (Split(s.images.float(), s.labels) for s in (data.train, data.test))
    return replace(setting, train=train, test=test)


@planted("pixel_range")
def divided_twice(setting, data):
    """ToTensor has divided already."""
    train, test = (
        Split(s.scaled().images / 255, s.labels) for s in (data.train, data.test)
    )
    return replace(setting, train=train, test=test)


@planted("test_preprocessing")
def test_only_scaled(setting, data):
    """pytorch/tutorials#2419: training images are normalised, test images are not."""
    return replace(setting, test=data.test.scaled())


@planted("test_preprocessing")
def test_not_scaled(setting, data):
    """mlpack/examples#213."""
    test = Split(data.test.images.float(), data.test.labels)
    return replace(setting, test=test)


@planted("test_preprocessing")
def test_transposed(setting, data):
    """Height and width exchanged, as EMNIST lies."""
    test = Split(setting.test.images.transpose(2, 3), setting.test.labels)
    return replace(setting, test=test)


class Augmented(Dataset):
    """Images (1, 28, 28) that are moved by up to 3 pixels and get noise."""

    def __init__(self, split):
        self.split = split

    def __len__(self):
        return len(self.split)

    def __getitem__(self, k):
        image = self.split.images[k].roll(torch.randint(-3, 4, (2,)).tolist(), (1, 2))
        return image + 0.1 * torch.randn(image.shape), self.split.labels[k]


def loader_evaluate(setting):
    """evaluate(model, loader) -> (loss, accuracy)."""

    @torch.no_grad()
    def evaluate(model, loader):
        model.eval()
        loss, right = 0.0, 0
        for x, y in loader:
            logits = model(x)
            loss += setting.loss_fn(logits, y).item() * len(y)
            right += (logits.argmax(1) == y).sum().item()
        return loss / len(loader.dataset), right / len(loader.dataset)

    return evaluate


@planted("test_augmented")
def test_images_augmented(setting, data):
    """udacity/deep-learning-v2-pytorch#132: one transform for both splits."""
    loader = DataLoader(Augmented(setting.train), 64, shuffle=True)
    changed = with_batches(replace(setting, train=loader), iter)
    test = DataLoader(Augmented(setting.test), 500)
    return replace(changed, test=test, evaluate=loader_evaluate(setting))


@planted("test_in_train")
def test_is_the_training_set(setting, data):
    """Inside-Deep-Learning#25, on Fashion-MNIST."""
    return replace(setting, test=setting.train)


@planted("test_in_train")
def split_overlaps(setting, data):
    """Validation images drawn, but not taken out."""
    held_out = setting.train[torch.randperm(len(setting.train))[:5000]]
    return replace(setting, test=held_out)


# Symptoms ------------------------------------------------------------------------------


@planted("initial_loss")
def weights_far_too_large(setting, data):
    """torch.randn without a factor."""
    with torch.no_grad():
        for p in setting.model.parameters():
            if p.ndim > 1:
                p.normal_()
    return setting


@planted("cannot_overfit")
def only_the_border(setting, data):
    """A slice that leaves nothing but the empty border."""

    class Border(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(56, 64), nn.Linear(64, 10)

        def forward(self, x):
            x = (x > x.median()).float()[:, :, :2] * 0  # (B, 1, 2, 28)
            return self.fc2(F.relu(self.fc1(x.flatten(1))))

    return with_model(setting, Border())


@planted("evaluation_random")
def evaluated_on_a_random_part(setting, data):
    """A hundred test images, drawn anew each time."""

    def evaluate(model, test):
        return setting.evaluate(model, test[torch.randperm(len(test))[:100]])

    return replace(setting, evaluate=evaluate)


@planted("other_model")
def trains_a_copy(setting, data):
    """The loop trains a copy of the model."""

    def train_epoch(model, train, optimizer):
        mine = copy.deepcopy(model)
        setting.train_epoch(mine, train, sgd(mine))

    return replace(setting, train_epoch=train_epoch)


# Sound, though it looks odd ------------------------------------------------------------


@planted(None)
def log_softmax_before_nll(setting, data):
    """The same as cross-entropy on logits."""
    followed = after_model(replace(setting, loss_fn=nn.NLLLoss()), nn.LogSoftmax(dim=1))
    evaluate = sound("mlp", data).evaluate
    return replace(
        with_loss(followed, lambda m, x, y: F.nll_loss(m(x), y)), evaluate=evaluate
    )


@planted(None)
def log_softmax_before_cross_entropy(setting, data):
    """pytorch/examples#719: log_softmax twice is log_softmax."""
    return after_model(setting, nn.LogSoftmax(dim=1))


@planted(None)
def zeroed_after_the_step(setting, data):
    """backward, step, zero_grad."""

    def step(model, x, y, optimizer):
        setting.loss_fn(model(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()

    return replace(setting, train_epoch=loop(step))


@planted(None)
def first_layer_frozen(setting, data):
    """requires_grad_(False), though the optimizer holds it."""
    next(iter(setting.model.children())).requires_grad_(False)
    return setting


@planted(None)
def accumulated(setting, data):
    """A step after every fourth batch of 16."""

    def train_epoch(model, train, optimizer):
        model.train()
        optimizer.zero_grad()
        for k, (x, y) in enumerate(shuffled(train, 16), 1):
            (setting.loss_fn(model(x), y) / 4).backward()
            if k % 4 == 0:
                optimizer.step()
                optimizer.zero_grad()

    return replace(setting, train_epoch=train_epoch)


@planted(None)
def weights_tied(setting, data):
    """One layer called twice, and a decoder that has the encoder's weight."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.down, self.shared = nn.Linear(784, 64), nn.Linear(64, 64)
            self.again, self.out = nn.Linear(64, 64, bias=False), nn.Linear(64, 10)
            self.again.weight = self.shared.weight

        def forward(self, x):
            x = F.relu(self.shared(F.relu(self.down(x.flatten(1)))))
            return self.out(F.relu(self.again(F.relu(self.shared(x)))))

    return with_model(setting, Tied())


@planted(None)
def in_the_order_of_the_file(setting, data):
    """Never shuffled, but the file is."""
    return with_batches(setting, in_order)


@planted(None)
def summed_loss(setting, data):
    """reduction="sum", and a learning rate for it."""
    optimizer = torch.optim.SGD(setting.model.parameters(), lr=0.05 / 64)
    changed = with_loss(
        setting, lambda m, x, y: F.cross_entropy(m(x), y, reduction="sum")
    )
    return replace(changed, optimizer=optimizer)


@planted(None, networks=("mlp", "cnn"))
def evaluation_mode_without_consequence(setting, data):
    """tk-rusch/coRNN#1: nothing in the network knows the difference."""
    return stays_in_evaluation_mode.plant(setting, data)


@planted(None)
def backward_under_no_grad(setting, data):
    """d2l-ai/d2l-en#2573: gradients are computed all the same."""

    def step(model, x, y, optimizer):
        loss = setting.loss_fn(model(x), y)
        with torch.no_grad():
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return replace(setting, train_epoch=loop(step))


@planted(None)
def mixup(setting, data):
    """One permutation for images and labels."""

    def batches(train):
        for x, y in shuffled(train):
            order, y = torch.randperm(len(x)), F.one_hot(y, 10).float()
            yield 0.7 * x + 0.3 * x[order], 0.7 * y + 0.3 * y[order]

    return with_batches(setting, batches)


@planted(None)
def squared_error(setting, data):
    """Against one-hot labels."""

    def loss(logits, y):
        return F.mse_loss(logits, F.one_hot(y, 10).float())

    changed = with_loss(setting, lambda m, x, y: loss(m(x), y))
    return replace(changed, loss_fn=loss)


@planted(None)
def clipped(setting, data):
    """backward, clip, step."""

    def step(model, x, y, optimizer):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()

    return replace(setting, train_epoch=loop(step))


@planted(None)
def one_cycle(setting, data):
    """OneCycleLR, stepped after every batch."""
    steps = 5 * math.ceil(len(data.train) / 64)
    cycle = schedules.OneCycleLR(setting.optimizer, 0.1, total_steps=steps)
    return scheduled(setting, cycle, "batch")


@planted(None)
def rate_by_the_epoch(setting, data):
    """StepLR, stepped after every epoch; and a best state that is a copy."""
    best = copy.deepcopy(setting.model.state_dict())
    changed = scheduled(setting, schedules.StepLR(setting.optimizer, 30, 0.1), "epoch")
    return replace(changed, best_state=best)


@planted(None)
def last_layer_at_zero(setting, data):
    """The last layer starts at zero: every class is as likely."""
    last = list(setting.model.parameters())[-2:]
    with torch.no_grad():
        for p in last:
            p.zero_()
    return setting


@planted(None)
def loaders_with_augmentation(setting, data):
    """DataLoaders; only the training images are moved."""
    loader = DataLoader(Augmented(setting.train), 64, shuffle=True)
    changed = with_batches(replace(setting, train=loader), iter)
    test = DataLoader(TensorDataset(setting.test.images, setting.test.labels), 500)
    return replace(changed, test=test, evaluate=loader_evaluate(setting))


@planted(None, networks=("bn",))
def frozen_batch_norm(setting, data):
    """The norm layers stay in evaluation mode, the rest of the network does not."""

    def train_epoch(model, train, optimizer):
        model.train()
        model.bn1.eval()
        model.bn2.eval()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch)


@planted(None)
def pixels_divided_in_forward(setting, data):
    """The splits are from 0 to 255; the network divides."""

    class Divides(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x / 255)

    train, test = (Split(s.images.float(), s.labels) for s in (data.train, data.test))
    changed = with_model(setting, Divides(setting.model))
    return replace(changed, train=train, test=test)


@planted(None)
def closure(setting, data):
    """optimizer.step(closure)."""

    def step(model, x, y, optimizer):
        def loss():
            optimizer.zero_grad()
            value = setting.loss_fn(model(x), y)
            value.backward()
            return value

        optimizer.step(loss)

    return replace(setting, train_epoch=loop(step))


@planted(None)
def mean_of_the_epoch(setting, data):
    """train_epoch returns mean loss and accuracy in percent."""

    def train_epoch(model, train, optimizer):
        model.train()
        loss, right = 0.0, 0
        for x, y in shuffled(train):
            optimizer.zero_grad()
            logits = model(x)
            batch_loss = setting.loss_fn(logits, y)
            batch_loss.backward()
            optimizer.step()
            loss += batch_loss.item() * len(y)
            right += (logits.argmax(1) == y).sum().item()
        return loss / len(train), 100 * right / len(train)

    return replace(setting, train_epoch=train_epoch)
