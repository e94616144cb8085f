"""The chart under every values file: Helm's own lint, both Helms alike, and snapshots."""

import difflib
import json

import yaml

from common import (
    CHART,
    HELMS,
    HERE,
    KUBERNETES,
    UPDATE,
    command,
    in_parallel,
    load,
    load_all,
    name_of,
    output,
    rendered,
    values_files,
)

SNAPSHOTS = HERE / "snapshots"
ALERTS = {path.name: load(path.read_text())["groups"] for path in sorted((CHART / "alerts").glob("*.yaml"))}
DASHBOARDS = {path.name: path.read_text() for path in sorted((CHART / "dashboards").glob("*.json"))}


def lint(counts):
    """`helm lint --strict` by both Helms under every values file."""

    def one(case):
        helm, values = case
        version = f"{KUBERNETES[1]}.0"
        answer = command(helm, "lint", "--strict", CHART, "--values", values, "--kube-version", version)
        if answer.returncode:
            return f"{helm} lint --strict, {values.name}: {answer.stdout.strip()} {answer.stderr.strip()}"
        return None

    cases = [(helm, values) for helm in HELMS for values in values_files()]
    counts["linted"] = len(cases)
    yield from filter(None, in_parallel(one, cases))


def alike(counts):
    """Both Helms render the same objects, on each version of Kubernetes."""

    def one(case):
        kubernetes, values = case
        first, second = (output(values, kubernetes, helm) for helm in HELMS)
        first, second = (sorted(map(json.dumps, load_all(text))) for text in (first, second))
        if first != second:
            first, second = (yaml.dump_all(map(json.loads, texts)) for texts in (first, second))
            difference = difflib.unified_diff(first.splitlines(), second.splitlines(), *HELMS, n=1)
            return f"{values.name}, Kubernetes {kubernetes}: the Helms differ:\n" + "\n".join(difference)
        return None

    cases = [(kubernetes, values) for kubernetes in KUBERNETES for values in values_files()]
    counts["templates"] = len(cases) * len(HELMS)
    yield from filter(None, in_parallel(one, cases))


class Dumper(yaml.SafeDumper):
    """Block style, texts of several lines as they are read."""

    def ignore_aliases(self, data):
        return True


def text(dumper, value):
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


Dumper.add_representer(str, text)


def named(value):
    """The name of the dashboard that a text is, else the text."""
    found = [name for name, dashboard in DASHBOARDS.items() if value.rstrip("\n") == dashboard.rstrip("\n")]
    return f"helm/dashboards/{found[0]}, as it is" if found else value


def short(document):
    """A document for a snapshot: what is a file of the chart, byte for byte, is named and not repeated."""
    kind = document["kind"]
    if kind == "ConfigMap":
        for key, value in document.get("data", {}).items():
            document["data"][key] = named(value)
    if kind == "GrafanaDashboard":
        document["spec"]["json"] = named(document["spec"]["json"])
    if kind == "PrometheusRule":
        for name, groups in ALERTS.items():
            if document["spec"].get("groups") == groups:
                document["spec"]["groups"] = f"helm/alerts/{name}, as it is"
        if document["spec"].get("groups") == [group for groups in ALERTS.values() for group in groups]:
            document["spec"]["groups"] = f"{', '.join(ALERTS)} of helm/alerts, as they are"
    return document


def snapshots(counts):
    """What each values file renders is what the repository has; UPDATE_GOLDEN=1 writes it."""
    SNAPSHOTS.mkdir(exist_ok=True)
    wanted = {SNAPSHOTS / f"{name_of(values)}.yaml": values for values in values_files()}
    for path in sorted(set(SNAPSHOTS.glob("*.yaml")) - set(wanted)):
        if UPDATE:
            path.unlink()
        else:
            yield f"{path.name}: a snapshot without a values file in helm/ci"
    for path, values in wanted.items():
        documents = map(short, rendered(values))
        now = yaml.dump_all(documents, Dumper=Dumper, sort_keys=False, width=100)
        before = path.read_text() if path.exists() else ""
        if UPDATE:
            path.write_text(now)
        elif now != before:
            yield f"snapshots/{path.name}: the chart renders something else; UPDATE_GOLDEN=1 accepts it:"
            texts = before.splitlines(), now.splitlines()
            yield "\n".join(list(difflib.unified_diff(*texts, "committed", "rendered", n=2))[:60])
    counts["snapshots"] = len(wanted)
