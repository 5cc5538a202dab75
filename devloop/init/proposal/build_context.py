"""The folder that a Dockerfile builds from, where no build section names it."""

from __future__ import annotations

import fnmatch
import re

from devloop.init.found import Dockerfile
from devloop.init.paths import ancestors, join, last
from devloop.init.words import dockerfile_names, is_apart, slug


def context_of(
    dockerfile: Dockerfile, project: str, folders: frozenset[str], files: frozenset[str]
) -> tuple[str, str]:
    """(folder of the build context, why): the nearest one that has everything that the Dockerfile copies."""
    candidates = _candidates(dockerfile, project, folders, files)
    wanted = [source for source in dockerfile.copies if source not in (".", "./")]
    counted = [(sum(_has(one, source, folders, files) for source in wanted), one) for one in candidates]
    best = max(count for count, _ in counted)
    folder = next(one for count, one in counted if count == best)
    if not wanted:
        return folder, "it copies nothing by name" if not dockerfile.copies else "it copies the whole folder"
    there = [one for one in wanted if _has(folder, one, folders, files)]
    missing = [one for one in wanted if one not in there]
    shown = ", ".join(there[:3]) + (", …" if len(there) > 3 else "")
    if missing:
        return (
            folder,
            f"of what it copies {', '.join(missing[:3])} is nowhere yet" + f"; here: {shown}" * bool(there),
        )
    return folder, f"it copies {shown}"


def _candidates(
    dockerfile: Dockerfile, project: str, folders: frozenset[str], files: frozenset[str]
) -> list[str]:
    """Its own folder, unless only Dockerfiles lie there; folders of its name; the folders above."""
    own, *above = ancestors(dockerfile.path)
    names = dockerfile_names(dockerfile.path, project)
    bare = is_apart(dockerfile.path) and not any(
        (one.startswith(f"{own}/") or own == ".") and "ockerfile" not in last(one) for one in files
    )
    twins = sorted(
        (one for one in folders if one not in (own, ".") and slug(last(one)) in names),
        key=lambda one: (one.count("/"), one),
    )
    twins = [
        one for one in twins if any(file.startswith(f"{one}/") for file in files) and not own.startswith(one)
    ]
    return list(dict.fromkeys((*(twins if bare else ()), own, *above, *twins)))


def _has(folder: str, source: str, folders: frozenset[str], files: frozenset[str]) -> bool:
    path = join(folder, source)
    if not re.search(r"[*?\[]", path):
        return path in files or path in folders
    start = re.split(r"[*?\[]", path)[0]
    there = (one for listed in (files, folders) for one in listed if one.startswith(start))
    return any(fnmatch.fnmatchcase(one, path) for one in there)
