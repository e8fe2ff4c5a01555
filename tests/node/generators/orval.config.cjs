// Functions for fetch, hooks for TanStack Query and zod schemas, from the committed OpenAPI
// document.

const input = "../../../rest/openapi.json";
const override = { mutator: { path: "./http.ts", name: "http", extension: ".js" } };

/** @type {import("orval").Config} */
module.exports = {
  fetch: {
    input,
    output: { target: "generated/orval/fetch.ts", client: "fetch", headers: true, override },
  },
  query: {
    input,
    output: {
      target: "generated/orval/query.ts",
      client: "react-query",
      httpClient: "fetch",
      headers: true,
      override,
    },
  },
  zod: { input, output: { target: "generated/orval/zod.ts", client: "zod" } },
};
