"""The glossary's terms in running text: in which forms they are written, and where.

The table of exceptions is by lessons' names, so that numbers may change.
"""

import re

# Other words for a term, beyond its plural.
OTHER_FORMS = {
    "atomic write": ["atomic"],
    "augmentation": ["augmented"],
    "average pooling": ["average-pool", "mean pooling"],
    "batch normalisation": ["batch norm"],
    "calibration": ["calibrated"],
    "computational graph": ["graph"],
    "convolutional network": ["CNN"],
    "data loader": ["loader"],
    "data parallel": ["data-parallel training"],
    "data set": ["dataset"],
    "depthwise convolution": ["depthwise"],
    "ECE": ["expected calibration error"],
    "exploding gradient": ["exploding", "explode"],
    "FGSM": ["fast gradient sign method"],
    "flatten": ["flattened", "flattening", "flattens"],
    "initialisation": ["starting weight"],
    "KL divergence": ["Kullback-Leibler divergence"],
    "learning-rate range test": ["range test"],
    "linear scaling rule": ["linear scaling"],
    "max pooling": ["max-pool"],
    "multilayer perceptron": ["MLP"],
    "NaN": ["not a number"],
    "normalisation": ["normalise", "normalised", "normalising", "normalises"],
    "overfitting": ["overfit", "overfits"],
    "PCA": ["principal component analysis"],
    "prediction": ["predicted class"],
    "projected gradient descent": ["PGD"],
    "saddle point": ["saddle"],
    "saturation": ["saturated", "saturates", "saturate"],
    "SGD": ["stochastic gradient descent"],
    "shuffling": ["shuffle", "shuffled", "shuffles"],
    "unbiased variance": ["unbiased"],
    "underfitting": ["underfit", "underfits"],
    "vanishing gradient": ["vanishing", "vanish"],
    "vectorisation": ["vectorised"],
}
# Words of every day, and of other trades, that are terms in these lessons only.
ONLY_IN = {
    "bit": {"cross_entropy"},
    "computational graph": {"chain_rule", "gradients_to_trust", "regularization"},
    "cost": {"chain_rule", "backpropagation"},
    "fold": {"convolution_backward"},
    "gain": set(),
    "peak": {"gpus"},
    "rank": {"many_machines"},
    "width": {
        "gradients_to_trust",
        "multilayer_perceptrons",
        "training_well",
        "cnn_mnist",
    },
}
# Terms that mean something else in these lessons, or are verbs there.
NOT_IN = {
    "class": {"optimizers"},
    "divergence": {"cross_entropy"},
    "flatten": {"training_well"},
    "momentum": {"regularization", "pytorch_and_keras"},
    "overfitting": {"fooled_and_unsure"},
    "split": {"cross_entropy", "gradients_to_trust", "cnn_mnist", "inside_the_network"},
    "weight": {"data_and_baselines"},
}
# The lesson that builds a term, where that is not the first one that has it in bold or
# italics; also that of terms which no lesson has in its running text.
BUILT_IN = {
    "autograd": "chain_rule",
    "batch": "data_and_baselines",
    "bias": "softmax",
    "chain rule": "chain_rule",
    "channel": "images_as_tensors",
    "confidence interval": "published_results",
    "detach": "gradients_to_trust",
    "device": "gpus",
    "divergence": "gradient_descent",
    "dropout": "regularization",
    "gain": "gradients_to_trust",
    "global max-pooling": "fast_cnn",
    "gradient descent": "gradient_descent",
    "He initialisation": "gradients_to_trust",
    "hidden layer": "multilayer_perceptrons",
    "initialisation": "gradients_to_trust",
    "label smoothing": "regularization",
    "leaky ReLU": "training_well",
    "learning rate": "gradient_descent",
    "linear scaling rule": "many_machines",
    "momentum": "optimizers",
    "multiply-add": "fast_cnn",
    "neuron": "backpropagation",
    "numerical stability": "softmax",
    "one-cycle schedule": "optimizers",
    "optimiser": "optimizers",
    "paired difference": "regularization",
    "parameter": "optimizers",
    "prefix code": "cross_entropy",
    "R1 to R5": "published_results",
    "recipe": "training_well",
    "reverse mode": "chain_rule",
    "SGD": "gradient_descent",
    "silent bug": "bugs_that_train_anyway",
    "training loop": "multilayer_perceptrons",
    "vanishing gradient": "gradients_to_trust",
    "weight sharing": "convolution",
    "Xavier initialisation": "gradients_to_trust",
    "zero_grad": "gradients_to_trust",
}
# Terms of the whole course, which no single lesson is about.
GENERAL = {"hyperparameter"}


# ---- terms in running text ----


def terms(text: str) -> dict[str, str]:
    """The glossary's terms and their explanations, from the source of its page."""
    found, term = {}, ""
    for line in text.partition("```{glossary}")[2].partition("\n```")[0].splitlines():
        if line.startswith("  "):
            found[term] = f"{found[term]} {line.strip()}".strip()
        elif line.strip():
            term = line.strip()
            found[term] = ""
    return found


def forms(term: str) -> list[str]:
    """The ways in which a text may write a term: singular, plural, other words."""
    written = [term, *OTHER_FORMS.get(term, [])]
    return [*written, *map(plural, written)]


def plural(phrase: str) -> str:
    """The plural of an English noun phrase, by the usual rules."""
    if phrase.endswith("trix"):
        return f"{phrase[:-1]}ces"
    if re.search(r"(s|x|z|ch|sh)$", phrase):
        return f"{phrase}es"
    if re.search(r"[^aeiou]y$", phrase):
        return f"{phrase[:-1]}ies"
    return f"{phrase}s"


class Finder:
    """Finds terms in running text; the longest one where several begin."""

    def __init__(self, names):
        self.known = {}  # a form in small letters -> the form, and its term
        for name in names:
            for form in forms(name):
                self.known.setdefault(form.lower(), (form, name))
        for name in names:  # before another term's plural
            self.known[name.lower()] = name, name
        longest_first = sorted(self.known, key=len, reverse=True)
        choices = "|".join(map(as_pattern, longest_first))
        self.pattern = re.compile(rf"(?<![\w-])(?:{choices})(?![\w-])", re.IGNORECASE)

    def find(self, text: str) -> list[tuple[int, int, str]]:
        """(start, end, term) of each term in the text."""
        found = []
        for match in self.pattern.finditer(text):
            form, term = self.form_of(match[0])
            # "adam" is not Adam; but a sentence may begin with any term.
            if form[0].islower() or form[0] == match[0][0]:
                found.append((match.start(), match.end(), term))
        return found

    def form_of(self, words: str) -> tuple[str, str]:
        """The form that these words are, and its term; KeyError if they are none."""
        words = re.sub(r"\s+", " ", words.replace("’", "'")).lower()
        return self.known.get(words) or self.known[words.replace("-", " ")]


def as_pattern(form: str) -> str:
    """A regular expression of a form: a hyphen may stand for a space, not the reverse."""
    return re.escape(form).replace(r"\ ", r"[\s-]").replace("'", "['’]")


def may_be_explained(term: str, lesson: str) -> bool:
    """Whether the word is this term in the lesson of this name."""
    if lesson not in ONLY_IN.get(term, {lesson}):
        return False
    return lesson not in NOT_IN.get(term, set())
