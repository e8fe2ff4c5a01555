// The service under test, and what the tests of all recipes do with it.

import assert from "node:assert/strict";

export const url = process.env["TWOFOLD_URL"] ?? "http://127.0.0.1:8000";
export const token = process.env["TWOFOLD_TOKEN"] ?? "";

/** Creates a task over REST, and returns it. */
export async function create(title: string): Promise<{ id: number; version: number }> {
  const response = await fetch(new URL("/tasks", url), {
    method: "POST",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ title }),
  });
  assert.equal(response.status, 201);
  return (await response.json()) as { id: number; version: number };
}

/** Changes a task over REST: for its cached copy, somebody else did it. */
export async function complete(id: number): Promise<void> {
  const response = await fetch(new URL(`/tasks/${id}`, url), {
    method: "PATCH",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify({ completed: true }),
  });
  assert.equal(response.status, 200);
}

/** Deletes all tasks, so that lists have a known length. */
export async function deleteAll(): Promise<void> {
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json" };
  const response = await fetch(new URL("/tasks", url), { headers });
  const ids = ((await response.json()) as { id: number }[]).map(({ id }) => id);
  if (ids.length > 0) {
    const body = JSON.stringify({ task_ids: ids });
    await fetch(new URL("/tasks/bulk-delete", url), { method: "POST", headers, body });
  }
}

/** Two queries of the viewer whose fields differ, those of the budgets too. */
export const limits = "query Limits { viewer { id userId reads { id limit } writes { id limit } } }";
export const budgets =
  "query Budgets { viewer { id sessionExpiresAt reads { id remaining } writes { id remaining resetAt } } }";
