// What the pages do beyond Jupyter Book: say nothing in the console, let widgets be used by keyboard
// and screen reader, and close the page's contents on a phone once a heading is chosen.

// The theme asks whether the screen is dark only once the page is whole. Asked here, before anything is
// drawn, a dark screen shows no light page first, and the styles are not computed anew for it.
{
  const { dataset } = document.documentElement;
  if (dataset.mode === "auto") dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
}

// The theme logs each change of colours, and the widget manager a note of its JSON schema checker.
for (const level of ["log", "warn"]) {
  const say = console[level];
  console[level] = (...said) => /^(\[PST\]|\[SBT\]|strict mode: )/.test(said[0]) || say(...said);
}

// From disk a page may not read another one, so search results come without their excerpts.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

// A slider of ipywidgets has no name, and its value is an index: give it its label and its text.
function mendStepper(box) {
  const handle = box.querySelector("[role=slider]");
  const readout = box.querySelector(".widget-readout");
  if (!handle || !readout || handle.ariaLabel) return;
  handle.ariaLabel = box.querySelector(".widget-label").textContent;
  readout.contentEditable = false;
  readout.ariaHidden = true;
  const tell = () => {
    if (handle.getAttribute("aria-valuetext") !== readout.textContent)
      handle.setAttribute("aria-valuetext", readout.textContent);
  };
  const watch = new MutationObserver(tell);
  watch.observe(readout, { childList: true, characterData: true, subtree: true });
  watch.observe(handle, { attributeFilter: ["aria-valuetext"] });
  tell();
}

// Radio buttons of ipywidgets are not a group: no common name, so no arrow keys, and no question.
let quizzes = 0;
function mendQuiz(box) {
  const group = box.querySelector(".widget-radio-box");
  if (!group || group.role) return;
  const id = `nn-quiz-${++quizzes}`;
  const question = box.querySelector(".widget-html-content");
  question.id = id;
  group.role = "radiogroup";
  group.setAttribute("aria-labelledby", id);
  for (const radio of group.querySelectorAll("input")) radio.name = id;
  box.lastElementChild.ariaLive = "polite"; // the reasons
}

// What is wider than its box scrolls; then it can be reached by keyboard, in every browser.
const reach = new ResizeObserver((changed) =>
  changed.forEach(({ target }) =>
    target.scrollWidth > target.clientWidth ? (target.tabIndex = 0) : target.removeAttribute("tabindex")
  )
);

const watched = new WeakSet();
function mendWidgets() {
  for (const box of document.querySelectorAll(".nn-figure, .nn-stepper > .widget-box"))
    if (!watched.has(box)) watched.add(box) && reach.observe(box); // observing again would measure again
  document.querySelectorAll(".nn-stepper").forEach(mendStepper);
  document.querySelectorAll(".nn-quiz").forEach(mendQuiz);
  document.querySelectorAll('.widget-label[title="null"]').forEach((label) => (label.title = ""));
}

document.addEventListener("DOMContentLoaded", () => {
  new MutationObserver(mendWidgets).observe(document.getElementById("main-content"), { childList: true, subtree: true });
  mendWidgets();
  // What a cell prints wraps if it is sentences; if there are columns in it, it scrolls.
  document.querySelectorAll(".cell_output .stream").forEach((output) =>
    output.classList.toggle("nn-sentences", !/\S {2}|^ /m.test(output.textContent.trim()))
  );
  // A fold is called what it says, not "Toggle hidden content".
  document.querySelectorAll("details.hide > summary").forEach((summary) => summary.removeAttribute("aria-label"));
  document.querySelectorAll("dialog").forEach((dialog) =>
    dialog.addEventListener("click", (event) => event.target.closest('a[href^="#"]') && dialog.close())
  );
});
