// Every rule for schemas of @graphql-eslint, for graphql_schema/schema.graphql.

import graphql from "@graphql-eslint/eslint-plugin";

export default [
  {
    files: ["**/*.graphql"],
    plugins: { "@graphql-eslint": graphql },
    languageOptions: {
      parser: graphql.parser,
      parserOptions: { graphQLConfig: { schema: "graphql_schema/schema.graphql" } },
    },
    rules: {
      ...graphql.configs["flat/schema-all"].rules,
      // Fields stand in the order in which people read them: the id, what it is, then when.
      "@graphql-eslint/alphabetize": "off",
      // An id and the expected version are arguments beside `input`, as they are beside REST's body.
      "@graphql-eslint/input-name": "off",
      // Emptying the trash answers how many tasks were in it: there is no object to answer with.
      "@graphql-eslint/no-scalar-result-type-on-mutation": "off",
      // Tasks are written through GraphQL, and followed.
      "@graphql-eslint/no-root-type": "off",
      // A mutation returns the task itself; a query in it would hide a second read from the budget.
      "@graphql-eslint/require-field-of-type-query-in-mutation-result": "off",
      // A list and the viewer always exist: null would be a case that no client ever sees.
      "@graphql-eslint/require-nullable-result-in-root": "off",
      // These are parts of another object, not objects that a cache has to find again.
      "@graphql-eslint/strict-id-in-types": [
        "error",
        { exceptions: { types: ["PageInfo", "TaskChanges"], suffixes: ["Connection", "Edge", "Result"] } },
      ],
    },
  },
];
