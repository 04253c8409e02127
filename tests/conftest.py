"""Every test runs on one thread, with the shapes in the package's annotations checked at each call."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook("amed_lightning", "beartype.beartype")
