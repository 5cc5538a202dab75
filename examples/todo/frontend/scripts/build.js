// Lays the application out as `next build` with output: "standalone" does:
// .next/standalone/ (the server and its modules), .next/static/ (hashed assets), public/ (as it is).
const { createHash } = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

const root = path.resolve(__dirname, "..");
const out = path.join(root, ".next");
const standalone = path.join(out, "standalone");
const statics = path.join(out, "static");

fs.rmSync(out, { recursive: true, force: true });
fs.mkdirSync(standalone, { recursive: true });
fs.mkdirSync(statics, { recursive: true });

const css = fs.readFileSync(path.join(root, "src", "style.css"));
const stylesheet = `style.${createHash("sha256").update(css).digest("hex").slice(0, 8)}.css`;
fs.writeFileSync(path.join(statics, stylesheet), css);

for (const file of ["server.js", "page.js", "backend.js"]) {
  fs.copyFileSync(path.join(root, "src", file), path.join(standalone, file));
}
const manifest = { stylesheet: `/_next/static/${stylesheet}` };
fs.writeFileSync(path.join(standalone, "build-manifest.json"), JSON.stringify(manifest));
console.log(`built ${path.relative(root, standalone)} and ${stylesheet}`);
