"""What the documents promise is what the code does."""

import re
from pathlib import Path

from domain.errors import RETRYABLE, Code
from server.problems import STATUS
from server.settings import Settings

ROOT = Path(__file__).parents[2]


def test_every_code_is_documented_with_its_status_and_retryability() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+) \| (yes)? ?\|",
        (ROOT / "docs/protocol.md").read_text(),
        re.MULTILINE,
    )
    documented = {code: (int(status), bool(retry)) for code, status, retry in rows}
    assert documented == {code.value: (STATUS[code], code in RETRYABLE) for code in Code}


def test_every_setting_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    names = {name.upper() for name in Settings.model_fields}
    assert [name for name in sorted(names) if f"`{name}`" not in readme] == []
