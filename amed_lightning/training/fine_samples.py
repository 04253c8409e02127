"""What a fine teacher makes of the seeds that are held out, to judge a sampler by its samples.

The loss of an interval says how near its teacher a student stays; where the teacher itself is far from what more steps
would make of the noise, the lowest loss is not the best sampler.
"""

from dataclasses import dataclass, replace
from itertools import repeat

import torch

from amed_lightning.flow.model import Condition
from amed_lightning.sampling.parts import SamplerParts
from amed_lightning.sampling.sampler import Sampler
from amed_lightning.teacher.store import TrajectoryReader
from amed_lightning.teacher.trajectories import TeacherConfig, Trajectories
from amed_lightning.tensors import Images
from amed_lightning.training.source import Source


@dataclass(frozen=True)
class FineSamples:
    """Noise, and what a teacher made of it.

    Attributes:
        noise: standard normal.
        condition: labels or numbers of prompts, or None.
        samples: the teacher's.
        batch_size: samples per network run.
    """

    noise: Images
    condition: Condition | None
    samples: Images
    batch_size: int

    @classmethod
    def of(cls, source: Source, teacher: TeacherConfig, parts: SamplerParts) -> "FineSamples":
        """Take a teacher's samples of the validation seeds out of its store; what is missing is computed.

        Args:
            source: of the fit; its own teacher is another.
            teacher: the fine one.
            parts: of the student.
        """
        fine, ends = replace(source, teacher=teacher, train_seeds=source.val_seeds), ends_of(parts)
        reader = TrajectoryReader(fine.precompute(ends, "fine_teacher.batch_size"), source.val_seeds, ends.sigmas)
        batch = reader.read(range(len(source.val_seeds))).to(source.device)
        reader.close()
        return cls(*noise_and_samples(batch, parts), teacher.batch_size)

    def beside(self, sampler: Sampler, count: int) -> tuple[Images, Images]:
        """Return a sampler's first samples, and the teacher's."""
        condition = None if self.condition is None else self.condition[:count]
        with torch.inference_mode():
            return _end(sampler, self.noise[:count], condition), self.samples[:count]

    def distance(self, sampler: Sampler) -> float:
        """Return the root mean square distance of a sampler's samples, per pixel."""
        noise, samples = (torch.split(images, self.batch_size) for images in (self.noise, self.samples))
        conditions = repeat(None) if self.condition is None else torch.split(self.condition, self.batch_size)
        with torch.inference_mode():
            squares = [
                (_end(sampler, each, condition) - sample).double().square().sum()
                for each, condition, sample in zip(noise, conditions, samples, strict=False)
            ]
        return float((torch.stack(squares).sum() / self.samples.numel()).sqrt())


def _end(sampler: Sampler, noise: Images, condition: Condition | None) -> Images:
    """Return a sampler's states at its last level, where the teacher's are; denoise-to-zero would follow."""
    return replace(sampler, denoise_to_zero=False).sample(noise, condition).x


def ends_of(parts: SamplerParts) -> SamplerParts:
    """Return the same sampler with its first and last level alone, which is where a teacher's ends are read."""
    levels = parts.sigmas[[0, -1]].tolist()
    schedule = {"name": "explicit", "levels": levels}
    config = replace(parts.config, schedule=schedule, num_intervals=1, nfe=None, afs=False)
    return SamplerParts(config, parts.model, schedule=parts.whole_schedule)


def noise_and_samples(batch: Trajectories, parts: SamplerParts) -> tuple[Images, Condition | None, Images]:
    """Return standard normal noise, the condition, and the teacher's samples."""
    return batch.states[:, 0] / parts.sigmas[0].to(batch.states), batch.condition, batch.states[:, -1]
