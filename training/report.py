"""An evaluation as one self-contained page, and what MLflow keeps beside it: card, figures, importance, signature."""

import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from features.catalogue import FEATURES, NAMES
from lakehouse.experiment_settings import Costs
from training.data import Matrix
from training.evaluate import Evaluation, Table
from training.fit import Fitted

MOST_IMPORTANT = 30
EXAMPLES = 5
WEIGHED_ON = 200
"""Payments, about, that tell what matters to a network."""
SIDE, EDGE = 300, 40
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:72em;margin:2em auto;padding:0 1em;color:#1b1f24}"
    "table{border-collapse:collapse;margin:1em 0;font-variant-numeric:tabular-nums}"
    "td,th{padding:.2em .7em;border-bottom:1px solid #d5d9de;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
    "svg{margin-right:1em}figure{display:inline-block;margin:0}figcaption{color:#57606a}"
)


@dataclass(frozen=True)
class Told:
    """Which model a report is of, and what it was made from, in words."""

    name: str
    digest: str
    about: Mapping[str, str]


def number(value: float) -> str:
    """A figure for people: whole ones whole, others with four digits, unknown ones as a dash."""
    if value != value:
        return "-"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"


def _table(rows: Table, first: str) -> str:
    if not rows:
        return ""
    names = list(next(iter(rows.values())))
    head = "".join(f"<th>{html.escape(name.replace('_', ' '))}</th>" for name in (first, *names))
    body = "".join(
        f"<tr><td>{html.escape(name)}</td>" + "".join(f"<td>{number(row[column])}</td>" for column in names) + "</tr>"
        for name, row in rows.items()
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _plot(title: str, x_name: str, y_name: str, curve: Mapping[str, Sequence[float]]) -> str:
    widest = max([*curve["x"], 1e-9]) if title == "Calibration" else 1.0
    highest = max([*curve["y"], 1e-9]) if title == "Calibration" else 1.0
    points = " ".join(
        f"{EDGE + x / widest * SIDE:.1f},{SIDE + EDGE / 2 - y / highest * SIDE:.1f}"
        for x, y in zip(curve["x"], curve["y"], strict=True)
    )
    frame = f'<rect x="{EDGE}" y="{EDGE / 2:.0f}" width="{SIDE}" height="{SIDE}" fill="none" stroke="#d5d9de"/>'
    ends = (
        f'<text x="{EDGE}" y="{SIDE + EDGE - 4}" font-size="11">0</text>'
        f'<text x="{EDGE + SIDE}" y="{SIDE + EDGE - 4}" font-size="11" text-anchor="end">{number(widest)}</text>'
        f'<text x="{EDGE - 4}" y="{EDGE / 2 + 10:.0f}" font-size="11" text-anchor="end">{number(highest)}</text>'
    )
    line = f'<polyline points="{points}" fill="none" stroke="#0a5bd3" stroke-width="2"/>'
    size = f'width="{SIDE + 2 * EDGE}" height="{SIDE + EDGE}"'
    caption = f"<figcaption>{title}: {y_name} over {x_name}</figcaption>"
    return f"<figure><svg {size}>{frame}{line}{ends}</svg>{caption}</figure>"


def page(title: str, found: Evaluation, about: Mapping[str, str], importance: Mapping[str, float]) -> str:
    """The whole report as HTML that needs nothing else."""
    described = "".join(f"<tr><td>{html.escape(k)}</td><td>{html.escape(v)}</td></tr>" for k, v in about.items())
    spread = {
        name: {"figure": next(iter(found.models.values())).get(name, float("nan")), "low": low, "high": high}
        for name, (low, high) in found.intervals.items()
    }
    curves = found.curves
    plots = (
        _plot("Precision and recall", "recall", "precision", curves["precision_recall"])
        + _plot("ROC", "false-positive rate", "recall", curves["roc"])
        + _plot("Calibration", "mean score", "share of frauds", curves["calibration"])
    )
    weights = {name: {"share": value} for name, value in importance.items()}
    sections = (
        ("What was tested", f"<table>{described}</table>"),
        ("Models side by side, money in minor units a payment", _table(found.models, "model")),
        ("Rules alone, as they decide; above, rules_only ranks by it", _table({"rules alone": found.rules}, "")),
        ("95 % intervals of the first, by bootstrap over cards and days", _table(spread, "figure")),
        ("Curves of the first", plots),
        ("By segment", _table(found.segments, "segment")),
        ("By true pattern, labelled or not; a false alarm is of none", _table(found.patterns, "pattern")),
        ("Importance", _table(weights, "feature")),
    )
    body = "".join(f"<h2>{name}</h2>{content}" for name, content in sections if content)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style><h1>{html.escape(title)}</h1>{body}</html>\n"
    )


def importance_of(fitted: Fitted, X: Matrix) -> dict[str, float]:
    """Share by feature, the largest first: of XGBoost's total gain, of what moves a network's log odds of vectors."""
    by_name = {name: one for name, one in zip(NAMES, fitted.supervised.importance(X).tolist(), strict=True) if one}
    order = sorted(by_name, key=lambda name: (-by_name[name], name))
    return {name: round(by_name[name], 6) for name in order}


def card(title: str, found: Evaluation, about: Mapping[str, str], importance: Mapping[str, float], of: Costs) -> str:
    """The model card: purpose, data, splits, figures with intervals, assumptions of money, limits."""
    first, figures = next(iter(found.models.items()))
    lines = [
        f"# {title}",
        "",
        "**Purpose.** Ranks card payments by the chance that they are fraud, before they are answered. Its score "
        "decides nothing alone: rules, lists, thresholds and the alert budget do.",
        "",
        "**Data and split.**",
        "",
        *(f"- {name}: {value}" for name, value in about.items()),
        "",
        f"**Figures on the test days** (`{first}`, 95 % interval over cards and days).",
        "",
        *(
            f"- {name}: {number(figures.get(name, float('nan')))} ({number(low)} to {number(high)})"
            for name, (low, high) in found.intervals.items()
        ),
        "",
        "**Money**, minor units of the base currency, under these assumptions (`experiment.costs`):",
        "",
        *(f"- {name}: {value}" for name, value in of.model_dump().items()),
        "",
        "**What it looks at most.** " + ", ".join(list(importance)[:10]) + ".",
        "",
        "**Limits.** Labels are what had arrived; frauds that nobody disputed count as genuine. Cards that were known "
        "before the test days are left out. Figures hold for payments like these.",
        "",
        "**Other models on the same payments** (average precision, net money a payment).",
        "",
        *(
            f"- {name}: {number(one['average_precision'])}, {number(one['net_minor'])}"
            for name, one in found.models.items()
        ),
        "",
        f"**Rules alone, as they decide**: {number(found.rules['flagged_per_1000'])} of a thousand payments flagged, "
        f"recall {number(found.rules['recall'])}, precision {number(found.rules['precision'])}, net money a payment "
        f"{number(found.rules['net_minor'])}.",
        "",
    ]
    return "\n".join(lines)


def signature() -> dict[str, Any]:
    """Inputs and output of a model: every feature by name, type and meaning; missing values are allowed."""
    inputs = [{"name": f.name, "type": "float", "required": False, "meaning": f.meaning} for f in FEATURES]
    return {"inputs": inputs, "outputs": [{"name": "score", "type": "double", "range": [0, 1]}]}


def write(folder: Path, told: Told, found: Evaluation, fitted: Fitted, examples: Matrix, of: Costs) -> None:
    """Report, card, figures, importance, signature and input example as files of a folder; the same for the same."""
    folder.mkdir(parents=True, exist_ok=True)
    importance = importance_of(fitted, examples[:: max(1, len(examples) // WEIGHED_ON)])
    title, about = f"Model {told.name} {told.digest[:12]}", {**told.about, "bundle": told.digest}
    most = dict(list(importance.items())[:MOST_IMPORTANT])
    rows = [[None if np.isnan(x) else float(x) for x in row] for row in examples[:EXAMPLES]]
    figures = {
        "models": found.models,
        "segments": found.segments,
        "patterns": found.patterns,
        "intervals": found.intervals,
        "curves": found.curves,
        "rules": found.rules,
    }
    files = {
        "report.html": page(title, found, about, most),
        "model_card.md": card(title, found, about, importance, of),
        "evaluation.json": _json(figures),
        "importance.json": _json(importance),
        "signature.json": _json(signature()),
        "input_example.json": _json({"columns": list(NAMES), "data": rows}),
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")


def _json(content: Any) -> str:
    return json.dumps(_known(content), indent=1) + "\n"


def _known(content: Any) -> Any:
    """The same with null for what is unknown: JSON has no NaN."""
    if isinstance(content, Mapping):
        return {name: _known(value) for name, value in content.items()}
    if isinstance(content, list | tuple):
        return [_known(value) for value in content]
    return None if isinstance(content, float) and content != content else content
