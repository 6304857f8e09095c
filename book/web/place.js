// Where the reader is: the bar across the top names lesson and section and says how many
// minutes are left, a line in it shows how far the page is read, and the contents on the
// right mark the section on screen.

(() => {
  const contents = document.getElementById("pst-page-toc-nav");
  // The theme marks a heading when it crosses the top, and misses jumps. Without the id it
  // finds no contents, and leaves them to this script, which looks where the headings are.
  if (contents) contents.id = "nn-page-toc";

  const links = contents ? [...contents.querySelectorAll("a[href^='#']")] : [];
  const headings = links.map((link) => {
    const target = document.getElementById(link.hash.slice(1));
    return target?.querySelector("h1, h2, h3, h4") ?? target;
  });
  const article = document.querySelector("article.bd-article");
  const kicker = document.querySelector(".nn-kicker");
  const title = article?.querySelector("h1");
  const bar = document.querySelector(".bd-header-article");
  if (!article || !title || !bar) return;

  // ---- which section ----

  let target = null; // the heading that the reader asked for

  // The section is that of the last heading above this line, a little below the bar.
  const line = () => bar.getBoundingClientRect().bottom + 40;
  const atEnd = () =>
    innerHeight + scrollY >= document.documentElement.scrollHeight - 2;

  function current() {
    const tops = headings.map((heading) => heading.getBoundingClientRect().top);
    const asked = headings.indexOf(target);
    if (asked >= 0) {
      // At the page's end a heading cannot come to the top: what was asked for counts.
      const seen = tops[asked] >= 0 && tops[asked] < innerHeight;
      if (seen && (atEnd() || tops[asked] < line() + 40)) return asked;
      target = null;
    }
    return tops.findLastIndex((top) => top < line());
  }

  function markContents(now) {
    links.forEach((link, i) => {
      link.classList.toggle("active", i === now);
      if (i === now) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
    for (const entry of contents?.querySelectorAll(".toc-entry") ?? []) {
      entry.classList.toggle("active", now >= 0 && entry.contains(links[now]));
    }
  }

  // ---- how many minutes ----

  const exercises = document.getElementById("exercises");
  let blocks = null;
  let wordsUpTo = null; // words of the first n blocks

  // The card's minutes are those of reading: exercises have their own.
  function countWords() {
    blocks = [...article.querySelectorAll("p, li, pre, td")].filter((block) => {
      if (block.closest("[hidden], details:not([open]), .nn-card")) return false;
      const follows = exercises?.compareDocumentPosition(block);
      return !(follows & (Node.DOCUMENT_POSITION_FOLLOWING | Node.DOCUMENT_POSITION_CONTAINED_BY));
    });
    wordsUpTo = [0];
    for (const block of blocks) {
      const words = block.textContent.trim().split(/\s+/).length;
      wordsUpTo.push(wordsUpTo.at(-1) + words);
    }
  }

  function minutesLeft() {
    if (!blocks) countWords();
    let first = 0; // the first block that ends below the bar: by halving
    let after = blocks.length;
    while (first < after) {
      const middle = (first + after) >> 1;
      if (blocks[middle].getBoundingClientRect().bottom < line()) first = middle + 1;
      else after = middle;
    }
    const left = 1 - wordsUpTo[first] / wordsUpTo.at(-1);
    return Math.ceil(left * Number(kicker.dataset.minutes));
  }

  // In the contents, at each section with a minute or more of its own.
  function tellMinutes() {
    if (!blocks) countWords();
    const minutes = Number(kicker.dataset.minutes);
    for (const link of links) {
      const section = document.getElementById(link.hash.slice(1))?.closest("section");
      if (section?.parentElement.parentElement !== article) continue; // no subsections
      let words = 0;
      blocks.forEach((block, i) => {
        if (section.contains(block)) words += wordsUpTo[i + 1] - wordsUpTo[i];
      });
      const part = Math.round(minutes * words / wordsUpTo.at(-1));
      if (part > 0) link.dataset.minutes = part;
    }
  }

  // ---- the bar ----

  const place = document.createElement("a");
  const rule = document.createElement("div");
  if (kicker) {
    place.className = "nn-place";
    place.href = `#${title.closest("section")?.id ?? ""}`;
    place.title = "To the top of the lesson";
    place.hidden = true;
    for (const name of ["lesson", "section", "minutes"]) {
      const part = document.createElement("span");
      part.className = `nn-place-${name}`;
      place.append(part);
    }
    place.firstChild.textContent = `${kicker.dataset.number} · ${kicker.dataset.title}`;
    bar.querySelector(".header-article-items__start")?.after(place);
    rule.className = "nn-read-line";
    bar.append(rule);
  }

  function nameOf(heading) {
    return heading.firstChild?.textContent.trim() ?? "";
  }

  function fillBar(now) {
    const gone = title.getBoundingClientRect().bottom < bar.getBoundingClientRect().bottom;
    place.hidden = !gone;
    const box = article.getBoundingClientRect();
    const way = box.height - innerHeight;
    const share = way > 0 ? Math.min(Math.max(-box.top / way, 0), 1) : 1;
    rule.style.setProperty("--nn-share", share.toFixed(4));
    if (!gone) return;
    const minutes = minutesLeft();
    place.children[1].textContent = now >= 0 ? nameOf(headings[now]) : "";
    place.children[2].textContent = minutes > 0 ? `${minutes} min left` : "";
  }

  function update() {
    const now = current();
    markContents(now);
    if (kicker) fillBar(now);
  }

  let waiting = false;
  function soon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      update();
    });
  }

  function follow(hash) {
    const i = links.findIndex((link) => link.hash === hash);
    target = i >= 0 ? headings[i] : null;
    soon();
  }

  addEventListener("scroll", soon, { passive: true });
  addEventListener("resize", soon);
  addEventListener("hashchange", () => follow(location.hash));
  document.addEventListener("click", (event) => {
    const hash = event.target.closest?.("a[href^='#']")?.hash;
    if (hash) follow(hash);
  });
  // What opens or arrives later changes where everything is.
  article.addEventListener("toggle", () => { blocks = null; soon(); }, true);
  addEventListener("load", () => {
    blocks = null;
    soon();
    if (kicker) tellMinutes();
  });
  follow(location.hash);
})();
