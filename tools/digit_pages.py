"""The pictures, tables and numbers of the page "Draw a digit", in book/draw/.

All of it is computed from the stored weights, by the page's own code in node where the
page computes it too. `python -m tools.digit` writes it; a test computes it again.
"""

import base64
import html
import io
import json

import numpy as np
import torch
from PIL import Image

from tools import digit_network as digit
from tools import strokes

FOLDER = digit.ROOT / "book" / "draw"
# Legible on white and on black: these pictures are there before any script, in any theme.
BLUE, VERMILLION = (0x3A, 0x8F, 0xCF), (0xD9, 0x64, 0x1E)
WAY_NAMES = ("as MNIST was", "scaled, not centred", "neither")


def write(mnist) -> None:
    """Write every part of the page."""
    from_data = {"facts.md": facts(mnist), "again.md": again(mnist.test.images)}
    for name, text in {**parts(), **from_data}.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


def parts() -> dict[str, str]:
    """The parts that need no data set but the stored drawings: file name -> text."""
    drawings = json.loads(digit.DRAWINGS.read_text(encoding="utf-8"))
    shown = json.loads(digit.node("show", json.dumps(digit.stored()["example"]).encode()))
    return {
        "still.html": still(shown),
        "drawings.html": drawings_picture(drawings),
        "strokes.md": strokes_table(drawings),
    }


# ---- numbers ----


def facts(mnist) -> str:
    """What the network is and how sure it may be, in sentences with computed numbers."""
    file, test = digit.stored(), mnist.test
    images = digit.normalised(file, test.images)
    logits = digit.logits_of(digit.model_of(file), images)  # (10000, 10)
    T = file["temperature"]
    certainty, answer = (logits / T).softmax(1).max(1)
    right, sure = answer == test.labels, certainty >= file["sure"]
    unsure = (~sure).sum().item()
    first = test.labels[0].item()  # the digit of the welcome page
    plain, warm = (100 * p.softmax(1)[0, first] for p in (logits, logits / T))
    sureness = "more than 99.9 %" if warm > 99.9 else f"{warm:.1f} %"  # as draw.js says
    size = sum(n.numel() for n in digit.model_of(file).parameters())
    size += 2 * sum(layer["out"] for layer in file["convolutions"])  # scales and shifts
    return (
        f"The network has {size:,} numbers. It is the recipe `{file['recipe']}`, seed "
        f"{file['seed']}: one pass over the 60,000 training images. It reads "
        f"{right.sum():,} of the {len(test):,} test digits rightly, {share(right)}.\n\n"
        f"Its logits are divided by a temperature of {T:.2f}, which was fitted on 10,000 "
        f"held-out training images, with a network of the same recipe that had not seen "
        f"them. On the test split this lowers the mean cross-entropy from "
        f"{digit.cross_entropy(logits, test.labels):.3f} to "
        f"{digit.cross_entropy(logits, test.labels, T):.3f}. Of the {sure.sum():,} test "
        f"digits that are answered with at least {100 * file['sure']:.0f} %, {share(right[sure])} "
        f"are right; of the other {unsure:,}, {share(right[~sure])}. For these the page "
        "asks which digit you meant.\n\n"
        f"The [welcome page](index.md) shows this network without the temperature. There it "
        f"sees a {first} in the first test image with {plain:.0f} %; here, with the same "
        f"weights, it does so with {sureness}.\n"
    )


def again(images) -> str:
    """How many images MNIST's way of preparing leaves as they are, in a sentence."""
    same = unchanged(images)
    return (
        f"Of the {len(same):,} test images, {same.sum():,} come out exactly as they went "
        "in, pixel by pixel.\n"
    )


def unchanged(images) -> torch.Tensor:
    """Which images (N, 1, 28, 28) the page's preparation leaves as they are, (N,) bool."""
    made = bytearray(digit.node("again", images.numpy().tobytes()))
    made = torch.frombuffer(made, dtype=torch.uint8).view_as(images)
    return (made == images).flatten(1).all(1)


def share(right) -> str:
    """From (N,) bool: 99.26 %."""
    return f"{right.double().mean().item():.2%}".replace("%", " %")


def answers(drawings) -> dict[str, torch.Tensor]:
    """Of each way of preparing: which drawings are read rightly, (N,) bool."""
    labels = torch.tensor([drawing["digit"] for drawing in drawings])
    found = {}
    for way in digit.WAYS:
        logits = digit.node_logits(digit.prepared(drawings, way))
        found[way] = logits.argmax(1) == labels
    return found


def strokes_table(drawings) -> str:
    """How many drawings of each kind are read rightly, for each way of preparing."""
    right = answers(drawings)
    lines = [
        f"| drawings | number | {' | '.join(WAY_NAMES)} |",
        "| :-- | --: | --: | --: | --: |",
    ]
    for kind in [*strokes.KINDS, "all"]:
        chosen = torch.tensor([kind in (d["kind"], "all") for d in drawings])
        shares = [f"{right[way][chosen].double().mean():.1%}" for way in digit.WAYS]
        cells = " | ".join(text.replace("%", " %") for text in shares)
        name = "**all**" if kind == "all" else kind
        lines.append(f"| {name} | {chosen.sum()} | {cells} |")
    return "\n".join(lines) + "\n"


# ---- pictures ----


def picture(values, zoom=1, above=BLUE) -> Image.Image:
    """Values (H, W) from -1 to 1: what is 0 or nan is clear, what is negative blue.

    above: the colour of positive values; of signed ones it is vermillion, as in figures.
    """
    values = np.nan_to_num(np.asarray(values, dtype=np.float64))
    pixels = np.empty((*values.shape, 4), dtype=np.uint8)
    pixels[..., :3] = np.where(values[..., None] < 0, BLUE, above)
    pixels[..., 3] = np.round(255 * np.minimum(1, np.abs(values)))
    return Image.fromarray(pixels).resize(
        (zoom * values.shape[1], zoom * values.shape[0]), Image.Resampling.NEAREST
    )


def img(image: Image.Image, alt: str) -> str:
    """An HTML image that holds its file."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    data = base64.b64encode(file.getvalue()).decode()
    width, height = image.size
    return (
        f'<img class="dark-light" src="data:image/png;base64,{data}" '
        f'width="{width}" height="{height}" alt="{html.escape(alt)}">'
    )


def square(numbers, side):
    """A list of numbers as a square array, from 0 to 1 if they are bytes."""
    return np.array(numbers, dtype=np.float64).reshape(side, side)


def sheet(maps: dict):
    """All maps of a layer side by side, as the page lays them: (H, W) from -1 to 1."""
    channels, side = maps["channels"], maps["side"]
    values = np.array(maps["values"]).reshape(channels, side, side)
    values = values - values.min() if channels == 1 else values  # the input: black is 0
    columns = 1 if channels == 1 else 16 if channels >= 32 else 8
    rows, cell = -(-channels // columns), side + 1
    drawn = np.full((rows * cell - 1, columns * cell - 1), np.nan)
    for c, one in enumerate(values / np.abs(values).max()):
        top, left = c // columns * cell, c % columns * cell
        # A tint where the map is 0, so that one sees where it ends
        drawn[top : top + side, left : left + side] = np.maximum(one, 0.06)
    return drawn


def still(shown: dict) -> str:
    """What the page shows of one digit, for readers without JavaScript."""
    ink = square(shown["ink"], strokes.FIELD) / 255
    box, answer = shown["box"], shown["answer"]
    cut = ink[box["top"] : box["bottom"], box["left"] : box["right"]]
    pixels = square(shown["pixels"], 28) / 255
    steps = [
        (picture(ink), "Drawn", "A 7 with a bar, drawn beside the middle of the field"),
        (picture(in_square(cut)), "Cut out", "The same 7, cut out along its edges"),
        (picture(square(shown["patch"], 20), 14), "Scaled", "The 7 on 20 by 20 pixels"),
        (picture(pixels, 10), "Centred", "The 7 in the middle of 28 by 28 pixels"),
    ]
    figures = "\n".join(
        f"<figure>{img(image, alt)}<figcaption><b>{title}</b></figcaption></figure>"
        for image, title, alt in steps
    )
    evidence = square(shown["evidence"]["map"], 28)
    covered = picture(0.85 * evidence / np.abs(evidence).max(), 10, VERMILLION)
    return f"""<div class="nn-draw nn-draw-still"><div class="nn-draw-columns">
<div class="nn-draw-hand">
<div class="nn-draw-pad"><div class="nn-draw-field">{img(picture(ink), steps[0][2])}</div>
<p class="nn-draw-note">With JavaScript you could draw here. Without it, this is what the page
shows for one drawing.</p></div>
<div class="nn-draw-answer"><p class="nn-draw-verdict">It is read as {answer}.</p>
{bars(shown["probabilities"])}</div>
</div>
<div class="nn-draw-inside">
<div class="nn-draw-part"><p><b>What the network is given</b></p>
<div class="nn-draw-steps">{figures}</div></div>
<div class="nn-draw-part"><p><b>What its layers see</b></p>
<div class="nn-draw-layers">{layers(shown["maps"])}</div></div>
<div class="nn-draw-part"><p><b>Where the evidence lies</b></p>
<div class="nn-draw-evidence">
{img(covered, "The image's pixels, vermillion where covering them speaks against the answer")}
<p>Where the image is vermillion, a black square lowers the logit of {answer}; where it is
blue, the square raises it.</p></div></div>
</div></div></div>
"""


def in_square(cut):
    """A part of the field in the middle of a square, at its own size."""
    height, width = cut.shape
    side = max(cut.shape)
    whole = np.zeros((side, side))
    top, left = (side - height) // 2, (side - width) // 2
    whole[top : top + height, left : left + width] = cut
    return whole


def bars(probabilities) -> str:
    """Ten bars with their numbers."""
    items = []
    for number, p in enumerate(probabilities):
        likely = ' class="nn-draw-likely"' if p == max(probabilities) else ""
        items.append(
            f'<li{likely}><span>{number}</span><span class="nn-draw-bar" '
            f'aria-hidden="true"><i style="width: {100 * p:.1f}%"></i></span>'
            f"<span>{percent(p)}</span></li>"
        )
    return f'<ol class="nn-draw-bars">{"".join(items)}</ol>'


def percent(p: float) -> str:
    """A probability, as draw.js writes it."""
    if p > 0.999:
        return "&gt; 99.9 %"
    return "&lt; 0.1 %" if p < 0.001 else f"{100 * p:.1f} %"


def layers(maps: list[dict]) -> str:
    """The input, and what leaves each convolution's ReLU."""
    network = digit.stored()["convolutions"]
    after, at = [0], 0
    for layer in network:
        at += 3 if layer["pool"] else 2
        after.append(at)
    figures = []
    for number, index in enumerate(after):
        channels, side = maps[index]["channels"], maps[index]["side"]
        name = f"Convolution {number}" if number else "Input"
        words = f"{channels} map{'s' if channels > 1 else ''} of {side} × {side}"
        drawn = picture(sheet(maps[index]), 2 if side > 1 else 8, VERMILLION)
        figures.append(
            f"<figure><figcaption><span><b>{name}</b></span><span>{words}</span>"
            f"</figcaption>{img(drawn, f'{name}: {words}, for the 7 of this page')}</figure>"
        )
    return "\n".join(figures)


def drawings_picture(drawings, size=40) -> str:
    """One drawing of each skeleton in each kind, as MNIST would have them in the field."""
    columns = list(strokes.SKELETONS)
    one = {(d["kind"], d["skeleton"]): d for d in drawings}
    chosen = [one[kind, name] for kind in strokes.KINDS for name in columns]
    images = digit.prepared(chosen, "drawn")[:, 0].double().numpy() / 255  # (N, 28, 28)
    rows = []
    for start in range(0, len(chosen), len(columns)):
        row = [np.pad(im, 1) for im in images[start : start + len(columns)]]
        rows.append(np.concatenate(row, 1))
    alt = (
        "Six rows of drawn digits from 0 to 9: plain, thin, thick, small, off-centre and "
        "slanted. All can be read."
    )
    caption = (
        f"{len(chosen)} of the {len(drawings)} drawings, one of each skeleton in each kind, "
        "as small as the network would see them if they were only shrunk. Rows from the "
        f"top: {', '.join(strokes.KINDS)}."
    )
    drawn = img(picture(np.concatenate(rows), 2), alt)
    return (
        f'<figure class="nn-figure nn-draw-made">{drawn}'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )
