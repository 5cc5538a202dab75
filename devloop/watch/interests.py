"""What each service, config.yaml and the manifests want to hear of: the watcher's input."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from fnmatch import translate
from pathlib import Path

from devloop.config.load import Config
from devloop.deploy.helm_values import IGNORED
from devloop.deploy.kustomization import sources
from devloop.dockerfile.dockerignore import NO_RULES, IgnoreRules, candidates
from devloop.errors import FingerprintError
from devloop.files import is_folder, read_bytes
from devloop.model import Service
from devloop.watch.plan import Interest, nothing

# Interests of no service; no service can have such a name.
CONFIG = ":config"
MANIFESTS = ":manifests"
RELEASES = ":releases"

Stamp = tuple[int, int, int] | None


def service_interest(
    service: Service, concerns: Callable[[Path], bool], counts: Callable[[Path], bool] = lambda path: True
) -> Interest:
    """The context without what its ignore file shuts out, the Dockerfile, and the ignore file itself.

    `concerns` says whether a path below the context can change the image, `counts` whether it is an
    input of the image that is known.
    """
    build = service.build
    ignore_files = candidates(build.context, build.dockerfile)
    files = frozenset({build.dockerfile, *ignore_files})
    enters = _Enters(build.context, ignore_files)
    return Interest(service.name, (build.context,), files, concerns, enters, counts=counts)


def config_interest(config: Config) -> Interest:
    """config.yaml itself, under the name CONFIG (S28)."""
    return Interest(CONFIG, (), frozenset({config.path}), nothing, nothing)


def manifest_interest(config: Config) -> Interest:
    """What the `manifests` globs match, also files that are yet to come, and every local file that a
    kustomization reads, under the name MANIFESTS."""
    patterns = [os.path.normpath(config.root / pattern) for pattern in config.manifests]
    matches = [_expression(pattern) for pattern in patterns]
    folders = {_fixed_part(pattern): "**" in pattern for pattern in patterns if _is_glob(pattern)}

    def concerns(path: Path) -> bool:
        return any(match.fullmatch(str(path)) for match in matches)

    def enters(folder: Path) -> bool:
        """Folders that a glob names, or any below a `**`."""
        depth = len(folder.parts)
        return any(
            folder.is_relative_to(fixed) and ("**" in pattern or depth < len(Path(pattern).parts))
            for fixed, pattern in ((_fixed_part(pattern), pattern) for pattern in patterns)
        )

    expressions = [_expression(part) for pattern in patterns for part in _followed_parts(pattern)]
    single = [Path(pattern) for pattern in patterns if not _is_glob(pattern)]
    read = (file for path in single if is_folder(path) for file in sources(path))
    files = frozenset((*(path for path in single if not is_folder(path)), *read))
    return Interest(
        MANIFESTS,
        tuple(folders),
        files,
        concerns,
        enters,
        follows=lambda link: any(expression.fullmatch(str(link)) for expression in expressions),
    )


def release_interest(config: Config) -> Interest:
    """Every chart's folder and every values file, under the name RELEASES (S22)."""
    releases = config.releases()
    charts = tuple(dict.fromkeys(release.chart for release in releases))
    files = frozenset(file.path for release in releases for file in release.values)

    def concerns(path: Path) -> bool:
        return any(
            path.is_relative_to(chart) and not IGNORED.search(path.relative_to(chart).as_posix())
            for chart in charts
        )

    def enters(folder: Path) -> bool:
        return folder.name != ".git"

    return Interest(RELEASES, charts, files, concerns, enters, follows=enters)  # as Helm does


class _Enters:
    """Can anything below a folder be in the context? Reads the ignore file again when it changed."""

    def __init__(self, context: Path, ignore_files: tuple[Path, ...]) -> None:
        self._context, self._files = context, ignore_files
        self._known: tuple[tuple[Stamp, ...], IgnoreRules] = ((), NO_RULES)

    def __call__(self, folder: Path) -> bool:
        if folder == self._context or not folder.is_relative_to(self._context):
            return True
        return self._rules().may_descend(folder.relative_to(self._context).as_posix())

    def _rules(self) -> IgnoreRules:
        stamps = tuple(_stamp(file) for file in self._files)
        if stamps != self._known[0]:
            self._known = (stamps, self._read())
        return self._known[1]

    def _read(self) -> IgnoreRules:
        for file in self._files:
            try:
                return IgnoreRules.parse(read_bytes(file).decode("utf-8", "surrogateescape"), file.name)
            except FileNotFoundError:
                continue
            except (FingerprintError, OSError):
                return NO_RULES  # the trip reports what is wrong with it; until then everything counts
        return NO_RULES


def _stamp(file: Path) -> Stamp:
    try:
        stat = file.stat()
    except OSError:
        return None
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _is_glob(pattern: str) -> bool:
    return re.search(r"[*?\[]", pattern) is not None


def _fixed_part(pattern: str) -> Path:
    """The folder above the first part with a wildcard."""
    path = Path(pattern)
    while _is_glob(str(path)):
        path = path.parent
    return path


def _followed_parts(pattern: str) -> Iterator[str]:
    """A glob up to each of its folders: links there are gone through, but none from the first `**` on."""
    parts = Path(pattern).parts
    end = parts.index("**") if "**" in parts else len(parts) - 1
    return (str(Path(*parts[: depth + 1])) for depth in range(1, end))


def _expression(pattern: str) -> re.Pattern[str]:
    """A glob as pathlib means it: `*` stays within one name, `**` is any number of folders."""
    parts = []
    for part in Path(pattern).parts[1:]:
        if part == "**":
            parts.append("(?:/[^/]+)*")
        else:
            expression = re.sub(r"\\[Zz]$", "", translate(part))
            parts.append("/" + expression.replace(".*", "[^/]*"))
    return re.compile("".join(parts), re.DOTALL)
