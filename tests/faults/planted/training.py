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
)
