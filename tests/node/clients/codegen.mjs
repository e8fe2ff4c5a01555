// Types for the documents in this folder, from the committed SDL. Documents stay plain strings:
// a client needs nothing of graphql-js.

/** @type {import("@graphql-codegen/cli").CodegenConfig} */
export default {
  schema: "../../graphql_schema/schema.graphql",
  documents: "clients/*.ts",
  emitLegacyCommonJSImports: false,
  generates: {
    "clients/generated/": {
      preset: "client",
      presetConfig: { fragmentMasking: false },
      config: {
        avoidOptionals: { field: true },
        documentMode: "string",
        scalars: { DateTime: "string", Due: "string" },
        strictScalars: true,
        useTypeImports: true,
      },
    },
  },
};
