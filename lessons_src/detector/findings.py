"""What can be wrong with a training, in words: what it is, why it matters, what to do.

`detector` looks for these; a finding adds what was seen.
"""

import textwrap
from dataclasses import dataclass
from typing import NamedTuple


class Kind(NamedTuple):
    """A kind of fault: what it is, why it matters, what to do."""

    what: str
    why: str
    do: str


KINDS = {
    # The loop
    "gradients_not_zeroed": Kind(
        "old gradients are added to those of the batch",
        "backward() adds to the gradients that are there. Old ones act like a momentum "
        "that never fades, and training can diverge.",
        "Call optimizer.zero_grad() once for every step.",
    ),
    "gradients_lost": Kind(
        "gradients are thrown away before a step has used them",
        "The work of those batches is lost: the network learns from fewer examples.",
        "zero_grad, backward, step: in this order, all inside the loop over batches. To "
        "accumulate gradients, zero them only after a step.",
    ),
    "no_step": Kind(
        "the loop over batches changes no parameter of the model",
        "Little or nothing is learned. The loss moves all the same, from batch to batch.",
        "Call loss.backward() and optimizer.step() for every batch, inside the loop.",
    ),
    "clipped_too_late": Kind(
        "gradients are clipped when no step will use them",
        "The clipping does nothing: the long steps it is meant against are still taken.",
        "backward, then clip, then step.",
    ),
    "optimizer_recreated": Kind(
        "the loop steps another optimizer than the one handed over",
        "A new optimizer knows nothing of the steps before: momentum and Adam's averages "
        "start again from zero, and no scheduler reaches its learning rate.",
        "Make the optimizer once, before the loop, and pass it on.",
    ),
    "eval_mode_in_training": Kind(
        "the model trains in evaluation mode",
        "Dropout is off and batch norm uses, and keeps, old statistics.",
        "Begin every epoch with model.train(); evaluating has usually left model.eval().",
    ),
    "train_mode_in_evaluation": Kind(
        "the model is evaluated in training mode",
        "Dropout hides a part of the network and batch norm looks at the test batch, so "
        "the measured accuracy is not that of the network as it will be used.",
        "Call model.eval() before evaluating, and model.train() before training goes on.",
    ),
    "evaluation_changes_model": Kind(
        "evaluating changes weights, buffers or gradients",
        "The test images leave a trace in the network: it is measured on what it has seen, "
        "and a second evaluation measures another network.",
        "Evaluate under torch.no_grad() with model.eval(), without backward and step.",
    ),
    "schedule_never_moves": Kind(
        "the learning rate does not follow its schedule",
        "The schedule has no effect, or stays at its low beginning for the whole training.",
        "Step the scheduler of this optimizer: after every epoch, or after every batch if "
        "its numbers count batches. If you do it elsewhere, put it into train_epoch.",
    ),
    "schedule_per_batch": Kind(
        "a schedule meant for epochs is stepped after every batch",
        "The rate has fallen to almost nothing long before the training is over.",
        "Call scheduler.step() once an epoch, or give the scheduler numbers of batches.",
    ),
    "best_state_is_live": Kind(
        "the saved best state shares memory with the model",
        "state_dict() returns the weights themselves, not a copy. They go on changing, so "
        "that in the end the best state is the last one.",
        "Keep copy.deepcopy(model.state_dict()), or save it to a file.",
    ),
    "reported_average": Kind(
        "the loss or accuracy that is reported is not that of the batches",
        "The number is compared with others, drawn, and used to choose. It is wrong by a "
        "factor, or it is that of a few images.",
        "Add each batch's mean times its size, and divide the sum by the number of images.",
    ),
    # The optimizer
    "not_in_optimizer": Kind(
        "optimizer and model hold different parameters",
        "What the optimizer does not hold stays as it was at the start.",
        "Make the optimizer after the model is complete. Freeze what should not learn with "
        "requires_grad_(False).",
    ),
    "learning_rate": Kind(
        "the steps are far too long, or far too short to learn anything",
        "Too long, and the loss grows; too short, and it stands still for days.",
        "Try rates in powers of ten: 0.1 to 0.001 for SGD, 0.01 to 0.0001 for Adam.",
    ),
    # The loss
    "softmax_twice": Kind(
        "softmax before a loss that applies it itself",
        "Cross-entropy takes probabilities for logits. It cannot fall below "
        "log(e + K - 1) - 1, which is 1.46 for ten classes, and gradients are small.",
        "Give the loss logits; apply softmax only to show probabilities.",
    ),
    "activation_on_logits": Kind(
        "ReLU, sigmoid or tanh on the logits",
        "Logits must be free to take any value. ReLU gives no gradient where it cuts; "
        "sigmoid and tanh keep the network from being sure.",
        "End with the last linear layer.",
    ),
    "softmax_over_batch": Kind(
        "softmax over the images of a batch instead of the classes",
        "Images compete with each other, so an answer depends on the rest of the batch. "
        "The loss falls all the same.",
        "softmax(dim=1) for logits (B, K); better, give cross-entropy the logits.",
    ),
    "nll_without_log": Kind(
        "nll_loss is given something else than log-probabilities",
        "nll_loss picks one number and takes no logarithm. Of logits or probabilities, the "
        "result is no likelihood, and may fall without end.",
        "log_softmax(dim=1) before nll_loss, or cross_entropy on logits.",
    ),
    "wrong_sign": Kind(
        "training goes uphill",
        "Every step makes the right answers less likely.",
        "Minimise the loss: no minus before it, no maximize=True.",
    ),
    "averaged_twice": Kind(
        "a mean loss is divided once more by a number of examples",
        "The gradient is smaller by that factor. SGD takes steps that are too short; Adam "
        "hides it, but for its epsilon and the losses that are printed.",
        "cross_entropy averages already: use its value as it is.",
    ),
    "broadcast_in_loss": Kind(
        "(B, 1) against (B,): every answer is compared with every label",
        "The difference is a (B, B) matrix. The network learns to answer the mean.",
        "Give both the same shape: out.squeeze(1), or y[:, None].",
    ),
    # The model
    "plain_list": Kind(
        "layers that the model does not know",
        "parameters(), state_dict(), to(), train() and eval() pass over layers in a Python "
        "list: they are neither trained nor saved.",
        "Use nn.ModuleList or nn.ModuleDict, and nn.Parameter for single tensors.",
    ),
    "same_layer_repeated": Kind(
        "[layer] * n: one layer, n times",
        "The list holds the same layer again and again. The network has fewer parameters "
        "than it seems.",
        "[make_layer() for _ in range(n)]. (Where sharing is meant, call it in forward.)",
    ),
    "detached": Kind(
        "a layer is used, but no gradient reaches it",
        "detach(), .data, .item(), no_grad() or a copy to NumPy cuts the graph. What lies "
        "before the cut stays as it was at the start.",
        "Keep the path from the layer to the loss in torch, without these.",
    ),
    "unused_layer": Kind(
        "a layer has parameters, but is never called",
        "It is part of the network on paper only; often another one is called twice.",
        "Call it in forward, or remove it.",
    ),
    "missing_activation": Kind(
        "two linear layers with no activation between them",
        "Two linear maps in a row are one linear map: the second layer adds nothing.",
        "Put a ReLU between them.",
    ),
    "constant_init": Kind(
        "all units of a hidden layer start alike",
        "They get the same gradient and stay alike, so that the layer is worth one unit, "
        "or, at zero behind a ReLU, none.",
        "Start from random weights: PyTorch's own, or nn.init.kaiming_normal_.",
    ),
    "random_in_evaluation": Kind(
        "dropout, or other chance, that never turns off",
        "F.dropout and layers made inside forward() are always in training mode.",
        "Make nn.Dropout in __init__, or call F.dropout(x, p, training=self.training).",
    ),
    "depends_on_batch": Kind(
        "in evaluation, the answer for an image depends on the others of its batch",
        "The same image gets another answer in other company; alone, perhaps none.",
        "Look for batch norm without running statistics, sums or softmax over dim 0, and "
        "view where permute is meant.",
    ),
    # The data
    "not_shuffled": Kind(
        "the examples come sorted by class",
        "Each step learns a few classes and forgets the others.",
        "DataLoader(..., shuffle=True), or torch.randperm in every epoch.",
    ),
    "labels_apart": Kind(
        "labels do not belong to their images",
        "There is nothing to learn but the list by heart.",
        "Draw one permutation, and use it for images and for labels.",
    ),
    "pixel_range": Kind(
        "pixels from 0 to 255, or divided by 255 twice",
        "Weights are made for inputs near 1. Huge ones make the first steps explode, tiny "
        "ones vanish beside the biases.",
        "Divide by 255 once; better, normalise by mean and standard deviation.",
    ),
    "test_preprocessing": Kind(
        "test images are prepared in another way than training images",
        "The network is measured on images that it was never meant for.",
        "One function, with the training split's numbers, for both.",
    ),
    "test_augmented": Kind(
        "test images are changed at random",
        "The accuracy is measured on harder images, and never twice the same.",
        "A second data set object without augmentation for validation and test.",
    ),
    "test_in_train": Kind(
        "test images are among the training images",
        "The accuracy is that of images learned by heart, not of new ones.",
        "load(train=False) for the test split; split before anything is copied.",
    ),
    # Symptoms, reported where no cause was found
    "other_model": Kind(
        "the loop or the evaluation does not call the model that was handed over",
        "What is trained is not what you evaluate and save.",
        "Use the function's argument, and make the model once. Update an average of its "
        "weights while it is trained.",
    ),
    "initial_loss": Kind(
        "the first loss is far above log K, that of guessing",
        "Before training, the network should be unsure. A loss far above log K means that "
        "it is sure, and wrong.",
        "Look at the size of the first logits, at the initialisation, at the loss.",
    ),
    "cannot_overfit": Kind(
        "even a few images cannot be learned by heart",
        "A network that cannot learn sixteen images will not learn more of them.",
        "Look at what the model gets, at what the loss gets, and at the gradients of each "
        "layer, for these images alone.",
    ),
    "evaluation_random": Kind(
        "two evaluations in a row disagree",
        "Differences between networks drown in those of one network.",
        "Evaluate on all test images, in a fixed order, with nothing random.",
    ),
}

# What follows from a cause is not reported beside it.
FOLLOWS = {
    "plain_list": {"random_in_evaluation", "depends_on_batch", "not_in_optimizer"},
    "softmax_over_batch": {"depends_on_batch", "softmax_twice", "learning_rate"},
    "softmax_twice": {"nll_without_log", "learning_rate"},
    "other_model": {"optimizer_recreated", "no_step", "clipped_too_late"},
    "gradients_lost": {"learning_rate"},
    "not_in_optimizer": {"no_step"},
    "learning_rate": {"no_step"},
    "optimizer_recreated": {"not_in_optimizer"},
    "test_in_train": {"test_preprocessing"},
    "pixel_range": {"learning_rate"},
    "wrong_sign": {"learning_rate"},
    "averaged_twice": {"learning_rate"},
    "broadcast_in_loss": {"learning_rate"},
    "constant_init": {"learning_rate"},
    "train_mode_in_evaluation": {"evaluation_changes_model"},
    "test_augmented": {"test_preprocessing"},
    "labels_apart": {"test_preprocessing"},
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its kind (a key of KINDS) and what was seen, with the
    number."""

    kind: str
    seen: str

    @property
    def why(self) -> str:
        """Why it matters."""
        return KINDS[self.kind].why

    @property
    def do(self) -> str:
        """What to do."""
        return KINDS[self.kind].do

    def __str__(self) -> str:
        lines = [f"{self.kind}: {KINDS[self.kind].what}"]
        for word in ("seen", "why", "do"):
            text = f"{word:6}{getattr(self, word)}"
            lines += textwrap.wrap(
                text, 84, initial_indent="   ", subsequent_indent=" " * 9
            )
        return "\n".join(lines)


class Findings(list):
    """The findings of a check, causes first; printing them gives a short report."""

    @property
    def kinds(self) -> set[str]:
        """The kinds that were found."""
        return {finding.kind for finding in self}

    def __repr__(self) -> str:
        numbered = [f"{number}. {finding}" for number, finding in enumerate(self, 1)]
        return "\n\n".join(numbered) or "Nothing found."

    __str__ = __repr__
