"""A container that stands for a kind or Minikube node, with a real containerd inside."""

from __future__ import annotations

import shutil
import subprocess
import time
import uuid

from tests.support.sample_project import BASE

CTR = ["ctr", "-n", "k8s.io"]
_COMMANDS = ("containerd", "ctr")  # those that stand first on PATH


class Node:
    """A container that stands for a kind or Minikube node: containerd with its CRI inside.

    `disk`: the size of its disk, as "24m"; without it the images lie on this machine's.
    """

    def __init__(self, disk: str = "") -> None:
        self._disk = disk
        self.name = f"devloop-dockertest-node-{uuid.uuid4().hex[:6]}"

    def start(self) -> None:
        subprocess.run(
            [
                *("docker", "run", "-d", "--name", self.name, "--network", "none", "--cap-add", "SYS_ADMIN"),
                *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
                *(word for name in _COMMANDS for word in ("-v", f"{shutil.which(name)}:/usr/bin/{name}:ro")),
                *(
                    ("--tmpfs", f"/var/lib/containerd:size={self._disk},exec")
                    if self._disk
                    else ("-v", "/var/lib/containerd")
                ),
                *(BASE, "containerd"),
            ],
            check=True,
            capture_output=True,
        )
        self.wait()

    def wait(self) -> None:
        """Until its containerd answers."""
        end = time.monotonic() + 60
        while subprocess.run(
            ["docker", "exec", self.name, *CTR, "version"], check=False, capture_output=True
        ).returncode:
            assert time.monotonic() < end, self.name
            time.sleep(0.05)

    def stop(self) -> None:
        subprocess.run(["docker", "rm", "-fv", self.name], check=True, capture_output=True)

    def sh(self, line: str) -> str:
        return subprocess.run(
            ["docker", "exec", self.name, "sh", "-c", line], check=True, capture_output=True, text=True
        ).stdout

    def files(self, ref: str) -> set[str]:
        """The paths in an image as containerd has it: what a container of it would see."""
        name = f"docker.io/library/{ref}"
        listed = self.sh(
            f"mkdir -p /m && ctr -n k8s.io images mount {name} /m >/dev/null && (cd /m && find . -type f); "
            "ctr -n k8s.io images unmount --rm /m >/dev/null; umount /m 2>/dev/null; true"
        )
        return {line.removeprefix("./") for line in listed.splitlines()}

    def clear(self) -> None:
        self.sh("ctr -n k8s.io images ls -q | xargs -r ctr -n k8s.io images rm --sync >/dev/null")
