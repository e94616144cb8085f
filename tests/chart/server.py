"""A Kubernetes API server with its etcd, on loopback, for one run: no controllers, so nothing reconciles."""

import json
import os
import random
import signal
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from common import CACHE, SCHEMAS

BINARIES = CACHE / "chart-server"
TOKEN = "loopback-only"
READY_WITHIN = 90


def port():
    """A port that is free: below the range from which the system takes ports for outgoing connections."""
    while True:
        number = random.randrange(12_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", number))
            except OSError:
                continue
            return number


class Refused(Exception):
    """What the server answered when it did not take an object."""


class Server:
    """Started by `with`, and gone at its end."""

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="sluice-chart-")
        self.processes, self.kinds = [], {}
        try:
            self.start(Path(self.folder.name))
        except BaseException:
            self.stop()
            raise
        return self

    def start(self, folder):
        client, peer, secure = port(), port(), port()
        etcd = [f"--data-dir={folder}/etcd", f"--listen-client-urls=http://127.0.0.1:{client}"]
        etcd += [
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        ]
        etcd += [
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
            "--log-level=error",
        ]
        etcd += [f"--initial-cluster=default=http://127.0.0.1:{peer}"]
        self.run("etcd", folder, etcd)
        key = folder / "accounts.key"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (folder / "tokens").write_text(f"{TOKEN},tests,tests,system:masters\n")
        words = [
            f"--etcd-servers=http://127.0.0.1:{client}",
            "--bind-address=127.0.0.1",
            f"--secure-port={secure}",
        ]
        words += [
            f"--cert-dir={folder}/certificates",
            f"--token-auth-file={folder}/tokens",
            "--profiling=false",
        ]
        words += ["--service-account-issuer=https://kubernetes.invalid", f"--service-account-key-file={key}"]
        words += [
            f"--service-account-signing-key-file={key}",
            "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/108",
        ]
        words += ["--endpoint-reconciler-type=none", "--disable-admission-plugins=ServiceAccount"]
        words += ["--authorization-mode=RBAC", "--allow-privileged=true"]
        self.run("kube-apiserver", folder, words)
        self.address = f"https://127.0.0.1:{secure}"
        self.wait_until_ready(folder)
        self.kubeconfig = folder / "kubeconfig"
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "tests",
                    "clusters": [
                        {
                            "name": "tests",
                            "cluster": {
                                "server": self.address,
                                "certificate-authority": f"{folder}/certificates/apiserver.crt",
                                "tls-server-name": "kubernetes",
                            },
                        }
                    ],
                    "users": [{"name": "tests", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
                }
            )
        )
        self.kubeconfig.chmod(0o600)

    def run(self, name, folder, words):
        log = open(folder / f"{name}.log", "wb")
        # A process group of its own, so that a signal for the test does not end it before the test has.
        self.processes.append(
            subprocess.Popen([BINARIES / name, *words], stdout=log, stderr=log, process_group=0)
        )

    def wait_until_ready(self, folder):
        began = time.monotonic()
        while time.monotonic() - began < READY_WITHIN:
            for process in self.processes:
                if process.poll() is not None:
                    tail = "".join(path.read_text()[-3000:] for path in folder.glob("*.log"))
                    raise SystemExit(f"{process.args[0]} ended with {process.returncode}:\n{tail}")
            try:
                if self.ask("GET", "/readyz", raw=True) == b"ok":
                    self.ready = time.monotonic() - began
                    return
            except (Refused, OSError):
                pass
            time.sleep(0.1)
        raise SystemExit(f"the API server is not ready after {READY_WITHIN} s")

    def stop(self):
        for process in reversed(self.processes):
            if process.poll() is None:
                os.kill(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.folder.cleanup()

    def __exit__(self, *_):
        self.stop()

    def ask(self, method, path, body=None, raw=False, kind="application/json"):
        """One request; an answer that is no success is Refused, with the server's words."""
        authority = Path(self.folder.name) / "certificates" / "apiserver.crt"
        context = ssl.create_default_context(cafile=authority)
        context.check_hostname = False
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, method=method)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        request.add_header("Content-Type", kind)
        try:
            with urllib.request.urlopen(request, timeout=30, context=context) as answer:
                text = answer.read()
                warning = "; ".join(answer.headers.get_all("Warning") or [])
        except urllib.error.HTTPError as error:
            text = error.read().decode()
            try:
                text = json.loads(text)["message"]
            except ValueError:
                pass
            raise Refused(f"{error.code} {text}") from None
        if raw:
            return text
        answer = json.loads(text)
        if warning:
            answer["warning"] = warning
        return answer

    def discover(self):
        """Which path each kind has."""
        versions = ["/api/v1"]
        for group in self.ask("GET", "/apis")["groups"]:
            versions += [f"/apis/{version['groupVersion']}" for version in group["versions"]]
        for prefix in versions:
            answer = self.ask("GET", prefix)
            for resource in answer["resources"]:
                if "/" not in resource["name"]:
                    key = answer["groupVersion"], resource["kind"]
                    self.kinds[key] = prefix, resource["name"], resource["namespaced"]

    def path(self, document, namespace, name=""):
        key = document["apiVersion"], document["kind"]
        if key not in self.kinds:
            self.discover()
        if key not in self.kinds:
            raise Refused(f"the server does not know the kind {key[1]} of {key[0]}")
        prefix, plural, namespaced = self.kinds[key]
        within = f"/namespaces/{namespace}" if namespaced else ""
        return f"{prefix}{within}/{plural}" + (f"/{name}" if name else "")

    def create(self, document, namespace, dry=False):
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry else "")
        return self.ask("POST", self.path(document, namespace) + query, document)

    def get(self, kind, namespace, name="", version="v1"):
        return self.ask("GET", self.path({"apiVersion": version, "kind": kind}, namespace, name))

    def namespace(self, name):
        """A namespace in which only pods that keep the standard `restricted` are taken."""
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}
        metadata = {"name": name, "labels": labels}
        self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}, "")

    def install_definitions(self):
        """Every custom resource definition that the schemas come from."""
        definitions = [json.loads(path.read_text()) for path in sorted((SCHEMAS / "crds").glob("*.json"))]
        for definition in definitions:
            self.create(definition, "")
        began = time.monotonic()
        for definition in definitions:
            while not self.established(definition["metadata"]["name"]):
                if time.monotonic() - began > READY_WITHIN:
                    raise SystemExit(f"{definition['metadata']['name']} is not established")
                time.sleep(0.2)
        self.discover()
        return len(definitions)

    def established(self, name):
        answer = self.get("CustomResourceDefinition", "", name, "apiextensions.k8s.io/v1")
        conditions = answer.get("status", {}).get("conditions", [])
        return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
