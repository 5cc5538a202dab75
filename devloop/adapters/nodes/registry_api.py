"""One registry's HTTP API: blobs, manifests, tags and the logins to it."""

from __future__ import annotations

import base64
import io
import ipaddress
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode, urljoin, urlsplit

import aiohttp
import anyio.to_thread
from aiohttp.http_exceptions import HttpProcessingError

from devloop.adapters.archive import oci_layout as oci
from devloop.adapters.docker.bases import credentials
from devloop.adapters.docker.connection import PIECE
from devloop.adapters.nodes.images import project_in
from devloop.borders import LOGINS, REGISTRY_ANSWER, cause_of
from devloop.errors import LoadError, PlatformError

Body = AsyncIterator[bytes] | bytes
_MANIFESTS = f"{oci.MANIFEST}, application/vnd.docker.distribution.manifest.v2+json"
_FIELD = re.compile(r'(\w+)="([^"]*)"')
_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=10, sock_read=60)


@dataclass(frozen=True, slots=True)
class Answer:
    """A registry's answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Registry:
    """One registry's HTTP API, with the user's docker credentials: basic, or a bearer token (S30).

    Any method raises PlatformError if it does not answer and LoadError if it refuses.
    """

    def __init__(self, host: str, environment: Mapping[str, str]) -> None:
        self._host = host
        self._environment = environment
        self._url = f"{'http' if _is_loopback(host) else 'https'}://{host}"
        self._session: aiohttp.ClientSession | None = None
        self._authorization: dict[str, str] = {}  # by repository
        self._projects: dict[str, str] = {}  # by config digest
        self.is_local = _is_loopback(host)
        self.deletes = True  # until it refuses

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def config_of(self, repo: str, tag: str) -> str | None:
        """The config digest of a tag, None if there is no such image of one platform."""
        answer = await self._call(
            "GET", repo, f"manifests/{tag}", headers={"Accept": _MANIFESTS}, ok=(200, 404)
        )
        if answer.status == 404:
            return None
        try:
            return str(json.loads(answer.body)["config"]["digest"])
        except (ValueError, KeyError, TypeError):
            return None

    async def tags(self, repo: str) -> Sequence[str]:
        """The tags of a repository, () if there is none such."""
        answer = await self._call("GET", repo, "tags/list", ok=(200, 404))
        try:
            return tuple(map(str, json.loads(answer.body).get("tags") or ()))
        except (ValueError, AttributeError):
            return ()

    async def project_of(self, repo: str, config: str) -> str:
        """The project that an image's config names, "" if none. Each is read once."""
        if config not in self._projects:
            answer = await self._call("GET", repo, f"blobs/{config}", ok=(200, 404))
            try:
                self._projects[config] = project_in(json.loads(answer.body))
            except ValueError:
                self._projects[config] = ""
        return self._projects[config]

    async def delete(self, repo: str, tag: str) -> bool:
        """Take a tag's manifest away, with all other tags of it. False where the registry deletes nothing."""
        found = await self._call(
            "GET", repo, f"manifests/{tag}", headers={"Accept": _MANIFESTS}, ok=(200, 404)
        )
        if found.status == 404:
            return False
        answer = await self._call(
            "DELETE", repo, f"manifests/{oci.sha256(found.body)}", ok=(200, 202, 400, 403, 404, 405)
        )
        self.deletes = answer.status not in (400, 403, 405)
        return answer.status in (200, 202)

    async def has(self, repo: str, digest: str) -> bool:
        return (await self._call("HEAD", repo, f"blobs/{digest}", ok=(200, 404))).status == 200

    async def mount(self, repo: str, digest: str, other: str) -> bool:
        """Take a blob over from another repository of the same registry."""
        query = urlencode({"mount": digest, "from": other})
        return (await self._call("POST", repo, f"blobs/uploads/?{query}", ok=(201, 202))).status == 201

    async def upload(self, repo: str, digest: str, size: int, body: Body) -> None:
        begun = await self._call("POST", repo, "blobs/uploads/", ok=(202,))
        with REGISTRY_ANSWER(f"registry {self._host}: the upload location"):
            where = urljoin(self._url, begun.headers.get("Location", ""))
        where += ("&" if urlsplit(where).query else "?") + urlencode({"digest": digest})
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        await self._call("PUT", repo, where, body=body, headers=headers, ok=(201,))

    async def put_manifest(self, repo: str, tag: str, described: bytes) -> None:
        headers = {"Content-Type": oci.MANIFEST}
        await self._call("PUT", repo, f"manifests/{tag}", body=described, headers=headers, ok=(201,))

    # --- HTTP -----------------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        repo: str,
        path: str,
        *,
        ok: tuple[int, ...],
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        url = path if "://" in path else f"{self._url}/v2/{repo}/{path}"
        try:
            answer = await self._send(method, repo, url, body, headers)
            if answer.status == 401 and not isinstance(body, AsyncIterator):
                await self._log_in(repo, answer.headers.get("WWW-Authenticate", ""))
                answer = await self._send(method, repo, url, body, headers)
        except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError) as error:
            raise PlatformError(
                f"registry {self._host}: {method} {repo}: {cause_of(error)}",
                reason="RegistryGone",
                hint=f"is it running, and is {self._url} its address from here?",
                outage=f"registry {self._host}",
            ) from error
        if answer.status not in ok:
            raise self._refusal(method, repo, answer)
        return answer

    async def _send(
        self, method: str, repo: str, url: str, body: Body | None, headers: Mapping[str, str] | None
    ) -> Answer:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT, trust_env=True)
        sent = dict(headers or {})
        if repo in self._authorization and url.startswith(self._url):
            sent["Authorization"] = self._authorization[repo]
        data = io.BytesIO(body) if isinstance(body, bytes) and len(body) > PIECE else body
        async with self._session.request(method, url, data=data, headers=sent) as response:
            return Answer(response.status, dict(response.headers), await response.read())

    async def _log_in(self, repo: str, challenge: str) -> None:
        """Answer a 401: with the user's login, or with a token that the realm gives for it."""
        scheme, _, rest = challenge.partition(" ")
        fields = dict(_FIELD.findall(rest))
        login = await self._login(repo)
        if scheme.lower() != "bearer":
            if login:
                self._authorization[repo] = f"Basic {login}"
            return
        assert self._session is not None
        query = {"service": fields.get("service", ""), "scope": f"repository:{repo}:pull,push"}
        headers = {"Authorization": f"Basic {login}"} if login else {}
        async with self._session.get(fields.get("realm", ""), params=query, headers=headers) as response:
            if response.status == 200:
                with REGISTRY_ANSWER(f"registry {self._host}: the token for {repo}"):
                    granted = await response.json(content_type=None)
                    self._authorization[repo] = (
                        f"Bearer {granted.get('token') or granted.get('access_token')}"
                    )

    async def _login(self, repo: str) -> str:
        """user:password in base64, "" if the user has none for this registry."""
        header = await anyio.to_thread.run_sync(credentials, f"{self._host}/{repo}", self._environment)
        if not header:
            return ""
        with LOGINS(f"the login of registry {self._host}"):
            known = json.loads(base64.urlsafe_b64decode(header))
            user, password = (
                known.get("username") or "",
                known.get("password") or known.get("identitytoken") or "",
            )
        return base64.b64encode(f"{user}:{password}".encode()).decode() if user else ""

    def _refusal(self, method: str, repo: str, answer: Answer) -> LoadError:
        try:
            message = "; ".join(str(error["message"]) for error in json.loads(answer.body)["errors"])
        except (ValueError, KeyError, TypeError, RecursionError):
            message = answer.body.decode(errors="replace")[:200]
        denied = answer.status in (401, 403)
        return LoadError(
            f"registry {self._host}: {method} {repo}: HTTP {answer.status} {message}".rstrip(),
            reason="RegistryDenied" if denied else "RegistryRefused",
            hint=f"docker login {self._host}" if denied else None,
        )


def _is_loopback(host: str) -> bool:
    """Whether Docker, too, would speak plain HTTP to a registry."""
    name = host.rpartition(":")[0] or host
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
