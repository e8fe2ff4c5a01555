// What the browser remembers between visits: tabs and history, never a header, for a
// header here is somebody's token.

const prefix = "twofold:";
const histories = ["graphiql:queries", "graphiql:favorites"];

/**
 * A Storage over `store` under this page's own keys: localhost:8000 is home to more
 * GraphiQLs than this one. GraphiQL's history keeps headers; here they are left out and
 * `defaultHeaders` put back on reading, or a history entry would empty the editor.
 */
export function storageWithoutHeaders(store, defaultHeaders) {
  const keys = () => Object.keys(store).filter((key) => key.startsWith(prefix));
  return {
    getItem(key) {
      const text = store.getItem(prefix + key);
      return text && histories.includes(key) ? withHeaders(text, defaultHeaders) : text;
    },
    setItem(key, text) {
      const kept = histories.includes(key) ? withHeaders(text, undefined) : text;
      store.setItem(prefix + key, kept);
    },
    removeItem: (key) => store.removeItem(prefix + key),
    clear: () => keys().forEach((key) => store.removeItem(key)),
    get length() {
      return keys().length;
    },
  };
}

/** The tab that was open at the last visit, or null. */
export function openingTab(storage) {
  try {
    const { tabs, activeTabIndex } = JSON.parse(storage.getItem("graphiql:tabState"));
    return tabs[activeTabIndex] ?? null;
  } catch {
    return null;
  }
}

function withHeaders(text, headers) {
  const entries = Object.entries(JSON.parse(text)).map(([name, items]) => [
    name,
    items.map((item) => ({ ...item, headers })),
  ]);
  return JSON.stringify(Object.fromEntries(entries));
}
