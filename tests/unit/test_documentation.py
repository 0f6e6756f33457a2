import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
COMMAND = f"""#!/bin/sh
exec {sys.executable} -c "from netreduce.cli.app import main; main()" "$@"
"""


COMMANDS = {"show", "evaluate", "convert", "quantize", "reduce", "compare", "certify", "init"}


def words(text):
    """The words of a text; numbers differ from machine to machine."""
    return re.sub(r"\d[\d.,e-]*", "N", text).split()


@pytest.fixture
def environment(tmp_path):
    """An environment with `netreduce` on its path."""
    command = tmp_path / "bin/netreduce"
    command.parent.mkdir()
    command.write_text(COMMAND)
    command.chmod(0o755)
    return os.environ | {
        "PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_tutorial_word_for_word(tmp_path, monkeypatch, capsys, environment):
    text = (DOCS / "tutorial.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    names = {}
    blocks = re.findall(r"```(python|sh)\n(.*?)```(?:\n\n```text\n(.*?)```)?", text, re.DOTALL)
    assert len(blocks) == 6
    for language, code, shown in blocks:
        if language == "python":
            exec(code, names)
            printed = capsys.readouterr().out
        else:
            printed = subprocess.run(
                ["sh", "-ec", code], capture_output=True, text=True, check=True, env=environment
            ).stdout
        parts = [words(part) for part in shown.split("...\n")]
        found = words(printed)
        assert found[: len(parts[0])] == parts[0]
        assert found[len(found) - len(parts[-1]) :] == parts[-1]


def example(name, folder):
    return subprocess.run(
        [sys.executable, ROOT / "examples" / name, folder],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
    ).stdout


def test_example_of_a_reduction(tmp_path):
    printed = example("reduce_own_network.py", tmp_path)
    first, *_, last = re.findall(r"([\d.]+)% right, .* ([\d,]+) bytes", printed)
    sizes = [int(found[1].replace(",", "")) for found in (first, last)]
    assert sizes[1] < sizes[0] / 10
    assert float(last[0]) > float(first[0]) - 3
    assert {path.name for path in tmp_path.iterdir()} == {"small.h5", "small.onnx"}


def test_example_of_a_certificate(tmp_path):
    printed = example("certify_a_reduction.py", tmp_path)
    bound, found = (
        float(re.search(pattern, printed)[1])
        for pattern in (r"more than ([\d.]+)", r"moves by ([\d.]+) is known")
    )
    assert 0 < found <= bound
    assert re.findall(r"everywhere\? (\w+)", printed) == ["yes", "no"]


def test_readme_says_the_commands_that_the_checks_run():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^    make +# ", readme, re.MULTILINE)
    assert re.search(r"^    make test +# ", readme, re.MULTILINE)


def test_the_chains_and_commands_of_readme_are_those_of_the_library():
    from netreduce.cli.app import app

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^    netreduce (.*)", readme, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', command)]
        app.parse_args(words, exit_on_error=False, print_error=False)


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere_in_the_repository(path):
    if path == DOCS / "index.md":
        pytest.skip("the home of the site, which has more pages")
    for link in re.findall(r"\]\(([^)#]+)", path.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (path.parent / link).exists(), link


def test_every_configuration_names_its_schema():
    for path in [ROOT / "config.yaml", *(ROOT / "config").glob("*.yaml")]:
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
        assert found, path
        assert (path.parent / found[1]).resolve() == ROOT / "workflow/schemas/config.schema.yaml"


def test_the_site_from_what_it_describes(tmp_path):
    """Strict: a warning, or a link that leads nowhere, is an error."""
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "--quiet", "build", "--site-dir", tmp_path],
        cwd=ROOT,
        check=True,
    )
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    config = (tmp_path / "config.html").read_text(encoding="utf-8")
    for section in schema["properties"]:
        assert f"<code>{section}</code>" in config
    assert (
        "<td>Radius of the alphabet in units of the layer's median absolute weight</td>" in config
    )
    commands = (tmp_path / "cli.html").read_text(encoding="utf-8")
    for command in COMMANDS:
        assert f'id="netreduce-{command}"' in commands
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r'(?:<script[^>]*src|<link[^>]*rel="stylesheet"[^>]*href|<img[^>]*src)="?([^"\s>]+)',
            page.read_text(encoding="utf-8"),
        )
        assert not [one for one in loaded if one.startswith(("http", "//"))], page


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_teaches(command, capsys):
    """Every command has examples, and says what each of its parameters is."""
    from netreduce.cli.app import app

    app([command, "--help"], exit_on_error=False, result_action="return_none")
    assert re.search(rf"^ +netreduce {command} ", capsys.readouterr().out, re.MULTILINE)
    text = app.generate_docs(output_format="markdown")
    section = text.split(f"## netreduce {command}\n")[1].split("\n## ")[0]
    parameters = re.findall(r"^\* `([^`]+)`:(.*)", section, re.MULTILINE)
    assert len(parameters) > 2
    for name, meaning in parameters:
        assert re.sub(r"\*\*\[required\]\*\*|\*\[default.*?\]\*", "", meaning).strip(), name


def test_the_headline_is_made_from_results(tmp_path):
    """`make headline`: the table of README and the figure, from results of the workflow."""
    make = runpy.run_path(str(DOCS / "headline.py"))
    results, root = tmp_path / "results", tmp_path / "root"
    for folder in ("metrics", "figures/mnist"):
        (results / folder).mkdir(parents=True)
    (root / "docs/images").mkdir(parents=True)
    (results / "figures/mnist/pareto.svg").write_text("<svg/>")
    config = {"models": {"mnist": {"architecture": {"name": "mlp", "hidden": [500, 300]}}}}
    (results / "provenance.json").write_text(json.dumps({"config": config}))
    sizes = "float_bytes,dense_bytes,sparse_bytes,entropy_bytes"
    lines = [f"model,seed,chain,accuracy,agreement,samples,{sizes}"]
    for number, chain in enumerate(make["CHAINS"]):
        lines += [
            f"mnist,{seed},{chain},0.9{seed},1,10000,4000,{4000 - 400 * number},9e9,9e9"
            for seed in (1, 3)
        ]
    (results / "metrics/comparison.csv").write_text("\n".join(lines) + "\n")
    (root / "README.md").write_text("a\n<!-- headline -->\nold\n<!-- end -->\nb\n")
    make["main"](results, root)
    text = (root / "README.md").read_text()
    assert text.startswith("a\n<!-- headline -->\n![") and text.endswith("<!-- end -->\nb\n")
    assert "| GPFQ 4 bits | 92.00% | 100.00% | 3,600 | 1.1× |" in text
    assert "hidden layers of 500 and 300 neurons, means of 2 seeds on 10,000 test images" in text
    assert (root / "docs/images/pareto.svg").read_text() == "<svg/>"
