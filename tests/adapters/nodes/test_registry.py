"""Images into a real registry: what travels, and who may."""

from __future__ import annotations

import base64
import datetime
import json
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID

from devloop.adapters.nodes.loader import ClusterLoader
from devloop.adapters.nodes.registry import RegistryRoute, RegistryStore
from devloop.adapters.nodes.registry_api import Registry as Client
from devloop.adapters.nodes.route_selection import RouteChoice
from devloop.errors import LoadError, PlatformError
from devloop.model import BuildSpec, Image, NodeFacts, Service
from tests.adapters.conftest import Bench, fingerprint
from tests.adapters.nodes.test_containerd import delta_of
from tests.support.registry import PASSWORD, USER, Registry

pytestmark = pytest.mark.engine


async def built(bench: Bench, registry: Registry, tiny: str, more: str = "", name: str = "app") -> Image:
    made = bench.service(f"FROM {tiny}\n{more}COPY file /file\n")
    spec = BuildSpec(made.build.context, made.build.dockerfile)
    bench.made.add(f"{registry.host}/team/{name}")
    service = Service(made.name, f"{registry.host}/team/{name}", spec, ())
    return await bench.builder().build(service, fingerprint())


async def loader(bench: Bench, registry: Registry, environment: dict[str, str]) -> ClusterLoader:
    prefix = f"{registry.host}/team"
    choice = RouteChoice(
        bench.engine, bench.digests, "far", "remote", "", environment, load="registry", registry=prefix
    )

    async def nodes() -> tuple[NodeFacts, ...]:
        return (NodeFacts("far", "amd64", "containerd://2.1"),)

    return ClusterLoader(bench.engine, bench.digests, nodes, choice, bench.events.append)


async def pulled(bench: Bench, image: Image) -> str:
    """The id that an engine gets which pulls the image again."""
    await bench.engine.remove(image.ref)
    name, _, tag = image.ref.rpartition(":")
    async for _ in bench.engine.pull(name, tag, "", ""):
        pass
    facts = await bench.engine.inspect(image.ref)
    assert facts is not None
    return facts.id


async def test_s2_a_pushed_image_is_pulled_with_the_same_config(
    bench: Bench, registry: Registry, tiny: str
) -> None:
    image = await built(bench, registry, tiny, "RUN echo x > /x\n")
    loaded = await (await loader(bench, registry, dict(os.environ))).load(image)
    assert loaded.how == "registry"
    assert loaded.sent > 1_000_000
    assert await pulled(bench, image) == image.id


async def test_only_missing_blobs_travel(bench: Bench, registry: Registry, tiny: str) -> None:
    wired = await loader(bench, registry, dict(os.environ))
    await wired.load(await built(bench, registry, tiny))
    second = await built(bench, registry, tiny, "RUN echo y > /y\n")
    loaded = await wired.load(second)
    assert loaded.sent < 50_000
    assert loaded.skipped > 1_000_000
    assert await pulled(bench, second) == second.id


async def test_another_repositorys_layers_are_mounted(bench: Bench, registry: Registry, tiny: str) -> None:
    wired = await loader(bench, registry, dict(os.environ))
    await wired.load(await built(bench, registry, tiny))
    other = await built(bench, registry, tiny, name="other")
    assert (await wired.load(other)).sent < 50_000
    assert await pulled(bench, other) == other.id


async def test_a_delta_is_pushed_without_any_engine(bench: Bench, registry: Registry, tiny: str) -> None:
    wired = await loader(bench, registry, dict(os.environ))
    parent = await built(bench, registry, tiny)
    await wired.load(parent)
    image = await delta_of(bench.engine, parent, "new", b"x")
    image = Image(
        image.service,
        image.fingerprint,
        f"{registry.host}/team/app:dl-{image.fingerprint.digest}",
        image.id,
        "delta",
        image.size,
        image.archive,
    )
    assert (await wired.load(image)).sent < 20_000
    assert await bench.engine.inspect(image.ref) is None
    assert await pulled(bench, image) == image.id


async def test_a_delta_whose_parent_was_never_pushed_is_sent_whole(
    bench: Bench, registry: Registry, tiny: str
) -> None:
    parent = await built(bench, registry, tiny)
    image = await delta_of(bench.engine, parent, "new", b"x")
    ref = f"{registry.host}/team/app:dl-{image.fingerprint.digest}"
    image = Image(image.service, image.fingerprint, ref, image.id, "delta", image.size, image.archive)
    assert (await (await loader(bench, registry, dict(os.environ))).load(image)).sent > 1_000_000
    assert await pulled(bench, image) == image.id


async def test_an_image_of_another_name_is_refused_with_what_to_write(
    bench: Bench, registry: Registry, tiny: str
) -> None:
    service = bench.service(f"FROM {tiny}\nCOPY file /file\n")
    image = await bench.builder().build(service, fingerprint())
    store = RegistryStore("x", Client(registry.host, {}))
    route = RegistryRoute(bench.engine, bench.digests, store, f"{registry.host}/team")
    with pytest.raises(LoadError) as caught:
        await route.send(image, route.stores, lambda done: None)
    assert f"image: {registry.host}/team/" in (caught.value.hint or "")


def home(tmp_path: Path, host: str) -> dict[str, str]:
    folder = tmp_path / "home" / ".docker"
    folder.mkdir(parents=True, exist_ok=True)
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": login}}}))
    return {**os.environ, "HOME": str(tmp_path / "home")}


async def test_basic_login_from_the_docker_config(
    bench: Bench, locked_registry: Registry, tiny: str, tmp_path: Path
) -> None:
    image = await built(bench, locked_registry, tiny)
    with pytest.raises(LoadError) as caught:
        await (await loader(bench, locked_registry, {**os.environ, "HOME": str(tmp_path)})).load(image)
    assert caught.value.hint == f"docker login {locked_registry.host}"
    assert PASSWORD not in str(caught.value)
    wired = await loader(bench, locked_registry, home(tmp_path, locked_registry.host))
    assert (await wired.load(image)).how == "registry"


async def test_a_registry_that_is_gone_is_a_platform_error(
    bench: Bench, registry: Registry, tiny: str
) -> None:
    image = await built(bench, registry, tiny)
    registry.__exit__(None, None, None)
    with pytest.raises(PlatformError) as caught:
        await (await loader(bench, registry, dict(os.environ))).load(image)
    assert caught.value.reason == "RegistryGone"


class Tokens:
    """A token service as registries have them: signs what a login may do."""

    def __init__(self, folder: Path) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens")])
        now = datetime.datetime.now(datetime.UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        self.bundle = folder / "tokens.pem"
        self.bundle.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {login}":
            return web.Response(status=401)
        _, repo, actions = request.query["scope"].split(":")
        self.asked.append(request.query["scope"])
        now = int(time.time())
        der = self.certificate.public_bytes(serialization.Encoding.DER)
        parts = [
            {"typ": "JWT", "alg": "RS256", "x5c": [base64.b64encode(der).decode()]},
            {
                "iss": "test",
                "aud": request.query["service"],
                "sub": USER,
                "exp": now + 300,
                "nbf": now - 10,
                "iat": now,
                "jti": "1",
                "access": [{"type": "repository", "name": repo, "actions": actions.split(",")}],
            },
        ]
        text = b".".join(_encoded(json.dumps(part).encode()) for part in parts)
        signature = _encoded(self.key.sign(text, padding.PKCS1v15(), hashes.SHA256()))
        return web.json_response({"token": (text + b"." + signature).decode()})


def _encoded(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


@pytest.fixture
async def token_registry(tmp_path: Path, registry_program: str) -> AsyncIterator[tuple[Registry, Tokens]]:
    folder = tmp_path / "token-registry"
    folder.mkdir()
    tokens = Tokens(folder)
    application = web.Application()
    application.router.add_get("/token", tokens.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    lines = (
        f"auth: {{token: {{realm: 'http://127.0.0.1:{port}/token', service: test-registry, issuer: test, "
        f"rootcertbundle: {tokens.bundle}}}}}"
    )
    with Registry(folder, registry_program, tokens=lines) as running:
        yield running, tokens
    await runner.cleanup()


async def test_bearer_token_for_each_repository(
    bench: Bench, token_registry: tuple[Registry, Tokens], tiny: str, tmp_path: Path
) -> None:
    registry, tokens = token_registry
    image = await built(bench, registry, tiny)
    loaded = await (await loader(bench, registry, home(tmp_path, registry.host))).load(image)
    assert loaded.sent > 1_000_000
    assert tokens.asked == ["repository:team/app:pull,push"]
    with pytest.raises(LoadError, match="HTTP 401"):
        await (await loader(bench, registry, {**os.environ, "HOME": str(tmp_path)})).load(image)
