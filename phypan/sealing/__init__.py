"""Sealing: bytes that only the owners of certain keys can read, and nobody can alter unseen.

The age format, version 1 (C2SP age.md, age-encryption.org/v1): a file key, wrapped for each
recipient's X25519 key in a header with a MAC, and chunks of 64 KiB under ChaCha20-Poly1305 whose
nonces number them and say which one is the last. So `age -d` opens what phypan seals.

The ciphers are those of `cryptography`, which is imported when something is sealed or opened.
"""
