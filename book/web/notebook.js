// The button at the top of a lesson gives its notebook as a file, and so does the link above
// its exercises. From a server the link does. From disk a browser would show the notebook as text, and the page may not read the
// file; the same bytes lie packed in a script, which it may load.

(() => {
  const links = document.querySelectorAll(".btn-download-source-button, .nn-take a[download]");
  if (!links.length) return;
  const name = links[0].pathname.split("/").at(-1);
  for (const link of links) {
    link.removeAttribute("target");
    link.download = name;
    if (location.protocol === "file:") link.addEventListener("click", give);
  }

  async function save(letters) {
    const bytes = Uint8Array.from(atob(letters), (letter) => letter.charCodeAt(0));
    const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const made = document.createElement("a");
    made.href = URL.createObjectURL(await new Response(plain).blob());
    made.download = name;
    made.click();
    setTimeout(() => URL.revokeObjectURL(made.href), 10_000);
  }

  function give(event) {
    event.preventDefault();
    window.nnNotebook = save; // which the script calls
    const script = document.createElement("script");
    const root = document.documentElement.dataset.content_root;
    script.src = `${root}_static/notebooks/${name.replace(/\.ipynb$/, ".js")}`;
    script.addEventListener("load", () => script.remove());
    document.head.append(script);
  }
})();
