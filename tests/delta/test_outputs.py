"""What COPYs out of other stages bring, read from layers."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from devloop.delta.changes import changes
from devloop.delta.from_stage import _without_old_sources
from devloop.delta.layer_index import Layer
from devloop.delta.outputs import (
    Brought,
    Exported,
    LayerFile,
    LayerFiles,
    Output,
    dump,
    load,
    of_layer,
    of_layers,
)
from devloop.delta.placement import NotProvenError

Member = tuple[bytes, bytes | str, Mapping[str, object]]
FILE, LINK, HARD, DIR, PIPE = (
    tarfile.REGTYPE,
    tarfile.SYMTYPE,
    tarfile.LNKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)


def layer(members: Mapping[str, Member], format: int = tarfile.GNU_FORMAT) -> bytes:  # noqa: A002
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format) as archive:
        for path, (kind, content, more) in members.items():
            member = tarfile.TarInfo(path)
            member.type, member.mtime = kind, 5
            data = content if isinstance(content, bytes) else b""
            member.size, member.linkname = len(data), content if isinstance(content, str) else ""
            for name, value in more.items():
                setattr(member, name, value)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def brought(*, into: bool = True, owned: bool = False) -> Brought:
    return Brought("line 9", "9", 9, 0, "app", into, owned)


def in_image(members: Mapping[str, Member], copy: Brought) -> Mapping[str, Output]:
    return of_layer(Layer.read(io.BytesIO(layer(members)), digests=True), copy)


def exported(tmp_path: Path, data: bytes, copy: Brought) -> Exported:
    """`data` somewhere in a file, as a layer of `docker save` lies there."""
    file = tmp_path / "layers"
    file.write_bytes(b"\0" * 512 + data)
    return of_layers(LayerFiles((LayerFile(file, 512),), ("sha256:1",)), [copy], {})


PLAIN: Mapping[str, Member] = {
    "": (DIR, b"", {}),
    "/a": (FILE, b"a", {"mode": 0o600, "uid": 3}),
    "/d": (DIR, b"", {"mode": 0o700, "gid": 4}),
    "/d/l": (LINK, "../a", {}),
    "/d/h": (HARD, "{}/a", {"mode": 0o600, "uid": 3}),
}


def below(root: str, members: Mapping[str, Member]) -> dict[str, Member]:
    return {
        f"{root}{path}": (kind, content.format(root) if kind == HARD else content, more)  # type: ignore[union-attr]
        for path, (kind, content, more) in members.items()
    }


def test_the_layer_of_a_copy_and_of_its_build_show_the_same(tmp_path: Path) -> None:
    was = in_image(below("app", PLAIN), brought())
    now = exported(tmp_path, layer(below("9", PLAIN)), brought())
    assert not changes(was, now.outputs["line 9"])
    assert set(was) == {"line 9", "line 9/a", "line 9/d", "line 9/d/l", "line 9/d/h"}
    place = now.at["line 9/a"]
    assert place.path.read_bytes()[place.start :].startswith(b"a")
    assert not now.outputs["line 9"]["line 9/a"].plain  # another name is linked to it
    assert not now.outputs["line 9"]["line 9/d/h"].plain
    assert now.outputs["line 9"]["line 9/d/l"].plain


@pytest.mark.parametrize(
    ("path", "other"),
    [
        ("/a", (FILE, b"b", {"mode": 0o600, "uid": 3})),
        ("/a", (FILE, b"a", {"mode": 0o644, "uid": 3})),
        ("/a", (FILE, b"a", {"mode": 0o600})),
        ("/a", (PIPE, b"", {"mode": 0o600, "uid": 3})),
        ("/d", (DIR, b"", {"mode": 0o700})),
        ("/d/l", (LINK, "../b", {})),
    ],
)
def test_what_is_other_is_seen(tmp_path: Path, path: str, other: Member) -> None:
    was = in_image(below("app", PLAIN), brought())
    now = exported(tmp_path, layer(below("9", {**PLAIN, path: other})), brought())
    assert f"line 9{path}" in changes(was, now.outputs["line 9"])


def test_an_owner_that_the_copy_gives_hides_the_stages(tmp_path: Path) -> None:
    was = in_image(below("app", {"": (DIR, b"", {}), "/a": (FILE, b"a", {"uid": 3})}), brought(owned=True))
    now = exported(
        tmp_path, layer(below("9", {"": (DIR, b"", {}), "/a": (FILE, b"a", {})})), brought(owned=True)
    )
    assert not changes(was, now.outputs["line 9"])


@pytest.mark.parametrize(("compiled", "seen"), [(b"new", ["line 9/c/m.pyc", "line 9/m.py"]), (b"old", [])])
def test_the_time_of_a_python_source_counts_where_it_was_compiled(
    tmp_path: Path, compiled: bytes, seen: list[str]
) -> None:
    """It stands in what was compiled from it."""
    files: dict[str, Member] = {"": (DIR, b"", {}), "/c": (DIR, b"", {}), "/c/m.pyc": (FILE, b"old", {})}
    files |= {"/m.js": (FILE, b"m", {}), "/m.py": (FILE, b"m", {})}
    was = in_image(below("app", files), brought())
    later = {path: (kind, text, {"mtime": 6}) for path, (kind, text, _) in files.items()}
    later["/c/m.pyc"] = FILE, compiled, {"mtime": 6}
    now = exported(tmp_path, layer(below("9", later)), brought()).outputs["line 9"]
    assert changes(_without_old_sources(was, now), now) == seen


def test_attributes_are_seen_and_not_written(tmp_path: Path) -> None:
    files: dict[str, Member] = {"": (DIR, b"", {}), "/a": (FILE, b"a", {})}
    was = in_image(below("app", files), brought())
    given = {"pax_headers": {"SCHILY.xattr.security.capability": "x"}}
    data = layer(below("9", {**files, "/a": (FILE, b"a", given)}), tarfile.PAX_FORMAT)
    now = exported(tmp_path, data, brought())
    assert changes(was, now.outputs["line 9"]) == ["line 9/a"]
    assert not now.outputs["line 9"]["line 9/a"].plain


def test_one_file_is_its_root(tmp_path: Path) -> None:
    copy = brought(into=False)
    assert set(in_image({"app": (FILE, b"a", {})}, copy)) == {"line 9"}
    now = exported(tmp_path, layer({"9": (FILE, b"b", {})}), copy)
    assert now.outputs["line 9"]["line 9"].kind == "file"


def test_what_is_not_there_or_no_tar_is_doubted(tmp_path: Path) -> None:
    with pytest.raises(NotProvenError) as caught:
        exported(tmp_path, layer({"8": (DIR, b"", {})}), brought())
    assert caught.value.reason == "SourceMissing"
    whole = layer(below("9", PLAIN))
    for damaged in (b"x" * 2000, whole[:1024], whole[:512] + b"x" * 512 + whole[1024:], b""):
        with pytest.raises(NotProvenError) as caught:
            exported(tmp_path, damaged, brought())
        assert caught.value.reason == "OutputsUnknown"


def test_a_layer_whose_content_nobody_looked_at_is_doubted() -> None:
    data = layer(below("app", PLAIN))
    for known in (Layer.read(io.BytesIO(data)), Layer.read(io.BytesIO(data), digests=True).bare()):
        with pytest.raises(NotProvenError):
            of_layer(known, brought())
    assert Layer.load(Layer.read(io.BytesIO(data), digests=True).dump()).digested


def test_s27_what_the_state_directory_keeps(tmp_path: Path) -> None:
    outputs = exported(tmp_path, layer(below("9", PLAIN)), brought()).outputs
    assert load(dump(outputs)) == outputs
    assert load(dump(None)) is None


def test_what_a_known_layer_brought_is_not_read_again(tmp_path: Path) -> None:
    was = exported(tmp_path, layer(below("9", PLAIN)), brought())
    again = of_layers(LayerFiles((), ("sha256:1",)), [brought()], was.outputs)
    assert (again.outputs, again.at) == (was.outputs, {})
    with pytest.raises(NotProvenError):
        of_layers(LayerFiles((), ("sha256:2",)), [brought()], was.outputs)
    with pytest.raises(NotProvenError):
        of_layers(LayerFiles((), ()), [brought()], was.outputs)
