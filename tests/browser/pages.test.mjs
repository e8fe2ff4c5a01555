// All pages at the widths of a phone and a laptop, light and dark: contrast, names, overflow, bytes.
// Writes a screenshot of each into screenshots/, to be looked at.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { base, launch, open } from "./browser.mjs";
import { firstPaint, isInWindow, lowContrast, nameless, overflow, wire } from "./measure.mjs";

const folder = new URL("screenshots/", import.meta.url);
const megabytes = 2;
const sizes = [{ width: 390, height: 844 }, { width: 1280, height: 800 }];

/** How each page is brought to what a person sees first, and to what is shown on a click. */
const pages = {
  index: { path: "/", show: (page) => page.locator("h1").waitFor() },
  docs: {
    path: "/docs",
    show: (page) => page.locator(".opblock").first().waitFor(),
    open: openOperations,
  },
  graphiql: { path: "/graphql", show: showGraphiql },
};

let browser;
before(async () => {
  mkdirSync(folder, { recursive: true });
  browser = await launch();
});
after(() => browser?.close());

for (const [name, { path, show, open: reveal }] of Object.entries(pages)) {
  for (const viewport of sizes) {
    for (const colorScheme of ["light", "dark"]) {
      test(`${name} is legible at ${viewport.width} pixels, ${colorScheme}`, async () => {
        const { page, context, offences } = await open(browser, path, { viewport, colorScheme });
        await show(page);

        await page.screenshot({
          path: new URL(`${name}-${viewport.width}-${colorScheme}.png`, folder).pathname,
        });

        await reveal?.(page);

        assert.deepEqual(await lowContrast(page), []);
        assert.deepEqual(await nameless(page), []);
        assert.ok((await overflow(page)) <= 0, "it scrolls sideways");
        assert.deepEqual(offences, []);
        await context.close();
      });
    }
  }

  test(`${name} takes at most ${megabytes} MB on the wire`, async () => {
    const { page, context } = await open(browser, "/health");
    const received = await wire(context, page);

    await page.goto(new URL(path, base).href);
    await show(page);

    assert.ok(received.bytes > 1000 && received.requests > 0, JSON.stringify(received));
    assert.ok(received.bytes <= megabytes * 1e6, JSON.stringify(received));
    console.log(name, received, "first paint after", await firstPaint(page), "ms");
    await context.close();
  });
}

/** The newest tasks, as the response to the first example. */
async function showGraphiql(page) {
  await page.locator(".graphiql-query-editor .view-line").first().waitFor();
  await page.locator(".graphiql-response .monaco-editor").first().waitFor();
  const execute = page.getByRole("button", { name: /execute query/i });
  assert.ok(await isInWindow(page, execute));
  await execute.click();
  await page.locator(".graphiql-response .view-line", { hasText: "totalCount" }).waitFor();
  await page.mouse.move(0, 0);
}

/** Operations with parameters, bodies, examples, headers and a response. */
async function openOperations(page) {
  for (const id of ["list_tasks", "create_task", "update_task", "delete_task"])
    await page.locator(`[id$="-${id}"].opblock .opblock-summary-control`).click();
  const list = page.locator('[id$="-list_tasks"].opblock');
  await list.getByRole("button", { name: "Execute" }).click();
  await list.locator(".live-responses-table .response-col_status").last().waitFor();
}
