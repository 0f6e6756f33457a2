"""The tables and figures of the thesis for LaTeX: a zip with tables/*.tex, figures/*.pdf, and a
main.tex that shows them all.

They are read from the thesis itself, so that they say what it says.
"""

import argparse
import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import typst

from netreduce.cli.exits import run_script
from netreduce.errors import NetreduceError
from netreduce.files import read_lines, replacing
from typeset import inputs

Node = Mapping[str, Any]
DATE = (1980, 1, 1, 0, 0, 0)  # of every file in the zip, so that its bytes are always the same
LONG = 45  # rows: longer tables go over several pages

SPECIAL = {character: f"\\{character}" for character in "&%$#_{}"}
SPECIAL |= {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "\u00a0": "~",
    "\u202f": r"\,",
    "–": "--",
    "−": "$-$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "±": r"$\pm$",
    "→": r"$\to$",
    "↻": r"$\circlearrowright$",
    "∞": r"$\infty$",
    "α": r"$\alpha$",
    "“": "``",
    "”": "''",
    "’": "'",
    "…": r"\ldots{}",
}
MATH = {
    "⋅": r"\cdot ",
    "−": "-",
    "×": r"\times ",
    "≤": r"\le ",
    "≥": r"\ge ",
    "ρ": r"\rho ",
    "δ": r"\delta ",
    "ε": r"\varepsilon ",
    "α": r"\alpha ",
    "ℓ": r"\ell ",
    "∈": r"\in ",
    "ℝ": r"\mathbb{R}",
    "→": r"\to ",
    "…": r"\ldots ",
    "⊤": r"\top ",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", type=Path, required=True, help="main file of the thesis (.typ)")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="what it reads (.json)")
    parser.add_argument(
        "--figures", type=read_lines, default=[], help="file with those of its figures (.svg)"
    )
    parser.add_argument("--pipeline", type=Path, help="picture of the workflow (.svg)")
    parser.add_argument("--output", type=Path, required=True, help="where they go (.zip)")
    arguments = parser.parse_args()

    values = inputs(arguments.data, map(Path, arguments.figures), arguments.pipeline)
    files: dict[str, bytes] = {}
    shown = []
    for figure in floats(arguments.source, values):
        name = re.sub(r"[^A-Za-z0-9.-]+", "-", figure["label"].strip("<>"))
        if figure["kind"] == "table":
            files[f"tables/{name}.tex"] = table(figure, name).encode()
            shown.append(f"tables/{name}.tex")
        elif figure["body"].get("func") == "image":
            files[f"figures/{name}.pdf"] = picture(figure["body"]["source"])
            files[f"figures/{name}.tex"] = placed(figure, name).encode()
            shown.append(f"figures/{name}.tex")
    config = json.loads(Path(values["provenance"]).read_text(encoding="utf-8"))["config"]
    files["main.tex"] = document(config["report"], shown).encode()
    with replacing(arguments.output) as temporary:
        pack(files, temporary)


def floats(source: Path, values: Mapping[str, str]) -> list[dict[str, Any]]:
    """All figures and tables of the thesis with their captions, as Typst sees them."""
    found = typst.query(
        str(source.absolute()),
        "figure",
        root="/",
        ignore_system_fonts=True,
        sys_inputs=dict(values),
    )
    return [one for one in json.loads(found) if one["kind"] in ("table", "image")]


def table(figure: Node, name: str) -> str:
    """A table with its caption, over several pages where it is long."""
    grid = next(one for one in nodes(figure["body"]) if one.get("func") == "table")
    width = len(grid["columns"])
    head: list[str] = []
    body: list[str] = []
    cells: list[Node] = []
    for child in grid["children"]:
        match child["func"]:
            case "header":
                head = rows([one for one in child["children"] if one["func"] == "cell"], width)
            case "cell":
                cells.append(child)
            case "hline" if cells:
                body += rows(cells, width)
                cells = []
                body.append(r"\midrule")
    body = [*body, *rows(cells, width)]
    while body and body[-1] == r"\midrule":
        body.pop()
    content = [r"\toprule", *head, r"\midrule", *body, r"\bottomrule"]
    columns = alignment(grid["children"], width)
    label = rf"\caption[{tex(title(figure))}]{{{tex(figure['caption']['body'])}}}\label{{{name}}}"
    if len(body) > LONG:
        lines = [rf"\begin{{longtable}}{{{columns}}}", rf"{label}\\", *content]
        return "\n".join([r"{\footnotesize", *lines, r"\end{longtable}}", ""])
    lines = [r"\begin{table}[htbp]", r"\centering\footnotesize", label, r"\fitted{%"]
    lines += [rf"\begin{{tabular}}{{{columns}}}", *content, r"\end{tabular}}", r"\end{table}", ""]
    return "\n".join(lines)


def rows(cells: Sequence[Node], width: int) -> list[str]:
    """Cells as lines of a table."""
    lines, line, place = [], [], 0
    for cell in cells:
        span = cell.get("colspan", 1)
        text = tex(cell["body"]).strip()
        line.append(rf"\multicolumn{{{span}}}{{c}}{{{text}}}" if span > 1 else text)
        place += span
        if place >= width:
            lines.append(" & ".join(line) + r" \\")
            line, place = [], 0
    return lines


def alignment(children: Sequence[Node], width: int) -> str:
    """Columns of numbers to the right, others to the left."""
    texts: list[list[str]] = [[] for _ in range(width)]
    cells = [child for child in children if child["func"] == "cell" and "colspan" not in child]
    for number, cell in enumerate(cells):
        if text := plain(cell["body"]).strip():
            texts[number % width].append(text)
    numeric = [
        bool(column) and sum(bool(re.match(r"[−±\d–]", one)) for one in column) * 2 > len(column)
        for column in texts
    ]
    return "".join(
        "r" if number and number_like else "l" for number, number_like in enumerate(numeric)
    )


def placed(figure: Node, name: str) -> str:
    """A figure with its caption."""
    label = rf"\caption[{tex(title(figure))}]{{{tex(figure['caption']['body'])}}}\label{{{name}}}"
    lines = [r"\begin{figure}[htbp]", r"\centering"]
    lines += [rf"\includegraphics[width=\linewidth]{{figures/{name}.pdf}}", label]
    return "\n".join([*lines, r"\end{figure}", ""])


def title(figure: Node) -> Node:
    """The first sentence of a caption."""
    return first_sentence(figure["caption"]["body"])[0]


def first_sentence(node: Node) -> tuple[Node, bool]:
    """The content up to the first full stop, and whether there was one."""
    if node["func"] == "text":
        end = re.search(r"\.(\s|$)", node["text"])
        return (
            ({"func": "text", "text": node["text"][: end.start()]}, True) if end else (node, False)
        )
    kept = []
    for child in node.get("children", ()):
        part, ended = first_sentence(child)
        kept.append(part)
        if ended:
            return {"func": "sequence", "children": kept}, True
    return node, False


def picture(path: str) -> bytes:
    """A figure (.svg) as PDF."""
    source = "#set page(width: auto, height: auto, margin: 0pt)\n#image(sys.inputs.path)"
    with TemporaryDirectory() as folder:
        pdf, page = Path(folder, "figure.pdf"), Path(folder, "figure.typ")
        page.write_text(source, encoding="utf-8")
        typst.compile(str(page), output=str(pdf), root="/", sys_inputs={"path": path}, timestamp=0)
        return pdf.read_bytes()


def pack(files: Mapping[str, bytes], path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, DATE), content, zipfile.ZIP_DEFLATED)


def nodes(content: Any) -> list[Node]:
    """All pieces of content in a piece, itself included."""
    if isinstance(content, list):
        return [one for part in content for one in nodes(part)]
    if not isinstance(content, dict):
        return []
    return [content, *(one for part in content.values() for one in nodes(part))]


def plain(node: Node) -> str:
    return "".join(str(one["text"]) for one in nodes(node) if one.get("func") == "text")


def tex(node: Node) -> str:
    """Content of the thesis in LaTeX."""
    convert = WORDS.get(node["func"])
    if convert is None:
        raise NetreduceError(
            f"a caption or table holds {node['func']!r}, expected text or formulas"
        )
    return convert(node)


def escaped(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)


def path_like(node: Node) -> str:
    """Code and paths; lines may end after a slash."""
    return rf"\texttt{{{escaped(node['text'])}}}".replace("/", r"/\allowbreak{}")


def all_of(node: Node) -> str:
    return "".join(map(tex, node["children"]))


def formula(node: Node) -> str:
    return f"${math(node['body'])}$"


def math(node: Node) -> str:
    """A formula in LaTeX."""
    match node["func"]:
        case "text" | "symbol":
            text = str(node["text"])
            if len(text) > 1 and text.isalpha():
                return rf"\mathrm{{{text}}}"
            return "".join(MATH.get(character, character) for character in text)
        case "space":
            return " "
        case "attach":
            below, above = (node.get(key) for key in ("b", "t"))
            parts = [math(node["base"])]
            parts += [] if below is None else [f"_{{{math(below)}}}"]
            parts += [] if above is None else [f"^{{{math(above)}}}"]
            return "".join(parts)
        case "frac":
            return rf"\frac{{{math(node['num'])}}}{{{math(node['denom'])}}}"
        case "accent":
            return rf"\tilde{{{math(node['base'])}}}"
        case "op":
            return rf"\operatorname{{{plain(node)}}}"
        case "h":
            return r"\,"
    if "children" in node:
        return "".join(map(math, node["children"]))
    for key in ("body", "child"):
        if key in node:
            return math(node[key])
    raise NetreduceError(f"a formula holds {node['func']!r}, which has no counterpart in LaTeX")


WORDS: dict[str, Callable[[Any], str]] = {
    "text": lambda node: escaped(node["text"]),
    "symbol": lambda node: escaped(node["text"]),
    "space": lambda node: " ",
    "h": lambda node: r"\,",
    "linebreak": lambda node: r"\newline ",
    "smartquote": lambda node: "''" if node.get("double", True) else "'",
    "sequence": all_of,
    "styled": lambda node: tex(node["child"]),
    "strong": lambda node: rf"\textbf{{{tex(node['body'])}}}",
    "emph": lambda node: rf"\emph{{{tex(node['body'])}}}",
    "raw": path_like,
    "link": lambda node: tex(node["body"]),
    "cite": lambda node: rf"\cite{{{node['key'].strip('<>')}}}",
    "ref": lambda node: rf"\texttt{{{escaped(node['target'].strip('<>'))}}}",
    "equation": formula,
    "metadata": lambda node: "",
}


def document(report: Mapping[str, str], shown: Sequence[str]) -> str:
    """main.tex: everything in the order of the thesis."""
    names = {key: escaped(report[key]) for key in ("title", "author")}
    lines = [rf"\input{{{name}}}" for name in shown]
    return HEAD.format(**names).replace("(*", "{").replace("*)", "}") + "\n".join(lines) + TAIL


HEAD = r"""% Tables and figures of the thesis, for a template of one's own: each is a file.
% Needs graphicx and longtable; booktabs where there is one.
\documentclass[a4paper]{{article}}
\usepackage[T1](*fontenc*)
\usepackage[utf8](*inputenc*)
\usepackage(*textcomp,amssymb,graphicx,longtable*)
\IfFileExists(*booktabs.sty*)(*\usepackage(*booktabs*)*)(*%
  \newcommand(*\toprule*)(*\hline*)\newcommand(*\midrule*)(*\hline*)\newcommand(*\bottomrule*)(*\hline*)*)
% As wide as it is, or as the line, whichever is less.
\newcommand(*\fitted*)[1](*\resizebox(*\ifdim\width>\linewidth\linewidth\else\width\fi*)(*!*)(*#1*)*)
\begin(*document*)
\title(*{title}*)
\author(*{author}*)
\date(**)
\maketitle
\listoffigures
\listoftables
\clearpage
"""
TAIL = "\n\\end{document}\n"


if __name__ == "__main__":
    run_script(main)
