# ruff: noqa: RUF001 - letters that look like others are what this is about
"""Usernames: what is accepted, how it is stored, and which two are the same to a reader."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import AppError, Code
from domain.lookalikes import LOOKALIKES, script_of
from domain.usernames import parse_username, username_key
from tests.domain.strategies import any_json, fault_of


def refused(value: object) -> bool:
    error = fault_of(parse_username, value)
    assert error is None or error.code in (Code.INVALID_TYPE, Code.INVALID_VALUE)
    return error is not None


def same(one: str, other: str) -> bool:
    return username_key(parse_username(one)) == username_key(parse_username(other))


# Names that are nearly right, in scripts with their own marks, cases and compatible forms.
SCRIPTS = [
    "aAbBiIıİlLoOsßſŁéǅﬁＡⅷªɪ0123",
    "абвгдеёийнорстухьАВЁЙѕі",
    "αβγηιΐνορςσΣΩᾳᾼῼµ",
    "ᎠᏴꭰꮿՕօևႠაᲐꓐⲥ",
    "الـىيكک٠١۲",
    "漢字ー々〇カガヘべㄱ한가ㄅ",
    "कािंक्१กำ່ကျေါ",
]
PIECES = "_.-' \u2019\u00a0\u0301\u0307\u0308\u0323\u0345"
near_names = st.sampled_from(SCRIPTS).flatmap(
    lambda letters: st.text(st.sampled_from(letters + PIECES), max_size=12)
)
texts = near_names | st.text(max_size=70) | st.text(st.characters(exclude_categories=()))


@st.composite
def usernames(draw: st.DrawFn) -> str:
    """A stored name: what is drawn, without the characters that would have it refused."""
    letters = draw(st.sampled_from(SCRIPTS))
    first = draw(st.sampled_from(letters)) * 2
    name = "12" if refused(first) else first
    for char in draw(st.text(st.sampled_from(letters + PIECES), max_size=12)):
        if not refused(name + char):
            name += char
    return parse_username(name)


# --- what is stored -------------------------------------------------------------------------

PEOPLE = ["Ada Lovelace", "ada", "a1", "007", "john_doe", "john.doe", "jean-luc", "O'Brien"]
PEOPLE += ["Łukasz", "Nguyễn Thị Ánh", "Çağrı", "ǃXóõ", "Kaʻahumanu", "Иван Петров", "Ма́ша"]
PEOPLE += ["Дар'я", "Αλέξανδρος", "Αᾧ", "Հայկ", "გიორგი", "ᏣᎳᎩ", "محمد", "مُحَمَّد", "علی"]
PEOPLE += ["שָׁלוֹם", "अनुष्का", "राम२", "علي٢", "ஸ்ரீ", "ธนาธร", "ကျော်", "မြို့", "བསྒྲུབས"]
PEOPLE += ["山田 太郎", "Ken太郎", "佐々木", "ヘレン", "すーぱー", "김철수 K", "王ㄅ"]


@pytest.mark.parametrize("name", PEOPLE)
def test_names_of_people_everywhere_are_stored_as_they_are(name: str) -> None:
    assert parse_username(name) == unicodedata.normalize("NFKC", name)


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("  Ada   Lovelace ", "Ada Lovelace"),
        ("Ada\u00a0Lovelace\u3000", "Ada Lovelace"),
        ("Zoe\u0308", "Zo\u00eb"),
        ("ＡＤＡ１", "ADA1"),
        ("𝒜𝒹𝒶", "Ada"),
        ("ﬁona", "fiona"),
        ("O’Brien", "O'Brien"),
    ],
)
def test_a_name_is_stored_in_its_plain_form(typed: str, stored: str) -> None:
    assert parse_username(typed) == stored


@given(usernames())
def test_a_stored_name_is_stored_as_it_is(name: str) -> None:
    assert parse_username(name) == name
    assert unicodedata.is_normalized("NFKC", name)


def test_a_name_has_2_to_64_characters_once_it_is_normalised() -> None:
    assert refused("")
    assert refused("   a   ")
    assert not refused("ab")
    assert not refused("é" * 64)
    assert not refused("e\u0301" * 64)
    assert refused("a" * 65)
    assert refused("ﬃ" * 22)  # 66 letters
    assert refused(" " * 100_000 + "ada")


@given(any_json | texts)
def test_whatever_comes_is_a_name_or_an_app_error(value: object) -> None:
    refused(value)


@pytest.mark.parametrize("value", [None, True, 12, 1.5, [], ["ada"], {}, b"ada"])
def test_a_name_is_text(value: object) -> None:
    error = fault_of(parse_username, value)
    assert error is not None
    assert error.code == Code.INVALID_TYPE


# --- what is refused ------------------------------------------------------------------------

UNSEEN = ["ada\u200b", "a\u200cda", "a\u200dda", "\ufeffada", "a\u00adda", "a\u2060da"]
UNSEEN += ["a\u061cda", "ada\u202ecod", "a\u2066da", "ada\u200e", "a\U000e0061da"]
UNSEEN += ["a\u034fda", "ada\ufe0f", "ada\U000e0100", "\u3164\u3164", "\u115f\u1160"]
UNSEEN += ["\uffa0\uffa0", "\u1780\u1780\u17b4", "\u0645\u0640\u0645"]


@pytest.mark.parametrize("name", UNSEEN)
def test_what_no_one_sees_is_refused(name: str) -> None:
    assert refused(name)


MEANINGLESS = ["ada\0", "ada\n", "a\tda", "ada\x7f", "ada\u2028", "a\u1680da", "ada\ue000"]
MEANINGLESS += ["ada\ud800", "ada\uffff", "ada\U0010ffff", "ada\u0378"]


@pytest.mark.parametrize("name", MEANINGLESS)
def test_controls_separators_and_what_has_no_meaning_are_refused(name: str) -> None:
    assert refused(name)


@pytest.mark.parametrize("char", '!"#$%&()*+,/:;<=>?@[\\]^`{|}~€©★♥😀\u2800‐–—·•′〇ˈ\u02b9')
def test_symbols_emoji_and_other_punctuation_are_refused(char: str) -> None:
    assert refused(f"ad{char}a")


@pytest.mark.parametrize("name", ["_ada", ".ada", "-ada", "'ada", "\u0301ada", "¨ada", "--"])
def test_a_name_begins_with_a_letter_or_digit(name: str) -> None:
    assert refused(name)
    assert not refused("ada_.-'")


def test_a_letter_has_at_most_3_accents_and_none_twice() -> None:
    assert not refused("adx\u0323\u0301\u0308")
    assert refused("adx\u0323\u0301\u0308\u0304")
    assert refused("ade\u0301\u0301")
    assert refused("ad1\u0301")
    assert refused("ad-\u0301")
    assert refused("ad e\u0338")  # struck through
    assert refused("ad\u20dd")  # enclosed
    assert refused("ada\u0363")  # a letter above a letter


@pytest.mark.parametrize(
    "name", ["pаypal", "Αda", "Αнна", "한ひ", "ㄅひ", "カ한", "漢Я", "aاb", "ada२", "١۱१"]
)
def test_letters_of_scripts_that_are_not_written_together_are_refused(name: str) -> None:
    assert refused(name)


@pytest.mark.parametrize("name", ["Ada漢字ひカ", "Ada漢字ㄅ", "Ada漢字한", "Ada1 漢_2"])
def test_latin_goes_with_chinese_with_japanese_and_with_korean(name: str) -> None:
    assert not refused(name)


def test_no_character_of_a_name_is_of_category_c_or_z_but_the_plain_space() -> None:
    for code_point in [*range(0x3_2000), *range(0xE_0000, 0xE_0200), 0xF_0000, 0x10_FFFF]:
        name = f"a{chr(code_point)}a"
        kind = unicodedata.category(chr(code_point))
        if fault_of(parse_username, name) is None:
            stored = parse_username(name)
            assert all(unicodedata.category(char)[0] not in "CZS" for char in stored if char != " ")
            assert kind not in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"), hex(code_point)


@given(usernames())
def test_no_drawn_name_has_a_character_of_category_c_or_z_but_the_plain_space(name: str) -> None:
    assert all(char == " " or unicodedata.category(char)[0] not in "CZ" for char in name)
    assert "  " not in name
    assert name == name.strip()


def test_a_refusal_names_the_field_and_says_what_to_do() -> None:
    with pytest.raises(AppError) as caught:
        parse_username("<script>", "displayName")
    assert caught.value.fields[0].pointer == "/displayName"
    assert "use letters, digits, single spaces and _ . - '" in caught.value.message
    assert "script" not in caught.value.message


# --- which two are the same -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ada", "aDA"),
        ("STRASSE", "straße"),
        ("ΟΔΥΣΣΕΥΣ", "Οδυσσευς"),
        ("сосо", "coco"),
        ("СОСО", "coco"),
        ("ВОВА", "boba"),
        ("НЕТ", "het"),
        ("Αννα", "Anna"),
        ("ΝΙΚΗ", "nikh"),
        ("хоре", "xope"),
        ("ёё", "ëë"),
        ("ΌΌ", "óó"),
        ("ՕՏ", "os"),
        ("ᎪᎷᎪ", "ama"),
        ("ꓐꓳꓐ", "bob"),
        ("ᗷᑌᗷ", "bub"),
        ("ʙʀᴜᴄᴇ", "bruce"),
        ("ПФ", "πφ"),
        ("Ӕӕ", "ææ"),
        ("ali", "alı"),
        ("İki", "iki"),
        ("i̇ki", "iki"),
        ("Ðuro", "Đuro"),
        ("Ли3а", "Лиза"),
        ("ヘヘ", "へへ"),
        ("ペペ", "ぺぺ"),
        ("エ口", "工口"),
        ("علي", "علی"),
        ("كمال", "کمال"),
        ("राम१२", "राम12"),
        ("Kaʻa", "Ka'a"),
        ("bob0", "BOBO"),
        ("pau1", "Paul"),
    ],
)
def test_look_alikes_are_the_same(one: str, other: str) -> None:
    assert same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Ian", "Lan"),
        ("Karl", "Kari"),
        ("john_doe", "john.doe"),
        ("john doe", "johndoe"),
        ("jean-luc", "jean luc"),
        ("resume", "résumé"),
        ("Lukasz", "Łukasz"),
        ("Иван", "Ивам"),
        ("Лев", "Лёв"),
        ("Anna", "Avva"),
        ("ada1", "ada2"),
    ],
)
def test_names_that_readers_tell_apart_stay_distinct(one: str, other: str) -> None:
    assert not same(one, other)


@given(usernames())
def test_the_key_of_a_key_is_the_key(name: str) -> None:
    key = username_key(name)
    assert username_key(key) == key


@given(texts)
def test_any_text_has_a_stable_key(text: str) -> None:
    key = username_key(text)
    assert username_key(key) == key


@given(usernames())
def test_case_makes_no_difference_to_the_key(name: str) -> None:
    forms = [form for form in (name.upper(), name.lower()) if not refused(form)]
    assert all(same(form, name) for form in forms)


def test_case_makes_no_difference_for_any_letter() -> None:
    for code_point in range(0x2_0000):
        char = chr(code_point)
        if (char.upper(), char.lower()) == (char, char) or refused(char + char):
            continue
        name = parse_username(char + char)
        forms = [form for form in (name.upper(), name.lower(), name.title()) if not refused(form)]
        assert all(same(form, name) for form in forms), hex(code_point)


@given(usernames())
def test_a_name_has_one_key_however_it_is_composed(name: str) -> None:
    assert same(unicodedata.normalize("NFD", name), name)


def test_every_look_alike_is_a_casefolded_letter_and_its_shape_is_final() -> None:
    for code_point, shape in LOOKALIKES.items():
        letter = chr(code_point)
        assert letter.casefold() == letter
        assert unicodedata.is_normalized("NFKC", letter)
        assert unicodedata.is_normalized("NFD", letter)
        assert unicodedata.category(letter)[0] == "L"
        assert ord(shape) not in LOOKALIKES


@pytest.mark.parametrize(
    ("char", "script"),
    [
        ("a", "LATIN"),
        ("я", "CYRILLIC"),
        ("漢", "CJK"),
        ("々", "CJK"),
        ("ー", "KATAKANA"),
        ("٣", "ARABIC"),
        ("۳", "ARABIC"),
        ("\u1950", "TAI LE"),
        ("\U00010300", "OLD ITALIC"),
        ("7", None),
        ("\u0301", None),
    ],
)
def test_the_script_of_a_letter_is_told_by_its_name(char: str, script: str | None) -> None:
    assert script_of(char) == script
