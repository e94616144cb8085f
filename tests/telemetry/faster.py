"""Rules in which time runs faster, for trials: faster.py FACTOR FILE [ALERT...] prints the rules of FILE.

Ranges, offsets and `for` are divided by FACTOR and rounded up to whole seconds. Thresholds, also those in
seconds, stay as they are. With names, only these alerts are printed, and no recording rules: names that end in
the window (`rate5m`) stay too.
"""

import math
import re
import sys
from pathlib import Path

import yaml

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
DURATION = r"(\d+)([smhdw])"


def faster(text, factor):
    def scaled(found):
        seconds = int(found.group(2)) * UNITS[found.group(3)]
        return f"{found.group(1)}{math.ceil(seconds / factor)}s"

    return re.sub(rf"(\[|offset ){DURATION}\b", scaled, text)


def main():
    factor, file, *names = sys.argv[1:]
    factor = float(factor)
    groups = []
    for group in yaml.safe_load(Path(file).read_text())["groups"]:
        rules = [rule for rule in group["rules"] if not names or rule.get("alert") in names]
        for rule in rules:
            rule["expr"] = faster(rule["expr"], factor)
            if "for" in rule:
                rule["for"] = faster(f"[{rule['for']}", factor)[1:]
        if rules:
            name = f"{group['name']}-{factor:g}"
            groups.append({"name": name, "interval": "1s", "rules": rules})
    yaml.safe_dump({"groups": groups}, sys.stdout, sort_keys=False, width=1000)


if __name__ == "__main__":
    main()
