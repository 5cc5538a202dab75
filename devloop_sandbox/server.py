"""One process is the cluster: `python -m devloop_sandbox.server STATE_DIR` runs it until SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web

from devloop_sandbox import daemon, pki
from devloop_sandbox.admission.gate import Gate
from devloop_sandbox.api.http import ApiServer
from devloop_sandbox.controllers import manager
from devloop_sandbox.engine.client import EngineError
from devloop_sandbox.network import services
from devloop_sandbox.node.node import Node
from devloop_sandbox.objects.errors import ApiError
from devloop_sandbox.options import Options
from devloop_sandbox.store.store import Store

log = logging.getLogger("devloop_sandbox")


@asynccontextmanager
async def api_server(options: Options) -> AsyncIterator[tuple[Store, ApiServer]]:
    """The API alone, listening on loopback, its kubeconfig written; no node and no controllers."""
    state = options.state_dir
    token = pki.ensure_token(state)
    pki.ensure_certificates(state)
    gate = Gate(options)
    store = Store(state / "store.db", gate)
    _bootstrap(store)
    api = ApiServer(store, token, gate.warnings)
    runner = web.AppRunner(
        api.application(), handler_cancellation=True, shutdown_timeout=1.0, access_log=None
    )
    await runner.setup()
    try:
        api.port = await _listen(runner, options)
        pki.write_kubeconfig(state, options.name, api.port)
        yield store, api
    finally:
        await runner.cleanup()
        store.close()


async def serve(options: Options) -> None:
    """Serve until SIGTERM or SIGINT, then stop in order: requests, controllers, node, store."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with api_server(options) as (store, api):
        log.info("serving on https://127.0.0.1:%d", api.port)
        node = Node(store, options)
        api.kubelet = node
        parts = [
            asyncio.create_task(node.run(), name="node"),
            asyncio.create_task(manager.run_all(store, options), name="controllers"),
            asyncio.create_task(services.run(store, options), name="network"),
        ]
        waiting = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait([*parts, waiting], return_when=asyncio.FIRST_COMPLETED)
        for part in reversed([*parts, waiting]):
            part.cancel()
            with suppress(asyncio.CancelledError):
                await part
        for part in done - {waiting}:
            part.result()


async def _listen(runner: web.AppRunner, options: Options) -> int:
    """Bind the port of the last start if it is free, so that the kubeconfig stays good."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(options.state_dir / "server.crt", options.state_dir / "server.key")
    context.set_alpn_protocols(["http/1.1"])
    memory = options.state_dir / "port"
    last = int(memory.read_text()) if memory.exists() else 0
    wanted = [options.api_port] if options.api_port else [last, 0]
    for port in wanted:
        try:
            await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
            break
        except OSError as error:
            if port == wanted[-1]:
                text = (
                    f"127.0.0.1:{port}: {os.strerror(error.errno or 0)}; another --port, or 0 for a free one"
                )
                raise OSError(error.errno, text) from error
    bound: int = runner.addresses[-1][1]
    pki.write_private(memory, str(bound).encode())
    return bound


def _bootstrap(store: Store) -> None:
    """The namespaces that every cluster has."""
    for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
        if store.find("namespaces", "", name) is None:
            store.create("namespaces", {"metadata": {"name": name}})


def main() -> None:
    os.umask(0o077)
    options = Options.load((Path(sys.argv[1]) / "options.json").read_text())
    daemon.record_process(options.state_dir)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(options))
    except* (OSError, EngineError, ApiError) as group:
        for error in _leaves(group):
            traceback.print_exception(error)
            log.error("%s", getattr(error, "strerror", None) or error)
        raise SystemExit(1) from None


def _leaves(group: BaseExceptionGroup) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


if __name__ == "__main__":
    main()
