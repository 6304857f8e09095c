"""The page "Draw a digit": its network is PyTorch's, its preparation MNIST's, its numbers
are computed, and it can be drawn on by mouse, finger and keyboard."""

import base64
import json
import os
import re

import numpy as np
import pytest
import torch
from built_book import DESK, PHONE, ROOT, on_disk
from lesson_source import close, definitions
from playwright.sync_api import expect

from lessons_src import data, recipes
from tools import digit_network as digit
from tools import digit_pages, strokes

PAGE = "book/draw"
WEB = ROOT / "book" / "web"
FIELD = ".nn-draw-field"
MAKE = "run: python -m tools.digit --pages"


@pytest.fixture(scope="module")
def mnist():
    return data.load("mnist", notice=False)


@pytest.fixture(scope="module")
def model():
    """The stored network in PyTorch."""
    return digit.model_of(digit.stored())


@pytest.fixture(scope="module")
def drawings():
    return json.loads(digit.DRAWINGS.read_text(encoding="utf-8"))


def need_real(mnist):
    if mnist.standin:
        pytest.skip("the page's numbers are those of the real MNIST")


# ---- the network: any images will do, real ones or the stand-in's ----


@torch.no_grad()
def maps_of(model, x) -> list[torch.Tensor]:
    """The outputs that digit.js gives too, then the logits. A batch norm alone has none:
    digit.js does it with its ReLU."""
    outputs = []
    for layer in model:
        x = layer(x)
        if not isinstance(layer, digit.ScaleShift | torch.nn.AdaptiveMaxPool2d):
            outputs.append(x)
    del outputs[-2]  # the flattened maxima
    return outputs


def test_batch_norms_are_folded_rightly():
    """A fresh network with batch norms of any sign gives what its stored form gives."""
    torch.manual_seed(0)
    whole = recipes.OWN[digit.RECIPE].network()
    for layer in whole:
        if isinstance(layer, torch.nn.BatchNorm2d):
            for numbers in (layer.weight, layer.bias, layer.running_mean):
                torch.nn.init.normal_(numbers)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2)
    x = torch.randn(8, 1, 28, 28)
    with torch.no_grad():
        close(digit.model_of(digit.layers_of(whole))(x), whole.eval()(x), 1e-4)


def test_occlusion_is_the_lessons(mnist, model):
    """The map of the evidence is what the lesson on looking inside computes."""
    names = ("corners", "blacked_out", "occlusion")
    lesson = definitions("inside_the_network", *names)["occlusion"]
    images = mnist.test.images[:1]  # 169 squares on it
    x = digit.normalised(digit.stored(), images)
    expected = lesson(model, x, digit.logits_of(model, x).argmax(1))
    got = digit.floats(digit.node("occlusion", images.numpy().tobytes()))
    assert (got.view_as(expected) - expected).abs().max() < 1e-4


def test_temperature_is_fitted_as_the_lesson_does():
    theirs = definitions("fooled_and_unsure", "fit_temperature")["fit_temperature"]
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(300, 10, generator=generator)
    labels = torch.randint(10, (300,), generator=generator)
    assert digit.fit_temperature(logits, labels) == theirs(logits, labels)


# ---- the preparation ----


@pytest.mark.parametrize(
    "count", [200, pytest.param(10_000, marks=pytest.mark.sweep, id="all")]
)
def test_preparation_leaves_mnist_as_it_is(mnist, count):
    """Cut, scaled and centred again, MNIST's images come out as they went in."""
    need_real(mnist)
    same = digit_pages.unchanged(mnist.test.images[:count])
    assert same.double().mean() > 0.999, "the preparation is not MNIST's"
    if count == len(mnist.test):
        said = (digit_pages.FOLDER / "again.md").read_text(encoding="utf-8")
        assert f"{same.sum():,} come out exactly" in said, MAKE


def test_preparation_by_numbers():
    """A bar of 60 × 120 with a square beside it, drawn as MNIST is prepared, by hand."""
    width, points = 8, [40, 40, 40, 160, 100, 160]
    drawing = {"strokes": [{"width": width, "points": points}]}
    (image,) = digit.prepared([drawing], "mnist")[:, 0].double() / 255
    rows, columns = image.sum(1), image.sum(0)
    assert (rows > 0).sum() == 20, "its longer side takes all of the box"
    # 60 + 8 wide and 120 + 8 high, and a rim of half a pixel on either side
    assert (columns > 0).sum() == pytest.approx(20 * 68 / 128, abs=1)
    for sums in (rows, columns):
        middle = (sums @ (torch.arange(28).double() + 0.5)) / sums.sum()
        assert abs(middle - 14.5) <= 0.5
    # its ink is the pen's area, shrunk
    area = width * (120 + 60) + np.pi * (width / 2) ** 2 - width**2 / 4
    assert image.sum().item() == pytest.approx(area * (20 / 129) ** 2, rel=0.05)


# ---- the strokes, the table, the numbers in the text ----


def test_drawings_are_those_of_the_seed(drawings):
    """Several hundred, of all kinds and digits; the stored ones are made again."""
    assert drawings == strokes.drawings(), "stored and made drawings differ: " + MAKE
    assert len(drawings) >= 300
    assert {d["kind"] for d in drawings} == set(strokes.KINDS)
    assert {d["digit"] for d in drawings} == set(range(10))
    points = [p for d in drawings for s in d["strokes"] for p in s["points"]]
    assert min(points) >= 0 and max(points) <= strokes.FIELD


@pytest.mark.slow
def test_drawings_are_read_and_worse_without_centring(parts):
    """At least 96.7 % are read (the table is computed here, as the page's own), and fewer
    without centring, and still fewer without scaling."""
    *_, last = parts["strokes.md"].strip().splitlines()
    number, *shares = re.findall(r"[\d.]+", last)
    centred, scaled, neither = map(float, shares)
    assert int(number) >= 300
    assert centred >= 96.7
    assert centred > scaled + 10 > neither + 15


def pixels_of(text: str) -> list[np.ndarray]:
    """The images in a part of the page: another zlib packs the same pixels otherwise."""
    import io

    from PIL import Image

    packed = re.findall(r"data:image/png;base64,([\w+/=]+)", text)
    files = [io.BytesIO(base64.b64decode(one)) for one in packed]
    return [np.asarray(Image.open(file).convert("RGBA")).astype(int) for file in files]


@pytest.mark.parametrize("name", ["still.html", "drawings.html", "strokes.md"])
def test_parts_of_the_page_are_those_of_its_network(parts, name):
    """The pictures, the table: made again from the weights, they are what is stored."""
    stored = (digit_pages.FOLDER / name).read_text(encoding="utf-8")
    without = [re.sub('base64,[^"]+', "", text) for text in (stored, parts[name])]
    assert without[0] == without[1], f"{name} is not of these weights: {MAKE}"
    for old, new in zip(pixels_of(stored), pixels_of(parts[name]), strict=True):
        assert old.shape == new.shape and abs(old - new).max() <= 1, f"{name}: {MAKE}"


@pytest.fixture(scope="module")
def parts():
    return digit_pages.parts()


def test_numbers_in_the_text_are_computed(mnist):
    """The accuracy, the temperature's effect and the shares when sure and unsure."""
    need_real(mnist)
    stored = (digit_pages.FOLDER / "facts.md").read_text(encoding="utf-8")
    assert stored == digit_pages.facts(mnist), f"facts.md is not of these weights: {MAKE}"


def test_the_welcome_pages_number_is_explained():
    """The same digit, once without and once with the temperature, as the welcome page and
    this page have them."""
    hero = json.loads((ROOT / "book" / "hero.json").read_text(encoding="utf-8"))
    last = hero["frames"][max(hero["frames"], key=int)]
    facts = (digit_pages.FOLDER / "facts.md").read_text(encoding="utf-8")
    shown = f"sees a {hero['label']} in the first test image with {max(last['probabilities']):.0%}"
    assert shown.replace("%", " %") in facts, "the two pages show different networks"


def test_samples_are_the_test_images_that_they_name(mnist):
    need_real(mnist)
    file = digit.stored()
    for sample in file["samples"]:
        pixels = mnist.test.images[sample["index"]].numpy().tobytes()
        assert base64.b64decode(sample["pixels"]) == pixels
        assert mnist.test.labels[sample["index"]] == sample["label"]
    assert file["mean"] == mnist.mean and file["std"] == mnist.std


@pytest.mark.sweep
def test_the_network_is_the_recipes(mnist, model):
    """Trained again, by the recipe and its seed, it is the same network but for rounding:
    it gives nearly every test image the same answer, and a temperature like the stored."""
    need_real(mnist)
    file = digit.stored()
    again = digit.trained(mnist)
    x = digit.normalised(file, mnist.test.images)
    new, old = (digit.logits_of(m, x).argmax(1) for m in (digit.model_of(again), model))
    assert (new == old).double().mean() > 0.985
    assert again["temperature"] == pytest.approx(file["temperature"], rel=0.1)
    assert (again["recipe"], again["seed"]) == (file["recipe"], file["seed"])


def test_all_of_it_is_small():
    """Scripts, style and weights: at most 250 kB."""
    names = ("digit.js", "digit-weights.js", "draw.js", "draw.css")
    assert sum((WEB / name).stat().st_size for name in names) <= 250_000


# ---- in the browser ----


@pytest.fixture(scope="module")
def page(visit_once):
    """The page from disk, on a desk: one for the tests that do not mind what was drawn on
    it before."""
    return ready(visit_once(on_disk(PAGE)))


@pytest.fixture
def fresh(visit):
    """The page as it opens."""
    return ready(visit(on_disk(PAGE)))


def ready(tab):
    tab.locator(".nn-draw:not(.nn-draw-still)").wait_for()
    return tab


def probabilities(tab) -> list[float]:
    """Those that the bars say; "< 0.1 %" counts 0."""
    words = tab.locator(".nn-draw-bars li > :last-child").all_inner_texts()
    return [0.0 if "<" in text else float(text.strip("> %")) / 100 for text in words]


def settled(tab, words: str) -> None:
    """Wait until the verdict holds these words."""
    tab.locator(".nn-draw-verdict", has_text=re.compile(words)).wait_for()


def draw(tab, *strokes_) -> None:
    """Draw lines with the mouse; places are shares of the field."""
    box = tab.locator(FIELD).bounding_box()
    for stroke in strokes_:
        for n, (x, y) in enumerate(stroke):
            place = (box["x"] + x * box["width"], box["y"] + y * box["height"])
            tab.mouse.move(*place, steps=4)
            if n == 0:
                tab.mouse.down()
        tab.mouse.up()


# Images in base64 -> what `digit.js` gives for each, one float32 after the other, and the
# fewest milliseconds: the others may have waited for a busy machine. A reader of files packs
# the numbers faster than a list of them.
ANSWER = """async ([packed, withMaps]) => {
    const bytes = nnDigit.bytesOf(packed), net = nnDigit.network(nnDigitFile);
    const all = [], times = [];
    for (let i = 0; i < bytes.length; i += 784) {
        const start = performance.now();
        const { maps, logits } = nnDigit.forward(net, bytes.subarray(i, i + 784));
        times.push(performance.now() - start);
        if (withMaps) all.push(...maps.map(({ values }) => values));
        all.push(logits);
    }
    const url = await new Promise((done) => {
        const reader = new FileReader();
        reader.onload = () => done(reader.result);
        reader.readAsDataURL(new Blob(all));
    });
    return [url.split(",")[1], Math.min(...times)];
}"""


def in_chromium(tab, images, with_maps=False):
    """Bytes (N, 1, 28, 28) -> (N, P), the page's numbers for each; and its milliseconds."""
    packed = base64.b64encode(images.numpy().tobytes()).decode()
    answer, took = tab.evaluate(ANSWER, [packed, with_maps])
    return digit.floats(base64.b64decode(answer)).view(len(images), -1), took


def test_all_feature_maps_are_pytorchs(page, mnist, model):
    """In Chromium: of 200 test images, every number of every map, and the logits, within
    1e-4; an image takes less than ten milliseconds."""
    for images in mnist.test.images[:200].split(50):
        expected = maps_of(model, digit.normalised(digit.stored(), images))
        assert len(expected) == 1 + sum(3 if m else 2 for m in (1, 0, 1, 0)) + 1
        flat = torch.cat([maps.flatten(1) for maps in expected], 1)  # (50, P)
        got, took = in_chromium(page, images, with_maps=True)
        assert (got - flat).abs().max() < 1e-4, (
            "digit.js computes otherwise than PyTorch: see forward there"
        )
        assert took < 10


@pytest.mark.parametrize(
    "count", [500, pytest.param(10_000, marks=pytest.mark.sweep, id="all")]
)
def test_answers_are_pytorchs(page, mnist, model, count):
    """In Chromium: the same logits to 1e-4, and so the same answer to every test image."""
    for images in mnist.test.images[:count].split(500):
        logits = digit.logits_of(model, digit.normalised(digit.stored(), images))
        got, _ = in_chromium(page, images)
        assert (got - logits).abs().max() < 1e-4, (
            "digit.js answers otherwise than PyTorch: see forward there"
        )
        assert torch.equal(got.argmax(1), logits.argmax(1))


def test_drawn_by_mouse(fresh):
    """A 1 drawn by mouse replaces the example and is read; bars, maps and steps follow."""
    settled(fresh, "This is a 7")
    maps = fresh.locator(".nn-draw-layers canvas").last
    before = maps.get_attribute("aria-label"), maps.evaluate("e => e.toDataURL()")
    draw(fresh, [(0.5, 0.15), (0.5, 0.5), (0.5, 0.85)])
    settled(fresh, "This is a 1")
    assert probabilities(fresh)[1] > 0.9
    assert maps.evaluate("e => e.toDataURL()") != before[1]
    drawn = fresh.locator(".nn-draw-steps figcaption").first.inner_text()
    assert re.search(r"box: 2\d\s×\s2\d\d", drawn), "the example is still there"
    fresh.get_by_role("button", name="Undo").click()
    settled(fresh, "Draw a digit")
    assert fresh.locator(".nn-draw-bars").inner_text().count("–") == 10


def test_drawn_by_keyboard(fresh):
    """Reached by Tab, a 7 is drawn by arrows and Space alone; what is read is said once
    the pen rests, and Enter says where it is. Backspace undoes, Delete clears."""
    field, said = fresh.locator(FIELD), fresh.locator(".nn-draw-said")
    fresh.evaluate("document.querySelector('.bd-article a[href*=fast_cnn]').focus()")
    fresh.keyboard.press("Tab")
    expect(field).to_be_focused()
    press = fresh.keyboard.press
    for _ in range(8):
        press("Home")  # up and left
    for _ in range(2):
        press("ArrowUp")
    press("Space")
    expect(said).to_have_text("Pen down.")
    for _ in range(14):
        press("ArrowRight")
    fresh.keyboard.down("ArrowDown")
    for _ in range(20):
        press("ArrowDown")
    fresh.keyboard.up("ArrowDown")
    for _ in range(2):
        press("End")
    press("Space")
    settled(fresh, "7")
    said.filter(has_text=re.compile("^(This|Which).*7 with")).wait_for(state="attached")
    press("Enter")
    expect(said).to_have_text(re.compile(r"pen is up, at \d+ percent .* 7 with"))
    press("Backspace")
    settled(fresh, "Draw a digit")
    press("Space")
    press("Space")
    expect(fresh.locator(".nn-draw-verdict")).not_to_contain_text("it is read")
    press("Delete")
    settled(fresh, "Draw a digit")


def test_drawn_by_finger(browser):
    """A touch draws; the page does not scroll under it."""
    context = browser.new_context(viewport=PHONE, has_touch=True, reduced_motion="reduce")
    tab = context.new_page()
    tab.goto(on_disk(PAGE))
    field = tab.locator(f".nn-draw {FIELD}[tabindex]")
    field.scroll_into_view_if_needed()
    assert field.evaluate("e => getComputedStyle(e).touchAction") == "none"
    box = field.bounding_box()
    cdp = context.new_cdp_session(tab)
    x, y = box["x"] + box["width"] / 2, box["y"]
    for kind, share in (("Start", 0.2), ("Move", 0.4), ("Move", 0.6), ("Move", 0.8)):
        points = [{"x": x, "y": y + share * box["height"]}]
        cdp.send(
            "Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points}
        )
    cdp.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    settled(tab, "This is a 1")
    context.close()


def test_without_centring_a_corner_is_lost(page):
    """The same small digit in a corner: read as MNIST was prepared, not when only shrunk;
    the steps say which are skipped."""
    page.get_by_role("button", name="Clear").click()
    points = [(0.8, 0.75), (0.92, 0.75), (0.85, 0.95)]
    page.get_by_role("radio", name="thin").check()
    draw(page, points)
    settled(page, "This is a 7")
    page.get_by_role("radio", name="neither").check()
    page.locator(".nn-draw-steps", has_text="Only shrunk").wait_for()
    assert page.locator(".nn-draw-skipped").count() == 2
    assert probabilities(page)[7] < 0.5
    page.get_by_role("radio", name="as MNIST was").check()
    settled(page, "This is a 7")


def test_samples_ask_back_where_the_network_is_unsure(page):
    """A sample is the real test image, through the same steps; the last ones are
    doubtful, and then the page asks which digit it is. The evidence is shown on demand."""
    samples = page.locator(".nn-draw-samples button")
    file = digit.stored()
    assert samples.count() == len(file["samples"])
    samples.nth(3).click()
    settled(page, "This is a 3")
    assert (
        f"image {file['samples'][3]['index']}. Its label is 3"
        in page.locator(".nn-draw-source").inner_text()
    )
    evidence = page.locator(".nn-draw-evidence")
    assert not evidence.is_visible()
    page.get_by_role("button", name="Cover it").click()
    evidence.locator("p", has_text="logit of 3 falls").wait_for()
    samples.last.click()
    settled(page, "Which is it, an? \\d")
    assert page.locator(".nn-draw-likely").count() >= 2
    assert max(probabilities(page)) < file["sure"]


def test_every_layer_is_shown(page):
    """The main maps, and with the box ticked every map that the network has; each one
    described."""
    layers = page.locator(".nn-draw-layers canvas")
    assert layers.count() == 5
    page.get_by_role("checkbox").check()
    assert layers.count() == len(
        page.evaluate(
            "nnDigit.forward(nnDigit.network(nnDigitFile), new Uint8Array(784)).maps.map(m => 1)"
        )
    )
    page.wait_for_function(
        """() => [...document.querySelectorAll('.nn-draw canvas')].every(
            e => e.closest('[aria-hidden], button, [hidden]') || e.ariaHidden
                || e.ariaLabel?.length > 15)"""
    )


@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_follows_the_theme_and_fits(visit, theme):
    """The ink has the page's colour, also after a change; nothing is too wide."""
    tab = visit(on_disk(PAGE), PHONE, theme)
    for now in (theme, "dark" if theme == "light" else "light"):
        tab.emulate_media(color_scheme=now)
        tab.wait_for_function(f"() => document.documentElement.dataset.theme == '{now}'")
        dark = "<" if now == "light" else ">"
        tab.wait_for_function(f"""() => {{
            const copy = new OffscreenCanvas(280, 280);
            const context = copy.getContext('2d', {{willReadFrequently: true}});
            context.drawImage(document.querySelector('{FIELD} canvas'), 0, 0);
            const {{ data }} = context.getImageData(0, 0, 280, 280);
            const i = data.findIndex((v, i) => i % 4 === 3 && v === 255);
            return data[i - 1] {dark} 128;
        }}""")
    for width in (320, 390, 768, DESK["width"]):
        tab.set_viewport_size({"width": width, "height": 900})
        assert tab.evaluate("document.documentElement.scrollWidth") <= width


def test_without_script_the_page_explains_itself(browser):
    """The pictures are there, described, with ten bars; and no dead button."""
    context = browser.new_context(java_script_enabled=False, viewport=PHONE)
    tab = context.new_page()
    tab.goto(on_disk(PAGE))
    pictures = tab.locator(".nn-draw-still img")
    assert pictures.count() >= 11
    for picture in pictures.all():
        assert picture.is_visible() and len(picture.get_attribute("alt")) >= 20
    assert tab.locator(".nn-draw-still .nn-draw-bars li").count() == 10
    assert tab.locator(".nn-draw button").count() == 0
    context.close()


def test_the_page_asks_no_other_host():
    """All that it loads lies beside it."""
    html = (ROOT / "book" / "draw" / "app.html").read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="([^"]+)/', html)) == {"../_static"}
    assert os.path.commonprefix(re.findall(r"https?:", html)) == ""
