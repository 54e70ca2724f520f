"""A simulated ESP32 board: ROM loader, stub loader, boot from flash.

Written from Espressif's published documents, never with esptool's code: esptool is the judge. Named in the docstrings:

- "Serial Protocol", "Boot Mode Selection", "Firmware Image Format": pages of the esptool documentation
- "Partition Tables", "Bootloader", "App Image Format", "OTA": pages of the ESP-IDF programming guide
- the technical reference manuals (TRM) and datasheets of the chips
"""
