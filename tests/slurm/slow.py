"""A fit that takes its time without taking the machine's."""

import time
from typing import Any

from lightning.pytorch.callbacks import Callback


class Pause(Callback):
    """Sleep for a moment in every batch."""

    def on_train_batch_start(self, *_: Any) -> None:
        time.sleep(0.02)
