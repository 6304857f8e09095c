// The settings of the page "Watch it learn", as they stand in its address: a link leads to
// an exact state. What cannot be read falls back to what is usual, with a sentence. No page
// is needed here either.

const PlaygroundAddress = (() => {
  "use strict";

  const MOST_POINTS = 400; // of one's own: three characters each
  const MOST_LAYERS = 4, MOST_UNITS = 16;
  const GRID = 32; // own points lie on a grid of 128 by 128, 1/32 apart, from -2

  function choice(usual, ...others) {
    const all = [usual, ...others];
    return {
      usual, all,
      read: (text) => (all.includes(text) ? text : undefined),
      asked: `one of ${all.join(", ")}`,
    };
  }

  function number(usual, low, high, { whole = false, above = false } = {}) {
    return {
      usual, low, high, whole,
      read(text) {
        const value = text.trim() === "" ? NaN : Number(text);
        const fits = value <= high && (above ? value > low : value >= low);
        return fits && (!whole || Number.isInteger(value)) ? value : undefined;
      },
      asked: `a ${whole ? "whole " : ""}number ${above ? "above" : "from"} ${low} ${
        above ? "and at most" : "to"} ${high}`,
    };
  }

  const batch = number(10, 1, 500, { whole: true });
  const SETTINGS = {
    data: choice("circle", "xor", "gauss", "spiral", "clouds", "strips", "blobs", "arms",
      "empty"),
    n: number(200, 10, 500, { whole: true }), // points of the set
    noise: number(0.1, 0, 1), // standard deviation, added to each coordinate
    share: number(50, 10, 100, { whole: true }), // percent of them to train on
    net: { // hidden units, layer by layer
      usual: [6],
      read: readLayers,
      write: (net) => net.join("-") || "none",
      asked: `up to ${MOST_LAYERS} layers of 1 to ${MOST_UNITS} units, as 4-2, or none`,
    },
    act: choice("tanh", "relu", "sigmoid"),
    opt: choice("sgd", "momentum", "adam", "adamL2"), // adam: AdamW, as in older links
    lr: number(0.3, 0, 1e6, { above: true }),
    batch: { // 0: all points at once
      ...batch,
      read: (text) => (text === "all" ? 0 : batch.read(text)),
      write: (size) => (size ? String(size) : "all"),
      asked: "a whole number from 1 to 500, or all",
    },
    decay: number(0, 0, 1e6),
    seed: number(1, 0, 2 ** 32 - 1, { whole: true }),
  };
  // These are left out of the address where they are as usual.
  const EXTRAS = {
    at: number(0, 0, 5000, { whole: true }), // steps made before the page shows the state
    until: number(0, 0, 100000, { whole: true }), // pause there; 0: never
    speed: choice("normal", "slow", "fast"),
    plane: { // what the plane shows: the classes, or unit 2 of layer 1 as 1.2
      usual: "classes",
      read: (text) => (text === "classes" || /^[1-4]\.\d{1,2}$/.test(text) ? text : undefined),
      asked: "classes, or a layer and a unit as 1.2",
    },
    tests: choice("shown", "hidden"), // the test points
    points: { usual: [], read: readPoints, write: writePoints,
      asked: `three letters, digits, - or _ for each of at most ${MOST_POINTS} points` },
    hide: { // names of settings, or of whole groups
      usual: [],
      read: (text) => (/^[a-z]+(,[a-z]+)*$/.test(text) ? text.split(",") : undefined),
      write: (names) => names.join(","),
      asked: "names of settings with commas between",
    },
  };
  const ALL = { ...SETTINGS, ...EXTRAS };

  function readLayers(text) {
    if (text === "none") return [];
    if (!/^\d+(-\d+)*$/.test(text)) return undefined;
    const net = text.split("-").map(Number);
    const fits = net.every((units) => units >= 1 && units <= MOST_UNITS);
    return fits && net.length <= MOST_LAYERS ? net : undefined;
  }

  // ---- Own points: 17 bits each (two for the class, one for test, twice seven) ----

  const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

  function snap(value) { // to the grid
    return Math.min(2 - 1 / GRID, Math.max(-2, Math.round(value * GRID) / GRID));
  }

  function writePoints(points) {
    return points.map(({ x, y, label, test }) => {
      const [i, j] = [x, y].map((value) => Math.round((snap(value) + 2) * GRID));
      const bits = (((label << 1) | (test ? 1 : 0)) << 14) | (i << 7) | j;
      return DIGITS[bits >> 12] + DIGITS[(bits >> 6) & 63] + DIGITS[bits & 63];
    }).join("");
  }

  function readPoints(text) {
    if (!/^([A-Za-z0-9_-]{3})*$/.test(text) || text.length > 3 * MOST_POINTS) return undefined;
    const points = [];
    for (let at = 0; at < text.length; at += 3) {
      const [a, b, c] = [...text.slice(at, at + 3)].map((digit) => DIGITS.indexOf(digit));
      const bits = (a << 12) | (b << 6) | c;
      if (bits >> 17) return undefined;
      points.push({
        x: ((bits >> 7) & 127) / GRID - 2, y: (bits & 127) / GRID - 2,
        label: bits >> 15, test: Boolean((bits >> 14) & 1),
      });
    }
    return points;
  }

  // ---- The whole address ----

  function usual() {
    const copy = (value) => (Array.isArray(value) ? [...value] : value);
    return Object.fromEntries(
      Object.entries(ALL).map(([name, { usual: value }]) => [name, copy(value)]));
  }

  // Is this the address of a state, and not of a heading?
  function isState(hash) {
    return hash.includes("=");
  }

  // {settings, complaints}: a sentence for each part that cannot be read.
  function read(hash) {
    const settings = usual(), complaints = [];
    const parts = isState(hash) ? hash.replace(/^#/, "").split("&").filter(Boolean) : [];
    for (const part of parts) {
      const [name, ...rest] = part.split("=");
      const complaint = readOne(settings, name, rest.join("="));
      if (complaint) complaints.push(complaint);
    }
    return { settings, complaints };
  }

  function readOne(settings, name, written) {
    const key = name.slice(0, 20);
    if (!Object.hasOwn(ALL, name)) {
      return `The address names a setting “${key}”, which does not exist.`;
    }
    let text = "", value;
    try {
      text = decodeURIComponent(written);
      value = ALL[name].read(text);
    } catch {
      text = written; // a percent sign that begins no character
    }
    if (value === undefined) {
      return `The address asks for ${key}=${text.slice(0, 20)}, but ${key} has to be ${
        ALL[name].asked}: ${show(name, settings[name])} is used.`;
    }
    settings[name] = value;
    return "";
  }

  function show(name, value) {
    const text = ALL[name].write ? ALL[name].write(value) : String(value);
    return text || "nothing";
  }

  function write(settings) {
    const parts = [];
    for (const name of Object.keys(ALL)) {
      const text = ALL[name].write ? ALL[name].write(settings[name]) : String(settings[name]);
      const isUsual = name in EXTRAS && text === String(EXTRAS[name].usual);
      if (!isUsual) parts.push(`${name}=${text}`);
    }
    return `#${parts.join("&")}`;
  }

  return { SETTINGS, EXTRAS, MOST_POINTS, MOST_LAYERS, MOST_UNITS, GRID, snap, usual,
    isState, read, write };
})();

if (typeof module === "object") module.exports = PlaygroundAddress;
