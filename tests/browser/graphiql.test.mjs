// GraphiQL at GET /graphql, as a person with a browser and no internet meets it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open, scriptSources } from "./browser.mjs";
import { isInWindow, nameless, overflow } from "./measure.mjs";

const examples = [
  "Tasks", "CreateTask", "OneTask", "UpdateTask", "DeleteTask", "DeleteTasks", "Trash",
  "CreateTasks", "Changes", "Viewer",
];

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

test("GraphiQL opens with an example of everything, and the schema in its docs", async () => {
  const { page, response, offences } = await graphiql();

  assert.deepEqual(scriptSources(response), ["'self'"]);
  assert.equal(await page.title(), "Twofold – GraphiQL");
  assert.deepEqual(await tabs(page), examples);
  const docs = page.locator(".graphiql-doc-explorer");
  await docs.getByText("Mutation", { exact: true }).click();
  await docs.getByText("createTask", { exact: true }).waitFor();
  assert.deepEqual(offences, []);
});

test("a query is typed and run, and its result is read", async () => {
  const { page, offences } = await graphiql();

  await type(page, "query", "{ __typename again: __typename }");
  const result = await run(page);

  assert.deepEqual(result.data, { __typename: "Query", again: "Query" });
  assert.deepEqual(offences, []);
});

test("the examples work one after the other, from creating to deleting", async () => {
  const { page, offences } = await graphiql();
  const title = `Browser test ${Date.now()}`;

  await openTab(page, "CreateTask");
  await type(page, "variables", JSON.stringify({ input: { title } }));
  const { createTask: made } = (await run(page)).data;
  assert.equal(made.title, title);
  assert.equal(made.completed, false);

  await openTab(page, "OneTask");
  await type(page, "variables", JSON.stringify({ id: made.id }));
  assert.equal((await run(page)).data.task.title, title);

  await openTab(page, "UpdateTask");
  await type(page, "variables", JSON.stringify({
    id: made.id, input: { completed: true }, expectedVersion: made.version,
  }));
  const { updateTask: updated } = (await run(page)).data;
  assert.equal(updated.completed, true);
  assert.equal(updated.version, made.version + 1);

  await openTab(page, "Tasks");
  await type(page, "variables", JSON.stringify({ first: 1, filter: { completed: true } }));
  const { tasks } = (await run(page)).data;
  assert.deepEqual(tasks.nodes.map((task) => task.id), [made.id]);

  await openTab(page, "DeleteTask");
  await type(page, "variables", JSON.stringify({ id: made.id, expectedVersion: updated.version }));
  assert.equal((await run(page)).data.deleteTask.title, title);

  await openTab(page, "DeleteTasks");
  await type(page, "variables", JSON.stringify({ ids: [made.id] }));
  assert.deepEqual((await run(page)).data.deleteTasks, { deleted: [], notFound: [made.id] });

  await openTab(page, "Viewer");
  assert.ok((await run(page)).data.viewer.reads.limit > 0);
  assert.deepEqual(offences, []);
});

test("the examples run as they are, on the newest task, and delete only what the page created", async () => {
  const mine = await graphiql();
  await openTab(mine.page, "CreateTask");
  const { id: before } = (await run(mine.page)).data.createTask;
  const { page, offences } = await graphiql();

  await openTab(page, "OneTask");
  await isFilled(page, { id: before });
  assert.equal((await run(page)).data.task.id, before);
  for (const name of ["DeleteTask", "DeleteTasks"]) {
    await openTab(page, name);
    assert.ok(!(await text(page, "variables")).includes(before));
    assert.equal((await run(page)).data?.[name === "DeleteTask" ? "deleteTask" : "none"] ?? null, null);
  }

  await openTab(page, "CreateTask");
  const { id } = (await run(page)).data.createTask;
  await openTab(page, "UpdateTask");
  await isFilled(page, { id, input: { completed: true }, expectedVersion: 1 });
  assert.equal((await run(page)).data.updateTask.completed, true);
  await isFilled(page, { id, input: { completed: true }, expectedVersion: 2 });
  await openTab(page, "CreateTasks");
  await until(async () => JSON.parse(await text(page, "variables")).ids[0] === id);
  await openTab(page, "DeleteTasks");
  await isFilled(page, { ids: [id] });
  await openTab(page, "DeleteTask");
  await isFilled(page, { id, expectedVersion: null });
  assert.equal((await run(page)).data.deleteTask.id, id);
  await isFilled(page, { id: "", expectedVersion: null });
  await openTab(page, "Trash");
  await isFilled(page, { first: 10, after: null, id });

  await openTab(page, "OneTask");
  await isFilled(page, { id: before });
  await type(page, "variables", '{"id": "1"}');
  // GraphiQL writes its storage half a second late.
  await until(() => page.evaluate(() =>
    JSON.parse(localStorage["twofold:graphiql:tabState"]).tabs[2].variables === '{"id": "1"}'));
  await openTab(page, "UpdateTask");
  await isFilled(page, { id: before, input: { completed: true }, expectedVersion: 1 });
  await openTab(page, "OneTask");
  assert.equal(await text(page, "variables"), '{"id": "1"}');
  assert.deepEqual(offences, []);

  await openTab(mine.page, "DeleteTask");
  await isFilled(mine.page, { id: before, expectedVersion: null });
  assert.equal((await run(mine.page)).data.deleteTask.id, before);
});

test("a subscription shows each change as it happens, until it is stopped", async () => {
  const { page, offences } = await graphiql();
  const other = await graphiql();
  const title = `Followed ${Date.now()}`;
  const shown = async () => JSON.parse((await text(page, "response")) || "{}").data?.taskChanges;
  const create = async (title) => {
    await openTab(other.page, "CreateTask");
    await type(other.page, "variables", JSON.stringify({ input: { title } }));
    return (await run(other.page)).data.createTask;
  };

  await openTab(page, "Changes");
  // GraphiQL knows a moment after the text that there are two operations to choose from.
  await page.locator(".graphiql-execute-button[aria-haspopup=menu]").click();
  await page.getByRole("menuitem", { name: "FollowChanges" }).click();
  await until(async () => (await shown())?.changes.length === 0);
  const { id } = await create(title);
  await until(async () => (await shown()).changes[0]?.title === title);
  assert.deepEqual((await shown()).changes.map((task) => [task.id, task.deletedAt]), [[id, null]]);

  await page.getByRole("button", { name: /stop query/i }).click();
  await page.getByRole("button", { name: /execute query/i }).waitFor();
  const { token } = await shown();
  await create(`${title}, unseen`);
  assert.equal((await shown()).token, token);
  assert.deepEqual(offences, []);
});

test("a subscription without a session says so", async () => {
  const { page, offences } = await graphiql();

  await page.getByRole("button", { name: "Headers", exact: true }).click();
  await type(page, "headers", '{ "Authorization": "Bearer nobody" }');
  await type(page, "query", "subscription { taskChanges { token } }");
  await page.getByRole("button", { name: /execute query/i }).click();
  await until(async () => /AUTHENTICATION_ERROR/.test(await text(page, "response")));

  await page.getByRole("button", { name: /execute query/i }).waitFor();
  assert.deepEqual(offences.filter((offence) => !/401/.test(offence)), []);
});

test("errors are shown, not thrown: a refused field, a bad document, no identity", async () => {
  const { page, offences } = await graphiql();

  await openTab(page, "OneTask");
  await type(page, "variables", '{ "id": "not-a-number" }');
  assert.equal((await run(page)).errors[0].extensions.code, "VALIDATION_ERROR");

  await type(page, "query", "{ nonsense }");
  assert.match((await run(page)).errors[0].message, /nonsense/);

  await page.getByRole("button", { name: "Headers", exact: true }).click();
  await type(page, "headers", "{}");
  assert.equal((await run(page)).errors[0].extensions.code, "AUTHENTICATION_ERROR");
  assert.deepEqual(offences, []);
});

test("a mistake is underlined while typing, and fields are suggested", async () => {
  const { page, offences } = await graphiql();

  await type(page, "query", "{ viewer { nonsense } }");
  await page.locator(".graphiql-query-editor .squiggly-error").first().waitFor();

  await type(page, "query", "{ view }");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Control+Space");
  await page.locator(".suggest-widget").getByText("viewer").first().waitFor();
  assert.deepEqual(offences, []);
});

test("all editors are tidied up by one button", async () => {
  const { page, offences } = await graphiql();

  await type(page, "query", "{viewer{userId}}");
  await page.getByRole("button", { name: /prettify/i }).click();

  await until(async () => (await text(page, "query")) === "{\n  viewer {\n    userId\n  }\n}\n");
  assert.deepEqual(offences, []);
});

test("a reload keeps the tabs as they were, and no token outlives the page", async () => {
  const { page, offences } = await graphiql();
  const token = await page.evaluate(
    () => JSON.parse(document.getElementById("twofold").textContent).headers.Authorization,
  );

  await openTab(page, "Viewer");
  const { viewer } = (await run(page)).data;
  // GraphiQL writes its storage half a second late.
  await until(() => page.evaluate(() =>
    JSON.parse(localStorage["twofold:graphiql:tabState"]).activeTabIndex === 9));
  await page.reload();
  await ready(page);

  assert.deepEqual(await tabs(page), examples);
  assert.match(await text(page, "query"), /query Viewer/);
  assert.equal((await run(page)).data.viewer.userId, viewer.userId);
  const stored = await page.evaluate(() => JSON.stringify(localStorage));
  assert.ok(stored.includes("query Viewer"));
  assert.ok(!stored.includes(token.split(" ").at(-1)), stored);

  await page.getByRole("button", { name: /history/i }).click();
  await page.locator(".graphiql-history-item-label").getByText("Viewer").first().click();
  const again = await run(page);
  assert.equal(again.data?.viewer.userId, viewer.userId, JSON.stringify(again));
  assert.deepEqual(offences, []);
});

test("a first visit's variables are still there after a reload without an edit", async () => {
  const { page } = await graphiql();
  const variables = await text(page, "variables");

  await until(() => page.evaluate(() => "twofold:graphiql:tabState" in localStorage));
  await page.reload();
  await ready(page);

  assert.match(variables, /"first": 10/);
  assert.equal(await text(page, "variables"), variables);
});

test("the docs stay closed, or open, over a reload", async () => {
  const { page } = await graphiql();
  const docs = page.locator(".graphiql-doc-explorer");

  await page.getByRole("button", { name: "Hide Documentation Explorer" }).click();
  await docs.waitFor({ state: "detached" });
  await page.reload();
  await editorsAreThere(page);
  assert.equal(await docs.count(), 0);

  await page.getByRole("button", { name: "Show Documentation Explorer" }).click();
  await page.reload();
  await ready(page);
});

test("at 1280 pixels every tab is in sight, a new one too", async () => {
  const { page } = await graphiql({ viewport: { width: 1280, height: 800 } });
  for (const tab of await page.locator(".graphiql-tab-button").all())
    assert.ok(await isInWindow(page, tab), await tab.innerText());

  for (let count = examples.length + 1; count <= 14; count++) {
    await page.getByRole("button", { name: "New tab" }).click();
    await until(async () => (await tabs(page)).length === count);
    await until(() => isInStrip(page));
  }
});

test("icons and buttons have the names of what they are", async () => {
  const { page } = await graphiql();

  const drawn = await page.locator("svg title").evaluateAll((all) => all.map((title) => title.textContent));

  assert.ok(drawn.includes("play icon"), String(drawn));
  assert.deepEqual(drawn.filter((title) => !/^[a-z]{4,}( [a-z]+)* icon$/.test(title)), []);
  assert.deepEqual(await nameless(page), []);
});

test("on a phone a query is run and its result read, and the docs come and go", async () => {
  const { page, offences } = await graphiql({ viewport: { width: 390, height: 844 } });
  const execute = page.getByRole("button", { name: /execute query/i });

  assert.ok(await isInWindow(page, execute));
  assert.equal(await overflow(page), 0);
  await type(page, "query", "{ __typename }");
  assert.deepEqual((await run(page)).data, { __typename: "Query" });
  const result = page.locator(".graphiql-response .view-line", { hasText: '"__typename": "Query"' });
  await result.waitFor();
  assert.ok((await page.locator(".graphiql-response").boundingBox()).width > 300);

  await page.getByRole("button", { name: "Show Documentation Explorer" }).click();
  assert.ok((await page.locator(".graphiql-plugin").boundingBox()).width > 380);
  await page.locator(".graphiql-doc-explorer").getByText("Root Types").waitFor();
  await page.getByRole("button", { name: "Hide Documentation Explorer" }).click();
  await execute.click();
  assert.deepEqual(offences, []);
});

test("without a token in the page, the schema comes once one is typed", async () => {
  const { page, context, offences } = await graphiql();
  const { headers } = await page.evaluate(
    () => JSON.parse(document.getElementById("twofold").textContent),
  );
  await context.route("**/graphql", async (route) => {
    if (route.request().method() !== "GET") return route.continue();
    const response = await route.fetch();
    const html = await response.text();
    return route.fulfill({
      response,
      body: html.replace(/(id="twofold">)[^<]*/, '$1{"endpoint":"/graphql","headers":{}}'),
    });
  });
  await page.reload();
  await page.locator(".graphiql-doc-explorer-error").waitFor();

  assert.match(await text(page, "headers"), /Bearer <session token>/);
  await type(page, "headers", JSON.stringify(headers));

  await page.locator(".graphiql-doc-explorer").getByText("Root Types").waitFor();
  assert.deepEqual(offences, []);
});

// --- how the page is driven ---

async function graphiql(options = {}) {
  const opened = await open(browser, "/graphql", options);
  await (options.viewport?.width < 720 ? editorsAreThere : ready)(opened.page);
  return opened;
}

async function editorsAreThere(page) {
  await page.locator(".graphiql-query-editor .view-line").first().waitFor();
  await page.locator(".graphiql-response .monaco-editor").first().waitFor();
}

async function ready(page) {
  await editorsAreThere(page);
  // Until the schema is there, completion and validation know nothing.
  await page.locator(".graphiql-doc-explorer").getByText("Root Types").waitFor();
}

async function tabs(page) {
  const names = await page.locator(".graphiql-tab-button").allInnerTexts();
  return names.map((name) => name.trim());
}

/** Whether the open tab lies in the visible part of the strip of tabs. */
async function isInStrip(page) {
  const strip = await page.locator(".graphiql-tabs").boundingBox();
  const tab = await page.locator(".graphiql-tab-active").boundingBox();
  return tab.x >= strip.x - 1 && tab.x + tab.width <= strip.x + strip.width + 1;
}

async function openTab(page, name) {
  await page.locator(".graphiql-tab-button", { hasText: new RegExp(`^${name}$`) }).click();
  await until(async () => new RegExp(` ${name}\\b`).test(await text(page, "query")));
}

const editors = {
  query: "operation.graphql",
  variables: "variables.json",
  headers: "request-headers.json",
  response: "response.json",
};

/** An editor's text, from Monaco's own model: on screen only part of it is rendered. */
function text(page, editor) {
  return page.evaluate(
    (suffix) => {
      const models = globalThis.__MONACO.editor.getModels();
      return models.find((model) => model.uri.path.endsWith(suffix)).getValue();
    },
    editors[editor],
  );
}

/** Waits until the variables are filled in with these values. */
function isFilled(page, values) {
  return until(async () => {
    const found = JSON.parse(await text(page, "variables"));
    return JSON.stringify(found) === JSON.stringify(values);
  });
}

/** Types as a person does: click, select all, and the keys. */
async function type(page, editor, content) {
  const area = { query: "query-editor", variables: "editor-tool", headers: "editor-tool" }[editor];
  await page.locator(`.graphiql-${area} .view-lines:visible`).first().click();
  await page.keyboard.press("Control+A");
  await page.keyboard.press("Delete");
  await page.keyboard.insertText(content);
  await until(async () => (await text(page, editor)) === content);
}

async function run(page) {
  const isOurs = (request) =>
    request.method() === "POST" && !request.postData().includes("query Newest ");
  const execute = async () => {
    const sent = page.waitForRequest(isOurs, { timeout: 5000 });
    await Promise.all([sent, page.getByRole("button", { name: /execute query/i }).click()]);
    return (await (await sent).response()).json();
  };
  // GraphiQL ignores a click while it still renders another tab: on a busy machine for long.
  const sent = await execute().catch(execute);
  // The response before stays until this one is there.
  await until(async () => {
    const shown = await text(page, "response");
    return shown !== "" && JSON.stringify(JSON.parse(shown)) === JSON.stringify(sent);
  });
  const shown = JSON.parse(await text(page, "response"));
  assert.deepEqual(shown, sent, "the result pane shows the response");
  return shown;
}

async function until(isSo, seconds = 10) {
  const end = Date.now() + seconds * 1000;
  while (!(await isSo())) {
    assert.ok(Date.now() < end, `not so within ${seconds} s: ${isSo}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
