# This file is part of dax_bulkcutout.
# Copyright the dax_bulkcutout developers: see the COPYRIGHT file.
# SPDX-License-Identifier: BSD-3-Clause OR GPL-3.0-or-later

"""A key that sender and receiver share."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets

__all__ = ("Secret",)

_SECRET_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 64 + 1)


class Secret:
    """A key that sender and receiver share.

    Parameters
    ----------
    key
        The key, 24 to 64 bytes.

    Raises
    ------
    ValueError
        Raised if the key is shorter or longer.

    Notes
    -----
    It shows itself neither in logs nor in tracebacks.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        if len(key) not in _SECRET_BYTES:
            raise ValueError(f"a key has {_SECRET_BYTES[0]} to {_SECRET_BYTES[-1]} bytes, not {len(key)}")
        self._key = bytes(key)

    @classmethod
    def new(cls) -> Secret:
        """Make a new one.

        Returns
        -------
        secret
            32 random bytes.
        """
        return cls(secrets.token_bytes(32))

    @classmethod
    def from_text(cls, text: str) -> Secret:
        """Read a secret.

        Parameters
        ----------
        text
            ``whsec_`` and 24 to 64 bytes in base64; white space around it is
            left out.

        Returns
        -------
        secret
            The secret.

        Raises
        ------
        ValueError
            Raised if the text is anything else; the message does not show it.
        """
        encoded = text.strip().removeprefix(_SECRET_PREFIX)
        try:
            # Some write it without the padding.
            key = base64.b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if encoded == text.strip() or len(key) not in _SECRET_BYTES:
            raise ValueError(
                f"a secret is {_SECRET_PREFIX} and {_SECRET_BYTES[0]} to {_SECRET_BYTES[-1]} bytes in base64 "
                "with nothing between them"
            )
        return cls(key)

    def to_text(self) -> str:
        """Write the secret, for its file.

        Returns
        -------
        text
            What `from_text` reads.
        """
        return _SECRET_PREFIX + base64.b64encode(self._key).decode("ascii")

    def signature(self, content: bytes) -> bytes:
        """Sign.

        Parameters
        ----------
        content
            What to sign.

        Returns
        -------
        signature
            HMAC-SHA256 in base64.
        """
        return base64.b64encode(hmac.new(self._key, content, hashlib.sha256).digest())

    def __repr__(self) -> str:
        return "Secret(...)"

    def __reduce__(self) -> str:
        raise TypeError("A secret is not saved, nor sent to another process.")
