"""Gateway firmware made from source with ESP-IDF: configuration as code, checked, and every build made once."""
