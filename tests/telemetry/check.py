"""Checks dashboards, alerts and runbooks against each other and against what the services export.

Usage: check.py PROMTOOL TYPES, where TYPES is a folder in which npm installed tests/telemetry/types. Prints
one line for each fault and ends with 1 where there is one.
"""

import json
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

import dashboards
import exported
import queries

ROOT = Path(__file__).parent.parent.parent
ALERTS = sorted((ROOT / "helm" / "alerts").glob("*.yaml"))
TESTS = sorted((ROOT / "tests" / "telemetry" / "alerts").glob("*.yaml"))
RUNBOOKS = ROOT / "docs" / "runbooks"
ZERO = ROOT / "tests" / "telemetry" / "zero-by-design.txt"

# Families that no dashboard and no alert asks for, and why.
UNUSED = {
    "sluice_build": "a label of the release, for queries by hand",
    "sluice_kafka_queue_bytes": "next to sluice_kafka_queue_records, for queries by hand",
    "sluice_ingest_tls_reload_failures_total": "is in sluice_reload_failures_total",
    "sluice_secret_reload_failures_total": "is in sluice_reload_failures_total",
    "sluice_settings_reload_failures_total": "is in sluice_reload_failures_total",
}
# Labels of Prometheus itself, of its scrapes.
SCRAPED = {"job", "instance"}
# What Prometheus makes of a scrape and of alerts.
BUILT_IN = {"up": SCRAPED, "ALERTS": {"alertname", "alertstate", "severity"}}
# They hide an absent series.
FORBIDDEN = [re.compile(r"\bor\s+vector\s*\("), re.compile(r"\bor\s+on\s*\(")]
SELECTOR = re.compile(r"\b(sluice(?:[_:]\w+)+|traces_span_metrics_\w+|up|ALERTS)\b(?:\s*\{([^}]*)\})?")
GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def rules():
    """Every rule of helm/alerts with its file."""
    for path in ALERTS:
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield path, rule


def expressions():
    """Every expression with the place where it stands."""
    for name in dashboards.NAMES:
        for panel, query in queries.of(queries.load(name)):
            yield f"{name} / {panel['title']}", query
    for path, rule in rules():
        yield f"{path.name} / {rule.get('alert', rule.get('record'))}", rule["expr"]


def names():
    """Metrics and labels that are not exported; expressions that hide an absent series."""
    known = {name: labels | SCRAPED for name, (_, labels) in exported.exported().items()} | BUILT_IN
    # A recorded series may have any label that its rule keeps.
    every = set().union(*known.values()) | {"burn"}
    known |= {rule["record"]: every for _, rule in rules() if "record" in rule}
    for place, text in expressions():
        if any(pattern.search(text) for pattern in FORBIDDEN):
            yield f"{place}: hides an absent series by `or vector(` or `or on(`"
        # Strings aside, for they may hold anything.
        bare = re.sub(r'"[^"]*"', '""', text)
        labels = set()
        for name, matchers in SELECTOR.findall(GROUPING.sub("", bare)):
            if name not in known:
                yield f"{place}: {name} is not exported"
                continue
            labels |= known[name]
            for label in re.findall(r"(\w+)\s*(?:=|!=)", matchers):
                if label not in known[name]:
                    yield f"{place}: {name} has no label {label}"
        for group in GROUPING.findall(bare):
            for label in re.findall(r"\w+", group):
                if label not in labels:
                    yield f"{place}: no metric of it has the label {label}"


def used():
    """Families that nothing asks for and that are not excused: a renamed metric is never overlooked."""
    asked = {name for _, text in expressions() for name, _ in SELECTOR.findall(text)}
    for name, (kind, _) in exported.exported().items():
        family = {name}
        if kind == "histogram":
            stem = re.sub(r"_(bucket|sum|count)$", "", name)
            family = {f"{stem}_bucket", f"{stem}_sum", f"{stem}_count"}
        if not family & asked and name not in UNUSED:
            yield f"{name}: exported, and no dashboard or alert asks for it"
        if name in UNUSED and family & asked:
            yield f"{name}: check.py calls it unused, and it is used"
    for name in UNUSED.keys() - exported.exported().keys():
        yield f"{name}: check.py calls it unused, and it is not exported"


def panels():
    """Panels without unit or description, with a fixed data source, or with a title that is there twice."""
    for name in dashboards.NAMES:
        seen = set()
        for panel in queries.load(name)["panels"]:
            title = f"{name} / {panel['title']}"
            if title in seen:
                yield f"{title}: there twice"
            seen.add(title)
            if panel["type"] == "row":
                continue
            if not re.search(r"\.$", panel.get("description", "")):
                yield f"{title}: no description, or no sentence"
            if panel["datasource"]["type"] == "prometheus" and "unit" not in panel["fieldConfig"]["defaults"]:
                yield f"{title}: no unit"
            for target in panel["targets"]:
                if target["datasource"]["uid"] not in ["${datasource}", "${tempo}"]:
                    yield f"{title}: names a data source"


def zero():
    """Lines of the list of panels that are zero by design without a panel, or not in docs/dashboards.md."""
    document = (ROOT / "docs" / "dashboards.md").read_text()
    titles = {f"{name} / {panel['title']}" for name in dashboards.NAMES for panel in queries.load(name)["panels"]}
    for title, provocation in queries.zero_by_design(ZERO):
        if title not in titles:
            yield f"zero-by-design.txt: no panel {title}"
        name, _, panel = title.partition(" / ")
        if f"| {name.capitalize()}: {panel} | {provocation} |" not in document:
            yield f"docs/dashboards.md has no row for {title}"
        if not provocation:
            yield f"zero-by-design.txt: no provocation for {title}"


def alerts():
    """Alerts without label, annotation, runbook or test; runbooks without alert."""
    tests = [test["name"] for path in TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    found = set()
    for path, rule in rules():
        if "alert" not in rule:
            continue
        name = rule["alert"]
        found.add(name)
        if rule.get("labels", {}).get("severity") not in ["page", "ticket"]:
            yield f"{path.name} / {name}: severity is neither page nor ticket"
        for key in ["summary", "description"]:
            if not rule.get("annotations", {}).get(key):
                yield f"{path.name} / {name}: no {key}"
        if rule.get("annotations", {}).get("runbook_url") != f"docs/runbooks/{name}.md":
            yield f"{path.name} / {name}: runbook_url is not docs/runbooks/{name}.md"
    books = {path.stem: path for path in RUNBOOKS.glob("*.md")}
    yield from (f"{name}: no docs/runbooks/{name}.md" for name in sorted(found - books.keys()))
    yield from (f"docs/runbooks/{name}.md: no such alert" for name in sorted(books.keys() - found))
    for name in sorted(found & books.keys()):
        text = books[name].read_text()
        for part in ["**Symptom.**", "**Meaning.**", "**First command.**", "**Mend.**"]:
            if part not in text:
                yield f"docs/runbooks/{name}.md: no {part}"
    for name in sorted(found):
        for what in ["fires", "silent"]:
            if not any(re.match(rf"{what}: {name}\b", test) for test in tests):
                yield f"{name}: no test that is named \"{what}: {name}\""


def documents():
    """Metrics that a runbook names, whole or by their beginning, and that are not exported."""
    known = set(exported.exported()) | {name.rpartition("_")[0] for name in exported.exported()}
    for path in [*RUNBOOKS.glob("*.md"), ROOT / "docs" / "dashboards.md"]:
        for name in set(re.findall(r"\bsluice_\w+", path.read_text())):
            if not any(one.startswith(name) for one in known):
                yield f"{path.name}: {name} is not exported"


def sdk():
    """What Grafana's own SDK loses or changes when it reads and writes a dashboard."""

    def compare(here, there, place):
        if isinstance(here, dict):
            for key, value in here.items():
                if not isinstance(there, dict) or key not in there:
                    yield f"{place}/{key}: unknown to the SDK"
                else:
                    yield from compare(value, there[key], f"{place}/{key}")
        elif isinstance(here, list) and isinstance(there, list) and len(here) == len(there):
            for index, (one, other) in enumerate(zip(here, there)):
                yield from compare(one, other, f"{place}[{index}]")
        elif here != there:
            yield f"{place}: {here!r} becomes {there!r}"

    for name in dashboards.NAMES:
        raw = queries.load(name)
        again = json.loads(json.dumps(Dashboard.from_json(raw), cls=JSONEncoder))
        yield from compare(raw, again, f"{name}.json")


def run(*command, cwd=None):
    """Each line of a command that fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).splitlines()
        yield from [line for line in lines if line.strip()] or [f"{command[0]} ended with {done.returncode}"]


def types(folder):
    """What the compiler says of the dashboards as values of Grafana's type."""
    with tempfile.TemporaryDirectory(dir=folder) as made:
        source = ROOT / "tests" / "telemetry" / "types" / "dashboard.ts"
        Path(made, "dashboard.ts").write_text(source.read_text())
        for name in dashboards.NAMES:
            text = (dashboards.TARGET / f"{name}.json").read_text()
            head = 'import type { DashboardJson } from "./dashboard";\nexport const d: DashboardJson = '
            Path(made, f"{name}.ts").write_text(f"{head}{text};\n")
        tsc = str(Path(folder, "node_modules", ".bin", "tsc"))
        options = "--noEmit --skipLibCheck --strict --module esnext --target es2022 --moduleResolution bundler"
        files = [f"{name}.ts" for name in dashboards.NAMES]
        yield from run(tsc, *options.split(), *files, cwd=made)


def promtool(tool):
    """What promtool says of the rules and of the panels' expressions."""
    yield from run(tool, "check", "rules", *map(str, ALERTS))
    made = []
    for name in dashboards.NAMES:
        for panel, query in queries.of(queries.load(name)):
            made.append({"record": f"check:{name}:{panel['id']}_{len(made)}", "expr": queries.substitute(query)})
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump({"groups": [{"name": "panels", "rules": made}]}, file)
        file.flush()
        yield from run(tool, "check", "rules", file.name)


def stale():
    for name in dashboards.NAMES:
        if (dashboards.TARGET / f"{name}.json").read_text() != dashboards.text(name):
            yield f"helm/dashboards/{name}.json is stale: run make dashboards-json"


def main():
    tool, folder = sys.argv[1:]
    tests = [partial(run, tool, "test", "rules", str(path)) for path in TESTS]
    checks = [*tests, partial(types, folder), partial(promtool, tool), stale, names, used, panels, zero]
    checks += [alerts, documents, sdk]
    with ThreadPoolExecutor() as pool:
        faults = [fault for found in pool.map(lambda check: list(check()), checks) for fault in found]
    if faults:
        sys.exit("\n".join(faults))
    counted = sum(1 for _ in expressions())
    found = sum(1 for _, rule in rules() if "alert" in rule)
    print(f"{counted} expressions, {found} rules of alerts and their tests: no fault", file=sys.stderr)


if __name__ == "__main__":
    main()
