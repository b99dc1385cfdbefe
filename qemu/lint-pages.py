#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Checks the Markdown pages below the directory that is given, and what they say of files.

* No line is wider than 120 columns; README.md has at most 150 lines.
* Links lead to files and headings that are there.
* rust/README.md names each source of rust/, and none that is not there, in the layer that rust/main.rs says; where it says
  `file.rs:function`, the file has that function. selftests/README.md names each test program, and qemu/README.md each script.
* The newest tag in CHANGELOG.md is the version of the module, of anon_rmap-run and of the command.
"""

import pathlib
import re
import runpy
import sys

COLUMNS = 120
README_LINES = 150

top = pathlib.Path(sys.argv[1])
wrong = []


def pages():
    return sorted(p for p in top.rglob("*.md") if not {"build", "target", ".git"} & set(p.relative_to(top).parts))


def without_code(text):
    """The text with code blocks and code in lines left out."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M))


def anchors(text):
    """What the headings can be linked by."""
    headings = re.findall(r"^#+ +(.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def check_lines(page, text):
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            wrong.append(f"{page}:{number}: {len(line)} columns, more than {COLUMNS}")
    if str(page) == "README.md" and len(lines) > README_LINES:
        wrong.append(f"{page}: {len(lines)} lines, more than {README_LINES}")


def check_links(page, text):
    for link in re.findall(r"\]\(([^)\s]*)\)", without_code(text)):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (top / page).parent / name if name else top / page
        if not target.exists():
            wrong.append(f"{page}: a link to {link}, which is not there")
        elif anchor and anchor not in anchors(target.read_text()):
            wrong.append(f"{page}: a link to {link}, where there is no such heading")


def check_source_map(page, text):
    rust = top / "rust"
    named = set(re.findall(r"`([\w/]+\.(?:rs|c|h))\b", text))
    there = {str(p.relative_to(rust)) for suffix in ("rs", "c", "h") for p in rust.rglob(f"*.{suffix}")}
    wrong.extend(f"{page}: does not name {name}" for name in sorted(there - named))
    wrong.extend(f"{page}: names {name}, which is not there" for name in sorted(named - there))
    for name, function in re.findall(r"`([\w/]+\.(?:rs|c)):(\w+)`", text):
        definition = rf"\bfn {function}\b" if name.endswith(".rs") else rf"\b{function}\("
        if name in there and not re.search(definition, (rust / name).read_text()):
            wrong.append(f"{page}: {name} has no function {function}")


def check_layers(page, text):
    sys.path.insert(0, str(top / "selftests/host"))
    right = runpy.run_path(str(top / "selftests/host/layers"))["Crate"](top).layers
    layer = None
    for number, files in re.findall(r"^\|(?: (\d+))? \| (`.*?`) \|", text, re.M):
        layer = int(number or layer)
        for name in re.findall(r"`([\w/]+)\.", files):
            if right.get(name.split("/")[0]) != layer:
                wrong.append(f"{page}: {name} is not in layer {layer}")


def check_names(page, text, names):
    wrong.extend(f"{page}: does not name {name}" for name in sorted(names) if not re.search(rf"`{re.escape(name)}\b", text))


def check_version():
    tag = re.search(r"^## v(\S+)", (top / "CHANGELOG.md").read_text(), re.M)
    version = re.search(r'b"version=([^\\"]*)', (top / "rust/main.rs").read_text())
    if not tag or not version or tag[1] != version[1]:
        wrong.append(f"CHANGELOG.md: the newest tag is {tag and tag[0][3:]}, rust/main.rs has {version and version[1]}")
    for name, line in (("preload/anon_rmap-run", r"^version=(.*)"), ("command/anon_rmap_command/__init__.py", r'^VERSION = "(.*)"')):
        tool = re.search(line, (top / "selftests" / name).read_text(), re.M)
        if not tag or not tool or tag[1] != tool[1]:
            wrong.append(f"CHANGELOG.md: the newest tag is {tag and tag[0][3:]}, {name} has {tool and tool[1]}")


for path in pages():
    page, text = path.relative_to(top), path.read_text()
    check_lines(page, text)
    check_links(page, text)
    if str(page) == "rust/README.md":
        check_source_map(page, text)
        check_layers(page, text)
    if str(page) == "selftests/README.md":
        check_names(page, text, {p.stem for p in (top / "selftests").glob("*.c")})
    if str(page) == "qemu/README.md":
        check_names(page, text, {p.name for p in (top / "qemu").iterdir() if p.is_file() and p.suffix != ".md"})
check_version()

print("\n".join(wrong) or "ok")
sys.exit(bool(wrong))
