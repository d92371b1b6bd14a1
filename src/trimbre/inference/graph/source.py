"""The graph argument of public functions: a folder by path, or a decoding graph in memory."""

from pathlib import Path
from typing import TypeAlias

from trimbre.errors import OptionError
from trimbre.inference.graph.decoder import DecodingGraph, load_graph
from trimbre.models.loading import Recogniser

GraphLike: TypeAlias = str | Path | DecodingGraph


def resolve_graph(
    graph: GraphLike | None, *recognisers: Recogniser, normalize: str | None = None
) -> DecodingGraph | None:
    """Load a decoding graph, or take the one in memory, and check that it fits the models.

    Args:
        normalize: text normalisation of an evaluation; it has to agree with the graph's.

    Returns:
        None without a graph.

    Raises:
        UserError: there is no such graph, it was made for another vocabulary or with another normalisation.
    """
    if graph is None:
        return None
    if isinstance(graph, DecodingGraph):
        graph.described.check(*recognisers)
        loaded = graph
    else:
        loaded = load_graph(graph, *recognisers)
    written = loaded.described.normalize
    if None not in (written, normalize) and (normalize == "none") != (written == "none"):
        raise OptionError(
            "normalize", normalize, f"the words of the graph are normalised by {written}: give the same to both"
        )
    return loaded
