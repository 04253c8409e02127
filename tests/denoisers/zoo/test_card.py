"""Cards: what they say is checked when they are read, and their files are fetched when a model needs them."""

import hashlib

import pytest
import torch
import yaml

from amed_lightning.config import InputError, build
from amed_lightning.denoisers.registry import DENOISERS
from amed_lightning.denoisers.zoo.card import ZOO, card_names, load_card

from ...runtime.server import serve, whole

NAMES = ["afhqv2", "cifar10", "ffhq", "imagenet256", "imagenet64", "lsun_bedroom", "lsun_bedroom_ldm", "ms_coco"]
MODEL = {"name": "anisotropic_gaussian", "height": 8, "width": 8}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("AMED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AMED_OFFLINE", raising=False)
    return tmp_path / "cache"


def content(name="cifar10"):
    return yaml.safe_load((ZOO / f"{name}.yaml").read_text())


def write(folder, changed, name="cifar10"):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(changed))
    return str(path)


class TestShipped:
    def test_there_is_one_for_each_dataset(self):
        assert card_names() == NAMES

    @pytest.mark.parametrize("name", NAMES)
    def test_each_says_where_its_model_its_licence_and_its_reference_are(self, name):
        card = load_card(name)
        assert card.name == name
        assert set(card.files) >= {"network", "reference"}
        assert all(file.addresses for file in card.files.values())
        assert card.licence.address.startswith("https://")
        assert card.licence.notice
        assert card.facts.feature_size == 64

    def test_a_digest_that_nobody_checked_says_so(self):
        for card in map(load_card, NAMES):
            for file in card.files.values():
                assert file.sha256 is None or "not checked here" in " ".join(file.remark.split())

    def test_the_published_teachers_are_those_of_the_papers(self):
        teachers = {name: load_card(name).teacher for name in NAMES}
        figures = {name: (teacher.fid, teacher.nfe) for name, teacher in teachers.items() if teacher}
        assert figures == {
            "cifar10": (1.97, 35),
            "ffhq": (2.39, 79),
            "afhqv2": (1.96, 79),
            "imagenet64": (1.36, 511),
            "lsun_bedroom_ldm": (2.95, 200),
        }


class TestReading:
    def test_an_unknown_card_is_answered_with_the_known_ones(self):
        with pytest.raises(InputError, match=r"no card 'cifar100': use one of afhqv2, cifar10, .* or the path"):
            load_card("cifar100")

    def test_a_card_of_ones_own_is_named_by_its_path(self, tmp_path):
        assert load_card(write(tmp_path, content())) == load_card("cifar10")

    @pytest.mark.parametrize(
        ("key", "value", "message"),
        [
            ("licence", {"name": "MIT"}, "licence"),
            ("colour", "red", "colour"),
            ("name", "cifar100", "name is 'cifar100'; it must be that of the file, 'cifar10'"),
            ("facts", content()["facts"] | {"shape": [3, 32]}, "shape"),
            ("facts", content()["facts"] | {"widht": 32}, "widht"),
            ("files", {"network": {"name": "../up.pkl", "addresses": []}}, "'../up.pkl'; it must be a plain name"),
            ("files", {"network": {"name": "a", "addresses": ["file:///etc"]}}, "'file:///etc' is no http address"),
            ("files", {"network": {"name": "a", "addresses": [], "sha256": "12"}}, "it must be 64 hexadecimal digits"),
            ("files", {"reference": {"name": "a", "addresses": []}}, "model names the file {network}"),
            ("model", {"name": "guided", "of": {"path": "{weights}"}}, "model names the file {weights}"),
            ("teacher", {"fid": "good", "nfe": 35, "source": "EDM"}, "fid"),
        ],
    )
    def test_what_no_card_says_is_refused_by_file_and_key(self, tmp_path, key, value, message):
        path = write(tmp_path, content() | {key: value})
        with pytest.raises(InputError) as caught:
            load_card(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert message in str(caught.value)

    def test_a_missing_key_is_refused(self, tmp_path):
        changed = content()
        del changed["bottleneck"]
        with pytest.raises(InputError, match="bottleneck"):
            load_card(write(tmp_path, changed))


class TestFiles:
    @pytest.fixture
    def site(self):
        with serve(whole(b"weights")) as site:
            yield site

    def card(self, site, tmp_path, **model):
        changed = content() | {"model": {"name": "edm", "path": "{network}"} | model}
        served = {"name": "w.pkl", "addresses": [site.address], "sha256": hashlib.sha256(b"weights").hexdigest()}
        changed["files"] = {"network": served, "reference": {"name": "r.npz", "addresses": ["http://127.0.0.1:1/"]}}
        return load_card(write(tmp_path, changed))

    def test_only_what_the_model_names_is_fetched(self, site, tmp_path, cache):
        spec = self.card(site, tmp_path).local_model()
        assert spec == {"name": "edm", "path": str(cache / "models" / "cifar10" / "w.pkl")}
        assert (cache / "models" / "cifar10" / "w.pkl").read_bytes() == b"weights"
        assert not (cache / "models" / "cifar10" / "r.npz").exists()

    def test_a_model_inside_another_is_found(self, site, tmp_path, cache):
        card = self.card(site, tmp_path, path="none", of={"path": "{network}", "scale": 2.0})
        assert card.local_model()["of"] == {"path": str(cache / "models" / "cifar10" / "w.pkl"), "scale": 2.0}

    def test_a_file_of_ones_own_needs_no_other(self, site, tmp_path):
        assert self.card(site, tmp_path).local_model({"path": "mine.pkl"}) == {"name": "edm", "path": "mine.pkl"}
        assert site.requests == []


class TestPretrained:
    def pretrained(self, tmp_path, overrides=None, **facts):
        changed = content() | {"model": MODEL}
        changed["facts"] = {"shape": [1, 8, 8], "sigma_min": 0.002, "sigma_max": 80.0, "feature_size": 1} | facts
        return {"name": "pretrained", "card": write(tmp_path, changed)} | (
            {"overrides": overrides} if overrides else {}
        )

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
            ({"sigma_max": 150.0}, r"of levels \(0.002, 80.0\), not \(0.002, 150.0\)"),
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
        assert f"place it at {cache / 'models' / 'cifar10' / file.name}" in str(caught.value)
