"""The small shared module of *Neural Networks That Run*.

Data flow one way: data -> train -> (figures, check, interactive) -> a lesson.
"""

try:
    import torch  # noqa: F401
except ModuleNotFoundError as error:  # no hard dependency: Colab brings its own
    raise ModuleNotFoundError(
        "lessons_src needs PyTorch. Install it with:  pip install torch torchvision"
    ) from error
