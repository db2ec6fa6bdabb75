# ruff: noqa: RUF001 - letters that look like others are what this is about
"""Letters that a reader takes for one another, and the script that a letter is of."""

import re
import unicodedata
from collections.abc import Iterable

APOSTROPHES = "\u02bb\u02bc"
"""Letters of Hawaiian and Ukrainian, among others, whose shape is an apostrophe."""

# Left: casefolded letters, without their accents. Right: what they look like, as small
# letters or as capitals; where the two differ, the capitals count, whose shapes are equal
# and not only close (Greek nu is n, not v). Chosen from confusables.txt of UTS 39 and from
# the letters of "fancy text". Letters of one script that ordinary names tell apart by are
# rarely merged, and those of right-to-left scripts not with Latin ones.
_PAIRS = (
    # Latin: dotless and single-storey letters, a schwa, eth as a capital, small capitals
    ("ıɩȷɑɡǝðɖǀ", "iijagəđđl"),
    ("ᴀʙᴄᴅᴇꜰɢʜɪᴊᴋʟᴍɴᴏᴘꞯʀꜱᴛᴜᴠᴡʏᴢ", "abcdefghijklmnopqrstuvwyz"),
    # Greek, then what it shares with Cyrillic only
    ("αβεϝζηιϳκμνορτυχ", "abefzhijkmnoptyx"),
    ("γλπφ", "глпф"),
    # Cyrillic
    ("авсԁеԍһніјкӏморԛѕтѵԝхуүзбәӕө", "abcdeghhijklmopqstvwxyy36əæɵ"),
    # Armenian, Coptic
    ("ցհյլոօզտս", "ghjlnoqsu"),
    ("ⲥⲏⲓⲕⲙⲛⲟⲣⲧⲭⲩⲅ", "chikmnoptxyг"),
    # Cherokee (its casefolded letters are the capitals), Lisu
    ("ᎪᏴᏏᏟᎠᏧᎬᏀᎻᏂᎥᎫᏦᏞᎷᏢᎡᏚᏕᎢᏙᎳᎩᏃᏎᏮ", "abbcddeghhijklmprsstvwyz46"),
    ("ꓮꓐꓚꓓꓰꓝꓖꓧꓲꓙꓗꓡꓟꓠꓳꓑꓣꓢꓔꓴꓦꓪꓫꓬꓜ", "abcdefghijklmnoprstuvwxyz"),
    # Canadian syllabics, Tifinagh
    ("ᗅᗩᗷᑕᗞᗪᖴᕼᒍᒪᗰᑎᑭᑫᖇᔕᑌᐯᗯᘔ", "aabcddfhjlmnpqrsuvwz"),
    ("ⴹⵏⵔⵕⴸⵝ", "eloqvx"),
    # Japanese and Chinese
    ("ヘカニハエトタローノ", "へ力二八工卜夕口一丿"),
    # Arabic letters that differ by language only
    ("يىكہھە", "ییکههه"),
    # apostrophes that are letters
    (APOSTROPHES + "ꞌ", "'''"),
)

LOOKALIKES = {
    ord(letter): shape
    for letters, shapes in _PAIRS
    for letter, shape in zip(letters, shapes, strict=True)
}
"""What a casefolded letter looks like; for `str.translate`."""

_SAME_SCRIPT = {
    "ARABIC-INDIC": "ARABIC",
    "EXTENDED": "ARABIC",  # EXTENDED ARABIC-INDIC DIGIT
    "HENTAIGANA": "HIRAGANA",
    "IDEOGRAPHIC": "CJK",
    "KATAKANA-HIRAGANA": "KATAKANA",
}
_FAMILIES = frozenset({"INSCRIPTIONAL", "LINEAR", "MEROITIC", "OLD", "TAI"})
_MIXED = (
    frozenset({"LATIN", "CJK", "HIRAGANA", "KATAKANA"}),
    frozenset({"LATIN", "CJK", "BOPOMOFO"}),
    frozenset({"LATIN", "CJK", "HANGUL"}),
)
_SMALL_ABOVE = re.compile("COMBINING .*(LETTER|DIGIT)")
_NOT_SCRIPTS = frozenset(
    {"CARON", "MASU", "MODIFIER", "MUSICAL", "PHAISTOS", "ROMAN", "SIGNWRITING", "TURNED"}
    | {"UNNAMED", "VARIATION", "VEDIC", "VERTICAL", "ZNAMENNY"}
)


def script_of(char: str) -> str | None:
    """The script of a letter, mark or digit, by its Unicode name; None if scripts share it.

    Python has no script property. Where a letter or digit has a script here, it is the
    script that Unicode 14 gives it; `is_of_a_script` tells the few that have none.
    """
    name = unicodedata.name(char, "UNNAMED")
    words = name.split()
    if words[0] in ("DIGIT", "COMBINING") or char in APOSTROPHES:
        return None
    if words[0] in _FAMILIES:
        return " ".join(words[:2])
    return _SAME_SCRIPT.get(words[0], words[0])


def is_of_a_script(char: str) -> bool:
    """Whether a letter or mark is used to write words, not phonetics, music or variants."""
    if script_of(char) is None and _SMALL_ABOVE.search(unicodedata.name(char, "")):
        return False
    return script_of(char) not in _NOT_SCRIPTS


def is_one_script(chars: Iterable[str]) -> bool:
    """Whether letters, marks and digits are of scripts that are written together.

    That is one script, or Latin with those of Chinese, Japanese or Korean: "highly
    restrictive" in UTS 39, section 5.2.
    """
    scripts = {script for char in chars if (script := script_of(char))}
    return len(scripts) <= 1 or any(scripts <= mixed for mixed in _MIXED)
