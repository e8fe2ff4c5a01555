// TanStack Query over REST, with the code of the recipe.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { beforeEach, test } from "node:test";

import { InfiniteQueryObserver, MutationObserver } from "@tanstack/query-core";

import { TaskTitles } from "./code/TaskTitles.js";
import { ApiError, TasksApi, completeTask, queryClient, tasksQuery } from "./code/tasks.js";
import { complete, create, deleteAll, token, url } from "./service.js";

const api = new TasksApi(url, () => token);
const neverSignIn = () => assert.fail("signed in");
beforeEach(deleteAll);

test("an infinite list has every task once, in the order of the list", async () => {
  const ids = [];
  for (const title of ["one", "two", "three"]) ids.unshift((await create(title)).id);
  const list = new InfiniteQueryObserver(queryClient(neverSignIn), tasksQuery(api, 2));

  let result = await list.fetchNextPage();
  while (result.hasNextPage) result = await list.fetchNextPage();

  assert.equal(result.data?.pages.length, 2);
  assert.deepEqual(result.data?.pages.flatMap((page) => page.items.map((task) => task.id)), ids);
});

test("a change is shown at once, and taken back if somebody else was first", async () => {
  await create("water the plants");
  const client = queryClient(neverSignIn);
  const list = new InfiniteQueryObserver(client, tasksQuery(api));
  const shown = () => client.getQueryData(tasksQuery(api).queryKey)?.pages[0]?.items[0];
  await list.refetch();
  const seen = shown();
  assert.ok(seen);

  const mutation = new MutationObserver(client, completeTask(api, client));
  const pending = mutation.mutate(seen);
  await new Promise((resolve) => setTimeout(resolve, 0));
  assert.equal(shown()?.completed, true);
  assert.equal((await pending).version, 2);

  const stale = await create("sleep in");
  await list.refetch();
  const before = shown();
  assert.equal(before?.id, stale.id);
  await complete(stale.id);
  await assert.rejects(
    new MutationObserver(client, completeTask(api, client)).mutate(before!),
    (error) => error instanceof ApiError && error.status === 412,
  );
  assert.equal(shown()?.completed, false);
});

test("without a session the person is asked to sign in, once and without a repetition", async () => {
  let asked = 0;
  const client = queryClient(() => (asked += 1));
  const stranger = new TasksApi(url, () => "nobody");

  const result = await new InfiniteQueryObserver(client, tasksQuery(stranger)).refetch();

  assert.equal((result.error as ApiError).type, "authentication_error");
  assert.equal(asked, 1);

  const change = new MutationObserver(client, completeTask(stranger, client));
  await assert.rejects(change.mutate({ id: 1, title: "x", completed: false, version: 1 }));
  assert.equal(asked, 2);
});

test("a 429 is repeated when Retry-After has passed", async () => {
  const refusal = new Response(JSON.stringify({ type: "rate_limit_exceeded", detail: "wait" }), {
    status: 429,
    headers: { "Retry-After": "1" },
  });
  const real = globalThis.fetch;
  const sent: number[] = [];
  globalThis.fetch = (...request) => {
    sent.push(Date.now());
    return sent.length === 1 ? Promise.resolve(refusal) : real(...request);
  };
  try {
    const list = new InfiniteQueryObserver(queryClient(neverSignIn), tasksQuery(api));
    const result = await list.refetch();
    assert.equal(result.status, "success");
  } finally {
    globalThis.fetch = real;
  }
  assert.equal(sent.length, 2);
  assert.ok(sent[1]! - sent[0]! >= 990);
});

test("a server component renders the tasks, or a link to sign in", async () => {
  await create("water the plants");

  const list = JSON.stringify(await TaskTitles({ url, token }));
  const link = JSON.stringify(await TaskTitles({ url, token: "nobody" }));

  assert.match(list, /water the plants/);
  assert.match(link, /\/sign-in/);
});

test("curl creates a task and lists it", () => {
  const environment = { ...process.env, TWOFOLD_URL: url, TWOFOLD_TOKEN: token };
  const output = execFileSync("bash", ["-eu", "recipes/code/tasks.sh"], { env: environment });

  assert.match(output.toString(), /"title":"Water the plants".*"nodes":\[\{"id":"\d+","title":"Water/s);
});
