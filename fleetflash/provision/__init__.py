"""What the controller brings to a host that Klipper shall run on."""
