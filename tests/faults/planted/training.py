"""Faults of training."""

from .fault import in_file

FAULTS = (
    *in_file(
        "training/objective.py",
        "training/test_objective.py",
        ("the running mean forgets", "DECAY = 0.9", "DECAY = 0.1"),
        (
            "an arithmetic mean judges",
            "return math.exp(math.fsum(-math.inf if loss <= 0 else math.log(loss) for loss in losses) / len(losses))",
            "return math.fsum(losses) / len(losses)",
        ),
        ("a loss is divided by the root of its size", "return 1 / size.clamp", "return 1 / size.sqrt().clamp"),
    ),
    *in_file(
        "training/constants.py",
        "training/test_constants.py",
        ("least squares have the wrong sign", "-means.products(without, effect)", "means.products(without, effect)"),
        ("the worst ratio is taken", "found[losses.argmin()]", "found[losses.argmax()]"),
        ("a sigmoid reaches little of its bound", "REACHED = 0.9", "REACHED = 0.1"),
        (
            "a warm start goes to the other side",
            "(own.ratio.logit() - torch.as_tensor(goal.ratio).logit())",
            "(own.ratio.logit() + torch.as_tensor(goal.ratio).logit())",
        ),
        (
            "the middle ratios alone are tried",
            "low, high = table.nodes.ratio[0], table.nodes.ratio[-1]",
            "low, high = 0.3, 0.7",
        ),
        ("coefficients are taken at another ratio", "MIDDLE = 0.5", "MIDDLE = 0.4"),
    ),
    *in_file(
        "training/stages.py",
        "training/test_stages.py training/test_tables.py",
        ("a stage goes on from the state before", "state = replace(end, known=", "state = replace(state, known="),
    ),
    *in_file(
        "training/tables.py",
        "training/test_stages.py training/test_tables.py",
        ("every epoch is a stage", "self.stages.reach(epoch // self.stage_epochs)", "self.stages.reach(epoch)"),
    ),
    *in_file(
        "training/table_batch.py",
        "training/test_table_batch.py",
        ("the rows of a table are those of other seeds", "self.seeds.start + rows)", "self.seeds.start + rows + 1)"),
    ),
    *in_file(
        "training/tabulator.py",
        "training/test_distillation.py::TestSharing",
        ("one interval that is like AMED's shares its table", "return all(len(own)", "return any(len(own)"),
    ),
    *in_file(
        "training/tabulator.py",
        "training/test_distillation.py::TestRatios",
        ("rules with a history go to an interval's ends", "INNER = (0.1, 0.9)", "INNER = (0.0, 1.0)"),
    ),
    *in_file(
        "training/arrivals.py",
        "training/test_arrivals.py",
        ("differences keep their size at the ends", "4 * ratio * (1 - ratio) * self.size", "self.size"),
        ("differences are of one side's width", "(ahead - behind) / (2 * size)", "(ahead - behind) / size"),
        ("the gradient of a square lacks its two", "2 * (residual * slope)", "(residual * slope)"),
    ),
    *in_file(
        "training/student.py",
        "training/test_distillation.py::TestPath",
        (
            "a one-step student goes on from its own state",
            "end.detach() if self.is_multistep else",
            "end.detach() if True else",
        ),
        (
            "every interval has the analytic first step",
            "self.sampler.known_at_start(x) if index == 0 else None",
            "self.sampler.known_at_start(x)",
        ),
    ),
    *in_file(
        "training/noise.py",
        "training/test_noise.py",
        ("every process draws the same noise", "batch_idx, trainer.global_rank]", "batch_idx, 0]"),
        ("every epoch draws the same noise", "trainer.current_epoch, batch_idx", "0, batch_idx"),
    ),
    *in_file(
        "training/denoiser.py",
        "training/test_images.py::TestDenoiser",
        (
            "every level weighs alike",
            "(sigma * denoiser.sigma_data).square()",
            "(sigma.square() + denoiser.sigma_data**2)",
        ),
        (
            "ln sigma has a variance for a deviation",
            "(mean + deviation * torch.randn",
            "(mean + deviation**2 * torch.randn",
        ),
    ),
    *in_file(
        "training/normal_equations.py",
        "training/test_normal_equations.py",
        ("a cost is not weighed by its distance", "weight = 1 / (root * pixels)", "weight = 1 / (root * 0 + pixels)"),
        (
            "a difference is twice the derivative",
            "(other - end).double() / DIFFERENCE",
            "2 * (other - end).double() / DIFFERENCE",
        ),
        ("a step goes uphill", "return -torch.linalg.solve", "return torch.linalg.solve"),
        ("damping shortens no step", "damping * torch.diag(", "0 * torch.diag("),
        (
            "the runs that feel a number are one too few",
            "return int(felt.nonzero()[0])",
            "return int(felt.nonzero()[0]) + 1",
        ),
        ("a radius counts once", "(radius**2 * (root - 1))", "(radius * (root - 1))"),
    ),
    *in_file(
        "training/least_squares.py",
        "training/test_least_squares.py",
        ("a worse step is taken", "or equations.cost < Normal", "or equations.cost > Normal"),
        ("the first epochs see all trajectories", "self.current_epoch < self.first_epochs and", "False and"),
        ("the first trajectories are those of seed 0", "begins + self.first_trajectories", "self.first_trajectories"),
        (
            "the derivative is that of the first epoch",
            "self.sums, self.linear, begins = [], None,",
            "self.sums, self.linear, begins = [], self.linear,",
        ),
        ("runs at once count one by one", '"depth": len(table.at_once)', '"depth": len(table.told)'),
        (
            "noise has the first level's size",
            "batch.states[:, 0] / self.parts.sigmas[0]",
            "batch.states[:, 0] * self.parts.sigmas[0]",
        ),
    ),
    *in_file(
        "amed/learned_table.py",
        "amed/test_learned_table.py",
        ("a row's sum moves", "self.sums - held)", "self.sums)"),
        ("the first level stays where its state moves", "top = start[:1] + self.first", "top = start[:1]"),
        ("where levels meet is no step", "torch.where(to == start, 1.0, to - start)", "to - start"),
        ("levels that meet but for rounding do not", "level > before * (1 - NOTHING)", "level > before"),
        ("levels may rise", "if level > before * (1 + NOTHING):", "if level > 9 * before:"),
        (
            "a state goes on from the first that will do",
            "row - 1 - int(needed.flip(0).argmin())",
            "int(needed.argmin())",
        ),
        ("a state goes on from one at its level", " + len(q) * (q[row] == q[:row])", ""),
        ("runs at once see one another", "sum(at_once[:turn])", "sum(at_once[: turn + 1])"),
        (
            "runs at once are asked at one level",
            "told[row] = q[run] ** (1 - share) * q[run + 1] ** share",
            "told[row] = q[run]",
        ),
        (
            "runs at once leave the line",
            "noise[row] = of_noise + along * (table.noise[run] - of_noise)",
            "noise[row] = table.noise[run]",
        ),
        ("a query scale has no bound", "(QUERY_BOUND * (self.query / QUERY_BOUND).tanh()).exp()", "self.query.exp()"),
        ("what the first step left is forgotten", " + leftover[row] * units[0]", ""),
        ("levels do not fill the range", "gaps.softmax(0).cumsum(0)", "gaps.softmax(0)"),
    ),
    *in_file(
        "solvers/tabulated.py",
        "solvers/test_tabulated.py",
        (
            "a table forgets the noise",
            "Table(torch.stack(noted.told), rows[:, 0]",
            "Table(torch.stack(noted.told), rows[:, 1]",
        ),
    ),
)
