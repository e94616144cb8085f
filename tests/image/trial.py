"""The rendered objects, what stands in for a cluster, and ways to look at both."""

import copy
import secrets
import signal
import time
import urllib.error
import urllib.request
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition

import strimzi
from dns import Dns
from kafka import ADMIN, Kafka
from kubelet import Cluster, Pod
from pod import BROKER, NAMES, NAMESPACE, RELEASE, RESOLV, RESOLVER, SERVICE, Service, note

INGEST, PROCESSOR = f"{RELEASE}-ingest", f"{RELEASE}-processor"


def wait(what, seconds, condition):
    """Returns the first true value of the condition, and how long it took."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        value = condition()
        if value:
            return value, round(time.monotonic() - began, 1)
        time.sleep(0.2)
    raise TimeoutError(f"not within {seconds} s: {what}")


class Trial:
    """The rendered objects, and what stands in for a cluster."""

    def __init__(self, dir, objects):
        self.dir, self.objects = dir, objects
        self.dns = Dns(RESOLVER, NAMES)
        self.resolver = dir / "resolv.conf"
        self.resolver.write_text(RESOLV)
        self.cluster = Cluster(dir / "pods", NAMESPACE)
        self.cluster.dir.mkdir()
        for thing in self.of("ConfigMap"):
            files = {name: text.encode() for name, text in thing["data"].items()}
            self.cluster.configmaps[thing["metadata"]["name"]] = files
        self.cluster.secrets["providers"] = {"waitlist": secrets.token_hex(24).encode()}
        service = self.named("Service", INGEST)["spec"]["ports"][0]
        container = self.named("StatefulSet", INGEST)["spec"]["template"]["spec"]["containers"][0]
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        Service(service["port"], ports.get(service["targetPort"], service["targetPort"]))
        note("starting the broker")
        self.kafka = Kafka(dir / "kafka", BROKER)
        strimzi.topics(self.kafka, [thing["spec"] for thing in self.of("KafkaTopic")])
        authority = dir / "kafka" / "ca.crt"
        self.rules = strimzi.users(self.kafka, self.of("KafkaUser"), self.cluster, authority)
        for rules in self.rules.values():
            strimzi.allow(self.kafka, rules)
        self.pods = {}

    def of(self, kind):
        return [thing for thing in self.objects if thing["kind"] == kind]

    def named(self, kind, name):
        (found,) = (thing for thing in self.of(kind) if thing["metadata"]["name"] == name)
        return found

    def service(self, name):
        """A pod of ingest or the processor."""
        spec = self.named("StatefulSet", name)["spec"]
        claims = [claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])]
        pod = Pod(self.cluster, f"{name}-0", spec["template"]["spec"], self.resolver, claims)
        self.pods[name] = pod
        return pod

    def check(self, change=None):
        """The pod of the check Job; `change` may alter its spec."""
        spec = copy.deepcopy(self.named("Job", f"{RELEASE}-check")["spec"]["template"]["spec"])
        if change:
            change(spec)
        return Pod(self.cluster, f"{RELEASE}-check", spec, self.resolver)

    def test(self, *arguments):
        """The pod of `helm test`; other arguments for sluicectl may take the place of its own."""
        spec = copy.deepcopy(self.named("Pod", f"{RELEASE}-test")["spec"])
        if arguments:
            spec["containers"][0]["args"] = list(arguments)
        return Pod(self.cluster, f"{RELEASE}-test", spec, self.resolver)

    def swap(self, kind, name, files):
        """Changes a ConfigMap or Secret and has every mounted volume show it, as the kubelet does."""
        getattr(self.cluster, kind)[name].update(files)
        self.cluster.sync()

    def ready(self, name, seconds=120):
        # A processor that comes back after a kill waits for its predecessor's session, 45 s, to end.
        pod = self.pods[name]

        def condition():
            if not pod.running():
                raise RuntimeError(f"{pod.name} ended: {pod.text()[-2000:]}")
            return pod.probe("readinessProbe")[0]

        return wait(f"{pod.name} is ready", seconds, condition)[1]

    def end(self):
        for pod in (*self.pods.values(), self.check(), self.test()):
            pod.kill()
        self.kafka.stop(signal.SIGKILL)


def metric(port, name, **labels):
    """The sum of a family's samples that have these labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
    return sum(float(line.rsplit(" ", 1)[1]) for line in found if all(part in line for part in wanted))


def committed():
    """How many records a reader of committed records finds on each topic."""
    consumer = Consumer(
        {
            "bootstrap.servers": ADMIN,
            "group.id": "trial",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "earliest",
        }
    )
    try:
        known = consumer.list_topics(timeout=10).topics.items()
        parts = [TopicPartition(name, n, 0) for name, topic in known for n in topic.partitions]
        parts = [part for part in parts if part.topic.startswith(("webhooks.", "events."))]
        consumer.assign(parts)
        counts, open = {part.topic: 0 for part in parts}, len(parts)
        deadline = time.monotonic() + 20
        while open and time.monotonic() < deadline:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                open -= 1
            else:
                counts[message.topic()] += 1
        return {name: count for name, count in sorted(counts.items()) if count}
    finally:
        consumer.close()


def post(source):
    """The status of an unsigned request, by the Service's address."""
    request = urllib.request.Request(f"http://{SERVICE}/v1/hooks/{source}", b"{}", method="POST")
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as refused:
        return refused.code


def status(pod):
    """What the kernel says of the container's first process."""
    pid = pod.inspect()["State"]["Pid"]
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    writable = [line.split()[4] for line in mounts if "rw" in line.split()[5].split(",")]
    kernel = ("/proc", "/dev", "/sys")
    return {
        "uid": fields["Uid"].split()[0],
        "gid": fields["Gid"].split()[0],
        "groups": fields["Groups"].split(),
        "capabilities": fields["CapEff"],
        "bounding": fields["CapBnd"],
        "no_new_privileges": fields["NoNewPrivs"],
        "seccomp": fields["Seccomp"],
        "writable": [path for path in writable if not path.startswith(kernel)],
    }
