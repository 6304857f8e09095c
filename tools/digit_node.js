// The page's own code outside the page: node tools/digit_node.js WHAT < input > output.
// tools/digit.py and the tests call it. Images are 784 bytes each, one after the other.
"use strict";

const fs = require("fs");
const nnDigit = require("../book/web/digit.js");
const file = require("../book/web/digit-weights.js");

const net = nnDigit.network(file);
const input = fs.readFileSync(0);

function images() {
  const size = nnDigit.SIDE ** 2;
  const count = input.length / size;
  return Array.from({ length: count }, (_, i) => input.subarray(i * size, (i + 1) * size));
}

function write(parts) {
  fs.writeSync(1, Buffer.alloc(0)); // a pipe that is gone fails here, and not half-way
  const bytes = parts.map((p) => Buffer.from(p.buffer, p.byteOffset, p.byteLength));
  process.stdout.write(Buffer.concat(bytes));
}

// One drawing, {strokes}, with all that the page shows of it.
function shown({ strokes }) {
  const ink = nnDigit.drawStrokes(nnDigit.blank(), strokes);
  const prepared = nnDigit.prepare(ink);
  const { maps, logits } = nnDigit.forward(net, prepared.pixels);
  const answer = nnDigit.answerOf(logits);
  const steps = nnDigit.occlusion(net, prepared.pixels, answer);
  let step = steps.next();
  while (!step.done) step = steps.next();
  return {
    ...prepared, maps, answer, evidence: step.value,
    ink: Uint8Array.from(ink, (v) => Math.round(255 * v)),
    probabilities: nnDigit.softmax(logits, net.temperature),
  };
}

const jobs = {
  // images -> ten logits each, float32
  answers: () => write(images().map((pixels) => nnDigit.forward(net, pixels).logits)),

  // images -> what the preprocessing makes of each, as an image
  again: () =>
    write(images().map((pixels) => nnDigit.prepare(nnDigit.inkOfImage(pixels)).pixels)),

  // images -> the occlusion map of each one's answer, float32
  occlusion: () =>
    write(
      images().map((pixels) => {
        const answer = nnDigit.answerOf(nnDigit.forward(net, pixels).logits);
        const steps = nnDigit.occlusion(net, pixels, answer);
        let step = steps.next();
        while (!step.done) step = steps.next();
        return step.value.map;
      }),
    ),

  // JSON {drawings, way} -> an image for each drawing
  prepare: () => {
    const { drawings, way } = JSON.parse(input);
    const ink = drawings.map(({ strokes }) => nnDigit.drawStrokes(nnDigit.blank(), strokes));
    write(ink.map((drawn) => nnDigit.prepare(drawn, way).pixels));
  },

  // JSON of one drawing -> JSON of all that the page shows of it; arrays become lists
  show: () => {
    const list = (key, value) => (ArrayBuffer.isView(value) ? Array.from(value) : value);
    process.stdout.write(JSON.stringify(shown(JSON.parse(input)), list));
  },
};

jobs[process.argv[2]]();
