// Writes the code of docs/clients.md into code/: every block whose first line names its file.

import { mkdir, readFile, rm, writeFile } from "node:fs/promises";

const document = await readFile("../../docs/clients.md", "utf8");
const blocks = document.matchAll(/^```\w+\n((?:\/\/|#) (\S+\.(?:tsx?|sh))\n.*?)^```$/gms);

await rm("recipes/code", { recursive: true, force: true });
// relay-compiler writes into this folder, which must exist.
await mkdir("recipes/code/__generated__", { recursive: true });
for (const [, code, name] of blocks) {
  await writeFile(`recipes/code/${name}`, code);
}
