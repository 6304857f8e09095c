// What the pages do beyond Jupyter Book: be dark from the first on a dark screen, let
// widgets be used by keyboard and screen reader, and close the page's contents on a phone
// once a heading is chosen.

// The theme asks whether the screen is dark only once the page is whole. Asked here,
// before anything is drawn, a dark screen shows no light page first, and the styles are
// not computed anew for it.
const root = document.documentElement;
if (root.dataset.mode === "auto") {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "dark" : "light";
}

// From disk a page may not read another one, so search results have no excerpts.
if (location.protocol === "file:") {
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;
}

function each(selector, action) {
  document.querySelectorAll(selector).forEach((element) => action(element));
}

// A slider of ipywidgets has no name, and its value is an index: give it its label and
// its text.
function mendStepper(box) {
  const handle = box.querySelector("[role=slider]");
  const readout = box.querySelector(".widget-readout");
  if (!handle || !readout || handle.ariaLabel) return;
  handle.ariaLabel = box.querySelector(".widget-label").textContent;
  readout.contentEditable = false;
  readout.ariaHidden = true;
  const sayValue = () => {
    const value = readout.textContent;
    if (handle.getAttribute("aria-valuetext") !== value) {
      handle.setAttribute("aria-valuetext", value);
    }
  };
  const observer = new MutationObserver(sayValue);
  const words = { childList: true, characterData: true, subtree: true };
  observer.observe(readout, words);
  observer.observe(handle, { attributeFilter: ["aria-valuetext"] });
  sayValue();
  box.dispatchEvent(new Event("nn-stepper-drawn", { bubbles: true })); // stepper.js
}

// Radio buttons of ipywidgets are not a group: they have no common name, so no arrow
// keys, and no question.
let quizzes = 0;
function mendQuiz(box) {
  const group = box.querySelector(".widget-radio-box");
  if (!group || group.role) return;
  quizzes += 1;
  const id = `nn-quiz-${quizzes}`;
  box.querySelector(".widget-html-content").id = id; // the question
  group.role = "radiogroup";
  group.setAttribute("aria-labelledby", id);
  for (const radio of group.querySelectorAll("input")) radio.name = id;
  box.lastElementChild.ariaLive = "polite"; // the reasons
  box.dispatchEvent(new Event("nn-quiz-drawn", { bubbles: true })); // quiz.js
}

// What is wider than its box scrolls; then it can be reached by keyboard, in every
// browser.
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (target.scrollWidth > target.clientWidth) {
      target.tabIndex = 0;
    } else {
      target.removeAttribute("tabindex");
    }
  }
});

const observed = new WeakSet();
function observeOnce(box) {
  if (observed.has(box)) return; // to observe it again would measure it again
  observed.add(box);
  sizes.observe(box);
}

function mendWidgets() {
  each(".nn-figure, .nn-stepper > .widget-box", observeOnce);
  each(".nn-stepper", mendStepper);
  each(".nn-quiz", mendQuiz);
  each('.widget-label[title="null"]', (label) => {
    label.title = "";
  });
}

// What a cell prints wraps if it is sentences; if there are columns in it, it scrolls.
function markSentences(output) {
  const hasColumns = /\S {2}|^ /m.test(output.textContent.trim());
  output.classList.toggle("nn-sentences", !hasColumns);
}

function closeOnChoice(dialog) {
  dialog.addEventListener("click", (event) => {
    if (event.target.closest('a[href^="#"]')) dialog.close();
  });
}

document.addEventListener("DOMContentLoaded", () => {
  const content = document.getElementById("main-content");
  const observer = new MutationObserver(mendWidgets);
  observer.observe(content, { childList: true, subtree: true });
  mendWidgets();
  each(".cell_output .stream", markSentences);
  // A fold is called what it says, not "Toggle hidden content".
  each("details.hide > summary", (summary) => summary.removeAttribute("aria-label"));
  each("dialog", closeOnChoice);
});
