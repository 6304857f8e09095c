// A term of the glossary, explained beside its first use in a lesson: on hover, on focus
// and at a touch. The page holds the explanations, so that nothing is fetched. Without
// this script a term is a link to its entry.
//
// The box can be dismissed (Escape), hovered, and stays as long as it is wanted (WCAG
// 1.4.13). It stands right behind its link, so that its own links are the next to be
// reached by the Tab key.

(() => {
  const GRACE = 250; // milliseconds that the pointer may take from the word to the box
  let open = null; // { link, box }
  let closing = 0;
  let touched = false;

  const linkOf = (node) => node.closest?.("a:has(> .nn-term)");

  function explanationOf(link) {
    return document.getElementById(`about-${link.hash.slice(1)}`);
  }

  function show(link) {
    clearTimeout(closing);
    if (open?.link === link) return;
    hide();
    const box = document.createElement("span");
    box.className = "nn-about";
    box.append(...[...explanationOf(link).childNodes].map((node) => node.cloneNode(true)));
    const more = document.createElement("a");
    more.href = link.href;
    more.textContent = "Glossary";
    more.setAttribute("aria-label", `${link.textContent}: the glossary's entry`);
    box.append(" ", more);
    link.after(box);
    open = { link, box };
    put();
  }

  function hide() {
    clearTimeout(closing);
    open?.box.remove();
    open = null;
  }

  function hideSoon() {
    clearTimeout(closing);
    closing = setTimeout(hide, GRACE);
  }

  // Below the word, or above it where there is no room; inside the window.
  function put() {
    if (!open) return;
    const { link, box } = open;
    const word = link.getClientRects()[0] ?? link.getBoundingClientRect();
    if (word.bottom < 0 || word.top > innerHeight) return hide();
    const { width, height } = box.getBoundingClientRect();
    const below = word.bottom + height < innerHeight || word.top < height;
    const right = document.documentElement.clientWidth - width - 8;
    box.style.left = `${Math.max(8, Math.min(word.left, right))}px`;
    box.style.top = `${below ? word.bottom : word.top - height}px`;
  }

  const inside = (node) => open && (open.link.contains(node) || open.box.contains(node));

  document.addEventListener("pointerdown", (event) => {
    touched = event.pointerType !== "mouse";
    if (!inside(event.target)) hide();
  });
  document.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse") return;
    const link = linkOf(event.target);
    if (link) show(link);
    else if (inside(event.target)) clearTimeout(closing);
    else if (open && !inside(document.activeElement)) hideSoon();
  });
  document.addEventListener("focusin", (event) => {
    const link = linkOf(event.target);
    if (link) show(link);
    else if (!inside(event.target)) hide();
  });
  // A finger cannot hover: its first touch explains, and the box has the link.
  document.addEventListener("click", (event) => {
    const link = linkOf(event.target);
    if (!link || !touched) return;
    event.preventDefault();
    show(link);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !open) return;
    if (open.box.contains(document.activeElement)) open.link.focus();
    hide();
  });
  addEventListener("scroll", put, { passive: true });
  addEventListener("resize", put);

  for (const word of document.querySelectorAll(".nn-term")) {
    const link = linkOf(word);
    const about = link && explanationOf(link);
    if (about) link.setAttribute("aria-describedby", about.id);
  }
})();
