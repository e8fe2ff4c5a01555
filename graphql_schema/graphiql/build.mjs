// Bundles GraphiQL and its three workers into dist/, the same bytes every time, writes the
// licences of whatever went in, and page.html with the names of the files. The names contain
// hashes of the contents. Beside each file stands the same compressed.

import { build } from "esbuild";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

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
  entryNames: "[name]-[hash]",
  legalComments: "none",
  logLevel: "warning",
  metafile: true,
  minify: true,
  target: ["chrome110", "firefox115", "safari16.4"],
};

// GraphiQL names an icon after the function that draws it, and minified functions have names
// like `gwt`. The names are passed as texts instead.
const iconNames = {
  name: "icon-names",
  setup({ onLoad }) {
    onLoad({ filter: /@graphiql\/react\/dist\/icons\/index\.js$/ }, ({ path }) => {
      const contents = readFileSync(path, "utf8")
        .replace(/\bgenerateIcon\((Svg\w+)\)/g, 'generateIcon($1, "$1")')
        .replace("function generateIcon(RawComponent) {", "function generateIcon(RawComponent, name) {")
        .replaceAll("RawComponent.name", "name");
      if (!contents.includes("const title = name.") || !contents.includes('(SvgPlay, "SvgPlay")'))
        throw new Error(`${path} does not name its icons as it did`);
      return { contents };
    });
  },
};

rmSync(dist, { recursive: true, force: true });

const workers = await build({
  ...common,
  entryPoints: {
    "editor.worker": "monaco-editor/esm/vs/editor/editor.worker.js",
    "graphql.worker": "monaco-graphql/esm/graphql.worker.js",
    "json.worker": "monaco-editor/esm/vs/language/json/json.worker.js",
  },
  format: "iife",
});

const page = await build({
  ...common,
  define: {
    ...common.define,
    WORKERS: JSON.stringify(Object.fromEntries(
      ["editor", "graphql", "json"].map((name) => [name, output([workers], `${name}.worker`, "js")]),
    )),
  },
  // The same parsers as modules: of CommonJS, a dynamic import has no named exports.
  alias: {
    "prettier/parser-babel": "prettier/plugins/babel",
    "prettier/parser-graphql": "prettier/plugins/graphql",
  },
  chunkNames: "chunk-[hash]",
  entryPoints: { main: "src/main.jsx" },
  format: "esm",
  jsx: "automatic",
  loader: { ".graphql": "text", ".ttf": "dataurl", ".woff2": "dataurl" },
  plugins: [iconNames],
  // What is imported dynamically is loaded when it is needed, such as the code formatter.
  splitting: true,
});

// All styles are in main.css; esbuild writes those of dynamic imports a second time.
for (const name of readdirSync(dist)) if (/^chunk-.*\.css$/.test(name)) rmSync(join(dist, name));

const html = readFileSync(join(root, "src", "page.html"), "utf8")
  .replace(/\bmain\.(css|js)\b/g, (_, type) => output([page], "main", type))
  .replace(/^( *)\{\{preloads\}\}\n/m, (_, indent) => preloads(indent));
writeFileSync(join(root, "page.html"), html);

writeFileSync(join(dist, "LICENSES.txt"), licences([page, workers]));

for (const name of readdirSync(dist).sort())
  writeFileSync(join(dist, `${name}.gz`), gzipSync(readFileSync(join(dist, name)), { level: 9 }));

/** The file that a bundle was written to. */
function output(results, name, type) {
  const paths = results.flatMap(({ metafile }) => Object.keys(metafile.outputs)).map((path) => basename(path));
  return paths.find((path) => path.startsWith(`${name}-`) && path.endsWith(`.${type}`));
}

/**
 * A link for each file that is needed for the first view. Without them, the browser would know
 * the editor's files only when the page's script runs.
 */
function preloads(indent) {
  const outputs = page.metafile.outputs;
  const names = new Set();
  const add = (path) => {
    if (names.has(path)) return;
    names.add(path);
    outputs[path].imports.filter(({ kind }) => kind === "import-statement").forEach(({ path }) => add(path));
  };
  const starts = /src\/main\.jsx$|monaco-graphql\/esm\/(monaco-editor|lite)\.js$/;
  for (const [path, { entryPoint }] of Object.entries(outputs))
    if (starts.test(entryPoint ?? "")) add(path);
  return [...names]
    .map((path) => `${indent}<link rel="modulepreload" href="{{assets}}/${basename(path)}">\n`)
    .sort()
    .join("");
}

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
