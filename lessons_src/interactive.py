"""Steppers and quizzes that work with a kernel and without one.

They are ipywidgets joined in the front end (`jslink`), every frame computed beforehand:
the same object works in Jupyter, in Colab's ipywidgets 7.7.1 and in the built page, which
has no server. No TeX inside: Unicode and HTML (<i>, <sub>) read the same everywhere.
"""

import base64
import html

import ipywidgets as widgets
from IPython.display import display

from lessons_src.expect import expect, expect_type
from lessons_src.figures import Picture, caption_html


def stepper(
    frames: dict[object, Picture],
    label: str,
    start: object = None,
    caption: str | None = None,
) -> None:
    """A slider over frames: `stepper({0.1: picture, 1.0: picture}, "learning rate")`.

    frames: what the slider says -> a `figures.picture`; at least two. label: what is
    varied. start: the frame shown first, one of the keys; else the first. caption: what
    the frames show together. ValueError on anything else.
    """
    expect_type("frames", frames, dict, ", what the slider says -> its picture")
    expect_type("label", label, str)
    expect_type("caption", caption or "", str, ", or None")
    names = {str(value) for value in frames}
    expect(len(names) == len(frames), "two frames read the same", sorted(names)[0])
    pictures = list(frames.values())
    if len(pictures) < 2 or not all(isinstance(p, Picture) for p in pictures):
        raise ValueError(
            "a stepper needs two frames or more, each a figures.picture(fig, alt)"
        )
    if start is not None and start not in list(frames):  # a list has no hash
        raise ValueError(f"start {start!r} is not one of the frames {list(frames)}")
    first = 0 if start is None else list(frames).index(start)
    values = [str(value) for value in frames]
    slider = widgets.SelectionSlider(
        options=values,
        index=first,
        description=label,
        style={"description_width": "initial"},
        layout={"width": "min(100%, 30rem)"},
    )
    pages = html_pages([picture.html for picture in pictures])
    parts = [slider, one_page(pages, slider, first)]
    words = caption_html(caption) if caption else ""
    if words:
        parts.append(widgets.HTML(words))
    box = widgets.VBox(parts)
    box.add_class("nn-stepper")
    lines = [
        f"{label} = {value}: {html.escape(picture.alt)}"
        for value, picture in zip(values, pictures, strict=True)
    ]
    title = f"Stepper over {label}, {len(frames)} frames"
    seen = still(pictures[first]) + words
    show_with_words(box, title, "to move the slider", lines, seen)


def still(picture: Picture) -> str:
    """A frame as HTML for viewers that show no widgets."""
    size = picture.size()
    code = base64.b64encode(picture.png()).decode()
    return (
        f'<img alt="{html.escape(picture.alt)}" width="{size["width"]}" '
        f'height="{size["height"]}" src="data:image/png;base64,{code}">'
    )


def quiz(question: str, answers: dict[str, str], right: str) -> None:
    """A question with choices; each choice is answered with its reason.

    answers: choice -> why it is right or wrong; two or more. right: the right choice.
    Plain text or the HTML of a word (<i>, <sub>) in the question and the reasons; plain
    text in the choices. ValueError where the right choice is not among them, or a reason
    is empty.
    """
    expect_type("answers", answers, dict, ", choice -> its reason")
    asks = isinstance(question, str) and question.strip()
    expect(asks, "question must be words", question)
    read = {str(choice).strip() for choice in answers}
    expect(len(read) == len(answers), "two choices read the same", sorted(read)[0])
    if len(answers) < 2 or right not in list(answers):
        raise ValueError(
            f"the right answer {right!r} is not one of {list(answers)} (two or more)"
        )
    if not all(isinstance(text, str) and text.strip() for text in answers.values()):
        raise ValueError("every choice needs a reason: why it is right, or why it is not")
    radio = widgets.RadioButtons(
        options=list(answers), value=None, layout={"width": "auto"}
    )
    replies, lines = [], []
    for choice, reason in answers.items():
        replies.append(reply(reason, choice == right))
        verdict = "right" if choice == right else "no"
        lines.append(f"{choice}: {verdict}. {reason}")
    asked, *pages = html_pages([f"<p><b>{question}</b></p>", *replies])
    box = widgets.VBox([asked, radio, one_page(pages, radio, first=None)])
    box.add_class("nn-quiz")
    choices = "".join(f"<li>{choice}</li>" for choice in answers)
    seen = f"<ul>{choices}</ul>"
    show_with_words(box, f"Quiz: {question}", "to choose an answer", lines, seen)


def reply(reason: str, is_right: bool) -> str:
    """What a choice is answered with: the verdict and the reason, in HTML."""
    if is_right:
        return f'<p class="nn-right"><b>Right.</b> {reason}</p>'
    return f'<p class="nn-wrong"><b>Not quite.</b> {reason}</p>'


def html_pages(texts: list[str]) -> list[widgets.HTML]:
    """One HTML widget for each text."""
    first = widgets.HTML(texts[0])
    # They share one layout and one style: stored, each would take two kilobytes.
    shared = {"layout": first.layout, "style": first.style}
    return [first] + [widgets.HTML(text, **shared) for text in texts[1:]]


def one_page(pages: list, control, first: int | None):
    """A box with the page whose number is the control's index; None shows none."""
    if not hasattr(widgets, "Stack"):
        return one_page_by_kernel(pages, control, first)
    stack = widgets.Stack(pages, selected_index=first)
    widgets.jslink((control, "index"), (stack, "selected_index"))
    return stack


def one_page_by_kernel(pages: list, control, first: int | None):
    """The same for ipywidgets 7, which has no Stack: a callback turns the page."""
    box = widgets.VBox()

    def turn(index):
        box.children = [] if index is None else [pages[index]]

    turn(first)
    control.observe(lambda change: turn(change["new"]), "index")
    return box


def show_with_words(box, title: str, purpose: str, lines: list[str], seen="") -> None:
    """Display the widget; viewers without widgets, or before a run, get the same words.

    seen: HTML that is shown there at once; the lines are folded.
    """
    items = "".join(f"<li>{line}</li>" for line in lines)
    words = (
        f"<p><b>{title}</b><br>Run this cell {purpose}.</p>{seen}"
        f"<details><summary>All in words</summary><ul>{items}</ul></details>"
    )
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    bundle = {
        "application/vnd.jupyter.widget-view+json": view,
        "text/html": words,
        "text/plain": html.unescape("\n- ".join([title, *lines])),
    }
    display(bundle, raw=True)
