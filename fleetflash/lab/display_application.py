"""An application of the lab with an SD card behind an IO expander, on an I2C bus shared with a touch controller.

Its lines are those of the report on that card, section "Critères de Succès", with what its boot must bring up besides.
"""

from fleetflash.lab.esp_image import AppLine

LINES: tuple[AppLine, ...] = (
    (20, "I (400) i2c_bus_shared: bus ready on GPIO 8/9"),
    (20, "I (420) gt911: touch controller at 0x5D"),
    (20, "I (900) i2c_bus_shared: I2C backoff reset"),
    (20, "I (950) io_ext: IO_Mode OK (attempt 1, mask=0xFF)"),
    (10, "?sd=yes I (960) sd_extcs: SD ExtCS: IOEXT outputs configured (mask=0xFF, CS=IO4 push-pull)"),
    (50, "?sd=yes I (1100) sd: SD state -> INIT_OK"),
    (50, "?sd=no I (1100) sd: SD state -> ABSENT"),
    (20, "I (1200) lcd: panel on"),
    (20, "I (1300) lvgl: running"),
)
