// The page "Watch it learn": controls around a small network that learns while one looks.
// Loaded by that page alone, after playground-network.js (the numbers), -address.js (the
// settings), -words.js (the sentences) and -pictures.js (the canvases).

(() => {
  "use strict";

  const Network = PlaygroundNetwork, Address = PlaygroundAddress;
  const Words = PlaygroundWords, Pictures = PlaygroundPictures;
  const SECONDS_BETWEEN_WORDS = 5; // while it learns; a screen reader reads them
  const WITHIN = 0.15; // how near a point has to be to be removed

  // ---- What the controls are called, and offer ----

  const SETS = {
    circle: "a disc in a ring", xor: "XOR", gauss: "two clouds", spiral: "two spirals",
    clouds: "XOR’s clouds, as in lesson 10", strips: "two flat strips",
    blobs: "three clouds", arms: "three arms", empty: "none: only my own points",
  };
  const ACTIVATIONS = { tanh: "tanh", relu: "ReLU", sigmoid: "sigmoid" };
  const OPTIMISERS = { sgd: "SGD", momentum: "SGD with momentum 0.9", adamL2: "Adam",
    adam: "AdamW" };
  const RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100];
  const DECAYS = [0, 0.001, 0.01, 0.03, 0.1, 0.3, 1];
  const BATCHES = [1, 5, 10, 20, 50, 0];
  const SPEEDS = { slow: "slow: 4 a second", normal: "normal: 1 a frame", fast: "fast" };
  // A change of these keeps the network; a change of any other setting starts anew.
  const KEEPS = ["opt", "lr", "batch", "decay", "until", "speed", "plane", "tests", "hide"];
  // Of these, what a link to "this step" could not repeat.
  const TRAINS = ["opt", "lr", "batch", "decay"];

  let settings, run, playing = false, edited = false, cursor = { x: 0, y: 0 };
  let written = ""; // the address, as this page wrote it
  let width = 0; // of the page's part, when it was last drawn
  let lastWords = 0, lastFrame = 0, owed = 0, lastDrawn = 0, cost = 0;
  let alarmShown = "", frame = 0;
  const parts = {}; // the elements of the page, by name
  const reduced = matchMedia("(prefers-reduced-motion: reduce)");

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
      else if (value === true) made.setAttribute(name, "");
      else if (value !== false) made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }

  // ---- Controls ----

  function button(name, text, action) {
    parts[name] = element("button", { type: "button", class: `pg-${name}`, onclick: action },
      text);
    return parts[name];
  }

  function labelled(name, label, control, after = "") {
    control.id = `pg-${name}`;
    return element("div", { class: "pg-control", "data-name": name },
      element("label", { for: control.id }, label), control, after);
  }

  // A menu for one setting. `offers`: [value, text] pairs; another value that an address
  // asks for becomes an offer of its own.
  function menu(name, label, offers, read = String) {
    const control = element("select", { onchange: () => change(name, read(control.value)) });
    control.show = (value) => {
      const all = offers.some(([offer]) => offer === value) ? offers
        : [...offers, [value, Words.number(value)]];
      control.replaceChildren(...all.map(([offer, text]) => (
        element("option", { value: offer, selected: offer === value }, text))));
    };
    parts[name] = control;
    return labelled(name, label, control);
  }

  function numbers(list, words = {}) {
    return list.map((value) => [value, words[value] ?? Words.number(value)]);
  }

  function slider(name, label, low, high, step, text = String) {
    const output = element("span", { "aria-hidden": "true" }); // heard as the slider's value
    const control = element("input", { type: "range", min: low, max: high, step,
      oninput: () => change(name, Number(control.value), false),
      onchange: writeAddress }); // once, when it is let go: browsers limit how often
    control.show = (value) => {
      control.value = value;
      output.textContent = text(value);
      control.setAttribute("aria-valuetext", text(value));
    };
    parts[name] = control;
    return labelled(name, label, control, output);
  }

  // A whole number; what is no such number falls back to what was there, in words.
  function field(name, label) {
    const { low, high } = { ...Address.SETTINGS, ...Address.EXTRAS }[name];
    const control = element("input", { type: "number", min: low, max: high, step: 1,
      onchange() {
        const { settings: asked, complaints } = Address.read(`${name}=${control.value}`);
        if (complaints.length) say(complaints[0].replace("The address asks", "You asked"));
        else change(name, asked[name]);
        control.show(settings[name]);
      } });
    control.show = (value) => { control.value = value; };
    parts[name] = control;
    return labelled(name, label, control);
  }

  function group(key, title, ...controls) {
    return element("fieldset", { class: "pg-group", "data-group": key },
      element("legend", {}, title), ...controls);
  }

  // Hidden layers, and for each its units.
  function layerControls() {
    const depth = element("select", { onchange() {
      const net = Array.from({ length: Number(depth.value) }, (_, l) => settings.net[l] ?? 4);
      change("net", net);
    } });
    for (let n = 0; n <= Address.MOST_LAYERS; n++) {
      depth.append(element("option", { value: n }, String(n)));
    }
    const widths = element("div", { class: "pg-widths" });
    parts.net = { show(net) {
      depth.value = net.length;
      if (widths.childElementCount !== net.length) {
        widths.replaceChildren(...net.map((_, l) => widthControl(l)));
      }
      net.forEach((units, l) => { widths.children[l].control.value = units; });
    } };
    const box = labelled("net", "Hidden layers", depth);
    box.append(widths);
    return box;
  }

  function widthControl(l) {
    const control = element("select", { id: `pg-units-${l + 1}`, onchange() {
      change("net", settings.net.map((units, at) => (at === l ? Number(control.value) : units)));
    } });
    for (let units = 1; units <= Address.MOST_UNITS; units++) {
      control.append(element("option", { value: units }, String(units)));
    }
    const box = element("div", {},
      element("label", { for: control.id }, `Units in layer ${l + 1}`), control);
    box.control = control;
    return box;
  }

  function tools() {
    const radios = Pictures.SHAPES.map((shape, label) => tool(label, `class ${label}`, shape));
    radios.push(tool("remove", "remove", ""));
    const part = element("select", { id: "pg-part" },
      element("option", { value: "" }, "training point"),
      element("option", { value: "test" }, "test point"));
    parts.part = part;
    parts.tools = group("tools", "Your own points",
      element("p", { id: "pg-keys", class: "pg-hint" },
        "Click or tap the plane to place a point. By keyboard: arrow keys move a cross (with ",
        "Shift in small steps), 1 to 4 place a point of class 0 to 3, Enter uses what is chosen ",
        "here, Delete removes the nearest of your points."),
      element("div", { class: "pg-radios" }, ...radios),
      element("div", { class: "pg-row" },
        element("div", { class: "pg-control" },
          element("label", { for: part.id }, "As a"), part),
        button("clear", "Remove all of mine", () => setPoints([], "Your points are gone."))));
    return parts.tools;
  }

  function tool(value, text, shape) {
    const id = `pg-tool-${value}`;
    const radio = element("input", { type: "radio", name: "pg-tool", id, value,
      checked: value === 0 });
    const mark = element("canvas", { class: "pg-mark", width: 32, height: 32,
      "aria-hidden": "true" });
    return element("label", { for: id }, radio, ...(shape ? [mark] : []), text);
  }

  function chosenTool() {
    return document.querySelector("input[name=pg-tool]:checked").value;
  }

  function build(root) {
    const status = element("p", { class: "pg-words", role: "status" });
    Object.assign(parts, {
      root, status,
      task: element("p", { class: "pg-task", hidden: true }),
      alarm: element("div", { class: "pg-alarm", role: "alert" }),
      readout: element("p", { class: "pg-readout" }),
      complaints: element("div", { class: "pg-complaints", role: "alert" }),
      surface: element("canvas", { class: "pg-surface", tabindex: 0, role: "application",
        "aria-roledescription": "plane", "aria-describedby": "pg-keys",
        "aria-label": "The plane, from −2 to 2 in both directions" }),
      at: element("p", { class: "pg-at", "aria-live": "polite" }),
      network: element("canvas", { class: "pg-network", role: "img" }),
      chart: element("canvas", { class: "pg-chart", role: "img" }),
    });
    root.replaceChildren(parts.task, toolbar(), status, parts.complaints, parts.alarm,
      mainParts(), settingControls(), foot());
    root.classList.add("pg-ready");
  }

  function toolbar() {
    return element("div", { class: "pg-bar", role: "group", "aria-label": "Training" },
      button("play", "Play", toggle),
      button("step", "One step", oneStep),
      button("reset", "Reset", reset),
      button("new", "New seed", newSeed),
      parts.readout);
  }

  function mainParts() {
    const plane = element("div", { class: "pg-plane" }, parts.surface, parts.at, tools());
    const side = element("div", { class: "pg-side" },
      element("div", { class: "pg-scroll" }, parts.network),
      element("p", { class: "pg-hint" },
        "Lines are weights: solid where positive, orange and dashed where negative, thick where ",
        "large. Each small square is a unit’s own plane: grey where it is above zero, orange ",
        "where below, and a crossed square is a dead unit. (The lessons’ blue and vermillion ",
        "are classes here.) Click a square to see it large."),
      menu("plane", "The large plane shows", [["classes", "the classes"]]),
      parts.chart,
      element("p", { class: "pg-hint" },
        "Solid line and full marks: training. Dashed line and hollow marks: test. Dotted: a ",
        "guess."));
    return element("div", { class: "pg-main" }, plane, side);
  }

  function settingControls() {
    const entries = Object.entries;
    return element("div", { class: "pg-settings" },
      group("set", "Points",
        menu("data", "Set", entries(SETS)),
        slider("n", "Number", 10, 500, 1),
        slider("noise", "Noise", 0, 1, 0.01),
        slider("share", "To train on", 10, 100, 1, (value) => `${value}\u00a0%`),
        menu("tests", "Test points", [["shown", "shown"], ["hidden", "hidden"]])),
      group("network", "Network",
        layerControls(),
        menu("act", "Activation", entries(ACTIVATIONS)),
        field("seed", "Seed")),
      group("training", "Training",
        menu("opt", "Optimiser", entries(OPTIMISERS)),
        menu("lr", "Learning rate", numbers(RATES), Number),
        menu("batch", "Batch size", numbers(BATCHES, { 0: "all points" }), Number),
        menu("decay", "Weight decay", numbers(DECAYS), Number),
        menu("speed", "Speed", entries(SPEEDS)),
        field("until", "Pause at step (0: never)")));
  }

  function foot() {
    return element("div", { class: "pg-foot" },
      button("describe", "Say it in words", () => say(Words.describe(run))),
      button("copy", "Copy a link to this state", copyLink),
      button("all", "Show all controls", () => change("hide", [])));
  }

  function showSettings() {
    for (const name of Object.keys(settings)) parts[name]?.show?.(settings[name]);
    const hides = (key) => settings.hide.includes(key) || settings.hide.includes("all");
    for (const box of parts.root.querySelectorAll("[data-name], [data-group]")) {
      box.hidden = hides(box.dataset.name ?? box.dataset.group);
    }
    parts.all.hidden = !settings.hide.length;
    parts.new.hidden = hides("seed");
    parts.clear.disabled = !settings.points.length;
  }

  // ---- Settings change, the address follows; the address changes, the settings follow ----

  function change(name, value, writes = true) {
    settings = { ...settings, [name]: value };
    parts.complaints.replaceChildren();
    if (KEEPS.includes(name)) {
      run.settings = settings;
      if (name === "opt") run.memory = Network.newMemory(run.network);
      if (TRAINS.includes(name)) edited ||= run.step > 0;
      showAll();
    } else {
      restart();
    }
    if (writes) writeAddress();
  }

  function reset() {
    restart();
    say("Reset to the first weights of this seed.");
  }

  function newSeed() {
    change("seed", Math.floor(Math.random() * 1000000)); // the only number without a seed
    say(`Seed ${settings.seed}: other first weights, and other points.`);
  }

  function writeAddress() {
    written = Address.write(settings);
    try {
      history.replaceState(null, "", written);
    } catch {
      location.hash = written; // where a page from disk may not replace its address
    }
    showTask(written);
  }

  // The address has changed: by a link, or by hand. Not if it is a heading's, or our own.
  function followAddress() {
    if (!stateAt(location.hash) || location.hash === written) return;
    readAddress();
    parts.root.scrollIntoView();
  }

  function readAddress() {
    written = "";
    const { settings: asked, complaints } = Address.read(stateAt(location.hash));
    settings = asked;
    const { at } = settings;
    settings.at = 0;
    restart(at);
    parts.complaints.replaceChildren(...complaints.map((text) => element("p", {}, text)));
    showTask(Address.write(settings));
  }

  // The links of the page's cards, each in a section with its name and its question.
  function cards() {
    return [...document.querySelectorAll("a.pg-state")];
  }

  // The question of the card that led here, as long as its settings hold.
  function showTask(hash) {
    const card = cards().find((link) => link.hash === hash)?.closest("section");
    parts.task.hidden = !card;
    parts.task.replaceChildren();
    if (!card) return;
    const name = card.querySelector("h3").firstChild.textContent; // without its permalink
    parts.task.append(element("strong", {}, name), ` ${card.querySelector("p").textContent}`);
  }

  // The settings that an address asks for: its own, or those of the card that it names; ""
  // if it leads elsewhere on the page.
  function stateAt(hash) {
    if (Address.isState(hash)) return hash;
    return cards().find((link) => `#${link.closest("section").id}` === hash)?.hash ?? "";
  }

  async function copyLink() {
    const at = edited || run.step > Address.EXTRAS.at.high ? 0 : run.step;
    const link = location.href.split("#")[0] + Address.write({ ...settings, at });
    const exact = at === run.step ? "" : " It leads to step 0: what was changed on the way, "
      + "or more than 5,000 steps, cannot be repeated.";
    try {
      await navigator.clipboard.writeText(link);
      say(`The link is copied.${exact}`);
    } catch {
      say(`This browser does not let the page copy. This is the link: ${link}`);
    }
  }

  // ---- Training ----

  function restart(steps = 0) {
    pause();
    run = Network.start(settings);
    edited = false;
    for (let i = 0; i < steps && Network.advance(run); i++) {
      if (i % 10 === 9) Network.measure(run);
    }
    if (steps) Network.measure(run);
    if (!hasUnit(settings.plane)) settings = run.settings = { ...settings, plane: "classes" };
    showAll();
    sayVerdict();
  }

  function hasUnit(plane) {
    const [layer, unit] = plane.split(".").map(Number);
    return plane === "classes" || (unit >= 1 && unit <= settings.net[layer - 1]);
  }

  function toggle() {
    if (playing) {
      pause();
      sayVerdict();
      return;
    }
    if (run.failure || !run.points.train.length) return sayVerdict();
    playing = true;
    parts.play.textContent = "Pause";
    parts.play.classList.add("pg-on");
    say(""); // what was said is over; the next sentence comes in some seconds
    lastFrame = performance.now();
    owed = 0;
    frame = requestAnimationFrame(everyFrame);
  }

  function pause() {
    playing = false;
    cancelAnimationFrame(frame);
    parts.play.textContent = "Play";
    parts.play.classList.remove("pg-on");
  }

  function oneStep() {
    pause();
    if (!Network.advance(run) && !run.failure) return sayVerdict();
    Network.measure(run);
    showAll();
    sayVerdict();
  }

  // How many steps are due in this frame.
  function stepsDue(elapsed) {
    if (settings.speed === "normal") return 1;
    if (settings.speed === "fast") return 200; // or as many as fit in the time
    owed += Math.min(elapsed, 1000) * 4 / 1000;
    const due = Math.floor(owed);
    owed -= due;
    return due;
  }

  function everyFrame(now) {
    const due = stepsDue(now - lastFrame), from = performance.now();
    lastFrame = now;
    let going = true;
    for (let i = 0; i < due && going && performance.now() - from < 9; i++) {
      going = Network.advance(run) && run.step !== settings.until;
    }
    if (due) Network.measure(run);
    if (!going) pause();
    if (!going || drawIsDue(now)) showAll(now);
    else showReadout();
    if (!going || now - lastWords > 1000 * SECONDS_BETWEEN_WORDS) {
      lastWords = now;
      sayVerdict();
    }
    if (playing) frame = requestAnimationFrame(everyFrame);
  }

  // A large network's pictures take longer than a frame: fewer of them, then. Twice a
  // second is enough where motion is not wanted.
  function drawIsDue(now) {
    return now - lastDrawn >= (reduced.matches ? 500 : cost > 12 ? 2 * cost : 0);
  }

  // ---- Own points ----

  function setPoints(points, words) {
    const before = run.points.classes;
    settings = { ...settings, points };
    if (Network.makePoints(settings).classes === before) {
      Network.replacePoints(run, settings);
      edited ||= run.step > 0;
      showAll();
      say(words);
    } else {
      restart();
      say(`${words} There are ${run.points.classes} classes now, so the network has as many `
        + "outputs and starts anew.");
    }
    writeAddress();
  }

  function place(label, { x, y }) {
    const { points } = settings;
    if (parts.tools.hidden) return; // an exercise with given points
    if (points.length >= Address.MOST_POINTS) {
      return say(`${Address.MOST_POINTS} points of your own are the most that an address holds.`);
    }
    const point = { x: Address.snap(x), y: Address.snap(y), label,
      test: parts.part.value === "test" };
    setPoints([...points, point], `A ${point.test ? "test" : "training"} point of class ${
      label} at ${where(point)}.`);
  }

  function removeNear({ x, y }) {
    if (parts.tools.hidden) return;
    const far = (point) => Math.hypot(point.x - x, point.y - y);
    const nearest = settings.points.reduce(
      (best, point) => (!best || far(point) < far(best) ? point : best), null);
    if (!nearest || far(nearest) > WITHIN) return say("None of your own points is here.");
    setPoints(settings.points.filter((point) => point !== nearest),
      `The point of class ${nearest.label} at ${where(nearest)} is gone.`);
  }

  function useTool(at) {
    const chosen = chosenTool();
    if (chosen === "remove") removeNear(at);
    else place(Number(chosen), at);
  }

  function where({ x, y }) {
    return `(${x.toFixed(2)}, ${y.toFixed(2)})`.replaceAll("-", "−");
  }

  function onPlaneKey(event) {
    const size = event.shiftKey ? 1 / Address.GRID : 0.125;
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (moves[event.key]) {
      const [dx, dy] = moves[event.key];
      cursor = { x: Address.snap(cursor.x + size * dx), y: Address.snap(cursor.y + size * dy) };
      drawPlane();
      sayCursor();
    } else if (/^[1-4]$/.test(event.key)) place(Number(event.key) - 1, cursor);
    else if (event.key === "Enter") useTool(cursor);
    else if (event.key === "Delete" || event.key === "Backspace") removeNear(cursor);
    else return;
    event.preventDefault();
  }

  function sayCursor() {
    const values = Network.probabilities(run.network, Float64Array.of(cursor.x, cursor.y), 1);
    const p = values[values.length - 1];
    const best = Network.argmax(p, 0, p.length);
    parts.at.textContent = `At ${where(cursor)}: class ${best}, probability ${
      p[best].toFixed(2)}`;
  }

  // ---- What is shown ----

  function say(text) {
    if (parts.status.textContent !== text) parts.status.textContent = text;
    lastWords = performance.now();
  }

  // What an alarm has said already is not said twice.
  function sayVerdict() {
    const { kind, text } = Words.verdict(run);
    showAlarm();
    say(kind === alarmShown ? "" : text);
  }

  function showAll(now = performance.now()) {
    const from = performance.now();
    showSettingsOnce();
    Pictures.compute(run);
    drawPlane();
    Pictures.drawNetwork(parts.network, run);
    Pictures.drawChart(parts.chart, run);
    describePictures();
    showReadout();
    showAlarm();
    lastDrawn = now;
    cost = performance.now() - from;
  }

  function drawPlane() {
    const isFocused = document.activeElement === parts.surface;
    Pictures.drawPlane(parts.surface, run, isFocused ? cursor : null);
  }

  function describePictures() {
    const { now, step, points, dead } = run;
    const hidden = settings.net.length
      ? `hidden layers of ${settings.net.join(", ")} ${ACTIVATIONS[settings.act]} units`
      : "no hidden layer";
    parts.network.setAttribute("aria-label", `The network: two inputs, ${hidden}, ${
      points.classes} classes; ${dead.flat().filter(Boolean).length} dead units.`);
    parts.chart.setAttribute("aria-label", `Curves over ${step} steps. Training loss ${
      Words.number(now.train)}, test loss ${Words.number(now.test)}; right: ${
      Words.percent(now.trainRight ?? 0)} in training, ${
      Words.percent(now.testRight ?? 0)} in test.`);
  }

  function chooseUnit(event) {
    const frame = parts.network.getBoundingClientRect();
    const name = Pictures.unitAt(event.clientX - frame.left, event.clientY - frame.top);
    change("plane", name && name !== settings.plane ? name : "classes");
  }

  let settingsShown = null;
  function showSettingsOnce() {
    if (settingsShown === settings) return;
    settingsShown = settings;
    offerUnits();
    showSettings();
  }

  function offerUnits() {
    const units = settings.net.flatMap((count, l) => Array.from({ length: count }, (_, unit) => (
      [`${l + 1}.${unit + 1}`, `unit ${unit + 1} of layer ${l + 1}`])));
    const offers = [["classes", "the classes"], ...units];
    parts.plane.replaceChildren(...offers.map(
      ([value, text]) => element("option", { value }, text)));
    parts.plane.show = (value) => { parts.plane.value = value; };
  }

  function showReadout() {
    const { now } = run;
    parts.readout.textContent = `Step ${run.step} · epoch ${run.epoch} · loss ${
      Words.number(now.train)} in training, ${Words.number(now.test)} in test`;
  }

  function showAlarm() {
    const { kind, text } = Words.verdict(run);
    const alarm = Words.ALARMS.includes(kind) ? kind : "";
    if (alarm === alarmShown) return; // said once, not at every frame
    alarmShown = alarm;
    const titles = { overflow: "Beyond what numbers hold", dead: "A dead layer",
      rate: "Thrown out of the valley" };
    parts.alarm.replaceChildren(...(alarm
      ? [element("strong", {}, titles[alarm]), element("p", {}, text)] : []));
  }

  // ---- Start ----

  function listen() {
    const { surface, network } = parts;
    surface.addEventListener("click", (event) => {
      const box = surface.getBoundingClientRect();
      const share = (at, from) => (at - from) / box.width;
      cursor = { x: Address.snap(-2 + 4 * share(event.clientX, box.left)),
        y: Address.snap(2 - 4 * share(event.clientY, box.top)) };
      useTool(cursor);
    });
    surface.addEventListener("keydown", onPlaneKey);
    surface.addEventListener("focus", () => { drawPlane(); sayCursor(); });
    surface.addEventListener("blur", drawPlane);
    network.addEventListener("click", chooseUnit);
    addEventListener("hashchange", followAddress);
    new ResizeObserver(onResize).observe(parts.root);
    new MutationObserver(repaint).observe(document.documentElement,
      { attributeFilter: ["data-theme"] });
    for (const link of cards()) {
      link.addEventListener("click", () => {
        if (link.hash === location.hash) readAddress(); // no hashchange: begin it again
        parts.root.scrollIntoView();
        parts.play.focus({ preventScroll: true });
      });
    }
    // A browser goes to the card that an address names; the playground is what is meant.
    if (!stateAt(location.hash)) return;
    addEventListener("load", () => parts.root.scrollIntoView(), { once: true });
  }

  function onResize() { // a picture that has become higher is no reason to draw again
    if (parts.root.clientWidth === width) return;
    width = parts.root.clientWidth;
    showAll();
  }

  function readColours() {
    Pictures.readColours();
    document.querySelectorAll(".pg-mark").forEach(Pictures.drawMark); // in the classes' order
  }

  function repaint() {
    readColours();
    showAll();
  }

  document.addEventListener("DOMContentLoaded", () => {
    const root = document.getElementById("playground");
    if (!root) return;
    settings = Address.usual();
    build(root);
    readColours();
    readAddress();
    listen();
    document.fonts.ready.then(() => showAll()); // the pictures have words in them
  });
})();
