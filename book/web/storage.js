// Where a browser denies storage, every touch of localStorage raises an error, and the
// theme touches it on every page. Such a page gets a store of its own, which is gone when
// the page is. This is the first script of a page.

(() => {
  function memory() {
    const kept = new Map();
    return {
      getItem: (key) => kept.get(key) ?? null,
      setItem: (key, value) => kept.set(key, String(value)),
      removeItem: (key) => kept.delete(key),
    };
  }

  try {
    localStorage.setItem("nn-try", "");
    localStorage.removeItem("nn-try");
  } catch {
    Object.defineProperty(window, "localStorage", { value: memory() });
    document.documentElement.dataset.storage = "denied";
  }
})();
