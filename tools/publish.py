"""Write the repository's address into the book and the lessons.

`python -m tools.publish URL`. The address stands in `_config.yml`; the lessons' set-up
cell is made from it, for Colab. Book and lessons point to the tag of their version, so
that a notebook fetches the module that it was tested with, and not the newest. Stored
outputs are left as they are. Run it again with another address to move, and after each
change of the version.
"""

import re
import sys
import tomllib
from pathlib import Path

import nbformat

from tools.store import normalised

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https://(?:github|gitlab)\.com/[\w.-]+/[\w.-]+")


UNPUBLISHED = ".invalid/"  # an address that nobody can register
MISSING = (
    "The folder lessons_src is missing. Lay it beside this notebook, "
    "or run `pip install -e .` in a checkout of the course."
)


def tag() -> str:
    """The tag of this version: v0.2.0."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return f"v{tomllib.loads(text)['project']['version']}"


def publish(url: str, root: Path = ROOT) -> list[Path]:
    """Stamp `url` on the tree at `root`; the files that changed.

    ValueError on a bad address.
    """
    url = url.rstrip("/").removesuffix(".git")
    if not ADDRESS.fullmatch(url):
        raise ValueError(f"expected URL=https://github.com/owner/name, received {url!r}")
    files = [root / "_config.yml"]
    files += sorted(root.glob("lessons/*.ipynb")) + sorted(root.glob("book/*.ipynb"))
    changed = []
    for path in files:
        old = path.read_text(encoding="utf-8")
        new = stamped_config(old, url) if path.suffix == ".yml" else stamped(old, url)
        if new != old:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed


def stamped_config(text: str, url: str) -> str:
    """The text of `_config.yml` with the address and the tag, and Colab's address where
    it can be used."""
    colab = "https://colab.research.google.com" if "github" in url else ""
    text = re.sub(r"(?m)^(repository:\n(?:  .*\n)*?  url: ).*$", rf"\g<1>{url}", text)
    text = re.sub(
        r"(?m)^(repository:\n(?:  .*\n)*?  branch: ).*$", rf"\g<1>{tag()}", text
    )
    return re.sub(r"(?m)^(  colab_url: ).*$", rf'\g<1>"{colab}"', text)


def stamped(text: str, url: str) -> str:
    """The text of a notebook whose set-up cell is the one of this address."""
    notebook = nbformat.reads(text, as_version=4)
    for cell in notebook.cells:
        if "setup" in cell.metadata.get("tags", []):
            cell.source = setup_cell(url)
    return nbformat.writes(normalised(notebook)) + "\n"


def setup_cell(url: str) -> str:
    """The first code of every lesson: fetches the module of this version where there is
    none.

    Until the course is published, it says what to do in place of that.
    """
    title = "#@title Set-up: looks for the course's module"
    look = 'from importlib.util import find_spec\nif find_spec("lessons_src") is None:\n'
    if UNPUBLISHED in url:
        return f"{title}\n{look}    raise ModuleNotFoundError({MISSING!r})"
    pip = f'[sys.executable, "-m", "pip", "install", "--quiet", "git+{url}@{tag()}"]'
    return (
        f"{title}, and fetches it\n{look}    import subprocess\n    import sys\n"
        f"    subprocess.run({pip}, check=True)"
    )


if __name__ == "__main__":
    try:
        changed = publish("".join(sys.argv[1:2]))
    except ValueError as error:
        sys.exit(str(error))
    print("\n".join(map(str, changed)) or "nothing to change")
