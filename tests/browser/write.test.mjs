// The client of docs/retries.md in a browser that loses its connection in the middle of requests.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import net from "node:net";
import { after, before, test } from "node:test";
import ts from "typescript";
import { base, launch } from "./browser.mjs";

let browser, proxy, page;

before(async () => {
  browser = await launch();
  proxy = await losingProxy();
  page = await (await browser.newContext()).newPage();
  await page.goto(`http://127.0.0.1:${proxy.address().port}/docs`);
  const source = await readFile(new URL("write.ts", import.meta.url), "utf8");
  const { outputText } = ts.transpileModule(source, { compilerOptions: { target: "es2022" } });
  await page.evaluate(`(() => { ${outputText.replace(/^export /gm, "")}; window.write = write; })()`);
});
after(async () => {
  await browser?.close();
  proxy?.close();
});

/** Passes connections to the service. While `lost` is not 0, responses to writes are cut off. */
async function losingProxy() {
  const server = net.createServer((client) => {
    const service = net.connect(Number(base.port), base.hostname);
    let isWrite = false;
    client.on("data", (data) => {
      const head = data.toString("latin1");
      if (/^(GET|POST|PATCH|DELETE) /.test(head)) isWrite = /^(POST|PATCH|DELETE)/.test(head);
      service.write(data);
    });
    service.on("data", (data) => {
      if (isWrite && server.lost > 0) {
        server.lost -= 1;
        server.seen += 1;
        // Now in the middle of the response, now before it: the write is done in both cases.
        client.end(data.subarray(0, server.lost % 2 ? data.length - 5 : 0), () => client.destroy());
        service.destroy();
      } else client.write(data);
    });
    for (const [one, other] of [[client, service], [service, client]]) {
      one.on("error", () => other.destroy());
      one.on("close", () => other.destroy());
    }
  });
  server.lost = server.seen = 0;
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

/** What a write in the page is answered, of which so many responses are lost. */
async function lose(responses, path, method, body, options = {}) {
  proxy.lost = responses;
  const sent = { path, method, body, options, token: process.env.TWOFOLD_TOKEN };
  return page.evaluate(async ({ path, method, body, options, token }) => {
    token ??= JSON.parse(document.getElementById("twofold").textContent).token;
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/json" };
    const response = await write(
      path, { method, headers, body: body && JSON.stringify(body) }, options,
    );
    const replayed = response.headers.get("Idempotency-Replayed");
    const text = await response.text();
    return { status: response.status, replayed, body: text && JSON.parse(text) };
  }, sent);
}

const tasks = async (title) =>
  (await lose(0, "/tasks?limit=1000", "GET")).body.filter((task) => task.title === title);

test("a task whose responses are lost is made once", async () => {
  const title = `lost ${Date.now()}`;
  const seen = proxy.seen;

  const made = await lose(2, "/tasks", "POST", { title });

  assert.equal(proxy.seen, seen + 2);
  assert.deepEqual([made.status, made.replayed], [201, "true"]);
  assert.deepEqual(await tasks(title), [made.body]);
});

test("a deletion whose response is lost is not answered with 404", async () => {
  const { body } = await lose(0, "/tasks", "POST", { title: "gone" });

  const deleted = await lose(1, `/tasks/${body.id}`, "DELETE");

  assert.deepEqual([deleted.status, deleted.replayed], [204, "true"]);
});

test("a mutation whose responses are lost is made once", async () => {
  const title = `mutation ${Date.now()}`;
  const query = `mutation { createTask(input: {title: "${title}"}) { id title } }`;

  const made = await lose(2, "/graphql", "POST", { query });

  assert.equal(made.body.extensions.idempotency.replayed, true);
  assert.deepEqual((await tasks(title)).map(({ id }) => String(id)), [made.body.data.createTask.id]);
});

test("an error is final, and without a response the promise rejects", async () => {
  const refused = await lose(0, "/tasks", "POST", { title: " " });
  assert.equal(refused.status, 400);

  await assert.rejects(lose(1000, "/tasks", "POST", { title: "never" }, { seconds: 0.5 }));
  proxy.lost = 0;
});
