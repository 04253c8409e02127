"""Faults of denoisers and predictors."""

from .fault import in_file

FAULTS = (
    *in_file(
        "denoisers/gaussian.py",
        "denoisers/test_gaussian.py",
        ("densities lack their normalisation", "(offset.square() / noisy + noisy.log())", "(offset.square() / noisy)"),
        ("a Gaussian shrinks towards zero", "means + variances / noisy * offset", "variances / noisy * x[:, None]"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_ddpmpp.py::TestPreconditioning",
        (
            "c_skip is that of noise",
            "Coefficients(self.sigma_data**2 / variance",
            "Coefficients(sigma.square() / variance",
        ),
        ("c_out is divided twice", "sigma * self.sigma_data / scale", "sigma * self.sigma_data / variance"),
        ("c_noise is half of ln sigma", "sigma.log() * 0.25", "sigma.log() * 0.5"),
    ),
    *in_file(
        "denoisers/unet.py",
        "denoisers/test_ddpmpp.py::TestPreconditioning",
        ("an open class is class 0", "* (labels >= 0)[:, None]", "* (labels >= -1)[:, None]"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_baselines.py::TestVP",
        ("VP's noise is added", "lambda sigma: (1.0, -sigma)", "lambda sigma: (1.0, sigma)"),
        ("VP's last step is M", "(self.M - 1) * (", "self.M * ("),
        ("VP's time lacks a factor", "self.beta_min**2 + 2 * self.beta_d", "self.beta_min**2 + self.beta_d"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_baselines.py::TestIDDPM",
        ("iDDPM is told the level above", "(rising[1:] + rising[:-1]) / 2)", "rising[1:])"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_baselines.py::TestVE",
        ("VE is told ln sigma", "(sigma / 2).log()", "sigma.log()"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_baselines.py::TestIDDPM",
        ("a variance is taken for the image", "output[:, : x.shape[1]]", "output[:, -x.shape[1] :]"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_reference.py::test_a_network_and_its_bottleneck_are_the_published_ones",
        ("consistency models are told 1000 ln sigma", "sigma.log() * 250.0", "sigma.log() * 1000.0"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_untold.py::TestReadings::test_a_network_answers_what_its_description_says",
        ("steps count from 1", ".of(sigma.double()) - 1", ".of(sigma.double())"),
        (
            "steps are rescaled the other way",
            "step * RESCALED_STEPS / self.diffusion_steps if",
            "step * self.diffusion_steps / RESCALED_STEPS if",
        ),
    ),
    *in_file(
        "denoisers/edm.py",
        "denoisers/test_baselines.py::TestVE",
        (
            "VE's smallest level is EDM's",
            '"sigma_min": 0.02, "sigma_max": 100.0',
            '"sigma_min": 0.002, "sigma_max": 100.0',
        ),
    ),
    *in_file(
        "denoisers/edm.py",
        "denoisers/test_baselines.py::TestVP",
        ("VP's first time is the SDE's", '{"epsilon_t": 1e-5}', '{"epsilon_t": 1e-3}'),
    ),
    *in_file(
        "denoisers/edm.py",
        "denoisers/test_baselines.py::TestAll",
        ("EDM's largest level is another", "EDM_LEVELS = (0.002, 80.0)", "EDM_LEVELS = (0.002, 100.0)"),
    ),
    *in_file(
        "denoisers/preconditioning.py",
        "denoisers/test_discrete.py",
        ("the velocity is not scaled", "-sigma / (1 + sigma.square()).sqrt()", "-sigma"),
        ("the noise is added", "(1.0, -sigma)", "(1.0, sigma)"),
        ("times count from 1", ".of(sigma.double()) - 1", ".of(sigma.double())"),
        ("the state is not scaled", "self.model((x / at.scale)", "self.model((x)"),
        ("the state of a flow is too small", "scale = 1 + sigma", "scale = 2 + sigma"),
        ("a flow's time is its level", "self.steps * sigma / scale", "self.steps * sigma"),
    ),
    *in_file(
        "denoisers/guidance.py",
        "denoisers/test_wrappers.py",
        (
            "guidance begins at the class",
            "weak + self.scale * (strong.image - weak)",
            "strong.image + self.scale * (strong.image - weak)",
        ),
        ("the features are the open half's", "answer.features.chunk(2)[0]", "answer.features.chunk(2)[1]"),
        ("a guided run counts once", "2 * answer.runs(self.denoiser)", "answer.runs(self.denoiser)"),
        (
            "a weak model's runs do not count",
            "strong.runs(self.denoiser) + weak.runs(self.weak)",
            "strong.runs(self.denoiser)",
        ),
        ("the lower end is inside the interval", "return (sigma > low) &", "return (sigma >= low) &"),
        ("a run outside the interval counts twice", "cost=answer.runs(self.denoiser))", "cost=None)"),
        (
            "runs of a model inside the weak one are not looked for",
            "for asked in denoiser.asked",
            "for asked in [denoiser.denoiser]",
        ),
        ("the last evaluation is not guided", "else around(model.last_denoiser)", "else model.last_denoiser"),
        ("a weak model is asked at any level", "if low < high and (", "if low > high and ("),
        ("the deviation is the weak answer's", "_deviation(strong.image) / ", "_deviation(weak) / "),
        (
            "the classifier's gradient is weighed by sigma",
            "sigma.to(x.dtype).square() * gradient",
            "sigma.to(x.dtype) * gradient",
        ),
    ),
    *in_file(
        "denoisers/diffusers_flow.py",
        "denoisers/test_transformers.py::TestLevels",
        ("the smallest level is not shifted", "NoiseRange(shift / (FLOW_STEPS - 1)", "NoiseRange(1 / (FLOW_STEPS - 1)"),
    ),
    *in_file(
        "denoisers/transformer_flux.py",
        "denoisers/test_transformers.py::TestFlux",
        ("rows and columns of a token are exchanged", "permute(0, 3, 1, 4, 2, 5)", "permute(0, 3, 1, 5, 2, 4)"),
    ),
    *in_file(
        "denoisers/transformer_sd3.py",
        "denoisers/test_transformers.py::TestStableDiffusion3",
        ("the first CLIP's last layer is told", "first.hidden_states[-2], second", "first.hidden_states[-1], second"),
    ),
    *in_file(
        "denoisers/transformer_dit.py",
        "denoisers/test_transformers.py::TestDiT",
        ("an open class of DiT is class 0", "torch.where(told < 0, none, told)", "torch.where(told < 0, 0, told)"),
    ),
    *in_file(
        "denoisers/transformer_pixart.py",
        "denoisers/test_transformers.py::TestPixArt",
        ("T5 sees what fills up", "masked=True", "masked=False"),
    ),
    *in_file(
        "denoisers/transformer_sana.py",
        "denoisers/test_transformers.py::TestSana",
        ("the first token is left out", "[0, *range(1 - LENGTH, 0)]", "list(range(-LENGTH, 0))"),
    ),
    *in_file(
        "denoisers/transformer.py",
        "denoisers/test_transformers.py::TestEvery",
        ("the bottleneck is the first block", "paths[len(paths) // 2]", "paths[0]"),
    ),
    *in_file(
        "denoisers/edm2.py",
        "denoisers/test_edm2.py::TestFiles",
        ("queries and keys keep their length", "scaled(split, 2).reshape", "split.reshape"),
        ("an embedding replaces a block's channels", "1 + self.emb_gain", "self.emb_gain"),
        ("EDM2's labels are of length 1", "hot * math.sqrt(self.label_dim)", "hot"),
    ),
    *in_file(
        "denoisers/encoded_prompts.py",
        "denoisers/test_transformers.py::TestPrompts",
        ("one prompt's embedding is every one's", "self.texts[position], like.device", "like.device"),
    ),
    *in_file(
        "denoisers/transformer_models.py",
        "denoisers/test_transformers.py::TestDigest",
        (
            "a digest forgets the negative prompt",
            "family.guidance, manner, negative)",
            "family.guidance, manner)",
        ),
    ),
    *in_file(
        "denoisers/thresholding.py",
        "denoisers/test_wrappers.py",
        ("what lies within one is stretched", ".clamp(min=1)", ".clamp(min=0)"),
        (
            "what was clipped is not divided",
            "answer.image.clamp(-bound, bound) / bound",
            "answer.image.clamp(-bound, bound)",
        ),
        (
            "the quantile is of all samples",
            ".abs().flatten(1).quantile(self.quantile, dim=1)",
            ".abs().flatten(1).quantile(self.quantile).expand(len(x))",
        ),
        (
            "the quantile is 0.95",
            "def thresholded(model: DiffusionModel, quantile: float = 0.995)",
            "def thresholded(model: DiffusionModel, quantile: float = 0.95)",
        ),
        ("the last answer is thresholded too", "model.last_denoiser or model.denoiser", "model.last_denoiser"),
    ),
    *in_file(
        "denoisers/layers.py",
        "denoisers/test_layers.py",
        ("pixels that double are four times as dark", "conv_transpose2d(x, 4 * taps", "conv_transpose2d(x, taps"),
        ("angles are not of whole turns", "2 * math.pi * self.freqs", "self.freqs"),
        (
            "frequencies stop short of the longest period",
            "frequencies(self.count, self.count - 1,",
            "frequencies(self.count, self.count,",
        ),
    ),
    *in_file(
        "denoisers/unet.py",
        "denoisers/test_layers.py::TestBlock",
        (
            "the embedding's scale is not about one",
            "self.norm1(y) * (1 + scale) + shift",
            "self.norm1(y) * scale + shift",
        ),
    ),
    *in_file(
        "denoisers/computing.py",
        "denoisers/test_arithmetic.py::TestFlags::test_tensor_float_32_is_off_unless_it_is_asked_for",
        ("TensorFloat-32 is always on", "backend.allow_tf32 = allowed", "backend.allow_tf32 = True"),
    ),
    *in_file(
        "sampling/sampler.py",
        "denoisers/test_arithmetic.py::TestFlags::test_a_compiled_sampler_computes_under_the_same_though_no_graph_sets_them",
        ("a compiled sampler has TensorFloat-32 always on", "tensor_float_32(self.tf32)", "tensor_float_32(True)"),
    ),
    *in_file(
        "denoisers/offloaded.py",
        "denoisers/test_transformers.py::TestOffloaded",
        ("all weights are on the device once", "tensor.to(fn(tensor.new_empty(0)).dtype)", "fn(tensor)"),
    ),
    *in_file(
        "amed/predictor.py",
        "amed/test_predictor.py::TestForward",
        ("the embedding has its halves exchanged", "[angles.sin(), angles.cos()]", "[angles.cos(), angles.sin()]"),
        ("a scale leaves its bound", "1 + bound * (2 *", "1 + 2 * bound * (2 *"),
        ("the longest period is another", "_LONGEST_PERIOD = 10_000.0", "_LONGEST_PERIOD = 1_000.0"),
        ("the first frequencies lie closer", "/ (_EMBEDDING_SIZE // 2 - 1)", "/ (_EMBEDDING_SIZE // 2)"),
        (
            "a ratio's range is that of all",
            "low + (high - low) * _sigmoid(self.fc_r, merged)",
            "_sigmoid(self.fc_r, merged)",
        ),
    ),
    *in_file(
        "amed/constants.py",
        "amed/test_constants.py",
        ("the first derivative is not added", "x=end.x + start * (sigma_next", "x=end.x + 0 * start * (sigma_next"),
        ("a constant's direction scale is left out", "Placement(ratio, direction))", "Placement(ratio))"),
    ),
    *in_file(
        "amed/published.py",
        "amed/test_published.py",
        ("levels are counted as intervals", "return num_steps - 1", "return num_steps"),
        ("the first time scales had another bound", "0.2 * time if", "0.1 * time if"),
        ("the first direction scales had one bound", "fixed = 0.05 if", "fixed = 0.01 if"),
    ),
)
