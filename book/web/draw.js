// The page "Draw a digit": a field to draw in, and all that the network makes of it.
// What it computes is in digit.js; here is only what the reader touches and sees.
"use strict";

(() => {
  const template = document.getElementById("nn-draw-app");
  if (!template) return;
  const { FIELD, SIDE, BOX, CENTRE } = nnDigit;
  const net = nnDigit.network(nnDigitFile);
  const app = template.content.cloneNode(true).firstElementChild;
  const find = (selector) => app.querySelector(selector);
  const field = find(".nn-draw-field");

  const state = {
    strokes: [],
    base: null, // ink below the strokes: a test digit
    isExample: false, // the first stroke replaces it
    way: "mnist",
    penWidth: 20,
    drawing: null, // the stroke that is being drawn
    pen: { x: FIELD / 2, y: FIELD / 2 }, // of the keyboard
    wantsEvidence: false,
    between: false,
  };
  let ink = nnDigit.blank();
  let seen = null; // what was computed last: {prepared, maps, logits, probabilities}

  // ---- Colours, and pictures from numbers ----

  let colours = {};
  function readColours() {
    const style = getComputedStyle(document.documentElement);
    const context = document.createElement("canvas").getContext("2d");
    for (const name of ["text", "blue", "vermillion", "grey", "surface"]) {
      context.fillStyle = style.getPropertyValue(`--nn-${name}`).trim();
      const hex = context.fillStyle; // as #rrggbb, whatever the style sheet says
      const rgb = [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
      colours[name] = { hex, rgb };
    }
  }

  // Values from -1 to 1 as a picture; what is 0 is clear. Signs as in figures.py:
  // with vermillion above zero, blue is below.
  function picture(values, width, height, colour = "text") {
    const image = new ImageData(width, height);
    for (let i = 0; i < values.length; i++) {
      const name = values[i] < 0 ? "blue" : colour;
      image.data.set(colours[name].rgb, 4 * i);
      image.data[4 * i + 3] = 255 * Math.min(1, Math.abs(values[i]));
    }
    return image;
  }

  // Lay a picture into a canvas of another size, its pixels as squares.
  const beside = document.createElement("canvas");
  function lay(canvas, image, x = 0, y = 0, width = canvas.width, height = canvas.height) {
    beside.width = image.width;
    beside.height = image.height;
    beside.getContext("2d").putImageData(image, 0, 0);
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(beside, x, y, width, height);
    return context;
  }

  function wipe(canvas) {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    return context;
  }

  const asShares = (bytes) => Float32Array.from(bytes, (value) => value / 255);

  // ---- What changes the drawing ----

  function redrawInk() {
    ink = state.base ? state.base.slice() : nnDigit.blank();
    nnDigit.drawStrokes(ink, state.strokes);
    changed();
  }

  function begin(x, y) {
    if (state.isExample) clear();
    state.drawing = { width: state.penWidth, points: [x, y] };
    state.strokes.push(state.drawing);
    nnDigit.drawSegment(ink, x, y, x, y, state.penWidth);
    changed();
  }

  function extend(x, y) {
    const { points, width } = state.drawing;
    nnDigit.drawSegment(ink, points.at(-2), points.at(-1), x, y, width);
    points.push(x, y);
    changed();
  }

  function end() {
    state.drawing = null;
    field.classList.remove("nn-draw-down");
  }

  function clear() {
    end();
    Object.assign(state, { strokes: [], base: null, isExample: false });
    find(".nn-draw-source").textContent = "";
    redrawInk();
  }

  function undo() {
    end();
    if (state.isExample || state.strokes.length === 0) return clear();
    state.strokes.pop();
    redrawInk();
  }

  function startFrom(strokes, base, source, isExample = false) {
    end();
    Object.assign(state, { strokes, base, isExample });
    find(".nn-draw-source").textContent = source;
    redrawInk();
  }

  // ---- Mouse, finger, pencil ----

  function placeOf(event) {
    const box = field.getBoundingClientRect();
    const share = (at, from, size) => ((at - from) / size) * FIELD;
    return [
      share(event.clientX, box.left, box.width),
      share(event.clientY, box.top, box.height),
    ];
  }

  field.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !event.isPrimary) return;
    event.preventDefault();
    field.focus({ preventScroll: true });
    field.classList.remove("nn-draw-by-keys");
    field.setPointerCapture(event.pointerId);
    end();
    begin(...placeOf(event));
  });
  field.addEventListener("pointermove", (event) => {
    if (!state.drawing || !field.hasPointerCapture(event.pointerId)) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const moved of all.length ? all : [event]) extend(...placeOf(moved));
  });
  for (const type of ["pointerup", "pointercancel"]) field.addEventListener(type, end);

  // ---- Keys: a pen that arrows move ----

  const DIRECTIONS = {
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
    Home: [-1, -1], PageUp: [1, -1], End: [-1, 1], PageDown: [1, 1], // a numeric keypad's
  };
  const held = new Set();

  function move(isFar) {
    const step = isFar ? 28 : 7;
    const inside = (v) => Math.min(FIELD - 4, Math.max(4, v));
    let [dx, dy] = [0, 0];
    for (const key of held) {
      dx += DIRECTIONS[key][0];
      dy += DIRECTIONS[key][1];
    }
    state.pen.x = inside(state.pen.x + step * Math.sign(dx));
    state.pen.y = inside(state.pen.y + step * Math.sign(dy));
    if (state.drawing) extend(state.pen.x, state.pen.y);
    showPen();
  }

  function togglePen() {
    if (state.drawing) {
      end();
      say("Pen up.");
      changed(); // and then, after a pause, what is read
    } else {
      begin(state.pen.x, state.pen.y);
      field.classList.add("nn-draw-down");
      say("Pen down.");
    }
  }

  function showPen() {
    const pen = find(".nn-draw-pen");
    pen.style.left = `${(100 * state.pen.x) / FIELD}%`;
    pen.style.top = `${(100 * state.pen.y) / FIELD}%`;
  }

  function whereIsThePen() {
    const share = (v) => Math.round((100 * v) / FIELD);
    const { x, y } = state.pen;
    return `The pen is ${state.drawing ? "down" : "up"}, at ${share(x)} percent from the ` +
      `left and ${share(y)} percent from the top.`;
  }

  const KEYS = {
    " ": togglePen,
    Backspace: undo,
    Delete: clear,
    Enter: () => say(`${whereIsThePen()} ${answerInWords()}`),
  };

  field.addEventListener("keydown", (event) => {
    const isUndo = event.key === "z" && (event.ctrlKey || event.metaKey);
    if (!isUndo && (event.ctrlKey || event.metaKey || event.altKey)) return;
    const isMove = event.key in DIRECTIONS;
    if (!isMove && !isUndo && !(event.key in KEYS)) return;
    event.preventDefault();
    field.classList.add("nn-draw-by-keys");
    if (isMove) {
      held.add(event.key);
      move(event.shiftKey);
    } else if (isUndo) {
      undo();
    } else if (!event.repeat) {
      KEYS[event.key]();
    }
  });
  field.addEventListener("keyup", (event) => held.delete(event.key));
  field.addEventListener("focus", () => {
    if (field.matches(":focus-visible")) field.classList.add("nn-draw-by-keys");
  });
  field.addEventListener("blur", () => {
    held.clear();
    end();
  });

  // ---- Buttons and choices ----

  const ACTIONS = {
    undo,
    clear,
    evidence: () => {
      state.wantsEvidence = !state.wantsEvidence;
      find("[data-do=evidence]").setAttribute("aria-pressed", state.wantsEvidence);
      changed();
    },
    between: () => {
      state.between = find("[data-do=between]").checked;
      makeLayers();
      changed();
    },
  };
  for (const element of app.querySelectorAll("[data-do]")) {
    element.addEventListener("click", ACTIONS[element.dataset.do]);
  }
  app.addEventListener("change", ({ target }) => {
    if (target.name === "nn-pen") state.penWidth = Number(target.value);
    if (target.name === "nn-way") {
      state.way = target.value;
      changed();
    }
  });

  // A drawing's digits: made by code, and real ones from the test split.
  function makeSamples() {
    const real = nnDigitFile.samples.map(({ index, label, pixels }) => {
      const bytes = nnDigit.bytesOf(pixels);
      const button = document.createElement("button");
      const canvas = document.createElement("canvas");
      button.type = "button";
      button.ariaLabel = `Begin with test image ${index}, ${withArticle(label)}`;
      canvas.width = canvas.height = SIDE;
      button.append(canvas);
      button.addEventListener("click", () => {
        const source = `Test image ${index}. Its label is ${label}.`;
        startFrom([], nnDigit.inkOfImage(bytes), source);
      });
      const draw = () => lay(wipe(canvas).canvas, picture(asShares(bytes), SIDE, SIDE));
      return { button, draw };
    });
    find(".nn-draw-samples").replaceChildren(...real.map(({ button }) => button));
    return () => real.forEach(({ draw }) => draw());
  }

  // ---- Computing, once a frame at most ----

  let isAsked = false;
  function changed() {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      compute();
      show();
      afterAPause();
    });
  }

  function compute() {
    const prepared = nnDigit.prepare(ink, state.way);
    if (!prepared) {
      seen = null;
      return;
    }
    const { maps, logits } = nnDigit.forward(net, prepared.pixels);
    seen = { prepared, maps, logits, probabilities: nnDigit.softmax(logits, net.temperature) };
  }

  // What takes longer, or would disturb, waits until the pen rests.
  let pause = 0;
  let lastSaid = "";
  function afterAPause() {
    clearTimeout(pause);
    evidenceRun += 1; // what is under way is of an older drawing
    find(".nn-draw-evidence").classList.add("nn-draw-old");
    pause = setTimeout(() => {
      showEvidence();
      if (!state.isExample && answerInWords() !== lastSaid) say(answerInWords());
    }, 900);
  }

  // ---- The answer ----

  const withArticle = (digit) => (digit === 8 ? `an ${digit}` : `a ${digit}`);

  // The digits that come into question: so many that together they are sure enough.
  function candidates(probabilities) {
    const order = [...probabilities.keys()].sort((a, b) => probabilities[b] - probabilities[a]);
    const found = [];
    let sum = 0;
    for (const digit of order) {
      if (sum >= nnDigitFile.sure) break;
      found.push(digit);
      sum += probabilities[digit];
    }
    return found;
  }

  function verdict() {
    if (!seen) return "Draw a digit, and it is read.";
    const words = candidates(seen.probabilities).map(withArticle);
    if (words.length === 1) return `This is ${words[0]}.`;
    if (words.length === 2) return `Which is it, ${words[0]} or ${words[1]}?`;
    return `Which is it, ${words[0]}, ${words[1]}, or something else?`;
  }

  function percent(p) {
    if (p > 0.999) return "> 99.9\u00a0%";
    return p < 0.001 ? "< 0.1\u00a0%" : `${(100 * p).toFixed(1)}\u00a0%`;
  }

  function answerInWords() {
    if (!seen) return "The field is empty.";
    const likely = candidates(seen.probabilities).slice(0, 3);
    const shares = likely.map((d) => `${d} with ${percent(seen.probabilities[d])}`);
    return `${verdict()} ${shares.join(", ")}.`;
  }

  function say(words) {
    lastSaid = words;
    find(".nn-draw-said").textContent = words;
  }

  function makeBars() {
    const bars = Array.from({ length: 10 }, (_, digit) => {
      const item = document.createElement("li");
      item.innerHTML = `<span>${digit}</span><span class="nn-draw-bar" aria-hidden="true">` +
        "<i></i></span><span></span>";
      return item;
    });
    find(".nn-draw-bars").replaceChildren(...bars);
  }

  function showAnswer() {
    find(".nn-draw-verdict").textContent = verdict();
    const likely = seen ? candidates(seen.probabilities) : [];
    find(".nn-draw-bars").childNodes.forEach((item, digit) => {
      const p = seen ? seen.probabilities[digit] : 0;
      item.classList.toggle("nn-draw-likely", likely.includes(digit));
      item.querySelector("i").style.width = `${100 * p}%`;
      item.lastChild.textContent = seen ? percent(p) : "–";
    });
  }

  // ---- The field and the four steps ----

  function showField() {
    const canvas = field.querySelector("canvas");
    wipe(canvas).putImageData(picture(ink, FIELD, FIELD), 0, 0);
    find(".nn-draw-hint").hidden = Boolean(seen) && !state.isExample;
    find(".nn-draw-hint").textContent = state.isExample
      ? "An example. Your first stroke replaces it."
      : "Draw here";
  }

  function makeSteps() {
    const steps = Array.from({ length: 4 }, () => {
      const figure = document.createElement("figure");
      figure.innerHTML = '<canvas width="280" height="280" role="img"></canvas>' +
        "<figcaption><b></b><span></span></figcaption>";
      return figure;
    });
    find(".nn-draw-steps").replaceChildren(...steps);
  }

  const STEPS = {
    drawn(canvas, { box }) {
      const [width, height] = [box.right - box.left, box.bottom - box.top];
      const context = lay(canvas, picture(ink, FIELD, FIELD));
      context.strokeStyle = colours.vermillion.hex;
      context.lineWidth = 4;
      context.strokeRect(box.left - 2, box.top - 2, width + 4, height + 4);
      return ["Drawn", `its box: ${width}\u00a0×\u00a0${height}`];
    },
    cut(canvas, { box, scale }) {
      if (!scale) return ["Cut out", "skipped"];
      const [width, height] = [box.right - box.left, box.bottom - box.top];
      const part = new Float32Array(width * height);
      for (let y = 0; y < height; y++) {
        const start = (box.top + y) * FIELD + box.left;
        part.set(ink.subarray(start, start + width), y * width);
      }
      const size = FIELD / Math.max(width, height);
      const [w, h] = [width * size, height * size];
      lay(canvas, picture(part, width, height), (FIELD - w) / 2, (FIELD - h) / 2, w, h);
      return ["Cut out", `longer side ${Math.max(width, height)}`];
    },
    scaled(canvas, { patch, scale }) {
      if (!scale) return ["Scaled", "skipped"];
      lay(canvas, picture(patch, BOX, BOX));
      return ["Scaled", `÷ ${scale.toFixed(1)}, into ${BOX}\u00a0×\u00a0${BOX}`];
    },
    placed(canvas, { pixels }) {
      const context = lay(canvas, picture(asShares(pixels), SIDE, SIDE));
      const { x, y } = nnDigit.centreOfMass(pixels, SIDE);
      const pixel = FIELD / SIDE;
      const middle = CENTRE * pixel;
      context.strokeStyle = colours.grey.hex;
      context.lineWidth = 2;
      context.beginPath();
      context.moveTo(middle, 0);
      context.lineTo(middle, FIELD);
      context.moveTo(0, middle);
      context.lineTo(FIELD, middle);
      context.stroke();
      context.fillStyle = colours.vermillion.hex;
      context.beginPath();
      context.arc(x * pixel, y * pixel, 9, 0, 7);
      context.fill();
      const off = Math.hypot(x - CENTRE, y - CENTRE).toFixed(1);
      const titles = { mnist: "Centred", scaled: "Left in place", drawn: "Only shrunk" };
      return [titles[state.way], `centre of mass (dot): ${off} pixels off`];
    },
  };

  function showSteps() {
    const figures = find(".nn-draw-steps").childNodes;
    Object.values(STEPS).forEach((draw, i) => {
      const canvas = figures[i].querySelector("canvas");
      wipe(canvas);
      const [title, words] = seen ? draw(canvas, seen.prepared) : ["", ""];
      figures[i].querySelector("b").textContent = title;
      figures[i].querySelector("span").textContent = words;
      figures[i].classList.toggle("nn-draw-skipped", words === "skipped");
      canvas.ariaLabel = `Step ${i + 1} of the preparation: ${title} ${words}`;
    });
  }

  // ---- The layers ----

  // What each of the network's maps is: a name, what was done, and whether it is shown
  // without being asked for.
  function namesOfMaps() {
    const names = [{ name: "Input", what: `the middle ${net.crop} × ${net.crop}, normalised`, isMain: true }];
    net.layers.forEach(({ kernel, pool }, i) => {
      const name = `Convolution ${i + 1}`;
      const sums = `${kernel} × ${kernel}`;
      names.push({ name, what: `${sums}, the sums`, isMain: false });
      if (pool) names.push({ name, what: `${sums}, max-pool`, isMain: false });
      names.push({ name, what: `${sums}${pool ? ", max-pool" : ""}, norm, ReLU`, isMain: true });
    });
    return names.map((entry, index) => ({ ...entry, index }));
  }

  let layers = [];
  function makeLayers() {
    layers = namesOfMaps().filter(({ isMain }) => isMain || state.between);
    for (const layer of layers) {
      layer.figure = document.createElement("figure");
      layer.figure.innerHTML = "<figcaption><span><b></b> <span></span></span><span></span>" +
        '</figcaption><canvas role="img"></canvas>';
      layer.figure.querySelector("b").textContent = layer.name;
      layer.figure.querySelector("b + span").textContent = layer.what;
    }
    find(".nn-draw-layers").replaceChildren(...layers.map(({ figure }) => figure));
  }

  // All maps of a layer side by side, a pixel between them. The layer's largest value is
  // the darkest.
  function showLayer({ index, name, figure }) {
    const canvas = figure.querySelector("canvas");
    const { channels, side, values } = seen.maps[index];
    const columns = channels === 1 ? 1 : channels >= 32 ? 16 : 8;
    const cell = side + 1;
    // The input's black is negative, because it is normalised. Here black is clear.
    const least = index === 0 ? Math.min(...values) : 0;
    const largest = values.reduce((most, v) => Math.max(most, Math.abs(v - least)), 1e-6);
    const width = columns * cell - 1;
    const height = Math.ceil(channels / columns) * cell - 1;
    const sheet = new Float32Array(width * height);
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d");
    context.fillStyle = colours.surface.hex; // so that one sees where a map ends
    let silent = 0;
    for (let c = 0; c < channels; c++) {
      const left = (c % columns) * cell;
      const top = Math.floor(c / columns) * cell;
      const map = values.subarray(c * side * side, (c + 1) * side * side);
      silent += map.every((v) => v === 0);
      context.fillRect(left, top, side, side);
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) {
          sheet[(top + y) * width + left + x] = (map[y * side + x] - least) / largest;
        }
      }
    }
    lay(canvas, picture(sheet, width, height, "vermillion"));
    const count = channels === 1 ? "1 map" : `${channels} maps`;
    const words = `${count} of ${side} × ${side}${silent ? `, ${silent} silent` : ""}`;
    figure.querySelector("figcaption > :last-child").textContent = words;
    canvas.ariaLabel = `${name}: ${words}, for the digit in the field`;
  }

  function showLayers() {
    for (const layer of layers) {
      if (seen) showLayer(layer);
      else wipe(layer.figure.querySelector("canvas"));
    }
  }

  // ---- The evidence: computed when asked for, a few squares at a time ----

  let evidenceRun = 0;
  function showEvidence() {
    const panel = find(".nn-draw-evidence");
    panel.hidden = !state.wantsEvidence || !seen;
    if (panel.hidden) return;
    const run = ++evidenceRun;
    const { prepared, logits } = seen;
    const answer = nnDigit.answerOf(logits);
    const steps = nnDigit.occlusion(net, prepared.pixels, answer);
    function more() {
      if (run !== evidenceRun) return;
      const until = performance.now() + 8; // so that the pen is never held up
      let step = steps.next();
      while (!step.done && performance.now() < until) step = steps.next();
      if (step.done) drawEvidence(step.value, prepared.pixels, answer);
      else setTimeout(more);
    }
    more();
  }

  function drawEvidence({ map, worst }, pixels, answer) {
    const panel = find(".nn-draw-evidence");
    const canvas = panel.querySelector("canvas");
    const largest = map.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-6);
    wipe(canvas);
    lay(canvas, picture(map.map((v) => (0.85 * v) / largest), SIDE, SIDE, "vermillion"));
    const context = lay(canvas, picture(asShares(pixels).map((v) => 0.45 * v), SIDE, SIDE));
    const pixel = FIELD / SIDE;
    const size = worst.size * pixel;
    context.strokeStyle = colours.text.hex;
    context.lineWidth = 3;
    context.strokeRect(worst.left * pixel, worst.top * pixel, size, size);
    const then = worst.answer === answer
      ? `It is still read as ${withArticle(answer)}.`
      : `Then it is read as ${withArticle(worst.answer)}.`;
    const words = "A black square of 4 × 4 pixels covers the image, place by place. " +
      `Blue: the logit of ${answer} falls where it is covered. Vermillion: it rises. ` +
      `The outlined square costs most, ${worst.drop.toFixed(1)}. ${then}`;
    panel.querySelector("p").textContent = words;
    canvas.ariaLabel = `Your digit with the evidence for ${withArticle(answer)}`;
    panel.classList.remove("nn-draw-old");
  }

  // ---- All of it ----

  function show() {
    showField();
    showAnswer();
    showSteps();
    showLayers();
  }

  readColours();
  makeBars();
  makeSteps();
  makeLayers();
  const showSamples = makeSamples();
  showSamples();
  showPen();
  const { strokes, digit } = nnDigitFile.example;
  startFrom(strokes, null, `A ${digit} drawn by code.`, true);
  new MutationObserver(() => {
    readColours();
    showSamples();
    changed();
  }).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  // In place of the pictures that explain the page where no script runs.
  const still = document.querySelector(".nn-draw-still");
  if (still) still.replaceWith(app);
  else template.after(app);
})();
