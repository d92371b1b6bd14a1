"""LibriSpeech and mini LibriSpeech as corpora: a manifest beside the audio of each part, by lhotse's recipe."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lhotse import CutSet
from lhotse.recipes.librispeech import LIBRISPEECH, MINI_LIBRISPEECH, download_librispeech, prepare_librispeech

from trimbre.data.audio import recording_of
from trimbre.data.corpus import Corpus
from trimbre.data.cuts import write_cuts
from trimbre.data.tables import decoded
from trimbre.errors import OptionError, UserError, reason
from trimbre.progress import tracked

PARTS = (*LIBRISPEECH, *MINI_LIBRISPEECH)
LICENCE = "CC BY 4.0"


def librispeech(*, source: str | Path, parts: Sequence[str] = (), download: bool = False) -> Corpus:
    """Write `PART/cuts.jsonl.gz` into every part of a LibriSpeech tree, so that `PART` can be given as data.

    Args:
        source: the tree, or the folder that holds it as `LibriSpeech`.
        parts: names such as `dev-clean`; all parts in the tree by default.
        download: download `parts` from OpenSLR first, those of mini LibriSpeech by default.

    Raises:
        UserError: a part is missing or unknown, holds no transcribed audio, or cannot be downloaded.
    """
    source = Path(source)
    for part in parts:
        if part not in PARTS:
            raise OptionError("parts", part, f"LibriSpeech has {', '.join(PARTS)}")
    if download:
        try:
            download_librispeech(source, dataset_parts=list(parts or MINI_LIBRISPEECH))
        except OSError as error:
            raise UserError(
                f"cannot download LibriSpeech: {reason(error)}; try again, or download it by hand"
            ) from error
    given = source / "LibriSpeech" if (source / "LibriSpeech").is_dir() else source
    root = given.absolute()
    found = [part for part in PARTS if (root / part).is_dir()]
    for part in parts:
        if part not in found:
            raise OptionError("parts", part, f"there is no such folder in {given}: download it first")
    if not found:
        place = f"give the folder that it is in, {given.parent}" if root.name in PARTS else "give its folder"
        raise OptionError("source", str(source), f"it holds no part of LibriSpeech, such as dev-clean: {place}")
    utterances, hours, notes = {}, {}, []
    for part in tracked(parts or found, "LibriSpeech"):
        cuts = _cuts(root, part, given / part)
        if absent := sorted(_listed(given / part) - {cut.recording_id for cut in cuts}):
            notes.append(f"{len(absent)} utterances of {part} have a transcript and no audio, such as {absent[0]}")
        write_cuts(cuts, root / part)
        utterances[part] = len(cuts)
        hours[part] = round(sum(cut.duration for cut in cuts) / 3600, 4)
    return Corpus(root, "LibriSpeech (openslr.org 12, 31)", LICENCE, utterances, hours, [], notes)


def _cuts(root: Path, part: str, given: Path) -> list[Any]:
    """The utterances of a part, which the user named by `given`."""
    if (
        next(root.joinpath(part).rglob("*.trans.txt"), None) is None
        or next(root.joinpath(part).rglob("*.flac"), None) is None
    ):
        raise UserError(f"{given} holds no FLAC files with their .trans.txt: unpack this part of LibriSpeech again")
    try:
        manifests = prepare_librispeech(root, dataset_parts=part, num_jobs=os.cpu_count() or 1)[part]
        return list(CutSet.from_manifests(**manifests))
    except Exception as error:  # lhotse's recipe raises whatever its decoders do
        _refuse_damaged(given)
        raise UserError(f"cannot read {given} as a part of LibriSpeech: {reason(error)}") from error


def _listed(part: Path) -> set[str]:
    """Names of the utterances that a part has transcripts of."""
    return {line.split(maxsplit=1)[0] for path in part.rglob("*.trans.txt") for line in decoded(path).splitlines()}


def _refuse_damaged(part: Path) -> None:
    """Raise UserError for the first file of a part that cannot be read."""
    for path in sorted(part.rglob("*.trans.txt")):
        for number, line in enumerate(decoded(path).splitlines(), start=1):
            if len(line.split(maxsplit=1)) < 2:
                raise UserError(f"{path}, line {number}: the name of an utterance and its transcript are expected")
    for path in sorted(part.rglob("*.flac")):
        recording_of(path, id=path.stem)
