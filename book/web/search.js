// Finds what Sphinx's index of word stems does not: terms of the glossary, symbols, and
// names in code such as cross_entropy or nn.Conv2d. found.js holds them. They stand above
// Sphinx's own results, terms first.

(() => {
  const MOST = 12; // results of a kind
  const { terms, symbols, code, pages } = window.nnFound;

  const plain = (text) => text.toLowerCase().replace(/[\s_-]+/g, " ").trim();

  // 0: the same; 1: begins so; 2: a word in it begins so; Infinity: not at all.
  function distance(asked, text) {
    if (text === asked) return 0;
    if (text.startsWith(asked)) return 1;
    return asked.length > 1 && text.includes(` ${asked}`) ? 2 : Infinity;
  }

  function nearest(asked, texts) {
    return Math.min(...texts.map((text) => distance(asked, plain(text))));
  }

  function ranked(all, rank) {
    return all
      .map((entry) => ({ entry, rank: rank(entry) }))
      .filter((found) => found.rank < Infinity)
      .sort((a, b) => a.rank - b.rank)
      .slice(0, MOST)
      .map((found) => found.entry);
  }

  // A name may be asked for whole, by its last part, or with its call's brackets.
  function codeDistance(asked, name) {
    const small = name.toLowerCase();
    if (small === asked) return 0;
    if (small.endsWith(`.${asked}`)) return 1;
    if (asked.length < 3) return Infinity;
    if (small.startsWith(asked) || small.includes(`.${asked}`)) return 2 + small.length / 100;
    return small.includes(asked) ? 3 + small.length / 100 : Infinity;
  }

  function find(query) {
    const asked = plain(query);
    if (!asked) return { terms: [], symbols: [], names: [] };
    const name = query.trim().toLowerCase().replace(/\(.*$/, "").replace(/^torch\.nn\./, "nn.");
    return {
      terms: ranked(terms, ([term, forms]) => nearest(asked, [term, ...forms])),
      // A symbol is asked for as it is written: N is not n.
      symbols: ranked(symbols, ([, ways]) => {
        const same = ways.includes(query.trim());
        return same || (asked.length > 2 && ways.some((way) => plain(way) === asked)) ? 0 : Infinity;
      }),
      names: ranked(Object.keys(code), (one) => codeDistance(name, one)),
    };
  }

  // ---- what is shown ----

  const start = document.documentElement.dataset.content_root ?? "./";

  function make(tag, text = "", className = "") {
    const element = document.createElement(tag);
    element.textContent = text;
    if (className) element.className = className;
    return element;
  }

  function link(address, text) {
    const made = make("a", text);
    made.href = start + address;
    return made;
  }

  function item(kind, head, ...more) {
    const made = document.createElement("li");
    made.append(head, " ", make("span", kind, "nn-kind"), ...more);
    return made;
  }

  function nameItem(name) {
    // Where it is made comes first.
    const places = [...code[name]].sort((a, b) => (b[2] ?? 0) - (a[2] ?? 0));
    const head = make("code", name);
    const where = make("p", "");
    places.forEach(([page, section, made], i) => {
      const [number, address, sections] = pages[page];
      const there = link(`${address}#${sections[section]}`, number);
      where.append(i ? ", " : "In lesson ", there, made ? " (written there)" : "");
    });
    return item("code", head, where);
  }

  function draw(query) {
    const found = find(query);
    const list = make("ul", "", "nn-found");
    for (const [term, , said, address] of found.terms) {
      list.append(item("glossary", link(address, term), make("p", said)));
    }
    for (const [shown, , said, address] of found.symbols) {
      list.append(item("notation", link(address, shown), make("p", said)));
    }
    list.append(...found.names.map(nameItem));
    document.querySelector(".nn-found")?.remove();
    const results = document.getElementById("search-results");
    if (list.childElementCount) results.before(list);
    return list;
  }

  window.nnSearch = draw; // for the tests: many searches on one page
  draw(new URLSearchParams(location.search).get("q") ?? "");
})();
