// Swagger UI at /docs, as a person with a browser and no internet meets it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { launch, open, scriptSources } from "./browser.mjs";

let browser;
before(async () => { browser = await launch(); });
after(() => browser?.close());

test("the docs page shows the API, and asks no other host for anything", async () => {
  const { page, response, offences } = await open(browser, "/docs");

  await page.locator(".opblock").first().waitFor();

  assert.deepEqual(scriptSources(response), ["'self'"]);
  assert.match(await page.title(), /Twofold/);
  assert.ok((await page.locator(".opblock").count()) > 3);
  assert.equal(await page.locator("img[src*=validator]").count(), 0);
  assert.deepEqual(offences, []);
});

for (const prefix of ["", "/api"]) {
  test(`a call can be tried from the docs page under the prefix "${prefix}"`, async () => {
    const { page, offences } = await open(browser, "/docs", { prefix });

    const health = page.locator(".opblock-get", {
      has: page.locator('[data-path="/health"]'),
    });
    await health.locator(".opblock-summary-control").click();
    await health.getByRole("button", { name: "Execute" }).click();
    const response = health.locator(".live-responses-table .response-col_status").last();

    await response.waitFor();
    assert.match(await response.innerText(), /^200/);
    assert.match(page.url(), /#\//, "an opened operation has an address of its own");
    assert.deepEqual(offences, []);
  });
}

test("with the token in the page, tasks are created and listed at once", async () => {
  const { page, offences } = await open(browser, "/docs");

  const create = await operation(page, "create_task");
  assert.deepEqual(JSON.parse(await create.locator("textarea").inputValue()), {
    title: "Water the plants",
  });
  assert.match(await execute(create), /^201/);
  assert.match(await execute(await operation(page, "list_tasks")), /^200/);
  assert.match(await (await operation(page, "put_task")).innerText(), /Update Task by PUT/);
  assert.deepEqual(offences, []);
});

test("an authorization is kept over a reload, in this tab alone", async () => {
  const { page, context } = await open(browser, "/docs");
  const token = await page.evaluate(
    () => JSON.parse(document.getElementById("twofold").textContent).token,
  );
  await withoutToken(context);
  await page.reload();

  await authorize(page, token);
  await page.reload();
  const status = await execute(await operation(page, "list_tasks"));
  const stored = await page.evaluate(() => JSON.stringify(localStorage));
  const other = await context.newPage();
  await other.goto(page.url());
  const others = await other.evaluate(() => JSON.stringify([localStorage, sessionStorage]));

  assert.match(status, /^200/);
  assert.ok(!stored.includes(token) && !others.includes(token));

  await page.getByRole("button", { name: "Authorize", exact: true }).click();
  await page.getByRole("button", { name: "Remove authorization" }).click();
  await page.reload();
  assert.match(await execute(await operation(page, "list_tasks")), /^401/);
});

test("nothing is deleted that a person did not name or confirm", async () => {
  const { page } = await open(browser, "/docs");
  const sent = [];
  page.on("request", (request) => sent.push(`${request.method()} ${request.url()}`));
  const questions = [];
  page.on("dialog", (dialog) => {
    questions.push(dialog.message());
    return questions.length === 1 ? dialog.dismiss() : dialog.accept();
  });

  const one = await operation(page, "delete_task");
  assert.equal(await one.locator('[data-param-name="task_id"] input').inputValue(), "");
  await one.getByRole("button", { name: "Execute" }).click();
  const bulk = await operation(page, "bulk_delete_tasks");
  await bulk.getByRole("button", { name: "Execute" }).click();

  assert.equal(questions.length, 1);
  assert.match(questions[0], /"task_ids"/);
  assert.deepEqual(sent.filter((request) => /DELETE|bulk-delete/.test(request)), []);

  await bulk.locator("textarea").fill('{"task_ids": [999999999]}');
  assert.match(await execute(bulk), /^200/);
  assert.match(questions[1], /999999999/);
});

// --- how the page is driven ---

/** An operation, opened. */
async function operation(page, id) {
  const block = page.locator(`[id$="-${id}"].opblock`);
  await block.waitFor();
  if (!(await block.getAttribute("class")).includes("is-open"))
    await block.locator(".opblock-summary-control").click();
  await block.getByRole("button", { name: "Execute" }).waitFor();
  return block;
}

/** Executes an operation. Returns the status of the response. */
async function execute(block) {
  await block.getByRole("button", { name: "Execute" }).click();
  const response = block.locator(".live-responses-table .response-col_status").last();
  await response.waitFor();
  return response.innerText();
}

/** As in production: no token in the page. */
function withoutToken(context) {
  return context.route("**/docs", async (route) => {
    const response = await route.fetch();
    const html = await response.text();
    return route.fulfill({
      response,
      body: html.replace(/(id="twofold">)[^<]*/, '$1{"token":null}'),
    });
  });
}

async function authorize(page, token) {
  await page.getByRole("button", { name: "Authorize", exact: true }).click();
  const dialog = page.locator(".dialog-ux");
  await dialog.getByRole("textbox").fill(token);
  await dialog.getByRole("button", { name: /authorize|apply/i }).last().click();
  await dialog.getByRole("button", { name: "Close", exact: true }).click();
}
