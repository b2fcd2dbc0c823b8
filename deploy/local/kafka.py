"""One real Kafka broker (KRaft, a single node) from jars, on loopback."""

import base64
import subprocess
import uuid
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.local.process import Service, require_free
from lakehouse.errors import FraudlakeError
from lakehouse.settings import Settings, resolve

NAME = "kafka"


def _properties(settings: Settings, data: Path) -> str:
    broker, controller = settings.services.kafka_port, settings.services.kafka_controller_port
    values = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}",
        # Where clients find it: the listener itself, or what stands in front of it.
        "advertised.listeners": f"PLAINTEXT://{settings.kafka.bootstrap_servers.split(',')[0]}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data),
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        # A deleted world should leave the disk soon, not after a minute.
        "log.segment.delete.delay.ms": "1000",
    }
    return "".join(f"{key}={value}\n" for key, value in values.items())


_LOG4J = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="WARN">
  <Appenders><Console name="out"><PatternLayout pattern="%d{ISO8601} %p %c{1} %m%n"/></Console></Appenders>
  <Loggers><Root level="WARN"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"""


def answers(settings: Settings) -> bool:
    """Whether the broker answers a metadata request."""
    client = AdminClient({"bootstrap.servers": f"127.0.0.1:{settings.services.kafka_port}", "log_level": 0})
    try:
        client.list_topics(timeout=2)
    except KafkaException:
        return False
    return True


def start(settings: Settings, folder: Path) -> bool:
    """Start the broker unless it runs, without waiting for it; whether it was started."""
    service = Service(NAME, folder)
    if service.pid() is not None and answers(settings):
        return False
    service.stop()
    require_free(settings.services.kafka_port, "services.kafka_port")
    require_free(settings.services.kafka_controller_port, "services.kafka_controller_port")
    data = folder / "kafka"
    data.mkdir(parents=True, exist_ok=True)
    config, log4j = folder / "kafka.properties", folder / "kafka-log4j2.xml"
    config.write_text(_properties(settings, data))
    log4j.write_text(_LOG4J)
    jars = f"{resolve(settings.services.jars_folder)}/*"
    java = ["java", f"-Dlog4j2.configurationFile={log4j}", "-cp", jars]
    if not (data / "meta.properties").exists():
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # One id in sixty-four begins with a hyphen: apart from its option it would be taken for another.
        formatted = subprocess.run(
            [*java, "kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}", "-c", str(config)],
            capture_output=True,
            text=True,
            check=False,
        )
        if formatted.returncode:
            raise FraudlakeError(f"Kafka's data folder {data} could not be made:\n{formatted.stderr.strip()}")
    # A small heap needs no collector's threads beside those of the engine.
    options = [f"-Xmx{settings.services.kafka_heap_mb}m", "-XX:+UseSerialGC"]
    service.start([java[0], *options, *java[1:], "kafka.Kafka", str(config)], {}, folder)
    return True
