"""`honestface api-key`: a key for a client and its hash for the service."""


def api_key() -> None:
    """Make an API key; the service is given its hash only."""
    from service.keys import new_key

    key, hashed = new_key()
    print(f"key for the client:                  {key}")
    print(f"hash for HONESTFACE_API_KEYS:        {hashed}")
