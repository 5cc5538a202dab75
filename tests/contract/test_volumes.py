"""Volumes of config maps, secrets and scratch space, as a container finds them."""

from __future__ import annotations

from tests.contract.cluster import Namespace, Object, container_status, is_true, terminated
from tests.contract.objects import config_map, container, pod, secret

MOUNT = {"name": "files", "mountPath": "/files"}


def printed(ns: Namespace, script: str, volume: Object, mount: Object = MOUNT) -> list[str]:
    """The lines that a script prints which finds the volume at /files."""
    main = container(f"{script}; echo end", volumeMounts=[mount])
    ns.create(pod(main, restartPolicy="Never", volumes=[{"name": "files", **volume}]))
    lines = ns.wait_log("one", "end\n").splitlines()
    assert lines[-1] == "end"
    return lines[:-1]


def test_config_map_is_a_folder_of_its_keys(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#add-configmap-data-to-a-volume"""
    ns.create(config_map(data={"a.txt": "one\n", "b.txt": "two\n"}))
    volume = {"configMap": {"name": "settings"}}
    assert printed(ns, "ls /files; cat /files/*", volume) == ["a.txt", "b.txt", "one", "two"]


def test_items_choose_keys_and_paths(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#project-keys-to-specific-paths-and-file-permissions"""
    ns.create(config_map(data={"a": "one\n", "b": "two\n"}))
    items = [{"key": "a", "path": "deep/er/a.txt"}]
    volume = {"configMap": {"name": "settings", "items": items}}
    script = "ls /files; cat /files/deep/er/a.txt"
    assert printed(ns, script, volume) == ["deep", "one"]


def test_modes_of_files(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#project-keys-to-specific-paths-and-file-permissions"""
    ns.create(config_map(data={"a": "1", "b": "2"}))
    items = [{"key": "a", "path": "a"}, {"key": "b", "path": "b", "mode": 0o400}]
    volume = {"configMap": {"name": "settings", "items": items, "defaultMode": 0o755}}
    assert printed(ns, "stat -L -c %a /files/a /files/b", volume) == ["755", "400"]


def test_secret_is_a_folder_of_its_keys(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/inject-data-application/distribute-credentials-secure/#create-a-pod-that-has-access-to-the-secret-data-through-a-volume"""
    ns.create(secret(stringData={"password": "open\n"}))
    volume = {"secret": {"secretName": "keys", "defaultMode": 0o400}}
    script = "cat /files/password; stat -L -c %a /files/password"
    assert printed(ns, script, volume) == ["open", "400"]


def test_binary_data_arrives_as_it_is(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/configmap/#configmap-object"""
    ns.create({**config_map(data={}), "binaryData": {"raw": "AAH/"}})
    volume = {"configMap": {"name": "settings"}}
    program = "import pathlib; print(list(pathlib.Path('/files/raw').read_bytes()))"
    assert printed(ns, f'python3 -c "{program}"', volume) == ["[0, 1, 255]"]


def test_sub_path_mounts_one_file(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/storage/volumes/#using-subpath"""
    ns.create(config_map(data={"a": "one\n", "b": "two\n"}))
    volume = {"configMap": {"name": "settings"}}
    mount = {"name": "files", "mountPath": "/etc/settings.conf", "subPath": "a"}
    assert printed(ns, "cat /etc/settings.conf; ls /etc/hostname", volume, mount) == [
        "one",
        "/etc/hostname",
    ]


def test_optional_volume_that_is_missing_is_empty(ns: Namespace) -> None:
    """https://kubernetes.io/docs/tasks/configure-pod-container/configure-pod-configmap/#optional-references"""
    volume = {"configMap": {"name": "none", "optional": True}}
    assert printed(ns, "ls -d /files; ls /files", volume) == ["/files"]


def test_missing_volume_holds_the_pod_until_it_is_there(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/configuration/secret/#using-secrets"""
    main = container("cat /files/a", volumeMounts=[MOUNT])
    volumes = [{"name": "files", "secret": {"secretName": "late"}}]
    ns.create(pod(main, restartPolicy="Never", volumes=volumes))
    assert ns.wait_event("FailedMount", "Pod", "one")["type"] == "Warning"
    held = ns.read("Pod", "one")
    assert held["status"]["phase"] == "Pending"
    assert container_status(held)["state"]["waiting"]["reason"] == "ContainerCreating"
    ns.create(secret("late", stringData={"a": "got it\n"}))
    ns.wait("Pod", "one", lambda p: terminated(p).get("exitCode") == 0, seconds=200)


def test_key_that_is_missing_holds_the_pod(ns: Namespace) -> None:
    """https://kubernetes.io/docs/reference/kubernetes-api/config-and-storage-resources/volume/"""
    ns.create(config_map())
    items = [{"key": "none", "path": "x"}]
    volumes = [{"name": "files", "configMap": {"name": "settings", "items": items}}]
    ns.create(pod(container(volumeMounts=[MOUNT]), volumes=volumes))
    assert ns.wait_event("FailedMount", "Pod", "one")["type"] == "Warning"


def test_config_map_volume_cannot_be_written(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/storage/volumes/#configmap"""
    ns.create(config_map())
    volume = {"configMap": {"name": "settings"}}
    script = "touch /files/x 2>/dev/null && echo written || echo refused"
    assert printed(ns, script, volume) == ["refused"]


def test_read_only_mount_cannot_be_written(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/storage/volumes/#read-only-mounts"""
    script = "touch /files/x 2>/dev/null && echo written || echo refused"
    assert printed(ns, script, {"emptyDir": {}}, {**MOUNT, "readOnly": True}) == ["refused"]


def test_scratch_space_begins_empty_and_can_be_written(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/storage/volumes/#emptydir"""
    script = "ls /files; echo hello > /files/x; cat /files/x"
    assert printed(ns, script, {"emptyDir": {}}) == ["hello"]


def test_scratch_space_is_not_shared_between_pods(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/storage/volumes/#emptydir"""
    for name in ("one", "two"):
        main = container(f"touch /files/{name}; sleep 3600 & wait", volumeMounts=[MOUNT])
        ns.create(pod(main, name=name, volumes=[{"name": "files", "emptyDir": {}}]))
        ns.wait("Pod", name, lambda p: is_true(p, "Ready"))
    ns.wait("Pod", "two", lambda _: ns.execute("two", "ls", "/files").stdout == b"two\n")


def test_scratch_space_in_memory(ns: Namespace) -> None:
    """https://kubernetes.io/docs/concepts/storage/volumes/#emptydir"""
    volume = {"emptyDir": {"medium": "Memory"}}
    script = "grep ' /files ' /proc/mounts | cut -d' ' -f3"
    assert printed(ns, script, volume) == ["tmpfs"]
