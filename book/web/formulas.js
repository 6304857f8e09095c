// A formula that is copied is pasted as its TeX, which KaTeX keeps in the page.

function formulaAround(node) {
  const element = node.nodeType === Node.ELEMENT_NODE ? node : node.parentElement;
  return element?.closest(".katex-display") ?? element?.closest(".katex");
}

// The build has moved a bracket before a formula, and the comma after it, into its boxes.
function asTex(formula) {
  const tex = formula.querySelector('annotation[encoding="application/x-tex"]');
  const sign = formula.closest(".katex-display") ? "$$" : "$";
  const points = [...formula.querySelectorAll(".nn-point")].map((e) => e.textContent);
  const before = points[0] === "(" ? points.shift() : "";
  return `${before}${sign}${tex.textContent.trim()}${sign}${points.join("")}`;
}

// What a browser would copy of these nodes, lines broken where the page breaks them.
function plainText(nodes) {
  const box = document.createElement("div");
  box.style = "position: fixed; opacity: 0";
  box.append(nodes);
  document.body.append(box);
  const text = box.innerText;
  box.remove();
  return text;
}

document.addEventListener("copy", (event) => {
  const selection = getSelection();
  if (selection.isCollapsed || !event.clipboardData) return;
  const range = selection.getRangeAt(0).cloneRange();
  // Half a formula is no formula: take all of it.
  const first = formulaAround(range.startContainer);
  const last = formulaAround(range.endContainer);
  if (first) range.setStartBefore(first);
  if (last) range.setEndAfter(last);
  const nodes = range.cloneContents();
  const formulas = nodes.querySelectorAll(".katex");
  if (formulas.length === 0) return;
  for (const formula of formulas) formula.replaceWith(asTex(formula));
  event.clipboardData.setData("text/plain", plainText(nodes));
  event.preventDefault();
});
