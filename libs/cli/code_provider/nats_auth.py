"""``code-provider nats-auth``: the users of a nats-server, and one credential for each.

A credential is an nkey, an Ed25519 key pair. The server is told the public key alone and checks a signature, so neither its
configuration nor a connection holds anything that lets somebody in.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import nkeys

from codecommon.messaging.permissions import permissions
from codecommon.messaging.topology import USERS
from codecommon.process.service import EXIT_FAILED

ACCOUNT: Final = "CODE_PROVIDER"
CONFIG_FILE: Final = "nats-server.conf"

_DESCRIPTION: Final = """\
Write a nats-server's configuration with a user for each service, and the key of each user, into a folder.

A key that is there already stays. To replace one, delete its file and run this again; then reload the server.
"""


class NatsAuthError(Exception):
    """The folder cannot be used. The text is one line for the operator."""


def nats_auth(arguments: Sequence[str]) -> int:
    """Run the subcommand. Returns its exit code; ``SystemExit`` for arguments that are not known."""
    parser = argparse.ArgumentParser(
        "code-provider nats-auth", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help=f"gets {CONFIG_FILE}, and USER.nk for each user")
    parser.add_argument("--store-dir", help="where the server keeps JetStream's files, as the server sees it")
    parser.add_argument("--tls-cert", help="the server's certificate, as the server sees it")
    parser.add_argument("--tls-key", help="the key of that certificate")
    parser.add_argument("--tls-ca", help="ask clients for a certificate that one of these authorities has signed")
    asked = parser.parse_args(arguments)
    if (asked.tls_cert is None) != (asked.tls_key is None) or (asked.tls_ca and not asked.tls_cert):
        parser.error("--tls-cert and --tls-key belong together, and --tls-ca needs both")
    config: dict[str, Any] = {"jetstream": {"store_dir": asked.store_dir} if asked.store_dir else "enabled"}
    if asked.tls_cert:
        config["tls"] = {"cert_file": asked.tls_cert, "key_file": asked.tls_key}
        if asked.tls_ca:
            config["tls"] |= {"ca_file": asked.tls_ca, "verify": True}
    try:
        config |= accounts(write_keys(asked.folder))
        path = asked.folder / CONFIG_FILE
        # The server takes JSON. There is nothing secret in it.
        path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        print(f"nats-auth: cannot write to {asked.folder}: {error.strerror}", file=sys.stderr)
        return EXIT_FAILED
    except NatsAuthError as error:
        print(f"nats-auth: {error}", file=sys.stderr)
        return EXIT_FAILED
    print(f"nats-auth: wrote {path}; start the server with: nats-server -c {path}", file=sys.stderr)
    print(f"nats-auth: give each process its own key, such as NATS_NKEY={asked.folder}/watcher.nk", file=sys.stderr)
    return 0


def write_keys(folder: Path) -> dict[str, str]:
    """See to it that every user of the table has a key file in ``folder``. Returns user → public key.

    Raises ``NatsAuthError`` for a file that holds no key, and ``OSError``.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    public: dict[str, str] = {}
    for user in USERS:
        path = folder / f"{user}.nk"
        try:
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER) + b"\n")
        except FileExistsError:
            pass
        try:
            pair = nkeys.from_seed(bytearray(path.read_bytes().strip()))
            # Text in base32, whatever the library's hint says.
            public[user] = bytes(pair.public_key).decode()
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - the library names no errors, and their texts may hold a part of the seed
            raise NatsAuthError(f"{path} holds no nkey; delete it to have a new one made") from None
    return public


def accounts(public_keys: Mapping[str, str]) -> dict[str, Any]:
    """The part of a nats-server's configuration that says who may do what."""
    users = [{"nkey": key, "permissions": permissions(user)} for user, key in public_keys.items()]
    return {"accounts": {ACCOUNT: {"jetstream": "enabled", "users": users}}}
