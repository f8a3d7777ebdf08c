"""docs/reference/analyses.md lists every analysis with what it needs, as the analyses say it.

`python -m tests.test_analyses_page` writes the table anew.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from phypan.linux import culprit
from phypan.linux.panic import Death
from phypan.manager import Registry

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "analyses.md"
BEGIN = "<!-- table: python -m tests.test_analyses_page writes it -->\n"
END = "<!-- end of table -->\n"


def table() -> str:
    lines = ["| analysis | what it tells | needs |", "|---|---|---|"]
    for name, analysis in sorted(Registry(third_party=False).analyses.items()):
        told = analysis.help.rstrip(".").replace("|", "\\|")
        lines.append(f"| `{name}` | {told} | {', '.join(sorted(analysis.needs))} |")
    return "\n".join(lines) + "\n"


def test_the_table_is_what_the_analyses_say() -> None:
    text = PAGE.read_text()
    written = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip("\n") + "\n"
    assert written == table(), "python -m tests.test_analyses_page writes it anew"


def test_every_need_is_explained() -> None:
    explained = PAGE.read_text().split(BEGIN, maxsplit=1)[0]
    for analysis in Registry(third_party=False).analyses.values():
        for need in analysis.needs:
            assert f"| {need}" in explained or f", {need}" in explained


def test_the_digest_is_made_as_the_page_says() -> None:
    said = culprit.signature(Death(kind="BUG"), culprit.Culprit("f", "m"))
    digest = sha256(b"BUG\0f\0m").hexdigest()[:12]
    assert said == f"BUG / f / m / {digest}"


if __name__ == "__main__":
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}")
