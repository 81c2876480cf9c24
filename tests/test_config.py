"""Settings: checked, with errors that name the key; and the recipes in the box."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from earmark import recipes
from earmark.config import Settings, merge, parse_assignments, read_toml, settings_from
from earmark.errors import UserError


def message(tables, **options):
    with pytest.raises(UserError) as caught:
        settings_from(tables, **options)
    return str(caught.value)


def test_no_tables_are_the_defaults_of_the_paper():
    found = settings_from({})
    assert found == Settings()
    assert (found.features.rate_hz, found.features.window_samples, found.features.hop_samples) == (
        16_000,
        1024,
        664,
    )
    assert (
        found.training.batch_size,
        found.training.learning_rate,
        found.training.balance_ratio,
    ) == (44, 0.001, 5.0)
    assert found.network.total_time_pooling == 1
    assert settings_from(
        {"network": {"time_pooling": [2, 2, 2]}}
    ).clock == found.features.clock.coarser(8)


def test_a_misspelt_key_is_named_with_a_suggestion():
    said = message({"training": {"epoch": 3}}, where="my.toml")
    assert said == "my.toml: there is no setting 'training.epoch'; did you mean 'epochs'?"
    assert "did you mean 'training'?" in message({"trainin": {}})
    assert "known here: kind, rate_hz" in message({"features": {"zzzzzz": 1}})


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        (
            "training",
            "epochs",
            0,
            "training.epochs: input should be greater than or equal to 1, came as '0'",
        ),
        (
            "network",
            "recurrent",
            "lstm",
            "network.recurrent: input should be 'gru', 'gated_gru' or 'none'",
        ),
        ("network", "kernel_size", 4, "network: kernel_size must be odd"),
        (
            "network",
            "layers_per_block",
            1.5,
            "network.layers_per_block.0: input should be a valid integer",
        ),
        ("network", "time_pooling", [2, 2], "network: time_pooling and frequency_pooling need one"),
        ("features", "hop_samples", 2000, "features: hop_samples may not exceed window_samples"),
        ("features", "high_hz", 9000, "features: need low_hz < high_hz <= rate_hz / 2"),
        (
            "training",
            "learning_rate",
            float("inf"),
            "training.learning_rate: input should be a finite number",
        ),
        ("decoding", "max_gap_seconds", float("nan"), "decoding.max_gap_seconds: input should be"),
        (
            "decoding",
            "threshold",
            1.5,
            "decoding.threshold: input should be less than or equal to 1",
        ),
    ],
)
def test_a_wrong_value_is_named(section, key, value, said):
    assert message({section: {key: value}}).startswith(said)


def test_settings_do_not_change_once_made():
    with pytest.raises(ValueError, match="frozen"):
        Settings().training.epochs = 3


def test_assignments_become_tables():
    found = parse_assignments(
        [
            "training.epochs=5",
            "network.time_pooling=[2,2,2]",
            "network.recurrent = none",
            "training.balance=false",
            "features.kind='mfcc'",
        ]
    )
    assert found == {
        "training": {"epochs": 5, "balance": False},
        "network": {"time_pooling": [2, 2, 2], "recurrent": "none"},
        "features": {"kind": "mfcc"},
    }


@pytest.mark.parametrize(
    "text", ["epochs=5", "training.epochs", ".epochs=1", "training.=1", "=", ""]
)
def test_an_assignment_of_another_form_is_refused(text):
    with pytest.raises(UserError, match=r"--set takes section.key=value, came as"):
        parse_assignments([text])


TABLES = st.dictionaries(
    st.sampled_from("ab"),
    st.integers(0, 3) | st.dictionaries(st.sampled_from("xy"), st.integers(0, 3)),
    max_size=2,
)


@settings(deadline=None, max_examples=60)
@given(TABLES, TABLES)
def test_merge_keeps_both_and_lets_the_upper_win(below, above):
    found = merge(below, above)
    assert merge(found, above) == found
    assert merge(below, {}) == below
    assert merge({}, above) == above
    for section in {*below, *above}:
        under, over = below.get(section, {}), above.get(section, {})
        if isinstance(under, dict) and isinstance(over, dict):
            assert found[section] == under | over
        else:
            assert found[section] == (over if section in above else under)


def test_a_broken_file_says_where(tmp_path):
    path = tmp_path / "mine.toml"
    with pytest.raises(UserError, match=r"mine.toml: can't be read"):
        read_toml(path)
    path.write_text("[training\n")
    with pytest.raises(UserError, match=r"mine.toml: settings must be TOML: .*line 1"):
        read_toml(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="must be TOML"):
        read_toml(path)


def test_a_file_of_ones_own_is_a_recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("[training]\nepochs = 2\n")
    assert settings_from(recipes.tables(str(path))).training.epochs == 2


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_in_the_box_is_valid(name):
    tables = recipes.tables(name)
    assert recipes.systems(name, {})
    own = tomllib.loads(recipes.text(name))
    assert merge(recipes.tables(own.pop("base")) if "base" in own else {}, own) == tables
    assert recipes.summary(name).endswith(".")
    assert len(recipes.summary(name)) > 20


def leaves(tables):
    sections = {name: table for name, table in tables.items() if isinstance(table, dict)}
    return {(s, k): v for s, section in sections.items() for k, v in section.items()}


def test_a_recipe_says_only_what_differs_from_its_base_or_the_defaults():
    defaults = leaves(Settings().model_dump(mode="json"))
    for name in recipes.names():
        own = tomllib.loads(recipes.text(name))
        below = defaults | (leaves(recipes.tables(own["base"])) if "base" in own else {})
        for place, value in leaves(own).items():
            assert value != below.get(place), (name, place)


def test_a_recipe_over_another(tmp_path):
    (tmp_path / "mine.toml").write_text("base = 'best-small'\n[training]\nepochs = 2\n")
    (alone,) = recipes.systems("best-small", {}).values()
    (found,) = recipes.systems(str(tmp_path / "mine.toml"), {}).values()
    assert found == alone.model_copy(
        update={"training": alone.training.model_copy(update={"epochs": 2})}
    )
    (tmp_path / "more.toml").write_text("base = 'mine.toml'\n[training]\nbatch_size = 3\n")
    training = recipes.tables(str(tmp_path / "more.toml"))["training"]
    assert (training["epochs"], training["batch_size"]) == (2, 3)
    assert training["schedule"] == alone.training.schedule


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base = 3", "base must be the name of a recipe, came as 3"),
        (
            "base = 'best-smal'",
            "mine.toml: there is no recipe 'best-smal'; did you mean 'best-small'",
        ),
        ("members = ['demoo']", "mine.toml: there is no recipe 'demoo'"),
        ("base = 'fusion'", "either members or a base"),
        ("base = 'demo'\nmembers = ['demo']", "either members or a base"),
        ("base = 'mine.toml'", "is, in the end, itself"),
        ("base = 'gone.toml'", "gone.toml: can't be read"),
    ],
)
def test_bases_that_cannot_be(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        recipes.systems(str(path), {})


def test_a_fusion_has_the_settings_of_its_members_under_its_own():
    own = parse_assignments(["training.epochs=7"])
    found = recipes.systems("fusion", own)
    assert list(found) == ["gated-crnn-logmel", "gated-crnn-mfcc"]
    for name, of_member in found.items():
        (alone,) = recipes.systems(name, own).values()
        fused = alone.training.model_copy(update={"fuse_epochs": 3})
        assert of_member == alone.model_copy(update={"training": fused})


def test_members_that_are_there_again_differ_by_chance_alone(tmp_path):
    (tmp_path / "own.toml").write_text("[training]\nepochs = 2\n")
    recipe = tmp_path / "mine.toml"
    recipe.write_text("members = ['demo', 'own.toml', 'demo', 'own.toml', 'demo']\n")
    found = recipes.systems(str(recipe), parse_assignments(["training.batch_size=7"]))
    draws = {Path(name).stem: of.training.draw for name, of in found.items()}
    assert draws == {"demo": 0, "demo-2": 1, "demo-3": 2, "own": 0, "own-2": 1}
    alone, again = found["demo"], found["demo-3"]
    assert alone.training.batch_size == 7
    assert again.training == alone.training.model_copy(update={"draw": 2})
    assert again.network == alone.network


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("members = 3", "must be a list of recipes"),
        ("members = ['demo', 'own/demo.toml']", "must differ"),
        ("members = ['a b.toml', 'demo']", "letters, digits"),
        ("members = ['demo', 'fusion']", "can't itself have members"),
        ("members = ['dem']", "did you mean 'demo'"),
        ("members = ['demo']\n[training]\nepoch = 1", "did you mean 'epochs'"),
    ],
)
def test_members_that_cannot_be(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        recipes.systems(str(path), {})


def test_the_forms_of_the_paper():
    assert recipes.DEFAULT in recipes.names()
    assert settings_from(recipes.tables("gated-crnn-logmel")) == Settings()
    at = settings_from(recipes.tables("gated-crnn-mfcc-at"))
    assert (at.features.kind, at.network.total_time_pooling) == ("mfcc", 8)
    plain = settings_from(recipes.tables("crnn-logmel-unbalanced"))
    assert (plain.network.activation, plain.network.localisation, plain.training.balance) == (
        "relu",
        "mean",
        False,
    )


def test_an_unknown_recipe_is_named():
    with pytest.raises(UserError, match="did you mean 'gated-crnn-logmel'"):
        recipes.tables("gated-crnn-logmell")
    with pytest.raises(UserError, match="must end in"):
        recipes.tables("qqqq")


def test_classes_that_exclude_each_other_are_not_mixed() -> None:
    given = {"network": {"exclusive": True}, "augmentation": {"mixed_share": 0.5}}
    with pytest.raises(UserError, match=r"mixed_share is 0.5: set it to 0, or exclusive to false"):
        settings_from(given)
    assert settings_from(given | {"augmentation": {"mixed_share": 0.0}}).augmentation.shift is False


@pytest.mark.parametrize(
    ("epochs", "share", "tag_epochs"),
    [(36, 0.4, 22), (100, 0.29, 71), (50, 0.58, 21), (1, 0.4, 1), (2, 0.9, 1), (20, 0.0, 20)],
)
def test_the_last_epochs_have_labelled_frames(epochs: int, share: float, tag_epochs: int) -> None:
    given = {"training": {"epochs": epochs, "frame_share": share}}
    assert settings_from(given).training.tag_epochs == tag_epochs


def test_no_more_epochs_are_fused_than_have_labelled_frames() -> None:
    given = {"epochs": 5, "frame_share": 0.4, "fuse_epochs": 2}
    assert settings_from({"training": given}).training.fuse_epochs == 2
    with pytest.raises(UserError, match="fuse_epochs can be 2 at most, as so many of 5 epochs"):
        settings_from({"training": given | {"fuse_epochs": 3}})
    settings_from({"training": given | {"fuse_epochs": 3, "frame_share": 0.0}})
