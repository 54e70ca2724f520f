"""Is everything as it was declared? Asked before production and by cron; nothing is changed."""
