"""Pictures of the built book's pages: `python -m tools.screenshots FOLDER [WORD …]`.

Light and dark, at the widths 1280 and 390, or at others: `--widths 768 2560`. With words,
only pages whose name holds one of them.
`python -m tools.screenshots --readme` makes the three pictures of the README anew.
"""

import argparse
import io
import itertools
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
# The README's pictures: the page's address, what stands at the top, and what is done first.
README = {
    "welcome": ("book/index.html", "h1", ("[aria-label='steps of training: back']", 3)),
    "draw": ("book/draw.html", "h1", (".nn-draw-samples button:nth-of-type(3)", 1)),
    "playground": (
        "book/playground.html#data=arms&n=300&noise=0.05&net=8-8&act=tanh&opt=adam"
        "&lr=0.03&seed=2&at=600",
        "#playground",
        None,
    ),
}
COLOURS = 256  # of a picture, the most that it can list: with 64, orange-red turns brown


def main(folder: str, words: list[str], widths: list[int]) -> None:
    """Write PAGE-WIDTH-THEME.png for each page, width and theme."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width, theme in itertools.product(widths, ("light", "dark")):
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


def readme(folder: Path = ROOT / ".github") -> None:
    """Write NAME.png for each picture of the README, from the built book."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        size = {"width": 1280, "height": 900}
        tab = browser.new_page(viewport=size, reduced_motion="reduce")
        for name, (address, top, click) in README.items():
            tab.goto(f"{HTML.as_uri()}/{address}", wait_until="load")
            tab.wait_for_timeout(3000)
            if click:
                for _ in range(click[1]):
                    tab.locator(click[0]).click()
                tab.mouse.move(0, 0)
            tab.locator(top).last.evaluate(
                "e => scrollTo(0, scrollY + e.getBoundingClientRect().top - 70)"
            )
            tab.wait_for_timeout(1000)
            picture = Image.open(io.BytesIO(tab.screenshot())).convert("RGB")
            picture.quantize(COLOURS).save(folder / f"{name}.png", optimize=True)
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
    parser.add_argument("folder", nargs="?", help="where the pictures go")
    parser.add_argument("--readme", action="store_true", help="the README's pictures")
    parser.add_argument(
        "words", nargs="*", help="what a page's name has to hold, one of them"
    )
    parser.add_argument(
        "--widths",
        type=int,
        nargs="+",
        default=[1280, 390],
        help="of the screen, in pixels",
    )
    arguments = parser.parse_args()
    if arguments.readme:
        readme()
    elif arguments.folder:
        main(arguments.folder, arguments.words, arguments.widths)
    else:
        parser.error("name a folder, or say --readme")
