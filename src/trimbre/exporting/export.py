"""Export of a recogniser to a directory that a runtime loads, compared with the recogniser before it is written."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ProcessorMixin

from trimbre.config import EXPORT_PRECISIONS, NORMALISERS, RUNTIMES
from trimbre.data.audio import load_cut
from trimbre.data.check import refuse_unjudgeable, refuse_unreadable
from trimbre.data.cuts import CutsLike
from trimbre.data.language import Languages, stated_language
from trimbre.data.source import IN_MEMORY, resolve_cuts
from trimbre.data.windows import pieces
from trimbre.errors import OptionError, UserError, at_least, one_of
from trimbre.evaluation.score import score
from trimbre.files import directory_written_whole, refuse_existing
from trimbre.inference.long_form import check_languages
from trimbre.models.heads.base import CHUNK_SECONDS
from trimbre.models.inputs import features_of, rate_of
from trimbre.models.loading import Recogniser
from trimbre.models.source import ModelLike, resolve_model

CALIBRATION_CLIPS = 200
"""Number of clips that static ranges of activations are computed from."""
COMPARED_CLIPS = 8
"""Clips of the data whose texts are compared with the model's."""
COMPARED_SECONDS = (0.7, 2.9, 6.1)
"""Lengths of clips of noise whose texts are."""


def export(
    model: ModelLike,
    processor: ProcessorMixin | None = None,
    *,
    to: str,
    out: str | Path,
    precision: str = "fp32",
    calibrate: CutsLike | None = None,
    data: CutsLike | None = None,
    tolerance: float = 0.5,
    normalize: str = "basic",
    language: str | None = None,
    task: str | None = None,
    allow_outside: bool = False,
) -> dict[str, Any]:
    """Write a recogniser, dense or pruned, as a directory that a runtime loads.

    The float32 graphs are always compared with the recogniser first, in batches of several lengths, sizes and paddings,
    and so are the texts, of noise and of some clips of `data`. A CTC model is one graph; a Whisper is two, its encoder
    and its decoder with key-value caches as inputs and outputs; a transducer is two or, for sherpa-onnx, three.

    Args:
        model: directory, name on the Hub, or a model in memory with its `processor`.
        to: `onnx` (ONNX Runtime: CTC models, transducers and Whispers), `onnx-asr` (Parakeet models, as NeMo's, and
            Whispers) or `sherpa-onnx` (Parakeet models, as NeMo's).
        out: directory to write.
        precision: `fp32` or `int8`.
        calibrate: speech for static ranges of int8 activations, for CTC models; without it ranges are dynamic,
            computed in every call.
        data: speech with transcripts, to measure the word error rates of the float32 and int8 graphs on.
        tolerance: largest accepted increase of the WER by int8 on `data`, in points.
        normalize: text normalisation of references and hypotheses: `none`, `basic`, `whisper`, `whisper-en` or
            `open-asr`.
        language: what is spoken in utterances that do not state it, as a code such as `de` or an English name, and what
            an exported multilingual Whisper takes to be spoken; by default the model's own language.
        task: `transcribe` or `translate`, for multilingual Whispers; the preset one by default.
        allow_outside: accept manifests that name audio outside their own folder.

    Returns:
        What was written and measured, also in `out/export.json`.

    Raises:
        UserError: bad input, a graph that differs from the model or gives other texts, or an int8 that is worse than
            `tolerance`.
    """
    one_of("to", to, RUNTIMES)
    one_of("precision", precision, EXPORT_PRECISIONS)
    one_of("normalize", normalize, NORMALISERS)
    at_least("tolerance", tolerance, 0)
    language = stated_language(language)
    if calibrate is not None and precision != "int8":
        raise _no_ranges(calibrate, "it is for int8: leave it out, or set precision to int8")
    out = Path(out)
    refuse_existing(out, mark="export.json", model=model)
    require_packages()
    from trimbre.exporting.card import card
    from trimbre.exporting.targets import layout_for

    test = None if data is None else resolve_cuts("data", data, allow_outside=allow_outside)
    clips = None if calibrate is None else _clips(calibrate, allow_outside)
    source = resolve_model(model, processor)
    recogniser = source.recogniser
    languages = Languages.of(language, recogniser, task=task)
    layout = layout_for(to, *recogniser, language=languages.stated, task=task)  # refuses before the work
    check_languages(*recogniser, () if test is None else test.cuts, languages, task)
    if test is not None:
        refuse_unjudgeable(
            test.cuts, name=test.name, processor=recogniser.processor, normalize=normalize, languages=languages
        )
        refuse_unreadable(test.cuts, name=test.name)
    if clips is not None and layout.feed is None:
        kind = type(recogniser.model).__name__
        raise _no_ranges(calibrate, f"static ranges are for models with a CTC head and this is a {kind}: leave it out")
    with directory_written_whole(out) as folder, _float32_folder(folder, precision) as apart:
        recogniser.processor.save_pretrained(folder)
        for name, text in layout.files.items():
            (folder / name).write_text(text)
        graphs, distance = _write_float32(recogniser, layout, apart)
        found: dict[str, Any] = {
            "model": source.name,
            "to": to,
            "precision": precision,
            "language": languages.text,
            "equal_to_model_within": distance,
            "float32_bytes": _bytes(graphs.values()),
            "ranges": None if precision == "fp32" else "dynamic" if clips is None else "static",
            "wer": {},
        }

        def describe(files: Mapping[str, Path]) -> dict[str, Any]:
            named = {name: file.name if file.parent == folder else str(file) for name, file in files.items()}
            return {**found, **layout.described, "files": named}

        def measure(precision: str, files: Mapping[str, Path]) -> None:
            if test is not None:
                _write_description(folder, describe(files))
                found["wer"][precision] = _word_errors(folder, test.cuts, normalize, languages)

        _write_description(folder, describe(graphs))
        _compare_texts(recogniser, layout, folder, () if test is None else test.cuts)
        measure("fp32", graphs)
        if precision == "int8":
            graphs = _quantised(graphs, folder, recogniser, layout, clips)
            measure("int8", graphs)
            if test is not None:
                _refuse_worse(found["wer"], tolerance, test.name)
        found["bytes"] = _bytes(graphs.values())
        _write_description(folder, describe(graphs))
        (folder / "README.md").write_text(card(describe(graphs)))
    return found | {"out": str(out)}


def _write_float32(recogniser: Recogniser, layout: Any, folder: Path) -> tuple[dict[str, Path], float]:
    """Write the graphs of a layout; returns their files, and the largest distance of any from the model."""
    from trimbre.exporting.onnx import write_graph

    files = {graph.name: folder / f"{graph.name}.onnx" for graph in layout.graphs}
    return files, max(write_graph(recogniser.model, graph, files[graph.name]) for graph in layout.graphs)


def _compare_texts(recogniser: Recogniser, layout: Any, folder: Path, cuts: Any) -> None:
    """Raise UserError where the exported directory gives another text than the model, of noise or of a clip.

    Two labels that float32 cannot tell apart may take each other's place.
    """
    from trimbre.exporting.onnx import EQUAL
    from trimbre.exporting.runtime import load_exported
    from trimbre.exporting.targets import noise

    exported = load_exported(folder, threads=torch.get_num_threads()).model
    rate = rate_of(recogniser.processor)
    clips = chain(
        ((f"{len(clip)} samples of noise", clip) for clip in noise(COMPARED_SECONDS, rate)), _loaded(cuts, rate)
    )
    for name, clip in clips:
        gap = layout.first_gap(exported, features_of([clip], recogniser.processor))
        if gap is not None and not gap <= EQUAL:
            raise UserError(
                f"the exported model gives another text than the model for {name}: nothing was written; "
                "please report this with your versions of torch, transformers and onnxruntime"
            )


def _loaded(cuts: Any, rate: int) -> Iterator[tuple[str, np.ndarray]]:
    """Ids and audio of the first cuts, (samples,) each at `rate` Hz."""
    for cut in islice(cuts, COMPARED_CLIPS):
        yield cut.id, load_cut(cut, rate)


def _quantised(
    graphs: Mapping[str, Path], folder: Path, recogniser: Recogniser, layout: Any, clips: Any
) -> dict[str, Path]:
    """Write the graphs in int8; returns their files."""
    from trimbre.exporting.int8 import quantise

    files = {name: folder / f"{name}.int8.onnx" for name in graphs}
    batches = None if clips is None else _batches(clips, recogniser, layout)
    for name, graph in graphs.items():
        quantise(graph, files[name], calibration=batches)
    return files


def _word_errors(folder: Path, cuts: Any, normalize: str, languages: Languages) -> dict[str, Any]:
    """Errors of an exported directory, in the units that decide."""
    from trimbre.exporting.runtime import load_exported

    exported, processor = load_exported(folder, threads=torch.get_num_threads())
    found = score(model=exported, processor=processor, data=cuts, normalize=normalize, languages=languages)
    return found.units.to_json() | {"rate": found.decides}


def _clips(calibrate: CutsLike, allow_outside: bool) -> list[Any]:
    """The utterances that ranges are computed from; raises UserError where there are none that can be read."""
    name, cuts = resolve_cuts("calibrate", calibrate, allow_outside=allow_outside, repeated=True)
    clips = list(islice(cuts, CALIBRATION_CLIPS))
    if not clips:
        raise OptionError("calibrate", name, "there is no utterance in it: check the manifest")
    refuse_unreadable(clips, name=name)
    return clips


def _no_ranges(calibrate: Any, advice: str) -> OptionError:
    """The error for a `calibrate` that does not apply."""
    return OptionError("calibrate", str(calibrate) if isinstance(calibrate, str | Path) else IN_MEMORY, advice)


def require_packages() -> None:
    """Raise UserError where the packages that write and run graphs are not installed."""
    if lacking := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise UserError(f'exporting needs {", ".join(lacking)}: pip install "trimbre[export]"')


@contextmanager
def _float32_folder(folder: Path, precision: str) -> Iterator[Path]:
    """Where float32 graphs are written: the exported directory, or a temporary one where int8 is exported."""
    if precision == "fp32":
        yield folder
        return
    with tempfile.TemporaryDirectory() as apart:
        yield Path(apart)


def _batches(cuts: Any, recogniser: Recogniser, layout: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """Inputs of a graph, clip by clip; what is longer than a chunk of long-form decoding in pieces."""
    clips = islice(pieces(cuts, window=CHUNK_SECONDS, transcripts=False), CALIBRATION_CLIPS)
    for cut in clips:
        inputs = layout.feed(features_of([load_cut(cut, rate_of(recogniser.processor))], recogniser.processor))
        yield {name: value.numpy() for name, value in inputs.items()}


def _refuse_worse(wer: Mapping[str, Mapping[str, Any]], tolerance: float, data: str) -> None:
    """Raise OptionError where int8 increases the WER by more than `tolerance` points."""
    before, after = (wer[precision]["percent"] for precision in ("fp32", "int8"))
    if after - before > tolerance:
        raise OptionError(
            "tolerance",
            tolerance,
            f"int8 is {after - before:.2f} points of WER worse on {data} ({before:.2f} % in fp32, {after:.2f} % in "
            "int8) and nothing was written: try with or without calibrate, or export fp32",
        )


def _bytes(files: Iterable[Path]) -> int:
    """Bytes of graphs, with the separate file of weights of a large one."""
    parts = [part for file in files for part in (file, file.with_name(f"{file.name}.data"))]
    return sum(part.stat().st_size for part in parts if part.exists())


def _write_description(folder: Path, described: Mapping[str, Any]) -> None:
    (folder / "export.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n")
