"""Exporting: from a recogniser to a directory that a runtime loads, checked against the recogniser first."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import ProcessorMixin

from trimbre.config import EXPORT_PRECISIONS, RUNTIMES
from trimbre.data.audio import load_cut
from trimbre.data.cuts import CutsLike
from trimbre.data.source import resolve_cuts
from trimbre.errors import UserError, at_least, one_of
from trimbre.evaluation.score import score
from trimbre.files import directory_written_whole, refuse_existing
from trimbre.models.inputs import features_of
from trimbre.models.loading import Recogniser
from trimbre.models.source import ModelLike, resolve_model

CALIBRATION_CLIPS = 200
"""How many clips the ranges of activations are taken from."""


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
    allow_outside: bool = False,
) -> dict[str, Any]:
    """Write a recogniser, dense or pruned, as a directory that a runtime loads.

    The float32 graphs are always compared with the recogniser first, in batches of several lengths, sizes and paddings.
    A CTC model is one graph, a Whisper two: its encoder, and its decoder with the caches that go in and come out.

    Args:
        model: directory, Hub id, or a model in memory with its `processor`.
        to: `onnx` (ONNX Runtime, any model), `onnx-asr` (Parakeet models, as NeMo CTC models, and Whispers) or
            `sherpa-onnx` (Parakeet models, as NeMo CTC models).
        out: directory to write.
        precision: `fp32` or `int8`.
        calibrate: speech that fixes the ranges of int8 activations; without it they are taken anew in every call. A
            Whisper takes none.
        data: cuts with transcripts: the error rates of the float32 graph and of the int8 one are measured.
        tolerance: how many points of WER int8 may be worse by on `data`.
        normalize: how transcripts are brought into one form.
        allow_outside: let manifests name audio outside their own folder.

    Returns:
        What was written and measured, also in `out/export.json`.

    Raises:
        UserError: bad input, a graph that differs from the model, or an int8 that is worse than `tolerance`.
    """
    one_of("to", to, RUNTIMES)
    one_of("precision", precision, EXPORT_PRECISIONS)
    at_least("tolerance", tolerance, 0)
    if calibrate is not None and precision != "int8":
        raise UserError("--calibrate is for --precision int8: leave it out, or give --precision int8")
    out = Path(out)
    refuse_existing(out, mark="export.json")
    require_packages()
    from trimbre.exporting.card import card
    from trimbre.exporting.onnx import write_graph
    from trimbre.exporting.targets import layout_for

    judged = None if data is None else resolve_cuts("data", data, allow_outside=allow_outside)
    clips = None if calibrate is None else resolve_cuts("calibrate", calibrate, allow_outside=allow_outside).cuts
    source = resolve_model(model, processor)
    recogniser = source.recogniser
    layout = layout_for(to, *recogniser)  # refuses before the work
    if clips is not None and layout.feed is None:
        raise UserError(f"--calibrate takes models with a CTC head and this is a {type(recogniser.model).__name__}")

    def wer(folder: Path) -> dict[str, Any]:
        from trimbre.exporting.runtime import load_exported

        exported, processor = load_exported(folder, threads=torch.get_num_threads())
        assert judged is not None
        return score(model=exported, processor=processor, data=judged.cuts, normalize=normalize).words.to_json()

    with directory_written_whole(out) as folder, _graphs_in(folder, precision) as apart:
        graphs = {graph.name: apart / f"{graph.name}.onnx" for graph in layout.graphs}
        distance = max(write_graph(recogniser.model, graph, graphs[graph.name]) for graph in layout.graphs)
        found: dict[str, Any] = {
            "model": source.name,
            "to": to,
            "precision": precision,
            "equal_to_model_within": distance,
            "float32_bytes": _bytes(graphs.values()),
            "ranges": None if precision == "fp32" else "dynamic" if clips is None else "static",
            "wer": {},
        }
        recogniser.processor.save_pretrained(folder)
        for name, text in layout.files.items():
            (folder / name).write_text(text)

        def described(files: Mapping[str, Path], within: bool = True) -> dict[str, Any]:
            named = {name: file.name if within else str(file) for name, file in files.items()}
            return {**found, **layout.described, "files": named}

        if judged is not None:
            _write_description(folder, described(graphs, within=apart == folder))
            found["wer"]["fp32"] = wer(folder)
        files = graphs
        if precision == "int8":
            from trimbre.exporting.int8 import quantise

            files = {name: folder / f"{name}.int8.onnx" for name in graphs}
            batches = None if clips is None else _batches(clips, recogniser, layout)
            for name, graph in graphs.items():
                quantise(graph, files[name], calibration=batches)
            _write_description(folder, described(files))
            if judged is not None:
                found["wer"]["int8"] = wer(folder)
                _refuse_worse(found["wer"], tolerance, judged.name)
        found["bytes"] = _bytes(files.values())
        _write_description(folder, described(files))
        (folder / "README.md").write_text(card(described(files)))
    return found | {"out": str(out)}


def require_packages() -> None:
    """Raise UserError where the packages that write and run graphs are not installed."""
    if lacking := [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]:
        raise UserError(f'exporting needs {", ".join(lacking)}: pip install "trimbre[export]"')


@contextmanager
def _graphs_in(folder: Path, precision: str) -> Iterator[Path]:
    """Where float32 graphs are written: among what is kept, or apart from it if int8 is what is asked for."""
    if precision == "fp32":
        yield folder
        return
    with tempfile.TemporaryDirectory() as apart:
        yield Path(apart)


def _batches(cuts: Any, recogniser: Recogniser, layout: Any) -> Iterator[Mapping[str, np.ndarray]]:
    """Clips one by one as a graph is fed with them."""
    for cut in islice(cuts, CALIBRATION_CLIPS):
        inputs = layout.feed(features_of([load_cut(cut)], recogniser.processor))
        yield {name: value.numpy() for name, value in inputs.items()}


def _refuse_worse(wer: Mapping[str, Mapping[str, Any]], tolerance: float, data: str) -> None:
    before, after = (wer[precision]["percent"] for precision in ("fp32", "int8"))
    if after - before > tolerance:
        raise UserError(
            f"int8 is {after - before:.2f} points of WER worse on {data} ({before:.2f} % in fp32, {after:.2f} % in "
            f"int8) and --tolerance is {tolerance:g}: nothing was written; give --calibrate CUTS or leave it out, "
            "or stay with --precision fp32"
        )


def _bytes(files: Iterable[Path]) -> int:
    """Bytes of graphs, with the file of weights that a large one has beside it."""
    parts = [part for file in files for part in (file, file.with_name(f"{file.name}.data"))]
    return sum(part.stat().st_size for part in parts if part.exists())


def _write_description(folder: Path, described: Mapping[str, Any]) -> None:
    (folder / "export.json").write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n")
