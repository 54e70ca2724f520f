"""A folder with a gateway's source, a small ESP-IDF, and builders with caches and stores of their own."""

import shutil
from pathlib import Path
from typing import Any

from fleetflash.build.idf.builder import GatewayBuilder
from fleetflash.build.idf.esp_idf import read_esp_idf
from fleetflash.build.idf.gateway_type import GatewayType, read_gateway_types
from fleetflash.firmware.store import Store
from tests.idf import GatewaySource, Sdk

ROOT = Path(__file__).parents[1]


class GatewayProject:
    """``told``: what the builders reported."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sdk, self.source = Sdk(directory), GatewaySource(directory / "gateway")
        self.told: list[str] = []
        shutil.copytree(ROOT / "templates", directory / "templates")
        self.builder = self.new_builder("cache")

    def new_builder(self, name: str, esp_idf: dict[str, Any] | None = None) -> GatewayBuilder:
        cache, store = self.directory / name, Store(self.directory / f"{name}-store")
        pinned = read_esp_idf({"5.3": esp_idf or self.sdk.data})
        return GatewayBuilder(cache, store, self.directory, pinned, self.told.append)

    def fields(self, **fields: Any) -> dict[str, Any]:
        usual = {
            "firmware": "tinybms-gateway",
            "repository": str(self.source.path),
            "ref": "v1.0.0",
            "target": "esp32",
            "esp_idf": "5.3",
        }
        return usual | fields

    def gateway(self, name: str = "lyon", **fields: Any) -> GatewayType:
        return read_gateway_types({name: self.fields(**fields)}, read_esp_idf({"5.3": self.sdk.data}))[name]
