// What @hey-api/openapi-ts makes of the committed OpenAPI document, against the live service.

import assert from "node:assert/strict";
import { test } from "node:test";

import { client } from "./generated/hey_api/client.gen.js";
import {
  createTask,
  deleteTask,
  headTask,
  listTasks,
  updateTask,
  type Task,
} from "./generated/hey_api/index.js";
import { zNewTask, zTask } from "./generated/hey_api/zod.gen.js";

client.setConfig({
  baseUrl: process.env["TWOFOLD_URL"] ?? "http://127.0.0.1:8000",
  auth: process.env["TWOFOLD_TOKEN"] ?? "",
});

test("a task from its creation to its end", async () => {
  const { data: made = assert.fail() } = await createTask({ body: { title: "prune the roses" } });

  const listed = await listTasks({ query: { envelope: true, limit: 1 } });
  const page = listed.data && "items" in listed.data ? listed.data : assert.fail();
  assert.deepEqual(page.items, [made]);

  const changed = await updateTask({
    path: { task_id: made.id },
    headers: { "If-Match": `"${made.version}"` },
    body: { ...made, completed: true },
  });
  assert.deepEqual([changed.data?.completed, changed.data?.version], [true, made.version + 1]);

  const stale = await deleteTask({
    path: { task_id: made.id },
    headers: { "If-Match": `"${made.version}"` },
  });
  assert.deepEqual([stale.error?.type, stale.error?.version], ["precondition_failed", 2]);

  const head = await headTask({ path: { task_id: made.id } });
  assert.equal(head.response?.headers.get("ETag"), '"2"');

  const gone = await deleteTask({ path: { task_id: made.id } });
  assert.equal(gone.response?.status, 204);
});

test("an error says which member is wrong", async () => {
  const { error } = await createTask({ body: { title: "\u2028" } });

  const [wrong = assert.fail()] = error?.errors ?? [];
  const shown = `${wrong.field}: ${wrong.message}`;
  assert.equal(shown, "title: String should have at least 1 character");
});

test("the schema of a title refuses before sending what the service refuses", () => {
  const accepts = (title: string) => zNewTask.safeParse({ title }).success;

  assert.deepEqual(["x", " x\n", "\ufeff", "\x1c"].map(accepts), [true, true, true, true]);
  assert.deepEqual([" ", "\u2028\u2029", "\x85", "a\0"].map(accepts), [false, false, false, false]);
});

/** What must not compile: each line is refused, or the compiler says that it is not. */
export function refused(task: Task) {
  // @ts-expect-error: a title is required
  void createTask({ body: {} });
  // @ts-expect-error: only a description can be cleared
  void updateTask({ path: { task_id: 1 }, body: { title: null } });
  // @ts-expect-error: the server writes the version
  void createTask({ body: { title: "x", version: 2 } });
  // @ts-expect-error: a description may be null
  task.description.length;
  // @ts-expect-error: an id is a number
  zTask.parse(task).id.length;
}
