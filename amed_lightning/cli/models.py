"""``models``: the published models that a configuration can name, and their files."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from jsonargparse import Namespace
from rich.console import Console
from rich.table import Table

from amed_lightning.cli.parsing import PLAIN_WIDTH
from amed_lightning.config import InputError
from amed_lightning.denoisers.zoo.card import Card, CardFile, card_names, load_card
from amed_lightning.runtime.cache import cache_folder, check, fetch


def run(options: Namespace) -> int:
    """List, fetch or verify."""
    if suite := options["for"]:
        if options.action != "fetch" or options.cards:
            raise InputError("models --for: it is an option of fetch, and takes the place of cards")
        from amed_lightning.cli.suite_files import fetch_for  # imports torch, which listing models does without

        return fetch_for(suite)
    cards = [load_card(name) for name in options.cards or card_names()]
    if options.action == "list":
        _print_json(cards) if options.json else _list(cards)
        return 0
    if options.action == "verify":
        return _verify(cards, missing_is_fine=not options.cards)
    if not options.cards:
        raise InputError(
            f"models fetch: name the cards whose files to fetch, or --for SUITE: {', '.join(card_names())}"
        )
    return _fetch(cards)


def _list(cards: Sequence[Card]) -> None:
    table = Table("card", "what it draws", "licence", "files here", "FID at NFE", box=None, pad_edge=False)
    for card in cards:
        here = len(list(_here(card)))
        quality = f"{card.teacher.fid} at {card.teacher.nfe}" if card.teacher else ""
        table.add_row(card.name, card.title, card.licence.name, f"{here} of {len(card.files)}", quality)
    Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH).print(table)
    print(f"files are kept in {cache_folder() / 'models'}; AMED_CACHE names another folder")


def _print_json(cards: Sequence[Card]) -> None:
    """Print what the cards say, and where their files are."""
    told = [asdict(card) | {"folder": card.folder, "here": list(_here(card))} for card in cards]
    print(json.dumps(told, default=str, indent=2))


def _here(card: Card) -> Iterator[str]:
    return (key for key, file in card.files.items() if (card.folder / file.name).is_file())


def _fetch(cards: Sequence[Card]) -> int:
    failed = False
    for card in cards:
        print(f"{card.name}: {card.licence.name}, {card.licence.address}: {card.licence.notice}")
        for label, file in _labelled(card):
            try:
                print(f"{label}: {fetch(file, card.folder, every_process=True)}")
            except InputError as error:
                failed = True
                print(f"{label}: {error}", file=sys.stderr)
    return int(failed)


def _verify(cards: Sequence[Card], missing_is_fine: bool) -> int:
    wrong = False
    for card in cards:
        for label, file in _labelled(card):
            path = card.folder / file.name
            if not path.is_file():
                wrong |= not missing_is_fine
                print(f"{label}: missing, {path}")
                continue
            try:
                check(file, path)
                print(
                    f"{label}: right, its SHA-256 is the one {'of its card' if file.sha256 else 'recorded beside it'}"
                )
            except InputError as error:
                wrong = True
                print(f"{label}: wrong, {error}")
    return int(wrong)


def _labelled(card: Card) -> Iterator[tuple[str, CardFile]]:
    for key, file in card.files.items():
        yield f"{card.name}, {key}", file
