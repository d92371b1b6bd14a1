"""What a pruning run says of itself: one plain dictionary, a table for the terminal, a model card."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from trimbre.anatomy import Anatomy
from trimbre.plan import Plan

SHOWN = {"params": "parameters", "macs": "multiply-accumulates"}


def widths_table(anatomy: Anatomy, plan: Plan) -> Table:
    """Units kept in every module, a row for each layer."""
    names = list(dict.fromkeys(group.path.rpartition(".")[2] for group in anatomy.groups))
    table = Table(title="Units kept of those before (– : the module is gone)")
    table.add_column("layer", justify="right")
    for name in names:
        table.add_column(name, justify="right")
    for layer in sorted({group.layer for group in anatomy.groups}):
        row = {}
        for group in anatomy.groups:
            if group.layer == layer:
                width = plan.widths[group.path]
                gone = group.path in plan.skipped
                row[group.path.rpartition(".")[2]] = "–" if gone else f"{width} / {group.size}"
        table.add_row(str(layer), *(row.get(name, "") for name in names))
    return table


def shares_table(removed: Mapping[str, Mapping[str, float]], dense: Mapping[str, Mapping[str, float]]) -> Table:
    """Share removed of each cost, by what it is a share of."""
    table = Table(title="Removed, by what it is a share of")
    table.add_column("cost")
    scopes = list(removed["params"])
    for scope in scopes:
        table.add_column(scope, justify="right")
    table.add_column("model before", justify="right")
    table.add_column("after", justify="right")
    for name, title in SHOWN.items():
        before = dense[name]["model"]
        after = before * (1 - removed[name]["model"])
        unit = "" if name == "params" else " / s of audio"
        shares = [f"{removed[name][scope]:.1%}" for scope in scopes]
        table.add_row(title, *shares, f"{before:,.0f}{unit}", f"{after:,.0f}{unit}")
    return table


def model_card(report: Mapping[str, Any]) -> str:
    """README.md of a pruned checkpoint: what was removed, what it costs in errors, how to load it."""
    removed, dense = report["removed"], report["dense"]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: automatic-speech-recognition",
        f"base_model: {report['model']}",
        "tags: [pruned, trimbre]",
        "---",
        "",
        f"# {report['model'].rstrip('/').rpartition('/')[2]}, pruned",
        "",
        f"Made from `{report['model']}` by Trimbre: structured pruning with learned L0 gates and distillation from the "
        "unpruned model. The licence of the original model applies.",
        "",
        "| removed | of the blocks | of the encoder | of the model | left in the model |",
        "|---|---|---|---|---|",
    ]
    for name, title in SHOWN.items():
        shares = " | ".join(f"{removed[name][scope]:.1%}" for scope in ("blocks", "encoder", "model"))
        left = dense[name]["model"] * (1 - removed[name]["model"])
        lines.append(f"| {title} | {shares} | {left:,.0f}{'' if name == 'params' else ' per second of audio'} |")
    evaluation = report.get("evaluation")
    if evaluation:
        lines += [
            "",
            f"Word error rates (normalised `{evaluation['normalize']}`, 95 % bootstrap intervals over sentences):",
            "",
        ]
        lines += ["| set | utterances | words | unpruned | pruned | verdict |", "|---|---|---|---|---|---|"]
        for name, one in evaluation["sets"].items():
            lines.append(_row(name, one))
    lines += [
        "",
        "A pruned model adapted on narrow audio is a narrow model: evaluate it on speech like yours.",
        "",
        "## Loading",
        "",
        "```python",
        "import trimbre",
        'model, processor = trimbre.load("PATH")',
        "",
        "# or, with transformers' own classes",
        "import trimbre.auto",
        'model = AutoModelForCTC.from_pretrained("PATH")',
        "",
        "# or without Trimbre",
        'model = AutoModelForCTC.from_pretrained("PATH", trust_remote_code=True)',
        "```",
        "",
        "## How it was made",
        "",
        "```",
        report["command"],
        "```",
        "",
        f"Gates were learned for {report['options']['learn_steps']} steps and the cut model trained on for "
        f"{report['options']['recover_steps']}, on {report['audio_seconds'] / 3600:.1f} hours of audio seen in all.",
        "",
    ]
    return "\n".join(lines)


def _row(name: str, one: Mapping[str, Any]) -> str:
    teacher = one.get("teacher")
    before = _rate(teacher["wer"]) if teacher else ""
    verdict = one["comparison"]["sentence"] if "comparison" in one else ""
    return f"| {name} | {one['utterances']} | {one['wer']['reference']} | {before} | {_rate(one['wer'])} | {verdict} |"


def _rate(wer: Mapping[str, Any]) -> str:
    low, high = wer["interval"]
    return f"{wer['percent']:.2f} % ({low:.2f} to {high:.2f})"
