"""LibriSpeech, also the mini one, as people have it: lhotse's recipe, and a manifest beside the audio of each part."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lhotse import CutSet
from lhotse.recipes.librispeech import LIBRISPEECH, MINI_LIBRISPEECH, download_librispeech, prepare_librispeech

from trimbre.data.corpus import Corpus
from trimbre.data.cuts import write_cuts
from trimbre.errors import UserError
from trimbre.progress import progress

PARTS = (*LIBRISPEECH, *MINI_LIBRISPEECH)
LICENCE = "CC BY 4.0"


def librispeech(*, source: Path, parts: Sequence[str] = (), download: bool = False) -> Corpus:
    """Write `PART/cuts.jsonl.gz` into every part of a LibriSpeech tree, so that `PART` can be given as data.

    Args:
        source: the tree, or the folder that holds it as `LibriSpeech`.
        parts: which to take; all that are there by default.
        download: bring `parts` from OpenSLR first, those of mini LibriSpeech by default.

    Raises:
        UserError: a part isn't there or isn't known, holds no transcribed audio, or cannot be downloaded.
    """
    for part in parts:
        if part not in PARTS:
            raise UserError(f"--parts {part}: LibriSpeech has {', '.join(PARTS)}")
    if download:
        try:
            download_librispeech(source, dataset_parts=list(parts or MINI_LIBRISPEECH))
        except OSError as error:
            raise UserError(f"cannot download LibriSpeech: {error}; try again, or bring it by hand") from error
    root = (source / "LibriSpeech" if (source / "LibriSpeech").is_dir() else source).absolute()
    found = [part for part in PARTS if (root / part).is_dir()]
    for part in parts:
        if part not in found:
            raise UserError(f"--parts {part}: there is no such folder in {root}: give --download to bring it")
    if not found:
        raise UserError(f"{source} holds no part of LibriSpeech, such as dev-clean: give the folder of the parts")
    utterances, hours = {}, {}
    with progress("librispeech", len(parts or found)) as show:
        for done, part in enumerate(parts or found, start=1):
            cuts = _cuts(root, part)
            write_cuts(cuts, root / part)
            utterances[part] = len(cuts)
            hours[part] = round(sum(cut.duration for cut in cuts) / 3600, 4)
            show(done)
    return Corpus(root, "LibriSpeech (openslr.org 12, 31)", LICENCE, utterances, hours, [])


def _cuts(root: Path, part: str) -> list[Any]:
    try:
        manifests = prepare_librispeech(root, dataset_parts=part, num_jobs=os.cpu_count() or 1)[part]
        return list(CutSet.from_manifests(**manifests))
    except (ValueError, AssertionError, OSError, LookupError) as error:
        raise UserError(f"cannot read {root / part} as a part of LibriSpeech: {error}") from error
