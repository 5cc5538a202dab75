"""kubectl as the judge of YAML: what it would send of a text, without any cluster."""

from __future__ import annotations

import json
import subprocess
from typing import Any

HEAD = "apiVersion: x.y/v1\nkind: Thing\nmetadata: {name: a}\n"


def sent(text: str) -> list[Any] | str:
    """The objects of a text as kubectl sends them, or what it has against the text."""
    done = subprocess.run(
        ("kubectl", "patch", "--local", "-f", "-", "--type", "merge", "-p", "{}", "-o", "json"),
        input=text.encode(), capture_output=True, check=False, timeout=60,
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "KUBECONFIG": "/dev/null"},
    )  # fmt: skip
    if done.returncode:
        return done.stderr.decode()
    decoder, found, rest = json.JSONDecoder(), [], done.stdout.decode().strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].strip()
    return found


def values(texts: list[str]) -> list[Any]:
    """What kubectl makes of each text as the value of `v`; AssertionError if it refuses one of them."""
    documents = sent("---\n".join(f"{HEAD}v: {text}\n" for text in texts))
    assert not isinstance(documents, str), documents
    assert len(documents) == len(texts)
    return [one.get("v") for one in documents]
