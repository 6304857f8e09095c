// Steppers beyond the slider of ipywidgets: buttons back and on, a tick at every frame,
// "3 of 8", and play. All of them send the slider the keys that a reader would press.

const PLAY_FROM = 4; // frames: fewer are seen at a glance
const PACE = 1100; // milliseconds a frame

// nn.js says when a stepper is drawn.
document.addEventListener("nn-stepper-drawn", (event) => equip(event.target));

function equip(box) {
  const handle = box.querySelector("[role=slider]");
  const frames = Number(handle.getAttribute("aria-valuemax")) + 1;
  const line = box.querySelector(".widget-slider");
  const track = line.querySelector(".slider-container");
  const name = handle.ariaLabel;
  const at = () => Number(handle.getAttribute("aria-valuenow"));
  const stepper = { box, handle, frames, at, timer: 0 };

  const back = button("nn-back", `${name}: one back`, () => go(stepper, at() - 1));
  const on = button("nn-on", `${name}: one on`, () => go(stepper, at() + 1));
  const count = document.createElement("span");
  count.className = "nn-count";
  const said = document.createElement("span"); // heard when a button moved the slider
  said.className = "nn-said";
  said.setAttribute("role", "status");
  track.before(back);
  track.after(on, count, said);
  if (frames >= PLAY_FROM) {
    stepper.play = button("nn-play", `${name}: play`, () => playOrPause(stepper));
    on.after(stepper.play);
  }
  drawTicks(stepper, track);

  const show = () => {
    count.textContent = `${at() + 1} of ${frames}`;
    // Not disabled: a button that has the focus would lose it at the end.
    back.setAttribute("aria-disabled", at() === 0);
    on.setAttribute("aria-disabled", at() === frames - 1);
  };
  new MutationObserver(show).observe(handle, { attributeFilter: ["aria-valuenow"] });
  show();
  stepper.say = () => {
    said.textContent = `${handle.getAttribute("aria-valuetext")}, ${count.textContent}`;
  };
  // Whoever takes the slider in hand ends the play.
  for (const type of ["pointerdown", "keydown"]) {
    track.addEventListener(type, (event) => event.isTrusted && pause(stepper));
  }
}

function button(className, label, action) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = className;
  made.ariaLabel = label;
  made.title = label;
  made.addEventListener("click", action);
  return made;
}

// A tick for each frame; with its value where there is room for all of them.
function drawTicks(stepper, track) {
  const values = stepper.box.closest(".cell_output")?.querySelector(".nn-values");
  const words = values ? JSON.parse(values.dataset.values) : [];
  const ticks = document.createElement("div");
  ticks.className = "nn-ticks";
  ticks.ariaHidden = "true"; // the slider itself says its value
  for (let frame = 0; frame < stepper.frames; frame++) {
    const tick = document.createElement("span");
    tick.style.left = `${(100 * frame) / (stepper.frames - 1)}%`;
    tick.textContent = words[frame] ?? "";
    ticks.append(tick);
  }
  track.append(ticks);
  const longest = Math.max(...words.map((word) => word.length), 0);
  const fit = () => {
    const room = track.clientWidth / stepper.frames / 7.5; // letters
    ticks.classList.toggle("nn-worded", longest > 0 && longest + 1 <= room);
  };
  new ResizeObserver(fit).observe(track);
}

// The slider's own keys move it: one path for hand, keyboard and button.
function go(stepper, frame, quietly = false) {
  if (!quietly) pause(stepper);
  const key = frame > stepper.at() ? "ArrowRight" : "ArrowLeft";
  for (let left = Math.abs(frame - stepper.at()); left > 0; left--) {
    stepper.handle.dispatchEvent(new KeyboardEvent("keydown", { key }));
  }
  // The value's text follows with the next mutation.
  if (!quietly) setTimeout(stepper.say, 100);
}

function playOrPause(stepper) {
  if (stepper.timer) {
    pause(stepper);
    return;
  }
  const last = stepper.frames - 1;
  if (stepper.at() === last) go(stepper, 0, true);
  stepper.timer = setInterval(() => {
    go(stepper, stepper.at() + 1, true);
    if (stepper.at() === last || !stepper.box.checkVisibility()) pause(stepper);
  }, PACE);
  label(stepper, "pause");
}

// Said once, at the end, and not frame by frame.
function pause(stepper) {
  if (!stepper.timer) return;
  clearInterval(stepper.timer);
  stepper.timer = 0;
  label(stepper, "play");
  setTimeout(stepper.say, 100);
}

function label(stepper, action) {
  const words = `${stepper.handle.ariaLabel}: ${action}`;
  stepper.play.ariaLabel = words;
  stepper.play.title = words;
  stepper.play.classList.toggle("nn-playing", action === "pause");
}
