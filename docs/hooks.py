"""The pages of the site that are written by a program: recipes, commands and Python names."""

from __future__ import annotations

import re
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import idemvox
from idemvox.cli import app
from idemvox.recipe import load_recipe
from idemvox.recipes import find_recipe, recipe_names

PACKAGES = {
    "frameworks": "How an encoder learns. Each module registers one framework by the name that recipes use.",
    "positives": "Which utterances count as the same voice.",
    "encoders": "Networks from waveform to embedding, each with its front end inside.",
    "losses": "Losses are functions of tensors.",
    "clustering": "Ways to find groups of vectors.",
    "verification": "Trials, scores, metrics, calibration and certificates.",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List every page of results in the navigation, in the order of their names."""
    pages = sorted(path.stem for path in Path(config.docs_dir, "results").glob("*.md"))
    results = [{name: f"results/{name}.md"} for name in pages if name != "index"]
    next(part for part in config.nav or () if "Results" in part)["Results"] += results
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {"recipes": recipes(), "commands": commands(), "python": python()}
    pages |= {package: modules(package, text) for package, text in PACKAGES.items()}
    for name, text in pages.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def recipes() -> str:
    """Return the page of all recipes: published numbers first, then each one's settings."""
    lines = [
        "# Recipes",
        "",
        "A recipe is a YAML file. `idemvox train NAME data.manifest=train.csv` trains one, and",
        "`idemvox recipes --copy NAME` writes one to edit. The numbers are those that the papers report for",
        "VoxCeleb1-O (EER in %, minDCF with p = 0.01) and VOiCES 2019 dev. **None of them was measured with",
        "idemvox yet.**",
        "",
        "| recipe | EER | minDCF | VOiCES EER | what it is |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    details = ["", "## Settings", "", "A recipe with a `base` holds only the keys that differ from it."]
    for name in recipe_names():
        recipe = load_recipe(name)
        said = recipe.published
        numbers = [] if said is None else [(said.eer, 2), (said.mindcf_001, 4), (said.voices_eer, 2)]
        shown = ["" if value is None else f"{value:.{digits}f}" for value, digits in numbers] or [""] * 3
        what = " ".join(recipe.description.split()).replace("[", "\\[").replace("|", "\\|")
        lines.append(f"| [{name}](#{name}) | {' | '.join(shown)} | {what} |")
        text = find_recipe(name).read_text(encoding="utf-8").rstrip()
        details += ["", f"### {name}", "", "```yaml", text, "```"]
    return "\n".join([*lines, *details, ""])


def commands() -> str:
    """Return the page of all commands, as `--help` shows them."""
    root = typer.main.get_command(app)
    lines = ["# Commands", "", "The text of `idemvox COMMAND --help`."]
    for name, command, context in _commands(root, typer.Context(root, info_name="idemvox")):
        lines += ["", f"## {name}", "", _help(command.help or ""), ""]
        rows = [row for p in command.get_params(context) if (row := p.get_help_record(context))]
        if rows:
            lines += ["| argument or option | what it is |", "| --- | --- |"]
            lines += [f"| `{_cell(key)}` | {_cell(what)} |" for key, what in rows if key != "--help"]
    return "\n".join([*lines, ""])


def _commands(command: Any, context: Any) -> list[tuple[str, Any, Any]]:
    """Return every command with its full name and context, in the order of the help."""
    if not hasattr(command, "list_commands"):
        return [(context.command_path, command, context)]
    found = [(context.command_path, command, context)]
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        found += _commands(below, typer.Context(below, parent=context, info_name=name))
    return found


def _help(text: str) -> str:
    """Return help as Markdown: indented examples become blocks of code."""
    parts, code = [], []
    for paragraph in text.replace("\b\n", "").split("\n\n"):
        if re.match(r"\s+idemvox |\s*idemvox \w+ .*", paragraph):
            code.append("\n".join(line.strip() for line in paragraph.splitlines()))
            continue
        if code:
            parts.append("```sh\n" + "\n".join(code) + "\n```")
            code = []
        parts.append(paragraph.replace("\\[", "[").replace("[", "\\["))
    if code:
        parts.append("```sh\n" + "\n".join(code) + "\n```")
    return "\n\n".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def python() -> str:
    """Return the page of the public names of `import idemvox`; those of a package's page are linked."""
    lines = ["# Python", "", "The public names. `import idemvox` is fast: each is imported on first use.", ""]
    for name in idemvox.__all__:
        home = idemvox._HOMES[name]
        package = home.partition(".")[0]
        if package in PACKAGES:
            lines.append(f"### {name}\n\nSee [{name}]({package}.md#idemvox.{home}.{name}).")
        else:
            lines.append(f"::: idemvox.{home}.{name}")
    return "\n\n".join([*lines, ""])


def modules(package: str, text: str) -> str:
    """Return the page of a package: each module with its public names."""
    found = __import__(f"idemvox.{package}", fromlist=["__path__"]).__path__
    names = [module.name for module in iter_modules(found) if not module.ispkg]
    lines = [f"# {package.capitalize()}", text]
    for name in names:
        lines += [f"## {name}", f"::: idemvox.{package}.{name}\n    options: {{show_root_heading: false}}"]
    return "\n\n".join([*lines, ""])
