// The frontend on port 3000: the page with the backend's tasks, and what is below /api.
//   GET /             the page, rendered here
//   GET /api/health   this process alone: what the probes ask
//   GET /api/*        handed through to the backend
const http = require("node:http");
const os = require("node:os");

const { page } = require("./page");
const { version } = require("./build.json");

const PORT = Number(process.env.PORT || 3000);
const BACKEND = process.env.NEXT_PUBLIC_API_URL || "http://todo-chatbot-backend:8000";

async function ask(path) {
  const answer = await fetch(new URL(path, BACKEND), { signal: AbortSignal.timeout(2000) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function view() {
  try {
    const [about, tasks] = await Promise.all([ask("/api/version"), ask("/api/tasks")]);
    return { about, tasks, error: null };
  } catch (error) {
    return { about: null, tasks: [], error: `${BACKEND}: ${error.message}` };
  }
}

async function answer({ method, url }, response) {
  const { pathname } = new URL(url, "http://frontend");
  const json = (status, value) =>
    response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
  if (method !== "GET") return json(405, { detail: "this page only reads" });
  if (pathname === "/api/health") return json(200, { status: "ok", version });
  if (pathname.startsWith("/api/")) return json(200, await ask(url));
  if (pathname !== "/") return json(404, { detail: "not found" });
  response.writeHead(200, { "content-type": "text/html; charset=utf-8" });
  response.end(page(await view(), { version, pod: os.hostname() }));
}

const server = http.createServer((request, response) => {
  answer(request, response).catch((error) => {
    if (!response.headersSent) response.writeHead(502, { "content-type": "text/plain" });
    response.end(`${error.message}\n`);
  });
});
server.listen(PORT, "0.0.0.0", () => console.log(`frontend on :${PORT}, backend ${BACKEND}`));

// The kubelet's SIGTERM: finish what is under way, then go, so that a rollout is quick.
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
