// Runs the clients of docs/live.md together. It writes a line of JSON whenever the copy of a client
// has changed, or its session has ended.

import { createRxDatabase } from "rxdb";
import { getRxStorageMemory } from "rxdb/plugins/storage-memory";
import { WebSocket } from "ws";

import * as apollo from "./code/apollo_live.js";
import * as eventSource from "./code/event_source.js";
import * as fetchEventSource from "./code/fetch_event_source.js";
import * as graphqlSse from "./code/graphql_sse.js";
import * as graphqlWs from "./code/graphql_ws.js";
import * as rxdb from "./code/rxdb_tasks.js";
import { TaskCopy, pause } from "./code/task_copy.js";
import * as urql from "./code/urql_live.js";

const url = process.env["TWOFOLD_URL"] ?? "http://127.0.0.1:8000";
const token = process.env["TWOFOLD_TOKEN"] ?? "";

// What clients use of a browser. Node has a WebSocket from version 22 on.
Object.assign(globalThis, { WebSocket, window: globalThis, document: new EventTarget() });

type Follow = (url: string, token: string, copy: TaskCopy) => Promise<void>;

const recipes: Record<string, Follow> = {
  "graphql-ws": graphqlWs.follow,
  "@apollo/client": apollo.follow,
  "graphql-sse": graphqlSse.follow,
  "@urql/core": urql.follow,
  "@urql/core, by a WebSocket": (url, token, copy) => urql.follow(url, token, copy, true),
  eventsource: eventSource.follow,
  "@microsoft/fetch-event-source": fetchEventSource.follow,
};

for (const [client, follow] of Object.entries(recipes)) {
  const copy = new TaskCopy();
  report(client, follow(url, token, copy), async () => [...copy.tasks.values()]);
}

const database = await createRxDatabase({ name: "tasks", storage: getRxStorageMemory() });
const addTasks = () => database.addCollections({ tasks: { schema: rxdb.taskSchema } });
let { tasks } = await addTasks();
// The collection is closed while it is made anew.
const found = async () => tasks.find().exec();
report("rxdb", untilSignedOut(), () => found().catch(() => []));

async function untilSignedOut(): Promise<void> {
  for (let type = ""; type !== "authentication_error"; ) {
    type = await rxdb.replicate(url, token, tasks);
    if (type === "sync_token_expired") {
      await tasks.remove();
      ({ tasks } = await addTasks());
    }
    await pause();
  }
}

/** Writes a line whenever the tasks of a client have changed, or it has ended. */
function report(client: string, end: Promise<unknown>, tasks: () => Promise<unknown[]>): void {
  let ended = false;
  void end.then(() => (ended = true));
  let written = "";
  setInterval(async () => {
    const line = JSON.stringify({ client, ended, tasks: await tasks() });
    if (line !== written) console.log(line);
    written = line;
  }, 50);
}
