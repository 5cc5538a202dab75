// The production bundle: the sources and the version they were built with, in dist/.
const fs = require("node:fs");
const path = require("node:path");

const root = path.resolve(__dirname, "..");
const out = path.join(root, "dist");
fs.rmSync(out, { recursive: true, force: true });
fs.cpSync(path.join(root, "src"), out, { recursive: true });
const version = fs.readFileSync(path.join(root, "version.txt"), "utf8").trim();
fs.writeFileSync(path.join(out, "build.json"), JSON.stringify({ version }));
console.log(`built dist for version ${version}`);
