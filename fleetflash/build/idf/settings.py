"""What a gateway is configured to, typed; ``None`` is left to the firmware's own default.

Source: the gateway operations guide, chapter 2 (CAN, Wi-Fi, CAN metadata, serial flasher). Which symbol of Kconfig a
field becomes is said in ``templates/sdkconfig.defaults.j2``, since it differs from project to project.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fleetflash.secret_source import SecretSource

Gpio = Annotated[int, Field(ge=0, le=48)]
Milliseconds = Annotated[int, Field(ge=1, le=3_600_000)]
#: IEEE 802.11: an SSID has 1 to 32 bytes.
Ssid = Annotated[str, Field(min_length=1, max_length=32)]
Text = Annotated[str, Field(min_length=1, max_length=64)]


class _Settings(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class Can(_Settings):
    """The CAN bus to the inverter: GPIO numbers, and times of the keep-alive in milliseconds."""

    tx_gpio: Gpio | None = None
    rx_gpio: Gpio | None = None
    keepalive_interval_ms: Milliseconds | None = None
    keepalive_timeout_ms: Milliseconds | None = None
    keepalive_retry_ms: Milliseconds | None = None

    @model_validator(mode="after")
    def _possible(self) -> "Can":
        if self.tx_gpio is not None and self.tx_gpio == self.rx_gpio:
            raise ValueError(f"tx_gpio and rx_gpio are both {self.tx_gpio}; they need a pin each")
        interval, timeout = self.keepalive_interval_ms, self.keepalive_timeout_ms
        if interval is not None and timeout is not None and timeout <= interval:
            raise ValueError(f"keepalive_timeout_ms {timeout} is not above keepalive_interval_ms {interval}")
        return self


class Metadata(_Settings):
    """What the battery calls itself on the CAN bus."""

    manufacturer: Text | None = None
    battery_name: Text | None = None
    battery_family: Text | None = None


class Station(_Settings):
    """The Wi-Fi network that the gateway joins. ``max_retry``: attempts before it opens its own."""

    ssid: Ssid | None = None
    password: SecretSource | None = None
    hostname: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$")] | None = None
    max_retry: Annotated[int, Field(ge=0)] | None = None


class AccessPoint(_Settings):
    """The Wi-Fi network that the gateway opens when it can't join one. ``channel``: 2.4 GHz."""

    ssid: Ssid | None = None
    password: SecretSource | None = None
    channel: Annotated[int, Field(ge=1, le=13)] | None = None
    max_clients: Annotated[int, Field(ge=1, le=10)] | None = None


class Mqtt(_Settings):
    """The broker that the gateway reports to."""

    broker_uri: Annotated[str, Field(pattern=r"^(mqtts?|wss?)://[^/@\s]+(/\S*)?$")] | None = None
    username: Text | None = None
    password: SecretSource | None = None


class Flasher(_Settings):
    """ESP-IDF's "Serial flasher config": how the chip talks to its flash, and how much of it there is.

    Port and speed of flashing belong to the board in the inventory.
    """

    mode: Literal["qio", "qout", "dio", "dout"] | None = None
    frequency: Literal["80m", "40m", "26m", "20m"] | None = None
    size: Literal["1MB", "2MB", "4MB", "8MB", "16MB", "32MB"] | None = None


class Settings(_Settings):
    """Everything of a layer. ``kconfig``: whatever else, symbol without ``CONFIG_`` → value, or a secret's source."""

    can: Can = Can()
    metadata: Metadata = Metadata()
    station: Station = Station()
    access_point: AccessPoint = AccessPoint()
    mqtt: Mqtt = Mqtt()
    flasher: Flasher = Flasher()
    kconfig: dict[str, bool | int | str | SecretSource] = {}
