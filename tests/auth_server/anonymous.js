// A stock server with anonymous visitors, whose tasks are given to the account they sign up for.

import { betterAuth } from "better-auth";
import { anonymous } from "better-auth/plugins";
import { reassign } from "./reassign.js";
import { reassignIn } from "./reassign_in_sql.js";
import { common, migrate, pool, serve } from "./shared.js";

const onLinkAccount = process.env.REASSIGN === "sql" ? reassignIn(pool) : reassign;
const plugins = [...common.plugins, anonymous({ onLinkAccount })];
const options = { ...common, plugins, database: pool };

await migrate(options);
serve((baseURL) => betterAuth({ ...options, baseURL }));
