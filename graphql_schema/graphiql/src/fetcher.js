// How GraphiQL asks the server. Every answer ends up in the result pane, errors too.

import { Kind, parse } from "graphql";

const accept = "application/graphql-response+json, application/json;q=0.9";

/** GraphiQL's fetcher for `endpoint`; `headers` go with the first introspection only. */
export function fetcherOf(endpoint, headers) {
  return async (request, options = {}) => {
    // GraphiQL introspects before its headers editor exists.
    const introspection = request.operationName === "IntrospectionQuery";
    const typed = options.headers ?? (introspection ? headers : undefined);

    let response;
    try {
      response = await fetch(endpoint, {
        method: "POST",
        headers: { Accept: accept, "Content-Type": "application/json", ...typed },
        body: JSON.stringify(withoutStaleName(request)),
      });
    } catch (error) {
      return failure(`No answer from ${endpoint}: ${error.message}`);
    }

    const text = await response.text();
    try {
      return JSON.parse(text);
    } catch {
      return failure(`HTTP ${response.status}, and no JSON: ${text.slice(0, 500)}`);
    }
  };
}

/** Just after a change of tabs GraphiQL still names the operation of the tab before. */
function withoutStaleName({ operationName, ...request }) {
  return defines(request.query, operationName) ? { ...request, operationName } : request;
}

function defines(query, operationName) {
  try {
    return parse(query).definitions.some(
      ({ kind, name }) => kind === Kind.OPERATION_DEFINITION && name?.value === operationName,
    );
  } catch {
    return false;
  }
}

const failure = (message) => ({ errors: [{ message }] });
