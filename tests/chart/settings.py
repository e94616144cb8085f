"""The settings that the chart renders: the services accept them, with the pod's files, and every key is there."""

import json
import re
import subprocess
import tempfile
from pathlib import Path

from common import (
    BINARIES,
    CACHE,
    CHART,
    RELEASE,
    ROOT,
    command,
    load,
    load_all,
    rendered,
    template,
    values_files,
)

KEYS = ROOT / "tests" / "guards" / "every-key.json"
# Keys of that file that are no settings any more: the test that reads it names them.
REMOVED = re.findall(
    r'"(\w+)"', (ROOT / "tests" / "guards" / "faults.rs").read_text().split("= [", 1)[1].split("]", 1)[0]
)
DOCUMENTED = ROOT / "docs" / "settings.yaml"
CONFIG, SECRETS = "/etc/sluice/config", "/etc/sluice/secrets"
# One value that serves as a secret of every provider, a password and a user's name.
SECRET = "whsec_c2x1aWNlLWNoYXJ0LXRlc3Qtc2VjcmV0LTAxMjM0NTY3ODk="
# Keys that the chart owns: it refuses a value that is not its own.
OWNED = (("processor", "member"), ("ingest", "spool", "dir"))
SPOOL = "/var/lib/sluice/spool"
WORKLOADS = ("Deployment", "StatefulSet", "Job")


def leaves(value, path=()):
    """Each leaf with its path; an empty mapping is one."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from leaves(each, (*path, key))
    else:
        yield path, value


def settings_of(documents, pod=None):
    """The text of the settings that a pod reads, or else of the ConfigMap; None if they are not ours."""
    maps = {
        each["metadata"]["name"]: each.get("data", {}) for each in documents if each["kind"] == "ConfigMap"
    }
    if pod is None:
        [name] = [name for name in maps if name.endswith("-settings")]
        return maps[name]["settings.yaml"]
    [name] = [volume["configMap"]["name"] for volume in pod["volumes"] if volume["name"] == "config"]
    words = " ".join(pod["containers"][0].get("args", []))
    file = re.search(rf"{CONFIG}/(\S+)", words)
    return maps[name][file[1] if file else "settings.yaml"] if name in maps else None


def certificate():
    """A certificate and its key, made once: files that a service parses at --check."""
    folder = CACHE / "chart-home"
    folder.mkdir(parents=True, exist_ok=True)
    pair = folder / "tls.crt", folder / "tls.key"
    if not all(path.exists() for path in pair):
        words = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]
        words += ["-days", "3650", "-subj", "/CN=chart", "-out", pair[0], "-keyout", pair[1]]
        subprocess.run(words, check=True, capture_output=True)
    return [path.read_text() for path in pair]


def content(name):
    """What a secret file of that name may hold."""
    public, private = certificate()
    if re.search(r"(\.crt|\.pem|\.cer)$|(^|[-_.])ca$", name):
        return public
    if name.endswith(".key"):
        return private
    if "header" in name:
        return "authorization: Bearer " + SECRET
    return SECRET


def files(pod, settings):
    """The names of the files that a pod sees as secrets: its items, and those of Secrets that it mounts whole."""
    names = {
        mount["name"]
        for container in pod["containers"]
        for mount in container.get("volumeMounts", [])
        if mount["mountPath"] == SECRETS
    }
    named, whole = set(), False
    for volume in pod.get("volumes", []):
        for source in volume.get("projected", {}).get("sources", []) if volume["name"] in names else []:
            items = next(iter(source.values())).get("items")
            whole = whole or not items
            named |= {item["path"] for item in items or []}
    # A Secret without items may hold any file that the settings name.
    return named | (wanted(settings) if whole else set())


def wanted(settings):
    """The files under SECRETS that the settings name: by their name, or by their path."""
    kafka, registry, telemetry = (
        settings.get(key) or {} for key in ("kafka", "schema_registry", "telemetry")
    )
    names = [
        *(kafka.get("secret_properties") or {}).values(),
        *map(str, (kafka.get("properties") or {}).values()),
    ]
    names = [
        name for name in names if name in (kafka.get("secret_properties") or {}).values() or SECRETS in name
    ]
    names += [registry.get(key) for key in ("password_file", "ca_file")]
    names += [telemetry.get(key) for key in ("otlp_headers_file", "otlp_ca_file")]
    names += ((settings.get("ingest") or {}).get("tls") or {}).values()
    for source in settings["sources"].values():
        secrets = source.get("secrets") or []
        names += [each["name"] if isinstance(each, dict) else each for each in secrets]
        names += [source.get("client_ca_file")]
        names += (source.get("options") or {}).get("webhook_url_files", [])
    return {name.removeprefix(SECRETS + "/") for name in names if name}


def pods(documents):
    """Each pod that runs one of the services, with its object's name."""
    for document in documents:
        pod = (
            document.get("spec", {}).get("template", {}).get("spec")
            if document["kind"] in WORKLOADS
            else None
        )
        [command] = pod["containers"][0]["command"] if pod else [""]
        if command.startswith("/usr/bin/sluice-"):
            yield document["metadata"]["name"], command.removeprefix("/usr/bin/"), pod


def accepted(counts):
    """Each service accepts the settings of every values file, with no more secrets than its pod mounts."""
    counts["settings_checked"] = 0
    if not (BINARIES / "sluice-ingest").exists():
        raise SystemExit(f"{BINARIES} has no sluice-ingest: cargo build, or make chart without run.py alone")
    for values in values_files():
        documents = rendered(values)
        for name, program, pod in pods(documents):
            text = settings_of(documents, pod)
            if text is None:
                continue
            with tempfile.TemporaryDirectory(prefix="sluice-chart-") as folder:
                secrets = Path(folder) / "secrets"
                for file in files(pod, load(text)):
                    (secrets / file).parent.mkdir(parents=True, exist_ok=True)
                    (secrets / file).write_text(content(file))
                file = Path(folder) / "settings.yaml"
                file.write_text(text.replace(SECRETS, str(secrets)))
                answer = command(
                    BINARIES / program, "--config", file, "--check", env={"SLUICE_MEMBER": "hooks.shop-0"}
                )
            counts["settings_checked"] += 1
            if answer.returncode:
                yield f"{values.name}: {name}: {program} --check: {(answer.stderr + answer.stdout).strip()}"


def apart(counts):
    """No pod but the processor's and the operator's mounts a Secret of the providers."""
    counts["providers_apart"] = 0
    for values in values_files():
        given = load(values.read_text()).get("secrets", {}).get("providers", [])
        names = {
            entry.get("secret") or f"{RELEASE}-sluice-{entry['externalSecret']['name']}" for entry in given
        }
        for document in rendered(values):
            template = document.get("spec", {}).get("template", {}) if document["kind"] in WORKLOADS else {}
            held = {name for name in names if name in json.dumps(template)}
            if held and "/usr/bin/sluice-ingest" in json.dumps(template):
                yield f"{values.name}: {document['kind']} {document['metadata']['name']} mounts {', '.join(held)}"
            counts["providers_apart"] += len(held)
    if not counts["providers_apart"]:
        yield "no pod mounts a Secret of the providers: this check sees nothing"


def every(counts):
    """Each leaf of the settings can be set from values, and arrives in the ConfigMap as it is."""
    wanted = json.loads(KEYS.read_text())
    owned = {
        path: wanted[path[0]][path[1]] if len(path) == 2 else wanted[path[0]][path[1]][path[2]]
        for path in OWNED
    }
    del wanted["processor"]["member"]
    wanted["ingest"]["spool"]["dir"] = SPOOL
    for key in REMOVED:
        del wanted["ingest"]["limits"][key]
    groups = ("providers", "registry", "ingest", "processor", "operator")
    secrets = {group: [{"secret": group}] for group in groups}
    answer = template("helm4", {"settings": wanted, "secrets": secrets})
    if answer.returncode:
        yield f"every known key at once: {answer.stderr.strip()}"
        return
    arrived = dict(leaves(load(settings_of(load_all(answer.stdout)))))
    for path, value in leaves(wanted):
        if path not in arrived:
            yield f"settings.{'.'.join(path)}: does not arrive in the ConfigMap"
        elif arrived[path] != value:
            yield f"settings.{'.'.join(path)}: {value!r} arrives as {arrived[path]!r}"
    for path, value in owned.items():
        words = [CHART / "ci" / "minimal-values.yaml", "--set-string", f"settings.{'.'.join(path)}={value}"]
        answer = template("helm4", words[0], words=words[1:])
        if not answer.returncode or f"settings.{'.'.join(path)}: " not in answer.stderr:
            yield f"settings.{'.'.join(path)}: is the chart's own, and {value!r} is not refused: {answer.stderr.strip()}"
    known = {path for path, _ in leaves(wanted)} | set(owned)
    for path, _ in leaves(load(DOCUMENTED.read_text())):
        if path[0] != "sources" and not any(path == other[: len(path)] for other in known):
            yield f"settings.{'.'.join(path)}: stands in docs/settings.yaml and not in {KEYS.name}"
    counts["settings"] = len(known)
