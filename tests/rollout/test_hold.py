"""Two services on one workload are held and released each on its own (S24)."""

from __future__ import annotations

from devloop.rollout.hold import fingerprints, held, hold_of, released


def test_s24_a_workload_of_one_service_has_the_fingerprint_itself() -> None:
    text = held("", "app", "aa", ())
    assert text == "aa"
    assert hold_of(text, "app") == "aa"
    assert held("old", "app", "bb", ()) == "bb"
    assert released(text, "app", ()) is None


def test_s24_a_rollback_of_one_service_leaves_the_hold_of_the_other() -> None:
    text = held(held("", "app", "aa", ("proxy",)), "proxy", "bb", ("app",))
    assert (hold_of(text, "app"), hold_of(text, "proxy")) == ("aa", "bb")
    assert hold_of(text, "third") == ""
    assert set(fingerprints(text)) == {"aa", "bb"}


def test_s24_services_of_one_content_are_not_held_by_each_others_hold() -> None:
    assert hold_of(held("", "app", "aa", ("proxy",)), "proxy") == ""


def test_s24_resume_releases_one_service_alone() -> None:
    text = held(held("", "app", "aa", ("proxy",)), "proxy", "bb", ("app",))
    left = released(text, "app", ("proxy",))
    assert left is not None
    assert (hold_of(left, "app"), hold_of(left, "proxy")) == ("", "bb")
    assert released(left, "proxy", ("app",)) is None


def test_s24_a_hold_that_names_no_service_is_everybodys_until_somebody_resumes() -> None:
    """Written before the workload was shared, or by an older devloop."""
    text = held("aa", "proxy", "bb", ("app",))
    assert (hold_of(text, "app"), hold_of(text, "proxy")) == ("aa", "bb")
    left = released(text, "app", ("proxy",))
    assert left is not None
    assert (hold_of(left, "app"), hold_of(left, "proxy")) == ("", "bb")


def test_s24_services_that_left_config_yaml_are_forgotten() -> None:
    assert held("gone=aa", "app", "bb", ("proxy",)) == "app=bb"
    assert released("gone=aa app=bb", "app", ("proxy",)) is None
