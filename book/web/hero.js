// The welcome page's first picture: a slider over steps of training, and play. Without it
// the picture shows the trained network. Every frame was computed by tools/hero.py.

(() => {
  const hero = document.querySelector(".nn-hero");
  const heroFrames = JSON.parse(hero.dataset.frames);
  const steps = Object.keys(heroFrames).map(Number).sort((a, b) => a - b);
  const maps = [...hero.querySelectorAll(".nn-layer img")].slice(1); // the first: the digit
  const bars = hero.querySelector(".nn-bars");
  const sentence = hero.querySelector(".nn-after");
  const numbers = new Intl.NumberFormat("en", { style: "percent", maximumFractionDigits: 2 });

  // It looks and works as every stepper does; `button` is theirs (stepper.js).
  function part(tag, className, text = "") {
    const made = document.createElement(tag);
    made.className = className;
    made.textContent = text;
    return made;
  }

  const last = steps.length - 1;
  const range = document.createElement("input");
  Object.assign(range, { type: "range", min: 0, max: last, step: 1 });
  range.value = last;
  range.ariaLabel = "steps of training";
  const readout = part("span", "widget-readout");
  const count = part("span", "nn-count");
  const back = button("nn-back", "steps of training: back", () => go(Number(range.value) - 1));
  const on = button("nn-on", "steps of training: on", () => go(Number(range.value) + 1));
  const play = button("nn-play", "Train it again", playOrStop);
  const ticks = part("div", "nn-ticks nn-worded");
  steps.forEach((step, k) => {
    const tick = part("span", "", step);
    tick.style.left = `${(100 * k) / last}%`;
    ticks.append(tick);
  });
  const track = part("div", "slider-container");
  track.append(range, ticks);
  const controls = part("div", "widget-slider nn-training");
  const label = part("span", "widget-label", "Steps of training");
  for (const words of [label, readout, ticks]) words.ariaHidden = "true"; // the slider says it
  controls.append(label, readout, count, back, track, on, play);
  hero.classList.add("nn-stepper");
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
    readout.textContent = steps[place];
    count.textContent = `${place + 1} of ${steps.length}`;
    back.setAttribute("aria-disabled", place === 0);
    on.setAttribute("aria-disabled", place === last);
    range.setAttribute("aria-valuetext", `${steps[place]} steps: a ${best}, ${sure}`);
  }

  let timer = 0;
  function stop() {
    clearInterval(timer);
    timer = 0;
    playLabel("Train it again", false);
  }

  function playLabel(words, isPlaying) {
    play.ariaLabel = words;
    play.title = words;
    play.classList.toggle("nn-playing", isPlaying);
  }

  function go(place) {
    stop();
    range.value = Math.min(Math.max(place, 0), last);
    show(Number(range.value));
  }

  function playOrStop() {
    if (timer) {
      stop();
      return;
    }
    go(0);
    playLabel("Pause", true);
    timer = setInterval(() => {
      range.value = Number(range.value) + 1;
      show(Number(range.value));
      if (Number(range.value) === last) stop();
    }, 1000);
  }

  range.addEventListener("input", () => go(Number(range.value)));
  show(last);
})();
