# SPDX-License-Identifier: GPL-2.0-only
"""A program that dies of a memory failure within a transaction leaves its SQLite database as it was before that."""

import signal
import sqlite3
import subprocess
import sys

ROWS = 1000

PROGRAM = f"""
import sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("CREATE TABLE numbers (n INTEGER PRIMARY KEY, text TEXT)")
database.executemany("INSERT INTO numbers VALUES (?, ?)", ((n, "%0200d" % n) for n in range({ROWS})))
database.commit()
print("committed", flush=True)
sys.stdin.readline()
database.execute("UPDATE numbers SET text = 'changed'")
print("changed", flush=True)
sys.stdin.readline()
database.commit()
print("committed", flush=True)
"""


def test_a_transaction_that_memory_ends_has_not_been(poison, tmp_path):
    file = str(tmp_path / "database")
    program = poison.start(sys.executable, "-c", PROGRAM, file, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert program.stdout.readline() == "committed\n"
    program.stdin.write("\n")
    program.stdin.flush()
    assert program.stdout.readline() == "changed\n"

    for region in poison.regions(program):
        if region["present"]:
            poison(program, int(region["start"], 16), end=int(region["end"], 16))
    program.stdin.write("\n")
    program.stdin.close()
    assert program.wait(60) == -signal.SIGBUS
    assert program.stdout.read() == ""

    database = sqlite3.connect(file)
    assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert database.execute("SELECT count(*), count(DISTINCT text) FROM numbers").fetchone() == (ROWS, ROWS)
