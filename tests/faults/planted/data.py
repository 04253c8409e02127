"""Faults of the sets of images."""

from .fault import in_file

FAULTS = (
    *in_file(
        "data/idx.py",
        "data/test_idx.py",
        ("sizes are little-endian", '">u4"', '"<u4"'),
        ("headers are not compared", "if content[: len(header)] != header:", "if False:"),
        ("lengths are not compared", "if len(content) != expected:", "if False:"),
        ("a damaged file ends in a traceback", "except UNREADABLE as error:", "except ZeroDivisionError as error:"),
        ("all is unpacked", "file.read(expected + 1)", "file.read()"),
        ("a byte too many is not seen", "file.read(expected + 1)", "file.read(expected)"),
        ("nothing is unpacked", "if path.name.endswith(PACKED)", "if False"),
        ("the header is part of the array", "offset=len(header)", "offset=0, count=len(content) - len(header)"),
        ("the digest is the array's", "hashlib.sha256(content)", "hashlib.sha256(content[len(header) :])"),
    ),
    *in_file(
        "data/fashion_mnist.py",
        "data/test_fashion_mnist.py",
        ("digests are not compared", "if found != sha256:", "if False:"),
        ("labels are images' digests", "(part.count,), part.labels)", "(part.count,), part.images)"),
        ("testing is training", '"t10k",', '"train",'),
        ("any root is Debian's", "DEBIAN if root is None else Path(root)", "DEBIAN"),
        ("no root is the working folder", "DEBIAN if root is None else Path(root)", 'Path(root or ".")'),
        (
            "packed files are not seen",
            '(root / folder / name, root / folder / f"{name}{PACKED}")',
            "(root / folder / name,)",
        ),
        ("a missing file is opened", "if path is None:", "if False:"),
        ("torchvision's folder is not known", '"FashionMNIST/raw")', '"raw/FashionMNIST")'),
        ("a read image is the first", "(images[number], int(labels[number]))", "(images[0], int(labels[0]))"),
    ),
)
