// REST as a frontend calls it: types from rest/openapi.json, and fetch.

import createClient from "openapi-fetch";

import type { components, paths } from "./generated/rest.js";

export type Task = components["schemas"]["Task"];
export type Problem = components["schemas"]["Problem"];

export const restClient = (baseUrl: string, token: string) =>
  createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
