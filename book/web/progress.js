// What the reader has done, kept in this browser and nowhere else: lessons marked as read,
// quizzes answered, exercises ticked. Shown by a tick in the contents, a line at the end of
// each lesson and one on the welcome page; exported, imported and erased on the page on
// how to read.
//
// Kept as {version, lessons: {softmax: {read, quizzes: {id: right at once?}, exercises:
// [id]}}}. A lesson goes by its name, and not by its number, which may change.

(() => {
  const VERSION = 1;
  const KEY = `nn-progress-${VERSION}`;
  const keeps = document.documentElement.dataset.storage !== "denied";
  const KEEPS_NOTHING = "This browser keeps nothing";

  // ---- what is kept ----

  const NAME = /^[a-z0-9][\w-]{0,80}$/i;
  const isObject = (value) => typeof value === "object" && value !== null;

  // Data from a file or an older visit: what has the right form is taken.
  function cleaned(data) {
    const lessons = {};
    for (const [name, lesson] of Object.entries(data?.lessons ?? {})) {
      if (!NAME.test(name) || !isObject(lesson)) continue;
      const quizzes = Object.entries(lesson.quizzes ?? {});
      const exercises = Array.isArray(lesson.exercises) ? lesson.exercises : [];
      lessons[name] = {
        read: lesson.read === true,
        quizzes: Object.fromEntries(
          quizzes.filter(([id]) => NAME.test(id)).map(([id, right]) => [id, right === true]),
        ),
        exercises: [...new Set(exercises.filter((id) => NAME.test(id)))],
      };
    }
    return { version: VERSION, lessons };
  }

  function kept() {
    try {
      return cleaned(JSON.parse(localStorage.getItem(KEY)));
    } catch {
      return cleaned(null); // what lies there is not ours
    }
  }

  function keep(data) {
    try {
      localStorage.setItem(KEY, JSON.stringify(data));
    } catch {
      // full: the page goes on without it
    }
    showAll();
  }

  const empty = () => ({ read: false, quizzes: {}, exercises: [] });

  // Read anew before each change: another tab may have written.
  function change(name, action) {
    const data = kept();
    data.lessons[name] ??= empty();
    action(data.lessons[name]);
    keep(data);
  }

  // Both together: what was answered first stays.
  function merged(data, other) {
    for (const [name, lesson] of Object.entries(other.lessons)) {
      const mine = (data.lessons[name] ??= empty());
      mine.read ||= lesson.read;
      mine.quizzes = { ...lesson.quizzes, ...mine.quizzes };
      mine.exercises = [...new Set([...mine.exercises, ...lesson.exercises])];
    }
    return data;
  }

  // ---- small tools ----

  function make(tag, className, text = "") {
    const element = document.createElement(tag);
    element.className = className;
    element.textContent = text;
    return element;
  }

  function button(text, action) {
    const made = make("button", "nn-button", text);
    made.type = "button";
    made.addEventListener("click", action);
    return made;
  }

  // A short name for a text that stays the same when the page around it changes.
  function idOf(text) {
    const words = text.toLowerCase().normalize("NFKD").match(/[a-z0-9]+/g) ?? ["x"];
    return words.join("-").slice(0, 80);
  }

  const counted = (n, one, many = `${one}s`) => `${n} ${n === 1 ? one : many}`;

  // ---- a lesson's page ----

  const kicker = document.querySelector(".nn-kicker");
  const name = kicker?.dataset.lesson;
  const article = document.querySelector("article.bd-article");
  let foot = null;
  const boxes = new Map(); // an exercise's id -> its box

  function addFoot() {
    const line = make("p", "");
    const mark = button("", () => change(name, (lesson) => { lesson.read = !lesson.read; }));
    mark.disabled = !keeps;
    foot = { mark, line };
    const area = make("div", "nn-done");
    area.append(mark, line);
    article.append(area);
  }

  function addBoxes() {
    for (const exercise of document.querySelectorAll(".nn-exercise")) {
      const heading = exercise.querySelector("p, h3, h4");
      const title = heading?.querySelector("strong")?.textContent.split(" · ").at(-1);
      if (!title) continue;
      const label = make("label", "nn-tickbox", "done");
      const box = document.createElement("input");
      box.type = "checkbox";
      box.disabled = !keeps;
      box.setAttribute("aria-label", `Done: ${title}`);
      if (!keeps) label.title = KEEPS_NOTHING;
      box.addEventListener("change", () => tick(idOf(title), box.checked));
      label.prepend(box);
      heading.append(" ", label);
      boxes.set(idOf(title), box);
    }
  }

  function tick(id, isDone) {
    change(name, (lesson) => {
      lesson.exercises = lesson.exercises.filter((other) => other !== id);
      if (isDone) lesson.exercises.push(id);
    });
  }

  // The first choice in a quiz counts; its reason says whether it was right.
  const deciding = new WeakSet();

  async function noteAnswer(quiz) {
    const question = quiz.querySelector(".widget-html-content")?.textContent ?? "";
    const id = idOf(question);
    if (deciding.has(quiz) || id in (kept().lessons[name]?.quizzes ?? {})) return;
    deciding.add(quiz);
    for (let frame = 0; frame < 120; frame += 1) {
      await new Promise(requestAnimationFrame); // the widget shows its reason a little later
      const reasons = [...quiz.querySelectorAll(".nn-right, .nn-wrong")];
      const shown = reasons.find((reason) => reason.checkVisibility());
      if (shown) {
        const isRight = shown.classList.contains("nn-right");
        change(name, (lesson) => { lesson.quizzes[id] ??= isRight; });
        break;
      }
    }
    deciding.delete(quiz);
  }

  function showLesson({ read, quizzes, exercises }) {
    foot.mark.textContent = read ? "✓ Read" : "Mark as read";
    foot.mark.setAttribute("aria-pressed", read);
    if (!keeps) {
      foot.line.textContent = `${KEEPS_NOTHING}, so there is nothing to mark.`;
      return;
    }
    const answers = Object.values(quizzes);
    const right = answers.filter(Boolean).length;
    const total = kicker.dataset;
    const parts = [
      `${Math.min(answers.length, total.quizzes)} of ${counted(Number(total.quizzes), "quiz", "quizzes")} answered`
        + (answers.length ? `, ${right} right at the first try` : ""),
      `${exercises.length} of ${counted(Number(total.exercises), "exercise")} done`,
    ];
    foot.line.textContent = parts.join(" · ");
    for (const [id, box] of boxes) box.checked = exercises.includes(id);
  }

  // ---- the contents and the welcome page ----

  function lessonLinks() {
    const found = new Map(); // name -> its links in the contents
    for (const link of document.querySelectorAll(".bd-docs-nav a")) {
      const here = link.getAttribute("href") === "#" ? name : null;
      const other = link.pathname.match(/\/lessons\/\w+?_(\w+)\.html$/)?.[1];
      const lesson = here ?? other;
      if (lesson) found.set(lesson, [...(found.get(lesson) ?? []), link]);
    }
    return found;
  }

  function showTicks(lessons, links) {
    for (const [lesson, all] of links) {
      for (const link of all) {
        const tick = link.querySelector(".nn-read");
        const isRead = lessons[lesson]?.read;
        if (isRead && !tick) {
          const made = make("span", "nn-read", "✓");
          made.setAttribute("role", "img");
          made.setAttribute("aria-label", "read");
          link.append(" ", made);
        } else if (!isRead) tick?.remove();
      }
    }
  }

  function showTally(lessons, links) {
    const line = document.querySelector(".nn-tally");
    if (!line?.dataset.lessons) return;
    const mine = Object.keys(lessons).filter((lesson) => links.has(lesson));
    const sum = (count) => mine.reduce((all, lesson) => all + count(lessons[lesson]), 0);
    const read = sum((lesson) => Number(lesson.read));
    const quizzes = sum((lesson) => Object.keys(lesson.quizzes).length);
    const exercises = sum((lesson) => lesson.exercises.length);
    line.hidden = read + quizzes + exercises === 0;
    line.textContent = [
      `${read} of ${line.dataset.lessons} lessons read`,
      `${quizzes} of ${line.dataset.quizzes} quizzes`,
      `${exercises} of ${line.dataset.exercises} exercises`,
    ].join(" · ");
  }

  function showAll() {
    const { lessons } = kept();
    const links = lessonLinks();
    showTicks(lessons, links);
    showTally(lessons, links);
    if (foot) showLesson(lessons[name] ?? empty());
  }

  // ---- export, import, erase ----

  function save() {
    const link = document.createElement("a");
    const text = JSON.stringify(kept(), null, 1);
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "neural-networks-progress.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    return "Exported.";
  }

  async function bring(file) {
    let data = null;
    try {
      data = JSON.parse(await file.text());
    } catch {
      // said below
    }
    if (data?.version !== VERSION || !isObject(data.lessons)) {
      return "This is no file of progress that the book can read. Nothing was changed.";
    }
    const all = merged(kept(), cleaned(data));
    keep(all);
    return `Imported. ${counted(Object.keys(all.lessons).length, "lesson")} with a mark or an answer.`;
  }

  function addTools(area) {
    const said = make("p", "nn-tools-said");
    said.setAttribute("role", "status");
    const file = document.createElement("input");
    file.type = "file";
    file.accept = ".json,application/json";
    file.hidden = true;
    file.addEventListener("change", async () => {
      if (file.files[0]) said.textContent = await bring(file.files[0]);
      file.value = "";
    });
    const erase = button("Erase", () => {
      const sure = erase.textContent !== "Erase";
      erase.textContent = sure ? "Erase" : "Erase all: press again";
      if (!sure) return;
      localStorage.removeItem(KEY);
      showAll();
      said.textContent = "Erased.";
    });
    erase.addEventListener("blur", () => { erase.textContent = "Erase"; });
    const buttons = [
      button("Export", () => { said.textContent = save(); }),
      button("Import", () => file.click()),
      erase,
    ];
    if (!keeps) {
      for (const one of buttons) one.disabled = true;
      said.textContent = `${KEEPS_NOTHING}, so there is nothing to export, import or erase.`;
    }
    area.append(...buttons, file, said);
  }

  if (name && article) {
    addFoot();
    addBoxes();
    document.addEventListener("change", (event) => {
      const quiz = event.target.closest?.(".nn-quiz");
      if (quiz && event.target.type === "radio") noteAnswer(quiz);
    });
  }
  const tools = document.querySelector(".nn-progress-tools");
  if (tools) addTools(tools);
  addEventListener("storage", showAll); // another tab
  addEventListener("pageshow", showAll); // back from another page
  showAll();
})();
