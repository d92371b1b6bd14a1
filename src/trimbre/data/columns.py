"""Names of the columns that tables of recordings have, and of the files that are taken as recordings."""

import re
from collections.abc import Sequence

FILE = (
    *("file_name", "filename", "file", "file_path", "filepath", "path", "audio", "audio_file", "audio_path"),
    *("audio_filepath", "audio_filename", "audio_file_name", "wav", "wav_filename", "wav_path", "wav_file", "clip"),
)
"""Columns that name the audio, by Hugging Face's, Common Voice's, NeMo's, DeepSpeech's and others' conventions."""
NAMES = ("id", "utt_id", "utterance_id", "name")
"""Columns that name the audio where none of the former is there."""
TEXT = (
    *("text", "transcription", "transcript", "sentence", "normalized_text", "normalised_text"),
    *("raw_text", "raw_transcription", "normalized_transcription", "transcripts", "sentences"),
)
SPEAKER = ("speaker", "speaker_id", "client_id")
LANGUAGE = ("language", "lang", "locale")
SPLIT = ("split", "subset")
START = (
    *("offset", "start", "begin", "start_time", "begin_time", "start_offset", "start_seconds", "start_sec"),
    *("start_ms", "begin_ms", "offset_ms"),
)
"""Columns that say where in the file an utterance begins, in seconds, or in milliseconds where they end in `_ms`."""
END = ("end", "stop", "end_time", "stop_time", "end_offset", "end_seconds", "end_sec", "end_ms", "stop_ms")
SECONDS = ("duration", "duration_seconds", "duration_sec", "duration_ms")
"""Columns that say how long it is, beside one of the former."""
AUDIO = frozenset(
    ".wav .wave .flac .ogg .oga .opus .mp3 .mp2 .mpga .m4a .m4b .aac .wma .aiff .aif .aifc .au .snd .caf .w64 .rf64 "
    ".bwf .sph .nist .voc .wv .ape .tta .ac3 .amr .awb .3gp .3g2 .g722 .gsm .spx .ra .mka .webm .mp4 .m4v .mkv .mov "
    ".avi .mpg .mpeg .ts .flv .wmv".split()
)
"""Endings of files that are taken as recordings, in lower case."""


def names_audio(columns: Sequence[str]) -> bool:
    """Whether one of these columns names the audio."""
    return any(canonical(column) in (*FILE, *NAMES) for column in columns)


def canonical(column: str) -> str:
    """The name of a column without its spelling: `" File-Name"` -> `file_name`."""
    return re.sub(r"[\s-]+", "_", re.sub("[\u200b\u200e\u2060\ufeff]", "", column).strip().casefold())


def indices(columns: Sequence[str], names: Sequence[str]) -> list[int]:
    """Positions of the columns of these names, in the order of `names`."""
    plain = [canonical(column) for column in columns]
    return [index for name in names for index, column in enumerate(plain) if column == name]
