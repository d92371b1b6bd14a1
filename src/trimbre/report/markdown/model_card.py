"""The model card of a pruned model."""

from collections.abc import Iterator, Mapping
from typing import Any

from trimbre.costs.cost import TITLES
from trimbre.evaluation.units import UNITS
from trimbre.report.formatting import PER_SECOND, amount, batch_line, deciding, intervals, latency_line, rate


def model_card(report: Mapping[str, Any]) -> str:
    """README.md of a pruned checkpoint: what was removed, error rates before and after, and how to load it."""
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: automatic-speech-recognition",
        *([f"language: {report['language']}"] if report.get("language") else []),
        "tags: [pruned, trimbre]",
        "---",
        "",
        f"# {report['model'].partition('@')[0].rstrip('/').rpartition('/')[2]}, pruned",
        "",
        f"Made from `{report['model']}` by Trimbre: {_how(report)}. The licence of the original model applies.",
        "",
        *_rows(report),
        *_removed(report),
    ]
    if "latency" in report:
        text = latency_line(report["latency"])
        lines += ["", f"{text[0].upper()}{text[1:]}."]
    if evaluation := report.get("evaluation"):
        lines += ["", *_error_rates(evaluation)]
    lines += [
        "",
        "A model fine-tuned on narrow audio during recovery may get worse on other audio: evaluate it on speech like "
        "yours.",
        "",
        *_loading(report["auto_class"]),
        "",
        "## How it was made",
        "",
        "```",
        report["command"],
        "```",
        "",
        _training(report),
        "",
    ]
    return "\n".join(lines)


def training_card(report: Mapping[str, Any]) -> str:
    """README.md of a trained checkpoint: its language, by which its texts are normalised later, and its command."""
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "pipeline_tag: automatic-speech-recognition",
            *([f"language: {report['language']}"] if report.get("language") else []),
            "---",
            "",
            f"Trained by Trimbre for {report['steps']:,} steps on {report['train']}:",
            "",
            "```",
            report["command"],
            "```",
            "",
        ]
    )


def _removed(report: Mapping[str, Any]) -> Iterator[str]:
    """A table of the shares removed."""
    removed, dense = report["removed"], report["dense"]
    yield f"| removed | {' | '.join(f'of the {scope}' for scope in removed['params'])} | left in the model |"
    yield f"|{'---|' * (len(removed['params']) + 2)}"
    for cost in removed:
        shares = " | ".join(f"{share:.1%}" for share in removed[cost].values())
        left = dense[cost]["model"] * (1 - removed[cost]["model"])
        yield f"| {TITLES[cost]} | {shares} | {amount(cost, left)}{PER_SECOND[cost]} |"


def _error_rates(evaluation: Mapping[str, Any]) -> Iterator[str]:
    """A table of word error rates, a column for each reference, then the comparison with each."""
    sets = evaluation["sets"]
    names = list(next(iter(sets.values())).get("references", {}))
    kinds = [deciding(one)[0] for one in sets.values()]
    title = (
        "word error rates"
        if set(kinds) == {"wer"}
        else f"error rates ({', '.join(map(str.upper, sorted(set(kinds))))})"
    )
    yield (
        f"{title[0].upper()}{title[1:]} in % (normalised `{evaluation['normalize']}`) "
        f"with bootstrap {intervals(deciding(one)[1] for one in sets.values())}"
        + (
            "; `control` is the dense model fine-tuned for as many steps as the pruned one:"
            if "control" in names
            else ":"
        )
    )
    yield ""
    yield f"| set | utterances | {'words' if set(kinds) == {'wer'} else 'length'} | {' | '.join([*names, 'pruned'])} |"
    yield f"|{'---|' * (len(names) + 4)}"
    for name, one in sets.items():
        kind, ours = deciding(one)
        rates = [rate(deciding(one["references"][other])[1]) for other in names] + [rate(ours)]
        length = f"{ours['reference']}" + ("" if set(kinds) == {"wer"} else f" {UNITS[kind]}")
        yield f"| {name} | {one['utterances']} | {length} | {' | '.join(rates)} |"
    if not names:
        return
    yield ""
    yield f"| set | {' | '.join(f'pruned against {name}' for name in names)} |"
    yield f"|{'---|' * (len(names) + 1)}"
    for name, one in sets.items():
        yield f"| {name} | {' | '.join(one['references'][other]['comparison']['sentence'] for other in names)} |"


def _loading(auto_class: str) -> list[str]:
    return [
        "## Loading",
        "",
        "```python",
        "import trimbre",
        'model, processor = trimbre.load("PATH")',
        "",
        "# or, with transformers' own classes",
        "import trimbre.auto",
        f"from transformers import {auto_class}",
        f'model = {auto_class}.from_pretrained("PATH")',
        "",
        "# or without Trimbre",
        f'model = {auto_class}.from_pretrained("PATH", trust_remote_code=True)',
        "```",
    ]


def _rows(report: Mapping[str, Any]) -> Iterator[str]:
    """What is left of the vocabulary, where rows of it were removed."""
    if rows := report.get("rows"):
        yield (
            f"Its vocabulary has {rows['kept']:,} of {rows['of']:,} tokens: those that texts of its language use, and "
            "bytes, which spell all other words."
        )
        yield ""


def _how(report: Mapping[str, Any]) -> str:
    """How the model was made smaller, in words."""
    options = report["options"]
    if not options["remove"]:
        return "rows of its vocabulary were removed" + _after_the_cut(report)
    return f"structured pruning (method `{options['method']}`){_after_the_cut(report)}"


def _after_the_cut(report: Mapping[str, Any]) -> str:
    """What followed the cut, in words."""
    options = report["options"]
    refitted = options["recovery"]["refit"] and options["remove"]
    refit = ", a least-squares refit of the output projections" if refitted else ""
    distilled = any(options["distillation"][name] != 0 for name in ("posterior_weight", "layer_weight"))
    return refit + (" and distillation from the dense model" if distilled and _trained_stages(report) else "")


def _training(report: Mapping[str, Any]) -> str:
    """The stages of training, in a sentence."""
    said = {"learn": "gates were trained", "recover": "the cut model was fine-tuned"}
    parts = [f"{said[name]} for {steps:,} steps" for name, steps in _trained_stages(report).items()]
    if not parts:
        return "Nothing was trained."
    text = f"{' and '.join(parts)}, on {report['audio_seconds'] / 3600:.1f} hours of audio in all, "
    return f"{text[0].upper()}{text[1:]}{batch_line(report)}."


def _trained_stages(report: Mapping[str, Any]) -> dict[str, int]:
    """Steps of the stages that trained the model, without those of no steps."""
    steps = {name: report["stages"].get(name, {}).get("steps", 0) for name in ("learn", "recover")}
    return {name: count for name, count in steps.items() if count}
