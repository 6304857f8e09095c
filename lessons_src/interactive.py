"""Steppers and quizzes that work with a kernel and without one.

They are ipywidgets joined in the front end (`jslink`), every frame computed beforehand: the same
object works in Jupyter, in Colab's ipywidgets 7.7.1 and in the built page with no server.
No TeX inside: Unicode and HTML (<i>, <sub>, <sup>) read the same everywhere.
"""

import html

import ipywidgets as widgets
from IPython.display import display

from lessons_src.figures import Picture


def stepper(frames: dict[object, Picture], label: str) -> None:
    """A slider over frames: `stepper({0.1: picture, 1.0: picture}, "learning rate")`.

    frames: what the slider says -> a `figures.picture`; at least two. label: what is varied.
    ValueError on anything else.
    """
    if len(frames) < 2 or not all(isinstance(frame, Picture) for frame in frames.values()):
        raise ValueError("a stepper needs two frames or more, each a figures.picture(fig, alt)")
    values = [str(value) for value in frames]
    slider = widgets.SelectionSlider(
        options=values, value=values[0], description=label, continuous_update=True,
        style={"description_width": "initial"}, layout={"width": "min(100%, 30rem)"},
    )  # fmt: skip
    pages = [widgets.HTML(frame.html) for frame in frames.values()]
    box = widgets.VBox([slider, _linked(pages, slider, 0)])
    box.add_class("nn-stepper")
    lines = [
        f"{label} = {value}: {html.escape(frame.alt)}"
        for value, frame in zip(values, frames.values(), strict=True)
    ]
    _show(box, f"Stepper over {label}, {len(frames)} frames", lines)


def quiz(question: str, answers: dict[str, str], right: str) -> None:
    """A question with choices; each choice is answered with its reason.

    answers: choice -> why it is right or wrong; two or more. right: the right choice.
    Plain text or the HTML of a word (<i>, <sub>) in the question and the reasons; plain text in
    the choices. ValueError where the right choice is not among them, or a reason is empty.
    """
    if len(answers) < 2 or right not in answers:
        raise ValueError(f"the right answer {right!r} is not one of {list(answers)} (two or more)")
    if not all(reason.strip() for reason in answers.values()):
        raise ValueError("every choice needs a reason: why it is right, or why it is not")
    radio = widgets.RadioButtons(options=list(answers), value=None, layout={"width": "auto"})
    pages = [widgets.HTML(_reason(reason, choice == right)) for choice, reason in answers.items()]
    box = widgets.VBox(
        [widgets.HTML(f"<p><b>{question}</b></p>"), radio, _linked(pages, radio, None)]
    )
    box.add_class("nn-quiz")
    lines = [
        f"{choice}: {'right. ' if choice == right else 'no. '}{reason}"
        for choice, reason in answers.items()
    ]
    _show(box, f"Quiz: {question}", lines)


def _reason(reason: str, is_right: bool) -> str:
    kind, verdict = ("nn-right", "Right.") if is_right else ("nn-wrong", "Not quite.")
    return f'<p class="{kind}"><b>{verdict}</b> {reason}</p>'


def _linked(pages: list, control, first: int | None):
    """The page whose number is the control's index; None shows none."""
    if hasattr(widgets, "Stack"):
        stack = widgets.Stack(pages, selected_index=first)
        widgets.jslink((control, "index"), (stack, "selected_index"))
        return stack
    box = widgets.VBox([] if first is None else [pages[first]])  # ipywidgets 7: a kernel is there

    def turn(change):
        box.children = [] if change["new"] is None else [pages[change["new"]]]

    control.observe(turn, "index")
    return box


def _show(box, title: str, lines: list[str]) -> None:
    """Display the widget, and for viewers without widgets the same words folded."""
    items = "".join(f"<li>{line}</li>" for line in lines)
    folded = f"<details><summary>{title}</summary><ul>{items}</ul></details>"
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    plain = html.unescape("\n- ".join([title, *lines]))
    display({"application/vnd.jupyter.widget-view+json": view, "text/html": folded,
             "text/plain": plain}, raw=True)  # fmt: skip
