"""Looks at a training while it takes a few steps, and names what is wrong with it.

`check_training` runs the reader's own loop on a few hundred images, watches every forward
pass, backward pass and step, and puts everything back as it was.
"""

from dataclasses import dataclass

# What can be found: kind -> what it means. Causes first; the last four are symptoms,
# reported only where no cause was found that explains them.
KINDS = {
    # the loop
    "gradients_not_zeroed": "old gradients are added to those of the batch",
    "gradients_lost": "gradients are zeroed, or overwritten, before a step has used them",
    "no_step": "an epoch changes no parameter of the model",
    "clipped_too_late": "gradients are clipped after the step, or before backward",
    "optimizer_recreated": "the loop makes a new optimizer, so momentum is forgotten",
    "eval_mode_in_training": "the model trains in evaluation mode",
    "train_mode_in_evaluation": "the model is evaluated in training mode",
    "evaluation_changes_model": "evaluating changes weights, buffers or gradients",
    "schedule_never_moves": "an epoch does not step the scheduler, or not noticeably",
    "schedule_per_batch": "a schedule meant for epochs is stepped after every batch",
    "best_state_is_live": "the saved best state shares memory with the model",
    "reported_average": "the loss or accuracy that is reported is not that of the batches",
    # the optimizer
    "not_in_optimizer": "optimizer and model hold different parameters",
    "learning_rate": "a step is far too long, or far too short to learn anything",
    # the loss
    "softmax_twice": "softmax before a loss that applies it itself",
    "activation_on_logits": "ReLU, sigmoid or tanh on the logits",
    "softmax_over_batch": "softmax over the images of a batch instead of the classes",
    "nll_without_log": "nll_loss is given something else than log-probabilities",
    "wrong_sign": "training goes uphill: the right answer becomes less likely",
    "averaged_twice": "the mean loss is divided by the batch size once more",
    "broadcast_in_loss": "(B, 1) against (B,): every answer is compared with every label",
    # the model
    "plain_list": "layers in a Python list, which the model does not know",
    "same_layer_repeated": "[layer] * n: one layer, n times",
    "detached": "a layer is used, but no gradient reaches it",
    "unused_layer": "a layer is never called",
    "missing_activation": "two linear layers with nothing nonlinear between them",
    "constant_init": "all units of a hidden layer start alike and stay so",
    "random_in_evaluation": "dropout, or other chance, that never turns off",
    "depends_on_batch": "the answer for an image depends on the others of its batch",
    # the data
    "not_shuffled": "batches hold few classes each, since the examples come sorted",
    "labels_apart": "labels do not belong to their images",
    "pixel_range": "pixels from 0 to 255, or divided by 255 twice",
    "test_preprocessing": "test images are prepared in another way than training images",
    "test_augmented": "test images are changed at random",
    "test_in_train": "test images are among the training images",
    # symptoms
    "other_model": "the loop calls another model than the one that was handed over",
    "initial_loss": "the first loss is far from ln K, that of guessing",
    "cannot_overfit": "even a single batch cannot be learned by heart",
    "evaluation_random": "two evaluations in a row disagree",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its kind (a key of KINDS), what was seen (with the number),
    why it matters, and what to do."""

    kind: str
    seen: str
    why: str
    do: str


class Findings(list):
    """The findings of a check, causes first; printing them gives a short report."""

    @property
    def kinds(self) -> set[str]:
        """The kinds that were found."""
        return {finding.kind for finding in self}


def check_training(
    model,
    loss_fn,
    optimizer,
    train_epoch,
    train,
    *,
    evaluate=None,
    test=None,
    scheduler=None,
    best_state=None,
) -> Findings:
    """Watch a few steps of a training and say what is wrong with it; change nothing.

    model: nn.Module. loss_fn(logits, labels) -> scalar. optimizer: over the model's
    parameters. train_epoch(model, train, optimizer): one epoch of your loop, with all
    that belongs to it, `scheduler.step()` included. train, test: a `Split`, a pair of
    tensors (images (N, ...), labels (N,)), a DataLoader, or a list of batches (x, y):
    whatever your functions take. evaluate(model, test): your evaluation. scheduler: the
    one that the loop steps. best_state: the state dict that was saved as the best.

    What is left out is not checked. Both functions get a part of the data, a few hundred
    images, and are stopped where they would go on for longer. Weights, buffers,
    gradients, modes, requires_grad, optimizer, scheduler and random states (also those of
    generators that the loop uses) are put back, to the last bit.

    Returns `Findings`, a list of `Finding`, empty where nothing was found. ValueError or
    TypeError for arguments of the wrong form; an error of your own code comes through.
    """
    raise NotImplementedError
