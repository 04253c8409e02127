"""Cards of models: what they say, what they leave out, and what is refused."""

import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from amed_lightning.config import InputError, file_digest
from amed_lightning.denoisers.families import FAMILIES
from amed_lightning.denoisers.files import load_model, read_model, save_model
from amed_lightning.denoisers.model_card import PRECONDITIONINGS, ModelCard
from amed_lightning.denoisers.registry import ASSETS, DENOISERS

DDPMPP = {"img_resolution": 4, "img_channels": 1, "model_channels": 8, "channel_mult": [1], "num_blocks": 1}
DDPMPP |= {"attn_resolutions": [], "bottleneck_resolution": 4}
ADM = DDPMPP | {"label_dim": 3}
CARDS = {
    "ddpmpp": ModelCard(DDPMPP, 0.5),
    "adm": ModelCard(ADM, 0.5, architecture="adm"),
    "cm": ModelCard(ADM, 0.5, architecture="adm", preconditioning="cm"),
    "vp": ModelCard(ADM, 1.0, 0.01, 150.0, architecture="adm", preconditioning="vp"),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "network.json"
    save_model(path, CARDS["ddpmpp"].denoiser(), CARDS["ddpmpp"])
    return path


def rewritten(path, **changes):
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in (content | changes).items() if value != "absent"}))


class TestCards:
    def test_the_digits_model_keeps_its_digest(self):
        """Predictors, stores and results name it."""
        expected = "0dbf560a3b604b57f602e022ae460abd67fc884914aed5af4e3e9f87e1cd6335"
        assert load_model(ASSETS / "digits" / "denoiser.json").digest == expected

    def test_the_digits_model_keeps_its_numbers(self):
        model = load_model(ASSETS / "digits" / "denoiser.json")
        x = torch.linspace(-2, 2, 128).reshape(2, 1, 8, 8)
        answer = model.denoiser(x, torch.tensor(0.8), torch.tensor([3, -1]))
        torch.testing.assert_close(answer.image[:, 0, 3, 3], torch.tensor([-0.754007, 0.429674]), rtol=0, atol=1e-6)
        torch.testing.assert_close(answer.features[:, 5], torch.tensor([-0.189465, 0.125737]), rtol=0, atol=1e-6)

    @pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
    def test_a_model_comes_back_as_it_was(self, tmp_path, card):
        torch.manual_seed(1)
        denoiser = card.denoiser().eval()
        for weights in denoiser.parameters():
            torch.nn.init.normal_(weights, std=0.2)
        save_model(tmp_path / "network.json", denoiser, card)
        model = load_model(tmp_path / "network.json")
        given = torch.randn(2, 1, 4, 4), torch.tensor(0.7), torch.tensor([0, 2])
        torch.testing.assert_close(model.denoiser(*given), denoiser(*given), rtol=0, atol=0)
        assert type(model.denoiser) is type(denoiser)
        assert model.noise_range.sigma_min == card.sigma_min

    def test_weights_in_half_precision_take_half_the_room_and_are_read_into_single(self, tmp_path):
        denoiser = CARDS["adm"].denoiser()
        sizes = []
        for half in (False, True):
            save_model(tmp_path / "network.json", denoiser, CARDS["adm"], half)
            sizes.append(sum(w.nbytes for w in safetensors.torch.load_file(tmp_path / "network.safetensors").values()))
        assert sizes[0] == 2 * sizes[1]
        assert all(weights.dtype == torch.float32 for weights in denoiser.parameters())
        read = load_model(tmp_path / "network.json").denoiser.state_dict()
        for name, weights in denoiser.state_dict().items():
            assert read[name].dtype == torch.float32
            assert torch.equal(read[name], weights.half().float())

    def test_the_frequencies_of_an_embedding_are_not_halved(self, tmp_path):
        card = ModelCard(DDPMPP | {"embedding_type": "fourier"}, 0.5)
        denoiser = card.denoiser()
        save_model(tmp_path / "network.json", denoiser, card, half=True)
        stored = safetensors.torch.load_file(tmp_path / "network.safetensors")
        assert torch.equal(stored["model.map_noise.freqs"], denoiser.model.map_noise.freqs)
        assert stored["model.map_layer0.weight"].dtype == torch.float16

    def test_a_weight_beyond_half_precision_is_not_written(self, tmp_path):
        denoiser = CARDS["adm"].denoiser()
        with torch.no_grad():
            denoiser.model.map_layer0.bias[0] = 1e5
        with pytest.raises(FloatingPointError, match=r"map_layer0\.bias' have a NaN or an infinity"):
            save_model(tmp_path / "network.json", denoiser, CARDS["adm"], half=True)
        assert not list(tmp_path.iterdir())

    def test_a_digest_depends_on_everything_that_the_card_says(self, tmp_path):
        torch.manual_seed(1)
        denoiser, digests = CARDS["adm"].denoiser(), set()
        for name in ("adm", "cm", "vp"):
            save_model(tmp_path / "network.json", denoiser, CARDS[name])
            digests.add(load_model(tmp_path / "network.json").digest)
        assert len(digests) == 3

    def test_weights_of_a_known_digest_are_not_hashed_again(self, path):
        stored = read_model(path)
        assert replace(stored, weights={}).digest == stored.digest
        assert replace(stored, weights_sha256=None).digest == stored.digest

    def test_a_card_leaves_out_what_the_first_cards_implied(self, path):
        assert json.loads(path.read_text()).keys() == {
            *("network", "sigma_data", "sigma_min", "sigma_max", "scaled_linear_betas", "weights_sha256")
        }


class TestRefusal:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"architecture": "unet"}, "unknown architecture 'unet': use one of ddpmpp, adm"),
            ({"preconditioning": "ve"}, "unknown preconditioning 've': use one of edm, cm, vp"),
            ({"preconditioning": ["edm"]}, "not a model card"),
            ({"preconditioning": "vp"}, "sigma_data is 0.5; this preconditioning takes it as 1"),
            ({"preconditioning_options": {"beta_d": 20.0}}, "preconditioning 'edm': .*beta_d"),
            ({"preconditioning_options": 3}, "not a model card: .*preconditioning_options: expected a mapping"),
            ({"network": [1]}, "not a model card: .*network: expected a mapping"),
            ({"architecture": "adm"}, "not the weights that its description needs"),
            ({"network": DDPMPP | {"widht": 3}}, "widht"),
            ({"network": DDPMPP | {"num_blocks": "many"}}, "num_blocks"),
            ({"network": DDPMPP | {"bottleneck_resolution": 8}}, "no level has it; use one of 4"),
            ({"network": DDPMPP | {"num_blocks": 2}}, "there is no 'model"),
            ({"network": DDPMPP | {"label_dim": 2}}, r"there is no 'model\.map_label\.bias' \(and 1 more\)"),
            ({"network": DDPMPP | {"model_channels": 16}}, "of another shape than the network's is"),
            ({"network": "absent"}, "not a model card"),
            ({"sigma_data": "absent"}, "not a model card: there is no 'sigma_data'"),
            ({"sigma_min": "absent"}, "not a model card: there is no 'sigma_min'"),
            ({"scaled_linear_betas": "absent"}, "not a model card: there is no 'scaled_linear_betas'"),
            ({"sigma_data": "half"}, "not a model card: .*sigma_data: expected a number"),
            ({"sigma_data": -0.5}, "sigma_data -0.5 and levels"),
            ({"sigma_max": float("inf")}, "not a model card: Infinity is not finite"),
            ({"network": DDPMPP | {"dropout": float("nan")}}, "not a model card: NaN is not finite"),
            ({"sigma_min": 80.0}, "from 80.0 to 80.0"),
            ({"scaled_linear_betas": "maybe"}, "not a model card: .*scaled_linear_betas: expected true or false"),
            ({"weights_sha256": "absent"}, "not a model card"),
            ({"weights_sha256": "0" * 64}, "its SHA-256 is not the one in network.json"),
            ({"colour": "red"}, "not a model card"),
        ],
    )
    def test_a_card_of_another_model_is_refused(self, path, changes, message):
        rewritten(path, **changes)
        with pytest.raises(InputError, match=rf"network\.(json|safetensors): .*{message}") as refusal:
            load_model(path)
        assert len(str(refusal.value).splitlines()) == 1

    @pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
    def test_weights_that_are_not_finite_are_refused_though_they_are_the_card_s(self, path, wrong):
        weights_path = path.with_suffix(".safetensors")
        weights = safetensors.torch.load_file(weights_path)
        name = sorted(weights)[-1]
        weights[name].view(-1)[0] = wrong
        weights_path.write_bytes(safetensors.torch.save(weights))
        rewritten(path, weights_sha256=file_digest(weights_path))
        with pytest.raises(InputError, match=rf"network\.json: .*a NaN or an infinity is in '{name}'$"):
            load_model(path)

    def test_weights_that_are_not_finite_are_not_written(self, tmp_path):
        denoiser = CARDS["ddpmpp"].denoiser()
        torch.nn.init.constant_(next(denoiser.parameters()), torch.nan)
        with pytest.raises(FloatingPointError, match=r"new\.json: not written, its weights '.*' have a NaN or an inf"):
            save_model(tmp_path / "new.json", denoiser, CARDS["ddpmpp"])
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("key", ["architecture", "preconditioning"])
    def test_a_card_imports_and_calls_nothing(self, path, key, monkeypatch):
        """A user's configuration may name a class of its own; a file that somebody else wrote may not."""
        monkeypatch.chdir(path.parent)
        options = {"network": {"command": "touch canary"}, "preconditioning_options": {"command": "touch canary"}}
        rewritten(path, **{key: "os.system"}, **options)
        with pytest.raises(InputError, match=f"unknown {key} 'os.system'"):
            load_model(path)
        assert not (path.parent / "canary").exists()

    def test_every_preconditioning_has_a_name_that_takes_it(self):
        assert FAMILIES.keys() == PRECONDITIONINGS.keys()
        assert set(FAMILIES.values()) <= DENOISERS.keys()

    @pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe", b"{"])
    def test_what_is_no_card_is_refused(self, path, content):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"network\.json: not a model card"):
            read_model(path)

    @pytest.mark.parametrize("suffix", [".json", ".safetensors"])
    def test_a_missing_file_is_named(self, path, suffix):
        path.with_suffix(suffix).unlink()
        with pytest.raises(InputError, match=rf"network\{suffix}: no such file"):
            read_model(path)
