"""Pictures of every page of the built book: `python -m tools.screenshots FOLDER [WORD …]`.

Widths 1280 and 390, light and dark. With words, only pages whose name holds one of them.
"""

import argparse
import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

HTML = Path(__file__).resolve().parents[1] / "_build" / "html"


def main(folder: str, *words: str) -> None:
    """Write PAGE-WIDTH-THEME.png for each page, width and theme."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    pages = [p for part in ("book", "lessons") for p in sorted((HTML / part).glob("*.html"))]
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"),
            args=["--no-sandbox"],
        )
        for width in (1280, 390):
            for theme in ("light", "dark"):
                tab = browser.new_page(
                    viewport={"width": width, "height": 900},
                    color_scheme=theme,
                    reduced_motion="reduce",
                )
                for page in pages:
                    if words and not any(word in page.stem for word in words):
                        continue
                    tab.goto(page.as_uri(), wait_until="load")
                    tab.wait_for_timeout(400)
                    tab.screenshot(path=f"{folder}/{page.stem}-{width}-{theme}.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tools.screenshots", description=__doc__)
    parser.add_argument("folder", help="where the pictures go")
    parser.add_argument("words", nargs="*", help="what a page's name has to hold, one of them")
    args = parser.parse_args()
    main(args.folder, *args.words)
