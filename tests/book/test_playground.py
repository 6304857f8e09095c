"""The page "Watch it learn": its numbers beside PyTorch's, its addresses, what its cards
say will happen; and in a browser, points placed by key, hidden controls, the end of a run.
"""

import json
import math
import re
import subprocess
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from built_book import PHONE, ROOT, on_disk
from torch import nn

from tools.strict_katex import NODE

PAGE = "book/playground"
STEPS = 50
DECAY = 0.01
OPTIMISERS = {  # as the page names them
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3, weight_decay=DECAY),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=DECAY),
    "adam": lambda p: torch.optim.AdamW(p, lr=0.03, weight_decay=DECAY),
    "adamL2": lambda p: torch.optim.Adam(p, lr=0.03, weight_decay=DECAY),
}
ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}
CASES = [
    *product(OPTIMISERS, ACTIVATIONS, (2, 3), ((5, 4),)),
    ("sgd", "relu", 3, ()),
    ("adam", "tanh", 2, (3, 16, 1, 2)),
]


def node(script: str, value=None):
    """What the body of a function returns that sees the page's modules N (numbers), A
    (addresses) and W (words), and `input`: the value. All go through JSON."""
    folder = json.dumps(f"{ROOT}/book/web/playground")
    program = f"""
        const [N, A, W] = ["network", "address", "words"].map(
            (name) => require({folder} + "-" + name + ".js"));
        const input = JSON.parse(require("fs").readFileSync(0, "utf8"));
        console.log(JSON.stringify((() => {{ {script} }})()));
    """
    done = subprocess.run(
        [NODE, "-e", program],
        input=json.dumps(value),
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


# ---- 50 steps, here and in PyTorch ----


def train_in_torch(case):
    """What node is given, and the weights, losses and dead units that PyTorch gets."""
    optimiser, activation, classes, hidden = case
    torch.manual_seed(CASES.index(case))
    sizes = [2, *hidden, classes]
    layers = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
    model = nn.Sequential(*layers[:-1]).double()
    if activation == "relu" and hidden:
        model[0].bias.data[1] = -100.0  # a dead unit, and it has to be found
    x = torch.randn(23, 2, dtype=torch.float64)  # the last of five batches is short
    y = torch.randint(classes, (23,))
    orders = [torch.randperm(23) for _ in range(STEPS // 5)]
    given = {
        "case": case,
        "x": x.flatten().tolist(),
        "y": y.tolist(),
        "theta": theta(model),
        "orders": [order.tolist() for order in orders],
        "decay": DECAY,
    }
    step = OPTIMISERS[optimiser](model.parameters())
    given["lr"] = step.param_groups[0]["lr"]
    losses = []
    for order in orders:
        for batch in order.split(5):
            loss = F.cross_entropy(model(x[batch]), y[batch])
            step.zero_grad()
            loss.backward()
            step.step()
        losses.append(F.cross_entropy(model(x), y).item())
    return given, {"theta": theta(model), "losses": losses}


def theta(model):
    """All weights in the page's order, which is PyTorch's: W by rows, b, layer by layer."""
    return torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()


TRAIN_HERE = f"""
    return input.map(({{case: [opt, act, classes, net], x, y, theta, orders, decay, lr}}) => {{
        const run = N.start({{...A.usual(), net, act, opt, lr, decay, batch: 5}});
        run.points = {{x, y, classes, train: [...y.keys()], test: []}};
        run.network = N.makeNetwork([2, ...net, classes], act);
        run.network.theta.set(theta);
        run.memory = N.newMemory(run.network);
        run.gradient = new Float64Array(theta.length);
        run.draw = {{shuffle: () => orders.shift()}};
        const losses = [];
        for (let i = 1; i <= {STEPS}; i++) {{
            N.advance(run);
            if (i % 5 === 0) losses.push(N.measure(run).train);
        }}
        return {{theta: [...run.network.theta], losses, dead: run.dead}};
    }});
"""


@pytest.fixture(scope="module")
def both():
    """For each case: what came out here, and in PyTorch."""
    pairs = [train_in_torch(case) for case in CASES]
    here = node(TRAIN_HERE, [given for given, _ in pairs])
    return {
        case: (ours, theirs)
        for case, ours, (_, theirs) in zip(CASES, here, pairs, strict=True)
    }


@pytest.mark.parametrize("case", CASES, ids=lambda c: "-".join(map(str, c[:3])))
def test_fifty_steps_equal_pytorch(both, case):
    """From given weights, with weight decay and mini-batches in a given order: all weights
    and the losses after each epoch agree to 1e-6; the dead unit is found."""
    ours, theirs = both[case]
    assert ours["theta"] == pytest.approx(theirs["theta"], rel=0, abs=1e-6), (
        "playground-network.js trains otherwise than PyTorch: compare lossAndGradient and "
        f"OPTIMISERS.{case[0]} with torch.optim"
    )
    assert ours["losses"] == pytest.approx(theirs["losses"], rel=0, abs=1e-6)
    if case[1] == "relu" and case[3]:
        assert ours["dead"][0][1]


# ---- Random numbers and points ----


def test_random_numbers_are_uniform_and_normal_and_the_seed_s():
    """Moments and correlation of 40,000 numbers; equal for equal seeds, else not."""
    uniform, normal, again, other = node("""
        const take = (seed, stream, name) => {
            const draw = N.generator(seed, stream)[name];
            return Array.from({length: 40000}, () => draw());
        };
        return [take(1, "points", "uniform"), take(1, "weights", "normal"),
            take(1, "points", "uniform"), take(2, "points", "uniform")];
    """)
    u, z = torch.tensor(uniform).double(), torch.tensor(normal).double()
    assert u.min() >= 0 and u.max() < 1
    assert u.mean().item() == pytest.approx(1 / 2, abs=0.01)
    assert u.var().item() == pytest.approx(1 / 12, abs=0.002)
    assert torch.corrcoef(torch.stack([u[1:], u[:-1]]))[0, 1].abs() < 0.02
    assert z.mean().item() == pytest.approx(0, abs=0.02)
    assert z.std().item() == pytest.approx(1, abs=0.02)
    assert uniform == again
    assert (
        abs(torch.corrcoef(torch.stack([u, torch.tensor(other).double()]))[0, 1]) < 0.02
    )


def test_points_of_the_sets():
    """Each set has its number of points, of each class alike, cut by the share; XOR's
    clouds lie about lesson 10's corners with its labels and its spread."""
    sets = node("""
        return A.SETTINGS.data.all.map((data) => {
            const p = N.makePoints({...A.usual(), data, n: 240, noise: 0.25, share: 25});
            return {...p, data, x: [...p.x], y: [...p.y]};
        });
    """)
    for points in sets:
        counts = [points["y"].count(label) for label in range(points["classes"])]
        if points["data"] == "empty":
            assert not points["y"]
            continue
        assert len(set(counts)) == 1 and sum(counts) == 240
        assert len(points["train"]) == 60
        assert sorted(points["train"] + points["test"]) == list(range(240))
        if points["data"] == "clouds":
            x = torch.tensor(points["x"]).view(240, 2)
            signs = x.sign()
            labels = torch.tensor(points["y"])
            assert ((signs[:, 0] != signs[:, 1]) == labels.bool()).float().mean() > 0.99
            assert (x - signs).std().item() == pytest.approx(0.25, abs=0.03)


# ---- Addresses ----


def test_every_setting_survives_the_address():
    """Random settings, own points among them, are what they were after write and read."""
    same = node("""
        const {uniform} = N.generator(7, "points");
        const pick = (list) => list[Math.floor(uniform() * list.length)];
        const all = {...A.SETTINGS, ...A.EXTRAS};
        const results = [];
        for (let i = 0; i < 200; i++) {
            const settings = A.usual();
            for (const [name, {all: values, low, high, whole}] of Object.entries(all)) {
                if (values) settings[name] = pick(values);
                else if (whole) settings[name] = low + Math.floor(uniform() * (high - low + 1));
                else if (high) settings[name] = low + (high - low) * uniform() ** 8;
            }
            settings.net = Array.from({length: pick([0, 1, 2, 3, 4])},
                () => 1 + Math.floor(16 * uniform()));
            settings.batch = pick([0, 1, 17, 500]);
            settings.plane = pick(["classes", "1.2", "4.16"]);
            settings.hide = pick([[], ["lr"], ["set", "opt", "tools"]]);
            settings.points = Array.from({length: pick([0, 1, 400])}, () => ({
                x: A.snap(4 * uniform() - 2), y: A.snap(4 * uniform() - 2),
                label: pick([0, 1, 2, 3]), test: uniform() < 0.5}));
            const {settings: back, complaints} = A.read(A.write(settings));
            results.push([JSON.stringify(settings) === JSON.stringify(back), complaints]);
        }
        return results;
    """)
    assert [result for result in same if result != [True, []]] == [], (
        "playground-address.js: what write writes, read does not read back"
    )


MALFORMED = f"""
    data=moons n=9 n=1e9 noise=-1 share= net=17 net=4-4-4-4-4 net=4- act=gelu opt=lion
    lr=0 lr=NaN lr=Infinity lr=fast batch=0 batch=2.5 decay=-0.1 seed=-1 seed=4294967296
    at=5001 until=x speed=warp plane=5.1 tests=maybe points=AB points=____
    points={"AAA" * 401} hide=<b> lr=%E0%A4%A %=1 constructor=1 __proto__=1
""".split()


def test_malformed_addresses_fall_back_with_a_sentence():
    """One part of an address is malformed: all is as usual but what is well formed, and one
    sentence names the part."""
    answers = node(
        "return input.map((part) => A.read(`#${part}&act=relu&seed=5`));",
        [part for part in MALFORMED if not part.startswith("act")],
    )
    usual = node("return A.usual();")
    for part, answer in zip(
        [part for part in MALFORMED if not part.startswith("act")], answers, strict=True
    ):
        expected = {**usual, "act": "relu"} | (
            {} if part.startswith("seed") else {"seed": 5}
        )
        if part.startswith("seed"):
            expected["seed"] = 5  # the later, well-formed one
        assert answer["settings"] == expected, part
        assert len(answer["complaints"]) == 1, part
        assert part.split("=")[0] in answer["complaints"][0]
        assert answer["complaints"][0].endswith(".")


# ---- The cards: what they say will happen, happens ----


def cards() -> dict[str, str]:
    """The page's cards: the name that an address may give → the address of its state."""
    text = (ROOT / f"{PAGE}.md").read_text(encoding="utf-8")
    card = r'### (.+)\n(?:(?!###).*\n)*?<a class="pg-state" .* href="(#[^"]+)"'
    return {
        name.lower().replace(" ", "-"): address
        for name, address in re.findall(card, text)
    }


VARIANTS = {  # what an answer suggests to change
    "a-line-against-xor": {"net": [8]},
    "xor-with-two-units": {"seed": 7},
    "watch-this-die": {"lr": 0.1},
    "too-small-or-too-large": {"lr": 0.3},
    "three-arms": {"net": [8]},
    "it-only-memorises": {"decay": 1},
    "plain-sgd-in-a-valley": {"opt": "momentum"},
    "four-layers-of-sigmoid": {"act": "tanh"},
}
RUN_CARDS = """
    const run = (settings) => {
        const run = N.start(settings);
        const start = {...run.now, dead: run.dead.flat().filter(Boolean).length};
        while (run.step < settings.until && N.advance(run)) if (run.step % 5 === 0) N.measure(run);
        N.measure(run);
        const alive = run.dead.flat().filter((is) => !is).length;
        const lowest_train = Math.min(...run.history.map((entry) => entry.train));
        return {start, ...run.now, alive, lowest: run.lowest, lowest_train,
            kind: W.verdict(run).kind, text: W.verdict(run).text, words: W.describe(run)};
    };
    return Object.fromEntries(Object.entries(input.cards).map(([name, hash]) => {
        const {settings, complaints} = A.read(hash);
        const other = run({...settings, ...input.variants[name]});
        return [name, {...run(settings), other, complaints, written: A.write(settings)}];
    }));
"""
CLAIMS = {
    "a-line-against-xor": lambda r: (
        r["trainRight"] <= 0.76
        and r["train"] > 0.97 * math.log(2)
        and r["other"]["testRight"] >= 0.95
    ),
    "xor-with-two-units": lambda r: (
        r["kind"] == "stuck"
        and r["trainRight"] <= 0.8
        and r["alive"] == 2
        and r["other"]["trainRight"] >= 0.97
    ),
    "watch-this-die": lambda r: (
        r["start"]["dead"] == 0
        and r["alive"] == 0
        and r["kind"] == "dead"
        and r["other"]["alive"] >= 5
    ),
    "too-fast": lambda r: r["kind"] == "rate" and r["train"] > 5 * r["start"]["train"],
    "too-small-or-too-large": lambda r: (
        r["kind"] == "guess"
        and r["train"] == r["lowest_train"] < r["start"]["train"]
        and r["other"]["kind"] == "learned"
    ),
    "beyond-what-numbers-hold": lambda r: (
        r["kind"] == "overflow" and 100 < r["step"] < 150
    ),
    "three-arms": lambda r: (
        r["testRight"] >= 0.95 and 0.5 < r["other"]["trainRight"] < 0.95
    ),
    "it-only-memorises": lambda r: (
        r["kind"] == "memory"
        and r["train"] < 0.01
        and r["test"] > 5 * r["lowest"]["test"]
        and r["other"]["test"] < r["test"] / 2
    ),
    "plain-sgd-in-a-valley": lambda r: (
        r["trainRight"] >= 0.98 and r["other"]["train"] < r["train"] / 3
    ),
    "four-layers-of-sigmoid": lambda r: (
        r["kind"] == "guess" and r["other"]["kind"] == "learned"
    ),
}


@pytest.fixture(scope="module")
def outcomes():
    return node(RUN_CARDS, {"cards": cards(), "variants": VARIANTS})


def test_each_card_has_its_claim():
    assert set(cards()) == set(CLAIMS), "a card without a claim in CLAIMS, or the reverse"


@pytest.mark.parametrize("name", CLAIMS)
def test_what_a_card_says_happens(outcomes, name):
    """The address is well formed and complete, and after its steps the claim holds; no
    sentence holds a NaN or an infinity."""
    result = outcomes[name]
    assert result["complaints"] == []
    assert result["written"] == cards()[name], "write the address as the page writes it"
    assert CLAIMS[name](result), f"the card's answer is no longer true: {result}"
    assert not re.search("NaN|Infinity|undefined|null", result["text"] + result["words"])


# ---- In the browser ----


def button(tab, name):
    return tab.get_by_role("button", name=name, exact=True)


def loss_and_step(tab):
    """The training loss and the step that the page shows."""
    words = tab.locator(".pg-readout").inner_text()
    step, loss = re.search(r"Step (\d+) .* loss ([\d.]+) in training", words).groups()
    return float(loss), int(step)


@pytest.mark.slow
def test_points_by_keyboard_are_learned(visit):
    """Arrow keys and number keys place points of two classes, then of a third one; the
    network learns them, is paused, and the address holds all."""
    address = "#data=empty&net=4&act=tanh&opt=adam&lr=0.1&batch=all"
    tab = visit(on_disk(PAGE) + address)
    button(tab, "Play").click()
    assert "no training points" in tab.get_by_role("status").inner_text()
    plane = tab.get_by_role("application")
    plane.focus()
    for key in ["ArrowLeft"] * 4 + ["1"] + ["ArrowRight"] * 8 + ["2"]:
        tab.keyboard.press(key)
    assert "class 1 at (0.50, 0.00)" in tab.get_by_role("status").inner_text()
    assert "At (0.50, 0.00)" in tab.locator(".pg-at").inner_text()
    for key in ["Shift+ArrowUp", "ArrowUp", "3"]:
        tab.keyboard.press(key)
    assert "3 classes now" in tab.get_by_role("status").inner_text()
    before, _ = loss_and_step(tab)
    button(tab, "Play").press("Enter")
    tab.wait_for_function(
        r"() => Number(document.querySelector('.pg-readout').innerText.match(/\d+/)) > 60"
    )
    button(tab, "Pause").press("Enter")
    after, step = loss_and_step(tab)
    assert after < before / 2 and step > 60
    tab.reload()
    assert loss_and_step(tab) == (before, 0)
    plane.focus()
    tab.keyboard.press("Delete")
    assert "None of your own points" in tab.get_by_role("status").inner_text()
    button(tab, "Remove all of mine").click()
    assert "points=" not in tab.url


def test_the_browser_computes_what_node_computes(visit):
    """The same address, the same steps: what the page shows is what node gets."""
    address = "#data=arms&n=90&net=8-3&act=relu&opt=momentum&lr=0.1&decay=0.01&seed=3"
    expected = node(
        """const {settings} = A.read(input);
        const run = N.start(settings);
        for (let i = 0; i < 137; i++) N.advance(run);
        N.measure(run);
        return W.describe(run);""",
        address,
    )
    tab = visit(on_disk(PAGE) + address + "&at=137", PHONE, "dark")
    button(tab, "Say it in words").click()
    assert tab.get_by_role("status").inner_text() == expected
    button(tab, "One step").click()
    assert "Step 138" in tab.locator(".pg-readout").inner_text()


def test_controls_are_hidden_for_an_exercise(visit):
    """hide= hides settings and groups; one button brings them back. Malformed parts of an
    address are named, a card's question stands above what it sets."""
    tab = visit(on_disk(PAGE) + "#hide=lr,set&lr=quick")
    assert "lr=quick" in tab.locator(".pg-complaints").inner_text()
    assert not tab.get_by_label("Learning rate").is_visible()
    assert not tab.get_by_label("Noise").is_visible()
    assert tab.get_by_label("Batch size").is_visible()
    button(tab, "Show all controls").click()
    assert tab.get_by_label("Learning rate").is_visible()
    assert tab.get_by_label("Noise").is_visible()
    tab.get_by_label("Learning rate").select_option("0.3")
    assert "lr=0.3" in tab.url and "hide" not in tab.url
    tab.get_by_role("link", name="Set this up: Watch this die").click()
    assert "how many" in tab.locator(".pg-task").inner_text().lower()
    assert tab.get_by_label("Learning rate").input_value() == "3"
    tab.get_by_label("Learning rate").select_option("0.1")
    assert not tab.locator(".pg-task").is_visible()


def test_a_card_s_name_is_an_address(visit):
    """Lessons link to `playground.md#watch-this-die`: the playground is in sight, its
    settings are the card's, and its question stands above them."""
    tab = visit(on_disk(PAGE) + "#watch-this-die", PHONE)
    assert tab.locator(".pg-task").inner_text().startswith("Watch this die")
    assert tab.get_by_label("Learning rate").input_value() == "3"
    tab.wait_for_function(
        "() => Math.abs(document.getElementById('playground').getBoundingClientRect().top) < 200"
    )
    tab.get_by_label("Learning rate").select_option("0.1")
    assert "lr=0.1" in tab.url


def test_an_exercise_hides_its_answer(visit):
    """A lesson links to a card that hides the control which would give the answer away;
    a button shows it again."""
    name = "too-small-or-too-large"
    lessons = [p.read_text(encoding="utf-8") for p in ROOT.glob("lessons/*.ipynb")]
    assert any(f"playground.md#{name})" in text for text in lessons), (
        "no lesson links to it"
    )
    tab = visit(on_disk(PAGE) + f"#{name}", PHONE, "dark")
    rate = tab.get_by_label("Learning rate")
    assert not rate.is_visible() and tab.get_by_label("Batch size").is_visible()
    button(tab, "Show all controls").click()
    assert rate.is_visible() and rate.input_value() == "0.01"


def test_a_run_that_overflows_ends_in_a_sentence(visit):
    """The run stops by itself, says at which step and why and what to do, and shows a
    picture; a reset goes on."""
    tab = visit(on_disk(PAGE) + cards()["beyond-what-numbers-hold"] + "&speed=fast")
    button(tab, "Play").click()
    # A frame before it may show a warning.
    alarm = tab.locator(".pg-alarm", has_text="stopped")
    alarm.wait_for()
    words = alarm.inner_text()
    assert re.search(r"stopped at step 1[0-4]\d", words)
    assert "3.4·10³⁸" in words and "reset" in words and "decay" in words
    assert not re.search("NaN|Infinity", tab.locator("#playground").inner_text())
    colours = tab.locator(".pg-surface").evaluate("""canvas => {
        const {width, height} = canvas;
        const all = canvas.getContext("2d").getImageData(0, 0, width, height).data;
        const seen = new Set();
        for (let i = 0; i < all.length; i += 4 * 97) seen.add(all.slice(i, i + 3).join());
        return seen.size;
    }""")
    assert colours > 5, "the plane is of one colour"
    assert button(tab, "Play").is_visible()
    button(tab, "Reset").click()
    assert not alarm.is_visible()
    assert loss_and_step(tab)[1] == 0


def test_without_script_the_page_explains_itself(browser):
    """The questions are there, and their answers unfold."""
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(on_disk(PAGE))
    assert "lessons" in tab.locator("#playground").inner_text()
    answers = tab.locator("details.pg-answer")
    assert answers.count() == len(CLAIMS)
    answers.first.locator("summary").click()
    assert "no line separates XOR" in answers.first.inner_text()
    context.close()
