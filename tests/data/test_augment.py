"""Augmentation: every effect measured by what it promises, and drawn from the given generator alone."""

import numpy as np
import pytest
import torch
from helpers.tones import level, pitch, tone

from trimbre.config import AugmentConfig
from trimbre.data.augment import add_noise, augment_clips, band_limit, mask_features, reverberate

NEVER = {"speed": 0.0, "room": 0.0, "noise": 0.0, "telephone": 0.0, "shift": 0.0, "time_masks": 0, "mel_masks": 0}


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("snr", [0.0, 5.0, 20.0])
def test_noise_is_as_loud_as_asked(snr):
    clip, other = tone(440, 1.0), tone(300, 0.3)
    found = set()
    for seed in range(40):
        noise = add_noise(clip, other, snr, draw(seed)) - clip
        found.add(round(20 * np.log10(level(clip) / level(noise)), 2))
    # Another voice is kept 12 dB below: louder, it would be one to transcribe.
    assert found == {snr, max(snr, 12.0)}


def test_noise_comes_in_several_colours_hum_and_voices():
    clip, other = tone(440, 1.0), tone(700, 0.3)
    loudest = {round(pitch(add_noise(clip, other, 20.0, draw(seed)) - clip)) for seed in range(40)}
    assert {50, 60, 700} <= loudest
    assert len(loudest) > 6


def test_noise_on_silence_is_silence():
    for seed in range(8):
        assert not add_noise(np.zeros(1000, dtype=np.float32), np.zeros(0), 5.0, draw(seed)).any()


def test_a_room_keeps_length_and_energy_and_follows_the_sound():
    clip = np.zeros(16_000, dtype=np.float32)
    clip[4000] = 1.0
    for seed in range(10):
        wet = reverberate(clip, draw(seed))
        assert wet.shape == clip.shape
        assert level(wet) == pytest.approx(level(clip), rel=1e-4)
        assert np.abs(wet[:4000]).max() < 1e-5
        assert np.argmax(np.abs(wet)) == 4000
        early, late = wet[4001:5600], wet[8801:10_400]
        # The tail falls by 60 dB within RT60, at most 0.6 s.
        assert level(late) < 0.1 * level(early)
        assert level(early) > 0


@pytest.mark.parametrize("samples", [16_000, 15_999])
def test_a_telephone_line_takes_away_what_is_outside_its_band(samples):
    tones = [tone(hertz, 1.0)[:samples] for hertz in (100, 1000, 5000)]
    limited = band_limit(np.sum(tones, axis=0), 300.0, 3400.0)
    assert limited.shape == (samples,)
    # A sine that isn't whole periods long leaks a little into other bands.
    np.testing.assert_allclose(limited[500:-500], tones[1][500:-500], atol=1e-6 if samples == 16_000 else 2e-3)


def test_speed_moves_pitch_and_length_together():
    rates = []
    for seed in range(10):
        (played,) = augment_clips([tone(1000, 1.0)], AugmentConfig(**NEVER | {"speed": 1.0}), draw(seed))
        rates.append(16_000 / len(played))
        assert pitch(played) == pytest.approx(1000 * rates[-1], abs=1)
    assert 0.879 < min(rates) < 0.95
    assert 1.05 < max(rates) < 1.121


def test_chances_are_those_asked_for():
    clips = [tone(440, 0.02)] * 400
    for effect in ("speed", "room", "noise", "telephone"):
        changed = augment_clips(clips, AugmentConfig(**NEVER | {effect: 0.25}), draw())
        share = np.mean([len(clip) != len(clips[0]) or not np.allclose(clip, clips[0]) for clip in changed])
        # Four standard deviations of 400 draws.
        assert share == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 400) ** 0.5)


def features() -> dict[str, torch.Tensor]:
    """Ones, in utterances of 600, 57 and 5 frames, with nines where the batch is padded."""
    mask = torch.zeros(3, 600, dtype=torch.bool)
    values = torch.full((3, 600, 80), 9.0)
    for row, length in enumerate((600, 57, 5)):
        mask[row, :length] = True
        values[row, :length] = 1.0
    return {"input_features": values, "attention_mask": mask}


@pytest.mark.parametrize("sort", ["time_masks", "mel_masks"])
def test_masks_stay_within_their_bounds_and_off_the_padding(sort):
    options = AugmentConfig(**NEVER | {sort: 2})
    widest = [0, 0, 0]
    for seed in range(60):
        inputs = features()
        masked = mask_features(inputs, options, draw(seed))
        assert masked["attention_mask"] is inputs["attention_mask"]
        assert torch.equal(inputs["input_features"], features()["input_features"])
        for row, length in enumerate((600, 57, 5)):
            assert (masked["input_features"][row, length:] == 9).all()
            gone = masked["input_features"][row, :length] == 0
            lines = gone.all(dim=1) if sort == "time_masks" else gone.all(dim=0)
            # Whole frames or whole bands, and nothing else.
            assert gone.sum() == lines.sum() * (80 if sort == "time_masks" else length)
            widest[row] = max(widest[row], int(lines.sum()))
    # Two masks of up to a tenth of the utterance and 40 frames; of up to a third of the bands.
    limits = [80, 10, 0] if sort == "time_masks" else [54, 54, 54]
    assert all(found <= limit for found, limit in zip(widest, limits, strict=True))
    assert all(found > limit / 2 for found, limit in zip(widest, limits, strict=True) if limit)


def test_waveforms_are_not_masked():
    inputs = {"input_values": torch.ones(2, 100), "attention_mask": torch.ones(2, 100)}
    assert mask_features(inputs, AugmentConfig(), draw()) == inputs


def test_a_shifted_clip_begins_anywhere_within_a_hop():
    clip = np.arange(1, 1001, dtype=np.float32)
    options = AugmentConfig(**NEVER | {"shift": 1.0})
    shifted = augment_clips([clip] * 2000, options, draw())
    assert all(np.array_equal(new, clip[len(clip) - len(new) :]) for new in shifted)
    assert {1000 - len(new) for new in shifted} == set(range(160))


def test_a_shift_leaves_something_of_the_shortest_clip():
    (shifted,) = augment_clips([np.ones(3, dtype=np.float32)], AugmentConfig(**NEVER | {"shift": 1.0}), draw())
    assert 1 <= len(shifted) <= 3
    (none,) = augment_clips([np.zeros(0, dtype=np.float32)], AugmentConfig(**NEVER | {"shift": 1.0}), draw())
    assert len(none) == 0


def test_no_augmentation_is_the_identity():
    clips = [tone(440, 0.5), tone(300, 0.1)]
    for new, old in zip(augment_clips(clips, AugmentConfig.none(), draw()), clips, strict=True):
        np.testing.assert_array_equal(new, old)
    masked = mask_features(features(), AugmentConfig.none(), draw())
    assert all(torch.equal(masked[name], value) for name, value in features().items())


def test_everything_follows_from_the_draw():
    options = AugmentConfig(
        **NEVER | {"speed": 0.8, "room": 0.8, "noise": 0.8, "telephone": 0.8, "shift": 0.8, "time_masks": 3}
    )
    clips = [tone(hertz, 0.3) for hertz in (300, 500, 700)]
    before = [clip.copy() for clip in clips]

    def disturbed(seed):
        one = draw(seed)
        augmented = augment_clips(clips, options, one)
        return [*augmented, mask_features(features(), options, one)["input_features"].numpy()]

    once, again, other = disturbed(1), disturbed(1), disturbed(2)
    assert [clip.dtype for clip in once] == [np.float32] * 4
    assert all(np.array_equal(*pair) for pair in zip(once, again, strict=True))
    assert not any(np.array_equal(*pair) for pair in zip(once, other, strict=True))
    assert all(np.array_equal(*pair) for pair in zip(clips, before, strict=True))
