"""Adds ``fleetflash-pyserial.pth`` to the wheel, editable or not; everything else is in pyproject.toml.

A .pth file takes effect only in the root of site-packages, where setuptools puts nothing but packages and modules.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PTH = "fleetflash-pyserial.pth"


class BuildWithPth(build_py):
    def run(self) -> None:
        super().run()
        # For an editable wheel, setuptools has pointed install_lib at what it will pack.
        editable = self.editable_mode
        target = Path(self.get_finalized_command("install").install_lib if editable else self.build_lib)
        target.mkdir(parents=True, exist_ok=True)
        self.copy_file(PTH, str(target / PTH))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs: list[str] = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, str(Path(self.build_lib) / PTH)]


setup(cmdclass={"build_py": BuildWithPth})
