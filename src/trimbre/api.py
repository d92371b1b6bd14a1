"""Looking at recognisers by their names, which stay as they are: what they hold, how well and how fast they hear."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trimbre.benchmark.timing import RealTimeFactors, real_time_factor
from trimbre.data.audio import load_cut
from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError
from trimbre.evaluation.evaluate import EvaluationReport, evaluate_sets
from trimbre.inference import long_form as transcription
from trimbre.inference.graph.decoder import DecodingGraph, load_graph
from trimbre.models.families.registry import anatomy_of
from trimbre.models.loading import Recogniser, load
from trimbre.pruning.equivalence import verify_cutting
from trimbre.pruning.targets import ModelCosts, describe


def inspect(*, model: str, verify: bool = False, seed: int = 0) -> dict[str, Any]:
    """What can be cut from a recogniser and what each kind weighs.

    Args:
        verify: cut it by random plans too, and compare with the same model behind gates.

    Returns:
        Plain data; with `verify`, the largest relative distance found as `masked_equals_sliced_within`.
    """
    recogniser, processor = load(model)
    anatomy = anatomy_of(recogniser)
    ledger = ModelCosts.of(recogniser, anatomy, processor)
    found = {"model": model, "class": type(recogniser).__name__} | describe(ledger, anatomy)
    if verify:
        found["masked_equals_sliced_within"] = verify_cutting(recogniser, processor, seed=seed)
    return found


def evaluate(
    *,
    model: str,
    data: str,
    against: str | None = None,
    watch: Mapping[str, str] | None = None,
    graph: str | Path | None = None,
    normalize: str = "basic",
    margin_percent: float = 10.0,
    allow_outside: bool = False,
) -> EvaluationReport:
    """Error rates of a recogniser on `data` and on watched sets, beside another's where one is named.

    Args:
        graph: folder that `trimbre graph` wrote, to decode by; both recognisers do. Greedily by default.

    Raises:
        UserError: bad input.
    """
    recogniser = load(model)
    other = None if against is None else load(against)
    decoded_by = _graph(graph, *filter(None, (recogniser, other)))
    written = None if decoded_by is None else decoded_by.described.normalize
    if written is not None and (normalize == "none") != (written == "none"):
        raise UserError(
            f"--graph {graph} writes words as by --normalize {written}, with which --normalize {normalize} does not "
            "go together: give the same to both"
        )
    return evaluate_sets(
        recogniser=recogniser,
        against=other,
        graph=decoded_by,
        dev=data,
        name="data",
        watch=watch,
        allow_outside=allow_outside,
        normalize=normalize,
        margin_percent=margin_percent,
    )


def time_models(
    *,
    models: Mapping[str, str],
    data: str,
    clips: int = 20,
    graph: str | Path | None = None,
    threads: int = 1,
    allow_outside: bool = False,
) -> dict[str, RealTimeFactors]:
    """Time recognisers side by side, features and decoding included: on utterances, and on a recording made of them.

    Args:
        models: directories or hub names, by the name to show; the first is what the others are compared with.
        clips: how many utterances of `data` are heard, the first ones.
        graph: as in `evaluate`.

    Returns:
        `utterances`: heard one by one; `recording`: joined, and heard in the chunks that `transcribe` would hear.
    """
    heard = [load_cut(cut) for cut in read_cuts(data, allow_outside=allow_outside).subset(first=clips)]
    loaded = {name: load(place) for name, place in models.items()}
    ways = {"utterances": heard, "recording": [np.concatenate(heard)]}
    decoded_by = _graph(graph, *loaded.values())
    return {
        way: real_time_factor(loaded, clips=clips, graph=decoded_by, threads=threads) for way, clips in ways.items()
    }


def transcribe(
    *, model: str, files: Iterable[str | Path], graph: str | Path | None = None
) -> Iterator[transcription.Transcript]:
    """Recognise files of any length and format, one after the other.

    Args:
        graph: folder that `trimbre graph` wrote, to decode by; greedily by default.

    Raises:
        UserError: the model or a file can't be read.
    """
    recogniser = load(model)
    decoded_by = _graph(graph, recogniser)
    yield from transcription.transcribe(
        model=recogniser.model, processor=recogniser.processor, files=files, graph=decoded_by
    )


def _graph(folder: str | Path | None, *recognisers: Recogniser) -> DecodingGraph | None:
    """The graph in a folder, which has to be one for all of the recognisers."""
    return None if folder is None else load_graph(folder, *recognisers)
