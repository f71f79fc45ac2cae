"""The keys that tokens are checked with.

A key decides its algorithm; a token never does. Whatever cannot be used safely is refused when it
is loaded, in one sentence, so that a worker with such keys does not start.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from cryptography.x509 import load_pem_x509_certificate

MIN_SECRET_BYTES = 32
MIN_RSA_BITS = 2048
MAX_KEYS = 32
MAX_TRIED = 16
"""How many keys a token that names none of them is tried with: anybody can send such tokens."""
MAX_FILE_BYTES = 1024 * 1024

_USABLE = f"RSA of {MIN_RSA_BITS:,} bits or more, EC on P-256, or Ed25519"
_PEM_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_PRIVATE_JWK_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})


class Algorithm(StrEnum):
    HS256 = "HS256"
    RS256 = "RS256"
    ES256 = "ES256"
    EDDSA = "EdDSA"


_ALGORITHM_OF_KTY = {"RSA": Algorithm.RS256, "EC": Algorithm.ES256, "OKP": Algorithm.EDDSA}


class UnusableKeys(ValueError):
    """Keys cannot be used. The message is one sentence and holds nothing of any key."""


Material: TypeAlias = bytes | RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class Key:
    """One key, and the one algorithm that it is used with.

    Raises: UnusableKeys: a secret under 32 bytes, or one that is no secret; an RSA key under 2,048
        bits; an unusable curve; anything else that is no key.
    """

    material: Material = field(repr=False)
    kid: str | None = None
    """Its id in a JWKS. None: it has none."""
    algorithm: Algorithm = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "algorithm", _algorithm_of(self.material))


class KeySet:
    """Keys, found by what a token's header says.

    Args:
        keys: 1 to 32 of them; no two share both algorithm and id.
    Raises: UnusableKeys.
    """

    def __init__(self, keys: Iterable[Key]) -> None:
        self._keys = tuple(keys)
        if not self._keys:
            raise UnusableKeys("there is no key for checking tokens")
        if len(self._keys) > MAX_KEYS:
            raise UnusableKeys(f"there are {len(self._keys)} keys: at most {MAX_KEYS} can be used")
        named = [(key.algorithm, key.kid) for key in self._keys if key.kid is not None]
        if len(named) > len(set(named)):
            raise UnusableKeys("two keys have the same algorithm and the same kid")

    def candidates(self, algorithm: object, kid: str | None) -> Sequence[Key]:
        """Return the keys that may have signed a token.

        Args:
            algorithm: the header's `alg`, whatever it is.
            kid: the header's `kid`; None: it has none.
        Returns: of the keys bound to that algorithm the one of that id, or else those without an
            id; without a `kid` any of them; 16 at most. Empty: no known key can have signed it.
        """
        bound = [key for key in self._keys if key.algorithm == algorithm]
        if kid is not None:
            named = [key for key in bound if key.kid == kid]
            bound = named or [key for key in bound if key.kid is None]
        return bound[:MAX_TRIED]

    def has(self, kid: str) -> bool:
        """Say whether there is a key of this id."""
        return any(key.kid == kid for key in self._keys)


def read_keys(path: Path) -> list[Key]:
    """Read public keys from a file: PEM (public keys or certificates, one or several) or a JWKS.

    Raises: UnusableKeys: the file cannot be read, or `parse_keys` refuses it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnusableKeys(f"{path} cannot be read: {error.strerror}") from None
    return parse_keys(content, str(path))


def parse_keys(content: bytes, source: str) -> list[Key]:
    """Return the public keys in PEM or JWKS text.

    Of a certificate only the key counts: neither its dates nor its issuer are looked at. JWKs that
    are marked for something other than signatures are left out.

    Args:
        source: where the text comes from, for error messages.
    Returns: at least one key, in the order of the text.
    Raises: UnusableKeys: a key among them is private, symmetric, or of a kind, curve, size or
        algorithm that is not supported; there is none; the text is cut off, too long, or neither.
    """
    if len(content) > MAX_FILE_BYTES:
        raise UnusableKeys(f"{source} is larger than {MAX_FILE_BYTES:,} bytes")
    content = content.removeprefix(b"\xef\xbb\xbf").strip()
    if content.startswith(b"{"):
        keys = _jwks_keys(content, source)
    elif b"-----BEGIN " in content:
        keys = _pem_keys(content, source)
    else:
        raise UnusableKeys(f"{source} holds neither PEM nor a JWKS")
    if not keys:
        raise UnusableKeys(f"{source} holds no key for checking signatures")
    try:
        KeySet(keys)
    except UnusableKeys as error:
        raise UnusableKeys(f"{source}: {error}") from None
    return keys


def published_keys(content: bytes) -> tuple[list[Key], list[str]]:
    """Return what can be used of a JWKS that an issuer publishes.

    The operator cannot fix it, and a new kind of key in it must not take the good ones away: what
    `parse_keys` refuses is left out, as is the second key of an algorithm and id, and what goes
    beyond 32 keys.

    Returns: keys, in the order of the text, perhaps none; and for each that was left out, why.
    Raises: UnusableKeys: the text is no JWKS.
    """
    keys: list[Key] = []
    left_out: list[str] = []
    seen: set[tuple[Algorithm, str | None]] = set()
    for number, entry in enumerate(_jwks_entries(content, "the document"), start=1):
        if len(keys) == MAX_KEYS:
            left_out.append(f"key {number} and what follows: at most {MAX_KEYS} are used")
            break
        try:
            key = _jwk_key(entry, f"key {number}")
        except UnusableKeys as error:
            left_out.append(str(error))
            continue
        if key is None:
            continue
        if key.kid is not None and (key.algorithm, key.kid) in seen:
            left_out.append(f"key {number} has the algorithm and the kid of another one")
            continue
        seen.add((key.algorithm, key.kid))
        keys.append(key)
    return keys, left_out


def _algorithm_of(material: object) -> Algorithm:
    match material:
        case bytes():
            _check_secret(material)
            return Algorithm.HS256
        case RSAPublicKey():
            if material.key_size < MIN_RSA_BITS:
                raise UnusableKeys(
                    f"an RSA key of {material.key_size:,} bits is too short: "
                    f"at least {MIN_RSA_BITS:,} are needed"
                )
            return Algorithm.RS256
        case EllipticCurvePublicKey(curve=SECP256R1()):
            return Algorithm.ES256
        case Ed25519PublicKey():
            return Algorithm.EDDSA
        case _:
            raise UnusableKeys(f"the key's type is not supported: use {_USABLE}")


def _check_secret(secret: bytes) -> None:
    if len(secret) < MIN_SECRET_BYTES:
        raise UnusableKeys(
            f"an HS256 secret of {len(secret)} bytes is too short: "
            f"at least {MIN_SECRET_BYTES} are needed"
        )
    try:
        jwt.get_algorithm_by_name(Algorithm.HS256).prepare_key(secret)
    except jwt.InvalidKeyError:
        raise UnusableKeys(
            "the HS256 secret is a key pair's key, a certificate or a JWK: use random bytes"
        ) from None


def _pem_keys(content: bytes, source: str) -> list[Key]:
    if b"PRIVATE KEY-----" in content:
        raise UnusableKeys(f"{source} holds a private key: only public keys belong there")
    blocks = list(_PEM_BLOCK.finditer(content))
    if len(blocks) != content.count(b"-----BEGIN "):
        raise UnusableKeys(f"{source} holds a PEM block that is cut off or malformed")
    return [
        _pem_key(block[1], block[0], f"{source}, key {number}")
        for number, block in enumerate(blocks, start=1)
    ]


def _pem_key(label: bytes, block: bytes, where: str) -> Key:
    if label not in (b"PUBLIC KEY", b"RSA PUBLIC KEY", b"CERTIFICATE"):
        raise UnusableKeys(f"{where} is neither a public key nor a certificate")
    try:
        material: Any = (
            load_pem_x509_certificate(block).public_key()
            if label == b"CERTIFICATE"
            else load_pem_public_key(block)
        )
    except Exception:  # the parsers promise no closed list of what they raise
        raise UnusableKeys(f"{where} cannot be read: use {_USABLE}") from None
    return _key(material, None, where)


def _jwks_keys(content: bytes, source: str) -> list[Key]:
    keys = (
        _jwk_key(entry, f"{source}, key {number}")
        for number, entry in enumerate(_jwks_entries(content, source), start=1)
    )
    return [key for key in keys if key is not None]


def _jwks_entries(content: bytes, source: str) -> list[Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise UnusableKeys(f"{source} is not valid JSON") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise UnusableKeys(f'{source} is not a JWKS: it has no list "keys"')
    return entries


def _jwk_key(jwk: Any, where: str) -> Key | None:
    """Return the key; None: it is not meant for signatures."""
    if not isinstance(jwk, dict):
        raise UnusableKeys(f"{where} is not an object")
    kty, kid = jwk.get("kty"), jwk.get("kid")
    if kty == "oct" or "k" in jwk:
        raise UnusableKeys(f"{where} is a symmetric key: only public keys belong there")
    if not _PRIVATE_JWK_MEMBERS.isdisjoint(jwk):
        raise UnusableKeys(f"{where} is a private key: only public keys belong there")
    if not _is_for_signatures(jwk):
        return None
    if "kid" in jwk and not isinstance(kid, str):
        raise UnusableKeys(f"{where} has a kid that is not a string")
    algorithm = _ALGORITHM_OF_KTY.get(kty) if isinstance(kty, str) else None
    if algorithm is None:
        raise UnusableKeys(f"{where} has an unsupported type: use {_USABLE}")
    if jwk.get("alg", algorithm) != algorithm:
        raise UnusableKeys(f"{where} is for an algorithm other than {algorithm}")
    try:
        material: Any = jwt.PyJWK(jwk, algorithm).key
    except Exception:  # the parsers promise no closed list of what they raise
        raise UnusableKeys(f"{where} cannot be read: use {_USABLE}") from None
    return _key(material, kid, where)


def _is_for_signatures(jwk: dict[str, Any]) -> bool:
    operations = jwk.get("key_ops")
    return jwk.get("use", "sig") == "sig" and (
        not isinstance(operations, list) or "verify" in operations
    )


def _key(material: Any, kid: str | None, where: str) -> Key:
    try:
        return Key(material, kid)
    except UnusableKeys as error:
        raise UnusableKeys(f"{where}: {error}") from None
