"""Every lesson in a real JupyterLab, opened and not run, by someone who does not trust it;
and as an exporter shows it that keeps no SVG.

Skipped where Chromium is missing, unless LESSONS_REQUIRE_BROWSER=1.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from lesson_source import LESSONS, ROOT, cells
from nbconvert import HTMLExporter
from playwright.sync_api import TimeoutError
from swept import some
from traitlets.config import Config

pytestmark = pytest.mark.slow
SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',  # all cells are drawn
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
RAW = r"\{[a-z]+(?::[a-z]+)?\}`|\$\$|\\tag|\(eq-|:::|<blockquote|</?div"
WITHOUT_SVG = ["text/html", "text/markdown", "image/png", "text/latex", "text/plain"]
OPEN = """async path => {
    for (const open of [...jupyterapp.shell.widgets('main')]) open.dispose();
    await jupyterapp.serviceManager.sessions.shutdownAll();
    await jupyterapp.commands.execute('docmanager:open', {path});
}"""
# The first lesson, the longest, and one whose cells stand beside each other; the sweep
# opens them all.
SOME = ("01", "13", "A1")
every_lesson = pytest.mark.parametrize(
    "path",
    some(LESSONS, lambda path: path.stem.startswith(SOME)),
    ids=lambda path: path.stem,
)


def figures(lesson) -> int:
    """How many figures the stored notebook holds; a stepper is one."""
    outputs = [o for c in cells(lesson) for o in c.get("outputs", []) if "data" in o]
    steppers = [o for o in outputs if o.data.get("text/plain", "").startswith("Stepper")]
    return sum("image/svg+xml" in o.data for o in outputs) + len(steppers)


@pytest.fixture(scope="session")
def lab(chromium, tmp_path_factory):
    """JupyterLab on copies of the lessons that nobody has trusted; a browser's page."""
    home = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "lessons", home / "lessons")
    for name, text in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
    address = serve(home)
    context = chromium.new_context(viewport={"width": 1280, "height": 1000})
    tab = context.new_page()
    tab.set_default_timeout(60_000)
    yield tab, address["url"]
    context.close()
    address["process"].terminate()
    address["process"].wait()


def serve(home: Path) -> dict:
    """Start a server in this home, and wait until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folders = {
        "HOME": home,
        "JUPYTER_DATA_DIR": home / "data",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
    }
    options = [f"--port={port}", f"--ServerApp.root_dir={home / 'lessons'}"]
    options += ["--no-browser", "--allow-root", "--IdentityProvider.token="]
    options += ["--expose-app-in-browser"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", *options],
        env={**os.environ, **{name: str(path) for name, path in folders.items()}},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(f"{url}/api")
            return {"url": url, "process": process}
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise TimeoutError("JupyterLab did not start")


def opened(lab, path):
    """The lesson's page, drawn whole; JupyterLab itself is loaded once."""
    tab, url = lab
    if not tab.url.startswith(url):
        tab.goto(f"{url}/lab?reset")
        tab.wait_for_function("window.jupyterapp?.commands.hasCommand('docmanager:open')")
        tab.evaluate("jupyterapp.restored.then(() => true)")
    tab.evaluate(OPEN, path.name)
    kinds = [cell.cell_type for cell in cells(path.stem)]
    tab.wait_for_function(
        """([all, prose]) => document.querySelectorAll('.jp-Cell').length === all
            && document.querySelectorAll('.jp-MarkdownOutput').length === prose""",
        arg=[len(kinds), kinds.count("markdown")],
    )
    tab.wait_for_function("document.querySelectorAll('mjx-container').length > 0")
    return tab


@every_lesson
def test_opened_and_not_run_all_is_there(lab, path):
    """Every figure is seen and has its words, steppers and quizzes say what they are, boxes
    are set off, and no markup stands raw."""
    tab = opened(lab, path)
    images = tab.locator(".jp-OutputArea-output img")
    tab.wait_for_function(
        "n => document.querySelectorAll('.jp-OutputArea-output img').length >= n",
        arg=figures(path.stem),
    )
    assert images.count() == figures(path.stem)
    sizes = images.evaluate_all("all => all.map(e => e.complete && e.naturalWidth)")
    assert all(sizes)
    text = tab.evaluate(
        """[...document.querySelectorAll('.jp-MarkdownOutput')]
        .map(e => [...e.childNodes].map(n => n.innerText ?? '').join('\\n')).join('\\n')"""
    )
    assert not re.findall(RAW, text)
    outputs = [o for c in cells(path.stem) for o in c.get("outputs", []) if "data" in o]
    widgets = [o for o in outputs if "Run this cell" in o.data.get("text/html", "")]
    assert len(widgets) >= 3
    assert tab.get_by_text(re.compile("^Run this cell|Run this cell")).count() >= 3
    prose = "\n".join(c.source for c in cells(path.stem) if c.cell_type == "markdown")
    boxes = tab.locator(".jp-MarkdownOutput blockquote")
    assert boxes.count() == prose.count("<blockquote")


@every_lesson
def test_an_exporter_that_keeps_no_svg_shows_every_figure(path):
    """As a repository's preview does: each figure's PNG, with its words below."""
    config = Config({"NbConvertBase": {"display_data_priority": WITHOUT_SVG}})
    notebook = nbformat.read(path, as_version=4)
    page, _ = HTMLExporter(config=config, template_name="basic").from_notebook_node(
        notebook
    )
    images = re.findall(r'<img[^>]*src="data:image/png;base64,', page)
    assert len(images) == figures(path.stem)


def runs_all_cells(tab) -> None:
    """Click the menu until the kernel is busy: JupyterLab may not take commands yet."""
    busy = tab.locator(".jp-Notebook-ExecutionIndicator[data-status=busy]")
    for _ in range(5):
        tab.locator(".lm-MenuBar-itemLabel", has_text="Run").first.click()
        tab.locator(".lm-Menu-itemLabel", has_text=re.compile("^Run All Cells$")).click()
        try:
            return busy.wait_for(state="attached", timeout=20_000)
        except TimeoutError:
            tab.keyboard.press("Escape")
    pytest.fail("Run All Cells was clicked five times, and nothing ran")


def test_run_from_the_menu_nothing_is_solved(lab):
    """All cells of the first lesson: no error, the slider and the quizzes are drawn, and of
    the exercises none counts as solved, since the reader has solved none."""
    tab = opened(lab, LESSONS[0])
    idle = ".jp-Notebook-ExecutionIndicator[data-status=idle]"
    tab.locator(idle).wait_for(state="attached", timeout=120_000)  # the kernel is there
    runs_all_cells(tab)
    tab.locator(idle).wait_for(state="attached", timeout=120_000)
    prompts = tab.locator(".jp-InputPrompt").all_inner_texts()
    assert not any("*" in prompt for prompt in prompts), "a cell was not reached"
    exercises = sum(
        "exercise" in c.metadata.get("tags", []) for c in cells(LESSONS[0].stem)
    )
    assert tab.get_by_text(f"0 of {exercises} exercises solved").count() == 1
    meant = sum("raises-exception" in str(c.metadata) for c in cells(LESSONS[0].stem))
    assert tab.get_by_text("Traceback (most recent call last)").count() == meant
    # Widgets are drawn after the kernel has said that it is done.
    tab.locator(".widget-slider").first.wait_for(state="attached")
    tab.locator(".widget-radio").nth(1).wait_for(state="attached")
