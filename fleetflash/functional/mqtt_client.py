"""Listens to a broker until every topic has been said what is expected, or its time is over."""

import os
import time
from typing import Any

from paho.mqtt.client import Client, MQTTMessage, error_string
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion

from fleetflash.functional.description import MqttCheck
from fleetflash.functional.errors import AskError
from fleetflash.functional.mqtt_messages import Message, judge_message
from fleetflash.functional.verdict import Verdict
from fleetflash.secret import Secret

#: IANA's ports for MQTT and MQTT over TLS.
PLAIN, TLS = 1883, 8883
CONNECT_SECONDS = 10.0
#: How long one look at the connection takes, in seconds.
TICK = 0.2


def listen(check: MqttCheck, secret: Secret | None) -> dict[str, Verdict]:
    """Return topic check → the first verdict without a problem, or the last one; nothing for one that heard nothing.

    Raises ``AskError`` that names the broker when it can't be reached, refuses us, or closes the connection.

    + secret: the password of its user
    """
    listener = _Listener(check)
    listener.run(secret)
    return listener.verdicts


class _Listener:
    """``within`` of each topic counts from the moment that the broker has acknowledged our subscriptions."""

    def __init__(self, check: MqttCheck) -> None:
        self.check = check
        self.port = check.port or (TLS if check.ca else PLAIN)
        self.verdicts: dict[str, Verdict] = {}
        self.refused = ""
        self.subscribed: float | None = None
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"fleetflash-{os.urandom(4).hex()}",
            protocol=MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
        )
        self.client.connect_timeout = CONNECT_SECONDS
        self.client.on_connect = self._on_connect
        self.client.on_subscribe = self._on_subscribe
        self.client.on_message = self._on_message

    def run(self, secret: Secret | None) -> None:
        check, started = self.check, time.monotonic()
        if check.user:
            self.client.username_pw_set(check.user, secret.reveal() if secret else None)
        try:
            if check.ca:
                self.client.tls_set(ca_certs=check.ca)
            self.client.connect(check.broker, self.port, keepalive=30)
            while self._goes_on(started):
                code = self.client.loop(TICK)
                if self.refused:
                    raise AskError(f"{self._broker} refuses: {self.refused}; look at user, password and its rights")
                if code is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                    raise AskError(f"{self._broker} closes the connection: {error_string(code)}; look at its log")
            self.client.disconnect()
        except (OSError, ValueError) as error:
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise AskError(f"{self._broker} can't be reached: {said}; is it on, and that its port?") from None

    @property
    def _broker(self) -> str:
        return f"broker {self.check.broker}:{self.port}"

    def _goes_on(self, started: float) -> bool:
        now = time.monotonic()
        if self.subscribed is None:
            if now > started + CONNECT_SECONDS:
                raise AskError(f"{self._broker} says nothing in {CONNECT_SECONDS:g} s; does it speak MQTT?")
            return True
        since = now - self.subscribed
        return any(self._waits(name, topic.within, since) for name, topic in self.check.topics.items())

    def _waits(self, name: str, within: float, since: float) -> bool:
        return since < within and (name not in self.verdicts or bool(self.verdicts[name].problem))

    def _on_connect(self, client: Client, _data: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self.refused = str(reason)
            return
        topics = sorted({topic.topic for topic in self.check.topics.values()})
        client.subscribe([(topic, 0) for topic in topics])

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, reasons: list[Any], _properties: Any) -> None:
        if any(reason.is_failure for reason in reasons):
            self.refused = "a subscription is not granted"
        self.subscribed = time.monotonic()

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        heard = Message(message.topic, bytes(message.payload), message.retain)
        since = time.monotonic() - (self.subscribed or time.monotonic())
        for name, topic in self.check.topics.items():
            if self._waits(name, topic.within, since) and (verdict := judge_message(topic, heard)) is not None:
                self.verdicts[name] = verdict
