"""Settings that people choose: a field of a dataclass with its help text, default and range, said once.

The help of the command line, its options, the checks and the docs are made from them, so a new setting is one line.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class Loan:
...     days: int = setting(14, "how long a book may be kept", least=1)
>>> settings(Loan)["days"].help
'how long a book may be kept'
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from overread.core.errors import checked, one_of, require


@dataclass(frozen=True)
class Setting:
    """What is known of a field. ``least`` and ``most`` are allowed themselves; ``choices``: empty where any text will do.

    ``option``: its name on the command line where that is not the field's; a field that is on by default is switched off
    by it. ``first``: among the options that most people need. ``repeated``: the option may be given several times, where
    others take several values separated by commas. ``path``: of a file or folder, seen from where the study lies.
    ``also``: a second spelling of the option.
    ``offered``: whether the command line has it at all. ``env``: the environment variable that may say it.
    """

    help: str
    default: Any
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    option: str = ""
    first: bool = False
    repeated: bool = False
    path: bool = False
    offered: bool = True
    env: str = ""
    also: str = ""


def setting(
    default: Any, help: str, *, least: float | None = None, most: float | None = None, choices: tuple[str, ...] = (), option: str = "",
    first: bool = False, repeated: bool = False, path: bool = False, offered: bool = True, env: str = "", also: str = "",
) -> Any:  # fmt: skip
    """A field of a dataclass that people set; see :class:`Setting`. An empty dict as ``default`` is made anew each time."""
    about = Setting(help, default, least, most, choices, option, first, repeated, path, offered, env, also)
    if isinstance(default, dict):
        return dataclasses.field(default_factory=dict, hash=False, metadata={"setting": about})
    return dataclasses.field(default=default, metadata={"setting": about})


def settings(kind: type) -> dict[str, Setting]:
    """The settings of a dataclass by the names of their fields."""
    return {f.name: f.metadata["setting"] for f in dataclasses.fields(kind) if "setting" in f.metadata}


@checked
def require_allowed(chosen: object) -> None:
    """Refuse a dataclass whose settings are out of their range or not among their choices. Raises :class:`ArgumentError`."""
    for name, about in settings(type(chosen)).items():
        value, least, most = getattr(chosen, name), about.least, about.most
        if about.choices:
            one_of(value, about.choices, name)
        words = f"be at least {least:g}" if least else "not be negative"
        words = words if most is None else f"lie between {least:g} and {most:g}"
        fits = (least is None or value >= least) and (most is None or value <= most)
        require(fits, f"{name} must {words}", given=value)
