"""``python -m amed_lightning``: the same program as the command ``amed-lightning``."""

from amed_lightning.cli.main import main

main()
