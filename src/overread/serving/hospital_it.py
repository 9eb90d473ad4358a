"""What an IT department asks of a server, and the answers with its settings: for ``overread serve --check`` and for
docs/how-to/hospital-it.md, which a test holds to this table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from overread.core.errors import checked
from overread.serving.policy import NO_LOG, ServingSettings


@dataclass(frozen=True)
class Answer:
    """One line: the ``topic``, the ``question`` and its ``answer``."""

    topic: str
    question: str
    answer: str


@checked
def hospital_it(settings: ServingSettings, run: Path | None = None) -> list[Answer]:
    """The questions in the order of the page, answered for a server with these settings.

    >>> hospital_it(ServingSettings())[0].answer
    'one: TCP 8765 on 127.0.0.1, HTTP; this machine only'
    """
    address, limits, operation = settings.address, settings.limits, settings.operation
    reach = "this machine only" if address.local else "others can reach it, so a token is demanded"
    port = f"TCP {address.port}" if address.port else "a free TCP port that it says when it starts"
    log = {"": f"{run}/serving/audit.jsonl" if run else "serving/audit.jsonl in the run's folder", NO_LOG: "none"}.get(
        operation.log, operation.log
    )
    return [
        Answer("ports", "Which ports does it open?", f"one: {port} on {address.host}, HTTP; {reach}"),
        Answer("outbound", "Which connections does it open?", "none: no update check, no telemetry, no font or script from elsewhere, no name look-up; an address in a request is never fetched"),
        Answer("accounts", "Which accounts are there?", f"none; {'one shared token, compared in constant time' if address.token else 'no token, since only this machine reaches it (--token sets one)'}"
               + ("; users are those of the proxy (X-Forwarded-User), recorded as salted hashes" if address.trust_proxy else "; single sign-on by a proxy, with --trust-proxy")),
        Answer("tls", "Is it encrypted?", "by a proxy in front (nginx, Caddy, Apache): TLS ends there, then --allow-host NAME and, below a path, --root-path"),
        Answer("hosts", "Under which names does it answer?", f"{', '.join(sorted(address.hosts))}; any other Host header is refused"),
        Answer("uploads", "Where do uploads go?", f"{operation.scratch or 'into memory (/dev/shm) where it has room, else into the folder of temporary files'}; removed with the request, and after a crash or a kill at once"),
        Answer("retention", "What is kept?", "no image and no answer; only the audit log"),
        Answer("membership", "Does it tell who was in the training data?", "yes (--tell-seen)" if operation.tell_seen else "no: an answer does not say whether training has seen an image or its patient (--tell-seen does)"),
        Answer("logs", "What is logged?", f"codes only: time, action, random id, status, sizes, seconds; no name, no file name, no address, no pixel. Where: {log}; turned over at {operation.log_mb:g} MB, five old ones kept"),
        Answer("limits", "What is refused?", f"requests over {limits.upload:g} MB or {limits.parts} files or {limits.body_seconds:g} s, archives over {limits.inflated:g} MB inflated, images over {limits.megapixels:g} megapixels, "
               f"more than {limits.rate} images a minute from one address, more than {limits.queue} waiting"),
        Answer("memory", "What does it need?", f"{operation.workers} process{'es' if operation.workers > 1 else ''} that hold the model each, and processes that decode what is uploaded; no graphics card. It says how many megabytes when it starts"),
        Answer("rights", "Which rights does it need?", "those of an ordinary user: it reads the run's folder and writes its audit log; no administrator, no port below 1024"),
        Answer("decoders", "What if an image is malicious?", "what is uploaded is decoded in separate processes with limits of time and memory; slides of the run, which its table names and nobody sends, are read in the server's own process; archives are listed, never extracted, and refused whole where anything in them is not plain"),
        Answer("browser", "What runs in the browser?", "our own script and style, and of a run of slides OpenSeadragon from the same server, under a strict content security policy; no cookie but one for the token, no storage, no third party"),
        Answer("updates", "How is it updated?", "pip install --upgrade, from a mirror or from wheels on a disk; it never updates itself"),
        Answer("sbom", "What is it made of?", "`overread doctor --sbom` prints CycloneDX JSON of what is installed, with versions and licences; why each is there stands in docs/decisions/dependencies.md"),
        Answer("checksums", "How do I know that nothing was changed?", "the model's weights bear their SHA-256, which is checked when they are loaded; pip checks wheels with --require-hashes"),
        Answer("purpose", "Is it a medical device?", "no: for research; it has no certificate, and a doctor decides"),
    ]  # fmt: skip
