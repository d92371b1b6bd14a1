"""Long recordings: stitched chunks must be the recording seen whole, if frames depend on what is near alone."""

from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from helpers.families import FAMILIES, shaken, talkative, tiny_kin
from helpers.mini_recogniser import clips, mini_parakeet, mini_processor
from torch import nn
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2Processor

from trimbre.data.cuts import read_cuts
from trimbre.errors import UserError
from trimbre.evaluation.score import score
from trimbre.inference.greedy import greedy
from trimbre.inference.long_form import recognise_cuts, transcribe, transcriber
from trimbre.models.families.registry import head_of
from trimbre.models.heads.ctc import CTC, frames_in_chunks
from trimbre.models.inputs import features_of

STRIDE, KERNEL = 160, 400


class Local(nn.Module):
    """A recogniser whose frames depend on 25 ms each, on the time grid of wav2vec 2.0."""

    head = CTC(lengths="output_lengths")

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(pad_token_id=0)
        self.conv = nn.Conv1d(1, 6, KERNEL, STRIDE)

    def forward(self, input_values, attention_mask=None):
        return SimpleNamespace(logits=self.conv(input_values[:, None]).transpose(1, 2))

    def output_lengths(self, lengths):
        return (lengths - KERNEL) // STRIDE + 1


LOCAL = SimpleNamespace(feature_extractor=Wav2Vec2FeatureExtractor(do_normalize=False, return_attention_mask=True))


def labels_by(model, processor):
    return lambda audio: np.array(head_of(model).frame_labels(model, features_of([audio], processor))[0])


@pytest.mark.parametrize("samples", [16000, 16001, 16399, 16400, 40000, 47999, 48001, 100_003])
@pytest.mark.parametrize("context", [3, 25, 49])
def test_chunks_of_a_local_model_add_up_to_the_whole(samples, context):
    torch.manual_seed(0)
    model = Local()
    audio = torch.randn(samples).numpy()
    whole = model.head.frame_labels(model, features_of([audio], LOCAL))[0]
    assert len(set(whole)) > 2
    stitched = frames_in_chunks(audio, labels_by(model, LOCAL), stride=STRIDE, chunk=100, context=context)
    assert stitched.tolist() == whole


def test_a_graph_reads_all_frames_of_a_long_recording_at_once():
    torch.manual_seed(0)
    model, seen = Local(), []

    class Graph:
        def text(self, scores):
            seen.append(scores)
            return "all of it"

    audio = torch.randn(100_003).numpy()
    assert transcriber(model, LOCAL, Graph(), chunk_seconds=1.0, overlap_seconds=0.5)(audio) == "all of it"
    (whole,) = model.head.frame_scores(model, features_of([audio], LOCAL))
    assert np.exp(whole).sum(-1) == pytest.approx(1, abs=1e-5)
    assert len(seen) == 1
    np.testing.assert_allclose(seen[0], whole, atol=1e-5)


def test_the_model_never_sees_more_than_a_chunk():
    model, seen = Local(), []
    model.conv.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape[-1]))
    audio = np.zeros(50_000, dtype=np.float32)
    frames_in_chunks(audio, labels_by(model, LOCAL), stride=STRIDE, chunk=100, context=25)
    assert len(seen) > 2
    assert max(seen) <= 100 * STRIDE
    assert min(seen) > 99 * STRIDE


def test_frames_last_as_long_as_the_configuration_says():
    assert Local.head.samples_per_frame(Local(), LOCAL) == STRIDE
    model, processor = mini_parakeet(), mini_processor()
    expected = processor.feature_extractor.hop_length * model.config.encoder_config.subsampling_factor
    assert head_of(model).samples_per_frame(model, processor) == expected


def test_a_long_recording_has_as_many_frames_in_chunks():
    model, processor = mini_parakeet(), mini_processor()
    audio = clips(5.3)[0]
    whole = head_of(model).frame_labels(model, features_of([audio], processor))[0]
    stitched = frames_in_chunks(audio, labels_by(model, processor), stride=1280, chunk=25, context=4)
    assert len(stitched) == len(whole)


def test_files_shorter_than_a_chunk_are_seen_whole(tmp_path):
    model, processor = mini_parakeet(), mini_processor()
    audio = clips(1.3, 2.1)
    files = [tmp_path / "a.wav", tmp_path / "b.flac"]
    for file, samples in zip(files, audio, strict=True):
        soundfile.write(file, samples / 10, 16000, subtype="PCM_16")
    found = list(transcribe(model=model, processor=processor, files=files))
    clips_read = [soundfile.read(file, dtype="float32")[0] for file in files]
    assert [each.text for each in found] == [
        greedy(model, features_of([samples], processor), processor)[0] for samples in clips_read
    ]
    assert [each.file for each in found] == [str(file) for file in files]
    assert [each.seconds for each in found] == [1.3, 2.1]


def test_hardly_any_audio_is_no_failure(tmp_path):
    for name, samples in [("one.wav", 1), ("few.wav", 300)]:
        soundfile.write(tmp_path / name, np.zeros(samples), 16000)
    files = sorted(tmp_path.iterdir())
    found = list(transcribe(model=mini_parakeet(), processor=mini_processor(), files=files))
    assert [(each.error, round(each.seconds * 16_000)) for each in found] == [(None, 300), (None, 1)]


def test_a_file_that_cannot_be_read_is_named_and_the_next_are_recognised(tmp_path):
    model, processor = mini_parakeet(), mini_processor()
    good, gone, garbage, empty, silent = (tmp_path / f"{name}.wav" for name in ("good", "gone", "bad", "empty", "none"))
    soundfile.write(good, clips(1.3)[0] / 10, 16000)
    garbage.write_bytes(b"this is no sound")
    empty.write_bytes(b"")
    soundfile.write(silent, np.zeros(0), 16000)
    given = [gone, good, garbage, empty, silent, tmp_path / ("long" * 80), good]  # the last: no name for a file
    found = list(transcribe(model=model, processor=processor, files=given))
    assert [each.file for each in found] == [str(file) for file in given]
    read = next(transcribe(model=model, processor=processor, files=[good]))
    assert [found[1], found[6]] == [read, read]
    assert set(read.to_json()) == {"file", "text", "seconds"}
    for each in (found[0], *found[2:6]):
        assert (each.text, each.seconds) == (None, 0)
        assert each.file in each.error
        assert "\n" not in each.error
        assert each.to_json()["error"] == each.error


@pytest.mark.parametrize(("chunk", "overlap"), [(0.5, 0.1), (2.0, 2.0), (2.0, -1.0)])
def test_chunks_that_cannot_be_are_refused(chunk, overlap):
    with pytest.raises(UserError):
        list(transcribe(model=Local(), processor=LOCAL, files=[], chunk_seconds=chunk, overlap_seconds=overlap))


def test_evaluation_writes_what_transcribe_does_of_every_file_alone(model, processor, noise_corpus):
    """Also for models whose frames depend on the padding of a batch, as a Wav2Vec2-Conformer's do."""
    talkative(model, processor)
    cuts = list(read_cuts(noise_corpus))[:8]
    assert len({cut.duration for cut in cuts}) == len(cuts)
    cuts += [cut.with_id(f"again-{cut.id}") for cut in cuts[:3]]  # some of one length, which may share a batch
    texts = {}
    for batch in recognise_cuts(model=model, processor=processor, cuts=cuts):
        assert [cuts[position].id for position in batch.positions] == list(batch.ids)
        texts.update(zip(batch.positions, batch.texts, strict=True))
    assert len(set(texts.values())) > 3 or head_of(model).reads_text  # a random decoder writes one text for ever
    files = [cut.recording.sources[0].source for cut in cuts]
    assert [texts[number] for number in range(len(cuts))] == [
        one.text for one in transcribe(model=model, processor=processor, files=files)
    ]


@pytest.mark.ctc
def test_a_head_that_masks_padding_has_the_same_scores_in_a_batch(model, processor):
    """And the others have not: nothing is evaluated one by one without need."""
    noise, head = np.random.default_rng(0), head_of(model)
    audio = [noise.standard_normal(samples).astype(np.float32) for samples in (9_000, 16_000, 24_000)]
    together = head.frame_logits(model, features_of(audio, processor))
    alone = [head.frame_logits(model, features_of([clip], processor))[0] for clip in audio]
    assert all(len(one) >= len(other) for one, other in zip(together, alone, strict=True))  # without a mask all count
    away = [
        (one[: len(other)] - other).abs().max() / other.abs().max() for one, other in zip(together, alone, strict=True)
    ]
    assert (max(away) < 1e-5) == head.masks_padding


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_a_model_without_a_mask_is_evaluated_clip_by_clip(norm, noise_corpus):
    """Wav2Vec2 with group norm takes no mask: zeros beside a clip change its statistics."""
    torch.manual_seed(0)
    model = shaken(tiny_kin("Wav2Vec2", num_hidden_layers=2, feat_extract_norm=norm))
    own = FAMILIES["wav2vec2-conformer, relative"].processor()
    processor = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer"), own.tokenizer)
    talkative(model, processor)
    cuts = list(read_cuts(noise_corpus))
    found = score(model=model, processor=processor, data=cuts, normalize="none")
    files = [cut.recording.sources[0].source for cut in sorted(cuts, key=lambda cut: cut.id)]
    assert list(found.hypotheses) == [one.text for one in transcribe(model=model, processor=processor, files=files)]
    assert len(set(found.hypotheses)) > 3
