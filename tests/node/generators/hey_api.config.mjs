// Types, functions and zod schemas, from the committed OpenAPI document. The functions check what
// the service answers with the schemas; what is sent is left to the service, which says what is
// wrong with it.

/** @type {import("@hey-api/openapi-ts").UserConfig} */
export default {
  input: "../../rest/openapi.json",
  output: { path: "generators/generated/hey_api", importFileExtension: ".js" },
  plugins: [
    "@hey-api/client-fetch",
    "@hey-api/typescript",
    "zod",
    { name: "@hey-api/sdk", validator: { request: false, response: "zod" } },
  ],
};
