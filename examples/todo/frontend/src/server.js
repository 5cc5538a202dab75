// The todo frontend: one page rendered here with the backend's data, on port 3000.
//   GET /            the page; 200 also when the backend is down (it is the probe path, too)
//   POST /tasks...   the page's forms, then back to /
//   /api/*           handed through to the backend
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");

const backend = require("./backend");
const { page } = require("./page");
const { stylesheet } = require("./build-manifest.json");

const PORT = Number(process.env.PORT || 3000);
const BODY_LIMIT = 64 * 1024;
const CHANGES = { complete: { completed: true }, reopen: { completed: false } };
const TYPES = { ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8" };

// Read once: both folders are part of the image.
const files = new Map([
  ...folder("/_next/static/", path.join(__dirname, ".next", "static")),
  ...folder("/", path.join(__dirname, "public")),
]);

function folder(prefix, place) {
  const names = fs.existsSync(place) ? fs.readdirSync(place) : [];
  return names.map((name) => [
    prefix + name,
    { body: fs.readFileSync(path.join(place, name)), type: TYPES[path.extname(name)] },
  ]);
}

async function view() {
  try {
    const [version, tasks] = await Promise.all([
      backend.json("GET", "/api/version"),
      backend.json("GET", "/api/tasks"),
    ]);
    return { version, tasks, error: null };
  } catch (error) {
    return { version: null, tasks: [], error: `${backend.BACKEND_URL}: ${error.message}` };
  }
}

async function read(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > BODY_LIMIT) throw Object.assign(new Error("body too large"), { status: 413 });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

async function submit(pathname, request) {
  const form = new URLSearchParams((await read(request)).toString());
  const [, id, action] = pathname.match(/^\/tasks\/(\d+)\/(complete|reopen|delete)$/) || [];
  if (pathname === "/tasks") {
    await backend.json("POST", "/api/tasks", {
      title: form.get("title"),
      priority: form.get("priority") || "medium",
    });
  } else if (action === "delete") {
    await backend.json("DELETE", `/api/tasks/${id}`);
  } else if (action) {
    await backend.json("PATCH", `/api/tasks/${id}`, CHANGES[action]);
  } else {
    throw Object.assign(new Error("not found"), { status: 404 });
  }
}

async function answer(request, response) {
  const { pathname } = new URL(request.url, "http://frontend");
  if (pathname.startsWith("/api/")) {
    const body = await read(request);
    const type = request.headers["content-type"];
    const through = await backend.send(request.method, request.url, body, type ? { "content-type": type } : {});
    response.writeHead(through.status, { "content-type": through.headers["content-type"] || "text/plain" });
    response.end(through.body);
  } else if (request.method === "POST") {
    await submit(pathname, request);
    response.writeHead(303, { location: "/" }).end();
  } else if (pathname === "/" && (request.headers["user-agent"] || "").startsWith("kube-probe/")) {
    // Asked every second, about this process alone: no reason to trouble the backend each time.
    response.writeHead(200, { "content-type": "text/plain" }).end("ok\n");
  } else if (pathname === "/") {
    response.writeHead(200, { "content-type": "text/html; charset=utf-8" });
    response.end(page(await view(), { stylesheet, pod: os.hostname() }));
  } else if (files.has(pathname)) {
    const { body, type } = files.get(pathname);
    response.writeHead(200, { "content-type": type || "application/octet-stream" }).end(body);
  } else {
    response.writeHead(404, { "content-type": "text/plain" }).end("not found\n");
  }
}

const server = http.createServer((request, response) => {
  answer(request, response).catch((error) => {
    if (response.headersSent) return response.destroy();
    response.writeHead(error.status || 502, { "content-type": "text/plain; charset=utf-8" });
    response.end(`${error.message}\n`);
  });
});
server.listen(PORT, "0.0.0.0", () => console.log(`todo-frontend on :${PORT}, backend ${backend.BACKEND_URL}`));

// The kubelet's SIGTERM: finish what is under way, then go, so that a rollout is quick.
process.on("SIGTERM", () => {
  server.close(() => process.exit(0));
  server.closeIdleConnections();
});
