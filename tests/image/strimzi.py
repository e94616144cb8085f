"""What Strimzi's operators do with the chart's objects: topics, users, Secrets and rules."""

import secrets

from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "cluster": ResourceType.BROKER,
    "transactionalId": ResourceType.TRANSACTIONAL_ID,
}
PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
    "IdempotentWrite": AclOperation.IDEMPOTENT_WRITE,
}
ALLOW = AclPermissionType.ALLOW


class Rule:
    """One rule of one user."""

    def __init__(self, user, resource, operation):
        self.user, self.resource, self.operation = user, resource, operation
        kind, pattern = RESOURCES[resource["type"]], PATTERNS[resource["patternType"]]
        self.parts = (kind, resource["name"], pattern, f"User:{user}", "*", OPERATIONS[operation], ALLOW)

    def __str__(self):
        prefixed = "*" if self.resource["patternType"] == "prefix" else ""
        return f"{self.operation} on {self.resource['type']} {self.resource['name']}{prefixed}"

    def implied(self, all):
        """Whether another rule implies this one: READ and WRITE allow DESCRIBE."""
        return self.operation == "Describe" and any(
            rule.resource == self.resource and rule.operation in ("Read", "Write") for rule in all
        )


def topics(kafka, objects):
    """Makes the topics."""
    new = [
        NewTopic(
            spec["topicName"],
            num_partitions=spec["partitions"],
            replication_factor=spec["replicas"],
            config={key: str(value) for key, value in spec["config"].items()},
        )
        for spec in objects
    ]
    for future in kafka.admin.create_topics(new).values():
        future.result()


def users(kafka, objects, cluster, authority):
    """Makes users and their Secrets. Returns the rules of each user, none of which is in force yet."""
    cluster.secrets["main-cluster-ca-cert"] = {"ca.crt": authority.read_bytes()}
    rules = {}
    for thing in objects:
        name, password = thing["metadata"]["name"], secrets.token_urlsafe(24)
        kafka.user(name, password)
        cluster.secrets[name] = {"password": password.encode()}
        acls = thing["spec"]["authorization"]["acls"]
        rules[name] = [Rule(name, acl["resource"], may) for acl in acls for may in acl["operations"]]
    return rules


def allow(kafka, rules):
    kafka.allow([AclBinding(*rule.parts) for rule in rules])


def forbid(kafka, rules):
    removed = kafka.forbid([AclBindingFilter(*rule.parts) for rule in rules])
    if removed != len(rules):
        raise RuntimeError(f"{removed} of {len(rules)} rules were there to remove")
