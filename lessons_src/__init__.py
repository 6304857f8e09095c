"""The small shared module of *Neural Networks That Run*.

Data flow one way: data -> train -> (figures, check, interactive) -> a lesson.
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
