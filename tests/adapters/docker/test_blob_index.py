"""Which blob of a containerd image store is which layer."""

from __future__ import annotations

from pathlib import Path

from devloop.adapters.docker.blob_index import LAYER, Blob, Blobs

ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64


def image(*layers: tuple[str, str]) -> tuple[dict[str, object], dict[str, object]]:
    """Manifest and config of an image: per layer its diff_id and its media type."""
    listed = [{"digest": f"{diff_id}-packed", "size": 7, "mediaType": media} for diff_id, media in layers]
    return {"layers": listed}, {"rootfs": {"diff_ids": [diff_id for diff_id, _ in layers]}}


def test_manifest_and_config_tell_it_in_the_words_of_oci() -> None:
    blobs = Blobs()
    docker = "application/vnd.docker.image.rootfs.diff.tar"
    blobs.learn(*image((ONE, f"{docker}.gzip"), (TWO, docker)))
    assert blobs.of((ONE, TWO, "sha256:unknown")) == {
        ONE: Blob(f"{ONE}-packed", 7, f"{LAYER}+gzip"),
        TWO: Blob(f"{TWO}-packed", 7, LAYER),
    }
    blobs.learn(*image((ONE, f"{LAYER}+zstd")))
    assert blobs.of((ONE,)) == {ONE: Blob(f"{ONE}-packed", 7, f"{LAYER}+zstd")}


def test_a_manifest_that_does_not_fit_the_config_tells_nothing() -> None:
    blobs = Blobs()
    blobs.learn(image((ONE, LAYER))[0], image((ONE, LAYER), (TWO, LAYER))[1])
    assert blobs.of((ONE, TWO)) == {}


def test_s27_it_is_kept_for_the_next_run(tmp_path: Path) -> None:
    file = tmp_path / "state" / "blobs.json"
    Blobs(file).learn(*image((ONE, LAYER)))
    assert Blobs(file).of((ONE,)) == {ONE: Blob(f"{ONE}-packed", 7)}
    Blobs(file).name("sha256:manifest linux/amd64", "sha256:config")
    assert Blobs(file).config("sha256:manifest linux/amd64") == "sha256:config"
    assert Blobs(file).of((ONE,)) == {ONE: Blob(f"{ONE}-packed", 7)}
    for broken in (
        "",
        "[]",
        "{}",
        '{"layers": [], "configs": {}}',
        '{"layers": {"a": [1, 2, 3, 4]}, "configs": {}}',
    ):
        file.write_text(broken)
        assert Blobs(file).of((ONE, "a")) == {}
