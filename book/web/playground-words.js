// What the page "Watch it learn" says about a run, in sentences: what has happened, why,
// and what to do. No page is needed here either.

const PlaygroundWords = (() => {
  "use strict";

  const RAISED = { "-": "⁻", 0: "⁰", 1: "¹", 2: "²", 3: "³", 4: "⁴", 5: "⁵", 6: "⁶", 7: "⁷",
    8: "⁸", 9: "⁹" };

  // A number in three digits: 0.0312, 41.5, 2.1·10³⁸.
  function number(value) {
    if (value === null || value === undefined) return "none";
    const size = Math.abs(value);
    if (value === 0 || (size >= 0.001 && size < 100000)) {
      return String(Number(value.toPrecision(3))).replace("-", "−");
    }
    const [digits, power] = value.toExponential(1).split("e");
    const raised = [...power.replace("+", "")].map((sign) => RAISED[sign]).join("");
    return `${digits.replace("-", "−")}·10${raised}`;
  }

  function percent(share) {
    const value = 100 * share; // never 100 % while one point is wrong
    return `${share === 1 ? 100 : Math.min(99, Math.round(value))}\u00a0%`;
  }

  // 2 is the largest rate times decay at which decay alone still shrinks a weight; with
  // momentum β it is 2(1 + β). Adam divides decay too, so that no weight grows by it.
  function decayLimit(opt) {
    return { momentum: 3.8, adamL2: Infinity }[opt] ?? 2;
  }

  function overflow({ failure, settings }) {
    const { lr, decay, opt } = settings;
    const seen = `Training stopped at step ${failure.step}: ${failure.what} grew beyond `
      + "3.4·10³⁸, the largest number that float32 holds. The picture shows the network "
      + "one step earlier.";
    if (lr * decay >= decayLimit(opt)) {
      const factor = opt === "momentum" ? "and momentum carries it further"
        : `which is ${number(1 - lr * decay)}`;
      return `${seen} Weight decay did it. In each step it multiplies every weight by `
        + `1 − rate × decay, ${factor}: a weight changes its sign and grows. Keep rate × `
        + `decay, now ${number(lr * decay)}, far below ${decayLimit(opt)}, and reset.`;
    }
    return `${seen} The rate, ${number(lr)}, is too large: each step overshoots the valley `
      + `by more than the step before. Set a rate of ${number(lr / 10)} or less, and reset.`;
  }

  function deadLayer(run, l) {
    const units = run.dead[l].length;
    const who = units === 1 ? "The only unit" : `All ${units} units`;
    const since = run.deadSince[l] ? `since step ${run.deadSince[l]}` : "from the start";
    return `${who} of hidden layer ${l + 1} ${units === 1 ? "has" : "have"} been dead `
      + `${since}: 0 for every training point. So every point gets the same answer, no `
      + "gradient comes through, and only what lies behind that layer still learns. A rate "
      + `that is too large does this, and the rate is ${number(run.settings.lr)}. Reset, `
      + "with a smaller rate or another seed.";
  }

  function tooLarge(run) {
    const first = run.history[0].train;
    const { settings, now, aboveSince } = run;
    return `The rate, ${number(settings.lr)}, is too large. The training loss is `
      + `${number(now.train)}; it was ${number(first)} before the first step and has been `
      + `far above that since step ${aboveSince}. Each step overshoots the valley. Nothing `
      + "overflows, because the gradient of cross-entropy is bounded, but nothing is learned "
      + `either. Set a rate of ${number(settings.lr / 10)} or less, and reset.`;
  }

  function guesses(run) {
    return run.step >= 200 && run.now.train > 0.97 * Math.log(run.points.classes);
  }

  // Since half of its steps: has the loss hardly changed, with points still wrong?
  function stuck({ history, now, step }) {
    const half = history.find((entry) => entry.step >= step / 2);
    return step >= 300 && now.trainRight < 0.97 && now.train > 0.98 * half.train;
  }

  function memorises({ now, lowest, points }) {
    return points.test.length >= 10 && now.trainRight >= 0.99 && now.testRight < 0.97
      && now.test > 1.5 * lowest.test;
  }

  // {kind, text}; the kinds "overflow", "dead" and "rate" are alarms.
  function verdict(run) {
    const { now, points, step, lowest } = run;
    const said = (kind, text) => ({ kind, text });
    if (run.failure) return said("overflow", overflow(run));
    if (!points.train.length) {
      return said("empty", "There are no training points yet. Place some on the plane.");
    }
    const dead = run.dead.findIndex((units, l) => run.deadSince[l] !== null);
    if (dead >= 0) return said("dead", deadLayer(run, dead));
    if (run.aboveSince !== null && step >= 20) return said("rate", tooLarge(run));
    if (!step) return said("start", "Nothing is learned yet: these are the first weights.");
    if (memorises(run)) {
      return said("memory", "It knows the training points by heart. The loss on test points "
        + `was lowest at step ${lowest.step}, ${number(lowest.test)}, and is `
        + `${number(now.test)} now.`);
    }
    if (now.trainRight >= 0.97 && (now.testRight ?? 1) >= 0.9) {
      return said("learned", `It has learned the pattern: it is right on ${
        percent(now.trainRight)} of the training points${now.testRight === null ? ""
          : ` and on ${percent(now.testRight)} of the test points`}.`);
    }
    if (guesses(run)) {
      return said("guess", "After all these steps it is hardly better than a guess, which "
        + `costs log ${points.classes} = ${number(Math.log(points.classes))}.`);
    }
    if (stuck(run)) {
      return said("stuck", `It is stuck: for half of its steps the training loss has hardly `
        + `changed. It is ${number(now.train)}, and ${percent(now.trainRight)} of the training `
        + "points are right.");
    }
    return said("learning", `The training loss went from ${number(run.history[0].train)} `
      + `to ${number(now.train)}.`);
  }

  // A longer account, for those who do not see the pictures, or want numbers.
  function describe(run) {
    const { now, points, network } = run;
    const parts = [`Step ${run.step}, epoch ${run.epoch}.`];
    const part = (name, loss, right, count) => (loss === null ? `There are no ${name} points.`
      : `On ${count} ${name} point${
        count === 1 ? "" : "s"} the loss is ${number(loss)} and ${percent(right)} are right.`);
    parts.push(part("training", now.train, now.trainRight, points.train.length));
    parts.push(part("test", now.test, now.testRight, points.test.length));
    if (network.activation === "relu" && network.layers.length > 1) parts.push(deadWords(run));
    const largest = network.theta.reduce((most, w) => Math.max(most, Math.abs(w)), 0);
    parts.push(`The network has ${network.theta.length} parameters; the largest is `
      + `${number(largest)} in size.`, verdict(run).text);
    return parts.join(" ");
  }

  function deadWords({ dead }) {
    const count = dead.flat().filter(Boolean).length;
    if (!count) return "No hidden unit is dead.";
    const names = dead.flatMap((units, l) => units.flatMap((is, unit) => (
      is ? [`${unit + 1} of layer ${l + 1}`] : [])));
    return count === 1 ? `One unit is dead, unit ${names[0]}.`
      : `${count} units are dead: ${names.join(", ")}.`;
  }

  const ALARMS = ["overflow", "dead", "rate"];

  return { number, percent, verdict, describe, ALARMS };
})();

if (typeof module === "object") module.exports = PlaygroundWords;
