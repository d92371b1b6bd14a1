"""Two exported recognisers side by side in ONNX Runtime: error rates on a set, and whole-recogniser times.

python benchmarks/claims/exported.py PRUNED --against DENSE --data SET --clips 20, as `trimbre eval` does for models
that are not exported. It prints one JSON object.
"""

import argparse
import json
from itertools import islice
from pathlib import Path

import numpy as np

from trimbre.benchmark.timing import real_time_factor
from trimbre.cli import prepare_libraries
from trimbre.data.audio import load_cut
from trimbre.data.cuts import read_cuts
from trimbre.data.language import Languages
from trimbre.evaluation.evaluate import compare
from trimbre.evaluation.score import score
from trimbre.exporting.runtime import load_exported
from trimbre.models.inputs import rate_of
from trimbre.models.loading import Recogniser


def main() -> None:
    """Evaluate and time both with one thread."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--against", type=Path, required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--language")
    asked = parser.parse_args()
    prepare_libraries()
    places = {"dense": asked.against, "pruned": asked.model}
    models = {name: Recogniser(*load_exported(place, threads=1)) for name, place in places.items()}
    cuts = list(read_cuts(asked.data))
    languages = Languages.of(asked.language, *models.values())
    dense, pruned = (
        score(model=one.model, processor=one.processor, data=cuts, name=asked.data, languages=languages)
        for one in models.values()
    )
    rate = rate_of(models["pruned"].processor)
    clips = [load_cut(cut, rate) for cut in islice(cuts, asked.clips)]
    timed = {
        name: real_time_factor(models, clips=each, rate=rate).to_json()
        for name, each in {"utterances": clips, "recording": [np.concatenate(clips)]}.items()
    }
    found = {
        "rates": {name: one.units.to_json() for name, one in {"dense": dense, "pruned": pruned}.items()},
        "comparison": compare(pruned, dense).to_json(),
        "real_time": timed,
        "bytes": {name: sum(file.stat().st_size for file in place.glob("*.onnx*")) for name, place in places.items()},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
