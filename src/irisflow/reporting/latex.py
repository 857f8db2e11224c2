"""The report's tables as LaTeX, ready to `\\input`. They need the packages booktabs and graphicx."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--", "\N{EM DASH}": "---", "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{PLUS-MINUS SIGN}": r"$\pm$", "\N{LESS-THAN OR EQUAL TO}": r"$\leq$", "\N{GREATER-THAN OR EQUAL TO}": r"$\geq$",
    "\N{RIGHTWARDS ARROW}": r"$\rightarrow$", "\N{GREEK CAPITAL LETTER DELTA}": r"$\Delta$",
    "\N{GREEK SMALL LETTER EPSILON}": r"$\varepsilon$", "\N{GREEK SMALL LETTER TAU}": r"$\tau$",
    "\N{MIDDLE DOT}": r"$\cdot$", "\N{HORIZONTAL ELLIPSIS}": r"\ldots{}", "\N{NO-BREAK SPACE}": "~", "\n": " ",
    "\N{ZERO WIDTH SPACE}": "", '"': "''",
}  # fmt: skip
FITTING = r"\ifdim\width>\linewidth\linewidth\else\width\fi"
LONGEST = 40  # letters of a cell that stays on one line
STYLES = {"strong": r"\textbf{%s}", "good": r"\textbf{%s}", "bad": r"\textit{%s}"}


def write_tables(sections: Iterable[Mapping[str, Any]], folder: Path) -> None:
    """Write every table of the report as `folder/T1.tex`, ...; further ones of an identifier as `T3-2.tex`."""
    folder.mkdir()
    numbers: dict[str, int] = {}
    for block in _tables(sections):
        identifier = str(block["id"])
        numbers[identifier] = number = numbers.get(identifier, 0) + 1
        name = identifier if number == 1 else f"{identifier}-{number}"
        (folder / f"{name}.tex").write_text(latex(block), encoding="utf-8")


def latex(block: Mapping[str, Any]) -> str:
    """Return a table block as a `table` with caption and label `tab:ID`."""
    columns = "".join(_column(block, index) for index in range(len(block["columns"])))
    heads = " & ".join(escaped(column["title"]) for column in block["columns"])
    caption = f"{escaped(block['title'])}. {escaped(block['caption'])}".strip()
    lines = [
        r"% needs \usepackage{booktabs, graphicx}; smaller where it would be too wide",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{caption}}}",
        rf"\label{{tab:{block['id']}}}",
        rf"\resizebox{{{FITTING}}}{{!}}{{%",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        rf"{heads} \\",
        r"\midrule",
        *_rows(block),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _column(block: Mapping[str, Any], index: int) -> str:
    """Return how LaTeX sets a column: sentences wrap."""
    if block["columns"][index]["align"] != "left":
        return "r"
    texts = [row[index] if isinstance(row[index], str) else row[index]["text"] for row in block["rows"]]
    words = [word for text in texts for word in text.split()]
    has_sentences = max(map(len, texts), default=0) > LONGEST and max(map(len, words)) <= LONGEST // 2
    return "p{4cm}" if has_sentences else "l"


def escaped(text: str) -> str:
    """Return a text in which no character is a command."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def _tables(sections: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    for section in sections:
        for block in section["blocks"]:
            if block["kind"] == "table":
                yield block


def _rows(block: Mapping[str, Any]) -> Iterator[str]:
    last = len(block["rows"]) - 1
    for index, row in enumerate(block["rows"]):
        yield " & ".join(map(_cell, row)) + r" \\"
        if index in block["rules_after"] and index < last:
            yield r"\midrule"


def _cell(cell: str | Mapping[str, Any]) -> str:
    if isinstance(cell, str):
        return escaped(cell)
    return STYLES.get(cell.get("style", ""), "%s") % escaped(cell["text"])
