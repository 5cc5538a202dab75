"""What a project would deploy, each object with its file and line: plain manifests, and what Helm renders."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import anyio
import anyio.to_thread

from devloop.adapters.helm.runner import KubeTarget, Runner
from devloop.adapters.kubernetes.kustomize import render
from devloop.checks.origin import from_file, from_release, from_text, shown
from devloop.checks.subject import Subject
from devloop.config.load import Config
from devloop.deploy.helm_values import base_values, with_images
from devloop.model import Release

NOWHERE = KubeTarget(
    (Path(os.devnull),), ""
)  # rendering asks no cluster: templates see none, as in `helm template`
STAND_IN = "dl-0000000000000000"  # for a tag that is not known: rules ask for its form alone


async def of_manifest(path: Path, config: Config) -> list[Subject]:
    """Of a file, or of the folder of a kustomization. Raises ConfigError, PlatformError."""
    namespace = config.cluster.namespace
    if await anyio.Path(path).is_dir():
        return from_text(await render(path), shown(path, config.root), namespace)
    return await anyio.to_thread.run_sync(from_file, path, config.root, namespace)


async def of_release(runner: Runner, release: Release, refs: Mapping[str, str], root: Path) -> list[Subject]:
    """`refs`: service -> the reference that its values get.

    Raises ConfigError, ReleaseError, PlatformError.
    """
    values = await anyio.to_thread.run_sync(base_values, release, os.environ)
    values = await anyio.to_thread.run_sync(with_images, release, values, refs)
    manifest = await runner.render(release, values, upgrade=False)
    return await anyio.to_thread.run_sync(from_release, release, manifest, root)
