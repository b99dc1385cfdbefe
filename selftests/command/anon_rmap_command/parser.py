# SPDX-License-Identifier: GPL-2.0-only
"""What can be asked for, and what is wrong with it."""

import argparse
from typing import NoReturn

from . import NAME, VERSION
from .arguments import address_range, count, number, process_number, rate, region_name, seconds, some_seconds
from .planning import PLANS

# In a trial: they are one command of debugfs.
MOST_PAGES = 10000


class Parser(argparse.ArgumentParser):
    """Says in one sentence what is wrong with how it is used."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{NAME}: {message}; --help says how it is used\n")


def epilog(*examples: str) -> str:
    return "\n".join(["examples:", *(f"  {NAME} {example}" for example in examples)])


def parser() -> Parser:
    top = Parser(NAME, allow_abbrev=False, description="Drills of memory failures in programs on memory of /dev/anon_rmap.",
                 epilog="Exit status: 0; 1 if it failed; 2 if it was used wrongly. Numbers are decimal, or hexadecimal with 0x.")
    top.add_argument("--version", action="version", version=f"{NAME} {VERSION}")
    commands = top.add_subparsers(dest="command", metavar="SUBCOMMAND", title="subcommands")

    def add(name: str, help_: str, *examples: str, with_json: bool = True) -> Parser:
        sub = commands.add_parser(name, help=help_, description=f"{help_[0].upper()}{help_[1:]}.", epilog=epilog(*examples),
                                  allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
        if with_json:
            sub.add_argument("--json", action="store_true", help="print JSON; the manual page names the fields")
        return sub

    sub = add("run", "run a program on memory of the device, as anon_rmap-run does; its --help is shown by --help",
              "run -- redis-server --port 6379", with_json=False)
    sub.add_argument("arguments", nargs=argparse.REMAINDER, metavar="[OPTION]... [--] COMMAND [ARGUMENT]...")

    for name, help_ in (("attach", "move the anonymous memory of a running program onto the device"),
                        ("detach", "move a program's memory of the device back to anonymous memory")):
        sub = add(name, f"{help_}; its content and its addresses stay", f"{name} 138", f"{name} 138 --dry-run")
        sub.add_argument("pid", type=process_number, metavar="PID", help="a process, or any thread of it")
        sub.add_argument("--dry-run", action="store_true", help="only say what would be moved; it is stopped for that, too")

    sub = add("list", "show who maps the device: which regions, what is beside them, pages present and poisoned",
              "list", "list 138")
    sub.add_argument("pid", nargs="*", type=process_number, metavar="PID", help="only these processes")

    sub = add("poison", "let pages fail; says where, and who was hit",
              "poison 138 0x7f2932015000", "poison 138 --random 3 --seed 1", "poison 138 --range 0x7f2932000000-0x7f2932200000",
              "poison --pfn 0x52b3 --keep")
    add_place(sub)
    sub.add_argument("--range", type=address_range, metavar="START-END", help="each good page of PID in there that was touched")
    sub.add_argument("--random", type=count, metavar="N", help="N good pages of PID, chosen by chance")
    sub.add_argument("--seed", type=number, metavar="S", help="with --random: choose as S did before; said if it is not given")
    modes = sub.add_mutually_exclusive_group()
    modes.add_argument("--keep", action="store_true", help="the page fails and stays mapped")
    modes.add_argument("--touched", action="store_true", help="only if somebody has touched the page, not in advance")
    modes.add_argument("--soft", action="store_true", help="soft offline: what is in the frame moves to another")
    modes.add_argument("--hard", action="store_true", help="as if the hardware had failed: can't be undone")

    sub = add("dry-run", "show who would be hit; nothing changes", "dry-run 138 0x7f2932015000")
    add_place(sub)

    sub = add("undo", "give back what has failed, with its content",
              "undo 138", "undo 138 0x7f2932015000", "undo --all")
    add_place(sub, "all that has failed of it")
    sub.add_argument("--all", action="store_true", help="all of everybody, and frames of soft offlines")

    sub = add("watch", "print each event as it happens, until interrupted", "watch", "watch --json --past")
    sub.add_argument("--past", action="store_true", help="begin with what the journal has already")

    sub = add("record", "write each failure of a process to a file, until interrupted or the process ends",
              "record drill.json 138")
    sub.add_argument("file", metavar="FILE", help="is overwritten")
    sub.add_argument("pid", type=process_number, metavar="PID")
    sub.add_argument("--past", action="store_true", help="begin with what the journal has already")

    sub = add("replay", "let the recorded pages of a process fail: all of them, or none", "replay drill.json 172")
    sub.add_argument("file", metavar="FILE", help="what record has written")
    sub.add_argument("pid", type=process_number, metavar="PID")

    sub = add("drill", "start a program again and again, let pages of it fail, and report what becomes of it",
              "drill --seed 1 --trials 200 -- sort /etc/services",
              "drill --ready 'redis-cli ping' --check 'redis-cli --scan' -- redis-server", "drill --attach -- ./static",
              "drill --resume")
    add_drill(sub)

    add("completion", "print the completion for bash", "completion >/etc/bash_completion.d/anon_rmap", with_json=False)
    return top


def add_drill(sub: argparse.ArgumentParser) -> None:
    # Of those that are not given, settings_from() knows.
    sub.add_argument("--trials", type=count, default=20, metavar="N", help="how often (20)")
    sub.add_argument("--seed", type=number, metavar="S", help="choose pages as S did before; said if it is not given")
    sub.add_argument("--plan", choices=PLANS, default="random", help="which pages fail, and when (random)")
    sub.add_argument("--pages", type=count, metavar="N", help="how many in a trial (1; in a burst 8, with --rate 10)")
    sub.add_argument("--rate", type=rate, metavar="R", help="so many a second, not all at once")
    sub.add_argument("--where", type=region_name, action="append", metavar="heap|stack|all|REGION",
                     help="only there (all); can be given several times")
    sub.add_argument("--attach", action="store_true", help="start it as it is, and attach when it is ready: static, Go, ...")
    sub.add_argument("--ready", metavar="COMMAND", help="pages fail when this succeeds, for the shell")
    sub.add_argument("--delay", type=seconds, default=1.0, metavar="SECONDS", help="or so long after the start (1)")
    sub.add_argument("--check", metavar="COMMAND", help="whether the program is right then, for the shell")
    sub.add_argument("--timeout", type=some_seconds, default=60.0, metavar="SECONDS", help="for each wait (60)")
    sub.add_argument("--output", metavar="DIR", help="where the trials and the reports go (anon_rmap-drill)")
    sub.add_argument("--resume", action="store_true", help="go on with the campaign there")
    sub.add_argument("--trial", type=number, metavar="N", help="only this one, and write nothing; with --output, one of there")
    sub.add_argument("arguments", nargs=argparse.REMAINDER, metavar="[--] PROGRAM [ARGUMENT]...")


def add_place(sub: argparse.ArgumentParser, alone: str = "") -> None:
    of_alone = f"; without ADDRESS {alone}" if alone else ""
    sub.add_argument("pid", nargs="?", type=process_number, metavar="PID", help=f"a process, or any thread of it{of_alone}")
    sub.add_argument("address", nargs="?", type=number, metavar="ADDRESS", help="the page at this address of it")
    sub.add_argument("--pfn", type=number, metavar="PFN", help="the page in this frame")


def check_places(args: argparse.Namespace) -> str | None:
    """What is wrong with a choice of pages."""
    if args.command not in ("poison", "dry-run", "undo"):
        return None
    extra = {"poison": ("range", "random"), "undo": ("all",)}.get(args.command, ())
    ways = [f"--{way}" for way in extra if getattr(args, way) not in (None, False)]
    has_pid = args.pid is not None
    ways += ["--pfn"] if args.pfn is not None else []
    ways += ["ADDRESS"] if args.address is not None else []
    ways += ["PID"] if has_pid and args.command == "undo" and not ways else []
    if not ways:
        choices = {"poison": "PID with ADDRESS, --range or --random", "undo": "PID, --all"}.get(args.command, "PID ADDRESS")
        return f"say which page: {choices}, or --pfn"
    if len(ways) > 1 or (has_pid and ways[0] in ("--pfn", "--all")):
        return f"{' and '.join(ways) if len(ways) > 1 else f'PID and {ways[0]}'} are two ways to say which pages: take one"
    if not has_pid and ways[0] in ("--range", "--random"):
        return f"{ways[0]} needs a PID"
    return check_modes(args, ways[0]) if args.command == "poison" else None


def check_drill(args: argparse.Namespace) -> str | None:
    """What is wrong with a campaign."""
    has_program = bool([word for word in args.arguments[:2] if word != "--"])
    if args.resume and args.trial is not None:
        return "--resume and --trial are two things to do: take one"
    if args.resume or (args.trial is not None and args.output):
        return "the campaign has its program already: give none, but --output" if has_program else None
    if not has_program:
        return "say which program: drill [OPTION]... -- PROGRAM [ARGUMENT]..."
    if args.trial is not None and args.seed is None:
        return "--trial needs the --seed that its pages were chosen by, or the --output that has it"
    if args.pages and args.pages > MOST_PAGES:
        return f"--pages {args.pages} are too many: at most {MOST_PAGES}"
    return None


def check_usage(args: argparse.Namespace) -> str | None:
    """What is wrong with what was asked for, that no single argument shows."""
    return check_drill(args) if args.command == "drill" else check_places(args)


def check_modes(args: argparse.Namespace, way: str) -> str | None:
    if args.seed is not None and way != "--random":
        return "--seed is only for --random"
    modes = ("keep", "touched", "soft", "hard")
    takes = {"--random": (), "--range": ("keep",), "--pfn": ("keep", "soft", "hard")}.get(way, modes)
    for mode in modes:
        if getattr(args, mode) and mode not in takes:
            return f"--{mode} can't be had with {way}"
    return None
