"""A sample depends on its own seed and on nothing else; streams never share a generator."""

import pytest
import torch

from amed_lightning.seeds import SEEDS_PER_STREAM, Seeds, Stream

SHAPE = (3, 4, 4)
CLASSES = 1000


def generator_seeds(seeds: Seeds) -> list[int]:
    return [generator.initial_seed() for generator in seeds.generators()]


@pytest.mark.parametrize("stream", Stream)
@pytest.mark.parametrize("size", [1, 3, 10])
def test_a_seed_gives_the_same_noise_and_label_in_every_block(stream, size):
    seeds = Seeds(stream, 5, 15)
    noise, labels = seeds.noise(SHAPE), seeds.labels(SHAPE, CLASSES)
    for block in reversed(list(seeds.blocks(size))):
        inside = slice(block.start - seeds.start, block.stop - seeds.start)
        assert block.noise(SHAPE).equal(noise[inside])
        assert block.labels(SHAPE, CLASSES).equal(labels[inside])


@pytest.mark.parametrize("size", [1, 3, 4, 100])
def test_blocks_cut_the_range_in_order_without_gap_or_overlap(size):
    blocks = list(Seeds(Stream.tuning, 2, 14).blocks(size))
    assert [seed for block in blocks for seed in range(block.start, block.stop)] == list(range(2, 14))
    assert {block.stream for block in blocks} == {Stream.tuning}
    assert all(len(block) == size for block in blocks[:-1])
    assert 0 < len(blocks[-1]) <= size


def test_noise_depends_on_no_global_generator():
    torch.manual_seed(1)
    first = Seeds(Stream.training, 0, 2).noise(SHAPE)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert Seeds(Stream.training, 0, 2).noise(SHAPE).equal(first)
    assert torch.get_rng_state().equal(before)


def test_streams_occupy_disjoint_ranges_of_the_32_bits_that_a_generator_keeps():
    """The upper three bits are the stream's, the lower 29 the seed's."""
    assert len({int(stream) for stream in Stream}) == len(Stream)
    for stream in Stream:
        first, last = Seeds(stream, 0, 1), Seeds(stream, SEEDS_PER_STREAM - 1, SEEDS_PER_STREAM)
        assert generator_seeds(first) == [int(stream) << 29]
        assert generator_seeds(last) == [(int(stream) + 1 << 29) - 1]
        assert generator_seeds(last)[0] < 2**32


def test_every_use_of_randomness_has_a_number_of_its_own():
    """They are in the seeds of stored trajectories and finished cells, which are not computed again."""
    numbers = {name: int(stream) for name, stream in Stream.__members__.items()}
    assert numbers == {"evaluation": 0, "training": 1, "validation": 2, "tuning": 3, "reference": 4}


def test_a_generator_keeps_only_32_bits_of_its_seed():
    low, high = (torch.randn(4, generator=torch.Generator().manual_seed(seed)) for seed in (7, 7 + 2**32))
    assert low.equal(high)


def test_the_same_seed_gives_other_noise_in_every_stream():
    noises = {tuple(Seeds(stream, 3, 4).noise((4,)).flatten().tolist()) for stream in Stream}
    assert len(noises) == len(Stream)


def test_the_evaluation_stream_is_the_plain_manual_seed():
    noise = Seeds(Stream.evaluation, 40, 43).noise(SHAPE)
    for row, seed in zip(noise, range(40, 43), strict=True):
        assert row.equal(torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed)))


def test_noise_is_single_precision():
    assert Seeds(Stream.evaluation, 0, 1).noise(SHAPE).dtype == torch.float32


def test_a_label_is_drawn_after_the_noise_from_the_same_generator():
    seeds = Seeds(Stream.validation, 8, 12)
    for label, generator in zip(seeds.labels(SHAPE, CLASSES), seeds.generators(), strict=True):
        torch.randn(SHAPE, generator=generator)
        assert label == torch.randint(CLASSES, (), generator=generator)


def test_noise_and_labels_are_those_of_either_alone():
    seeds = Seeds(Stream.tuning, 3, 8)
    noise, labels = seeds.noise_and_labels(SHAPE, CLASSES)
    assert noise.equal(seeds.noise(SHAPE))
    assert labels.equal(seeds.labels(SHAPE, CLASSES))


def test_labels_reach_every_class_and_no_other():
    assert set(Seeds(Stream.reference, 0, 100).labels((1,), 5).tolist()) == set(range(5))


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, SEEDS_PER_STREAM + 1)])
def test_a_range_outside_the_stream_is_refused(start, stop):
    with pytest.raises(ValueError, match=f"seeds {start} to {stop} .* between 0 and {SEEDS_PER_STREAM}"):
        Seeds(Stream.evaluation, start, stop)


def test_the_whole_stream_and_an_empty_range_are_ranges():
    assert len(Seeds(Stream.evaluation, 0, SEEDS_PER_STREAM)) == SEEDS_PER_STREAM
    assert list(Seeds(Stream.evaluation, 4, 4).blocks(3)) == []
