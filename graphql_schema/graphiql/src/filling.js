// Fills the variables of the examples with what is there: the newest task to read or change, and
// to delete only what was created in this page, and to restore what was deleted in it. What a
// person typed is never touched.

import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import { useEffect, useState } from "react";

import { examples } from "./examples.js";

const newestTask = "query Newest { tasks(first: 1) { nodes { id version } } }";

const fillings = {
  OneTask: ({ newest }) => newest && { id: newest.id },
  UpdateTask: ({ newest }) => newest && { id: newest.id, expectedVersion: newest.version },
  DeleteTask: ({ created }) => ({ id: created.at(-1) ?? "" }),
  DeleteTasks: ({ created }) => ({ ids: created }),
  CreateTasks: ({ created }) => ({ ids: created }),
  Trash: ({ deleted }) => ({ id: deleted.at(-1) ?? "" }),
};

const usesNewest = new Set(["OneTask", "UpdateTask"]);

const nameOf = (query) => query?.match(/^(?:query|mutation) (\w+)/m)?.[1];
const texts = new Map(examples.map(({ query, variables }) => [nameOf(query), variables]));

/** The same fetcher, which tells `onAnswer` the data of each answer. */
export function observed(fetcher, onAnswer) {
  return async (request, options) => {
    const answer = await fetcher(request, options);
    if (answer.data) onAnswer(answer.data);
    return answer;
  };
}

const mutations = examples.flatMap(({ query }) =>
  [...query.matchAll(/^mutation (\w)(\w+)/gm)].map(([, first, rest]) => first.toLowerCase() + rest));

const replace = (list, items) => list.splice(0, list.length, ...items);

/** The tasks of this page, from the data of its answers. */
export function tasksOfThisPage() {
  const created = [];
  const deleted = [];
  const own = new Set(); // Created here, whether they live or not.
  const listeners = new Set();
  return {
    created,
    deleted,
    listeners,
    observe(data) {
      const { createTask, createTasks, deleteTask, deleteTasks, restoreTask, emptyTrash } = data;
      const idsOf = (tasks) => tasks.flatMap((task) => task?.id ?? []);
      const made = idsOf([createTask, ...(createTasks ?? [])]);
      made.forEach((id) => own.add(id));
      const living = [...made, ...idsOf([restoreTask]).filter((id) => own.has(id))];
      const trashed = [...idsOf([deleteTask]), ...(deleteTasks?.deleted ?? [])];
      const gone = [...trashed, ...(deleteTasks?.notFound ?? [])];
      const emptied = typeof emptyTrash === "number" ? deleted : idsOf([restoreTask]);
      replace(created, [...created, ...living].filter((id) => !gone.includes(id)));
      replace(deleted, [...deleted.filter((id) => !emptied.includes(id)), ...trashed]);
      if (mutations.some((name) => data[name])) listeners.forEach((changed) => changed());
    },
  };
}

/**
 * Fills the variables of the open tab, when it is opened and after each change. Shows nothing.
 *
 * `ask` is a fetcher; the headers are those in the editor. `storage` remembers what was filled in,
 * to tell it from what a person typed.
 */
export function Filling({ ask, storage, tasks }) {
  const { updateActiveTabValues } = useGraphiQLActions();
  const [changes, setChanges] = useState(0);
  const index = useGraphiQL((state) => state.activeTabIndex);
  const tab = useGraphiQL((state) => state.tabs[state.activeTabIndex]);
  const editor = useGraphiQL((state) => state.variableEditor);
  const name = nameOf(tab?.query);
  const headerEditor = useGraphiQL((state) => state.headerEditor);

  useEffect(() => {
    const changed = () => setChanges((count) => count + 1);
    tasks.listeners.add(changed);
    return () => tasks.listeners.delete(changed);
  }, [tasks]);

  useEffect(() => {
    if (!editor || !Object.hasOwn(fillings, name)) return undefined;
    let isOpen = true;
    const isUntouched = () => {
      const text = editor.getValue();
      return text === texts.get(name) || text === storage.getItem(`filled:${name}`);
    };
    const fill = async () => {
      if (!isUntouched()) return;
      const newest = usesNewest.has(name) ? await newestOf(ask, headerEditor?.getValue()) : undefined;
      const values = fillings[name]({ newest, ...tasks });
      if (!values || !isOpen || !isUntouched()) return;
      const text = JSON.stringify({ ...JSON.parse(texts.get(name)), ...values }, null, 2);
      storage.setItem(`filled:${name}`, text);
      if (editor.getValue() === text) return;
      editor.setValue(text);
      // The editor tells the tab only a while later, and never if another is opened before.
      updateActiveTabValues({ variables: text });
    };
    fill();
    return () => {
      isOpen = false;
    };
  }, [editor, headerEditor, index, name, changes]);

  return null;
}

async function newestOf(ask, headers) {
  try {
    const { data } = await ask({ query: newestTask }, { headers: JSON.parse(headers || "{}") });
    return data?.tasks.nodes[0];
  } catch {
    return undefined; // The headers are being typed.
  }
}
