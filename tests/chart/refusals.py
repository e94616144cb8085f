"""Values that must be refused, and with which words: the path of the fault and what to write instead."""

import json

from common import CHART, HELMS, HERE, ROOT, in_parallel, load, template

TABLE = HERE / "bad-values.yaml"
SCHEMA = CHART / "values.schema.json"
KEYS = ROOT / "tests" / "guards" / "every-key.json"
MINIMUM = 40
ABSENT = "absent: "
# Levels whose keys are not the chart's: a parent chart's, Kubernetes', librdkafka's, and the provider's.
FREE = {"global", "settings.kafka.properties", "settings.kafka.secret_properties", "settings.sources"}
FREE_SUFFIXES = (".require_headers", ".options")


def said(text):
    """A message of Helm without its line breaks, which depend on its width, and without its escapes."""
    return " ".join(text.split()).replace("\\'", "'")


def refused(case):
    """What is wrong with the chart's answer to (helm, name, base, values, words that it must have)."""
    helm, name, base, values, wanted = case
    files = [CHART / "ci" / f"{base}-values.yaml"] if base else []
    answer = template(helm, *files, values)
    if not answer.returncode:
        return f"{helm}: {name}: is not refused"
    missing = [words for words in wanted if words not in said(answer.stderr)]
    return f"{helm}: {name}: does not say {missing}, but: {said(answer.stderr)[:500]}" if missing else None


def refusals(counts):
    """Both Helms refuse each entry of TABLE with its words."""
    table = load(TABLE.read_text())
    names = [case["name"] for case in table]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{TABLE.name}: {name} stands there twice"
    counts["bad_values"] = len(table)
    if len(table) < MINIMUM:
        yield f"{TABLE.name}: {len(table)} bad values, and {MINIMUM} are promised"
    cases = [
        (helm, case["name"], case.get("base", "minimal"), case["values"], (case["path"], case["mend"]))
        for case in table
        for helm in HELMS
    ]
    yield from filter(None, in_parallel(refused, cases))


def put(values, path, value):
    """Puts a value at a path of a mapping; `[]` is the first entry of a list."""
    here = values
    for key, below in zip(path, [*path[1:], None]):
        empty = value if below is None else [{}] if below == "[]" else {}
        here = here[0] if key == "[]" else here.setdefault(key, empty)


def at_once(name, values, wanted):
    """Both Helms refuse all of the values in one answer, with a line for each."""
    for helm in HELMS:
        answer = template(helm, CHART / "ci" / "minimal-values.yaml", values)
        if not answer.returncode:
            yield f"{helm}: {name}: nothing is refused"
            continue
        lines = [said(line) for line in answer.stderr.splitlines()]
        for words in wanted:
            if not any(all(word in line for word in words) for line in lines):
                yield f"{helm}: {name}: no line of the answer has {' and '.join(words)}"


def renamed(schema, whole, path=()):
    """Each key that the schema has for its message alone: its path, and the message."""
    if "$ref" in schema:
        schema = whole["definitions"][schema["$ref"].rsplit("/", 1)[-1]]
    if str(schema.get("const", "")).startswith(ABSENT):
        yield path, schema["const"]
    for key, each in schema.get("properties", {}).items():
        yield from renamed(each, whole, (*path, key))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from renamed(schema["additionalProperties"], whole, (*path, "flock-prod"))
    if isinstance(schema.get("items"), dict):
        yield from renamed(schema["items"], whole, (*path, "[]"))


def place(path):
    return "at '" + "".join(f"/{0 if key == '[]' else key}" for key in path) + "'"


def old_keys(counts):
    """Every removed or renamed key is refused with its path and with what to write instead."""
    whole = json.loads(SCHEMA.read_text())
    found = list(renamed(whole, whole))
    counts["renamed_keys"] = len(found)
    values = {}
    for path, _ in found:
        put(values, path, "x")
    yield from at_once("renamed keys", values, [(place(path), message) for path, message in found])


def levels(value, path=()):
    """Each mapping below a value with its path."""
    if isinstance(value, dict):
        yield path, value
        for key, each in value.items():
            yield from levels(each, (*path, key))


def closed(counts):
    """An unknown key is refused at each level of the values, and at each level of the settings."""
    values = load((CHART / "values.yaml").read_text())
    settings = {"settings": json.loads(KEYS.read_text())}
    # A mapping that is empty by default is one of Kubernetes', such as nodeSelector, or is in the settings.
    found = {path for path, mapping in levels(values) if mapping and path}
    found |= {path for path, _ in levels(settings) if path}
    # One source stands for all.
    found = {path for path in found if path[:2] != ("settings", "sources") or path[2:3] == ("flock-prod",)}
    found = {path for path in found if ".".join(path) not in FREE | OF_KUBERNETES}
    found = {
        path for path in found if not ".".join(path).endswith(FREE_SUFFIXES) and not inside_kubernetes(path)
    }
    found.add(())
    counts["closed_levels"] = len(found)
    values = {}
    for path in found:
        put(values, (*path, "noSuchKey"), "x")
    yield from at_once("an unknown key", values, [(place(path) + ":", "noSuchKey") for path in sorted(found)])


# Mappings that values.yaml fills, and that are objects of Kubernetes: the API server knows their keys.
OF_KUBERNETES = {
    f"{prefix}{name}"
    for prefix in ("", "ingest.", "processor.", "checkJob.", "sluicectl.", "drain.")
    for name in (
        "podSecurityContext",
        "containerSecurityContext",
        "resources",
        "startupProbe",
        "livenessProbe",
        "readinessProbe",
        "autoscaling.behavior",
        "certificate.privateKey",
    )
} | {"monitoring.dashboards.labels", "monitoring.dashboards.instanceSelector"}


def inside_kubernetes(path):
    return any(".".join(path[:end]) in OF_KUBERNETES for end in range(1, len(path)))
