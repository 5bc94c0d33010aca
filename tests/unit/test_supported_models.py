"""Guards the README's table of supported models: each name leads to a tag of the library, or its row says otherwise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from arasul_supervisor.ollama.aliases import Aliases
from arasul_supervisor.settings.model_names import BUILT_IN_ALIASES, DOCUMENTED_MODELS

ROOT: Final = Path(__file__).parents[2]
NO_SUCH_TAG: Final = "does not exist"
ROW: Final = re.compile(r"^\| `(?P<name>[^`]+)` \|(?P<rest>.*)\|$", re.MULTILINE)


def table() -> dict[str, str]:
    """Name and rest of each row of the README's section."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Supported models\n")[2]
    return {row["name"]: row["rest"] for row in ROW.finditer(section.partition("\n## ")[0])}


def library_tags() -> frozenset[str]:
    """What is recorded of the library."""
    lines = (ROOT / "tests/recorded/library_tags.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line.split()[0] for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("name", sorted({*table(), *DOCUMENTED_MODELS}))
def test_a_supported_model_leads_to_a_tag_that_exists_or_is_said_not_to(name: str) -> None:
    tag = Aliases({}).resolve(name)

    assert tag in library_tags() or NO_SUCH_TAG in table()[name]


@pytest.mark.parametrize("name", sorted(BUILT_IN_ALIASES))
def test_the_row_of_an_alias_names_the_real_tag(name: str) -> None:
    assert f"`{BUILT_IN_ALIASES[name]}`" in table()[name]


def test_the_table_lists_the_documented_models_and_no_others() -> None:
    assert set(table()) == set(DOCUMENTED_MODELS)
