"""Write the repository's address into the book and every lesson: `python -m tools.publish URL`.

It stands in `_config.yml`, and the lessons' set-up cell repeats it for Colab. Stored outputs are
left as they are. Run it again with another address to move.
"""

import re
import sys
from pathlib import Path

import nbformat

from tools.store import normalised

ROOT = Path(__file__).resolve().parents[1]
ADDRESS = re.compile(r"https://(?:github|gitlab)\.com/[\w.-]+/[\w.-]+")


def publish(url: str, root: Path = ROOT) -> list[Path]:
    """Stamp `url` on the tree at `root`; the files that changed. ValueError on a bad address."""
    url = url.rstrip("/").removesuffix(".git")
    if not ADDRESS.fullmatch(url):
        raise ValueError(f"expected URL=https://github.com/owner/name, received {url!r}")
    config = root / "_config.yml"
    text = config.read_text()
    new = re.sub(r"(?m)^(repository:\n(?:  .*\n)*?  url: ).*$", rf"\g<1>{url}", text)
    colab = "https://colab.research.google.com" if "github" in url else ""
    new = re.sub(r"(?m)^(  colab_url: ).*$", rf'\g<1>"{colab}"', new)
    changed = [config] if new != text else []
    config.write_text(new)
    for path in sorted(root.glob("lessons/*.ipynb")) + sorted(root.glob("book/*.ipynb")):
        before = path.read_text()
        notebook = nbformat.reads(before, as_version=4)
        for cell in notebook.cells:
            if "setup" in cell.metadata.get("tags", []):
                cell.source = re.sub(r'REPOSITORY = "[^"]*"', f'REPOSITORY = "{url}"', cell.source)
        nbformat.write(normalised(notebook), path)
        changed += [path] if path.read_text() != before else []
    return changed


if __name__ == "__main__":
    try:
        print("\n".join(map(str, publish(*sys.argv[1:2] or [""]))) or "nothing to change")
    except ValueError as error:
        sys.exit(str(error))
