"""A pod's volumes as folders of this machine, in the form that the kubelet gives them."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from devloop_sandbox.admission.security import host_path_refusal
from devloop_sandbox.engine.namespaces import mount_memory, unmount_below
from devloop_sandbox.engine.problem import Problem
from devloop_sandbox.node.container import Mount, hostname
from devloop_sandbox.node.environment import data_of, field, resource_field
from devloop_sandbox.node.parts import Parts
from devloop_sandbox.objects.quantity import to_int
from devloop_sandbox.objects.resources import Obj

Payload = dict[str, tuple[bytes, int]]  # relative path -> content, mode


class Volumes:
    """One pod's: under `folder`, which goes with it, and under `claims`, which stays."""

    def __init__(self, parts: Parts, pod: Obj) -> None:
        state, meta = parts.options.state_dir, pod["metadata"]
        self._options = parts.options
        self._folder: Path = state / "pods" / meta["uid"]
        self._claims: Path = state / "claims" / meta["namespace"]
        self._find = parts.store.find
        self._capacity = parts.capacity

    def mount(self, pod: Obj) -> None:
        """Make what is missing and rewrite what changed; Problem("FailedMount") names the volume."""
        for volume in pod["spec"].get("volumes") or []:
            try:
                self._mount(pod, volume)
            except (OSError, Problem) as error:
                text = f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}'
                raise Problem("FailedMount", text) from error

    def files(self, pod: Obj, gateway: str) -> list[Mount]:
        """hosts, hostname and resolv.conf: the warm holder's are not this pod's."""
        spec, namespace = pod["spec"], pod["metadata"]["namespace"]
        name = hostname(pod)
        hosts = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n"
        hosts += f"{pod.get('status', {}).get('podIP', '127.0.0.1')}\t{name}\n"
        for alias in spec.get("hostAliases") or []:
            hosts += f"{alias['ip']}\t{' '.join(alias.get('hostnames', []))}\n"
        search = f"{namespace}.svc.cluster.local svc.cluster.local cluster.local"
        resolv = f"nameserver {gateway}\nsearch {search}\noptions ndots:5\n"
        contents = {"hosts": hosts, "hostname": f"{name}\n", "resolv.conf": resolv}
        self._folder.mkdir(parents=True, exist_ok=True)
        for file, text in contents.items():
            path = self._folder / file
            if not path.exists() or path.read_text() != text:
                path.write_text(text)  # in place: the mount is of the file itself
                path.chmod(0o644)  # whatever the umask says
        return [Mount(self._folder / file, f"/etc/{file}") for file in contents]

    def mounts(self, pod: Obj, container: Obj) -> list[Mount]:
        """The container's volumeMounts; sub paths are made if absent."""
        by_name = {volume["name"]: volume for volume in pod["spec"].get("volumes") or []}
        return [self._bind(by_name[m["name"]], m) for m in container.get("volumeMounts") or []]

    def log_file(self, container: Obj, attempt: int) -> Path:
        """Where the container may leave its last words (terminationMessagePath)."""
        path = self._folder / "messages" / f"{container['name']}_{attempt}"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            path.chmod(0o666)
        return path

    def remove(self) -> None:
        unmount_below(self._folder)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, volume: Obj) -> Path:
        if "hostPath" in volume:
            return Path(str(volume["hostPath"]["path"]))
        if "persistentVolumeClaim" in volume:  # a folder that outlives the pod
            return self._claims / str(volume["persistentVolumeClaim"]["claimName"])
        return self._folder / "volumes" / str(volume["name"])

    def _bind(self, volume: Obj, mount: Obj) -> Mount:
        source = self._path(volume)
        sub = mount.get("subPath")
        if sub:
            root, source = source.resolve(), source / sub
            if not source.resolve().is_relative_to(root):
                text = f'subPath "{sub}" of volume "{volume["name"]}" leads out of the volume'
                raise Problem("CreateContainerConfigError", text)
            if not source.exists():
                source.mkdir(parents=True)
                source.chmod(0o777)
            source = source.resolve()  # a key is a symlink; its file is what gets mounted
        fixed = not volume.keys() & {"hostPath", "emptyDir", "persistentVolumeClaim"}
        return Mount(source, mount["mountPath"], fixed or bool(mount.get("readOnly")))

    def _mount(self, pod: Obj, volume: Obj) -> None:
        path = self._path(volume)
        if "hostPath" in volume:
            if why := host_path_refusal(str(path), self._options):
                raise Problem("FailedMount", why)
            _check_host_path(path, volume["hostPath"].get("type") or "")
            return
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        if not path.exists():
            path.mkdir(parents=True)
            path.chmod(0o777)
            scratch = volume.get("emptyDir") or {}
            if scratch.get("medium") == "Memory":
                mount_memory(path, to_int(scratch["sizeLimit"]) if scratch.get("sizeLimit") else None)
            if group is not None:
                os.chown(path, -1, group)
                path.chmod(0o2777)
        payload = self._payload(pod, volume)
        if payload is not None:
            write_atomically(path, payload, group)

    def _payload(self, pod: Obj, volume: Obj) -> Payload | None:
        for kind in ("configMap", "secret", "downwardAPI", "projected"):
            if kind in volume:
                source: Obj = volume[kind]
                mode = source.get("defaultMode") or 0o644
                parts: list[Obj] = source.get("sources") or [] if kind == "projected" else [{kind: source}]
                payload: Payload = {}
                for part in parts:
                    payload |= self._project(pod, part, mode)
                return payload
        return None

    def _project(self, pod: Obj, part: Obj, mode: int) -> Payload:
        ((kind, source),) = part.items()
        if kind == "downwardAPI":
            return {
                item["path"]: (self._downward(pod, item).encode(), item.get("mode") or mode)
                for item in source.get("items") or []
            }
        if kind == "serviceAccountToken":
            return {}  # there is nothing that would accept one; docs/sandbox.md says so
        data = data_of(self._find, kind.lower(), pod["metadata"]["namespace"], source) or {}
        items = source.get("items")
        if not items:
            return {key: (value, mode) for key, value in data.items()}
        chosen: Payload = {}
        for item in items:
            if item["key"] in data:
                chosen[item["path"]] = (data[item["key"]], item.get("mode") or mode)
            elif not source.get("optional"):
                raise Problem("FailedMount", f"references non-existent {kind.lower()} key: {item['key']}")
        return chosen

    def _downward(self, pod: Obj, item: Obj) -> str:
        if "fieldRef" in item:
            return field(pod, item["fieldRef"]["fieldPath"])
        return resource_field(pod, {}, item["resourceFieldRef"], self._capacity)


def write_atomically(path: Path, payload: Payload, group: int | None = None) -> bool:
    """As the kubelet: a new folder, then one rename of the link `..data`. True if anything changed.

    A reader sees the old files or the new ones, never some of each.
    """
    if group is not None:
        payload = {name: (content, mode | 0o040) for name, (content, mode) in payload.items()}
    link = path / "..data"
    if link.exists() and _current(link) == payload:
        return False
    stamp = path / f"..{secrets.token_hex(6)}"
    stamp.mkdir()
    for name, (content, mode) in payload.items():
        target = stamp / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        os.chown(target, -1, -1 if group is None else group)
        target.chmod(mode)
    for folder in (stamp, *(entry for entry in stamp.rglob("*") if entry.is_dir())):
        folder.chmod(0o755)  # whatever the umask says
    old = link.resolve() if link.exists() else None
    fresh = path / "..data_tmp"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(stamp.name)
    fresh.rename(link)
    _show(path, {Path(name).parts[0] for name in payload})
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)
    return True


def _show(path: Path, names: set[str]) -> None:
    """One link per top-level name into ..data, and no others."""
    for name in names:
        if not (path / name).is_symlink():
            (path / name).symlink_to(Path("..data", name))
    for entry in path.iterdir():
        if entry.name not in names and not entry.name.startswith(".."):
            entry.unlink()


def _current(link: Path) -> Payload:
    def files() -> Iterator[tuple[str, tuple[bytes, int]]]:
        root = link.resolve()
        for path in root.rglob("*"):
            if path.is_file():
                yield str(path.relative_to(root)), (path.read_bytes(), path.stat().st_mode & 0o777)

    return dict(files())


def _check_host_path(path: Path, kind: str) -> None:
    if kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    elif kind == "FileOrCreate":
        path.touch()
    elif kind == "" and not path.exists():
        path.mkdir(parents=True)  # what Docker does for a bind of a missing path
    if kind in ("", "DirectoryOrCreate", "FileOrCreate"):
        return
    tests = {"Directory": path.is_dir, "File": path.is_file, "Socket": path.is_socket}
    if kind in tests and not tests[kind]():
        raise Problem("FailedMount", f"hostPath type check failed: {path} is not a {kind.lower()}")
