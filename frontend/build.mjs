// Makes the page's three files: `node build.mjs FOLDER`, by default where the Python package looks for them.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const folder = process.argv[2] ?? join(here, "..", "otel_profiling_distro", "page", "static");

const { outputFiles, metafile } = await build({
  absWorkingDir: here,
  entryPoints: { page: join("src", "main.js") },
  outdir: folder,
  bundle: true,
  format: "esm",
  target: "es2022",
  // Not names: d3-flame-graph tells a node of d3-hierarchy by the name of its class.
  minifyWhitespace: true,
  minifySyntax: true,
  metafile: true,
  write: false,
  logLevel: "error",
});

/** The licences of everything that is bundled ask to be with it, also in a page that somebody sends by mail. */
async function licences() {
  const names = new Set(Object.keys(metafile.inputs).flatMap((path) => path.match(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//)?.[1] ?? []));
  const byText = new Map();
  for (const name of [...names].sort()) {
    const text = (await readFile(join(here, "node_modules", name, "LICENSE"), "utf8")).trim();
    byText.set(text, [...(byText.get(text) ?? []), name]);
  }
  return [...byText].map(([text, all]) => `/*! ${all.join(", ")}\n\n${text.replaceAll("*/", "* /")}\n*/\n`).join("");
}

await mkdir(folder, { recursive: true });
for (const { path, text } of outputFiles) await writeFile(path, path.endsWith(".js") ? (await licences()) + text : text);
await copyFile(join(here, "src", "index.html"), join(folder, "index.html"));
