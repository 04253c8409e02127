"""How blocks make a U-Net."""

import pytest

from amed_lightning.denoisers.topology import Topology


class TestTopology:
    TOPOLOGY = Topology(16, 8, (1, 2), 2, (8,), stem_mult=1)

    def test_the_encoder_goes_down_level_by_level(self):
        plan = [(b.name, b.in_channels, b.out_channels, b.attends) for b in self.TOPOLOGY.encoder()]
        assert plan == [
            ("16x16_block0", 8, 8, False),
            ("16x16_block1", 8, 8, False),
            ("8x8_down", 8, 8, False),
            ("8x8_block0", 8, 16, True),
            ("8x8_block1", 16, 16, True),
        ]

    def test_the_decoder_sees_every_output_of_the_encoder_newest_first(self):
        plan = [(b.name, b.in_channels, b.out_channels, b.attends) for b in self.TOPOLOGY.decoder()]
        assert plan == [
            ("8x8_in0", 16, 16, True),
            ("8x8_in1", 16, 16, False),
            ("8x8_block0", 32, 16, True),
            ("8x8_block1", 32, 16, True),
            ("8x8_block2", 24, 16, True),
            ("16x16_up", 16, 16, False),
            ("16x16_block0", 24, 8, False),
            ("16x16_block1", 16, 8, False),
            ("16x16_block2", 16, 8, False),
        ]
        last_alone = [b.name for b in self.TOPOLOGY.decoder(attends=lambda index: index == 2) if b.attends]
        assert last_alone == ["8x8_in0", "8x8_block2"]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"channel_mult": ()}, "1 to 16 levels"),
            ({"num_blocks": 0}, "1 to 64 blocks"),
            ({"num_blocks": 10**9}, "1 to 64 blocks"),
            ({"channel_mult": (1, 0)}, "a U-Net of 0 channels"),
            ({"model_channels": 3}, "a U-Net of 3 channels"),
            ({"img_resolution": 15}, "15 cannot be halved 1 times"),
            ({"img_resolution": 0}, "0 cannot be halved"),
        ],
    )
    def test_what_cannot_be_built_is_refused(self, changes, message):
        given = {"img_resolution": 16, "model_channels": 8, "channel_mult": (1, 2), "num_blocks": 2}
        with pytest.raises(ValueError, match=message):
            Topology(**given | changes, attn_resolutions=(8,), stem_mult=1)
