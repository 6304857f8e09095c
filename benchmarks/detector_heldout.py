"""Held-out trainings for the detector, by someone who had not seen its rules.

Six other networks (a residual net, one with group norm, a perceptron with layer norm
and dropout, a small vision transformer, depthwise convolutions, a recurrent net over the
rows), other optimizers, other spellings. What stands last is sound, odd as it looks.

On import the networks join `benchmarks.planted.NETWORKS`.
"""

import copy
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.planted import BATCH, NETWORKS, in_order, planted, shuffled
from lessons_src.data import Split

MNIST, FASHION = ("mnist",), ("fashion-mnist",)

# Networks ------------------------------------------------------------------------------


class Residual(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    def __init__(self, block=Residual):
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(1, 12, 3, 2, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU()
        )
        self.body = nn.Sequential(block(12, 12), block(12, 24, stride=2))
        self.head = nn.Linear(24, 10)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class GroupNormNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, stride=2, padding=1)
        self.norm1 = nn.GroupNorm(4, 16)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.norm2 = nn.GroupNorm(8, 32)
        self.head = nn.Linear(32 * 4, 10)

    def features(self, x):
        x = F.silu(self.norm1(self.conv1(x)))
        x = F.silu(self.norm2(self.conv2(x)))
        return F.adaptive_avg_pool2d(x, 2).flatten(1)

    def forward(self, x):
        return self.head(self.features(x))


def perceptron(sizes=(784, 96, 48), p=0.2):
    """Linear, layer norm, GELU and dropout, twice."""
    layers = [nn.Flatten()]
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.LayerNorm(outputs)]
        layers += [nn.GELU(), nn.Dropout(p)]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def attend(self, q, k, v):
        return (q @ k.transpose(-2, -1) * self.scale).softmax(dim=-1) @ v

    def forward(self, x):
        B, T, D = x.shape
        qkv = self.qkv(x).view(B, T, 3, self.heads, D // self.heads)
        x = self.attend(*qkv.permute(2, 0, 3, 1, 4))  # each (B, heads, T, D / heads)
        return self.out(x.transpose(1, 2).reshape(B, T, D))


class Block(nn.Module):
    attention = Attention

    def __init__(self, dim=32, heads=4, p=0.1):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), self.attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim), nn.Dropout(p)
        )

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """16 patches of 7 x 7 pixels and a class token."""

    def __init__(self, block=Block, depth=2, dim=32):
        super().__init__()
        self.patches = nn.Conv2d(1, dim, 7, stride=7)
        self.cls_token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 17, dim) * 0.02)
        self.blocks = self.make_blocks(block, depth, dim)
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, 10)

    def make_blocks(self, block, depth, dim):
        return nn.ModuleList([block(dim) for _ in range(depth)])

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)  # (B, 16, dim)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(self.pool(x)))

    def pool(self, x):
        return x[:, 0]


class Mobile(nn.Module):
    """Depthwise separable convolutions with batch norm."""

    def __init__(self, bn=nn.BatchNorm2d):
        super().__init__()

        def conv(inputs, outputs, size, stride=1, groups=1):
            padding = size // 2
            layer = nn.Conv2d(inputs, outputs, size, stride, padding, 1, groups, False)
            return [layer, bn(outputs), nn.ReLU6()]

        self.features = nn.Sequential(
            *conv(1, 16, 3, stride=2),
            *conv(16, 16, 3, stride=2, groups=16),
            *conv(16, 32, 1),
            *conv(32, 32, 3, groups=32),
            *conv(32, 32, 1),
        )
        self.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(32, 10))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class RowGRU(nn.Module):
    """Reads an image row by row."""

    def __init__(self, hidden=48):
        super().__init__()
        self.gru = nn.GRU(28, hidden, batch_first=True)
        self.fc = nn.Linear(hidden, 10)

    def forward(self, x):
        out, _ = self.gru(x.squeeze(1))
        return self.fc(out[:, -1])


NETWORKS.update(
    resnet=ResNet,
    groupnorm=GroupNormNet,
    perceptron=perceptron,
    vit=ViT,
    mobile=Mobile,
    gru=RowGRU,
)

# What many of the trainings need -------------------------------------------------------


def adamw(model, lr=2e-3):
    return torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)


def trainer(criterion):
    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train_epoch


def evaluator(criterion, reduction="mean"):
    def evaluate(model, test):
        model.eval()
        total = hits = 0
        with torch.no_grad():
            for x, y in in_order(test, 500):
                out = model(x)
                loss = criterion(out, y).item()
                total += loss * len(y) if reduction == "mean" else loss
                hits += int((out.argmax(dim=1) == y).sum())
        return total / len(test), hits / len(test)

    return evaluate


def with_loss(setting, criterion, optimizer=None):
    """The training with another loss."""
    return replace(
        setting,
        loss_fn=criterion,
        optimizer=optimizer or adamw(setting.model),
        train_epoch=trainer(criterion),
        evaluate=evaluator(criterion),
    )


def with_model(setting, model, optimizer=None):
    """The training with another model, and AdamW."""
    return replace(setting, model=model, optimizer=optimizer or adamw(model))


def shift(x):
    """The images, each batch moved by up to three pixels."""
    dy, dx = torch.randint(-3, 4, (2,)).tolist()
    return torch.roll(x, (dy, dx), dims=(2, 3))


# Bugs in the loop ----------------------------------------------------------------------


@planted("gradients_not_zeroed", ("groupnorm",))
def zeroed_once_an_epoch(setting, data):
    """Gradient accumulation, but nothing is zeroed after the step."""
    accumulate = 2

    def train_epoch(model, train, optimizer):
        model.train()
        optimizer.zero_grad()
        for i, (x, y) in enumerate(shuffled(train, BATCH // accumulate)):
            loss = setting.loss_fn(model(x), y) / accumulate
            loss.backward()
            if (i + 1) % accumulate == 0:
                optimizer.step()

    return replace(setting, train_epoch=train_epoch, optimizer=adamw(setting.model))


@planted("gradients_not_zeroed", ("resnet",), FASHION)
def only_the_head_is_zeroed(setting, data):
    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            model.head.zero_grad()
            loss = setting.loss_fn(model(x), y)
            loss.backward()
            optimizer.step()

    optimizer = torch.optim.RMSprop(setting.model.parameters(), lr=1e-3)
    return replace(setting, train_epoch=train_epoch, optimizer=optimizer)


@planted("gradients_lost", ("perceptron", "mobile"), FASHION)
def zeroed_for_every_micro_batch(setting, data):
    """Three of four micro-batches are computed for nothing."""
    steps = 4

    def train_epoch(model, train, optimizer):
        model.train()
        for i, (x, y) in enumerate(shuffled(train, BATCH // steps)):
            optimizer.zero_grad()
            (setting.loss_fn(model(x), y) / steps).backward()
            if i % steps == steps - 1:
                optimizer.step()

    return replace(setting, train_epoch=train_epoch)


@planted("gradients_lost", ("vit",), MNIST)
def zeroed_between_two_views(setting, data):
    """The loss on the clean images is thrown away, only the noisy view teaches."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            clean = setting.loss_fn(model(x), y)
            optimizer.zero_grad()
            clean.backward()

            noisy = setting.loss_fn(model(x + 0.1 * torch.randn_like(x)), y)
            optimizer.zero_grad()
            noisy.backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch, optimizer=adamw(setting.model))


@planted("no_step", ("gru", "perceptron"), MNIST)
def step_after_the_loop(setting, data):
    """One update an epoch: the indentation of the last line."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            loss = setting.loss_fn(model(x), y)
            loss.backward()
        optimizer.step()

    optimizer = torch.optim.Adagrad(setting.model.parameters(), lr=0.01)
    return replace(setting, train_epoch=train_epoch, optimizer=optimizer)


@planted("clipped_too_late", ("mobile",), FASHION)
def clamped_by_hand_after_the_step(setting, data):
    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()
            for p in model.parameters():
                p.grad.data.clamp_(-0.01, 0.01)

    return replace(setting, train_epoch=train_epoch)


@planted("clipped_too_late", ("gru",))
def clipped_just_before_zero_grad(setting, data):
    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            loss = setting.loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            nn.utils.clip_grad_norm_(model.parameters(), max_norm=0.25)
            optimizer.zero_grad()

    return replace(setting, train_epoch=train_epoch)


@planted("optimizer_recreated", ("resnet", "perceptron"), MNIST)
def adam_made_in_a_helper_for_each_batch(setting, data):
    """The moments never live longer than a step."""

    def update(model, loss, lr=1e-3):
        optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            update(model, setting.loss_fn(model(x), y))

    optimizer = torch.optim.Adam(setting.model.parameters(), lr=1e-3)
    return replace(setting, train_epoch=train_epoch, optimizer=optimizer)


@planted("eval_mode_in_training", ("perceptron", "resnet"), FASHION)
def batch_accuracy_leaves_eval_mode(setting, data):
    """From the second batch on there is no dropout, and batch norm stands still."""

    @torch.no_grad()
    def accuracy(model, x, y):
        model.eval()
        return (model(x).argmax(1) == y).float().mean().item()

    def train_epoch(model, train, optimizer):
        model.train()
        history = []
        for x, y in shuffled(train):
            optimizer.zero_grad()
            loss = setting.loss_fn(model(x), y)
            loss.backward()
            optimizer.step()
            history.append((loss.item(), accuracy(model, x, y)))

    return replace(setting, train_epoch=train_epoch)


@planted("eval_mode_in_training", ("mobile", "vit"), MNIST)
def train_without_parentheses(setting, data):
    """Right until the first evaluation."""

    def train_epoch(model, train, optimizer):
        model.train  # noqa: B018
        for x, y in shuffled(train):
            optimizer.zero_grad(set_to_none=True)
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch)


@planted("train_mode_in_evaluation", ("mobile",))
def only_the_classifier_is_in_eval_mode(setting, data):
    """Batch norm takes its statistics from the test batches."""

    @torch.inference_mode()
    def evaluate(model, test):
        model.classifier.eval()
        loss = correct = 0
        for x, y in in_order(test, 256):
            logits = model(x)
            loss += F.cross_entropy(logits, y, reduction="sum").item()
            correct += (logits.argmax(1) == y).sum().item()
        return loss / len(test), correct / len(test)

    return replace(setting, evaluate=evaluate)


@planted("evaluation_changes_model", ("resnet", "groupnorm"), FASHION)
def averaged_weights_are_not_put_back(setting, data):
    """The evaluation loads the moving average, and training resumes from there."""
    ema = {k: v.detach().clone() for k, v in setting.model.state_dict().items()}

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    ema[name].lerp_(value, 0.05)

    def evaluate(model, test):
        model.load_state_dict(ema)
        return setting.evaluate(model, test)

    return replace(setting, train_epoch=train_epoch, evaluate=evaluate)


@planted("evaluation_changes_model", ("perceptron", "gru"), MNIST)
def test_loss_is_stepped_on(setting, data):
    """One function for both phases, which forgets to ask which one it is in."""

    def run_epoch(model, batches, optimizer, training):
        model.train(training)
        total = correct = count = 0
        for x, y in batches:
            logits = model(x)
            loss = setting.loss_fn(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
            count += len(y)
        return total / count, correct / count

    def train_epoch(model, train, optimizer):
        run_epoch(model, shuffled(train), optimizer, training=True)

    def evaluate(model, test):
        batches = in_order(test, 250)
        return run_epoch(model, batches, setting.optimizer, training=False)

    return replace(setting, train_epoch=train_epoch, evaluate=evaluate)


@planted("schedule_never_moves", ("vit",), FASHION)
def schedule_of_the_first_optimizer(setting, data):
    """SGD was tried first; the schedule still belongs to it."""
    scheduler = lr_scheduler.StepLR(setting.optimizer, step_size=1, gamma=0.7)
    optimizer = adamw(setting.model)
    base = setting.train_epoch

    def train_epoch(model, train, optimizer):
        base(model, train, optimizer)
        scheduler.step()

    return replace(
        setting, optimizer=optimizer, scheduler=scheduler, train_epoch=train_epoch
    )


@planted("schedule_never_moves", ("groupnorm",), MNIST)
def floor_of_the_schedule_is_its_start(setting, data):
    """A lower bound of 1 for the factor, where 0.1 was meant."""
    optimizer = adamw(setting.model)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda epoch: max(0.8**epoch, 1.0))
    base = setting.train_epoch

    def train_epoch(model, train, optimizer):
        base(model, train, optimizer)
        scheduler.step()

    return replace(
        setting, optimizer=optimizer, scheduler=scheduler, train_epoch=train_epoch
    )


@planted("schedule_per_batch", ("resnet", "vit"), FASHION)
def milestones_in_epochs_are_counted_in_batches(setting, data):
    optimizer = adamw(setting.model)
    scheduler = lr_scheduler.MultiStepLR(optimizer, milestones=[6, 8], gamma=0.1)

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()
            scheduler.step()

    return replace(
        setting, optimizer=optimizer, scheduler=scheduler, train_epoch=train_epoch
    )


@planted("schedule_per_batch", ("perceptron",), MNIST)
def cosine_over_ten_batches(setting, data):
    """T_max is ten epochs: the rate swings up and down every 20 batches."""
    epochs = 10
    optimizer = torch.optim.RMSprop(setting.model.parameters(), lr=1e-3)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=epochs)

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in DataLoader(TensorDataset(train.images, train.labels), 64, True):
            loss = setting.loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()

    return replace(
        setting, optimizer=optimizer, scheduler=scheduler, train_epoch=train_epoch
    )


@planted("best_state_is_live", ("resnet", "perceptron"), MNIST)
def best_weights_moved_to_the_cpu(setting, data):
    """`.cpu()` copies nothing on a machine without a GPU."""
    state = setting.model.state_dict()
    return replace(setting, best_state={k: v.detach().cpu() for k, v in state.items()})


@planted("best_state_is_live", ("gru",), FASHION)
def best_weights_in_a_shallow_copy(setting, data):
    return replace(setting, best_state=copy.copy(setting.model.state_dict()))


@planted("reported_average", ("groupnorm",), MNIST)
def accuracy_over_full_batches(setting, data):
    """The last batch is not full, but counted as if it were."""
    size = 768

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        losses, correct = [], 0
        for x, y in in_order(test, size):
            logits = model(x)
            losses.append(setting.loss_fn(logits, y).item() * len(y))
            correct += (logits.argmax(1) == y).sum().item()
        return sum(losses) / len(test), correct / (len(losses) * size)

    return replace(setting, evaluate=evaluate)


@planted("reported_average", ("vit", "mobile"), FASHION)
def mean_losses_over_number_of_images(setting, data):
    """As in the quickstart before it was mended: means are summed, images counted."""

    def evaluate(model, test):
        model.eval()
        test_loss, accuracy = 0.0, 0.0
        with torch.no_grad():
            for x, y in in_order(test, 128):
                pred = model(x)
                test_loss += setting.loss_fn(pred, y).item()
                accuracy += (pred.argmax(1) == y).float().sum().item()
        return test_loss / len(test), accuracy / len(test)

    return replace(setting, evaluate=evaluate)


@planted("other_model", ("resnet",), FASHION)
def average_model_is_never_updated(setting, data):
    """The evaluation looks at a moving average that still is the initial model."""
    averaged = torch.optim.swa_utils.AveragedModel(setting.model)

    def evaluate(model, test):
        return setting.evaluate(averaged, test)

    return replace(setting, evaluate=evaluate)


# Bugs in the optimizer -----------------------------------------------------------------


@planted("not_in_optimizer", ("vit",))
def groups_by_name_forget_the_embeddings(setting, data):
    """The class token and the positions are neither weights nor biases."""
    named = list(setting.model.named_parameters())
    groups = [
        {"params": [p for n, p in named if n.endswith("weight")], "weight_decay": 0.05},
        {"params": [p for n, p in named if n.endswith("bias")], "weight_decay": 0.0},
    ]
    return replace(setting, optimizer=torch.optim.AdamW(groups, lr=2e-3))


@planted("not_in_optimizer", ("groupnorm",), FASHION)
def weight_norm_after_the_optimizer(setting, data):
    """The convolution has new parameters, and the optimizer the old one."""
    optimizer = adamw(setting.model)
    nn.utils.parametrizations.weight_norm(setting.model.conv2)
    return replace(setting, optimizer=optimizer)


@planted("learning_rate", ("perceptron", "gru"), MNIST)
def rate_of_a_millionth(setting, data):
    return replace(setting, optimizer=adamw(setting.model, lr=1e-6))


@planted("learning_rate", ("perceptron",), FASHION)
def rate_of_sgd_given_to_rmsprop(setting, data):
    optimizer = torch.optim.RMSprop(setting.model.parameters(), lr=0.1)
    return replace(setting, optimizer=optimizer)


# Bugs in the loss ----------------------------------------------------------------------


class Probabilities(nn.Module):
    """A network that returns probabilities."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return self.net(x).softmax(dim=-1)


@planted("softmax_twice", ("vit",), MNIST)
def probabilities_with_label_smoothing(setting, data):
    model = Probabilities(setting.model)
    setting = replace(setting, model=model)
    return with_loss(setting, nn.CrossEntropyLoss(label_smoothing=0.05))


@planted("softmax_twice", ("groupnorm", "perceptron"), FASHION)
def focal_loss_of_probabilities(setting, data):
    """The loss takes a softmax, and cross_entropy takes another."""

    class FocalLoss(nn.Module):
        def __init__(self, gamma=1.0):
            super().__init__()
            self.gamma = gamma

        def forward(self, logits, target):
            p = torch.softmax(logits, dim=1)
            ce = F.cross_entropy(p, target, reduction="none")
            return ((1 - torch.exp(-ce)) ** self.gamma * ce).mean()

    return with_loss(setting, FocalLoss())


@planted("activation_on_logits", ("perceptron",))
def last_layer_made_like_the_others(setting, data):
    sizes = (784, 96, 48, 10)
    layers = [nn.Flatten()]
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.GELU()]
    return with_model(setting, nn.Sequential(*layers))


@planted("activation_on_logits", ("mobile",), FASHION)
def sigmoid_before_cross_entropy(setting, data):
    model = setting.model
    model.classifier.append(nn.Sigmoid())
    return with_model(setting, model)


@planted("softmax_over_batch", ("gru", "mobile"), MNIST)
def log_softmax_of_the_columns(setting, data):
    model = nn.Sequential(setting.model, nn.LogSoftmax(dim=0))
    return with_loss(replace(setting, model=model), nn.NLLLoss())


@planted("softmax_over_batch", ("vit",), FASHION)
def attention_softmax_over_the_batch(setting, data):
    class BatchAttention(Attention):
        def attend(self, q, k, v):
            return F.softmax(q @ k.transpose(-2, -1) * self.scale, dim=0) @ v

    class BatchBlock(Block):
        attention = BatchAttention

    return with_model(setting, ViT(BatchBlock))


@planted("nll_without_log", ("resnet", "gru"), FASHION)
def nll_of_probabilities(setting, data):
    """The loss falls to -1, where it should fall to 0."""
    model = Probabilities(setting.model)
    return with_loss(replace(setting, model=model), nn.NLLLoss())


@planted("wrong_sign", ("groupnorm",), MNIST)
def log_likelihood_is_minimised(setting, data):
    def nll(logits, y):
        return logits.log_softmax(1).gather(1, y[:, None]).mean()

    return with_loss(setting, nll, adamw(setting.model, lr=1e-3))


@planted("averaged_twice", ("perceptron",), MNIST)
def mean_loss_divided_by_the_batch(setting, data):
    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            loss = setting.loss_fn(model(x), y) / x.size(0)
            loss.backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch)


@planted("averaged_twice", ("groupnorm",), FASHION)
def gradients_divided_by_the_batch(setting, data):
    """The loss is a mean already."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            for p in model.parameters():
                p.grad /= len(y)
            optimizer.step()

    return replace(setting, train_epoch=train_epoch)


@planted("broadcast_in_loss", ("mobile",), FASHION)
def class_weights_as_a_column(setting, data):
    """(B,) times (B, 1) is (B, B): every weight meets every loss."""
    weight = torch.tensor([2.0, 0.5, 1.0, 1.0, 1.0, 0.5, 3.0, 1.0, 0.5, 0.5])

    def weighted(logits, y):
        losses = F.cross_entropy(logits, y, reduction="none")
        return (losses * weight[y].unsqueeze(1)).mean()

    return with_loss(setting, weighted)


@planted("broadcast_in_loss", ("groupnorm", "gru"), MNIST)
def expected_digit_as_a_column(setting, data):
    """An ordinal loss, (B, 1) against (B,): it asks every image for the mean digit."""

    def ordinal(logits, y):
        p = logits.softmax(dim=1)
        expected = (p * torch.arange(10.0)).sum(1, keepdim=True)
        return F.cross_entropy(logits, y) + 0.1 * (expected - y).pow(2).mean()

    return with_loss(setting, ordinal)


# Bugs in the network -------------------------------------------------------------------


@planted("plain_list", ("vit",), MNIST)
def transformer_blocks_in_a_list(setting, data):
    class ListViT(ViT):
        def make_blocks(self, block, depth, dim):
            blocks = []
            for _ in range(depth):
                blocks.append(block(dim, p=0.0))
            return blocks

    return with_model(setting, ListViT())


@planted("plain_list", ("groupnorm",))
def branches_in_a_dict(setting, data):
    class Inception(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = {
                size: nn.Sequential(
                    nn.Conv2d(1, 8, size, stride=2, padding=size // 2),
                    nn.GroupNorm(2, 8),
                    nn.SiLU(),
                )
                for size in (3, 5, 7)
            }
            self.mix = nn.Conv2d(24, 16, 3, stride=2, padding=1)
            self.head = nn.Linear(16 * 49, 10)

        def forward(self, x):
            x = torch.cat([branch(x) for branch in self.branches.values()], dim=1)
            return self.head(F.silu(self.mix(x)).flatten(1))

    return with_model(setting, Inception())


@planted("same_layer_repeated", ("vit",), FASHION)
def one_block_many_times(setting, data):
    class SameViT(ViT):
        def make_blocks(self, block, depth, dim):
            layer = block(dim)
            return nn.ModuleList([layer for _ in range(depth)])

    return with_model(setting, SameViT(depth=3))


@planted("same_layer_repeated", ("resnet",), MNIST)
def stage_of_one_residual_block(setting, data):
    model = ResNet()
    model.body = nn.Sequential(*[Residual(12, 12)] * 3, Residual(12, 24, stride=2))
    return with_model(setting, model)


@planted("detached", ("mobile", "resnet"), MNIST)
def features_left_under_no_grad(setting, data):
    """From the days when the features were frozen: they never learn."""

    class FrozenByMistake(nn.Module):
        def __init__(self, net):
            super().__init__()
            *stages, head = net.children()
            self.backbone, self.head = nn.Sequential(*stages), head

        def forward(self, x):
            with torch.no_grad():
                x = self.backbone(x)
            return self.head(x.mean((2, 3)))

    return with_model(setting, FrozenByMistake(setting.model))


@planted("detached", ("groupnorm",), FASHION)
def gate_is_taken_as_data(setting, data):
    """Squeeze and excitation whose gate gets no gradient."""

    class Gated(GroupNormNet):
        def __init__(self):
            super().__init__()
            self.squeeze, self.excite = nn.Linear(128, 16), nn.Linear(16, 128)

        def forward(self, x):
            x = self.features(x)
            gate = torch.sigmoid(self.excite(F.relu(self.squeeze(x)))).data
            return self.head(gate * x)

    return with_model(setting, Gated())


@planted("unused_layer", ("vit",))
def second_norm_is_the_first(setting, data):
    class TypoBlock(Block):
        def forward(self, x):
            x = x + self.attn(self.norm1(x))
            return x + self.mlp(self.norm1(x))

    return with_model(setting, ViT(TypoBlock))


@planted("unused_layer", ("resnet",), FASHION)
def second_convolution_is_forgotten(setting, data):
    class HalfResidual(Residual):
        def forward(self, x):
            out = self.bn1(self.conv1(x))
            return F.relu(out + self.shortcut(x))

    return with_model(setting, ResNet(HalfResidual))


@planted("missing_activation", ("perceptron",), MNIST)
def activation_is_called_for_nothing(setting, data):
    class Forgetful(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.fc2 = nn.Linear(784, 96), nn.Linear(96, 48)
            self.dropout, self.fc3 = nn.Dropout(0.2), nn.Linear(48, 10)

        def forward(self, x):
            x = self.fc1(x.flatten(1))
            F.gelu(x)
            x = self.dropout(self.fc2(x))
            F.gelu(x)
            return self.fc3(x)

    return with_model(setting, Forgetful())


@planted("missing_activation", ("vit",), FASHION)
def transformer_mlp_is_linear(setting, data):
    class LinearBlock(Block):
        def __init__(self, dim=32, heads=4, p=0.1):
            super().__init__(dim, heads, p)
            self.mlp = nn.Sequential(
                nn.Linear(dim, 4 * dim), nn.Dropout(p), nn.Linear(4 * dim, dim)
            )

    return with_model(setting, ViT(LinearBlock))


@planted("constant_init", ("groupnorm", "perceptron"))
def every_weight_a_hundredth(setting, data):
    """All units of a layer stay the same unit (but for dropout)."""

    def init_weights(module):
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.constant_(module.weight, 0.01)
            nn.init.zeros_(module.bias)

    model = setting.model.apply(init_weights)
    return with_model(setting, model)


@planted("random_in_evaluation", ("resnet",), FASHION)
def stochastic_depth_that_never_ends(setting, data):
    class StochasticResidual(Residual):
        def forward(self, x):
            out = F.relu(self.bn1(self.conv1(x)))
            keep = (torch.rand(len(x), 1, 1, 1) < 0.8).float()
            return F.relu(keep * self.bn2(self.conv2(out)) + self.shortcut(x))

    return with_model(setting, ResNet(StochasticResidual))


@planted("random_in_evaluation", ("vit",), MNIST)
def attention_dropout_that_never_ends(setting, data):
    """The function does not know whether the model is in training mode."""

    class DroppedAttention(Attention):
        def attend(self, q, k, v):
            return F.scaled_dot_product_attention(q, k, v, dropout_p=0.1)

    class DroppedBlock(Block):
        attention = DroppedAttention

    return with_model(setting, ViT(DroppedBlock))


@planted("depends_on_batch", ("vit",))
def attention_over_the_batch(setting, data):
    """MultiheadAttention without batch_first: the images attend to each other."""

    class TorchAttention(nn.Module):
        def __init__(self, dim, heads):
            super().__init__()
            self.attn = nn.MultiheadAttention(dim, heads)

        def forward(self, x):
            return self.attn(x, x, x, need_weights=False)[0]

    class TorchBlock(Block):
        attention = TorchAttention

    class MeanViT(ViT):
        def pool(self, x):
            return x.mean(dim=1)

    return with_model(setting, MeanViT(TorchBlock))


@planted("depends_on_batch", ("gru",), FASHION)
def inputs_standardised_by_their_batch(setting, data):
    class Standardised(RowGRU):
        def forward(self, x):
            x = (x - x.mean(dim=0)) / (x.std(dim=0) + 0.1)
            return super().forward(x)

    return with_model(setting, Standardised())


# Bugs in the data ----------------------------------------------------------------------


def by_class(split):
    """The examples of class 0, then those of class 1, and so on."""
    return split[split.labels.argsort(stable=True)]


@planted("not_shuffled", ("groupnorm", "resnet"), FASHION)
def loader_of_a_folder_for_each_class(setting, data):
    """As ImageFolder lists its files, and with a DataLoader's default."""

    def loader(split, size):
        return DataLoader(TensorDataset(split.images, split.labels), batch_size=size)

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        loss, correct, n = 0.0, 0, len(test.dataset)
        for x, y in test:
            logits = model(x)
            loss += setting.loss_fn(logits, y).item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
        return loss / n, correct / n

    return replace(
        setting,
        train=loader(by_class(setting.train), BATCH),
        test=loader(setting.test, 500),
        optimizer=adamw(setting.model, lr=1e-4),
        train_epoch=train_epoch,
        evaluate=evaluate,
    )


@planted("not_shuffled", ("perceptron",), MNIST)
def batches_shuffled_and_not_images(setting, data):
    """The batches come in a random order, each from one class."""

    def train_epoch(model, train, optimizer):
        model.train()
        batches = list(in_order(train))
        for i in torch.randperm(len(batches)).tolist():
            x, y = batches[i]
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    train = by_class(setting.train)
    return replace(
        setting, train=train, train_epoch=train_epoch, optimizer=adamw(setting.model)
    )


def mixed_up(setting, partners):
    """Trains on mixtures of images; partners(n): which images, whose labels."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            lam = torch.distributions.Beta(0.4, 0.4).sample()
            i, j = partners(len(y))
            out = model(lam * x + (1 - lam) * x[i])
            loss = lam * setting.loss_fn(out, y) + (1 - lam) * setting.loss_fn(out, y[j])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch, optimizer=adamw(setting.model))


@planted("labels_apart", ("groupnorm",), MNIST)
def mixup_with_two_permutations(setting, data):
    """VMT#1."""
    return mixed_up(setting, lambda n: (torch.randperm(n), torch.randperm(n)))


@planted("labels_apart", ("resnet",), FASHION)
def added_images_and_labels_drawn_apart(setting, data):
    """Half as many shifted copies are added, with the labels of another draw."""
    images, labels = setting.train.images, setting.train.labels
    n = len(labels)
    more = shift(images[torch.randint(n, (n // 2,))])
    train = Split(
        torch.cat([images, more]),
        torch.cat([labels, labels[torch.randint(n, (n // 2,))]]),
    )
    return replace(setting, train=train)


@planted("labels_apart", ("perceptron", "mobile"), MNIST)
def two_calls_of_shuffle(setting, data):
    """A small set, shuffled once beforehand; the net has to learn it by heart."""
    train = setting.train[:2000]
    images = train.images[torch.randperm(len(train))]
    labels = train.labels[torch.randperm(len(train))]
    return replace(setting, train=Split(images, labels), optimizer=adamw(setting.model))


@planted("pixel_range", ("mobile", "resnet"), FASHION)
def bytes_made_floats_behind_batch_norm(setting, data):
    """0 to 255, and batch norm hides it."""
    train, test = (Split(s.images.float(), s.labels) for s in (data.train, data.test))
    return replace(setting, train=train, test=test, optimizer=adamw(setting.model))


@planted("pixel_range", ("perceptron",), MNIST)
def divided_by_255_twice(setting, data):
    """ToTensor has done it, and the loop does it again."""

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            loss = setting.loss_fn(model(x / 255), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def evaluate(model, test):
        return setting.evaluate(model, Split(test.images / 255, test.labels))

    return replace(
        setting,
        train=data.train.scaled(),
        test=data.test.scaled(),
        train_epoch=train_epoch,
        evaluate=evaluate,
        optimizer=adamw(setting.model),
    )


@planted("test_preprocessing", ("perceptron", "vit"), MNIST)
def normalised_in_the_training_loop_only(setting, data):
    mean, std = data.mean, data.std

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            x = (x - mean) / std
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    return replace(
        setting,
        train=data.train.scaled(),
        test=data.test.scaled(),
        train_epoch=train_epoch,
        optimizer=adamw(setting.model),
    )


@planted("test_preprocessing", ("gru",), FASHION)
def test_images_lie_on_their_side(setting, data):
    """Rows and columns exchanged, as in EMNIST."""
    test = setting.test
    sideways = test.images.transpose(2, 3).contiguous()
    return replace(setting, test=Split(sideways, test.labels))


@planted("test_augmented", ("resnet", "groupnorm"), MNIST)
def one_source_of_batches_for_both(setting, data):
    """The random shift is made where the batches are, for training and test alike."""

    def batches(split, shuffle):
        for x, y in shuffled(split) if shuffle else in_order(split, 250):
            yield shift(x), y

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in batches(train, shuffle=True):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    @torch.inference_mode()
    def evaluate(model, test):
        model.eval()
        loss, correct = 0.0, 0
        for x, y in batches(test, shuffle=False):
            logits = model(x)
            loss += setting.loss_fn(logits, y).item() * len(y)
            correct += (logits.argmax(1) == y).sum().item()
        return loss / len(test), correct / len(test)

    return replace(setting, train_epoch=train_epoch, evaluate=evaluate)


@planted("test_in_train", ("mobile",))
def validation_part_stays_in_training(setting, data):
    """hold_out returns both parts, and the smaller alone is taken."""
    _, validation = setting.train.hold_out(len(setting.train) // 10)
    return replace(setting, test=validation)


@planted("test_in_train", ("gru",), FASHION)
def drawn_with_replacement_before_the_split(setting, data):
    """The classes are made equally large, and copies land on both sides."""
    labels = setting.train.labels
    n = len(labels) // 10
    drawn = []
    for c in range(10):
        members = (labels == c).nonzero().flatten()
        drawn.append(members[torch.randint(len(members), (n,))])
    train, test = setting.train[torch.cat(drawn)].hold_out(n)
    return replace(setting, train=train, test=test)


# Sound, however odd --------------------------------------------------------------------


@planted(None, ("gru", "mobile"), MNIST)
def zero_grad_at_the_end(setting, data):
    def train_epoch(model, train, optimizer):
        model.train()
        optimizer.zero_grad()
        for x, y in shuffled(train):
            setting.loss_fn(model(x), y).backward()
            nn.utils.clip_grad_value_(model.parameters(), 1.0)
            optimizer.step()
            model.zero_grad(set_to_none=False)

    return replace(setting, train_epoch=train_epoch)


@planted(None, ("groupnorm", "vit"), FASHION)
def accumulation_done_right(setting, data):
    accumulate = 4

    def train_epoch(model, train, optimizer):
        model.train()
        optimizer.zero_grad()
        for i, (x, y) in enumerate(shuffled(train, BATCH // accumulate), start=1):
            (setting.loss_fn(model(x), y) / accumulate).backward()
            if i % accumulate == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()

    return replace(setting, train_epoch=train_epoch, optimizer=adamw(setting.model))


@planted(None, ("resnet",))
def frozen_backbone(setting, data):
    """A new head on a net that has learned; the rest rests, in evaluation mode too."""
    model = setting.model
    setting.train_epoch(model, setting.train[:4000], adamw(model))
    model.head = nn.Linear(24, 10)
    for part in (model.stem, model.body):
        part.requires_grad_(False)

    def train_epoch(model, train, optimizer):
        model.train()
        model.stem.eval()
        model.body.eval()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    optimizer = torch.optim.Adam(model.head.parameters(), lr=0.01)
    return replace(setting, train_epoch=train_epoch, optimizer=optimizer)


@planted(None, ("vit",), MNIST)
def one_block_shared_on_purpose(setting, data):
    """As in ALBERT: one registered block, called depth times."""

    class SharedViT(ViT):
        def make_blocks(self, block, depth, dim):
            self.block, self.depth = block(dim), depth
            return nn.Sequential()

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
            for _ in range(self.depth):
                x = self.block(x)
            return self.head(self.norm(x[:, 0]))

    return with_model(setting, SharedViT(depth=3))


@planted(None, ("perceptron",), FASHION)
def tied_weights(setting, data):
    """A bottleneck whose way up is the transpose of its way down."""

    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm = nn.Linear(784, 64), nn.LayerNorm(64)
            self.down, self.bias = nn.Linear(64, 16), nn.Parameter(torch.zeros(64))
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            x = F.gelu(self.norm(self.embed(x.flatten(1))))
            up = F.linear(F.gelu(self.down(x)), self.down.weight.t(), self.bias)
            return self.head(F.gelu(x + up))

    return with_model(setting, Tied())


@planted(None, ("mobile",), FASHION)
def label_smoothing(setting, data):
    return with_loss(setting, nn.CrossEntropyLoss(label_smoothing=0.1))


@planted(None, ("perceptron", "resnet"), MNIST)
def warm_restarts_per_batch(setting, data):
    """The period is counted in batches, by design."""
    optimizer = torch.optim.SGD(
        setting.model.parameters(), lr=0.1, nesterov=True, momentum=0.9
    )
    batches = -(-len(setting.train) // BATCH)
    scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=batches, T_mult=2)

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()
            scheduler.step()

    return replace(
        setting, optimizer=optimizer, scheduler=scheduler, train_epoch=train_epoch
    )


@planted(None, ("groupnorm",), FASHION)
def one_cycle_per_batch(setting, data):
    optimizer = adamw(setting.model)
    batches = -(-len(setting.train) // BATCH)
    scheduler = lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=10 * batches)

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            loss = setting.loss_fn(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()

    return replace(
        setting, optimizer=optimizer, scheduler=scheduler, train_epoch=train_epoch
    )


@planted(None, ("groupnorm",), MNIST)
def exponential_rate_per_epoch(setting, data):
    scheduler = lr_scheduler.ExponentialLR(setting.optimizer, gamma=0.8)
    base = setting.train_epoch

    def train_epoch(model, train, optimizer):
        base(model, train, optimizer)
        scheduler.step()

    return replace(setting, scheduler=scheduler, train_epoch=train_epoch)


@planted(None, ("perceptron", "gru"), FASHION)
def summed_loss_with_a_scaled_rate(setting, data):
    criterion = nn.CrossEntropyLoss(reduction="sum")
    optimizer = torch.optim.SGD(setting.model.parameters(), lr=0.1 / BATCH, momentum=0.9)
    setting = with_loss(setting, criterion, optimizer)
    return replace(setting, evaluate=evaluator(criterion, "sum"))


@planted(None, ("gru", "resnet"), MNIST)
def log_softmax_and_nll(setting, data):
    model = nn.Sequential(setting.model, nn.LogSoftmax(dim=1))
    return with_loss(replace(setting, model=model), nn.NLLLoss())


@planted(None, ("groupnorm",), FASHION)
def log_softmax_and_cross_entropy(setting, data):
    """A log_softmax of a log_softmax is the same log_softmax."""
    model = nn.Sequential(setting.model, nn.LogSoftmax(dim=-1))
    return with_model(setting, model)


@planted(None, ("mobile", "vit"), MNIST)
def evaluation_restores_the_mode(setting, data):
    """no_grad, the mode as it was found, and training mode set only once."""
    setting.model.train()

    def train_epoch(model, train, optimizer):
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()

    def evaluate(model, test):
        was_training = model.training
        model.eval()
        with torch.no_grad():
            logits = torch.cat([model(x) for x, _ in in_order(test, 1000)])
        model.train(was_training)
        hits = logits.argmax(1) == test.labels
        return setting.loss_fn(logits, test.labels).item(), hits.float().mean().item()

    return replace(setting, train_epoch=train_epoch, evaluate=evaluate)


@planted(None, ("resnet",), FASHION)
def batches_with_every_class_alike(setting, data):
    """Six images of each class in a batch."""

    def train_epoch(model, train, optimizer):
        model.train()
        groups = [(train.labels == c).nonzero().flatten() for c in range(10)]
        groups = [group[torch.randperm(len(group))] for group in groups]
        for k in range(0, min(map(len, groups)) - 5, 6):
            index = torch.cat([group[k : k + 6] for group in groups])
            optimizer.zero_grad()
            loss = setting.loss_fn(model(train.images[index]), train.labels[index])
            loss.backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch)


@planted(None, ("mobile", "perceptron"), FASHION)
def averaged_weights_put_back(setting, data):
    """A moving average for the evaluation alone."""
    ema = {k: v.detach().clone() for k, v in setting.model.state_dict().items()}

    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):
            optimizer.zero_grad()
            setting.loss_fn(model(x), y).backward()
            optimizer.step()
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    ema[name].lerp_(value, 0.05)

    def evaluate(model, test):
        backup = copy.deepcopy(model.state_dict())
        model.load_state_dict(ema)
        result = setting.evaluate(model, test)
        model.load_state_dict(backup)
        return result

    return replace(setting, train_epoch=train_epoch, evaluate=evaluate)


@planted(None, ("groupnorm",), MNIST)
def mixup_done_right(setting, data):
    return mixed_up(setting, lambda n: (torch.randperm(n),) * 2)


@planted(None, ("resnet",), MNIST)
def residual_branches_start_at_zero(setting, data):
    """The last batch norm of a branch and the head: zero on purpose."""
    model = setting.model
    for block in model.body:
        nn.init.zeros_(block.bn2.weight)
    nn.init.zeros_(model.head.weight)
    nn.init.zeros_(model.head.bias)
    return with_model(setting, model, adamw(model, lr=5e-3))


@planted(None, ("gru",), FASHION)
def step_with_a_closure(setting, data):
    def train_epoch(model, train, optimizer):
        model.train()
        for x, y in shuffled(train):

            def closure(x=x, y=y):
                optimizer.zero_grad()
                loss = setting.loss_fn(model(x), y)
                loss.backward()
                return loss

            optimizer.step(closure)

    optimizer = torch.optim.RMSprop(setting.model.parameters(), lr=1e-3)
    return replace(setting, train_epoch=train_epoch, optimizer=optimizer)


@planted(None, ("perceptron",), MNIST)
def shifted_for_training_only(setting, data):
    """Augmented training, best weights cloned, a loader with drop_last."""
    best = {k: v.detach().clone() for k, v in setting.model.state_dict().items()}

    def train_epoch(model, train, optimizer):
        pairs = TensorDataset(train.images, train.labels)
        model.train()
        for x, y in DataLoader(pairs, BATCH, shuffle=True, drop_last=True):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(model(shift(x)), y).backward()
            optimizer.step()

    return replace(setting, train_epoch=train_epoch, best_state=best)
