// The page in the browser. It asks /api on its own origin; nginx forwards to the backend.
const get = async (path) => (await fetch(path)).json();

const [about, tasks] = await Promise.all([get("/api/version"), get("/api/tasks")]);
document.getElementById("greeting").textContent = about.greeting;
document.getElementById("tasks").replaceChildren(
  ...tasks.map((task) => Object.assign(document.createElement("li"), { textContent: task.title })),
);
