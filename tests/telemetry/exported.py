"""The metrics that both services export, read from schemas/src/metric/*.rs.

Run alone, it prints a line for each: the exposed name, its type, its labels.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FILES = ["ingest.rs", "processor.rs", "service.rs"]

# `Metric::counter("sluice_x", "Help")`, then `.of(Unit::Seconds)` and `.by(&["label"])` to the semicolon.
CONSTANT = re.compile(r'Metric::(counter|gauge|histogram)\(\s*"(\w+)",(.*?);\n', re.S)
UNIT = re.compile(r"\.of\(Unit::(\w+)\)")
LABELS = re.compile(r"\.by\(&\[(.*?)\]\)", re.S)

# What the Collector's span-metrics connector exports, with the dimensions of collector/config.yaml.
SPAN_LABELS = {
    "service_name",
    "span_name",
    "span_kind",
    "status_code",
    "sluice_source",
    "sluice_provider",
    "sluice_fate",
    "sluice_reason",
    "sluice_outcome",
}


def exported():
    """Each exposed sample's name with its kind and the names of its labels."""
    found = {}
    for file in FILES:
        text = (ROOT / "schemas" / "src" / "metric" / file).read_text()
        constants = CONSTANT.findall(text)
        assert constants, f"no metric is found in {file}: did its notation change?"
        for kind, name, rest in constants:
            unit = UNIT.search(rest)
            labels = LABELS.search(rest)
            names = set(re.findall(r'"(\w+)"', labels.group(1))) if labels else set()
            name += f"_{unit.group(1).lower()}" if unit else ""
            if kind == "counter":
                found[f"{name}_total"] = (kind, names)
            elif kind == "gauge":
                found[name] = (kind, names)
            else:
                found[f"{name}_bucket"] = (kind, names | {"le"})
                found[f"{name}_sum"] = found[f"{name}_count"] = (kind, names)
    duration = "traces_span_metrics_duration_milliseconds"
    found["traces_span_metrics_calls_total"] = ("counter", SPAN_LABELS)
    found[f"{duration}_bucket"] = ("histogram", SPAN_LABELS | {"le"})
    found[f"{duration}_sum"] = found[f"{duration}_count"] = ("histogram", SPAN_LABELS)
    return found


if __name__ == "__main__":
    for name, (kind, labels) in sorted(exported().items()):
        print(name, kind, ",".join(sorted(labels)))
