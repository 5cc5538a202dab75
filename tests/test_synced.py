"""The record of what was synced into which container: what a crash leaves in it, who is believed (S37)."""

from __future__ import annotations

from pathlib import Path

import pytest

from devloop.synced import MOST, UNKNOWN, SyncedContainers

ONE, TWO = "docker://one", "docker://two"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "synced.json"


def test_s37_what_was_begun_and_not_ended_is_unknown(file: Path) -> None:
    record = SyncedContainers(file)
    assert record.content(ONE) is None
    record.begin("web", [ONE, TWO])
    assert SyncedContainers(file).content(ONE) == UNKNOWN, "on disk before the first byte is written"
    record.finish("web", [ONE], "aa")
    again = SyncedContainers(file)
    assert (again.content(ONE), again.content(TWO)) == ("aa", UNKNOWN)
    assert again.services() == {"web"}


def test_s37_another_process_reads_what_was_written_since(file: Path) -> None:
    writer, reader = SyncedContainers(file), SyncedContainers(file)
    writer.finish("web", [ONE], "aa")
    assert reader.content(ONE) == "aa"
    writer.finish("web", [ONE], "bb")
    assert reader.content(ONE) == "bb"
    writer.forget([ONE])
    assert reader.content(ONE) is None


def test_s38_what_nobody_looks_after_any_more_is_unknown(file: Path) -> None:
    before = SyncedContainers(file)
    before.finish("web", [ONE], "aa")
    before.finish("api", [TWO], "bb")
    record = SyncedContainers(file)
    record.disown({"api"})
    assert (record.content(ONE), record.content(TWO)) == (UNKNOWN, "bb")
    assert record.services() == {"api"}


def test_s37_every_change_is_reported(file: Path) -> None:
    record, seen = SyncedContainers(file), list[str | None]()
    record.on_change.append(lambda: seen.append(record.content(ONE)))
    record.begin("web", [ONE])
    record.finish("web", [ONE], "aa")
    record.forget([TWO])
    assert seen == [UNKNOWN, "aa"]


def test_s37_a_state_directory_that_cannot_be_written_is_an_error_before_a_byte_is_written(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").write_text("a file in the folder's place")
    with pytest.raises(FileExistsError):
        SyncedContainers(tmp_path / "state" / "synced.json").begin("web", [ONE])


@pytest.mark.parametrize("text", ["", "{", "[]", '{"docker://one": "aa"}', '{"docker://one": ["web", 1]}'])
def test_a_damaged_record_is_none(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    assert SyncedContainers(file).content(ONE) is None


def test_the_record_is_bounded(file: Path) -> None:
    record = SyncedContainers(file)
    record.finish("web", [ONE], "aa")
    record.finish("web", [f"docker://{number}" for number in range(MOST)], "bb")
    assert record.content(ONE) is None
    assert record.content("docker://0") == "bb"
