// graphcache, with the policies of the recipe.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { gql } from "@urql/core";

import { tasksQuery, urqlClient } from "./code/urql.js";
import { budgets, create, deleteAll, limits, token, url } from "./service.js";

const fromCache = { requestPolicy: "cache-only" } as const;
beforeEach(deleteAll);

test("two queries of viewer keep each other's fields, without a warning", async () => {
  const warnings = mock.method(console, "warn", () => undefined);
  const client = urqlClient(url, () => token);

  await client.query(gql(limits), {});
  await client.query(gql(budgets), {});

  for (const query of [limits, budgets]) {
    const { data, stale } = await client.query(gql(query), {}, fromCache);
    assert.ok(data?.["viewer"]);
    assert.equal(stale, false);
  }
  assert.deepEqual(warnings.mock.calls.map((call) => call.arguments), []);
  mock.restoreAll();
});

test("pages are merged, and deleted tasks leave the list", async () => {
  const warnings = mock.method(console, "warn", () => undefined);
  const ids = [];
  for (const title of ["one", "two", "three"]) {
    ids.unshift(`${(await create(title)).id}`);
  }
  const client = urqlClient(url, () => token);

  const { data } = await client.query(tasksQuery, { first: 2 });
  const after = data.tasks.pageInfo.endCursor;
  await client.query(tasksQuery, { first: 2, after });
  const merged = await client.query(tasksQuery, { first: 2 }, fromCache);
  assert.deepEqual(merged.data.tasks.edges.map(idOf), ids);

  await client.mutation(gql(`mutation Delete($ids: [ID!]!) { deleteTasks(ids: $ids) { deleted } }`), {
    ids: ids.slice(0, 1),
  });
  const left = await client.query(tasksQuery, { first: 2 });
  assert.deepEqual(left.data.tasks.edges.map(idOf), ids.slice(1));
  assert.deepEqual(warnings.mock.calls.map((call) => call.arguments), []);
  mock.restoreAll();
});

const idOf = ({ node }: { node: { id: string } }) => node.id;
