"""What a running `devloop watch` of the same config says of itself at /api/status."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from devloop.config.load import Config
from devloop.errors import PlatformError

Json = dict[str, Any]


def ask(config: Config) -> Json:
    """/api/status of the running watch of this config. Blocking. Raises PlatformError."""
    host, port = config.metrics.address
    host = f"[{host}]" if ":" in host else host
    direct = build_opener(ProxyHandler({}))  # it is on this machine, whatever the environment says
    try:
        with direct.open(f"http://{host}:{port}/api/status", timeout=2) as answer:
            told: Json = json.load(answer)
    except (URLError, OSError, ValueError) as error:
        raise PlatformError(
            f"the devloop that holds these services does not answer on {host}:{port}: {error}",
            reason="HeldByAnother",
            hint="is it another config? end it with Ctrl-C and call once again",
        ) from error
    if told.get("config") != str(config.path):
        raise PlatformError(
            f"{host}:{port} is served by a devloop of {told.get('config')}, not of {config.path}",
            reason="HeldByAnother",
            hint="write another port as metrics.listen in one of them",
        )
    return told
