// The one page, as a string. Edit the headline, save, and reload the browser.
const HEADLINE = "Todo";

const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escape = (text) => String(text ?? "").replace(/[&<>"']/g, (c) => ESCAPES[c]);

function row(task) {
  const next = task.completed ? "Reopen" : "Done";
  return `<li class="${task.completed ? "done" : ""}">
    <form method="post" action="/tasks/${task.id}/${task.completed ? "reopen" : "complete"}">
      <button class="check" title="${next}" aria-label="${next}: ${escape(task.title)}">${task.completed ? "✓" : ""}</button>
    </form>
    <div class="text"><strong>${escape(task.title)}</strong><span>${escape(task.description)}</span></div>
    <em class="${escape(task.priority)}">${escape(task.priority)}</em>
    <form method="post" action="/tasks/${task.id}/delete">
      <button class="delete" title="Delete" aria-label="Delete: ${escape(task.title)}">×</button>
    </form>
  </li>`;
}

// view: {version: {greeting, pod} | null, tasks: [...], error: string | null}
function page(view, { stylesheet, pod }) {
  const content = view.error
    ? `<p class="error">The backend does not answer: ${escape(view.error)}</p>`
    : `<ul>${view.tasks.map(row).join("")}</ul>
  <form class="add" method="post" action="/tasks">
    <input name="title" placeholder="What is to be done?" maxlength="200" required aria-label="Title">
    <select name="priority" aria-label="Priority">
      <option>low</option><option selected>medium</option><option>high</option>
    </select>
    <button>Add</button>
  </form>`;
  return `<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <meta name="viewport" content="width=device-width, initial-scale=1">
  <title>${escape(HEADLINE)}</title>
  <link rel="icon" href="/icon.svg">
  <link rel="stylesheet" href="${stylesheet}">
</head>
<body>
<main>
  <header><h1>${escape(HEADLINE)}</h1><p>${escape(view.version?.greeting)}</p></header>
  ${content}
  <footer>frontend <code>${escape(pod)}</code> · backend <code>${escape(view.version?.pod ?? "–")}</code></footer>
</main>
</body>
</html>
`;
}

module.exports = { page };
