// What orval makes of the committed OpenAPI document, against the live service.

import assert from "node:assert/strict";
import { test } from "node:test";

import { MutationObserver, QueryClient } from "@tanstack/react-query";

import { createTask, deleteTask, listTasks, updateTask } from "./generated/orval/fetch.js";
import {
  getCreateTaskMutationOptions,
  getGetTaskQueryOptions,
  getListTasksQueryOptions,
} from "./generated/orval/query.js";
import { createTaskBody, listTasksResponse } from "./generated/orval/zod.js";

test("fetch: a task from its creation to its end", async () => {
  const made = await createTask({ title: "rake the leaves" });
  assert.ok(made.status === 201);
  const { id, version } = made.data;

  const listed = await listTasks({ envelope: true, limit: 1 });
  assert.ok(listed.status === 200 && "items" in listed.data);
  assert.deepEqual(listed.data.items, [made.data]);
  assert.deepEqual(listTasksResponse.parse(listed.data), listed.data);

  const changed = await updateTask(id, { completed: true }, { "If-Match": `"${version}"` });
  assert.ok(changed.status === 200);
  assert.equal(changed.data.version, version + 1);

  const stale = await deleteTask(id, { "If-Match": `"${version}"` });
  assert.ok(stale.status === 412);
  assert.equal(stale.data.version, version + 1);

  const gone = await deleteTask(id);
  assert.equal(gone.status, 204);
});

test("TanStack Query: a query and a mutation", async () => {
  const queries = new QueryClient();
  const mutation = new MutationObserver(queries, getCreateTaskMutationOptions());

  const made = await mutation.mutate({ data: { title: "sharpen the shears" } });
  assert.ok(made.status === 201);
  const listed = await queries.fetchQuery(getListTasksQueryOptions({ envelope: true, limit: 1 }));
  assert.ok(listed.status === 200 && "items" in listed.data);
  const read = await queries.fetchQuery(getGetTaskQueryOptions(made.data.id));

  assert.deepEqual(listed.data.items, [made.data]);
  assert.deepEqual(read.data, made.data);
});

test("an error says which member is wrong, and zod's schema refuses the same", async () => {
  const refused = await createTask({ title: "\u2028" });

  assert.ok(refused.status === 400);
  const [wrong = assert.fail()] = refused.data.errors ?? [];
  const shown = `${wrong.field}: ${wrong.message}`;
  assert.equal(shown, "title: String should have at least 1 character");
  assert.equal(createTaskBody.safeParse({ title: "\u2028" }).success, false);
  assert.equal(createTaskBody.safeParse({ title: " x\n" }).success, true);
});

/** What must not compile: each line is refused, or the compiler says that it is not. */
export function refused() {
  // @ts-expect-error: a title is required
  void createTask({});
  // @ts-expect-error: only a description can be cleared
  void updateTask(1, { title: null });
  // @ts-expect-error: ids are numbers here
  void deleteTask("1");
}
