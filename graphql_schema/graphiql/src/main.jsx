// The page at GET /graphql: GraphiQL on this server's own schema, everything it needs
// from this server. The server fills in where to ask and with which headers.

import "@graphiql/react/style.css";
import "@graphiql/plugin-doc-explorer/style.css";
import "@graphiql/plugin-history/style.css";
import "graphiql/graphiql.css";
import "./main.css";

import { DOC_EXPLORER_PLUGIN } from "@graphiql/plugin-doc-explorer";
import { HISTORY_PLUGIN } from "@graphiql/plugin-history";
import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { GraphiQL } from "graphiql";
import { useEffect } from "react";
import { createRoot } from "react-dom/client";

import { examples } from "./examples.js";
import { fetcherOf } from "./fetcher.js";
import { Filling, observed, tasksOfThisPage } from "./filling.js";
import { openingTab, storageWithoutHeaders } from "./storage.js";

globalThis.MonacoEnvironment = {
  getWorker(_id, label) {
    // The build puts the names of the files in place of WORKERS.
    return new Worker(new URL(WORKERS[label] ?? WORKERS.editor, import.meta.url));
  },
};

const { endpoint, docs, headers } = JSON.parse(document.getElementById("twofold").textContent);
const defaultHeaders = JSON.stringify(
  { Authorization: "Bearer <session token>", ...headers },
  null,
  2,
);
const storage = storageWithoutHeaders(localStorage, defaultHeaders);
const { query, variables } = openingTab(storage) ?? examples[0];

// On a narrow screen the pane covers the editors.
const isNarrow = matchMedia("(max-width: 720px)").matches;

/** The pane at the left: as it was left at the last visit, at first the docs. */
function openingPane() {
  const title = storage.getItem("pane");
  if (title === null) return isNarrow ? null : DOC_EXPLORER_PLUGIN;
  return [DOC_EXPLORER_PLUGIN, HISTORY_PLUGIN].find((plugin) => plugin.title === title) ?? null;
}

const visiblePlugin = openingPane();

/** Scrolls the strip of tabs to the one that is open. Shows nothing. */
function ActiveTab() {
  const active = useGraphiQL((state) => state.tabs[state.activeTabIndex]?.id);

  // A new tab grows to its width in an animation.
  useEffect(() => {
    const tab = document.querySelector(".graphiql-tab-active");
    if (!tab) return undefined;
    const show = () => tab.scrollIntoView({ block: "nearest", inline: "nearest" });
    show();
    const observer = new ResizeObserver(show);
    observer.observe(tab);
    return () => observer.disconnect();
  }, [active]);

  return null;
}

/** What GraphiQL itself lacks where headers come with the page. Shows nothing. */
function Headers() {
  const { introspect, updateActiveTabValues } = useGraphiQLActions();
  const refused = useGraphiQL((state) => !state.schema && state.fetchError !== null);
  const tab = useGraphiQL((state) => state.activeTabIndex);
  const typed = useGraphiQL((state) => state.tabs[state.activeTabIndex]?.headers);

  // The editor shows the default headers, the tab doesn't know it: a history entry made
  // from it would empty the editor.
  useEffect(() => {
    if (typed == null) updateActiveTabValues({ headers: defaultHeaders });
  }, [tab, typed]);

  // The schema may need a token that is typed in later: try again when headers change.
  useEffect(() => {
    if (!refused || !typed || typed === defaultHeaders) return undefined;
    const timer = setTimeout(introspect, 600);
    return () => clearTimeout(timer);
  }, [typed]);

  return null;
}

const ask = fetcherOf(endpoint, headers);
const tasks = tasksOfThisPage();
const fetcher = observed(ask, tasks.observe);

createRoot(document.getElementById("graphiql")).render(
  <GraphiQL
    fetcher={fetcher}
    defaultTabs={examples}
    initialQuery={query ?? ""}
    initialVariables={variables ?? ""}
    defaultHeaders={defaultHeaders}
    shouldPersistHeaders={false}
    defaultEditorToolsVisibility={headers?.Authorization ? "variables" : "headers"}
    visiblePlugin={visiblePlugin}
    onTogglePluginVisibility={(plugin) => storage.setItem("pane", plugin?.title ?? "")}
    inputValueDeprecation
    schemaDescription
    storage={storage}
  >
    <GraphiQL.Logo>
      <a className="graphiql-logo-link" href={docs} title="The other protocol: REST">
        Twofold
      </a>
    </GraphiQL.Logo>
    <Headers />
    <ActiveTab />
    <Filling ask={ask} storage={storage} tasks={tasks} />
  </GraphiQL>,
);
