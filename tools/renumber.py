"""Give lessons other numbers: `python -m tools.renumber NAME=NUMBER …`.

    python -m tools.renumber gpus=23 many_machines=24

renames the files, and rewrites every link to them and their titles in the contents.
Nothing else knows a lesson's number: tests, exercises and records go by its name.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("_toc.yml", "README.md", "book/*.md", "book/*.ipynb", "lessons/*.ipynb")


def renumber(wanted: dict[str, str], root: Path = ROOT) -> dict[str, str]:
    """Rename lessons and rewrite their links; old stem -> new stem of those that moved.

    wanted: a lesson's name -> its number as written in the file's name ("07", "A1").
    ValueError on a name that is not there, and on two lessons of one number.
    """
    there = {path.stem.split("_", 1)[1]: path for path in root.glob("lessons/*_*.ipynb")}
    if unknown := wanted.keys() - there.keys():
        raise ValueError(f"no lesson is called {', '.join(sorted(unknown))}")
    numbers = {name: path.stem.split("_", 1)[0] for name, path in there.items()}
    numbers |= {name: number.zfill(2) for name, number in wanted.items()}
    if len(set(numbers.values())) < len(numbers):
        raise ValueError("two lessons would have the same number; nothing was changed")
    moved = {
        path.stem: f"{numbers[name]}_{name}"
        for name, path in there.items()
        if path.stem != f"{numbers[name]}_{name}"
    }
    for path in [file for pattern in PAGES for file in root.glob(pattern)]:
        old = path.read_text(encoding="utf-8")
        new = with_links(old, moved)
        if new != old:
            path.write_text(new, encoding="utf-8")
    # By way of names that nothing has: two lessons may change places.
    for old in moved:
        (root / f"lessons/{old}.ipynb").rename(root / f"lessons/{old}.moving")
    for old, new in moved.items():
        (root / f"lessons/{old}.moving").rename(root / f"lessons/{new}.ipynb")
    return moved


LINK = re.compile(
    r"(?:(?<=\[)\w+(?P<title> · [^\]\n]*\]\([./\w]*?))?\b(?P<stem>\w+)(?=\.ipynb\b)"
)
CONTENTS = re.compile(r"(?<=file: lessons/)(?P<stem>\w+)(?P<title>\n +title: )\w+(?= · )")


def with_links(text: str, moved: dict[str, str]) -> str:
    """The text with the new stems, and the new numbers before titles in links and in
    the contents: `[7 · Name](…)`, `title: 7 · Name`."""

    def number(stem):
        return stem.split("_", 1)[0].lstrip("0")

    def link(match):
        new = moved.get(match["stem"])
        if new is None:
            return match[0]
        return f"{number(new)}{match['title']}{new}" if match["title"] else new

    def entry(match):
        new = moved.get(match["stem"])
        return f"{new}{match['title']}{number(new)}" if new else match[0]

    return CONTENTS.sub(entry, LINK.sub(link, text))


if __name__ == "__main__":
    try:
        pairs = dict(argument.split("=") for argument in sys.argv[1:])
        moved = renumber(pairs)
    except ValueError as error:
        sys.exit(f"{error}\n\n{__doc__}")
    print(
        "\n".join(f"{old} -> {new}" for old, new in moved.items()) or "nothing to change"
    )
