"""A Dockerfile as its document speaks of it: bases with the defaults put in, stages, COPY sources, RUNs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


def facts(path: Path) -> dict[str, Any]:
    """bases, stages, workdirs and runs have one entry per stage (one without a name is ""); copies are the
    sources of all stages, args those after the first FROM."""
    found: dict[str, Any] = {
        **{key: [] for key in ("bases", "stages", "workdirs", "runs", "copies")},
        "args": {},
    }
    defaults: dict[str, str] = {}
    text = re.sub(r"\\\n", " ", path.read_text())
    for line in text.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "ARG":
            key, _, value = rest.partition("=")
            (found["args"] if found["bases"] else defaults)[key] = value
        elif word == "FROM":
            base, _, name = rest.partition(" AS ")
            found["bases"].append(re.sub(r"\$\{(\w+)\}", lambda match: defaults[match[1]], base))
            found["stages"].append(name)
            found["workdirs"].append([])
            found["runs"].append([])
        elif word == "COPY":
            words = [part for part in rest.split() if not part.startswith("--")]
            found["copies"] += words[:-1]
        elif word == "WORKDIR":
            found["workdirs"][-1].append(rest)
        elif word == "RUN":
            found["runs"][-1].append(rest)
    return found


def local_bases(path: Path) -> set[str]:
    """The build arguments that stand for a base."""
    return set(re.findall(r"^FROM \$\{(\w+)\}", path.read_text(), re.MULTILINE))
