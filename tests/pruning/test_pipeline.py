"""The pipeline as a whole: every stage says where it is, on the main process alone."""

from dataclasses import replace

import pytest
from helpers.runs import QUICK, SMALL

from trimbre import progress
from trimbre.data.batches import training_batches
from trimbre.data.cuts import read_cuts
from trimbre.pruning.pipeline import prune_model
from trimbre.training.loop import accelerator_for
from trimbre.training.recovery import Training


@pytest.mark.once
@pytest.mark.parametrize("rank", ["0", "1"])
def test_every_stage_shows_its_progress(model, processor, noise_corpus, monkeypatch, capsys, rank):
    def batches(start):
        cuts = read_cuts(noise_corpus)
        return training_batches(cuts, processor=processor, options=SMALL, seed=0, start=start)

    training = Training(batches, batches, accelerator_for("fp32"), seed=0)
    monkeypatch.setattr(progress, "FIRST_LINE", 0.0)
    monkeypatch.setenv("RANK", rank)
    config = replace(QUICK, method="curvature", recovery=replace(QUICK.recovery, steps=0))
    prune_model(model, processor, config=config, training=training)
    shown = {line.split()[0] for line in capsys.readouterr().err.splitlines()}
    assert shown == ({"scores", "allocation", "verification", "calibration", "refit"} if rank == "0" else set())
