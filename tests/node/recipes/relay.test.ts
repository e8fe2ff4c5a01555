// The artifacts of relay-compiler in Relay's store. React is not needed for it.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";

import { createOperationDescriptor, fetchQuery, getRequest } from "relay-runtime";
import type { GraphQLTaggedNode, OperationType } from "relay-runtime";

import budgetsQuery from "./code/__generated__/relayTasksBudgetsQuery.graphql.js";
import type { relayTasksBudgetsQuery } from "./code/__generated__/relayTasksBudgetsQuery.graphql.js";
import newestQuery from "./code/__generated__/relayTasksNewestQuery.graphql.js";
import type { relayTasksNewestQuery } from "./code/__generated__/relayTasksNewestQuery.graphql.js";
import oldestQuery from "./code/__generated__/relayTasksOldestQuery.graphql.js";
import type { relayTasksOldestQuery } from "./code/__generated__/relayTasksOldestQuery.graphql.js";
import readsQuery from "./code/__generated__/relayTasksReadsQuery.graphql.js";
import type { relayTasksReadsQuery } from "./code/__generated__/relayTasksReadsQuery.graphql.js";
import taskQuery from "./code/__generated__/relayTasksTaskQuery.graphql.js";
import type { relayTasksTaskQuery } from "./code/__generated__/relayTasksTaskQuery.graphql.js";
import { relayEnvironment } from "./code/relay_environment.js";
import { complete, create, deleteAll, token, url } from "./service.js";

const environment = relayEnvironment(url, token);
beforeEach(deleteAll);

test("two queries of viewer keep each other's fields", async () => {
  await load<relayTasksReadsQuery>(readsQuery, {});
  await load<relayTasksBudgetsQuery>(budgetsQuery, {});

  const first = read<relayTasksReadsQuery>(readsQuery, {});
  const second = read<relayTasksBudgetsQuery>(budgetsQuery, {});
  assert.equal(first.isMissingData || second.isMissingData, false);
  assert.equal(first.data.viewer.reads.limit, 100000);
  assert.ok(second.data.viewer.writes.remaining > 0);
});

test("a task is refetched by its id, and the list shows the change", async () => {
  const { id } = await create("water the plants");
  await load<relayTasksNewestQuery>(newestQuery, { first: 1 });
  assert.equal(field(id, "completed"), false);

  await complete(id);
  await load<relayTasksTaskQuery>(taskQuery, { id: `${id}` });

  assert.equal(field(id, "completed"), true);
  assert.equal(field(id, "version"), 2);
});

test("pages are merged forward and backward", async () => {
  const ids = [];
  for (const title of ["one", "two", "three"]) {
    ids.unshift(`${(await create(title)).id}`);
  }

  await load<relayTasksNewestQuery>(newestQuery, { first: 2 });
  const after = connection("newest_tasks").end;
  await load<relayTasksNewestQuery>(newestQuery, { first: 2, after });
  assert.deepEqual(connection("newest_tasks").ids, ids);
  assert.equal(connection("newest_tasks").hasNext, false);

  await load<relayTasksOldestQuery>(oldestQuery, { last: 2 });
  const before = connection("oldest_tasks").start;
  assert.deepEqual(connection("oldest_tasks").ids, ids.slice(1));
  await load<relayTasksOldestQuery>(oldestQuery, { last: 2, before });
  assert.deepEqual(connection("oldest_tasks").ids, ids);
  assert.equal(connection("oldest_tasks").hasPrevious, false);
});

async function load<Query extends OperationType>(query: GraphQLTaggedNode, variables: Query["variables"]) {
  await fetchQuery<Query>(environment, query, variables).toPromise();
}

function read<Query extends OperationType>(query: GraphQLTaggedNode, variables: Query["variables"]) {
  const operation = createOperationDescriptor(getRequest(query), variables);
  const { data, isMissingData } = environment.lookup(operation.fragment);
  return { data: data as Query["response"], isMissingData };
}

function field(id: number, name: string) {
  return environment.getStore().getSource().get(`${id}`)?.[name];
}

/** A connection as `usePaginationFragment` has it: the merged pages of the store. */
function connection(key: string) {
  const source = environment.getStore().getSource();
  const record = (id: unknown) => source.get((id as { __ref: string }).__ref) ?? assert.fail();
  const list = source.get(`client:root:__${key}_connection`) ?? assert.fail();
  const edges = (list["edges"] as { __refs: string[] }).__refs.map((id) => source.get(id));
  const page = record(list["pageInfo"]);
  return {
    ids: edges.map((edge) => record(edge?.["node"])["__id"]),
    start: page["startCursor"],
    end: page["endCursor"],
    hasNext: page["hasNextPage"],
    hasPrevious: page["hasPreviousPage"],
  };
}
