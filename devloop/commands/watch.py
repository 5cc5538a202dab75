"""`devloop watch`: bring the cluster to the tree at every save."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from devloop import __version__
from devloop.adapters.watch.backend import local_backend
from devloop.checks.background import by_process
from devloop.clock import Clock
from devloop.commands.frame import Project, run
from devloop.commands.output import names_of, secrets_of, show
from devloop.commands.synced_pods import bake_all, take_over
from devloop.commands.watch_addresses import announced
from devloop.commands.watch_control import serve_requests
from devloop.commands.watch_memory import MemoryReturn
from devloop.commands.watch_tasks import Background, Commander, OnDisk, Outside, TidyUp, serve
from devloop.config import load as configs
from devloop.errors import DevloopError
from devloop.events import Notice
from devloop.fault_reports import FOLDER, Reports
from devloop.local_ports import holder
from devloop.safety_net import SafetyNet
from devloop.sinks.fan import Fan
from devloop.wiring import opened

if TYPE_CHECKING:
    from devloop.commands.watch_keys import Keys
    from devloop.config.load import Config
    from devloop.control.actions import Actions
    from devloop.sinks.console import Terminal
    from devloop.sinks.web import Web
    from devloop.wiring import Session


def watch(
    project: Project, names: Sequence[str], *, logs: bool, log_format: str, port: int | None = None
) -> None:
    """Until a signal ends it. The options of the command line are applied to each new config.yaml too.
    `port`: instead of that of metrics.listen."""
    from devloop.sinks.journal import Journal
    from devloop.sinks.metrics import Metrics
    from devloop.sinks.outages import Outages
    from devloop.sinks.status import StatusBoard

    config = project.config
    clock, secrets = Clock(), secrets_of(config, names)
    fan = Fan(secrets)
    with ExitStack() as stack:
        served = names_of(config, names)
        metrics = Metrics(__version__, served)
        board = StatusBoard(
            __version__, config.path, configs.project_id(config.path), served, clock.now(),
            config.cluster.context, config.cluster.namespace,
        )  # fmt: skip
        journal = stack.enter_context(Journal(configs.state_dir(config.path), clock))
        net = SafetyNet(Reports(configs.state_dir(config.path) / FOLDER, secrets), fan)
        fan.fell = net.sink_fell
        fan.sinks += [Outages(fan), metrics, board, journal]  # the outage first, then what failed by it
        wanted = config.metrics.address[1] if port is None else port
        web = stack.enter_context(_web(config, wanted, metrics.render, board.answer))
        shown = show(
            stack, fan, config, names, clock, log_format=log_format, machine=False, logs=logs, endless=True
        )

        on_disk = OnDisk()

        async def requests(session: Session, actions: Actions) -> None:
            await serve_requests(session, net, secrets, on_disk, lambda: board.problems, actions)

        async def work() -> None:
            async with opened(
                config,
                project.kubeconfig,
                names,
                fan,
                clock,
                patient=True,
                report=net.error,
                whole=True,
                stays=True,
            ) as session:
                session.require_tools()
                with session.held():  # one that is refused has nothing else to say
                    take_over(session)
                    fan(Notice("", "info", _metrics_line(web, wanted)))
                tidying, memory = TidyUp(session), MemoryReturn()
                background: list[Background] = [("the screen", one) for one in shown.companions]
                background += [("the web server", web.run)] if web else []
                background += [("the removal of old images", tidying.remove_after_trips)]
                background += [("the return of memory", memory.run)]
                outside = Outside(local_backend(), by_process(names))
                commanders: list[Commander] = [("the control socket", partial(requests, session))]
                try:
                    with anyio.CancelScope() as scope, _keys(shown.terminal, scope.cancel) as keys:
                        commanders += [("the keys", keys.run)] if keys else []
                        await serve(
                            session,
                            net,
                            project.override,
                            secrets,
                            outside,
                            logs=logs or keys is not None,  # a key may ask for them later
                            observers=[tidying, memory],
                            background=background,
                            commanders=commanders,
                            on_disk=on_disk,
                        )
                finally:
                    await bake_all(session)

        try:
            run(work)
        except DevloopError as error:
            error.conceal(secrets)  # it knows those of a config.yaml that was changed since
            raise


@contextmanager
def _web(
    config: Config, port: int, metrics: Callable[[], bytes], status: Callable[[], dict[str, Any]]
) -> Iterator[Web | None]:
    """The web server on its port, or on the next free one (metrics.strict); None where it is off."""
    from devloop.sinks.web import Web, listener_near, open_listener

    if not config.metrics.enabled:
        with announced(config, None):
            yield None
        return
    host, _ = config.metrics.address
    listen = open_listener if config.metrics.strict else listener_near
    with closing(listen(host, port)) as listener:
        web = Web(listener, host, metrics, status)
        with announced(config, web.url):
            yield web


@contextmanager
def _keys(terminal: Terminal | None, quit_: Callable[[], None]) -> Iterator[Keys | None]:
    """What is typed, where there is a terminal."""
    if terminal is None:
        yield None
        return
    from devloop.commands.watch_keys import keys_of

    with keys_of(terminal, quit_) as keys:
        yield keys


def _metrics_line(web: Web | None, wanted: int) -> str:
    if web is None:
        return "metrics are off (metrics.enabled)"
    if wanted in (0, web.port):
        return f"metrics on {web.url}/metrics"
    return f"port {wanted} is in use by {holder(wanted)}: metrics on {web.url}/metrics"
