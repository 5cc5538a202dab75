"""The cluster's own CA, its server certificate, its token, and the kubeconfig that carries them."""

from __future__ import annotations

import base64
import ipaddress
import json
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_YEARS = timedelta(days=3650)
_SERVER = timedelta(days=800)  # macOS refuses server certificates of more than 825 days


def write_private(path: Path, data: bytes) -> None:
    """Replace a file that only its owner may read, in one step."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    draft.replace(path)


def context_name(name: str) -> str:
    return "devloop-sandbox" if name == "default" else f"devloop-sandbox-{name}"


def ensure_token(state: Path) -> str:
    """The bearer token, made on the first start."""
    path = state / "token"
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32).encode())
    return path.read_text()


def ensure_certificates(state: Path) -> None:
    """ca.crt, ca.key, server.crt and server.key in `state`; a fresh server certificate each start."""
    if not (state / "ca.crt").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "devloop sandbox CA")])
        certificate = (
            _builder(name, name, key.public_key(), _YEARS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(ca=True), critical=True)
            .sign(key, hashes.SHA256())
        )
        write_private(state / "ca.key", _pem(key))
        write_private(state / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))
    authority = x509.load_pem_x509_certificate((state / "ca.crt").read_bytes())
    signer = serialization.load_pem_private_key((state / "ca.key").read_bytes(), None)
    if not isinstance(signer, ec.EllipticCurvePrivateKey):
        raise TypeError(f"{state / 'ca.key'} is no elliptic curve key")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "devloop-sandbox")])
    hosts = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        _builder(name, authority.subject, key.public_key(), _SERVER)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, hashes.SHA256())
    )
    write_private(state / "server.key", _pem(key))
    write_private(state / "server.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta
) -> x509.CertificateBuilder:
    start = datetime.now(UTC) - timedelta(hours=1)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def write_kubeconfig(state: Path, name: str, port: int) -> Path:
    """`<state>/kubeconfig`, 0600; the extension lets tools know the product."""
    context = context_name(name)
    authority = base64.b64encode((state / "ca.crt").read_bytes()).decode()
    mark = {"name": "devloop.sandbox", "extension": {"provider": "sandbox.devloop.dev"}}
    server = {
        "server": f"https://127.0.0.1:{port}",
        "certificate-authority-data": authority,
        "extensions": [mark],
    }
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": context, "cluster": server}],
        "users": [{"name": context, "user": {"token": (state / "token").read_text()}}],
        "contexts": [{"name": context, "context": {"cluster": context, "user": context}}],
        "current-context": context,
    }
    path = state / "kubeconfig"
    write_private(path, json.dumps(document, indent=1).encode())  # JSON is YAML
    return path
