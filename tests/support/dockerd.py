"""A Docker engine of the tests' own, with TLS on TCP as Minikube's has it."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from devloop.adapters.docker.endpoint import Endpoint

READY_SECONDS = 30


class Dockerd:
    """One dockerd with its data below `folder`. `port` changes with each start, as Minikube's does."""

    def __init__(self, folder: Path, gateway: str = "10.213.77.1/24") -> None:
        self.folder, self.gateway = folder, gateway
        self.port = 0
        self.certs = folder / "certs"
        self.socket = folder / "docker.sock"
        # A bridge of its own: `--bridge none` would delete docker0, which is the other engine's.
        self.bridge = f"dlt{os.getpid()}-{gateway.split('.')[2]}"
        # Short: containerd makes sockets below it, whose paths the kernel limits to 107 bytes.
        self.exec_root = Path(tempfile.mkdtemp(prefix="dlt"))
        self._process: subprocess.Popen[bytes] | None = None
        certificates(self.certs)

    def __enter__(self) -> Dockerd:
        try:
            subprocess.run(["ip", "link", "add", self.bridge, "type", "bridge"], check=True)
            subprocess.run(["ip", "addr", "add", self.gateway, "dev", self.bridge], check=True)
            self.start()
        except BaseException:
            self._leave_nothing()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave_nothing()

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "dockerd",
                    *("--data-root", str(self.folder / "data"), "--exec-root", str(self.exec_root)),
                    *("--pidfile", str(self.folder / "pid"), "--bridge", self.bridge),
                    *("--iptables=false", "--ip-forward=false", "--ip-masq=false"),
                    *("-H", f"unix://{self.socket}", "-H", f"tcp://127.0.0.1:{self.port}"),
                    *("--tlsverify", "--tlscacert", str(self.certs / "ca.pem")),
                    *(
                        "--tlscert",
                        str(self.certs / "server.pem"),
                        "--tlskey",
                        str(self.certs / "server-key.pem"),
                    ),
                ],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self.folder / "log").read_text()[-2000:]
            if self._answers():
                return
            time.sleep(0.05)
        raise AssertionError("the second dockerd did not come up")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(30)
            self._process = None

    def kill(self) -> None:
        """SIGKILL of it and its containerd: nobody tidies up."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # it ended by itself
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(30)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def endpoint(self) -> Endpoint:
        return Endpoint(f"unix://{self.socket}", origin="the test")

    def variables(self) -> dict[str, str]:
        """What `minikube docker-env` would print of it."""
        return {
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_HOST": f"tcp://127.0.0.1:{self.port}",
            "DOCKER_CERT_PATH": str(self.certs),
        }

    def _leave_nothing(self) -> None:
        self.stop()
        subprocess.run(["ip", "link", "del", self.bridge], check=False)
        for mount in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            point = mount.split()[1]
            if point.startswith((f"{self.folder}/", f"{self.exec_root}/")):
                subprocess.run(["umount", "-l", point], check=False)
        shutil.rmtree(self.exec_root, ignore_errors=True)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(str(self.socket))
                client.sendall(b"GET /_ping HTTP/1.0\r\n\r\n")
                return b"200 OK" in client.recv(100)
            except OSError:
                return False


def certificates(folder: Path) -> None:
    """ca.pem, cert.pem, key.pem for a client, server.pem and server-key.pem for 127.0.0.1."""
    folder.mkdir()
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")])
    ca = _certificate(ca_name, ca_name, ca_key, ca_key, None)
    (folder / "ca.pem").write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    for name, files, usage in (
        ("client", ("cert.pem", "key.pem"), ExtendedKeyUsageOID.CLIENT_AUTH),
        ("server", ("server.pem", "server-key.pem"), ExtendedKeyUsageOID.SERVER_AUTH),
    ):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = _certificate(subject, ca_name, key, ca_key, usage)
        (folder / files[0]).write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / files[1]).write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    usage: x509.ObjectIdentifier | None,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, usage is None, usage is None, False, False),
            critical=True,
        )
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False).add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
    return builder.sign(signer, hashes.SHA256())
