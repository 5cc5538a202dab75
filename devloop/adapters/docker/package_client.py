"""The docker package's client of one engine, made from the endpoint alone.

The package's own constructor reads the user's docker configuration, fails where a login in it is not what the
package expects, and asks the engine through a proxy of the environment. No call here needs either.
Slow to import (the package): it is imported where it is used.
"""

from __future__ import annotations

import requests
import urllib3
from docker import APIClient, errors
from docker.auth import AuthConfig
from docker.constants import DEFAULT_USER_AGENT
from docker.transport import UnixHTTPAdapter
from docker.utils.proxy import ProxyConfig

from devloop.adapters.docker.connection import ANSWER_SECONDS, CHANGE_SECONDS
from devloop.adapters.docker.endpoint import Endpoint
from devloop.errors import PlatformError


class PackageClient(APIClient):
    """An APIClient that talks in the API version of the engine that answers now.

    Making it asks the engine for that version: blocking. Raises PlatformError (unreadable certificates, no
    Docker engine), requests.RequestException, OSError.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        requests.Session.__init__(self)  # not APIClient's: see above. What it would set follows.
        self.trust_env = False
        self.headers["User-Agent"] = DEFAULT_USER_AGENT
        self.timeout = int(CHANGE_SECONDS)
        self.credstore_env = None
        self._general_configs: dict[str, object] = {}
        self._proxy_configs = ProxyConfig.from_dict({})
        self._auth_configs = AuthConfig({})
        self._custom_adapter: UnixHTTPAdapter | None = None
        if endpoint.socket is not None:
            self._custom_adapter = UnixHTTPAdapter(f"http+unix://{endpoint.socket}", self.timeout)
            self.mount("http+docker://", self._custom_adapter)
            self.base_url = "http+docker://localhost"
        else:
            self.base_url = endpoint.url
        if endpoint.certs is not None:
            self._take_certificates(endpoint)
        try:
            self._version = self._ask_version(endpoint)
        except BaseException:
            self.close()
            raise

    def _take_certificates(self, endpoint: Endpoint) -> None:
        endpoint.tls()  # raises PlatformError where they cannot be read
        self.verify = str(endpoint.authority) if endpoint.verify else False
        if endpoint.pair is not None:
            certificate, key = map(str, endpoint.pair)
            self.cert = (certificate, key)
        if not endpoint.verify:  # the user asked for that; a warning per call would go through the console
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)

    def _ask_version(self, endpoint: Endpoint) -> str:
        """0.5 ms by /_ping, where /version takes 7: an engine runs its helpers for that.

        Not every engine tells it there: before 17.04 none did.
        """
        asked = "/_ping"
        try:
            version = self._answer(asked).headers.get("Api-Version", "")
            if not version:
                asked = "/version"
                version = str(self._answer(asked).json().get("ApiVersion") or "")
        except errors.APIError as error:  # not a refusal of the call that was to follow, whatever its code
            raise _strange(endpoint, f"GET {asked}: {error.explanation or error}") from error
        except (requests.exceptions.JSONDecodeError, AttributeError) as error:
            raise _strange(endpoint, f"GET {asked}: {error}") from error
        if not version:
            raise _strange(endpoint, f"GET {asked}: no API version in the answer")
        return version

    def _answer(self, path: str) -> requests.Response:
        answer = self.get(f"{self.base_url}{path}", timeout=ANSWER_SECONDS)
        self._raise_for_status(answer)  # type: ignore[attr-defined]
        return answer


def _strange(endpoint: Endpoint, what: str) -> PlatformError:
    return PlatformError(
        f"engine {endpoint.host} (from {endpoint.origin}): {what}",
        reason="BadAnswer",
        hint="does a Docker engine answer there? docker version",
    )
