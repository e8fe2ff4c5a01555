// What a visitor has done stays theirs when they sign up: anonymous({ onLinkAccount: reassign }).

import { execFile } from "node:child_process";
import { promisify } from "node:util";

export async function reassign({ anonymousUser, newUser }) {
  const ids = [anonymousUser.user.id, newUser.user.id];
  // The same after they only verified an address.
  if (ids[0] !== ids[1]) await promisify(execFile)("twofold", ["reassign", "--", ...ids]);
}
