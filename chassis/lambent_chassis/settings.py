"""What every part is told at its start: one TOML file, each key also an environment variable.

`grpc_port = 50051` in the file is `LAMBENT_GRPC_PORT=50051` in the environment, which beats the file. A key
or a `LAMBENT_*` variable that nobody knows is a fault, as is a value out of range; all faults are reported
together, and the process does not start.
"""

import difflib
import os
import re
import socket
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from lambent_chassis.etcd import Etcd, Tls
from lambent_chassis.peering import PLAIN, BadCertificates, Files, Mtls, Peering

PREFIX: Final = "LAMBENT_"

CLIENT_VARIABLES: Final = frozenset(
    {"LAMBENT_ENDPOINT", "LAMBENT_KEY", "LAMBENT_CA", "LAMBENT_CERT", "LAMBENT_CERT_KEY"}
)
"""Read by clients, so that a shell may have them set when it starts a part."""


class BadSettings(Exception):
    """The message has one line a fault, each with the name of its key."""


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Port = Annotated[int, Field(ge=0, le=65535)]
"""0 takes a free one."""

CommaSeparated = Annotated[list[str], NoDecode, BeforeValidator(_split)]
"""A list in TOML; separated by commas in the environment."""

Endpoints = Annotated[CommaSeparated, Field(min_length=1)]


class Settings(BaseSettings):
    """The keys that all parts have; each part's own model adds its own."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, validate_default=True
    )

    name: str = Field(default_factory=socket.gethostname, pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """What people read in listings; need not be unique."""
    etcd: Endpoints
    """`host:port`, or with `http://` or `https://`; one that works is enough."""
    etcd_user: str = ""
    etcd_password: SecretStr = SecretStr("")
    etcd_ca: Path | None = None
    """PEM file of who signed etcd's certificate; without it the system's roots are taken."""
    etcd_cert: Path | None = None
    etcd_key: Path | None = None
    fleet_ca: Path | None = None
    """PEM file of who signs the certificates of the fleet's parts. With the next two they speak TLS among
    themselves, and each shows its own: docs/security.md."""
    fleet_cert: Path | None = None
    fleet_key: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    """auto: console on a terminal, else JSON."""

    @classmethod
    def load(cls, config: Path | None = None) -> Self:
        """The settings from a TOML file and the environment; raises BadSettings."""
        given = _read(config) if config else {}
        faults = _unknown_variables(set(cls.model_fields))
        try:
            settings = cls(**given)
        except ValidationError as error:
            faults += [_fault(cls, found) for found in error.errors()]
        if faults:
            source = f"{config} and the environment" if config else "the environment"
            raise BadSettings("\n".join([f"Bad settings ({source}):", *(f"  {fault}" for fault in faults)]))
        return settings

    def with_options(self, given: Mapping[str, Any]) -> Self:
        """These with what a command line says, which beats the file and the environment.

        Raises BadSettings.
        """
        try:
            # The environment has been read, and must not beat what is given: no variable begins like this.
            values = self.model_dump() | dict(given)
            return type(self)(_env_prefix=f"{PREFIX}READ_BEFORE_", **values)  # type: ignore[call-arg]
        except ValidationError as error:
            faults = [_fault(type(self), found) for found in error.errors()]
            raise BadSettings("\n".join(["Bad settings:", *(f"  {fault}" for fault in faults)])) from None

    @classmethod
    def of_any_part(cls, config: Path | None = None, etcd: str | None = None) -> "Settings":
        """What the TOML file of whichever part says of etcd, for a command that needs nothing else.

        `etcd` beats the environment, which beats the file. Raises BadSettings.
        """
        given = _read(config) if config else {}
        known = {key: value for key, value in given.items() if key in Settings.model_fields}
        try:
            settings = Settings(**known | ({"etcd": etcd} if etcd else {}))
        except ValidationError as error:
            faults = "\n".join(f"  {_fault(Settings, found)}" for found in error.errors())
            raise BadSettings(f"Where is etcd? (--etcd, --config or the environment):\n{faults}") from error
        return settings.model_copy(update={"etcd": _split(etcd)}) if etcd else settings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment beats what `load` read from the file."""
        return env_settings, init_settings

    @model_validator(mode="after")
    def _certificate_with_key(self) -> Self:
        if (self.etcd_cert is None) != (self.etcd_key is None):
            raise ValueError("etcd_cert and etcd_key go together: give both or neither")
        return self

    @model_validator(mode="after")
    def _all_of_the_fleets(self) -> Self:
        given = [self.fleet_ca, self.fleet_cert, self.fleet_key]
        if any(given) and not all(given):
            raise ValueError("fleet_ca, fleet_cert and fleet_key go together: give all three or none")
        return self

    def peering(self) -> Peering:
        """How it speaks to other parts. Raises BadSettings if its certificates cannot be used."""
        if self.fleet_ca is None or self.fleet_cert is None or self.fleet_key is None:
            return PLAIN
        try:
            return Mtls(Files(self.fleet_ca, self.fleet_cert, self.fleet_key))
        except BadCertificates as bad:
            what = "fleet_ca, fleet_cert, fleet_key"
            raise BadSettings(f"{what}: {bad}. `lambent cert` makes such files") from bad

    def etcd_session(self) -> Etcd:
        """A session with this etcd, not connected yet. Raises BadSettings if its files cannot be used."""
        # A certificate means TLS for every endpoint; without any, each endpoint's scheme says.
        tls = None
        if self.etcd_ca or self.etcd_cert:
            tls = Tls(ca_file=self.etcd_ca, cert_file=self.etcd_cert, key_file=self.etcd_key)
            _check_files(tls)
        password = self.etcd_password.get_secret_value()
        return Etcd(self.etcd, tls=tls, user=self.etcd_user, password=password)


def variable(key: str) -> str:
    """The environment variable of a key."""
    return PREFIX + key.upper()


def _check_files(tls: Tls) -> None:
    """gRPC, which is given them, says of broken ones only that nobody is there."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    said = f"etcd_ca {tls.ca_file}"
    try:
        if tls.ca_file is not None:
            context.load_verify_locations(tls.ca_file)
        if tls.cert_file is not None:
            said = f"etcd_cert {tls.cert_file} with etcd_key {tls.key_file}"
            context.load_cert_chain(tls.cert_file, tls.key_file, password=lambda: "")
    except OSError as error:  # SSLError is one
        raise BadSettings(f"{said} cannot be used: {error.strerror or error}") from error


def _read(config: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(config.read_text())
    except OSError as error:
        raise BadSettings(f"{config} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSettings(f"{config} is not TOML: {error}") from error


def _unknown_variables(keys: set[str]) -> list[str]:
    known = {variable(key) for key in keys}
    return [
        f"{name}: no such setting{_meant(name, known)}"
        for name in sorted(os.environ)
        if name.startswith(PREFIX) and name not in known | CLIENT_VARIABLES
    ]


def _fault(model: type[Settings], found: ErrorDetails) -> str:
    if not found["loc"]:
        return found["msg"].removeprefix("Value error, ")
    key = str(found["loc"][0])
    if found["type"] == "extra_forbidden":
        return f"{key}: no such setting{_meant(key, set(model.model_fields))}"
    if found["type"] == "missing":
        return f"{key}: must be given, as {key} in the file or as {variable(key)}"
    name = variable(key) if os.environ.get(variable(key)) else key
    secret = model.model_fields[key].annotation is SecretStr
    shown = re.sub(r"//[^\s',]*@", "//...@", repr(found["input"]))  # a URL's user and password
    given = "" if secret else f" (given: {shown})"
    return f"{name}: {found['msg'][:1].lower()}{found['msg'][1:]}{given}"


def _meant(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""
