"""What a detector sees on a device, and the scores of it, are those of the CPU."""

from contextlib import nullcontext

import torch

from amed_lightning.data.digits import digits
from amed_lightning.metrics.inception import inception
from amed_lightning.metrics.reference import build_evaluator
from amed_lightning.tensors import dequantise

from ..data.files import pictures
from ..pretended.device import PretendedDevice, Traffic
from ..pretended.places import CPU, DEVICE

DIGITS = {"name": "digits"}
METRICS = ("fid", "is", "kid", "precision_recall")
COUNT, BATCH = 200, 50


def scored(place, counted=nullcontext):
    """The scores of some digits against all, compared with their mirror images; and what a batch of them crossed."""
    evaluator = build_evaluator(DIGITS, DIGITS, METRICS, place)
    images, scores = digits()[0][:COUNT], evaluator.scores(COUNT)
    with torch.inference_mode():
        for numbers in torch.arange(COUNT).split(BATCH):
            batch = images[numbers].to(place)
            with counted() as seen:
                scores.update(batch, numbers, pair=(dequantise(batch), dequantise(batch.flip(3))))
    return evaluator.reference.moments, scores.sums(), scores.compute(), seen


def test_statistics_sums_and_scores_are_those_of_the_cpu_bit_for_bit():
    moments, sums, values, _ = scored(CPU)
    with PretendedDevice() as machine:
        there, sums_there, values_there, seen = scored(DEVICE, machine.counted)
    assert there.mean.equal(moments.mean)
    assert there.covariance.equal(moments.covariance)
    assert all(sums_there[name].equal(value) for name, value in sums.items())
    assert values_there == values
    assert seen == Traffic(to_device=1), "the images' numbers"
    assert seen.syncs == 0


def test_inception_is_that_of_the_cpu_bit_for_bit(inception_weights):
    (detector, _), images = inception(inception_weights, tap=64), pictures(2, size=16)
    expected = detector(images)
    with PretendedDevice() as machine:
        detector.to(DEVICE)
        there = images.to(DEVICE)
        with machine.counted() as seen:
            detection = detector(there)
        assert detection.features.cpu().equal(expected.features)
        assert detection.logits.cpu().equal(expected.logits)
    assert seen == Traffic()
