"""make chart: every check of the chart, each with its faults, and the counts as one line of JSON.

Usage: run.py [--server | --mutants [MINUTES]] [--only STEP]. Without an option: all that needs no server.
"""

import argparse
import json
import signal
import sys
import time
from functools import partial

import commands
import installs
import mutants
import refusals
import render
import settings
import unit
import validate
from common import say, values_files
from server import Server

SERVER_WITHIN = 600
STEPS = {
    "lint": render.lint,
    "templates": render.alike,
    "snapshots": render.snapshots,
    "schemas": validate.schemas,
    "rules": validate.rules,
    "score": validate.score,
    "readme": validate.readme,
    "settings": settings.accepted,
    "keys": settings.every,
    "apart": settings.apart,
    "commands": commands.taken,
    "refusals": refusals.refusals,
    "renamed": refusals.old_keys,
    "closed": refusals.closed,
    "unit": unit.tests,
    "promises": mutants.promises,
}


def on_a_server(counts):
    """The steps of installs.py, within SERVER_WITHIN; the server ends with them, and with this process."""

    def stop(number, _):
        raise SystemExit(f"the checks on a server were stopped by {signal.Signals(number).name}")

    for number in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(number, stop)
    signal.alarm(SERVER_WITHIN)
    with Server() as server:
        counts["ready_seconds"] = round(server.ready, 1)
        counts["definitions"] = server.install_definitions()
        yield from installs.dry_runs(server, counts)
        yield from installs.all_of_it(server, counts)


def main():
    arguments = argparse.ArgumentParser(
        prog="make chart", description="Checks the chart; ARGS takes the options."
    )
    arguments.add_argument(
        "--server", action="store_true", help="on a real API server, instead of the other steps"
    )
    arguments.add_argument(
        "--mutants",
        type=int,
        nargs="?",
        const=45,
        metavar="MINUTES",
        help="every line of every template, instead of the others, for at most these minutes (45)",
    )
    arguments.add_argument(
        "--only", choices=STEPS, action="append", help="one step; several times for several"
    )
    given = arguments.parse_args()
    steps = {name: STEPS[name] for name in given.only or STEPS}
    if given.server:
        steps = {"server": on_a_server}
    elif given.mutants:
        steps = {"mutants": partial(mutants.every, minutes=given.mutants)}
    counts, faults = {"values_files": len(values_files())}, 0
    began = time.monotonic()
    for name, step in steps.items():
        since = time.monotonic()
        for fault in step(counts):
            faults += 1
            say(f"{name}: {fault}")
        say(f"{name}: {time.monotonic() - since:.1f} s")
    counts |= {"seconds": round(time.monotonic() - began), "faults": faults, "holds": not faults}
    print(json.dumps(counts))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
