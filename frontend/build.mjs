// Makes the page's three files: `node build.mjs FOLDER`, by default where the Python package looks for them.
import { build } from "esbuild";
import { copyFile, mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const folder = process.argv[2] ?? join(here, "..", "otel_profiling_distro", "page", "static");

await mkdir(folder, { recursive: true });
await build({
  entryPoints: { page: join(here, "src", "main.js") },
  outdir: folder,
  bundle: true,
  format: "esm",
  target: "es2022",
  // Not names: d3-flame-graph tells a node of d3-hierarchy by the name of its class.
  minifyWhitespace: true,
  minifySyntax: true,
  legalComments: "inline",
  logLevel: "warning",
});
await copyFile(join(here, "src", "index.html"), join(folder, "index.html"));
