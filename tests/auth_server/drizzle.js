// A server whose tables Drizzle knows, and drizzle-kit may make.

import { betterAuth } from "better-auth";
import { drizzleAdapter } from "better-auth/adapters/drizzle";
import { drizzle } from "drizzle-orm/node-postgres";
import { getTableConfig } from "drizzle-orm/pg-core";
import * as schema from "./drizzle_schema.js";
import { common, pool, serve } from "./shared.js";

for (const table of Object.values(schema)) await pool.query(tableInSQL(table));
const database = drizzleAdapter(drizzle(pool), { provider: "pg", schema, usePlural: true });
serve((baseURL) => betterAuth({ ...common, database, baseURL }));

/** As drizzle-kit would write it, as far as this server needs it. */
function tableInSQL(table) {
  const { name, columns } = getTableConfig(table);
  const lines = columns.map((column) =>
    [
      `"${column.name}"`,
      column.getSQLType(),
      column.primary && "PRIMARY KEY",
      column.notNull && "NOT NULL",
      column.isUnique && "UNIQUE",
    ]
      .filter(Boolean)
      .join(" "),
  );
  return `CREATE TABLE IF NOT EXISTS "${name}" (${lines.join(", ")})`;
}
