"""The whole book in one file, for a USB stick or a mail: `python -m tools.stick`.

Packs the built book into `_build/neural-networks-that-run.zip`. The same book gives the
same bytes: files in the order of their names, with one fixed date.
"""

import sys
import zipfile
from pathlib import Path

from tools import book

TARGET = book.BUILD / "neural-networks-that-run.zip"
FOLDER = "neural-networks-that-run"
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip file can hold
LEFT_OUT = {".buildinfo", "objects.inv"}  # what only Sphinx reads
ADDED = ("LICENSE", "LICENSE-text", "CITATION.cff")
START = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="0; url=html/book/index.html">
<title>Neural Networks That Run</title>
<body style="font: 1.2rem/1.6 Georgia, serif; max-width: 32rem; margin: 4rem auto">
<h1>Neural Networks That Run</h1>
<p>The book opens by itself. If it does not, <a href="html/book/index.html">open it
here</a>. It needs a browser, and no network.</p>
<p>Unpack the whole zip file first: a page that is opened from inside it does not find
the others.</p>
</html>
"""


def main(html: Path = book.BUILD / "html", target: Path = TARGET) -> int:
    """Pack a built book; the exit status for the shell."""
    if not (html / "book" / "index.html").is_file():
        print(f"There is no book in {html}: run make book.")
        return 1
    pack(html, target)
    print(f"{target.stat().st_size / 1e6:.1f} MB: {target}")
    return 0


def pack(html: Path, target: Path) -> None:
    """Write the zip file: the start page and the licences at the top, the book below."""
    contents = {"START-HERE.html": START.encode()}
    contents |= {name: (book.ROOT / name).read_bytes() for name in ADDED}
    for file in html.rglob("*"):
        if file.is_file() and file.name not in LEFT_OUT:
            contents[f"html/{file.relative_to(html).as_posix()}"] = file.read_bytes()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(f"{FOLDER}/{name}", DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = (
                3  # Unix on every system, so that the bytes are the same
            )
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, contents[name], compresslevel=9)


if __name__ == "__main__":
    sys.exit(main())
