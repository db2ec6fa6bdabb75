"""What watchers see of a user; whoever is invisible looks like whoever is gone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.presence import ABSENT, Attendance, Profile, Status, entry
from domain.times import iso
from tests.domain.strategies import ids, moments

notes = st.text(max_size=140)
profiles = st.builds(Profile, st.sampled_from(Status), notes, moments)
attendances = st.builds(Attendance, st.integers(0, 100), st.booleans())
NOW = 1_700_000_000_000
SEEN = 1_600_000_000_000


@given(ids, notes, moments, attendances, moments, moments)
def test_an_invisible_user_looks_the_same_connected_or_not(
    user: str, note: str, last_seen: int, attendance: Attendance, now: int, later: int
) -> None:
    hidden = Profile(Status.OFFLINE, note, last_seen)
    shown = entry(user, hidden, attendance, now)
    assert shown == entry(user, hidden, ABSENT, later)
    assert shown == {
        "userId": user,
        "online": False,
        "status": "offline",
        "lastSeen": iso(last_seen),
        "devices": 0,
    }


@given(ids, profiles, st.integers(0, 100), moments)
def test_who_is_gone_looks_the_same_whatever_they_said(
    user: str, profile: Profile, devices: int, now: int
) -> None:
    gone = entry(user, profile, Attendance(devices, present=False), now)
    assert gone == entry(user, Profile(Status.OFFLINE, "", profile.last_seen), ABSENT, 0)


@given(ids, profiles, attendances, moments)
def test_an_entry_is_consistent_in_itself(
    user: str, profile: Profile, attendance: Attendance, now: int
) -> None:
    shown = entry(user, profile, attendance, now)
    assert shown["online"] == (shown["status"] != "offline")
    assert shown["online"] or shown["devices"] == 0
    assert shown["online"] or "note" not in shown
    assert shown.get("note") != ""
    assert set(shown) - {"note"} == {"userId", "online", "status", "lastSeen", "devices"}


@pytest.mark.parametrize("status", [Status.ONLINE, Status.AWAY, Status.BUSY])
def test_who_is_present_shows_status_note_devices_and_now(status: Status) -> None:
    shown = entry("u", Profile(status, "back at 5", SEEN), Attendance(2, present=True), NOW)
    assert shown == {
        "userId": "u",
        "online": True,
        "status": status.value,
        "lastSeen": iso(NOW),
        "devices": 2,
        "note": "back at 5",
    }


def test_a_user_in_the_grace_after_the_last_device_is_still_online() -> None:
    shown = entry("u", Profile(), Attendance(0, present=True), NOW)
    assert (shown["online"], shown["devices"]) == (True, 0)


def test_an_empty_note_is_left_out() -> None:
    assert "note" not in entry("u", Profile(), Attendance(1, present=True), NOW)


def test_a_user_without_a_profile_is_online_when_present_and_never_seen_otherwise() -> None:
    assert entry("u", Profile(), Attendance(1, present=True), NOW)["status"] == "online"
    assert entry("u", Profile(), ABSENT, NOW) == {
        "userId": "u",
        "online": False,
        "status": "offline",
        "lastSeen": iso(0),
        "devices": 0,
    }


def test_the_words_for_status_are_the_protocols() -> None:
    assert [status.value for status in Status] == ["online", "away", "busy", "offline"]
