"""What there is to say of each lesson, read from the contents and the notebooks.

A lesson goes by its name, its file's name without the number: `softmax` for
`lessons/03_softmax.ipynb`. Pages, stored progress and links survive another number so.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
QUESTION = re.compile(r"\*\*Question\.?\*\*\s*(.+)")
MINUTES = re.compile(r"\*\*Reading\*\* (\d+) minutes · \*\*exercises\*\* (\d+) minutes")
EXERCISE = re.compile(r"\*\*Exercise \d+ · ")


@dataclass(frozen=True)
class Lesson:
    """One lesson: where it is, what it asks, how long it takes (minutes), what is in it."""

    page: str  # lessons/03_softmax
    name: str  # softmax
    number: str  # 3, or A1
    title: str
    part: str  # I; "" for an appendix
    question: str
    reading: int
    exercising: int
    quizzes: int
    exercises: int


def lessons(root: Path = ROOT) -> list[Lesson]:
    """The lessons in the book's order. ValueError on one without a card."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    return [
        lesson(root, chapter["file"], part.get("caption", ""))
        for part in contents["parts"]
        for chapter in part["chapters"]
        if chapter["file"].startswith("lessons/")
    ]


def lesson(root: Path, page: str, caption: str) -> Lesson:
    """A lesson's facts from its stored notebook."""
    notebook = json.loads((root / f"{page}.ipynb").read_text(encoding="utf-8"))
    cells = notebook["cells"]
    text = "\n\n".join(
        "".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"
    )
    question, minutes = QUESTION.search(text), MINUTES.search(text)
    if not question or not minutes:
        raise ValueError(
            f"{page}: the card needs **Question.** and "
            "**Reading** … minutes · **exercises** … minutes"
        )
    states = notebook["metadata"].get("widgets", {}).values()
    models = [model for kind in states for model in kind.get("state", {}).values()]
    return Lesson(
        page=page,
        name=name_of(page),
        number=number_of(page),
        title=text.removeprefix("# ").split("\n", 1)[0].strip(),
        part=caption.split(" · ")[0] if " · " in caption else "",
        question=question[1].strip(),
        reading=int(minutes[1]),
        exercising=int(minutes[2]),
        quizzes=sum("nn-quiz" in m["state"].get("_dom_classes", []) for m in models),
        exercises=len(EXERCISE.findall(text)),
    )


def name_of(page: str) -> str:
    """A lesson's name: its file's without the number."""
    return page.rpartition("/")[2].split("_", 1)[1]


def number_of(page: str) -> str:
    """A lesson's number as it is read: 3, or A1."""
    return page.rpartition("/")[2].split("_", 1)[0].lstrip("0")


def numbered(all_lessons: list[Lesson]) -> int:
    """How many lessons have a number of their own; appendices are not among them."""
    return sum(lesson.number.isdigit() for lesson in all_lessons)
