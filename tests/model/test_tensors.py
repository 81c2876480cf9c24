"""Files of tensors: as readable as any other, and errors of the system as such."""

import errno

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from earmark.errors import UserError
from earmark.model import tensors
from earmark.model.tensors import write_tensors


def test_a_file_of_tensors_is_as_readable_as_any(tmp_path):
    path, other = tmp_path / "state.safetensors", tmp_path / "other"
    other.write_text("")
    for value in (1.0, 2.0):
        write_tensors(path, {"a": torch.full((3,), value).expand(2, 3)})
        assert torch.equal(load_file(path)["a"], torch.full((2, 3), value))
        assert path.stat().st_mode == other.stat().st_mode
    assert sorted(tmp_path.iterdir()) == [other, path]


def test_an_error_of_the_system_is_told_in_its_words(tmp_path, monkeypatch):
    path = tmp_path / "state.safetensors"
    path.write_text("before")

    def full(*_):
        raise SafetensorError(f"I/O error: whatever it says (os error {errno.ENOSPC})")

    monkeypatch.setattr(tensors, "save_file", full)
    with pytest.raises(UserError, match="can't be written: No space left on device; free some"):
        write_tensors(path, {"a": torch.ones(3)})
    monkeypatch.setattr(
        tensors, "save_file", lambda *_: (_ for _ in ()).throw(SafetensorError("?"))
    )
    with pytest.raises(SafetensorError):
        write_tensors(path, {"a": torch.ones(3)})
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
