"""lessons_src.interactive: linked in the front end, every frame there, words for all."""

import html
import re

import ipywidgets as widgets
import matplotlib.pyplot as plt
import pytest
from ipywidgets.widgets.widget import _instances
from ipywidgets.widgets.widget_link import Link

from lessons_src import figures, interactive

FRAMES = ("first frame of the stepper", "second frame of the stepper")
ANSWERS = {"A & B": "since <i>x</i> > 0", "neither": "read again"}


@pytest.fixture
def shown(monkeypatch):
    """What is displayed: a list of mime bundles."""
    bundles = []
    monkeypatch.setattr(
        interactive, "display", lambda bundle, raw: bundles.append(bundle)
    )
    return bundles


def widget(bundle):
    return _instances[bundle["application/vnd.jupyter.widget-view+json"]["model_id"]]


def make_stepper(**options):
    frames = {
        0.1 * k: figures.picture(plt.figure(), alt) for k, alt in enumerate(FRAMES, 1)
    }
    interactive.stepper(frames, "learning rate", **options)


def test_stepper_holds_every_frame_and_is_linked_without_a_kernel(shown):
    """One frame a value; the link between slider and frames is the browser's (jslink)."""
    make_stepper()
    box = widget(shown[0])
    slider, stack = box.children
    assert "nn-stepper" in box._dom_classes
    assert slider.options == ("0.1", "0.2") and slider.description == "learning rate"
    for alt, page in zip(FRAMES, stack.children, strict=True):
        assert f'aria-label="{alt}"' in page.value
    assert stack.selected_index == 0
    links = [w for w in all_links() if w.source[0] is slider]
    assert [(w.source[1], w.target[0] is stack, w.target[1]) for w in links] == [
        ("index", True, "selected_index")
    ]


def all_links():
    return [w for w in _instances.values() if isinstance(w, Link)]


def test_quiz_shows_nothing_until_a_choice_and_a_reason_for_each(shown):
    """No choice is made beforehand; right and wrong differ, and each has a reason."""
    interactive.quiz("Which holds?", ANSWERS, "A & B")
    question, radio, stack = widget(shown[0]).children
    assert radio.value is None and stack.selected_index is None
    assert "Which holds?" in question.value
    right, wrong = (page.value for page in stack.children)
    assert "nn-right" in right and "Right." in right and "since <i>x</i> > 0" in right
    assert "nn-wrong" in wrong and "Not quite." in wrong and "read again" in wrong
    (link,) = [w for w in all_links() if w.source[0] is radio]
    assert (link.source[1], link.target[1]) == ("index", "selected_index")


def test_viewers_without_widgets_get_the_words(shown):
    """Plain text and folded HTML hold question, choices, reasons and alt texts: nbval
    compares them, and a page without widgets shows them."""
    interactive.quiz("Which holds?", ANSWERS, "A & B")
    make_stepper()
    for bundle, words in zip(shown, (["Which holds?", *ANSWERS], FRAMES), strict=True):
        for word in words:
            assert word in bundle["text/plain"]
            assert word in html.unescape(re.sub("<[^>]+>", "", bundle["text/html"]))
        assert "<details>" in bundle["text/html"]
        assert "Run this cell to" in bundle["text/html"]


def test_before_a_run_a_stepper_shows_its_first_frame(shown):
    """As a PNG with its alt text, which a viewer shows that trusts no SVG in HTML."""
    make_stepper()
    (image,) = re.findall(r"<img [^>]*>", shown[0]["text/html"])
    assert f'alt="{FRAMES[0]}"' in image and 'src="data:image/png;base64,' in image


def test_a_stepper_starts_on_the_frame_that_tells_most(shown):
    """Slider, frame and the picture before a run: all on `start`; another value is an
    error that names the frames."""
    make_stepper(start=0.2)
    slider, stack = widget(shown[0]).children
    assert slider.value == "0.2" and stack.selected_index == 1
    assert f'<img alt="{FRAMES[1]}"' in shown[0]["text/html"]
    with pytest.raises(ValueError, match=r"0.3 is not one of the frames \[0.1, 0.2\]"):
        make_stepper(start=0.3)


def test_a_steppers_caption_stands_below_every_frame(shown):
    """With a kernel and before a run, and its finding in bold."""
    make_stepper(caption="Figure 2. It grows. Read it so.")
    below = "<b>Figure 2. It grows.</b> Read it so."
    assert below in widget(shown[0]).children[-1].value
    assert below in shown[0]["text/html"]


def test_pages_share_what_is_alike(shown):
    """One layout and one style for all frames, or all reasons: a lesson is smaller."""
    make_stepper()
    interactive.quiz("Which holds?", ANSWERS, "A & B")
    for bundle in shown:
        pages = widget(bundle).children[-1].children
        assert len(pages) == 2 and len({page.value for page in pages}) == 2
        assert len({page.layout for page in pages}) == 1
        assert len({page.style for page in pages}) == 1


def test_old_ipywidgets_without_stack(shown, monkeypatch):
    """Colab's ipywidgets 7.7.1 has no Stack: a callback in the kernel turns the page."""
    monkeypatch.delattr(widgets, "Stack")
    interactive.quiz("Which holds?", ANSWERS, "A & B")
    _, radio, page = widget(shown[0]).children
    assert page.children == ()
    radio.index = 1
    assert "read again" in page.children[0].value
    make_stepper()
    slider, page = widget(shown[1]).children
    assert FRAMES[0] in page.children[0].value
    slider.index = 1
    assert FRAMES[1] in page.children[0].value


@pytest.mark.parametrize(
    ("answers", "right"), [({"a": "x"}, "a"), (ANSWERS, "c"), ({"a": "x", "b": " "}, "a")]
)
def test_a_quiz_needs_reasons_and_a_right_answer(answers, right):
    """Two choices, the right one among them, a reason for every choice."""
    with pytest.raises(ValueError, match="right answer|needs a reason"):
        interactive.quiz("?", answers, right)


def test_a_stepper_needs_two_pictures():
    """One frame is no stepper, and a matplotlib figure carries no alt text."""
    with pytest.raises(ValueError, match="two frames or more, each a figures.picture"):
        interactive.stepper({1: figures.picture(plt.figure(), FRAMES[0])}, "x")
    with pytest.raises(ValueError, match="two frames or more"):
        interactive.stepper({1: plt.figure(), 2: plt.figure()}, "x")
    plt.close("all")
