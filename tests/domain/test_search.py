# ruff: noqa: RUF001 - letters that look like others are part of the promise
"""Search: a text is found by the beginning of any of its words, in one range of one index."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.search import (
    KEY_LENGTH,
    MAX_KEYS,
    normalised,
    parse_query,
    search_keys,
    upper_bound,
)
from tests.domain.strategies import any_json, fault_of

any_text = st.text(st.characters(exclude_categories=()), max_size=60)
unicode_text = st.text(st.characters(codec="utf-8"), max_size=8)
words = st.text("abcżŁßæДѐάᾷİı한ガक१ 'ʼ-ـ\u0301\u0345", max_size=40) | any_text


def finds(query: str, *texts: str) -> bool:
    """What a range query from the prefix to its upper bound finds."""
    prefix = parse_query(query)
    low, high = prefix.encode(), upper_bound(prefix).encode()
    return any(low <= key.encode() < high for key in search_keys(*texts))


# --- the normalised form --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("Ada Lovelace", "ada lovelace"),
        ("  ADA--Lovelace! ", "ada lovelace"),
        ("O'Brien", "o brien"),
        ("OʼBrien", "o brien"),
        ("Zoë Brontë", "zoe bronte"),
        ("Zoe\u0308", "zoe"),
        ("Łódź", "lodz"),
        ("Søren Æ Œ Þór Đặng", "soren ae oe thor dang"),
        ("Straße STRASSE", "strasse strasse"),
        ("İstanbul ıspanak", "istanbul ispanak"),
        ("Ёлка Йод", "елка иод"),
        ("Άννα ΟΔΥΣΣΕΥΣ", "αννα οδυσσευσ"),
        ("مُحَمَّد محـمد", "محمد محمد"),
        ("한글 이름", "한글 이름"),
        ("ＡＤＡ ﬁ", "ada fi"),
        ("level_42", "level 42"),
        ("\ud800😀\0", ""),
    ],
)
def test_case_accents_and_punctuation_do_not_count(text: str, form: str) -> None:
    assert normalised(text) == form


@given(words)
def test_a_normalised_text_is_normalised(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)


@given(words)
def test_only_letters_digits_and_single_spaces_between_are_left(text: str) -> None:
    form = normalised(text)
    assert form == " ".join(form.split(" ")).strip()
    assert all(char == " " or unicodedata.category(char)[0] in "LN" for char in form)
    assert "  " not in form


@given(words)
def test_a_text_is_the_same_composed_and_decomposed(text: str) -> None:
    assert normalised(unicodedata.normalize("NFD", text)) == normalised(text)


# --- keys -----------------------------------------------------------------------------------


def test_there_is_a_key_from_every_word_on() -> None:
    assert search_keys("Ada Lovelace") == ["ada lovelace", "lovelace"]
    assert search_keys("Ada King Noel") == ["ada king noel", "king noel", "noel"]


def test_several_texts_have_distinct_keys() -> None:
    assert search_keys("Ada Lovelace", "lovelace", "Ada") == ["ada lovelace", "lovelace", "ada"]
    assert search_keys("ho ho", "HO") == ["ho ho", "ho"]


def test_what_has_no_letter_has_no_key() -> None:
    assert search_keys() == []
    assert search_keys("", " ", "...", "😀") == []


@given(st.lists(words, max_size=4))
def test_keys_are_distinct_bounded_and_never_empty(texts: list[str]) -> None:
    keys = search_keys(*texts)
    assert len(set(keys)) == len(keys) <= MAX_KEYS * len(texts)
    assert all(1 <= len(key) <= KEY_LENGTH for key in keys)


def test_a_text_of_many_words_has_16_keys() -> None:
    assert len(search_keys(" ".join(f"w{number}" for number in range(100)))) == 16


@pytest.mark.parametrize("query", ["ad", "ADA", "ada lov", "Love", "lovelace", " lov ", "Àda-LOV"])
def test_the_beginning_of_any_word_finds_a_text(query: str) -> None:
    assert finds(query, "Ada Lovelace")


@pytest.mark.parametrize("query", ["da", "lace", "ada love me", "adb", "lovelace ada"])
def test_nothing_else_finds_it(query: str) -> None:
    assert not finds(query, "Ada Lovelace")


@given(words, st.data())
def test_every_prefix_from_every_word_finds_a_text(text: str, data: st.DataObject) -> None:
    parts = normalised(text).split(" ")
    start = data.draw(st.integers(0, min(len(parts), MAX_KEYS) - 1))
    rest = " ".join(parts[start:])
    query = rest[: data.draw(st.integers(2, KEY_LENGTH))]
    # Half an expanded letter is no query that anyone could type.
    typed = len(query.strip()) >= 2 and normalised(query) == query.strip()
    assert not typed or finds(query, text)


# --- the query ------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["", " ", "a", " a ", "é", "!?", "a!", "\u0301\u0301", "😀😀"])
def test_a_query_has_2_characters_or_more(query: str) -> None:
    with pytest.raises(AppError) as caught:
        parse_query(query)
    assert caught.value.code == Code.INVALID_VALUE
    assert caught.value.fields[0].pointer == "/q"


def test_a_query_has_at_most_64_characters() -> None:
    assert parse_query("a" * 64) == "a" * 64
    assert finds("ﬃ" * 64, "ﬃ" * 64)
    with pytest.raises(AppError) as caught:
        parse_query(" " * 63 + "ab")
    assert caught.value.code == Code.INVALID_VALUE


@pytest.mark.parametrize("value", [None, True, 12, ["ada"], {}, b"ada"])
def test_a_query_is_text(value: object) -> None:
    error = fault_of(parse_query, value)
    assert error is not None
    assert error.code == Code.INVALID_TYPE
    assert error.fields[0].pointer == "/q"


@given(any_json | any_text)
def test_whatever_comes_is_a_query_that_utf_8_can_hold_or_an_app_error(value: object) -> None:
    if fault_of(parse_query, value) is None:
        query = parse_query(value)
        assert 2 <= len(query) <= KEY_LENGTH
        assert query.encode() < upper_bound(query).encode()


# --- the end of the range -------------------------------------------------------------------

edges = st.text("\0a\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff", max_size=4)


@given(edges | unicode_text, st.data())
def test_a_string_is_in_the_range_if_and_only_if_it_begins_so(
    prefix: str, data: st.DataObject
) -> None:
    prefix = "a" + prefix if not prefix.strip("\U0010ffff") else prefix
    bound = upper_bound(prefix)
    text = data.draw(
        edges
        | unicode_text
        | edges.map(lambda tail: prefix + tail)
        | edges.map(lambda tail: bound + tail)
        | edges.map(lambda tail: prefix[:-1] + tail)
    )
    in_range = prefix.encode() <= text.encode() < bound.encode()
    assert in_range == text.startswith(prefix)


@pytest.mark.parametrize(
    ("prefix", "bound"),
    [("ab", "ac"), ("a\ud7ff", "a\ue000"), ("a\uffff", "a\U00010000"), ("a\U0010ffff", "b")],
)
def test_the_bound_is_the_next_code_point_without_surrogates(prefix: str, bound: str) -> None:
    assert upper_bound(prefix) == bound


@pytest.mark.parametrize("prefix", ["", "\U0010ffff", "\U0010ffff" * 3])
def test_there_is_no_string_after_all_strings(prefix: str) -> None:
    with pytest.raises(ValueError, match="none after"):
        upper_bound(prefix)
