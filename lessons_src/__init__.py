"""The small shared module of *Neural Networks That Run*.

On the ground floor is what lessons are written with. An arrow leads from a file to one
that imports it, and none leads back:

    data -> train -> recipes -> published   images, the loop, trainings as data
    models, muon -> recipes                 networks, an optimizer
    figures -> interactive                  what a page shows
    records                                 what longer trainings gave
    exercises/                              a file for the exercises of each lesson
    detector/                               finds the bugs with which a network still trains

`scale/` is the floor above: checkpoints, ranks, CUDA graphs and a command line, built
around `train.fit` and the recipes. The other files can wait: `download` and `standin`
serve `data`, `train_checks` serves `train`, `svg` serves `figures`, and `expect` and
`files` serve all (what an error says, how a file is written whole).
"""

import warnings

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:  # no hard dependency: Colab brings its own
    raise ModuleNotFoundError(
        "lessons_src needs PyTorch. Install it with:  pip install torch torchvision"
    ) from error

# torch 2.11 warns on every profile, even with one cycle, when no events are cleared.
warnings.filterwarnings("ignore", "Warning: Profiler clears events at the end")
