"""The whole book as an EPUB, for readers on paper-like screens: `python -m tools.epub`.

What the PDF takes of each page goes into a file of XHTML: formulas in MathML, figures in
SVG, widgets as their first frame, answers and solutions at the end. No script is in it.
"""

import html
import shutil
import sys
import zipfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from tools import book, pdf, stick

TARGET = book.BUILD / "neural-networks-that-run.epub"
TITLE = "Neural Networks That Run"
AUTHORS = "The developers of Neural Networks That Run"
CONTAINER = """<?xml version="1.0" encoding="UTF-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="book/content.opf"
 media-type="application/oebps-package+xml"/></rootfiles>
</container>
"""
PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"
 lang="en" xml:lang="en">
<head><title>{title}</title><link rel="stylesheet" type="text/css" href="epub.css"/></head>
<body id="{name}">
{body}
</body>
</html>
"""


def main() -> int:
    """Write the EPUB; the exit status for the shell."""
    chapters = pdf.contents()
    if not (pdf.HTML / f"{chapters[-1]['file']}.html").is_file():
        print("The book is not built: run make book.")
        return 1
    with sync_playwright() as play:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        write(browser, chapters, TARGET)
        browser.close()
    print(f"{TARGET.stat().st_size / 1e6:.1f} MB: {TARGET}")
    return 0


def write(browser, chapters: list[dict], target: Path) -> None:
    """Take all pages and pack them."""
    tab = browser.new_page(color_scheme="light", reduced_motion="reduce")
    places = {chapter["file"]: i for i, chapter in enumerate(chapters)}
    files = {}
    for i, chapter in enumerate(chapters):
        body = pdf.take(tab, chapter, places, epub=True)
        title = html.escape(chapter["title"])
        files[f"p{i}.xhtml"] = PAGE.format(title=title, name=f"p{i}", body=body)
    tab.close()
    files["nav.xhtml"] = navigation(chapters)
    files["epub.css"] = Path(__file__).with_name("epub.css").read_text(encoding="utf-8")
    files["content.opf"] = package(files)
    pack(files, target)


def navigation(chapters: list[dict]) -> str:
    """The contents: parts, and the chapters in them."""
    items, last = [], None
    for i, chapter in enumerate(chapters):
        part = chapter["part"]
        if part != last and last is not None:
            items.append("</ol></li>")
        if part != last:
            items.append(f"<li><span>{html.escape(part)}</span><ol>")
        last = part
        title = html.escape(chapter["title"])
        items.append(f'<li><a href="p{i}.xhtml">{title}</a></li>')
    if last is not None:
        items.append("</ol></li>")
    body = f'<nav epub:type="toc"><h1>Contents</h1><ol>{"".join(items)}</ol></nav>'
    return PAGE.format(title="Contents", name="contents", body=body)


def package(files: dict[str, str]) -> str:
    """The package document: what the book is, and its files in their order."""
    entries, order = [], []
    for name, text in files.items():
        kind = "text/css" if name.endswith(".css") else "application/xhtml+xml"
        properties = ["nav"] if name == "nav.xhtml" else []
        properties += [
            word for tag, word in (("<svg", "svg"), ("<math", "mathml")) if tag in text
        ]
        marked = f' properties="{" ".join(properties)}"' if properties else ""
        key = name.partition(".")[0]
        entries.append(f'<item id="{key}" href="{name}" media-type="{kind}"{marked}/>')
        if name.startswith("p"):
            order.append(f'<itemref idref="{key}"/>')
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0" xml:lang="en" '
        'unique-identifier="id">\n'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        '<dc:identifier id="id">urn:neural-networks-that-run</dc:identifier>'
        f"<dc:title>{TITLE}</dc:title><dc:creator>{AUTHORS}</dc:creator>"
        "<dc:language>en</dc:language><dc:rights>CC BY 4.0; code: MIT</dc:rights>"
        '<meta property="dcterms:modified">1980-01-01T00:00:00Z</meta></metadata>\n'
        f"<manifest>{''.join(entries)}</manifest>\n"
        f"<spine>{''.join(order)}</spine>\n</package>\n"
    )


def pack(files: dict[str, str], target: Path) -> None:
    """Write the zip file that an EPUB is: its type first, and not compressed."""
    contents = {"mimetype": "application/epub+zip", "META-INF/container.xml": CONTAINER}
    contents |= {f"book/{name}": text for name, text in files.items()}
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in contents.items():
            entry = zipfile.ZipInfo(name, stick.DATE)
            if name != "mimetype":
                entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, text.encode())


if __name__ == "__main__":
    sys.exit(main())
