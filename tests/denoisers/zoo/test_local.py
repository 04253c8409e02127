"""Published models on this machine: files are fetched when a model needs them, and must hold the card's model."""

import hashlib
import io
import zipfile

import pytest
import torch
import yaml

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.denoisers.zoo.card import ZOO, load_card
from amed_lightning.denoisers.zoo.local import local_model

from ...runtime.server import serve, whole

MODEL = {"name": "anisotropic_gaussian", "height": 8, "width": 8}


def archive(name, content):
    """Zip one file."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as files:
        files.writestr(name, content)
    return packed.getvalue()


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("AMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AMED_OFFLINE", raising=False)
    return tmp_path / "cache" / "models" / "cifar10"


@pytest.fixture
def site():
    with serve(whole(b"weights")) as site:
        yield site


def write(folder, changes):
    path = folder / "cifar10.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((ZOO / "cifar10.yaml").read_text()) | changes))
    return str(path)


class TestFiles:
    def card(self, site, tmp_path, model, **files):
        served = {"network": {"name": "w.pkl", "sha256": hashlib.sha256(b"weights").hexdigest()}, **files}
        served = {key: {"addresses": [site.address]} | file for key, file in served.items()}
        reference = {"reference": {"name": "r.npz", "addresses": ["http://127.0.0.1:1/"]}}
        return load_card(write(tmp_path, {"model": model, "files": served | reference}))

    def test_only_what_the_model_names_is_fetched(self, site, tmp_path, cache):
        model = {"name": "edm", "path": "{network}", "scale": 2.0, "prompt": "{ a curly {} thing"}
        spec = local_model(self.card(site, tmp_path, model))
        assert spec == model | {"path": str(cache / "w.pkl")}
        assert (cache / "w.pkl").read_bytes() == b"weights"
        assert not (cache / "r.npz").exists()

    def test_a_model_inside_another_is_found(self, site, tmp_path, cache):
        card = self.card(site, tmp_path, {"name": "guided", "of": {"path": "{network}"}, "scale": 2.0})
        assert local_model(card)["of"] == {"path": str(cache / "w.pkl")}

    def test_a_file_of_ones_own_needs_no_other(self, site, tmp_path):
        card = self.card(site, tmp_path, {"name": "edm", "path": "{network}"})
        assert local_model(card, {"path": "mine.pkl"}) == {"name": "edm", "path": "mine.pkl"}
        assert site.requests == []

    def test_an_option_that_names_no_file_is_refused(self, site, tmp_path):
        card = self.card(site, tmp_path, {"name": "edm", "path": "{network}"})
        with pytest.raises(
            InputError, match=r"the model names \{classifier\}, and there are assets, network, reference"
        ):
            local_model(card, {"path": "{classifier}"})

    def test_a_folder_is_all_files_in_it(self, site, tmp_path, cache):
        names = ("config/unet/config.json", "config/vocab.txt")
        files = {name: {"name": name} for name in names}
        spec = local_model(self.card(site, tmp_path, {"name": "sd", "config": "{config}"}, **files))
        assert spec == {"name": "sd", "config": str(cache / "config")}
        assert all((cache / name).read_bytes() == b"weights" for name in names)
        assert not (cache / "w.pkl").exists()

    def test_what_the_package_ships_is_beside_the_cards(self, site, tmp_path):
        spec = local_model(self.card(site, tmp_path, {"name": "ldm", "config": "{assets}/lsun_bedroom_ldm"}))
        assert spec["config"] == str(ZOO / "lsun_bedroom_ldm")
        assert site.requests == []

    def test_a_file_in_an_archive_is_taken_out_once(self, site, tmp_path, cache):
        site.answers[:] = [whole(archive("deep/model.ckpt", b"tensors"))]
        files = {"zipped": {"name": "ldm.zip", "member": "deep/model.ckpt"}}
        card = self.card(site, tmp_path, {"name": "ldm", "path": "{zipped}"}, **files)
        path = cache / "ldm" / "deep" / "model.ckpt"
        for _ in range(2):
            assert local_model(card)["path"] == str(path)
            assert path.read_bytes() == b"tensors"
            stamp = path.stat().st_mtime_ns
        assert path.stat().st_mtime_ns == stamp
        assert [file.name for file in path.parent.iterdir()] == ["model.ckpt"]

    @pytest.mark.parametrize("content", [archive("other.ckpt", b""), b"no archive"], ids=["another file", "no archive"])
    def test_an_archive_without_it_is_refused(self, site, tmp_path, cache, content):
        site.answers[:] = [whole(content)]
        files = {"zipped": {"name": "ldm.zip", "member": "model.ckpt"}}
        card = self.card(site, tmp_path, {"name": "ldm", "path": "{zipped}"}, **files)
        with pytest.raises(InputError, match=f"^{cache / 'ldm.zip'}: "):
            local_model(card)
        assert list((cache / "ldm").iterdir()) == []


class TestPretrained:
    def pretrained(self, tmp_path, overrides=None, **facts):
        facts = {"shape": [1, 8, 8], "sigma_min": 0.002, "sigma_max": 80.0, "feature_size": 1} | facts
        card = write(tmp_path, {"model": MODEL, "facts": facts})
        return {"name": "pretrained", "card": card, "overrides": overrides}

    def test_it_is_the_model_that_its_card_describes(self, tmp_path):
        model = build("model", DENOISERS, self.pretrained(tmp_path))
        plain = build("model", DENOISERS, MODEL)
        x, sigma = torch.ones(2, 1, 8, 8), torch.tensor(1.0)
        assert model.digest == plain.digest
        assert model.denoiser(x, sigma, None).image.equal(plain.denoiser(x, sigma, None).image)

    @pytest.mark.parametrize(
        ("facts", "message"),
        [
            ({"shape": [3, 8, 8]}, r"whose shape is \(1, 8, 8\), not \(3, 8, 8\)"),
            ({"feature_size": 64}, "whose feature_size is 1, not 64"),
            ({"num_classes": 10}, "whose num_classes is 0, not 10"),
            ({"sigma_max": 150.0}, "whose sigma_max is 80, not 150"),
        ],
    )
    def test_another_model_than_its_card_describes_is_refused(self, tmp_path, facts, message):
        with pytest.raises(InputError, match=message):
            build("model", DENOISERS, self.pretrained(tmp_path, **facts))

    def test_options_can_be_changed_and_unknown_ones_are_refused(self, tmp_path):
        spec = self.pretrained(tmp_path, overrides={"height": 4}, shape=[1, 4, 8])
        assert build("model", DENOISERS, spec).shape == (1, 4, 8)
        with pytest.raises(InputError, match="depth"):
            build("model", DENOISERS, self.pretrained(tmp_path, overrides={"depth": 4}))

    def test_without_the_network_the_file_to_place_by_hand_is_named(self, monkeypatch, cache):
        monkeypatch.setenv("AMED_OFFLINE", "1")
        with pytest.raises(InputError) as caught:
            build("model", DENOISERS, {"name": "pretrained", "card": "cifar10"})
        file = load_card("cifar10").files["network"]
        assert f"get it from {file.addresses[0]}" in str(caught.value)
        assert f"place it at {cache / file.name}" in str(caught.value)
