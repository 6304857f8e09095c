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
  // The slider says both itself.
  readout.ariaHidden = true;
  box.querySelector(".widget-label").ariaHidden = true;
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
  sayFrames(box, readout);
  box.dispatchEvent(new Event("nn-stepper-drawn", { bubbles: true })); // stepper.js
}

// After the slider's value a screen reader says what the new frame shows. The words are
// gone a little later: nobody meets them a second time below the frame.
function sayFrames(box, readout) {
  const said = document.createElement("p");
  said.className = "visually-hidden";
  said.ariaLive = "polite";
  box.append(said);
  let timer;
  const sayFrame = () => {
    const frame = [...box.querySelectorAll("svg[role=img]")].find(isShown);
    said.textContent = frame?.ariaLabel ?? "";
    timer = setTimeout(() => said.replaceChildren(), 1000);
  };
  const observer = new MutationObserver(() => {
    clearTimeout(timer);
    timer = setTimeout(sayFrame, 300); // where the slider comes to rest
  });
  observer.observe(readout, { childList: true, characterData: true, subtree: true });
}

function isShown(element) {
  return element.checkVisibility();
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
// browser, and a formula, which has no role of its own, has a name there.
const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const isFormula = target.matches(".math");
    if (target.scrollWidth > target.clientWidth) {
      target.tabIndex = 0;
      if (isFormula) target.role = "group";
      if (isFormula) target.ariaLabel = "Formula";
    } else {
      target.removeAttribute("tabindex");
      if (isFormula) target.role = target.ariaLabel = null;
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
  const boxes = ".nn-figure, .nn-stepper > .widget-box, .pst-scrollable-table-container";
  each(`${boxes}, div.math, .highlight > pre`, observeOnce);
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

// "Figure 3", then what is to be seen, then its caption: each is read once.
function nameFigure(figure) {
  const next = figure.nextElementSibling;
  const number = next?.querySelector(".nn-caption")?.textContent.match(/^Figure \d+/);
  if (number) figure.ariaLabel = number[0];
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
  each(".nn-figure", nameFigure);
  each("dialog", closeOnChoice);
  // The pages' policy lets no attribute of an element run code.
  each(".nn-close", (button) => {
    button.addEventListener("click", () => button.closest("dialog").close());
  });
  each(".btn-download-pdf-button", (button) => {
    button.addEventListener("click", () => print());
  });
});
