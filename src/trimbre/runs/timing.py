"""Real-time factors of models side by side, on the utterances of an evaluation set."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from trimbre.benchmark.timing import RealTimeFactors, real_time_factor
from trimbre.data.audio import load_cut
from trimbre.data.cuts import CutsLike
from trimbre.data.source import resolve_cuts
from trimbre.errors import UserError, at_least
from trimbre.inference.graph.source import GraphLike, resolve_graph
from trimbre.models.device import resolve_device
from trimbre.models.inputs import rate_of
from trimbre.models.source import ModelLike, resolve_model

LONGEST = 300.0
"""Seconds of audio that are timed, at most: each repeat recognises all of it twice with every model."""


def real_time_factors(
    models: Mapping[str, ModelLike],
    *,
    data: CutsLike,
    clips: int = 20,
    graph: GraphLike | None = None,
    threads: int = 1,
    allow_outside: bool = False,
    device: str = "auto",
) -> dict[str, RealTimeFactors]:
    """Time models side by side, features and decoding included.

    Args:
        models: by the name to show; the first is what the others are compared with.
        clips: how many utterances of `data` are timed: the first readable ones, of five minutes together at most.
        graph: decoding graph of all models; greedy decoding by default.
        threads: of torch, on the CPU.

    Returns:
        `utterances`: one by one; `recording`: joined to one recording, decoded in chunks as `transcribe` does.

    Raises:
        UserError: an argument cannot be used.
    """
    at_least("clips", clips, 1)
    at_least("threads", threads, 1)
    place = resolve_device(device)
    loaded = {name: resolve_model(model, device=place).recogniser for name, model in models.items()}
    cuts = resolve_cuts("data", data, allow_outside=allow_outside).cuts
    rate = max(rate_of(one.processor) for one in loaded.values())
    audio = _first(cuts, clips, rate)
    decoder = resolve_graph(graph, *loaded.values())
    timed = {"utterances": audio, "recording": [np.concatenate(audio)]}
    return {
        name: real_time_factor(loaded, clips=each, rate=rate, graph=decoder, threads=threads)
        for name, each in timed.items()
    }


def _first(cuts: Iterable[Any], count: int, rate: int) -> list[np.ndarray]:
    """Audio of the first readable cuts, (samples,) each; what exceeds `LONGEST` in all is cut off."""
    found: list[np.ndarray] = []
    left, unreadable = LONGEST, UserError("there is no utterance to time")
    for cut in cuts:
        if len(found) == count or left * rate < 1:
            break
        part = cut if cut.duration <= left else cut.truncate(duration=left)
        try:
            found.append(load_cut(part, rate))
        except UserError as error:
            unreadable = error
            continue
        left -= part.duration
    if not found:
        raise unreadable
    return found
