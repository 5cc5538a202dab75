// Calls to the todo backend; the base URL comes from the ConfigMap todo-frontend-config.
const http = require("node:http");

const BACKEND_URL = process.env.BACKEND_URL || "http://todo-backend:8001";
const TIMEOUT_MS = 2000;

// One request; resolves to {status, headers, body: Buffer}, rejects if the backend is not reachable.
function send(method, path, body = undefined, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = http.request(
      new URL(path, BACKEND_URL),
      { method, headers: { accept: "application/json", ...headers }, timeout: TIMEOUT_MS },
      (response) => {
        const chunks = [];
        response.on("data", (chunk) => chunks.push(chunk));
        response.on("error", reject);
        response.on("end", () =>
          resolve({
            status: response.statusCode,
            headers: response.headers,
            body: Buffer.concat(chunks),
          }),
        );
      },
    );
    request.on("timeout", () => request.destroy(new Error(`no answer in ${TIMEOUT_MS} ms`)));
    request.on("error", reject);
    request.end(body);
  });
}

async function json(method, path, value = undefined) {
  const body = value === undefined ? undefined : JSON.stringify(value);
  const headers = body === undefined ? {} : { "content-type": "application/json" };
  const answer = await send(method, path, body, headers);
  if (answer.status >= 400) {
    throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`);
  }
  return answer.body.length ? JSON.parse(answer.body) : null;
}

module.exports = { BACKEND_URL, send, json };
