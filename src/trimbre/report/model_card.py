"""The model card of a pruned model."""

from collections.abc import Mapping
from typing import Any

from trimbre.costs.cost import TITLES
from trimbre.report.words import PER_SECOND, amount, rate, steps_of, time_line


def model_card(report: Mapping[str, Any]) -> str:
    """README.md of a pruned checkpoint: what was removed, what it costs in errors, how to load it."""
    removed, dense = report["removed"], report["dense"]
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: automatic-speech-recognition",
        "tags: [pruned, trimbre]",
        "---",
        "",
        f"# {report['model'].rstrip('/').rpartition('/')[2]}, pruned",
        "",
        f"Made from `{report['model']}` by Trimbre: structured pruning (method `{report['options']['method']}`)"
        f"{_mended(report)}. The licence of the original model applies.",
        "",
        f"| removed | {' | '.join(f'of the {scope}' for scope in removed['params'])} | left in the model |",
        f"|{'---|' * (len(removed['params']) + 2)}",
    ]
    for name in removed:
        shares = " | ".join(f"{removed[name][scope]:.1%}" for scope in removed[name])
        left = dense[name]["model"] * (1 - removed[name]["model"])
        lines.append(f"| {TITLES[name]} | {shares} | {amount(name, left)}{PER_SECOND[name]} |")
    if "latency" in report:
        lines += ["", f"Time: {time_line(report['latency'])}."]
    if evaluation := report.get("evaluation"):
        lines += [
            "",
            f"Word error rates in % (normalised `{evaluation['normalize']}`, 95 % bootstrap intervals over sentences), "
            f"beside {report['compared_with']}:",
            "",
            "| set | utterances | words | unpruned | pruned | verdict |",
            "|---|---|---|---|---|---|",
            *(_row(name, one) for name, one in evaluation["sets"].items()),
        ]
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
        f"from transformers import {report['auto_class']}",
        f'model = {report["auto_class"]}.from_pretrained("PATH")',
        "",
        "# or without Trimbre",
        f'model = {report["auto_class"]}.from_pretrained("PATH", trust_remote_code=True)',
        "```",
        "",
        "## How it was made",
        "",
        "```",
        report["command"],
        "```",
        "",
        _trained(report),
        "",
    ]
    return "\n".join(lines)


def _mended(report: Mapping[str, Any]) -> str:
    """What followed the cut, in words."""
    options = report["options"]
    refit = ", a least-squares refit of what stayed" if options["recovery"]["refit"] else ""
    taught = any(options["distillation"][name] != 0 for name in ("posterior_weight", "layer_weight"))
    return refit + (" and distillation from the unpruned model" if taught and _trained_stages(report) else "")


def _trained(report: Mapping[str, Any]) -> str:
    """The stages of training, in a sentence."""
    said = {"learn": "what to cut was learned", "recover": "the cut model was trained on"}
    parts = [f"{said[name]} for {steps:,} steps" for name, steps in _trained_stages(report).items()]
    if not parts:
        return "Nothing was trained."
    text = f"{' and '.join(parts)}, on {report['audio_seconds'] / 3600:.1f} hours of audio seen in all, "
    return f"{text[0].upper()}{text[1:]}{steps_of(report)}."


def _trained_stages(report: Mapping[str, Any]) -> dict[str, int]:
    """Steps of the stages that made a model, without those that took none."""
    steps = {name: report["stages"].get(name, {}).get("steps", 0) for name in ("learn", "recover")}
    return {name: count for name, count in steps.items() if count}


def _row(name: str, one: Mapping[str, Any]) -> str:
    other = rate(one["teacher"]["wer"]) if "teacher" in one else ""
    verdict = one["comparison"]["sentence"] if "comparison" in one else ""
    return f"| {name} | {one['utterances']} | {one['wer']['reference']} | {other} | {rate(one['wer'])} | {verdict} |"
