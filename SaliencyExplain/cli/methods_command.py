"""``saliency-explain methods``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.table import Table

from SaliencyExplain.cli import options
from SaliencyExplain.cli.completion import complete_methods
from SaliencyExplain.cli.messages import console, print_json


def methods(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="METHOD...",
            callback=options.listed_or_none,
            autocompletion=complete_methods,
            help="Methods to describe with all parameters; without one all are listed.",
            show_default=False,
        ),
    ] = None,
    as_json: options.Json = False,
) -> None:
    """List the methods by family, or all parameters and the source of named methods."""
    from SaliencyExplain.attribution.method import FAMILIES
    from SaliencyExplain.attribution.method_selection import describe_methods
    from SaliencyExplain.attribution.registry import find_method

    wanted = {find_method(name).name for name in names or ()}
    described = [one for one in describe_methods() if not wanted or one["name"] in wanted]
    if as_json:
        print_json(described)
    elif wanted:
        for method in described:
            _describe(method)
    else:
        for family, meaning in FAMILIES.items():
            console.print(f"\n[bold]{family.upper()}[/]: {meaning}", markup=True)
            table = Table(box=None, padding=(0, 2), show_header=False)
            table.add_column(no_wrap=True)
            for method in described:
                if method["family"] == family:
                    row = (method["name"], method["title"], _sign(method), _origin(method))
                    table.add_row(*row)
            console.print(table)
        console.print("\nsaliency-explain methods NAME has a method's parameters and source.")


def _describe(method: Mapping[str, Any]) -> None:
    from SaliencyExplain.specification.parameters import value_text

    console.print(f"\n[bold]{method['name']}[/]  {method['title']} ({_sign(method)})", markup=True)
    for line in filter(None, (method["source"], _origin(method))):
        console.print(f"  {line}", style="dim", markup=False)
    if not method["parameters"]:
        return
    table = Table(box=None, padding=(0, 2), show_header=False)
    table.add_column(no_wrap=True)
    for item in method["parameters"]:
        table.add_row(
            f"  {method['name']}.{item['name']}",
            value_text(item, item["default"]),
            _range(item),
            item["description"],
        )
    console.print(table)


def _origin(method: Mapping[str, Any]) -> str:
    """The package of a method that is a plugin."""
    return f"from {method['package']}" if method["package"] else ""


def _sign(method: Mapping[str, Any]) -> str:
    return "signed" if method["signed"] else "unsigned"


def _range(item: dict[str, object]) -> str:
    if item["choices"]:
        return "|".join(str(choice) for choice in item["choices"])  # type: ignore[attr-defined]
    low, high = item["minimum"], item["maximum"]
    if low is None and high is None:
        return ""
    if high is None:
        return f">= {low}"
    return f"<= {high}" if low is None else f"{low} to {high}"
