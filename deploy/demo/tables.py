"""The report for people."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def _table(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False, title_style="bold")
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(name, value)
    return table


def show(report: Mapping[str, Any], console: Console) -> None:
    """Print the report."""
    balance, found = report["balance"], report["detection"]
    console.print(_table("Rows by layer", [(name, f"{count:,}") for name, count in report["layers"].items()]))
    console.print(
        f"received {balance['received']:,} = accepted {balance['accepted']:,} + quarantined "
        f"{balance['quarantined']:,} + duplicates {balance['duplicates']:,}"
    )
    reasons = [(name, f"{n:,}") for name, n in report["quarantine"].items()]
    console.print(_table("Quarantine by reason", reasons or [("none", "0")]))
    console.print(
        _table(
            f"Detection on the last days ({found['payments']:,.0f} payments, {found['frauds']:.0f} frauds)",
            [
                ("fraud labels known to training", f"{report['labels_available']:,}"),
                ("average precision", f"{found['ap']:.3f}"),
                ("  logistic regression, same vectors", f"{found['logistic_ap']:.3f}"),
                ("  amount only", f"{found['amount_only_ap']:.3f}"),
                ("recall at the alert budget", f"{found['recall_at_budget']:.3f}"),
            ],
        )
    )
    patterns = [(name, f"{one['detected']} of {one['payments']}") for name, one in report["patterns"].items()]
    console.print(_table("Frauds within the alert budget, by pattern", patterns))
    live = report["live"]
    if live is not None:
        outcomes = ", ".join(f"{name} {count:,}" for name, count in live["effective_outcomes"].items())
        console.print(
            _table(
                "Live payments",
                [
                    ("payments, each with one effective outcome", f"{live['payments']:,}"),
                    ("outcomes", outcomes),
                    ("not approved", f"{report['alerts']:,}"),
                    ("p50 / p95 / p99", f"{live['p50_ms']:.1f} / {live['p95_ms']:.1f} / {live['p99_ms']:.1f} ms"),
                    ("degraded", f"{live['degraded_share']:.2%}"),
                ],
            )
        )
    if report["acted"] is not None:
        _acted(report["acted"], console)
    for name, address in report["addresses"].items():
        console.print(f"{name}: {address}")


def _challenger(tried: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "refused" in tried:
        return [("not approved", tried["refused"])]
    return [
        ("payments that it scored in shadow", f"{tried['shadow']:,}"),
        ("evidence", tried["evidence"]),
        ("  beside the first champion it", tried["saved"]),
        ("decided by it, all of them in between", f"{tried['decided']:,}"),
        ("  promoted at / rolled back at offset", f"{tried['promoted']:,} / {tried['back']:,}"),
    ]


def _acted(acted: Mapping[str, Any], console: Console) -> None:
    """What rules, lists, alerts and customers did."""
    console.print(_table("Decisions by rule", [(name, f"{n:,}") for name, n in acted["rules"].items()]))
    live, told, asked = acted["live_rule"], acted["delivered"], acted["customers"]
    rows = [
        (f"{live['rule']}, added after so many decisions", f"{live['decisions_before']:,}"),
        ("  decided by it since, each at a watched merchant", f"{live['fired']:,}"),
    ]
    rows += [(f"list entries met, {name}", f"{n:,}") for name, n in acted["lists"].items()]
    console.print(_table("Added while payments flowed", rows))
    console.print(_table("Challenger", _challenger(acted["challenger"])))
    rows = [
        ("alerts delivered", f"{told['alerts']:,} in {told['messages']:,} messages"),
        ("  repeats of these, not told again", f"{told['repeated']:,}"),
        ("customers asked", f"{asked['asked']:,}"),
    ]
    rows += [(f"  answered: {name}", f"{n:,}") for name, n in asked["answers"].items()]
    rows += [(f"  ended as {name}", f"{n:,}") for name, n in asked["ends"].items()]
    rows += [(f"  effective outcome {name}", f"{n:,}") for name, n in asked["effective_outcomes"].items()]
    console.print(_table("Told and asked", rows))
