"""What lies in the layers of a saved image, in both layouts that engines write."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping

import pytest

from devloop.adapters.docker.image_files import files_of
from devloop.checks.facts import LayerFile

KEY = b"-----BEGIN RSA PRIVATE KEY-----\n" + b"A" * 600
CERTIFICATE = b"-----BEGIN CERTIFICATE-----\n" + b"A" * 600


def tar(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    "names", [("one/layer.tar", "two/layer.tar"), ("blobs/sha256/aa", "blobs/sha256/bb")]
)
def test_secrets_of_every_layer_are_found_also_those_removed_later(names: tuple[str, str]) -> None:
    lower = tar({"app/.env": b"A=1", "app/notes.txt": KEY, "app/ca.pem": CERTIFICATE, "usr/lib/x.key": KEY})
    upper = tar(
        {"app/.wh..env": b"", "./.env.production": b"A=1", "app/.env.example": b"", "srv/id_rsa": b"x"}
    )
    saved = tar({names[0]: lower, names[1]: upper, "manifest.json": b"[]", "blobs/sha256/cc": b'{"a": 1}'})
    assert list(files_of(io.BytesIO(saved))) == [
        LayerFile("/app/.env"),
        LayerFile("/app/notes.txt", private_key=True),
        LayerFile("/.env.production"),
        LayerFile("/srv/id_rsa"),
    ]
