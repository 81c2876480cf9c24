"""What ``import earmark`` promises."""

import inspect

import earmark


def test_the_public_names_are_these():
    assert sorted(earmark.__all__) == ["Event", "ScoreTrack", "UserError", "load"]
    assert all(inspect.getdoc(getattr(earmark, name)) for name in earmark.__all__)


def test_load_takes_a_folder_a_device_and_a_precision():
    assert list(inspect.signature(earmark.load).parameters) == ["model", "device", "precision"]


def test_an_event_is_what_the_readme_prints():
    assert [*inspect.signature(earmark.Event).parameters] == [
        "onset_seconds",
        "offset_seconds",
        "label",
        "score",
    ]
