// Drizzle as its users write it: plural tables, snake_case columns, timestamps without a zone.

import { betterAuth } from "better-auth";
import { drizzleAdapter } from "better-auth/adapters/drizzle";
import { drizzle } from "drizzle-orm/node-postgres";
import { boolean, getTableConfig, pgTable, text, timestamp } from "drizzle-orm/pg-core";
import { common, pool, serve } from "./shared.js";

const users = pgTable("users", {
  id: text("id").primaryKey(),
  name: text("name").notNull(),
  email: text("email").notNull().unique(),
  emailVerified: boolean("email_verified").notNull(),
  image: text("image"),
  createdAt: timestamp("created_at").notNull(),
  updatedAt: timestamp("updated_at").notNull(),
  role: text("role"),
  banned: boolean("banned"),
  banReason: text("ban_reason"),
  banExpires: timestamp("ban_expires"),
});

const owner = () => text("user_id").notNull();

const sessions = pgTable("sessions", {
  id: text("id").primaryKey(),
  token: text("token").notNull().unique(),
  userId: owner(),
  expiresAt: timestamp("expires_at").notNull(),
  createdAt: timestamp("created_at").notNull(),
  updatedAt: timestamp("updated_at").notNull(),
  ipAddress: text("ip_address"),
  userAgent: text("user_agent"),
  impersonatedBy: text("impersonated_by"),
});

const accounts = pgTable("accounts", {
  id: text("id").primaryKey(),
  accountId: text("account_id").notNull(),
  providerId: text("provider_id").notNull(),
  userId: owner(),
  accessToken: text("access_token"),
  refreshToken: text("refresh_token"),
  idToken: text("id_token"),
  accessTokenExpiresAt: timestamp("access_token_expires_at"),
  refreshTokenExpiresAt: timestamp("refresh_token_expires_at"),
  scope: text("scope"),
  password: text("password"),
  createdAt: timestamp("created_at").notNull(),
  updatedAt: timestamp("updated_at").notNull(),
});

const verifications = pgTable("verifications", {
  id: text("id").primaryKey(),
  identifier: text("identifier").notNull(),
  value: text("value").notNull(),
  expiresAt: timestamp("expires_at").notNull(),
  createdAt: timestamp("created_at").notNull(),
  updatedAt: timestamp("updated_at").notNull(),
});

const jwkss = pgTable("jwkss", {
  id: text("id").primaryKey(),
  publicKey: text("public_key").notNull(),
  privateKey: text("private_key").notNull(),
  alg: text("alg"),
  crv: text("crv"),
  createdAt: timestamp("created_at").notNull(),
  expiresAt: timestamp("expires_at"),
});

const schema = { users, sessions, accounts, verifications, jwkss };

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
