"""One broker as it is secured in the field: SASL_SSL with SCRAM, and an authorizer that refuses by default.

A second listener, in plain text and for the trial alone, is the administrator's.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

ROOT = Path(__file__).resolve().parent.parent.parent
HOME = ROOT / ".cache" / "kafka-4.4.0"
ADMIN = "127.0.0.1:19092"
PORT = 9093
SETTINGS = r"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:19094
controller.listener.names=CONTROLLER
inter.broker.listener.name=ADMIN
listeners=ADMIN://{admin},CONTROLLER://127.0.0.1:19094,CLIENTS://127.0.0.1:{port}
advertised.listeners=ADMIN://{admin},CLIENTS://{host}:{port}
listener.security.protocol.map=ADMIN:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENTS:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config=\
  org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.clients.ssl.keystore.type=PEM
listener.name.clients.ssl.keystore.location={dir}/broker.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
allow.everyone.if.no.acl.found=false
log.dirs={dir}/data
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=3
transaction.abort.timed.out.transaction.cleanup.interval.ms=2000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=8388608
"""


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"openssl {arguments[0]}: {done.stderr}")


def certificates(dir, host):
    """An authority, `ca.crt`, and what it signed for the broker, key and certificate in `broker.pem`."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    openssl("req", "-x509", *key, "-keyout", f"{dir}/ca.key", "-out", f"{dir}/ca.crt", "-subj", "/CN=trial")
    openssl(
        *("req", "-x509", *key, "-CA", f"{dir}/ca.crt", "-CAkey", f"{dir}/ca.key"),
        *("-keyout", f"{dir}/broker.key", "-out", f"{dir}/broker.crt", "-subj", f"/CN={host}"),
        *("-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=critical,CA:FALSE"),
    )
    parts = [(dir / name).read_text() for name in ("broker.key", "broker.crt", "ca.crt")]
    (dir / "broker.pem").write_text("".join(parts))


class Kafka:
    def __init__(self, dir, host):
        self.dir = dir
        self.process = None
        dir.mkdir(parents=True)
        certificates(dir, host)
        text = SETTINGS.format(admin=ADMIN, port=PORT, host=host, dir=dir)
        (dir / "server.properties").write_text(text)
        self.java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAA").wait()
        self.start()

    def java(self, name, *arguments):
        java = f"{os.environ['JAVA_HOME']}/bin/java" if "JAVA_HOME" in os.environ else "java"
        jars = ":".join(sorted(str(jar) for jar in (HOME / "libs").iterdir()))
        config = ["-c"] if arguments else []
        command = [
            *(java, "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto"),
            *(f"-XX:SharedArchiveFile={HOME}/kafka.jsa", "-Xlog:disable", "-XX:-UsePerfData"),
            *(f"-Djava.io.tmpdir={self.dir}", "-cp", jars),
            f"-Dlog4j2.configurationFile={ROOT}/tests/kafka/log4j2.properties",
            *(name, *arguments, *config, self.dir / "server.properties"),
        ]
        log = open(self.dir / "log", "a")
        return subprocess.Popen(command, stdout=log, stderr=log)

    def start(self):
        """Returns when the broker answers; `admin` is then the administrator's client."""
        self.process = self.java("kafka.Kafka")
        self.admin = AdminClient({"bootstrap.servers": ADMIN, "log_level": 0})
        deadline = time.monotonic() + 60
        while True:
            try:
                self.admin.list_topics(timeout=1)
                return
            except KafkaException:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"the broker did not start; its log is {self.dir}/log")

    def stop(self, how=signal.SIGTERM):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def user(self, name, password):
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(name, info, password.encode())
        for future in self.admin.alter_user_scram_credentials([change]).values():
            future.result()

    def allow(self, bindings):
        for future in self.admin.create_acls(bindings).values():
            future.result()

    def forbid(self, filters):
        """Removes the rules that the filters match. Returns how many there were."""
        return sum(len(future.result()) for future in self.admin.delete_acls(filters).values())

    def remove(self, topic):
        for future in self.admin.delete_topics([topic]).values():
            future.result()
