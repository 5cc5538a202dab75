"""Who is Helm here: the library, or the user's command."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping

from devloop.adapters.helm.command import CommandRunner
from devloop.adapters.helm.runner import KubeTarget, Runner
from devloop.adapters.helm.sdk import SdkRunner
from devloop.errors import ConfigError


def choose(place: KubeTarget, environ: Mapping[str, str]) -> Runner:
    """The library where it is installed, else `helm` on PATH; DEVLOOP_HELM=sdk|PATH decides otherwise.

    Raises ConfigError where there is neither.
    """
    wish = environ.get("DEVLOOP_HELM", "")
    if wish != "sdk" and wish:
        return CommandRunner(wish, place, environ)
    if wish == "sdk" or importlib.util.find_spec("helm_python") is not None:
        return SdkRunner(place, environ)
    command = shutil.which("helm", path=environ.get("PATH"))
    if command is not None:
        return CommandRunner(command, place, environ)
    raise ConfigError(
        "releases: in config.yaml need Helm, and neither the library nor a helm command is there",
        reason="NoHelm",
        hint="pip install 'devloop[helm]', or install helm 3 or 4",
    )
