"""Prompts and guidance from the command line, and a predictor that is fitted on training prompts alone."""

import json
import shutil

import pytest
import torch
import yaml

from amed_lightning.data.folder import image_files
from amed_lightning.denoisers.zoo.card import ZOO

from ..denoisers import pipelines, transformers
from .command import call, refusal

pytestmark = pytest.mark.usefixtures("unchecked")

SAMPLER = {
    "solver": {"name": "amed", "placer": {"fixed": 0.5}},
    "schedule": {"name": "discrete"},
    "num_intervals": 2,
    "afs": True,
}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return pipelines.stable_diffusion(tmp_path_factory.mktemp("text") / "pipeline")


@pytest.fixture
def model(pipeline):
    prompts = {"training": ["a house", "two trees", "the sea"], "evaluation": ["a dog", "a cat"]}
    return {"name": "stable_diffusion", "path": str(pipeline), "prompts": prompts}


@pytest.fixture
def sample(tmp_path, capsys):
    """Sample four seeds of a model and return the images and what was printed."""

    def run(model, *options, **parts):
        (tmp_path / "sampler.yaml").write_text(yaml.safe_dump({"sampler": SAMPLER | {"model": model} | parts}))
        shutil.rmtree(tmp_path / "images", ignore_errors=True)
        arguments = ("--config", tmp_path / "sampler.yaml", "--output", tmp_path / "images", "--accelerator", "cpu")
        assert call("sample", *arguments, "--seeds", "0-3", "--batch_size", "2", *options) == 0
        batches = [batch for batch, _ in image_files(tmp_path / "images").batches(4)]
        return torch.cat(batches), capsys.readouterr().out

    return run


class TestSample:
    def test_prompts_of_the_command_line_are_taken_in_turn_like_those_of_the_file(self, model, sample):
        asked, shown = sample(model, "--prompt", "a cat", "--prompt", "a bird, asleep")
        assert "4 images at 6 network runs each" in shown
        expected, _ = sample(model | {"prompts": {"evaluation": ["a cat", "a bird, asleep"]}})
        assert asked.shape == (4, 3, 16, 16)
        assert asked.equal(expected)
        own, _ = sample(model)
        cats, _ = sample(model, "--prompt", "a cat")
        assert [bool(image.equal(other)) for image, other in zip(cats, asked, strict=True)] == [True, False] * 2
        assert [bool(image.equal(other)) for image, other in zip(cats, own, strict=True)] == [False, True] * 2

    def test_guidance_of_the_command_line_outdoes_the_file(self, model, sample):
        asked, _ = sample(model, "--guidance", "2.5")
        expected, _ = sample(model | {"guidance": 2.5})
        assert asked.equal(expected)
        assert not asked.equal(sample(model)[0])
        _, shown = sample(model, "--guidance", "1")
        assert "4 images at 3 network runs each" in shown

    @pytest.mark.parametrize("make", [transformers.sd3, transformers.sana], ids=lambda make: make.__name__)
    def test_a_transformer_samples(self, tmp_path, sample, make):
        model = {"name": "transformer", "path": str(make(tmp_path / "tiny"))}
        asked, shown = sample(model, "--prompt", "a cat", "--guidance", "2.5", schedule={"name": "flow"})
        assert "4 images at 6 network runs each" in shown
        assert asked.shape == (4, 3, 16, 16)
        dogs, _ = sample(model, "--prompt", "a dog", "--guidance", "2.5", schedule={"name": "flow"})
        assert not asked.equal(dogs)

    def test_they_reach_a_model_that_stands_inside_another(self, model, sample):
        asked, _ = sample({"name": "thresholded", "of": model}, "--prompt", "a cat", "--guidance", "2")
        inner = model | {"prompts": {"evaluation": ["a cat"]}, "guidance": 2.0}
        assert asked.equal(sample({"name": "thresholded", "of": inner})[0])

    def test_they_reach_the_model_of_a_card(self, tmp_path, model, sample):
        card = yaml.safe_load((ZOO / "ms_coco.yaml").read_text())
        card |= {"name": "tiny", "model": model, "files": {}}
        card["facts"] |= {"shape": [4, 8, 8], "image_shape": [3, 16, 16], "feature_size": 16}
        (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(card))
        pretrained = {"name": "pretrained", "card": str(tmp_path / "tiny.yaml"), "overrides": {"guidance": 3.0}}
        asked, _ = sample(pretrained, "--prompt", "a cat")
        assert asked.equal(sample(model | {"prompts": {"evaluation": ["a cat"]}, "guidance": 3.0})[0])
        asked, _ = sample(pretrained, "--guidance", "2")
        assert asked.equal(sample(model, "--guidance", "2")[0])

    @pytest.mark.parametrize(
        ("flag", "value", "option"), [("--prompt", "a", "prompts"), ("--guidance", "2", "guidance")]
    )
    @pytest.mark.parametrize("name", ["digits", "thresholded"])
    def test_a_model_without_them_is_refused(self, tmp_path, capsys, flag, value, option, name):
        model = {"name": "digits"} | ({"name": name, "of": {"name": "digits"}} if name != "digits" else {})
        (tmp_path / "sampler.yaml").write_text(yaml.safe_dump({"sampler": SAMPLER | {"model": model}}))
        line = refusal(capsys, "sample", "--config", tmp_path / "sampler.yaml", flag, value)
        assert f"{flag}: model 'digits' takes no {option}; leave the option out, or use a text-to-image model" in line

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--classes", "[1]"], "classes: this model takes no labels"),
            (["--prompt", " "], "prompts: the evaluation list: prompt 1 is empty"),
        ],
    )
    def test_what_a_text_model_does_not_take_is_refused(self, tmp_path, capsys, model, options, message):
        (tmp_path / "sampler.yaml").write_text(yaml.safe_dump({"sampler": SAMPLER | {"model": model}}))
        assert message in refusal(capsys, "sample", "--config", tmp_path / "sampler.yaml", *options)

    def test_a_model_without_prompts_of_its_own_needs_some(self, tmp_path, capsys, model):
        del model["prompts"]
        (tmp_path / "sampler.yaml").write_text(yaml.safe_dump({"sampler": SAMPLER | {"model": model}}))
        line = refusal(capsys, "sample", "--config", tmp_path / "sampler.yaml", "--accelerator", "cpu")
        assert "the model has no evaluation prompts: give it the option `prompts: {evaluation: <file>}`" in line

    def test_images_are_scored_at_the_size_they_are_decoded_to(self, tmp_path, capsys, model):
        (tmp_path / "sampler.yaml").write_text(yaml.safe_dump({"sampler": SAMPLER | {"model": model}}))
        line = refusal(capsys, "evaluate", "--config", tmp_path / "sampler.yaml", "--accelerator", "cpu")
        assert "images of shape (3, 16, 16) cannot be scored against (1, 8, 8)" in line


class TestFit:
    @pytest.fixture
    def fit(self, tmp_path, monkeypatch, model):
        """Write a fit of one epoch, two batches."""
        monkeypatch.chdir(tmp_path)
        student = SAMPLER | {"solver": {"name": "amed"}}

        def write(**changes):
            content = {
                "seed_everything": 0,
                "model": {
                    "class_path": "amed_lightning.training.distillation.AMEDDistillation",
                    "init_args": {"student": student | {"model": model | changes}},
                },
                "data": {
                    "class_path": "amed_lightning.training.trajectories.TeacherTrajectories",
                    "init_args": {
                        "teacher": {"solver": {"name": "dpm_solver_2"}},
                        "trajectories": 128,
                        "validation_trajectories": 64,
                    },
                },
                "trainer": {"max_epochs": 1, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"},
            }
            (tmp_path / "fit.yaml").write_text(yaml.safe_dump(content))
            return "--config", "fit.yaml"

        return write

    def test_a_predictor_of_training_prompts_serves_other_evaluation_prompts_but_no_other_guidance(
        self, tmp_path, capsys, model, fit, sample
    ):
        assert call("fit", *fit()) == 0
        stores = sorted((tmp_path / "runs" / "trajectories").iterdir())
        assert len(stores) == 1
        assert json.loads((tmp_path / "predictor.json").read_text())["training"]["epoch"] == 0

        assert call("precompute", *fit(prompts=model["prompts"] | {"evaluation": ["a boat"]})) == 0
        assert sorted((tmp_path / "runs" / "trajectories").iterdir()) == stores

        solver = {"sampler.solver": {"name": "amed", "learned": "predictor.json"}}
        options = [f"--{key}={json.dumps(value)}" for key, value in solver.items()]
        images, shown = sample(model, *options, "--prompt", "a boat")
        assert "4 images at 6 network runs each" in shown
        assert not images.equal(sample(model, "--prompt", "a boat")[0])
        (tmp_path / "s.yaml").write_text(yaml.safe_dump({"sampler": SAMPLER | {"model": model}}))
        line = refusal(capsys, "sample", "--config", "s.yaml", *options, "--guidance", "3")
        assert "this predictor was made for model" in line

    @pytest.mark.parametrize(
        "make",
        [transformers.sd3, pytest.param(transformers.flux, marks=pytest.mark.slow)],
        ids=lambda make: make.__name__,
    )
    def test_a_table_is_learned_on_a_transformer(self, tmp_path, monkeypatch, sample, make):
        monkeypatch.chdir(tmp_path)
        size = {"resolution": 16} if make is transformers.flux else {}
        model = {"name": "transformer", "path": str(make(tmp_path / "tiny")), "prompts": {"training": ["a house", "a"]}}
        model |= size | {"guidance": 2.0}
        student = SAMPLER | {"model": model, "solver": {"name": "ipndm"}, "schedule": {"name": "flow"}}
        content = {
            "seed_everything": 0,
            "model": {
                "class_path": "amed_lightning.training.least_squares.LeastSquares",
                "init_args": {"student": student, "first_epochs": 2},
            },
            "data": {
                "class_path": "amed_lightning.training.trajectories.TeacherTrajectories",
                "init_args": {
                    "teacher": {"solver": {"name": "heun"}, "inner_levels": 1},
                    "trajectories": 16,
                    "validation_trajectories": 8,
                    "batch_size": 8,
                },
            },
            "trainer": {"max_epochs": 3, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"},
        }
        (tmp_path / "fit.yaml").write_text(yaml.safe_dump(content))
        assert call("precompute", "--config", "fit.yaml") == 0
        assert call("fit", "--config", "fit.yaml") == 0
        (learned,) = [path for path in tmp_path.glob("*.json") if path.with_suffix(".safetensors").is_file()]
        options = [f"--sampler.solver={json.dumps({'name': 'ipndm', 'learned': str(learned)})}", "--prompt", "a cat"]
        images, _ = sample(model, *options, schedule={"name": "flow"})
        assert images.shape == (4, 3, 16, 16)
        assert not images.equal(sample(model, "--prompt", "a cat", schedule={"name": "flow"})[0])
