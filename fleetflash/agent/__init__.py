"""The agent: runs beside the boards, on the Klipper host, from one zipapp.

Python >= 3.9 and its standard library only; nothing outside this package is imported. (``tools.esptool_worker`` runs in
a virtualenv that has esptool, in a process of its own.) The controller may import
``agent.schema``, ``agent.wire``, ``agent.port``, ``agent.protocols`` and ``agent.tools``, so that protocols are written
once.
"""
