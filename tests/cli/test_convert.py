"""Converting published files at the command line."""

import json
import re

import pytest
import torch
import yaml

from amed_lightning.amed.predictor import AMEDPredictor
from amed_lightning.denoisers.families import guided_diffusion
from amed_lightning.denoisers.files import load_model, read_model
from amed_lightning.sampling.config import SamplerConfig
from amed_lightning.sampling.parts import build_sampler

from ..denoisers import published
from .command import call, refusal

TINY = ("--img_resolution", 16, "--head_channels", 16)


def predictor():
    torch.manual_seed(2)
    made = AMEDPredictor(64, 0.01)
    for weights in made.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return made


class TestNetworks:
    @pytest.mark.parametrize(
        ("write", "options", "name"),
        [
            (published.edm_unconditional, (), "edm"),
            (published.edm_conditional, (), "edm"),
            (published.consistency, TINY, "consistency"),
            (published.guided, TINY, "guided_diffusion"),
        ],
    )
    def test_a_network_becomes_a_model_that_its_name_takes(self, tmp_path, capsys, write, options, name):
        assert call("convert", write(tmp_path), tmp_path / "network.json", *options) == 0
        (line,) = capsys.readouterr().out.splitlines()
        count = sum(weights.numel() for weights in load_model(tmp_path / "network.json").denoiser.parameters())
        use = f"model: {{name: {name}, path: {tmp_path / 'network.json'}}}"
        assert line == f"written: {tmp_path / 'network.json'}, {count:,} weights; name it as `{use}`"
        spec = yaml.safe_load(use)["model"]
        config = SamplerConfig(spec, {"name": "euler"}, {"name": "logsnr"}, 2)
        assert build_sampler(config).model.shape == (3, 16, 16)

    def test_a_classifier_becomes_a_classifier(self, tmp_path, capsys):
        assert call("convert", published.classifier(tmp_path), tmp_path / "judge.json", *TINY) == 0
        assert f"name it as `classifier: {tmp_path / 'judge.json'}`" in capsys.readouterr().out
        assert read_model(tmp_path / "judge.json").card.is_classifier

    def test_a_yaml_says_the_same(self, tmp_path):
        content = {"source": str(published.consistency(tmp_path)), "destination": str(tmp_path / "a.json")}
        content |= {"img_resolution": 16, "head_channels": 16}
        (tmp_path / "convert.yaml").write_text(yaml.safe_dump(content))
        assert call("convert", "--config", tmp_path / "convert.yaml") == 0
        assert load_model(tmp_path / "a.json").feature_size == 64

    def test_what_a_state_dict_does_not_tell_is_asked_for_and_kept(self, tmp_path, capsys):
        source, target = published.guided(tmp_path), tmp_path / "network.json"
        for given, missing in (((), "img_resolution and head_channels or num_heads"), (TINY[:2], "head_channels or")):
            assert f"{source}: give {missing}" in refusal(capsys, "convert", source, target, *given)
        assert "give one of them" in refusal(capsys, "convert", source, target, *TINY, "--num_heads", 2)
        assert "noise_schedule" in refusal(capsys, "convert", source, target, *TINY, "--noise_schedule", "sqrt")
        assert not list(tmp_path.glob("network.*"))
        said = ("--img_resolution", 16, "--num_heads", 2, "--attention_order", "new", "--noise_schedule", "cosine")
        assert call("convert", source, target, *said) == 0
        assert "note: " in (printed := capsys.readouterr()).err
        assert "name it as `model: {name: guided_diffusion, " in printed.out
        card = read_model(target).card
        assert (card.network["num_heads"], card.preconditioning) == (2, "vp_discrete")
        options = {"img_resolution": 16, "num_heads": 2, "attention_order": "new", "noise_schedule": "cosine"}
        direct, converted = guided_diffusion(str(source), **options), guided_diffusion(str(target))
        assert converted.digest == direct.digest
        assert converted.noise_range == direct.noise_range

    def test_an_option_that_the_file_tells_itself_must_agree(self, tmp_path, capsys):
        source = published.edm_unconditional(tmp_path)
        assert call("convert", source, tmp_path / "a.json", "--img_resolution", 16) == 0
        line = refusal(capsys, "convert", source, tmp_path / "b.json", "--head_channels", 64)
        assert line == f"error: {source}: known to have no head_channels; leave out head_channels 64"

    def test_what_is_there_is_not_replaced(self, tmp_path, capsys):
        path = tmp_path / "runs" / "predictor.json"
        path.parent.mkdir()
        path.write_text("a fit's")
        line = refusal(capsys, "convert", published.edm_unconditional(tmp_path), path)
        assert line == f"error: {path}: there is one already; name another, or delete it"
        assert path.read_text() == "a fit's"

    def test_nothing_is_written_of_a_network_whose_weights_do_not_fit(self, tmp_path, capsys):
        path = published.edm_unconditional(tmp_path)
        path.write_bytes(path.read_bytes().replace(b"num_blocks\x94K\x01", b"num_blocks\x94K\x02"))
        line = refusal(capsys, "convert", path, tmp_path / "network.json")
        assert re.search(r"vp\.pkl: not the weights that its description needs: there is no 'model\.", line)
        assert not list(tmp_path.glob("network.*"))


class TestPredictors:
    @pytest.fixture
    def model(self, tmp_path):
        return {"name": "edm", "path": str(published.edm_unconditional(tmp_path))}

    def test_a_predictor_samples_as_it_did(self, tmp_path, capsys, model):
        made = predictor()
        path = published.amed_predictor(tmp_path / "snapshot.pkl", published.AMED_SETTINGS, made.state_dict())
        assert call("convert", path, tmp_path / "predictor.json", "--model", json.dumps(model)) == 0
        assert "for amed in 3 intervals on time_uniform" in capsys.readouterr().out
        solver = {"name": "amed", "learned": str(tmp_path / "predictor.json")}
        config = SamplerConfig(model, solver, {"name": "time_uniform"}, 3, afs=True)
        sampler = build_sampler(config)
        assert sampler.nfe == 5
        torch.testing.assert_close(dict(sampler.placer.state_dict()), dict(made.state_dict()), rtol=0, atol=0)
        assert json.loads((tmp_path / "predictor.json").read_text())["training"]["dataset_name"] == "cifar10"

    def test_it_serves_the_converted_model_too(self, tmp_path, model):
        path = published.amed_predictor(tmp_path / "snapshot.pkl", published.AMED_SETTINGS, predictor().state_dict())
        assert call("convert", path, tmp_path / "predictor.json", "--model", json.dumps(model)) == 0
        assert call("convert", model["path"], tmp_path / "network.json") == 0
        solver = {"name": "amed", "learned": str(tmp_path / "predictor.json")}
        converted = {"name": "edm", "path": str(tmp_path / "network.json")}
        assert build_sampler(SamplerConfig(converted, solver, {"name": "time_uniform"}, 3, afs=True)).nfe == 5

    def test_another_bottleneck_is_refused(self, tmp_path, capsys, model):
        path = published.amed_predictor(tmp_path / "snapshot.pkl", published.AMED_SETTINGS, predictor().state_dict())
        small = json.dumps({"name": "pooled", "of": model, "resolution": 4})
        line = refusal(capsys, "convert", path, tmp_path / "predictor.json", "--model", small)
        assert line == f"error: --model: it has 16 features, and {path} takes 64"

    def test_an_option_of_a_network_is_none_of_a_predictor(self, tmp_path, capsys, model):
        path = published.amed_predictor(tmp_path / "snapshot.pkl", published.AMED_SETTINGS, predictor().state_dict())
        given = ("--model", json.dumps(model), "--num_heads", 4)
        line = refusal(capsys, "convert", path, tmp_path / "predictor.json", *given)
        assert line == "error: --num_heads: an option of a network; an AMED predictor has its --model"

    def test_a_predictor_made_under_thresholding_needs_it(self, tmp_path, capsys, model):
        settings = published.AMED_SETTINGS | {"sampler_stu": "dpmpp", "max_order": 2}
        path = published.amed_predictor(tmp_path / "snapshot.pkl", settings, predictor().state_dict())
        arguments = ("convert", path, tmp_path / "predictor.json", "--model")
        assert "use {name: thresholded, of: ...}" in refusal(capsys, *arguments, json.dumps(model))
        assert call(*arguments, json.dumps({"name": "thresholded", "of": model})) == 0


class TestRefusal:
    @pytest.mark.parametrize(
        ("source", "destination", "message"),
        [
            ("none.pkl", "a.json", r"none\.pkl: no such file"),
            ("none.pt", "a.json", r"none\.pt: no such file"),
            ("none.onnx", "a.json", r"none\.onnx: not a model's file"),
            ("none.pkl", "a.safetensors", r"a\.safetensors: the description is a \.json"),
        ],
    )
    def test_what_cannot_be_converted(self, tmp_path, capsys, source, destination, message):
        assert re.search(message, refusal(capsys, "convert", tmp_path / source, tmp_path / destination))

    def test_nothing_to_convert(self, capsys):
        assert "source" in refusal(capsys, "convert")

    def test_a_predictor_without_its_model(self, tmp_path, capsys):
        path = published.amed_predictor(tmp_path / "snapshot.pkl", published.AMED_SETTINGS, predictor().state_dict())
        assert "name the model of an AMED predictor" in refusal(capsys, "convert", path, tmp_path / "a.json")

    def test_a_network_as_a_predictor(self, tmp_path, capsys):
        path = published.edm_unconditional(tmp_path)
        model = json.dumps({"name": "edm", "path": str(path)})
        assert "not an AMED predictor" in refusal(capsys, "convert", path, tmp_path / "a.json", "--model", model)
