"""Rows and lines as a sweep would leave them."""

from amed_lightning.bench.jackknife import Estimate
from amed_lightning.bench.plan import SCORED, CellId
from amed_lightning.bench.results import Line
from amed_lightning.bench.row import Row

PROTOCOL = "0123456789abcdef" * 4


def row(
    key,
    fid=10.0,
    is_=8.0,
    rmse=0.2,
    error=0.0,
    reference=False,
    nfe=5,
    dataset="grey",
    schedule="logsnr",
    afs=False,
    off=None,
    **more,
):
    """Return a row whose scores are off by this without each block; of two blocks, by their error."""
    off = (-error, error) if off is None else off
    scores = {"fid": fid, "is": is_} | ({} if reference else {"rmse": rmse})
    leave_one_out = {name: [value + part for part in off] for name, value in scores.items()} if off else {}
    errors = {f"{name}_error": Estimate(scores[name], parts).error for name, parts in leave_one_out.items()}
    protocol = {"num_blocks": 2, "block_size": 24, "num_ranges": 2, "batch_sizes": [12]}
    part = {"fid": fid, "is_whole": is_, "rmse": rmse}
    plain = {
        "key": key,
        "id": CellId(dataset, key, schedule, afs, nfe),
        "is_reference": reference,
        "detector": {"name": "digits", "path": "classifier.safetensors"},
        "real_images": {"name": "digits"},
        "stays_in_warm_up": False,
        "lacks_thresholding": False,
        "values": scores | errors,
        "ranges": [part, part],
        "leave_one_out": leave_one_out,
        "n": 48,
        "seconds": 0.125,
        "images_per_second": 384.0,
        "batch_sizes": [12],
        "protocol": PROTOCOL,
        "identity": {"protocol": protocol, "reference": "0123456789abcdef"},
    }
    return Row(**plain | more)


def line(key, **facts):
    content = row(key, **facts)
    return Line(content.id, content.is_reference, scored_of(content), content)


def gap(key, kind, reason="", **facts):
    content = row(key, **facts)
    return Line(content.id, content.is_reference, scored_of(content), gap=kind, reason=reason)


def scored_of(content):
    return {name: getattr(content, name) for name in SCORED}
