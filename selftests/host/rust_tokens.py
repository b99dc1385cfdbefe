# SPDX-License-Identifier: GPL-2.0-only
"""What a Rust source is made of, as far as layers and unsafe_share want to know."""

import re

TOKEN = re.compile(
    r"""(?P<skip>
        //[^\n]* | /\*.*?\*/
        | b?r(?P<hash>\#*)".*?"(?P=hash) | [bc]?"(?:\\.|[^"\\])*"
        | b?'(?:\\.[^']*|[^'\\\n])' | '\w+  # a character, or a lifetime
    )
    | [A-Za-z_]\w* | :: | \S""",
    re.S | re.X,
)


def tokens(text):
    """(line, token) of the code, without comments and strings."""
    line, position = 1, 0
    found = []
    for match in TOKEN.finditer(text):
        line += text.count("\n", position, match.start())
        position = match.start()
        if match["skip"] is None:
            found.append((line, match[0]))
    return found
