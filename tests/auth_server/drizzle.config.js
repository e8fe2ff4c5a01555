// Twofold has a schema of its own, and drizzle-kit looks at no other than this one.

import { defineConfig } from "drizzle-kit";

export default defineConfig({
  dialect: "postgresql",
  schema: "./drizzle_schema.js",
  dbCredentials: { url: process.env.DATABASE_URL },
  schemaFilter: ["public"],
});
