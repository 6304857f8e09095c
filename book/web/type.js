// A figure of one piece on a phone: the drawing is as wide as the screen, and its type is
// enlarged until it is legible. Where enlarged words would meet, a marker or each other,
// numbers of an axis are thinned; where that is not enough the drawing is made a little
// wider, and is scrolled. panels.js calls `fitType`; the drawings are matplotlib's.

const NEAR = 45; // pt: further away from a panel words do not belong to it
const STEP = 1.08; // how much wider the next try is
const MOST_MARKERS = 400; // a cloud of points: words in it are not kept off each
const LARGEST_MARKER = 60; // pt
const TOLERANCE = 1; // pt, by which boxes of words may overlap: a line has room above it
// also 10⁻⁴, whose parts are set one by one
const NUMBER = /^[−-]?[\d.,\s]+(?:[−-][\d\s]+)? ?%?$/;
// a number of an axis with its mark; a panel and a legend, which have marks too, are higher
const TICK = "svg > g > g > g g:has(> g > g > use)";
const [ABOVE, BELOW] = [0.2, 0.1]; // em, in which a box of words has no letter
const LINE_POINTS = 60; // of a curve, to see which words it crosses
// A word that meets another gives way by so many of its own heights.
const WAYS = [0, -0.5, 0.5, -1, 1, -1.5, 1.5];

const overlap = (a, b, by = TOLERANCE) => a.left < b.right - by && b.left < a.right - by
  && a.top < b.bottom - by && b.top < a.bottom - by;
const holds = (outer, inner) => outer.left <= inner.left + TOLERANCE
  && outer.right >= inner.right - TOLERANCE && outer.top <= inner.top + TOLERANCE
  && outer.bottom >= inner.bottom - TOLERANCE;
const middle = (box) => (box.left + box.right) / 2;
const level = (box) => (box.top + box.bottom) / 2;

// What is enlarged as one: a text, all lines of one, or a legend with its marks.
function wordsOf(svg, grounds, boxOf) {
  const texts = [...svg.querySelectorAll("text")];
  const groups = texts.map((text) => legendOf(text) ?? text.parentElement);
  return [...new Set(groups)].map((group) => {
    const box = inkOf(group, boxOf);
    const tick = group.closest(TICK);
    const mark = tick?.querySelector(":scope > g > g > use");
    const [x, y] = [middle(box), level(box)];
    const [ground] = grounds.filter((g) => distance(g, x, y) < NEAR)
      .toSorted((a, b) => distance(a, x, y) - distance(b, x, y));
    return {
      group, box, ground, axis: mark ? tick.parentElement : null,
      lines: linesOf(group, box, boxOf),
      anchor: anchorOf(group, box, mark && boxOf(mark), ground),
      angle: angleOf(group), size: sizeOf(group),
      original: group.getAttribute("transform") ?? "",
      isNumber: NUMBER.test(group.textContent.trim()),
    };
  });
}

// A box without the room that the typeface keeps above and below its letters.
function inkOf(group, boxOf) {
  const box = boxOf(group);
  const [above, below] = [ABOVE * sizeOf(group), BELOW * sizeOf(group)];
  const angle = angleOf(group);
  if (angle === 0) return { ...box, top: box.top + above, bottom: box.bottom - below };
  if (angle === -90) return { ...box, left: box.left + above, right: box.right - below };
  return box;
}

// Its smallest type, in the drawing's units.
function sizeOf(group) {
  const parts = [group, ...group.querySelectorAll("text, tspan")];
  const sizes = parts.map((part) => parseFloat(part.style.fontSize));
  return Math.min(...sizes.filter((size) => size > 0));
}

// Its lines, which differ in length: a marker may stand beside a short one.
function linesOf(group, box, boxOf) {
  const texts = [...group.querySelectorAll("text")];
  return texts.length > 1 ? texts.map((text) => inkOf(text, boxOf)) : [box];
}

// Where a line of these words stands once they have grown.
function carried(line, { box, now }) {
  const by = (now.right - now.left) / (box.right - box.left);
  const x = (at) => now.left + (at - box.left) * by;
  const y = (at) => now.top + (at - box.top) * by;
  return { left: x(line.left), right: x(line.right), top: y(line.top), bottom: y(line.bottom) };
}

function angleOf(group) {
  const text = group.querySelector("text") ?? group;
  const turned = text.getAttribute("transform");
  return Number(/rotate\((-?[\d.]+)/.exec(turned)?.[1] ?? 0);
}

// A legend is a group in a panel whose parts are marks, and two words or more.
function legendOf(text) {
  const group = text.closest("svg > g > g > g");
  if (!group || group.querySelector(":scope > g > g > g > use")) return null; // an axis
  const isWord = (part) => part.querySelector(":scope > text, :scope > g > text");
  const parts = [...group.children].filter((part) => part.tagName === "g");
  const words = parts.filter(isWord);
  return words.length > 1 && words.length < parts.length ? group : null;
}

function distance(box, x, y) {
  return Math.max(box.left - x, 0, x - box.right) + Math.max(box.top - y, 0, y - box.bottom);
}

// The point of a text that stays where it is while the text grows.
function anchorOf(group, box, mark, ground) {
  const text = group.querySelector("text");
  const angle = angleOf(group);
  const at = { x: middle(box), y: level(box) };
  if (Math.abs(angle) === 90) return at;
  if (ground && group.querySelector("path, use")) return cornerOf(box, ground); // a legend
  let side = text.style.textAnchor;
  if (!side) side = mark ? sideOf(box, mark) : "start"; // a formula has none, nor words aslant
  if (side === "start") at.x = box.left;
  if (side === "end") at.x = box.right;
  return at;
}

// The corner of a box that is nearest to one of its panel's.
function cornerOf(box, ground) {
  return {
    x: middle(box) > middle(ground) ? box.right : box.left,
    y: level(box) > level(ground) ? box.bottom : box.top,
  };
}

function sideOf(box, mark) {
  if (box.right <= middle(mark)) return "end";
  return box.left >= middle(mark) ? "start" : "middle";
}

// What lies around the panels grows away from them: room between the words grows too.
function originOf({ box, anchor, ground }) {
  const { x, y } = anchor;
  if (!ground) return { x, y };
  const origin = { x, y };
  if (box.top >= ground.bottom - TOLERANCE) origin.y = ground.bottom;
  if (box.bottom <= ground.top + TOLERANCE) origin.y = ground.top;
  if (box.right <= ground.left + TOLERANCE) origin.x = ground.left;
  if (box.left >= ground.right - TOLERANCE) origin.x = ground.right;
  return origin;
}

function grown(box, { x, y }, factor) {
  return {
    left: x + (box.left - x) * factor, right: x + (box.right - x) * factor,
    top: y + (box.top - y) * factor, bottom: y + (box.bottom - y) * factor,
  };
}

// Of an axis whose numbers meet, every second or third is shown.
function thinned(words) {
  const shown = new Set(words);
  for (const axis of new Set(words.map((word) => word.axis))) {
    const all = words.filter((word) => word.axis === axis);
    if (!axis || !all.every((word) => word.isNumber)) continue;
    let step = 1;
    const meets = (kept) => kept.some((word, k) => k > 0 && overlap(
      { ...word.now, left: word.now.left - 2, right: word.now.right + 2 },
      kept[k - 1].now));
    while (step < all.length && meets(all.filter((_, k) => k % step === 0))) step += 1;
    all.forEach((word, k) => { if (k % step !== 0) shown.delete(word); });
  }
  return shown;
}

// Whether two words meet. Of words aslant, side by side, the boxes meet long before.
function meet(a, b, box) {
  if (a.angle !== b.angle || a.angle % 90 === 0) return overlap(a[box], b[box]);
  const turn = a.angle * Math.PI / 180;
  const [dx, dy] = [middle(a[box]) - middle(b[box]), level(a[box]) - level(b[box])];
  const by = (a[box].right - a[box].left) / (a.box.right - a.box.left);
  return Math.abs(dx * Math.sin(turn) - dy * Math.cos(turn)) < by * a.size;
}

// Whether an enlarged word keeps off whatever it kept off before.
function isFree(word, words, { markers, frames }) {
  return !words.some((other) => other !== word && meet(word, other, "now")
      && !meet(word, other, "box"))
    && !markers.some((marker) => word.lines.some((line) => !overlap(line, marker)
      && overlap(carried(line, word), marker)))
    && frames.every((frame) => !holds(frame, word.box) || holds(frame, word.now));
}

// A word that meets something grows towards another side, or moves a little. Of the free
// places it takes one where curves and bars cross it least.
function giveWay(word, words, shapes, factor) {
  const { left, right, top, bottom } = word.box;
  const height = (bottom - top) * factor;
  const others = words.filter((other) => other !== word);
  let best = null;
  for (const way of WAYS) {
    for (const x of [word.anchor.x, left, right, middle(word.box)]) {
      for (const y of [word.anchor.y, top, bottom]) {
        const moved = way * height;
        const now = shifted(grown(word.box, { x, y }, factor), moved);
        if (!holds(shapes.bounds, now) || !isFree({ ...word, now }, others, shapes)) continue;
        const bars = shapes.frames.filter((bar) => overlap(bar, now) && !overlap(bar, word.box));
        const crossed = shapes.points().filter((point) => covers(now, point)).length
          + LINE_POINTS * bars.length;
        if (!best || crossed < best.crossed) best = { crossed, now, moved, origin: { x, y } };
      }
    }
  }
  if (best) Object.assign(word, best);
}

const shifted = (box, by) => ({ ...box, top: box.top + by, bottom: box.bottom + by });
const covers = (box, { x, y }) => box.left < x && x < box.right
  && box.top < y && y < box.bottom;

// Whether all words are free, once those that are not have given way.
function keepsApart(words, shapes, factor) {
  for (const word of words) {
    if (!word.axis && !isFree(word, words, shapes)) giveWay(word, words, shapes, factor);
  }
  return words.every((word) => isFree(word, words, shapes));
}

// Boxes and bars that words may stand in, and markers that they should not meet.
function shapesOf(svg, words, boxOf) {
  const { width, height } = svg.viewBox.baseVal;
  const isClosed = (shape) => /z\s*$/.test(shape.getAttribute("d") ?? "z");
  const isPart = (box) => box.right - box.left < 0.9 * width
    && (box.right - box.left) * (box.bottom - box.top) < width * height / 2;
  const inSight = [...svg.querySelectorAll("path, rect, image")]
    .filter((shape) => !shape.closest("defs") && !shape.matches(".nn-ground"));
  const frames = inSight.filter(isClosed).map(boxOf).filter(isPart);
  const ticks = words.map((word) => word.axis).filter(Boolean);
  const isOfWords = (use) => words.some(({ group, axis }) => (axis ?? group).contains(use));
  const markers = [...svg.querySelectorAll("use")].filter((use) => !isOfWords(use));
  const isSmall = (box) => box.right - box.left < LARGEST_MARKER; // else it is a ground
  const curves = inSight.filter((shape) => !isClosed(shape)
    && !ticks.some((axis) => axis.contains(shape)));
  let points; // of the curves, once they are asked for
  return {
    frames,
    markers: markers.length > MOST_MARKERS ? [] : markers.map(boxOf).filter(isSmall),
    points: () => points ??= curves.flatMap((curve) => pointsOf(curve, svg)),
  };
}

// Points of a curve in the drawing's own units.
function pointsOf(curve, svg) {
  const length = curve.getTotalLength();
  const toDrawing = svg.getScreenCTM().inverse().multiply(curve.getScreenCTM());
  return Array.from({ length: LINE_POINTS }, (_, k) =>
    curve.getPointAtLength(length * k / (LINE_POINTS - 1)).matrixTransform(toDrawing));
}

function boundsOf(boxes) {
  return {
    left: Math.min(...boxes.map((box) => box.left)),
    right: Math.max(...boxes.map((box) => box.right)),
    top: Math.min(...boxes.map((box) => box.top)),
    bottom: Math.max(...boxes.map((box) => box.bottom)),
  };
}

// Let words grow by `unit` for each unit of the view's width. Larger words need a wider
// view, in which they must be larger again. The view and the factor, or nothing where that
// has no end.
function grow(words, whole, unit) {
  let bounds = whole, factor = 0, last;
  for (let round = 0; round < 20; round++) {
    last = factor;
    factor = Math.max(1, unit * (bounds.right - bounds.left));
    if (Math.abs(factor - last) < 0.01) return { bounds, factor };
    for (const word of words) {
      word.origin = originOf(word);
      word.moved = 0;
      word.now = grown(word.box, word.origin, factor);
    }
    bounds = boundsOf([whole, ...words.map((word) => word.now)]);
  }
  return null;
}

const widest = new WeakMap(); // stepper -> the widest of its frames, as shown

// Fit a drawing into `available` px with type of at least `legible` px, or of `least` px
// where it then fits; `type`: its smallest one, in the drawing's units. The width that it
// then has, or `most` if that is not less. Frames of one stepper do not become narrower
// again: the next one stands where the last one stood.
function fitType(svg, grounds, { available, most, type, legible, least }, boxOf) {
  const stepper = svg.closest(".nn-stepper");
  const view = svg.viewBox.baseVal;
  const whole = { left: 0, top: 0, right: view.width, bottom: view.height };
  const words = wordsOf(svg, grounds, boxOf);
  const shapes = shapesOf(svg, words, boxOf);
  const first = Math.max(available, widest.get(stepper)?.[available] ?? 0);
  const tries = [[first, legible], [first, (legible + least) / 2], [first, least]];
  for (let width = first * STEP; width < most; width *= STEP) tries.push([width, legible]);
  const fits = ([width, size]) => {
    const made = grow(words, whole, size / (type * width));
    const shown = made && thinned(words);
    shapes.bounds = made?.bounds;
    if (!made || !keepsApart([...shown], shapes, made.factor)) return false;
    enlarge(words, shown, made.factor);
    showBox(svg, made.bounds);
    return true;
  };
  const [width] = tries.find(fits) ?? [most];
  if (stepper) widest.set(stepper, { [available]: Math.min(width, most) });
  return Math.min(width, most);
}

function showBox(svg, { left, right, top, bottom }) {
  const box = [left, top, right - left, bottom - top];
  svg.setAttribute("viewBox", box.map((number) => number.toFixed(2)).join(" "));
  // the ratio of a drawing is that of its attributes
  svg.setAttribute("height", Math.round(svg.getAttribute("width") * box[3] / box[2]));
}

function enlarge(words, shown, factor) {
  for (const word of words) {
    const { origin: { x, y }, moved } = word;
    word.group.setAttribute("transform", `translate(${x} ${y + moved}) scale(${factor.toFixed(4)}) `
      + `translate(${-x} ${-y}) ${word.original}`);
    word.group.classList.toggle("nn-thinned", !shown.has(word));
    enlarged.set(word.group, word.original);
  }
}

const enlarged = new Map(); // group -> its transform, as it was

function restoreType(svg) {
  for (const [group, original] of enlarged) {
    if (!svg.contains(group)) continue;
    if (original) group.setAttribute("transform", original);
    else group.removeAttribute("transform");
    group.classList.remove("nn-thinned");
    enlarged.delete(group);
  }
}
