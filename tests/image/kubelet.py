"""Runs pods as a chart rendered them, by podman in place of a kubelet, in the network of this process.

What a pod asks for that is not understood here is a fault of the trial: nothing is passed over, so that a
container never runs with more rights or other files than Kubernetes would give it.
"""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request

PODMAN = ["podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
# Fields of pods and containers that say nothing about how a process runs on one machine.
POD_IGNORED = {
    *("serviceAccountName", "automountServiceAccountToken", "enableServiceLinks", "restartPolicy"),
    *("topologySpreadConstraints", "terminationGracePeriodSeconds", "containers", "volumes"),
    *("securityContext", "nodeSelector", "affinity", "tolerations"),
}
CONTAINER_IGNORED = {
    *("name", "image", "imagePullPolicy", "command", "args", "env", "volumeMounts", "securityContext"),
    *("ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle", "resources"),
}


def understood(what, given, known):
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ValueError(f"{what}: the trial does not know {', '.join(unknown)}")


class Directory:
    """A mounted ConfigMap or projected volume, written as Kubernetes' atomic writer does.

    Its files are in a folder of the time, and a link `..data` to that folder is swapped by a rename.
    """

    def __init__(self, path, mode, group):
        self.path, self.mode, self.group = path, mode, group
        path.mkdir(parents=True)
        os.chown(path, 0, group)
        path.chmod(0o2775)

    def write(self, files):
        stamp = f"..{time.time_ns()}"
        folder = self.path / stamp
        folder.mkdir()
        folder.chmod(0o2755)
        for name, content in files.items():
            file = folder / name
            file.write_bytes(content)
            os.chown(file, 0, self.group)
            file.chmod(self.mode)
        data = self.path / "..data"
        old = data.readlink() if data.is_symlink() else None
        (self.path / "..data_tmp").symlink_to(stamp)
        os.rename(self.path / "..data_tmp", data)
        for link in self.path.iterdir():
            if not link.name.startswith("..") and link.name not in files:
                link.unlink()
        for name in files:
            if not (self.path / name).is_symlink():
                (self.path / name).symlink_to(f"..data/{name}")
        if old:
            shutil.rmtree(self.path / old)


class Cluster:
    """The ConfigMaps and Secrets of a namespace, and the volumes that show them."""

    def __init__(self, dir, namespace):
        self.dir, self.namespace = dir, namespace
        self.configmaps, self.secrets, self.shown = {}, {}, []

    def secret(self, name, **files):
        self.secrets[name] = {key.replace("__", "."): value.encode() for key, value in files.items()}

    def sync(self):
        """What the kubelet does within a minute or two: shows what changed in each mounted volume."""
        for directory, sources in self.shown:
            directory.write(self.files(sources))

    def files(self, sources):
        files = {}
        for source in sources:
            understood("a volume's source", source, ("configMap", "secret"))
            ((kind, reference),) = source.items()
            understood(kind, reference, ("name", "items", "optional", "defaultMode", "secretName"))
            name = reference.get("name") or reference.get("secretName")
            content = (self.configmaps if kind == "configMap" else self.secrets).get(name)
            if content is None:
                if reference.get("optional"):
                    continue
                raise LookupError(f"{kind} {name} is not there: the pod would wait for it")
            wanted = reference.get("items") or [{"key": key, "path": key} for key in content]
            files |= {item["path"]: content[item["key"]] for item in wanted}
        return files

    def volume(self, volume, pod, group):
        """The folder of a volume; a claim's stays when its pod ends."""
        understood(f"volume {volume['name']}", volume, ("name", "configMap", "projected", "secret", "claim"))
        if "claim" in volume:
            path = self.dir / f"claim-{volume['name']}-{pod}"
            if not path.exists():
                path.mkdir(parents=True)
                os.chown(path, 0, group)
                path.chmod(0o2770)
            return path
        path = self.dir / f"{pod}-{time.time_ns()}" / volume["name"]
        if "projected" in volume:
            sources, mode = volume["projected"]["sources"], volume["projected"]["defaultMode"]
        else:
            kind = "configMap" if "configMap" in volume else "secret"
            sources, mode = [{kind: volume[kind]}], volume[kind].get("defaultMode", 0o644)
        # With an fsGroup the kubelet lets the group read what the owner may.
        directory = Directory(path, mode | (mode >> 3 & 0o040), group)
        directory.write(self.files(sources))
        self.shown.append((directory, sources))
        return path


class Pod:
    """A pod of one container."""

    def __init__(self, cluster, name, spec, resolver, claims=()):
        understood("the pod", spec, POD_IGNORED)
        (self.container,) = spec["containers"]
        understood("the container", self.container, CONTAINER_IGNORED)
        self.cluster, self.name, self.spec = cluster, name, spec
        self.claims, self.resolver = claims, resolver
        self.grace = spec.get("terminationGracePeriodSeconds", 30)
        self.log = cluster.dir / f"{name}.log"
        self.process = None

    def environment(self):
        fields = {
            "metadata.namespace": self.cluster.namespace,
            "metadata.name": self.name,
            "metadata.uid": "00000000-0000-4000-8000-000000000000",
            "spec.nodeName": "trial",
        }
        values = {}
        for entry in self.container.get("env", []):
            if "valueFrom" in entry:
                values[entry["name"]] = fields[entry["valueFrom"]["fieldRef"]["fieldPath"]]
            else:
                values[entry["name"]] = re.sub(
                    r"\$\((\w+)\)", lambda found: values.get(found[1], found[0]), entry.get("value", "")
                )
        return values

    def rights(self):
        """The options of podman for the security contexts, and no others."""
        pod, own = self.spec["securityContext"], self.container["securityContext"]
        understood(
            "the pod's securityContext",
            pod,
            ("runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "fsGroupChangePolicy", "seccompProfile"),
        )
        understood(
            "the container's securityContext",
            own,
            ("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"),
        )
        options = [
            f"--user={pod['runAsUser']}:{pod['runAsGroup']}",
            f"--group-add={pod['fsGroup']}",
            # podman would mount writable folders at /tmp, /run and /var/tmp, which Kubernetes does not.
            *(["--read-only", "--read-only-tmpfs=false"] if own["readOnlyRootFilesystem"] else []),
            *([] if own["allowPrivilegeEscalation"] else ["--security-opt=no-new-privileges"]),
            *(f"--cap-drop={name.lower()}" for name in own["capabilities"]["drop"]),
        ]
        # podman's own default profile takes the place of the runtime's.
        if pod["seccompProfile"] != {"type": "RuntimeDefault"}:
            options.append("--security-opt=seccomp=unconfined")
        return options

    def volumes(self):
        group = self.spec["securityContext"]["fsGroup"]
        known = {volume["name"]: volume for volume in self.spec.get("volumes", [])}
        known |= {claim: {"name": claim, "claim": True} for claim in self.claims}
        for mount in self.container.get("volumeMounts", []):
            understood("a mount", mount, ("name", "mountPath", "readOnly"))
            path = self.cluster.volume(known[mount["name"]], self.name, group)
            yield f"--volume={path}:{mount['mountPath']}:{'ro' if mount.get('readOnly') else 'rw'}"

    def command(self):
        first, *rest = self.container["command"] + self.container.get("args", [])
        memory = self.container["resources"]["limits"]["memory"].removesuffix("Mi")
        return [
            *(*PODMAN, "run", "--rm", "--replace", "--name", self.name, "--hostname", self.name),
            *("--network=host", f"--volume={self.resolver}:/etc/resolv.conf:ro", f"--memory={memory}m"),
            # What this machine may raise to, where podman would raise further.
            *("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024"),
            *self.rights(),
            *self.volumes(),
            *(f"--env={name}={value}" for name, value in self.environment().items()),
            *(f"--entrypoint={first}", "--pull=never", self.container["image"], *rest),
        ]

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        return self

    def run(self, seconds):
        """Runs it to its end. Returns its exit code and what it printed."""
        try:
            done = subprocess.run(
                self.command(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=seconds,
            )
        except subprocess.TimeoutExpired as late:
            self.kill()
            return None, (late.stdout or b"").decode(errors="replace")
        return done.returncode, done.stdout

    def probe(self, name):
        """Whether the pod's probe finds it well, and what it answered."""
        get = self.container[name]["httpGet"]
        ports = {port["name"]: port["containerPort"] for port in self.container["ports"]}
        url = f"http://127.0.0.1:{ports.get(get['port'], get['port'])}{get['path']}"
        try:
            with urllib.request.urlopen(url, timeout=self.container[name].get("timeoutSeconds", 1)) as answer:
                return True, answer.read().decode()
        except urllib.error.HTTPError as refused:
            return False, refused.read().decode()
        except OSError as error:
            return False, str(error)

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def running(self):
        return self.process is not None and self.process.poll() is None

    def end(self):
        """What Kubernetes does to end a pod. Returns the seconds from the first step, and the exit code."""
        began = time.monotonic()
        hook = self.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        time.sleep(hook)
        subprocess.run([*PODMAN, "kill", "--signal=TERM", self.name], capture_output=True)
        try:
            code = self.process.wait(max(1, self.grace - hook))
        except subprocess.TimeoutExpired:
            self.kill()
            code = None
        return round(time.monotonic() - began, 1), code

    def kill(self):
        subprocess.run([*PODMAN, "kill", "--signal=KILL", self.name], capture_output=True)
        try:
            if self.process:
                self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        # What podman left, where both ended it at once.
        subprocess.run([*PODMAN, "rm", "--force", "--time=0", self.name], capture_output=True)

    def inspect(self):
        done = subprocess.run([*PODMAN, "inspect", self.name], capture_output=True, text=True)
        return json.loads(done.stdout)[0] if done.returncode == 0 else {}
