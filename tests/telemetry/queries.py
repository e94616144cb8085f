"""The queries of the dashboards' JSON, as a Prometheus takes them."""

import json
import re
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "helm" / "dashboards"
NAMES = ["overview", "source", "engine", "traces"]


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def of(dashboard):
    """Each panel with each of its expressions in PromQL."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            if "expr" in target:
                yield panel, target["expr"]


def substitute(expression, source="codes", interval="1m", span="1h"):
    """The expression with Grafana's variables replaced."""
    values = {"__rate_interval": interval, "__interval": interval, "__range": span, "source": source}
    made = re.sub(r"\$(?:(\w+)|\{(\w+)\})", lambda found: values[found.group(1) or found.group(2)], expression)
    return made


def query_range(address, expression, start, end, step):
    """The series of an expression over a time, each with its labels and its values."""
    fields = {"query": expression, "start": start, "end": end, "step": step}
    data = urllib.parse.urlencode(fields).encode()
    with urllib.request.urlopen(f"{address.rstrip('/')}/api/v1/query_range", data, timeout=60) as answer:
        return json.load(answer)["data"]["result"]


def zero_by_design(path):
    """Each line of the list: the panel, as `dashboard / title`, and what moves it."""
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            title, _, provocation = line.partition(": ")
            yield title, provocation.strip()
