"""``saliency-explain methods``."""

from __future__ import annotations

from rich.table import Table

from SaliencyExplain.cli import options
from SaliencyExplain.cli.messages import console, print_json


def methods(as_json: options.Json = False) -> None:
    """The methods with their parameters, units, ranges and sources."""
    from SaliencyExplain.attribution.method import value_text
    from SaliencyExplain.attribution.selection import describe_methods

    described = describe_methods()
    if as_json:
        print_json(described)
        return
    for method in described:
        kind = "yardstick" if method["yardstick"] else "signed" if method["signed"] else "unsigned"
        console.print(f"\n[bold]{method['name']}[/]  {method['title']} ({kind})")
        console.print(f"  {method['source']}", style="dim", markup=False)
        if not method["parameters"]:
            continue
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


def _range(item: dict[str, object]) -> str:
    if item["choices"]:
        return "|".join(str(choice) for choice in item["choices"])  # type: ignore[attr-defined]
    low, high = item["minimum"], item["maximum"]
    if low is None and high is None:
        return ""
    if high is None:
        return f">= {low}"
    return f"<= {high}" if low is None else f"{low} to {high}"
