"""The small shared module of *Neural Networks That Run*.

On the ground floor is what lessons are written with. Each imports only what stands
before it:

    data -> train -> models -> recipes      images, the loop, networks, trainings as data
    figures -> interactive                  what a page shows
    records                                 what longer trainings gave
    exercises/                              a file for the exercises of each lesson
    detector/                               finds the bugs with which a network still trains

`scale/` is the floor above: checkpoints, ranks, CUDA graphs and a command line, built
around `train.fit` and the recipes. The other files are private parts of these: `download`
and `standin` of `data`, `train_checks` of `train`, `svg` of `figures`.
"""

import warnings

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:  # no hard dependency: Colab brings its own
    raise ModuleNotFoundError(
        "lessons_src needs PyTorch. Install it with:  pip install torch torchvision"
    ) from error

# torch 2.11 says so of every profile, where there is one cycle and nothing is cleared too.
warnings.filterwarnings("ignore", "Warning: Profiler clears events at the end")
