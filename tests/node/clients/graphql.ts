// GraphQL as a frontend calls it: types from graphql_schema/schema.graphql, and fetch. The
// errors are REST's, and so are their types.

import type { TypedDocumentString } from "./generated/graphql.js";
import type { Problem } from "./rest.js";

export interface GraphQLProblem {
  readonly message: string;
  readonly path?: readonly (string | number)[];
  readonly extensions: Problem & { readonly code: string };
}

export interface Answer<Result> {
  readonly data?: Result | null;
  readonly errors?: readonly GraphQLProblem[];
}

export const graphqlClient =
  (baseUrl: string, token: string) =>
  async <Result, Variables>(
    document: TypedDocumentString<Result, Variables>,
    variables: Variables,
  ): Promise<Answer<Result>> => {
    const response = await fetch(new URL("/graphql", baseUrl), {
      method: "POST",
      headers: {
        Accept: "application/graphql-response+json",
        Authorization: `Bearer ${token}`,
        "Content-Type": "application/json",
      },
      body: JSON.stringify({ query: document.toString(), variables }),
    });
    return (await response.json()) as Answer<Result>;
  };
