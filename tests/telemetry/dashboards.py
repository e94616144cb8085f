"""Makes helm/dashboards/*.json of tests/telemetry/dashboards/*.yaml.

The YAML has what a person decides: titles, queries, units, thresholds, and what a bad value means. The
rest of what Grafana needs is here. Without arguments it writes the files; --check fails where they differ.
"""

import json
import sys
import urllib.parse
from pathlib import Path

import yaml

from queries import NAMES

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TARGET = ROOT / "helm" / "dashboards"

PROMETHEUS = {"type": "prometheus", "uid": "${datasource}"}
TEMPO = {"type": "tempo", "uid": "${tempo}"}
HEIGHT = 8


def variables(names):
    """The variables at the top: the two data sources, and the source where a dashboard is about one."""

    def datasource(name, label, kind):
        return {
            "name": name,
            "label": label,
            "type": "datasource",
            "query": kind,
            "hide": 0,
            "includeAll": False,
            "multi": False,
            "options": [],
            "refresh": 1,
            "regex": "",
            "skipUrlSync": False,
        }

    found = [datasource("datasource", "Prometheus", "prometheus"), datasource("tempo", "Tempo", "tempo")]
    if "source" in names:
        query = "label_values(sluice_ingest_requests_total, source)"
        found.append(
            {
                "name": "source",
                "label": "Source",
                "type": "query",
                "datasource": PROMETHEUS,
                "query": {"query": query, "refId": "Source"},
                    "hide": 0,
                "includeAll": False,
                "multi": False,
                "options": [],
                "refresh": 2,
                "regex": "",
                "skipUrlSync": False,
                "sort": 1,
            }
        )
    return found


def link(search):
    """A link that opens a search in Tempo, over the time of the dashboard."""
    panes = {
        "a": {
            "datasource": "${tempo}",
            "queries": [{**traceql(search), "refId": "A"}],
            "range": {"from": "${__from}", "to": "${__to}"},
        }
    }
    text = urllib.parse.quote(json.dumps(panes, separators=(",", ":")), safe="${}")
    return {"title": search["title"], "url": f"/explore?schemaVersion=1&orgId=1&panes={text}", "targetBlank": True}


def traceql(search):
    return {
        "datasource": TEMPO,
        "queryType": "traceql",
        "query": search["query"],
        "limit": 20,
        "tableType": "traces",
    }


def target(index, query, panel, instant):
    return {
        "refId": chr(ord("A") + index),
        "datasource": PROMETHEUS,
        "editorMode": "code",
        "expr": query["expr"],
        "legendFormat": query["legend"],
        "exemplar": panel.get("exemplars", False),
        "instant": instant,
        "range": not instant,
    }


def panel(spec, number, place, searches):
    made = {
        "id": number,
        "title": spec["title"],
        "description": spec["text"],
        "gridPos": place,
    }
    kind = spec.get("type", "timeseries")
    if kind == "traces":
        return {
            **made,
            "type": "table",
            "datasource": TEMPO,
            "fieldConfig": {"defaults": {}, "overrides": []},
            "options": {"showHeader": True, "cellHeight": "sm"},
            "targets": [{"refId": "A", **traceql(searches[spec["traceql"]])}],
        }
    steps = spec.get("thresholds", [[None, "green"]])
    defaults = {
        "unit": spec["unit"],
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in steps],
        },
        "links": [link(searches[name]) for name in spec.get("links", [])],
    }
    for bound in ["min", "max"]:
        if bound in spec:
            defaults[bound] = spec[bound]
    if "zero" in spec:
        defaults["mappings"] = [{"type": "value", "options": {"0": {"text": spec["zero"], "index": 0}}}]
    overrides = []
    if kind == "stat":
        defaults["color"] = {"mode": "thresholds"}
        options = {
            "colorMode": "value",
            "graphMode": "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "value_and_name",
        }
    else:
        defaults["color"] = {"mode": "palette-classic"}
        stacked = spec.get("stack", False)
        defaults["custom"] = {
            "drawStyle": "line",
            "fillOpacity": 30 if stacked else 0,
            "lineWidth": 1,
            "showPoints": "never",
            "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
            "thresholdsStyle": {"mode": "dashed" if "thresholds" in spec else "off"},
        }
        options = {
            "legend": {"calcs": ["lastNotNull"], "displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
        if "line" in spec:
            overrides.append(
                {
                    "matcher": {"id": "byName", "options": spec["line"]},
                    "properties": [
                        {"id": "custom.stacking", "value": {"group": "A", "mode": "none"}},
                        {"id": "custom.fillOpacity", "value": 0},
                        {"id": "custom.lineWidth", "value": 3},
                    ],
                }
            )
    return {
        **made,
        "type": kind,
        "datasource": PROMETHEUS,
        "fieldConfig": {"defaults": defaults, "overrides": overrides},
        "options": options,
        "targets": [target(index, query, spec, kind == "stat") for index, query in enumerate(spec["queries"])],
    }


def dashboard(name):
    """One dashboard, as Grafana reads it."""
    spec = yaml.safe_load((HERE / "dashboards" / f"{name}.yaml").read_text())
    searches = yaml.safe_load((HERE / "dashboards" / "traceql.yaml").read_text())
    panels, number, y = [], 0, 0
    for row in spec["rows"]:
        number += 1
        place = {"h": 1, "w": 24, "x": 0, "y": y}
        panels.append(
            {"id": number, "type": "row", "title": row["title"], "collapsed": False, "gridPos": place, "panels": []}
        )
        y, x = y + 1, 0
        for one in row["panels"]:
            number += 1
            if x + one["width"] > 24:
                y, x = y + HEIGHT, 0
            place = {"h": HEIGHT, "w": one["width"], "x": x, "y": y}
            x += one["width"]
            panels.append(panel(one, number, place, searches))
        y += HEIGHT
    return {
        "uid": spec["uid"],
        "title": spec["title"],
        "description": spec["description"],
        "tags": ["sluice"],
        "schemaVersion": 41,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "timezone": "browser",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": variables(spec.get("variables", []))},
        "annotations": {"list": []},
        "links": [
            {
                "title": "Sluice",
                "type": "dashboards",
                "tags": ["sluice"],
                "asDropdown": False,
                "icon": "external link",
                "includeVars": True,
                "keepTime": True,
                "targetBlank": False,
                "tooltip": "",
                "url": "",
            }
        ],
        "panels": panels,
    }


def text(name):
    return json.dumps(dashboard(name), indent=2, ensure_ascii=False) + "\n"


def main():
    stale = []
    for name in NAMES:
        path = TARGET / f"{name}.json"
        made = text(name)
        if "--check" not in sys.argv:
            path.write_text(made)
        elif not path.exists() or path.read_text() != made:
            stale.append(path.name)
    if stale:
        sys.exit(f"stale, run tests/telemetry/dashboards.py: {', '.join(stale)}")


if __name__ == "__main__":
    main()
