"""A suite over several datasets has one's weights in memory, and no more."""

import gc

import pytest

from amed_lightning.bench.cell import Latest, Loader, prepare
from amed_lightning.bench.results import Results
from amed_lightning.bench.suite import load_suite
from amed_lightning.bench.sweep import run
from amed_lightning.config import InputError
from amed_lightning.metrics.image_classifier import DigitsClassifier

from .living import DETECTORS, MODELS
from .suites import CPU, DATASET, Alone, entry, rows, values, write_suite

pytestmark = pytest.mark.usefixtures("unchecked")

NAMES = ("grey", "blue")
SHORT = DATASET["reference"] | {"nfe": [4]}


def own(kind: str, number: int) -> dict[str, object]:
    return {"name": f"{__package__}.living.{kind}", "number": number}


def two(folder, names=NAMES):
    """Write a suite of datasets that each have a model and a detector of their own."""
    parts = {name: {kind: own(kind, number) for kind in ("model", "detector")} for number, name in enumerate(NAMES)}
    datasets = [DATASET | parts[name] | {"name": name, "reference": SHORT} for name in names]
    sizes = {"block_size": 4, "batch_size": 4, "metrics": ["fid"]}
    return load_suite(write_suite(folder, datasets=datasets, entries=[entry({"name": "euler"}, 2)], **sizes))


def swept(suite, folder):
    results = Results(folder)
    assert run(prepare(suite, Loader.sharing(folder, Alone(), CPU)), results, Alone(), CPU) == []
    return values(folder)


def test_one_model_and_one_detector_at_a_time_and_the_rows_of_each_dataset_alone(tmp_path):
    gc.collect()  # what tests before have left
    gc.disable()  # a model that only the collector would find counts
    try:
        for census in (MODELS, DETECTORS):
            census.loads.clear(), census.calls.clear()
        both = swept(two(tmp_path), tmp_path / "both")
        for census in (MODELS, DETECTORS):
            assert len(census.loads) >= len(NAMES)
            assert {*census.loads} == {*census.calls} == {1}
    finally:
        gc.enable()
    alone = [swept(two(tmp_path, [name]), tmp_path / name) for name in NAMES]
    assert both == alone[0] | alone[1]
    assert len(rows(tmp_path / "both")) == 4


def test_a_single_dataset_s_model_is_loaded_once(tmp_path):
    MODELS.loads.clear()
    swept(two(tmp_path, NAMES[:1]), tmp_path / "one")
    assert len(MODELS.loads) == 1


def test_a_finished_dataset_s_model_is_not_loaded_to_fill_another_s_cells(tmp_path):
    swept(two(tmp_path, NAMES[:1]), tmp_path / "both")
    MODELS.loads.clear()
    swept(two(tmp_path), tmp_path / "both")
    assert len(MODELS.loads) == 2, "each once to be checked; the last is still there to work"


def test_what_a_later_dataset_lacks_is_refused_before_real_images_of_the_first_are_looked_at(tmp_path, monkeypatch):
    looked = []
    monkeypatch.setattr(DigitsClassifier, "forward", lambda self, images: looked.append(images))
    for change in (
        {"model": {"name": "digts"}},
        {"detector": {"name": "digts"}},
        {"detector": {"name": "fashion_mnist"}},
    ):
        datasets = [DATASET, DATASET | {"name": "blue"} | change]
        with pytest.raises(InputError):
            prepare(load_suite(write_suite(tmp_path, datasets=datasets)), launch=lambda: pytest.fail("launched"))
    assert not looked


def test_processes_are_started_before_real_images_are_looked_at(tmp_path, monkeypatch):
    order, real = [], DigitsClassifier.forward

    def forward(self, images):
        order.append("looked")
        return real(self, images)

    monkeypatch.setattr(DigitsClassifier, "forward", forward)
    prepare(load_suite(write_suite(tmp_path)), launch=lambda: order.append("launched"))
    assert order[0] == "launched"
    assert "looked" in order


def test_the_last_of_several_things_is_gone_before_another_is_made():
    living = []

    class Thing:
        def __init__(self, number):
            living.append(number)

        def __del__(self):
            living.pop()

    latest = Latest(Thing)
    for number in (1, 1, 2, 1):
        latest(number)
        assert living == [number]
