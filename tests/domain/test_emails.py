"""E-mail addresses: what mail may reach, how it is stored, and which two are the same."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.emails import email_key, parse_email
from domain.errors import AppError, Code
from tests.domain.strategies import any_json, fault_of

any_text = st.text(st.characters(exclude_categories=()), max_size=40)
near_addresses = st.text("aZ1é\u0301ßİ\u0131Дﬃ\uff20@\uff0e..-_+' \u200b\u00a8", max_size=20)
addresses = (
    st.tuples(
        st.text("abcZ019.+_-'!éßİДά漢\u0301", min_size=1, max_size=20),
        st.lists(st.text("abZ09éßД漢", min_size=1, max_size=10), min_size=2, max_size=4),
    )
    .map(lambda parts: f"{parts[0]}@{'.'.join(parts[1])}")
    .filter(lambda text: fault_of(parse_email, text) is None)
)


def refused(value: object) -> bool:
    error = fault_of(parse_email, value)
    assert error is None or error.code in (Code.INVALID_TYPE, Code.INVALID_VALUE)
    return error is not None


# --- what is stored -------------------------------------------------------------------------

GOOD = ["ada@example.com", "Ada.Lovelace+news@Example.COM", "a@b.co", "o'brien@x.ie", "_@x.io"]
GOOD += ["ada@localhost", "a.b-c_d!#$%&*/=?^`{|}~@x-y.example", "..a..@docomo.example"]
GOOD += ["ада@пример.рф", "用户@例子.公司", "ada@xn--e1afmkfd.xn--p1ai", "राम@उदाहरण.भारत"]


@pytest.mark.parametrize("email", GOOD)
def test_an_address_is_stored_as_typed(email: str) -> None:
    assert parse_email(email) == email


def test_an_address_is_stored_composed_and_without_space_around_it() -> None:
    assert parse_email(" ada@example.com\r\n") == "ada@example.com"
    assert parse_email("zoe\u0308@example.com") == "zo\u00eb@example.com"


@given(addresses)
def test_a_stored_address_is_stored_as_it_is(email: str) -> None:
    stored = parse_email(email)
    assert parse_email(stored) == stored
    assert unicodedata.is_normalized("NFC", stored)


def test_an_address_has_at_most_254_characters_64_before_the_at() -> None:
    assert not refused("a" * 64 + "@example.com")
    assert refused("a" * 65 + "@example.com")
    domain = ".".join(["d" * 63, "d" * 63, "d" * 61])
    assert not refused(f"{'a' * 64}@{domain}")
    assert refused(f"{'a' * 64}@{domain}d")
    assert refused(f"a@{'d' * 64}.com")
    assert not refused(f"a@{'d' * 63}.com")
    assert refused("a" * 10**6)


# --- what is refused ------------------------------------------------------------------------

BAD = ["", "@", "ada", "@example.com", "ada@", "ada@example", "a@b@example.com", "ada@.com"]
BAD += ["ada@example.", "ada@ex..com", "ada@-ex.com", "ada@ex-.com", "ada@ex_am.com", "ada@[::1]"]
BAD += ["a da@example.com", "ada@exam ple.com", "ada\t@example.com", "ada@example.com\0x"]
BAD += ["ada\n@example.com", "a\u200bda@example.com", "ada@exam\u00adple.com", "ada\u00a0@x.io"]
BAD += ["\u202eada@example.com", "ada\ud800@example.com", "ada\ue000@x.io", "ada@ex\u2028.com"]
BAD += ["Ada <ada@example.com>", '"ada"@example.com', "ada,eve@example.com", "ada;@example.com"]
BAD += ["ada\\@example.com", "ada(x)@example.com", "ada:x@example.com", "ada@ex,am.com"]
BAD += ["ada@example.com/x", "ada@example.com?cc=eve", "ada@localhost.", "ada@ex\U0001f600.com"]
BAD += ["eve\uff20evil.com@example.com", "ada@ex\u2024\u2024am.com", "ad\u00a8a@example.com"]


@pytest.mark.parametrize("email", BAD)
def test_what_no_mail_could_reach_is_refused(email: str) -> None:
    with pytest.raises(AppError) as caught:
        parse_email(email)
    assert caught.value.code == Code.INVALID_VALUE
    assert caught.value.fields[0].pointer == "/email"


@pytest.mark.parametrize("value", [None, True, 12, ["ada@example.com"], {}, b"ada@example.com"])
def test_an_address_is_text(value: object) -> None:
    error = fault_of(parse_email, value)
    assert error is not None
    assert error.code == Code.INVALID_TYPE


def test_a_refusal_names_the_field_and_not_the_address() -> None:
    with pytest.raises(AppError) as caught:
        parse_email("<script>", "newEmail")
    assert caught.value.fields[0].pointer == "/newEmail"
    assert "script" not in str(caught.value.as_ack())


@given(any_json | any_text | near_addresses)
def test_whatever_comes_is_an_address_or_an_app_error(value: object) -> None:
    if refused(value):
        return
    email = parse_email(value)
    assert len(email) <= 254
    for form in (email, email_key(email)):
        assert form.count("@") == 1
        assert all(unicodedata.category(char)[0] not in "CZ" for char in form)


# --- which two are the same -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada@Example.COM", "ada@example.com"),
        ("stra\u00dfe@example.com", "STRASSE@example.com"),
        ("zoe\u0308@example.com", "ZO\u00cb@example.com"),
        ("\uff21da@example.com", "ada@example.com"),
    ],
)
def test_case_and_compatible_characters_make_no_difference(one: str, other: str) -> None:
    assert email_key(parse_email(one)) == email_key(parse_email(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada@example.com", "ada+x@example.com"),
        ("a.da@gmail.com", "ada@gmail.com"),
        ("ad\u00e1@example.com", "ada@example.com"),
        ("al\u0131@example.com", "ali@example.com"),
    ],
)
def test_mailboxes_that_may_be_two_people_s_stay_distinct(one: str, other: str) -> None:
    assert email_key(parse_email(one)) != email_key(parse_email(other))


@given(addresses)
def test_the_key_of_a_key_is_the_key_and_knows_no_case(email: str) -> None:
    key = email_key(parse_email(email))
    assert email_key(key) == key
    assert email_key(email.lower()) == key


@given(any_text | near_addresses)
def test_any_text_has_a_stable_key(text: str) -> None:
    assert email_key(email_key(text)) == email_key(text)
