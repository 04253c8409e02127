"""Tensors in pickles: views of storages, and both say how long they are."""

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers.edm import read_edm

from . import fuzzing
from .persistent import Reduced, edm_object, write_pickle


class TestStorages:
    def written(self, folder, value):
        def content():
            network = edm_object(fuzzing.ARGUMENTS, fuzzing.STATE)
            network._modules["model"]._modules["layer"]._parameters["weight"] = value
            return {"ema": network}

        return write_pickle(folder / "network.pkl", content)

    @pytest.mark.parametrize("view", [torch.arange(24.0).reshape(4, 6)[1:3, ::2], torch.arange(6.0).reshape(2, 3).T])
    def test_a_view_of_a_storage_is_read_as_it_is(self, tmp_path, view):
        read = read_edm(self.written(tmp_path, view)).weights["model.layer.weight"]
        torch.testing.assert_close(read, view, rtol=0, atol=0)

    @pytest.mark.parametrize(
        ("old", "new"),
        [
            (b"K\x02K\x03\x86", b"K\x02K\x04\x86"),  # a larger size
            (b"K\x03K\x01\x86", b"K\x04K\x01\x86"),  # a larger stride
            (b"K\x00K\x02K\x03", b"K\x09K\x02K\x03"),  # an offset
            (b"K\x02K\x03\x86", b"K\x02N\x86"),
            (b"K\x02K\x03\x86", b"K\x02\x85"),  # fewer sizes than strides
            (b"FloatStorage", b"LongStorage."),
            (b"FloatStorage", b"Float8Storag"),
            (b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x18"),
            (b"M\xe9\x03", b"M\xe8\x03"),  # another version
            (b"\x06" + bytes(7), b"\x07" + bytes(7)),  # another length before the numbers
            (b"\x06" + bytes(7), b"\xff" * 8),
        ],
    )
    def test_one_that_does_not_fit_is_refused(self, tmp_path, old, new):
        path = self.written(tmp_path, fuzzing.STATE["model.layer.weight"])
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))
        with pytest.raises(InputError, match=r"network\.pkl: "):
            read_edm(path)

    def test_a_storage_with_something_behind_its_numbers_is_refused(self, tmp_path):
        tensor = fuzzing.STATE["model.layer.weight"]
        _, (saved,) = tensor._typed_storage().__reduce__()

        def with_storage(content):
            storage = Reduced(torch.storage._load_from_bytes, content)
            return self.written(
                tmp_path, Reduced(torch._utils._rebuild_tensor_v2, storage, 0, (2, 3), (3, 1), False, {})
            )

        assert read_edm(with_storage(saved)).weights["model.layer.weight"].equal(tensor)
        with pytest.raises(InputError, match="a damaged storage"):
            read_edm(with_storage(saved + b"more"))

    def test_a_tensor_that_repeats_one_number_is_refused(self, tmp_path):
        path = self.written(tmp_path, torch.ones(1).expand(2**40))
        with pytest.raises(InputError, match="reaches beyond its storage"):
            read_edm(path)

    def test_tensors_that_share_a_storage_take_no_more_than_the_file(self, tmp_path):
        shared = torch.nn.Parameter(torch.ones(5000), requires_grad=False)

        def content():
            network = edm_object(fuzzing.ARGUMENTS, fuzzing.STATE)
            network._modules["model"]._parameters.update({f"copy{index}": shared for index in range(9)})
            return {"ema": network}

        path = write_pickle(tmp_path / "network.pkl", content)
        with pytest.raises(InputError, match="tensors that take more room than the file"):
            read_edm(path)

    def test_a_call_inside_a_storage_is_refused(self, tmp_path):
        path = self.written(tmp_path, fuzzing.STATE["model.layer.weight"])
        content = path.read_bytes()
        harmless, hostile = b"ctorch\nFloatStorage\n", b"cposix\nsystem\n000000"
        assert harmless in content
        assert len(harmless) == len(hostile)
        path.write_bytes(content.replace(harmless, hostile))
        with pytest.raises(InputError, match=r"names 'posix\.system'"):
            read_edm(path)
