"""Faults of what is read, seeds, bytes, schedules and the flow."""

from .fault import in_file

FAULTS = (
    *in_file(
        "config.py",
        "test_config.py",
        ("a NaN in YAML is read", "if place := not_finite_in(content)", "if place := not_finite_in({})"),
        ("a NaN is an option", "if place := not_finite_in(found)", "if place := not_finite_in({})"),
    ),
    *in_file(
        "runtime/json_text.py",
        "test_config.py",
        ("a number too large to be one is read", "parse_constant=number, parse_float=number", "parse_constant=number"),
        ("a NaN in JSON is read", "parse_constant=number, parse_float=number", "parse_float=number"),
    ),
    *in_file(
        "runtime/tensor_file.py",
        "runtime/test_tensor_file.py",
        (
            "tensors of NaN are read",
            "if name := not_finite(tensors):\n        raise DamagedFileError",
            "if name := not_finite({}):\n        raise DamagedFileError",
        ),
        (
            "tensors of NaN are written",
            "if name := not_finite(tensors):\n        raise FloatingPointError",
            "if name := not_finite({}):\n        raise FloatingPointError",
        ),
    ),
    *in_file(
        "seeds.py",
        "test_seeds.py",
        ("a stream overlaps the next", "SEEDS_PER_STREAM = 2**29", "SEEDS_PER_STREAM = 2**28"),
        ("validation has training's seeds", "validation = 2", "validation = 1"),
        (
            "a label is drawn before the noise",
            "for generator in self.generators():\n            noise.append(torch.randn(shape, generator=generator))\n",
            "for generator in self.generators():\n            noise.append(torch.randn(shape))\n",
        ),
    ),
    *in_file(
        "tensors.py",
        "test_tensors.py",
        ("bytes are rounded about 127.5", "images * 127.5 + 128", "images * 127.5 + 127.5"),
        ("bytes are read back about 128", "/ 127.5 - 1", "/ 128 - 1"),
        ("what saturates hides an infinity", "value.where(argument.isfinite(), torch.nan)", "value"),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestEverySchedule::test_the_ends_are_exact_and_the_levels_decrease_in_double_precision",
        ("every schedule starts at the largest level", "model[0] if first else own[0]", "model[0]"),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestEnds",
        ("ends of another model are overwritten", "ROUNDING = 1e-6", "ROUNDING = 1e-1"),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestFormulas",
        ("the first time is another", "FIRST_TIME = 1e-3", "FIRST_TIME = 1e-2"),
        ("the exponent of EDM's grid is 5", "rho: float = 7.0", "rho: float = 5.0"),
        (
            "levels between the ends are a straight line's",
            "(first ** (1 / rho) + u * (last ** (1 / rho) - first ** (1 / rho))) ** rho",
            "first + u * (last - first)",
        ),
        (
            "log-SNR is warped",
            "noise_range.sigma_max * (noise_range.sigma_min / noise_range.sigma_max) ** u",
            "noise_range.sigma_max * (noise_range.sigma_min / noise_range.sigma_max) ** u.square()",
        ),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestFormulas::test_edms_range_gives_the_published_betas_back",
        ("beta's slope is halved", "2 * (low / FIRST_TIME - high)", "(low / FIRST_TIME - high)"),
        ("beta at time 0 is that at time 1", "high - self.beta_d / 2", "high"),
        ("the SDE's level lacks its half", "self.beta_d * t.square() / 2", "self.beta_d * t.square()"),
        ("times of the SDE are not warped", "_warp(1.0, FIRST_TIME, u, self.rho)", "_warp(1.0, FIRST_TIME, u, 2.0)"),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestDiscrete::test_the_published_grid_starts_below_the_largest_level",
        (
            "the forms of discrete are exchanged",
            'first if self.form == "published"',
            'first if self.form != "published"',
        ),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestDiscrete",
        (
            "Stable Diffusion's betas are linear",
            "torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64).square()",
            "torch.linspace(first, last, steps, dtype=torch.float64)",
        ),
        (
            "Stable Diffusion's log alphas are not halved",
            "((1 - betas).log().cumsum(0) / 2)",
            "((1 - betas).log().cumsum(0))",
        ),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_lists.py",
        ("levels inside a list are uniform", "_INNER_RHO = 7.0", "_INNER_RHO = 1.0"),
    ),
    *in_file(
        "noise/schedules.py",
        "noise/test_schedules.py::TestFlow",
        ("a flow's own shift is not taken", "return own if self.shift is None else self.shift", "return own"),
    ),
    *in_file(
        "noise/shift.py",
        "noise/test_schedules.py::TestFlow",
        (
            "a linear shift is exponential",
            'math.exp(min(at, 700.0)) if kind == "exponential" else at',
            "math.exp(min(at, 700.0))",
        ),
    ),
    *in_file(
        "noise/discrete_time.py",
        "noise/test_discrete_time.py",
        ("the table's times begin at 0", "torch.arange(1, steps + 1", "torch.arange(0, steps"),
        ("a level's log alpha lacks its half", "-sigma.square().log1p() / 2", "-sigma.square().log1p()"),
        (
            "the table's line ends at its ends",
            "return y_left + (x - x_left)",
            "return y_left + (x - x_left).clamp(min=0)",
        ),
    ),
    *in_file(
        "noise/betas.py",
        "noise/test_betas.py",
        ("the last linear beta is 10 in M", "20 / steps", "10 / steps"),
        ("the cosine is not squared", "/ (1 + offset)) ** 2", "/ (1 + offset))"),
        ("the cosine has no offset", "_COSINE_OFFSET = 0.008", "_COSINE_OFFSET = 0.0"),
        ("the largest beta is smaller", "_LARGEST_BETA = 0.999", "_LARGEST_BETA = 0.99"),
        ("log alphas are not halved", "tuple(total / 2 for", "tuple(total for"),
    ),
    *in_file(
        "noise/found.py",
        "noise/test_lists.py::TestFound",
        (
            "found levels serve any solver under an analytic first step",
            "if self.afs else {}",
            "if not self.afs else {}",
        ),
    ),
    *in_file(
        "flow/probability_flow.py",
        "flow/test_probability_flow.py",
        (
            "the slope divides by the scaled level",
            "(x - denoised.image) / sigma,",
            "(x - denoised.image) / (sigma * self.time_scale),",
        ),
        (
            "the network is told the unscaled level",
            "self.denoiser(x, sigma * self.time_scale,",
            "self.denoiser(x, sigma,",
        ),
        ("the analytic first step takes the data for a point", "x / (1 + sigma.square()).sqrt()", "x / sigma"),
    ),
)
