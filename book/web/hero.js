// The welcome page's first picture: a slider over steps of training, and play. Without it
// the picture shows the trained network. Every frame was computed by tools/hero.py.

const hero = document.querySelector(".nn-hero");
const heroFrames = JSON.parse(hero.dataset.frames);
const steps = Object.keys(heroFrames).map(Number).sort((a, b) => a - b);
const maps = [...hero.querySelectorAll(".nn-layer img")].slice(1); // the first: the digit
const bars = hero.querySelector(".nn-bars");
const sentence = hero.querySelector(".nn-after");
const numbers = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 2 });

const controls = document.createElement("div");
controls.className = "nn-training";
const range = document.createElement("input");
Object.assign(range, { type: "range", min: 0, max: steps.length - 1, step: 1 });
range.value = steps.length - 1;
range.ariaLabel = "steps of training";
const play = document.createElement("button");
play.type = "button";
play.textContent = "Train it again";
controls.append(play, range);
hero.querySelector(".nn-layers").before(controls);

function show(place) {
  const { probabilities, accuracy, maps: sources } = heroFrames[steps[place]];
  maps.forEach((map, k) => {
    map.src = sources[k];
  });
  const best = probabilities.indexOf(Math.max(...probabilities));
  const sure = `${Math.round(100 * probabilities[best])}%`;
  bars.querySelectorAll("rect").forEach((bar, digit) => {
    bar.setAttribute("width", 90 * probabilities[digit]);
    bar.classList.toggle("nn-most", digit === best);
  });
  bars.ariaLabel =
    `Ten bars, the probabilities of the digits; the longest is that of ${best}, ${sure}.`;
  sentence.textContent =
    `After ${steps[place]} steps of training the network sees a ${best}, with ${sure}. ` +
    `It reads ${numbers.format(accuracy)} of the 10,000 test images right.`;
  range.setAttribute("aria-valuetext", `${steps[place]} steps: a ${best}, ${sure}`);
}

let timer = 0;
function stop() {
  clearInterval(timer);
  timer = 0;
  play.textContent = "Train it again";
}

range.addEventListener("input", () => {
  stop();
  show(Number(range.value));
});
play.addEventListener("click", () => {
  if (timer) {
    stop();
    return;
  }
  range.value = 0;
  show(0);
  play.textContent = "Pause";
  timer = setInterval(() => {
    range.value = Number(range.value) + 1;
    show(Number(range.value));
    if (Number(range.value) === steps.length - 1) stop();
  }, 1000);
});
show(steps.length - 1);
