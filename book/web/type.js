// A figure of one piece on a phone: the drawing is as wide as the screen, and its type is
// enlarged until it is legible. Where enlarged words would meet, a marker or each other,
// numbers of an axis are thinned; where that is not enough the drawing is made a little
// wider, and is scrolled. panels.js calls `fitType`; the drawings are matplotlib's.

const NEAR = 45; // pt: further away from a panel words do not belong to it
const STEP = 1.08; // how much wider the next try is
const MOST_MARKERS = 400; // a cloud of points: words in it are not kept off each
const TOLERANCE = 1; // pt, by which boxes of words may overlap: a line has room above it
const NUMBER = /^[−-]?[\d.,\s]+ ?%?$/; // also 10⁴, whose parts are set one by one

const overlap = (a, b, by = TOLERANCE) => a.left < b.right - by && b.left < a.right - by
  && a.top < b.bottom - by && b.top < a.bottom - by;
const holds = (outer, inner) => outer.left <= inner.left + TOLERANCE
  && outer.right >= inner.right - TOLERANCE && outer.top <= inner.top + TOLERANCE
  && outer.bottom >= inner.bottom - TOLERANCE;
const middle = (box) => (box.left + box.right) / 2;

// What is enlarged as one: a text, or all lines of one.
function wordsOf(svg, grounds, boxOf) {
  const texts = [...svg.querySelectorAll("text")];
  return [...new Set(texts.map((text) => text.parentElement))].map((group) => {
    const box = boxOf(group);
    const tick = group.closest("svg g:has(> g > g > use)") ?? group.parentElement;
    const mark = tick.contains(group) && tick.querySelector(":scope > g > g > use");
    const [x, y] = [middle(box), (box.top + box.bottom) / 2];
    const [ground] = grounds.filter((g) => distance(g, x, y) < NEAR)
      .toSorted((a, b) => distance(a, x, y) - distance(b, x, y));
    return {
      group, box, ground, axis: mark ? tick.parentElement : null,
      anchor: anchorOf(group, box, mark && boxOf(mark)),
      original: group.getAttribute("transform") ?? "",
      isNumber: NUMBER.test(group.textContent.trim()),
    };
  });
}

function distance(box, x, y) {
  return Math.max(box.left - x, 0, x - box.right) + Math.max(box.top - y, 0, y - box.bottom);
}

// The point of a text that stays where it is while the text grows.
function anchorOf(group, box, mark) {
  const text = group.querySelector("text");
  const angle = Number(/rotate\((-?[\d.]+)/.exec(text.getAttribute("transform"))?.[1] ?? 0);
  const at = { x: middle(box), y: (box.top + box.bottom) / 2 };
  if (angle % 90 !== 0) {
    return { x: Number(text.getAttribute("x")), y: Number(text.getAttribute("y")) };
  }
  if (angle !== 0) return at;
  let side = text.style.textAnchor;
  if (!side) side = mark ? sideOf(box, mark) : "start"; // a formula has none
  if (side === "start") at.x = box.left;
  if (side === "end") at.x = box.right;
  return at;
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

// Whether enlarged words keep off whatever they kept off before.
function keepsApart(words, markers, frames) {
  return words.every((word, k) => {
    const meets = (box) => overlap(word.now, box) && !overlap(word.box, box);
    const others = words.slice(k + 1);
    return !others.some((other) => overlap(word.now, other.now)
        && !overlap(word.box, other.box))
      && !markers.some(meets)
      && frames.every((frame) => !holds(frame, word.box) || holds(frame, word.now));
  });
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
  const markers = [...svg.querySelectorAll("use")]
    .filter((use) => !ticks.some((axis) => axis.contains(use)));
  return { frames, markers: markers.length > MOST_MARKERS ? [] : markers.map(boxOf) };
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
    for (const word of words) word.now = grown(word.box, originOf(word), factor);
    bounds = boundsOf([whole, ...words.map((word) => word.now)]);
  }
  return null;
}

const widest = new WeakMap(); // stepper -> the widest of its frames, as shown

// Fit a drawing into `available` px with type of at least `legible` px; `type`: its
// smallest one, in the drawing's units. The width that it then has, or `most` if that is
// not less. Frames of one stepper do not become narrower again: the next one stands where
// the last one stood.
function fitType(svg, grounds, { available, most, type, legible }, boxOf) {
  const stepper = svg.closest(".nn-stepper");
  const view = svg.viewBox.baseVal;
  const whole = { left: 0, top: 0, right: view.width, bottom: view.height };
  const words = wordsOf(svg, grounds, boxOf);
  const { frames, markers } = shapesOf(svg, words, boxOf);
  let width = Math.max(available, widest.get(stepper)?.[available] ?? 0);
  for (; width < most; width *= STEP) {
    const made = grow(words, whole, legible / (type * width));
    if (!made) continue;
    const shown = thinned(words);
    if (!keepsApart([...shown], markers, frames)) continue;
    enlarge(words, shown, made.factor);
    showBox(svg, made.bounds);
    break;
  }
  width = Math.min(width, most);
  if (stepper) widest.set(stepper, { [available]: width });
  return width;
}

function showBox(svg, { left, right, top, bottom }) {
  const box = [left, top, right - left, bottom - top];
  svg.setAttribute("viewBox", box.map((number) => number.toFixed(2)).join(" "));
  // the ratio of a drawing is that of its attributes
  svg.setAttribute("height", Math.round(svg.getAttribute("width") * box[3] / box[2]));
}

function enlarge(words, shown, factor) {
  for (const word of words) {
    const { x, y } = originOf(word);
    word.group.setAttribute("transform", `translate(${x} ${y}) scale(${factor.toFixed(4)}) `
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
