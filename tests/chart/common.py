"""What the checks of the chart share: places, commands, the chart's values files and rendered documents."""

import functools
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CACHE = ROOT / ".cache"
TOOLS = CACHE / "chart-bin"
SCHEMAS = CACHE / "chart-schemas"
PROMTOOL = CACHE / "prometheus-2.42" / "promtool"
CHART = ROOT / "helm"
BINARIES = Path(os.environ.get("SLUICE_BINARIES", ROOT / "target" / "debug"))
RELEASE, NAMESPACE = "shop", "hooks"
HELMS = ("helm4", "helm3")
# A release that clusters keep for long, one that most have, and the newest with a schema.
KUBERNETES = ("1.30", "1.34", "1.37")
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"
WORKERS = 2

# Helm reads and writes its settings in the user's folders; a check must not depend on what stands there.
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith(("HELM_", "KUBE"))}
HOME = CACHE / "chart-home"
ENVIRONMENT |= {f"HELM_{name}_HOME": str(HOME / name.lower()) for name in ("CACHE", "CONFIG", "DATA")}


class Loader(yaml.CSafeLoader):
    """YAML as Kubernetes reads it: a key that stands twice is a fault, `=` is a text."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                text = f"the key {key.value} stands twice"
                raise yaml.constructor.ConstructorError(None, None, text, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: node.value)


def load(text):
    return yaml.load(text, Loader)


def load_all(text):
    return [document for document in yaml.load_all(text, Loader) if document is not None]


def command(*words, **options):
    """Runs a tool of .cache/chart-bin or a program, and returns what it printed with its status."""
    first = TOOLS / str(words[0])
    words = [str(first) if first.exists() else str(words[0]), *map(str, words[1:])]
    options = {"env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 300} | options
    return subprocess.run(words, check=False, **options)


def values_files():
    return sorted((CHART / "ci").glob("*-values.yaml"))


def name_of(path):
    return path.name.removesuffix("-values.yaml")


def template(helm, *values, kubernetes=KUBERNETES[1], chart=CHART, words=(), **options):
    """`helm template` under values files or, where one is a mapping, under its YAML on standard input."""
    arguments = [helm, "template", RELEASE, chart, "--namespace", NAMESPACE]
    arguments += ["--kube-version", f"{kubernetes}.0"]
    for value in values:
        if isinstance(value, dict):
            options["input"] = json.dumps(value)
            value = "-"
        arguments += ["--values", value]
    return command(*arguments, *words, **options)


@functools.cache
def output(values, kubernetes, helm="helm4"):
    """What the chart renders under a values file; a chart that does not render ends the run."""
    answer = template(helm, values, kubernetes=kubernetes)
    if answer.returncode:
        raise SystemExit(f"{helm} template, {values.name}, Kubernetes {kubernetes}: {answer.stderr.strip()}")
    return answer.stdout


def rendered(values, kubernetes=KUBERNETES[1]):
    """The documents that the chart renders, fresh for each caller: they may be changed."""
    return load_all(output(values, kubernetes))


def in_parallel(function, items):
    """What the function returns for each item, in their order, by WORKERS threads."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(function, items))


def say(text):
    print(text, file=sys.stderr, flush=True)
