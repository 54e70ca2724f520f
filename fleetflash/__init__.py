"""Declarative firmware for fleets of Klipper printers and ESP32 gateways."""

__version__ = "0.1.0"
