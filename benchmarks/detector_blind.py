"""Blind trainings for the detector, by someone who has seen neither its rules nor its bugs.

Networks, optimizers, losses and loops are in `benchmarks/blind_networks.py`. What stands
last is sound, odd as it looks.
"""

import copy
import random

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import ConcatDataset, DataLoader, RandomSampler, TensorDataset

from benchmarks.blind_networks import (
    ConvNeXt,
    DenseNet,
    GatedMLP,
    Mixer,
    MixerBlock,
    NextBlock,
    adam,
    averaging,
    bce,
    each_batch,
    evaluator,
    loader,
    loop,
    make,
    nesterov,
    one_hot,
    per_batch,
    per_epoch,
    score,
    smoothed,
    squares,
)
from benchmarks.planted import BATCH, in_order, planted, shuffled
from lessons_src.data import Split

MNIST, FASHION = ("mnist",), ("fashion-mnist",)
clip = nn.utils.clip_grad_norm_

# Steps ---------------------------------------------------------------------------------


@planted("gradients_not_zeroed", ("weightnorm", "mixer"), MNIST)
def accumulates_over_everything(setting, data):
    """Accumulates two batches a step, and never starts anew."""

    def step(model, optimizer, x, y, i):
        (setting.loss_fn(model(x), y) / 2).backward()
        if i % 2 == 0:
            optimizer.step()

    return make(setting, optimizer=nesterov, train_epoch=each_batch(step, 32))


@planted("gradients_not_zeroed", ("convnext",), FASHION)
def zeroes_only_the_head(setting, data):
    """model.head.zero_grad() for model.zero_grad(): the trunk's gradients add up."""

    def step(model, optimizer, x, y, i):
        model.head.zero_grad()
        setting.loss_fn(model(x), y).backward()
        optimizer.step()

    return make(setting, train_epoch=each_batch(step))


@planted("gradients_lost", ("gated", "unet"), FASHION)
def zeroes_every_microbatch(setting, data):
    """Steps after every fourth batch, zeroes at every one: three of four are lost."""

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        (smoothed(model(x), y) / 4).backward()
        if i % 4 == 0:
            optimizer.step()

    return make(setting, loss_fn=smoothed, train_epoch=each_batch(step, 16))


@planted("gradients_lost", ("mixer",), MNIST)
def zeroes_where_it_steps(setting, data):
    """Zeroes before the batch that steps: what the others gave is thrown away."""

    def step(model, optimizer, x, y, i):
        if i % 4 == 0:
            optimizer.zero_grad()
        (setting.loss_fn(model(x), y) / 4).backward()
        if i % 4 == 0:
            optimizer.step()

    return make(setting, train_epoch=each_batch(step, 16))


@planted("no_step", ("gated", "unet"), FASHION)
def scaler_without_step(setting, data):
    """scaler.scale, scaler.update, and no scaler.step between them."""
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        scaler.scale(setting.loss_fn(model(x), y)).backward()
        scaler.unscale_(optimizer)
        scaler.update()

    return make(setting, train_epoch=each_batch(step))


@planted("clipped_too_late", ("weightnorm", "mixer"), FASHION)
def clips_before_backward(setting, data):
    """zero_grad, clip, backward, step: there is nothing to clip yet."""

    def step(model, optimizer, x, y, i):
        loss = setting.loss_fn(model(x), y)
        optimizer.zero_grad()
        clip(model.parameters(), 0.1)
        loss.backward()
        optimizer.step()

    return make(setting, optimizer=nesterov, train_epoch=each_batch(step))


@planted("optimizer_recreated", ("convnext", "weightnorm"), MNIST)
def new_adam_every_epoch(setting, data):
    """Makes an AdamW of its own at the start of every epoch."""
    plain = loop(setting.loss_fn)
    return make(
        setting, train_epoch=lambda model, train, _: plain(model, train, adam(model))
    )


# Modes and evaluation ------------------------------------------------------------------


@planted("eval_mode_in_training", ("dense", "gated"), FASHION)
def validates_in_the_middle(setting, data):
    """Evaluates after the second batch, and trains on in evaluation mode."""

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        optimizer.step()
        if i == 2:
            setting.evaluate(model, setting.test[:200])

    return make(setting, train_epoch=each_batch(step))


@planted("eval_mode_in_training", ("unet",), MNIST)
def never_back_to_train(setting, data):
    """evaluate calls model.eval(), and nobody calls model.train()."""

    def train_epoch(model, train, optimizer):
        for x, y in shuffled(train):
            optimizer.zero_grad(set_to_none=False)
            bce(model(x), y).backward()
            optimizer.step()

    return make(setting, loss_fn=bce, train_epoch=train_epoch)


@planted("train_mode_in_evaluation", ("gated", "mixer"), MNIST)
def only_no_grad(setting, data):
    """Takes no_grad for model.eval(): dropout stays on."""
    return make(setting, evaluate=lambda m, test: score(m, test, setting.loss_fn))


@planted("train_mode_in_evaluation", ("dense",), FASHION)
def back_to_train_too_soon(setting, data):
    """eval() before, train() inside the loop: only the first batch is evaluated right."""

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        total, right = 0.0, 0
        for x, y in in_order(test, 100):
            logits = model(x)
            total += F.cross_entropy(logits, y, reduction="sum").item()
            right += (logits.argmax(1) == y).sum().item()
            model.train()
        return total / len(test), right / len(test)

    return make(setting, evaluate=evaluate)


@planted("evaluation_changes_model", ("gated",), FASHION)
def average_weights_stay(setting, data):
    """The backup of the model's own weights is a shallow copy: the average stays."""
    return averaging(setting, keep=copy.copy)


@planted("evaluation_changes_model", ("convnext",), MNIST)
def evaluates_by_the_training_step(setting, data):
    """Copied from the training loop, evaluate has kept backward and step."""
    optimizer = adam(setting.model)

    def evaluate(model, test):
        model.eval()
        total, right = 0.0, 0
        for x, y in in_order(test, 250):
            logits = model(x)
            loss = setting.loss_fn(logits, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(y)
            right += (logits.argmax(1) == y).sum().item()
        return total / len(test), right / len(test)

    return make(setting, optimizer=optimizer, evaluate=evaluate)


@planted("reported_average", ("unet", "mixer"), FASHION)
def mean_losses_over_images(setting, data):
    """Sums the batches' mean losses and divides by the number of images."""

    @torch.no_grad()
    def evaluate(model, test):
        model.eval()
        total, right = 0.0, 0
        for x, y in in_order(test, 128):
            logits = model(x)
            total += setting.loss_fn(logits, y).item()
            right += (logits.argmax(1) == y).sum().item()
        return total / len(test), right / len(test)

    return make(setting, evaluate=evaluate)


@planted("reported_average", ("weightnorm",), MNIST)
def result_of_the_last_batch(setting, data):
    """= for +=: loss and accuracy are those of the last batch alone."""

    def evaluate(model, test):
        for part in torch.arange(len(test)).split(64):
            loss, accuracy = score(model.eval(), test[part], squares)
        return loss, accuracy

    return make(setting, loss_fn=squares, evaluate=evaluate)


@planted("evaluation_random", ("convnext", "gated"), MNIST)
def a_sample_is_enough(setting, data):
    """Evaluates on 200 test images, drawn anew each time."""

    def evaluate(model, test):
        return score(model.eval(), test[torch.randperm(len(test))[:200]], setting.loss_fn)

    return make(setting, evaluate=evaluate)


@planted("evaluation_random", ("dense",), FASHION)
def draws_the_test_images(setting, data):
    """The test loader draws with replacement, other images each time."""
    images = TensorDataset(setting.test.images, setting.test.labels)
    sampler = RandomSampler(images, replacement=True, num_samples=300)
    return make(setting, test=DataLoader(images, 100, sampler=sampler))


@planted("best_state_is_live", ("unet",), FASHION)
def moved_to_the_cpu(setting, data):
    """v.cpu() copies nothing on a CPU."""
    best = {k: v.cpu() for k, v in setting.model.state_dict().items()}
    return make(setting, best_state=best)


@planted("best_state_is_live", ("mixer",), MNIST)
def shallow_copy(setting, data):
    """state_dict().copy() copies the dictionary, not the tensors in it."""
    return make(setting, best_state=setting.model.state_dict().copy())


# Optimizers and schedules --------------------------------------------------------------


@planted("schedule_never_moves", ("convnext",), FASHION)
def warm_up_in_batches_stepped_by_epochs(setting, data):
    """A warm-up over 1,000 batches is stepped once an epoch."""
    optimizer = adam(setting.model)
    return per_epoch(setting, optimizer, lr_scheduler.LinearLR(optimizer, 1e-3, 1, 1000))


@planted("schedule_never_moves", ("dense",), MNIST)
def schedule_of_another_optimizer(setting, data):
    """The schedule belongs to the Adam that SGD has replaced since."""
    scheduler = lr_scheduler.ExponentialLR(adam(setting.model), gamma=0.7)
    return per_epoch(setting, nesterov(setting.model), scheduler)


@planted("schedule_per_batch", ("mixer",), FASHION)
def cosine_of_epochs_in_the_loop(setting, data):
    """A cosine over 15 epochs goes down and up every 30 batches."""
    optimizer = adam(setting.model)
    return per_batch(setting, optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 15))


@planted("schedule_per_batch", ("weightnorm",), MNIST)
def milestones_of_epochs_in_the_loop(setting, data):
    """Milestones at epochs 2 and 4 are reached after four batches."""
    optimizer = nesterov(setting.model)
    return per_batch(setting, optimizer, lr_scheduler.MultiStepLR(optimizer, [2, 4]))


@planted("not_in_optimizer", ("gated",), MNIST)
def norms_in_no_group(setting, data):
    """Groups for matrices and for biases; the weights of layer norm are in neither."""
    named = list(setting.model.named_parameters())
    matrices = {"params": [p for _, p in named if p.ndim > 1], "weight_decay": 0.05}
    biases = {"params": [p for name, p in named if name.endswith("bias")]}
    return make(setting, optimizer=torch.optim.AdamW([matrices, biases], lr=2e-3))


@planted("not_in_optimizer", ("convnext", "unet"), FASHION)
def thawed_too_late(setting, data):
    """Frozen when the optimizer is made, thawed afterwards: only the head learns."""
    model = setting.model.requires_grad_(False)
    model.head.requires_grad_(True)
    optimizer = torch.optim.NAdam([p for p in model.parameters() if p.requires_grad])
    model.requires_grad_(True)
    return make(setting, optimizer=optimizer)


@planted("learning_rate", ("unet",), MNIST)
def epsilon_for_a_rate(setting, data):
    """lr=1e-8, which was meant for eps."""
    return make(setting, optimizer=adam(setting.model, lr=1e-8))


@planted("learning_rate", ("mixer", "weightnorm"), FASHION)
def rate_of_sgd_for_adam(setting, data):
    """Adam with a rate of 0.5."""
    return make(setting, optimizer=adam(setting.model, lr=0.5))


# Losses --------------------------------------------------------------------------------


@planted("softmax_twice", ("unet", "gated"), MNIST)
def probabilities_smoothed(setting, data):
    """The model ends in a softmax; cross-entropy with label smoothing follows."""
    return make(setting, nn.Sequential(setting.model, nn.Softmax(dim=-1)), smoothed)


@planted("softmax_twice", ("convnext",), FASHION)
def softmax_in_the_loss(setting, data):
    """The loss takes the softmax, and then the log-softmax of it."""

    def loss_fn(logits, y):
        return F.nll_loss(F.log_softmax(logits.softmax(1), dim=1), y)

    return make(setting, loss_fn=loss_fn)


@planted("activation_on_logits", ("weightnorm", "dense"), FASHION)
def relu_at_the_end(setting, data):
    """A block of a linear layer and a ReLU is the last one, too."""
    return make(setting, nn.Sequential(setting.model, nn.ReLU()), optimizer=nesterov)


@planted("activation_on_logits", ("mixer",), MNIST)
def sigmoid_before_bce_with_logits(setting, data):
    """A sigmoid at the end, and a loss on one-hot labels that has its own."""
    return make(setting, nn.Sequential(setting.model, nn.Sigmoid()), bce)


@planted("softmax_over_batch", ("gated", "weightnorm"), MNIST)
def log_softmax_of_columns(setting, data):
    """LogSoftmax(0) before NLLLoss."""
    return make(setting, nn.Sequential(setting.model, nn.LogSoftmax(0)), nn.NLLLoss())


@planted("softmax_over_batch", ("unet",), FASHION)
def squares_of_columns(setting, data):
    """Squares between one-hot labels and a softmax over the batch, inside the loss."""

    def loss_fn(logits, y):
        return ((torch.softmax(logits, dim=0) - one_hot(y)) ** 2).sum(1).mean()

    return make(setting, loss_fn=loss_fn)


@planted("nll_without_log", ("mixer", "dense"), MNIST)
def nll_of_probabilities(setting, data):
    """nll_loss of the softmax: minus the mean probability."""
    return make(setting, nn.Sequential(setting.model, nn.Softmax(1)), F.nll_loss)


@planted("nll_without_log", ("convnext",), FASHION)
def nll_of_logits(setting, data):
    """NLLLoss on logits: it falls without end."""
    return make(setting, loss_fn=nn.NLLLoss())


@planted("wrong_sign", ("gated", "unet"), FASHION)
def log_likelihood_minimised(setting, data):
    """Picks the right answers' log-probabilities, and forgets the minus."""

    def loss_fn(logits, y):
        return logits.log_softmax(1).gather(1, y[:, None]).mean()

    return make(setting, loss_fn=loss_fn)


@planted("wrong_sign", ("weightnorm",), MNIST)
def left_at_maximize(setting, data):
    """maximize=True has stayed from another project."""
    return make(setting, optimizer=adam(setting.model, maximize=True))


@planted("averaged_twice", ("convnext",), FASHION)
def loss_over_batch_size(setting, data):
    """(loss / len(x)).backward(), of a mean."""

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        (bce(model(x), y) / x.size(0)).backward()
        optimizer.step()

    return make(setting, None, bce, nesterov, train_epoch=each_batch(step))


@planted("averaged_twice", ("weightnorm",), MNIST)
def mean_over_batch_size(setting, data):
    """The loss function divides cross-entropy's mean by the number of labels."""
    return make(setting, None, lambda z, y: F.cross_entropy(z, y) / y.shape[0], nesterov)


@planted("broadcast_in_loss", ("gated",), MNIST)
def regression_on_a_column(setting, data):
    """Reads the digit as a number: Huber's loss, by hand, of (B, 1) and (B,)."""

    def loss_fn(out, y):
        error = (out - y.float()).abs()
        return torch.where(error < 1, error**2 / 2, error - 0.5).mean()

    evaluate = evaluator(loss_fn, answer=lambda out: out.squeeze(1).round())
    return make(setting, GatedMLP(outputs=1), loss_fn, evaluate=evaluate)


# Inside the network --------------------------------------------------------------------


@planted("plain_list", ("mixer",), FASHION)
def blocks_in_a_tuple(setting, data):
    """The blocks are in a tuple."""

    class Tuple(Mixer):
        def make_blocks(self, block):
            return tuple(block() for _ in range(2))

    return make(setting, Tuple())


@planted("same_layer_repeated", ("convnext",), MNIST)
def stages_times_three(setting, data):
    """nn.Sequential(*[block] * 3)."""
    setting.model.stages = nn.Sequential(*[NextBlock()] * 3)
    return make(setting)


@planted("same_layer_repeated", ("mixer",), FASHION)
def made_outside_the_list(setting, data):
    """The block is made before the comprehension, which repeats it."""
    block = MixerBlock()
    setting.model.blocks = nn.ModuleList([block for _ in range(3)])
    return make(setting)


@planted("detached", ("dense",), FASHION)
def features_by_no_grad(setting, data):
    """no_grad around the stem: to save memory, and its gradient."""

    class Stem(nn.Conv2d):
        @torch.no_grad()
        def forward(self, x):
            return super().forward(x)

    setting.model.stem = Stem(1, 12, 3, stride=2, padding=1)
    return make(setting)


@planted("unused_layer", ("mixer",), MNIST)
def norm_called_twice(setting, data):
    """norm1 is called twice, norm2 never."""

    class Twice(MixerBlock):
        def forward(self, x):
            x = x + self.tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
            return x + self.channels(self.norm1(x))

    return make(setting, Mixer(Twice))


@planted("missing_activation", ("convnext",), FASHION)
def wide_and_back_without_gelu(setting, data):
    """The wide layer and the one back follow each other."""
    for block in setting.model.stages:
        block.act = nn.Identity()
    return make(setting)


@planted("missing_activation", ("dense", "gated"), MNIST)
def head_of_two_layers(setting, data):
    """A head of two linear layers, with dropout alone between them."""
    size = 120 if isinstance(setting.model, DenseNet) else 48
    setting.model.head = nn.Sequential(
        nn.Linear(size, 64), nn.Dropout(0.2), nn.Linear(64, 10)
    )
    return make(setting)


@planted("constant_init", ("gated",), FASHION)
def blocks_of_equal_weights(setting, data):
    """In each block, weights start at 0.02 and biases at 0: its 96 units stay alike."""
    for block in setting.model.blocks:
        for layer in (block.gate, block.value, block.out):
            nn.init.constant_(layer.weight, 0.02)
            nn.init.zeros_(layer.bias)
    return make(setting)


@planted("constant_init", ("mixer",), MNIST)
def blocks_of_zeros(setting, data):
    """Both layers of every mixing start at zero, and their weights stay there."""
    for layer in setting.model.blocks.modules():
        if isinstance(layer, nn.Linear):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
    return make(setting, optimizer=nesterov)


@planted("random_in_evaluation", ("convnext",), MNIST)
def blocks_dropped_always(setting, data):
    """Stochastic depth drops its block in evaluation, too."""

    class Sometimes(NextBlock):
        def forward(self, x):
            return x if random.random() < 0.3 else super().forward(x)

    return make(setting, ConvNeXt(Sometimes))


@planted("random_in_evaluation", ("dense",), FASHION)
def channels_dropped_always(setting, data):
    """F.dropout2d with its default, training=True."""

    class Stem(nn.Conv2d):
        def forward(self, x):
            return F.dropout2d(super().forward(x), p=0.2)

    setting.model.stem = Stem(1, 12, 3, stride=2, padding=1)
    return make(setting)


@planted("depends_on_batch", ("mixer",), FASHION)
def patches_of_many_images(setting, data):
    """reshape to (patches, B, channels) for permute: patches change their images."""

    class Mixed(Mixer):
        def embed(self, x):
            return self.patches(x).reshape(16, len(x), 32).transpose(0, 1)

    return make(setting, Mixed())


@planted("depends_on_batch", ("weightnorm", "gated"), MNIST)
def standardises_the_batch(setting, data):
    """The model standardises every pixel by its mean and deviation in the batch."""

    class Standardise(nn.Module):
        def forward(self, x):
            return (x - x.mean(0)) / (x.std(0, correction=0) + 1e-5)

    return make(setting, nn.Sequential(Standardise(), setting.model))


@planted("initial_loss", ("gated", "weightnorm"), FASHION)
def cold_temperature(setting, data):
    """Logits divided by a temperature of 0.01."""

    class Temperature(nn.Module):
        def forward(self, logits):
            return logits / 0.01

    return make(setting, nn.Sequential(setting.model, Temperature()))


@planted("initial_loss", ("dense",), MNIST)
def head_of_deviation_one(setting, data):
    """normal_ without a deviation: the head's weights, 120 of them a unit, start at 1."""
    nn.init.normal_(setting.model.head[1].weight)
    return make(setting)


@planted("cannot_overfit", ("mixer",), MNIST)
def black_and_white_at_127(setting, data):
    """Pixels from 0 to 1 are compared with 127: every image is black."""

    class Threshold(nn.Module):
        def forward(self, x):
            return (x > 127).float()

    model = nn.Sequential(Threshold(), setting.model)
    return make(setting, model, train=data.train.scaled(), test=data.test.scaled())


@planted("cannot_overfit", ("convnext", "weightnorm"), FASHION)
def decay_and_momentum_exchanged(setting, data):
    """weight_decay=0.9, momentum=5e-4: the weights shrink faster than they learn."""
    of = setting.model.parameters()
    return make(setting, optimizer=torch.optim.SGD(of, 0.05, 5e-4, weight_decay=0.9))


# Data ----------------------------------------------------------------------------------


@planted("not_shuffled", ("unet",), MNIST)
def folder_by_folder(setting, data):
    """A loader that does not shuffle, over images that lie class by class."""
    parts = [setting.train[setting.train.labels == k] for k in range(10)]
    images = ConcatDataset([TensorDataset(part.images, part.labels) for part in parts])
    return make(setting, train=DataLoader(images, BATCH))


@planted("not_shuffled", ("mixer", "gated"), FASHION)
def shuffles_whole_batches(setting, data):
    """Cuts sorted images into batches, and shuffles only the batches."""

    def train_epoch(model, train, optimizer):
        batches = list(in_order(train))
        random.shuffle(batches)
        loop(setting.loss_fn)(model, batches, optimizer)

    train = setting.train[setting.train.labels.argsort(stable=True)]
    return make(setting, train=train, train_epoch=train_epoch)


@planted("labels_apart", ("weightnorm", "unet"), FASHION)
def two_permutations(setting, data):
    """The loop draws one permutation for the images, and one for the labels."""

    def train_epoch(model, train, optimizer):
        images = train.images[torch.randperm(len(train))]
        labels = train.labels[torch.randperm(len(train))]
        loop(setting.loss_fn)(model, Split(images, labels), optimizer)

    return make(setting, train_epoch=train_epoch)


@planted("labels_apart", ("convnext",), MNIST)
def one_row_late(setting, data):
    """The labels are read from the second row on: each image has the next one's."""
    train = Split(setting.train.images[:-1], setting.train.labels[1:])
    return make(setting, train=train)


@planted("pixel_range", ("weightnorm", "mixer"), FASHION)
def float_is_not_enough(setting, data):
    """images.float(), from 0 to 255."""
    train, test = (Split(s.images.float(), s.labels) for s in (data.train, data.test))
    return make(setting, train=train, test=test)


@planted("pixel_range", ("gated",), MNIST)
def scaled_again_in_the_loop(setting, data):
    """Images from 0 to 1 are divided by 255 in the loop and in the evaluation."""
    tiny = (setting.loss_fn, lambda x: x / 255)
    loops = {"train_epoch": loop(*tiny), "evaluate": evaluator(*tiny)}
    splits = {"train": data.train.scaled(), "test": data.test.scaled()}
    return make(setting, optimizer=nesterov, **loops, **splits)


@planted("test_preprocessing", ("dense", "gated"), FASHION)
def normalised_twice(setting, data):
    """evaluate normalises test images that are normalised already."""
    again = evaluator(setting.loss_fn, lambda x: (x - data.mean) / data.std)
    return make(setting, evaluate=again)


@planted("test_preprocessing", ("convnext",), MNIST)
def test_images_inverted(setting, data):
    """Test images are black on white, training images white on black."""
    inverted = Split(255 - data.test.images, data.test.labels)
    return make(setting, test=inverted.normalised(data.mean, data.std))


class Shifted(TensorDataset):
    """Images that are shifted at random whenever they are read, and labels."""

    def __getitem__(self, index):
        x, y = super().__getitem__(index)
        return x.roll(torch.randint(-4, 5, (2,)).tolist(), dims=(1, 2)), y


@planted("test_augmented", ("weightnorm",), MNIST)
def one_class_for_both_splits(setting, data):
    """The test loader shifts its images at random, as the training loader does."""
    train, test = (Shifted(s.images, s.labels) for s in (setting.train, setting.test))
    train = DataLoader(train, BATCH, shuffle=True)
    return make(setting, train=train, test=DataLoader(test, 100))


@planted("test_in_train", ("gated",), FASHION)
def splits_after_resampling(setting, data):
    """Draws with replacement, and splits afterwards: copies are on both sides."""
    n = min(6000, len(setting.train))
    drawn = setting.train[torch.randint(n, (n,))]
    return make(setting, train=drawn[: n * 5 // 6], test=drawn[n * 5 // 6 :])


@planted("test_in_train", ("convnext", "dense"), MNIST)
def all_images_there_are(setting, data):
    """Trains on the training and the test images together."""
    images = torch.cat([setting.train.images, setting.test.images])
    labels = torch.cat([setting.train.labels, setting.test.labels])
    return make(setting, train=Split(images, labels))


@planted("other_model", ("unet",), MNIST)
def trains_a_copy(setting, data):
    """The epoch begins with a copy of the model, and trains the copy."""
    plain = loop(setting.loss_fn)
    return make(
        setting, train_epoch=lambda m, train, opt: plain(copy.deepcopy(m), train, opt)
    )


@planted("other_model", ("mixer",), FASHION)
def a_net_of_its_own(setting, data):
    """The loop trains a net from an earlier cell, with that net's optimizer."""
    net, plain = Mixer(), loop(setting.loss_fn)
    own = adam(net)
    return make(setting, train_epoch=lambda _, train, optimizer: plain(net, train, own))


# Sound, odd as they look ---------------------------------------------------------------


@planted(None, ("unet", "gated"), FASHION)
def log_probabilities_and_nll(setting, data):
    """LogSoftmax(1) in the model, NLLLoss after it."""
    return make(setting, nn.Sequential(setting.model, nn.LogSoftmax(1)), nn.NLLLoss())


@planted(None, ("dense",), MNIST)
def loaders_for_both(setting, data):
    """Loaders for both splits, a last batch that is dropped, RMSprop."""
    train = loader(setting.train, shuffle=True, drop_last=True)
    optimizer = torch.optim.RMSprop(setting.model.parameters(), lr=1e-3)
    return make(setting, optimizer=optimizer, train=train, test=loader(setting.test))


@planted(None, ("mixer", "weightnorm"), FASHION)
def accumulates_with_a_rest(setting, data):
    """Four batches of 16 a step, zeroed after it; the rest is a step of its own."""

    def train_epoch(model, train, optimizer):
        model.train()
        parts = list(shuffled(train, 16))
        optimizer.zero_grad()
        for i, (x, y) in enumerate(parts, start=1):
            (setting.loss_fn(model(x), y) / 4).backward()
            if i % 4 == 0 or i == len(parts):
                optimizer.step()
                optimizer.zero_grad(set_to_none=False)

    return make(setting, optimizer=nesterov, train_epoch=train_epoch)


@planted(None, ("gated", "weightnorm"), MNIST)
def steps_with_a_closure(setting, data):
    """zero_grad, forward and backward in a closure that step() calls."""

    def step(model, optimizer, x, y, i):
        def closure():
            optimizer.zero_grad()
            loss = bce(model(x), y)
            loss.backward()
            return loss

        optimizer.step(closure)

    return make(setting, loss_fn=bce, train_epoch=each_batch(step))


@planted(None, ("gated",), FASHION)
def average_weights_for_a_while(setting, data):
    """Evaluates with averaged weights, and puts the others back from a real copy."""
    return averaging(setting, keep=copy.deepcopy)


@planted(None, ("convnext", "dense"), FASHION)
def autocast_in_bfloat16(setting, data):
    """Forward pass and loss in bfloat16."""

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = setting.loss_fn(model(x), y)
        loss.backward()
        optimizer.step()

    return make(setting, train_epoch=each_batch(step))


@planted(None, ("weightnorm",), MNIST)
def scaled_gradients(setting, data):
    """Gradients 1,024 times as large until they are unscaled, clipped and used."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        scaler.scale(setting.loss_fn(model(x), y)).backward()
        scaler.unscale_(optimizer)
        clip(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    return make(setting, train_epoch=each_batch(step))


@planted(None, ("mixer",), MNIST)
def the_same_block_on_purpose(setting, data):
    """One block, called three times in forward: a recurrent mixer."""

    class Recurrent(Mixer):
        def forward(self, x):
            x = self.embed(x)
            for _ in range(3):
                x = self.blocks(x)
            return self.head(self.norm(x).mean(1))

        def make_blocks(self, block):
            return block()

    return make(setting, Recurrent())


@planted(None, ("gated",), FASHION)
def branches_start_at_zero(setting, data):
    """The last layer of every residual branch, and the head, start at zero."""
    for layer in (*(block.out for block in setting.model.blocks), setting.model.head):
        nn.init.zeros_(layer.weight)
    return make(setting)


@planted(None, ("convnext",), MNIST)
def random_stem_frozen(setting, data):
    """The stem stays as drawn, on purpose, and is not in the optimizer."""
    setting.model.stem.requires_grad_(False)
    trained = [p for p in setting.model.parameters() if p.requires_grad]
    return make(setting, optimizer=torch.optim.NAdam(trained, lr=3e-3))


@planted(None, ("unet",), MNIST)
def one_cycle_per_batch(setting, data):
    """OneCycleLR over five epochs, counted and stepped in batches."""
    optimizer = adam(setting.model)
    steps = 5 * (len(setting.train) // BATCH + 1)
    return per_batch(setting, optimizer, lr_scheduler.OneCycleLR(optimizer, 5e-3, steps))


@planted(None, ("dense", "mixer"), MNIST)
def cosine_per_epoch(setting, data):
    """A cosine over 20 epochs, stepped where the epoch ends."""
    optimizer = adam(setting.model, lr=3e-3)
    return per_epoch(setting, optimizer, lr_scheduler.CosineAnnealingLR(optimizer, 20))


@planted(None, ("weightnorm",), FASHION)
def depthwise_then_pointwise(setting, data):
    """A depthwise convolution, and a pointwise one straight after it, as in Xception."""
    depthwise = nn.Conv2d(12, 12, 3, stride=2, groups=12, bias=False)
    pointwise = nn.Conv2d(12, 24, 1, bias=False)
    setting.model[2] = nn.Sequential(depthwise, pointwise, nn.BatchNorm2d(24))
    return make(setting)


@planted(None, ("gated", "convnext"), FASHION)
def normalises_inside(setting, data):
    """Pixels from 0 to 255; the model's first layer brings them to size."""

    class Normalise(nn.Module):
        def forward(self, x):
            return (x / 255 - data.mean) / data.std

    train, test = (Split(s.images.float(), s.labels) for s in (data.train, data.test))
    return make(
        setting, nn.Sequential(Normalise(), setting.model), train=train, test=test
    )


@planted(None, ("weightnorm",), FASHION)
def uphill_twice(setting, data):
    """Minus the loss, and an optimizer that maximises."""
    upwards = adam(setting.model, maximize=True)
    train_epoch = loop(lambda logits, y: -setting.loss_fn(logits, y))
    return make(setting, optimizer=upwards, train_epoch=train_epoch)


@planted(None, ("mixer",), FASHION)
def sharpness_aware(setting, data):
    """Climbs a little, takes the gradient there, climbs down, steps."""

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        parameters = list(model.parameters())
        with torch.no_grad():
            up = [0.02 * p.grad / (p.grad.norm() + 1e-9) for p in parameters]
            torch._foreach_add_(parameters, up)
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        with torch.no_grad():
            torch._foreach_sub_(parameters, up)
        optimizer.step()

    return make(setting, train_epoch=each_batch(step))


@planted(None, ("convnext",), FASHION)
def looks_at_the_norm_afterwards(setting, data):
    """Clips before the step; the norm it asks for afterwards is for a plot."""
    norms = []

    def step(model, optimizer, x, y, i):
        optimizer.zero_grad()
        setting.loss_fn(model(x), y).backward()
        clip(model.parameters(), 1.0)
        optimizer.step()
        norms.append(clip(model.parameters(), float("inf")).item())

    return make(setting, optimizer=nesterov, train_epoch=each_batch(step))


@planted(None, ("dense", "gated"), FASHION)
def mixes_images_and_labels(setting, data):
    """Mixup with one permutation."""

    def step(model, optimizer, x, y, i):
        other, share = torch.randperm(len(x)), 0.3 * torch.rand(())
        logits = model(torch.lerp(x, x[other], share))
        losses = setting.loss_fn(logits, y), setting.loss_fn(logits, y[other])
        optimizer.zero_grad()
        torch.lerp(*losses, share).backward()
        optimizer.step()

    return make(setting, train_epoch=each_batch(step))


@planted(None, ("gated",), MNIST)
def shuffled_once(setting, data):
    """Shuffled before the first epoch, and read in that order ever after."""
    train = loader(setting.train[torch.randperm(len(setting.train))])
    return make(setting, loss_fn=squares, train=train)


@planted(None, ("unet", "weightnorm"), MNIST)
def looks_three_times(setting, data):
    """Evaluates the mean of three fixed shifts; trains with random ones."""

    def evaluate(model, test):
        model.eval()
        views = [
            score(model, test, smoothed, lambda x, s=s: x.roll(s, 3)) for s in (-1, 0, 1)
        ]
        return tuple(sum(values) / 3 for values in zip(*views, strict=True))

    train_epoch = loop(smoothed, lambda x: x.roll(random.randint(-2, 2), 3))
    return make(setting, loss_fn=smoothed, train_epoch=train_epoch, evaluate=evaluate)


@planted(None, ("dense",), FASHION)
def calls_the_parts(setting, data):
    """The loop calls features and head, and a probe whose input sees no gradient."""
    setting.model.probe = nn.Linear(120, 10)

    def step(model, optimizer, x, y, i):
        features = model.features(x)
        loss = setting.loss_fn(model.head(features), y)
        loss = loss + setting.loss_fn(model.probe(features.detach()), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return make(setting, train_epoch=each_batch(step))


@planted(None, ("mixer",), MNIST)
def best_state_cloned(setting, data):
    """The best state is a clone of every tensor; the loop uses the model of its cell."""
    model, plain = setting.model, loop(setting.loss_fn)
    best = {k: v.clone() for k, v in model.state_dict().items()}
    train_epoch = lambda _, train, optimizer: plain(model, train, optimizer)  # noqa: E731
    return make(setting, train_epoch=train_epoch, best_state=best)
