// The frontend on port 3000: the page with the backend's tasks at /, the backend's own answers below /api/.
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");

const { page } = require("./page");

const PORT = Number(process.env.PORT || 3000);
const BACKEND = process.env.NEXT_PUBLIC_API_URL || "http://todo-chatbot-backend:8000";
const STYLE = fs.readFileSync(path.join(__dirname, "public", "style.css"));

async function ask(at) {
  const answer = await fetch(new URL(at, BACKEND), { signal: AbortSignal.timeout(2000) });
  if (!answer.ok) throw new Error(`${at}: ${answer.status}`);
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

async function answer({ method, url, headers }, response) {
  const { pathname } = new URL(url, "http://frontend");
  const send = (status, type, body) => response.writeHead(status, { "content-type": type }).end(body);
  if (method !== "GET") return send(405, "text/plain", "this page only reads\n");
  if (pathname.startsWith("/api/")) return send(200, "application/json", JSON.stringify(await ask(url)));
  if (pathname === "/style.css") return send(200, "text/css", STYLE);
  if (pathname !== "/") return send(404, "text/plain", "not found\n");
  // Asked every second, about this process alone: no reason to trouble the backend each time.
  if ((headers["user-agent"] || "").startsWith("kube-probe/")) return send(200, "text/plain", "ok\n");
  send(200, "text/html; charset=utf-8", page(await view(), os.hostname()));
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
