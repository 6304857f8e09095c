// The numerical part of the page "Watch it learn": random numbers, points, a small
// network, its gradients, four optimisers. No page is needed: tests run it in node,
// beside PyTorch. All numbers are float64.

const PlaygroundNetwork = (() => {
  "use strict";

  // ---- Random numbers: a counter, stirred (the finaliser of MurmurHash3) ----

  // Each purpose draws from a stream of its own: another network leaves the points alone.
  const STREAMS = { points: 1, split: 2, weights: 3, order: 4 };

  function stir(number) {
    let h = number >>> 0;
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
    return (h ^ (h >>> 16)) >>> 0;
  }

  // Functions that draw from one stream of one seed. `uniform` is below 1, never 1.
  function generator(seed, stream) {
    let counter = stir(stir(seed) + STREAMS[stream]);
    const uniform = () => {
      counter = (counter + 0x9e3779b9) >>> 0; // 2^32 over the golden ratio: no short cycle
      return stir(counter) / 2 ** 32;
    };
    const normal = () => { // Box and Muller; 1 - u is never 0
      const radius = Math.sqrt(-2 * Math.log(1 - uniform()));
      return radius * Math.cos(2 * Math.PI * uniform());
    };
    const shuffle = (list) => { // Fisher and Yates
      for (let i = list.length - 1; i > 0; i--) {
        const j = Math.floor(uniform() * (i + 1));
        [list[i], list[j]] = [list[j], list[i]];
      }
      return list;
    };
    return { uniform, normal, shuffle };
  }

  // ---- Points, on a plane from -2 to 2 ----

  const EDGE = 1.8; // where the sets end, before noise

  function polar(radius, angle) {
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  }

  // A spiral of several arms: `share` goes from the middle to the end of an arm.
  function arm(share, label, classes, turns) {
    const angle = 2 * Math.PI * (turns * share + label / classes);
    return polar(EDGE * (0.05 + 0.95 * share), angle);
  }

  // The signs of XOR's four corners, as lesson 10 has them: class 1 where they differ.
  const CORNERS = [[1, 1], [-1, -1], [1, -1], [-1, 1]];

  // Each set: its classes, and one point of class `label`, the `i`-th of `n`, before noise.
  const SETS = {
    circle: { classes: 2, point: (r, label) => polar(
      EDGE * (label ? 0.7 + 0.3 * r.uniform() : 0.5 * r.uniform()),
      2 * Math.PI * r.uniform()) },
    xor: { classes: 2, point(r, label) {
      const a = 0.1 + (EDGE - 0.1) * r.uniform(); // a gap along the axes
      const b = 0.1 + (EDGE - 0.1) * r.uniform();
      const side = r.uniform() < 0.5 ? 1 : -1;
      return [side * a, (label ? -side : side) * b];
    } },
    gauss: { classes: 2, point(r, label) {
      const middle = label ? -0.8 : 0.8;
      return [middle + 0.3 * r.normal(), middle + 0.3 * r.normal()];
    } },
    spiral: { classes: 2, point: (r, label, i, n) => arm(i / n, label, 2, 1.25) },
    clouds: { classes: 2, point: (r, label, i) => CORNERS[2 * label + (i % 2)] },
    strips: { classes: 2, point: (r, label) => [
      EDGE * (2 * r.uniform() - 1), (label ? 1 : -1) * (0.03 + 0.07 * r.uniform())] },
    blobs: { classes: 3, point(r, label) {
      const [a, b] = polar(1.1, Math.PI * (0.5 + 2 * label / 3));
      return [a + 0.25 * r.normal(), b + 0.25 * r.normal()];
    } },
    arms: { classes: 3, point: (r, label, i, n) => arm(i / n, label, 3, 0.8) },
    empty: { classes: 2, point: null },
  };

  // The points of a set and the reader's own: {x (N, 2), y (N,), train, test: indices,
  // classes}. The set is cut by `share` percent; own points say what they are.
  function makePoints({ data, n, noise, share, seed, points }) {
    const x = [], y = [], train = [], test = [];
    const set = SETS[data];
    const draw = generator(seed, "points");
    const each = set.point ? Math.ceil(n / set.classes) : 0;
    for (let label = 0; label < set.classes; label++) {
      for (let i = 0; i < each; i++) {
        const [a, b] = set.point(draw, label, i, each);
        x.push(a + noise * draw.normal(), b + noise * draw.normal());
        y.push(label);
      }
    }
    const order = generator(seed, "split").shuffle([...y.keys()]);
    const cut = Math.round(order.length * share / 100);
    train.push(...order.slice(0, cut));
    test.push(...order.slice(cut));
    for (const point of points) {
      (point.test ? test : train).push(y.length);
      x.push(point.x, point.y);
      y.push(point.label);
    }
    const classes = Math.max(set.classes, ...points.map((p) => p.label + 1));
    return { x: Float64Array.from(x), y: Uint8Array.from(y), train, test, classes };
  }

  // ---- The network: linear layers with an activation between, logits at the end ----

  const ACTIVATIONS = {
    relu: { of: (z) => (z > 0 ? z : 0), slope: (a) => (a > 0 ? 1 : 0) },
    tanh: { of: Math.tanh, slope: (a) => 1 - a * a },
    sigmoid: { of: (z) => 1 / (1 + Math.exp(-z)), slope: (a) => a * (1 - a) },
  }; // the slope is written in terms of the activation's value, not of z

  // sizes: [2, units..., classes]. All weights lie in one array `theta`, layer after layer:
  // W (outputs, inputs) by rows, then b (outputs,).
  function makeNetwork(sizes, activation) {
    const layers = [];
    let at = 0;
    for (let l = 1; l < sizes.length; l++) {
      const [inputs, outputs] = [sizes[l - 1], sizes[l]];
      layers.push({ inputs, outputs, w: at, b: at + inputs * outputs });
      at += (inputs + 1) * outputs;
    }
    return { sizes, layers, activation, theta: new Float64Array(at) };
  }

  // As nn.Linear does: uniform within 1/sqrt(inputs), weights and biases.
  function initialise(network, seed) {
    const draw = generator(seed, "weights");
    for (const { inputs, outputs, w } of network.layers) {
      const limit = 1 / Math.sqrt(inputs);
      for (let i = w; i < w + (inputs + 1) * outputs; i++) {
        network.theta[i] = limit * (2 * draw.uniform() - 1);
      }
    }
  }

  // Values of all layers for x (n, 2): a list of (n, units) arrays; the last holds the
  // probabilities. `room` is what an earlier call for as many points gave: used again.
  function forward(network, x, n, room) {
    const values = room ?? network.layers.map((l) => new Float64Array(n * l.outputs));
    const { of } = ACTIVATIONS[network.activation];
    let input = x;
    network.layers.forEach((layer, l) => {
      affine(network.theta, layer, input, values[l], n);
      if (l < network.layers.length - 1) {
        for (let i = 0; i < values[l].length; i++) values[l][i] = of(values[l][i]);
      }
      input = values[l];
    });
    return values;
  }

  function affine(theta, { inputs, outputs, w, b }, input, output, n) {
    for (let row = 0; row < n; row++) {
      for (let j = 0; j < outputs; j++) {
        let sum = theta[b + j];
        for (let i = 0; i < inputs; i++) {
          sum += theta[w + j * inputs + i] * input[row * inputs + i];
        }
        output[row * outputs + j] = sum;
      }
    }
  }

  // Logits (n, classes) become probabilities in place. Shifted by the largest logit, so
  // that no exponential overflows. With labels: the sum of the cross-entropies.
  function softmax(logits, n, classes, labels) {
    let loss = 0;
    for (let row = 0; row < n; row++) {
      const start = row * classes;
      let largest = logits[start], sum = 0;
      for (let k = 1; k < classes; k++) largest = Math.max(largest, logits[start + k]);
      const label = labels ? logits[start + labels[row]] - largest : 0;
      for (let k = 0; k < classes; k++) {
        logits[start + k] = Math.exp(logits[start + k] - largest);
        sum += logits[start + k];
      }
      for (let k = 0; k < classes; k++) logits[start + k] /= sum;
      loss += Math.log(sum) - label;
    }
    return loss;
  }

  function probabilities(network, x, n, room) {
    const values = forward(network, x, n, room);
    softmax(values[values.length - 1], n, network.sizes[network.sizes.length - 1]);
    return values;
  }

  // Mean cross-entropy of a batch x (n, 2), y (n,); its gradient goes into `gradient`.
  function lossAndGradient(network, x, y, gradient) {
    const n = y.length;
    const values = forward(network, x, n);
    const last = network.layers.length - 1;
    const classes = network.layers[last].outputs;
    let delta = values[last]; // becomes the loss's derivative by z, layer by layer
    const loss = softmax(delta, n, classes, y) / n;
    for (let row = 0; row < n; row++) delta[row * classes + y[row]] -= 1;
    for (let i = 0; i < delta.length; i++) delta[i] /= n;
    gradient.fill(0);
    for (let l = last; l >= 0; l--) {
      const input = l ? values[l - 1] : x;
      collect(network.layers[l], input, delta, gradient, n);
      if (l) delta = passBack(network, l, input, delta, n);
    }
    return loss;
  }

  function collect({ inputs, outputs, w, b }, input, delta, gradient, n) {
    for (let row = 0; row < n; row++) {
      for (let j = 0; j < outputs; j++) {
        const d = delta[row * outputs + j];
        gradient[b + j] += d;
        for (let i = 0; i < inputs; i++) {
          gradient[w + j * inputs + i] += d * input[row * inputs + i];
        }
      }
    }
  }

  function passBack({ layers, theta, activation }, l, input, delta, n) {
    const { inputs, outputs, w } = layers[l];
    const { slope } = ACTIVATIONS[activation];
    const back = new Float64Array(n * inputs);
    for (let row = 0; row < n; row++) {
      for (let i = 0; i < inputs; i++) {
        let sum = 0;
        for (let j = 0; j < outputs; j++) {
          sum += theta[w + j * inputs + i] * delta[row * outputs + j];
        }
        back[row * inputs + i] = sum * slope(input[row * inputs + i]);
      }
    }
    return back;
  }

  // ---- Optimisers, each as PyTorch's; weights and biases decay alike, as there ----

  const MOMENTUM = 0.9, BETA1 = 0.9, BETA2 = 0.999, EPSILON = 1e-8;

  const OPTIMISERS = {
    // torch.optim.SGD(lr, weight_decay=decay): decay is added to the gradient
    sgd(theta, gradient, { lr, decay }) {
      for (let i = 0; i < theta.length; i++) {
        theta[i] -= lr * (gradient[i] + decay * theta[i]);
      }
    },
    // torch.optim.SGD(lr, momentum=0.9, weight_decay=decay): the same, then the velocity
    momentum(theta, gradient, { lr, decay }, memory) {
      for (let i = 0; i < theta.length; i++) {
        memory.m[i] = MOMENTUM * memory.m[i] + gradient[i] + decay * theta[i];
        theta[i] -= lr * memory.m[i];
      }
    },
    // torch.optim.AdamW(lr, weight_decay=decay): decay shrinks outside of the division
    adam(theta, gradient, { lr, decay }, memory) {
      for (let i = 0; i < theta.length; i++) theta[i] *= 1 - lr * decay;
      adamStep(theta, gradient, { lr, decay: 0 }, memory);
    },
    // torch.optim.Adam(lr, weight_decay=decay): decay is added to the gradient, and divided
    adamL2: adamStep,
  };

  function adamStep(theta, gradient, { lr, decay }, memory) {
    memory.t += 1;
    const first = 1 - BETA1 ** memory.t;
    const second = Math.sqrt(1 - BETA2 ** memory.t);
    const { m, v } = memory;
    for (let i = 0; i < theta.length; i++) {
      const g = gradient[i] + decay * theta[i];
      m[i] = BETA1 * m[i] + (1 - BETA1) * g;
      v[i] = BETA2 * v[i] + (1 - BETA2) * g * g;
      theta[i] -= (lr / first) * m[i] / (Math.sqrt(v[i]) / second + EPSILON);
    }
  }

  function newMemory(network) {
    const size = network.theta.length;
    return { t: 0, m: new Float64Array(size), v: new Float64Array(size) };
  }

  // ---- A run: points, a network, and where training is ----

  // What float32 holds, in which networks are usually trained. Beyond it a run has failed.
  const LARGEST = 3.4028234663852886e38;

  function start(settings) {
    const points = makePoints(settings);
    const network = makeNetwork([2, ...settings.net, points.classes], settings.act);
    initialise(network, settings.seed);
    const run = {
      settings, points, network, memory: newMemory(network),
      gradient: new Float64Array(network.theta.length),
      order: [], next: 0, draw: generator(settings.seed, "order"),
      step: 0, epoch: 0, history: [], failure: null, rooms: {},
      lowest: null, aboveSince: null, deadSince: {}, // what the words are made from
    };
    measure(run);
    return run;
  }

  // Indices of the next batch: each epoch shuffles anew; its last batch may be short.
  function nextBatch(run) {
    const size = run.settings.batch || run.points.train.length;
    if (run.next >= run.order.length) {
      run.order = run.draw.shuffle([...run.points.train]);
      run.next = 0;
      run.epoch += 1;
    }
    const batch = run.order.slice(run.next, run.next + size);
    run.next += size;
    return batch;
  }

  function gather({ x, y }, indices) {
    const chosen = { x: new Float64Array(2 * indices.length), y: new Uint8Array(indices.length) };
    indices.forEach((from, to) => {
      chosen.x[2 * to] = x[2 * from];
      chosen.x[2 * to + 1] = x[2 * from + 1];
      chosen.y[to] = y[from];
    });
    return chosen;
  }

  // One step. False if the run cannot go on: it has no points, or has failed.
  function advance(run) {
    if (run.failure || !run.points.train.length) return false;
    const { network, settings } = run;
    const batch = gather(run.points, nextBatch(run));
    const before = network.theta.slice();
    const loss = lossAndGradient(network, batch.x, batch.y, run.gradient);
    const optimise = OPTIMISERS[settings.opt];
    const { lr, decay } = settings;
    if (loss <= LARGEST) optimise(network.theta, run.gradient, { lr, decay }, run.memory);
    run.step += 1;
    run.failure = failureOf(run, loss);
    if (run.failure) network.theta = before; // the last network that can be drawn
    return !run.failure;
  }

  function failureOf(run, loss) {
    const step = run.step;
    if (!(loss <= LARGEST)) return { step, what: "the loss" };
    const index = run.network.theta.findIndex((w) => !(Math.abs(w) <= LARGEST));
    return index < 0 ? null : { step, what: nameOf(run.network, index) };
  }

  // The weight at this place of `theta`, in words.
  function nameOf({ layers }, index) {
    const l = layers.findIndex((layer) => index < layer.b + layer.outputs);
    const { inputs, w, b } = layers[l];
    const where = l < layers.length - 1 ? `hidden layer ${l + 1}` : "the output layer";
    if (index >= b) return `the bias of unit ${index - b + 1} in ${where}`;
    const to = Math.floor((index - w) / inputs) + 1;
    return `a weight of unit ${to} in ${where}`;
  }

  // Losses and accuracies on both parts, dead units; kept in the history. A part without
  // points has no loss: null.
  function measure(run) {
    const train = evaluate(run, "train"), test = evaluate(run, "test");
    run.dead = deadUnits(run, run.rooms.train);
    run.now = { step: run.step, train: train.loss, test: test.loss,
      trainRight: train.right, testRight: test.right };
    const last = run.history[run.history.length - 1];
    if (last && last.step === run.step) run.history.pop();
    run.history.push(run.now);
    if (run.history.length > 800) thin(run);
    remember(run);
    return run.now;
  }

  // Since when is the loss far above its start, or a whole layer dead? Where was the test
  // loss lowest?
  function remember(run) {
    const { step, train, test } = run.now;
    const high = 1.5 * Math.max(run.history[0].train, Math.log(run.points.classes));
    run.aboveSince = train > high ? run.aboveSince ?? step : null;
    run.dead.forEach((units, l) => {
      run.deadSince[l] = units.every(Boolean) ? run.deadSince[l] ?? step : null;
    });
    if (test !== null && (!run.lowest || test < run.lowest.test)) run.lowest = run.now;
  }

  // Old measurements are thinned to every second one, so that a long run needs no more room.
  function thin(run) {
    const end = run.history.length - 1;
    run.history = run.history.filter((entry, i) => i % 2 === 0 || i === end);
  }

  function evaluate(run, part) {
    const indices = run.points[part];
    const n = indices.length, classes = run.points.classes;
    if (!n) {
      run.rooms[part] = null;
      return { loss: null, right: null };
    }
    const { x, y } = gather(run.points, indices);
    const fits = run.rooms[part]?.[0].length === n * run.network.layers[0].outputs;
    const values = forward(run.network, x, n, fits ? run.rooms[part] : undefined);
    run.rooms[part] = values;
    const p = values[values.length - 1];
    const loss = softmax(p, n, classes, y) / n;
    let right = 0;
    for (let row = 0; row < n; row++) right += argmax(p, row, classes) === y[row];
    return { loss, right: right / n };
  }

  function argmax(values, row, classes) {
    let best = 0;
    for (let k = 1; k < classes; k++) {
      if (values[row * classes + k] > values[row * classes + best]) best = k;
    }
    return best;
  }

  // For each hidden layer a list: is this ReLU 0 for every training point?
  function deadUnits({ network, points }, values) {
    const hidden = network.layers.slice(0, -1);
    if (network.activation !== "relu" || !values) {
      return hidden.map(({ outputs }) => new Array(outputs).fill(false));
    }
    return hidden.map(({ outputs }, l) => Array.from({ length: outputs }, (_, unit) => {
      for (let row = 0; row < points.train.length; row++) {
        if (values[l][row * outputs + unit] > 0) return false;
      }
      return true;
    }));
  }

  // The reader's own points have changed: the network stays unless a class is new.
  function replacePoints(run, settings) {
    run.settings = settings;
    run.points = makePoints(settings);
    run.order = [];
    run.next = 0;
    measure(run);
  }

  return { OPTIMISERS, LARGEST, generator, makePoints, makeNetwork, probabilities,
    lossAndGradient, newMemory, start, advance, measure, replacePoints, argmax };
})();

if (typeof module === "object") module.exports = PlaygroundNetwork;
