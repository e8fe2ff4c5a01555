// How GraphiQL asks the server. Every answer ends up in the result pane, errors too.

import { Kind, OperationTypeNode, parse } from "graphql";
import { createClient } from "graphql-sse";

const accept = "application/graphql-response+json, application/json;q=0.9";

/** GraphiQL's fetcher for `endpoint`; `headers` go with the first introspection only. */
export function fetcherOf(endpoint, headers) {
  return async (request, options = {}) => {
    // GraphiQL introspects before its headers editor exists.
    const introspection = request.operationName === "IntrospectionQuery";
    const typed = options.headers ?? (introspection ? headers : undefined);
    const operation = operationOf(request);
    // Just after a change of tabs GraphiQL still names the operation of the tab before.
    const { operationName, ...unnamed } = request;
    const named = operation?.name?.value === operationName ? request : unnamed;

    if (operation?.operation === OperationTypeNode.SUBSCRIPTION) {
      return followed(endpoint, typed, named);
    }
    try {
      return await result(await fetch(endpoint, {
        method: "POST",
        headers: { Accept: accept, "Content-Type": "application/json", ...typed },
        body: JSON.stringify(named),
      }));
    } catch (error) {
      return failure(`No answer from ${endpoint}: ${error.message}`);
    }
  };
}

/** A subscription, as GraphiQL takes it: its results one after the other, until it is stopped. */
function followed(endpoint, headers, request) {
  const client = createClient({ url: endpoint, headers, retryAttempts: 0 });
  return {
    subscribe({ next, complete }) {
      const stop = client.subscribe(request, {
        next,
        complete,
        async error(error) {
          const { response } = error;
          next(response ? await result(response) : failure(`The stream broke: ${error.message}`));
          complete();
        },
      });
      return { unsubscribe: stop };
    },
  };
}

/** The operation of a document that has the name, or the only one. */
function operationOf({ query, operationName }) {
  try {
    const operations = parse(query).definitions.filter(
      ({ kind }) => kind === Kind.OPERATION_DEFINITION,
    );
    return operations.find(({ name }) => name?.value === operationName)
      ?? (operations.length === 1 ? operations[0] : undefined);
  } catch {
    return undefined;
  }
}

async function result(response) {
  const text = await response.text();
  try {
    return JSON.parse(text);
  } catch {
    return failure(`HTTP ${response.status}, and no JSON: ${text.slice(0, 500)}`);
  }
}

const failure = (message) => ({ errors: [{ message }] });
