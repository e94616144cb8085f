"""The chart on a real API server: dry runs, and install, upgrade, rollback and uninstall by both Helms."""

import copy
import subprocess
import time

from common import (
    CHART,
    ENVIRONMENT,
    HELMS,
    RELEASE,
    TOOLS,
    command,
    load_all,
    name_of,
    rendered,
    values_files,
)
from server import Refused

GOLDEN = sorted((CHART / "golden").glob("sluice-*.tgz"))
SERVER_VERSION = "1.36"
HOOK = "helm.sh/hook"
WORKLOADS = ("Deployment", "StatefulSet", "Job")
# With the spool a StatefulSet, without it a Deployment.
KINDS = ("minimal", "no-spool")
COMMAND_WITHIN = 120


def pods(document):
    """The pod that a controller would make of a workload; a claim of a StatefulSet becomes a volume."""
    if document["kind"] not in WORKLOADS:
        return
    spec = document["spec"]
    pod = copy.deepcopy(spec["template"])
    for claim in spec.get("volumeClaimTemplates", []):
        name = claim["metadata"]["name"]
        volume = {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-x-0"}}
        pod["spec"].setdefault("volumes", []).append(volume)
    pod["spec"].setdefault("restartPolicy", "Always")
    metadata = pod.get("metadata", {}) | {"name": document["metadata"]["name"] + "-0"}
    yield {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod["spec"]}


def classes(server, pod, known):
    """Makes the classes of priority and runtime that a pod names, as a cluster's administrator does."""
    name = pod["spec"].get("priorityClassName")
    if name and name not in known:
        meta = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name}}
        server.create(meta | {"value": 1000}, "")
        known.add(name)
    name = pod["spec"].get("runtimeClassName")
    if name and name not in known:
        meta = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": name}}
        server.create(meta | {"handler": "runc"}, "")
        known.add(name)


def dry_runs(server, counts):
    """Each object of each values file is taken in a dry run, and so is each workload's pod."""
    counts["dry_run"], counts["pods"], known = 0, 0, set()
    for values in values_files():
        namespace = f"dry-{name_of(values)}"
        server.namespace(namespace)
        for document in rendered(values, kubernetes=SERVER_VERSION):
            # Namespaces of the values are not here: the request's is.
            document["metadata"].pop("namespace", None)
            for each in [document, *pods(document)]:
                place = f"{values.name}: {each['kind']} {each['metadata']['name']}"
                if each["kind"] == "Pod":
                    classes(server, each, known)
                try:
                    answer = server.create(each, namespace, dry=True)
                except Refused as refusal:
                    yield f"{place}: {refusal}"
                    continue
                if "warning" in answer:
                    yield f"{place}: a warning: {answer['warning']}"
                counts["pods" if each["kind"] == "Pod" else "dry_run"] += 1
    yield from privileged(server)


def privileged(server):
    """The control: a pod without a security context is refused, so what was taken was judged."""
    container = {"name": "c", "image": "i"}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [container]}}
    try:
        server.create(pod, f"dry-{name_of(values_files()[0])}", dry=True)
    except Refused as refusal:
        if "restricted" not in str(refusal):
            yield f"a pod without a security context: {refusal}"
        return
    yield "a pod without a security context is taken: the namespace does not enforce `restricted`"


class Release:
    """One release of one Helm in a namespace of its own."""

    def __init__(self, server, helm, namespace):
        self.server, self.helm, self.namespace = server, helm, namespace
        server.namespace(namespace)

    def words(self, verb, *words):
        where = ["--namespace", self.namespace, "--kubeconfig", self.server.kubeconfig]
        return [str(word) for word in (TOOLS / self.helm, *verb.split(), RELEASE, *words, *where)]

    def run(self, verb, *words):
        """The words of the failure, or nothing."""
        answer = command(*self.words(verb, *words), timeout=COMMAND_WITHIN)
        return (answer.stderr or answer.stdout).strip() if answer.returncode else ""

    def begin(self, verb, *words):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(self.words(verb, *words), env=ENVIRONMENT, **pipes)

    def manifest(self):
        return load_all(command(*self.words("get manifest")).stdout)

    def path(self, document):
        return self.server.path(document, self.namespace, document["metadata"]["name"])

    def uids(self):
        """The workloads and their identity, which a replacement would change."""
        found = {}
        for kind in ("StatefulSet", "Deployment"):
            for item in self.server.get(kind, self.namespace, version="apps/v1")["items"]:
                found[kind, item["metadata"]["name"]] = item["metadata"]["uid"]
        return found

    def there(self, documents):
        """Those of the documents that the server has."""
        for document in documents:
            try:
                self.server.ask("GET", self.path(document))
            except Refused:
                continue
            yield f"{document['kind']} {document['metadata']['name']}"


def life(server, helm, name, counts):
    """From the golden release to the chart of the tree, back, forth again, and gone."""
    values = CHART / "ci" / f"{name}-values.yaml"
    place = f"{helm}, {name}"
    release = Release(server, helm, f"life-{helm}-{name}")
    chart = (CHART, "--values", values, "--no-hooks")
    steps = [
        ("install", GOLDEN[0], *chart[1:]),
        ("upgrade", *chart),
        ("rollback", 1, "--no-hooks"),
        ("upgrade", *chart),
    ]
    before = None
    for verb, *words in steps:
        if failure := release.run(verb, *words):
            yield f"{place}: {verb}: {failure}"
            return
        documents = release.manifest()
        if (there := len(list(release.there(documents)))) != len(documents) or not documents:
            yield f"{place}: after {verb} the server has {there} of {len(documents)} objects"
        uids = release.uids()
        if before not in (None, uids) or not uids:
            yield f"{place}: {verb} replaced a workload: {before} became {uids}"
        before = uids
        counts["steps"] += 1
    if name == "minimal":
        yield from of_the_spool(release, place, chart, counts)
        documents = release.manifest()
    if failure := release.run("uninstall", "--no-hooks"):
        yield f"{place}: uninstall: {failure}"
    if left := list(release.there(documents)):
        yield f"{place}: after uninstall there are still {', '.join(left)}"
    counts["steps"] += 1


def of_the_spool(release, place, chart, counts):
    """What helm/UPGRADING.md says of claims, and that a spool may go."""
    larger = (*chart, "--set", "ingest.spool.size=9Gi")
    # The control: the server refuses what a StatefulSet cannot change, so the upgrades before changed none of it.
    if "forbidden" not in release.run("upgrade", *larger).lower():
        yield f"{place}: another size of the claims is not refused by the server"
    [workload] = [name for kind, name in release.uids() if name.endswith("-ingest")]
    path = f"/apis/apps/v1/namespaces/{release.namespace}/statefulsets/{workload}"
    release.server.ask("DELETE", path, {"propagationPolicy": "Background"})
    steps = [("StatefulSet", larger), ("Deployment", (*chart, "--set", "ingest.spool.enabled=false"))]
    for kind, words in steps:
        if failure := release.run("upgrade", *words):
            yield f"{place}: upgrade to {words[-1]}: {failure}"
        elif [found for found, name in release.uids() if name == workload] != [kind]:
            yield f"{place}: after {words[-1]} ingest is not a {kind} alone: {release.uids()}"
        counts["steps"] += 1


def finish(server, kind, namespace, name, succeeds):
    """What the controller of a Job, or the kubelet of a Pod, would write when it ends."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if kind == "Pod":
        path, status = f"/api/v1/namespaces/{namespace}/pods", {
            "phase": "Succeeded" if succeeds else "Failed"
        }
    else:
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        types = ("SuccessCriteriaMet", "Complete") if succeeds else ("FailureTarget", "Failed")
        when = {"lastTransitionTime": now, "lastProbeTime": now}
        conditions = [
            {"type": each, "status": "True", "reason": "Test", "message": ""} | when for each in types
        ]
        status = {"conditions": conditions, "startTime": now, "succeeded" if succeeds else "failed": 1}
        if succeeds:
            status["completionTime"] = now
    server.ask("PATCH", f"{path}/{name}/status", {"status": status}, kind="application/merge-patch+json")


def over(item):
    """Whether a Job or Pod has ended, such as one of an earlier command."""
    status = item.get("status", {})
    ends = {each["type"] for each in status.get("conditions", []) if each["status"] == "True"}
    return status.get("phase") in ("Succeeded", "Failed") or bool(ends & {"Complete", "Failed"})


def with_hooks(server, helm, verb, release, words, succeeds, counts):
    """Runs a Helm command while its hooks' Jobs and Pods end as given; yields what it says where it fails."""
    process = release.begin(verb, *words)
    ended, began = set(), time.monotonic()
    while process.poll() is None and time.monotonic() - began < COMMAND_WITHIN:
        for kind, version in (("Job", "batch/v1"), ("Pod", "v1")):
            for item in server.get(kind, release.namespace, version=version)["items"]:
                metadata = item["metadata"]
                if HOOK in metadata.get("annotations", {}) and not over(item):
                    finish(server, kind, release.namespace, metadata["name"], succeeds)
                    ended.add(metadata["uid"])
        time.sleep(0.2)
    process.kill()
    text, _ = process.communicate()
    counts["hooks"] += len(ended)
    what = f"{helm}: {verb} with hooks that {'succeed' if succeeds else 'fail'}"
    if not ended:
        yield f"{what}: no hook ran: {text.strip()}"
    elif (process.returncode == 0) != succeeds:
        yield f"{what}: status {process.returncode}: {text.strip()}"


def hooks(server, helm, counts):
    """The check Job before install and upgrade, and `helm test`."""
    release = Release(server, helm, f"hooks-{helm}")
    minimal = CHART / "ci" / "minimal-values.yaml"
    words = [CHART, "--values", minimal, "--set", "checkJob.enabled=true", "--timeout", "60s"]
    yield from with_hooks(server, helm, "install", release, words, True, counts)
    yield from with_hooks(server, helm, "upgrade", release, words, True, counts)
    before = release.uids()
    yield from with_hooks(
        server, helm, "upgrade", release, [*words, "--set", "processor.replicas=2"], False, counts
    )
    yield from with_hooks(server, helm, "test", release, ["--timeout", "60s"], True, counts)
    yield from with_hooks(server, helm, "test", release, ["--timeout", "60s"], False, counts)
    if before != release.uids():
        yield f"{helm}: an upgrade whose check failed changed the workloads"
    if failure := release.run("uninstall"):
        yield f"{helm}: uninstall with hooks: {failure}"


def all_of_it(server, counts):
    if not GOLDEN:
        yield "helm/golden has no package of an earlier release"
        return
    counts |= {"steps": 0, "hooks": 0}
    for helm in HELMS:
        for name in KINDS:
            yield from life(server, helm, name, counts)
        yield from hooks(server, helm, counts)
