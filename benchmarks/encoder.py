"""Speed-up of one Whisper encoder over another in ONNX Runtime, timed on the same window in alternation.

Both models are exported, so that the deployed graph is timed. Features and decoder are left out.

    python benchmarks/encoder.py --models tiny.en half
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import trimbre
from trimbre.benchmark.timing import noise, spread
from trimbre.cli import prepare_libraries
from trimbre.config import EXPORT_PRECISIONS
from trimbre.exporting.runtime import load_exported
from trimbre.models.inputs import features_of, rate_of, window_of


def main() -> None:
    """Export both encoders, time them and print the speed-up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs=2, required=True, help="the second is compared with the first")
    parser.add_argument("--precision", choices=EXPORT_PRECISIONS, default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=31)
    parser.add_argument("--out", type=Path, help="a JSON file to write the figures to")
    given = parser.parse_args()
    prepare_libraries()
    with tempfile.TemporaryDirectory() as folder:
        sessions = []
        for number, model in enumerate(given.models):
            out = Path(folder) / str(number)
            trimbre.export(model=model, to="onnx", out=out, precision=given.precision)
            exported = load_exported(out, threads=given.threads)
            sessions.append(exported.model.encoder)
        window = window_of(exported.processor)
        assert window is not None, "a Whisper has a window"
        clip = noise(window, 0, rate_of(exported.processor))  # the time of an encoder does not depend on the content
        features = features_of([clip], exported.processor)["input_features"].numpy()
        times = in_turn(sessions, features, given.repeats)
    found = {
        "models": given.models,
        "precision": given.precision,
        "threads": given.threads,
        "repeats": given.repeats,
        "seconds": [vars(spread(spent)) for spent in times],
        "times_faster": vars(spread([first / second for first, second in zip(*times, strict=True)])),
    }
    for model, took in zip(given.models, found["seconds"], strict=True):
        print(f"{model}: {1e3 * took['median']:.1f} ms [{1e3 * took['low']:.1f}, {1e3 * took['high']:.1f}] a window")
    faster = found["times_faster"]
    print(f"{faster['median']:.2f} times faster [{faster['low']:.2f}, {faster['high']:.2f}] in {given.repeats} pairs")
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n")


def in_turn(sessions: list[Any], features: np.ndarray, repeats: int) -> list[list[float]]:
    """Seconds of each session in every repeat, after two of warm-up; the order is reversed every other repeat."""
    times: list[list[float]] = [[] for _ in sessions]
    for repeat in range(-2, repeats):
        order = list(enumerate(sessions))
        for number, session in order[::-1] if repeat % 2 else order:
            start = time.perf_counter()
            session.run(["last_hidden_state"], {"input_features": features})
            if repeat >= 0:
                times[number].append(time.perf_counter() - start)
    return times


if __name__ == "__main__":
    main()
