"""What a server allows: where it listens, who may ask, and the limits of what is taken. Torch-free, and without a web library."""

from __future__ import annotations

import ipaddress
import secrets
from dataclasses import dataclass, field

from overread.core.errors import InputError, checked
from overread.core.settings import require_allowed, setting

#: Shortest token: 96 random bits in URL-safe base 64.
TOKEN_LENGTH = 16
#: Names by which a browser on this machine may call a server that only this machine reaches.
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
#: Value of ``log`` for no audit log.
NO_LOG = "none"


@dataclass(frozen=True)
class Address:
    """Where to listen, and who may ask."""

    host: str = setting(
        "127.0.0.1", "address to listen on; anything but this machine's own demands a token", first=True
    )
    port: int = setting(8765, "port; 0: any free one", least=0, most=65_535, first=True)
    token: str = setting(
        "",
        "secret that every request must bring; better in the environment than here, where others see it",
        env="OVERREAD_TOKEN",
    )
    allow_host: tuple[str, ...] = setting(
        (), "name under which the server is reached (of a proxy, too); may be repeated", repeated=True
    )
    root_path: str = setting("", "path under which a proxy offers it, such as /overread")
    trust_proxy: bool = setting(False, "believe X-Forwarded-User, and record it as a salted hash")

    def __post_init__(self) -> None:
        require_allowed(self)
        if self.token and (len(self.token) < TOKEN_LENGTH or not self.token.isascii() or not self.token.isprintable()):
            raise InputError(f"the token is shorter than {TOKEN_LENGTH} characters, or has others than letters, digits and signs",
                             given=f"{len(self.token)} characters", todo=f"make one: {_MAKE}")  # fmt: skip
        if not self.local and not self.token:
            raise InputError("an address that others can reach demands a token", given=f"--host {self.host}",
                             todo=f"set OVERREAD_TOKEN, made by {_MAKE}; or listen on 127.0.0.1")  # fmt: skip
        if self.everywhere and not self.allow_host:
            raise InputError("the name under which the server is reached is not known", given=f"--host {self.host}",
                             todo="name it: --allow-host reading.hospital.example")  # fmt: skip
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise InputError("--root-path begins with a slash and does not end with one", given=self.root_path)

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it. A name other than localhost counts as public: it may mean anything."""
        return is_loopback(self.host)

    @property
    def everywhere(self) -> bool:
        """Whether it listens on every address of this machine, so that its own name says nothing."""
        return self.host in ("0.0.0.0", "::", "")

    @property
    def hosts(self) -> frozenset[str]:
        """Names that a Host header may have, in lower case, without port."""
        own = () if self.everywhere else (bracketed(self.host),)
        return frozenset(name.lower() for name in (*self.allow_host, *own, *(LOOPBACK if self.local else ())))


_MAKE = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'


@dataclass(frozen=True)
class ServingLimits:
    """What is taken, and what is refused."""

    upload: float = setting(256.0, "megabytes of a request", least=0.001, most=65_536)
    parts: int = setting(2_000, "files of a request", least=1, most=200_000)
    fields: int = setting(16, "other fields of a request", least=0, most=1_000)
    inflated: float = setting(2_048.0, "megabytes that an archive may inflate to", least=0.001, most=1_048_576)
    megapixels: float = setting(200.0, "of an image, all its frames together", least=0.0001, most=200.0)
    body_seconds: float = setting(60.0, "within which a request must have arrived", least=0.1, most=86_400)
    header_seconds: float = setting(10.0, "within which the head of a request must have arrived", least=0.1, most=3_600)
    header_bytes: int = setting(16_384, "of the head of a request", least=1_024, most=1_048_576)
    ranges: int = setting(16, "ranges that a Range header may name; they are not served", least=0, most=1_000)
    rate: int = setting(600, "images a minute from one address; 0: as many as it likes", least=0, most=1_000_000)
    tiles: int = setting(
        12_000, "tiles of slides a minute from one address; 0: as many as it likes", least=0, most=1_000_000
    )
    queue: int = setting(16, "requests of a worker that may wait; one more is told to come again", least=0, most=10_000)
    digits: int = setting(3, "decimals of the numbers that are answered", least=1, most=8)

    def __post_init__(self) -> None:
        require_allowed(self)

    @property
    def upload_bytes(self) -> int:
        """Most bytes of a request."""
        return int(self.upload * 1e6)

    @property
    def inflated_bytes(self) -> int:
        """Most bytes of all members of an archive."""
        return int(self.inflated * 1e6)

    @property
    def pixels(self) -> int:
        """Most pixels of an image, all its frames together."""
        return int(self.megapixels * 1e6)


@dataclass(frozen=True)
class Operation:
    """How it runs on this machine."""

    workers: int = setting(1, "processes that answer; each holds the model", least=1, most=64)
    threads: int = setting(0, "threads of a worker; 0: the cores, shared among the workers", least=0, most=1_024)
    device: str = setting("", "cpu, cuda or mps; the best there is if not given")
    log: str = setting(
        "", f"audit log, codes only; {NO_LOG}: none; serving/audit.jsonl in the run's folder if not given", path=True
    )
    log_mb: float = setting(
        10.0, "megabytes of the audit log before it is turned over; five old ones are kept", least=0.001, most=10_000
    )
    scratch: str = setting(
        "", "folder for uploads while they are read; in memory where that has room, if not given", path=True
    )
    no_neighbours: bool = setting(False, "never show training images")
    tell_seen: bool = setting(
        False,
        "say of an image whether training has seen it or its patient: whoever holds one learns who was in the data",
    )
    salt: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)

    def __post_init__(self) -> None:
        require_allowed(self)


@dataclass(frozen=True)
class ServingSettings:
    """All that is set of a server; complete and sound, or not made at all."""

    address: Address = field(default_factory=Address)
    limits: ServingLimits = field(default_factory=ServingLimits)
    operation: Operation = field(default_factory=Operation)


@checked
def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "10.0.0.7", "reader.local")]
    [True, True, True, False, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@checked
def bracketed(host: str) -> str:
    """A host as it stands in a URL: an IPv6 address in brackets.

    >>> bracketed("::1"), bracketed("127.0.0.1")
    ('[::1]', '127.0.0.1')
    """
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
