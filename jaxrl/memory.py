"""How much memory is left for arrays."""

from __future__ import annotations

import jax


def available_bytes() -> int:
    """Free memory of the device that arrays live on."""
    stats = jax.devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    import psutil

    return psutil.virtual_memory().available
