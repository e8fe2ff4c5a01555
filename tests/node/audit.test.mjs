// The public audit of GraphQL over HTTP, https://github.com/graphql/graphql-http: every MUST,
// every SHOULD and every MAY, each a test.

import assert from "node:assert/strict";
import { test } from "node:test";

import { serverAudits } from "graphql-http";

const base = process.env.TWOFOLD_URL ?? "http://127.0.0.1:8000";
const token = process.env.TWOFOLD_TOKEN ?? "";

const audits = serverAudits({
  url: new URL("/graphql", base).href,
  fetchFn: (url, { headers, ...options } = {}) =>
    fetch(url, { ...options, headers: { ...headers, Authorization: `Bearer ${token}` } }),
});

test("the audit is whole", () => {
  assert.equal(audits.length, 61);
});

for (const audit of audits) {
  test(`${audit.id} ${audit.name}`, async () => {
    const { status, reason } = await audit.fn();
    assert.equal(status, "ok", reason);
  });
}
