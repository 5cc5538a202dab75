// The frontend on port 3000: the page with the backend's tasks at /, the backend's own answers below /api/, /health.
const http = require("node:http");
const os = require("node:os");

const { page } = require("./page");

const PORT = 3000;
// With /api/ at its end: paths are relative to it.
const API = process.env.NEXT_PUBLIC_API_BASE_URL || "http://todo-backend-service:8000/api/";

async function ask(at) {
  const answer = await fetch(new URL(at, API), { signal: AbortSignal.timeout(2000) });
  if (!answer.ok) throw new Error(`${at}: ${answer.status}`);
  return answer.json();
}

async function view() {
  try {
    const [about, tasks] = await Promise.all([ask("version"), ask("tasks")]);
    return { about, tasks, error: null };
  } catch (error) {
    return { about: null, tasks: [], error: `${API}: ${error.message}` };
  }
}

async function answer({ method, url }, response) {
  const { pathname, search } = new URL(url, "http://frontend");
  const send = (status, type, body) => response.writeHead(status, { "content-type": type }).end(body);
  if (method !== "GET") return send(405, "text/plain", "this page only reads\n");
  if (pathname === "/health") return send(200, "application/json", JSON.stringify({ status: "ok" }));
  if (pathname.startsWith("/api/")) {
    return send(200, "application/json", JSON.stringify(await ask(`.${pathname.slice(4)}${search}`)));
  }
  if (pathname !== "/") return send(404, "text/plain", "not found\n");
  send(200, "text/html; charset=utf-8", page(await view(), os.hostname()));
}

const server = http.createServer((request, response) => {
  answer(request, response).catch((error) => {
    if (!response.headersSent) response.writeHead(502, { "content-type": "text/plain" });
    response.end(`${error.message}\n`);
  });
});
server.listen(PORT, "0.0.0.0", () => console.log(`frontend on :${PORT}, backend ${API}`));

// The kubelet's SIGTERM: finish what is under way, then go, so that a rollout is quick.
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
