"""A data set with a sample that cannot be read, in a module that worker processes can import."""

from __future__ import annotations


class Corrupt:
    """Eight samples, of which one raises."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> int:
        if index == 2:
            raise ValueError("corrupt sample")
        return index
