// Run by tools/pdf.py and tools/epub.py in a page of the built book: gives what a book
// without scripts takes of it. `number` is the page's place, `title` its heading in the
// contents, `deeper` by how much its headings go down, `places` the place of each page of
// the book. `epub` asks for XHTML with formulas in MathML, in a file for each page.

async ({ number, title, deeper, places, epub }) => {
  const article = document.querySelector("article.bd-article");
  const all = (selector, box = article) => [...box.querySelectorAll(selector)];
  const made = (tag, name, content = "") => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.innerHTML = content;
    return element;
  };
  const frame = () => new Promise(requestAnimationFrame);

  // The reason that a choice of a quiz brings: there some frames after a click.
  async function reasonFor(quiz, radio) {
    const seen = () =>
      all("[aria-live=polite] :is(.nn-right, .nn-wrong)", quiz).find((e) =>
        e.checkVisibility(),
      )?.innerHTML;
    const before = seen();
    radio.click();
    for (let waited = 0; waited < 200; waited++) {
      await frame();
      if (seen() && seen() !== before) return seen();
    }
    throw new Error(`no reason for a choice on ${document.title}`);
  }

  // A quiz becomes its question and its choices; the right one goes to the end.
  async function printQuiz(quiz, at) {
    const radios = all("input[type=radio]", quiz);
    const right = { letter: "", reason: "" };
    const choices = made("ol", "nn-choices");
    for (const [i, radio] of radios.entries()) {
      choices.append(made("li", "", radio.parentElement.textContent));
      const reason = await reasonFor(quiz, radio);
      if (/^<b>Right/.test(reason.trim())) {
        right.letter = "abcdefgh"[i];
        right.reason = reason;
      }
    }
    const box = made("div", "nn-asked");
    const question = quiz.querySelector(".widget-html-content").innerHTML;
    box.append(
      made("p", "nn-word", `Question ${at}`),
      made("div", "", question),
      choices,
    );
    quiz.replaceWith(box);
    return made(
      "div",
      "",
      `<p><b>Question ${at}: ${right.letter}.</b> ${right.reason}</p>`,
    );
  }

  // A stepper becomes the frame that it starts with, and a word on the others.
  function printStepper(stepper) {
    const handle = stepper.querySelector("[role=slider]");
    const frames = Number(handle.ariaValueMax) - Number(handle.ariaValueMin) + 1;
    const label = stepper.querySelector(".widget-label").textContent;
    const value = stepper.querySelector(".widget-readout").textContent;
    const box = made("div", "nn-stepped");
    const words = `One of ${frames} frames; the book's slider moves through them.`;
    box.append(
      made("p", "nn-word", `${label} <b>${value}</b> <span>${words}</span>`),
    );
    for (const part of all("figure.nn-figure, .nn-caption", stepper)) {
      if (part.checkVisibility()) box.append(part);
    }
    stepper.replaceWith(box);
  }

  // Solutions go to the end of the page, each with the name of its exercise.
  function printSolution(cell) {
    const exercises = all(".nn-exercise > p:first-child > strong:first-child");
    const before = exercises.filter(
      (e) =>
        e.compareDocumentPosition(cell) & Node.DOCUMENT_POSITION_FOLLOWING,
    );
    const name = before.at(-1)?.textContent ?? "Solution";
    const id = `solution-${before.length}-${all(".nn-to-solution").length}`;
    const link = `<a href="#${id}">Its solution stands at the end of the lesson.</a>`;
    cell.replaceWith(made("p", "nn-to-solution", link));
    cell.querySelectorAll("details.hide").forEach(open);
    const box = made("div", "", `<p id="${id}"><b>${name}</b></p>`);
    box.append(cell);
    return box;
  }

  function open(details) {
    const box = made("div");
    box.append(
      ...[...details.childNodes].filter((e) => e.localName !== "summary"),
    );
    details.replaceWith(box);
  }

  const answers = [];
  for (const [i, quiz] of all(".nn-quiz.widget-box").entries()) {
    answers.push(await printQuiz(quiz, i + 1));
  }
  all(".nn-stepper.widget-box").forEach(printStepper);
  answers.push(...all(".cell.tag_solution").map(printSolution));
  for (const fold of all("details.hide")) {
    const isImports = /imports/.test(fold.textContent.slice(0, 200));
    if (isImports) open(fold);
    else fold.remove(); // code that only draws
  }
  for (const fold of all("details:is(.nn-hint, .nn-long, .pg-answer)")) fold.open = true;
  if (answers.length) {
    const end = made("section", "nn-answers", "<h2>Answers and solutions</h2>");
    end.append(...answers);
    article.querySelector("section").append(end);
  }
  // The bracket before a formula and the comma after it stand inside one of its two forms.
  for (const point of epub ? all(".katex-html .nn-point") : []) {
    const formula = point.closest("span.math");
    if (point.textContent.startsWith("(")) formula.before(point);
    else formula.after(point);
  }
  // Pictures that are files of the book: a single file of HTML lies elsewhere, and an EPUB
  // does without the lessons' thumbnails.
  for (const image of all("img:not([src^='data:'])")) {
    if (epub) image.remove();
    else Object.assign(image, { src: image.src, loading: "eager" });
  }
  // What a quiz veils is there on paper.
  for (const veiled of all("[hidden=until-found]")) veiled.removeAttribute("hidden");
  const twice = epub ? ".katex-html" : ".katex-mathml"; // a formula stands there twice
  all(
    "a.headerlink, button, script, template, style, link, .copybtn, .prev-next-area, " +
      ".nn-veil, .nn-done, .nn-take, .nn-tickbox, .nn-progress-tools, .nn-tally, " +
      `${twice}, input, [hidden]`,
  ).forEach((e) => e.remove());

  // Ids are unique on a page; the number makes them unique in the book.
  const mark = `p${number}-`;
  const refers = ["aria-labelledby", "aria-describedby", "for"];
  for (const element of all("*")) {
    for (const { name, value } of [...element.attributes]) {
      let now = value;
      if (name === "id") now = mark + value;
      else if (refers.includes(name)) now = value.replace(/(\S+)/g, `${mark}$1`);
      else if (/href$/.test(name) && value[0] === "#") now = `#${mark}${value.slice(1)}`;
      else if (value.includes("url(#")) now = value.replaceAll("url(#", `url(#${mark}`);
      if (now !== value) element.setAttribute(name, now);
    }
  }
  // A link to a page of the book leads to its place; one to a file leads nowhere.
  for (const link of all("a[href]")) {
    const raw = link.getAttribute("href");
    // Settings of the playground, which only a script reads.
    if (/^#.*=/.test(raw)) link.removeAttribute("href");
    if (raw[0] === "#" || /^(https?|mailto):/.test(raw)) continue;
    const url = new URL(raw.replace(/#.*=.*/, ""), location.href);
    const page = decodeURI(url.pathname).match(/\/html\/(.*)\.html$/)?.[1];
    if (!(page in places)) link.removeAttribute("href");
    else {
      const place = `p${places[page]}`;
      const id = url.hash ? `${place}-${url.hash.slice(1)}` : place;
      link.setAttribute("href", `${epub ? `${place}.xhtml` : ""}#${id}`);
    }
  }
  const levels = ["h4", "h3", "h2", "h1"];
  for (const level of levels) {
    for (const heading of all(level)) {
      const to = `h${Number(level[1]) + deeper}`;
      const words = level === "h1" ? title : heading.innerHTML;
      heading.replaceWith(made(to, `nn-${level}`, words));
    }
  }
  if (!epub) return article.innerHTML;
  // What KaTeX writes and MathML does not allow: the invisible sign of a function's
  // application as a part of an index or a fraction, the width of a cell, a row inside a
  // letter (which HTML reads as no part of the formula).
  for (const sign of all("mo")) {
    const isFree = /^(mrow|mstyle|mtd|mpadded|math)$/.test(sign.parentElement.localName);
    if (!isFree && sign.textContent === "\u2061") sign.remove();
  }
  for (const cell of all("mtd[width]")) cell.removeAttribute("width");
  for (const row of all(":is(mi, mo, mn, mtext) > mrow")) {
    const math = made("div", "", `<math>${row.outerHTML}</math>`).firstChild;
    row.parentElement.replaceWith(math.firstChild);
  }
  for (const entry of all("[role^=doc-]")) entry.removeAttribute("role");
  // Readers of EPUB know no variables of CSS: their values in the light.
  const styles = getComputedStyle(document.documentElement);
  const section = article.querySelector("section");
  return new XMLSerializer()
    .serializeToString(section)
    .replace(/var\((--[\w-]+)[^()]*(\([^()]*\))?\)/g, (whole, name) =>
      styles.getPropertyValue(name).trim(),
    );
};
