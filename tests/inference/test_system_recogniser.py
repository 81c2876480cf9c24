"""A model at work on samples: short, long, odd, and none."""

import gc
import itertools
import os
import random
import threading
import time

import numpy as np
import pytest
import soundfile
import torch
from conftest import training_summary

from earmark.audio import resample
from earmark.config import ClassDecoding, settings_from
from earmark.errors import UserError
from earmark.features import FeatureExtractor, Normaliser
from earmark.inference import system, windowed
from earmark.inference.decoding import decode
from earmark.inference.pipeline import Workers
from earmark.inference.stitching import WindowPlan
from earmark.inference.system import SystemRecogniser
from earmark.model.bundle import Bundle, describe
from earmark.tuning.rules import untuned

NAMES = ("dog", "rain", "siren")
AT = (2, 2, 2)
KINDS = ["attention", "attention_over_time", "linear_softmax", "mean", "max"]


@pytest.fixture(scope="module")
def tiny():
    """Makes a Bundle: 1 kHz, frames of 20 ms, windows of 40 frames."""

    def make(window_frames=40, members=1, spread=1.0, overlap=0.5, tag_gate=True, **network):
        found = settings_from(
            {
                "features": {
                    "rate_hz": 1000,
                    "window_samples": 32,
                    "hop_samples": 20,
                    "mel_bands": 8,
                    "high_hz": 500,
                },
                "network": network
                if "kind" in network
                else {"filters": 3, "recurrent_units": 3} | network,
                "stitching": {"overlap": overlap},
                "decoding": {"tag_gate": tag_gate},
            }
        )
        description = describe(
            NAMES,
            found,
            untuned(len(NAMES), found.decoding),
            Normaliser(np.full(8, -3.0), np.full(8, 2.0)),
            window_frames,
            members,
            training_summary(*NAMES),
            "none",
        )
        networks = []
        for member in range(members):
            torch.manual_seed(member)
            made = description.network().eval().requires_grad_(False)
            heads = ("localisation.classifier.weight", "localisation.localiser.weight")
            for name, weight in made.named_parameters():
                if name in heads:
                    weight.mul_(4 * spread)
            networks.append(made)
        return Bundle(description, tuple(networks))

    return make


def sound(samples, seed=0):
    """Noise whose loudness wanders, so that frames differ."""
    rng = np.random.default_rng(seed)
    loudness = np.exp(2 * np.sin(np.arange(samples) / 150))
    return (0.1 * loudness * rng.normal(0, 1, samples)).astype(np.float32)


def direct(model, samples):
    """Frames and clips of the networks' mean, in one go."""
    features = FeatureExtractor(model.description.settings.features).of_clips([samples])[0]
    with torch.inference_mode():
        outputs = [network(torch.from_numpy(features)[None]) for network in model.networks]
    frames = torch.stack([output.frame_probabilities[0] for output in outputs]).mean(dim=0)
    clips = torch.stack([output.clip_probabilities[0] for output in outputs]).mean(dim=0)
    return frames.numpy(), clips.numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pooling", [(1, 1, 1), AT])
@pytest.mark.parametrize("samples", [1, 31, 200, 812])
def test_one_window_is_the_networks_own_output(tiny, kind, pooling, samples):
    model = tiny(localisation=kind, time_pooling=pooling)
    recording = sound(samples)
    track = SystemRecogniser(model).scores(recording)
    frames, clips = direct(model, recording)
    assert np.array_equal(track.probabilities, frames)
    assert np.array_equal(track.tags, clips)
    assert np.array_equal(track.local_tags, np.broadcast_to(clips, frames.shape))
    assert track.end_seconds == samples / 1000
    assert len(frames) == model.description.settings.clock.frame_count(samples)


def blended(model, samples):
    """The recording's frames and weights (T, members, K), and local tags, by loops over windows."""
    settings = model.description.settings
    pooling = settings.network.total_time_pooling
    features = FeatureExtractor(settings.features).of_clips([samples])[0]
    plan = WindowPlan(model.description.window_frames, settings.stitching.overlap, pooling)
    total = -(-len(features) // pooling)
    frames = np.zeros((total, len(model.networks), 3))
    weights, shares = np.zeros_like(frames), np.zeros((total, 1, 1))
    tags = np.zeros((total, 3))
    for start, stop in plan.finish(len(features)):
        window = torch.from_numpy(features[start:stop])[None]
        clips = []
        for member, network in enumerate(model.networks):
            with torch.inference_mode():
                output = network(window)
            length = output.frame_logits.shape[1]
            place = slice(start // pooling, start // pooling + length)
            share = np.sin(np.pi * (np.arange(length) + 0.5) / length)[:, None] ** 2
            frames[place, member] += share * output.frame_probabilities[0].numpy()
            weights[place, member] += share * output.log_weights[0].exp().numpy()
            clips.append(output.clip_probabilities[0].numpy())
        shares[place] += share[:, None]
        tags[place] = np.maximum(tags[place], np.mean(clips, axis=0))
    return frames / shares, weights / shares, tags


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("pooling", "members"), [((1, 1, 1), 1), (AT, 2)])
def test_a_long_recording_is_its_windows_blended(tiny, kind, pooling, members):
    model = tiny(localisation=kind, time_pooling=pooling, members=members)
    recording = sound(5000)
    track = SystemRecogniser(model).scores(recording)
    frames, weights, tags = blended(model, recording)
    np.testing.assert_allclose(track.probabilities, frames.mean(axis=1), atol=1e-5)
    np.testing.assert_allclose(track.local_tags, tags, atol=1e-5)
    if kind == "max":
        expected = frames.max(axis=0)
    else:
        expected = (frames * weights).sum(axis=0) / weights.sum(axis=0)
    np.testing.assert_allclose(track.tags, expected.mean(axis=0), atol=1e-5)
    assert track.tags.tolist() == list(SystemRecogniser(model).tag(recording).values())


def test_a_vote_is_one_of_all_frames_of_a_long_recording(tiny):
    model = tiny(kind="context_mlp", context_frames=3, hidden_units=[4], dropout=0.0)
    recording = sound(5000)
    track = SystemRecogniser(model).scores(recording)
    frames, _, tags = blended(model, recording)
    votes = (frames[:, 0] > 0.5).mean(axis=0)
    assert 0 < votes.min() < votes.max() or len(set(votes)) > 1
    np.testing.assert_allclose(track.tags, votes, atol=1e-6)
    np.testing.assert_allclose(track.local_tags, tags, atol=1e-5)


@pytest.mark.parametrize("pooling", [(1, 1, 1), AT, (3, 1, 1)])
@pytest.mark.parametrize("samples", [812 + 20, 830, 1234, 4000, 7777])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_blocks_are_gapless_from_the_first_frame_to_the_end(tiny, pooling, samples, overlap):
    model = tiny(time_pooling=pooling, overlap=overlap)
    blocks = list(SystemRecogniser(model).blocks(sound(samples)))
    assert blocks[0].start_frame == 0
    for one, two in itertools.pairwise(blocks):
        assert two.start_frame == one.start_frame + len(one.probabilities)
        assert one.end_seconds is None
        assert one.tags is None
        assert one.edges_seconds[-1] == two.edges_seconds[0]
    last = blocks[-1]
    clock = model.description.settings.clock
    assert last.start_frame + len(last.probabilities) == clock.frame_count(samples)
    assert last.edges_seconds[-1] == samples / 1000
    assert last.tags is not None


def with_rules_amid_the_scores(model, recording):
    """The model with thresholds at the medians, so that there is much to detect and to gate."""
    track = SystemRecogniser(model).scores(recording)
    middles = np.median(track.probabilities, axis=0), np.median(track.local_tags, axis=0)
    rules = tuple(
        ClassDecoding(
            tag_threshold=tag,
            threshold=threshold,
            low_threshold=threshold * (1 - 1e-4),
            max_gap_seconds=0.04,
            min_event_seconds=0.04,
        )
        for threshold, tag in zip(*(middle.tolist() for middle in middles), strict=True)
    )
    return type(model)(model.description.model_copy(update={"decoding": rules}), model.networks)


@pytest.mark.parametrize("tag_gate", [True, False])
def test_detecting_is_decoding_the_scores(tiny, tag_gate):
    recording = sound(9000)
    model = with_rules_amid_the_scores(tiny(tag_gate=tag_gate), recording)
    worker, rules = SystemRecogniser(model), model.description.decoding
    events, track = worker.detect(recording), worker.scores(recording)
    assert len(events) > 10
    assert events == decode(track, rules, tag_gate=tag_gate)
    assert events != decode(track, rules, tag_gate=not tag_gate)


def test_memory_does_not_grow_with_the_recording(tiny, monkeypatch):
    model = tiny()
    monkeypatch.setattr(windowed, "BLOCK_SECONDS", 1)
    longest = dict.fromkeys(["features", "windows", "frames", "batches"], 0)
    made = 0

    def at_most(what, value):
        longest[what] = max(longest[what], value)

    class Spy(SystemRecogniser):
        def _batches(self, counted):
            nonlocal made
            batches = super()._batches(counted)
            for batch in batches:
                made += 1
                at_most("features", len(batches.gi_frame.f_locals["features"]))
                at_most("windows", len(batch.starts))
                yield batch

    for seconds in (20, 60):
        made = 0
        for taken, block in enumerate(Spy(model).blocks(sound(seconds * 1000))):
            time.sleep(0.001)
            at_most("batches", made - taken)
            at_most("frames", len(block.probabilities))
    # 8 windows at once, hopping by half of their 40 frames, and a block of 50 frames.
    assert longest["features"] <= 9 * 20 + 40 + 50
    assert longest["windows"] == 8
    assert longest["frames"] <= 8 * 20
    assert longest["batches"] <= 2 * system.WORKERS.count + 1


def one_after_another(model, samples):
    """Blocks of a recording without a thread."""

    class Alone:
        count = 1

        def in_order(self, work, items, ahead):
            return map(work, items)

    worker = SystemRecogniser(model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(system, "WORKERS", Alone())
        return list(worker.blocks(samples))


@pytest.mark.parametrize("samples", [1, 20, 812, 813, 1234, 5000, 20_000])
@pytest.mark.parametrize("pooling", [(1, 1, 1), AT])
def test_threads_change_nothing(tiny, monkeypatch, samples, pooling):
    monkeypatch.setattr(windowed, "BLOCK_SECONDS", 1)
    model = tiny(time_pooling=pooling, members=2)
    for recording in (sound(samples), np.zeros(samples, np.float32)):
        expected = one_after_another(model, recording)
        monkeypatch.setattr(system, "WORKERS", Workers(5))
        worker = SystemRecogniser(model)
        monkeypatch.setattr(worker, "_of", late(worker._of, samples))
        found = list(worker.blocks(recording))
        assert len(found) == len(expected)
        for one, two in zip(found, expected, strict=True):
            assert np.array_equal(one.probabilities, two.probabilities)
            assert np.array_equal(one.local_tags, two.local_tags)
            assert (one.start_frame, one.end_seconds) == (two.start_frame, two.end_seconds)
        assert np.array_equal(found[-1].tags, expected[-1].tags)


def late(work, seed):
    """``work`` that takes a while, now longer, now shorter."""
    rng = random.Random(seed)

    def slower(batch):
        time.sleep(rng.choice([0, 0.003]))
        return work(batch)

    return slower


def threads_left():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("earmark")]


def test_stopping_early_leaves_no_thread_and_no_open_file(tiny, tmp_path):
    worker, path = SystemRecogniser(tiny()), tmp_path / "sound.wav"
    soundfile.write(path, np.clip(sound(200_000), -1, 1), 1000)
    tracks = worker.blocks(path)
    next(tracks)
    tracks.close()
    assert threads_left() == []
    gc.collect()
    assert str(path) not in [os.path.realpath(f"/proc/self/fd/{n}") for n in open_files()]


def open_files():
    return os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []


def test_an_error_while_reading_comes_after_what_was_read(tiny):
    def breaking():
        for _ in range(10):
            yield sound(1000)
        raise OSError("the disk is gone")

    worker, tracks = SystemRecogniser(tiny()), []
    reading = worker._tracks(breaking())
    with pytest.raises(OSError, match="the disk is gone"):
        tracks.extend(reading)
    seconds = tracks[-1].edges_seconds[-1]
    # All but the windows that the last eight at once might have been.
    assert 10 - 2 * 8 * 0.4 < seconds < 10
    assert threads_left() == []


def test_workers_keep_to_one_thread_of_torch_and_others_to_theirs():
    counts = []
    barrier = threading.Barrier(2, timeout=10)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:

        def count(_):
            barrier.wait()
            counts.append(torch.get_num_threads())

        list(Workers(2, system._one_thread).in_order(count, (0 for _ in range(2)), 2))
        new = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
        new.start()
        new.join()
        assert counts == [1, 1, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_samples_in_memory_are_cut_into_blocks(tiny, monkeypatch):
    worker, recording = SystemRecogniser(tiny()), sound(5000)
    whole = worker.scores(recording)
    monkeypatch.setattr(windowed, "BLOCK_SECONDS", 1)
    assert len(list(windowed._in_blocks(recording, 1000))) == 5
    np.testing.assert_allclose(
        worker.scores(recording).probabilities, whole.probabilities, atol=1e-5
    )


def test_members_are_averaged(tiny):
    both = tiny(members=2)
    recording = sound(700)
    alone = []
    for network in both.networks:
        one = type(both)(both.description, (network,))
        alone.append(SystemRecogniser(one).scores(recording))
    together = SystemRecogniser(both).scores(recording)
    mean = np.mean([track.probabilities for track in alone], axis=0)
    np.testing.assert_allclose(together.probabilities, mean, atol=1e-6)
    np.testing.assert_allclose(together.tags, np.mean([t.tags for t in alone], axis=0), atol=1e-6)
    assert not np.allclose(alone[0].probabilities, alone[1].probabilities, atol=1e-3)


def test_equal_members_change_nothing(tiny):
    one = tiny()
    twice = type(one)(one.description, one.networks * 2)
    recording = sound(3000)
    np.testing.assert_allclose(
        SystemRecogniser(twice).scores(recording).probabilities,
        SystemRecogniser(one).scores(recording).probabilities,
        atol=1e-6,
    )


def test_other_rates_and_channels_are_converted(tiny):
    worker, recording = SystemRecogniser(tiny()), sound(3000)
    own = worker.scores(recording)
    assert np.array_equal(worker.scores(recording, rate_hz=1000).probabilities, own.probabilities)
    faster = resample(recording, 1000, 2000)
    track = worker.scores(faster, rate_hz=2000)
    assert len(track.probabilities) == len(own.probabilities)
    np.testing.assert_allclose(track.probabilities, own.probabilities, atol=0.2)
    assert len(worker.scores(faster).probabilities) == 299
    stereo = np.stack([2 * recording, np.zeros_like(recording)], axis=1).astype(np.float64)
    assert np.array_equal(worker.scores(stereo).probabilities, own.probabilities)


def test_a_file_is_its_samples(tiny, tmp_path):
    worker, recording = SystemRecogniser(tiny()), np.clip(sound(3000), -1, 1)
    path = tmp_path / "sound.wav"
    soundfile.write(path, recording, 1000, subtype="FLOAT")
    for place in (path, str(path)):
        assert worker.detect(place) == worker.detect(recording)
    assert np.array_equal(worker.scores(path).tags, worker.scores(recording).tags)


@pytest.mark.parametrize(
    "samples",
    [
        np.zeros(900, np.int16),
        np.zeros((2, 3, 4), np.float32),
        np.float32(0),
        np.array([0, np.nan], np.float32),
        np.array([0, np.inf]),
    ],
)
def test_samples_that_are_no_sound_are_refused(tiny, samples):
    with pytest.raises(UserError, match=r"samples must be finite floats in \[-1, 1\]"):
        SystemRecogniser(tiny()).detect(samples)


@pytest.mark.parametrize("empty", [np.zeros(0, np.float32), np.zeros((0, 2), np.float32)])
def test_a_recording_without_samples_is_refused(tiny, empty):
    worker = SystemRecogniser(tiny())
    for work in (worker.detect, worker.tag, worker.scores):
        with pytest.raises(UserError, match="at least one sample"):
            work(empty)


def test_tags_name_the_classes(tiny):
    tags = SystemRecogniser(tiny()).tag(sound(500))
    assert tuple(tags) == NAMES
    assert all(0 < value < 1 for value in tags.values())
