"""The worker process that is Helm 4 as a library: one request as JSON on stdin, one answer on stdout.

`python -m devloop.adapters.helm.worker`. Only this module imports the library: it costs 57 MB and brings
threads of its own, so it ends with its process. Values come over stdin, never in an argv (S30).
"""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

Json = dict[str, Any]
TIMEOUT = 300  # seconds for hooks


def main() -> int:
    # A release that is half written is worse than one that is late: end with the work, not with Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    asked = json.load(sys.stdin)
    try:
        import helm_python as helm
    except ImportError as error:
        return _answer({"error": {"kind": "NoLibrary", "message": str(error)}})
    try:
        return _answer({"result": _act(helm, asked)})
    except helm.HelmError as error:
        return _answer({"error": {"kind": type(error).__name__, "message": str(error)}})


def _answer(value: Json) -> int:
    json.dump(value, sys.stdout)
    sys.stdout.flush()
    return 0


def _act(helm: Any, asked: Json) -> Any:
    name, namespace, values = asked.get("name"), asked["namespace"], asked.get("values")
    with helm.Config(kube_context=asked["context"], namespace=namespace) as config:
        match asked["action"]:
            case "render":
                with helm.Chart.load(asked["chart"]) as chart:
                    chart.validate_schema(values)
                    how = {"is_upgrade": True} if asked["upgrade"] else {"is_install": True}
                    found = config.render(chart, values, name=name, namespace=namespace, **how)
                texts = (
                    f"---\n# Source: {path}\n{text}"
                    for path, text in sorted(found.items())
                    if not path.endswith("NOTES.txt")
                )
                return "\n".join(texts)
            case "install" | "upgrade":
                act = config.install if asked["action"] == "install" else config.upgrade
                options = {"namespace": namespace, "timeout": TIMEOUT, "description": asked["note"]}
                if asked["action"] == "upgrade":
                    options |= {"max_history": 10, "reset_values": True}
                made = act(asked["chart"], name, values, **options)
                return {key: made.get(key) for key in ("revision", "status")}
            case "uninstall":
                config.uninstall(name, wait="watcher", timeout=TIMEOUT, ignore_not_found=True)
                return None
            case unknown:
                raise ValueError(unknown)


if __name__ == "__main__":
    sys.exit(main())
