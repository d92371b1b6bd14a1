"""Average the weights of two fine-tuned recognisers (model soup, Wortsman et al. 2022).

`python recipes/teacher/mean.py runs/more runs/plain --share 0.5 --out models/telephone-en`

Everything but the weights is taken from the second; `mean_of` in train.json names both and their shares.
"""

import argparse
import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from trimbre.files import directory_written_whole

WEIGHTS = "model.safetensors"


def mean(first: dict[str, Tensor], second: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """`(1 - share) * first + share * second`, in the second's precision; integer tensors are the second's."""
    if first.keys() != second.keys():
        raise ValueError("the two recognisers do not have the same weights")
    return {
        name: first[name].double().lerp(other.double(), share).to(other.dtype) if other.is_floating_point() else other
        for name, other in second.items()
    }


def main() -> None:
    """Write the directory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("first", type=Path)
    parser.add_argument("second", type=Path)
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    weights = mean(load_file(asked.first / WEIGHTS), load_file(asked.second / WEIGHTS), asked.share)
    with directory_written_whole(asked.out) as folder:  # in place of the recogniser that shipped before
        shutil.copytree(asked.second, folder, dirs_exist_ok=True)
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        record = folder / "train.json"
        trained = json.loads(record.read_text())
        trained["mean_of"] = {str(asked.first): 1 - asked.share, str(asked.second): asked.share}
        record.write_text(json.dumps(trained, indent=2) + "\n")


if __name__ == "__main__":
    main()
