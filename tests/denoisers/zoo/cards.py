"""The cards of text-to-image transformers, and those of the models that few-step figures were published for."""

from amed_lightning.denoisers.zoo.card import card_names, load_card

TRANSFORMERS = [name for name in card_names() if load_card(name).model["name"] == "transformer"]


def figured() -> list[str]:
    """Return the cards with suites of published figures and recipes of AMED's."""
    return [name for name in card_names() if name not in TRANSFORMERS]
