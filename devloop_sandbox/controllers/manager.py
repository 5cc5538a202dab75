"""The control loops that turn what is wanted into pods; `run_all` is their one task group."""

from __future__ import annotations

import asyncio

from devloop_sandbox.controllers.base import Controller
from devloop_sandbox.controllers.batch.cronjobs import CronJobs
from devloop_sandbox.controllers.batch.jobs import Jobs
from devloop_sandbox.controllers.deployment import Deployments
from devloop_sandbox.controllers.endpoints import Endpoints
from devloop_sandbox.controllers.garbage import EventExpiry, GarbageCollector
from devloop_sandbox.controllers.namespaces import Namespaces
from devloop_sandbox.controllers.replicaset import ReplicaSets
from devloop_sandbox.controllers.scheduler import Scheduler
from devloop_sandbox.controllers.statefulset import StatefulSets
from devloop_sandbox.options import Options
from devloop_sandbox.store.store import Store

KINDS: tuple[type[Controller], ...] = (
    Deployments,
    ReplicaSets,
    StatefulSets,
    Jobs,
    CronJobs,
    Scheduler,
    Endpoints,
    Namespaces,
    GarbageCollector,
    EventExpiry,
)


async def run_all(store: Store, options: Options) -> None:
    """Until cancelled. State is in the store alone, so a restart goes on where it was."""
    controllers = [kind(store, options) for kind in KINDS]
    async with asyncio.TaskGroup() as group:
        with store.subscribe() as events:
            for controller in controllers:
                group.create_task(controller.run())
                for key in controller.initial():
                    controller.add(key)
            async for event in events:
                for controller in controllers:
                    for key in controller.keys(event):
                        controller.add(key)
