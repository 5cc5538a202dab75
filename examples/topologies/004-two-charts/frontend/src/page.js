// The one page, as a string.
const NAME = process.env.NEXT_PUBLIC_APP_NAME || "Todo Chatbot";
const THEMES = { "sky-blue": "#e0f2fe", plain: "#ffffff" };
const GROUND = THEMES[process.env.NEXT_PUBLIC_DEFAULT_THEME] || THEMES.plain;

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text) => String(text ?? "").replace(/[&<>"']/g, (c) => ESCAPES[c]);

// view: {about: {greeting, pod} | null, tasks: [{title}], error: string | null}
function page(view, pod) {
  const rows = view.tasks.map((task) => `<li>${escape(task.title)}</li>`);
  return `<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>${escape(NAME)}</title></head>
<body style="background: ${GROUND}">
<h1>${escape(NAME)}</h1>
<p>${escape(view.error ? `The backend does not answer: ${view.error}` : view.about.greeting)}</p>
<ul>${rows.join("")}</ul>
<footer>frontend ${escape(pod)}, backend ${escape(view.about?.pod ?? "–")}</footer>
</body>
</html>
`;
}

module.exports = { page };
