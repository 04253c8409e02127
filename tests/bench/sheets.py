"""Rows and lines as a sweep would leave them."""

from amed_lightning.bench.sheet import Line

PROTOCOL = "0123456789abcdef" * 4
NAMES = ("dataset", "label", "schedule", "afs", "nfe", "is_reference")


def row(
    key,
    fid=10.0,
    is_=8.0,
    rmse=0.2,
    spread=0.0,
    reference=False,
    nfe=5,
    dataset="grey",
    schedule="logsnr",
    afs=False,
    **more,
):
    scores = {"fid": fid, "is": is_} | ({} if reference else {"rmse": rmse})
    spreads = {f"{name}_spread": spread for name in scores} if spread is not None else {}
    place = {"dataset": dataset, "label": key, "schedule": schedule, "afs": afs, "nfe": nfe, "is_reference": reference}
    protocol = {"num_blocks": 2, "block_size": 24, "num_ranges": 2, "batch_sizes": [12]}
    part = {"fid": fid, "is_whole": is_, "rmse": rmse}
    plain = {
        "key": key,
        **place,
        "stays_in_warm_up": False,
        "lacks_thresholding": False,
        "values": scores | spreads,
        "ranges": [part, part],
        "n": 48,
        "seconds": 0.125,
        "images_per_second": 384.0,
        "batch_sizes": [12],
        "protocol": PROTOCOL,
        "identity": {"protocol": protocol, "reference": "0123456789abcdef"},
    }
    return plain | more


def line(key, **facts):
    content = row(key, **facts)
    return Line({name: content[name] for name in NAMES}, content)


def gap(key, kind, reason="", **facts):
    content = row(key, **facts)
    return Line({name: content[name] for name in NAMES}, gap=kind, reason=reason)
