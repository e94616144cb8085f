"""Steps of the trial: what is named where something is refused or broken."""

import copy
import hmac
import json
import re
import secrets
import time
import urllib.request

import strimzi
from pod import BROKER, RELEASE, SERVICE, note
from trial import INGEST, PROCESSOR

# Seconds within which a service names a rule that it lacks.
PATIENCE = 60


def webhook(trial, body, signed=True):
    """Sends a body to the source `waitlist`, signed as its provider does."""
    secret = trial.cluster.secrets["providers"]["waitlist"] if signed else b"of a stranger"
    headers = {"X-Webhook-Signature": "sha256=" + hmac.new(secret, body, "sha256").hexdigest()}
    headers["Content-Type"] = "application/json"
    url = f"http://{SERVICE}/v1/hooks/waitlist"
    try:
        urllib.request.urlopen(urllib.request.Request(url, body, headers, method="POST"), timeout=10)
    except OSError:
        # What is refused shows in the logs.
        pass


def traffic(trial):
    """Webhooks of each fate and for each topic: events, a repetition, a forgery, and what is no JSON."""
    number = secrets.token_hex(8)
    person = {"id": f"signup-{number}", "email": "a@example.com", "old_position": 2, "new_position": 1}
    for kind in ("created", "position_changed", "deleted", "renamed"):
        event = {"event_type": f"signup.{kind}", "waitlist_id": number, "data": person}
        event["timestamp"] = "2026-01-01T00:00:00Z"
        webhook(trial, json.dumps(event).encode())
    webhook(trial, json.dumps(event).encode())
    webhook(trial, json.dumps(event).encode(), signed=False)
    webhook(trial, b"{" + number.encode())


def names(rule, text):
    """The line of a log or of the check that names what the rule is about and what it allows."""
    name, prefixed = rule.resource["name"], rule.resource["patternType"] == "prefix"
    word = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rule.operation).upper()
    what = re.compile(re.escape(name) + ("" if prefixed else r"(?![\w.-])"))
    lines = (line for line in text.splitlines() if what.search(line))
    return next((line for line in lines if re.search(rf"\b{word}\b", line)), None)


def without(trial, name, rule):
    """Starts a service that lacks the rule, with traffic. Returns the line that names it."""
    pod = trial.pods[name]
    pod.kill()
    pod.log.write_text("")
    strimzi.forbid(trial.kafka, [rule])
    try:
        pod.start()
        deadline = time.monotonic() + PATIENCE
        sent = False
        while time.monotonic() < deadline:
            found = names(rule, pod.text())
            if found:
                return found
            if not sent and (pod.probe("readinessProbe")[0] or time.monotonic() > deadline - PATIENCE / 3):
                traffic(trial)
                sent = True
            time.sleep(0.2)
        return None
    finally:
        strimzi.allow(trial.kafka, [rule])
        pod.kill()
        pod.start()


def rules(trial):
    """each rule of each user is taken away in turn, and an error names it"""
    faults, found, implied = [], {}, []
    for user, all in trial.rules.items():
        for name in (INGEST, PROCESSOR):
            trial.ready(name)
        for rule in all:
            label = f"{user}: {rule}"
            if rule.implied(all):
                implied.append(label)
                continue
            if user == f"{RELEASE}-operator":
                strimzi.forbid(trial.kafka, [rule])
                code, text = trial.check().run(90)
                strimzi.allow(trial.kafka, [rule])
                line = names(rule, text) if code == 1 else None
            else:
                line = without(trial, user, rule)
            note(f"  {label}: {line}")
            found[label] = line
            if line is None:
                text = text if user == f"{RELEASE}-operator" else trial.pods[user].text()
                faults.append(f"{label}: nothing named it: {text[-1000:]}")
    for name in (INGEST, PROCESSOR):
        trial.ready(name)
    return {"faults": faults, "named": found, "implied_by_others": implied}


def broken(trial):
    """what the pods of the check Job and of helm test print for broken installations"""
    cluster, kafka, processor = trial.cluster, trial.kafka, trial.pods[PROCESSOR]
    topic = "webhooks.rejected"
    again = [thing["spec"] for thing in trial.of("KafkaTopic") if thing["spec"]["topicName"] == topic]

    def edit(old, new):
        for name in (f"{RELEASE}-settings", f"{RELEASE}-check"):
            text = cluster.configmaps[name]["settings.yaml"].decode()
            cluster.configmaps[name]["settings.yaml"] = text.replace(old, new).encode()

    # What is broken, what the check names, what the test names, how it breaks and what mends it.
    cases = {
        "a wrong password": (
            *("invalid credentials", "topics"),
            lambda: cluster.secrets[f"{RELEASE}-operator"].update(password=b"wrong"),
            lambda: None,
        ),
        "a broker that no name server knows": (
            *("Failed to resolve 'nowhere.kafka", "topics"),
            lambda: edit(BROKER, "nowhere.kafka"),
            lambda: None,
        ),
        "a provider's secret that is not there": (
            *("file waitlist is not there", "file waitlist is not there"),
            lambda: cluster.secrets.update(providers={"other": b"x"}),
            lambda: None,
        ),
        "a key that no setting has": (
            *("topics.replicas: is not a setting", "topics.replicas: is not a setting"),
            lambda: edit("replication:", "replicas:"),
            lambda: None,
        ),
        "no processor": (
            *(None, "waitlist"),
            processor.kill,
            lambda: (processor.start(), trial.ready(PROCESSOR)),
        ),
        "a broker that is down": ("Connection refused", "topics", kafka.stop, kafka.start),
        "a topic that is missing": (
            *(f"{topic}: is missing", topic),
            lambda: kafka.remove(topic),
            lambda: strimzi.topics(kafka, again),
        ),
    }
    found, faults = {}, []
    for case, (by_check, by_test, breaks, mends) in cases.items():
        before = copy.deepcopy((cluster.configmaps, cluster.secrets))
        breaks()
        try:
            for pod, word in ((trial.check(), by_check), (trial.test(), by_test)):
                code, text = pod.run(120)
                found[f"{case}: {pod.name}"] = {"exit": code, "printed": text.splitlines()}
                note(f"  {case}: {pod.name}: exit {code}\n{text}")
                # No processor is nothing that the check looks at.
                if (code == 0) != (word is None) or (word and word not in text):
                    faults.append(f"{case}: {pod.name}: exit {code}, and {word} is not named")
        finally:
            cluster.configmaps, cluster.secrets = before
            mends()
    return {"faults": faults, "found": found}
