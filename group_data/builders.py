"""Which firmware is built, from which source, with which configuration and tools. See docs/builds.md."""

# Compilers, pinned: the version of Debian's packages, or an archive with its sha256 for each architecture.
toolchains = {
    "avr": {
        "version": "5.4.0",
        "debian": {"gcc-avr": "1:5.4.0*", "binutils-avr": "2.26*", "avr-libc": "1:2.0.0*"},
    },
    "arm": {
        "version": "12.2",
        "debian": {"gcc-arm-none-eabi": "15:12.2*", "binutils-arm-none-eabi": "2.40*", "libnewlib-arm-none-eabi": "*"},
    },
}

_KLIPPER = {"repository": "https://github.com/Klipper3d/klipper.git", "ref": "v0.12.0"}

# The answers to menuconfig, one entry for each kind of board. Boards are pinned to firmware and its version.
board_types = {
    "mega2560": {
        **_KLIPPER,
        "chip": "atmega2560",
        "firmware": "klipper-mega2560",
        "toolchain": "avr",
        "kconfig": {"MACH_AVR": True, "MACH_atmega2560": True},
        # Klipper writes no klipper.bin for AVR chips.
        "image": "klipper.elf.hex",
    },
    # Behind Katapult, which has the first 8 KiB: the configuration and flash_offset must say the same.
    "stm32f103": {
        **_KLIPPER,
        "chip": "stm32f103xb",
        "firmware": "klipper-stm32f103",
        "toolchain": "arm",
        "kconfig": {"MACH_STM32": True, "MACH_STM32F103": True, "STM32_FLASH_START_2000": True},
        "flash_offset": 0x2000,
    },
}

# Gateways, built with ESP-IDF (docs/gateway-builds.md): one that is installed, or "archive" instead of the two paths.
# esp_idf = {"5.3": {"version": "v5.3.1", "path": "/opt/esp/idf-v5.3.1", "tools_path": "/opt/esp/tools"}}
#
# _GATEWAY = {
#     "repository": "ssh://git@git.example.org/tinybms-web-gateway.git",
#     "ref": "v1.0.0",
#     "target": "esp32",
#     "esp_idf": "5.3",
#     "settings": {
#         "can": {"tx_gpio": 7, "rx_gpio": 6, "keepalive_interval_ms": 1000, "keepalive_timeout_ms": 10000},
#         "metadata": {"manufacturer": "Enepaq", "battery_name": "LiFePO4", "battery_family": "TinyBMS"},
#         "station": {"hostname": "tinybms-gateway", "max_retry": 5},
#         "access_point": {"ssid": "TinyBMS-Gateway", "password": {"command": ["pass", "show", "tinybms/ap"]}},
#         "flasher": {"mode": "dio", "frequency": "80m", "size": "4MB"},
#     },
#     "tests": {"command": ["idf.py", "test"], "reports": "build/*/test.log"},
# }
#
# gateway_types = {
#     "lyon": {
#         **_GATEWAY,
#         "firmware": "tinybms-gateway-lyon",
#         "site": "lyon",
#         "site_settings": {
#             "station": {"ssid": "plant-2", "password": {"file": "~/.config/fleetflash/lyon-wifi"}},
#             "kconfig": {"TINYBMS_WIFI_AP_CHANNEL": 6},
#         },
#     },
# }
