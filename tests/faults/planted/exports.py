"""Faults of samplers for other programs."""

from .fault import in_file

FAULTS = (
    *in_file(
        "export/amed_scheduler.py",
        "export/test_diffusers.py",
        ("the first state is the noise", "self.noise = x / config.noise[0]", "self.noise = x"),
        ("the network's own scale is forgotten", "x = seen * config.scales[self.run]", "x = seen"),
        ("the state is not in the image", "config.skips[self.run] * x + ", ""),
        ("the second way is not scaled", "+ direction * (end - q) * slope", "+ (end - q) * slope"),
        ("the features are those without a class", "self.features[-len(seen) :]", "self.features[: len(seen)]"),
        ("the first slope is of no variance", "self.start / math.sqrt(1 + q**2)", "self.start / q"),
        ("a sample is told the pipeline's time", "if self.own_times is None:", "if True:"),
    ),
    *in_file(
        "export/amed_sampler.py",
        "export/test_programs.py::TestComfyUI",
        ("the noise is at its level", 'noise = x * (scales[0] / numbers["told"][0])', "noise = x"),
        ("the model sees the whole state", "noise, images) / scales[run]", "noise, images)"),
        ("images are not clipped", "image.clamp(-clip, clip)", "image"),
    ),
    *in_file(
        "export/network.py",
        "export/test_diffusers.py::TestUnconditional",
        (
            "the last denoising sees nothing",
            "answers[:-1, :-1], answers[-1, -1] = table.answers, 1.0",
            "answers[-1, -1] = 1.0",
        ),
    ),
)
