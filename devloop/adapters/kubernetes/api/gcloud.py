"""The command of the legacy auth-provider `gcp`: the kubernetes package leaves one that hangs behind."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from devloop.adapters.process import run

MOST_OUTPUT = 1 << 20  # bytes; an answer has a few thousand


@dataclass(frozen=True, slots=True)
class GcloudAnswer:
    """By the names that the package reads."""

    token: str = field(repr=False)
    expiry: str


async def ask_gcloud(config: Mapping[str, Any]) -> GcloudAnswer:
    """Run `cmd-path` with `cmd-args`; it ends with whoever waits for it, children included.

    Raises ValueError for an answer without a token, PlatformError where there is no such command.
    """
    if not config.get("cmd-path") or "cmd-args" not in config:
        raise ValueError("there is neither an access-token nor cmd-path and cmd-args")
    argv = [str(config["cmd-path"]), *shlex.split(str(config["cmd-args"]))]
    finished = await run(argv, os.environ, most=MOST_OUTPUT)
    if finished.code != 0:
        raise ValueError(f"{argv[0]} ended with exit code {finished.code}")
    try:
        credential = json.loads(finished.out)["credential"]
        return GcloudAnswer(str(credential["access_token"]), str(credential["token_expiry"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"no credential in the answer of {argv[0]}") from error
