"""The simulated lab, as ``fleetflash lab up`` boots it: six printers with eight BMCU-C boards, and two gateways.

Edit this into your own: a printer is a name, how SSH gets there, and its boards. What all printers share
(firmware, version, chip) is in group_data/klipper_hosts.py, what gateways share in group_data/gateways.py. Plain data
only: nothing here connects or computes.
"""

LAB = "/var/lib/fleetflash-lab/lab"
PORT = "/dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.{}:1.0-port0"


def _ssh(address):
    """How SSH gets to a printer of the lab."""
    return {
        "ssh_hostname": address,
        "ssh_user": "pi",
        "ssh_key": f"{LAB}/id_ed25519",
        "ssh_known_hosts_file": f"{LAB}/known_hosts",
    }


klipper_hosts = [
    ("printer-1", {**_ssh("10.77.0.11"), "boards": {"bmcu": {"port": PORT.format(1)}}}),
    (
        "printer-2",
        {
            **_ssh("10.77.0.12"),
            "boards": {
                "bmcu-a": {"port": PORT.format(1)},
                "bmcu-b": {"port": PORT.format(2), "klippy_mcu": "bmcu_b"},
            },
        },
    ),
    # Its adapter carries no DTR and RTS: somebody holds B and taps R when asked.
    ("printer-3", {**_ssh("10.77.0.13"), "boards": {"bmcu": {"port": PORT.format(1), "entry": "button"}}}),
    # Written from the controller, over SSH-forwarded serial.
    ("printer-4", {**_ssh("10.77.0.14"), "boards": {"bmcu": {"port": PORT.format(1), "placement": "controller"}}}),
    (
        "printer-5",
        {
            **_ssh("10.77.0.15"),
            "policy": "exact",
            "boards": {
                "bmcu-a": {"port": PORT.format(1)},
                "bmcu-b": {"port": PORT.format(2), "klippy_mcu": "bmcu_b"},
            },
        },
    ),
    ("printer-6", {**_ssh("10.77.0.16"), "boards": {"bmcu": {"port": PORT.format(1)}}}),
]

# Their boots are judged: with a card, and without one.
CONTRACT = "contracts/io-expander-sd.yaml"

# What it does in its networks; `fleetflash check` looks. Its API tells which version runs.
ONLINE = {
    "http": {
        "web": {"url": "http://{address}:8081/", "contains": "gateway"},
        "api": {
            "url": "http://{address}:8081/api/status",
            "fields": {"version": "{version}", "battery.soc": {"min": 0, "max": 100}},
        },
    },
    "mqtt": {
        "broker": "10.77.0.17",
        "topics": {
            "status": {"topic": "bms/{host}/status", "retained": True, "payload": "online"},
            "telemetry": {"topic": "bms/{host}/telemetry", "fields": {"voltage": {"min": 40, "max": 60}}},
        },
    },
}


def _can(host):
    """The frames that a gateway of the lab has sent."""
    return {"can": {"log": f"{LAB}/hosts/{host}/board-gateway/can.log"}}


gateways = [
    (
        "desk-1",
        {
            **_ssh("10.77.0.17"),
            "boards": {
                "gateway": {
                    "port": PORT.format(1),
                    "contract": CONTRACT,
                    "equipment": {"sd": "yes"},
                    "address": "10.77.0.1",
                    "checks": {**ONLINE, **_can("desk-1")},
                }
            },
        },
    ),
    (
        "desk-2",
        {
            **_ssh("10.77.0.18"),
            "boards": {
                "gateway": {
                    "port": PORT.format(1),
                    "chip": "esp32s3",
                    "contract": CONTRACT,
                    "equipment": {"sd": "no"},
                    "checks": _can("desk-2"),
                }
            },
        },
    ),
]
