// The page "Watch it learn": controls, pictures and words around a small network that
// learns while one looks. Loaded by that page alone, after playground-network.js (the
// numbers), playground-address.js (the settings) and playground-words.js (the sentences).

(() => {
  "use strict";

  const Network = PlaygroundNetwork, Address = PlaygroundAddress, Words = PlaygroundWords;
  const CLASS_COLOURS = ["blue", "vermillion", "green", "purple"];
  const CLASS_SHAPES = ["disc", "cross", "triangle", "square"];
  const MOST_CLASSES = CLASS_SHAPES.length;
  const GRID = 64; // the plane is computed at 64 by 64 places
  const SECONDS_BETWEEN_WORDS = 5; // while it learns; a screen reader reads them
  const WITHIN = 0.15; // how near a point has to be to be removed

  // ---- What the controls are called, and offer ----

  const SETS = {
    circle: "a disc in a ring", xor: "XOR", gauss: "two clouds", spiral: "two spirals",
    clouds: "XOR’s clouds, as in lesson 10", strips: "two flat strips",
    blobs: "three clouds", arms: "three arms", empty: "none: only my own points",
  };
  const ACTIVATIONS = { tanh: "tanh", relu: "ReLU", sigmoid: "sigmoid" };
  const OPTIMISERS = { sgd: "SGD", momentum: "SGD with momentum 0.9", adam: "AdamW" };
  const RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100];
  const DECAYS = [0, 0.001, 0.01, 0.03, 0.1, 0.3, 1];
  const BATCHES = [1, 5, 10, 20, 50, 0];
  const SPEEDS = { slow: "slow: 4 steps a second", normal: "normal: a step each frame",
    fast: "fast: as many as fit" };
  // A change of these keeps the network; a change of any other setting starts anew.
  const KEEPS = ["opt", "lr", "batch", "decay", "until", "speed", "plane", "tests", "hide"];
  // Of these, what a link to "this step" could not repeat.
  const TRAINS = ["opt", "lr", "batch", "decay"];

  let settings, run, playing = false, edited = false, cursor = { x: 0, y: 0 };
  let colours, grid, lastWords = 0, lastFrame = 0, owed = 0, lastDrawn = 0, cost = 0;
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
      oninput: () => change(name, Number(control.value)) });
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
    const radios = CLASS_SHAPES.map((shape, label) => tool(label, `class ${label}`, shape));
    radios.push(tool("remove", "remove", ""));
    const part = element("select", { id: "pg-part" },
      element("option", { value: "" }, "training point"),
      element("option", { value: "test" }, "test point"));
    parts.part = part;
    return element("fieldset", { class: "pg-tools pg-group", "data-group": "tools" },
      element("legend", {}, "Your own points"),
      element("div", { class: "pg-radios" }, ...radios),
      element("div", { class: "pg-row" },
        element("div", { class: "pg-control" },
          element("label", { for: part.id }, "As a"), part),
        button("clear", "Remove all of mine", () => setPoints([], "Your points are gone."))));
  }

  function tool(value, text, shape) {
    const id = `pg-tool-${value}`;
    const radio = element("input", { type: "radio", name: "pg-tool", id, value,
      checked: value === 0 });
    const mark = element("canvas", { class: "pg-mark", width: 32, height: 32,
      "aria-hidden": "true", "data-shape": shape });
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
    root.replaceChildren(parts.task, toolbar(), parts.complaints, parts.alarm, mainParts(),
      status, settingControls(), foot());
    root.classList.add("pg-ready");
  }

  function toolbar() {
    return element("div", { class: "pg-bar", role: "group", "aria-label": "Training" },
      button("play", "Play", toggle),
      button("step", "One step", oneStep),
      button("reset", "Reset", () => { restart(); say("Reset to the first weights of this seed."); }),
      button("new", "New seed", newSeed),
      parts.readout);
  }

  function mainParts() {
    const plane = element("div", { class: "pg-plane" }, parts.surface, parts.at,
      element("p", { id: "pg-keys", class: "pg-hint" },
        "Click or tap to place a point. By keyboard: arrow keys move the cross (with Shift in ",
        "small steps), 1 to 4 place a point of class 0 to 3, Enter uses what is chosen below, ",
        "Delete removes the nearest of your points."),
      tools());
    const side = element("div", { class: "pg-side" },
      element("div", { class: "pg-scroll" }, parts.network),
      element("p", { class: "pg-hint" },
        "Lines are weights: solid where positive, orange and dashed where negative, thick where ",
        "large. Each small square is a unit’s own plane: dark where it is above zero, orange ",
        "where below. A crossed square is a dead unit."),
      menu("plane", "The large plane shows", [["classes", "the classes"]]),
      parts.chart,
      element("p", { class: "pg-hint" },
        "Solid line and full marks: training. Dashed line and hollow marks: test. Dotted: a guess."));
    return element("div", { class: "pg-main" }, plane, side);
  }

  function settingControls() {
    const entries = Object.entries;
    return element("div", { class: "pg-settings" },
      group("set", "Points",
        menu("data", "Set", entries(SETS)),
        slider("n", "Number", 10, 500, 1),
        slider("noise", "Noise", 0, 1, 0.01),
        slider("share", "To train on", 10, 100, 1, (value) => `${value} %`),
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

  function change(name, value) {
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
    writeAddress();
  }

  function newSeed() {
    change("seed", Math.floor(Math.random() * 1000000)); // the only number without a seed
    say(`Seed ${settings.seed}: other first weights, and other points.`);
  }

  function writeAddress() {
    const hash = Address.write(settings);
    try {
      history.replaceState(null, "", hash);
    } catch {
      location.hash = hash; // where a page from disk may not replace its address
    }
    showTask(hash);
  }

  function readAddress() {
    if (location.hash && !Address.isState(location.hash)) return; // a heading's
    const { settings: asked, complaints } = Address.read(location.hash);
    settings = asked;
    restart(settings.at);
    settings.at = 0;
    parts.complaints.replaceChildren(...complaints.map((text) => element("p", {}, text)));
    showTask(location.hash);
  }

  // The question of the link that led here, as long as its settings hold.
  function showTask(hash) {
    const links = [...document.querySelectorAll("a.pg-state")];
    const link = hash && links.find((a) => a.hash === hash);
    parts.task.hidden = !link;
    parts.task.replaceChildren();
    if (!link) return;
    const question = document.getElementById(link.getAttribute("aria-describedby"));
    parts.task.append(element("strong", {}, link.textContent), ` ${question.textContent}`);
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
    parts.status.textContent = "";
    showAll();
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
    lastWords = lastFrame = performance.now();
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
    if (points.length >= Address.MOST_POINTS) {
      return say(`${Address.MOST_POINTS} points of your own are the most that an address holds.`);
    }
    const point = { x: Address.snap(x), y: Address.snap(y), label,
      test: parts.part.value === "test" };
    setPoints([...points, point], `A ${point.test ? "test" : "training"} point of class ${
      label} at ${where(point)}.`);
  }

  function removeNear({ x, y }) {
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
    parts.at.textContent = `At ${where(cursor)}: class ${best}, probability ${p[best].toFixed(2)}`;
  }

  // ---- What is shown ----

  function say(text) {
    parts.status.textContent = text;
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
    computeGrid();
    drawPlane();
    drawNetwork();
    drawChart();
    showReadout();
    showAlarm();
    lastDrawn = now;
    cost = performance.now() - from;
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
    parts.plane.replaceChildren(...offers.map(([value, text]) => element("option", { value }, text)));
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

  // ---- Pictures ----

  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const pen = document.createElement("canvas").getContext("2d");
    const parsed = (name) => {
      pen.fillStyle = style.getPropertyValue(`--nn-${name}`).trim();
      return [1, 3, 5].map((i) => parseInt(pen.fillStyle.slice(i, i + 2), 16));
    };
    const names = [...CLASS_COLOURS, "orange", "paper", "text", "muted", "line"];
    colours = Object.fromEntries(names.map((name) => [name, parsed(name)]));
    colours.classes = CLASS_COLOURS.map((name) => colours[name]);
  }

  function css([r, g, b], alpha = 1) {
    return `rgb(${r} ${g} ${b} / ${alpha})`;
  }

  // The canvas's pen, in CSS pixels, on a cleared canvas.
  function pen(canvas, width, height) {
    const ratio = Math.min(devicePixelRatio || 1, 2);
    const size = [Math.round(width * ratio), Math.round(height * ratio)];
    if (canvas.width !== size[0] || canvas.height !== size[1]) {
      [canvas.width, canvas.height] = size;
    }
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    return context;
  }

  // Places of the grid, row by row from the top left, as the pixels of a picture.
  const PLACES = new Float64Array(2 * GRID * GRID);
  for (let row = 0; row < GRID; row++) {
    for (let column = 0; column < GRID; column++) {
      const at = 2 * (row * GRID + column);
      PLACES[at] = -2 + 4 * (column + 0.5) / GRID;
      PLACES[at + 1] = 2 - 4 * (row + 0.5) / GRID;
    }
  }

  function computeGrid() {
    const { network } = run;
    const same = grid?.network === network;
    grid = { network,
      values: Network.probabilities(network, PLACES, GRID * GRID, same ? grid.values : undefined) };
  }

  const tile = element("canvas", { width: GRID, height: GRID });
  const tilePen = tile.getContext("2d", { willReadFrequently: true });
  const pixels = tilePen.createImageData(GRID, GRID);

  // Fill the tile: colour(place, out) writes red, green and blue into out. Every `every`-th
  // place of a row and of a column is enough for a small picture.
  function paintTile(colour, every = 1) {
    const out = [0, 0, 0];
    const side = GRID / every;
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        colour(every * (row * GRID + column), out);
        const at = 4 * (row * GRID + column);
        [pixels.data[at], pixels.data[at + 1], pixels.data[at + 2]] = out;
        pixels.data[at + 3] = 255;
      }
    }
    tilePen.putImageData(pixels, 0, 0, 0, 0, side, side);
    return side;
  }

  function blend(from, to, share, out) {
    for (let i = 0; i < 3; i++) out[i] = from[i] + share * (to[i] - from[i]);
  }

  // The classes' colours, as strong as the answer is sure; paper where all are alike.
  function classColour(p, classes) {
    const mixed = [0, 0, 0];
    return (place, out) => {
      let best = 0;
      mixed.fill(0);
      for (let k = 0; k < classes; k++) {
        const share = p[place * classes + k];
        best = Math.max(best, share);
        for (let i = 0; i < 3; i++) mixed[i] += share * colours.classes[k][i];
      }
      blend(colours.paper, mixed, 0.6 * (best - 1 / classes) / (1 - 1 / classes), out);
    };
  }

  // One unit: dark where above zero, orange where below; `scale` is full strength.
  function unitColour(values, units, unit, scale) {
    return (place, out) => {
      const value = values[place * units + unit] / scale;
      const strength = Math.min(1, Math.abs(value)) * 0.85;
      blend(colours.paper, value > 0 ? colours.text : colours.orange, strength || 0, out);
    };
  }

  function unitScale(l, unit) {
    if (run.network.activation !== "relu") return 1;
    const units = run.network.layers[l].outputs, values = grid.values[l];
    let largest = 0;
    for (let at = unit; at < values.length; at += units) largest = Math.max(largest, values[at]);
    return largest || 1;
  }

  function drawPlane() {
    const side = parts.surface.clientWidth;
    if (!side) return;
    const context = pen(parts.surface, side, side);
    const [layer, unit] = settings.plane.split(".").map(Number);
    const { values } = grid, last = values.length - 1, { classes } = run.points;
    paintTile(settings.plane === "classes" ? classColour(values[last], classes)
      : unitColour(values[layer - 1], settings.net[layer - 1], unit - 1, unitScale(layer - 1, unit - 1)));
    context.imageSmoothingEnabled = true;
    context.drawImage(tile, 0, 0, side, side);
    if (settings.plane === "classes") drawBorders(context, values[last], classes, side);
    drawPoints(context, side);
    drawCursor(context, side);
  }

  // Where two classes are equally likely: marching squares on p of a class minus the best
  // of the others. Two classes have one border, more have one each.
  function drawBorders(context, p, classes, side) {
    const field = new Float64Array(GRID * GRID), cell = side / GRID;
    context.beginPath();
    for (let k = 0; k < (classes === 2 ? 1 : classes); k++) {
      for (let place = 0; place < field.length; place++) {
        let other = 0;
        for (let j = 0; j < classes; j++) {
          if (j !== k) other = Math.max(other, p[place * classes + j]);
        }
        field[place] = p[place * classes + k] - other;
      }
      traceZero(context, field, cell);
    }
    context.strokeStyle = css(colours.text, 0.75);
    context.lineWidth = 1.4;
    context.stroke();
  }

  function traceZero(context, field, cell) {
    for (let row = 0; row < GRID - 1; row++) {
      for (let column = 0; column < GRID - 1; column++) {
        const at = row * GRID + column;
        const corners = [field[at], field[at + 1], field[at + GRID + 1], field[at + GRID]];
        const up = corners.map((value) => value > 0);
        if (up.every(Boolean) || !up.some(Boolean)) continue;
        traceCell(context, corners, (column + 0.5) * cell, (row + 0.5) * cell, cell);
      }
    }
  }

  // The four edges of a cell, clockwise from the top: where does the field cross zero?
  function traceCell(context, [a, b, c, d], x, y, cell) {
    const cut = (from, to) => from / (from - to);
    const crossings = [];
    if (a > 0 !== b > 0) crossings.push([x + cell * cut(a, b), y]);
    if (b > 0 !== c > 0) crossings.push([x + cell, y + cell * cut(b, c)]);
    if (d > 0 !== c > 0) crossings.push([x + cell * cut(d, c), y + cell]);
    if (a > 0 !== d > 0) crossings.push([x, y + cell * cut(a, d)]);
    for (let i = 0; i + 1 < crossings.length; i += 2) {
      context.moveTo(...crossings[i]);
      context.lineTo(...crossings[i + 1]);
    }
  }

  function tracePoint(context, shape, x, y, r) {
    context.beginPath();
    if (shape === "disc") context.arc(x, y, r, 0, 2 * Math.PI);
    else if (shape === "square") context.rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r);
    else tracePolygon(context, POLYGONS[shape], x, y, r);
  }

  const POLYGONS = {
    triangle: [[0, -1.25], [1.15, 0.85], [-1.15, 0.85]],
    cross: [[0, -0.4], [0.75, -1.15], [1.15, -0.75], [0.4, 0], [1.15, 0.75], [0.75, 1.15],
      [0, 0.4], [-0.75, 1.15], [-1.15, 0.75], [-0.4, 0], [-1.15, -0.75], [-0.75, -1.15]],
  };

  function tracePolygon(context, corners, x, y, r) {
    corners.forEach(([dx, dy], i) => {
      context[i ? "lineTo" : "moveTo"](x + r * dx, y + r * dy);
    });
    context.closePath();
  }

  function drawPoint(context, label, x, y, r, isTest) {
    tracePoint(context, CLASS_SHAPES[label], x, y, r);
    context.lineWidth = 1.4;
    context.fillStyle = css(isTest ? colours.paper : colours.classes[label]);
    context.strokeStyle = css(isTest ? colours.classes[label] : colours.paper);
    if (!isTest) context.stroke();
    context.fill();
    if (isTest) context.stroke();
  }

  function drawPoints(context, side) {
    const { x, y, train, test } = run.points;
    const to = (value) => (value + 2) / 4 * side;
    const r = side > 380 ? 4.2 : 3.5;
    const draw = (isTest) => (i) => (
      drawPoint(context, y[i], to(x[2 * i]), side - to(x[2 * i + 1]), r, isTest));
    if (settings.tests === "shown") test.forEach(draw(true));
    train.forEach(draw(false));
  }

  function drawCursor(context, side) {
    if (document.activeElement !== parts.surface) return;
    const x = (cursor.x + 2) / 4 * side, y = side - (cursor.y + 2) / 4 * side;
    for (const [colour, width] of [[colours.paper, 5], [colours.text, 2]]) {
      context.beginPath();
      context.moveTo(x - 12, y);
      context.lineTo(x + 12, y);
      context.moveTo(x, y - 12);
      context.lineTo(x, y + 12);
      context.strokeStyle = css(colour);
      context.lineWidth = width;
      context.stroke();
    }
  }

  // ---- The network: columns of small squares, lines between them ----

  let boxes = []; // where each unit's square is: {l, unit, x, y, size}; l = 0 are the inputs

  function layOut(width) {
    const { sizes } = run.network;
    const most = Math.max(...sizes);
    const size = Math.min(most > 8 ? 24 : most > 5 ? 30 : 38, width / sizes.length - 16);
    const gap = most > 8 ? 5 : 10, height = Math.max(4, most) * (size + gap) + 6;
    const left = 22, right = 22; // x₁ and x₂, and the classes' marks
    boxes = sizes.map((count, l) => Array.from({ length: count }, (_, unit) => ({
      l, unit, size,
      x: left + l * (width - left - right - size) / (sizes.length - 1),
      y: height / 2 + (unit - count / 2) * (size + gap) + gap / 2,
    })));
    return height;
  }

  function drawNetwork() {
    const width = parts.network.parentElement.clientWidth;
    if (!width) return;
    const height = layOut(width);
    parts.network.style.height = `${height}px`;
    const context = pen(parts.network, width, height);
    run.network.layers.forEach((layer, l) => drawWeights(context, layer, l));
    boxes.flat().forEach((box) => drawUnit(context, box));
    drawEnds(context);
    parts.network.setAttribute("aria-label", networkWords());
  }

  function drawWeights(context, { inputs, outputs, w }, l) {
    for (let j = 0; j < outputs; j++) {
      for (let i = 0; i < inputs; i++) {
        const weight = run.network.theta[w + j * inputs + i];
        const from = boxes[l][i], to = boxes[l + 1][j];
        const strength = Math.tanh(Math.abs(weight) / 2);
        context.beginPath();
        context.moveTo(from.x + from.size, from.y + from.size / 2);
        context.lineTo(to.x, to.y + to.size / 2);
        context.setLineDash(weight < 0 ? [5, 3] : []);
        context.strokeStyle = css(weight < 0 ? colours.orange : colours.text, 0.25 + 0.6 * strength);
        context.lineWidth = 0.4 + 4.5 * strength;
        context.stroke();
      }
    }
    context.setLineDash([]);
  }

  function drawUnit(context, { l, unit, x, y, size }) {
    const last = boxes.length - 1, isHidden = l > 0 && l < last;
    const isDead = isHidden && run.dead[l - 1][unit];
    const isChosen = settings.plane === `${l}.${unit + 1}`;
    const side = paintTile(colourOf(l, unit, last), 2);
    context.drawImage(tile, 0, 0, side, side, x, y, size, size);
    context.strokeStyle = css(isDead ? colours.vermillion : isChosen ? colours.blue : colours.muted);
    context.lineWidth = isDead || isChosen ? 2.5 : 1;
    context.strokeRect(x, y, size, size);
    if (!isDead) return;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + size, y + size);
    context.moveTo(x + size, y);
    context.lineTo(x, y + size);
    context.stroke();
  }

  function colourOf(l, unit, last) {
    if (!l) return unitColour(PLACES, 2, unit, 2);
    const values = grid.values[l - 1], units = boxes[l].length;
    if (l < last) return unitColour(values, units, unit, unitScale(l - 1, unit));
    return (place, out) => (
      blend(colours.paper, colours.classes[unit], 0.8 * values[place * units + unit], out));
  }

  function drawEnds(context) {
    context.fillStyle = css(colours.text);
    context.font = `15px ${getComputedStyle(parts.root).fontFamily}`;
    context.textBaseline = "middle";
    boxes[0].forEach(({ y, size }, i) => context.fillText(i ? "x₂" : "x₁", 2, y + size / 2));
    boxes[boxes.length - 1].forEach(({ x, y, size }, label) => (
      drawPoint(context, label, x + size + 12, y + size / 2, 5, false)));
  }

  function networkWords() {
    const hidden = settings.net.length
      ? `hidden layers of ${settings.net.join(", ")} ${ACTIVATIONS[settings.act]} units`
      : "no hidden layer";
    const dead = run.dead.flat().filter(Boolean).length;
    return `The network: two inputs, ${hidden}, ${run.points.classes} classes; ${dead} dead units.`;
  }

  function chooseUnit(event) {
    const frame = parts.network.getBoundingClientRect();
    const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
    const box = boxes.flat().find((b) => (
      x >= b.x && x <= b.x + b.size && y >= b.y && y <= b.y + b.size));
    if (!box || box.l === 0) return;
    const name = `${box.l}.${box.unit + 1}`;
    const isHidden = box.l < boxes.length - 1;
    change("plane", isHidden && settings.plane !== name ? name : "classes");
  }

  // ---- Curves: losses and accuracies over steps ----

  function drawChart() {
    const width = parts.chart.clientWidth, height = parts.chart.clientHeight;
    if (!width) return;
    const context = pen(parts.chart, width, height);
    context.font = `13px ${getComputedStyle(parts.root).fontFamily}`;
    const half = width / 2 - 8;
    drawLosses(context, { x: 34, y: 22, w: half - 34, h: height - 44 });
    drawAccuracies(context, { x: half + 50, y: 22, w: half - 36, h: height - 44 });
    const { now } = run;
    parts.chart.setAttribute("aria-label", `Curves over ${run.step} steps. Training loss ${
      Words.number(now.train)}, test loss ${Words.number(now.test)}; right: ${
      Words.percent(now.trainRight ?? 0)} in training, ${Words.percent(now.testRight ?? 0)} in test.`);
  }

  function drawLosses(context, box) {
    const guess = Math.log(run.points.classes);
    const all = run.history.flatMap(({ train, test }) => [train, test])
      .filter((value) => value !== null).map((value) => Math.min(value, Network.LARGEST));
    const top = Math.max(guess * 1.15, ...all);
    const isLog = top > 20 * guess; // a loss that explodes, beside one that does not
    const low = Math.log10(Math.max(1e-3, Math.min(guess, ...all)));
    const scale = isLog ? (value) => (Math.log10(Math.max(value, 1e-3)) - low) / (Math.log10(top) - low)
      : (value) => value / top;
    drawFrame(context, box, isLog ? "loss (log scale)" : "loss", Words.number(top),
      isLog ? Words.number(10 ** low) : "0");
    drawGuess(context, box, scale(guess));
    drawCurve(context, box, "test", scale, [5, 4]);
    drawCurve(context, box, "train", scale, []);
  }

  function drawAccuracies(context, box) {
    drawFrame(context, box, "right", "1", "0");
    drawGuess(context, box, 1 / run.points.classes);
    drawCurve(context, box, "testRight", (value) => value, [5, 4]);
    drawCurve(context, box, "trainRight", (value) => value, []);
  }

  function drawFrame(context, { x, y, w, h }, title, top, bottom) {
    context.fillStyle = css(colours.muted);
    context.textBaseline = "middle";
    context.textAlign = "right";
    context.fillText(top, x - 5, y + 3);
    context.fillText(bottom, x - 5, y + h);
    context.fillText(`${run.step} steps`, x + w, y + h + 13);
    context.textAlign = "left";
    context.fillStyle = css(colours.text);
    context.fillText(title, x, y - 13);
    context.strokeStyle = css(colours.muted, 0.7);
    context.lineWidth = 1;
    context.strokeRect(x + 0.5, y + 0.5, w, h);
  }

  function drawGuess(context, { x, y, w, h }, share) {
    context.beginPath();
    context.setLineDash([1, 4]);
    context.moveTo(x, y + h * (1 - share));
    context.lineTo(x + w, y + h * (1 - share));
    context.strokeStyle = css(colours.muted);
    context.lineWidth = 1.5;
    context.stroke();
    context.setLineDash([]);
  }

  function drawCurve(context, { x, y, w, h }, name, scale, dash) {
    const end = Math.max(run.step, 1);
    context.beginPath();
    let isFirst = true;
    for (const entry of run.history) {
      if (entry[name] === null) continue;
      const share = Math.max(0, Math.min(1, scale(Math.min(entry[name], Network.LARGEST))));
      context[isFirst ? "moveTo" : "lineTo"](x + w * entry.step / end, y + h * (1 - share));
      isFirst = false;
    }
    context.setLineDash(dash);
    context.strokeStyle = css(dash.length ? colours.muted : colours.text);
    context.lineWidth = 1.8;
    context.lineJoin = "round";
    context.stroke();
    context.setLineDash([]);
  }

  function drawMarks() {
    for (const mark of document.querySelectorAll(".pg-mark")) {
      const context = mark.getContext("2d");
      context.setTransform(2, 0, 0, 2, 0, 0);
      context.clearRect(0, 0, 16, 16);
      drawPoint(context, CLASS_SHAPES.indexOf(mark.dataset.shape), 8, 8, 5, false);
    }
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
    addEventListener("hashchange", readAddress);
    new ResizeObserver(() => showAll()).observe(parts.root);
    new MutationObserver(repaint).observe(document.documentElement,
      { attributeFilter: ["data-theme"] });
    for (const link of document.querySelectorAll("a.pg-state")) {
      link.addEventListener("click", () => {
        if (link.hash === location.hash) readAddress(); // no hashchange: load it again
        parts.root.scrollIntoView();
        parts.play.focus({ preventScroll: true });
      });
    }
  }

  function repaint() {
    readColours();
    drawMarks();
    showAll();
  }

  document.addEventListener("DOMContentLoaded", () => {
    const root = document.getElementById("playground");
    if (!root) return;
    settings = Address.usual();
    build(root);
    readColours();
    drawMarks();
    readAddress();
    listen();
  });
})();
