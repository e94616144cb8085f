"""The steps of the trial of the rendered pod: what each shows, and what it found."""

import secrets
import time

import yaml

from pod import NAMES, NAMESPACE, RELEASE
from refusals import broken, rules
from trial import INGEST, PROCESSOR, committed, metric, post, status, wait


def start(trial):
    """both services start and are ready, under the rendered security context"""
    faults, found = [], {}
    for name in (INGEST, PROCESSOR):
        pod = trial.service(name).start()
        found[pod.name] = {"ready_seconds": trial.ready(name)} | status(pod)
    spool = {INGEST: ["/var/lib/sluice"], PROCESSOR: []}
    for name in (INGEST, PROCESSOR):
        wanted = {
            **{"uid": "65532", "gid": "65532", "groups": ["65532"], "no_new_privileges": "1"},
            **{"capabilities": "0" * 16, "bounding": "0" * 16, "seccomp": "2", "writable": spool[name]},
        }
        for key, value in wanted.items():
            if found[f"{name}-0"][key] != value:
                faults.append(f"{name}-0: {key} is {found[f'{name}-0'][key]} and should be {value}")
    asked = {name for _, name, _ in trial.dns.asked}
    if not asked >= set(NAMES) - {f"{RELEASE}-ingest.{NAMESPACE}.svc.cluster.local"}:
        faults.append(f"the name server was not asked for the broker: {sorted(asked)}")
    return {"faults": faults, "pods": found, "names_asked": len(trial.dns.asked)}


def event(trial):
    """the pod of helm test sends a signed webhook, and it becomes an event"""
    code, text = trial.test().run(90)
    topics = committed()
    events = sum(count for name, count in topics.items() if name.startswith("events."))
    faults = [] if code == 0 and events == 1 else [f"exit {code}, {events} events: {text}"]
    return {"faults": faults, "exit": code, "printed": text, "topics": topics}


def secret(trial):
    """a provider's secret that is swapped verifies what is sent next, without a restart"""
    pod = trial.pods[PROCESSOR]
    pid, old = pod.inspect()["State"]["Pid"], trial.cluster.secrets["providers"]["waitlist"]
    new = secrets.token_hex(24).encode()
    # The processor still has the old one: what the new one signed is refused.
    trial.cluster.secrets["providers"]["waitlist"] = new
    early = trial.test()
    code, _ = early.run(90)
    before = metric(9091, "sluice_fates_total", fate="rejected")
    faults = [] if code == 1 and before == 1 else [f"before the swap: exit {code}, {before} rejected"]
    trial.swap("secrets", "providers", {"waitlist": new})
    began = time.monotonic()
    while time.monotonic() < began + 30:
        code, text = trial.test().run(90)
        if code == 0:
            break
    seconds = round(time.monotonic() - began, 1)
    if code:
        faults.append(f"30 s after the swap: {text}")
    if pod.inspect()["State"]["Pid"] != pid or old == new:
        faults.append("the processor was restarted")
    return {"faults": faults, "seconds": seconds}


def setting(trial):
    """a setting that is swapped is in force without a restart"""
    pod, name = trial.pods[INGEST], f"{RELEASE}-settings"
    pid = pod.inspect()["State"]["Pid"]
    text = trial.cluster.configmaps[name]["settings.yaml"]
    before = post("spare")
    settings = yaml.safe_load(text)
    settings["sources"]["spare"]["enabled"] = True
    trial.swap("configmaps", name, {"settings.yaml": yaml.safe_dump(settings).encode()})
    _, seconds = wait("the source that is enabled is served", 30, lambda: post("spare") == 200)
    trial.swap("configmaps", name, {"settings.yaml": text})
    _, again = wait("the source that is disabled is not served", 30, lambda: post("spare") == 404)
    faults = [] if before == 404 else [f"before the swap the answer was {before}"]
    if pod.inspect()["State"]["Pid"] != pid:
        faults.append("ingest was restarted")
    return {"faults": faults, "seconds": seconds, "back_seconds": again}


def spool(trial):
    """the spool fills while the broker is stopped, and drains when it is back"""
    raw = committed().get("webhooks.raw", 0)
    trial.kafka.stop()
    count = 20
    code, text = trial.test("send", "waitlist", f"--count={count}").run(120)
    spooled = metric(9090, "sluice_ingest_spool_records")
    ready = trial.pods[INGEST].probe("readinessProbe")[0]
    faults = [] if code == 0 and spooled == count and ready else [
        f"with the broker stopped: exit {code}, {spooled} in the spool, ready {ready}: {text}"
    ]
    trial.kafka.start()
    empty = lambda: metric(9090, "sluice_ingest_spool_records") == 0  # noqa: E731
    _, seconds = wait("the spool is empty", 120, empty)
    after = committed().get("webhooks.raw", 0)
    if after - raw < count:
        faults.append(f"raw had {raw} records and has {after}")
    lag = lambda: metric(9091, "sluice_raw_lag_records") == 0  # noqa: E731
    wait("the processor has judged what came from the spool", 120, lag)
    kept = trial.cluster.dir / f"claim-spool-{INGEST}-0" / "spool"
    mode = oct(kept.stat().st_mode & 0o777)
    if mode != "0o700":
        faults.append(f"the folder of the spool has the mode {mode}")
    return {"faults": faults, "spooled": spooled, "drain_seconds": seconds, "folder_mode": mode}


def credential(trial):
    """Kafka passwords that are swapped are used by new connections, without a restart"""
    pods = [trial.pods[name] for name in (INGEST, PROCESSOR)]
    pids = [pod.inspect()["State"]["Pid"] for pod in pods]
    for pod in (INGEST, PROCESSOR):
        password = secrets.token_urlsafe(24)
        trial.kafka.user(pod, password)
        trial.swap("secrets", pod, {"password": password.encode()})
    # Connections that stand are not asked again, so all are ended.
    time.sleep(15)
    trial.kafka.stop()
    trial.kafka.start()
    began = time.monotonic()
    while time.monotonic() < began + 60:
        code, text = trial.test().run(90)
        if code == 0:
            break
    faults = [] if code == 0 else [f"with new passwords: exit {code}: {text}"]
    if pids != [pod.inspect()["State"]["Pid"] for pod in pods]:
        faults.append("a service was restarted")
    return {"faults": faults, "seconds_after_the_broker": round(time.monotonic() - began, 1)}


def end(trial):
    """SIGTERM ends each pod within its grace period, with exit code 0"""
    faults, found = [], {}
    for name in (INGEST, PROCESSOR):
        pod = trial.pods[name]
        seconds, code = pod.end()
        found[pod.name] = {"seconds": seconds, "grace": pod.grace, "exit": code}
        if code != 0 or seconds > pod.grace:
            faults.append(f"{pod.name}: exit {code} after {seconds} s of {pod.grace}")
    return {"faults": faults, "pods": found}


STEPS = (start, event, secret, setting, spool, credential, rules, broken, end)
