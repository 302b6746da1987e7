"""A certificate made on the spot, for a server that lives as long as one command."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeseg.core import plugins

if TYPE_CHECKING:
    from cryptography import x509

LIFETIME = datetime.timedelta(days=2)
_CLOCKS = datetime.timedelta(hours=24)
"""How far a phone's clock may be behind ours."""


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, ready for a server.

    Attributes:
        context: For the server.
        fingerprint: SHA-256 of the certificate, as browsers show it.
    """

    context: ssl.SSLContext
    fingerprint: str


def make(names: Sequence[str]) -> Certificate:
    """A self-signed certificate for host names and IP addresses; its key never outlives the process.

    Raises:
        MissingDependency: The package `cryptography` is not installed.
    """
    plugins.require("cryptography", extra="browser", what="HTTPS")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "edgeseg bench")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    pem = serialization.Encoding.PEM
    with tempfile.TemporaryDirectory(prefix="edgeseg-tls-") as folder:  # readable for us alone, and gone in a moment
        chain = Path(folder) / "chain.pem"
        chain.write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            + certificate.public_bytes(pem)
        )
        context.load_cert_chain(chain)
    return Certificate(context, certificate.fingerprint(hashes.SHA256()).hex(":").upper())


def _name(name: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
