"""Breaks the templates, line by line, and asks whether the unit tests notice.

A mutant is one of: a line that is not there; a key that is not there with all that stands under it (block); a
condition or loop that is not there, while what it guards is; the same with what it guards (region). What does
not render under the fullest values is no mutant: Helm notices it. What no unit test notices may still change a
snapshot; the counts keep the two apart.
"""

import random
import re
import shutil
import tempfile
import time
from pathlib import Path

from common import CHART, HERE, command, in_parallel, load, load_all, rendered, say, template, values_files

PROMISES = HERE / "promises.yaml"
SURVIVORS = HERE / "survivors.yaml"
UNIT, SNAPSHOT, NOTHING, NO_MUTANT, LATE = "unit", "snapshot", "nothing", "no mutant", "late"
OPENS = re.compile(r"\{\{-?\s*(if|range|with|define|block)\b")
ENDS = re.compile(r"\{\{-?\s*end\b")
# A line that is only one of these cannot go alone: nothing would render.
BRACKET = re.compile(r"\{\{-?\s*(end|else\b[^}]*|define\b[^}]*)\s*-?\}\}$")


def indent(line):
    return len(line) - len(line.lstrip())


def block(lines, at):
    """The end of what stands under a line: the lines after it that are indented deeper."""
    end = at + 1
    while end < len(lines) and (not lines[end].strip() or indent(lines[end]) > indent(lines[at])):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    return end


def closing(lines, at):
    """The line that ends a condition, if it has no other branch and both stand on lines of their own."""
    depth = 0
    for number in range(at, len(lines)):
        depth += len(OPENS.findall(lines[number])) - len(ENDS.findall(lines[number]))
        if depth == 1 and number > at and re.search(r"\{\{-?\s*else\b", lines[number]):
            return None
        if depth == 0:
            return number if number > at else None
    return None


def mutants(lines):
    """Every mutant of a template: what it is, where, and the lines that are left."""
    comment = False
    for at, line in enumerate(lines):
        stripped = line.strip()
        starts = re.match(r"\{\{-?\s*/\*", stripped)
        comment = comment or bool(starts)
        if comment:
            comment = "*/" not in stripped
            continue
        if not stripped or stripped.startswith("#") or BRACKET.match(stripped):
            continue
        if re.match(r"\{\{-?\s*(if|with|range)\b", stripped) and not ENDS.search(stripped):
            if (end := closing(lines, at)) is not None:
                yield "condition", at, lines[:at] + lines[at + 1 : end] + lines[end + 1 :]
                yield "region", at, lines[:at] + lines[end + 1 :]
            continue
        yield "line", at, lines[:at] + lines[at + 1 :]
        end = block(lines, at)
        if end > at + 1 and not stripped.startswith("{{"):
            yield "block", at, lines[:at] + lines[end:]


class Copy:
    """A copy of the chart in which one template is changed at a time."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-chart-")
        self.chart = Path(self.folder.name) / "sluice"
        shutil.copytree(CHART, self.chart)

    def noticed(self, file, lines, suites):
        """UNIT, SNAPSHOT or NOTHING notices the change; or it is NO_MUTANT, for the chart does not render."""
        path = self.chart / file
        before = path.read_text()
        path.write_text("\n".join(lines) + "\n")
        try:
            # One suite after the other, for most mutants are noticed by the first.
            noticed = any(
                command("helm-unittest", "--failfast", "-f", suite, self.chart).returncode for suite in suites
            )
            values = CHART / "ci" / "full-values.yaml"
            if noticed:
                return NO_MUTANT if template("helm4", values, chart=self.chart).returncode else UNIT
            return SNAPSHOT if self.changed() else NOTHING
        finally:
            path.write_text(before)

    def changed(self):
        """Whether the chart renders something else than it did under one of the values files."""
        for values in values_files():
            answer = template("helm4", values, chart=self.chart)
            if answer.returncode or load_all(answer.stdout) != rendered(values):
                return True
        return False

    def close(self):
        self.folder.cleanup()


def judged(cases, until=None):
    """For each (file, lines, suites) what notices it, on as many copies as there are workers.

    LATE stands for what was not tried by the time given.
    """
    free = []

    def one(case):
        if until and time.monotonic() > until:
            return LATE
        copy = free.pop() if free else Copy()
        try:
            return copy.noticed(*case)
        finally:
            free.append(copy)

    try:
        return in_parallel(one, cases)
    finally:
        for copy in free:
            copy.close()


def broken(lines, promise):
    """The lines without the one of the promise, or None if there is no such line."""
    found = [at for at, line in enumerate(lines) if line.strip() == promise["line"]]
    if not found:
        return None
    wanted = promise.get("also", "line")
    return next((rest for kind, at, rest in mutants(lines) if kind == wanted and at == found[0]), None)


def promises(counts):
    """The lines on which a promise rests: without each, a unit test of the suite named fails."""
    cases, names = [], []
    for file, each in load(PROMISES.read_text()).items():
        lines = (CHART / file).read_text().splitlines()
        for promise in each:
            rest = broken(lines, promise)
            if rest is None:
                wanted = f"{promise.get('also', 'line')} at {promise['line']!r}"
                yield f"{PROMISES.name}: {file} has no {wanted}"
                continue
            cases.append((file, rest, [f"tests/{promise['suite']}_test.yaml"]))
            names.append(f"{file}: {promise['promise']}: {promise['line']}")
    noticed = judged(cases)
    counts["mutants"], counts["mutants_caught"] = len(cases), noticed.count(UNIT)
    for name, result in zip(names, noticed):
        if result == NO_MUTANT:
            yield f"{name}: without its line the chart does not render, so this proves nothing"
        elif result != UNIT:
            yield f"{name}: without its line no unit test fails"


def suites_for(file):
    """All suites, those first that name the template, and short ones before long ones."""
    found = [
        (file not in path.read_text(), path.stat().st_size, path.name)
        for path in CHART.glob("tests/*_test.yaml")
    ]
    return [f"tests/{name}" for _, _, name in sorted(found)]


def every(counts, minutes=45):
    """Every mutant of every template; what survives must stand in SURVIVORS with its reason."""
    cases, names = [], []
    for path in sorted((CHART / "templates").rglob("*")):
        if path.suffix not in (".yaml", ".tpl"):
            continue
        file = str(path.relative_to(CHART))
        lines = path.read_text().splitlines()
        suites = suites_for(file)
        for kind, at, rest in mutants(lines):
            cases.append((file, rest, suites))
            names.append((file, kind, at + 1, lines[at].strip()))
    # In an order of no meaning, so that a run that is cut short has tried some of everything.
    order = random.Random(1).sample(range(len(cases)), len(cases))
    cases, names = [cases[at] for at in order], [names[at] for at in order]
    say(f"{len(cases)} mutants")
    noticed = judged(cases, time.monotonic() + 60 * minutes)
    counts["mutants"] = sum(noticed.count(result) for result in (UNIT, SNAPSHOT, NOTHING))
    counts["mutants_caught"], counts["mutants_in_snapshots"] = noticed.count(UNIT), noticed.count(SNAPSHOT)
    counts["mutants_not_rendering"] = noticed.count(NO_MUTANT)
    for (file, kind, number, line), result in zip(names, noticed):
        if result == SNAPSHOT:
            say(f"{file}:{number}: only a snapshot changes without this {kind}: {line}")
    if late := noticed.count(LATE):
        yield f"{late} mutants were not tried within {minutes} minutes"
    survivors = [name for name, result in zip(names, noticed) if result == NOTHING]
    counts["mutants_excused"] = 0
    excuses = {(each["file"], each["line"]) for each in load(SURVIVORS.read_text()) or []}
    for file, kind, number, line in survivors:
        if (file, line) in excuses:
            counts["mutants_excused"] += 1
        else:
            yield f"{file}:{number}: nothing fails without this {kind}: {line}"
    for file, line in sorted(excuses - {(file, line) for file, _, _, line in survivors}):
        yield f"{SURVIVORS.name}: {file}: {line}: this mutant is caught or gone"
