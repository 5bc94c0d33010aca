"""What newer Pythons have and 3.10 lacks; each entry names the version that ends it."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from typing import assert_never
else:  # 3.11 ends this
    from typing import NoReturn

    def assert_never(value: NoReturn, /) -> NoReturn:
        """Tell the type checker that no case is left."""
        raise AssertionError(f"unexpected value: {value!r}")


__all__ = ["assert_never"]
