"""A denoiser that asks another only what it has not been asked before.

Steps of a solver that differ in a placement's scale ask the same queries; so does the node of a table that lies at an
interval's start, where the teacher knows the answer. Which queries are the same is decided by comparing them, bit for
bit, and not by knowing the solver.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from amed_lightning.denoisers.around import Around
from amed_lightning.flow.model import Condition, Denoised, Denoiser
from amed_lightning.flow.probability_flow import Evaluation
from amed_lightning.tensors import Images, Level


@dataclass(frozen=True, slots=True)
class Query:
    """What was asked, and the answer.

    Attributes:
        x: samples.
        sigma: the level that the denoiser was told.
        answer: its answer.
    """

    x: Images
    sigma: Level
    answer: Denoised

    def may_ask(self, x: Images, sigma: Level) -> bool:
        """Whether this may be the query about ``x`` at ``sigma``, by shapes and precisions."""
        return _alike(self.sigma, sigma) and _alike(self.x, x)

    def asks(self, x: Images, sigma: Level) -> Bool[Tensor, ""]:
        """Return whether it is, by the numbers."""
        return (self.sigma == sigma).all() & (self.x == x).all()


@dataclass
class CachedDenoiser(Around):
    """A denoiser with a memory.

    Attributes:
        denoiser: answers what is new.
        known: everything that was asked.
    """

    denoiser: Denoiser
    known: list[Query] = field(default_factory=list)

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Answer from memory, or ask."""
        answers = self._remembered(x, sigma)
        if not answers:
            answers = [self.denoiser(x, sigma, condition)]
            self.known.append(Query(x, sigma, answers[0]))
        return answers[0]

    def remember(self, x: Images, here: Evaluation) -> None:
        """Take note of what the flow has said at ``x``."""
        self.known.append(Query(x, here.sigma, Denoised(here.denoised, here.features)))

    def _remembered(self, x: Images, sigma: Level) -> list[Denoised]:
        """Return the answers to this query. All are compared before the device is asked, once, which are equal."""
        alike = [past for past in self.known if past.may_ask(x, sigma)]
        equal = torch.stack([past.asks(x, sigma) for past in alike]).tolist() if alike else []
        return [past.answer for past, is_equal in zip(alike, equal, strict=True) if is_equal]


@dataclass
class Noted(Around):
    """A denoiser, and what it is asked, for one caller.

    Attributes:
        denoiser: answers.
        queries: in order, repetitions included.
    """

    denoiser: Denoiser
    queries: list[Query] = field(default_factory=list)

    def __call__(self, x: Images, sigma: Level, condition: Condition | None) -> Denoised:
        """Ask, and take note."""
        answer = self.denoiser(x, sigma, condition)
        self.queries.append(Query(x, sigma, answer))
        return answer


def _alike(a: Images | Level, b: Images | Level) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape
