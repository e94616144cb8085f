"""The image, run as the chart renders its pods: make pod.

One broker by SASL_SSL and SCRAM, whose authorizer has exactly the rules of the chart's KafkaUsers, and the
chart's containers under the chart's security contexts, with its ConfigMap, Secrets, environment, volumes and
probes. What a cluster would do is done by this trial and no more: name server, Service, Strimzi's operators
(strimzi.py), kubelet (kubelet.py). All of it lives in a network namespace of its own. Prints a verdict as one
JSON object, and ends with 1 where something did not hold.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
NAMESPACE, RELEASE = "webhooks", "sluice"
RESOLVER, SERVICE = "127.0.0.53", "127.0.1.1"
BROKER = "main-kafka-bootstrap.kafka"
NAMES = {
    f"{BROKER}.svc.cluster.local": "127.0.0.1",
    f"{RELEASE}-ingest.{NAMESPACE}.svc.cluster.local": SERVICE,
}
RESOLV = f"""\
nameserver {RESOLVER}
search {NAMESPACE}.svc.cluster.local svc.cluster.local cluster.local
options ndots:5
"""


def note(text):
    print(text, file=sys.stderr, flush=True)


def render(helm, chart):
    """What `helm template` makes of the chart and pod-values.yaml, hooks included."""
    command = [
        *(helm, "template", RELEASE, chart, "--namespace", NAMESPACE, "--kube-version", "1.34.0"),
        *("--values", ROOT / "tests" / "image" / "pod-values.yaml"),
        *("--set", "checkJob.enabled=true", "--set", "checkJob.hooks={post-upgrade}"),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"helm template: {done.stderr}")
    return [thing for thing in yaml.safe_load_all(done.stdout) if thing]


class Service:
    """The Service of ingest: its port at an address of its own, and the pod's port behind it."""

    def __init__(self, port, target):
        class Forward(socketserver.BaseRequestHandler):
            def handle(self):
                try:
                    there = socket.create_connection(("127.0.0.1", target), 5)
                except OSError:
                    return
                back = threading.Thread(target=pump, args=(there, self.request), daemon=True)
                back.start()
                pump(self.request, there)
                back.join(60)
                there.close()

        def pump(source, sink):
            try:
                while data := source.recv(65536):
                    sink.sendall(data)
                sink.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        socketserver.ThreadingTCPServer.allow_reuse_address = True
        server = socketserver.ThreadingTCPServer((SERVICE, port), Forward)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--helm", required=True)
    parser.add_argument("--chart", default=ROOT / "helm")
    parser.add_argument("--keep", action="store_true", help="keep the folder with all logs")
    parser.add_argument("--steps", type=lambda text: text.split(","), help="some alone: start,rules")
    options = parser.parse_args()
    if os.environ.get("SLUICE_POD_NETWORK") != "own":
        environment = os.environ | {"SLUICE_POD_NETWORK": "own"}
        os.execvpe("unshare", ["unshare", "--net", sys.executable, "-B", *sys.argv], environment)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)

    import steps
    from trial import Trial

    dir = Path(tempfile.mkdtemp(prefix="sluice-pod-"))
    dir.chmod(0o755)
    began = time.monotonic()
    trial = Trial(dir, render(options.helm, options.chart))
    chosen = [step for step in steps.STEPS if step.__name__ in (options.steps or [step.__name__])]
    verdict = {}
    # What was started ends with the trial, however it ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        for step in chosen:
            name = step.__name__
            note(f"{name}: {step.__doc__.splitlines()[0]}")
            at = time.monotonic()
            try:
                facts = step(trial) or {}
                faults = facts.pop("faults", [])
            except Exception as error:
                traceback.print_exc()
                facts, faults = {}, [f"{type(error).__name__}: {error}"]
            seconds = round(time.monotonic() - at, 1)
            verdict[name] = {"ok": not faults, "faults": faults, "seconds": seconds, **facts}
            note(f"{name}: {'ok' if not faults else faults}")
            if faults and name == "start":
                break
    finally:
        trial.end()
        if options.keep:
            note(f"logs are in {dir}")
        else:
            shutil.rmtree(dir, ignore_errors=True)
    ok = len(verdict) == len(chosen) > 0 and all(step["ok"] for step in verdict.values())
    whole = {"ok": ok, "seconds": round(time.monotonic() - began), "steps": verdict}
    print(json.dumps(whole, indent=2))
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
