// Apollo Client's cache, with the policies of the recipe.

import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { gql } from "@apollo/client";
import { loadDevMessages, loadErrorMessages } from "@apollo/client/dev";

import { apolloClient, tasksQuery } from "./code/apollo.js";
import { budgets, create, deleteAll, limits, token, url } from "./service.js";

loadDevMessages();
loadErrorMessages();
beforeEach(deleteAll);

test("two queries of viewer keep each other's fields, without a warning", async () => {
  const warnings = mock.method(console, "warn", () => undefined);
  const errors = mock.method(console, "error", () => undefined);
  const client = apolloClient(url, () => token);

  await client.query({ query: gql(limits) });
  await client.query({ query: gql(budgets) });

  for (const query of [limits, budgets]) {
    const { complete } = client.cache.diff({ query: gql(query), optimistic: false, returnPartialData: true });
    assert.equal(complete, true);
  }
  assert.deepEqual([...warnings.mock.calls, ...errors.mock.calls].map((call) => call.arguments), []);
  mock.restoreAll();
});

test("pages are merged", async () => {
  const ids = [];
  for (const title of ["one", "two", "three"]) {
    ids.unshift(`${(await create(title)).id}`);
  }
  const client = apolloClient(url, () => token);
  const first = await client.query<Tasks>({ query: tasksQuery, variables: { first: 2 } });
  const list = client.watchQuery<Tasks>({ query: tasksQuery, variables: { first: 2 } });
  const watching = list.subscribe(() => undefined);

  const after = first.data?.tasks.pageInfo.endCursor;
  await list.fetchMore({ variables: { after } });

  const merged = client.readQuery<Tasks>({ query: tasksQuery, variables: { first: 2 } }) ?? assert.fail();
  assert.deepEqual(merged.tasks.edges.map(({ node }) => node.id), ids);
  assert.equal(merged.tasks.pageInfo.hasNextPage, false);
  watching.unsubscribe();
  client.stop();
});

interface Tasks {
  readonly tasks: {
    readonly edges: readonly { readonly node: { readonly id: string } }[];
    readonly pageInfo: { readonly hasNextPage: boolean; readonly endCursor: string | null };
  };
}
