"""DCASE 2017 and AudioSet tables meet their audio, whatever copies of it are called."""

import numpy as np
import pytest
import soundfile

from earmark.config import FeatureSettings
from earmark.data.clips import clip_features
from earmark.data.labels import find_clips
from earmark.errors import UserError
from earmark.features import FeatureExtractor
from earmark.formats.labels import read_labels
from earmark.tasks.training import train

DCASE = (
    '-abcdefghij,30.000,40.000,"Horn, truck horn,Car","/m/1,/m/2"\r\n'
    "YYYYYYYYYYY,0.000,1.000,Car,/m/2\r\n"
    "unavailable,0.000,10.000,Car,/m/2\r\n"
)
FILES = ("Y-abcdefghij_30.000_40.000.wav", "YYYYYYYYYYYY_0.000_1.000.wav")
AUDIOSET = (
    "# YTID, start_seconds, end_seconds, positive_labels\n"
    '-abcdefghij, 30.000, 40.000, "/m/1,/m/2"\n'
    'YYYYYYYYYYY, 0.000, 8.000, "/m/1"\n'
)
STRONG = (
    "segment_id\tstart_time_seconds\tend_time_seconds\tlabel\n"
    "-abcdefghij_30000\t1.0\t2.0\t/m/1\nYYYYYYYYYYY_0\t0.0\t3.0\t/m/1\n"
)


@pytest.fixture
def labels(tmp_path):
    def write(text):
        path = tmp_path / "labels.csv"
        path.write_bytes(text.encode())
        return path

    return write


@pytest.fixture
def audio(tmp_path):
    def make(*names):
        folder = tmp_path / "audio"
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        return folder

    return make


def paths(clips, folder):
    return [clip.path.relative_to(folder).as_posix() for clip in clips]


def test_dcase_tables_find_their_files_and_name_the_unavailable(labels, audio):
    folder = audio(*(f"training/{name}" for name in FILES))
    clips, missing = find_clips(read_labels(labels(DCASE)), folder)
    assert [(clip.filename, set(clip.labels)) for clip in clips] == [
        (FILES[0], {"Car", "Horn, truck horn"}),
        (FILES[1], {"Car"}),
    ]
    assert missing == ["Yunavailable_0.000_10.000.wav"]


def test_training_refuses_unavailable_videos_unless_told(labels, audio, tmp_path):
    with pytest.raises(UserError, match=r"1 of the table's files.*unavailable.*--skip-missing"):
        train(labels(DCASE), audio=audio(*FILES), out=tmp_path / "model")


def test_ground_truths_and_sets_mean_the_same_files(labels, audio):
    folder = audio(*FILES)
    rows = f"{FILES[0][1:]}\t30.000\t40.000\tCar\n{FILES[1][1:]}\t0.000\t1.000\tCar\n"
    for text in (rows, rows + f"{FILES[1][1:]}\t0\t0\tHorn\n"):
        clips, missing = find_clips(read_labels(labels(text)), folder)
        assert not missing
        assert paths(clips, folder) == list(FILES)


def test_a_clip_of_1_s_beside_one_of_10_s(labels, tmp_path):
    settings = FeatureSettings(
        rate_hz=1000, window_samples=50, hop_samples=20, mel_bands=5, high_hz=500
    )
    folder = tmp_path / "audio"
    folder.mkdir()
    for name, seconds in zip(FILES, (10, 1), strict=True):
        noise = np.random.default_rng(seconds).normal(0, 0.1, 1000 * seconds)
        soundfile.write(folder / name, noise, 1000)
    clips, _ = find_clips(read_labels(labels(DCASE)), folder)
    extractor = FeatureExtractor(settings)
    found = clip_features(clips, extractor, tmp_path / "features", max_clip_seconds=10)
    assert found.failures == ()
    # (S - window) / hop, of which half a hop or more counts as one, and the first.
    assert found.lengths.tolist() == [499, 49]
    batch, lengths = found.batch(np.array([1, 0]))
    assert (batch.shape, lengths.tolist()) == ((2, 499, 5), [49, 499])
    assert not batch[0, 49:].any()
    alone = extractor.of_clips([soundfile.read(folder / FILES[1], dtype="float32")[0]])[0]
    np.testing.assert_allclose(batch[0, :49], alone, atol=5e-3)


COPIES = ["{}", "Y{}", "{}_30.000_40.000", "Y{}_30_40", "{}_30000", "Y{}_30000"]


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("suffix", ["wav", "flac", "m4a"])
@pytest.mark.parametrize("text", [AUDIOSET, STRONG, DCASE])
def test_copies_are_found_by_any_of_their_names(labels, audio, copy, suffix, text):
    name = f"deep/{copy.format('-abcdefghij')}.{suffix}"
    # Neither another start of the video nor another video is meant.
    folder = audio(name, "-abcdefghij_40000.wav", "Yzzzzzzzzzzz_30000.wav", "other.wav")
    clips, missing = find_clips(read_labels(labels(text)), folder)
    assert paths(clips, folder) == [name]
    assert len(missing) == (2 if text == DCASE else 1)


def test_the_exact_name_comes_first(labels, audio):
    folder = audio("-abcdefghij.wav", *FILES)
    clips, _ = find_clips(read_labels(labels(DCASE)), folder)
    assert paths(clips, folder) == list(FILES)


def test_two_copies_are_an_error(labels, audio):
    folder = audio("a/-abcdefghij.wav", "b/Y-abcdefghij_30000.flac")
    with pytest.raises(UserError, match=r"line 2: .*a/-abcdefghij.wav and .*b/Y-abcdefghij_30000"):
        find_clips(read_labels(labels(AUDIOSET)), folder)


def test_two_clips_of_one_video_are_two(labels, audio):
    text = AUDIOSET + '-abcdefghij, 50.000, 60.000, "/m/2"\n'
    folder = audio("-abcdefghij_30_40.wav", "-abcdefghij_50_60.wav")
    clips, missing = find_clips(read_labels(labels(text)), folder)
    assert [set(clip.labels) for clip in clips] == [{"/m/1", "/m/2"}, {"/m/2"}]
    assert len({clip.group for clip in clips}) == 1
    assert missing == ["YYYYYYYYYYYY_0.000_8.000.wav"]
    (folder / "-abcdefghij_30_40.wav").unlink()
    (folder / "-abcdefghij_50_60.wav").rename(folder / "-abcdefghij.wav")
    with pytest.raises(UserError, match=r"line 4: a recording needs one name"):
        find_clips(read_labels(labels(text)), folder)


def test_files_of_other_tables_are_not_looked_for_so(labels, audio):
    folder = audio("abcdefghijk.flac", "other.wav")
    text = "filename\tevent_labels\nYabcdefghijk_30.000_40.000.wav\tx\nother.wav\tx\n"
    clips, missing = find_clips(read_labels(labels(text)), folder)
    assert (paths(clips, folder), len(missing)) == (["other.wav"], 1)
    # Nor a name without a start, of a table without a header.
    clips, missing = find_clips(
        read_labels(labels("abcdefghijk.wav\t0\t1\tx\nother.wav\t0\t1\tx\n")), folder
    )
    assert missing == ["abcdefghijk.wav"]
