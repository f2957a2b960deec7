# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later
"""What bin/cluster does: a test pool by hand."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys

from pool import Pool
from pool_processes import find_processes
from pool_setup import (
    PoolError,
    PoolUnavailableError,
    hand_directory,
    hold,
    install,
    make_directory,
    pool_directories,
    read_settings,
)

__all__ = ("main",)

USAGE = """\
The pool runs. In a shell that shall use it:

    eval "$(bin/cluster env)"
    condor_q; condor_status; squeue
    bps ping
    bulkcutout submit --site slurm_pool request.yaml    # prints "Run Id: N.0"
    bps report --id N.0
    bps status --id N.0 --hist 1

Its glideins have {cpus} CPUs and {memory_mb} MB each: jobs that ask for more wait for ever.
Logs are below {directory}. End it with: bin/cluster stop
"""


def main(arguments: list[str]) -> int:
    """Run bin/cluster.

    Parameters
    ----------
    arguments
        Those of the command line.

    Returns
    -------
    code
        Exit code: 0 done, 1 failed, 3 no pool runs or none can be installed.
    """
    parser = argparse.ArgumentParser(
        prog="bin/cluster", description="A real HTCondor pool on a real SLURM, on this machine, for tests."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    start = commands.add_parser("start", help="install what is missing, start a pool, add glideins")
    start.add_argument("--glideins", type=int, default=2, metavar="N", help="how many (default 2)")
    commands.add_parser("stop", help="end that pool, and those that broken test sessions left")
    commands.add_parser("status", help="show daemons, glideins and jobs")
    glidein = commands.add_parser("glidein", help="add glideins")
    glidein.add_argument("count", type=int, nargs="?", default=1, help="how many (default 1)")
    glidein.add_argument("--cpus", type=int, help="CPUs of each (default: all of a node)")
    glidein.add_argument("--memory", type=int, metavar="MB", help="of each (default: all of a node)")
    commands.add_parser("env", help="print the exports for a shell that uses the pool")
    execute = commands.add_parser("exec", help="run a command as the pool's user")
    execute.add_argument("words", nargs=argparse.REMAINDER, metavar="COMMAND")
    options = parser.parse_args(arguments)
    pool = Pool(hand_directory())
    try:
        match options.command:
            case "start":
                return _start(pool, options.glideins)
            case "stop":
                return _stop()
            case "status":
                print(pool.describe())
                return 3 if pool.missing_daemons() else 0
        if pool.missing_daemons():
            print("no pool runs: bin/cluster start", file=sys.stderr)
            return 3
        match options.command:
            case "glidein":
                print(*pool.glidein(options.count, options.cpus, options.memory))
            case "env":
                for name, value in pool.exports.items():
                    print(f"export {name}={shlex.quote(value)}")
            case "exec":
                return subprocess.run(pool.as_user(*options.words or ["bash"]), env=pool.env).returncode
    except PoolUnavailableError as reason:
        print(f"no test pool on this machine: {reason}", file=sys.stderr)
        return 3
    except PoolError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _start(pool: Pool, n_glideins: int) -> int:
    install()
    make_directory(pool.directory)
    with hold(pool.directory):
        if pool.missing_daemons():
            pool.start()
        pool.need_glideins(n_glideins)
    size = pool.settings
    print(USAGE.format(directory=pool.directory, cpus=size.cpus, memory_mb=size.memory_mb))
    return 0


def _stop() -> int:
    for directory in pool_directories():
        if not find_processes(directory):
            continue
        try:
            with hold(directory):
                Pool(directory, read_settings(directory)).stop()
                print(f"ended the pool in {directory}")
        except PoolError:
            print(f"left alone, a test session uses it: the pool in {directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
