"""Faults of the sets of images."""

from .fault import in_file

FAULTS = (
    *in_file(
        "data/idx.py",
        "data/test_idx.py",
        ("headers are not compared", "if content[: len(header)] != header:", "if False:"),
        ("all is unpacked", "file.read(expected + 1)", "file.read()"),
        ("a byte too many is not seen", "file.read(expected + 1)", "file.read(expected)"),
        ("the header is part of the array", "offset=len(header)", "offset=0, count=len(content) - len(header)"),
        ("the digest is the array's", "hashlib.sha256(content)", "hashlib.sha256(content[len(header) :])"),
    ),
    *in_file(
        "data/fashion_mnist.py",
        "data/test_fashion_mnist.py",
        ("digests are not compared", "if found != sha256:", "if False:"),
        ("testing is training", '"t10k",', '"train",'),
        ("a read image is the first", "(images[number], int(labels[number]))", "(images[0], int(labels[0]))"),
    ),
)
