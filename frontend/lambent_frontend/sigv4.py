"""Verifies requests that are signed with AWS Signature Version 4, as every AWS SDK and the AWS CLI sign them,
and signs some.

Source: "Create a signed AWS API request" of AWS's IAM user guide. Lambda's requests sign the SHA-256 of their
body; a body that is left out of the signature is refused. Who overhears a signed request can send it again
for as long as its time is good, here as at AWS: only TLS prevents that.
"""

import functools
import hashlib
import hmac
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, unquote

from lambent_proto.errors import BadSignature, IncompleteSignature, UnknownKey

ALGORITHM: Final = "AWS4-HMAC-SHA256"
SERVICE: Final = "lambda"

GOOD_FOR_S: Final = 300
"""How far a request's time may be from the clock here, in seconds, to either side: AWS's five minutes."""

_REMEMBERED: Final = 512
"""Characters of a path whose encoded form is remembered: longer ones come of nobody who has a function."""

_BODY_SHA256: Final = "x-amz-content-sha256"
_UNRESERVED: Final = "-_.~"
_CREDENTIAL: Final = re.compile(
    r"([A-Za-z0-9]{1,128})/(\d{8})/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})/aws4_request"
)
_TIME: Final = re.compile(r"\d{8}T\d{6}Z")
_SIGNATURE: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it came over the wire."""

    method: str
    path: str
    """Still percent-encoded."""
    query: str
    """Still percent-encoded, without its question mark."""
    headers: Mapping[str, str]
    """By lower-case name; one that came several times is joined by commas."""
    body: bytes


@dataclass(frozen=True, slots=True)
class _Claim:
    """What the Authorization header says."""

    key_id: str
    date: str
    region: str
    signed: tuple[str, ...]
    """Names of the headers that are part of the signature."""
    signature: str

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{SERVICE}/aws4_request"


def is_signed(authorization: str) -> bool:
    return authorization.startswith(ALGORITHM)


def sign(request: SignedRequest, key_id: str, secret: str, region: str) -> str:
    """The Authorization header of a request that has all its others, X-Amz-Date too: all are signed."""
    time, names = request.headers["x-amz-date"], tuple(sorted(request.headers))
    claim = _Claim(key_id, time[:8], region, names, "")
    signature = _signature(request, claim, time, secret, _body_sha256(request))
    return (
        f"{ALGORITHM} Credential={key_id}/{claim.scope}, SignedHeaders={';'.join(names)}, "
        f"Signature={signature}"
    )


def verify(request: SignedRequest, secret_of: Callable[[str], str | None], now: float) -> str:
    """Returns the id of the access key that the request was signed with. `now` is Unix time, in seconds.

    Raises IncompleteSignature, UnknownKey or BadSignature.
    """
    claim, time, secret = _claimed(request, secret_of, now)
    _check(request, claim, time, secret, _body_sha256(request))
    return claim.key_id


def verify_head(
    request: SignedRequest, secret_of: Callable[[str], str | None], now: float
) -> tuple[str, bool]:
    """The same as far as it can be told before the body is there, and whether that is the signature itself.

    It is where the head says which hash the body has.
    """
    claim, time, secret = _claimed(request, secret_of, now)
    body_sha256 = request.headers.get(_BODY_SHA256)
    if body_sha256:
        _check(request, claim, time, secret, body_sha256)
    return claim.key_id, bool(body_sha256)


def _claimed(
    request: SignedRequest, secret_of: Callable[[str], str | None], now: float
) -> tuple[_Claim, str, str]:
    """What the request claims, the time that was signed, and the secret that it should be signed with."""
    claim = _claim(request.headers.get("authorization", ""))
    time = _time(request, claim, now)
    secret = secret_of(claim.key_id)
    if secret is None:
        raise UnknownKey("The security token included in the request is invalid.")
    return claim, time, secret


def _check(request: SignedRequest, claim: _Claim, time: str, secret: str, body_sha256: str) -> None:
    expected = _signature(request, claim, time, secret, body_sha256)
    if not hmac.compare_digest(expected, claim.signature):
        raise BadSignature(
            "The request signature we calculated does not match the signature you provided. Check your AWS "
            "Secret Access Key and signing method. Consult the service documentation for details."
        )


def _signature(request: SignedRequest, claim: _Claim, time: str, secret: str, body_sha256: str) -> str:
    canonical = _canonical(request, claim, body_sha256).encode(errors="surrogateescape")
    to_sign = "\n".join((ALGORITHM, time, claim.scope, _sha256(canonical)))
    return hmac.digest(_signing_key(secret, claim.date, claim.region), to_sign.encode(), "sha256").hex()


def _claim(authorization: str) -> _Claim:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        raise IncompleteSignature(f"the Authorization header must begin with {ALGORITHM}")
    parts = dict(_named(part) for part in rest.split(","))
    missing = [name for name in ("Credential", "SignedHeaders", "Signature") if not parts.get(name)]
    if missing:
        raise IncompleteSignature(f"Authorization header requires {', '.join(map(repr, missing))}.")
    credential = _CREDENTIAL.fullmatch(parts["Credential"])
    if credential is None:
        raise IncompleteSignature("Credential must be KEY_ID/YYYYMMDD/REGION/lambda/aws4_request")
    key_id, date, region, service = credential.groups()
    if service != SERVICE:
        raise BadSignature(f"Credential should be scoped to correct service: '{SERVICE}'.")
    if not _SIGNATURE.fullmatch(parts["Signature"]):
        raise IncompleteSignature("Signature must be 64 hexadecimal digits")
    signed = tuple(parts["SignedHeaders"].split(";"))
    if len(set(signed)) < len(signed):  # a long one named thousands of times takes a second and 500 MB
        raise IncompleteSignature("SignedHeaders names a header twice")
    if "host" not in signed:
        raise BadSignature("'Host' must be a 'SignedHeader' in the AWS Authorization.")
    return _Claim(key_id, date, region, signed, parts["Signature"])


def _named(part: str) -> tuple[str, str]:
    name, _, value = part.strip().partition("=")
    return name, value


def _time(request: SignedRequest, claim: _Claim, now: float) -> str:
    """The time that was signed, as it was written."""
    time = request.headers.get("x-amz-date", "")
    if not _TIME.fullmatch(time) or "x-amz-date" not in claim.signed:
        raise IncompleteSignature(
            "X-Amz-Date must be there, as YYYYMMDDTHHMMSSZ, and be one of SignedHeaders"
        )
    try:
        at = _unix_s(time)
    except ValueError:
        raise IncompleteSignature(f"X-Amz-Date {time} is no time that there is") from None
    if claim.date != time[:8]:
        raise BadSignature(
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{claim.date}' != '{time[:8]}', from '{time}'."
        )
    if abs(at - now) > GOOD_FOR_S:
        here = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
        what, where = ("expired", "before") if at < now else ("not yet current", "after")
        raise BadSignature(f"Signature {what}: {time} is more than {GOOD_FOR_S // 60} min. {where} {here}.")
    return time


@functools.lru_cache(maxsize=64)  # of requests that come together, where it is among the dearest steps
def _unix_s(time: str) -> float:
    """Raises ValueError."""
    return datetime.strptime(time, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _canonical(request: SignedRequest, claim: _Claim, body_sha256: str) -> str:
    """The request in the one form that both sides sign."""
    signed = set(claim.signed)
    unsigned = [name for name in request.headers if name.startswith("x-amz-") and name not in signed]
    absent = [name for name in claim.signed if name not in request.headers]
    if unsigned or absent:
        names = ", ".join(unsigned or absent)
        raise BadSignature(
            f"There were headers present in the request which were not signed, or absent: {names}"
        )
    headers = [f"{name}:{' '.join(request.headers[name].split())}\n" for name in sorted(claim.signed)]
    return "\n".join(
        (
            request.method,
            _canonical_path(request.path),
            _canonical_query(request.query),
            "".join(headers),
            ";".join(sorted(claim.signed)),
            body_sha256,
        )
    )


def _canonical_path(path: str) -> str:
    return _remembered(path) if len(path) <= _REMEMBERED else _remembered.__wrapped__(path)


@functools.lru_cache(maxsize=256)
def _remembered(path: str) -> str:
    """Encoded once more: Lambda's paths are encoded twice."""
    return quote(_plain(path), safe="/" + _UNRESERVED)


def _plain(path: str) -> str:
    """Without dots and doubled slashes, as SDKs sign it."""
    if not path.strip("/"):
        return "/"
    return posixpath.normpath("/" + path.lstrip("/")) + ("/" if path.endswith("/") else "")


def _canonical_query(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    encoded = sorted((_encoded(name), _encoded(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _encoded(text: str) -> str:
    return quote(unquote(text, errors="surrogateescape"), safe=_UNRESERVED, errors="surrogateescape")


def _body_sha256(request: SignedRequest) -> str:
    actual = _sha256(request.body)
    said = request.headers.get(_BODY_SHA256, actual)
    if said != actual:
        raise BadSignature(
            "The provided 'x-amz-content-sha256' header does not match what was computed: the body is always "
            "part of the signature here"
        )
    return actual


@functools.lru_cache(maxsize=256)  # the same for all requests of a key on one day
def _signing_key(secret: str, date: str, region: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, SERVICE, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
