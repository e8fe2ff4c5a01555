// What the programs share: the database, the options, and how they listen and end.

import { createServer } from "node:http";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import { admin, bearer, jwt } from "better-auth/plugins";
import pg from "pg";

export const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL });

export const common = {
  emailAndPassword: { enabled: true },
  user: { deleteUser: { enabled: true } },
  // The cookie `session_data`, which outlives a sign-out.
  session: { cookieCache: { enabled: true } },
  plugins: [bearer(), jwt(), admin()],
  databaseHooks: {
    user: {
      create: {
        // The tests need somebody who may ban the others.
        before: async (user) =>
          user.email.startsWith("admin") ? { data: { ...user, role: "admin" } } : undefined,
      },
    },
  },
  rateLimit: { enabled: false },
  logger: { level: "error" },
  telemetry: { enabled: false },
};

/** Bring the tables that these options need, where they are missing. */
export async function migrate(options) {
  const { runMigrations } = await getMigrations(options);
  await runMigrations();
}

/**
 * Serve what `makeAuth(baseURL)` returns, on HOST and PORT, or on a free port of this machine; the
 * address is the only line on standard output. BASE_URL is the address behind a proxy.
 * Ends when standard input does, so that it never outlives its parent.
 */
export function serve(makeAuth) {
  const server = createServer();
  server.listen(Number(process.env.PORT ?? 0), process.env.HOST ?? "127.0.0.1", () => {
    const address = `http://127.0.0.1:${server.address().port}`;
    server.on("request", toNodeHandler(makeAuth(process.env.BASE_URL ?? address)));
    console.log(address);
  });
  process.stdin.resume().once("close", () => process.exit());
}
