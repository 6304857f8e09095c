// Figures on a narrow screen. A figure of several panels has its columns one below the
// other, as many beside each other as the screen holds with legible type; any other is as
// narrow as its type allows (type.js enlarges it), and what is beyond the screen is
// scrolled. Without this script nn.css lets every figure scroll.
//
// The drawings are matplotlib's: an <svg> with one group, in which the first child is the
// ground, and each other a part of the figure: the panel of an axes, a legend, a text.

const LEGIBLE = 10; // px: the smallest type in stacked panels
const LEGIBLE_ALONE = 9.5; // and in a figure that is one piece
const LEAST = 8.5; // px: better than this, which fits the screen, is a drawing cut off
const MOST_COLUMNS = 4; // more than that is a grid of images, which stays a grid
// pt: a column this narrow (a colour bar, an arrow) stays with the one before
const NARROW = 40;
const MARGIN = 2; // pt, around what is stacked
const LARGEST = 5 / 3; // px for each pt: a quarter more than on a desk
const GAP = 14; // pt, between the rows

const originals = new WeakMap(); // svg -> its attributes, as they were

function partsOf(svg) {
  const drawing = [...svg.children].find((child) => child.tagName === "g");
  return drawing ? [...drawing.children].slice(1) : [];
}

function smallestType(svg) {
  const texts = [...svg.querySelectorAll("text")];
  const sizes = texts.map((text) => parseFloat(text.style.fontSize));
  return Math.min(...sizes.filter((size) => size > 0));
}

// The extent of an element in the drawing's own units.
function measure(svg) {
  const frame = svg.getBoundingClientRect();
  const units = svg.viewBox.baseVal.width / frame.width;
  return (element) => {
    const box = element.getBoundingClientRect();
    return {
      left: (box.left - frame.left) * units, right: (box.right - frame.left) * units,
      top: (box.top - frame.top) * units, bottom: (box.bottom - frame.top) * units,
    };
  };
}

function union(boxes) {
  return {
    left: Math.min(...boxes.map((box) => box.left)),
    right: Math.max(...boxes.map((box) => box.right)),
    top: Math.min(...boxes.map((box) => box.top)),
    bottom: Math.max(...boxes.map((box) => box.bottom)),
  };
}

function isClipped(element) {
  return element.closest("[clip-path]") !== null;
}

// The rectangle that an element is clipped by, or null.
function clipOf(element) {
  const clip = element.closest("[clip-path]")?.getAttribute("clip-path");
  const rect = clip && document.querySelector(`${clip.slice(4, -1)} > rect`);
  if (!rect) return null;
  const at = (name) => parseFloat(rect.getAttribute(name));
  return {
    left: at("x"), right: at("x") + at("width"), top: at("y"), bottom: at("y") + at("height"),
  };
}

function intersection(box, other) {
  return {
    left: Math.max(box.left, other.left), right: Math.min(box.right, other.right),
    top: Math.max(box.top, other.top), bottom: Math.min(box.bottom, other.bottom),
  };
}

// Without ticks the first shape may be anything, a circle say.
function hasAxes({ part, ground }) {
  return ground && part.querySelector(":scope > g > g > g > g > use");
}

// In a panel with axes, what is clipped shows nothing outside the ground. Where the axes
// are off, there is no ground, and what is seen of it is measured.
function describe(part, boxOf) {
  const first = part.querySelector(":scope > g:first-child > path:only-child");
  const ground = first && boxOf(first);
  const shapes = [...part.querySelectorAll("path, text, image, use")];
  const drawn = shapes.filter((shape) => !shape.closest("defs"));
  const measured = hasAxes({ part, ground }) ? drawn.filter((e) => !isClipped(e)) : drawn;
  const boxes = measured.map((shape) => {
    const clip = clipOf(shape);
    return clip ? intersection(boxOf(shape), clip) : boxOf(shape);
  });
  const isThere = (box) => box.right > box.left || box.bottom > box.top;
  const seen = boxes.filter(isThere);
  return seen.length > 0 ? { part, box: union(seen), ground } : null;
}

// Parts that lie above one another are one column; so is what no cut from top to bottom
// can part.
function intoColumns(parts) {
  const columns = [];
  const sorted = [...parts].sort((a, b) => a.box.left - b.box.left);
  for (const part of sorted) {
    const last = columns.at(-1);
    const overlaps = last && part.box.left < last.box.right - MARGIN;
    const isNarrow = last && part.box.right - last.box.right < NARROW;
    if (overlaps || isNarrow) {
      last.parts.push(part);
      last.box = union([last.box, part.box]);
    } else {
      columns.push({ parts: [part], box: part.box });
    }
  }
  return columns;
}

function widthOf(row) {
  return row.at(-1).box.right - row[0].box.left;
}

// As few rows as the width allows; even ones if they fit: of four columns two and two.
function intoRows(columns, width) {
  const rows = [[columns[0]]];
  for (const column of columns.slice(1)) {
    if (widthOf([...rows.at(-1), column]) <= width) rows.at(-1).push(column);
    else rows.push([column]);
  }
  const each = Math.ceil(columns.length / rows.length);
  const even = rows.map((_, k) => columns.slice(k * each, (k + 1) * each));
  const fits = even.every((row) => row.length > 0 && widthOf(row) <= width);
  return fits ? even : rows;
}

// Heights at which a panel has ticks or lines of its grid, and the words left of it.
function ticksOf({ part, box, ground }, boxOf) {
  const uses = [...part.querySelectorAll("use")].filter((e) => !isClipped(e)).map(boxOf);
  const flat = uses.filter((b) => b.bottom - b.top < 1); // those of the other axis stand
  const atLeft = flat.filter((b) => Math.abs((b.left + b.right) / 2 - ground.left) < 5);
  const heights = atLeft.map((b) => Math.round((b.top + b.bottom) / 2)).sort().join();
  const words = [...part.querySelectorAll("text")];
  return { heights, words: words.filter((e) => boxOf(e).right <= ground.left + 1) };
}

// Panels that share their axis have its numbers at the first one only. The first panel
// of a new row gets a copy.
function lendNumbers(first, panel, boxOf) {
  if (!first.ground || !panel.ground) return;
  if (Math.abs(first.ground.top - panel.ground.top) > 1) return;
  if (Math.abs(first.ground.bottom - panel.ground.bottom) > 1) return;
  const [lender, borrower] = [ticksOf(first, boxOf), ticksOf(panel, boxOf)];
  if (!lender.heights || lender.heights !== borrower.heights) return;
  if (borrower.words.length > 0 || lender.words.length === 0) return;
  const copy = document.createElementNS("http://www.w3.org/2000/svg", "g");
  copy.setAttribute("class", "nn-lent");
  copy.setAttribute("transform", `translate(${panel.ground.left - first.ground.left} 0)`);
  const placed = (word) => word.parentElement.matches("[transform]") ? word.parentElement : word;
  copy.append(...lender.words.map((word) => placed(word).cloneNode(true))); // a formula's group
  panel.part.append(copy);
}

// What stands left of a row's first panel: its numbers and its label.
function indentOf(row) {
  const grounds = row[0].parts.filter((part) => part.ground);
  return Math.min(...grounds.map((part) => part.ground.left)) - row[0].box.left;
}

// How far each row is moved, so that the panels of all rows begin on one line.
function shiftsOf(rows) {
  const indents = rows.map(indentOf);
  const most = Math.max(...indents);
  return indents.map((indent) => most < Infinity ? most - indent : 0);
}

function widthOfRows(rows) {
  const shifts = shiftsOf(rows);
  return 2 * MARGIN + Math.max(...rows.map((row, k) => widthOf(row) + shifts[k]));
}

function moveRow(row, left, top) {
  const bounds = union(row.map((column) => column.box));
  const [dx, dy] = [MARGIN + left - bounds.left, top - bounds.top];
  for (const column of row) {
    for (const { part } of column.parts) {
      part.setAttribute("transform", `translate(${dx.toFixed(2)} ${dy.toFixed(2)})`);
    }
  }
  return { right: bounds.right + dx, bottom: bounds.bottom + dy };
}

function stack(svg, rows, available, boxOf) {
  for (const row of rows.slice(1)) {
    for (const panel of row[0].parts) {
      for (const first of rows[0][0].parts) lendNumbers(first, panel, boxOf);
    }
  }
  const shifts = shiftsOf(rows);
  let [width, height] = [0, MARGIN];
  rows.forEach((row, k) => {
    const end = moveRow(row, shifts[k], height + (k > 0 ? GAP : 0));
    [width, height] = [Math.max(width, end.right + MARGIN), end.bottom + MARGIN];
  });
  svg.setAttribute("viewBox", `0 0 ${width.toFixed(2)} ${height.toFixed(2)}`);
  const scale = Math.max(4 / 3, Math.min(LARGEST, available / width));
  svg.setAttribute("width", Math.floor(width * scale));
  svg.setAttribute("height", Math.floor(height * scale));
}

function restore(svg) {
  for (const copy of svg.querySelectorAll(".nn-lent")) copy.remove();
  for (const part of partsOf(svg)) part.removeAttribute("transform");
  restoreType(svg);
  const attributes = Object.entries(originals.get(svg));
  for (const [name, value] of attributes) svg.setAttribute(name, value);
}

function layOut(svg, available) {
  const names = ["viewBox", "width", "height", "style"];
  if (!originals.has(svg)) {
    originals.set(svg, Object.fromEntries(names.map((n) => [n, svg.getAttribute(n)])));
  }
  restore(svg);
  const type = smallestType(svg); // Infinity: there are no words
  const width = svg.viewBox.baseVal.width;
  if (available >= width * Math.min(4 / 3, LEGIBLE / type)) {
    setLeast(svg, 0);
    return;
  }
  const boxOf = measure(svg);
  const parts = partsOf(svg).map((part) => describe(part, boxOf)).filter(Boolean);
  const columns = intoColumns(parts);
  if (columns.length > 1 && columns.length <= MOST_COLUMNS) {
    const fits = (stacked) => stacked * LEAST <= available * type;
    let room = available / (LEGIBLE / type) - 2 * MARGIN;
    let rows = intoRows(columns, room);
    while (!fits(widthOfRows(rows)) && rows.length < columns.length) {
      room -= NARROW;
      rows = intoRows(columns, room);
    }
    stack(svg, rows, available, boxOf);
    const stacked = svg.viewBox.baseVal.width;
    setLeast(svg, fits(stacked) ? 0 : stacked * LEGIBLE / type);
  } else {
    const grounds = parts.filter(hasAxes).map((part) => part.ground);
    const most = Math.min(svg.getAttribute("width"), width * LEGIBLE_ALONE / type);
    setLeast(svg, fitType(svg, grounds,
      { available, most, type, legible: LEGIBLE_ALONE, least: LEAST }, boxOf));
  }
}

// The drawing is as wide as its box, or this wide, whichever is more.
function setLeast(svg, width) {
  const least = Math.min(svg.getAttribute("width"), Math.ceil(width));
  svg.style.setProperty("max-width", `max(100%, ${least}px)`, "important");
}

const widths = new WeakMap();
const frames = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const available = target.clientWidth;
    const svg = target.querySelector(":scope > svg[role=img]");
    if (!svg || available === 0 || widths.get(target) === available) continue;
    widths.set(target, available);
    layOut(svg, available);
  }
});

document.addEventListener("DOMContentLoaded", () => {
  const watched = new WeakSet();
  const watch = () => {
    for (const figure of document.querySelectorAll("figure.nn-figure")) {
      if (watched.has(figure)) continue;
      watched.add(figure);
      frames.observe(figure);
    }
  };
  const content = document.getElementById("main-content");
  new MutationObserver(watch).observe(content, { childList: true, subtree: true });
  watch();
});
