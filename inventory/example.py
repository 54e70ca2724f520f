"""A real print farm to copy: three printers behind a jump host, each with its BMCU-C boards.

SSH details that your ~/.ssh/config already knows need not be repeated here.
"""

PI4 = "/dev/serial/by-path/platform-fd500000.pcie-pci-0000:01:00.0-usb-0:1.{}:1.0-port0"
CB1 = "/dev/serial/by-path/platform-5200400.usb-usb-0:1.{}:1.0-port0"

klipper_hosts = [
    ("voron-1", {"ssh_user": "pi", "boards": {"bmcu": {"port": PI4.format(2), "klippy_mcu": "bmcu"}}}),
    (
        "voron-2",
        {
            "ssh_user": "pi",
            # Both boards, or none: its macros expect the same firmware on the two.
            "policy": "exact",
            "boards": {
                "bmcu-left": {"port": PI4.format(2), "klippy_mcu": "bmcu_left", "uid": "cdab3412aabbccdd"},
                "bmcu-right": {"port": PI4.format(4), "klippy_mcu": "bmcu_right"},
            },
        },
    ),
    (
        "ratrig",
        {
            "ssh_user": "biqu",
            "klipper_service": "klipper-1.service",
            "klippy_socket": "/home/biqu/printer_1_data/comms/klippy.sock",
            # One of several printers on this host. To have deploys/site.py install it, "klipper" goes here (or into
            # group_data), equal for all of them: see docs/site.md.
            # A board behind a plain TTL adapter: somebody holds B and taps R, and tests a newer firmware on it.
            "boards": {
                "bmcu": {
                    "port": CB1.format(1),
                    "klippy_mcu": "bmcu",
                    "entry": "button",
                    "gesture": "hold B on the BMCU behind the left panel, tap R",
                    "firmware_version": "v0.13.0",
                },
            },
        },
    ),
]
