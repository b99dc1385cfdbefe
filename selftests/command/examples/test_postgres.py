# SPDX-License-Identifier: GPL-2.0-only
"""PostgreSQL has lost nothing that was committed when memory of one of its backends fails, and gives no wrong answer."""

import glob
import os
import pwd
import shutil
import subprocess
import time

import pytest

ROWS = 20000


class Cluster:
    """A cluster of databases in a folder of its own, which belongs to the user postgres: the server refuses to be root."""

    def __init__(self, folder: str) -> None:
        self.programs = max(glob.glob("/usr/lib/postgresql/*/bin"))
        self.folder = folder
        user = pwd.getpwnam("postgres")
        os.mkdir(folder, 0o700)
        os.chown(folder, user.pw_uid, user.pw_gid)
        self.as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
        self.data = os.path.join(folder, "data")
        subprocess.run([*self.as_user, f"{self.programs}/initdb", "--no-sync", "--auth=trust", "-D", self.data], check=True,
                       stdout=subprocess.DEVNULL)

    def server(self) -> list[str]:
        return [f"{self.programs}/postgres", "-D", self.data, "-k", self.folder, "-c", "listen_addresses="]

    def psql(self) -> list[str]:
        return [*self.as_user, f"{self.programs}/psql", "-h", self.folder, "-qAtX", "postgres"]

    def ask(self, query: str) -> str | None:
        """The answer; None if there is none."""
        done = subprocess.run([*self.psql(), "-c", query], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else None


@pytest.mark.skipif(not glob.glob("/usr/lib/postgresql/*/bin/initdb"), reason="PostgreSQL is not there")
def test_postgres_loses_nothing_that_was_committed(poison):
    # Not below pytest's own folder, which nobody else may enter.
    folder = f"/tmp/anon_rmap-postgres.{os.getpid()}"
    try:
        cluster = Cluster(folder)
        servers = []

        def ask(query: str) -> str:
            """The answer, however long it takes; whoever has shared a page that failed can have died, too."""
            deadline = time.monotonic() + 240
            while (answer := cluster.ask(query)) is None:
                assert time.monotonic() < deadline, "the server does not come back"
                if not servers or servers[-1].poll() is not None:
                    assert len(servers) < 10, "the server does not start"
                    servers.append(poison.start(*cluster.server(), user="postgres", group="postgres", extra_groups=[],
                                                stderr=subprocess.DEVNULL))
                time.sleep(0.5)
            return answer

        total = str(sum(range(ROWS)))
        ask("SELECT 1")
        assert cluster.ask(f"CREATE TABLE numbers AS SELECT generate_series(0, {ROWS - 1}) AS n") == ""
        assert ask("SELECT sum(n) FROM numbers") == total

        client = subprocess.Popen(cluster.psql(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        client.stdin.write("SELECT pg_backend_pid();\n")
        client.stdin.flush()
        backend = int(client.stdout.readline())
        failed = [page for region in poison.regions(backend) if region["present"]
                  for page in poison(backend, int(region["start"], 16), end=int(region["end"], 16))]
        assert failed
        answer, _ = client.communicate("SELECT sum(n) FROM numbers;\n", timeout=240)
        assert answer.strip() in ("", total)
        assert ask("SELECT sum(n) FROM numbers") == total
    finally:
        poison.close()
        shutil.rmtree(folder, ignore_errors=True)
