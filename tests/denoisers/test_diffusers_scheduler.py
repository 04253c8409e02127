"""What a scheduler's configuration tells of the training: diffusers' own schedulers are the oracle."""

from pathlib import Path

import diffusers
import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers.diffusers_keys import SCHEDULER, arguments
from amed_lightning.denoisers.diffusers_scheduler import VARIANCE_PRESERVING, Training, read_training

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")  # of diffusers' own code
PATH = Path("scheduler_config.json")
V1 = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
V2 = V1 | {"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}
XL = V1 | {
    "_class_name": "EulerDiscreteScheduler",
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}
KARRAS = V1 | {
    "_class_name": "DPMSolverMultistepScheduler",
    "algorithm_type": "sde-dpmsolver++",
    "euler_at_final": True,
    "final_sigmas_type": "sigma_min",
    "lambda_min_clipped": float("-inf"),
    "solver_order": 3,
    "use_karras_sigmas": True,
    "variance_type": None,
}


def read(**config) -> Training:
    return read_training(PATH, {"_class_name": "DDIMScheduler", "clip_sample": False, **config})


class TestTable:
    @pytest.mark.parametrize(
        ("name", "options"),
        [
            ("DDIMScheduler", {"beta_schedule": "linear"}),
            ("PNDMScheduler", {"beta_schedule": "scaled_linear", "beta_start": 0.0015, "beta_end": 0.0195}),
            ("EulerDiscreteScheduler", {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 500}),
            ("DDPMScheduler", {"beta_schedule": "sigmoid"}),
            ("DDPMScheduler", {"beta_schedule": "laplace"}),
            ("HeunDiscreteScheduler", {"beta_schedule": "exp"}),
            ("UniPCMultistepScheduler", {"trained_betas": [0.1, 0.3, 0.2], "num_train_timesteps": 3}),
        ],
    )
    def test_it_is_that_of_the_class(self, name, options):
        alphas = getattr(diffusers, name)(**options).alphas_cumprod.double()
        table = read(_class_name=name, **options).log_alphas
        torch.testing.assert_close(torch.tensor(table).double(), alphas.log() / 2, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("name", VARIANCE_PRESERVING)
    def test_what_a_file_does_not_say_is_what_the_class_takes(self, name):
        """Heun's betas are others than DDIM's where both are zero_init."""
        scheduler = getattr(diffusers, name)()
        training = read_training(PATH, {"_class_name": name})
        alphas = scheduler.alphas_cumprod.double()
        torch.testing.assert_close(torch.tensor(training.log_alphas).double(), alphas.log() / 2, rtol=1e-5, atol=1e-6)
        assert training.prediction == scheduler.config.prediction_type
        assert training.clip == (scheduler.config.clip_sample_range if scheduler.config.get("clip_sample") else None)

    @pytest.mark.parametrize(("config", "prediction"), [(V1, "epsilon"), (V2, "v_prediction"), (XL, "epsilon")])
    def test_published_files_are_read(self, config, prediction):
        training = read_training(PATH, config)
        assert (training.prediction, training.clip, len(training.log_alphas)) == (prediction, None, 1000)
        assert training.log_alphas[-1] == pytest.approx(-2.68436, abs=1e-4)
        assert training.log_alphas == read_training(PATH, KARRAS).log_alphas

    def test_where_images_are_clipped(self):
        assert read(clip_sample=True, clip_sample_range=0.5).clip == 0.5
        assert read(clip_sample=False, clip_sample_range=0.5).clip is None
        assert read_training(PATH, {"_class_name": "DDIMScheduler"}).clip == 1.0

    def test_every_argument_of_every_class_has_been_looked_at(self):
        for name in VARIANCE_PRESERVING:
            assert set(arguments(getattr(diffusers, name))) <= set(SCHEDULER)


class TestRefusal:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"_class_name": None}, r"class \(_class_name\) is None"),
            (
                {"_class_name": "FlowMatchEulerDiscreteScheduler"},
                "is FlowMatchEulerDiscreteScheduler, .* flow matching",
            ),
            ({"_class_name": "EDMEulerScheduler"}, "is EDMEulerScheduler, .* EDM's form"),
            ({"_class_name": "LCMScheduler"}, r"is LCMScheduler, .* few steps"),
            ({"_class_name": "TCDScheduler"}, "is TCDScheduler"),
            ({"_class_name": "VQDiffusionScheduler"}, "is VQDiffusionScheduler"),
            ({"_class_name": "CogVideoXDDIMScheduler"}, "is CogVideoXDDIMScheduler"),
            ({"_class_name": "FlaxPNDMScheduler"}, "is FlaxPNDMScheduler"),
            (
                {"prediction_type": "flow_prediction"},
                "prediction_type is 'flow_prediction'; what is known here is epsilon",
            ),
            ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is true: .*zero terminal SNR"),
            ({"timestep_spacing": "trailing"}, 'timestep_spacing is "trailing": .*Turbo.*write leading'),
            ({"use_flow_sigmas": True}, "use_flow_sigmas is true: flow matching"),
            ({"use_dynamic_shifting": True}, "use_dynamic_shifting is true: flow matching"),
            ({"timestep_type": "continuous"}, 'timestep_type is "continuous"'),
            ({"thresholding": True}, "thresholding is true: .*write false"),
            ({"variance_type": "learned_range"}, 'variance_type is "learned_range": half'),
            ({"predict_epsilon": False}, "predict_epsilon is false: .*prediction_type"),
            ({"snr_shift_scale": 3.0}, "snr_shift_scale is 3.0, and nothing here knows that key"),
            ({"predictiontype": "v_prediction"}, r"predictiontype .*\(is prediction_type meant\?\); .*remove it"),
            ({"beta_schedule": "cosine"}, "beta_schedule is 'cosine', of which a DDIMScheduler makes no betas"),
            ({"beta_schedule": "exp"}, "beta_schedule is 'exp', of which a DDIMScheduler makes no betas"),
            ({"beta_start": "a"}, "DDIMScheduler makes no betas"),
            ({"beta_end": 1.0}, "the betas do not all lie between 0 and 1"),
            ({"beta_start": 0.0}, "the betas do not all lie between 0 and 1"),
            ({"trained_betas": [0.1, float("nan")], "num_train_timesteps": 2}, "the betas do not all lie between 0"),
            ({"trained_betas": [0.1, 0.2]}, "num_train_timesteps is 1000, and trained_betas has 2 entries"),
            ({"clip_sample": True, "clip_sample_range": 0}, "clip_sample_range is 0; it must be a positive number"),
            (
                {"_class_name": "PNDMScheduler", "clip_sample": True},
                "clip_sample is true, and a PNDMScheduler does not",
            ),
        ],
        ids=str,
    )
    def test_what_would_be_sampled_wrongly_is_refused_by_name(self, config, message):
        with pytest.raises(InputError, match=rf"^scheduler_config.json: .*{message}") as refused:
            read(**config)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("value", [None, False, 0, "", [], [None, None]])
    def test_an_unknown_key_that_says_nothing_is_passed_over(self, value):
        assert read(novelty=value) == read()
