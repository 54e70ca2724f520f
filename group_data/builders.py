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
