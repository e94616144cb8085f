"""The rendered objects against schemas, Prometheus' rules, kube-score, and the README against the values."""

import copy
import json
import tempfile
from pathlib import Path

import yaml

from common import (
    CHART,
    HERE,
    KUBERNETES,
    PROMTOOL,
    SCHEMAS,
    UPDATE,
    command,
    in_parallel,
    load,
    rendered,
    values_files,
)

LOCATIONS = (
    f"{SCHEMAS}/kubernetes/{{{{.NormalizedKubernetesVersion}}}}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json",
    f"{SCHEMAS}/{{{{.Group}}}}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json",
)
CONTROL = "control"
EXCUSES = HERE / "kube-score.yaml"
# kube-score's grade of a finding that is critical.
CRITICAL = 1
OF_KUBERNETES = ("v1", "apps/v1", "batch/v1", "policy/v1", "networking.k8s.io/v1", "autoscaling/v2")


def conforms(kubernetes, documents):
    """kubeconform's answer for documents: its counts, and a line for each that is not valid."""
    words = [
        "kubeconform",
        "-strict",
        "-summary",
        "-output",
        "json",
        "-kubernetes-version",
        f"{kubernetes}.0",
    ]
    for location in LOCATIONS:
        words += ["-schema-location", location]
    answer = command(*words, input=yaml.dump_all(documents, Dumper=yaml.CSafeDumper))
    try:
        answer = json.loads(answer.stdout)
    except ValueError:
        raise SystemExit(f"kubeconform: {answer.stderr.strip() or answer.stdout.strip()}") from None
    return answer["summary"], answer.get("resources") or []


def broken(document):
    """The control of a kind: a document with a field that no kind has, in its spec where it has one."""
    document = copy.deepcopy(document)
    document.get("spec", document)["noSuchField"] = "x"
    document["metadata"]["name"] = CONTROL
    return document


def schemas(counts):
    """kubeconform -strict on every Kubernetes version: all valid, none skipped; unknown fields are found."""
    counts["documents"], counts["skipped"], counts["kinds"] = 0, 0, 0
    for kubernetes in KUBERNETES:
        documents = [each for values in values_files() for each in rendered(values, kubernetes)]
        kinds = {(each["apiVersion"], each["kind"]): each for each in documents}
        summary, resources = conforms(kubernetes, [*documents, *map(broken, kinds.values())])
        counts["documents"] += summary["valid"]
        counts["skipped"] += summary["skipped"]
        counts["kinds"] = max(counts["kinds"], len(kinds))
        place = f"Kubernetes {kubernetes}"
        for found in resources:
            if found["name"] != CONTROL:
                yield f"{place}: {found['kind']} {found['name']}: {found['status']}: {found['msg']}"
        if summary["skipped"] or summary["errors"] or summary["valid"] != len(documents):
            yield f"{place}: of {len(documents)} documents {summary}"
        if summary["invalid"] != len(kinds):
            yield f"{place}: an unknown field in each of {len(kinds)} kinds: {summary}"


def rules(counts):
    """promtool takes every rendered PrometheusRule, with as many rules as helm/alerts has."""
    wanted = sum(
        len(group["rules"])
        for path in (CHART / "alerts").glob("*.yaml")
        for group in load(path.read_text())["groups"]
    )
    counts["prometheus_rules"] = 0
    for values in values_files():
        found = [document for document in rendered(values) if document["kind"] == "PrometheusRule"]
        number = 0
        for document in found:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "rules.yaml"
                path.write_text(json.dumps(document["spec"]))
                answer = command(PROMTOOL, "check", "rules", path)
            if answer.returncode:
                yield f"{values.name}: {document['metadata']['name']}: {answer.stdout} {answer.stderr}".strip()
            number += sum(len(group["rules"]) for group in document["spec"]["groups"])
        counts["prometheus_rules"] += number
        if found and number != wanted:
            yield f"{values.name}: {number} rules are rendered, and helm/alerts has {wanted}"
    if not counts["prometheus_rules"]:
        yield "no values file of helm/ci renders a PrometheusRule"


def scored(values):
    """What kube-score calls critical under a values file: the object, the check, and the words."""
    documents = [document for document in rendered(values) if document["apiVersion"] in OF_KUBERNETES]
    words = ["score", "-", "--output-format", "json", "--kubernetes-version", f"v{KUBERNETES[1]}"]
    answer = command("kube-score", *words, input=yaml.dump_all(documents, Dumper=yaml.CSafeDumper))
    try:
        things = json.loads(answer.stdout)
    except ValueError:
        raise SystemExit(f"kube-score, {values.name}: {answer.stderr.strip()}") from None
    checks = [
        (thing, check) for thing in things for check in thing.get("checks") or [] if not check["skipped"]
    ]
    critical = [
        (
            f"{thing['type_meta']['kind']} {thing['object_meta']['name']}",
            check["check"]["id"],
            comment["summary"],
        )
        for thing, check in checks
        for comment in check["comments"] or [{"summary": ""}]
        if check["grade"] <= CRITICAL
    ]
    return values, len(checks), critical, {document["kind"] for document in documents}


def score(counts):
    """kube-score finds nothing critical but what EXCUSES gives a reason for, and every excuse is used."""
    excuses, used = load(EXCUSES.read_text()), set()
    counts["kube_score"], counts["kube_score_excused"] = 0, 0
    for values, checks, critical, kinds in in_parallel(scored, values_files()):
        counts["kube_score"] += checks
        for thing, name, summary in critical:
            found = [
                at
                for at, excuse in enumerate(excuses)
                if (excuse["check"], excuse["summary"]) == (name, summary)
                and excuse.get("without") not in kinds
            ]
            used.update(found)
            counts["kube_score_excused"] += bool(found)
            if not found:
                yield f"{values.name}: {thing}: {name}: {summary}"
    for at, excuse in enumerate(excuses):
        if at not in used:
            yield f"{EXCUSES.name}: {excuse['check']} is excused, and kube-score does not find it"


def readme(counts):
    """The README is what helm-docs writes from the values; UPDATE_GOLDEN=1 writes it."""
    answer = command("helm-docs", "--dry-run", "--chart-search-root", CHART, cwd=CHART)
    if answer.returncode or not answer.stdout:
        yield f"helm-docs: {answer.stderr.strip()}"
        return
    path = CHART / "README.md"
    counts["readme_lines"] = answer.stdout.count("\n")
    if UPDATE:
        path.write_text(answer.stdout)
    elif not path.exists() or path.read_text() != answer.stdout:
        yield "helm/README.md is not what helm-docs makes of values.yaml: UPDATE_GOLDEN=1 make chart writes it"
