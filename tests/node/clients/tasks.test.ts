// The same work through both doors, with types that the committed contracts generate. It must
// compile, the refused lines must not, and it must run against the live app.

import assert from "node:assert/strict";
import { test } from "node:test";

import { graphql } from "./generated/gql.js";
import { graphqlClient } from "./graphql.js";
import { restClient, type Problem, type Task } from "./rest.js";

const base = process.env["TWOFOLD_URL"] ?? "http://127.0.0.1:8000";
const token = process.env["TWOFOLD_TOKEN"] ?? "";
const rest = restClient(base, token);
const ask = graphqlClient(base, token);

const listTasks = graphql(`
  query ListTasks($first: Int, $after: String, $filter: TaskFilter) {
    tasks(first: $first, after: $after, filter: $filter) {
      totalCount
      nodes {
        id
        title
        description
        completed
        version
        createdAt
      }
      pageInfo {
        hasNextPage
        endCursor
      }
    }
  }
`);

const createTask = graphql(`
  mutation CreateTask($input: CreateTaskInput!) {
    createTask(input: $input) {
      id
      title
      description
      completed
      version
    }
  }
`);

const changeTask = graphql(`
  mutation ChangeTask($id: ID!, $input: UpdateTaskInput!, $expectedVersion: Int) {
    updateTask(id: $id, input: $input, expectedVersion: $expectedVersion) {
      completed
      version
    }
  }
`);

const deleteTasks = graphql(`
  mutation DeleteTasks($ids: [ID!]!) {
    deleteTasks(ids: $ids) {
      deleted
      notFound
    }
  }
`);

test("REST: list, create, change at a version, delete many", async () => {
  const made = await created({ title: "water the plants" });

  const listed = await rest.GET("/tasks", { params: { query: { completed: false, limit: 10 } } });
  const found: Task[] = Array.isArray(listed.data) ? listed.data : assert.fail();
  assert.equal(found.find(({ id }) => id === made.id)?.title, "water the plants");

  const page = await rest.GET("/tasks", { params: { query: { envelope: true, limit: 1 } } });
  const envelope = page.data && "items" in page.data ? page.data : assert.fail();
  assert.equal(envelope.items.length, 1);

  const changed = await rest.PATCH("/tasks/{task_id}", {
    params: { path: { task_id: made.id }, header: { "If-Match": `"${made.version}"` } },
    body: { completed: true, description: null },
  });
  assert.equal(changed.data?.version, made.version + 1);
  assert.equal(changed.response.headers.get("ETag"), `"${made.version + 1}"`);

  const whole = await rest.PUT("/tasks/{task_id}", {
    params: { path: { task_id: made.id } },
    body: { ...(changed.data ?? assert.fail()), title: "water the fern" },
  });
  assert.equal(whole.data?.title, "water the fern");

  const gone = await rest.POST("/tasks/bulk-delete", { body: { task_ids: [made.id, 999] } });
  assert.deepEqual(gone.data, { deleted: [made.id], not_found: [999] });
});

test("REST: an error is known by its typed members", async () => {
  const made = await created({ title: "once" });

  const stale = await rest.DELETE("/tasks/{task_id}", {
    params: { path: { task_id: made.id }, header: { "If-Match": '"7"' } },
  });
  assert.equal(said(stale.error), "The task changed meanwhile.");

  const untitled = await rest.POST("/tasks", { body: { title: " " } });
  assert.equal(said(untitled.error), "title: String should have at least 1 character");

  const nobody = await restClient(base, "nobody's").GET("/tasks");
  assert.equal(said(nobody.error), "Authentication failed");
});

test("GraphQL: list, create, change at a version, delete many", async () => {
  const { data } = await ask(createTask, { input: { title: "repot the basil" } });
  const made = data?.createTask ?? assert.fail();
  assert.equal(made.description, null);

  const listed = await ask(listTasks, { first: 1, filter: { completed: false } });
  const page = listed.data?.tasks ?? assert.fail();
  const first = page.nodes[0] ?? assert.fail();
  const cursor: string | null = page.pageInfo.endCursor;
  assert.equal(first.title, "repot the basil");
  assert.ok(cursor !== null && new Date(first.createdAt) <= new Date());

  const changed = await ask(changeTask, {
    id: made.id,
    input: { completed: true },
    expectedVersion: made.version,
  });
  assert.deepEqual(changed.data?.updateTask, { completed: true, version: made.version + 1 });

  const gone = await ask(deleteTasks, { ids: [made.id, "999"] });
  assert.deepEqual(gone.data?.deleteTasks, { deleted: [made.id], notFound: ["999"] });
});

test("GraphQL: an error is known by its typed members, and they are REST's", async () => {
  const made = await created({ title: "twice" });

  const stale = await ask(changeTask, {
    id: String(made.id),
    input: { title: "thrice" },
    expectedVersion: 7,
  });
  assert.equal(stale.data?.updateTask, null);
  assert.deepEqual(stale.errors?.[0]?.path, ["updateTask"]);
  assert.equal(stale.errors[0].extensions.code, "PRECONDITION_FAILED");
  assert.equal(said(stale.errors[0].extensions), "The task changed meanwhile.");

  const untitled = await ask(createTask, { input: { title: " " } });
  const refused = untitled.errors?.[0]?.extensions;
  assert.equal(said(refused), "title: String should have at least 1 character");
});

/** What a frontend would say about an error, whichever door it came through. */
function said(problem: Problem | undefined): string {
  if (!problem) return "Nothing is wrong.";
  switch (problem.type) {
    case "validation_error":
      return (problem.errors ?? []).map(({ field, message }) => `${field}: ${message}`).join("\n");
    case "precondition_failed":
      return "The task changed meanwhile.";
    case "rate_limit_exceeded":
      return `Again in ${problem.retry_after ?? 60} seconds.`;
    default:
      return problem.title;
  }
}

async function created(body: { title: string; description?: string | null }): Promise<Task> {
  const { data, error } = await rest.POST("/tasks", { body });
  return data ?? assert.fail(said(error));
}

/** What must not compile: each line is refused, or the compiler says that it is not. */
export function refused(task: Task, problem: Problem) {
  // @ts-expect-error: a title is required
  void rest.POST("/tasks", { body: {} });
  // @ts-expect-error: only a description can be cleared
  void rest.PATCH("/tasks/{task_id}", { params: { path: { task_id: 1 } }, body: { title: null } });
  // @ts-expect-error: ids are numbers here
  void rest.POST("/tasks/bulk-delete", { body: { task_ids: ["1"] } });
  // @ts-expect-error: no such path
  void rest.GET("/task");
  // @ts-expect-error: a description may be null
  task.description.length;
  // @ts-expect-error: no such error
  if (problem.type === "teapot") return;
  // @ts-expect-error: a title is required
  void ask(createTask, { input: {} });
  // @ts-expect-error: ids are required
  void ask(deleteTasks, {});
  // @ts-expect-error: a typo is not lost
  void ask(listTasks, { filter: { complete: true } });
  // @ts-expect-error: a mutation's field may be null
  void ask(createTask, { input: { title: "x" } }).then(({ data }) => data?.createTask.id);
}
