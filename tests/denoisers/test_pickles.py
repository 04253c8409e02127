"""Foreign pickles: understood where they are what they should be, refused where not, run never."""

import builtins
import codecs
import io
import os
import pickle
import random
import struct
import sys
import time
import tracemalloc
from contextlib import contextmanager

import pytest
import torch

from amed_lightning.config import InputError
from amed_lightning.denoisers import pickles
from amed_lightning.denoisers.edm import read_edm
from amed_lightning.denoisers.pickle_machine import Name, Record
from amed_lightning.denoisers.pickles import interpret, read_pickle

from . import fuzzing
from .persistent import Reduced, edm_object, foreign_modules, write_pickle

TEN_GIB = struct.pack("<Q", 10 << 30)
START, STOP = b"\x80\x04", b"."
TIGHT = b"\x8c\x02os\x8c\x06system\x93"
"""Push os.system."""
RUNS = {"os.system", "exec", "compile", "import", "pickle.find_class", "subprocess.Popen", "os.exec", "os.posix_spawn"}
RUNS |= {"marshal.loads", "ctypes.dlopen", "socket.connect", "os.remove", "os.rename"}
"""Audit events of which reading causes none."""

codecs.lookup("raw_unicode_escape")
"""Text in such escapes makes pickletools import the codec, once in a process."""

_events: list[str] | None = None


def _audit(event, arguments):
    if _events is not None and event in RUNS:
        _events.append((event, arguments[:1]))


sys.addaudithook(_audit)


@contextmanager
def nothing_is_run(seconds=5.0):
    """Fail if anything is imported, compiled, run or removed meanwhile, or if it takes long."""
    global _events
    _events, began = [], time.monotonic()
    try:
        yield
        assert _events == []
    finally:
        _events = None
    assert time.monotonic() - began < seconds


def as_file(folder, content):
    path = folder / "network.pkl"
    path.write_bytes(content)
    return path


def read(content):
    return interpret(io.BytesIO(content))


def plain_value(rng, depth=0):
    """Return a random value of the kinds that a network's file holds."""
    scalars = [
        lambda: rng.randint(-(2**70), 2**70),
        lambda: rng.randint(-300, 70_000),
        rng.random,
        lambda: "".join(chr(rng.randint(32, 9000)) for _ in range(rng.choice([0, 3, 300]))),
        lambda: rng.randbytes(rng.choice([0, 3, 300])),
        lambda: rng.choice([None, True, False]),
    ]
    size = rng.choice([0, 1, 2, 3, 1100 if depth == 3 and rng.random() < 0.02 else 4])
    containers = [
        lambda: [plain_value(rng, depth + 1) for _ in range(size)],
        lambda: tuple(plain_value(rng, depth + 1) for _ in range(size)),
        lambda: {str(i): plain_value(rng, depth + 1) for i in range(size)},
        lambda: {str(rng.random()) for _ in range(size)},
    ]
    return rng.choice(scalars if depth > 3 else scalars + containers * 3)()


class TestUnderstanding:
    @pytest.mark.parametrize("protocol", [4, 5])
    def test_plain_values_are_what_pickle_reads(self, protocol):
        rng = random.Random(protocol)
        for _ in range(40):
            value = [plain_value(rng) for _ in range(3)]
            value += value  # comes back to what it knows
            assert read(pickle.dumps(value, protocol)) == value

    def test_two_places_for_one_list_stay_one_list(self):
        shared = [1]
        first, second = read(pickle.dumps([shared, shared]))
        assert first is second

    def test_a_stream_stands_behind_the_pickle_it_was_read_from(self):
        stream = io.BytesIO(pickle.dumps("first") + pickle.dumps("second") + b"rest")
        assert [interpret(stream), interpret(stream), stream.read()] == ["first", "second", b"rest"]

    def test_a_call_is_noted_with_its_arguments_and_its_state(self):
        with foreign_modules():
            reconstruct = sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj
            content = pickle.dumps(Reduced(reconstruct, 1, "two", state={"three": 3}))
        record = read(content)
        assert isinstance(record, Record)
        assert record.name == "torch_utils.persistence._reconstruct_persistent_obj"
        assert (record.arguments, record.state) == ((1, "two"), {"three": 3})

    def test_a_class_and_its_instance_are_noted(self):
        assert read(pickle.dumps(torch.nn.Sigmoid)) == Name("torch.nn.modules.activation.Sigmoid")
        instance = read(pickle.dumps(torch.nn.Sigmoid()))
        assert (instance.name, instance.arguments) == ("torch.nn.modules.activation.Sigmoid", ())
        assert instance.state["training"] is True
        assert instance.state["_parameters"] == {}

    def test_the_functions_of_amed_s_loss_are_names(self):
        with foreign_modules():
            assert read(pickle.dumps(sys.modules["solvers_amed"].heun_sampler)) == Name("solvers_amed.heun_sampler")


CALLS = {
    "os.system": (os.system, "{canary}"),
    "builtins.eval": (builtins.eval, "open(r'{path}', 'w')"),
    "builtins.exec": (builtins.exec, "open(r'{path}', 'w')"),
    "builtins.open": (builtins.open, "{path}", "w"),
    "builtins.getattr": (builtins.getattr, "{path}", "lower"),
    "builtins.print": (print, "{path}"),
    "os.rename": (os.rename, "{path}", "{path}.moved"),
}
"""Each would leave a file behind."""


class TestHostile:
    @pytest.fixture
    def canary(self, tmp_path):
        path = tmp_path / "canary"
        yield path
        assert not path.exists()

    @pytest.mark.parametrize("name", CALLS)
    @pytest.mark.parametrize("place", ["alone", "beside a network", "as its tensor"])
    def test_a_call_of_something_else_is_refused_by_its_name(self, tmp_path, canary, name, place):
        function, *arguments = CALLS[name]
        call = Reduced(function, *(text.format(canary=f"touch {canary}", path=canary) for text in arguments))

        def content():
            network = edm_object(fuzzing.ARGUMENTS, fuzzing.STATE)
            if place == "as its tensor":
                network._modules["model"]._modules["layer"]._parameters["weight"] = call
            return call if place == "alone" else {"aside": call, "ema": network}

        path = write_pickle(tmp_path / "network.pkl", content)
        called = f"{function.__module__}.{function.__name__}"
        with nothing_is_run(), pytest.raises(InputError, match=rf"network\.pkl: .* names '{called}'.*nothing was run"):
            read_edm(path)

    def test_what_a_network_s_class_claims_to_be_is_not_run(self, tmp_path, canary):
        source = f"open(r'{canary}', 'w')"
        path = write_pickle(
            tmp_path / "network.pkl", lambda: {"ema": edm_object(fuzzing.ARGUMENTS, fuzzing.STATE, source)}
        )
        assert source.encode() in path.read_bytes()
        with nothing_is_run():
            assert read_edm(path).weights.keys() == fuzzing.STATE.keys()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"c__main__\n<lambda>\n)R", "names '__main__.<lambda>'"),
            (b"\x8c\x05torch\x8c\x10_utils.os.system\x93", r"names 'torch\._utils\.os\.system'"),
            (b"\x8c\x0bcollections\x8c\x22OrderedDict.__init__.__globals__.x\x93", "names 'collections.OrderedDict"),
            (b"\x8c\x00\x8c\x00\x93", r"names '\.'"),
            (b"\x8c\x0csolvers_amed\x8c\x13os_sampler.__init__\x93", "names 'solvers_amed.os_sampler.__init__'"),
            (b"(ios\nsystem\n", "INST"),
            (b"(" + TIGHT[:-1] + b"\x93o", "names 'os.system'"),
            (b"\x82\x01", "EXT1"),
            (b"Pid\n", "PERSID"),
            (b"\x97", "NEXT_BUFFER"),
            (b"I10\n", "a pickle with INT"),
            (b"2", "DUP"),
        ],
    )
    def test_another_way_to_import_or_call_is_refused(self, tmp_path, canary, content, message):
        path = as_file(tmp_path, START + content + STOP)
        with nothing_is_run(), pytest.raises(InputError, match=message):
            read_edm(path)

    @pytest.mark.parametrize(
        "content",
        [
            b"\x8c\x0bcollections\x8c\x0bOrderedDict\x93}b",  # state set on a class itself
            b"}}b",  # on a plain mapping
            b"\x8c\x02idK\x01b",  # on a string
            b"}K\x01R",  # a mapping called
            b"\x8c\x0bcollections\x8c\x0bOrderedDict\x93K\x01R",  # arguments that are no tuple
            b"]K\x01K\x02s",  # an item set in a list
            b"}K\x01a",  # an item appended to a mapping
            b"]]K\x01a",
            b"\x8fK\x01a",  # to a set
            b"N(K\x01e",
            b"}(K\x01u",  # a key without a value
            b"}]K\x01s",  # a list as a key
            b"}K\x01\x85K\x01s",  # a tuple as a key
            b"}K\x01K\x01s",  # a number as a key
            b"\x8f(K\x01\x85\x90",  # a tuple in a set
            b"h\x07",  # an unknown memo
            b"t",  # no mark
            b"",
            b"\x93",
            b"R",
            b"K\x01K\x02\x93",
        ],
    )
    def test_an_instruction_that_does_not_fit_is_refused(self, tmp_path, content):
        path = as_file(tmp_path, START + content + STOP)
        with nothing_is_run(), pytest.raises(InputError, match=r"network\.pkl: "):
            read_edm(path)

    @pytest.mark.parametrize(
        "content",
        [
            b"\x8e" + TEN_GIB + b"few",
            b"\x8d" + TEN_GIB + b"few",
            b"\x96" + TEN_GIB + b"few",
            b"\x95" + TEN_GIB + b"N",
            b"\x8b\xff\xff\xff\x7f\x01",
            b"B\xff\xff\xff\xffx",
            b"Nr\xff\xff\xff\xff",
            b"\x8e" + b"\xff" * 8 + b"few",
        ],
    )
    def test_a_length_of_ten_gigabytes_takes_no_memory(self, tmp_path, content):
        path = as_file(tmp_path, START + content + STOP)
        tracemalloc.start()
        try:
            with nothing_is_run(), pytest.raises(InputError, match=r"network\.pkl: "):
                read_edm(path)
            assert tracemalloc.get_traced_memory()[1] < 1 << 22
        finally:
            tracemalloc.stop()

    @pytest.mark.parametrize(
        "bomb",
        [b"(" * 20_000, b"]" * 20_000 + b"a" * 19_999, b")" + b"\x85" * 20_000],
        ids=["marks", "lists", "tuples"],
    )
    def test_values_inside_values_inside_values_are_refused(self, tmp_path, bomb):
        path = as_file(tmp_path, START + bomb + STOP)
        with nothing_is_run(), pytest.raises(InputError, match=r"network\.pkl: "):
            read_edm(path)

    def test_a_key_whose_hash_takes_for_ever_is_refused(self, tmp_path):
        pairs = b"".join(b"h" + bytes([i, ord("h"), i]) + b"\x86\x94" for i in range(200))  # each of the one before
        path = as_file(tmp_path, START + b")\x94" + pairs + b"}h\xc8Ns" + STOP)
        with nothing_is_run(), fuzzing.time_limit(5), pytest.raises(InputError, match="str expected, not tuple"):
            read_edm(path)

    def test_more_instructions_than_any_network_takes_are_refused(self, tmp_path, monkeypatch):
        monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", 1000)
        path = as_file(tmp_path, START + b"N" * 999 + STOP)
        with pytest.raises(InputError, match="more than 1000 instructions"):
            read_edm(path)

    def test_a_module_inside_itself_is_refused(self, tmp_path):
        def content():
            network = edm_object(fuzzing.ARGUMENTS, fuzzing.STATE)
            modules = network._modules["model"]._modules
            modules["again"] = torch.nn.ModuleDict()
            modules["again"]._modules["again"] = modules["again"]
            return {"ema": network}

        path = write_pickle(tmp_path / "network.pkl", content)
        with nothing_is_run(), pytest.raises(InputError, match="modules inside modules"):
            read_edm(path)

    def test_a_file_cut_anywhere_is_refused(self, tmp_path):
        whole = fuzzing.written(tmp_path)
        for end in range(1, len(whole), 41):
            path = as_file(tmp_path, whole[:end])
            with nothing_is_run(), pytest.raises(InputError, match=r"network\.pkl: "):
                read_edm(path)

    @pytest.mark.parametrize(("content", "message"), [(None, "no such file"), (b"", "empty"), (b"\x00" * 99, "")])
    def test_what_is_no_pickle_is_refused(self, tmp_path, content, message):
        path = tmp_path / "network.pkl"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError, match=rf"network\.pkl: .*{message}"):
            read_pickle(path)

    def test_a_message_has_one_line_whatever_the_name(self, tmp_path):
        name = b"os\x1b[2J\r\nsystem" * 50
        path = as_file(tmp_path, START + b"X" + struct.pack("<I", len(name)) + name + b"\x8c\x01x\x93" + STOP)
        with pytest.raises(InputError) as refusal:
            read_edm(path)
        assert len(str(refusal.value).splitlines()) == 1
        assert "\x1b" not in str(refusal.value)
        assert len(str(refusal.value)) < 300


class TestFuzz:
    @pytest.mark.parametrize(
        ("count", "seed"), [(250, 0), pytest.param(10_000, 1, marks=pytest.mark.slow)], ids=["few", "ten thousand"]
    )
    def test_mutated_files_run_nothing_and_end(self, tmp_path, count, seed):
        whole = fuzzing.written(tmp_path)
        path, rng, messages, understood = tmp_path / "network.pkl", random.Random(seed), [], 0
        for _ in range(count):
            path.write_bytes(fuzzing.mutated(whole, rng))
            with nothing_is_run(), fuzzing.time_limit(5):
                try:
                    read_edm(path)
                    understood += 1
                except InputError as error:
                    messages.append(str(error))
        assert all(message.startswith(f"{path}: ") and len(message.splitlines()) == 1 for message in messages)
        assert min(understood, len(messages)) > count // 50
