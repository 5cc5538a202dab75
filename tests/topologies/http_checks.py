"""How each of the five is asked from outside, and what of the backend's must come back."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

Kubectl = Callable[..., str]  # words -> standard output; raises if kubectl fails
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Check:
    """The frontend's Service, and texts that only the backend can have sent.

    `page` is in the answer to GET / (None: the page is put together in the browser), `greeting` is the JSON
    value at /api/version, which the frontend hands through; `task` is the title of the first of /api/tasks.
    """

    namespace: str
    service: str
    port: int
    greeting: str
    task: str
    node_port: bool = True
    rendered_by_frontend: bool = True


CHECKS = {
    "000-umbrella": Check(
        "default", "todo-frontend", 80, "Hello from the todo backend", "Edit backend/src/greeting.py"
    ),
    "001-root-context": Check(
        "todo-chatbot",
        "todo-chatbot-frontend",
        80,
        "Hello from the todo chatbot's backend",
        "Edit backend/greeting.py",
    ),
    "002-split-contexts": Check(
        "default",
        "todo-chatbot-frontend",
        80,
        "Hello from the backend behind nginx",
        "Edit src/backend/main.py",
        rendered_by_frontend=False,
    ),
    "003-stages-and-secrets": Check(
        "todo-chatbot",
        "todo-chatbot-frontend",
        3000,
        "Hello from the backend with a Secret made by hand",
        "Edit backend/main.py",
    ),
    "004-two-charts": Check(
        "todo-chatbot",
        "todo-frontend-service",
        3000,
        "Hello from the backend of the second chart",
        "Edit backend/main.py",
        node_port=False,
    ),
}


@contextmanager
def reached(check: Check, kubectl: Kubectl, forward: tuple[str, ...]) -> Iterator[str]:
    """The frontend's URL on this host: its NodePort, or a port forwarded through its Service.

    `forward` starts the kubectl command that forwards: ("kubectl", "--kubeconfig", PATH, ...).
    """
    if check.node_port:
        words = ("get", "service", check.service, "-n", check.namespace)
        port = kubectl(*words, "-o", "jsonpath={.spec.ports[0].nodePort}")
        yield f"http://127.0.0.1:{port.strip()}"
        return
    target = (f"service/{check.service}", f":{check.port}", "-n", check.namespace)
    process = subprocess.Popen(
        (*forward, "port-forward", *target), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert found, f"kubectl port-forward {target}: {line}{process.stdout.read()}"
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        process.terminate()
        process.wait(10)
        if process.stdout is not None:
            process.stdout.close()


def wait_for_backend_data(check: Check, url: str, *, greeting: str | None = None) -> dict[str, str]:
    """Ask until the frontend gives what the backend says (`greeting`: what an edit made of it).

    Returns /api/version. AssertionError with the last answers if that does not come about.
    """
    wanted = greeting or check.greeting
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            about = httpx.get(f"{url}/api/version", timeout=5)
            tasks = httpx.get(f"{url}/api/tasks", timeout=5)
            page = httpx.get(url, timeout=5)
            seen = [about.text, tasks.text, page.text]
            if about.status_code == tasks.status_code == page.status_code == 200:
                answer: dict[str, str] = about.json()
                titles = [task["title"] for task in tasks.json()]
                complete = answer["greeting"] == wanted and titles[0] == check.task
                if complete and (not check.rendered_by_frontend or check.task in page.text):
                    return answer
        except (httpx.TransportError, ValueError, KeyError, IndexError) as error:
            seen = [repr(error)]
        assert time.monotonic() < end, f"{url} does not give {wanted!r}; last: {seen}"
        time.sleep(0.1)
