// Sessions in secondary storage alone: there is no session table.

import { betterAuth } from "better-auth";
import { secondaryStorage } from "./secondary_storage.js";
import { common, migrate, pool, serve } from "./shared.js";

const options = { ...common, database: pool, secondaryStorage: secondaryStorage() };

await migrate(options);
serve((baseURL) => betterAuth({ ...options, baseURL }));
