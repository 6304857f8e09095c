// The course's fast CNN and MNIST's preprocessing, in plain JavaScript. Nothing here
// knows of the page: draw.js shows what it gives, and the tests run it in node too.
"use strict";

const nnDigit = (() => {
  const FIELD = 280; // the drawing field's side
  const SIDE = 28; // an MNIST image's side
  const BOX = 20; // the side of the box that a digit is scaled to fit
  // Where MNIST's digits have their centre of mass, to the nearest pixel: on the middle of
  // the pixel 14 (from 0), half a pixel right of the image's middle and below it. A test
  // shows that this leaves MNIST's own images as they are.
  const CENTRE = 14.5;

  // ---- From strokes to ink: an array of FIELD × FIELD numbers from 0 to 1 ----

  function blank() {
    return new Float32Array(FIELD * FIELD);
  }

  // The squared distance of a point from a line segment.
  function squaredDistance(x, y, x0, y0, x1, y1) {
    const dx = x1 - x0;
    const dy = y1 - y0;
    const length = dx * dx + dy * dy;
    let t = length > 0 ? ((x - x0) * dx + (y - y0) * dy) / length : 0;
    t = Math.min(1, Math.max(0, t));
    return (x - x0 - t * dx) ** 2 + (y - y0 - t * dy) ** 2;
  }

  // Ink one segment with a round pen. Its rim is one pixel of grey.
  function drawSegment(ink, x0, y0, x1, y1, width) {
    const r = width / 2;
    const clip = (v) => Math.min(FIELD, Math.max(0, v));
    const left = clip(Math.floor(Math.min(x0, x1) - r - 1));
    const right = clip(Math.ceil(Math.max(x0, x1) + r + 1));
    const top = clip(Math.floor(Math.min(y0, y1) - r - 1));
    const bottom = clip(Math.ceil(Math.max(y0, y1) + r + 1));
    for (let y = top; y < bottom; y++) {
      for (let x = left; x < right; x++) {
        const far = squaredDistance(x + 0.5, y + 0.5, x0, y0, x1, y1);
        const value = Math.min(1, r + 0.5 - Math.sqrt(far));
        const i = y * FIELD + x;
        if (value > ink[i]) ink[i] = value;
      }
    }
  }

  // strokes: [{width, points: [x, y, x, y, …]}]; one point alone is a dot.
  function drawStrokes(ink, strokes) {
    for (const { width, points } of strokes) {
      const last = Math.max(points.length - 2, 2);
      for (let i = 0; i < last; i += 2) {
        const j = Math.min(i + 2, points.length - 2);
        drawSegment(ink, points[i], points[i + 1], points[j], points[j + 1], width);
      }
    }
    return ink;
  }

  // An MNIST image as ink: each of its pixels is a square of the field.
  function inkOfImage(pixels) {
    const ink = blank();
    const size = FIELD / SIDE;
    for (let y = 0; y < FIELD; y++) {
      for (let x = 0; x < FIELD; x++) {
        const i = Math.floor(y / size) * SIDE + Math.floor(x / size);
        ink[y * FIELD + x] = pixels[i] / 255;
      }
    }
    return ink;
  }

  // ---- MNIST's preprocessing: crop, fit into a box, centre by the centre of mass ----

  // The smallest box around the ink, right and bottom exclusive; null where there is none.
  function boundingBox(ink) {
    let [left, top, right, bottom] = [FIELD, FIELD, 0, 0];
    for (let y = 0; y < FIELD; y++) {
      for (let x = 0; x < FIELD; x++) {
        if (ink[y * FIELD + x] > 0) {
          if (x < left) left = x;
          if (x >= right) right = x + 1;
          if (y < top) top = y;
          bottom = y + 1;
        }
      }
    }
    return right > 0 ? { left, top, right, bottom } : null;
  }

  // How much of each source pixel one target pixel covers, along one axis: the target
  // pixel i covers from + i·scale to from + (i + 1)·scale.
  function coverage(from, scale, i) {
    const start = from + i * scale;
    const end = start + scale;
    const parts = [];
    for (let s = Math.floor(start); s < end; s++) {
      const part = Math.min(s + 1, end) - Math.max(s, start);
      if (s >= 0 && s < FIELD && part > 1e-9) parts.push([s, part / scale]);
    }
    return parts;
  }

  // A part of the ink, shrunk to side × side: each pixel is the mean over the square of
  // scale × scale that it covers. Rows first, then columns.
  function areaAverage(ink, left, top, scale, side) {
    const columns = Array.from({ length: side }, (_, i) => coverage(left, scale, i));
    const small = new Float32Array(side * side);
    for (let y = 0; y < side; y++) {
      for (const [row, share] of coverage(top, scale, y)) {
        for (let x = 0; x < side; x++) {
          let sum = 0;
          for (const [column, part] of columns[x]) sum += part * ink[row * FIELD + column];
          small[y * side + x] += share * sum;
        }
      }
    }
    return small;
  }

  // In pixels, measured from the left and from the top edge.
  function centreOfMass(image, side) {
    let [mass, sumX, sumY] = [0, 0, 0];
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const value = image[y * side + x];
        mass += value;
        sumX += value * (x + 0.5);
        sumY += value * (y + 0.5);
      }
    }
    return { x: sumX / mass, y: sumY / mass };
  }

  // Lay the box's image into an empty 28 × 28, as bytes.
  function pasted(patch, offset) {
    const pixels = new Uint8Array(SIDE * SIDE);
    for (let y = 0; y < BOX; y++) {
      for (let x = 0; x < BOX; x++) {
        const value = Math.round(255 * patch[y * BOX + x]);
        // What lies beyond the edge is empty: a narrow digit leaves columns of the box so.
        if (value > 0) pixels[(y + offset.y) * SIDE + x + offset.x] = value;
      }
    }
    return pixels;
  }

  // What becomes of ink. way: "mnist"; "scaled", which leaves the digit where it was
  // drawn; or "drawn", which only shrinks the field. Null where there is no ink.
  // -> {box, scale, patch, mass, offset, pixels}, the pixels 784 bytes.
  function prepare(ink, way = "mnist") {
    const box = boundingBox(ink);
    if (!box) return null;
    if (way === "drawn") {
      const small = areaAverage(ink, 0, 0, FIELD / SIDE, SIDE);
      return { box, pixels: Uint8Array.from(small, (v) => Math.round(255 * v)) };
    }
    const longer = Math.max(box.right - box.left, box.bottom - box.top);
    const scale = longer / BOX;
    const patch = areaAverage(ink, box.left, box.top, scale, BOX);
    const mass = centreOfMass(patch, BOX);
    const field = FIELD / SIDE;
    const wanted =
      way === "mnist"
        ? { x: CENTRE - mass.x, y: CENTRE - mass.y }
        : {
            x: (box.left + box.right) / 2 / field - (box.right - box.left) / scale / 2,
            y: (box.top + box.bottom) / 2 / field - (box.bottom - box.top) / scale / 2,
          };
    // By whole pixels, and never so far that ink would be cut off.
    const clip = (v, size) => {
      const most = SIDE - Math.ceil(size / scale - 1e-9);
      return Math.min(most, Math.max(0, Math.round(v)));
    };
    const offset = {
      x: clip(wanted.x, box.right - box.left),
      y: clip(wanted.y, box.bottom - box.top),
    };
    return { box, scale, patch, mass, offset, pixels: pasted(patch, offset) };
  }

  // ---- The network ----

  function bytesOf(base64) {
    return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  }

  // From what tools/digit.py wrote: its layers with their numbers.
  function network(file) {
    const numbers = new Float32Array(bytesOf(file.weights).buffer);
    let at = 0;
    const take = (count) => numbers.subarray(at, (at += count));
    const layers = file.convolutions.map((layer) => ({
      ...layer,
      weight: take(layer.out * layer.in * layer.kernel ** 2),
      scale: take(layer.out),
      shift: take(layer.out),
    }));
    const inputs = layers.at(-1).out;
    const linear = { weight: take(10 * inputs), bias: take(10) };
    const { crop, mean, std, temperature } = file;
    return { crop, mean, std, temperature, layers, linear };
  }

  // The middle of the image, normalised by the training split's mean and std.
  function cropped(net, pixels) {
    const side = net.crop;
    const margin = (SIDE - side) / 2;
    const values = new Float32Array(side * side);
    for (let y = 0; y < side; y++) {
      for (let x = 0; x < side; x++) {
        const value = pixels[(y + margin) * SIDE + x + margin] / 255;
        values[y * side + x] = (value - net.mean) / net.std;
      }
    }
    return { channels: 1, side, values };
  }

  // Each output is a sum over all input channels and the places of the kernel. A row of
  // the kernel (3 or 5 weights) goes over the whole map before the next one does: this
  // keeps the innermost loop short and fast.
  function convolve({ side, values }, layer) {
    const k = layer.kernel;
    const n = side - k + 1;
    const addRow = k === 3 ? addRowOf3 : addRowOf5;
    const out = new Float32Array(layer.out * n * n);
    const sums = new Float64Array(n * n);
    for (let o = 0; o < layer.out; o++) {
      sums.fill(0);
      for (let c = 0; c < layer.in; c++) {
        for (let ky = 0; ky < k; ky++) {
          const w = ((o * layer.in + c) * k + ky) * k;
          addRow(sums, n, values, (c * side + ky) * side, side, layer.weight, w);
        }
      }
      out.set(sums, o * n * n);
    }
    return { channels: layer.out, side: n, values: out };
  }

  function addRowOf3(sums, n, values, start, side, weight, w) {
    const [w0, w1, w2] = [weight[w], weight[w + 1], weight[w + 2]];
    for (let y = 0, j = 0; y < n; y++) {
      for (let i = start + y * side, last = i + n; i < last; i++, j++) {
        sums[j] += w0 * values[i] + w1 * values[i + 1] + w2 * values[i + 2];
      }
    }
  }

  function addRowOf5(sums, n, values, start, side, weight, w) {
    addRowOf3(sums, n, values, start, side, weight, w);
    const [w3, w4] = [weight[w + 3], weight[w + 4]];
    for (let y = 0, j = 0; y < n; y++) {
      for (let i = start + y * side, last = i + n; i < last; i++, j++) {
        sums[j] += w3 * values[i + 3] + w4 * values[i + 4];
      }
    }
  }

  // The largest of each 2 × 2; a last odd row or column is left out.
  function pool({ channels, side, values }) {
    const n = Math.floor(side / 2);
    const out = new Float32Array(channels * n * n);
    for (let c = 0; c < channels; c++) {
      for (let y = 0; y < n; y++) {
        for (let x = 0; x < n; x++) {
          const i = (c * side + 2 * y) * side + 2 * x;
          const upper = Math.max(values[i], values[i + 1]);
          const lower = Math.max(values[i + side], values[i + side + 1]);
          out[(c * n + y) * n + x] = Math.max(upper, lower);
        }
      }
    }
    return { channels, side: n, values: out };
  }

  // Batch norm, which after training is one scale and one shift for each channel, and
  // ReLU.
  function normAndRelu({ channels, side, values }, { scale, shift }) {
    const area = side * side;
    const out = new Float32Array(values.length);
    for (let c = 0; c < channels; c++) {
      for (let i = c * area; i < (c + 1) * area; i++) {
        out[i] = Math.max(0, scale[c] * values[i] + shift[c]);
      }
    }
    return { channels, side, values: out };
  }

  function logitsOf({ channels, side, values }, { weight, bias }) {
    const area = side * side;
    const features = Array.from({ length: channels }, (_, c) =>
      Math.max(...values.subarray(c * area, (c + 1) * area)),
    );
    return Float32Array.from(bias, (b, digit) =>
      features.reduce((sum, f, c) => sum + f * weight[digit * channels + c], b),
    );
  }

  // One image, 784 bytes, through the network: the ten logits and all maps on the way,
  // each {channels, side, values}, channel after channel, row after row.
  function forward(net, pixels) {
    let now = cropped(net, pixels);
    const maps = [now];
    const add = (next) => {
      now = next;
      maps.push(now);
    };
    for (const layer of net.layers) {
      add(convolve(now, layer));
      if (layer.pool) add(pool(now));
      add(normAndRelu(now, layer));
    }
    return { maps, logits: logitsOf(now, net.linear) };
  }

  function softmax(logits, temperature = 1) {
    const most = Math.max(...logits);
    const powers = Array.from(logits, (z) => Math.exp((z - most) / temperature));
    const sum = powers.reduce((a, b) => a + b, 0);
    return powers.map((power) => power / sum);
  }

  function answerOf(logits) {
    return logits.indexOf(Math.max(...logits));
  }

  // ---- Occlusion, as the lesson on looking inside writes it ----

  // A black square covers the image, place by place; each pixel gets the mean fall of
  // the target's logit over the squares that cover it. A generator, so that the page
  // need not stand still: it yields after each square and returns {map, worst}.
  function* occlusion(net, pixels, target, size = 4, step = 2) {
    const whole = forward(net, pixels).logits[target];
    const black = Math.min(...pixels);
    const sum = new Float32Array(SIDE * SIDE);
    const count = new Float32Array(SIDE * SIDE);
    let worst = { drop: -Infinity };
    for (let top = 0; top + size <= SIDE; top += step) {
      for (let left = 0; left + size <= SIDE; left += step) {
        const covered = Uint8Array.from(pixels); // slice() of node's Buffer is no copy
        const places = [];
        for (let y = top; y < top + size; y++) {
          for (let x = left; x < left + size; x++) places.push(y * SIDE + x);
        }
        for (const i of places) covered[i] = black;
        // Where there was no ink, nothing changes.
        const changed = places.some((i) => pixels[i] !== black);
        const { logits } = changed ? forward(net, covered) : { logits: null };
        const drop = logits ? whole - logits[target] : 0;
        if (logits && drop > worst.drop) {
          worst = { drop, top, left, size, answer: answerOf(logits) };
        }
        for (const i of places) {
          sum[i] += drop;
          count[i] += 1;
        }
        yield;
      }
    }
    return { map: sum.map((value, i) => (count[i] ? value / count[i] : 0)), worst };
  }

  return {
    FIELD, SIDE, BOX, CENTRE,
    blank, drawSegment, drawStrokes, inkOfImage, prepare, centreOfMass,
    bytesOf, network, forward, softmax, answerOf, occlusion,
  };
})();

if (typeof module !== "undefined") module.exports = nnDigit;
