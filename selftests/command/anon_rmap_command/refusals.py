# SPDX-License-Identifier: GPL-2.0-only
"""Why debugfs has refused a command: a sentence for each errno, with what was asked for in braces."""

import errno
import os

from . import NAME, Json

# errno has it as of Python 3.14.
EHWPOISON = 133
IN_LIST = f"'{NAME} list' shows who maps it"
REASONS: dict[int, dict[str, str]] = {
    errno.ESRCH: {"": f"there is no process {{pid}}, or it has ended: {IN_LIST}"},
    errno.EFAULT: {"": f"nothing is mapped at {{address}} of process {{pid}}: '{NAME} list {{pid}}' shows what it has"},
    errno.ENXIO: {
        "": f"what process {{pid}} has at {{address}} is not the device's: '{NAME} list {{pid}}' shows what is",
        "frame": f"frame {{pfn}} holds no page of the device: name a page by PID ADDRESS; {IN_LIST}",
        "poison_range": f"process {{pid}} has nothing of the device in {{range}}: '{NAME} list {{pid}}' shows what it has",
        "poison_random": f"process {{pid}} maps nothing of the device: '{NAME} attach {{pid}}' moves it there",
    },
    errno.ENODATA: {
        "": "process {pid} has no page at {address}, as nobody has touched it: let it do so first, or poison it without --keep "
            "and --touched",
        "poison_range": "process {pid} has no pages in {range}, as nobody has touched it: let it do so first",
        "poison_random": f"process {{pid}} has fewer than {{count}} good pages: ask for fewer; '{NAME} list {{pid}}' counts them",
        "replay": "process {pid} has not touched all of the recorded places: let it get as far as it was then",
    },
    errno.EOPNOTSUPP: {"": "the system does not allow soft offlines: set vm.enable_soft_offline and "
                           "vm.memory_failure_recovery to 1"},
    errno.ENOSPC: {"": "no device memory is left: end a process that has some"},
    EHWPOISON: {
        "": f"the page at {{address}} of process {{pid}} has failed already: '{NAME} undo' gives it back",
        "frame": f"the page in frame {{pfn}} has failed already: '{NAME} undo --pfn {{pfn}}' gives it back",
        "poison_range": f"all pages of process {{pid}} in {{range}} have failed already: '{NAME} undo {{pid}}' gives them back",
        "poison_random": f"all pages of process {{pid}} have failed already: '{NAME} undo {{pid}}' gives them back",
        "replay": f"the pages at these places of process {{pid}} have failed already: '{NAME} undo {{pid}}' gives them back",
    },
    errno.E2BIG: {"": "these are more than 65536 pages, the most of one command: take a smaller range, or several"},
    errno.EBUSY: {
        "": "process {pid} is moving this memory: try again",
        "soft_offline": "the page in frame {pfn} is pinned, or being moved: try again later",
        "unpoison_pfn": "the kernel has marked the frame, and somebody still uses what was in it: end who does, and try again",
    },
    errno.ENOENT: {"": f"frame {{pfn}} has not failed: '{NAME} undo --all' finds those that have"},
    errno.EPERM: {"unpoison_pfn": "hardware has failed there, or was said to have (--hard), or somewhere else after the kernel "
                                  "had marked this frame: it stays out of use until the machine is booted again"},
    errno.ENOMEM: {"": "there is not enough memory: try again"},
}
# Those that take a PFN.
OF_FRAMES = {"poison_pfn", "hard_offline", "soft_offline", "unpoison_pfn"}


def refusal(file: str, code: int, asked: Json) -> str:
    """Why `file` has refused a command with that errno."""
    reasons = REASONS.get(code, {})
    by_frame = file in OF_FRAMES or (file == "dry_run" and "pfn" in asked)
    reason = reasons.get(file) or (by_frame and reasons.get("frame")) or reasons.get("")
    if not reason:
        return f"'{file}' of debugfs has refused it: {os.strerror(code)}; rust/debugfs.md says when it does"
    return reason.format_map(asked)
