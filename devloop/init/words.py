"""Names as words: what a folder, an image or an overlay is called, and what that says."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from functools import lru_cache

from devloop.image_refs import split

# Overlays, folders and values files for work on one's own machine, the best first.
NEAR = ("local", "minikube", "kind", "k3d", "dev", "development", "develop", "devel", "default")
FAR = (
    "prod",
    "production",
    "staging",
    "stage",
    "live",
    "preprod",
    "uat",
    "qa",
    "test",
    "testing",
    "ci",
    "release",
)
_GENERIC = frozenset(
    {"docker", "dockerfiles", "build", "deploy", "deployment", "src", "images", "image", "containers", "."}
)
# Images that people run and do not build.
WELL_KNOWN = frozenset(
    {
        "postgres",
        "postgresql",
        "mysql",
        "mariadb",
        "redis",
        "valkey",
        "mongo",
        "mongodb",
        "rabbitmq",
        "nginx",
        "httpd",
    }
    | {
        "traefik",
        "envoy",
        "busybox",
        "alpine",
        "debian",
        "ubuntu",
        "memcached",
        "kafka",
        "zookeeper",
        "nats",
        "minio",
    }
    | {
        "elasticsearch",
        "opensearch",
        "kibana",
        "grafana",
        "prometheus",
        "jaeger",
        "mailhog",
        "mailpit",
        "adminer",
    }
    | {
        "pgadmin4",
        "keycloak",
        "vault",
        "consul",
        "haproxy",
        "caddy",
        "localstack",
        "curl",
        "python",
        "node",
        "golang",
    }
)


@lru_cache(maxsize=100_000)
def words(text: str) -> tuple[str, ...]:
    """The words of a name in lower case, split at everything that is no letter or digit, and at camelCase."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return tuple(word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word)


@lru_cache(maxsize=100_000)
def slug(text: str) -> str:
    """A name that Kubernetes, Docker and config.yaml take: a-z, 0-9 and "-"."""
    return "-".join(words(text))[:50].strip("-") or "app"


def unique(name: str, taken: Collection[str]) -> str:
    """The name, or with a number if it is taken."""
    numbered = (f"{name}-{number}" for number in range(2, 10_000))
    return name if name not in taken else next(one for one in numbered if one not in taken)


@lru_cache(maxsize=100_000)
def basename(image: str) -> str:
    """ "api" of ghcr.io/team/api:1."""
    return split(image)[0].rpartition("/")[2]


def dockerfile_names(path: str, project: str) -> tuple[str, ...]:
    """What a Dockerfile may be the Dockerfile of, the best guess first."""
    folder, _, file = path.rpartition("/")
    own = variant(file)
    parts = [part for part in folder.split("/") if part]
    named = [part for part in reversed(parts) if part.lower() not in _GENERIC]
    found = [own] if own and not is_environment(own) else []
    found += [slug(named[0])] if named else []
    found += [slug(project)] if not found else []
    return tuple(dict.fromkeys(found))


def is_apart(path: str) -> bool:
    """Whether a Dockerfile lies in a folder of Dockerfiles, apart from what it builds."""
    return any(part.lower() in _GENERIC for part in path.split("/")[:-1])


def variant(file: str) -> str:
    """ "api" of Dockerfile.api and api.Dockerfile, "" of Dockerfile."""
    for pattern in (r"(?:Dockerfile|Containerfile)[.-](.+)", r"(.+)\.(?:[Dd]ockerfile|[Cc]ontainerfile)"):
        if match := re.fullmatch(pattern, file):
            return slug(match[1])
    return ""


def is_dockerfile(file: str) -> bool:
    if file.endswith((".dockerignore", ".md", "~", ".j2", ".tmpl", ".template", ".bak", ".orig")):
        return False
    return file in ("Dockerfile", "Containerfile", "dockerfile") or bool(variant(file))


def is_environment(name: str) -> bool:
    return any(word in NEAR or word in FAR for word in words(name))


def nearness(path: str) -> int:
    """How much a path looks like one for this machine: 0 best, 100 neutral, 200 for other places."""
    found = words(path)
    near = [NEAR.index(word) for word in found if word in NEAR]
    if near:
        return min(near)
    return 200 if any(word in FAR for word in found) else 100


def tcp_port(text: str) -> int | None:
    """The port of "8080" and "8080/tcp"; None for one of another protocol, and for what is none."""
    number, _, protocol = text.partition("/")
    port = int(number) if re.fullmatch(r"[0-9]{1,5}", number) else 0
    return port if 0 < port < 65536 and protocol.lower() in ("", "tcp") else None


def contains(longer: Sequence[str], shorter: Sequence[str]) -> bool:
    """Whether the words stand in the others, one after another."""
    size = len(shorter)
    return bool(size) and any(longer[at : at + size] == shorter for at in range(len(longer) - size + 1))
