"""Published models as data: cards, their files, and what is known of a model before its weights are here."""
