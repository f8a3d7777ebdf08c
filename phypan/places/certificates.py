"""Certificates: one that is worth nothing now will be worth nothing in a minute."""

from __future__ import annotations

import ssl

from phypan.errors import OutputError


def not_trusted(error: BaseException, name: str, variable: str) -> OutputError | None:
    """What is told if an error comes from a certificate that is not trusted; else None.

    variable  of the environment: it names a file of the authorities to trust
    """
    found: BaseException | None = error
    while found is not None:
        # aiohttp has errors of that class which lack the message; what they come from has it
        if isinstance(found, ssl.SSLCertVerificationError) and hasattr(found, "verify_message"):
            what = f"its certificate is not trusted: {found.verify_message}"
            hint = f"the environment's {variable} names a file of the authorities to trust"
            return OutputError(what, where=name, hint=hint)
        found = found.__cause__ or found.__context__
    return None
