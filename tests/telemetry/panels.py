"""Asks a Prometheus each query of each panel and prints what came as JSON.

panels.py ADDRESS START END [--step 5] [--source NAME] [--interval 30s] [--quiet START END]

START and END are seconds since 1970. For each dashboard, panel and query: how many series, how many samples that
are numbers, whether a value is above 0, whether a series moves. With --quiet the panels are also asked about a
time without traffic, and a panel that moves in neither, nor between them, must stand in zero-by-design.txt.
Ends with 1 where a query returns no data, or where a panel stands still and is not in that list.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import queries

ZERO = Path(__file__).parent / "zero-by-design.txt"


def look(series):
    """What the series of a query show."""
    values = [[float(value) for _, value in one["values"]] for one in series]
    numbers = [[value for value in one if math.isfinite(value)] for one in values]
    return {
        "series": len(series),
        "samples": sum(len(one) for one in numbers),
        "positive": any(value > 0 for one in numbers for value in one),
        "moved": any(max(one) != min(one) for one in numbers if one),
        "levels": sorted({one[-1] for one in numbers if one}),
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("start", type=float)
    parser.add_argument("end", type=float)
    parser.add_argument("--step", type=float, default=5)
    parser.add_argument("--source", default="codes")
    parser.add_argument("--interval", default="30s")
    parser.add_argument("--quiet", type=float, nargs=2)
    options = parser.parse_args()
    designed = {title for title, _ in queries.zero_by_design(ZERO)}
    report, faults = [], []
    for name in queries.NAMES:
        still = {}
        for panel, query in queries.of(queries.load(name)):
            span = f"{max(1, int(options.end - options.start))}s"
            asked = queries.substitute(query, options.source, options.interval, span)

            def seen(start, end):
                return look(queries.query_range(options.address, asked, start, end, options.step))

            found = seen(options.start, options.end)
            title = f"{name} / {panel['title']}"
            moved = found["moved"]
            if options.quiet:
                found["quiet"] = seen(*options.quiet)
                moved = moved or found["quiet"]["moved"] or found["levels"] != found["quiet"]["levels"]
            still[title] = still.get(title, True) and not moved
            report.append({"dashboard": name, "panel": panel["title"], "query": query, **found})
            if found["series"] == 0:
                faults.append(f"{title}: no data: {asked}")
        if options.quiet:
            faults.extend(f"{title}: stands still" for title in still if still[title] and title not in designed)
    json.dump({"queries": report, "faults": faults}, sys.stdout, indent=1)
    print()
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
