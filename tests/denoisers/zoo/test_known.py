"""State dicts that a shipped card knows need not be described again."""

import hashlib

import pytest
import yaml

from amed_lightning.config import InputError, complete
from amed_lightning.denoisers.families import consistency
from amed_lightning.denoisers.published import known
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.denoisers.untold import Untold
from amed_lightning.denoisers.zoo import card

from ..published import TINY_CONSISTENCY, TINY_OPTIONS, write_openai


@pytest.fixture
def path(monkeypatch, tmp_path):
    """A file that a card knows."""
    path = write_openai(tmp_path / "network.pt", TINY_CONSISTENCY)
    content = yaml.safe_load((card.ZOO / "lsun_bedroom.yaml").read_text())
    content["model"] |= TINY_OPTIONS
    found = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size}
    content["files"]["network"] |= found
    (tmp_path / "lsun_bedroom.yaml").write_text(yaml.safe_dump(content))
    monkeypatch.setattr(card, "ZOO", tmp_path)
    return path


def test_a_known_file_gets_its_own_options_without_a_word(path, capsys):
    assert known(path) == Untold(**TINY_OPTIONS, attention_order="new")
    said = consistency(str(path), **TINY_OPTIONS, attention_order="new")
    assert consistency(str(path)).digest == said.digest
    assert capsys.readouterr().err == ""


def test_what_contradicts_it_is_refused(path):
    with pytest.raises(InputError, match=r"network\.pt: known to have head_channels 16; leave out head_channels 8"):
        consistency(str(path), head_channels=8)
    with pytest.raises(InputError, match=r"network\.pt: known to have no num_heads; leave out num_heads 2"):
        consistency(str(path), num_heads=2)


def test_another_file_of_the_same_size_is_unknown(path):
    changed = bytearray(path.read_bytes())
    changed[-1] ^= 1
    path.write_bytes(changed)
    assert known(path) == Untold()


@pytest.mark.parametrize(
    ("name", "training"),
    [("imagenet256", {"noise_schedule": "linear", "diffusion_steps": 1000}), ("lsun_bedroom", {})],
)
def test_the_shipped_cards_say_what_the_files_do_not_tell(name, training):
    """Flags in the README of guided-diffusion and in launch.sh of the consistency models."""
    model = card.load_card(name).model
    order = {"imagenet256": "legacy", "lsun_bedroom": "new"}[name]
    expected = {"img_resolution": 256, "head_channels": 64, "attention_order": order} | training
    assert {key: model[key] for key in expected} == expected
    complete("model", DENOISERS, model)
    if "classifier" in model:
        assert model["classifier"] == {"path": "{classifier}", "attention_order": "legacy"}
