"""Cards: what they say is checked when they are read."""

import pytest
import yaml

from amed_lightning.config import InputError
from amed_lightning.denoisers.zoo.card import ZOO, card_names, load_card

FIGURED = ["afhqv2", "cifar10", "ffhq", "imagenet256", "imagenet64", "lsun_bedroom", "lsun_bedroom_ldm", "ms_coco"]
TRANSFORMERS = ["flux_dev", "sana", "sd35_medium"]
NAMES = sorted(FIGURED + TRANSFORMERS)


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
        assert set(card.files) >= ({"prompts"} if name in TRANSFORMERS else {"network", "reference"})
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
            (
                "files",
                {"network": {"name": "../up.pkl", "addresses": []}},
                "files.network: '../up.pkl' leads out of its folder",
            ),
            ("files", {"network": {"name": "deep/a", "addresses": []}}, "a file in a folder is called like its entry"),
            ("files", {"network": {"name": "a", "addresses": [], "member": "/b"}}, "'/b' leads out of its folder"),
            ("files", {"network": {"name": "a", "addresses": ["file:///etc"]}}, "'file:///etc' is no http address"),
            ("files", {"network": {"name": "a", "addresses": [], "sha256": "12"}}, "it must be 64 hexadecimal digits"),
            (
                "files",
                {"reference": {"name": "a", "addresses": []}},
                "the model names {network}, and there are assets, reference",
            ),
            ("model", {"name": "guided", "of": {"path": "{weights}"}}, "the model names {weights}"),
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
