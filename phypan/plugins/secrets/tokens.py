"""Keys and tokens whose text says what they are."""

from __future__ import annotations

import re

from phypan import Secret, hookimpl

_SECRETS = (
    Secret(
        "private-key",
        "private keys as PEM: TLS, SSH, PGP",
        (b"PRIVATE KEY",),
        # RFC 7468, section 2; without an end it goes on as long as it is base64
        re.compile(rb"-----BEGIN [A-Z ]{0,20}PRIVATE KEY[A-Z ]{0,10}-----[A-Za-z0-9+/=:,.\s-]*"),
    ),
    Secret(
        "password-hash",
        "password hashes of crypt(5), as in /etc/shadow",
        (b"$1$", b"$5$", b"$6$", b"$y$", b"$2b$", b"$gy$"),
        re.compile(rb"\$(?:1|5|6|y|gy|2b)\$[./A-Za-z0-9=,$]{20,180}"),
    ),
    Secret(
        "authorization",
        "credentials of HTTP",
        (b"uthorization: ",),
        re.compile(rb"[Aa]uthorization: (?:Basic|Bearer|Token) [A-Za-z0-9._~+/=-]{8,}"),
    ),
    Secret(
        "jwt",
        "signed JSON web tokens",
        (b"eyJ",),
        re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}"),
    ),
    Secret(
        "cloud-key",
        "access keys of AWS and Google",
        (b"AKIA", b"ASIA", b"AIza"),
        re.compile(rb"(?:AKIA|ASIA)[A-Z2-7]{16}\b|AIza[A-Za-z0-9_-]{35}"),
    ),
    Secret(
        "forge-token",
        "access tokens of GitHub, GitLab, Slack",
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_", b"glpat-", b"xox"),
        re.compile(
            rb"gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,}|glpat-[A-Za-z0-9_-]{20}"
            rb"|xox[abprs]-[A-Za-z0-9-]{10,}"
        ),
    ),
    Secret(
        "password",
        "values that are called passwords, in settings and environments",
        (b"assword=", b"ASSWORD=", b"assword: ", b"asswd=", b"ECRET_KEY="),
        re.compile(rb"(?:[Pp]assword|PASSWORD|[Pp]asswd|SECRET_KEY)(?:=|: )[\"']?[!-~]{4,128}"),
    ),
)


@hookimpl
def phypan_secrets() -> list[Secret]:
    """What can be told by its text."""
    return list(_SECRETS)
