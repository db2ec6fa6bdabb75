"""The rules of `domain`, as promises: no I/O, no clock, no mocks."""
