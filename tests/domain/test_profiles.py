"""Changes of profiles: the later one wins, a refused one changes nothing."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.accounts import Account
from domain.errors import AppError, Code
from domain.identity import Role
from domain.profiles import PROFILE_FIELDS, ProfileChange, change, parse_profile
from domain.times import LAST, iso

NOW = 1_700_000_000_000
ADA = Account(
    id="ada",
    username="ada",
    created_at=NOW - 10_000,
    updated_at=NOW - 5_000,
    version=7,
    email="Ada@example.com",
    name="Ada Lovelace",
    bio="Numbers",
    avatar="https://example.com/a.png",
    custom={"team": "blue"},
    password_hash="a hash",
)
SOURCE_BODY = {
    "id": "user_123",
    "username": "john_doe",
    "email": "john@example.com",
    "bio": "Hello!",
    "avatar": "https://...",
    "updatedAt": 1705856400000,
}

texts = st.text("abc ", max_size=6).map(str.strip)
values = {
    "username": st.sampled_from(["ada", "bob", "eve"]),
    "name": texts,
    "bio": texts,
    "avatar": texts,
    "custom": st.dictionaries(st.sampled_from("abc"), st.integers(0, 9), max_size=3),
}
some_fields = st.fixed_dictionaries({}, optional=values)
all_fields = st.fixed_dictionaries(values)
moments = st.integers(0, NOW)
accounts = st.builds(
    Account,
    id=st.just("ada"),
    username=values["username"],
    created_at=moments,
    updated_at=moments,
    version=st.integers(1, 10**6),
    email=st.none() | st.just("ada@example.com"),
    name=texts,
    bio=texts,
    avatar=texts,
    custom=values["custom"],
    role=st.sampled_from(Role),
    password_hash=st.none() | st.just("a hash"),
    guest=st.booleans(),
)


def wish(at: int | None = None, **fields: Any) -> ProfileChange:
    return ProfileChange(fields, at=at)


def refusal(payload: object, user_id: str = "ada") -> AppError:
    with pytest.raises(AppError) as caught:
        parse_profile(user_id, payload)
    return caught.value


def shown(account: Account) -> dict[str, Any]:
    return {name: getattr(account, name) for name in PROFILE_FIELDS}


# --- what may be sent ---------------------------------------------------------------------


def test_the_source_documents_body_is_a_change() -> None:
    parsed = parse_profile("user_123", SOURCE_BODY)
    assert parsed.values == {
        "username": "john_doe",
        "bio": "Hello!",
        "avatar": "https://...",
    }
    assert (parsed.email, parsed.at) == ("john@example.com", 1705856400000)


def test_only_fields_that_are_sent_are_in_a_change() -> None:
    assert parse_profile("ada", {}) == ProfileChange({})
    assert parse_profile("ada", {"bio": "x"}).values == {"bio": "x"}


def test_null_empties_every_field_that_can_be_empty() -> None:
    parsed = parse_profile("ada", {"name": None, "bio": None, "avatar": None, "custom": None})
    assert parsed.values == {"name": "", "bio": "", "avatar": "", "custom": {}}


def test_a_username_cannot_be_emptied() -> None:
    for empty in (None, "", " "):
        assert refusal({"username": empty}).fields[0].pointer == "/username"


def test_the_id_is_that_of_the_path() -> None:
    assert parse_profile("ada", {"id": "ada"}) == ProfileChange({})
    for other in ("bob", "Ada", "$ada", "", 7, ["ada"]):
        assert refusal({"id": other}).fields[0].pointer == "/id", other


@pytest.mark.parametrize(
    "name",
    [
        *("role", "_id", "passwordHash", "password_hash", "version", "isOnline", "status", "$set"),
        *("__proto__", "createdAt", "created_at", "guest", "emailKey", "usernameKey", "password"),
        *("searchKeys", "deviceKey", "custom.a", "updated_at", "Bio", "constructor", "erased", ""),
    ],
)
def test_other_fields_are_refused_by_name(name: str) -> None:
    error = refusal({"bio": "x", name: "admin"})
    assert error.code is Code.UNKNOWN_FIELD
    assert [fault.pointer for fault in error.fields] == [f"/{name}"]


@pytest.mark.parametrize(
    "avatar",
    ["https://example.com/a.png?b=1#c", "http://a", "/a.png", "cat_7", "👩\u200d🚀", "//a/b"],
)
def test_an_avatar_is_an_address_or_a_key(avatar: str) -> None:
    assert parse_profile("ada", {"avatar": avatar}).values == {"avatar": avatar}


@pytest.mark.parametrize(
    "avatar",
    [
        *("javascript:alert(1)", "JavaScript:alert(1)", "  javascript:alert(1)", "java\tscript:a"),
        *("\x01javascript:alert(1)", "java\nscript:a", "javascript\n:a", "\u3000javascript:a"),
        *("data:text/html,<script>", "vbscript:a", "file:///etc/passwd", "blob:a", "a" * 2_049),
    ],
)
def test_an_avatar_is_no_script(avatar: str) -> None:
    error = refusal({"avatar": avatar})
    assert (error.code, error.fields[0].pointer) == (Code.INVALID_VALUE, "/avatar")


def test_custom_has_8_kib_of_utf_8_and_not_a_byte_more() -> None:
    for char in ("x", "é", "👍"):
        room = 8 * 1024 - len('{"a":""}')
        size = len(char.encode())
        most = char * (room // size) + "x" * (room % size)
        assert parse_profile("ada", {"custom": {"a": most}}).values["custom"] == {"a": most}
        error = refusal({"custom": {"a": most + "x"}})
        assert (error.code, error.fields[0].pointer) == (Code.INVALID_VALUE, "/custom")


def test_custom_is_6_levels_deep_and_not_a_level_more() -> None:
    def nested(levels: int, inner: Any) -> Any:
        return inner if levels == 0 else {"a": nested(levels - 1, inner)}

    for leaf in ({}, []):
        parse_profile("ada", {"custom": nested(5, leaf)})
        assert refusal({"custom": nested(6, leaf)}).fields[0].pointer == "/custom"


@pytest.mark.parametrize("name", ["a.b", ".", "$set", "a$", "$", "\0", "__proto__", "constructor"])
def test_names_in_custom_are_harmless_at_every_depth(name: str) -> None:
    for custom in ({name: 1}, {"a": {name: 1}}, {"a": [{"b": [{name: 1}]}]}):
        error = refusal({"custom": custom})
        assert (error.code, error.fields[0].pointer) == (Code.INVALID_VALUE, "/custom")


@pytest.mark.parametrize("custom", [[], "x", 1, True, [{}]])
def test_custom_is_an_object(custom: object) -> None:
    error = refusal({"custom": custom})
    assert (error.code, error.fields[0].pointer) == (Code.INVALID_TYPE, "/custom")


@pytest.mark.parametrize("at", [-1, LAST + 1, "yesterday", "", True, [], {}, "2024-13-01", 1e300])
def test_a_time_is_iso_8601_or_epoch_milliseconds(at: object) -> None:
    assert refusal({"updatedAt": at}).fields[0].pointer == "/updatedAt"
    assert parse_profile("ada", {"updatedAt": NOW}).at == NOW
    assert parse_profile("ada", {"updatedAt": iso(NOW)}).at == NOW
    assert parse_profile("ada", {"updatedAt": "2023-11-14T23:13:20+01:00"}).at == NOW


# --- e-mail -------------------------------------------------------------------------------


@pytest.mark.parametrize("email", ["Ada@example.com", "ada@EXAMPLE.com", " ADA@EXAMPLE.COM "])
def test_an_unchanged_email_may_come_along(email: str) -> None:
    parsed = parse_profile("ada", {"email": email, "bio": "x"})
    after = change(ADA, parsed, NOW)
    assert (after.bio, after.email) == ("x", ADA.email)


@pytest.mark.parametrize("account", [ADA, replace(ADA, email=None)])
def test_another_email_is_refused_by_name_and_nothing_changes(account: Account) -> None:
    for at in (None, 0, NOW, LAST):  # also of a change that is too old to count
        parsed = parse_profile("ada", {"email": "other@example.com", "bio": "x", "updatedAt": at})
        with pytest.raises(AppError) as caught:
            change(account, parsed, NOW)
        assert caught.value.code is Code.INVALID_VALUE
        assert [fault.pointer for fault in caught.value.fields] == ["/email"]


# --- last write wins ----------------------------------------------------------------------


@pytest.mark.parametrize(("at", "applied"), [(-1, False), (0, True), (1, True), (None, True)])
def test_newer_or_equal_applies_and_older_changes_nothing(at: int | None, applied: bool) -> None:
    when = None if at is None else ADA.updated_at + at
    after = change(ADA, wish(when, bio="new"), NOW)
    if not applied:
        assert after is ADA
        return
    assert after == replace(
        ADA, bio="new", version=8, updated_at=NOW if when is None else max(when, ADA.updated_at)
    )


@pytest.mark.parametrize("ahead", [0, 1, 10**9, LAST - NOW])
def test_a_time_ahead_of_the_server_counts_as_now(ahead: int) -> None:
    after = change(ADA, wish(NOW + ahead, bio="ahead"), NOW)
    assert (after.bio, after.updated_at) == ("ahead", NOW)
    later = change(after, wish(NOW + 1, bio="later"), NOW + 1)
    assert (later.bio, later.updated_at) == ("later", NOW + 1)


def test_an_equal_change_again_changes_nothing() -> None:
    once = change(ADA, wish(NOW, bio="new"), NOW)
    assert change(once, wish(NOW, bio="new"), NOW) is once
    assert change(once, wish(bio="new"), NOW + 5) is once


def test_without_changes_a_later_time_still_counts() -> None:
    """Else an older change of another device would come through."""
    after = change(ADA, wish(NOW, bio=ADA.bio), NOW)
    assert after.updated_at == NOW
    assert change(after, wish(NOW - 1, bio="old"), NOW) is after


def applied(account: Account, changes: Sequence[ProfileChange]) -> Account:
    for one in changes:
        account = change(account, one, NOW)
    return account


@given(
    accounts,
    st.lists(st.tuples(moments, all_fields), unique_by=lambda one: one[0], max_size=6),
    st.data(),
)
def test_the_same_changes_of_distinct_times_end_the_same_in_every_order(
    account: Account, made: list[tuple[int, dict[str, Any]]], data: st.DataObject
) -> None:
    """Of changes of the same fields: a partial one that comes too late changes nothing."""
    changes = [wish(at, **fields) for at, fields in made]
    one = applied(account, changes)
    other = applied(account, data.draw(st.permutations(changes)))
    assert (shown(one), one.updated_at) == (shown(other), other.updated_at)
    newest = max(changes, key=lambda change: change.at or 0, default=None)
    if newest is not None and (newest.at or 0) >= account.updated_at:
        assert shown(one) == newest.values
    else:
        assert one is account


@given(
    accounts,
    st.lists(st.tuples(moments, some_fields), unique_by=lambda one: one[0], min_size=1, max_size=6),
    st.data(),
)
def test_the_newest_change_is_whole_in_the_profile_in_every_order(
    account: Account, made: list[tuple[int, dict[str, Any]]], data: st.DataObject
) -> None:
    at, fields = max(made, key=lambda one: one[0])
    shuffled = data.draw(st.permutations(made))
    after = applied(account, [wish(when, **values) for when, values in shuffled])
    if at >= account.updated_at:
        assert fields.items() <= shown(after).items()
        assert after.updated_at == at


@given(accounts, some_fields, st.none() | st.integers(0, LAST), st.integers(0, 2 * NOW))
def test_a_change_is_whole_or_not_at_all_and_time_never_goes_back(
    account: Account, fields: dict[str, Any], at: int | None, now: int
) -> None:
    after = change(account, wish(at, **fields), now)
    assert after.updated_at >= account.updated_at
    assert after.updated_at <= max(now, account.updated_at)
    if after is account:
        outdated = at is not None and min(at, now) < account.updated_at
        assert outdated or fields.items() <= shown(account).items()
        return
    assert after == replace(
        account, **fields, updated_at=after.updated_at, version=account.version + 1
    )


# --- what others see ----------------------------------------------------------------------


@given(accounts)
def test_others_see_neither_email_nor_custom_nor_role(account: Account) -> None:
    assert account.public().keys() == {"id", "username", "name", "bio", "avatar", "updatedAt"}
    assert account.found().keys() == {"id", "username", "avatar", "bio"}
    assert account.whole().keys() - account.public().keys() == {
        *("email", "custom", "role", "guest", "createdAt")
    }
    assert "a hash" not in str(account.whole())
