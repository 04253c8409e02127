"""One image and its file: exact bytes, or a refusal that says what would have been changed."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from amed_lightning.config import InputError
from amed_lightning.data.picture import Record, read_image, record_in, write_image

from .files import pictures

GREY, COLOUR = pictures(1, channels=1)[0], pictures(1)[0]


def picture_of(pixels):
    return Image.fromarray(pixels.permute(1, 2, 0).numpy().squeeze())


def file(picture, kind="PNG", **options):
    content = BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def png(bits, colour, rows):
    """A PNG file of eight columns, by hand: Pillow writes no 16-bit RGB."""

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, len(rows), bits, colour, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b"")


def tiff(samples, *, planes=1, **tags):
    """A TIFF file without compression, by hand: Pillow writes no planes (2) that lie apart."""
    (rows, columns, channels), deep = samples.shape, samples.itemsize * 8
    parts = [samples[..., [channel]] for channel in range(channels)] if planes == 2 else [samples]
    pixels = [part.astype(part.dtype.newbyteorder("<")).tobytes() for part in parts]
    starts = [8 + sum(map(len, pixels[:number])) for number in range(len(pixels))]
    told = {256: [columns], 257: [rows], 258: [deep] * channels, 259: [1], 262: [2 if channels > 1 else 1]}
    told |= {273: starts, 277: [channels], 278: [rows], 279: [len(part) for part in pixels], 284: [planes]}
    told |= {int(tag[1:]): values for tag, values in tags.items()}
    aside, entries, end = b"", b"", 8 + sum(map(len, pixels))
    for tag, values in sorted(told.items()):
        content = struct.pack(f"<{len(values)}H", *values)
        entries += struct.pack("<HHI", tag, 3, len(values))
        entries += content.ljust(4, b"\0") if len(content) <= 4 else struct.pack("<I", end + len(aside))
        aside += content if len(content) > 4 else b""
    directory = struct.pack("<H", len(told)) + entries + bytes(4)
    return struct.pack("<2sHI", b"II", 42, end + len(aside)) + b"".join(pixels) + aside + directory


class TestExactBytes:
    @pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "PPM", "TIFF"])
    def test_grey_is_read_as_it_was_written(self, kind):
        assert read_image(file(picture_of(GREY), kind), "a")[0].equal(GREY)

    @pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
    def test_colours_are_read_as_they_were_written(self, options):
        kinds = ["TIFF"] if options else ["PNG", "BMP", "PPM", "TIFF"]
        for kind in kinds:
            assert read_image(file(picture_of(COLOUR), kind, **options), "a")[0].equal(COLOUR)
        assert read_image(file(picture_of(COLOUR), "WEBP", lossless=True), "a")[0].equal(COLOUR)

    @pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF"])
    def test_a_palette_has_its_colours(self, kind):
        indexed = picture_of(COLOUR).quantize(16)
        expected = torch.from_numpy(np.array(indexed.convert("RGB"))).permute(2, 0, 1)
        assert read_image(file(indexed, kind), "a")[0].equal(expected)

    @pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
    def test_black_and_white_is_grey(self, kind):
        bits = GREY > 127
        assert read_image(file(picture_of(GREY).point(lambda v: 255 * (v > 127)).convert("1"), kind), "a")[0].equal(
            bits * torch.tensor(255, dtype=torch.uint8)
        )

    @pytest.mark.parametrize("mode", ["LA", "RGBA"])
    def test_what_is_not_transparent_anywhere_is_read(self, mode):
        pixels = GREY if mode == "LA" else COLOUR
        assert read_image(file(picture_of(pixels).convert(mode)), "a")[0].equal(pixels)

    @pytest.mark.parametrize("planes", [1, 2])
    def test_planes_of_a_tiff_may_lie_apart(self, planes):
        content = tiff(COLOUR.permute(1, 2, 0).numpy(), planes=planes)
        assert read_image(content, "a")[0].equal(COLOUR)

    def test_four_bits_of_grey_are_spread_over_the_range(self):
        levels = read_image(png(4, 0, [bytes([0x01, 0x23, 0xEF, 0xFF])]), "a")[0].flatten().tolist()
        assert levels == [17 * level for level in (0, 1, 2, 3, 14, 15, 15, 15)]


class TestRefusals:
    @staticmethod
    def refusal(content):
        with pytest.raises(InputError) as refused:
            read_image(content, "a.png")
        return str(refused.value)

    def test_more_than_eight_bits(self):
        deep = [row.astype(">u2").tobytes() for row in COLOUR.permute(1, 2, 0).numpy()]
        plain = b"".join(deep)
        grey = Image.fromarray(GREY[0].numpy().astype(np.uint16) * 257)
        contents = [
            *(png(16, 2, deep), b"P6 8 8 65535\n" + plain, b"P3 1 1 65535\n1 2 3\n", b"P6 4 1 100\n" + bytes(12)),
            *(file(grey), file(grey, "TIFF"), file(grey, "PPM")),
        ]
        for content in contents:
            assert (
                self.refusal(content) == "a.png: samples of another depth than 8 bits; turn it into 8-bit grey or RGB"
            )

    @pytest.mark.parametrize("planes", [1, 2])
    def test_more_than_eight_bits_in_a_tiff_whose_planes_lie_apart_too(self, planes):
        content = tiff(COLOUR.permute(1, 2, 0).numpy().astype(np.uint16) * 257, planes=planes)
        assert self.refusal(content).startswith("a.png: samples of another depth than 8 bits")

    def test_samples_of_a_tiff_with_a_sign(self):
        content = tiff(GREY.permute(1, 2, 0).numpy(), t339=[2])
        assert self.refusal(content).startswith("a.png: samples of another depth than 8 bits")

    @pytest.mark.parametrize(("unit", "is_read"), [(256, True), (257, True), (255, False), (1, False)])
    def test_colours_of_a_tiff_s_palette_that_are_no_bytes(self, unit, is_read):
        """Their range is that of 16 bits; who writes bytes there would be read as black."""
        content = tiff(GREY.permute(1, 2, 0).numpy(), t262=[3], t320=[unit * level for level in range(256)] * 3)
        if is_read:
            assert read_image(content, "a")[0].equal(GREY)
        else:
            assert self.refusal(content).startswith("a.png: samples of another depth than 8 bits")

    @pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
    def test_several_frames(self, kind):
        frames = [picture_of(image) for image in pictures(2)]
        content = file(frames[0], kind, save_all=True, append_images=frames[1:])
        assert self.refusal(content) == "a.png: several images in one file; give each a file of its own"

    @pytest.mark.parametrize("kind", ["JPEG", "TIFF", "PNG", "WEBP"])
    def test_pixels_that_are_to_be_turned(self, kind):
        exif = Image.Exif()
        exif[0x0112] = 6
        content = file(picture_of(COLOUR), kind, exif=exif)
        assert self.refusal(content).startswith("a.png: an EXIF orientation of 6: turn the pixels themselves")
        exif[0x0112] = 1
        read_image(file(picture_of(COLOUR), kind, exif=exif), "a.png")

    def test_what_can_be_seen_through(self):
        see_through = picture_of(COLOUR).convert("RGBA")
        see_through.putpixel((3, 3), (1, 2, 3, 254))
        indexed, keyed = picture_of(COLOUR).quantize(16), tuple(COLOUR[:, 0, 0].tolist())
        for content in (
            *(file(see_through), file(see_through, "WEBP", lossless=True)),
            *(file(indexed, transparency=0), file(picture_of(COLOUR), transparency=keyed)),
        ):
            assert self.refusal(content) == (
                "a.png: transparent in places; lay it on a background, in 8-bit grey or RGB"
            )

    @pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("F", "TIFF"), ("I", "TIFF")])
    def test_other_colours(self, mode, kind):
        content = file(picture_of(GREY).convert(mode), kind)
        assert self.refusal(content) == f"a.png: an image of mode {mode}; use 8-bit grey or RGB"

    @pytest.mark.parametrize("kind", ["TGA", "ICO", "JPEG2000"])
    def test_formats_whose_depth_cannot_be_told(self, kind):
        assert self.refusal(file(picture_of(COLOUR), kind)).startswith(
            f"a.png: an image of format {kind}; turn it into PNG"
        )

    @pytest.mark.parametrize("kind", ["PNG", "GIF", "JPEG", "BMP", "WEBP"])
    def test_a_file_that_was_cut_off(self, kind):
        content = file(picture_of(COLOUR), kind)
        for length in (0, 10, len(content) // 2):
            assert self.refusal(content[:length]) == "a.png: not a readable image"


class TestRecord:
    RECORD = Record("sample", {"model": "abc", "sigmas": [80.0, 0.002]}, [0, 64], {"commit": None})

    def test_it_travels_with_the_image(self, tmp_path):
        write_image(tmp_path / "a.png", COLOUR, self.RECORD)
        pixels, record = read_image((tmp_path / "a.png").read_bytes(), "a.png")
        assert pixels.equal(COLOUR)
        assert record == record_in(tmp_path / "a.png") == self.RECORD
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]

    def test_an_image_need_not_have_one(self, tmp_path):
        write_image(tmp_path / "a.png", COLOUR)
        assert read_image((tmp_path / "a.png").read_bytes(), "a.png")[1] is None
        (tmp_path / "b.png").write_bytes(b"no image")
        assert record_in(tmp_path / "b.png") is None

    @pytest.mark.parametrize("said", ["{", "7", '{"verb": "sample"}'])
    def test_one_that_cannot_be_read_is_refused(self, said):
        notes = PngInfo()
        notes.add_text("amed-lightning", said)
        with pytest.raises(InputError, match=r"a.png: says in a way that this version cannot read what made it"):
            read_image(file(picture_of(COLOUR), pnginfo=notes), "a.png")

    def test_what_cannot_be_written_leaves_nothing(self, tmp_path):
        with pytest.raises((TypeError, ValueError)):
            write_image(tmp_path / "a.png", pictures(1, channels=5)[0])
        assert not any(tmp_path.iterdir())
