"""Networks and loops of the blind trainings in `benchmarks/detector_blind.py`.

Six networks: a small U-net, a dense net, a gated perceptron, a mixer, a ConvNeXt-like net,
and a plain net with weight norm. On import they join `benchmarks.planted.NETWORKS`.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.planted import BATCH, NETWORKS, in_order, shuffled
from lessons_src.data import Split

# Networks ------------------------------------------------------------------------------


def conv_bn(inputs, outputs, stride=1):
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class UNet(nn.Module):
    """Down from 14 x 14 to 7 x 7, up again beside a skip."""

    def __init__(self):
        super().__init__()
        self.enter, self.down = conv_bn(1, 8, stride=2), conv_bn(8, 16, stride=2)
        self.bottom = conv_bn(16, 16)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.leave = conv_bn(16, 16)
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        high = self.enter(x)  # (B, 8, 14, 14)
        low = self.bottom(self.down(high))  # (B, 16, 7, 7)
        x = self.leave(torch.cat([self.up(low), high], dim=1))
        return self.head(F.adaptive_avg_pool2d(x, 2).flatten(1))


class DenseLayer(nn.Sequential):
    """Its input, and new maps beside it."""

    def __init__(self, inputs, growth):
        conv = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)
        super().__init__(nn.BatchNorm2d(inputs), nn.ReLU(), conv)

    def forward(self, x):
        return torch.cat([x, super().forward(x)], dim=1)


class DenseNet(nn.Module):
    def __init__(self, growth=6):
        super().__init__()
        self.stem = nn.Conv2d(1, 12, 3, stride=2, padding=1)
        self.layers = nn.ModuleList(
            [DenseLayer(12 + growth * i, growth) for i in range(3)]
        )
        self.norm = nn.BatchNorm2d(30)
        self.head = nn.Sequential(nn.Dropout(0.2), nn.Linear(120, 10))

    def features(self, x):
        x = F.max_pool2d(self.stem(x), 2)  # (B, 12, 7, 7)
        for layer in self.layers:
            x = layer(x)
        return F.adaptive_avg_pool2d(F.relu(self.norm(x)), 2).flatten(1)  # (B, 120)

    def forward(self, x):
        return self.head(self.features(x))


class Gated(nn.Module):
    """x + out(silu(gate(x)) * value(x))"""

    def __init__(self, dim, hidden):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.gate, self.value = nn.Linear(dim, hidden), nn.Linear(dim, hidden)
        self.out, self.dropout = nn.Linear(hidden, dim), nn.Dropout(0.2)

    def forward(self, x):
        h = self.norm(x)
        return x + self.dropout(self.out(F.silu(self.gate(h)) * self.value(h)))


class GatedMLP(nn.Module):
    def __init__(self, outputs=10, dim=48, block=Gated):
        super().__init__()
        self.embed = nn.Linear(784, dim)
        self.blocks = nn.Sequential(block(dim, 96), block(dim, 96))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, outputs)

    def features(self, x):
        return self.norm(self.blocks(self.embed(x.flatten(1))))

    def forward(self, x):
        return self.head(self.features(x))


class MixerBlock(nn.Module):
    """Mixes the patches of an image, then the channels of a patch."""

    def __init__(self, tokens=16, dim=32):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.tokens, self.channels = self.mlp(tokens, 32), self.mlp(dim, 64)

    def mlp(self, dim, hidden):
        return nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x):
        x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.channels(self.norm2(x))


class Mixer(nn.Module):
    """16 patches of 7 x 7 pixels."""

    def __init__(self, block=MixerBlock):
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 7, stride=7)
        self.blocks = self.make_blocks(block)
        self.norm, self.dropout, self.head = (
            nn.LayerNorm(32),
            nn.Dropout(0.1),
            nn.Linear(32, 10),
        )

    def make_blocks(self, block):
        return nn.ModuleList([block() for _ in range(2)])

    def embed(self, x):
        return self.patches(x).flatten(2).transpose(1, 2)  # (B, 16, 32)

    def forward(self, x):
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(self.dropout(self.norm(x).mean(1)))


class NextBlock(nn.Module):
    """Depthwise 5 x 5, layer norm over channels, wide and back, scaled, added."""

    def __init__(self, dim=24):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.pwconv1, self.act = nn.Linear(dim, 3 * dim), nn.GELU()
        self.pwconv2 = nn.Linear(3 * dim, dim)
        self.gamma = nn.Parameter(torch.full((dim,), 0.5))

    def forward(self, x):
        h = self.norm(self.dwconv(x).permute(0, 2, 3, 1))  # (B, H, W, dim)
        h = self.gamma * self.pwconv2(self.act(self.pwconv1(h)))
        return x + h.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    def __init__(self, block=NextBlock):
        super().__init__()
        self.stem = nn.Conv2d(1, 24, 4, stride=4)
        self.stages = self.make_stages(block)
        self.norm, self.head = nn.LayerNorm(24), nn.Linear(24, 10)

    def make_stages(self, block):
        return nn.Sequential(block(), block())

    def forward(self, x):
        return self.head(self.norm(self.stages(self.stem(x)).mean((2, 3))))


def weight_normed(hidden=48):
    """Two convolutions and a hidden layer with weight norm, leaky ReLU."""
    norm = nn.utils.parametrizations.weight_norm
    return nn.Sequential(
        norm(nn.Conv2d(1, 12, 5, stride=2)),
        nn.LeakyReLU(0.1),
        norm(nn.Conv2d(12, 24, 3, stride=2)),
        nn.LeakyReLU(0.1),
        nn.Flatten(),
        norm(nn.Linear(600, hidden)),
        nn.LeakyReLU(0.1),
        nn.Linear(hidden, 10),
    )


NETWORKS.update(
    unet=UNet,
    dense=DenseNet,
    gated=GatedMLP,
    mixer=Mixer,
    convnext=ConvNeXt,
    weightnorm=weight_normed,
)

# What many of the trainings need -------------------------------------------------------


def adam(model, lr=2e-3, **options):
    return torch.optim.AdamW(model.parameters(), lr=lr, **options)


def nesterov(model, lr=0.03):
    return torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True)


def one_hot(y):
    return F.one_hot(y, 10).float()


def squares(logits, y):
    return F.mse_loss(logits, one_hot(y))


def bce(logits, y):
    return F.binary_cross_entropy_with_logits(logits, one_hot(y))


def smoothed(logits, y):
    return F.cross_entropy(logits, y, label_smoothing=0.1)


def same(x):
    return x


def by_argmax(outputs):
    return outputs.argmax(dim=1)


def each_batch(step, size=BATCH):
    """An epoch in training mode: step(model, optimizer, x, y, i) for batch i = 1, 2, ..."""

    def train_epoch(model, train, optimizer):
        model.train()
        batches = shuffled(train, size) if isinstance(train, Split) else train
        for i, (x, y) in enumerate(batches, start=1):
            step(model, optimizer, x, y, i)

    return train_epoch


def loop(criterion, prepare=same):
    """A plain epoch."""

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        criterion(model(prepare(x)), y).backward()
        optimizer.step()

    return each_batch(step)


@torch.no_grad()
def score(model, test, criterion, prepare=same, answer=by_argmax):
    """Mean loss and accuracy, in the mode in which the model is."""
    total, right, n = 0.0, 0, 0
    for x, y in in_order(test, 500) if isinstance(test, Split) else test:
        outputs = model(prepare(x))
        total += criterion(outputs, y).item() * len(y)
        right += (answer(outputs) == y).sum().item()
        n += len(y)
    return total / n, right / n


def evaluator(criterion, prepare=same, answer=by_argmax):
    return lambda model, test: score(model.eval(), test, criterion, prepare, answer)


def make(setting, model=None, loss_fn=None, optimizer=adam, **changes):
    """The training with another model, loss and optimizer, and what follows from them.

    optimizer: one, or a function that makes it for the model.
    """
    model, loss_fn = model or setting.model, loss_fn or setting.loss_fn
    if not isinstance(optimizer, torch.optim.Optimizer):
        optimizer = optimizer(model)
    loops = {"train_epoch": loop(loss_fn), "evaluate": evaluator(loss_fn)} | changes
    return replace(setting, model=model, loss_fn=loss_fn, optimizer=optimizer, **loops)


def loader(split, **options):
    return DataLoader(TensorDataset(split.images, split.labels), BATCH, **options)


def averaging(setting, keep):
    """Trains with a moving average of the weights, evaluates the average.

    keep: how the model's own state is kept meanwhile.
    """
    average = AveragedModel(setting.model, multi_avg_fn=get_ema_multi_avg_fn(0.8))

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        optimizer.step()
        average.update_parameters(model)

    def evaluate(model, test):
        backup = keep(model.state_dict())
        model.load_state_dict(average.module.state_dict())
        result = score(model.eval(), test, setting.loss_fn)
        model.load_state_dict(backup)
        return result

    return make(setting, train_epoch=each_batch(step), evaluate=evaluate)


def per_batch(setting, optimizer, scheduler):
    """The schedule is stepped after every batch."""

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        optimizer.step()
        scheduler.step()

    changes = {"train_epoch": each_batch(step), "scheduler": scheduler}
    return make(setting, optimizer=optimizer, **changes)


def per_epoch(setting, optimizer, scheduler):
    """The schedule is stepped at the end of every epoch."""

    def train_epoch(model, train, optimizer):
        loop(setting.loss_fn)(model, train, optimizer)
        scheduler.step()

    changes = {"train_epoch": train_epoch, "scheduler": scheduler}
    return make(setting, optimizer=optimizer, **changes)
