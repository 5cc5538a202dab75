from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from devloop.adapters.kubernetes.api.access import Access, open_access
from devloop.adapters.kubernetes.api.answers import ApiRefusedError, ApiUnreachableError
from devloop.adapters.kubernetes.api.client import Client
from devloop.adapters.kubernetes.cluster import KubernetesCluster
from devloop.errors import PatchError, PlatformError
from devloop.events import Event
from tests.adapters.kubernetes.conftest import CONTEXT, open_cluster
from tests.support.faulty_proxy import Answer, Lose, Proxy, Swallow, through
from tests.support.kubernetes_objects import DEPLOYMENTS, Api, deployment


async def test_entering_opens_no_connection(api: Api, proxy: Proxy, shaky: KubernetesCluster) -> None:
    assert proxy.seen == []
    assert proxy.connections == 0
    await shaky.client.get("/api/v1/nodes")
    assert proxy.seen == ["GET /api/v1/nodes"]


async def test_connections_are_kept_warm(api: Api, proxy: Proxy, shaky: KubernetesCluster) -> None:
    for _ in range(5):
        await shaky.client.get("/api/v1/nodes")
    assert proxy.connections == 1


async def test_a_4xx_is_a_patch_error_with_the_status_message(cluster: KubernetesCluster) -> None:
    with pytest.raises(ApiRefusedError) as caught:
        await cluster.client.get(f"{DEPLOYMENTS}/none")
    assert isinstance(caught.value, PatchError)
    assert (caught.value.status, caught.value.reason) == (404, "NotFound")
    assert caught.value.message == 'deployments.apps "none" not found'


@pytest.mark.parametrize(
    "fault, reason, sent",
    [
        (Answer(500, message="etcd is gone"), "InternalError", True),
        (Answer(503, body=b"upstream down"), "Http503", True),
        (Answer(429, reason="TooManyRequests"), "TooManyRequests", False),
        (Answer(200, body=b"not json"), "BrokenAnswer", True),
        (Answer(200, body=b"[]"), "BrokenAnswer", True),
        (Lose(), "Unreachable", True),
        (Lose(keep=200), "Unreachable", True),
    ],
)
async def test_a_bad_answer_is_a_platform_error(
    api: Api, proxy: Proxy, shaky: KubernetesCluster, fault: Answer | Lose, reason: str, sent: bool
) -> None:
    proxy.on("POST", "/deployments", fault)
    with pytest.raises(ApiUnreachableError) as caught:
        await shaky.client.request("POST", DEPLOYMENTS, body=deployment())
    assert isinstance(caught.value, PlatformError)
    assert (caught.value.reason, caught.value.sent) == (reason, sent)
    assert CONTEXT in caught.value.message or shaky.client.access.server in caught.value.message or sent


async def test_a_server_that_is_not_there_was_surely_not_reached(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await proxy.refuse()
    with pytest.raises(ApiUnreachableError) as caught:
        await shaky.client.get("/api/v1/nodes")
    assert caught.value.sent is False
    assert CONTEXT in caught.value.message
    assert caught.value.hint


async def test_a_hanging_server_times_out(api: Api, proxy: Proxy, shaky: KubernetesCluster) -> None:
    proxy.on("GET", "/nodes", Swallow())
    with pytest.raises(ApiUnreachableError) as caught:
        await shaky.client.request("GET", "/api/v1/nodes", seconds=0.2)
    assert (caught.value.reason, caught.value.sent) == ("Timeout", True)


async def test_a_frozen_connection_is_cancelled_at_once(
    api: Api, proxy: Proxy, shaky: KubernetesCluster
) -> None:
    await shaky.client.get("/api/v1/nodes")
    proxy.freeze()
    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(shaky.client.get, "/api/v1/nodes")
            await proxy.wait_for("GET", "/nodes", count=2)
            group.cancel_scope.cancel()
    proxy.thaw()
    await shaky.client.get("/api/v1/nodes")


async def test_401_reads_the_kubeconfig_again(
    api: Api, proxy: Proxy, shaky: KubernetesCluster, tmp_path: Path
) -> None:
    good = through(api.kubeconfig, proxy, tmp_path / "through").read_text()
    stale = json.loads(good)
    stale["users"][0]["user"]["token"] = "of-yesterday"
    (tmp_path / "stale").write_text(json.dumps(stale))
    async with open_cluster(tmp_path / "stale", []) as cluster:
        (tmp_path / "stale").write_text(good)
        await cluster.client.get("/api/v1/nodes")


async def test_401_for_good_is_a_platform_error(api: Api, proxy: Proxy, tmp_path: Path) -> None:
    document = json.loads(through(api.kubeconfig, proxy, tmp_path / "through").read_text())
    document["users"][0]["user"]["token"] = "wrong"
    (tmp_path / "through").write_text(json.dumps(document))
    events: list[Event] = []
    async with open_cluster(tmp_path / "through", events) as cluster:
        with pytest.raises(PlatformError) as caught:
            await cluster.client.get("/api/v1/nodes")
    assert caught.value.reason == "Unauthorized"
    assert "wrong" not in str(caught.value.message)  # s30


async def test_s13_a_server_that_moved_is_found_at_the_next_request(
    api: Api, proxy: Proxy, shaky: KubernetesCluster, tmp_path: Path
) -> None:
    await proxy.refuse()
    await proxy.accept(0)
    through(api.kubeconfig, proxy, tmp_path / "through")
    await shaky.client.get("/api/v1/nodes")


async def test_renewing_happens_once_for_all_who_ask(api: Api) -> None:
    opened: list[Access] = []

    async def open_it(last: Access | None) -> Access:
        opened.append(await open_access([api.kubeconfig], CONTEXT, allow_remote=False, last=last))
        return opened[-1]

    async with Client(open_it) as client:
        stale = client.access
        document = json.loads(api.kubeconfig.read_text())
        document["users"][0]["user"]["token"] = "new"
        api.kubeconfig.write_text(json.dumps(document))
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(client.renew, stale)
        assert len(opened) == 2
        assert await client.renew(stale) is True
        assert await client.renew(client.access) is False


async def test_lines_may_be_of_any_length(api: Api, proxy: Proxy, shaky: KubernetesCluster) -> None:
    long = b"x" * 300_000
    proxy.on("GET", "/nodes", Answer(200, body=b"one\n" + long + b"\nlast"))
    async with shaky.client.lines("/api/v1/nodes", {}, silence=5) as lines:
        assert [line async for line in lines] == [b"one", long, b"last"]
