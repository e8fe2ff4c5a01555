// A stock server: table `session`, plain tokens, text ids, gone when revoked.
// With SECONDARY_STORAGE it keeps a copy of every session elsewhere, as with Redis; with
// SECONDARY_STORAGE=preserve the row stays when the session ends.

import { betterAuth } from "better-auth";
import { common, migrate, pool, serve } from "./shared.js";
import { secondaryStorage } from "./secondary_storage.js";

const options = { ...common, database: pool };

if (process.env.SECONDARY_STORAGE) {
  options.secondaryStorage = secondaryStorage();
  options.session = {
    ...common.session,
    storeSessionInDatabase: true,
    preserveSessionInDatabase: process.env.SECONDARY_STORAGE === "preserve",
  };
}

await migrate(options);
serve((baseURL) => betterAuth({ ...options, baseURL }));
