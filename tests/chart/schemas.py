"""Brings the schemas that kubeconform validates by: Kubernetes' own, and those of custom resources.

Usage: schemas.py FOLDER PACKAGE, where pip put requirements-schemas.txt into PACKAGE. Writes into FOLDER:
  kubernetes/VERSION/KIND-GROUP-VERSION.json, group/KIND_VERSION.json, and crds/NAME.yaml as published.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from common import HERE, KUBERNETES, load_all

PUBLISHED = HERE / "crds.txt"
# Schemas of ours, for kinds whose publisher's files no registry has: each says so.
OURS = HERE / "crds"


def kubernetes(folder, package):
    """The package's schemas, with references that hold from file to file, and no address to fetch from."""
    for version in KUBERNETES:
        found = package / "kubernetes_validate" / "kubernetes-json-schema" / f"v{version}.0-local-strict"
        target = folder / "kubernetes" / f"v{version}.0"
        target.mkdir(parents=True)
        for path in found.glob("*.json"):
            schema = bare(json.loads(path.read_text()))
            schema.pop("$id", None)
            text = json.dumps(schema).replace("/api/_definitions.json#", "_definitions.json#")
            (target / path.name).write_text(text)


def bare(schema, names=False):
    """The schema without its descriptions, which are most of it."""
    if isinstance(schema, list):
        return [bare(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    # Under `properties` and `$defs` the keys are names, and a field may be called description.
    return {
        key: bare(value, not names and key in ("properties", "$defs"))
        for key, value in schema.items()
        if names or key != "description"
    }


def published():
    """The files that PUBLISHED names, fetched by the Go client, which checks them by the checksum there."""
    for line in PUBLISHED.read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        module, version, checksum, *files = line.split()
        answer = subprocess.run(
            ["go", "mod", "download", "-json", f"{module}@{version}"],
            cwd="/",
            check=True,
            capture_output=True,
            text=True,
        )
        got = json.loads(answer.stdout)
        if got["Sum"] != checksum:
            raise SystemExit(
                f"{PUBLISHED.name}: {module} {version} has the checksum {got['Sum']}, not {checksum}"
            )
        for file in files:
            yield Path(got["Dir"]) / file


def strict(schema):
    """What an API server does with an unknown field, as a schema: an object is closed unless it says otherwise."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: strict(value) for key, value in schema.items()}
    if schema.pop("x-kubernetes-int-or-string", False):
        schema.pop("type", None)
        schema.pop("anyOf", None)
        schema["oneOf"] = [{"type": "string"}, {"type": "integer"}]
    properties = schema.get("properties")
    if isinstance(properties, dict) and "type" in schema and schema["type"] == "object":
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    if schema.pop("nullable", False) and isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
    return schema


def custom(folder):
    """One schema for each version of each definition, and the definition for an API server."""
    (folder / "crds").mkdir()
    for path in [*published(), *sorted(OURS.glob("*.yaml"))]:
        for definition in load_all(path.read_text()):
            if definition.get("kind") != "CustomResourceDefinition":
                continue
            spec = definition["spec"]
            (folder / "crds" / f"{definition['metadata']['name']}.json").write_text(json.dumps(definition))
            for version in spec["versions"]:
                schema = strict(bare(version["schema"]["openAPIV3Schema"]))
                # Kubernetes' own part of each object, which a definition does not spell out.
                schema["properties"] |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
                schema["properties"]["metadata"] = {"type": "object"}
                schema["required"] = sorted({*schema.get("required", []), "apiVersion", "kind", "metadata"})
                target = folder / spec["group"]
                target.mkdir(exist_ok=True)
                (target / f"{spec['names']['kind'].lower()}_{version['name']}.json").write_text(
                    json.dumps(schema)
                )


def main():
    folder, package = map(Path, sys.argv[1:])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kubernetes(folder, package)
    custom(folder)


if __name__ == "__main__":
    main()
