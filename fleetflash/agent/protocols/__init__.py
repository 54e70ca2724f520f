"""Flash and identification protocols: bytes in, bytes out, over any ``agent.port.Port``."""
