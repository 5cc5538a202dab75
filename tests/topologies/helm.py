"""Charts rendered, linted and installed by the Helm 4 library, in processes of its own."""

from __future__ import annotations

import atexit
import functools
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

# The library loads tens of megabytes and threads of its own: it ends with its process. A line in, a line out.
PROGRAM = """
import json, sys
import helm_python as helm

def act(asked):
    if asked["action"] == "render":
        with helm.Chart.load(asked["chart"]) as chart:
            chart.validate_schema(asked["values"])
            return chart.render(asked["values"], **asked["options"])
    if asked["action"] == "lint":
        return helm.lint(asked["chart"], asked["values"], strict=True)
    with helm.Config(kubeconfig_path=asked["kubeconfig"], namespace=asked["namespace"]) as config:
        if asked["action"] == "install":
            return config.install(asked["chart"], asked["name"], asked["values"], **asked["options"])
        return config.uninstall(asked["name"], wait="watcher", timeout=60)

for line in sys.stdin:
    try:
        result = act(json.loads(line))
    except helm.HelmError as error:
        result = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(result), flush=True)
"""
Object = dict[str, Any]


class RefusedError(Exception):
    """Helm refused; the text is its own."""


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Later layers over earlier ones, mapping by mapping, as Helm merges -f files."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            known = result.get(key)
            result[key] = (
                merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
            )
    return result


def nested(path: str, value: Any) -> dict[str, Any]:
    """{"a": {"b": value}} of "a.b", as --set a.b=value."""
    for key in reversed(path.split(".")):
        value = {key: value}
    result: dict[str, Any] = value
    return result


def values_of(
    chart: Path, files: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The chart's values files named, and over them what is given by path: {"a.b": 1}."""
    layers = [yaml.safe_load((chart / file).read_text()) for file in files]
    return merged(*layers, *(nested(path, value) for path, value in (given or {}).items()))


def render(
    chart: Path, values: Mapping[str, Any], *, name: str, namespace: str = "default"
) -> dict[str, str]:
    """Template path -> rendered text, after the values passed the chart's schema. Raises RefusedError."""
    options = {"name": name, "namespace": namespace}
    found: dict[str, str] = _call("render", chart, values, options=options)
    return found


def objects(rendered: Mapping[str, str]) -> dict[tuple[str, str], Object]:
    """(kind, name) -> object, of every rendered template."""
    found: dict[tuple[str, str], Object] = {}
    for path, text in rendered.items():
        if path.endswith("NOTES.txt"):
            continue
        for item in yaml.safe_load_all(text):
            if item:
                key = (item["kind"], item["metadata"]["name"])
                assert key not in found, f"{key} twice, the second time in {path}"
                found[key] = item
    return found


def lint(chart: Path, values: Mapping[str, Any]) -> list[str]:
    """What `helm lint --strict` says at warning level and above."""
    report = _call("lint", chart, values)
    return [f"{m['path']}: {m['error']}" for m in report["messages"] if m["severity"] >= 2]


def install(
    kubeconfig: Path, chart: Path, values: Mapping[str, Any], *, name: str, namespace: str, create: bool
) -> Any:
    """`helm install NAME CHART -n NAMESPACE [--create-namespace]`. Raises RefusedError."""
    options = {"namespace": namespace, "create_namespace": create}
    more = {"kubeconfig": str(kubeconfig), "namespace": namespace, "name": name}
    return _call("install", chart, values, options=options, **more)


def uninstall(kubeconfig: Path, *, name: str, namespace: str) -> None:
    """`helm uninstall NAME -n NAMESPACE --wait`. Raises RefusedError."""
    more = {"kubeconfig": str(kubeconfig), "namespace": namespace, "name": name}
    _call("uninstall", Path(), {}, **more)


def _call(action: str, chart: Path, values: Mapping[str, Any], **more: Any) -> Any:
    asked = json.dumps({"action": action, "chart": str(chart), "values": values, "options": {}, **more})
    if action in ("render", "lint"):
        answer = _asked(asked)
    else:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            input=asked,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        answer = done.stdout.splitlines()[-1]
    result = json.loads(answer)
    if isinstance(result, dict) and "error" in result:
        raise RefusedError(result["error"])
    return result


def _asked(line: str) -> str:
    worker = _worker()
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(line + "\n")
    worker.stdin.flush()
    answer = worker.stdout.readline()
    assert answer, f"the library's process ended: {worker.poll()}"
    return answer


@functools.cache
def _worker() -> subprocess.Popen[str]:
    """For what needs no cluster: one process for the test run."""
    worker = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(_end, worker)
    return worker


def _end(worker: subprocess.Popen[str]) -> None:
    worker.communicate(timeout=10)
