// Bundles GraphiQL and its three workers into dist/, the same bytes every time, and
// writes the licences of whatever went in.

import { build } from "esbuild";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(fileURLToPath(import.meta.url));
const dist = join(root, "dist");

// Some packages carry no licence text: it is taken from another of the same authors.
const licenceOf = {
  "@graphiql/plugin-doc-explorer": "@graphiql/react",
  "@graphiql/plugin-history": "@graphiql/react",
  "react-compiler-runtime": "react",
  "react-remove-scroll-bar": "react-remove-scroll",
};

const common = {
  absWorkingDir: root,
  outdir: "dist",
  bundle: true,
  charset: "utf8",
  define: { "process.env.NODE_ENV": '"production"' },
  legalComments: "none",
  logLevel: "warning",
  metafile: true,
  minify: true,
  target: ["chrome110", "firefox115", "safari16.4"],
};

rmSync(dist, { recursive: true, force: true });

const page = await build({
  ...common,
  entryPoints: { main: "src/main.jsx" },
  format: "esm",
  jsx: "automatic",
  loader: { ".graphql": "text", ".ttf": "dataurl", ".woff2": "dataurl" },
});

const workers = await build({
  ...common,
  entryPoints: {
    "editor.worker": "monaco-editor/esm/vs/editor/editor.worker.js",
    "graphql.worker": "monaco-graphql/esm/graphql.worker.js",
    "json.worker": "monaco-editor/esm/vs/language/json/json.worker.js",
  },
  format: "iife",
});

writeFileSync(join(dist, "LICENSES.txt"), licences([page, workers]));

function licences(results) {
  const folders = new Set(
    results
      .flatMap(({ metafile }) => Object.keys(metafile.inputs))
      .map((path) => path.match(/.*node_modules\/(?:@[^/]+\/)?[^/]+/)?.[0])
      .filter(Boolean),
  );
  const texts = [...folders].map(licence).sort();
  return [...new Set(texts)].join(`\n${"=".repeat(80)}\n\n`);
}

function licence(folder) {
  const about = JSON.parse(readFileSync(join(root, folder, "package.json"), "utf8"));
  const files = textsIn(folder);
  if (files.length === 0) files.push(...textsIn(join("node_modules", licenceOf[about.name])));
  const texts = files.map((path) => readFileSync(path, "utf8").replaceAll("\r\n", "\n").trim());
  return `${about.name} ${about.version} (${about.license})\n\n${texts.join("\n\n")}\n`;
}

function textsIn(folder) {
  const path = join(root, folder);
  return readdirSync(path)
    .filter((name) => /^(licen[cs]e|notice|third-?party-?notices)/i.test(name))
    .sort()
    .map((name) => join(path, name));
}
