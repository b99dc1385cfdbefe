# SPDX-License-Identifier: GPL-2.0-only
"""The completion for bash, made of the parser."""

import argparse

from . import NAME


def subparsers(top: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    action = next(a for a in top._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def options_of(sub: argparse.ArgumentParser) -> list[str]:
    return [option for action in sub._actions for option in action.option_strings]


def completion(top: argparse.ArgumentParser) -> str:
    """A function for bash: subcommands, the options of each, and programs or files where they stand."""
    subs = subparsers(top)
    cases = [f"\t{name}) words='{' '.join(options_of(sub))}' ;;" for name, sub in subs.items() if name != "run"]
    return "\n".join([
        f"# bash completion for {NAME}, printed by '{NAME} completion'",
        f"_{NAME}() {{",
        "\tlocal word=${COMP_WORDS[COMP_CWORD]} words",
        "\tCOMPREPLY=()",
        "\tcase $COMP_CWORD,${COMP_WORDS[1]} in",
        f"\t1,*) words='{' '.join([*subs, *options_of(top)])}' ;;",
        "\t*,run) mapfile -t COMPREPLY < <(compgen -c -- \"$word\"); return ;;",
        *(case.replace("\t", "\t*,", 1) for case in cases),
        "\tesac",
        "\t[[ $COMP_CWORD != 1 && $word != -* ]] || mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")",
        "}",
        f"complete -o default -F _{NAME} {NAME}",
        "",
    ])
