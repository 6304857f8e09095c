"""What a reader has done stays in the browser: marks, answers and ticks, by lessons' names;
exported, erased, imported; and silence where a browser keeps nothing."""

import json

import pytest
from built_book import HTML, LESSONS, PHONE, on_disk

LESSON = next(page for page in LESSONS if page.endswith("_softmax"))
KEPT = "JSON.parse(localStorage.getItem('nn-progress-1'))"
FOOT = ".nn-done p"
# As a browser does that is told to keep nothing.
DENIED = """Object.defineProperty(window, 'localStorage', {
    configurable: true,
    get() { throw new DOMException('denied', 'SecurityError'); },
});"""


def answer(tab, number: int, right: bool) -> None:
    """Choose in a quiz until a reason of this kind is shown; the choices before count."""
    quiz = tab.locator(".nn-quiz").nth(number)
    kind = ".nn-right" if right else ".nn-wrong"
    for choice in quiz.get_by_role("radio").all():
        choice.click()
        tab.wait_for_function(  # the reason of this choice in place of the last one's
            """quiz => quiz.querySelector('.nn-chosen input:checked')
                && [...quiz.querySelectorAll('.nn-right, .nn-wrong')]
                    .some(reason => reason.checkVisibility())""",
            arg=quiz.element_handle(),
        )
        if quiz.locator(f"{kind}:visible").count():
            return


@pytest.mark.slow
def test_progress_is_kept(visit, tmp_path):
    """A lesson read, a quiz answered wrong and then right, and an exercise done are told at
    the lesson's foot, in the contents and on the welcome page. Exported, erased and
    imported, they are there again."""
    tab = visit(on_disk(LESSON))
    assert tab.locator(".nn-read").count() == 0
    answer(tab, 0, right=False)
    answer(tab, 0, right=True)  # the first try counts
    tab.get_by_label("Done: ").first.check()
    tab.get_by_role("button", name="Mark as read").click()
    tab.locator(
        FOOT, has_text="1 of 3 quizzes answered, 0 right at the first try"
    ).wait_for()
    assert "1 of 4 exercises done" in tab.locator(FOOT).inner_text()
    kept = tab.evaluate(KEPT)
    assert list(kept["lessons"]) == ["softmax"], "kept by name: numbers change"
    assert list(kept["lessons"]["softmax"]["quizzes"].values()) == [False]

    tab.reload()
    assert (
        tab.get_by_role("button", name="✓ Read").get_attribute("aria-pressed") == "true"
    )
    assert tab.get_by_label("Done: ").first.is_checked()
    ticked = tab.locator(".bd-docs-nav li:has(.nn-read)").all_inner_texts()
    assert ticked == ["3 · Softmax ✓"]

    tab.goto(on_disk("book/running"))
    assert tab.locator(".bd-docs-nav li:has(.nn-read)").count() == 1
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Export").click()
    file = tmp_path / "progress.json"
    download.value.save_as(file)
    exported = file.read_text(encoding="utf-8")
    assert json.loads(exported) == kept
    erase = tab.get_by_role("button", name="Erase")
    erase.click()
    assert tab.evaluate(KEPT) == kept, "one press erases nothing"
    erase.click()
    assert tab.evaluate("localStorage.getItem('nn-progress-1')") is None
    assert tab.locator(".nn-read").count() == 0
    for text, said in (("{", "Nothing was changed"), (exported, "Imported")):
        file.write_text(text, encoding="utf-8")
        tab.locator("input[type=file]").set_input_files(file)
        tab.get_by_role("status").filter(has_text=said).wait_for()
    assert tab.evaluate(KEPT) == kept

    tab.goto(on_disk("book/index"))
    tally = tab.locator(".nn-tally")
    assert tally.inner_text().startswith(f"1 of {len(LESSONS)} lessons read · 1 of ")


@pytest.mark.slow
def test_a_file_that_someone_wrote_does_no_harm(visit):
    """What has not the form of progress is left out, and nothing of it becomes HTML."""
    lessons = {
        "__proto__": {"read": True},
        "softmax": {"read": 1},
        "gpus": {"read": True, "quizzes": {"<b>": True, "a": 7}, "exercises": "x"},
    }
    kept = {"version": 1, "lessons": lessons}
    first = f"localStorage.setItem('nn-progress-1', {json.dumps(json.dumps(kept))})"
    tab = visit(on_disk("book/index"), first=first)
    read, quizzes, exercises = tab.locator(".nn-tally").inner_text().split(" · ")
    assert read.startswith("1 of ") and quizzes.startswith("1 of ")
    assert exercises.startswith("0 of ")


@pytest.mark.slow
def test_a_browser_that_keeps_nothing(visit):
    """Not a word in the console (`visit` listens), the page works, the theme's colours
    change, and the buttons say why they do nothing."""
    tab = visit(on_disk(LESSON), without="embed.js", first=DENIED)
    assert tab.get_by_role("button", name="Mark as read").is_disabled()
    assert tab.get_by_label("Done: ").first.is_disabled()
    assert "This browser keeps nothing" in tab.locator(FOOT).inner_text()
    tab.locator(".theme-switch-button:visible").click()
    tab.wait_for_function("() => document.documentElement.dataset.mode != 'auto'")
    tab.goto(on_disk("book/running"))
    for name in ("Export", "Import", "Erase"):
        assert tab.get_by_role("button", name=name).is_disabled()
    assert "keeps nothing" in tab.locator(".nn-progress-tools").inner_text()


@pytest.mark.slow
def test_on_a_phone_the_contents_have_their_ticks(visit):
    """The menu, which the theme moves into a dialog, shows what is read."""
    kept = json.dumps({"version": 1, "lessons": {"softmax": {"read": True}}})
    first = f"localStorage.setItem('nn-progress-1', {json.dumps(kept)})"
    tab = visit(on_disk("book/notation"), PHONE, first=first)
    tab.locator(".primary-toggle:visible").click()
    ticked = tab.locator("dialog[open] li:has(.nn-read:visible)")
    assert ticked.all_inner_texts() == ["3 · Softmax ✓"]


def test_pages_without_script_have_no_dead_buttons():
    """The buttons are made by the script: the pages themselves hold none."""
    for page in (LESSON, "book/running"):
        text = (HTML / f"{page}.html").read_text(encoding="utf-8")
        assert "Mark as read" not in text and ">Export<" not in text
