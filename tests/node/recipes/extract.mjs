// Writes the code of a document of docs/ into a folder: every block whose first line names its file.

import { mkdir, readFile, rm, writeFile } from "node:fs/promises";

const [name, folder] = process.argv.slice(2);
const document = await readFile(`../../docs/${name}`, "utf8");
const blocks = document.matchAll(/^```\w+\n((?:\/\/|#) (\S+\.(?:tsx?|sh|py))\n.*?)^```$/gms);

await rm(folder, { recursive: true, force: true });
// relay-compiler writes into this folder, which must exist.
await mkdir(`${folder}/__generated__`, { recursive: true });
for (const [, code, file] of blocks) {
  await writeFile(`${folder}/${file}`, code);
}
