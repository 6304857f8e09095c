// The pictures of the page "Watch it learn", drawn on canvases in the page's colours: the
// plane, the network, the curves. They read a run and change nothing.

const PlaygroundPictures = (() => {
  "use strict";

  const Network = PlaygroundNetwork, Words = PlaygroundWords;
  const CLASS_COLOURS = ["blue", "vermillion", "green", "purple"];
  const SHAPES = ["disc", "cross", "triangle", "square"]; // of the classes' points
  const GRID = 64; // the plane is computed at 64 by 64 places

  function type(size) {
    return `${size}px ${getComputedStyle(document.body).fontFamily}`;
  }

  let colours, grid;

  // From the page's style sheet, again whenever light and dark change.
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

  // The network's answers and all units' values at the places: needed before a picture of
  // the plane or of the network is drawn.
  function compute({ network }) {
    const room = grid?.network === network ? grid.values : undefined;
    grid = { network, values: Network.probabilities(network, PLACES, GRID * GRID, room) };
  }

  const tile = Object.assign(document.createElement("canvas"), { width: GRID, height: GRID });
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

  function unitScale({ activation, layers }, l, unit) {
    if (activation !== "relu") return 1;
    const units = layers[l].outputs, values = grid.values[l];
    let largest = 0;
    for (let at = unit; at < values.length; at += units) largest = Math.max(largest, values[at]);
    return largest || 1;
  }

  // The large plane: the classes, or one unit; points; the cross where `cursor` is not null.
  function drawPlane(canvas, { network, points, settings }, cursor) {
    const side = canvas.clientWidth;
    if (!side) return;
    const context = pen(canvas, side, side);
    const { values } = grid, p = values[values.length - 1], { classes } = points;
    const showsClasses = settings.plane === "classes";
    paintTile(showsClasses ? classColour(p, classes) : chosenColour(network, settings.plane));
    context.drawImage(tile, 0, 0, side, side);
    drawAxes(context, side);
    if (showsClasses) drawBorders(context, p, classes, side);
    drawPoints(context, points, side, settings.tests === "shown");
    if (cursor) drawCursor(context, cursor, side);
  }

  function drawAxes(context, side) {
    context.strokeStyle = css(colours.text, 0.25);
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(0, side / 2);
    context.lineTo(side, side / 2);
    context.moveTo(side / 2, 0);
    context.lineTo(side / 2, side);
    context.stroke();
    context.fillStyle = css(colours.text);
    context.font = type(14);
    context.textBaseline = "middle";
    context.fillText("x₁", side - 18, side / 2 + 10);
    context.fillText("x₂", side / 2 + 5, 10);
  }

  function chosenColour(network, name) { // of a unit named as 1.2
    const [l, unit] = name.split(".").map((part) => Number(part) - 1);
    return unitColour(grid.values[l], network.layers[l].outputs, unit,
      unitScale(network, l, unit));
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
    cross: [[0, -0.55], [0.65, -1.2], [1.2, -0.65], [0.55, 0], [1.2, 0.65], [0.65, 1.2],
      [0, 0.55], [-0.65, 1.2], [-1.2, 0.65], [-0.55, 0], [-1.2, -0.65], [-0.65, -1.2]],
  };

  function tracePolygon(context, corners, x, y, r) {
    corners.forEach(([dx, dy], i) => {
      context[i ? "lineTo" : "moveTo"](x + r * dx, y + r * dy);
    });
    context.closePath();
  }

  function drawPoint(context, label, x, y, r, isTest) {
    tracePoint(context, SHAPES[label], x, y, r);
    context.lineWidth = 1.4;
    context.fillStyle = css(isTest ? colours.paper : colours.classes[label]);
    context.strokeStyle = css(isTest ? colours.classes[label] : colours.paper);
    if (!isTest) context.stroke();
    context.fill();
    if (isTest) context.stroke();
  }

  function drawPoints(context, { x, y, train, test }, side, withTests) {
    const to = (value) => (value + 2) / 4 * side;
    const r = side > 380 ? 4.6 : 4;
    const draw = (isTest) => (i) => (
      drawPoint(context, y[i], to(x[2 * i]), side - to(x[2 * i + 1]), r, isTest));
    if (withTests) test.forEach(draw(true));
    train.forEach(draw(false));
  }

  function drawCursor(context, cursor, side) {
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

  function layOut(sizes, width) {
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

  function drawNetwork(canvas, run) {
    const width = canvas.parentElement.clientWidth;
    if (!width) return;
    const height = layOut(run.network.sizes, width);
    canvas.style.height = `${height}px`;
    const context = pen(canvas, width, height);
    run.network.layers.forEach((_, l) => drawWeights(context, run.network, l));
    boxes.flat().forEach((box) => drawUnit(context, run, box));
    drawEnds(context);
  }

  function drawWeights(context, { layers, theta }, l) {
    const { inputs, outputs, w } = layers[l];
    for (let j = 0; j < outputs; j++) {
      for (let i = 0; i < inputs; i++) {
        const weight = theta[w + j * inputs + i];
        const from = boxes[l][i], to = boxes[l + 1][j];
        const strength = Math.tanh(Math.abs(weight) / 2);
        context.beginPath();
        context.moveTo(from.x + from.size, from.y + from.size / 2);
        context.lineTo(to.x, to.y + to.size / 2);
        context.setLineDash(weight < 0 ? [5, 3] : []);
        const colour = weight < 0 ? colours.orange : colours.text;
        context.strokeStyle = css(colour, 0.25 + 0.6 * strength);
        context.lineWidth = 0.4 + 4.5 * strength;
        context.stroke();
      }
    }
    context.setLineDash([]);
  }

  function drawUnit(context, { network, dead, settings }, { l, unit, x, y, size }) {
    const isDead = dead[l - 1]?.[unit];
    const isChosen = settings.plane === `${l}.${unit + 1}`;
    const side = paintTile(smallColour(network, l, unit), 2);
    context.drawImage(tile, 0, 0, side, side, x, y, size, size);
    const edge = isDead ? "vermillion" : isChosen ? "blue" : "muted";
    context.strokeStyle = css(colours[edge]);
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

  // Of an input (l = 0), a hidden unit, or a class (the last l).
  function smallColour(network, l, unit) {
    if (!l) return unitColour(PLACES, 2, unit, 2);
    const values = grid.values[l - 1], units = boxes[l].length;
    if (l < boxes.length - 1) {
      return unitColour(values, units, unit, unitScale(network, l - 1, unit));
    }
    return (place, out) => (
      blend(colours.paper, colours.classes[unit], 0.8 * values[place * units + unit], out));
  }

  function drawEnds(context) {
    context.fillStyle = css(colours.text);
    context.font = type(15);
    context.textBaseline = "middle";
    boxes[0].forEach(({ y, size }, i) => context.fillText(i ? "x₂" : "x₁", 2, y + size / 2));
    boxes[boxes.length - 1].forEach(({ x, y, size }, label) => (
      drawPoint(context, label, x + size + 12, y + size / 2, 5, false)));
  }

  // The unit whose square is at this place of the picture, as 1.2; "" if none is.
  function unitAt(x, y) {
    const box = boxes.slice(1, -1).flat().find((b) => (
      x >= b.x && x <= b.x + b.size && y >= b.y && y <= b.y + b.size));
    return box ? `${box.l}.${box.unit + 1}` : "";
  }

  // ---- Curves: losses and accuracies over steps ----

  function drawChart(canvas, run) {
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    const context = pen(canvas, width, height);
    context.font = type(13);
    const half = width / 2 - 8, y = 22, h = height - 44;
    drawLosses(context, { x: 44, y, w: half - 44, h }, run);
    drawAccuracies(context, { x: half + 36, y, w: half - 22, h }, run);
  }

  function drawLosses(context, box, run) {
    const guess = Math.log(run.points.classes);
    const all = run.history.flatMap(({ train, test }) => [train, test])
      .filter((value) => value !== null).map((value) => Math.min(value, Network.LARGEST));
    const top = Math.max(guess * 1.15, ...all);
    const isLog = top > 20 * guess; // a loss that explodes, beside one that does not
    const low = Math.log10(Math.max(1e-6, Math.min(guess, ...all)));
    const scale = isLog
      ? (value) => (Math.log10(Math.max(value, 1e-6)) - low) / (Math.log10(top) - low)
      : (value) => value / top;
    drawFrame(context, box, run, [isLog ? "loss (log scale)" : "loss", Words.number(top),
      isLog ? Words.number(10 ** low) : "0"]);
    drawGuess(context, box, scale(guess));
    drawCurve(context, box, run, "test", scale, [5, 4]);
    drawCurve(context, box, run, "train", scale, []);
  }

  function drawAccuracies(context, box, run) {
    drawFrame(context, box, run, ["right", "1", "0"]);
    drawGuess(context, box, 1 / run.points.classes);
    drawCurve(context, box, run, "testRight", (value) => value, [5, 4]);
    drawCurve(context, box, run, "trainRight", (value) => value, []);
  }

  function drawFrame(context, { x, y, w, h }, { step }, [title, top, bottom]) {
    context.fillStyle = css(colours.muted);
    context.textBaseline = "middle";
    context.textAlign = "right";
    context.fillText(top, x - 5, y + 3);
    context.fillText(bottom, x - 5, y + h);
    context.fillText(`${step} steps`, x + w, y + h + 13);
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

  function drawCurve(context, { x, y, w, h }, run, name, scale, dash) {
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

  // A class's mark alone, for a control: a canvas of 32 by 32.
  function drawMark(canvas, label) {
    const context = canvas.getContext("2d");
    context.setTransform(2, 0, 0, 2, 0, 0);
    context.clearRect(0, 0, 16, 16);
    drawPoint(context, label, 8, 8, 5, false);
  }

  return { SHAPES, readColours, compute, drawPlane, drawNetwork, unitAt, drawChart, drawMark };
})();
