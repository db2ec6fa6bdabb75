"""Entity tags: whether the caller has the newest already (RFC 9110, section 13.1.2)."""


def matches(given: str, etag: str) -> bool:
    """Whether an If-None-Match of `given` names `etag`, weakly compared."""
    tags = [tag.strip().removeprefix("W/") for tag in given.split(",")]
    return etag in tags or "*" in tags
