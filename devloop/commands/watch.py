"""`devloop watch`: bring the cluster to the tree at every save."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

import anyio
import anyio.to_thread

from devloop import __version__
from devloop.clock import Clock
from devloop.commands.frame import Project, run
from devloop.commands.output import names_of, secrets_of, show
from devloop.commands.watch_tasks import pod_logs, states, tidy_up, watch_files
from devloop.config import load as configs
from devloop.errors import DevloopError
from devloop.events import Notice
from devloop.safety_net import FOLDER, Reports, SafetyNet
from devloop.sinks.fan import Fan
from devloop.trip.worker_pool import Companion, WorkerPool
from devloop.watch.rescan import Rescan
from devloop.wiring import opened


def watch(project: Project, names: Sequence[str], *, logs: bool, log_format: str) -> None:
    """Until a signal ends it. The options of the command line are applied to each new config.yaml too."""
    from devloop.sinks.journal import Journal
    from devloop.sinks.metrics import Metrics
    from devloop.sinks.status import StatusBoard
    from devloop.sinks.web import Web, open_listener

    config = project.config
    clock, secrets = Clock(), secrets_of(config, names)
    fan = Fan(secrets)
    host, port = config.metrics.address
    with ExitStack() as stack:
        listener = open_listener(host, port)
        stack.callback(listener.close)
        served = names_of(config, names)
        metrics = Metrics(__version__, served)
        board = StatusBoard(__version__, config.path, configs.project_id(config.path), served, clock.now())
        journal = stack.enter_context(Journal(configs.state_dir(config.path), clock))
        net = SafetyNet(Reports(configs.state_dir(config.path) / FOLDER, secrets), fan)
        fan.fell = net.sink_fell
        fan.sinks += [metrics, board, journal]
        web = Web(listener, host, metrics.render, board.answer)
        redraw = show(stack, fan, config, names, clock, log_format=log_format, machine=False, logs=logs)

        async def work() -> None:
            async with opened(
                config, project.kubeconfig, names, fan, clock, patient=True, report=net.error, whole=True
            ) as session:
                session.require_tools()
                fan(Notice("", "info", f"metrics on {web.url}/metrics"))
                rescan = Rescan(session.images.fingerprinter, clock)
                fan.sinks.append(rescan.note)
                companions: list[Companion] = [partial(states, session), rescan.follow]
                companions += [partial(pod_logs, session)] if logs else []
                pool = WorkerPool(session.world, session.hold, net, session.deployment.sharing, companions)
                async with anyio.create_task_group() as group:
                    keep = net.keeper(group)
                    keep("the web server", web.run)
                    for companion in redraw:
                        keep("the screen", companion)
                    for companion in session.images.companions:
                        keep("what makes the next trip shorter", companion)
                    keep("the removal of old images", tidy_up, session)
                    await group.start(watch_files, session, pool, project.override, secrets, net)
                    await pool.run(session.services)

        try:
            run(work)
        except DevloopError as error:
            error.conceal(secrets)  # it knows those of a config.yaml that was changed since
            raise
