"""Pictures of the built book's pages: `python -m tools.screenshots FOLDER [WORD …]`.

Widths 1280 and 390, light and dark. With words, only pages whose name holds one of them.
"""

import argparse
import itertools
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

HTML = Path(__file__).resolve().parents[1] / "_build" / "html"


def main(folder: str, words: list[str]) -> None:
    """Write PAGE-WIDTH-THEME.png for each page, width and theme."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width, theme in itertools.product((1280, 390), ("light", "dark")):
            tab = browser.new_page(
                viewport={"width": width, "height": 900},
                color_scheme=theme,
                reduced_motion="reduce",
            )
            for page in pages(words):
                tab.goto(page.as_uri(), wait_until="load")
                tab.wait_for_timeout(400)
                path = f"{folder}/{page.stem}-{width}-{theme}.png"
                tab.screenshot(path=path, full_page=True)
        browser.close()


def pages(words: list[str]) -> list[Path]:
    """The book's pages; with words, those whose name holds one of them."""
    files = [*sorted(HTML.glob("book/*.html")), *sorted(HTML.glob("lessons/*.html"))]
    if not words:
        return files
    return [file for file in files if any(word in file.stem for word in words)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tools.screenshots", description=__doc__
    )
    parser.add_argument("folder", help="where the pictures go")
    parser.add_argument(
        "words", nargs="*", help="what a page's name has to hold, one of them"
    )
    arguments = parser.parse_args()
    main(arguments.folder, arguments.words)
