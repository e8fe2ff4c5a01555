// A server that writes the layout `hashed`: table `user_sessions`, UUIDs for ids.

import { kyselyAdapter } from "@better-auth/kysely-adapter";
import { betterAuth } from "better-auth";
import { Kysely, PostgresDialect } from "kysely";
import { hashedSessions, session } from "./hashed_sessions.js";
import { common, migrate, pool, serve } from "./shared.js";

const kysely = new Kysely({ dialect: new PostgresDialect({ pool }) });
const adapter = kyselyAdapter(kysely, { type: "postgres", transaction: true });

const options = {
  ...common,
  session: { ...common.session, ...session },
  user: { ...common.user, modelName: "users" },
  advanced: { database: { generateId: "uuid" } },
  database: hashedSessions(
    adapter,
    process.env.SESSION_HASH_SECRET,
    process.env.OLD_SESSION_HASH_SECRET,
  ),
};

// better-auth migrates what it connects to itself, hence the database in another form.
await migrate({ ...options, database: { db: kysely, type: "postgres" } });
serve((baseURL) => betterAuth({ ...options, baseURL }));
