"""Typed configuration: what may be set, what is checked, how it is composed."""

from pathlib import Path

#: The folder with the defaults: beside the package in a checkout, inside it in a wheel.
_BESIDE, _INSIDE = Path(__file__).parents[2] / "conf", Path(__file__).parents[1] / "conf"
CONF = _BESIDE if _BESIDE.is_dir() else _INSIDE
