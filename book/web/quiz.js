// Quizzes: a row turns right or wrong, its reason opens below it, and what would give the
// answer away is veiled until then. Where no script runs, nothing is hidden.
//
// At each choice the box of the quiz (.nn-quiz) sends the event "nn-quiz-answered", which
// bubbles. Its detail: index, the place of the choice among the rows, from 0; right,
// whether it is the right one.

document.addEventListener("DOMContentLoaded", () => {
  // The build marks what answers each of these quizzes: the next output on the page, and
  // what is drawn of it right below.
  const asking = [...document.querySelectorAll(".cell.nn-asks")];
  const answers = [];
  for (const output of document.querySelectorAll(".nn-answer, .nn-answer-too")) {
    if (output.classList.contains("nn-answer")) answers.push([]);
    answers.at(-1).push(output);
  }
  asking.forEach((cell, number) => veil(cell, answers[number]));
});

// nn.js says when a quiz is drawn.
document.addEventListener("nn-quiz-drawn", (event) => followChoices(event.target));

function followChoices(box) {
  const rows = [...box.querySelectorAll(".widget-radio-box > label")];
  const reasons = box.lastElementChild;
  rows.forEach((row, place) => {
    row.style.order = 2 * place;
  });
  let told = null;
  new MutationObserver(() => {
    const reason = reasons.querySelector(".nn-right, .nn-wrong");
    if (!reason || reason === told) return;
    told = reason;
    const index = rows.findIndex((row) => row.querySelector("input").checked);
    if (index < 0) return;
    const right = reason.classList.contains("nn-right");
    rows.forEach((row) => row.classList.remove("nn-chosen"));
    rows[index].classList.add("nn-chosen", right ? "nn-row-right" : "nn-row-wrong");
    reasons.style.order = 2 * index + 1; // below its row
    const detail = { index, right };
    box.dispatchEvent(new CustomEvent("nn-quiz-answered", { bubbles: true, detail }));
  }).observe(reasons, { childList: true, subtree: true });
}

// A figure goes with the fold of its code, which would stand alone. Hidden in a way that
// the browser's own search still finds, where it knows that way.
function veil(cell, answers) {
  if (!answers) return;
  const outputs = answers.map((output) => output.closest(".cell.tag_hide-input") ?? output);
  if (outputs.some(holdsTarget)) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "nn-veil";
  button.textContent = whatIsVeiled(answers);
  const naming = new MutationObserver(() => { // a stepper's figure is drawn later
    button.textContent = whatIsVeiled(answers);
  });
  for (const output of answers) naming.observe(output, { childList: true, subtree: true });
  const unveil = () => {
    for (const output of outputs) output.hidden = false;
    button.remove();
    naming.disconnect();
  };
  for (const output of outputs) {
    output.setAttribute("hidden", "until-found");
    output.addEventListener("beforematch", unveil);
  }
  outputs[0].before(button);
  button.addEventListener("click", unveil);
  cell.addEventListener("nn-quiz-answered", unveil);
  window.addEventListener("beforeprint", unveil);
  window.addEventListener("hashchange", () => {
    if (outputs.some(holdsTarget)) unveil();
  });
}

function whatIsVeiled(answers) {
  const captions = answers.map((output) => output.querySelector(".nn-caption")?.textContent);
  const figures = captions.map((words) => words?.match(/^Figure \w+/)?.[0]).filter(Boolean);
  const isOnlyFigures = answers.every((output) => output.querySelector(".nn-caption"));
  const veiled = isOnlyFigures ? figures : ["The output", ...figures];
  const [are, them] = veiled.length > 1 ? ["are", "them"] : ["is", "it"];
  return `${veiled.join(" and ")} ${are} veiled. Answer the question above, or show ${them}`;
}

function holdsTarget(element) {
  const id = decodeURIComponent(location.hash.slice(1));
  return Boolean(id) && element.contains(document.getElementById(id));
}
