// dist/ as `vite build` makes it: index.html and hashed assets, VITE_API_BASE_URL put in; and where nginx forwards to.
const { createHash } = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");

const root = path.resolve(__dirname, "..");
const dist = path.join(root, "dist");
const api = new URL(process.env.VITE_API_BASE_URL || "http://todo-chatbot-backend:8000");

fs.rmSync(dist, { recursive: true, force: true });
fs.mkdirSync(path.join(dist, "assets"), { recursive: true });
const app = fs.readFileSync(path.join(root, "src", "app.js"));
const asset = `assets/app.${createHash("sha256").update(app).digest("hex").slice(0, 8)}.js`;
fs.writeFileSync(path.join(dist, asset), app);
const page = fs.readFileSync(path.join(root, "index.html"), "utf8");
fs.writeFileSync(
  path.join(dist, "index.html"),
  page.replaceAll("%VITE_API_BASE_URL%", api.origin).replaceAll("%APP%", `/${asset}`),
);
fs.writeFileSync(path.join(dist, ".backend.conf"), `proxy_pass ${api.origin};\n`);
console.log(`built ${asset} for ${api.origin}`);
