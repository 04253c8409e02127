"""Faults of sampling, teacher and tables."""

from .fault import in_file

FAULTS = (
    *in_file(
        "sampling/images.py",
        "sampling/test_finite.py",
        (
            "an image of NaN becomes bytes",
            "is_finite(x, *([] if images is x else [images]))",
            "is_finite(torch.zeros(1))",
        ),
        ("what a decoder makes is not looked at", "is_finite(x, *([] if images is x else [images]))", "is_finite(x)"),
    ),
    *in_file(
        "sampling/finite.py",
        "sampling/test_finite.py",
        ("the seed before is blamed", "seeds.start + row}", "seeds.start + row - 1}"),
        ("the interval after is blamed", "interval {number} of {count}", "interval {number + 1} of {count}"),
    ),
    *in_file(
        "teacher/store.py",
        "teacher/test_store.py::TestDamage",
        ("trajectories of NaN are read", "if not self.store.layout.is_finite(record):", "if False:"),
        ("a damaged record is read", "_checksum(record) != self._checksums[seed]", "False"),
        ("a record is looked at each time", "self._seen.add(seed)", "pass"),
    ),
    *in_file(
        "sampling/sampler.py",
        "sampling/test_sampler.py::TestOwnStart",
        (
            "noise is that of the model's largest level",
            "noise * here.sigmas[0].to(noise)",
            "noise * self.model.noise_range.sigma_max",
        ),
    ),
    *in_file(
        "sampling/sampler.py",
        "sampling/test_sampler.py::TestNetworkRuns",
        ("denoise-to-zero is free", "last.denoised, nfe=state.nfe + last.cost", "last.denoised, nfe=state.nfe"),
        (
            "the analytic first step is at another level",
            "sent(self.sigmas[0], x.device), self.model",
            "sent(self.sigmas[1], x.device), self.model",
        ),
    ),
    *in_file(
        "teacher/trajectories.py",
        "teacher/test_trajectories.py::TestRollOut",
        ("the level before is stored", "if (index + 1) % recipe.stride == 0", "if index % recipe.stride == 0"),
        (
            "what is said of another state is stored",
            "elsewhere = index > 0 and state.known is not None",
            "elsewhere = False",
        ),
        (
            "the denoised image is on the other side",
            "self.states[:, index] - sigma * derivative",
            "self.states[:, index] + sigma * derivative",
        ),
    ),
    *in_file(
        "teacher/view.py",
        "teacher/test_view.py::TestLevelsBetween",
        (
            "the Hermite weights of both ends are exchanged",
            "{left: (1 + 2 * u) * (1 - u) ** 2, right: u**2 * (3 - 2 * u)}",
            "{right: (1 + 2 * u) * (1 - u) ** 2, left: u**2 * (3 - 2 * u)}",
        ),
        ("a slope in ln sigma lacks sigma", "u * (1 - u) ** 2 * step * stored[left]}", "u * (1 - u) ** 2 * step}"),
        ("the slope at the end has the other sign", "u**2 * (u - 1) * step", "u**2 * (1 - u) * step"),
        (
            "answers are interpolated in sigma",
            "math.log(sigma / stored[j]) / math.log(stored[i] / stored[j])",
            "(sigma - stored[j]) / (stored[i] - stored[j])",
        ),
        ("answers come from two stored ones", "SUPPORT = 4", "SUPPORT = 2"),
    ),
    *in_file(
        "teacher/nodes.py",
        "teacher/test_nodes.py",
        ("nodes are equidistant", "(1 - math.cos(index * math.pi / (size - 1))) / 2", "index / (size - 1)"),
        ("Lagrange's polynomials are not 1 at their node", ".prod(2) / steps", ".prod(2)"),
        ("what lies beyond an axis is extrapolated", "ROUNDING = 1e-6", "ROUNDING = 1.0"),
    ),
    *in_file(
        "teacher/step_table.py",
        "teacher/test_step_table.py::TestLosses",
        ("a tabulated slope divides by the unscaled level", "x - sigma / self.time_scale * next", "x - sigma * next"),
        ("the residual has the step's sign wrong", "(state.x - end).flatten(1)", "(end - state.x).flatten(1)"),
        (
            "a past answer's derivative is its image",
            "zip(levels, pairs[::2], pairs[1::2]",
            "zip(levels, pairs[1::2], pairs[::2]",
        ),
    ),
    *in_file(
        "teacher/tabulate.py",
        "teacher/test_step_table.py::TestLosses",
        ("a slope is asked for at the scaled level", "/ (q.sigma / place.time_scale)", "/ q.sigma"),
        ("the target is the state itself", "target.double() - start.x.double()", "target.double()"),
    ),
    *in_file(
        "teacher/tabulate.py",
        "teacher/test_step_table.py::TestAgreement",
        (
            "tables agree where they differ by as much as they are",
            "/ fine.clamp(min=TINY)",
            "/ (fine + coarse).clamp(min=TINY)",
        ),
    ),
    *in_file(
        "teacher/gits.py",
        "teacher/test_gits.py::TestCosts::test_a_jump_costs_what_its_definition_says",
        (
            "the deviation is not held against the teacher's",
            "_deviation(jumped, states) - _deviation(reached, states)",
            "_deviation(jumped, states)",
        ),
        (
            "the line is not of length 1",
            "torch.nn.functional.normalize(states[:, -1:] - first, dim=2)",
            "states[:, -1:] - first",
        ),
    ),
    *in_file(
        "teacher/gits.py",
        "teacher/test_gits.py::TestPath",
        ("gamma is left out", "table[i][j] + gamma * to_go[j]", "table[i][j] + to_go[j]"),
        ("gamma weighs the earlier costs", "table[i][j] + gamma * to_go[j]", "gamma * table[i][j] + to_go[j]"),
    ),
    *in_file(
        "teacher/gits.py",
        "teacher/test_gits.py::TestCosts::test_a_jump_costs_what_its_definition_says",
        ("l1 is a mean", "(jumped - reached).abs().sum(2)", "(jumped - reached).abs().mean(2)"),
    ),
    *in_file(
        "teacher/gits.py",
        "teacher/test_gits.py::TestPath",
        ("of equal paths the last is taken", "row.index(least)", "len(row) - 1 - row[::-1].index(least)"),
    ),
    *in_file(
        "teacher/gits.py",
        "teacher/test_gits.py::test_the_inserted_level_is_the_one_from_which_the_student_ends_nearest",
        ("the inserted level is the worst", "min(candidates, key=distance", "max(candidates, key=distance"),
    ),
    *in_file(
        "teacher/wanted.py",
        "teacher/test_gits.py",
        ("the published metric is l2", 'metric: Metric = "dev"', 'metric: Metric = "l2"'),
        ("the published gamma is 1.1", "gamma: float = 1.15", "gamma: float = 1.1"),
    ),
)
