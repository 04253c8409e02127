"""``completion``: a script that completes verbs, actions and options in a shell, written by shtab."""

import argparse

from jsonargparse import Namespace

from amed_lightning.cli.parsers import ACTIONS, PARSERS


def run(options: Namespace) -> int:
    """Print the script."""
    import shtab  # an extra

    print(shtab.complete(_whole(), options.shell))
    return 0


def _whole() -> argparse.ArgumentParser:
    """Return one plain parser of all verbs."""
    whole = argparse.ArgumentParser("amed-lightning")
    whole.add_argument("--version", action="store_true")
    whole.add_argument("--offline", action="store_true")
    verbs = whole.add_subparsers()
    fellows = {}
    for command in PARSERS:
        verb, _, action = command.partition(" ")
        if action and verb not in fellows:
            _copy(f"{verb} {ACTIONS[verb][0]}", parser := verbs.add_parser(verb, help=verb))
            fellows[verb] = parser.add_subparsers()
        _copy(command, (fellows[verb] if action else verbs).add_parser(action or verb, help=command))
    return whole


def _copy(command: str, parser: argparse.ArgumentParser) -> None:
    """Give a parser the options of a command."""
    for action in PARSERS[command](command)._actions:
        if action.option_strings and action.dest != "help" and action.help != argparse.SUPPRESS:
            parser.add_argument(*action.option_strings, help=(action.help or "").replace("%", "%%"))
