"""Bytes are EDM's: scaled by 127.5, moved by 128, clipped, then truncated."""

import torch

from amed_lightning.tensors import dequantise, quantise, where_finite


def test_every_byte_comes_back_from_the_middle_of_what_becomes_it():
    """A byte b stands for values from (b - 128) / 127.5 up to the next; EDM reads it back as b / 127.5 - 1."""
    every = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    lowest = (every.double() - 128) / 127.5
    assert quantise(lowest + 1e-6).equal(every)
    assert quantise(lowest + 1 / 127.5 - 1e-6).equal(every)
    assert quantise(dequantise(every)).equal(every)


def test_what_lies_beyond_the_ends_is_clipped():
    ends = torch.tensor([-3.0, -1.01, 1.0, 3.0]).reshape(1, 1, 1, 4)
    assert quantise(ends).flatten().tolist() == [0, 0, 255, 255]


def test_what_saturates_is_no_number_where_its_argument_is_none():
    argument = torch.tensor([0.5, torch.inf, -torch.inf, torch.nan, -3.0])
    expected = torch.tensor([0.5, torch.nan, torch.nan, torch.nan, -1.0])
    torch.testing.assert_close(where_finite(argument, argument.clamp(-1, 1)), expected, rtol=0, atol=0, equal_nan=True)
