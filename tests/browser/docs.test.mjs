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
  if (process.env.DOCS_SCREENSHOT)
    await page.screenshot({ path: process.env.DOCS_SCREENSHOT });

  assert.deepEqual(scriptSources(response), ["'self'"]);
  assert.match(await page.title(), /Twofold/);
  assert.ok((await page.locator(".opblock").count()) > 3);
  assert.equal(await page.locator("img[src*=validator]").count(), 0);
  assert.deepEqual(offences, []);
});

test("a call can be tried from the docs page", async () => {
  const { page, offences } = await open(browser, "/docs");

  const health = page.locator(".opblock", {
    has: page.locator('[data-path="/health"]'),
  });
  await health.locator(".opblock-summary-control").click();
  await health.getByRole("button", { name: "Execute" }).click();
  const answer = health.locator(".live-responses-table .response-col_status").last();

  await answer.waitFor();
  assert.match(await answer.innerText(), /^200/);
  assert.match(page.url(), /#\//, "an opened operation has an address of its own");
  assert.deepEqual(offences, []);
});
