"""What a pass over a set takes note of."""

import hashlib

import torch

from amed_lightning.data.digits import digits, digits_set
from amed_lightning.data.images import Inventory

from .files import pictures


def inventory(images, labels=None, size=4):
    seen = Inventory()
    for batch in torch.arange(len(images)).split(size):
        seen.add(images[batch], [None if labels is None else labels[number] for number in batch])
    return seen


def test_the_digest_does_not_depend_on_the_batches():
    assert inventory(pictures(), size=3).digest == inventory(pictures(), size=10).digest


def test_the_digest_depends_on_every_pixel_the_order_and_the_shape():
    images = pictures()
    changed = images.clone()
    changed[9, 2, 7, 7] ^= 1
    others = [changed, images.flip(0), images.reshape(10, 3, 4, 16), images[:9]]
    assert len({inventory(each).digest for each in (images, *others)}) == 5


def test_classes_are_counted_where_there_are_labels():
    assert inventory(pictures(), [0, 1, 1, 2, 2, 2, None, None, 0, 1]).class_counts == {0: 2, 1: 3, 2: 3}
    assert not inventory(pictures()).class_counts


def test_the_digits_are_those_of_scikit_learn_pixel_by_pixel():
    """Digests of what ``sklearn.datasets.load_digits`` 1.9.1 gives, as bytes."""
    images, labels = digits()
    assert inventory(images).digest == "f0106e86751483f53affc223843da392576a6260f7dda29360047157079d4304"
    assert labels.dtype == torch.int64
    digest = hashlib.sha256(labels.numpy().tobytes()).hexdigest()
    assert digest == "a3c91c262eddcf7ba8f0e37507c30284493c9b20412ffe4af30d536401f7ba21"


def test_the_digits_are_a_set():
    images, labels = digits()
    batches = list(digits_set().batches(500))
    assert [len(batch) for batch, _ in batches] == [500, 500, 500, 297]
    assert torch.cat([batch for batch, _ in batches]).equal(images)
    assert [label for _, part in batches for label in part] == labels.tolist()
