"""The sandbox's one node: pods as containers on a Docker engine."""

from __future__ import annotations

from devloop_sandbox.node.node import Node

__all__ = ["Node"]
