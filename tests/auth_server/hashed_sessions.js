// Sessions whose tokens the database never sees: the layout `hashed` of Twofold.

import { createHmac } from "node:crypto";
import { tryGetCurrentAuthEndpointContext } from "@better-auth/core/context";

/** What goes into betterAuth({ session }) with it. */
export const session = {
  modelName: "user_sessions",
  fields: {
    userId: "user_id",
    token: "token_hash",
    expiresAt: "expires_at",
    createdAt: "created_at",
    updatedAt: "updated_at",
    ipAddress: "ip_address",
    userAgent: "user_agent",
  },
  additionalFields: {
    revoked: { type: "boolean", defaultValue: false, input: false, returned: false },
  },
};

// A session that is listed has no token to show. This in its place names it in where clauses,
// so that /revoke-session and /revoke-other-sessions work. It opens nothing: better-auth takes
// a bearer token with a dot for a signed one, and nobody can sign it.
const HANDLE = "hashed.";

/**
 * Wrap any better-auth adapter: betterAuth({ database: hashedSessions(adapter, secret) }).
 * Sessions whose tokens were hashed with an old secret are found as well.
 */
export function hashedSessions(adapter, secret, ...oldSecrets) {
  const secrets = [secret, ...oldSecrets.filter(Boolean)];

  const hashes = (token) =>
    token.startsWith(HANDLE)
      ? [token.slice(HANDLE.length)]
      : secrets.map((each) => createHmac("sha256", each).update(token).digest("hex"));

  const named = (clause) => {
    const value = [clause.value].flat().flatMap(hashes);
    return value.length > 1 || clause.operator === "in"
      ? { ...clause, operator: "in", value }
      : { ...clause, value: value[0] };
  };

  const live = (where = []) => [
    ...where.map((clause) => (clause.field === "token" ? named(clause) : clause)),
    { field: "revoked", value: false },
  ];

  const hidden = (data) => ("token" in data ? { ...data, token: hashes(data.token)[0] } : data);

  /** A row as better-auth knows it: with the raw token, where this request has shown it. */
  const shown = (row, where = []) => {
    if (!row?.token) return row;
    const current = tryGetCurrentAuthEndpointContext()?.context.session?.session.token;
    const asked = where.filter(({ field }) => field === "token").flatMap(({ value }) => value);
    const raw = [current, ...asked].find((token) => token && hashes(token).includes(row.token));
    return { ...row, token: raw ?? HANDLE + row.token };
  };

  const wrap = (inner) => {
    const sessions = {
      create: async (query) => ({
        ...(await inner.create({ ...query, data: hidden(query.data) })),
        token: query.data.token,
      }),
      findOne: async (query) =>
        shown(await inner.findOne({ ...query, where: live(query.where) }), query.where),
      findMany: async (query) => {
        const rows = await inner.findMany({ ...query, where: live(query.where) });
        return rows.map((row) => shown(row, query.where));
      },
      count: (query) => inner.count({ ...query, where: live(query.where) }),
      update: async (query) => {
        const update = hidden(query.update);
        return shown(await inner.update({ ...query, where: live(query.where), update }), query.where);
      },
      updateMany: (query) =>
        inner.updateMany({ ...query, where: live(query.where), update: hidden(query.update) }),
      delete: (query) => sessions.deleteMany(query),
      deleteMany: ({ model, where }) =>
        inner.updateMany({ model, where: live(where), update: { revoked: true } }),
      consumeOne: () => {
        throw new Error("Sessions are revoked, never consumed.");
      },
    };
    const choose = ([name, call]) => [
      name,
      (query) => (query.model === "session" ? call(query) : inner[name](query)),
    ];
    return {
      ...inner,
      ...Object.fromEntries(Object.entries(sessions).map(choose)),
      transaction: (work) => inner.transaction((transaction) => work(wrap(transaction))),
    };
  };

  return (options) => wrap(adapter(options));
}
