"""Pages of the site that are made from what they describe, so that they cannot drift: the command
line from its own help, the configuration from its schema, the rules from the workflow, the library
from its public names.
"""

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

import netreduce  # noqa: E402

ROOMS = (
    *(
        "network",
        "formats",
        "quantization",
        "lumping",
        "pruning",
        "factorization",
        "folding",
        "repair",
    ),
    *("certificates", "measures", "data", "errors"),
)

# Links that hold in the repository → the pages of the site.
ELSEWHERE = {
    "../config/README.md": "configuration.md",
    "../examples": "examples.md",
    "../report/pipeline.svg": "images/pipeline.svg",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made."""
    made = {
        "cli.md": command_line(),
        "config.md": configuration(),
        "rules.md": rules(),
        "examples.md": examples(),
        "configuration.md": _read("config/README.md"),
        "changelog.md": _read("CHANGELOG.md"),
        **library(),
    }
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    picture = str(ROOT / "report/pipeline.svg")
    files.append(File.generated(config, "images/pipeline.svg", abs_src_path=picture))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the README's headline where a page asks for it; a page without sections is wide."""
    if not re.search(r"^(## |:::)", markdown, re.MULTILINE):
        page.meta.setdefault("hide", ["toc"])
    for there, here in ELSEWHERE.items():
        markdown = markdown.replace(f"]({there})", f"]({here})")
    if "<!-- headline -->" not in markdown:
        return markdown
    table = re.search(r"<!-- headline -->\n(.*?)<!-- end -->", _read("README.md"), re.DOTALL)
    headline = table[1].replace("](docs/", "](") if table else ""
    return markdown.replace("<!-- headline -->", headline)


def command_line() -> str:
    """The reference of the command line, from its own help."""
    from netreduce.cli.app import app

    text = app.generate_docs(output_format="markdown", recursive=True)
    text = re.sub(r"## Table of Contents\n.*?(?=\*\*Commands\*\*)", "", text, flags=re.DOTALL)
    text = re.sub(r"^# netreduce$", "# The command line", text, count=1, flags=re.MULTILINE)
    return text + EXITS


EXITS = """

## Exit status

| status | when |
|---:|---|
| 0 | done |
| 1 | an error of the library, or of a file: one line on stderr |
| 2 | wrong words on the command line |
| 130 | interrupted by Ctrl-C: nothing is left half-written |
"""


def configuration() -> str:
    """The reference of the configuration, from the schema that checks it."""
    schema = yaml.safe_load(_read("workflow/schemas/config.schema.yaml"))
    parts = [CONFIGURATION]
    for path, node in sections(schema, schema, ()):
        if path:
            title = ".".join(path).replace("<", "&lt;")
            parts += [f"{'#' * min(len(path) + 1, 4)} {title} {{ #{anchor(path)} }}\n"]
            parts += [_cell(str(node.get("description", ""))) + "\n"]
        parts += ["| key | meaning | default | allowed |", "|---|---|---|---|"]
        for key, found in children(node, schema).items():
            meaning = _cell(found.get("description", ""))
            if key in node.get("required", ()):
                meaning += " **(required)**"
            below = children(found, schema)
            place = (*path, key, "<name>") if below.keys() == {"<name>"} else (*path, key)
            allowed = f"[its keys](#{anchor(place)})" if below else _range(found, schema)
            default = _plain(found["default"]) if "default" in found and not below else ""
            parts.append(f"| {_code(key)} | {meaning} | {_code(default)} | {allowed} |")
        parts.append("")
    return "\n".join(parts)


CONFIGURATION = """# The configuration

Made from `workflow/schemas/config.schema.yaml`, which checks every configuration and fills in what
is left out. `<name>` is a name of your own. [Write a configuration](configuration.md) has whole
ones. Editors with a YAML language server check a configuration while you type: its first line names
the schema.
"""


def sections(
    node: Mapping[str, Any], schema: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every node of the schema that has keys, and its path."""
    below = children(node, schema)
    if below and below.keys() != {"<name>"}:
        yield path, node
    for key, found in below.items():
        yield from sections(found, schema, (*path, key))


def children(node: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The keys of a node, with what they refer to; <name> stands for names of the user's own."""
    found = dict(node.get("properties", {}))
    if isinstance(node.get("additionalProperties"), dict):
        found["<name>"] = node["additionalProperties"]
    return {key: _resolved(value, schema) for key, value in found.items()}


def anchor(path: tuple[str, ...]) -> str:
    return "-".join(path).replace("<", "").replace(">", "")


def _resolved(node: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A node of the schema with what it refers to."""
    own = {key: value for key, value in node.items() if key != "$ref"}
    if "$ref" in node:
        name = node["$ref"].removeprefix("#/$defs/")
        return {**_resolved(schema["$defs"][name], schema), **own}
    return own


def _range(key: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """What a key allows, in words."""
    key = _resolved(key, schema)
    if "const" in key:
        return _code(_plain(key["const"]))
    if "enum" in key:
        return ", ".join(_code(_plain(value)) for value in key["enum"])
    choices = key.get("oneOf", ())
    if choices:
        return "; or ".join(dict.fromkeys(_range(choice, schema) for choice in choices))
    kinds = key.get("type", "")
    kind = " or ".join(kinds) if isinstance(kinds, list) else kinds
    if kind == "array":
        if "prefixItems" in key:
            return f"list of {len(key['prefixItems'])}"
        inner = _range(key.get("items", {}), schema)
        fixed = "minItems" in key and key["minItems"] == key.get("maxItems")
        size = f"list of {key['minItems']}" if fixed else "list"
        return f"{size}: {inner}" if inner else size
    words = {"object": "mapping", "string": "text", "boolean": "`true`, `false`"}
    limits = [
        f"{sign} {key[word]}"
        for word, sign in (
            ("minimum", "≥"),
            ("exclusiveMinimum", ">"),
            ("maximum", "≤"),
            ("exclusiveMaximum", "<"),
        )
        if word in key
    ]
    return " ".join(filter(None, (words.get(kind, kind), ", ".join(limits))))


def rules() -> str:
    """The rules of the workflow, from their files: what each makes, and the lines that say how."""
    parts = [RULES]
    for path in sorted((ROOT / "rules").glob("*.smk")):
        rows = []
        for name, body in re.findall(
            r"^rule (\w+):\n(.*?)(?=^\S|\Z)",
            path.read_text(encoding="utf-8"),
            re.DOTALL | re.MULTILINE,
        ):
            made, read = _paths(body, "output"), _paths(body, "input")
            if made:
                rows.append(f"| `{name}` | {made} | {read} |")
        if rows:
            parts += [f"## {path.stem}\n", "| rule | makes | reads |\n|---|---|---|", *rows, ""]
    return "\n".join(parts)


RULES = """# Rules

Made from `rules/*.smk`: what each rule makes, and what it reads beside the code of its script.
`{model}` and the like are wildcards. Inputs that functions find in the configuration are not in
this table. `snakemake <path>` makes any of the files.
"""


def _paths(body: str, section: str) -> str:
    """The paths of results in a section of a rule."""
    block = re.search(rf"^    {section}:\n((?:        .*\n|\n)+)", body, re.MULTILINE)
    found = re.findall(r'"((?:results|resources)/[^"]+)"', block[1]) if block else []
    plain = (re.sub(r"\{+(\w+),?[^}]*\}+", r"{\1}", one) for one in found)
    return "<br>".join(_code(one.replace("{replicate}", "{model}")) for one in plain)


def examples() -> str:
    """The scripts under examples/."""
    parts = ["# Examples\n", "Scripts under `examples/`; each is run as a test.\n"]
    for path in sorted((ROOT / "examples").glob("*.py")):
        code = path.read_text(encoding="utf-8").rstrip()
        parts += [f"## {path.stem.replace('_', ' ').capitalize()}\n", f"```python\n{code}\n```\n"]
    return "\n".join(parts)


def library() -> dict[str, str]:
    """A page for every room of the library, from its public names."""
    pages, lines = {}, [LIBRARY]
    for room in ROOMS:
        module = importlib.import_module(f"netreduce.{room}")
        names = {
            f"netreduce.{where}.{name}": f"netreduce.{name}"
            for name, where in sorted(netreduce._PUBLIC.items(), key=lambda entry: "." in entry[1])
            if where.split(".")[0] == room
        }
        for name in getattr(module, "__all__", ()):
            if name.isupper() or name in netreduce._PUBLIC:
                continue
            names[f"netreduce.{room}.{name}"] = f"netreduce.{room}.{name}"
        text = " ".join((module.__doc__ or "").split("\n\n")[0].split())
        lines.append(f"| [{room}]({room}.md) | {_cell(text)} |")
        blocks = [
            f"::: {path}\n    options: {{heading: {name}, toc_label: {name.rpartition('.')[2]}}}\n"
            for path, name in names.items()
        ]
        pages[f"library/{room}.md"] = "\n".join([f"# {room}\n", module.__doc__ or "", *blocks])
    return {"library/index.md": "\n".join(lines) + "\n", **pages}


LIBRARY = """# The library

`import netreduce as nr`. What is used most is in `netreduce` itself; every name belongs to a room.

| room | what is in it |
|---|---|"""


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _plain(value: object) -> str:
    """A value as YAML writes it in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
